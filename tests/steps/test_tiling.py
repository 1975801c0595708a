"""Tiles cover the box, once, with all that their values depend on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emhance.steps.tiling import Tile, TileGrid

edge = st.integers(1, 14).map(lambda n: 8 * n)
tile_edge = st.integers(8, 90)
halo = st.sampled_from([0, 8, 24, 64])


def covered(grid: TileGrid, tiles: list[Tile]) -> np.ndarray:
    count = np.zeros(grid.shape, np.int32)
    for tile in tiles:
        count[tile.core] += 1
    return count


@settings(max_examples=60, deadline=None)
@given(st.tuples(edge, edge, edge), st.tuples(tile_edge, tile_edge, tile_edge), halo)
def test_every_voxel_lies_in_one_core_and_every_window_holds_its_halo(
    shape: tuple[int, int, int], tile: tuple[int, int, int], halo: int
) -> None:
    grid = TileGrid(shape=shape, tile=tile, halo=halo, alignment=8)
    tiles = list(grid.tiles())
    assert (covered(grid, tiles) == 1).all()
    for item in tiles:
        for axis in range(3):
            core = item.core_start[axis], item.core_stop[axis]
            window = item.window_start[axis], item.window_stop[axis]
            assert core[1] - core[0] <= max(8, tile[axis])
            assert window[0] == max(0, core[0] - halo)
            assert window[1] == min(shape[axis], core[1] + halo)
            assert all(value % 8 == 0 for value in (*core, *window))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_region_is_covered_once_and_little_more_is(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(edge, edge, edge))
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    grid = TileGrid(shape=shape, tile=(24, 40, 16), halo=16, alignment=8)
    count = covered(grid, list(grid.tiles(start, stop)))
    assert count.max() == 1
    aligned = tuple(slice(a // 8 * 8, -(-b // 8) * 8) for a, b in zip(start, stop, strict=True))
    assert count[aligned].all()
    assert count.sum() == count[aligned].size


def test_the_core_is_found_again_in_its_window() -> None:
    grid = TileGrid(shape=(64, 48, 80), tile=(16, 16, 32), halo=16, alignment=8)
    box = np.arange(64 * 48 * 80).reshape(grid.shape)
    for tile in grid.tiles():
        window = box[tuple(slice(a, b) for a, b in zip(tile.window_start, tile.window_stop, strict=True))]
        assert window.shape == tile.window_shape
        assert window.size == tile.window_voxels
        assert np.array_equal(window[tile.core_in_window], box[tile.core])


def test_cores_come_out_even() -> None:
    grid = TileGrid(shape=(8, 8, 120), tile=(8, 8, 112), halo=8, alignment=8)
    widths = [tile.core_stop[2] - tile.core_start[2] for tile in grid.tiles()]
    assert sorted(widths) == [56, 64]


def test_a_tile_as_large_as_the_box_is_the_box() -> None:
    grid = TileGrid(shape=(40, 48, 56), tile=(64, 64, 64), halo=96, alignment=8)
    (tile,) = grid.tiles()
    assert (tile.core_start, tile.core_stop) == ((0, 0, 0), grid.shape)
    assert tile.window_shape == grid.shape


@pytest.mark.parametrize("tile", [1, 7, 8, 9, 15])
def test_a_tile_is_never_smaller_than_the_alignment(tile: int) -> None:
    grid = TileGrid(shape=(16, 16, 16), tile=(tile, tile, tile), halo=8, alignment=8)
    assert len(list(grid.tiles())) == 8
