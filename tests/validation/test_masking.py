import numpy as np
import pytest
from half_map_signals import ball

from emhance.errors import MaskError
from emhance.validation.masking import automatic_mask


def test_the_mask_holds_the_molecule_and_little_else():
    n = 64
    molecule = ball(n, 0.2)
    density = molecule * 1.5 + np.random.default_rng(1).standard_normal((n, n, n)).astype(np.float32)
    mask = automatic_mask(density.astype(np.float32), voxel_size=1.5)
    assert mask.dtype == np.float32
    assert mask.min() == 0
    assert mask.max() == 1
    assert (mask[molecule > 0] > 0.9).mean() > 0.99
    assert (mask > 0.5).sum() < 3.5 * molecule.sum()


def test_a_constant_box_has_no_mask():
    with pytest.raises(MaskError, match="--mask"):
        automatic_mask(np.zeros((32, 32, 32), np.float32), voxel_size=1.0)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["6o1m", "8fxc"])
def test_the_masks_of_relion_pairs_are_found(shared, name):
    from emhance.maps.mrc import read_map

    folder = shared / "relion_pairs"
    first, second, truth = (read_map(folder / f"{name}_{part}.mrc.gz") for part in ("half1", "half2", "mask"))
    found = automatic_mask(0.5 * (first.data + second.data), voxel_size=first.voxel_size) > 0.5
    true = truth.data > 0.5
    assert (found & true).sum() > 0.95 * true.sum()
    assert found.sum() < 1.4 * true.sum()
