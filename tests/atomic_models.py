"""Atomic models written to files, with sequences of their own."""

from pathlib import Path

import gemmi
import numpy as np

from emhance.training.atoms import Atoms

AMINO_ACIDS = ("ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIS", "ILE")


def write_model(path: Path, atoms: Atoms, *, seed: int | None = None, chain_length: int = 100) -> Path:
    """Write atoms as PDB or mmCIF by the path's ending, each a residue of its own; all are alanine, or as the seed decides."""
    rng = np.random.default_rng(seed)
    model = gemmi.Model(1)
    for number, position in enumerate(atoms.positions):
        if number % chain_length == 0:
            chain = gemmi.Chain(chr(ord("A") + number // chain_length))
            model.add_chain(chain)
            chain = model[-1]
        residue = gemmi.Residue()
        residue.name = "ALA" if seed is None else AMINO_ACIDS[rng.integers(len(AMINO_ACIDS))]
        residue.seqid = gemmi.SeqId(number % chain_length + 1, " ")
        residue.entity_type = gemmi.EntityType.Polymer
        atom = gemmi.Atom()
        atom.name, atom.element = "CA", gemmi.Element(int(atoms.elements[number]))
        atom.pos = gemmi.Position(*(float(v) for v in position[::-1]))
        atom.b_iso, atom.occ = float(atoms.b_factors[number]), float(atoms.occupancies[number])
        residue.add_atom(atom)
        chain.add_residue(residue)
    structure = gemmi.Structure()
    structure.add_model(model)
    structure.setup_entities()
    if path.suffix == ".cif":
        structure.make_mmcif_document().write_file(str(path))
    else:
        structure.write_pdb(str(path))
    return path
