"""Data where the evidence is, network where it is not: evidence-weighted recombination in Fourier space.

The network is good at telling molecule from solvent and at the right sharpness, but it smooths away detail that it was
given. So its output N provides the support and the amplitude of the data X, and fills in what the data lack::

    Y(s) = w(s) g(s) X'(s) + (1 - w(s)) N'(s),    g = sqrt(P_N' / P_X'),    w = 0.8 F²

N' is the support times N. X' is the support times the data whose amplitudes were brought to the network's before: a raw map's
fine shells are far weaker than its coarse ones, and cut out as they are they would mostly hold what leaks into them. Outside the
support Y is 0.

F, between 0 and 1 in every shell, is the reliability of the data: its expected squared correlation with the truth. With half
maps F = 2 FSC / (1 + FSC) inside the support (Rosenthal and Henderson 2003, doi 10.1016/j.jmb.2003.07.013); for a single map
F = 1 - P_noise / P_X', with the noise spectrum measured in the solvent; failing that, F is what is
typical of a stated resolution.
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
from emhance.steps.reliability import CROSSING, lost_beyond_crossing, power_within, solvent_window, typical
from emhance.steps.smoothing import smooth

DEFAULT_RESOLUTION = 4.0
"""Å; where the reliability of a single map falls when it has no solvent noise and no resolution was given."""

SUPPORT_LEVEL = 0.04
"""The support's contour in the network's output, as a share of its 99.9th percentile."""

SUPPORT_SMOOTHING = 5.0
"""The output must also rise above a contour when averaged over about this width, Å: density outlives that, the remains of
noise, which change their sign or stand alone, do not. A single ion keeps a seventh of its height."""

SMOOTHED_LEVEL = 0.03
"""That contour, as a share of the same percentile."""

SUPPORT_FLOOR = 0.02
"""Neither contour is ever lower than this (well-ordered density is about 1), so that noise has no support."""

SUPPORT_EDGE = 3.0
"""Width over which the support's edge is softened, Å."""

OUTLINE_STEEPNESS = 8
"""The output fades out where the support falls from one over this to 0."""

DATA_WEIGHT, DATA_POWER = 0.8, 2.0
"""w = 0.8 F²: of the weights that leave the word to the data where F is near 1, nearly those that bring Y closest to the truth on
simulated maps (`benchmarks/recombination.py`); where F is less, noise soon does more harm than a network's errors. Even
where F is 1 they leave the network a fifth: what disorder and optics took from both half maps, no FSC sees."""

LEAST_FACTOR = 0.5
"""When the data's amplitudes are brought to the network's, no shell's factor is smaller than this times a coarser shell's: the
weaker shells of a very smooth output would drown in what leaks from the coarse ones."""

LEAST_CONTRAST = 1.5
"""A single map that in no octave of spatial frequency has so many times its solvent's power holds nothing but noise: noise alone
has 1.05 times that at most, the weakest half map that was at hand 28 times."""

FIRST_OCTAVE = 4
"""The shell where the first of these octaves begins: coarser ones hold too few coefficients."""

STRONGEST_NOISE = 5.0
"""The power of the noise within the molecule is never taken to be more than so many times the solvent's."""

LEAST_SIGNIFICANCE = 5.0
"""Half maps that agree in no octave of spatial frequency by more standard deviations than this hold nothing but noise."""


@dataclass(frozen=True)
class Reliability:
    """How far the data can be trusted, shell by shell.

    Parameters
    ----------
    frequency
        Spatial frequency of the shells, 1/Å.
    value
        F, 0 to 1, per shell.
    weight
        w, the data's part in the sum, per shell; the rest is the network's.
    gain
        What the data's amplitude was multiplied by to become the network's, per shell.
    source
        "half-map FSC", "solvent noise", "stated resolution", "default resolution"; "no support" where the network found nothing,
        "no agreement" where two half maps have no more in common than noise has, "nothing but noise" where a map has no more
        power than its solvent.
    resolution
        Å: where F falls below 0.25, which is FSC = 0.143.
    kept
        Share, within the support, of what the two half maps have in common in the whole box once their amplitudes are the
        network's; None without half maps. The rest is detergent, lipids or disordered density, or what the network missed.
    """

    frequency: Curve
    value: Curve
    weight: Curve
    gain: Curve
    source: str
    resolution: float
    kept: float | None = None


def recombine(
    enhanced: FloatArray,
    data: FloatArray,
    *,
    voxel_size: float,
    half_difference: FloatArray | None = None,
    noise: bool = False,
    resolution: float | None = None,
    workers: int | None = None,
) -> tuple[FloatArray, Reliability]:
    """Recombine the network's output with the data it was made from.

    Parameters
    ----------
    enhanced
        Output of the network, N, shape ``(nz, ny, nx)``; solvent near 0, well-ordered density of the order of 1.
        **Overwritten**, to save memory.
    data
        The normalised map, or the mean of the normalised half maps, X, same shape. **Overwritten.**
    half_difference
        Half the difference of the normalised half maps, same shape. **Overwritten.**
    noise
        Whether the single map holds solvent noise of mean 0, so that its spectrum can be measured.
    resolution
        In Å; used for a single map without solvent noise.
    voxel_size
        In Å.
    workers
        Threads of the Fourier transforms.

    Returns
    -------
    recombined, reliability
        The map Y, a new array, and the curves it was made with.
    """
    shape = enhanced.shape
    frequency = shell_frequencies(shape, voxel_size)
    support = support_of(enhanced, voxel_size=voxel_size, workers=workers)
    if not support.any():
        alike = half_difference is None or _agree(data, half_difference, workers=workers)
        return _nothing(enhanced, frequency, "no support" if alike else "no agreement")

    solvent = None
    if half_difference is None and noise:
        solvent = solvent_window(data, support, voxel_size=voxel_size, workers=workers)
    sharpening, significance, power = _network_amplitudes(enhanced, data, half_difference, workers=workers)
    if significance < LEAST_SIGNIFICANCE:
        return _nothing(enhanced, frequency, "no agreement")
    noise_power = None if solvent is None else power_within(solvent, data, workers=workers)
    del solvent
    if noise_power is not None and _contrast(power / data.size, noise_power) < LEAST_CONTRAST:
        return _nothing(enhanced, frequency, "nothing but noise")
    kept = None if half_difference is None else _kept_within(support, data, half_difference)
    weight = float(np.sum(np.square(support), dtype=np.float64))
    outline = _outline(support)
    for array in (enhanced, data, half_difference):
        if array is not None:
            array *= support
    del support
    X: Spectrum = scipy.fft.rfftn(data, workers=workers)
    power_x = shell_sums(X, shape)
    if half_difference is not None:
        reliability = _from_half_maps(X, half_difference, power_x, workers=workers)
        source = "half-map FSC"
    elif noise_power is not None:
        reliability = _from_noise(noise_power, power_x / weight)
        source = "solvent noise"
    else:
        at = resolution if resolution is not None else DEFAULT_RESOLUTION
        reliability = typical(frequency, at)
        source = "stated resolution" if resolution is not None else "default resolution"

    N: Spectrum = scipy.fft.rfftn(enhanced, workers=workers)
    gain = np.sqrt(shell_sums(N, shape) / np.maximum(power_x, 1e-30))
    of_data = DATA_WEIGHT * reliability**DATA_POWER
    apply_radial(X, shape, of_data * gain)
    apply_radial(N, shape, 1 - of_data)
    X += N
    del N
    curves = Reliability(
        frequency=frequency,
        value=reliability,
        weight=of_data,
        gain=sharpening * gain,
        source=source,
        resolution=resolution_at(frequency, reliability, CROSSING),
        kept=kept,
    )
    recombined = inverse_transform(X, shape, workers=workers)
    for plane, within in zip(recombined, outline, strict=True):
        plane *= within * np.float32(1 / 255)
    return recombined, curves


def _nothing(enhanced: FloatArray, frequency: Curve, why: str) -> tuple[FloatArray, Reliability]:
    """An empty map and its curves."""
    none = np.zeros_like(frequency)
    return np.zeros_like(enhanced), Reliability(frequency, none, none, none, why, float("inf"))


def _outline(support: FloatArray) -> NDArray[np.uint8]:
    """Where the output may hold density, 0 to 255: what filtering spreads beyond the support is none."""
    outline = np.empty(support.shape, np.uint8)
    for plane, within in zip(outline, support, strict=True):
        plane[...] = np.minimum(within * np.float32(OUTLINE_STEEPNESS), 1) * np.float32(255)
    return outline


def _network_amplitudes(
    enhanced: FloatArray, data: FloatArray, half_difference: FloatArray | None, *, workers: int | None
) -> tuple[Curve, float, Curve]:
    """Give the data, in place, the network's power in every shell, half their difference likewise.

    Returns
    -------
    tuple
        The factors; by how many standard deviations the half maps agree, infinite without half maps; and the data's power now.
    """
    shape = data.shape
    power_n = shell_sums(scipy.fft.rfftn(enhanced, workers=workers), shape)
    X: Spectrum = scipy.fft.rfftn(data, workers=workers)
    power_x = shell_sums(X, shape)
    factor = np.sqrt(power_n / np.maximum(power_x, 1e-30))
    factor[0] = factor[1]  # the mean of a normalised map may be next to nothing
    factor = np.maximum(factor, LEAST_FACTOR * np.maximum.accumulate(factor))
    apply_radial(X, shape, factor)
    data[...] = inverse_transform(X, shape, workers=workers)
    del X
    significance = float("inf")
    if half_difference is not None:
        D: Spectrum = scipy.fft.rfftn(half_difference, workers=workers)
        significance = _agreement(power_x, shell_sums(D, shape), shell_counts(shape))
        apply_radial(D, shape, factor)
        half_difference[...] = inverse_transform(D, shape, workers=workers)
    return np.asarray(factor), significance, np.asarray(power_x * factor**2)


def _agree(data: FloatArray, half_difference: FloatArray, *, workers: int | None) -> bool:
    """Whether two half maps have more in common than noise has."""
    shape = data.shape
    power_x, power_d = (shell_sums(scipy.fft.rfftn(values, workers=workers), shape) for values in (data, half_difference))
    return _agreement(power_x, power_d, shell_counts(shape)) >= LEAST_SIGNIFICANCE


def _agreement(power_x: Curve, power_d: Curve, coefficients: Curve) -> float:
    """By how many standard deviations two half maps agree in the octave where they agree most.

    The curves are those of half their sum and half their difference in the whole box: inside a support that was chosen by what
    stands out in their sum, two maps of noise agree as well.
    """
    # h1 = X + D, h2 = X - D: P_X - P_D is their covariance, P_X + P_D the mean of their powers P1 and P2, never less than the
    # root of P1 P2. Over n coefficients, in pairs that say the same, a covariance of independent maps has the variance P1 P2 / n.
    variance = (power_x + power_d) ** 2 / coefficients
    octaves = _octaves(len(power_x))
    covariance, variance = (np.add.reduceat(curve, octaves) for curve in (power_x - power_d, variance))
    return float(np.max(covariance / np.sqrt(np.maximum(variance, 1e-60))))


def support_of(enhanced: FloatArray, *, voxel_size: float, workers: int | None = None) -> FloatArray:
    """Where the network sees density: 0 to 1 with a soft edge, same shape; `workers` is the number of threads."""
    top = float(np.percentile(enhanced.ravel()[::7], 99.9))
    support = enhanced.copy()
    smooth(support, SUPPORT_SMOOTHING / voxel_size, workers)
    _softly_above(support, max(SMOOTHED_LEVEL * top, SUPPORT_FLOOR), voxel_size, workers)
    near = enhanced.copy()
    _softly_above(near, max(SUPPORT_LEVEL * top, SUPPORT_FLOOR), voxel_size, workers)
    support *= near
    return support


def _softly_above(values: FloatArray, level: float, voxel_size: float, workers: int | None) -> None:
    """Replace values by where they exceed a level, 0 to 1 with a soft edge."""
    # A ramp about the level, from 3/4 to 5/4 of it: at a step, rounding alone would decide whether a voxel belongs.
    values *= 2.0 / level
    values -= 1.5
    np.clip(values, 0.0, 1.0, out=values)
    smooth(values, SUPPORT_EDGE / voxel_size, workers)
    # The softened edge is drawn outwards, so that the support loses nothing of what it encloses.
    values *= 1.5
    np.minimum(values, 1.0, out=values)


def _kept_within(support: FloatArray, data: FloatArray, half_difference: FloatArray) -> float:
    """Share of the half maps' covariance that lies within the support."""
    inside = total = 0.0
    for within, x, d in zip(support, data, half_difference, strict=True):
        product = (x + d) * (x - d)  # of the two half maps
        inside += float(np.sum(within * product, dtype=np.float64))
        total += float(np.sum(product, dtype=np.float64))
    return min(max(inside / total, 0.0), 1.0) if total > 0 else 0.0


def _from_half_maps(X: Spectrum, half_difference: FloatArray, power_x: Curve, *, workers: int | None) -> Curve:
    """F from the half maps' FSC, with the sum and the difference of the halves instead of the halves themselves."""
    shape = half_difference.shape
    D: Spectrum = scipy.fft.rfftn(half_difference, workers=workers)
    power_d, cross = shell_sums(D, shape), shell_sums(X, shape, D)
    # h1 = X + D, h2 = X - D
    scale = np.sqrt(np.maximum((power_x + power_d) ** 2 - 4 * cross**2, 1e-60))
    fsc = np.clip((power_x - power_d) / scale, 0, 1)
    return lost_beyond_crossing(np.asarray(2 * fsc / (1 + fsc)))


def _octaves(shells: int, first: int = 1) -> NDArray[np.intp]:
    """The shells where octaves of spatial frequency begin, from `first` on."""
    return np.asarray(first * 2 ** np.arange(((shells - 1) // first).bit_length()))


def _contrast(power: Curve, noise_power: Curve) -> float:
    """The largest ratio, over octaves of spatial frequency, of a map's power per voxel to its solvent's."""
    octaves = _octaves(len(power), FIRST_OCTAVE)
    if not len(octaves):  # too small a box to tell
        return float("inf")
    whole, solvent = (np.add.reduceat(curve, octaves) for curve in (power, noise_power))
    return float(np.max(whole / np.maximum(solvent, 1e-30)))


def _from_noise(noise_power: Curve, power: Curve) -> Curve:
    """F = 1 - noise / (signal + noise), smoothed, falling with frequency, and 0 from where it is lost in the noise.

    Within the molecule noise is stronger than in the solvent, since misalignment and what differs from particle to particle add
    to it: by no more than the shell says in which there is least above the solvent's.
    """
    excess = ndimage.uniform_filter1d(power / np.maximum(noise_power, 1e-30), 5, mode="nearest")[3:]
    stronger = float(np.clip(excess.min(initial=STRONGEST_NOISE), 1, STRONGEST_NOISE))
    value = ndimage.uniform_filter1d(np.clip(1 - stronger * noise_power / np.maximum(power, 1e-30), -1, 1), 3, mode="nearest")
    lost = np.flatnonzero(value[3:] < 0.1)
    end = int(lost[0]) + 3 if len(lost) else len(value)
    falling = np.maximum.accumulate(value[:end][::-1])[::-1]
    return np.concatenate([np.clip(falling, 0, 1), np.zeros(len(value) - end)])
