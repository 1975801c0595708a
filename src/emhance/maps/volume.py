"""What a density map is: its values, and the geometry that ties them to space."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emhance.errors import GeometryError

FloatArray = NDArray[np.float32]

ISOTROPY_TOLERANCE = 0.01
"""Largest relative difference between the voxel sizes of the three axes."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Where a map lies in space: the MRC header's own words, in zyx order.

    Parameters
    ----------
    shape
        Box in voxels, ``(nz, ny, nx)``.
    cell
        Edges of the unit cell in Å (header words 11-13).
    sampling
        Voxels along each edge of the unit cell (header words 8-10); equal to `shape` for a whole box.
    origin
        Position of the first voxel in Å (header words 50-52).
    nstart
        Position of the first voxel in voxels (header words 5-7). Never added to `origin`: programs use one or the other.
    space_group
        Header word 23: 0 or 1 for a single map.
    """

    shape: tuple[int, int, int]
    cell: tuple[float, float, float]
    sampling: tuple[int, int, int]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    nstart: tuple[int, int, int] = (0, 0, 0)
    space_group: int = 1

    @classmethod
    def whole_box(
        cls,
        shape: tuple[int, int, int],
        voxel_size: float,
        *,
        origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
        nstart: tuple[int, int, int] = (0, 0, 0),
    ) -> Geometry:
        """Geometry of a box that is its own unit cell, with cubic voxels of `voxel_size` Å."""
        nz, ny, nx = shape
        cell = (nz * voxel_size, ny * voxel_size, nx * voxel_size)
        return cls(shape=shape, cell=cell, sampling=shape, origin=origin, nstart=nstart)

    @property
    def voxel_size_zyx(self) -> tuple[float, float, float]:
        """Voxel size along each axis in Å."""
        z, y, x = (edge / n for edge, n in zip(self.cell, self.sampling, strict=True))
        return (z, y, x)

    @property
    def voxel_size(self) -> float:
        """Mean voxel size in Å."""
        return float(sum(self.voxel_size_zyx) / 3.0)

    def require_isotropic(self, name: str) -> None:
        """Raise `GeometryError` unless the voxels of the map called `name` are cubic within 1 %."""
        sizes = self.voxel_size_zyx
        if max(sizes) - min(sizes) > ISOTROPY_TOLERANCE * self.voxel_size:
            z, y, x = sizes
            raise GeometryError(
                f"{name}: voxels measure {x:.4g} x {y:.4g} x {z:.4g} Å (x, y, z) and differ by more than 1 %; "
                "resample the map to cubic voxels first, or give the true size with --voxel-size."
            )

    def with_voxel_size(self, voxel_size: float) -> Geometry:
        """Return a copy whose voxels are cubes of `voxel_size` Å; origin and nstart stay as they are."""
        z, y, x = (n * voxel_size for n in self.sampling)
        return replace(self, cell=(z, y, x))


@dataclass(frozen=True, eq=False)
class DensityMap:
    """A density map: float32 values in zyx order and their geometry.

    Parameters
    ----------
    data
        Density, shape ``(nz, ny, nx)``, C order, float32.
    geometry
        Position and voxel size; ``geometry.shape`` equals ``data.shape``.
    labels
        Text labels of the header, at most ten of 80 characters.
    path
        The file the map was read from, if any.
    sha256
        SHA-256 of that file's bytes, if it was read from a file.
    """

    data: FloatArray
    geometry: Geometry
    labels: tuple[str, ...] = ()
    path: Path | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        if self.data.shape != self.geometry.shape:
            raise GeometryError(f"The data measure {self.data.shape} voxels but the geometry says {self.geometry.shape}.")

    @property
    def voxel_size(self) -> float:
        """Mean voxel size in Å."""
        return self.geometry.voxel_size

    @property
    def name(self) -> str:
        """The file's name, or "map" for one that did not come from a file."""
        return self.path.name if self.path is not None else "map"


def require_same_geometry(first: DensityMap, second: DensityMap, *, what: str) -> None:
    """Raise `GeometryError` unless two maps used together have the same box, voxel size, origin and nstart.

    Parameters
    ----------
    first, second
        The maps to compare.
    what
        What they are, for the message: "half maps", "map and mask".

    Raises
    ------
    GeometryError
        Naming both maps, the property and both values.
    """
    a, b = first.geometry, second.geometry
    checks: list[tuple[str, object, object, bool]] = [
        ("box", a.shape[::-1], b.shape[::-1], a.shape == b.shape),
        (
            "voxel size",
            f"{a.voxel_size:.5g} Å",
            f"{b.voxel_size:.5g} Å",
            bool(np.allclose(a.voxel_size_zyx, b.voxel_size_zyx, rtol=1e-3)),
        ),
        ("origin", a.origin[::-1], b.origin[::-1], bool(np.allclose(a.origin, b.origin, atol=0.01 * a.voxel_size))),
        ("nstart", a.nstart[::-1], b.nstart[::-1], a.nstart == b.nstart),
    ]
    for label, value_a, value_b, same in checks:
        if not same:
            raise GeometryError(
                f"The {what} differ in {label}: {first.name} has {value_a}, {second.name} has {value_b} (x, y, z); "
                "both must lie on the same grid."
            )
