"""An imported network enhances maps with the same hand-over as emhance's own, geometry kept."""

import numpy as np
import pytest
from checkpoints import small_network

from emhance.config import EnhanceConfig
from emhance.errors import OptionError
from emhance.legacy.enhancing import enhance_with_imported
from emhance.legacy.importing import load_keras
from emhance.maps.volume import DensityMap, Geometry


def particle(shape, voxel_size=1.3, seed=0):
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing="ij")
    data = (np.exp(-sum(g**2 for g in grid) / 50) + rng.normal(0, 0.02, shape)).astype(np.float32)
    return DensityMap(data, Geometry.whole_box(shape, voxel_size, origin=(1.0, -2.0, 3.5), nstart=(4, 5, 6)))


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    masked = small_network(folder / "masked.hd5", box=32, normalization="inputNormalizationWithMask_2")
    return {"plain": load_keras(small_network(folder / "plain.hd5", box=32)), "masked": load_keras(masked)}


STATISTICS = EnhanceConfig(noise_mean=0.0, noise_std=0.02)


@pytest.mark.parametrize("shape", [(40, 48, 36), (20, 18, 22)], ids=str)
def test_box_and_geometry_come_out_as_they_came_in(networks, shape):
    source = particle(shape)
    result = enhance_with_imported(source, network=networks["plain"], config=STATISTICS)
    assert result.map.geometry == source.geometry
    assert np.isfinite(result.map.data).all()
    assert "not the experimental map" in result.map.labels[-1]
    assert result.provenance.network["sha256"] == networks["plain"].sha256


def test_exact_mode_keeps_the_geometry_and_records_its_noise(networks):
    source = particle((40, 40, 40))
    result = enhance_with_imported(source, network=networks["plain"], exact=True)
    assert result.map.geometry == source.geometry
    assert 0.02 < result.provenance.normalization["std"] < 0.1


def test_half_maps_and_a_mask(networks):
    a, b = particle((40, 40, 40), seed=1), particle((40, 40, 40), seed=2)
    mask = DensityMap((a.data > 0.3).astype(np.float32), a.geometry)
    for exact in (False, True):
        result = enhance_with_imported(a, b, network=networks["masked"], mask=mask, exact=exact)
        assert result.map.data.shape == (40, 40, 40)
        assert len(result.provenance.inputs) == 2
    with pytest.raises(OptionError, match="mask"):
        enhance_with_imported(a, b, network=networks["masked"])


def test_the_stride_belongs_to_the_corrected_way(networks):
    with pytest.raises(OptionError, match="--stride"):
        enhance_with_imported(particle((40, 40, 40)), network=networks["plain"], exact=True, stride=8)


def test_wider_strides_change_little_where_tiles_agree(networks):
    source = particle((48, 48, 48), voxel_size=1.0)
    fine, wide = (
        enhance_with_imported(source, network=networks["plain"], config=STATISTICS, stride=stride).map.data for stride in (8, 24)
    )
    assert np.corrcoef(fine.ravel(), wide.ravel())[0, 1] > 0.9
