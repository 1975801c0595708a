"""Data where the evidence is, network where it is not."""

import math

import numpy as np
import pytest
import synthetic as make
from numpy.typing import NDArray
from scipy import ndimage

from emhance.maps.fourier import fsc_curve
from emhance.steps import recombination
from emhance.steps.recombination import DEFAULT_RESOLUTION, recombine, support_of

Array = NDArray[np.float32]

BOX, VOXEL = 64, 1.2
PARTICLE = make.ball(BOX, 20)


def network_output(seed: int = 0, *, blur: float = 1.0) -> Array:
    """Stands for the network's output: density of a ball, nothing around it."""
    density = make.density(PARTICLE, seed=seed, blur=blur, halo=0.0)
    return np.where(density > 0.02, density, 0).astype(np.float32)


def shells(shape: tuple[int, int, int]) -> NDArray[np.intp]:
    """Shell of every coefficient of the full transform, written down independently of the package."""
    k = [np.fft.fftfreq(n) * max(shape) for n in shape]
    return np.rint(np.sqrt(k[0][:, None, None] ** 2 + k[1][None, :, None] ** 2 + k[2][None, None, :] ** 2)).astype(int)


def sums(values: NDArray[np.float64], shell: NDArray[np.intp], count: int) -> NDArray[np.float64]:
    return np.bincount(shell.ravel(), values.ravel(), minlength=count)[:count]


def low_passed(data: Array, beyond: float) -> Array:
    F = np.fft.rfftn(data)
    k = [np.fft.fftfreq(n) for n in data.shape[:2]]
    s = np.sqrt(k[0][:, None, None] ** 2 + k[1][None, :, None] ** 2 + np.fft.rfftfreq(data.shape[2])[None, None, :] ** 2)
    return np.fft.irfftn(F * (s < beyond), s=data.shape, axes=(0, 1, 2)).astype(np.float32)


def factor_to(reference: Array, values: Array, *, least: float = 0.0) -> NDArray[np.float64]:
    """Factors per shell that give values the reference's power, written down independently of the package."""
    shell, count = shells(values.shape), BOX // 2 + 1
    power_r, power_v = (sums(np.abs(np.fft.fftn(a.astype(np.float64))) ** 2, shell, count) for a in (reference, values))
    factor = np.sqrt(power_r / power_v)
    factor[0] = factor[1]
    return np.maximum(factor, least * np.maximum.accumulate(factor))


def scaled(values: Array, factor: NDArray[np.float64]) -> NDArray[np.float64]:
    radius = np.sqrt(sum(np.meshgrid(*((np.fft.fftfreq(n) * n) ** 2 for n in values.shape), indexing="ij")))
    return np.fft.ifftn(np.fft.fftn(values.astype(np.float64)) * np.interp(radius, np.arange(len(factor)), factor)).real


def test_fully_reliable_data_come_back_inside_the_support_with_the_networks_amplitudes() -> None:
    enhanced, data = network_output(), network_output(blur=1.6)
    support = support_of(enhanced, voxel_size=VOXEL)
    inside = enhanced * support
    result, reliability = recombine(enhanced.copy(), data.copy(), voxel_size=VOXEL, half_difference=np.zeros_like(data))
    assert reliability.source == "half-map FSC"
    assert reliability.value == pytest.approx(np.ones(BOX // 2 + 1))
    assert reliability.weight == pytest.approx(0.8)
    sharpened = (scaled(data, factor_to(enhanced, data, least=0.5)) * support).astype(np.float32)
    expected = 0.8 * scaled(sharpened, factor_to(inside, sharpened)) + 0.2 * inside
    expected *= np.minimum(8 * support, 1)
    assert not result[support == 0].any()
    np.testing.assert_allclose(result, expected, atol=0.01 * float(expected.max()))


def test_a_steep_fall_of_the_datas_amplitudes_does_not_leak_into_its_fine_shells() -> None:
    """Cut out as it is, a strongly blurred map's fine shells would hold the coarse ones' density, and be trusted for it."""
    truth = network_output()
    h1, h2 = (low_passed(ndimage.gaussian_filter(truth, 2.0), 0.25) + 2e-4 * make.noise(BOX, seed=seed) for seed in (3, 4))
    support = support_of(truth, voxel_size=VOXEL)
    assert fsc_curve(h1 * support, h2 * support, VOXEL)[1][18:26].min() > 0.5
    _, reliability = recombine(truth.copy(), 0.5 * (h1 + h2), voxel_size=VOXEL, half_difference=0.5 * (h1 - h2))
    assert reliability.value[18:].max() < 0.25
    assert reliability.value[4:10].min() > 0.9


def test_shells_without_reliability_leave_the_network_inside_its_support() -> None:
    enhanced = network_output()
    inside = enhanced * support_of(enhanced, voxel_size=VOXEL)
    data = low_passed(enhanced, 0.05) + 1e-3 * make.noise(BOX, seed=1)
    difference = make.noise(BOX, seed=2)
    difference -= low_passed(difference, 0.1)
    result, reliability = recombine(enhanced, data, voxel_size=VOXEL, half_difference=difference)
    beyond = slice(10, None)
    assert not reliability.value[beyond].any()
    shell = shells(result.shape)
    for k in range(12, BOX // 2):
        here, there = (np.fft.fftn(values)[shell == k] for values in (result, inside))
        assert np.corrcoef(here, there)[0, 1].real > 0.99  # the outline cuts off a little


def test_the_reliability_of_half_maps_is_their_fsc_inside_the_support() -> None:
    enhanced = network_output()
    signal = make.density(PARTICLE, seed=0, blur=2.0)
    h1, h2 = (signal + 0.02 * make.noise(BOX, seed=seed) for seed in (3, 4))
    support = support_of(enhanced, voxel_size=VOXEL).astype(np.float64)
    mean, difference = 0.5 * (h1 + h2), 0.5 * (h1 - h2)
    _, reliability = recombine(enhanced.copy(), mean.copy(), voxel_size=VOXEL, half_difference=difference.copy())
    factor = factor_to(enhanced, mean, least=0.5)
    mean, difference = scaled(mean, factor), scaled(difference, factor)
    F, G = np.fft.fftn((mean + difference) * support), np.fft.fftn((mean - difference) * support)
    shell, count = shells(h1.shape), BOX // 2 + 1
    scale = np.sqrt(sums(np.abs(F) ** 2, shell, count) * sums(np.abs(G) ** 2, shell, count))
    fsc = np.clip(sums((F * G.conj()).real, shell, count) / scale, 0, 1)
    expected = 2 * fsc / (1 + fsc)
    crossing = int(np.flatnonzero(expected < 0.25)[0])
    np.testing.assert_allclose(reliability.value[: crossing - 2], expected[: crossing - 2], atol=1e-3)
    # Farther out F falls, at least as fast as a Gaussian that is 0.25 at the crossing, whatever the FSC says.
    beyond = np.arange(crossing + 1, len(expected))
    assert (np.diff(reliability.value[crossing:]) <= 0).all()
    assert (reliability.value[beyond] <= 0.25 ** ((beyond / (crossing + 1)) ** 2) + 1e-9).all()
    assert reliability.value.min() < 0.2 < 0.9 < reliability.value.max()
    assert reliability.frequency[1] == pytest.approx(1 / (BOX * VOXEL))
    assert reliability.frequency[-1] == pytest.approx(1 / (2 * VOXEL))


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_the_reliability_of_a_single_map_comes_from_its_solvent(correlation: float) -> None:
    box, particle = 96, make.ball(96, 24)
    signal = make.density(particle, seed=0, blur=1.8, halo=0.0)
    noise = 0.05 * make.noise(box, seed=5, correlation=correlation)
    enhanced = np.where(signal > 0.02, signal, 0).astype(np.float32)
    _, reliability = recombine(enhanced, signal + noise, voxel_size=VOXEL, noise=True)
    assert reliability.source == "solvent noise"
    support = support_of(enhanced, voxel_size=VOXEL)
    shell, count = shells(signal.shape), box // 2 + 1
    powers = [sums(np.abs(np.fft.fftn(a * support)) ** 2, shell, count) for a in (signal, noise)]
    truth = powers[0] / (powers[0] + powers[1])
    assert truth[2] > 0.95
    assert truth[-1] < 0.2
    # 0.1 is the level below which a shell counts as lost.
    np.testing.assert_allclose(reliability.value[2:], truth[2:], atol=0.15)
    crossing = int(np.flatnonzero(truth < 0.25)[0])
    assert 1 / reliability.resolution == pytest.approx(crossing / (box * VOXEL), rel=0.12)
    assert (np.diff(reliability.value) <= 1e-9).all()


@pytest.mark.parametrize(
    ("resolution", "source", "expected"),
    [(5.0, "stated resolution", 5.0), (None, "default resolution", DEFAULT_RESOLUTION)],
)
@pytest.mark.parametrize("noise", [False, True])
def test_without_noise_the_reliability_falls_at_the_resolution(
    resolution: float | None, source: str, expected: float, noise: bool
) -> None:
    data = network_output(blur=1.6)  # zero outside the ball: there is no solvent noise even where it is asked for
    _, reliability = recombine(network_output(), data, voxel_size=VOXEL, noise=noise, resolution=resolution)
    assert reliability.source == source
    fsc = np.array([0.94, 0.76, 0.43, 0.143])  # of simulated half maps, see docs/quality.md
    at = np.array([0.5, 0.7, 0.85, 1.0]) / expected
    np.testing.assert_allclose(np.interp(at, reliability.frequency, reliability.value), 2 * fsc / (1 + fsc), atol=0.04)
    assert reliability.value[0] > 0.98
    assert reliability.value[-1] < 0.01
    assert reliability.resolution == pytest.approx(expected, rel=0.05)


def test_a_network_that_found_nothing_is_said() -> None:
    nothing = np.zeros((16, 16, 16), np.float32)
    result, reliability = recombine(nothing, make.noise(16, seed=1), voxel_size=VOXEL, noise=True)
    assert reliability.source == "no support"
    assert math.isinf(reliability.resolution)
    assert not reliability.value.any()
    assert not result.any()
    assert result is not nothing


def test_faint_noise_in_the_networks_output_is_no_support() -> None:
    assert not support_of(1e-3 * make.noise(32, seed=2), voxel_size=VOXEL).any()


def test_the_support_is_soft_and_holds_what_the_network_found() -> None:
    enhanced = network_output()
    support = support_of(enhanced, voxel_size=VOXEL)
    assert support.min() == 0
    assert support.max() == 1
    assert ((support > 0.01) & (support < 0.99)).any()
    inside = enhanced > 0.1 * enhanced.max()
    assert support[inside].mean() > 0.95
    far = ~ndimage.binary_dilation(enhanced > 0.01, iterations=10)
    assert support[far].max() < 1e-3


@pytest.mark.parametrize("box", [(40, 56, 48), (33, 47, 40)])
def test_any_box_will_do(box: tuple[int, int, int]) -> None:
    part = tuple(slice(4, 4 + n) for n in box)
    enhanced = np.ascontiguousarray(network_output()[part])
    result, reliability = recombine(enhanced, 2 * enhanced, voxel_size=VOXEL, half_difference=np.zeros_like(enhanced))
    assert result.shape == box
    assert result.dtype == np.float32
    assert len(reliability.value) == max(box) // 2 + 1
    assert np.corrcoef(result.ravel(), enhanced.ravel())[0, 1] > 0.98


def test_the_arrays_are_overwritten_as_documented() -> None:
    signal = network_output()
    enhanced, data, difference = (signal + 1e-4, signal + make.noise(BOX, seed=1), make.noise(BOX, seed=2))
    result, _ = recombine(enhanced, data, voxel_size=VOXEL, half_difference=difference)
    for array in (enhanced, data, difference):
        assert not array[0, 0].any(), "outside the support the caller's arrays become zero"
        assert not np.shares_memory(result, array)


def test_the_scale_of_the_data_does_not_matter() -> None:
    enhanced, data = network_output(), network_output(blur=1.6) + 0.02 * make.noise(BOX, seed=7)
    difference = 0.02 * make.noise(BOX, seed=8)
    a, _ = recombine(enhanced.copy(), data.copy(), voxel_size=VOXEL, half_difference=difference.copy())
    b, _ = recombine(enhanced, 8 * data, voxel_size=VOXEL, half_difference=8 * difference)
    np.testing.assert_allclose(a, b, atol=1e-5 * float(np.abs(a).max()))


def test_recombination_beats_both_network_and_data() -> None:
    """The network knows the fine shells roughly and is wrong about the coarse ones; the half maps know the coarse ones alone."""
    truth = make.density(PARTICLE, seed=0, blur=1.0, halo=0.0)
    other = make.density(PARTICLE, seed=9, blur=1.0, halo=0.0)
    # Half of the network's detail is wrong at every frequency; the support is right.
    enhanced = np.where(truth > 0.01, 0.5 * truth + 0.5 * other, 0).astype(np.float32)
    h1, h2 = (low_passed(truth, 0.25) + 0.03 * make.noise(BOX, seed=seed) for seed in (10, 11))
    data = 0.5 * (h1 + h2)
    result, reliability = recombine(enhanced, data.copy(), voxel_size=VOXEL, half_difference=0.5 * (h1 - h2))
    coarse, fine = slice(2, 14), slice(20, 32)
    fsc = {name: fsc_curve(map_, truth, VOXEL)[1] for name, map_ in (("data", data), ("network", enhanced), ("result", result))}
    assert fsc["result"][coarse].mean() > fsc["network"][coarse].mean() + 0.05
    assert fsc["result"][coarse].mean() > fsc["data"][coarse].mean() - 0.01, "what a fifth of so bad a network costs"
    assert fsc["result"][fine].mean() > fsc["data"][fine].mean() + 0.2
    assert fsc["result"].mean() > max(fsc["data"].mean(), fsc["network"].mean())
    correlation = {
        name: np.corrcoef(map_.ravel(), truth.ravel())[0, 1] for name, map_ in (("d", data), ("n", enhanced), ("r", result))
    }
    assert correlation["r"] > max(correlation["d"], correlation["n"])
    assert reliability.value[coarse].min() > 0.8


def falling_amplitudes(power: float) -> NDArray[np.float64]:
    """Factors of the coefficients of a box with which noise's power falls with that power of the frequency."""
    return np.maximum(shells((BOX,) * 3), 1) ** (-power / 2)


def halves(signal: Array, noise: float, *, falling: float = 0.0) -> tuple[Array, Array]:
    """Half the sum and half the difference of two maps with noise whose power falls with that power of the frequency."""
    fall = falling_amplitudes(falling)
    a, b = (
        signal + noise * np.fft.ifftn(np.fft.fftn(make.noise(BOX, seed=seed).astype(np.float64)) * fall).real for seed in (3, 4)
    )
    return ((a + b) / 2).astype(np.float32), ((a - b) / 2).astype(np.float32)


@pytest.mark.parametrize("falling", [0.0, 1.0, 2.0])
def test_half_maps_of_noise_alone_give_nothing(falling: float) -> None:
    data, difference = halves(np.zeros_like(network_output()), 1.0, falling=falling)
    result, reliability = recombine(network_output(), data, voxel_size=VOXEL, half_difference=difference)
    assert reliability.source == "no agreement"
    assert math.isinf(reliability.resolution)
    assert not result.any()


@pytest.mark.parametrize("falling", [0.0, 1.0, 2.0])
def test_little_signal_is_enough_for_half_maps_to_agree(falling: float) -> None:
    signal = network_output()
    noise = float(signal.std() / np.sqrt(np.mean(falling_amplitudes(falling) ** 2)) / make.noise(BOX, seed=3).std())
    data, difference = halves(signal, 2 * noise, falling=falling)
    result, reliability = recombine(network_output(), data, voxel_size=VOXEL, half_difference=difference)
    assert reliability.source == "half-map FSC"
    assert result.any()


def test_what_the_half_maps_share_beyond_the_support_is_missed() -> None:
    """Two like balls of density, of which the network found one: half of what the half maps have in common is kept."""
    found = np.roll(make.density(make.ball(BOX, 11), seed=0, blur=1.0, halo=0.0), -15, axis=0)
    found = np.where(found > 0.02, found, 0).astype(np.float32)
    other = np.roll(found, 30, axis=0)
    for network, expected in ((found, 0.5), (found + other, 1.0)):
        data, difference = halves(found + other, 0.1 * float(found.std()))
        _, reliability = recombine(network.copy(), data, voxel_size=VOXEL, half_difference=difference)
        assert reliability.kept == pytest.approx(expected, abs=0.05)
    data, _ = halves(found, 0.1 * float(found.std()))
    assert recombine(found.copy(), data, voxel_size=VOXEL, resolution=4.0)[1].kept is None


@pytest.mark.parametrize("falling", [0.0, 1.0, -1.0])
def test_a_single_map_of_noise_alone_gives_nothing(falling: float) -> None:
    signal = network_output()
    noise, _ = halves(np.zeros_like(signal), 1.0, falling=falling)
    result, reliability = recombine(signal.copy(), noise.copy(), voxel_size=VOXEL, noise=True)
    assert reliability.source == "nothing but noise"
    assert not result.any()
    weak = (noise + noise.std() / signal.std() * signal).astype(np.float32)
    result, reliability = recombine(signal.copy(), weak, voxel_size=VOXEL, noise=True)
    assert reliability.source == "solvent noise"
    assert result.any()


def test_noise_that_is_stronger_within_the_molecule_is_no_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    signal = network_output()
    stronger = 1 + support_of(signal, voxel_size=VOXEL)
    data = (signal + 0.5 * stronger * make.noise(BOX, seed=3)).astype(np.float32)

    def finest() -> float:
        _, reliability = recombine(signal.copy(), data.copy(), voxel_size=VOXEL, noise=True)
        assert reliability.source == "solvent noise"
        return float(reliability.value[-3:].max())

    assert finest() == 0
    monkeypatch.setattr(recombination, "STRONGEST_NOISE", 1.0)
    assert finest() > 0.3
