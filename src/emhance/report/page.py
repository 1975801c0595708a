"""One self-contained HTML page about an enhancement. It shows numbers that others computed, and computes none."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emhance.errors import MissingExtraError
from emhance.maps.volume import FloatArray
from emhance.report.figures import Plot, plots_of
from emhance.report.viewer import scripts, viewer_data
from emhance.validation.validate import ValidationResult

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, eq=False)
class Material:
    """What a report is made of.

    Parameters
    ----------
    title
        Name of the enhanced map.
    record
        The provenance, as written to JSON.
    enhanced, original, confidence
        Maps on one grid, shape ``(nz, ny, nx)``; the original is the input map or the mean of the half maps.
    voxel_size
        Å.
    validation
        What the half maps say, if there are any.
    remarks
        What the reader must know about the report itself, for example that an input is no longer where it was.
    """

    title: str
    record: dict[str, Any]
    enhanced: FloatArray
    voxel_size: float
    original: FloatArray | None = None
    confidence: FloatArray | None = None
    validation: ValidationResult | None = None
    remarks: tuple[str, ...] = ()


def render(material: Material) -> str:
    """Make the page.

    Parameters
    ----------
    material
        Maps, provenance and curves.

    Returns
    -------
    str
        HTML that needs nothing from elsewhere.

    Raises
    ------
    MissingExtraError
        If jinja2 is not installed.
    """
    require_jinja()
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    data = viewer_data(
        enhanced=material.enhanced,
        original=material.original,
        confidence=material.confidence,
        voxel_size=material.voxel_size,
    )
    plots: list[Plot] = plots_of(
        material.record,
        material.validation,
        enhanced=material.enhanced,
        original=material.original,
        confidence=material.confidence,
    )
    return environment.get_template("report.html").render(
        title=material.title,
        record=material.record,
        verdict=verdict_of(material.record, material.validation),
        suggestions=suggestions_of(material.record, material.validation),
        remarks=material.remarks,
        plots=plots,
        maps=[name for name in ("input", "output", "confidence") if name in data["maps"]],
        data=json.dumps(data),
        evidence=material.record.get("evidence") or {},
        validation=material.validation,
        **scripts(),
    )


def require_jinja() -> None:
    """Raise `MissingExtraError` unless jinja2, which reports need, is installed."""
    if importlib.util.find_spec("jinja2") is None:
        raise MissingExtraError("A report needs jinja2; install it with: pip install 'emhance[report]'.")


def verdict_of(record: dict[str, Any], validation: ValidationResult | None) -> list[str]:
    """Three lines: how good the data are, what the evidence says of the enhancement, and what to look at."""
    if validation is not None:
        local = validation.local_resolution_quantiles
        data = (
            f"The half maps agree to {validation.resolution:.2f} Å (FSC 0.143, masked and corrected); locally to "
            f"{local['5 %']:.1f}-{local['95 %']:.1f} Å."
        )
    else:
        recombination = record.get("recombination") or {}
        resolution, source = recombination.get("resolution"), recombination.get("source", "nothing")
        data = "One map without half maps: " + (
            f"its data were trusted to {resolution:.2f} Å, by {source}." if resolution else "what its data support is not known."
        )
    evidence = record.get("evidence") or {}
    if evidence:
        confidence = evidence["confidence"]["mean_of_density"]
        support = f"{evidence['held_out']['sentence']} Mean confidence of the density: {confidence:.2f}."
    else:
        support = "Nothing was checked against independent data" + (
            "; run again with --confidence for that." if validation is not None else ", for which half maps are needed."
        )
    warnings = record.get("warnings") or []
    if warnings:
        attention = f"{len(warnings)} warning{'s' if len(warnings) > 1 else ''}: {warnings[0]}"
    else:
        attention = "Nothing about the input or the run looked wrong."
    return [data, support, attention]


def suggestions_of(record: dict[str, Any], validation: ValidationResult | None) -> list[str]:
    """What to try when something looks wrong."""
    suggestions = list(record.get("warnings") or [])
    network = record["network"].get("name", "")
    resolution = validation.resolution if validation is not None else (record.get("recombination") or {}).get("resolution")
    if resolution and resolution < 3.0 and network == "tight":
        suggestions.append("The map is better than 3 Å: compare with the highres network (--network highres).")
    if resolution and resolution > 6.0 and network in ("tight", "highres"):
        suggestions.append("The map is coarser than 6 Å: the wide network (--network wide) keeps more of weak density.")
    if (record.get("normalization") or {}).get("from_density"):
        suggestions.append(
            "No solvent noise was measured; try a binary mask (--mask), or the noise by --noise-mean and --noise-std."
        )
    evidence = record.get("evidence") or {}
    if evidence and evidence["held_out"]["gain"] < 0:
        suggestions.append("Enhancement lost agreement with the held-out half: prefer the raw map, or another network.")
    if evidence and evidence["confidence"]["mean_of_density"] < 0.5 and "gate" not in evidence:
        suggestions.append("Much of the density has little support; --gate lets it fade.")
    if validation is not None:
        by_direction = validation.directional.resolution
        if float(np.max(by_direction)) > 1.4 * float(np.min(by_direction)):
            suggestions.append(
                f"The resolution depends on direction ({by_direction.min():.1f} to {by_direction.max():.1f} Å): look for "
                "preferred orientation."
            )
    return suggestions
