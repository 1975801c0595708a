"""The reference program's arithmetic from map to enhanced map, defects included (deepEMhancer 0.17).

Source: Sanchez-Garcia et al. 2021, Commun Biol 4:874, doi 10.1038/s42003-021-02399-1, and the program's published behaviour.
What is wrong in it is kept on purpose: padding by wrapping (the third axis by the second one's amount), averages divided by
one more than the number of predictions, resampling by splines. `emhance.legacy.tiled` is the corrected way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from emhance.errors import MapContentError, NormalizationError, OptionError, WeightsError
from emhance.legacy.importing import KerasNetwork
from emhance.legacy.prediction import Progress, predict_tiles
from emhance.legacy.reference_normalization import (
    MASKS,
    NOISE,
    NoiseStatistics,
    distances,
    normalize_by_noise,
    normalize_in_mask,
)
from emhance.legacy.reference_resize import resize
from emhance.maps.volume import FloatArray

Index = tuple[int, int, int]

NETWORK_VOXEL = 1.0
"""Voxel size in Å on which the reference program's networks work."""


@dataclass(frozen=True)
class ReferenceResult:
    """What the reference program would have written.

    Parameters
    ----------
    data
        The enhanced map on the input's box, float32.
    noise
        The noise statistics that were used; None with a mask.
    tiles
        How many tiles the network saw.
    """

    data: FloatArray
    noise: NoiseStatistics | None
    tiles: int


def reference_exact(
    data: FloatArray,
    network: KerasNetwork,
    *,
    voxel_size: float,
    half2: FloatArray | None = None,
    mask: FloatArray | None = None,
    noise: tuple[float, float] | None = None,
    normalization: str | None = None,
    clean: float | None = None,
    batch_size: int = 8,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> ReferenceResult:
    """Enhance a map exactly as the reference program does.

    Parameters
    ----------
    data
        The map, or half map 1, ``(nz, ny, nx)``.
    network
        An imported network.
    voxel_size
        Voxel size along x in Å.
    half2
        Half map 2; the mean of the two is enhanced.
    mask
        Binary mask, 1 inside; needs a network made for masks.
    noise
        Mean and s.d. of the noise in the map's units; None estimates them.
    normalization
        Name of the reference program's normalisation function where the checkpoint does not name one.
    clean
        Remove connected components smaller than this fraction of all positive voxels, 0-1; None or a value of
        0 or less removes nothing.
    batch_size
        Tiles the network takes at a time; does not change the result.
    device
        Where the network runs.
    progress
        Called with the number of tiles done and their total.

    Returns
    -------
    ReferenceResult
        The enhanced map and the noise statistics.

    Raises
    ------
    OptionError
        If options contradict each other, or the box is smaller than a tile (the reference program returns zeros for it).
    NormalizationError, MaskError, MapContentError
        Where the reference program stops, or would return nothing of use.
    """
    if half2 is not None:
        data = np.float32(0.5) * (data + half2)
    normalized, used = normalize(data, network, mask=mask, noise=noise, normalization=normalization)
    box = data.shape
    # Python's round: to even, as in the reference program.
    factor = float(np.float32(voxel_size)) / NETWORK_VOXEL
    shape = tuple(round(n * factor) for n in box)
    resampled = resize(normalized, shape)
    resampled_mask = None if mask is None else resize(np.ascontiguousarray(mask, np.float32), shape)
    padded = np.pad(resampled, padding(shape, network.stride), mode="wrap")
    starts = list(tile_starts(padded.shape, network.tile_size, network.stride, resampled_mask))
    if not starts:
        edge = network.tile_size * NETWORK_VOXEL
        raise OptionError(
            f"The reference program returns an empty map for a box of {' x '.join(str(n) for n in reversed(shape))} Å, "
            f"smaller than its tile of {edge:g} Å, or for an empty mask; leave out --reference-exact."
        )
    total, count = np.zeros(padded.shape), np.ones(padded.shape)
    tile = network.tile_size
    for (z, y, x), prediction in predict_tiles(
        network.module, padded, starts, batch_size=batch_size, device=device, progress=progress
    ):
        total[z : z + tile, y : y + tile, x : x + tile] += prediction
        count[z : z + tile, y : y + tile, x : x + tile] += 1.0
    total /= count
    enhanced: NDArray[np.float64] = total[: shape[0], : shape[1], : shape[2]]
    if clean is not None and clean > 0:
        enhanced = remove_small_components(enhanced, clean)
    return ReferenceResult(np.ascontiguousarray(resize(enhanced, box), np.float32), used, len(starts))


def normalize(
    data: FloatArray,
    network: KerasNetwork,
    *,
    mask: FloatArray | None = None,
    noise: tuple[float, float] | None = None,
    normalization: str | None = None,
) -> tuple[FloatArray, NoiseStatistics | None]:
    """Normalise a map on its own grid the way the network was trained with; parameters as in `reference_exact`.

    Returns
    -------
    tuple
        The normalised map, and the noise statistics that were used (None with a mask).
    """
    function = normalization_function(network, has_mask=mask is not None, chosen=normalization)
    if mask is not None and noise is not None:
        raise OptionError("A mask and noise statistics contradict each other; give one of the two.")
    if mask is not None:
        if mask.shape != data.shape:
            raise OptionError(f"Map and mask have boxes {data.shape} and {mask.shape} (z, y, x); they must be equal.")
        return normalize_in_mask(data, mask, variant=function), None
    if noise is not None and not noise[1] > 0:
        raise NormalizationError(f"The noise's standard deviation must be positive, not {noise[1]:g}.")
    return normalize_by_noise(data, None if noise is None else NoiseStatistics(*noise))


def normalization_function(network: KerasNetwork, *, has_mask: bool, chosen: str | None = None) -> str:
    """Name of the reference program's normalisation function for a network, which must fit the use of a mask.

    Parameters
    ----------
    network
        An imported network.
    has_mask
        Whether a mask is given.
    chosen
        The user's choice; by default what the checkpoint names.

    Raises
    ------
    WeightsError
        If neither names a known function.
    OptionError
        If a mask is missing or one too many.
    """
    function = chosen or network.normalization
    if function not in (NOISE, *MASKS):
        raise WeightsError(
            f"{network.name} does not say how its input is normalised (found {function!r}); "
            f"choose one of {', '.join((NOISE, *MASKS))} with emhance import-keras --normalization NAME."
        )
    if (function == NOISE) == has_mask:
        raise OptionError(
            f"{network.name} was trained {'with' if function != NOISE else 'without'} a mask ({function}); "
            f"{'leave the mask out' if has_mask else 'give a mask'} or choose another network."
        )
    return function


def padding(shape: tuple[int, ...], stride: int) -> list[tuple[int, int]]:
    """Voxels added at the end of each axis: up to the next multiple of the stride, at least one; the third axis like the second.

    >>> padding((128, 100, 90), 16)
    [(0, 16), (0, 12), (0, 12)]
    """
    first, second = (stride - n % stride for n in shape[:2])
    return [(0, first), (0, second), (0, second)]


def tile_starts(shape: tuple[int, ...], tile: int, stride: int, mask: NDArray[np.floating] | None) -> Iterator[Index]:
    """First voxels of the tiles, in the order z, y, x; those without a voxel of the (unpadded) mask are left out."""
    for z, y, x in product(*(range(0, n - (tile - 1), stride) for n in shape)):
        if mask is None or np.any(mask[z : z + tile, y : y + tile, x : x + tile]):
            yield (z, y, x)


def remove_small_components(data: NDArray[np.float64], fraction: float) -> NDArray[np.float64]:
    """Set everything but large connected components to the map's minimum, as the reference program does.

    Parameters
    ----------
    data
        Enhanced map, ``(nz, ny, nx)``.
    fraction
        Share of all voxels above the threshold that a component must exceed to stay, 0-1.

    Raises
    ------
    OptionError
        If the fraction is 1 or more.
    MapContentError
        If the map's outside is denser than its threshold.
    """
    from skimage.filters import threshold_otsu

    if fraction >= 1:
        raise OptionError(f"The cleaning strength must be below 1, not {fraction:g}.")
    radius = min(data.shape) // 2
    distance = distances(data.shape)
    background = float(np.mean(data[distance > radius]))
    otsu: Any = threshold_otsu
    threshold = 0.5 * (float(np.mean(data[distance < int(radius * 0.33)])) + float(otsu(data)))
    if not background < threshold:
        raise MapContentError(
            f"Cleaning fails: the map's outside has mean {background:g}, not below the threshold {threshold:g}; "
            "leave out the cleaning."
        )
    closed = ndimage.grey_erosion(ndimage.grey_dilation(data, size=3), size=3)
    labels, _ = ndimage.label(closed >= threshold, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel())
    keep = sizes > fraction * sizes[1:].sum()
    keep[0] = False
    return np.where(keep[labels], data, data.min())
