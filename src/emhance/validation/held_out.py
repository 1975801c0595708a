"""The held-out half: does an enhanced half map agree better with the other half, which it never saw?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

from emhance.maps.fourier import Curve, Spectrum, fsc_of_spectra, shell_frequencies
from emhance.maps.volume import FloatArray
from emhance.validation.fsc import HALF_MAP_THRESHOLD

LEAST_ROOM = 0.02
"""Room for improvement, ceiling - FSC, that a shell's gain is at least divided by."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """FSC of enhanced half maps with the raw other halves.

    Parameters
    ----------
    frequency
        1/Å, shape ``(n,)``.
    raw
        FSC(half 1, half 2).
    enhanced
        FSC(enhanced half 1, half 2) and FSC(enhanced half 2, half 1), their mean.
    ceiling
        sqrt(raw): what a map without noise would reach.
    gain
        Mean of (enhanced - raw) / (ceiling - raw) up to raw = 0.143: 1 for perfect, 0 for no use, negative for harm.
    gains
        The same for each direction alone: half 1 enhanced, half 2 enhanced.
    """

    frequency: Curve
    raw: Curve
    enhanced: Curve
    ceiling: Curve
    gain: float
    gains: tuple[float, float]

    @property
    def sentence(self) -> str:
        """What the gain means, in plain words."""
        share = abs(self.gain)
        if self.gain > 0.02:
            return (
                "Each half map, enhanced alone, agrees better with the other half, which it never saw, than before: it gained "
                f"{share:.0%} of what a map without any noise could gain."
            )
        if self.gain < -0.02:
            return (
                "Each half map, enhanced alone, agrees less with the other half, which it never saw, than before, by "
                f"{share:.0%} of what there was to gain: enhancement added or lost density here against the evidence; rely on "
                "the raw map."
            )
        return (
            "Each half map, enhanced alone, agrees with the other half, which it never saw, as well as before: "
            "enhancement neither gained nor lost information."
        )


def held_out(
    enhanced1: FloatArray,
    enhanced2: FloatArray,
    half1: FloatArray,
    half2: FloatArray,
    *,
    voxel_size: float,
    workers: int | None = None,
) -> HeldOut:
    """Compare each enhanced half map with the raw other half.

    Parameters
    ----------
    enhanced1, enhanced2
        Half maps, each enhanced without the other, shape ``(nz, ny, nx)``.
    half1, half2
        Raw half maps, same shape.
    voxel_size
        Å.
    workers
        Threads of the Fourier transforms; None for one.

    Notes
    -----
    For independent noise FSC(truth, half) = sqrt(FSC(half 1, half 2)): Rosenthal and Henderson 2003, J Mol Biol 333:721,
    doi 10.1016/j.jmb.2003.07.013. Density that the network invents has no counterpart in the other half and lowers the curve.
    """
    nz, ny, nx = half1.shape
    shape = (nz, ny, nx)
    frequency = shell_frequencies(shape, voxel_size)

    def transform(data: FloatArray) -> Spectrum:
        F: Spectrum = scipy.fft.rfftn(data, workers=workers)
        return F

    H1, H2 = transform(half1), transform(half2)
    raw = fsc_of_spectra(H1, H2, shape)
    one_way = fsc_of_spectra(transform(enhanced1), H2, shape)
    del H2
    other_way = fsc_of_spectra(transform(enhanced2), H1, shape)
    ceiling = np.sqrt(np.clip(raw, 1e-6, 1.0))
    gains = held_out_gain(raw, one_way), held_out_gain(raw, other_way)
    return HeldOut(frequency, raw, 0.5 * (one_way + other_way), ceiling, 0.5 * (gains[0] + gains[1]), gains)


def held_out_gain(raw: Curve, enhanced: Curve) -> float:
    """Mean share of the room between an FSC and its ceiling that enhancement fills, up to FSC = 0.143.

    Parameters
    ----------
    raw, enhanced
        FSC(half 1, half 2) and FSC(enhanced half 1, half 2), from zero frequency on; the first two shells are left out.
    """
    below = np.flatnonzero(raw[2:] < HALF_MAP_THRESHOLD)
    used = slice(2, int(below[0]) + 2 if len(below) else len(raw))
    if used.stop == used.start:
        return 0.0
    room = np.maximum(np.sqrt(np.clip(raw, 1e-6, 1.0)) - raw, LEAST_ROOM)
    return float(np.mean((enhanced - raw)[used] / room[used]))
