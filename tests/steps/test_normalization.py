"""Normalised maps have the stated scale, and the affine behind them can be applied to other maps."""

import numpy as np
import pytest
import synthetic as make
from scipy import ndimage

from emhance.errors import MaskError, NormalizationError
from emhance.steps.normalization import DENSITY_TARGET, normalize

BOX = 64
SUPPORT = make.ball(BOX, 16, (0.45, 0.5, 0.55))


@pytest.fixture(scope="module")
def particle() -> make.Synthetic:
    added = 3 * make.noise(BOX, seed=2) + np.float32(7)
    return make.assemble(make.density(SUPPORT, seed=2), added, SUPPORT, contrast=40.0)


@pytest.fixture(scope="module")
def cut(particle) -> np.ndarray:
    return np.where(ndimage.binary_dilation(SUPPORT, iterations=2), particle.data, np.float32(-4))


def test_auto_brings_noise_to_mean_0_and_sd_a_tenth(particle):
    result = normalize(particle.data)
    solvent = ~ndimage.binary_dilation(SUPPORT, iterations=8)
    assert result.data[solvent].mean() == pytest.approx(0, abs=0.01)
    assert result.data[solvent].std() == pytest.approx(0.1, rel=0.1)
    assert (result.mode, result.from_density, result.message) == ("auto", False, None)
    assert result.data.dtype == np.float32


def test_auto_scales_a_cut_map_by_its_density_and_says_so(cut):
    result = normalize(cut)
    assert result.from_density
    assert result.mean is None
    assert result.std is None
    assert result.data[0, 0, 0] == 0.0
    assert np.percentile(result.data, 99.9) == pytest.approx(DENSITY_TARGET, rel=1e-4)
    assert "--noise-mean" in result.message
    assert "--mask" in result.message


def test_auto_scales_a_map_of_density_alone():
    data = make.density(np.ones((BOX, BOX, BOX), dtype=bool), seed=1, blur=1.0)
    result = normalize(data)
    assert result.from_density
    assert np.percentile(result.data, 99.9) == pytest.approx(DENSITY_TARGET, rel=1e-4)


def test_auto_scales_a_molecule_that_is_a_thousandth_of_the_box():
    data = np.zeros((80, 80, 80), dtype=np.float32)
    data[40:46, 40:46, 40:46] = 5 * make.density(np.ones((6, 6, 6), dtype=bool), seed=1)
    result = normalize(data)
    assert result.from_density
    assert 1 < result.data.max() < 5
    assert result.data[0, 0, 0] == 0.0


def test_auto_refuses_density_below_its_background(cut):
    with pytest.raises(NormalizationError, match="does not rise above"):
        normalize(np.minimum(-cut, 4))


@pytest.mark.parametrize(("factor", "offset"), [(50.0, 0.0), (1e-6, 0.0), (1.0, 3e3), (1.0, -3e3)])
@pytest.mark.parametrize("mode", ["auto", "cut", "mask"])
def test_auto_and_mask_do_not_depend_on_scale_and_offset(particle, cut, mode, factor, offset):
    data = cut if mode == "cut" else particle.data
    options = {"mode": "mask", "mask": SUPPORT, "voxel_size": 1.2} if mode == "mask" else {}
    wanted = normalize(data, **options)
    found = normalize((data.astype(np.float64) * factor + offset).astype(np.float32), **options)
    np.testing.assert_allclose(found.data, wanted.data, atol=2e-3 * DENSITY_TARGET)


def test_statistics_are_used_as_given(particle):
    result = normalize(particle.data, mode="statistics", noise_mean=7.0, noise_std=3.0)
    np.testing.assert_allclose(result.data, (particle.data - 7) / 30, atol=1e-6)
    assert (result.mean, result.std, result.from_density) == (7.0, 3.0, False)


@pytest.mark.parametrize(
    ("mean", "std"), [(None, 1.0), (0.0, None), (0.0, 0.0), (0.0, -1.0), (float("nan"), 1.0), (0.0, float("inf"))]
)
def test_statistics_must_make_sense(particle, mean, std):
    with pytest.raises(NormalizationError):
        normalize(particle.data, mode="statistics", noise_mean=mean, noise_std=std)


def test_mask_scales_by_the_density_inside_and_fades_to_zero_outside(particle):
    result = normalize(particle.data, mode="mask", mask=SUPPORT, voxel_size=1.5)
    distance = 1.5 * ndimage.distance_transform_edt(~SUPPORT)
    plain = result.apply(particle.data)
    assert np.percentile(result.data[SUPPORT], 99.9) == pytest.approx(DENSITY_TARGET, rel=1e-3)
    np.testing.assert_array_equal(result.data[distance < 3], plain[distance < 3])
    np.testing.assert_array_equal(result.data[distance > 6], 0)
    between = (distance > 3.5) & (distance < 5.5)
    assert np.all(np.abs(result.data[between]) < np.abs(plain[between]))
    assert result.from_density


def test_zero_of_mask_mode_is_the_solvent_around_the_mask(particle):
    result = normalize(particle.data, mode="mask", mask=ndimage.binary_dilation(SUPPORT, iterations=4), voxel_size=1.0)
    assert result.offset == pytest.approx(7.0, abs=1.0)


def test_mask_may_cover_the_whole_box(particle):
    result = normalize(particle.data, mode="mask", mask=np.ones_like(SUPPORT), voxel_size=1.0)
    np.testing.assert_array_equal(result.data, result.apply(particle.data))


def test_mask_must_fit(particle):
    with pytest.raises(MaskError, match="empty"):
        normalize(particle.data, mode="mask", mask=np.zeros_like(SUPPORT), voxel_size=1.0)
    with pytest.raises(MaskError, match="own grid"):
        normalize(particle.data, mode="mask", mask=SUPPORT[1:], voxel_size=1.0)
    with pytest.raises(MaskError, match="needs a mask"):
        normalize(particle.data, mode="mask")


def test_half_maps_take_the_scale_of_their_mean(particle):
    result = normalize(particle.data)
    halves = [particle.data + sign * make.noise(BOX, seed=9) for sign in (1, -1)]
    mean = sum(result.apply(half) for half in halves) / 2
    np.testing.assert_allclose(mean, result.data, atol=1e-5)


def test_input_is_left_alone(particle):
    before = particle.data.copy()
    normalize(particle.data)
    normalize(particle.data, mode="mask", mask=SUPPORT, voxel_size=1.0)
    np.testing.assert_array_equal(particle.data, before)
