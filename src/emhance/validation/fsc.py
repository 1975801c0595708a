"""FSC of half maps: unmasked, masked, with randomised phases, and corrected for what the mask itself correlates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

from emhance.maps.fourier import (
    Curve,
    Spectrum,
    fsc_of_spectra,
    resolution_at,
    shell_counts,
    shell_frequencies,
    shell_sums,
)
from emhance.maps.volume import FloatArray
from emhance.validation.spectra import masked_spectrum, randomise_phases

RANDOMISE_BELOW = 0.8
"""Phases are randomised from the shell in which the unmasked FSC first falls below this, as in RELION."""

AFTER_RANDOMISATION = 2
"""Shells after that one which are not corrected: the mask mixes them with shells whose phases were kept."""

HALF_MAP_THRESHOLD, HALF_THRESHOLD = 0.143, 0.5


@dataclass(frozen=True, eq=False)
class HalfMapFsc:
    """The four curves of Chen et al. 2013 and where they cross.

    Parameters
    ----------
    frequency
        Spatial frequency of the shells, 1/Å, shape ``(n,)``; the axis of all curves.
    unmasked, masked
        FSC of the half maps as they are, and within the mask.
    randomised
        FSC within the mask after the phases beyond `randomised_from` were randomised; 1 up to there by definition of the
        masked curve.
    corrected
        ``(masked - randomised) / (1 - randomised)`` beyond, `masked` before.
    randomised_from
        Å.
    resolution
        Å, by curve and threshold: ``resolution["corrected"][0.143]``.
    profile
        Root mean square amplitude of the mean of the half maps within the mask, per shell.
    """

    frequency: Curve
    unmasked: Curve
    masked: Curve
    randomised: Curve
    corrected: Curve
    randomised_from: float
    resolution: dict[str, dict[float, float]]
    profile: Curve

    def curves(self) -> dict[str, Curve]:
        """Return the four curves by name."""
        return {name: getattr(self, name) for name in ("unmasked", "masked", "randomised", "corrected")}


def half_map_fsc(
    half1: FloatArray,
    half2: FloatArray,
    mask: FloatArray,
    *,
    voxel_size: float,
    seed: int = 0,
    workers: int | None = None,
) -> tuple[HalfMapFsc, tuple[Spectrum, Spectrum]]:
    """Fourier shell correlations of two half maps.

    Holds two spectra beside its arguments at most.

    Parameters
    ----------
    half1, half2
        Half maps, shape ``(nz, ny, nx)``.
    mask
        Soft mask, 0 to 1, same shape.
    voxel_size
        Å.
    seed
        Of the random phases.
    workers
        Threads of the Fourier transforms; None for one.

    Returns
    -------
    curves, spectra
        The curves, and the half-complex spectra of the masked half maps, for more curves.

    Notes
    -----
    Chen et al. 2013, Ultramicroscopy 135:24, doi 10.1016/j.ultramic.2013.06.004.
    """
    nz, ny, nx = half1.shape
    shape = (nz, ny, nx)
    frequency = shell_frequencies(shape, voxel_size)
    F1: Spectrum = scipy.fft.rfftn(half1, workers=workers)
    F2: Spectrum = scipy.fft.rfftn(half2, workers=workers)
    unmasked = fsc_of_spectra(F1, F2, shape)
    below = np.flatnonzero(unmasked[2:] < RANDOMISE_BELOW)
    first = int(below[0]) + 2 if len(below) else len(unmasked) - 1

    rng = np.random.default_rng(seed)
    randomise_phases(F1, shape, from_shell=first, rng=rng)
    randomise_phases(F2, shape, from_shell=first, rng=rng)
    F1, F2 = masked_spectrum(F1, mask, workers=workers), masked_spectrum(F2, mask, workers=workers)
    randomised = fsc_of_spectra(F1, F2, shape)
    del F1, F2

    F1 = masked_spectrum(scipy.fft.rfftn(half1, workers=workers), mask, workers=workers)
    F2 = masked_spectrum(scipy.fft.rfftn(half2, workers=workers), mask, workers=workers)
    masked = fsc_of_spectra(F1, F2, shape)
    corrected = corrected_fsc(masked, randomised, from_shell=first + AFTER_RANDOMISATION)
    power = 0.25 * (shell_sums(F1, shape) + shell_sums(F2, shape) + 2 * shell_sums(F1, shape, F2))
    curves = {"unmasked": unmasked, "masked": masked, "randomised": randomised, "corrected": corrected}
    result = HalfMapFsc(
        frequency=frequency,
        **curves,
        randomised_from=float(1 / frequency[first]),
        resolution={
            name: {t: resolution_at(frequency, curve, t) for t in (HALF_MAP_THRESHOLD, HALF_THRESHOLD)}
            for name, curve in curves.items()
            if name != "randomised"
        },
        profile=np.sqrt(np.maximum(power, 0) / shell_counts(shape)),
    )
    return result, (F1, F2)


def corrected_fsc(masked: Curve, randomised: Curve, *, from_shell: int) -> Curve:
    """Remove from a masked FSC what the mask alone correlates.

    Parameters
    ----------
    masked, randomised
        FSC within the mask, of the half maps and of those with randomised phases.
    from_shell
        First shell that is corrected.

    Returns
    -------
    ndarray
        ``(masked - randomised) / (1 - randomised)`` from that shell on, `masked` before; 0 where `randomised` is 1.
    """
    room = 1.0 - randomised
    corrected = np.divide(masked - randomised, room, out=np.zeros_like(masked), where=room > 1e-6)
    corrected[:from_shell] = masked[:from_shell]
    return corrected
