"""Remove small connected components from an enhanced map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from emhance.errors import OptionError
from emhance.maps.volume import FloatArray

BoolArray = NDArray[np.bool_]

LEVEL_SHARE = 0.1
"""Default level of a component's surface, as a share of strong density: low, so that flexible parts stay joined to the rest."""

SKIRT = 4
"""How far, in voxels, density below the level is taken to belong to the component beside it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CleaningResult:
    """A cleaned map and what was taken out of it.

    Parameters
    ----------
    data
        Cleaned map, shape ``(nz, ny, nx)``.
    removed_voxels
        Voxels set to zero, skirts included.
    removed_components, kept_components
        Numbers of connected components.
    removed_share, removed_density
        Share of the positive voxels (those above the level), and of the sum over all values above 0, that went, 0-1.
    threshold
        Level above which voxels count as positive, in the map's units.
    sentence
        What was done, for the user.
    """

    data: FloatArray
    removed_voxels: int
    removed_components: int
    kept_components: int
    removed_share: float
    removed_density: float
    threshold: float
    sentence: str


def clean(data: FloatArray, *, fraction: float, level: float | None = None, connectivity: int = 1) -> CleaningResult:
    """Set connected components smaller than a fraction of all positive voxels to zero.

    Components are cut out at `level` and go with their skirts: voxels above zero that are within `SKIRT` voxels of
    a removed component and not nearer to a kept one. The largest component always stays.

    Parameters
    ----------
    data
        Enhanced map, shape ``(nz, ny, nx)``; solvent about 0, density positive.
    fraction
        Smallest share of all positive voxels that a component must hold to stay, 0-1; 0 removes nothing.
    level
        Voxels above this are positive, >= 0, in the map's units; by default `LEVEL_SHARE` of strong density.
    connectivity
        1 joins voxels that share a face, 2 an edge, 3 a corner.

    Returns
    -------
    CleaningResult
        With a new array, equal to `data` where nothing was removed.

    Raises
    ------
    OptionError
        For options out of range.
    """
    if not 0 <= fraction <= 1:
        raise OptionError(f"The fraction to clean must lie between 0 and 1, not {fraction:g}.")
    if connectivity not in (1, 2, 3):
        raise OptionError(f"The connectivity must be 1, 2 or 3, not {connectivity}.")
    if level is not None and not 0 <= level < float("inf"):
        raise OptionError(f"The level must be 0 or more, not {level:g}: density is positive.")
    threshold = default_level(data) if level is None else level
    labels, count = ndimage.label(data > threshold, structure=ndimage.generate_binary_structure(3, connectivity))
    sizes = _count_voxels(labels, count)
    positive = int(sizes.sum())
    small = sizes < fraction * positive
    all_small = count > 0 and bool(small.all())
    if all_small:
        small[np.argmax(sizes)] = False
    removed_components = int(small.sum())
    cleaned = data.copy()
    if removed_components == 0:
        if count == 0:
            why = f"no voxel lies above {threshold:.3g}"
        elif all_small:
            why = f"the only connected component stays, whatever the fraction ({fraction:.3g})"
        else:
            why = f"each of {count} connected components holds at least {fraction:.3g} of the positive voxels"
        return CleaningResult(
            data=cleaned,
            removed_voxels=0,
            removed_components=0,
            kept_components=count,
            removed_share=0.0,
            removed_density=0.0,
            threshold=threshold,
            sentence=f"Cleaning removed nothing: {why}.",
        )
    removed = _removed_with_skirts(data, labels, np.concatenate([[False], small]))
    share = float(sizes[small].sum() / positive)
    density = _sum_above_zero(data, removed) / _sum_above_zero(data, None)
    cleaned[removed] = 0
    sentence = (
        f"Cleaning removed {removed_components} of {count} connected components, those smaller than {fraction:.3g} of the "
        f"positive voxels: {100 * share:.2g} % of the positive voxels, {100 * density:.2g} % of the density."
    )
    if all_small:
        sentence += " No component is that large; the largest one was kept."
    return CleaningResult(
        data=cleaned,
        removed_voxels=int(np.count_nonzero(removed)),
        removed_components=removed_components,
        kept_components=count - removed_components,
        removed_share=share,
        removed_density=density,
        threshold=threshold,
        sentence=sentence,
    )


def default_level(data: FloatArray) -> float:
    """`LEVEL_SHARE` of the map's strong density, whatever share of the box the molecule fills; never below 0.

    Strong density is the 99th percentile of the voxels above a fiftieth of the highest, so that neither empty box nor one
    extreme voxel decides.
    """
    highest = float(data.max())
    if highest <= 0:
        return 0.0
    return LEVEL_SHARE * float(np.percentile(data[data > 0.02 * highest], 99))


def _count_voxels(labels: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """Voxels of each component; plane by plane, because a count over a whole large box would copy it to 64 bits."""
    sizes = np.zeros(count + 1, dtype=np.int64)
    for plane in labels:
        found, voxels = np.unique(plane, return_counts=True)
        sizes[found] += voxels
    return sizes[1:]


def _removed_with_skirts(data: FloatArray, labels: NDArray[np.int32], is_small: BoolArray) -> BoolArray:
    """Voxels of the small components and of the skirts that are nearer to them than to a kept component."""
    removed = np.empty(data.shape, dtype=bool)
    for plane, target in zip(labels, removed, strict=True):
        target[:] = is_small[plane]
    kept = (labels > 0) & ~removed
    open_ = (labels == 0) & (data > 0)
    for _ in range(SKIRT):
        for growing in (kept, removed):  # a voxel as near to both is kept
            grown = _neighbours(growing) & open_
            growing |= grown
            open_ &= ~grown
    return removed


def _neighbours(mask: BoolArray) -> BoolArray:
    """Voxels that share a face with one of `mask`, and `mask` itself."""
    result = mask.copy()
    for axis in range(3):
        low: list[slice] = [slice(None)] * 3
        high: list[slice] = [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        result[tuple(low)] |= mask[tuple(high)]
        result[tuple(high)] |= mask[tuple(low)]
    return result


def _sum_above_zero(data: FloatArray, where: BoolArray | None) -> float:
    """Sum of the values above 0, of all voxels or of those in `where`; plane by plane, in double precision."""
    total = 0.0
    for index, plane in enumerate(data):
        chosen = plane > 0 if where is None else (plane > 0) & where[index]
        total += float(plane[chosen].sum(dtype=np.float64))
    return total
