"""How well independent data support the density at a voxel: local agreement of the two enhanced half maps, calibrated.

Both half maps are enhanced alone. Around every voxel their correlation r is measured in a Gaussian window that grows with the
resolution: a narrower one holds too few independent values to tell agreement from chance. r is the reliability of one half,
2 r / (1 + r) that of both together. Where there is next to no density nothing can be supported, so that is multiplied by
A² / (A² + A0²), with A the local root mean square of the density in units of its highest. The network knows what proteins look
like and makes the same mistakes in both halves, so agreement overstates the truth; a monotone curve, fitted on simulated pairs
whose truth is known, corrects that. Voxels given confidence c then correlate with the truth as c says.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from emhance.maps.fourier import Curve
from emhance.maps.volume import FloatArray

CALIBRATION = Path(__file__).with_name("calibration.json")
"""The curve that ``benchmarks/calibration.py`` fits."""

WINDOW = 1.0
"""Standard deviation of the window of the correlation, in units of the resolution."""

WIDEST_WINDOW = 10.0
"""It is never wider than this, Å."""

DENSITY_WINDOW = 0.5
"""Standard deviation of the window of the density's own height, in units of the former."""

DENSITY_LEVEL = 0.02
"""A0: density of this height, as a share of the 99.9th percentile, counts half."""

_SLAB = 32  # planes
_REACH = 3.0  # standard deviations
_NOTHING = 1e-9  # density that is none, to divide by


@dataclass(frozen=True, eq=False)
class Calibration:
    """A monotone curve from what the half maps' agreement promises to what the truth keeps.

    Parameters
    ----------
    reliability
        Knots, rising from 0 to 1, shape ``(n,)``.
    confidence
        Confidence at the knots, not falling, shape ``(n,)``.
    fitted_on
        On which pairs, and with which network.
    """

    reliability: Curve
    confidence: Curve
    fitted_on: str


@lru_cache(maxsize=1)
def shipped_calibration() -> Calibration:
    """The curve that comes with the package."""
    values = json.loads(CALIBRATION.read_text(encoding="utf-8"))
    return Calibration(np.array(values["reliability"]), np.array(values["confidence"]), values["fitted_on"])


def confidence_map(
    enhanced1: FloatArray,
    enhanced2: FloatArray,
    *,
    voxel_size: float,
    resolution: float,
    calibration: Calibration | None = None,
) -> FloatArray:
    """Confidence of the map enhanced from both halves.

    Parameters
    ----------
    enhanced1, enhanced2
        Half maps, each enhanced without the other, solvent 0 and well-ordered density about 1, shape ``(nz, ny, nx)``.
    voxel_size
        Å.
    resolution
        Of the half maps, Å.
    calibration
        Default: the shipped one.

    Returns
    -------
    ndarray
        0 to 1, same shape, float32: the correlation with the truth to expect of voxels with this value.
    """
    calibration = calibration or shipped_calibration()
    reliability = local_reliability(enhanced1, enhanced2, voxel_size=voxel_size, resolution=resolution)
    for plane in reliability:
        plane[...] = np.interp(plane, calibration.reliability, calibration.confidence)
    return reliability


def local_reliability(enhanced1: FloatArray, enhanced2: FloatArray, *, voxel_size: float, resolution: float) -> FloatArray:
    """Reliability, 0 to 1, that two half maps promise for the density of their mean; not yet calibrated.

    Computed slab by slab, so that little more than the result is held.
    """
    sigma = min(WINDOW * resolution, WIDEST_WINDOW) / voxel_size
    halo = int(np.ceil(_REACH * sigma))
    sample = slice(None, None, 7)
    top = float(np.percentile(0.5 * (enhanced1.ravel()[sample] + enhanced2.ravel()[sample]), 99.9))
    level = DENSITY_LEVEL * max(top, _NOTHING)

    def smooth(data: FloatArray, width: float = sigma) -> FloatArray:
        out: FloatArray = gaussian_filter(data, width, mode="nearest", truncate=_REACH)
        return out

    result = np.empty(enhanced1.shape, dtype=np.float32)
    for first in range(0, len(result), _SLAB):
        start = max(first - halo, 0)
        a, b = (half[start : first + _SLAB + halo] for half in (enhanced1, enhanced2))
        mean_a, mean_b = smooth(a), smooth(b)
        covariance = smooth(a * b) - mean_a * mean_b
        variance_a = np.maximum(smooth(a * a) - mean_a**2, 0)
        variance_b = np.maximum(smooth(b * b) - mean_b**2, 0)
        r = np.clip(covariance / (np.sqrt(variance_a * variance_b) + _NOTHING), 0, 1)
        height = smooth(np.square(0.5 * (a + b)), DENSITY_WINDOW * sigma)
        core = slice(first - start, first - start + _SLAB)
        result[first : first + _SLAB] = (2 * r / (1 + r) * height / (height + level**2))[core]
    return result
