"""Atoms from files, packed structures, and the example protein."""

import gzip
from pathlib import Path

import gemmi
import numpy as np
import pytest

from atomic_models import write_model
from emhance.errors import AtomicModelError
from emhance.training.atoms import KINDS, Atoms, read_atoms
from emhance.training.example_protein import example_protein
from emhance.training.structures import (
    LEAST_ATOMS,
    STEP,
    Structures,
    is_validation,
    load_structures,
    prepare_structures,
    structure_files,
)

PDB = """\
CRYST1   10.000   10.000   10.000  90.00  90.00  90.00 P 1           1
ATOM      1  N   ALA A   1      11.104   6.134  -6.504  1.00 10.00           N
ATOM      2  CA AALA A   1      11.639   6.071  -5.147  0.60 20.00           C
ATOM      3  CA BALA A   1      12.639   7.071  -4.147  0.40 25.00           C
ATOM      4  H   ALA A   1      10.639   6.071  -5.147  1.00 10.00           H
ATOM      5  P     G B   1       1.000   2.000   3.000  1.00 30.00           P
HETATM    6 MG    MG C   1       5.000   6.000   7.000  0.50 40.00          MG
HETATM    7  O   HOH C   2       9.000   9.000   9.000  1.00 50.00           O
END
"""


@pytest.mark.parametrize("packed", [False, True])
def test_atoms_of_a_pdb_file(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / ("model.pdb.gz" if packed else "model.pdb")
    path.write_bytes(gzip.compress(PDB.encode()) if packed else PDB.encode())
    atoms = read_atoms(path)
    assert atoms.elements.tolist() == [7, 6, 15, 12], "no hydrogen, no water, one conformation"
    np.testing.assert_allclose(atoms.positions[0], [-6.504, 6.134, 11.104], atol=1e-4)
    assert atoms.b_factors.tolist() == [10, 20, 30, 40]
    assert atoms.occupancies[-1] == pytest.approx(0.5)
    assert [KINDS[kind] for kind in atoms.kinds] == ["protein", "protein", "nucleic", "other"]


def test_atoms_of_an_mmcif_file(tmp_path: Path) -> None:
    structure = gemmi.read_pdb_string(PDB)
    structure.setup_entities()
    structure.make_mmcif_document().write_file(str(tmp_path / "model.cif"))
    assert read_atoms(tmp_path / "model.cif").elements.tolist() == [7, 6, 15, 12]


@pytest.mark.parametrize("text", [None, "", "nothing of the kind\n" * 5])
def test_what_is_no_atomic_model_is_said(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "model.pdb"
    if text is not None:
        path.write_text(text)
    with pytest.raises(AtomicModelError, match=r"model\.pdb"):
        read_atoms(path)


def test_the_example_protein_has_the_right_size_and_repeats() -> None:
    atoms, again, other = example_protein(seed=1), example_protein(seed=1), example_protein(seed=2)
    assert 1200 < len(atoms) < 2000
    assert np.array_equal(atoms.positions, again.positions)
    assert not np.array_equal(atoms.positions, other.positions)
    assert set(atoms.elements.tolist()) == {6, 7, 8, 16}
    extent = np.ptp(atoms.positions, axis=0)
    assert (extent > 20).all()
    assert (extent < 60).all()


def atoms_near(distance: float) -> Atoms:
    rng = np.random.default_rng(1)
    n = 150
    positions = rng.uniform(-distance, distance, (n, 3)).astype(np.float32)
    kinds = rng.integers(0, 3, n).astype(np.uint8)
    b_factors, occupancies = rng.uniform(1, 200, n).astype(np.float32), rng.uniform(0, 1, n).astype(np.float32)
    return Atoms(positions, rng.integers(6, 17, n).astype(np.uint8), b_factors, occupancies, kinds)


def test_structures_survive_packing(tmp_path: Path) -> None:
    write_model(tmp_path / "one.pdb", atoms_near(40.0))
    write_model(tmp_path / "two.pdb", atoms_near(80.0))
    (tmp_path / "broken.pdb").write_text("no atoms")
    assert prepare_structures(tmp_path.glob("*.pdb"), tmp_path / "packed.npz") == 2
    packed = load_structures(tmp_path / "packed.npz")
    assert sorted(packed.atoms) == ["one", "two"]
    assert packed.number_of_clusters == 1  # both are poly-alanine
    for name, atoms in packed.atoms.items():
        original = read_atoms(tmp_path / f"{name}.pdb")
        centred = original.positions - original.positions.mean(0)
        np.testing.assert_allclose(atoms.positions, centred, atol=0.51 * STEP)
        assert np.array_equal(atoms.elements, original.elements)
        assert np.array_equal(atoms.kinds, original.kinds)
        np.testing.assert_allclose(atoms.b_factors, original.b_factors, atol=0.51)
        np.testing.assert_allclose(atoms.occupancies, original.occupancies, atol=0.0051)


def few_atoms(count: int) -> Atoms:
    atoms = atoms_near(20.0)
    return Atoms(*(getattr(atoms, name)[:count] for name in ("positions", "elements", "b_factors", "occupancies", "kinds")))


def test_files_of_no_use_are_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_model(tmp_path / "small.pdb", few_atoms(LEAST_ATOMS - 1))
    write_model(tmp_path / "large.pdb", few_atoms(LEAST_ATOMS))
    (tmp_path / "broken.pdb").write_text("no atoms")
    assert prepare_structures(structure_files(tmp_path), tmp_path / "packed.npz") == 1
    assert "small.pdb" in caplog.text
    assert "broken.pdb" in caplog.text
    with pytest.raises(AtomicModelError, match="None of the 1 files"):
        prepare_structures([tmp_path / "small.pdb"], tmp_path / "other.npz")
    assert not (tmp_path / "other.npz").exists()


def test_clusters_are_kept_and_split(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2), ("c", 3), ("b2", 2)):
        write_model(tmp_path / f"{name}.pdb", atoms_near(40.0), seed=seed)
    prepare_structures(structure_files(tmp_path), tmp_path / "packed.npz")
    structures = load_structures(tmp_path / "packed.npz")
    assert structures.number_of_clusters == 3
    assert structures.cluster["b"] == structures.cluster["b2"]
    training, validation = structures.split()
    assert len(training) + len(validation) == 4
    assert validation, "of few clusters one stands aside"


def test_related_models_never_come_apart() -> None:
    atoms = atoms_near(10.0)
    names = [f"m{i}" for i in range(400)]
    structures = Structures(dict.fromkeys(names, atoms), {name: f"m{i // 2}" for i, name in enumerate(names)})
    training, validation = structures.split()
    assert len(training) % 2 == len(validation) % 2 == 0
    assert len(validation) == pytest.approx(400 * 0.06, rel=0.5)


def test_a_file_without_clusters_is_read_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_model(tmp_path / "a.pdb", atoms_near(40.0), seed=1)
    prepare_structures(structure_files(tmp_path), tmp_path / "packed.npz")
    with np.load(tmp_path / "packed.npz") as file:
        np.savez(tmp_path / "old.npz", **{key: file[key] for key in file.files if key.startswith("a/")})
    assert load_structures(tmp_path / "old.npz").cluster == {"a": "a"}
    assert "clusters" in caplog.text


@pytest.mark.parametrize("content", [None, b"", b"no archive at all"])
def test_a_file_that_is_no_packed_file_is_said(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "packed.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AtomicModelError, match=r"packed\.npz"):
        load_structures(path)


def test_the_split_is_decided_by_the_name_alone() -> None:
    names = [f"structure{i}" for i in range(4000)]
    chosen = [name for name in names if is_validation(name)]
    assert len(chosen) == pytest.approx(240, rel=0.25)
    assert [name for name in names if is_validation(name)] == chosen
    assert not any(is_validation(name, 0.0) for name in names)
    assert all(is_validation(name, 1.0) for name in names)
