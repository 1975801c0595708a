"""The exact mode does what the reference program does; the golden maps are what it wrote."""

import numpy as np
import pytest
from checkpoints import small_network
from scipy import ndimage

from emhance.errors import MaskError, NormalizationError, OptionError, WeightsError
from emhance.legacy.importing import load_keras
from emhance.legacy.reference import padding, reference_exact, remove_small_components, tile_starts
from emhance.legacy.reference_normalization import guess_noise, normalize_by_noise, normalize_in_mask
from emhance.maps.mrc import read_map


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return load_keras(small_network(tmp_path_factory.mktemp("network") / "net.hd5", box=16, stride=8))


def particle(shape=(40, 40, 40), seed=0):
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing="ij")
    blob = np.exp(-sum(g**2 for g in grid) / (2 * 4.0**2))
    return (blob + rng.normal(0, 0.02, shape)).astype(np.float32)


def test_padding_takes_the_third_axis_for_the_second():
    assert padding((128, 128, 128), 16) == [(0, 16)] * 3
    assert padding((100, 90, 64), 16) == [(0, 12), (0, 6), (0, 6)]


def test_tiles_go_in_the_order_z_y_x_and_skip_what_the_mask_lacks():
    assert list(tile_starts((32, 16, 32), 16, 16, None)) == [(0, 0, 0), (0, 0, 16), (16, 0, 0), (16, 0, 16)]
    mask = np.zeros((32, 16, 20), np.float32)
    mask[20, 3, 19] = 0.2
    assert list(tile_starts((32, 16, 32), 16, 16, mask)) == [(16, 0, 16)]


def test_averages_are_damped_by_one_more_than_the_count(network):
    class One(type(network.module)):
        def __init__(self):
            super(type(network.module), self).__init__()
            self.tile_size = 16

        def forward(self, x):
            return x * 0 + 1

    ones = type(network)(**{**vars(network), "module": One(), "stride": 4})
    result = reference_exact(particle((24, 24, 24)), ones, voxel_size=1.0, noise=(0.0, 0.02))
    assert result.tiles == 64
    assert result.data[0, 0, 0] == pytest.approx(1 / 2, abs=1e-5)
    assert result.data[12, 12, 12] == pytest.approx(64 / 65, abs=1e-5)


def test_half_maps_are_averaged(network):
    first, second = particle((24, 24, 24), seed=1), particle((24, 24, 24), seed=2)
    options = {"voxel_size": 1.3, "noise": (0.0, 0.02)}
    one = reference_exact(first, network, half2=second, **options)
    other = reference_exact(np.float32(0.5) * (first + second), network, **options)
    np.testing.assert_array_equal(one.data, other.data)
    assert one.data.shape == first.shape


def test_the_batch_size_changes_rounding_only(network):
    a, b = (reference_exact(particle((30, 30, 30)), network, voxel_size=1.1, batch_size=n) for n in (1, 5))
    np.testing.assert_allclose(a.data, b.data, atol=1e-5 * np.abs(a.data).max())
    assert a.noise == b.noise


def test_noise_statistics_normalise_to_zero_and_a_tenth():
    data = particle()
    normalized, used = normalize_by_noise(data)
    assert used.std == pytest.approx(0.02, rel=0.5)
    assert normalized[:5].std() == pytest.approx(0.1 * 0.02 / used.std, rel=0.05)
    assert str(used) == f"mean={used.mean:f} std={used.std:f}"


def test_a_map_without_noise_is_refused():
    data = np.zeros((40, 40, 40), np.float32)
    data[15:25, 15:25, 15:25] = 1
    with pytest.raises(NormalizationError):
        normalize_by_noise(data)


def test_a_hollow_map_is_refused_as_the_reference_program_does():
    grid = np.meshgrid(*(np.arange(100) - 50,) * 3, indexing="ij")
    radius = np.sqrt(sum(g**2 for g in grid))
    rng = np.random.default_rng(0)
    shell = np.exp(-((radius - 30) ** 2) / 8) * (5 + 60 * rng.normal(size=radius.shape)) + rng.normal(0, 0.02, radius.shape)
    with pytest.raises(NormalizationError, match="hollow"):
        guess_noise(shell.astype(np.float32))


def test_mask_normalisations_differ_as_stated():
    data, mask = particle(), np.zeros((40, 40, 40), np.float32)
    mask[15:25, 15:25, 15:25] = 1
    grown = ndimage.grey_dilation(mask, size=3) > 0
    for variant, selected in {
        "inputNormalizationWithMask": grown,
        "inputNormalizationWithMask_2": grown & (data > 0),
        "inputNormalizationWithMask_3": (mask > 0) & (data > 0),
    }.items():
        x = normalize_in_mask(data, mask, variant=variant)
        assert np.median(x[selected]) == pytest.approx(0, abs=1e-5)
        low, high = np.percentile(x[selected], (10, 95))
        assert high - low == pytest.approx(1, rel=1e-4)
        assert not x[(mask if variant.endswith("3") else grown) == 0].any()
    with pytest.raises(MaskError):
        normalize_in_mask(-np.abs(data), mask)


def test_cleaning_keeps_large_components_and_fills_with_the_minimum():
    data = np.random.default_rng(0).normal(0, 1e-3, (60, 60, 60))
    data[20:40, 20:40, 20:40] += 1
    data[3:7, 3:7, 3:7] += 1
    cleaned = remove_small_components(data, 0.1)
    np.testing.assert_array_equal(cleaned[22:38, 22:38, 22:38], data[22:38, 22:38, 22:38])
    assert (cleaned[3:7, 3:7, 3:7] == data.min()).all()
    with pytest.raises(OptionError):
        remove_small_components(data, 1.0)


def test_what_the_reference_program_cannot_do_is_said(network):
    with pytest.raises(OptionError, match="smaller than its tile"):
        reference_exact(particle((7, 7, 7)), network, voxel_size=1.0, noise=(0.0, 1.0))
    with pytest.raises(OptionError, match="without a mask"):
        reference_exact(particle(), network, voxel_size=1.0, mask=np.ones((40, 40, 40), np.float32))
    unnamed = type(network)(**{**vars(network), "normalization": None})
    with pytest.raises(WeightsError, match="choose one of"):
        reference_exact(particle(), unnamed, voxel_size=1.0)
    chosen = reference_exact(particle(), unnamed, voxel_size=1.0, noise=(0.0, 0.02), normalization="inputNormalization_3")
    assert chosen.tiles > 0


@pytest.mark.shared_data
def test_the_noise_estimate_prints_the_reference_programs_digits(shared):
    data = read_map(shared / "golden" / "inputs" / "a_full.mrc.gz").data
    assert str(guess_noise(data)) == "mean=0.000003 std=0.001327"


GOLDEN = {
    "a_tight_auto": ("tightTarget", {}),
    "a_wide_stats": ("wideTarget", {"noise": (0.0, 0.0014)}),
    "a_highres_clean": ("highRes", {"clean": 0.05}),
    "a_masked": ("masked", {"mask": True}),
}


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize("name", GOLDEN)
def test_the_golden_maps_are_reproduced(shared, name):
    golden = shared / "golden"
    checkpoint, options = GOLDEN[name]
    source = read_map(golden / "inputs" / "a_full.mrc.gz")
    if "mask" in options:
        options = {"mask": read_map(golden / "inputs" / "a_mask.mrc.gz").data}
    expected = read_map(golden / "expected" / f"{name}.mrc.gz").data
    network = load_keras(golden / "checkpoints" / f"deepEMhancer_{checkpoint}.hd5")
    result = reference_exact(source.data, network, voxel_size=source.geometry.voxel_size_zyx[2], batch_size=2, **options)
    assert np.abs(result.data - expected).max() <= 1e-3 * np.abs(expected).max()
    if not options or "clean" in options:
        assert str(result.noise) == "mean=0.000003 std=0.001327"
