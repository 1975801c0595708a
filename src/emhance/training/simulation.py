"""Simulate half maps and what a network should make of them, from atoms.

One function, `simulate`, follows the signal from the atoms to two half maps: atoms with local disorder, bulk solvent,
detergent or disordered density, the envelope of the microscope and of the processing, noise whose FSC crosses 0.143 at the
requested resolution, and what programs and depositors do to maps afterwards (Wiener filter, low-pass, sharpening, masks).
Every random choice comes from one generator and is returned in the log. It runs on the generator's device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from emhance.errors import AtomicModelError
from emhance.training.atoms import Atoms
from emhance.training.scattering import density_transform, frequencies_squared

Range = tuple[float, float]

SOLVENT_FREE_DENSITY = 0.25
"""Electron-scattering density (Å⁻²) that becomes 1 in a target: about that of well-ordered atoms at 3 Å."""

NOISE_STD = 0.1
"""Standard deviation of the solvent noise after normalisation."""

DENSITY_TOP = 2.5
"""99.9th percentile of a map that is normalised by its own density because it has no noise to measure."""


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """Ranges from which every parameter of a simulated map is drawn, uniformly unless said otherwise."""

    box: int = 128
    """Edge of the simulated box in voxels."""
    voxel_size: float = 1.0
    """Å."""
    resolution: Range = (2.4, 7.5)
    """Where the half-map FSC crosses 0.143, Å; drawn log-uniformly."""
    whole: bool = False
    """Centre the whole molecule in the box instead of a random atom."""
    shift: float = 15.0
    """Largest shift of the centre from the middle of the box, voxels, along each axis."""
    median_b: Range = (10.0, 40.0)
    """Median of the atoms' own B-factors after rescaling, Å²."""
    flexibility: Range = (0.2, 2.0)
    """Largest additional B of the local-disorder field, in units of 12 · resolution²."""
    flexibility_length: Range = (12.0, 40.0)
    """Correlation length of the disorder field, voxels."""
    envelope: Range = (0.3, 1.7)
    """Overall B-factor in units of 14 · resolution²; never above 300 Å² + 100 Å²."""
    anisotropy: Range = (0.0, 80.0)
    """Additional B along one direction (preferred orientation), Å²; used in 30 % of the maps."""
    solvent_contrast: Range = (0.2, 0.75)
    """Bulk solvent in units of the mean density inside the molecule."""
    solvent_edge_b: Range = (50.0, 250.0)
    """Smoothness of the molecule's boundary with the solvent, Å²."""
    extra_density_share: float = 0.35
    """Share of maps with detergent, lipid or disordered density beside the molecule."""
    extra_density: Range = (0.1, 0.6)
    """Its level in units of the mean density inside the molecule."""
    low_frequency_loss: Range = (0.0, 0.9)
    """Amplitude lost below the scale `low_frequency_scale`."""
    low_frequency_scale: Range = (40.0, 150.0)
    """Å."""
    noise_slope: Range = (0.0, 2.0)
    """Power of the rise of the noise's spectral power with spatial frequency."""
    noise_centre_gain: Range = (0.0, 0.6)
    """How much larger the noise is in the middle of the box."""
    fsc_weighted_share: float = 0.5
    """Share of maps whose amplitudes are weighted by 2 FSC / (1 + FSC)."""
    low_pass_share: float = 0.35
    """Share of maps low-passed near their resolution."""
    sharpened_share: float = 0.35
    """Share of maps sharpened by 30-100 % of their overall B (always FSC-weighted and low-passed)."""
    masked_share: float = 0.2
    """Share of maps cut at or near the molecule, which leaves no noise to normalise from."""
    scaled_inside_share: float = 0.5
    """Share of the masked maps scaled by their 99.9th percentile inside the mask, as with a mask; the rest by the whole box's."""
    outside_sphere_share: float = 0.15
    """Share of maps set to zero outside a sphere."""
    target_flexibility: float = 0.5
    """How much of the local disorder stays in the target: 0 restores everything, 1 nothing."""


@dataclass(eq=False)
class SimulatedMaps:
    """One simulated case.

    Parameters
    ----------
    half1, half2
        Half maps, normalised (see `NOISE_STD`, `DENSITY_TOP`), shape ``(n, n, n)``.
    target
        Sharpened, noise-free density of every atom at the local resolution, well-ordered density about 1, solvent 0.
    wide_target
        Less sharp, and with the density no atom explains.
    molecule
        1 inside the molecule, 0 outside.
    truth
        Density of the atoms with their own B-factors, whole, in units of the target.
    log
        Every parameter drawn.
    """

    half1: Tensor
    half2: Tensor
    target: Tensor
    wide_target: Tensor
    molecule: Tensor
    truth: Tensor
    log: dict[str, float | str | bool] = field(default_factory=dict)


class Draw:
    """Random numbers that remember what was drawn."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.log: dict[str, float | str | bool] = {}

    def uniform(self, name: str, limits: Range) -> float:
        """A number between the limits, logged under `name`."""
        low, high = limits
        value = low + (high - low) * self._number()
        self.log[name] = round(value, 5)
        return value

    def chance(self, name: str, probability: float) -> bool:
        """True with the given probability, logged under `name`."""
        value = self._number() < probability
        self.log[name] = value
        return value

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers on the generator's device (not logged)."""
        return torch.randn(*shape, generator=self.generator, device=self.generator.device)

    def _number(self) -> float:
        return float(torch.rand(1, generator=self.generator, device=self.generator.device))


def simulate(atoms: Atoms, config: SimulationConfig, generator: torch.Generator) -> SimulatedMaps:
    """Simulate one pair of half maps and its targets.

    Parameters
    ----------
    atoms
        The atomic model.
    config
        Ranges of everything that is drawn.
    generator
        The only source of randomness; its device is where everything is computed.

    Raises
    ------
    AtomicModelError
        If fewer than 100 atoms fall into the box.
    """
    draw = Draw(generator)
    n, voxel, device = config.box, config.voxel_size, generator.device
    s2 = frequencies_squared(n, voxel, device)
    s = torch.sqrt(s2)
    shell = torch.round(s * n * voxel).long()

    def blur(transform: Tensor, b_factor: float) -> Tensor:
        return transform * torch.exp(s2 * (-0.25 * b_factor))

    positions, elements, own_b, occupancies = _placed(atoms, config, draw)
    low, high = (math.log(value) for value in config.resolution)
    resolution = math.exp(draw.uniform("log_resolution", (low, high)))
    draw.log["resolution"] = resolution

    # B-factors: the atoms' own, rescaled, and a smooth field of local disorder.
    own_b = (own_b / own_b.median().clamp(min=1.0)).clamp(0.4, 4.0) * draw.uniform("median_b", config.median_b)
    disorder = _at(_smooth_field(draw, s2, n, draw.uniform("flexibility_length", config.flexibility_length)), positions / voxel)
    disorder = (disorder - disorder.min()) / (disorder.max() - disorder.min() + 1e-6)
    flexibility = 12 * resolution**2 * draw.uniform("flexibility", config.flexibility)
    disorder_b = flexibility * disorder ** draw.uniform("flexibility_power", (1.0, 3.0))
    envelope = min(14 * resolution**2 * draw.uniform("envelope", config.envelope), 400.0)

    def atoms_transform(b_factors: Tensor) -> Tensor:
        return density_transform(positions, elements, b_factors, occupancies, n=n, voxel_size=voxel)

    data_b = (own_b + disorder_b).clamp(min=20.0 * voxel**2)
    clean = atoms_transform(data_b)
    envelope_density = _to_map(blur(clean, 60.0))
    molecule = (envelope_density > 0.12 * torch.quantile(envelope_density.flatten()[::7], 0.999)).float()
    inside = molecule.sum()
    level = (_to_map(clean) * molecule).sum() / inside

    # What is there beside the atoms: bulk solvent, and detergent, lipids or disordered chains.
    solvent = blur(torch.fft.rfftn(molecule), draw.uniform("solvent_edge_b", config.solvent_edge_b))
    signal = clean - solvent * level * draw.uniform("solvent_contrast", config.solvent_contrast)
    extra = torch.zeros_like(molecule)
    if draw.chance("extra_density", config.extra_density_share):
        extra = _density_beside(draw, s2, n, molecule) * level * draw.uniform("extra_level", config.extra_density)
        signal = signal + torch.fft.rfftn(extra)
    signal = _envelope(draw, config, signal, s2, s, envelope)

    halves, weight = _half_maps(draw, config, signal, resolution, s, shell, molecule)
    halves = _processed(draw, config, halves, weight, s2, s, resolution, envelope, molecule)

    # Targets: at the resolution the local data support.
    roll_off = torch.rsqrt(1 + (s * resolution * 0.9) ** 8)
    kept_b = (own_b + config.target_flexibility * disorder_b).clamp(min=20.0 * voxel**2)
    target = _to_map(atoms_transform(kept_b) * roll_off).clamp(min=0) / SOLVENT_FREE_DENSITY
    wide = blur(clean, 0.5 * min(envelope, 8 * resolution**2)) * roll_off + torch.fft.rfftn(extra)
    wide_target = _to_map(wide).clamp(min=0) / SOLVENT_FREE_DENSITY
    truth = _to_map(atoms_transform(own_b.clamp(min=20.0 * voxel**2))) / SOLVENT_FREE_DENSITY
    return SimulatedMaps(halves[0], halves[1], target, wide_target, molecule, truth, draw.log)


def _to_map(transform: Tensor) -> Tensor:
    """Inverse of ``torch.fft.rfftn`` for a cubic box of even edge."""
    n = len(transform)
    values: Tensor = torch.fft.irfftn(transform, s=(n, n, n))
    return values


def _blurred(values: Tensor, s2: Tensor, b_factor: float) -> Tensor:
    """A map blurred by a B-factor in Å²."""
    return _to_map(torch.fft.rfftn(values) * torch.exp(s2 * (-0.25 * b_factor)))


def _placed(atoms: Atoms, config: SimulationConfig, draw: Draw) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rotate the atoms at random, place them in the box, and keep those inside."""
    device = draw.generator.device
    positions = torch.from_numpy(atoms.positions).to(device)
    quaternion = draw.normal(4)
    w, x, y, z = (quaternion / quaternion.norm()).tolist()
    rotation = torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ],
        device=device,
    )
    atom = int(draw.uniform("centre_atom", (0, len(positions) - 1)))
    centre = positions.mean(0) if config.whole else positions[atom]
    edge = config.box * config.voxel_size
    shift = torch.tensor([draw.uniform(f"shift_{axis}", (-config.shift, config.shift)) for axis in "zyx"], device=device)
    placed = (positions - centre) @ rotation.T + edge / 2 + shift * config.voxel_size
    keep = ((placed > 2 * config.voxel_size) & (placed < edge - 3 * config.voxel_size)).all(1)
    if int(keep.sum()) < 100:
        raise AtomicModelError(f"Only {int(keep.sum())} atoms fall into the simulated box; at least 100 are needed.")
    take = [torch.from_numpy(values).to(device)[keep] for values in (atoms.elements, atoms.b_factors, atoms.occupancies)]
    return placed[keep], take[0].long(), take[1].float(), take[2].float()


def _smooth_field(draw: Draw, s2: Tensor, n: int, length: float) -> Tensor:
    """A random field of mean 0 and s.d. 1 that varies over `length` voxels."""
    values = _to_map(torch.fft.rfftn(draw.normal(n, n, n)) * torch.exp(s2 / s2.max() * 0.75 * (-10.0 * length**2)))
    return (values - values.mean()) / values.std()


def _at(values: Tensor, voxels: Tensor) -> Tensor:
    """Values of a field at the voxels nearest to the given positions."""
    z, y, x = (torch.round(voxels).long() % values.shape[0]).unbind(1)
    return values[z, y, x]


def _density_beside(draw: Draw, s2: Tensor, n: int, molecule: Tensor) -> Tensor:
    """Smooth density of level 1 next to the molecule: a belt, or patches."""
    near = _blurred(molecule, s2, draw.uniform("extra_reach_b", (1500.0, 6000.0)))
    patches = _smooth_field(draw, s2, n, draw.uniform("extra_patch", (10.0, 25.0)))
    region = (patches > draw.uniform("extra_cut", (-0.5, 0.8))) & (near > 0.03) & (molecule < 0.5)
    return _blurred(region.float(), s2, draw.uniform("extra_edge_b", (200.0, 700.0)))


def _envelope(draw: Draw, config: SimulationConfig, signal: Tensor, s2: Tensor, s: Tensor, envelope: float) -> Tensor:
    """Fall-off, ripples and lost low frequencies that microscope and processing leave, and preferred orientation."""
    curve = torch.exp(s2 * (-0.25 * envelope))
    ripple = torch.zeros_like(s)
    for k in (1, 2, 3):
        amplitude = 0.3 * float(draw.normal(1))
        ripple += amplitude * torch.cos(2 * math.pi * k * s * draw.uniform(f"ripple_{k}", (0.5, 1.5)) + 6.28 * k * amplitude)
    scale = draw.uniform("low_frequency_scale", config.low_frequency_scale)
    loss = draw.uniform("low_frequency_loss", config.low_frequency_loss) * torch.exp(s2 * (-0.5 * scale**2))
    signal = signal * (curve * torch.exp(ripple) * (1 - loss))
    if draw.chance("anisotropic", 0.3):
        n = s2.shape[0]
        device = s2.device
        full, half = (
            torch.fft.fftfreq(n, config.voxel_size, device=device),
            torch.fft.rfftfreq(n, config.voxel_size, device=device),
        )
        z, y, x = (draw.normal(3)).tolist()
        norm = math.sqrt(z * z + y * y + x * x)
        along = (full[:, None, None] * z + full[None, :, None] * y + half[None, None, :] * x) / norm
        signal = signal * torch.exp(along**2 * (-0.25 * draw.uniform("anisotropy", config.anisotropy)))
    return signal


def _half_maps(
    draw: Draw,
    config: SimulationConfig,
    signal: Tensor,
    resolution: float,
    s: Tensor,
    shell: Tensor,
    molecule: Tensor,
) -> tuple[list[Tensor], Tensor]:
    """Transforms of two half maps with independent noise, and FSC weights per coefficient.

    The noise is set so that the FSC of the two, inside the molecule, is 0.143 in the shell of the resolution.
    """
    n = config.box
    shells = int(shell.max()) + 1
    count = torch.bincount(shell.flatten(), minlength=shells).clamp(min=1)
    power = torch.bincount(shell.flatten(), weights=(signal.abs() ** 2).flatten().double(), minlength=shells) / count
    power = power.float() / molecule.mean()
    frequency = torch.arange(shells, device=s.device) / (n * config.voxel_size)
    rise = 1 + (frequency / draw.uniform("noise_knee", (0.1, 0.4))) ** draw.uniform("noise_slope", config.noise_slope)
    crossing = min(round(n * config.voxel_size / resolution), n // 2 - 1)
    noise = rise * (power[crossing] / rise[crossing]) * (1 - 0.143) / 0.143
    axis = torch.arange(n, device=s.device) - n / 2
    r2 = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2
    width = n * draw.uniform("noise_centre_width", (0.25, 0.5))
    gain = 1 + draw.uniform("noise_centre_gain", config.noise_centre_gain) * torch.exp(-r2 / (2 * width**2))
    amplitude = torch.sqrt(noise)[shell] / n**1.5
    halves = [signal + torch.fft.rfftn(draw.normal(n, n, n) * gain) * amplitude for _ in range(2)]
    fsc = power / (power + noise)
    return halves, (2 * fsc / (1 + fsc))[shell]


def _processed(
    draw: Draw,
    config: SimulationConfig,
    halves: list[Tensor],
    weight: Tensor,
    s2: Tensor,
    s: Tensor,
    resolution: float,
    envelope: float,
    molecule: Tensor,
) -> list[Tensor]:
    """Filters, masks and normalisation, the same for both halves."""
    n = config.box
    curve = torch.ones_like(s)
    sharpened = draw.chance("sharpened", config.sharpened_share)
    if draw.chance("fsc_weighted", config.fsc_weighted_share) or sharpened:
        curve = curve * weight  # sharpened without weights, nothing but noise would be left
    if sharpened:
        sharpening = envelope * draw.uniform("sharpened_by", (0.3, 1.0))
        curve = curve * torch.exp(s2.clamp(max=1 / (0.8 * resolution) ** 2) * (0.25 * sharpening))
    if sharpened or draw.chance("low_passed", config.low_pass_share):
        cut = draw.uniform("low_pass_at", (0.95, 1.4)) / resolution
        curve = curve * torch.sigmoid((cut - s) * (n * config.voxel_size / 2.0))
    maps = [_to_map(half * curve) for half in halves]
    mean = 0.5 * (maps[0] + maps[1])
    solvent = _blurred(molecule, s2, 3000.0) < 0.02
    if int(solvent.sum()) < 2000:
        solvent = molecule < 0.5
    if int(solvent.sum()) < 2000:
        solvent = mean <= torch.quantile(mean.flatten()[::7], 0.2)
    offset = mean[solvent].mean()
    if draw.chance("masked", config.masked_share):
        reach = _blurred(molecule, s2, 300.0)
        mask = (reach > draw.uniform("mask_cut", (0.05, 0.4))).float()
        if draw.chance("soft_mask", 0.6):
            mask = _blurred(mask, s2, draw.uniform("mask_edge_b", (100.0, 800.0))).clamp(0, 1)
        if draw.chance("mask_keeps_offset", 0.5):
            offset = torch.zeros_like(offset)
        maps = [(half - offset) * mask for half in maps]
        values = 0.5 * (maps[0] + maps[1])
        if draw.chance("scaled_inside", config.scaled_inside_share):
            values = values[mask > 0.5]
        top = torch.quantile(values.flatten()[::7], 0.999).clamp(min=1e-12)
        scale = DENSITY_TOP * math.exp(0.35 * float(draw.normal(1))) / top
        return [half * scale for half in maps]
    spread = mean[solvent].std()
    maps = [(half - offset) * (NOISE_STD * math.exp(0.1 * float(draw.normal(1))) / spread) for half in maps]
    if draw.chance("outside_sphere", config.outside_sphere_share):
        axis = torch.arange(n, device=s.device) - n / 2
        r2 = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2
        radius = n * draw.uniform("sphere_radius", (0.35, 0.55))
        maps = [half * torch.sigmoid((radius - torch.sqrt(r2)) / 1.5) for half in maps]
    return maps


def raw_pair(atoms: Atoms, *, resolution: float, box: int, seed: int, voxel_size: float = 1.0) -> SimulatedMaps:
    """A raw half-map pair of one whole molecule in the middle of its box: unfiltered, unsharpened, unmasked.

    Parameters
    ----------
    atoms
        The atomic model; it must fit the box.
    resolution
        Where the half-map FSC inside the molecule crosses 0.143, Å.
    box
        Edge in voxels.
    seed
        Decides rotation, disorder and noise.
    voxel_size
        Å.
    """
    config = SimulationConfig(
        box=box,
        voxel_size=voxel_size,
        resolution=(resolution, resolution),
        whole=True,
        shift=0.0,
        flexibility=(0.3, 0.3),
        envelope=(0.8, 0.8),
        extra_density_share=0.0,
        fsc_weighted_share=0.0,
        low_pass_share=0.0,
        sharpened_share=0.0,
        masked_share=0.0,
        outside_sphere_share=0.0,
    )
    return simulate(atoms, config, torch.Generator().manual_seed(seed))
