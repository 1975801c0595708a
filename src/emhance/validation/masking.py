"""A soft mask around the molecule, found from the map itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from emhance.errors import MaskError
from emhance.maps.fourier import low_pass
from emhance.maps.masks import soft_mask
from emhance.maps.volume import FloatArray

COARSE_RESOLUTION = 15.0
"""Å; the molecule's shape is looked for in the map low-passed to this."""

SOLVENT_DEVIATIONS = 4.0
"""Density begins this many standard deviations of the low-passed solvent above its mean ..."""

DENSITY_SHARE = 0.15
"""... but not below this share of the highest density (99.9th percentile)."""

SMALLEST_PART = 0.05
"""Parts smaller than this share of the largest one are left out."""

EXTENSION = 3.0
"""Å by which the mask is drawn outwards."""

EDGE = 8.0
"""Width of the mask's soft edge, Å; not less than six voxels."""


def automatic_mask(density: FloatArray, *, voxel_size: float, workers: int | None = None) -> FloatArray:
    """Soft mask around the molecule.

    Parameters
    ----------
    density
        Mean of the half maps, shape ``(nz, ny, nx)``.
    voxel_size
        Å.
    workers
        Threads of the Fourier transforms; None for one.

    Returns
    -------
    ndarray
        0 to 1, same shape, float32.

    Raises
    ------
    MaskError
        If nothing stands out from the solvent.
    """
    resolution = max(COARSE_RESOLUTION, 4 * voxel_size)
    coarse = low_pass(density, voxel_size, resolution, workers=workers)
    inside = coarse > _contour(coarse)
    del coarse
    inside = _large_parts(inside)
    if not inside.any():
        raise MaskError("No molecule stands out from the solvent of the map; give a mask with --mask.")
    extended = soft_mask(inside, width_voxels=EXTENSION / voxel_size) > 0
    return soft_mask(extended, width_voxels=max(EDGE / voxel_size, 6.0))


def _contour(coarse: FloatArray) -> float:
    """Find the level at which density begins: the solvent is the mode of the values, its spread that of the values below."""
    sample = coarse.ravel()[::7]
    low, high = np.percentile(sample, (0.5, 99.9))
    counts, edges = np.histogram(sample, bins=200, range=(low, high))
    mode = float(edges[np.argmax(ndimage.gaussian_filter1d(counts.astype(float), 2.0))])
    below = sample[sample < mode]
    spread = float(np.sqrt(np.mean(np.square(below - mode)))) if below.size else 0.0
    return mode + max(SOLVENT_DEVIATIONS * spread, DENSITY_SHARE * (float(high) - mode))


def _large_parts(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, number = ndimage.label(inside)
    if number == 0:
        return inside
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    large = sizes >= SMALLEST_PART * sizes.max()
    return np.asarray(large[labels])
