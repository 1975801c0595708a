"""Run an imported network over a whole box, the corrected way.

Such networks normalise over space, so a tile's result depends on where the tile lies and neighbouring tiles disagree a little.
They are blended by smooth weights that sum to one at every voxel, and the box is continued by reflection so that no
voxel lies at the edge of all its tiles. Boxes of any shape work, also those smaller than a tile.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from emhance.errors import OptionError
from emhance.legacy.prediction import Progress, predict_tiles
from emhance.maps.volume import FloatArray

MARGIN_SHARE = 8
"""The box is continued on every side by this part of a tile."""

STRIDE_SHARE = 3 / 4
"""Default step between tiles as a share of the tile: each edge overlaps its neighbour by a quarter or more."""

ALIGNMENT_SHARE = 4
"""Tiles start at multiples of this part of a tile.

So the coarse grids of all tiles fall together, and the slabs over which a network normalises: on a strided network shifts by
other amounts give visibly different results.
"""

WEIGHT_FLOOR = 1e-3
"""Smallest weight of a tile's voxel, beside the largest of 1: nowhere is a tile ignored."""


def run_tiled(
    net: nn.Module,
    volume: FloatArray,
    *,
    tile: int,
    stride: int | None = None,
    batch_size: int = 1,
    mask: NDArray[np.bool_] | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> FloatArray:
    """Enhance a normalised box by overlapping tiles.

    Parameters
    ----------
    net
        The network, batches ``(n, 1, tile, tile, tile)`` to the same shape.
    volume
        Normalised density on the network's voxel size, ``(nz, ny, nx)``, any box.
    tile
        Edge of a tile in voxels: the one the network was made for.
    stride
        Largest step between tiles in voxels, 1 to `tile`; by default three quarters of a tile. Tiles are spread evenly over
        multiples of a quarter tile, so the true step may be smaller.
    batch_size
        Tiles at a time; changes the result by rounding only.
    mask
        Where the result matters; tiles without a voxel of it are not computed and count as zero.
    device
        Where the network runs.
    progress
        Called with the number of tiles done and their total.

    Returns
    -------
    FloatArray
        The network's output on the same box.

    Raises
    ------
    OptionError
        For a stride or batch size out of range.
    """
    stride = max(1, int(tile * STRIDE_SHARE)) if stride is None else stride
    if not 1 <= stride <= tile:
        raise OptionError(f"The stride must lie between 1 and the tile's {tile} voxels, not {stride}.")
    if batch_size < 1:
        raise OptionError(f"The batch size must be at least 1, not {batch_size}.")
    positions = [tile_positions(n, tile=tile, stride=stride) for n in volume.shape]
    starts, pads = [axis for axis, _ in positions], [pad for _, pad in positions]
    padded = np.pad(volume, pads, mode="reflect")
    weights = [axis_weights(axis_starts, tile) for axis_starts in starts]
    indices = list(product(range(len(starts[0])), range(len(starts[1])), range(len(starts[2]))))
    if mask is not None:
        inside = np.pad(mask, pads, mode="constant")
        indices = [i for i in indices if inside[_slices(starts, i, tile)].any()]
    corners = [(starts[0][i], starts[1][j], starts[2][k]) for i, j, k in indices]
    total = np.zeros(padded.shape, np.float32)
    predictions = predict_tiles(net, padded, corners, tile=tile, batch_size=batch_size, device=device, progress=progress)
    for (i, j, k), (_, prediction) in zip(indices, predictions, strict=True):
        weight = weights[0][i][:, None, None] * weights[1][j][None, :, None] * weights[2][k][None, None, :]
        total[_slices(starts, (i, j, k), tile)] += weight * prediction
    inner = tuple(slice(before, before + n) for (before, _), n in zip(pads, volume.shape, strict=True))
    return np.ascontiguousarray(total[inner])


def tile_positions(n: int, *, tile: int, stride: int) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Where tiles start along an axis of `n` voxels once it is padded, and by how much it is padded at each end.

    >>> tile_positions(128, tile=64, stride=48)
    ((0, 32, 80), (8, 8))
    >>> tile_positions(40, tile=64, stride=48)
    ((0,), (12, 12))
    """
    margin = tile // MARGIN_SHARE
    if n + 2 * margin <= tile or n <= tile - margin:
        before = (tile - n) // 2
        return (0,), (before, tile - n - before)
    unit = min(max(1, tile // ALIGNMENT_SHARE), stride)
    units = -(-(n + 2 * margin - tile) // unit)
    intervals = -(-units // (stride // unit))
    starts = tuple(i * units // intervals * unit for i in range(intervals + 1))
    return starts, (margin, starts[-1] + tile - n - margin)


def axis_weights(starts: tuple[int, ...], tile: int) -> list[FloatArray]:
    """Blending weights of each tile along one axis: smooth (Hann), never zero, and their sum over all tiles is one everywhere.

    Weights in three dimensions are products of these, and sum to one as well.
    """
    profile = WEIGHT_FLOOR + np.sin(np.pi * (np.arange(tile) + 0.5) / tile) ** 2
    total = np.zeros(starts[-1] + tile)
    for start in starts:
        total[start : start + tile] += profile
    return [(profile / total[start : start + tile]).astype(np.float32) for start in starts]


def _slices(starts: list[tuple[int, ...]], index: tuple[int, int, int], tile: int) -> tuple[slice, slice, slice]:
    z, y, x = (axis[i] for axis, i in zip(starts, index, strict=True))
    return slice(z, z + tile), slice(y, y + tile), slice(x, x + tile)
