"""A map against an atomic model: map-model FSC, and correlation in the box and around the atoms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from emhance.errors import AtomicModelError
from emhance.maps.fourier import Curve, Spectrum, fsc_of_spectra, low_pass, resolution_at, shell_frequencies
from emhance.maps.volume import FloatArray, Geometry
from emhance.validation.spectra import masked_transform

MASK_RADIUS = 3.0
"""Å around every atom that count as the molecule."""

MASK_SOFTNESS = 1.5
"""Standard deviation in Å of the Gaussian that softens that mask for the masked FSC."""


@dataclass(frozen=True, eq=False)
class ModelDensity:
    """Density of an atomic model on a map's grid.

    Parameters
    ----------
    data
        Electron-scattering density (arbitrary scale), shape ``(nz, ny, nx)``.
    molecule
        True within 3 Å of an atom, same shape.
    number_of_atoms
        Atoms inside the box.
    """

    data: FloatArray
    molecule: NDArray[np.bool_]
    number_of_atoms: int


@dataclass(frozen=True, eq=False)
class MapModelFit:
    """How well a map and an atomic model agree.

    Parameters
    ----------
    frequency, fsc, fsc_masked
        1/Å, and the map-model FSC of the whole box and within a soft mask around the atoms.
    resolution, resolution_masked
        Å at which each curve falls below 0.5.
    cc_box, cc_mask
        Pearson correlation with the model's density cut at `at_resolution`: all voxels, and those within 3 Å of an atom.
    at_resolution
        Å.
    number_of_atoms
        Atoms inside the box.
    """

    frequency: Curve
    fsc: Curve
    fsc_masked: Curve
    resolution: float
    resolution_masked: float
    cc_box: float
    cc_mask: float
    at_resolution: float
    number_of_atoms: int


def model_density(path: str | Path, geometry: Geometry) -> ModelDensity:
    """Turn an atomic model into electron-scattering density on a map's grid.

    B-factors and occupancies are the file's; hydrogens, waters and alternative conformations are left out. The model is placed by
    the map's origin, or by its nstart if the origin is 0.

    Parameters
    ----------
    path
        mmCIF or PDB file.
    geometry
        Of the map.

    Raises
    ------
    AtomicModelError
        If the file cannot be read, or none of its atoms lies in the box.
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
    positions = _move_into_box(structure, geometry)
    if not len(positions):
        raise AtomicModelError(f"No atom of {path} lies inside the map's box; check that map and model share one frame.")
    calculator = gemmi.DensityCalculatorE()
    calculator.d_min, calculator.rate = 2 * geometry.voxel_size, 1.0
    calculator.set_grid_cell_and_spacegroup(structure)
    nz, ny, nx = geometry.shape
    calculator.grid.set_size(nx, ny, nz)
    calculator.add_model_density_to_grid(structure[0])
    data = np.ascontiguousarray(np.asarray(calculator.grid).transpose(2, 1, 0), dtype=np.float32)
    return ModelDensity(data, _near(positions, geometry), len(positions))


def map_model_fit(
    data: FloatArray, model: ModelDensity, *, voxel_size: float, resolution: float, workers: int | None = None
) -> MapModelFit:
    """Compare a map with the density of an atomic model.

    Parameters
    ----------
    data
        Map, shape ``(nz, ny, nx)``.
    model
        From `model_density`, on the same grid.
    voxel_size
        Å.
    resolution
        At which the model's density is cut for the correlations, Å.
    workers
        Threads of the Fourier transforms; None for one.

    Notes
    -----
    Definitions of Afonine et al. 2018, Acta Cryst D74:814, doi 10.1107/S2059798318009324; FSC curves use the whole density.
    """
    nz, ny, nx = data.shape
    shape = (nz, ny, nx)
    frequency = shell_frequencies(shape, voxel_size)
    F: Spectrum = scipy.fft.rfftn(data, workers=workers)
    G: Spectrum = scipy.fft.rfftn(model.data, workers=workers)
    fsc = fsc_of_spectra(F, G, shape)
    del F, G
    soft = gaussian_filter(model.molecule.astype(np.float32), MASK_SOFTNESS / voxel_size, mode="wrap")
    F, G = masked_transform(data, soft, workers=workers), masked_transform(model.data, soft, workers=workers)
    del soft
    fsc_masked = fsc_of_spectra(F, G, shape)
    del F, G
    cut = low_pass(model.data, voxel_size, resolution, edge_shells=1, workers=workers)
    return MapModelFit(
        frequency=frequency,
        fsc=fsc,
        fsc_masked=fsc_masked,
        resolution=resolution_at(frequency, fsc, 0.5),
        resolution_masked=resolution_at(frequency, fsc_masked, 0.5),
        cc_box=_correlation(data.ravel(), cut.ravel()),
        cc_mask=_correlation(data[model.molecule], cut[model.molecule]),
        at_resolution=resolution,
        number_of_atoms=model.number_of_atoms,
    )


def _move_into_box(structure: gemmi.Structure, geometry: Geometry) -> NDArray[np.float64]:
    """Shift the first model into the box's own frame, drop atoms outside; returns the coordinates left, zyx in Å."""
    z, y, x = first_voxel(geometry)
    voxel = geometry.voxel_size
    size_x, size_y, size_z = size_xyz = [n * voxel for n in geometry.shape[::-1]]
    while len(structure) > 1:
        del structure[-1]
    kept = []
    for chain in structure[0]:
        for residue in chain:
            for i in reversed(range(len(residue))):
                atom = residue[i]
                position = gemmi.Position(atom.pos.x - x, atom.pos.y - y, atom.pos.z - z)
                if all(0 < p < edge - voxel for p, edge in zip(position.tolist(), size_xyz, strict=True)):
                    atom.pos = position
                    kept.append(position.tolist()[::-1])
                else:
                    del residue[i]
    structure.remove_empty_chains()
    structure.cell = gemmi.UnitCell(size_x, size_y, size_z, 90, 90, 90)
    structure.spacegroup_hm = "P 1"
    return np.array(kept, dtype=np.float64).reshape(-1, 3)


def first_voxel(geometry: Geometry) -> tuple[float, float, float]:
    """Position of the first voxel in Å, zyx: the origin, or nstart where the origin is 0 (never both)."""
    if any(abs(value) > 1e-3 for value in geometry.origin):
        return geometry.origin
    z, y, x = (start * geometry.voxel_size for start in geometry.nstart)
    return (z, y, x)


def _near(positions: NDArray[np.float64], geometry: Geometry) -> NDArray[np.bool_]:
    """Where the voxels within `MASK_RADIUS` of an atom's voxel are."""
    free = np.ones(geometry.shape, dtype=bool)
    index = np.clip(np.rint(positions / geometry.voxel_size).astype(int), 0, np.array(geometry.shape) - 1)
    free[tuple(index.T)] = False
    reach = int(np.ceil(MASK_RADIUS / geometry.voxel_size)) + 1
    near = np.zeros(geometry.shape, dtype=bool)
    # Slab by slab: the distances of a whole large box would take many times its memory.
    thickness = 32
    for first in range(0, len(free), thickness):
        start = max(first - reach, 0)
        slab = free[start : first + thickness + reach]
        if slab.all():
            continue
        distance = distance_transform_edt(slab)[first - start :][:thickness]
        near[first : first + thickness] = distance * geometry.voxel_size <= MASK_RADIUS
    return near


def _correlation(a: FloatArray, b: FloatArray) -> float:
    return float(np.corrcoef(a, b)[0, 1])
