"""A small protein built in code, for the demo: a bundle of helices around a strand, with every kind of side chain."""

from __future__ import annotations

import math
import warnings

import gemmi
import numpy as np

from emhance.training.atoms import Atoms, atoms_of

SEQUENCE = "AEKLYRWFDNQIHMTSVLAEKFLRAYLEQ"
HELIX, STRAND = (-57.0, -47.0), (-120.0, 130.0)
SPACING = 10.0
"""Distance of neighbouring helix axes, Å."""


def example_protein(*, seed: int = 0) -> Atoms:
    """Seven secondary-structure elements side by side, alternately up and down: about 1,600 atoms.

    Parameters
    ----------
    seed
        Decides how each element is turned about its axis, and the B-factors' gradient.
    """
    rng = np.random.default_rng(seed)
    model = gemmi.Model(1)
    places = [(0.0, 0.0)] + [(SPACING * math.cos(k * math.pi / 3), SPACING * math.sin(k * math.pi / 3)) for k in range(6)]
    for number, (x, y) in enumerate(places):
        sequence = SEQUENCE[number:] + SEQUENCE[:number]
        phi_psi = STRAND if number == 0 else HELIX
        coordinates = _element(sequence[:14] if number == 0 else sequence, phi_psi)
        turn = rng.uniform(0, 2 * math.pi)
        rotation = np.array([[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]])
        if number % 2:
            rotation = rotation @ np.diag([1.0, -1.0, -1.0])
        chain = gemmi.Chain(chr(ord("A") + number))
        for residue_number, (name, atoms) in enumerate(coordinates, 1):
            residue = gemmi.Residue()
            residue.name, residue.seqid = name, gemmi.SeqId(residue_number, " ")
            for element, position in atoms:
                placed = rotation @ position + np.array([x, y, 0.0])
                atom = gemmi.Atom()
                atom.name, atom.element, atom.occ = element, gemmi.Element(element), 1.0
                atom.pos = gemmi.Position(*placed)
                atom.b_iso = 30.0 + 20.0 * abs(float(placed[2])) / 20.0
                residue.add_atom(atom)
            chain.add_residue(residue)
        model.add_chain(chain)
    return atoms_of(model, name="the example protein")


def _element(sequence: str, phi_psi: tuple[float, float]) -> list[tuple[str, list[tuple[str, np.ndarray]]]]:
    """One helix or strand along z, centred at the origin: residue names with their atoms' elements and positions (xyz, Å)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Biopython warns about its own deprecations
        import PeptideBuilder
        from PeptideBuilder import Geometry

        structure = None
        for letter in sequence:
            geometry = Geometry.geometry(letter)
            geometry.phi, geometry.psi_im1 = phi_psi
            if structure is None:
                structure = PeptideBuilder.initialize_res(geometry)
            else:
                PeptideBuilder.add_residue(structure, geometry)
    residues = list(structure.get_residues())  # type: ignore[union-attr]
    positions = np.array([atom.coord for residue in residues for atom in residue], float)
    centre = positions.mean(0)
    axis = np.linalg.svd(positions - centre)[2][0]
    helper = np.array([1.0, 0.0, 0.0]) if abs(axis[0]) < 0.9 else np.array([0.0, 1.0, 0.0])
    side = np.cross(axis, helper)
    side /= np.linalg.norm(side)
    frame = np.stack([side, np.cross(axis, side), axis])
    return [
        (residue.get_resname(), [(str(atom.element), frame @ (np.asarray(atom.coord, float) - centre)) for atom in residue])
        for residue in residues
    ]
