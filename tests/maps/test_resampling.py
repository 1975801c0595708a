"""Resampling keeps values, places and boxes."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emhance.maps.resampling import VOXEL_SIZE_TOLERANCE, fourier_resample, plan_resampling

BOXES = [(48, 48, 48), (47, 47, 47), (40, 51, 63), (21, 33, 50)]
VOXEL_SIZES = [0.5, 0.83, 1.0, 1.07, 1.34, 2.0, 3.0]


def waves(shape: tuple[int, int, int], limit: float, new_shape: tuple[int, int, int] | None = None) -> np.ndarray:
    """A sum of plane waves up to `limit` cycles per box in each axis, sampled on a grid of `new_shape`."""
    rng = np.random.default_rng(5)
    grid = [np.arange(n) / n for n in (new_shape or shape)]
    total = np.full(new_shape or shape, 0.3)
    for _ in range(12):
        k = [int(rng.integers(-int(limit), int(limit) + 1)) for _ in range(3)]
        phase = rng.uniform(0, 2 * np.pi)
        z, y, x = (2 * np.pi * ki * gi for ki, gi in zip(k, grid, strict=True))
        total = total + np.cos(z[:, None, None] + y[None, :, None] + x[None, None, :] + phase)
    return total.astype(np.float32)


@pytest.mark.parametrize("old", [(16, 16, 16), (15, 18, 21)])
@pytest.mark.parametrize("new", [(24, 24, 24), (25, 27, 23), (13, 13, 13), (12, 14, 30)])
def test_waves_are_sampled_where_they_are(old: tuple[int, int, int], new: tuple[int, int, int]) -> None:
    data, expected = waves(old, 5), waves(old, 5, new)
    resampled = fourier_resample(data, new)
    assert resampled.dtype == np.float32
    np.testing.assert_allclose(resampled, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("old", [(16, 16, 16), (15, 18, 20)])
@pytest.mark.parametrize("factor", [1.5, 2.0, 2.1])
def test_finer_and_back_restores_every_map(old: tuple[int, int, int], factor: float) -> None:
    data = np.random.default_rng(0).normal(size=old).astype(np.float32)  # up to Nyquist, and its corners
    finer = tuple(round(n * factor) for n in old)
    np.testing.assert_allclose(fourier_resample(fourier_resample(data, finer), old), data, atol=1e-5)


def test_finer_voxels_interpolate_the_old_ones() -> None:
    data = np.random.default_rng(0).normal(size=(9, 10, 12)).astype(np.float32)
    np.testing.assert_allclose(fourier_resample(data, (18, 20, 24))[::2, ::2, ::2], data, atol=1e-5)


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("voxel_size", VOXEL_SIZES)
def test_round_trip_of_a_band_limited_map(box: tuple[int, int, int], voxel_size: float) -> None:
    plan = plan_resampling(box, voxel_size, 1.0)
    limit = min(min(n, m // r) for n, m, r in zip(box, plan.new_shape, plan.repeats, strict=True))
    data = waves(box, (limit - 1) // 2)
    there = plan.forward(data)
    assert there.shape == plan.new_shape
    back = plan.backward(there)
    assert back.shape == box
    np.testing.assert_allclose(back, data, atol=1e-4 * np.abs(data).max())


@pytest.mark.parametrize("voxel_size", [0.99, 1.0, 1.01])
def test_a_voxel_size_near_the_target_is_left_alone(voxel_size: float) -> None:
    plan = plan_resampling((30, 31, 32), voxel_size, 1.0)
    data = np.zeros((30, 31, 32), np.float32)
    assert plan.is_identity
    assert plan.voxel_size == voxel_size
    assert plan.forward(data) is data
    assert plan.backward(data) is data


@settings(max_examples=300, deadline=None)
@given(st.tuples(*[st.integers(8, 700)] * 3), st.floats(0.3, 5.0), st.floats(0.6, 2.0))
def test_every_plan_meets_the_target_on_every_axis(box: tuple[int, int, int], voxel_size: float, target: float) -> None:
    plan = plan_resampling(box, voxel_size, target)
    assert plan.shape == box
    for n, repeats, new in zip(plan.shape, plan.repeats, plan.new_shape, strict=True):
        assert abs(voxel_size * n * repeats / new - target) <= (VOXEL_SIZE_TOLERANCE + 1e-9) * target
        if n * voxel_size / target >= 50:
            assert repeats == 1


def test_peak_memory_stays_below_three_maps() -> None:
    data = np.ones((320, 320, 320), np.float32)
    plan = plan_resampling(data.shape, 0.7, 1.0)
    for data_in, step in ((data, plan.forward), (None, plan.backward)):
        given_in = np.ones(plan.new_shape, np.float32) if data_in is None else data_in
        tracemalloc.start()
        step(given_in)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert given_in.nbytes + peak < 3 * data.nbytes
