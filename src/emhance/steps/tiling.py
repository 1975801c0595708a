"""Cut a box into tiles whose results fit together exactly.

A tile has a core, which is its share of the output, and a window around it, which is its input: the core and a halo as
wide as the network's receptive field. Windows end at the box's own faces, so that every voxel sees what it would see if
the whole box were computed at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Tile:
    """One tile: half-open ranges of voxels along z, y and x."""

    core_start: Triple
    core_stop: Triple
    window_start: Triple
    window_stop: Triple

    @property
    def core(self) -> tuple[slice, slice, slice]:
        """The tile's share of the output, in the box."""
        return _slices(self.core_start, self.core_stop)

    @property
    def core_in_window(self) -> tuple[slice, slice, slice]:
        """The same share, within the window's result."""
        start = _minus(self.core_start, self.window_start)
        return _slices(start, _minus(self.core_stop, self.window_start))

    @property
    def window_shape(self) -> Triple:
        """Edges of the window in voxels."""
        return _minus(self.window_stop, self.window_start)

    @property
    def window_voxels(self) -> int:
        """Number of voxels of the window."""
        z, y, x = self.window_shape
        return z * y * x


@dataclass(frozen=True, kw_only=True)
class TileGrid:
    """How boxes are cut.

    Parameters
    ----------
    shape
        The box ``(nz, ny, nx)``; every edge a multiple of `alignment`.
    tile
        Largest core along each axis, voxels; rounded down to a multiple of `alignment`, cores come out even.
    halo
        Voxels around a core that its values depend on; a multiple of `alignment`.
    alignment
        Windows start and end at multiples of it.
    """

    shape: Triple
    tile: Triple
    halo: int
    alignment: int

    def tiles(self, start: Triple | None = None, stop: Triple | None = None) -> Iterator[Tile]:
        """Yield the tiles that cover the region from `start` to `stop` (default: the whole box), in z, y, x order."""
        starts, stops = start or (0, 0, 0), stop or self.shape
        ranges = [list(self._cores(axis, starts[axis], stops[axis])) for axis in range(3)]
        for cores in itertools.product(*ranges):
            core_start, core_stop = _triple(a for a, _ in cores), _triple(b for _, b in cores)
            window_start = _triple(max(0, a - self.halo) for a in core_start)
            window_stop = _triple(min(n, b + self.halo) for n, b in zip(self.shape, core_stop, strict=True))
            yield Tile(core_start, core_stop, window_start, window_stop)

    def _cores(self, axis: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
        step = self.alignment
        first, last = start // step, -(-stop // step)
        largest = max(1, self.tile[axis] // step)
        count = max(1, -(-(last - first) // largest))
        edges = [first + round(i * (last - first) / count) for i in range(count + 1)]
        for a, b in itertools.pairwise(edges):
            if a < b:
                yield a * step, b * step


def _slices(start: Triple, stop: Triple) -> tuple[slice, slice, slice]:
    z, y, x = (slice(a, b) for a, b in zip(start, stop, strict=True))
    return z, y, x


def _minus(a: Triple, b: Triple) -> Triple:
    return _triple(p - q for p, q in zip(a, b, strict=True))


def _triple(values: Iterator[int]) -> Triple:
    z, y, x = values
    return z, y, x
