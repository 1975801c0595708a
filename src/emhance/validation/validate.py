"""The story of a validation: two half maps in, every curve and number about them out.

result = validate("half1.mrc", "half2.mrc", enhanced="enhanced.mrc")
result.write("validation")
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emhance.errors import GeometryError, MaskError, OutputError
from emhance.maps.atomic_write import atomic_output, check_output
from emhance.maps.fourier import Curve, guinier_b_factor, shell_counts, shell_frequencies, shell_sums
from emhance.maps.mrc import read_map, write_map
from emhance.maps.volume import DensityMap, FloatArray, Geometry, require_same_geometry
from emhance.provenance import package_versions, plain
from emhance.validation.directional import DirectionalFsc, directional_fsc
from emhance.validation.emdb import write_fsc_xml
from emhance.validation.fsc import HALF_MAP_THRESHOLD, HalfMapFsc, half_map_fsc
from emhance.validation.local_resolution import local_resolution
from emhance.validation.map_model import MapModelFit, map_model_fit, model_density
from emhance.validation.masking import automatic_mask
from emhance.validation.spectra import masked_transform

MapLike = DensityMap | str | Path

GUINIER_START = 10.0
"""Å; the straight part of a Guinier plot begins here."""

FILES = ("validation.json", "fsc.xml", "mask.mrc", "local_resolution.mrc")
"""What `ValidationResult.write` leaves in a folder."""


@dataclass(frozen=True, eq=False)
class Guinier:
    """Amplitudes against spatial frequency, and the B-factor of their fall.

    Parameters
    ----------
    amplitude
        Root mean square amplitude per shell, within the mask.
    b_factor
        Å², fitted from 10 Å to the resolution; nan if that range is too short.
    """

    amplitude: Curve
    b_factor: float


@dataclass(frozen=True, eq=False)
class ValidationResult:
    """Everything `validate` found out.

    Parameters
    ----------
    inputs
        Role, path and SHA-256 of every input.
    fsc
        Half-map FSC curves and resolutions; ``fsc.frequency`` is the axis of every global curve here.
    directional
        FSC and resolution by direction, within the mask.
    guinier
        "before": mean of the half maps; "after": the enhanced map, if given.
    map_model
        "before" and "after" likewise, if an atomic model was given.
    local_resolution
        Å per voxel, on the half maps' grid; nan where the mask is empty.
    local_resolution_quantiles
        Å at 5, 25, 50, 75 and 95 % of the voxels in the mask.
    mask
        The soft mask that was used.
    mask_is_automatic
        Whether it was found from the map.
    geometry
        Of the half maps.
    versions
        Of emhance and its packages.
    """

    inputs: list[dict[str, Any]]
    fsc: HalfMapFsc
    directional: DirectionalFsc
    guinier: dict[str, Guinier]
    map_model: dict[str, MapModelFit]
    local_resolution: FloatArray
    local_resolution_quantiles: dict[str, float]
    mask: FloatArray
    mask_is_automatic: bool
    geometry: Geometry
    versions: dict[str, str]

    @property
    def resolution(self) -> float:
        """Å at which the corrected FSC falls below 0.143."""
        return self.fsc.resolution["corrected"][HALF_MAP_THRESHOLD]

    def to_dict(self) -> dict[str, Any]:
        """Every number as plain values (no maps); what is not finite becomes None."""
        values = {
            field.name: _fields_of(getattr(self, field.name))
            for field in fields(self)
            if field.name not in ("local_resolution", "mask")
        }
        numbers: dict[str, Any] = plain({"resolution": self.resolution, **values})
        return numbers

    def write(self, folder: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write the JSON, EMDB's FSC XML, the mask and the local-resolution map into a folder; return their paths.

        Raises
        ------
        OutputError
            If one of them exists already (unless `overwrite`) or cannot be written.
        """
        folder = make_folder(folder)
        paths = [folder / name for name in FILES]
        for path in paths:
            check_output(path, overwrite=overwrite)
        record, xml, mask, local = paths
        with atomic_output(record, overwrite=overwrite) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        title = "emhance: half-map FSC, masked and corrected by phase randomisation"
        write_fsc_xml(xml, self.fsc.frequency, self.fsc.corrected, title=title, overwrite=overwrite)
        how = "automatic" if self.mask_is_automatic else "given"
        write_map(mask, DensityMap(self.mask, self.geometry, labels=(f"emhance validate: mask ({how})",)), overwrite=overwrite)
        label = "emhance validate: local resolution in Angstrom"
        write_map(local, DensityMap(self.local_resolution, self.geometry, labels=(label,)), overwrite=overwrite)
        return paths


def make_folder(folder: str | Path) -> Path:
    """Make a folder for results, unless it is there; `OutputError` if that fails."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made ({error.strerror}); choose another with --output.") from error
    return folder


def validate(
    half1: MapLike,
    half2: MapLike,
    *,
    enhanced: MapLike | None = None,
    mask: MapLike | None = None,
    atomic_model: str | Path | None = None,
    voxel_size: float | None = None,
    threads: int | None = None,
) -> ValidationResult:
    """Validate a half-map pair, and an enhanced map made from it.

    Beside the half maps and the mask two further maps are held at any time.

    Parameters
    ----------
    half1, half2
        Raw half maps: `DensityMap` or path.
    enhanced
        The enhanced map, on the same grid.
    mask
        Soft or binary mask, 0 to 1, on the same grid. Default: found from the map.
    atomic_model
        mmCIF or PDB file in the map's frame.
    voxel_size
        In Å; overrides the headers.
    threads
        Default: all cores this process may use.

    Returns
    -------
    ValidationResult

    Raises
    ------
    UserError
        One of its kinds, for input that cannot be used.
    """
    workers = threads or _cores()
    inputs: list[dict[str, Any]] = []
    first = _load(half1, "half map 1", inputs, voxel_size)
    second = _load(half2, "half map 2", inputs, voxel_size)
    require_same_geometry(first, second, what="half maps")
    if np.array_equal(first.data, second.data):
        raise GeometryError(f"The half maps {first.name} and {second.name} are identical; give two independent half maps.")
    geometry, size = first.geometry, first.voxel_size
    soft = _mask(mask, first, second, inputs, workers=workers)

    fsc, (F1, F2) = half_map_fsc(first.data, second.data, soft, voxel_size=size, workers=workers)
    directional = directional_fsc(F1, F2, geometry.shape, voxel_size=size)
    del F1, F2
    resolution = fsc.resolution["corrected"][HALF_MAP_THRESHOLD]
    local = local_resolution(first.data, second.data, soft, voxel_size=size, resolution=resolution, workers=workers)

    guinier = {"before": _guinier(fsc.frequency, fsc.profile, resolution)}
    after = None if enhanced is None else _load(enhanced, "enhanced map", inputs, voxel_size)
    if after is not None:
        require_same_geometry(first, after, what="half maps and enhanced map")
        guinier["after"] = _guinier(*_profile(after, soft, workers=workers), resolution)
    fits: dict[str, MapModelFit] = {}
    if atomic_model is not None:
        model = model_density(atomic_model, geometry)
        inputs.append({"role": "atomic model", "path": Path(atomic_model)})
        mean = first.data + second.data
        del first, second
        at = {"voxel_size": size, "resolution": resolution}
        fits["before"] = map_model_fit(mean, model, **at, workers=workers)
        del mean
        if after is not None:
            fits["after"] = map_model_fit(after.data, model, **at, workers=workers)
    inside = local[soft > 0.5]
    levels = np.percentile(inside, (5, 25, 50, 75, 95)) if inside.size else np.full(5, np.nan)
    return ValidationResult(
        inputs=inputs,
        fsc=fsc,
        directional=directional,
        guinier=guinier,
        map_model=fits,
        local_resolution=local,
        local_resolution_quantiles={f"{q} %": float(v) for q, v in zip((5, 25, 50, 75, 95), levels, strict=True)},
        mask=soft,
        mask_is_automatic=mask is None,
        geometry=geometry,
        versions=package_versions(),
    )


def _load(source: MapLike, role: str, inputs: list[dict[str, Any]], voxel_size: float | None) -> DensityMap:
    if not isinstance(source, DensityMap):
        density = read_map(source, voxel_size=voxel_size)
    else:
        density = source
        if voxel_size is not None:
            density = replace(source, geometry=source.geometry.with_voxel_size(voxel_size))
        density.geometry.require_isotropic(density.name)
    inputs.append({"role": role, "path": density.path, "sha256": density.sha256})
    return density


def _mask(
    mask: MapLike | None, first: DensityMap, second: DensityMap, inputs: list[dict[str, Any]], *, workers: int
) -> FloatArray:
    if mask is None:
        mean = first.data + second.data
        mean *= np.float32(0.5)
        return automatic_mask(mean, voxel_size=first.voxel_size, workers=workers)
    given = mask if isinstance(mask, DensityMap) else read_map(mask, voxel_size=first.voxel_size, allow_constant=True)
    inputs.append({"role": "mask", "path": given.path, "sha256": given.sha256})
    if given.geometry.shape != first.geometry.shape:
        raise MaskError(
            f"The mask {given.name} has a box of {given.geometry.shape[::-1]} voxels, the half maps one of "
            f"{first.geometry.shape[::-1]} (x, y, z); make the mask on the half maps' own grid."
        )
    low, high = float(given.data.min()), float(given.data.max())
    if low < 0 or high > 1 or high == 0:
        raise MaskError(f"The mask {given.name} holds values from {low:g} to {high:g}; give one from 0 (outside) to 1 (inside).")
    return given.data


def _profile(density: DensityMap, mask: FloatArray, *, workers: int) -> tuple[Curve, Curve]:
    shape = density.geometry.shape
    F = masked_transform(density.data, mask, workers=workers)
    return shell_frequencies(shape, density.voxel_size), np.sqrt(shell_sums(F, shape) / shell_counts(shape))


def _guinier(frequency: Curve, amplitude: Curve, resolution: float) -> Guinier:
    return Guinier(amplitude, guinier_b_factor(frequency, amplitude, coarsest=GUINIER_START, finest=resolution))


def _fields_of(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _fields_of(item) for key, item in value.items()}
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
