"""Many atomic models in one compact file, and their split into training and validation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from emhance.errors import AtomicModelError
from emhance.training.atoms import Atoms, read_atoms

STEP = 0.01
"""Coordinates are kept to this many Å, relative to the model's centre."""

REACH = 320.0
"""Atoms farther than this from the centre along an axis, in Å, are left out."""


def prepare_structures(paths: Iterable[Path], output: Path) -> int:
    """Pack atomic models into one compressed file; return how many.

    Parameters
    ----------
    paths
        mmCIF or PDB files.
    output
        The ``.npz`` to write: about 5 bytes an atom.
    """
    arrays: dict[str, np.ndarray] = {}
    count = 0
    for path in sorted(paths):
        try:
            atoms = read_atoms(path)
        except AtomicModelError:
            continue
        centred = atoms.positions - atoms.positions.mean(0)
        near = (np.abs(centred) < REACH).all(1)
        name = path.name.split(".")[0]
        arrays[f"{name}/positions"] = np.rint(centred[near] / STEP).astype(np.int16)
        arrays[f"{name}/elements"] = atoms.elements[near]
        arrays[f"{name}/b_factors"] = np.clip(np.rint(atoms.b_factors[near]), 0, 999).astype(np.int16)
        arrays[f"{name}/occupancies"] = np.rint(np.clip(atoms.occupancies[near], 0, 1) * 100).astype(np.uint8)
        arrays[f"{name}/kinds"] = atoms.kinds[near]
        count += 1
    np.savez_compressed(output, allow_pickle=False, **arrays)
    return count


def load_structures(path: Path) -> dict[str, Atoms]:
    """Read back what `prepare_structures` wrote: atomic models by name."""
    return dict(_load(path))


def _load(path: Path) -> Iterator[tuple[str, Atoms]]:
    with np.load(path, allow_pickle=False) as file:
        names = sorted({key.split("/")[0] for key in file.files})
        for name in names:
            yield (
                name,
                Atoms(
                    file[f"{name}/positions"].astype(np.float32) * np.float32(STEP),
                    file[f"{name}/elements"],
                    file[f"{name}/b_factors"].astype(np.float32),
                    file[f"{name}/occupancies"].astype(np.float32) / 100,
                    file[f"{name}/kinds"],
                ),
            )


def is_validation(name: str, share: float = 0.05) -> bool:
    """Whether the structure belongs to the validation set: decided by its name alone, so that every run agrees."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:4], "big") < share * 2**32
