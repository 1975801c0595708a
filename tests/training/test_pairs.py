"""A user's own maps and atomic models: the table, the frame, the target, and crops that keep the hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from atomic_models import write_model
from emhance.errors import AtomicModelError, GeometryError, MaskError, OptionError
from emhance.maps.mrc import write_map
from emhance.maps.volume import DensityMap, Geometry
from emhance.steps.normalization import normalize
from emhance.steps.restoration import restore
from emhance.training.atoms import Atoms
from emhance.training.dataset import CropConfig
from emhance.training.example_protein import example_protein
from emhance.training.grids import to_map
from emhance.training.pairs import Pair, PairCrops, _turn, _turned, prepare_pair, read_table
from emhance.training.scattering import density_transform

BOX, VOXEL, ORIGIN = 60, 1.2, (12.0, -24.0, 36.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half maps with an origin, and the atomic model in their frame."""
    path = tmp_path_factory.mktemp("pair")
    atoms = example_protein(seed=1)
    placed = atoms.positions - atoms.positions.mean(0) + BOX * VOXEL / 2
    b_factors = torch.from_numpy(atoms.b_factors) + 40
    elements, occupancies = torch.from_numpy(atoms.elements).long(), torch.from_numpy(atoms.occupancies)
    transform = density_transform(torch.from_numpy(placed), elements, b_factors, occupancies, n=BOX, voxel_size=VOXEL)
    clean = to_map(transform).numpy()
    rng = np.random.default_rng(1)
    for name in ("half1", "half2"):
        noisy = 50 + 3 * (clean + 0.1 * clean.std() * rng.standard_normal(clean.shape)).astype(np.float32)
        write_map(path / f"{name}.mrc", DensityMap(noisy, Geometry.whole_box((BOX,) * 3, VOXEL, origin=ORIGIN)))
    in_frame = (placed + np.array(ORIGIN)).astype(np.float32)
    write_model(path / "model.cif", Atoms(in_frame, atoms.elements, atoms.b_factors, atoms.occupancies, atoms.kinds), seed=1)
    write_model(path / "elsewhere.cif", atoms, seed=1)
    (path / "table.csv").write_text("half1,half2,atomic_model,resolution\nhalf1.mrc,half2.mrc,model.cif,3.5\n")
    return path


@pytest.fixture
def pair(folder: Path) -> Pair:
    return read_table(folder / "table.csv")[0]


def test_a_row_of_the_table(pair: Pair, folder: Path) -> None:
    assert pair.maps == (folder / "half1.mrc", folder / "half2.mrc")
    assert pair.atomic_model == folder / "model.cif"
    assert (pair.name, pair.resolution, pair.validation, pair.mask) == ("half1.mrc", 3.5, False, None)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("", "holds no rows"),
        ("map,atomic_model,resolution\n", "holds no rows"),
        ("map,model,resolution\nhalf1.mrc,model.cif,3\n", "unknown column 'model'"),
        ("map,atomic_model,resolution\nnone.mrc,model.cif,3\n", "line 2: map none.mrc does not exist"),
        ("half1,atomic_model,resolution\nhalf1.mrc,model.cif,3\n", "either a map, or half1 and half2"),
        ("map,half1,half2,atomic_model,resolution\nhalf1.mrc,half1.mrc,half2.mrc,model.cif,3\n", "either a map"),
        ("map,resolution\nhalf1.mrc,3\n", "names no atomic_model"),
        ("map,atomic_model,resolution\nhalf1.mrc,model.cif,\n", "resolution must be a number"),
        ("map,atomic_model,resolution\nhalf1.mrc,model.cif,300\n", "resolution must be a number"),
        ("map,atomic_model,resolution\nhalf1.mrc,model.cif,3,4\n", "more values"),
        ("map,atomic_model,resolution,set\nhalf1.mrc,model.cif,3,test\n", "set must be"),
    ],
)
def test_mistakes_in_the_table_are_said(folder: Path, table: str, words: str) -> None:
    path = folder / "wrong.csv"
    path.write_text(table)
    with pytest.raises(OptionError) as raised:
        read_table(path)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_pair_is_normalised_resampled_and_in_one_frame(pair: Pair) -> None:
    made = prepare_pair(pair, voxel_size=1.0, masked=False)
    assert made.target.shape == made.inputs[0].shape == (72, 72, 72)
    assert len(made.inputs) == len(made.reliability) == 3
    noise = made.inputs[0][:6]
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(noise.std()) < 0.1
    assert float(made.inputs[0].max()) == pytest.approx(float(made.target.max()), rel=0.5)  # restored: of the order of 1
    fits = [float(np.corrcoef(np.roll(made.target.numpy(), s, 0).ravel(), made.inputs[0].ravel())[0, 1]) for s in (-1, 0, 1)]
    assert fits[1] > 0.75
    assert fits[1] > max(fits[0], fits[2]) + 0.03
    assert fits[0] == pytest.approx(fits[2], abs=0.02)
    assert 0.5 < float(made.target.max()) < 4
    assert float(made.target[:6].abs().max()) < 0.05
    F = made.reliability[0]
    assert float(F[2]) > 0.9
    assert (made.reliability[1] <= F + 1e-6).all()


def test_normalisation_and_restoration_are_those_of_enhance(pair: Pair) -> None:
    from emhance.maps.mrc import read_map

    made = prepare_pair(replace(pair, maps=pair.maps[:1]), voxel_size=VOXEL, masked=False)
    normalized = normalize(read_map(pair.maps[0]).data)
    restored = restore(normalized.data, voxel_size=VOXEL, noise=not normalized.from_density, resolution=pair.resolution)
    assert restored.source == "solvent noise"
    np.testing.assert_allclose(made.inputs[0], restored.data, atol=1e-6)
    assert len(made.inputs) == 1
    half = int(torch.nonzero(made.reliability[0] < 0.5)[0])
    assert BOX * VOXEL / half == pytest.approx(3.5, rel=0.1)


def test_maps_and_models_that_do_not_fit_are_said(pair: Pair, folder: Path) -> None:
    with pytest.raises(AtomicModelError, match=r"elsewhere\.cif"):
        prepare_pair(replace(pair, atomic_model=folder / "elsewhere.cif"), voxel_size=1.0, masked=False)
    with pytest.raises(GeometryError, match="identical"):
        prepare_pair(replace(pair, maps=(pair.maps[0],) * 2), voxel_size=1.0, masked=False)
    with pytest.raises(OptionError, match="finer"):
        prepare_pair(replace(pair, resolution=2.0), voxel_size=1.0, masked=False)
    with pytest.raises(OptionError, match="mask"):
        prepare_pair(pair, voxel_size=1.0, masked=True)
    with pytest.raises(MaskError, match="binary"):
        prepare_pair(replace(pair, mask=folder / "half1.mrc"), voxel_size=1.0, masked=True)


def test_a_masked_network_sees_nothing_outside_the_mask(pair: Pair, folder: Path) -> None:
    z, y, x = np.ogrid[:BOX, :BOX, :BOX]
    inside = ((z - 30) ** 2 + (y - 30) ** 2 + (x - 30) ** 2 < 24**2).astype(np.float32)
    write_map(folder / "mask.mrc", DensityMap(inside, Geometry.whole_box((BOX,) * 3, VOXEL)), overwrite=True)
    made = prepare_pair(replace(pair, mask=folder / "mask.mrc"), voxel_size=VOXEL, masked=True)
    assert float(made.inputs[0][0].abs().max()) == 0
    assert float(made.inputs[0].max()) > 0.5


def test_crops_hold_density_and_repeat(pair: Pair) -> None:
    made = prepare_pair(pair, voxel_size=1.0, masked=False)
    crops = PairCrops([made], CropConfig(edge=32, per_map=2, jitter=4), seed=1)
    item, again = crops[3], crops[3]
    assert item.inputs.shape == item.targets.shape == (2, 1, 32, 32, 32)
    assert item.reliability.shape == (2, 17)
    assert torch.equal(item.inputs, again.inputs)
    assert not torch.equal(item.inputs, crops[4].inputs)
    for x, target in zip(item.inputs, item.targets, strict=True):
        assert float(target.max()) > 0.5
        assert float(np.corrcoef(x.ravel(), target.ravel())[0, 1]) > 0.6, "input and target are turned alike"


def test_crops_can_be_taken_around_ligands(pair: Pair) -> None:
    made = prepare_pair(pair, voxel_size=1.0, masked=False)
    assert made.others.shape == (0, 3), "a protein alone"
    around = CropConfig(edge=32, per_map=1, jitter=0, anywhere=0, around_others=1.0)
    [target] = PairCrops([replace(made, others=torch.tensor([[30, 35, 40]]))], around, seed=1)[0].targets
    wanted = made.target[14:46, 19:51, 24:56]
    torch.testing.assert_close(target.flatten().sort().values, wanted.flatten().sort().values)  # but for the turn


def test_simulated_crops_are_mixed_in(pair: Pair) -> None:
    made = prepare_pair(pair, voxel_size=1.0, masked=False)
    config = CropConfig(edge=32)
    alone = PairCrops([made], config, seed=1)
    mixed = PairCrops([made], config, seed=1, simulated=PairCrops([made], config, seed=9), simulated_share=0.5)
    same = [torch.equal(mixed[i].inputs, PairCrops([made], config, seed=9)[i].inputs) for i in range(12)]
    assert 2 < sum(same) < 10
    assert not torch.equal(alone[0].inputs, alone[1].inputs)


def test_turns_are_the_24_rotations_of_a_cube() -> None:
    values = torch.arange(27.0).view(3, 3, 3)
    rng = np.random.default_rng(1)
    seen = {tuple(_turned(values, _turn(rng)).flatten().tolist()) for _ in range(600)}
    assert len(seen) == 24
    assert tuple(values.flip(0).flatten().tolist()) not in seen, "no mirror image"
    assert tuple(values.transpose(0, 1).flatten().tolist()) not in seen
