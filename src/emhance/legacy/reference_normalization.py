"""The reference program's normalisations, defects included (deepEMhancer 0.17, doi 10.1038/s42003-021-02399-1).

They work on the map's own grid. `noise`: noise mean 0 and s.d. 0.1, from given statistics or from a noise shell guessed on a
100³ copy of the map. The mask variants: median 0 and 10-95 % range 1 of the voxels inside a mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal, stats

from emhance.errors import MaskError, NormalizationError
from emhance.legacy.reference_resize import resize
from emhance.maps.volume import FloatArray

NOISE = "inputNormalization_3"
MASKS = ("inputNormalizationWithMask", "inputNormalizationWithMask_2", "inputNormalizationWithMask_3")

PROBE = 100
"""Edge, in voxels, of the copy of the map on which the noise shell is guessed."""

WINDOW = 5
"""Edge, in voxels of that copy, of the windows for local mean and variance."""

MASK_THRESHOLD = 0.01

RANGE = (10, 95)
"""Percentiles whose difference a mask normalisation brings to 1."""


@dataclass(frozen=True)
class NoiseStatistics:
    """Mean and standard deviation of the noise, in the map's own units."""

    mean: float
    std: float

    def __str__(self) -> str:
        """The two numbers as the reference program prints them."""
        return f"mean={self.mean:f} std={self.std:f}"


def normalize_by_noise(data: FloatArray, statistics: NoiseStatistics | None = None) -> tuple[FloatArray, NoiseStatistics]:
    """Bring the noise to mean 0 and s.d. 0.1.

    Parameters
    ----------
    data
        Density, ``(nz, ny, nx)``.
    statistics
        The noise, in the map's units; None guesses it as the reference program does.

    Returns
    -------
    tuple
        The normalised map, and the statistics that were used.

    Raises
    ------
    NormalizationError
        If no noise is found, or the map looks hollow to the reference program.
    """
    used = guess_noise(data) if statistics is None else statistics
    if not (np.isfinite(used.mean) and used.std > 0 and np.isfinite(used.std)):
        raise NormalizationError(
            f"The reference program's noise estimate fails on this map (mean {used.mean:g}, s.d. {used.std:g}); "
            "give --noise-mean and --noise-std, or leave out --reference-exact."
        )
    # Python numbers keep a float32 map float32, as in the reference program.
    normalized = (data - np.float32(used.mean)) / (np.float32(used.std) * np.float32(10))
    return np.ascontiguousarray(normalized, np.float32), used


def normalize_in_mask(data: FloatArray, mask: FloatArray, *, variant: str = "inputNormalizationWithMask_2") -> FloatArray:
    """Bring the voxels inside a mask to median 0 and 10-95 % range 1, and all others to 0.

    Parameters
    ----------
    data, mask
        Density and mask on the same grid, ``(nz, ny, nx)``; the mask is positive inside.
    variant
        One of `MASKS`: the first uses all voxels of the dilated mask, the others only positive ones, and the third
        dilates by one voxel (so not at all) and thresholds the mask itself instead of its range.

    Returns
    -------
    FloatArray
        The normalised map.

    Raises
    ------
    MaskError
        If the mask selects nothing, or voxels that are all alike.
    """
    if variant == MASKS[2]:
        inside = ndimage.grey_dilation(mask, size=1) > MASK_THRESHOLD
    else:
        inside = above_relative_threshold(ndimage.grey_dilation(mask, size=3), MASK_THRESHOLD) > 0
    selected = data[inside] if variant == MASKS[0] else data[inside & (data > 0)]
    if not selected.size:
        raise MaskError("The mask selects no voxel of positive density; check that it belongs to this map.")
    spread = stats.iqr(selected, rng=RANGE)
    if not spread > 0:
        raise MaskError("The density inside the mask is constant; check that the mask belongs to this map.")
    normalized = (data - np.median(selected)) / np.float32(spread) * inside
    return np.ascontiguousarray(normalized, np.float32)


def guess_noise(data: FloatArray) -> NoiseStatistics:
    """Guess the noise from the shell between particle and box, as the reference program does.

    Local mean, mean square and variance of a 100³ copy give radial profiles; the shell's outer radius is read from
    their course, and what stands out locally is cut away from it.

    Parameters
    ----------
    data
        Density, ``(nz, ny, nx)``.

    Raises
    ------
    NormalizationError
        Where the reference program stops because the map "might be a hollow structure", or no voxel is left.
    """
    # The reference program also applies a Gaussian of s.d. 0.1 voxels here, whose kernel is a single one.
    probe = resize(data, (PROBE, PROBE, PROBE))
    local_mean = ndimage.uniform_filter(probe, WINDOW)
    local_square = ndimage.uniform_filter(probe**2, WINDOW)
    local_variance = local_square - local_mean**2
    radius = _noise_radius(
        curve=radial_profile(local_variance) - radial_profile(local_mean),
        energy=radial_profile(local_square),
    )
    particle = above_relative_threshold(ndimage.grey_dilation(local_square, size=5), 0.05)
    shell = np.zeros_like(probe)
    shell[distances(probe.shape) < radius] = 1.0
    shell -= particle
    noise = data[resize(shell, data.shape) > 0.5]
    if not noise.size:
        raise NormalizationError(
            "The reference program's noise estimate finds no solvent in this map; "
            "give --noise-mean and --noise-std, or leave out --reference-exact."
        )
    return NoiseStatistics(float(np.mean(noise)), float(np.std(noise)))


def _noise_radius(*, curve: NDArray[np.float64], energy: NDArray[np.float64]) -> float:
    """Outer radius of the noise shell in voxels of the 100³ copy."""
    half = PROBE // 2
    minima = signal.argrelextrema(curve, np.less)[0]
    start = int(minima.min()) if len(minima) else int(np.argmin(curve))
    if len(minima) and curve[start] >= 0:
        start = int(np.argmin(curve))
    if start > half:
        return half
    peak = int(np.argmax(curve[start : half + 1])) + start
    if 0 < curve[peak] < energy[peak]:
        raise NormalizationError(
            "The reference program refuses this map because it might be a hollow structure; "
            "give --noise-mean and --noise-std, or leave out --reference-exact."
        )
    rises = np.flatnonzero(curve[start:] > 0)
    if not len(rises):
        return half
    rise = int(rises[0]) + start
    falls = np.flatnonzero(curve[rise:] <= 0)
    if not len(falls):
        return half
    fall = int(falls[0]) + rise
    last, earlier = float(np.mean(np.diff(curve[-10:]))), float(np.mean(np.diff(curve[-25:-10])))
    if last > 1e-8 and earlier > 1e-8 and last > 3 * earlier:
        return float(np.sqrt(3 * half**2))
    return round((rise + fall) * 0.5)


def above_relative_threshold(data: FloatArray, fraction: float) -> FloatArray:
    """One where a map is at least `fraction` of the way from its minimum to its maximum, else zero."""
    low = data.min()
    return np.asarray(data >= low + fraction * (data.max() - low), data.dtype)


def distances(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Distance of every voxel from the box's central voxel ``n // 2``, in voxels."""
    squares = [((np.arange(n) - n // 2) ** 2).astype(np.float64) for n in shape]
    return np.sqrt(squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :])


def radial_profile(data: FloatArray) -> NDArray[np.float64]:
    """Mean over shells one voxel wide; element `r` holds the voxels between `r` and `r + 1` voxels from the centre."""
    shells = distances(data.shape).astype(np.int32).ravel()
    return np.asarray(np.bincount(shells, data.ravel()) / np.bincount(shells), np.float64)
