"""Many atomic models in one compact file, and their split into training and validation."""

from __future__ import annotations

import hashlib
import logging
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emhance.errors import AtomicModelError
from emhance.maps.atomic_write import atomic_output
from emhance.training.atoms import Atoms, atoms_of, read_model
from emhance.training.sequences import sequence_clusters, sequence_words

logger = logging.getLogger("emhance")

STEP = 0.01
"""Coordinates are kept to this many Å, relative to the model's centre."""

REACH = 320.0
"""Atoms farther than this from the centre along an axis, in Å, are left out."""

LEAST_ATOMS = 100
"""Atoms of a model worth simulating."""

VALIDATION_SHARE = 0.06
"""Share of the clusters that training never sees."""

ENDINGS = (".cif", ".mmcif", ".pdb", ".ent")
"""Of files that hold atomic models; ``.gz`` may follow."""

_CLUSTERS = "//clusters"
"""Entry of the packed file, no name of a model, with a row (name, representative of its cluster) for every model."""


@dataclass(frozen=True, eq=False)
class Structures:
    """Atomic models and how they are related.

    Parameters
    ----------
    atoms
        By name.
    cluster
        Name of the representative of each one's sequence cluster; its own where clusters are not known.
    """

    atoms: dict[str, Atoms]
    cluster: dict[str, str]

    def __len__(self) -> int:
        return len(self.atoms)

    @property
    def number_of_clusters(self) -> int:
        """How many clusters there are."""
        return len(set(self.cluster.values()))

    def split(self) -> tuple[list[Atoms], list[Atoms]]:
        """The models to train on and those to validate on, which share no cluster.

        Raises
        ------
        AtomicModelError
            If either is empty.
        """
        training: list[Atoms] = []
        validation: list[Atoms] = []
        for name, atoms in self.atoms.items():
            (validation if is_validation(self.cluster[name]) else training).append(atoms)
        if self.number_of_clusters > 1 and not validation:
            # Too few for a share of them to be one: the cluster whose turn comes first stands aside.
            chosen = min(set(self.cluster.values()), key=_number)
            training = [atoms for name, atoms in self.atoms.items() if self.cluster[name] != chosen]
            validation = [atoms for name, atoms in self.atoms.items() if self.cluster[name] == chosen]
        if not training or not validation:
            raise AtomicModelError(
                f"The {len(self)} atomic models form {self.number_of_clusters} sequence cluster(s), which leaves {len(training)} "
                f"for training and {len(validation)} for validation; give more that are not related."
            )
        return training, validation


def structure_files(folder: Path) -> list[Path]:
    """The mmCIF and PDB files in a folder, by name.

    Raises
    ------
    AtomicModelError
        If there are none.
    """
    paths = sorted(p for p in folder.iterdir() if p.name.lower().removesuffix(".gz").endswith(ENDINGS) and p.is_file())
    if not paths:
        raise AtomicModelError(f"The folder {folder} holds no atomic models; give one with mmCIF or PDB files.")
    return paths


def prepare_structures(
    paths: Iterable[Path], output: Path, *, overwrite: bool = False, progress: Callable[[int, int], None] | None = None
) -> int:
    """Pack atomic models and their sequence clusters into one compressed file; return how many.

    Files that hold no atomic model, or one of fewer than `LEAST_ATOMS` atoms, are left out with a warning.

    Parameters
    ----------
    paths
        mmCIF or PDB files.
    output
        The ``.npz`` to write: about 5 bytes an atom.
    overwrite
        Whether a file that is already there may be replaced.
    progress
        Called with how many files are done, and how many there are.

    Raises
    ------
    AtomicModelError
        If none of the files holds an atomic model, or two have one name.
    """
    arrays: dict[str, np.ndarray] = {}
    words: dict[str, frozenset[str]] = {}
    wanted = sorted(paths)
    for done, path in enumerate(wanted, 1):
        try:
            model = read_model(path)
            atoms = atoms_of(model, name=str(path))
        except AtomicModelError as error:
            logger.warning("%s", error)
            continue
        if len(atoms) < LEAST_ATOMS:
            logger.warning("%s is left out: it holds %d atoms, fewer than %d.", path, len(atoms), LEAST_ATOMS)
            continue
        name = path.name.split(".")[0]
        if name in words:
            raise AtomicModelError(f"Two files are called {name}; give every atomic model one name and one file.")
        centred = atoms.positions - atoms.positions.mean(0)
        near = (np.abs(centred) < REACH).all(1)
        arrays[f"{name}/positions"] = np.rint(centred[near] / STEP).astype(np.int16)
        arrays[f"{name}/elements"] = atoms.elements[near]
        arrays[f"{name}/b_factors"] = np.clip(np.rint(atoms.b_factors[near]), 0, 999).astype(np.int16)
        arrays[f"{name}/occupancies"] = np.rint(np.clip(atoms.occupancies[near], 0, 1) * 100).astype(np.uint8)
        arrays[f"{name}/kinds"] = atoms.kinds[near]
        words[name] = sequence_words(model)
        if progress is not None:
            progress(done, len(wanted))
    if not words:
        raise AtomicModelError(
            f"None of the {len(wanted)} files holds an atomic model of {LEAST_ATOMS} atoms or more; give others."
        )
    arrays[_CLUSTERS] = np.array(sorted(sequence_clusters(words).items()), dtype=np.str_)
    with atomic_output(output, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    return len(words)


def load_structures(path: Path) -> Structures:
    """Read back what `prepare_structures` wrote.

    A file without clusters is read as well, with a warning: every model is then its own cluster.

    Raises
    ------
    AtomicModelError
        If it cannot be read as such a file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            clusters = file[_CLUSTERS] if _CLUSTERS in file.files else None
            names = sorted({key.split("/")[0] for key in file.files if key != _CLUSTERS})
            atoms = {
                name: Atoms(
                    file[f"{name}/positions"].astype(np.float32) * np.float32(STEP),
                    file[f"{name}/elements"],
                    file[f"{name}/b_factors"].astype(np.float32),
                    file[f"{name}/occupancies"].astype(np.float32) / 100,
                    file[f"{name}/kinds"],
                )
                for name in names
            }
            cluster = {str(name): str(representative) for name, representative in clusters} if clusters is not None else {}
    except OSError as error:
        raise AtomicModelError(f"The structures {path} cannot be read ({error.strerror or error}); check the path.") from error
    except (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise AtomicModelError(
            f"{path} is not a file of prepared structures ({error}); give one that emhance prepared, or a folder of mmCIF or PDB "
            "files."
        ) from error
    if clusters is None:
        logger.warning("%s says nothing about sequence clusters; the split into training and validation goes by name.", path)
        cluster = {name: name for name in atoms}
    if set(cluster) != set(atoms):
        raise AtomicModelError(f"{path} is damaged: its clusters do not name its atomic models; prepare it again.")
    return Structures(atoms, cluster)


def is_validation(name: str, share: float = VALIDATION_SHARE) -> bool:
    """Whether the cluster of this name belongs to the validation set: decided by its name alone, so that every run agrees."""
    return _number(name) < share * 2**32


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
