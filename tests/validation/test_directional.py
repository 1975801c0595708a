import numpy as np
from half_map_signals import filtered_noise, noisy_pair, radius

from emhance.validation.directional import directional_fsc

N = 64


def directional(gain: np.ndarray, noise: float = 0.3):
    half1, half2 = noisy_pair(filtered_noise(N, gain, 1), noise)
    F, G = (np.fft.rfftn(half).astype(np.complex64) for half in (half1, half2))
    return directional_fsc(F, G, (N, N, N), voxel_size=1.0)


def test_all_directions_agree_where_the_signal_is_isotropic():
    result = directional(np.exp(-30.0 * radius(N) ** 2))
    assert result.fsc.shape == (len(result.directions), len(result.frequency))
    assert np.std(1 / result.resolution) * N < 1.0  # within a shell


def test_the_direction_that_was_blurred_is_the_worst():
    f = np.fft.fftfreq(N)
    gain = np.exp(-20.0 * radius(N) ** 2 - 80.0 * f[:, None, None] ** 2)
    result = directional(gain)
    worst = result.directions[np.argmax(result.resolution)]
    best = result.directions[np.argmin(result.resolution)]
    assert abs(worst[0]) > 0.9  # z
    assert abs(best[0]) < 0.35
    # closed form along z, averaged over the cone by its axis alone
    power = np.exp(-2 * 100.0 * result.frequency**2)
    expected = power / (power + 0.09)
    along = result.fsc[np.argmax(np.abs(result.directions[:, 0]))]
    assert np.abs(along - expected)[6:20].mean() < 0.12


def test_directions_are_unit_vectors_spread_over_the_half_sphere():
    directions = directional(np.ones((N, N, N // 2 + 1))).directions
    assert np.allclose(np.linalg.norm(directions, axis=1), 1.0)
    assert (directions[:, 2] > 0).all()
    overlap = np.abs(directions @ directions.T) - np.eye(len(directions))
    assert overlap.max() < np.cos(np.deg2rad(8))
