"""A ChimeraX script that shows input and output at matched contours, the output coloured by confidence."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from emhance.evidence import confidence_path
from emhance.maps.atomic_write import atomic_output
from emhance.maps.mrc import read_map
from emhance.maps.volume import FloatArray
from emhance.pipeline import provenance_path

CONTOUR_SHARE = 0.25
"""The output's contour as a share of its 99.9th percentile."""

PALETTE = ((0.0, "#b2182b"), (0.5, "#f7f7f7"), (1.0, "#2166ac"))
"""Colours of confidence: red is not supported, blue is."""


def script_path(output: Path) -> Path:
    """Where the script for the map written to `output` lies."""
    return provenance_path(output).with_suffix(".cxc")


def write_script(output: Path, *, overwrite: bool = False) -> Path:
    """Write the ChimeraX script beside an enhanced map; return its path.

    Parameters
    ----------
    output
        The enhanced map; its provenance, and its confidence if there is one, lie beside it.
    overwrite
        Whether a script that is already there may be replaced.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    record: dict[str, Any] = json.loads(provenance_path(output).read_text(encoding="utf-8"))
    paths = [Path(entry["path"]) for entry in record["inputs"] if entry["role"] != "mask" and entry["path"]]
    enhanced = read_map(output).data
    contour, voxels = output_contour(enhanced)
    folder = output.parent.resolve()
    confidence = confidence_path(output)
    lines = [f"# {record['caution']}; made by emhance {record['versions']['emhance']}"]
    number = 0
    for path in paths:
        number += 1
        lines.append(f"open {_quoted(path, folder)} id #{number}")
    total = None
    for path in paths:
        data = read_map(path).data
        total = data if total is None else total + data
    if len(paths) == 2:
        number += 1
        lines += [f"volume add #1,2 modelId #{number}", "close #1,2"]
    if total is not None:
        lines += [
            f"volume #{number} level {matched_contour(total, voxels):.6g} color #b0b0b0 step 1",
            f'rename #{number} "input"',
        ]
    shown, colours = number + 1, number + 2
    lines += [f"open {_quoted(output, folder)} id #{shown}", f"volume #{shown} level {contour:.6g} color #6baed6 step 1"]
    if confidence.exists():
        palette = ":".join(f"{value:g},{colour}" for value, colour in PALETTE)
        lines += [
            f"open {_quoted(confidence, folder)} id #{colours}",
            f"hide #{colours} models",
            f"color sample #{shown} map #{colours} palette {palette}",
        ]
    lines += ["tile" if total is not None else "view", "set bgColor white", "lighting soft", "view"]
    path = script_path(output)
    with atomic_output(path, overwrite=overwrite) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def output_contour(enhanced: FloatArray) -> tuple[float, int]:
    """Contour at which an enhanced map is looked at, and the number of voxels it encloses."""
    contour = CONTOUR_SHARE * float(np.percentile(enhanced.ravel()[::7], 99.9))
    return contour, int(np.count_nonzero(enhanced > contour))


def matched_contour(data: FloatArray, voxels: int) -> float:
    """Contour of a map that encloses a given number of voxels."""
    if voxels <= 0:
        return float(data.max())
    return float(np.partition(data.ravel(), data.size - voxels)[data.size - voxels])


def _quoted(path: Path, folder: Path) -> str:
    """Name a file as the script, which runs in its own folder, finds it."""
    resolved = path.resolve()
    inside = resolved.parent == folder
    return json.dumps(resolved.name if inside else os.fspath(resolved), ensure_ascii=False)
