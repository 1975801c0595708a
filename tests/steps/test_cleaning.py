"""Small components go with their skirts, everything else stays as it was."""

import numpy as np
import pytest
import synthetic as make
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from emhance.errors import OptionError
from emhance.steps.cleaning import clean, default_level


def blob(box: int, centre: tuple[int, int, int], width: float, height: float = 1.0) -> np.ndarray:
    z, y, x = np.ogrid[:box, :box, :box]
    square = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
    result = height * np.exp(-square / (2 * width**2))
    return np.where(result > 1e-3, result, 0).astype(np.float32)


BODY = blob(48, (24, 18, 18), 5.0)
SPECK = blob(48, (24, 38, 38), 1.2)


def test_small_component_goes_with_its_skirt_and_nothing_else_changes():
    result = clean(BODY + SPECK, fraction=0.1)
    np.testing.assert_array_equal(result.data[BODY > 0], (BODY + SPECK)[BODY > 0])
    assert result.data[(SPECK > 0) & (BODY == 0)].max() == 0
    assert (result.removed_components, result.kept_components) == (1, 1)
    assert result.removed_voxels == np.count_nonzero((SPECK > 0) & (BODY == 0))
    assert result.removed_density == pytest.approx(SPECK.sum() / (BODY + SPECK).sum(), rel=1e-4)
    assert result.sentence.startswith("Cleaning removed 1 of 2 connected components")


def test_shares_are_counted_above_the_level():
    data = BODY + SPECK
    result = clean(data, fraction=0.1, level=0.2)
    assert result.threshold == 0.2
    assert result.removed_share == pytest.approx(np.sum(SPECK > 0.2) / np.sum(data > 0.2))


def test_skirt_between_two_components_stays_with_the_nearer_one():
    near = blob(48, (24, 18, 33), 1.2)
    data = np.maximum(BODY, near)
    result = clean(data, fraction=0.05, level=0.3)
    assert result.data[24, 18, 33] == 0
    assert result.removed_components == 1
    row, cleaned = data[24, 18], result.data[24, 18]
    np.testing.assert_array_equal(cleaned[:27], row[:27])


@pytest.mark.parametrize("fraction", [0.0, 1e-6])
def test_nothing_to_remove_leaves_the_map_identical(fraction):
    data = BODY + SPECK - np.float32(0.001)
    result = clean(data, fraction=fraction)
    np.testing.assert_array_equal(result.data, data)
    assert result.data is not data
    assert (result.removed_voxels, result.removed_components, result.kept_components) == (0, 0, 2)
    assert "removed nothing" in result.sentence


def test_largest_component_stays_even_if_smaller_than_the_fraction():
    data = BODY + SPECK
    result = clean(data, fraction=1.0)
    np.testing.assert_array_equal(result.data[BODY > 0], data[BODY > 0])
    assert result.kept_components == 1
    assert "largest one was kept" in result.sentence


def test_single_component_stays_whatever_the_fraction():
    np.testing.assert_array_equal(clean(BODY, fraction=1.0).data, BODY)


def test_several_equal_components_leave_one():
    data = sum(blob(48, (12 + 24 * i, 24, 24), 2.0) for i in range(2))
    assert clean(data, fraction=0.9).kept_components == 1


def test_map_without_density_is_returned():
    data = np.full((8, 8, 8), -1, dtype=np.float32)
    result = clean(data, fraction=0.5)
    np.testing.assert_array_equal(result.data, data)
    assert result.kept_components == 0


def test_connectivity_joins_over_corners():
    data = np.zeros((8, 8, 8), dtype=np.float32)
    data[1:4, 1:4, 1:4] = 1
    data[4, 4, 4] = 1
    assert clean(data, fraction=0.1).removed_components == 1
    assert clean(data, fraction=0.1, connectivity=3).removed_components == 0


def test_input_is_left_alone():
    data = BODY + SPECK
    before = data.copy()
    clean(data, fraction=0.1)
    np.testing.assert_array_equal(data, before)


@pytest.mark.parametrize(
    "options", [{"fraction": -0.1}, {"fraction": 1.1}, {"fraction": float("nan")}, {"fraction": 0.1, "level": -1.0}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(OptionError):
        clean(BODY, **options)


def test_connectivity_out_of_range_is_refused():
    with pytest.raises(OptionError, match="connectivity"):
        clean(BODY, fraction=0.1, connectivity=4)


def test_default_level_does_not_depend_on_the_box():
    alone = make.density(make.ball(32, 10), seed=1, halo=0.0)
    boxed = np.pad(alone, 32)
    assert default_level(boxed) == pytest.approx(default_level(alone), rel=1e-6)
    assert 0.05 < default_level(alone) < 0.15


def test_protein_keeps_its_flexible_parts_and_loses_specks():
    support = make.ball(64, 14, (0.35, 0.5, 0.5))
    protein = make.density(support, seed=3, blur=2.0, halo=0.0)
    loop = 0.25 * blob(64, (42, 32, 32), 2.5)
    specks = sum(0.4 * blob(64, place, 1.2) for place in [(8, 54, 54), (54, 10, 10), (56, 54, 32)])
    result = clean(np.maximum(protein, loop) + specks, fraction=0.05)
    assert result.removed_components == 3
    assert result.data[42, 32, 32] > 0.2
    assert result.data[support].sum() == pytest.approx(protein[support].sum(), rel=1e-2)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1), st.sampled_from([1, 2, 3]))
def test_each_voxel_is_kept_or_zero_and_kept_components_are_large(seed, fraction, connectivity):
    data = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((20, 20, 20)), 1.5).astype(np.float32)
    level = float(np.percentile(data, 85))
    result = clean(data, fraction=fraction, level=level, connectivity=connectivity)
    assert np.all((result.data == data) | (result.data == 0))
    structure = ndimage.generate_binary_structure(3, connectivity)
    labels, count = ndimage.label(result.data > level, structure=structure)
    sizes = np.bincount(labels.ravel())[1:]
    assert count == result.kept_components >= 1
    assert sizes.min() >= fraction * np.count_nonzero(data > level) or count == 1
