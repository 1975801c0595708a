"""What the browser draws itself, slices and surfaces: maps cropped, made small and quantised to bytes."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emhance.maps.resampling import fourier_resample
from emhance.maps.volume import FloatArray
from emhance.report.chimerax import matched_contour, output_contour

STATIC = Path(__file__).parent / "static"

LARGEST_EDGE = 100
"""Voxels of an embedded map along its longest edge: three of them stay below 4 MB."""

MARGIN = 0.06
"""Margin around the molecule, as a share of the box."""


@dataclass(frozen=True)
class Crop:
    """The part of the box around the molecule that is shown.

    Parameters
    ----------
    start, stop
        First and one-past-last voxel, zyx.
    shape
        Voxels it is brought to, zyx.
    """

    start: tuple[int, int, int]
    stop: tuple[int, int, int]
    shape: tuple[int, int, int]


def viewer_data(
    *, enhanced: FloatArray, original: FloatArray | None, confidence: FloatArray | None, voxel_size: float
) -> dict[str, Any]:
    """What the page's script needs to draw slices and surfaces, as plain values.

    Parameters
    ----------
    enhanced, original, confidence
        Maps on one grid, shape ``(nz, ny, nx)``.
    voxel_size
        Å.
    """
    contour, voxels = output_contour(enhanced)
    crop = crop_around(enhanced > contour)
    maps = {"output": _embedded(enhanced, crop, level=contour)}
    if original is not None:
        maps["input"] = _embedded(original, crop, level=matched_contour(original, voxels))
    if confidence is not None:
        maps["confidence"] = _embedded(confidence, crop, level=0.5, limits=(0.0, 1.0))
    shown_voxel = voxel_size * (crop.stop[0] - crop.start[0]) / crop.shape[0]
    return {
        "shape": crop.shape,
        "start": crop.start,
        "step": [(b - a) / n for a, b, n in zip(crop.start, crop.stop, crop.shape, strict=True)],
        "voxelSize": shown_voxel,
        "maps": maps,
    }


def crop_around(inside: np.ndarray) -> Crop:
    """The smallest part of the box that holds what is inside, with a margin, and the size it is shown at."""
    start, stop = [], []
    for axis, n in enumerate(inside.shape):
        others = tuple(i for i in range(3) if i != axis)
        filled = np.flatnonzero(inside.any(axis=others))
        low, high = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, n)
        margin = int(np.ceil(MARGIN * n))
        start.append(max(low - margin, 0))
        stop.append(min(high + margin, n))
    edges = [b - a for a, b in zip(start, stop, strict=True)]
    factor = min(1.0, LARGEST_EDGE / max(edges))
    shape = [max(8, round(edge * factor)) for edge in edges]
    return Crop((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]), (shape[0], shape[1], shape[2]))


def _embedded(data: FloatArray, crop: Crop, *, level: float, limits: tuple[float, float] | None = None) -> dict[str, Any]:
    """A map as bytes: value = low + byte * (high - low) / 255."""
    z, y, x = (slice(a, b) for a, b in zip(crop.start, crop.stop, strict=True))
    part = np.ascontiguousarray(data[z, y, x])
    small = part if part.shape == crop.shape else fourier_resample(part, crop.shape)
    low, high = limits or (float(np.percentile(small, 0.1)), float(small.max()))
    if not high > low:
        high = low + 1.0
    quantised = np.clip(np.rint((small - low) * (255 / (high - low))), 0, 255).astype(np.uint8)
    black, white = np.percentile(small, (2.0, 99.8))
    return {
        "low": low,
        "high": high,
        "level": level,
        "black": float(black),
        "white": float(max(white, black + 1e-9)),
        "bytes": base64.b64encode(quantised.tobytes()).decode("ascii"),
    }


def scripts() -> dict[str, str]:
    """The scripts and styles that go into the page."""
    files = {"ngl": "ngl/ngl.js", "ngl_licence": "ngl/LICENSE", "script": "report.js", "style": "report.css"}
    return {name: (STATIC / file).read_text(encoding="utf-8") for name, file in files.items()}
