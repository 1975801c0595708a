"""What a map says about its signal, in the one form the network sees: the Wiener estimate of a sharpened map.

Raw maps differ in ways that a network can hardly guess from a part of one: how fast their amplitudes fall, and how strong their
noise is in every shell. Two half maps tell both. So the network sees their mean, X, with every shell weighted by the reliability
it has inside the molecule, and with the amplitudes that well-ordered density of that resolution has::

    X'(s) = F(s) g(s) X(s),    F = S / (S + v N / u),    g = sqrt(v p(s) / S)

S and N are the powers of signal and noise in X, from the sum and the difference of the half maps (Rosenthal and Henderson 2003,
doi 10.1016/j.jmb.2003.07.013), v and u the shares of the box that signal and noise fill, and p the power per voxel of
well-ordered density. So filters, sharpening and scale of the half maps, and the solvent around the molecule, hardly matter.

For a single map N is measured in the solvent; failing that it is 0 up to a stated resolution, where F falls. A map of which
nothing is known is shown as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage

from emhance.maps.fourier import (
    Curve,
    Spectrum,
    apply_radial,
    inverse_transform,
    resolution_at,
    shell_counts,
    shell_frequencies,
    shell_sums,
)
from emhance.maps.volume import FloatArray
from emhance.steps.normalization import NOISE_STD
from emhance.steps.reliability import CROSSING, limited, lost_beyond_crossing, power_within, solvent_window
from emhance.steps.smoothing import smooth

PROFILE_FREQUENCY = (0.1, 0.125, 0.15, 0.175, 0.2, 0.225, 0.25, 0.275, 0.3, 0.35, 0.4, 0.5)
PROFILE_LOG_POWER = (1.75, 1.33, 1.05, 1.15, 1.50, 1.57, 1.33, 1.03, 0.70, 0.10, -0.30, -0.90)
"""ln of the power per voxel of 1 Å³ of density whose B-factor is 0, at frequencies in 1/Å: fitted to the targets of 40 simulated
maps (`emhance.training`), whose B-factors grow with the square of the resolution as the next line says."""

PROFILE_B = 6.1
"""B-factor of well-ordered density at a resolution, in units of the resolution's square."""

COARSEST = 0.1
"""1/Å: coarser shells, whose power depends on the molecule's shape, keep this frequency's amplification."""

SMOOTHING = 0.03
"""1/Å over which the amplification is averaged: helices and strands are to keep their shells' power."""

BLOCK = 8.0
"""Edge of the cubes (Å) whose signal and noise power show which share of the box each fills."""

LEAST_SHARE = 1e-3
"""Least share of a box the signal is taken to fill."""

DENSE_WIDTH, DENSE_LEVEL = 10.0, 4.0
"""In a single map density is what stands out of the noise by so many standard deviations when averaged over so many Å."""

DENSE_ROUGHNESS = 1.7
"""Density is also where the s.d. about 0 over that width is so many times the noise's: sharpened molecules that fill their box
have holes as deep as their atoms are high, and no average stands out."""


@dataclass(frozen=True, eq=False)
class Restored:
    """What the network is to see of a map.

    Parameters
    ----------
    data
        X', shape ``(nz, ny, nx)``, whose well-ordered density is of the order of 1; the map itself where nothing tells signal
        from noise.
    source
        "half-map FSC", "solvent noise", "stated resolution" or "nothing".
    signal_share
        Share of the box that the signal fills; None where nothing tells.
    """

    data: FloatArray
    source: str
    signal_share: float | None


@dataclass(frozen=True)
class Evidence:
    """Powers per coefficient of signal and noise in the mean of two half maps, per shell.

    Parameters
    ----------
    frequency
        1/Å.
    signal, noise
        In units of the map's density squared times Å³.
    limit
        Å: where the map is said to end; None if its noise tells.
    """

    frequency: Curve
    signal: Curve
    noise: Curve
    limit: float | None = None

    @classmethod
    def of(cls, frequency: Curve, power: Curve, noise: Curve, limit: float | None = None) -> Evidence:
        """From the power of a map, its noise's, both per coefficient, and perhaps a resolution (Å)."""
        power, noise = _averaged(power), _averaged(noise)
        return cls(frequency, np.maximum(power - noise, 1e-4 * power + 1e-30), noise, limit)

    def curve(self, signal_share: float, noise_share: float) -> Curve:
        """F g per shell, see the module; zero frequency has the first shell's.

        Parameters
        ----------
        signal_share, noise_share
            Shares of the box that signal and noise fill.
        """
        noise = self.noise * min(signal_share / noise_share, 1.0)
        reliability = lost_beyond_crossing(self.signal / (self.signal + noise))
        if self.limit is not None:
            reliability = reliability * limited(self.frequency, self.limit)
        resolution = resolution_at(self.frequency, reliability, CROSSING)
        gain = log_profile(self.frequency, resolution) + np.log(signal_share / self.signal)
        width = max(1, round(SMOOTHING / (self.frequency[1] - self.frequency[0])))
        # Where there is next to no signal, its power says nothing about the amplification.
        first = min(int(np.searchsorted(self.frequency, COARSEST)), len(gain) - 1)
        last = min(max(int(np.searchsorted(self.frequency, 1 / resolution)), first + 1), len(gain))
        measured = ndimage.uniform_filter1d(gain[first:last], width, mode="nearest")
        gain = np.interp(np.arange(len(gain)), np.arange(first, last), measured)
        curve = reliability * np.exp(0.5 * gain)
        curve[0] = curve[1]
        return np.asarray(curve)


def log_profile(frequency: Curve, resolution: float) -> Curve:
    """Logarithm of the power per voxel of 1 Å³ of well-ordered density at a resolution (Å), per frequency (1/Å)."""
    base = np.interp(frequency, PROFILE_FREQUENCY, PROFILE_LOG_POWER)
    return np.asarray(base - 0.5 * PROFILE_B * (min(resolution, 1 / COARSEST) * frequency) ** 2)


def filled_share(power: NDArray[np.floating]) -> float:
    """Share of a box that something fills, from its mean squares in cubes.

    A power that is the same in a share v of the cubes, and 0 elsewhere, has ``<p>² / <p²> = v``.
    """
    share = max(float(power.mean()), 0.0) ** 2 / max(float(np.square(power).mean()), 1e-60)
    return min(max(share, LEAST_SHARE), 1.0)


def restore(
    data: FloatArray,
    *,
    voxel_size: float,
    half_difference: FloatArray | None = None,
    noise: bool = False,
    resolution: float | None = None,
    workers: int | None = None,
) -> Restored:
    """Make of a map what the network is to see.

    Parameters
    ----------
    data
        The map, or the mean of the half maps, solvent near 0, shape ``(nz, ny, nx)``.
    voxel_size
        Å.
    half_difference
        Half the difference of the half maps, same shape.
    noise
        Whether a single map holds solvent noise of mean 0 and s.d. `NOISE_STD`, so that its spectrum can be measured.
    resolution
        Å; of a single map without solvent noise.
    workers
        Threads of the Fourier transforms.

    Returns
    -------
    Restored
        X' and what it was made with.
    """
    shape = data.shape
    unit = voxel_size**3 / data.size / np.maximum(shell_counts(shape), 1)
    D: Spectrum | None = None
    window: FloatArray | None = None
    if half_difference is not None:
        D = scipy.fft.rfftn(half_difference, workers=workers)
        noise_power, source = shell_sums(D, shape) * unit, "half-map FSC"
    elif noise and (window := _solvent(data, voxel_size, workers)) is not None:
        filled = np.count_nonzero(data) / data.size
        noise_power, source = power_within(window, data, workers=workers) * (unit * data.size * filled), "solvent noise"
    elif resolution is not None:
        noise_power, source = None, "stated resolution"
    else:
        return Restored(data, "nothing", None)
    X: Spectrum = scipy.fft.rfftn(data, workers=workers)
    frequency = shell_frequencies(shape, voxel_size)
    power = shell_sums(X, shape) * unit
    if noise_power is None:
        evidence = Evidence.of(frequency, power, np.zeros_like(power), resolution)
    else:
        evidence = Evidence.of(frequency, power, noise_power)
    first = evidence.curve(1.0, 1.0)
    edge = max(1, round(BLOCK / voxel_size))
    apply_radial(X, shape, first)
    restored = inverse_transform(X, shape, workers=workers)
    del X
    power_of_noise: NDArray[np.float64] | float = 0.0
    noise_share = 1.0
    if half_difference is not None and D is not None:
        # As it is: low-passed, as the signal has to be, noise comes in few independent pieces, which look like a part of the box.
        noise_share = filled_share(_mean_squares(half_difference, edge))
        apply_radial(D, shape, first)
        power_of_noise = _mean_squares(inverse_transform(D, shape, workers=workers), edge)
    elif window is not None:
        power_of_noise = float(np.sum(window * np.square(restored), dtype=np.float64) / np.sum(window, dtype=np.float64))
        noise_share = filled
    signal_share = filled_share(_mean_squares(restored, edge) - power_of_noise)
    X = scipy.fft.rfftn(data, workers=workers)
    apply_radial(X, shape, evidence.curve(signal_share, noise_share))
    restored = inverse_transform(X, shape, workers=workers)
    for plane, before in zip(restored, data, strict=True):
        plane[before == 0] = 0  # beyond a mask there is nothing, and what filters spread there is none
    return Restored(restored, source, signal_share)


def _solvent(data: FloatArray, voxel_size: float, workers: int | None) -> FloatArray | None:
    """Where a single map's noise can be measured; see `solvent_window`."""
    return solvent_window(data, _dense(data, voxel_size, workers), voxel_size=voxel_size, workers=workers)


def _dense(data: FloatArray, voxel_size: float, workers: int | None) -> FloatArray:
    """Where density stands out of the noise at low resolution, 0 or 1: generous, for nothing but solvent is to be measured."""
    edge = max(1, round(DENSE_WIDTH / 4 / voxel_size))
    averaged, squares = _block_means(data, edge), _block_means(np.square(data), edge)
    for values in (averaged, squares):
        smooth(values, DENSE_WIDTH / (edge * voxel_size), workers)
    below = averaged[averaged < 0]
    level = DENSE_LEVEL * 1.4826 * float(np.median(-below)) if len(below) else 0.0
    dense = np.asarray((averaged > level) | (squares > (DENSE_ROUGHNESS * NOISE_STD) ** 2), dtype=np.float32)
    for axis, length in enumerate(data.shape):
        dense = np.take(dense, np.arange(length) // edge, axis=axis)
    return dense


def _block_means(data: FloatArray, edge: int) -> FloatArray:
    """Means over cubes of `edge` voxels, smaller ones at the far faces."""
    for axis, length in enumerate(data.shape):
        starts = np.arange(0, length, edge)
        counts = np.diff(np.append(starts, length)).reshape([-1 if k == axis else 1 for k in range(3)])
        data = np.asarray(np.add.reduceat(data, starts, axis=axis) / counts, dtype=np.float32)
    return data


def _mean_squares(values: FloatArray, edge: int) -> NDArray[np.float64]:
    """Mean squares in cubes of `edge` voxels; what is left over at the far faces is not looked at."""
    edge = min(edge, *values.shape)
    nz, ny, nx = (n // edge for n in values.shape)
    sums = np.empty((nz, ny, nx))
    for k in range(nz):
        slab = values[k * edge : (k + 1) * edge, : ny * edge, : nx * edge].reshape(edge, ny, edge, nx, edge)
        sums[k] = np.einsum("aibjc,aibjc->ij", slab, slab)
    return sums / edge**3


def _averaged(curve: Curve) -> Curve:
    """Over neighbouring shells, weighted 1:2:1."""
    return np.asarray(ndimage.convolve1d(curve, [0.25, 0.5, 0.25], mode="nearest"))
