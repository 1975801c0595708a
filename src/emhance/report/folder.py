"""Reports of runs whose files lie in a folder: find them, read them, write the page beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from emhance.errors import OutputError
from emhance.evidence import confidence_path
from emhance.maps.atomic_write import atomic_output, check_output
from emhance.maps.mrc import read_map
from emhance.maps.volume import FloatArray
from emhance.pipeline import provenance_path
from emhance.report.page import Material, render, require_jinja
from emhance.validation.validate import ValidationResult, validate

MAP_SUFFIXES = (".mrc", ".map", ".ccp4", ".mrc.gz", ".map.gz", ".mrc.bz2", ".map.bz2")

NOTHING_FOUND = ("no support", "no agreement", "nothing but noise")
"""Sources of a `Reliability` whose map is empty."""


def report_path(output: Path) -> Path:
    """Where the report of the map written to `output` lies: ``map.mrc`` has ``map_report.html``."""
    record = provenance_path(output)
    return record.with_name(f"{record.stem}_report.html")


def find_runs(folder: Path) -> list[Path]:
    """Provenance files in a folder whose enhanced map lies beside them, by name.

    Raises
    ------
    OutputError
        If there is none.
    """
    runs = [path for path in sorted(folder.glob("*.json")) if _map_of(path) is not None and is_provenance(path)]
    if not runs:
        raise OutputError(f"{folder} holds no map enhanced by emhance with its JSON file; give the folder of such a map.")
    return runs


def is_empty(record_path: Path) -> bool:
    """Whether nothing was found in the map of a run, so that there is nothing to show."""
    record = json.loads(record_path.read_text(encoding="utf-8"))
    return (record.get("recombination") or {}).get("source") in NOTHING_FOUND


def write_report_of_run(record_path: Path, *, overwrite: bool = False) -> Path:
    """Write the report of one run beside its map; return its path.

    Half maps that are still where they were are validated for it.

    Parameters
    ----------
    record_path
        The provenance of an enhanced map.
    overwrite
        Whether a report that is already there may be replaced.

    Raises
    ------
    OutputError
        If the map is missing or the report cannot be written.
    MissingExtraError
        If jinja2 is not installed.
    """
    output = _map_of(record_path)
    if output is None:
        raise OutputError(f"The enhanced map of {record_path} is not beside it; put it back, or run emhance enhance again.")
    path = report_path(output)
    check_output(path, overwrite=overwrite)
    require_jinja()
    record: dict[str, Any] = json.loads(record_path.read_text(encoding="utf-8"))
    enhanced = read_map(output)
    original, validation, remarks = _inputs(record, output)
    confidence = confidence_path(output)
    page = render(
        Material(
            title=output.name,
            record=record,
            enhanced=enhanced.data,
            voxel_size=enhanced.voxel_size,
            original=original,
            confidence=read_map(confidence).data if record.get("evidence") and confidence.exists() else None,
            validation=validation,
            remarks=tuple(remarks),
        )
    )
    with atomic_output(path, overwrite=overwrite) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _inputs(record: dict[str, Any], output: Path) -> tuple[FloatArray | None, ValidationResult | None, list[str]]:
    """The input map, what its half maps say, and what is missing."""
    entries = [entry for entry in record["inputs"] if entry["role"] != "mask"]
    for entry in entries:
        if not entry["path"] or not Path(entry["path"]).exists():
            where = entry["path"] or "in memory"
            return (
                None,
                None,
                [f"The input ({entry['role']}) was {where} and is not there any more; it is left out of this report."],
            )
    voxel_size = record["config"].get("voxel_size")
    maps = [read_map(entry["path"], voxel_size=voxel_size) for entry in entries]
    changed = [
        f"{m.name} has changed since the map was enhanced." for m, e in zip(maps, entries, strict=True) if m.sha256 != e["sha256"]
    ]
    if len(maps) == 1:
        return maps[0].data, None, changed
    validation = validate(*maps, enhanced=output, voxel_size=voxel_size)
    return np.asarray(0.5 * (maps[0].data + maps[1].data), dtype=np.float32), validation, changed


def _map_of(record_path: Path) -> Path | None:
    candidates = (record_path.with_name(record_path.stem + suffix) for suffix in MAP_SUFFIXES)
    return next((path for path in candidates if path.exists()), None)


def is_provenance(path: Path) -> bool:
    """Whether a file is the record of an enhanced map."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return False
    return isinstance(record, dict) and {"inputs", "network", "caution", "versions"} <= set(record)
