"""From a normalised box to an enhanced one: tiles, slab by slab, on the CPU, one GPU or many.

The result does not depend on any of this: not on the tile size, the batch size, the slabs, the threads or the devices.
"""

from __future__ import annotations

import copy
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from emhance.errors import DeviceError
from emhance.maps.volume import FloatArray
from emhance.network.devices import network_memory
from emhance.network.memory import large_blocks_apart
from emhance.network.streaming import stream
from emhance.network.unet import UNet, channels_last
from emhance.steps.tiling import Tile, TileGrid, Triple

logger = logging.getLogger("emhance")

SLAB = {"cpu": 16, "cuda": 64}
"""Planes of the input that enter the network at a time."""

BYTES_PER_FEATURE = 240
"""Memory that streaming takes for every column of voxels along z and every feature at half the resolution, in float32; from the
peak memory at 512³ with 64 features."""

SMALLEST_TILE = 32
"""A tile is not split below this edge when memory runs out."""

Progress = Callable[[int, int], None]
"""Called with the voxels done and the voxels to do."""


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """How the network is run; none of it changes the result beyond rounding."""

    devices: tuple[torch.device, ...] = (torch.device("cpu"),)
    precision: torch.dtype = torch.float32
    batch_size: int | None = None
    tile_size: int | None = None


def bytes_per_column(network: UNet) -> float:
    """Memory that streaming takes for every column of voxels along z, in float32: mostly the features at half the resolution."""
    return float(BYTES_PER_FEATURE * network.shape.channels[0])


def infer(
    network: UNet,
    data: FloatArray,
    config: InferenceConfig | None = None,
    *,
    region: tuple[Triple, Triple] | None = None,
    progress: Progress | None = None,
) -> FloatArray:
    """Run the network over a box.

    Parameters
    ----------
    network
        The network, on the CPU.
    data
        Normalised density at the network's voxel size, shape ``(nz, ny, nx)``.
    config
        Devices and how to use them.
    region
        First and one-past-last voxel, zyx, of the part of the output that is wanted; it grows outwards to multiples of the
        network's alignment, and the rest stays 0.
    progress
        Called now and then.

    Returns
    -------
    ndarray
        Enhanced density, same shape, float32.

    Raises
    ------
    DeviceError
        If a GPU's memory does not hold the smallest tile.
    """
    config = config or InferenceConfig()
    run = _Run(network, data, config, progress or (lambda done, total: None))
    return run.result(region)


class _Run:
    """One box on its way through the network."""

    def __init__(self, network: UNet, data: FloatArray, config: InferenceConfig, progress: Progress) -> None:
        self._network, self._data, self._config, self._progress = network, data, config, progress
        self._out = np.zeros(data.shape, np.float32)
        self._batches: queue.SimpleQueue[list[Tile]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._done = self._total = 0
        self._stop = threading.Event()

    def result(self, region: tuple[Triple, Triple] | None) -> FloatArray:
        tiles = list(self._grid().tiles(*(region or (None, None))))
        self._total = _voxels(tiles)
        for batch in _batches(tiles, self._config.batch_size or 1):
            self._batches.put(batch)
        devices = self._config.devices
        # Laid out before any thread begins: one that changes the layout of weights another convolves with gives garbage.
        networks = {device: self._network_on(device) for device in set(devices)}
        if len(devices) == 1:
            with large_blocks_apart():
                self._work(networks[devices[0]], devices[0])
            return self._out
        with ThreadPoolExecutor(len(devices)) as pool:
            try:
                workers = [pool.submit(self._work, networks[device], device) for device in devices]
                wait(workers, return_when=FIRST_EXCEPTION)
            finally:
                self._stop.set()  # one failure, or the user's interruption, ends the others as well
            for worker in workers:
                worker.result()
        return self._out

    def _grid(self) -> TileGrid:
        step = self._network.alignment
        nz, ny, nx = (-(-n // step) * step for n in self._data.shape)
        size = self._config.tile_size
        if size is not None:
            tile = (size, size, size)
        else:
            columns = min(network_memory(device) for device in self._config.devices) / bytes_per_column(self._network)
            halo = self._network.receptive_radius
            splits_y = splits_x = 1
            while (ny / splits_y + 2 * halo * (splits_y > 1)) * (nx / splits_x + 2 * halo * (splits_x > 1)) > columns:
                if ny / splits_y >= nx / splits_x:
                    splits_y += 1
                else:
                    splits_x += 1
                if min(ny / splits_y, nx / splits_x) < SMALLEST_TILE:
                    break
            tile = (-(-nz // len(self._config.devices)), -(-ny // splits_y), -(-nx // splits_x))
            tile = (_round_up(tile[0], step), _round_up(tile[1], step), _round_up(tile[2], step))
        return TileGrid(shape=(nz, ny, nx), tile=tile, halo=self._network.receptive_radius, alignment=step)

    def _network_on(self, device: torch.device) -> UNet:
        """A copy of the network on a device, so that the caller's stays as it is, whatever else they do with it meanwhile."""
        network = copy.deepcopy(self._network).to(device=device, dtype=self._config.precision)
        return channels_last(network).eval()

    def _work(self, network: UNet, device: torch.device) -> None:
        while not self._stop.is_set():
            try:
                tiles = self._batches.get_nowait()
            except queue.Empty:
                return
            try:
                self._enhance(network, tiles, device)
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                smaller = list(_smaller(tiles, self._grid()))
                with self._lock:  # smaller tiles have more halo, so that there is more to do
                    self._total += sum(map(_voxels, smaller)) - _voxels(tiles)
                for batch in smaller:
                    self._batches.put(batch)

    def _enhance(self, network: UNet, tiles: list[Tile], device: torch.device) -> None:
        """Run one batch of tiles with windows of the same shape; on failure it counts as not begun."""
        z = done = 0
        try:
            with torch.inference_mode():
                for part in stream(network, self._slabs(tiles, device)):
                    self._write(tiles, part, z)
                    z += part.shape[2]
                    done += part.numel()
                    self._advance(part.numel())
                    if self._stop.is_set():
                        return
        except torch.cuda.OutOfMemoryError:
            self._advance(-done)
            raise

    def _advance(self, voxels: int) -> None:
        with self._lock:
            self._done += voxels
            self._progress(self._done, self._total)

    def _slabs(self, tiles: list[Tile], device: torch.device) -> Iterator[Tensor]:
        planes, height, width = tiles[0].window_shape
        thickness = SLAB[device.type]
        for start in range(0, planes, thickness):
            stop = min(start + thickness, planes)
            slab = np.zeros((len(tiles), 1, stop - start, height, width), np.float32)
            for target, tile in zip(slab[:, 0], tiles, strict=True):
                oz, oy, ox = tile.window_start
                source = self._data[oz + start : oz + stop, oy : oy + height, ox : ox + width]
                target[: source.shape[0], : source.shape[1], : source.shape[2]] = source
            yield torch.from_numpy(slab).to(device=device, dtype=self._config.precision)

    def _write(self, tiles: list[Tile], part: Tensor, z: int) -> None:
        values = part[:, 0].float().cpu().numpy()
        for tile, planes in zip(tiles, values, strict=True):
            in_z, in_y, in_x = tile.core_in_window
            first, last = max(in_z.start, z), min(in_z.stop, z + len(planes))
            if first >= last:
                continue
            shift = tile.window_start[0]
            target = self._out[shift + first : shift + last, tile.core[1], tile.core[2]]
            source = planes[first - z : last - z, in_y, in_x]
            target[...] = source[: target.shape[0], : target.shape[1], : target.shape[2]]


def _batches(tiles: list[Tile], size: int) -> Iterator[list[Tile]]:
    """Group tiles whose windows have the same shape, at most `size` at a time."""
    by_shape: dict[Triple, list[Tile]] = {}
    for tile in tiles:
        by_shape.setdefault(tile.window_shape, []).append(tile)
    for group in by_shape.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]


def _voxels(tiles: list[Tile]) -> int:
    return sum(tile.window_voxels for tile in tiles)


def _smaller(tiles: list[Tile], grid: TileGrid) -> Iterator[list[Tile]]:
    """What to do instead of a batch that did not fit into the GPU's memory: half the batch, or half the tile."""
    if len(tiles) > 1:
        half = len(tiles) // 2
        logger.warning("The GPU ran out of memory; going on with %d tiles at a time.", half)
        yield tiles[:half]
        yield tiles[half:]
        return
    (tile,) = tiles
    edges = [b - a for a, b in zip(tile.core_start, tile.core_stop, strict=True)]
    z, y, x = edges
    if max(y, x) < 2 * SMALLEST_TILE:
        raise DeviceError(f"The GPU's memory does not hold a tile of {y} x {x} voxels, the smallest; use --gpus none.")
    logger.warning("The GPU ran out of memory; going on with smaller tiles.")
    smaller = (z, -(-y // 2), x) if y >= x else (z, y, -(-x // 2))
    rounded = _round_up(smaller[1], grid.alignment), _round_up(smaller[2], grid.alignment)
    finer = TileGrid(shape=grid.shape, tile=(z, *rounded), halo=grid.halo, alignment=grid.alignment)
    for part in finer.tiles(tile.core_start, tile.core_stop):
        yield [part]


def _round_up(n: int, step: int) -> int:
    return -(-n // step) * step
