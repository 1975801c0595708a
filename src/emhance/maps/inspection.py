"""Is a map fit to be enhanced? Signs that it was processed already, or is too coarse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from emhance.maps.fourier import Curve, amplitude_profile, guinier_b_factor
from emhance.maps.volume import DensityMap, FloatArray

FindingCode = Literal["masked", "sharpened", "coarse"]

MASKED_SHARE = 0.15
"""Share of voxels with one identical value from which a map looks masked; a cylinder cut out of a cube leaves 0.21."""

COARSE_VOXEL_SIZE = 3.0
"""Voxel size in Å beyond which a map is too coarse for what the networks were trained on."""

SHARPENED_B_FACTOR = 50.0
"""Guinier B-factor in Å² below which a filtered map looks sharpened; raw maps fall off with some 50 to 200 Å²."""

RISING_B_FACTOR = -40.0
"""Guinier B-factor in Å² below which an unfiltered map looks sharpened; raw noise rises with -25 Å² at most."""

_GUINIER_START = 10.0  # Å; coarser shells hold the particle's shape
_GUINIER_END = 6.0  # Å; a fit that ends before it says nothing, because proteins dip at 7 Å and rise again at 5 Å
_CUT_OFF = 0.2  # of the amplitude around 10 Å
_BEFORE_CUT_OFF = 0.85  # of the cut-off frequency: there the filter's own fall has not begun
_SAMPLE = 2**20  # voxels that stand for the map in the search for a repeated value


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that makes a map less fit to be enhanced.

    Parameters
    ----------
    code
        "masked", "sharpened" or "coarse".
    message
        What was seen, one sentence with the value.
    suggestion
        What to do, one sentence.
    """

    code: FindingCode
    message: str
    suggestion: str


def inspect(density_map: DensityMap, *, workers: int | None = None) -> list[Finding]:
    """Look for signs that a map is masked, sharpened or too coarse.

    Parameters
    ----------
    density_map
        The map as it was read, with a voxel size.
    workers
        Threads of the Fourier transform; None for one.

    Returns
    -------
    list of Finding
        Empty for a raw map.
    """
    findings = []
    value, share = most_common_value(density_map.data)
    if share >= MASKED_SHARE:
        findings.append(
            Finding(
                code="masked",
                message=f"{density_map.name} looks masked: {share:.0%} of its voxels are exactly {value:g}.",
                suggestion="Give the unmasked map if there is one: the noise around the molecule sets the scale.",
            )
        )
    b_factor = sharpened_b_factor(*amplitude_profile(density_map.data, density_map.voxel_size, workers=workers))
    if b_factor is not None:
        findings.append(
            Finding(
                code="sharpened",
                message=f"{density_map.name} looks sharpened: beyond 10 Å its amplitudes do not fall as those of a raw map "
                f"(Guinier B = {b_factor:.0f} Å²).",
                suggestion="Give the raw reconstruction, best as two half maps: the networks were trained on unsharpened maps.",
            )
        )
    if density_map.voxel_size > COARSE_VOXEL_SIZE:
        findings.append(
            Finding(
                code="coarse",
                message=f"{density_map.name} is coarse: its voxel size of {density_map.voxel_size:.2f} Å is over "
                f"{COARSE_VOXEL_SIZE:g} Å.",
                suggestion="Give the map at its original voxel size: the networks know detail that this one cannot hold.",
            )
        )
    return findings


def most_common_value(data: FloatArray) -> tuple[float, float]:
    """Find the value that most voxels share exactly.

    Parameters
    ----------
    data
        Map, shape ``(nz, ny, nx)``.

    Returns
    -------
    value, share
        The value, and the share (0-1) of all voxels that have it. In large maps it is sought in an even sample.
    """
    flat = data.reshape(-1)
    # An odd step does not walk along the same few columns of a box whose edge is a power of two.
    sample = flat[:: max(1, flat.size // _SAMPLE) | 1]
    values, counts = np.unique(sample, return_counts=True)
    value = values[counts.argmax()]
    return float(value) + 0.0, float(np.count_nonzero(flat == value) / flat.size)


def sharpened_b_factor(frequency: Curve, amplitude: Curve) -> float | None:
    """B-factor of a profile that looks sharpened, or None for one that does not, or that cannot tell.

    Two shapes look sharpened. Post-processed maps are low-pass filtered, and before the filter cuts (amplitude below a
    fifth of that around 10 Å) they are flat where a raw map falls off. Unfiltered maps keep the noise up to Nyquist: raw,
    it is nearly flat; sharpened, it rises steeply. The limits were chosen on few maps and are meant for a warning only.

    Parameters
    ----------
    frequency, amplitude
        Amplitude profile from `amplitude_profile` (1/Å, any unit).

    Returns
    -------
    float or None
        B in Å² fitted between 10 Å and the cut-off or Nyquist.
    """
    around_start = np.abs(frequency * _GUINIER_START - 1.0) < 0.2
    if frequency[-1] < 1.0 / _GUINIER_END or not around_start.any():
        return None
    level = float(np.sqrt(np.mean(amplitude[around_start] ** 2)))
    below = np.flatnonzero((amplitude < _CUT_OFF * level) & (frequency > 1.0 / _GUINIER_START))
    if below.size:
        end, limit = _BEFORE_CUT_OFF * frequency[below[0]], SHARPENED_B_FACTOR
    else:
        end, limit = frequency[-1], RISING_B_FACTOR
    if end < 1.0 / _GUINIER_END:
        return None
    b_factor = guinier_b_factor(frequency, amplitude, coarsest=_GUINIER_START, finest=1.0 / end)
    return b_factor if b_factor < limit else None
