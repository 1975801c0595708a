import numpy as np
import pytest
from half_map_signals import filtered_noise, noisy_pair, radius

from emhance.validation.local_resolution import local_resolution, window_edge


def sharp_cut(n: int, resolution: float, seed: int) -> np.ndarray:
    """Noise that ends at a resolution; more power would leak from the window into the next shell."""
    return filtered_noise(n, 2.5 * (radius(n) < 1 / resolution), seed)


def test_both_halves_of_a_box_keep_their_own_resolution():
    n = 64
    fine, coarse = sharp_cut(n, 4.0, 1), sharp_cut(n, 8.0, 2)
    signal = np.where(np.arange(n)[:, None, None] < n // 2, fine, coarse)
    half1, half2 = noisy_pair(signal, 1.0)
    mask = np.zeros((n, n, n), np.float32)
    mask[8:24, 20:44, 20:44] = mask[40:56, 20:44, 20:44] = 1
    local = local_resolution(half1, half2, mask, voxel_size=1.0, resolution=4.0)
    assert local.shape == (n, n, n)
    assert local.dtype == np.float32
    assert np.median(local[:32][mask[:32] > 0]) == pytest.approx(4.0, rel=0.1)
    assert np.median(local[32:][mask[32:] > 0]) == pytest.approx(8.0, rel=0.25)  # a window has 28 / 8 = 3.5 shells up to there


def test_outside_the_mask_stands_the_coarsest_value():
    n = 48
    half1, half2 = noisy_pair(sharp_cut(n, 5.0, 3), 0.5)
    mask = np.zeros((n, n, n), np.float32)
    mask[12:36, 12:36, 12:36] = 1
    local = local_resolution(half1, half2, mask, voxel_size=1.0, resolution=5.0)
    assert np.isfinite(local).all()
    assert np.ptp(local[mask == 0]) == 0
    assert local.max() == local[0, 0, 0]


def test_an_empty_mask_gives_no_value():
    half1, half2 = noisy_pair(np.zeros((32, 32, 32)), 1.0)
    assert np.isnan(local_resolution(half1, half2, np.zeros_like(half1), voxel_size=1.0, resolution=5.0)).all()


def test_the_window_fits_the_box():
    assert window_edge((16, 40, 40), voxel_size=1.0, resolution=10.0) == 16
    assert window_edge((200, 200, 200), voxel_size=1.0, resolution=3.0) % 2 == 0
