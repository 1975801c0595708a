"""Atoms: what the simulator needs of an atomic model, read from mmCIF or PDB, or from memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from emhance.errors import AtomicModelError

KINDS = ("protein", "nucleic", "other")
"""What an atom belongs to: a residue of a protein, of a nucleic acid, or anything else (ligand, glycan, lipid, ion)."""


@dataclass(frozen=True, eq=False)
class Atoms:
    """Atoms of one atomic model, without hydrogens and waters.

    Parameters
    ----------
    positions
        Coordinates in Å, zyx, shape ``(n, 3)``, float32.
    elements
        Atomic numbers, shape ``(n,)``.
    b_factors
        Isotropic B-factors in Å², shape ``(n,)``, float32.
    occupancies
        0 to 1, shape ``(n,)``, float32.
    kinds
        Index into `KINDS`, shape ``(n,)``.
    """

    positions: NDArray[np.float32]
    elements: NDArray[np.uint8]
    b_factors: NDArray[np.float32]
    occupancies: NDArray[np.float32]
    kinds: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.elements)


def read_atoms(path: Path | str) -> Atoms:
    """Read the atoms of the first model of an mmCIF or PDB file (gzipped or not), as `read_model` does."""
    return atoms_of(read_model(path), name=str(path))


def read_model(path: Path | str) -> gemmi.Model:
    """Read the first model of an mmCIF or PDB file (gzipped or not).

    Hydrogens, waters and all but the first alternative conformation are left out.

    Raises
    ------
    AtomicModelError
        If the file cannot be read or holds no atoms.
    """
    try:
        structure = gemmi.read_structure(str(path))
    except (OSError, RuntimeError, ValueError) as error:
        raise AtomicModelError(f"{path} cannot be read as an atomic model ({error}); give an mmCIF or PDB file.") from error
    if len(structure) == 0:
        raise AtomicModelError(f"{path} holds no atoms; give an mmCIF or PDB file with coordinates.")
    structure.setup_entities()
    structure.remove_hydrogens()
    structure.remove_waters()
    structure.remove_alternative_conformations()
    return structure[0].clone()


def atoms_of(model: gemmi.Model, *, name: str = "the atomic model") -> Atoms:
    """Atoms of a gemmi model, in its order; `name` is for the error message."""
    positions, elements, b_factors, occupancies, kinds = [], [], [], [], []
    for chain in model:
        for residue in chain:
            info = gemmi.find_tabulated_residue(residue.name)
            kind = 0 if info.is_amino_acid() else 1 if info.is_nucleic_acid() else 2
            for atom in residue:
                positions.append((atom.pos.z, atom.pos.y, atom.pos.x))
                elements.append(atom.element.atomic_number)
                b_factors.append(atom.b_iso)
                occupancies.append(atom.occ)
                kinds.append(kind)
    if not positions:
        raise AtomicModelError(f"{name} holds no atoms; give an mmCIF or PDB file with coordinates.")
    return Atoms(
        np.array(positions, np.float32),
        np.array(elements, np.uint8),
        np.array(b_factors, np.float32),
        np.array(occupancies, np.float32),
        np.array(kinds, np.uint8),
    )
