"""What the network sees: one form for whatever filters, scale, box and noise a map comes with."""

import numpy as np
import pytest
import synthetic as make
from numpy.typing import NDArray

from emhance.steps.normalization import NOISE_STD
from emhance.steps.restoration import BLOCK, Restored, filled_share, log_profile, restore

Array = NDArray[np.float32]

BOX, VOXEL = 64, 1.5
PARTICLE = make.ball(BOX, 18)


def radius(box: int, voxel_size: float) -> NDArray[np.float64]:
    """Spatial frequency of the half-complex spectrum, 1/Å."""
    k = [np.fft.fftfreq(box, voxel_size)] * 2
    return np.sqrt(k[0][:, None, None] ** 2 + k[1][None, :, None] ** 2 + np.fft.rfftfreq(box, voxel_size)[None, None, :] ** 2)


def filtered(data: Array, factor: NDArray[np.float64]) -> Array:
    return np.fft.irfftn(np.fft.rfftn(data) * factor, s=data.shape, axes=(0, 1, 2)).astype(np.float32)


def truth(box: int = BOX, *, seed: int = 0) -> Array:
    """Density of random atoms in a ball of the same size in whatever box."""
    inside = np.zeros((box,) * 3, dtype=np.float32)
    small = make.density(PARTICLE, seed=seed, blur=1.0, halo=0.0)
    at = (box - BOX) // 2
    inside[at : at + BOX, at : at + BOX, at : at + BOX] = small
    return inside


def halves(signal: Array, noise: float, *, seed: int = 1) -> tuple[Array, Array]:
    """Mean and half the difference of two half maps with white noise of this s.d. each."""
    rng = np.random.default_rng(seed)
    first, second = (signal + noise * rng.standard_normal(signal.shape).astype(np.float32) for _ in range(2))
    return (0.5 * (first + second)).astype(np.float32), (0.5 * (first - second)).astype(np.float32)


def correlation(a: Array, b: Array) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def of_halves(mean: Array, difference: Array, **options: float) -> Restored:
    return restore(mean, voxel_size=VOXEL, half_difference=difference, **options)  # type: ignore[arg-type]


def test_filters_sharpening_and_scale_of_the_half_maps_hardly_matter() -> None:
    mean, difference = halves(truth(), 0.3)
    plain = of_halves(mean, difference)
    s = radius(BOX, VOXEL)
    other = 40 * np.exp(-20 * s**2)
    again = of_halves(filtered(mean, other), filtered(difference, other))
    assert plain.source == again.source == "half-map FSC"
    assert correlation(plain.data, again.data) > 0.9
    assert correlation(plain.data, again.data) > correlation(mean, filtered(mean, other)) + 0.03
    assert again.data.std() == pytest.approx(plain.data.std(), rel=0.2)


def test_solvent_around_the_molecule_hardly_matters() -> None:
    mean, difference = halves(truth(), 0.3)
    alone = of_halves(mean, difference).data
    mean, difference = halves(truth(128), 0.3)
    within = of_halves(mean, difference).data[32:96, 32:96, 32:96]
    assert within[PARTICLE].std() == pytest.approx(alone[PARTICLE].std(), rel=0.35)
    assert correlation(within[PARTICLE], truth()[PARTICLE]) == pytest.approx(
        correlation(alone[PARTICLE], truth()[PARTICLE]), abs=0.05
    )


def test_amplitudes_are_those_of_well_ordered_density() -> None:
    mean, difference = halves(filtered(truth(), np.exp(-30 * radius(BOX, VOXEL) ** 2)), 1e-5)
    data = of_halves(mean, difference).data
    s = radius(BOX, VOXEL)
    power = np.abs(np.fft.rfftn(data)) ** 2 * VOXEL**3 / data.size
    share = filled_share(make_blocks(data))
    finest = 2 * VOXEL
    for low, high in ((0.11, 0.16), (0.16, 0.21), (0.21, 0.27)):
        shell = (s > low) & (s <= high)
        wanted = np.exp(log_profile(s[shell], finest)) * share
        assert power[shell].mean() == pytest.approx(wanted.mean(), rel=0.35)


def make_blocks(data: Array) -> NDArray[np.float64]:
    edge = round(BLOCK / VOXEL)
    n = len(data) // edge
    blocks = data[: n * edge, : n * edge, : n * edge].reshape(n, edge, n, edge, n, edge)
    return np.asarray((blocks.astype(np.float64) ** 2).mean((1, 3, 5)))


def test_noise_is_weighted_down_and_less_where_the_molecule_fills_a_small_part_of_the_box() -> None:
    signal = truth(128)
    mean, difference = halves(signal, 0.8)
    restored = of_halves(mean, difference).data
    inside = signal > 0.05
    assert correlation(restored[inside], signal[inside]) > correlation(mean[inside], signal[inside]) + 0.1
    # The best filter for the whole box, which is mostly solvent, takes more of the molecule than this one.
    F = np.fft.rfftn(mean), np.fft.rfftn(difference)
    index = np.rint(radius(128, 1.0) * 128).astype(int)
    x, d = (np.bincount(index.ravel(), (np.abs(f) ** 2).ravel()) for f in F)
    wiener = filtered(mean, np.clip(1 - d / x, 0, 1)[index])
    assert correlation(restored[inside], signal[inside]) > correlation(wiener[inside], signal[inside])


def test_a_single_maps_noise_is_measured_in_its_solvent() -> None:
    signal = truth(96)
    mean, difference = halves(signal, 0.4)
    both = restore(mean, voxel_size=VOXEL, half_difference=difference)
    one = restore(mean * np.float32(NOISE_STD / (0.4 * 0.5**0.5)), voxel_size=VOXEL, noise=True)
    assert one.source == "solvent noise"
    assert correlation(one.data, both.data) > 0.9
    assert correlation(one.data, signal) > correlation(mean, signal) + 0.1
    assert one.data.std() == pytest.approx(both.data.std(), rel=0.3)


def test_a_molecule_that_nearly_fills_its_box_is_not_taken_for_solvent() -> None:
    # Cut out and sharpened, density has holes as deep as its atoms are high: averaged, none of it stands out.
    rng = np.random.default_rng(1)
    s = radius(BOX, VOXEL)
    waves = filtered(rng.standard_normal((BOX,) * 3).astype(np.float32), np.exp(-((s / 0.12) ** 2)) * (s > 0.03))
    waves[:, :, 44:] = 0
    signal = 0.4 * waves / waves.std()
    one = restore(signal + NOISE_STD * rng.standard_normal(signal.shape).astype(np.float32), voxel_size=VOXEL, noise=True)
    assert one.source == "solvent noise"
    assert one.signal_share == pytest.approx(44 / 64, abs=0.2)
    assert one.data.std() > 0.5 * restore(signal, voxel_size=VOXEL, resolution=2 * VOXEL).data.std()


def test_of_a_single_map_without_solvent_noise_a_stated_resolution_is_taken() -> None:
    signal = truth()
    blurred = filtered(signal, np.exp(-60 * radius(BOX, VOXEL) ** 2))
    restored = restore(blurred, voxel_size=VOXEL, noise=False, resolution=4.0)
    assert restored.source == "stated resolution"
    power = np.abs(np.fft.rfftn(restored.data)) ** 2
    s = radius(BOX, VOXEL)
    assert power[s > 1 / 3.3].sum() < 1e-3 * power[(s > 0.1) & (s < 1 / 4)].sum()
    assert correlation(restored.data, signal) > correlation(blurred, signal) + 0.02


def test_a_map_of_which_nothing_is_known_is_shown_as_it_is() -> None:
    signal = truth()
    restored = restore(signal, voxel_size=VOXEL)
    assert restored.source == "nothing"
    assert restored.signal_share is None
    assert restored.data is signal


def test_inputs_are_not_changed() -> None:
    mean, difference = halves(truth(), 0.3)
    copies = mean.copy(), difference.copy()
    of_halves(mean, difference)
    assert np.array_equal(mean, copies[0])
    assert np.array_equal(difference, copies[1])


@pytest.mark.parametrize("shape", [(48, 60, 50), (33, 35, 70), (16, 16, 16)])
def test_any_box_will_do(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(3)
    signal = make.density(np.ones(shape, dtype=bool), seed=2, blur=1.0, halo=0.0)
    noise = 0.1 * rng.standard_normal(shape).astype(np.float32)
    restored = restore(signal + noise, voxel_size=1.1, half_difference=noise[::-1].copy())
    assert restored.data.shape == shape
    assert restored.data.dtype == np.float32
    assert np.isfinite(restored.data).all()


def test_beyond_a_mask_there_is_nothing() -> None:
    mean, difference = halves(truth(), 0.3)
    mask = make.ball(BOX, 22)
    restored = of_halves(mean * mask, difference * mask).data
    assert not restored[~mask].any()
    assert restored[mask].all()
