import numpy as np
import pytest
from half_map_signals import ball, filtered_noise, noisy_pair, radius

from emhance.maps.fourier import fsc_curve, shell_frequencies
from emhance.validation.fsc import corrected_fsc, half_map_fsc
from emhance.validation.spectra import masked_spectrum, masked_transform, randomise_phases

N = 48


def test_identical_maps_correlate_fully():
    signal = filtered_noise(N, np.ones((N, N, N // 2 + 1)), 1)
    curves, _ = half_map_fsc(signal, signal, np.ones_like(signal), voxel_size=1.0)
    assert np.allclose(curves.unmasked, 1.0, atol=1e-5)
    assert np.allclose(curves.masked, 1.0, atol=1e-5)


def test_fsc_is_the_signal_to_noise_ratio_in_closed_form():
    signal = filtered_noise(64, np.exp(-30.0 * radius(64) ** 2), 2)
    half1, half2 = noisy_pair(signal, 0.5)
    curves, _ = half_map_fsc(half1, half2, np.ones_like(signal), voxel_size=1.0)
    power = np.exp(-60.0 * curves.frequency**2)
    expected = power / (power + 0.25)
    assert np.abs(curves.unmasked - expected)[6:].max() < 0.12
    assert np.abs(curves.unmasked - expected)[6:].mean() < 0.03


def test_resolution_is_where_the_closed_form_crosses():
    signal = filtered_noise(64, np.exp(-30.0 * radius(64, 1.3) ** 2), 2)
    half1, half2 = noisy_pair(signal, 0.5)
    curves, _ = half_map_fsc(half1, half2, np.ones_like(signal), voxel_size=1.3)
    crossing = np.sqrt(np.log((1 - 0.143) / 0.143 / 0.25) / 60.0)
    assert 1 / curves.resolution["unmasked"][0.143] == pytest.approx(crossing, abs=1 / (64 * 1.3))


def test_noise_that_only_the_mask_correlates_is_corrected_away():
    half1, half2 = noisy_pair(np.full((N, N, N), 5.0), 1.0)  # no structure beyond the constant, which the mask spreads
    signal = filtered_noise(N, radius(N) < 0.06, 3)
    small = ball(N, 0.12)
    curves, _ = half_map_fsc(half1 + 20 * signal, half2 + 20 * signal, small, voxel_size=1.0)
    outer = slice(8, 20)
    assert np.mean(curves.masked[outer]) > 0.15  # the sharp mask's own correlation
    assert abs(np.mean(curves.corrected[outer])) < 0.1


def test_correction_in_closed_form():
    masked, randomised = np.array([1.0, 0.9, 0.6, 0.2]), np.array([1.0, 0.9, 0.2, 0.2])
    assert np.allclose(corrected_fsc(masked, randomised, from_shell=2), [1.0, 0.9, 0.5, 0.0])


def test_randomised_phases_keep_amplitudes_and_what_lies_before():
    data = filtered_noise(N, np.ones((N, N, N // 2 + 1)), 4)
    F = np.fft.rfftn(data).astype(np.complex64)
    changed = F.copy()
    randomise_phases(changed, data.shape, from_shell=10, rng=np.random.default_rng(0))
    assert np.allclose(np.abs(changed), np.abs(F), rtol=1e-4)
    before = np.rint(radius(N) * N) < 10
    assert np.array_equal(changed[before], F[before])
    moved = np.fft.irfftn(changed, s=data.shape, axes=(0, 1, 2)).astype(np.float32)
    _, fsc = fsc_curve(data, moved, 1.0)
    assert np.allclose(fsc[1:10], 1.0, atol=1e-4)
    assert abs(fsc[12:].mean()) < 0.05


def test_masking_a_spectrum_is_masking_its_map():
    data, mask = filtered_noise(N, np.ones((N, N, N // 2 + 1)), 5), ball(N)
    expected = np.fft.rfftn(data * mask)
    assert np.allclose(masked_transform(data, mask), expected, atol=1e-2)
    assert np.allclose(masked_spectrum(np.fft.rfftn(data).astype(np.complex64), mask), expected, atol=1e-2)


def test_every_curve_has_the_axis_of_the_shells():
    half1, half2 = noisy_pair(np.zeros((32, 40, 48), np.float32), 1.0)
    curves, _ = half_map_fsc(half1, half2, np.ones((32, 40, 48), np.float32), voxel_size=2.0)
    assert np.array_equal(curves.frequency, shell_frequencies((32, 40, 48), 2.0))
    assert all(curve.shape == curves.frequency.shape for curve in curves.curves().values())
