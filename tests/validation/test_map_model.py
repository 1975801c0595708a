import gemmi
import numpy as np
import pytest

from emhance.errors import AtomicModelError
from emhance.maps.volume import Geometry
from emhance.validation.map_model import map_model_fit, model_density


@pytest.fixture
def atomic_model(tmp_path):
    """Fifty carbons at random, 20 Å around (30, 28, 26) (xyz)."""
    rng = np.random.default_rng(0)
    chain = gemmi.Chain("A")
    for i, position in enumerate(rng.uniform(-10, 10, (50, 3)) + np.array([30, 28, 26])):
        residue = gemmi.Residue()
        residue.name, residue.seqid = "ALA", gemmi.SeqId(i + 1, " ")
        atom = gemmi.Atom()
        atom.name, atom.element, atom.b_iso, atom.pos = "CA", gemmi.Element("C"), 30.0, gemmi.Position(*position)
        residue.add_atom(atom)
        chain.add_residue(residue)
    model = gemmi.Model(1)
    model.add_chain(chain)
    structure = gemmi.Structure()
    structure.add_model(model)
    path = tmp_path / "model.pdb"
    structure.write_pdb(str(path))
    return path


def test_a_model_fits_its_own_density(atomic_model):
    geometry = Geometry.whole_box((50, 54, 60), 1.0)
    model = model_density(atomic_model, geometry)
    assert model.data.shape == (50, 54, 60)
    fit = map_model_fit(model.data, model, voxel_size=1.0, resolution=2.0)
    assert np.allclose(fit.fsc, 1.0, atol=1e-4)
    assert fit.cc_box > 0.99
    assert fit.cc_mask > 0.99
    assert fit.number_of_atoms == 50


def test_a_map_and_its_negative_disagree(atomic_model):
    model = model_density(atomic_model, Geometry.whole_box((50, 54, 60), 1.0))
    assert map_model_fit(-model.data, model, voxel_size=1.0, resolution=2.0).cc_mask < -0.99


def test_origin_or_nstart_place_the_model(atomic_model):
    plain = model_density(atomic_model, Geometry.whole_box((50, 54, 60), 1.0)).data
    by_origin = model_density(atomic_model, Geometry.whole_box((50, 54, 60), 1.0, origin=(2.0, 0.0, -3.0))).data
    by_nstart = model_density(atomic_model, Geometry.whole_box((50, 54, 60), 1.0, nstart=(2, 0, -3))).data
    assert np.allclose(by_origin, by_nstart)
    assert np.allclose(np.roll(plain, (-2, 0, 3), (0, 1, 2)), by_origin, atol=1e-4)


def test_a_model_elsewhere_is_refused(atomic_model):
    with pytest.raises(AtomicModelError, match="inside the map's box"):
        model_density(atomic_model, Geometry.whole_box((20, 20, 20), 1.0, origin=(500.0, 0.0, 0.0)))


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "model.pdb"
    path.write_text("nothing\n")
    with pytest.raises(AtomicModelError):
        model_density(path, Geometry.whole_box((20, 20, 20), 1.0))


@pytest.mark.shared_data
def test_numbers_agree_with_the_scorer(shared, tmp_path):
    import importlib.util

    from emhance.maps.mrc import read_map

    spec = importlib.util.spec_from_file_location("score", shared / "score" / "score.py")
    score = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(score)
    folder = shared / "real"
    density = read_map(folder / "emd_3488.mrc.gz")
    theirs = score.score_model(
        str(folder / "emd_3488.mrc.gz"),
        str(folder / "emd_3488_model.pdb.gz"),
        3.2,
    )
    ours = map_model_fit(
        density.data,
        model_density(folder / "emd_3488_model.pdb.gz", density.geometry),
        voxel_size=density.voxel_size,
        resolution=3.2,
    )
    assert ours.cc_box == pytest.approx(theirs["cc_box"], abs=0.01)
    assert ours.cc_mask == pytest.approx(theirs["cc_mask"], abs=0.01)
    assert ours.resolution == pytest.approx(theirs["fsc05"], rel=0.01)
    assert ours.resolution_masked == pytest.approx(theirs["fsc05_mask"], rel=0.02)
