"""Binary masks are recognised, everything else is named; soft edges have their closed form."""

from dataclasses import replace

import numpy as np
import pytest

from emhance.errors import MaskError
from emhance.maps.masks import check_binary_mask, soft_mask
from emhance.maps.volume import DensityMap, Geometry

SHAPE = (6, 7, 8)
MAP = DensityMap(np.zeros(SHAPE, np.float32), Geometry.whole_box(SHAPE, 1.2))


def mask(value: float = 1.0, shape: tuple[int, int, int] = SHAPE, voxel_size: float = 1.2) -> DensityMap:
    data = np.zeros(shape, np.float32)
    data[2:4, 2:5, 2:6] = value
    return DensityMap(data, Geometry.whole_box(shape, voxel_size))


@pytest.mark.parametrize("value", [1.0, 0.25, 255.0])
def test_a_mask_of_zero_and_one_other_value_is_binary(value: float) -> None:
    inside = check_binary_mask(mask(value), MAP)
    assert inside.dtype == np.bool_
    np.testing.assert_array_equal(inside, mask().data == 1)


def test_origin_and_a_missing_voxel_size_do_not_matter() -> None:
    geometry = replace(Geometry.whole_box(SHAPE, 0.0), origin=(5.0, 5.0, 5.0))
    check_binary_mask(DensityMap(mask().data, geometry), MAP)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (mask(shape=(6, 7, 9)), "9 x 7 x 6 voxels, the map map one of 8 x 7 x 6"),
        (mask(voxel_size=1.3), r"1\.3 Å, the map map one of 1\.2 Å"),
        (mask(0.0), "empty"),
        (DensityMap(np.ones(SHAPE, np.float32), MAP.geometry), "covers the whole box"),
        (mask(-1.0), "not binary .values from -1 to 0"),
        (DensityMap(mask().data + 1, MAP.geometry), "not binary .values from 1 to 2"),
        (
            DensityMap(mask().data * np.linspace(0.1, 1, 8, dtype=np.float32), MAP.geometry),
            "not binary .*18 voxels between 0 and",
        ),
    ],
)
def test_other_masks_are_refused_with_the_value_seen(bad: DensityMap, message: str) -> None:
    with pytest.raises(MaskError, match=message) as caught:
        check_binary_mask(bad, MAP)
    assert "give" in str(caught.value) or "make" in str(caught.value)


def test_the_soft_edge_is_a_cosine_of_the_distance() -> None:
    binary = np.zeros((90, 30, 30), bool)
    binary[40, 15, 15] = True
    soft = soft_mask(binary, width_voxels=8)
    z, y, x = np.indices(binary.shape)
    distance = np.sqrt((z - 40) ** 2 + (y - 15) ** 2 + (x - 15) ** 2)
    np.testing.assert_allclose(soft, np.where(distance < 8, 0.5 + 0.5 * np.cos(np.pi * distance / 8), 0), atol=1e-6)
    assert soft.dtype == np.float32


def test_slabs_leave_no_seam() -> None:
    # A slab's border at 32 lies inside the edge of both balls.
    z, y, x = np.indices((70, 20, 20))
    binary = (z - 29) ** 2 + (y - 10) ** 2 + (x - 10) ** 2 < 9
    soft = soft_mask(binary, width_voxels=5.5)
    np.testing.assert_allclose(soft[29:39], soft[29:19:-1], atol=1e-6)
