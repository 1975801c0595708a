"""What tells signal from noise: a solvent's noise spectrum, a stated resolution, and where half maps no longer agree."""

from __future__ import annotations

import numpy as np
import scipy.fft
from scipy import ndimage

from emhance.maps.fourier import Curve, Spectrum, shell_sums
from emhance.maps.volume import FloatArray
from emhance.steps.smoothing import smooth

SOLVENT_DISTANCE = 6.0
"""Solvent noise is measured this far from the support and farther, Å."""

SOLVENT_EDGE = 5.0
"""Width over which the edge of that solvent is softened, Å."""

SMALLEST_SOLVENT = 0.02
"""Share of the box that must be solvent for its noise spectrum to be measured."""

CROSSING = 0.25
"""F of the resolution: FSC = 0.143."""

TYPICAL_FALL = 5.7
"""By how much the logarithm of signal over noise falls from zero frequency to the resolution: fits the median FSC of simulated
half maps, .94, .76 and .43 at 0.5, 0.7 and 0.85 of the resolution's frequency (`benchmarks/realism.py`)."""


def lost_beyond_crossing(value: Curve) -> Curve:
    """Let F fall like a Gaussian at least, and never rise again, from where three shells' mean is first below `CROSSING`.

    Farther out half maps often agree again for another reason: a low-pass, a mask or an interpolation that both went through.
    """
    lost = np.flatnonzero(np.convolve(value, np.ones(3) / 3, "valid")[3:] < CROSSING)
    if not len(lost):
        return value
    crossing = int(lost[0]) + 3
    beyond = np.arange(crossing, len(value)) / crossing
    falling = np.minimum(np.minimum.accumulate(value[crossing:]), CROSSING ** (beyond**2))
    return np.concatenate([value[:crossing], falling])


def solvent_window(data: FloatArray, support: FloatArray, *, voxel_size: float, workers: int | None) -> FloatArray | None:
    """Where the solvent's noise can be measured, 0 to 0.5 with a soft edge; None where there is too little solvent."""
    reach = SOLVENT_DISTANCE / voxel_size
    window = ndimage.uniform_filter(support, size=2 * int(np.ceil(reach)) + 1, mode="nearest")
    solvent = (window < 1e-4) & (data != 0)  # voxels set to exactly the background hold no noise
    window = solvent.astype(np.float32)
    smooth(window, SOLVENT_EDGE / voxel_size, workers)
    window[window < 0.5] = 0  # only well inside, so that the edge is soft and no molecule is seen
    window -= 0.5 * (window > 0)
    return None if np.count_nonzero(window) < SMALLEST_SOLVENT * data.size else window


def power_within(window: FloatArray, data: FloatArray, *, workers: int | None) -> Curve:
    """Power per voxel and shell within a window."""
    W: Spectrum = scipy.fft.rfftn(data * window, workers=workers)
    return shell_sums(W, data.shape) / float(np.sum(np.square(window), dtype=np.float64))


def typical(frequency: Curve, resolution: float) -> Curve:
    """F of a map of which only the resolution (Å) is known: that of even noise under a signal that falls like a Gaussian.

    ``F = 1 / (1 + 3 exp(-5.7 (1 - (s d)²)))`` is `CROSSING` at the resolution d.
    """
    x = np.minimum(frequency * resolution, 4)
    return np.asarray(1 / (1 + (1 / CROSSING - 1) * np.exp(-TYPICAL_FALL * (1 - x**2))))


def limited(frequency: Curve, resolution: float) -> Curve:
    """A step from 1 to 0 at the resolution (Å), softened over a tenth of its frequency."""
    edge = 0.05 / resolution
    return np.asarray(1 / (1 + np.exp(np.clip((frequency - 1 / resolution) / edge, -50, 50))))
