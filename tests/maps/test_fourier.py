"""Facts of Fourier space: Parseval, closed forms, and agreement with plain full transforms."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import scipy.fft

from emhance.maps.fourier import (
    amplitude_profile,
    apply_b_factor,
    apply_radial,
    fsc_curve,
    fsc_mean,
    guinier_b_factor,
    low_pass,
    number_of_shells,
    resolution_at,
    shell_counts,
    shell_frequencies,
    shell_indices,
    shell_sums,
    shell_width,
)

SHAPES = [(16, 16, 16), (15, 15, 15), (12, 17, 20), (20, 13, 9)]


def noise(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def full_shells(shape: tuple[int, int, int]) -> np.ndarray:
    """Shell of every coefficient of the full spectrum, written out plainly."""
    k = np.meshgrid(*(np.fft.fftfreq(n, 1.0 / max(shape)) for n in shape), indexing="ij")
    return np.rint(np.sqrt(sum(x**2 for x in k))).astype(int)


def squared_distance(n: int, voxel_size: float) -> np.ndarray:
    axis = (np.arange(n) - n // 2) * voxel_size
    return axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_equal_those_over_the_full_spectrum(shape: tuple[int, int, int]) -> None:
    a, b = noise(shape), noise(shape, 1)
    A, B = np.fft.fftn(a.astype(float)), np.fft.fftn(b.astype(float))
    k, n = full_shells(shape).ravel(), number_of_shells(shape)

    def total(x: np.ndarray) -> np.ndarray:
        return np.bincount(k, x.ravel(), minlength=n)[:n]

    F, G = scipy.fft.rfftn(a), scipy.fft.rfftn(b)
    np.testing.assert_array_equal(shell_counts(shape), np.bincount(k, minlength=n)[:n])
    np.testing.assert_allclose(shell_sums(F, shape), total(np.abs(A) ** 2), rtol=1e-5)
    np.testing.assert_allclose(
        shell_sums(F, shape, G), total((A * B.conj()).real), rtol=1e-4, atol=1e-5 * shell_sums(F, shape).max()
    )


def test_parseval_holds_for_a_map_without_corners() -> None:
    data = low_pass(noise((18, 18, 18)), 1.0, 3.0)
    power = shell_sums(scipy.fft.rfftn(data), data.shape).sum() / data.size
    assert power == pytest.approx(np.sum(data.astype(float) ** 2), rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_frequencies_are_the_axis_of_the_shells(shape: tuple[int, int, int]) -> None:
    frequency = shell_frequencies(shape, 1.3)
    assert frequency[1] == shell_width(shape, 1.3) == pytest.approx(1 / (1.3 * max(shape)))
    assert 1 / 2.6 - frequency[1] < frequency[-1] <= 1 / 2.6 + 1e-12
    assert len(frequency) == number_of_shells(shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_fsc_of_a_map_with_itself_is_one(shape: tuple[int, int, int]) -> None:
    a = noise(shape)
    _, same = fsc_curve(a, a, 1.0)
    np.testing.assert_allclose(same, 1.0, atol=1e-6)
    _, scaled = fsc_curve(a, -3 * apply_b_factor(a, 1.0, 10.0), 1.0)
    np.testing.assert_allclose(scaled, -1.0, atol=1e-2)  # a filter within a shell's width changes little


def test_fsc_with_an_empty_map_is_zero() -> None:
    a = noise((8, 8, 8))
    np.testing.assert_array_equal(fsc_curve(a, np.zeros_like(a), 1.0)[1], 0)


def test_fsc_of_signal_and_noise_follows_the_signal_to_noise_ratio() -> None:
    signal, shape = noise((48, 48, 48), 9), (48, 48, 48)
    _, fsc = fsc_curve(signal + noise(shape, 1), signal + noise(shape, 2), 1.0)
    assert np.mean(fsc[5:]) == pytest.approx(0.5, abs=0.02)


def test_resolution_is_interpolated() -> None:
    frequency = np.arange(6) * 0.05
    fsc = np.array([1.0, 1.0, 0.9, 0.5, 0.1, 0.0])
    assert resolution_at(frequency, fsc, 0.5) == pytest.approx(1 / 0.15)
    assert resolution_at(frequency, fsc, 0.3) == pytest.approx(1 / 0.175)
    assert resolution_at(frequency, np.ones(6), 0.143) == pytest.approx(1 / 0.25)
    assert resolution_at(frequency, np.zeros(6), 0.143) == pytest.approx(1 / 0.05)


def test_amplitude_profile_of_a_gaussian_blob() -> None:
    n, voxel, sigma = 48, 1.2, 2.5
    blob = np.exp(-squared_distance(n, voxel) / (2 * sigma**2)).astype(np.float32)
    frequency, amplitude = amplitude_profile(blob, voxel)
    expected = (2 * np.pi * sigma**2) ** 1.5 / voxel**3 * np.exp(-2 * (np.pi * sigma * frequency) ** 2)
    np.testing.assert_allclose(amplitude[:12], expected[:12], rtol=0.05)
    assert amplitude[0] == pytest.approx(expected[0], rel=1e-5)
    # exp(-2 π² σ² s²) = exp(-B s² / 4)
    assert guinier_b_factor(frequency, amplitude, coarsest=30.0, finest=5.0) == pytest.approx(8 * np.pi**2 * sigma**2, rel=0.02)


def test_b_factor_turns_one_gaussian_blob_into_another() -> None:
    n, voxel, b_factor = 40, 1.5, 8 * np.pi**2 * 1.0
    r2 = squared_distance(n, voxel)
    before, after = (np.exp(-r2 / (2 * v)) / (2 * np.pi * v) ** 1.5 for v in (6.0, 7.0))
    blurred = apply_b_factor(before.astype(np.float32), voxel, b_factor)
    np.testing.assert_allclose(blurred, after, atol=1e-5 * after.max())
    assert blurred.dtype == np.float32
    np.testing.assert_allclose(apply_b_factor(blurred, voxel, -b_factor), before, atol=1e-3 * before.max())


@pytest.mark.parametrize("shape", SHAPES)
def test_apply_radial_multiplies_by_the_curve(shape: tuple[int, int, int]) -> None:
    F = scipy.fft.rfftn(noise(shape))
    before, n = F.copy(), number_of_shells(shape)
    apply_radial(F, shape, np.ones(n))
    np.testing.assert_array_equal(F, before)
    # A straight line is what linear interpolation reproduces exactly.
    apply_radial(F, shape, 2.0 + 0.25 * np.arange(n))
    k = np.meshgrid(*(np.fft.fftfreq(m, 1 / max(shape)) for m in shape), indexing="ij")
    radius = np.sqrt(sum(x**2 for x in k))[:, :, : shape[2] // 2 + 1]
    np.testing.assert_allclose(F, before * (2.0 + 0.25 * np.minimum(radius, n - 1)), rtol=1e-5)


def test_low_pass_removes_what_is_finer_and_keeps_the_rest() -> None:
    n = 32
    x = np.arange(n)
    coarse, fine = (np.cos(2 * np.pi * k * x / n).astype(np.float32) for k in (3, 12))
    data = np.broadcast_to(coarse + fine, (n, n, n)).copy()
    np.testing.assert_allclose(low_pass(data, 1.0, 32 / 8), np.broadcast_to(coarse, (n, n, n)), atol=1e-5)


def scorer(shared: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("score", shared / "score" / "score.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.shared_data
@pytest.mark.parametrize("shape", SHAPES)
def test_shells_are_the_scorers(shared: Path, shape: tuple[int, int, int]) -> None:
    score, voxel = scorer(shared), 1.3
    k, width, last = score.shells(shape, voxel)
    np.testing.assert_array_equal(np.concatenate([plane.ravel() for plane in shell_indices(shape)]), k)
    assert width == shell_width(shape, voxel)
    assert last in (number_of_shells(shape) - 1, number_of_shells(shape) - 2)  # the scorer's division may round down
    # The scorer counts the half spectrum's coefficients once each, so its curve differs by sampling noise only.
    signal = low_pass(noise((40, 40, 40)), voxel, 5.0) * 3
    a, b = signal + noise((40, 40, 40), 1), signal + noise((40, 40, 40), 2)
    s, ours = fsc_curve(a, b, voxel)
    theirs_s, theirs = score.fsc(a, b, voxel)
    np.testing.assert_allclose(s[: len(theirs_s)], theirs_s)
    np.testing.assert_allclose(ours[4 : len(theirs)], theirs[4:], atol=0.05)
    assert resolution_at(theirs_s, theirs, 0.5) == pytest.approx(score.crossing(theirs_s, theirs, 0.5))


@pytest.mark.shared_data
def test_the_stated_resolution_of_a_relion_pair_is_found(shared: Path) -> None:
    from emhance.maps.mrc import read_map

    first, second = (read_map(shared / "relion_pairs" / f"6o1m_half{i}.mrc.gz") for i in (1, 2))
    assert resolution_at(*fsc_curve(first.data, second.data, first.voxel_size), 0.143) == pytest.approx(3.06, abs=0.05)


def test_the_mean_fsc_weighs_shells_by_their_number_of_coefficients() -> None:
    frequency, fsc = np.array([0.0, 0.1, 0.2, 0.3]), np.array([0.0, 1.0, 0.5, 0.25])
    assert fsc_mean(frequency, fsc, 5.0) == pytest.approx((1 * 1.0 + 4 * 0.5) / 5)
