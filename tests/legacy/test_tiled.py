"""The corrected way of running tiles: whole, seamless, on any box."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emhance.errors import OptionError, WeightsError
from emhance.legacy.tiled import axis_weights, run_tiled, tile_positions


class Recorder(torch.nn.Module):
    """Returns its input (times a factor) and counts the tiles it saw."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor, self.tiles, self.batches = factor, 0, []

    def forward(self, x):
        self.tiles += x.shape[0]
        self.batches.append(x.shape[0])
        return self.factor * x


def random_box(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(40, 33, 50), (16, 16, 16), (5, 16, 30), (3, 2, 1), (15, 14, 13), (64, 17, 18)], ids=str)
@pytest.mark.parametrize(("stride", "batch_size"), [(None, 1), (4, 3), (16, 2), (1, 7)])
def test_an_identity_network_returns_its_input(shape, stride, batch_size):
    if stride == 1 and np.prod(shape) > 5000:
        stride = 5
    volume = random_box(shape)
    result = run_tiled(Recorder(), volume, tile=16, stride=stride, batch_size=batch_size)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, volume, atol=2e-6)


@given(n=st.integers(1, 300), tile=st.sampled_from([8, 16, 64]), data=st.data())
@settings(max_examples=60, deadline=None)
def test_tiles_cover_the_axis_and_weights_sum_to_one(n, tile, data):
    stride = data.draw(st.integers(max(1, tile // 8), tile))
    starts, (before, after) = tile_positions(n, tile=tile, stride=stride)
    assert starts[0] == 0
    assert starts[-1] + tile == before + n + after
    assert all(0 < b - a <= stride for a, b in pairwise(starts))
    weights = axis_weights(starts, tile)
    total = np.zeros(before + n + after)
    for start, weight in zip(starts, weights, strict=True):
        assert weight.min() > 0
        total[start : start + tile] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_weights_are_smooth_where_tiles_overlap():
    starts, _ = tile_positions(200, tile=64, stride=48)
    for weight in axis_weights(starts, 64):
        assert np.abs(np.diff(weight)).max() < 0.15


def test_every_voxel_of_the_box_lies_off_the_edge_of_some_tile():
    starts, (before, after) = tile_positions(128, tile=64, stride=48)
    assert min(before, after) >= 8
    assert starts[0] == 0


def test_a_network_that_depends_on_the_tile_leaves_no_step_between_tiles():
    class TileMean(torch.nn.Module):
        def forward(self, x):
            return x.mean((2, 3, 4), keepdim=True).expand_as(x)

    ramp = np.broadcast_to(np.arange(96, dtype=np.float32), (16, 16, 96))
    result = run_tiled(TileMean(), np.ascontiguousarray(ramp), tile=16, stride=12)
    steps = np.diff(result[8, 8])
    assert steps.min() >= -1e-4
    assert steps.max() < 6  # neighbouring tiles differ by 12


def test_only_tiles_at_the_mask_are_computed():
    volume, mask = random_box((48, 48, 48)), np.zeros((48, 48, 48), bool)
    mask[20:24, 20:24, 20:24] = True
    everything, part = Recorder(), Recorder()
    whole = run_tiled(everything, volume, tile=16, stride=12)
    masked = run_tiled(part, volume, tile=16, stride=12, mask=mask)
    assert part.tiles < everything.tiles / 4
    np.testing.assert_array_equal(masked[mask], whole[mask])


def test_batches_are_filled_and_progress_reaches_the_end():
    seen, network = [], Recorder()
    run_tiled(
        network, random_box((40, 40, 40)), tile=16, stride=16, batch_size=4, progress=lambda done, n: seen.append((done, n))
    )
    assert all(size == 4 for size in network.batches[:-1])
    assert seen[-1] == (network.tiles, network.tiles)


@pytest.mark.parametrize("options", [{"stride": 0}, {"stride": 17}, {"batch_size": 0}], ids=str)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(OptionError):
        run_tiled(Recorder(), random_box((16, 16, 16)), tile=16, **options)


def test_a_network_that_breaks_down_is_reported():
    with pytest.raises(WeightsError, match="not finite"):
        run_tiled(Recorder(float("nan")), random_box((16, 16, 16)), tile=16)
