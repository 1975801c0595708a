"""Masks: checking a binary one, and giving it a soft edge."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from emhance.errors import MaskError
from emhance.maps.volume import DensityMap, FloatArray

BoolArray = NDArray[np.bool_]

_VOXEL_SIZE_TOLERANCE = 1e-3
_SLAB = 32  # planes


def check_binary_mask(mask: DensityMap, density_map: DensityMap) -> BoolArray:
    """Return where a binary mask is set, or say why it cannot be used with its map.

    A mask is binary if it holds 0 and one other, positive value. Its origin is not compared, because programs that make
    masks seldom keep it.

    Parameters
    ----------
    mask
        The mask, on the map's grid. A voxel size of 0 (not stated) is accepted.
    density_map
        The map it belongs to.

    Returns
    -------
    ndarray
        True inside the mask, shape ``(nz, ny, nx)``.

    Raises
    ------
    MaskError
        If the box or voxel size is another, or the mask is empty, covers everything, or is not binary.
    """
    if mask.geometry.shape != density_map.geometry.shape:
        raise MaskError(
            f"The mask {mask.name} has a box of {_box(mask)} voxels, the map {density_map.name} one of {_box(density_map)}; "
            "make the mask on the map's own grid."
        )
    sizes, wanted = mask.geometry.voxel_size_zyx, density_map.geometry.voxel_size_zyx
    if any(size > 0 and not math.isclose(size, w, rel_tol=_VOXEL_SIZE_TOLERANCE) for size, w in zip(sizes, wanted, strict=True)):
        raise MaskError(
            f"The mask {mask.name} has a voxel size of {mask.voxel_size:.5g} Å, the map {density_map.name} one of "
            f"{density_map.voxel_size:.5g} Å; make the mask on the map's own grid, or correct its header."
        )
    data = mask.data
    low, high = float(data.min()), float(data.max())
    if low == high == 0:
        raise MaskError(f"The mask {mask.name} is empty (0 everywhere); give one that is 1 on the molecule and 0 elsewhere.")
    if low == high:
        raise MaskError(
            f"The mask {mask.name} covers the whole box ({low:g} everywhere); give one that is 1 on the molecule and 0 elsewhere."
        )
    inside: BoolArray = data > 0
    between = int(np.count_nonzero(inside)) - int(np.count_nonzero(data == high))
    if low != 0 or between:
        values = f"values from {low:g} to {high:g}" + (f", {between} voxels between 0 and {high:g}" if low == 0 else "")
        raise MaskError(
            f"The mask {mask.name} is not binary ({values}); give one of 0 and 1, for example from relion_mask_create with "
            "--width_soft_edge 0, or e2proc3d.py with --process threshold.binary:value=0.5."
        )
    return inside


def soft_mask(binary: BoolArray, *, width_voxels: float) -> FloatArray:
    """Give a binary mask a cosine edge that falls from 1 to 0 outside it.

    Parameters
    ----------
    binary
        True inside, shape ``(nz, ny, nx)``.
    width_voxels
        Width of the edge in voxels, > 0: the mask is 0 from this distance on.

    Returns
    -------
    ndarray
        Values 0 to 1, same shape, float32.
    """
    soft = np.zeros(binary.shape, dtype=np.float32)
    halo = math.ceil(width_voxels)
    # Slab by slab and no further than the edge reaches: distances of a whole large box would take many times its memory.
    for first in range(0, binary.shape[0], _SLAB):
        z = slice(max(first - halo, 0), first + _SLAB + halo)
        near = binary[z]
        if not near.any():
            continue
        y, x = (_reach(np.asarray(near.any(axis=axes)), halo) for axes in ((0, 2), (0, 1)))
        distance = distance_transform_edt(~near[:, y, x])[first - z.start :][:_SLAB]
        soft[first : first + _SLAB, y, x] = 0.5 + 0.5 * np.cos(np.pi * np.minimum(distance / width_voxels, 1.0))
    return soft


def _reach(occupied: BoolArray, halo: int) -> slice:
    """Give the part of an axis that lies no further than `halo` from what is occupied."""
    where = np.flatnonzero(occupied)
    return slice(max(int(where[0]) - halo, 0), int(where[-1]) + halo + 1)


def _box(density_map: DensityMap) -> str:
    z, y, x = density_map.geometry.shape
    return f"{x} x {y} x {z}"
