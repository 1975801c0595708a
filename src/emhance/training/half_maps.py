"""Two half maps of one signal: noise like a reconstruction's, at the strength that gives the requested FSC."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from emhance.training.draws import Draw
from emhance.training.grids import blurred, frequencies_squared, offsets, shell_sums, to_map
from emhance.training.simulation_config import SimulationConfig

CROSSING = 0.143
"""The half-map FSC at the resolution (Rosenthal & Henderson 2003, doi 10.1016/j.jmb.2003.07.013)."""

MASK_SIGMA = 4.5
"""S.d. of the Gaussian (Å) that softens the molecule's mask for the FSC: about a cosine edge 6 Å wide outside of it."""

NOISE_EDGE = 3.0
"""S.d. of the Gaussian (Å) that softens the molecule's outline for the noise inside it."""


@dataclass(eq=False)
class HalfTransforms:
    """Two half maps in Fourier space.

    Parameters
    ----------
    halves
        Their transforms, each ``(n, n, n // 2 + 1)``.
    reliability
        2 FSC / (1 + FSC) per shell from 0 to Nyquist, shape ``(n // 2 + 1,)``, of the FSC to be expected inside the molecule.
    """

    halves: tuple[Tensor, Tensor]
    reliability: Tensor

    def without(self, signal: Tensor) -> HalfTransforms:
        """The same half maps when only their noise is there; the curve stays that of the whole ones."""
        first, second = self.halves
        return HalfTransforms((first - signal, second - signal), self.reliability)


def half_transforms(
    config: SimulationConfig, draw: Draw, signal: Tensor, molecule: Tensor, resolution: float, direction_gain: Tensor | None
) -> HalfTransforms:
    """Add independent noise to a signal, twice, so that the FSC inside the molecule crosses 0.143 at the resolution.

    Parameters
    ----------
    config, draw
        Ranges, and what is drawn from them.
    signal
        Transform of what both half maps hold, shape ``(n, n, n // 2 + 1)``.
    molecule
        1 inside, 0 outside, shape ``(n, n, n)``.
    resolution
        Å. Beyond the last shell but one before Nyquist, that shell counts.
    direction_gain
        Factor of the noise's amplitude for every coefficient; None for 1.

    Notes
    -----
    The FSC meant is that of the two half maps behind `fsc_mask`, as measured on the very noise that is added. From the shell
    sums of signal and noise behind the mask it follows for every strength of the noise, which is found by bisection. In a
    small molecule one shell holds few independent numbers, so that a level computed from powers alone would be off by more
    than 5 % in resolution now and then. Where a structure's own power has a dip, a flat enough envelope lets the FSC come
    down to 0.143 twice; behind another mask it may then cross at the first of these places.
    """
    n, voxel = config.box, config.voxel_size
    noises = _noises(config, draw, molecule, direction_gain)
    mask = fsc_mask(molecule, voxel)
    masked = [torch.fft.rfftn(to_map(values) * mask) for values in (signal, *noises)]
    sums = _ShellSums.of(*masked)
    wanted = min(n * voxel / resolution, n / 2 - 1)
    strength = sums.strength_for(wanted)
    draw.log["noise_strength"] = float(f"{strength:.5g}")
    fsc = sums.expected_fsc(strength)
    return HalfTransforms((signal + strength * noises[0], signal + strength * noises[1]), 2 * fsc / (1 + fsc))


def fsc_mask(molecule: Tensor, voxel_size: float) -> Tensor:
    """The soft mask (0-1) behind which the half maps' FSC crosses 0.143 at the requested resolution.

    Parameters
    ----------
    molecule
        1 inside, 0 outside, shape ``(n, n, n)``.
    voxel_size
        Å.
    """
    return (2 * blurred(molecule, 8 * math.pi**2 * MASK_SIGMA**2, voxel_size)).clamp(0, 1)


def _noises(config: SimulationConfig, draw: Draw, molecule: Tensor, direction_gain: Tensor | None) -> list[Tensor]:
    """Transforms of two independent noises of the same colour and the same strength everywhere.

    White noise is multiplied by a smooth gain and coloured; a part of it, larger in some places than in others, is coloured
    redder.
    """
    n, voxel, device = config.box, config.voxel_size, draw.device
    s = torch.sqrt(frequencies_squared(n, voxel, device))
    knee, slope = draw.log_uniform("noise_knee", config.noise_knee), draw.uniform("noise_slope", config.noise_slope)
    colour = torch.sqrt(1 + (s.clamp(min=1 / (n * voxel)) / knee) ** slope) / n**1.5
    if direction_gain is not None:
        colour = colour * direction_gain
    redder = colour * torch.exp(-draw.uniform("noise_local_colour", config.noise_local_colour) * s * 2 * voxel)
    gain, share = noise_gain(config, draw, molecule)
    noises = []
    for _ in range(2):
        white = draw.normal(n, n, n) * gain
        red = white * share
        noises.append(torch.fft.rfftn(white - red) * colour + torch.fft.rfftn(red) * redder)
    return noises


def noise_gain(config: SimulationConfig, draw: Draw, molecule: Tensor) -> tuple[Tensor, Tensor]:
    """Strength of the noise at every voxel, and the share of it (0-1) that is redder, each ``(n, n, n)``.

    It is larger inside the molecule (1 there, 0 outside): what differs from particle to particle, and what is misaligned, is
    noise as well.
    """
    n = config.box
    z, y, x = offsets(n, torch.full((3,), n / 2, device=draw.device))
    width = n * draw.uniform("noise_centre_width", config.noise_centre_width)
    centre = torch.exp((z**2 + y**2 + x**2) * (-0.5 / width**2))
    gain = 1 + draw.uniform("noise_centre_gain", config.noise_centre_gain) * centre
    length = draw.uniform("noise_variation_length", config.noise_variation_length)
    variation = draw.uniform("noise_variation", config.noise_variation)
    gain, share = gain * torch.exp(variation * draw.field(n, length)), torch.sigmoid(2 * draw.field(n, length))
    inside = blurred(molecule, 8 * math.pi**2 * NOISE_EDGE**2, config.voxel_size).clamp(0, 1)
    return gain * (1 + draw.uniform("noise_inside", config.noise_inside) * inside), share


@dataclass(frozen=True, eq=False)
class _ShellSums:
    """Shell sums behind the mask: products of the signal S and the noises A and B (float64, on the CPU)."""

    ss: Tensor
    sa: Tensor
    sb: Tensor
    aa: Tensor
    bb: Tensor
    ab: Tensor

    @classmethod
    def of(cls, signal: Tensor, first: Tensor, second: Tensor) -> _ShellSums:
        def product(a: Tensor, b: Tensor) -> Tensor:
            return shell_sums(a.real * b.real + a.imag * b.imag).cpu()

        pairs = ((signal, signal), (signal, first), (signal, second), (first, first), (second, second), (first, second))
        return cls(*(product(a, b) for a, b in pairs))

    def fsc(self, strength: float) -> Tensor:
        """FSC of ``S + strength · A`` and ``S + strength · B``, of sums over neighbouring shells weighted 1:2:1."""
        common = _smooth(self.ss + strength * (self.sa + self.sb) + strength**2 * self.ab)
        first = _smooth(self.ss + 2 * strength * self.sa + strength**2 * self.aa)
        second = _smooth(self.ss + 2 * strength * self.sb + strength**2 * self.bb)
        return common / torch.sqrt(first * second).clamp(min=1e-30)

    def expected_fsc(self, strength: float) -> Tensor:
        """FSC per shell to be expected of any such noise, from the powers alone, float32."""
        signal, noise = _smooth(_smooth(self.ss)), _smooth(_smooth(0.5 * (self.aa + self.bb)))
        return (signal / (signal + strength**2 * noise).clamp(min=1e-30)).float()

    def strength_for(self, wanted: float) -> float:
        """The largest strength at which the FSC first falls below `CROSSING` at the shell `wanted` or beyond."""
        shell = round(wanted)
        noise = float(_smooth(0.5 * (self.aa + self.bb))[shell])
        start = math.sqrt(float(_smooth(self.ss)[shell]) / max(noise, 1e-30) * (1 - CROSSING) / CROSSING)
        low, high = math.log(start) - 3, math.log(start) + 3
        for _ in range(30):
            middle = 0.5 * (low + high)
            if _first_below(self.fsc(math.exp(middle)), CROSSING) < wanted:
                high = middle
            else:
                low = middle
        return math.exp(0.5 * (low + high))


def _smooth(sums: Tensor) -> Tensor:
    """Sums over neighbouring shells, weighted 1:2:1; the first and the last shell stand for their missing neighbours."""
    padded = torch.cat([sums[:1], sums, sums[-1:]])
    return 0.25 * (padded[:-2] + 2 * sums + padded[2:])


def _first_below(curve: Tensor, threshold: float) -> float:
    """Where a curve first falls below a threshold, in shells, from the third on; its end where it does not."""
    values = curve.tolist()
    for k in range(3, len(values)):
        if values[k] < threshold:
            drop = values[k - 1] - values[k]
            return k - 1 + (min(max((values[k - 1] - threshold) / drop, 0.0), 1.0) if drop > 0 else 0.0)
    return float(len(values) - 1)
