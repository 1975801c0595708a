"""Run an imported network on tiles of a box, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from emhance.errors import WeightsError
from emhance.maps.volume import FloatArray

Progress = Callable[[int, int], None]
"""Called with the number of tiles done and their total."""


def predict_tiles(
    module: nn.Module,
    box: NDArray[np.floating],
    starts: Sequence[tuple[int, int, int]],
    *,
    tile: int | None = None,
    batch_size: int,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Iterator[tuple[tuple[int, int, int], FloatArray]]:
    """Yield every tile's first voxel and what the network makes of it, in the order of `starts`.

    Parameters
    ----------
    module
        The network, ``(n, 1, t, t, t)`` to the same shape; it is moved to `device`.
    box
        Normalised density, ``(nz, ny, nx)``; every tile lies inside.
    starts
        First voxels of the tiles.
    tile
        Edge of a tile in voxels; by default the network's own.
    batch_size
        Tiles at a time.
    device
        Where the network runs.
    progress
        Called after every batch.

    Raises
    ------
    WeightsError
        If the network returns values that are not finite.
    """
    edge = int(getattr(module, "tile_size", 0)) if tile is None else tile
    module = module.to(device)
    for first in range(0, len(starts), batch_size):
        group = starts[first : first + batch_size]
        tiles = np.stack([box[z : z + edge, y : y + edge, x : x + edge] for z, y, x in group]).astype(np.float32, copy=False)
        with torch.inference_mode():
            predictions = module(torch.from_numpy(tiles).unsqueeze(1).to(device)).squeeze(1).float().cpu().numpy()
        if not np.isfinite(predictions).all():
            raise WeightsError("The imported network returns values that are not finite for this map; check its normalisation.")
        yield from zip(group, predictions, strict=True)
        if progress is not None:
            progress(min(first + batch_size, len(starts)), len(starts))
