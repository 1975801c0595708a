import json

import numpy as np
import pytest
from half_map_signals import ball, filtered_noise, radius

from emhance.validation.confidence import (
    CALIBRATION,
    DENSITY_LEVEL,
    Calibration,
    confidence_map,
    local_reliability,
    shipped_calibration,
)

N = 48


def structure(seed: int) -> np.ndarray:
    return filtered_noise(N, 3 * np.exp(-15.0 * radius(N) ** 2), seed) * ball(N, 0.3)


def test_halves_that_agree_are_reliable_where_there_is_density():
    signal = structure(1)
    reliability = local_reliability(signal, signal, voxel_size=1.0, resolution=3.0)
    assert reliability.dtype == np.float32
    assert reliability[ball(N, 0.2) > 0].mean() > 0.7
    assert reliability[0, 0, 0] < 1e-3


def test_halves_without_anything_in_common_are_not():
    reliability = local_reliability(structure(1), structure(2), voxel_size=1.0, resolution=3.0)
    assert reliability[ball(N, 0.2) > 0].mean() < 0.35


def test_it_is_the_reliability_of_both_halves_together_in_closed_form():
    """Half maps with signal and noise of equal power correlate by 1/2; both together are reliable by 2/3.

    The density is Gaussian, so its height is 1 / 3.09 of its 99.9th percentile.
    """
    signal, first, second = (filtered_noise(64, np.ones((64, 64, 33)), seed) for seed in (1, 2, 3))
    reliability = local_reliability(signal + first, signal + second, voxel_size=0.5, resolution=3.0)
    assert np.median(reliability) == pytest.approx(2 / 3 / (1 + (DENSITY_LEVEL * 3.09) ** 2), abs=0.03)


def test_the_window_grows_with_the_resolution_so_that_chance_is_no_agreement():
    coarse = [filtered_noise(N, np.exp(-150.0 * radius(N) ** 2), seed) for seed in (4, 5)]
    narrow, wide = (local_reliability(*coarse, voxel_size=1.0, resolution=resolution).mean() for resolution in (2.0, 8.0))
    assert wide < 0.75 * narrow


def test_the_scale_of_the_maps_does_not_matter():
    a, b = structure(1), structure(1) + 0.3 * structure(2)
    assert np.allclose(
        local_reliability(a, b, voxel_size=1.2, resolution=3.0),
        local_reliability(9 * a, 9 * b, voxel_size=1.2, resolution=3.0),
        atol=1e-4,
    )


def test_slabs_leave_no_seams():
    a, b = structure(1), structure(1) + 0.5 * structure(2)
    turned = local_reliability(
        a.transpose(2, 1, 0).copy(), b.transpose(2, 1, 0).copy(), voxel_size=1.0, resolution=3.0
    ).transpose(2, 1, 0)
    assert np.abs(local_reliability(a, b, voxel_size=1.0, resolution=3.0) - turned).max() < 2e-2  # the highest density is sampled


def test_the_calibration_is_applied():
    a = structure(1)
    half = Calibration(np.array([0.0, 1.0]), np.array([0.0, 0.5]), "a test")
    raw = local_reliability(a, a, voxel_size=1.0, resolution=3.0)
    assert np.allclose(confidence_map(a, a, voxel_size=1.0, resolution=3.0, calibration=half), 0.5 * raw, atol=1e-5)


def test_the_shipped_curve_rises_from_nothing_and_never_falls():
    curve = shipped_calibration()
    assert curve.reliability[0] == curve.confidence[0] == 0
    assert curve.reliability[-1] == 1
    assert (np.diff(curve.reliability) > 0).all()
    assert (np.diff(curve.confidence) >= 0).all()
    assert curve.confidence.max() <= 1
    assert json.loads(CALIBRATION.read_text())["fitted_on"]
