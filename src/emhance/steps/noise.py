"""Find the solvent of a map and measure its noise, wherever the solvent lies and whatever the map's scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, gcd

import numpy as np
from numpy.typing import NDArray

from emhance.errors import MapContentError
from emhance.maps.volume import FloatArray

BoolArray = NDArray[np.bool_]
Float64Array = NDArray[np.float64]

DENSITY_PERCENTILE = 99.9
"""The percentile of a map's voxels that stands for its density."""

SAMPLE = 2_000_000
"""Voxels that percentiles are taken from."""

FLAT = 2e-3
"""Blocks whose s.d. is below this share of the density are masked out, not noise."""

WINDOW = 2
"""Blocks along the edge of a window."""

MEAN_KERNEL, LOG_KERNEL = 0.3, 0.12
"""Widths of the mean-shift kernel: in window means over their s.d., and in the logarithm of that s.d."""

LEAST_WINDOWS = 30
"""Fewer usable windows than this say nothing."""

LEAST_SHARE = 0.04
"""A population holds at least this share of the usable windows."""


@dataclass(frozen=True, kw_only=True)
class NoiseEstimate:
    """The noise of a map's solvent, or why there is none to measure.

    Parameters
    ----------
    mean, std
        Mean and s.d. of the noise in the map's units; `None` where there is none to measure.
    background
        Value of the flat part of a masked map (its fill value), `None` for a map that has no flat part.
    background_share
        Share of the box that is flat, 0-1.
    density
        `DENSITY_PERCENTILE` of the map, in the map's units.
    reason
        Why there is no noise to measure, as the end of a sentence; `None` where there is.
    solvent
        Blocks of `block` voxels an edge that were taken for solvent, shape ``(nz // block, ny // block, nx // block)``.
    block
        Edge of a block in voxels.
    """

    mean: float | None
    std: float | None
    background: float | None
    background_share: float
    density: float
    reason: str | None
    solvent: BoolArray
    block: int


@dataclass(frozen=True)
class _Blocks:
    """Per block of the rescaled map: mean, s.d., whether all voxels are equal, whether some hold the fill value."""

    mean: Float64Array
    std: Float64Array
    constant: BoolArray
    filled: BoolArray


@dataclass(frozen=True)
class _Population:
    """Windows that share one mean and s.d.; `chosen` marks them among the usable ones."""

    chosen: BoolArray
    mean: float
    std: float


def sample_voxels(data: FloatArray, *, size: int = SAMPLE) -> FloatArray:
    """About `size` voxels of `data` spread evenly over the box, always the same ones; all of them for a small map."""
    stride = max(1, data.size // size)
    while gcd(stride, data.size) != 1 and stride > 1:  # or the sample would fall into a few planes
        stride += 1
    return data.ravel()[::stride]


def estimate_noise(data: FloatArray) -> NoiseEstimate:
    """Measure mean and s.d. of the noise in a map's solvent.

    Windows of the box are points in a plane, local mean against the logarithm of the local s.d. Noise is the same everywhere in
    the solvent, so that its windows crowd together; density is different from place to place and adds to both. The
    crowds are found by mean shift, the one lowest in mean and s.d. is the solvent, and a Gaussian is fitted to the
    left flank and the top of its voxels' histogram, which particles at the windows' edges do not reach. Parts
    of the box that are flat, as left by a mask, are set aside first. No shape, position or number of particles is assumed, and
    ``a * data + b`` with ``a > 0`` gives the corresponding result.

    Parameters
    ----------
    data
        Map, shape ``(nz, ny, nx)``, finite, density positive.

    Returns
    -------
    NoiseEstimate
        With `mean` and `std`, or with the reason why there are none.

    Raises
    ------
    MapContentError
        For a constant map.

    References
    ----------
    Mean shift: Comaniciu & Meer 2002, doi 10.1109/34.1000236.
    """
    sample = sample_voxels(data)
    reference = float(np.median(sample))
    unit = float(np.abs(sample.astype(np.float64) - reference).max())
    if unit == 0:
        unit = float(max(float(data.max()) - reference, reference - float(data.min())))
    if unit == 0:
        raise MapContentError(f"Every voxel of the map is {reference:g}; give a map that holds density.")
    density = (float(np.percentile(sample, DENSITY_PERCENTILE)) - reference) / unit
    edge = int(np.clip(min(data.shape) // 20, 4, 8))
    blocks = _measure_blocks(data, edge, reference, unit)

    rise = abs(density - float(np.median(blocks.mean))) if blocks.mean.size else 0.0
    background = blocks.constant | (blocks.std < FLAT * rise)
    share = float(background.mean()) if background.size else 0.0
    level = float(np.median(blocks.mean[background])) if share > LEAST_SHARE / 2 else None
    usable: BoolArray = _pool((~(background | blocks.filled)).astype(np.float64)) > 1 - 1e-6

    solvent = np.zeros(blocks.mean.shape, dtype=bool)
    mean: float | None = None
    std: float | None = None
    reason = "nearly all of it is flat"
    if usable.sum() >= LEAST_WINDOWS:
        pooled_mean = _pool(blocks.mean)
        pooled_std = np.sqrt(np.maximum(_pool(blocks.std**2 + blocks.mean**2) - pooled_mean**2, 1e-30))
        # Ranks that belong to places: were one window more or less usable, the samples would hardly change.
        rank = np.random.default_rng(0).random(usable.shape)
        population = _find_solvent(pooled_mean[usable], pooled_std[usable], rank[usable])
        windows: BoolArray = np.zeros(usable.shape, dtype=bool)
        windows[usable] = population.chosen
        values = _gather_voxels(data, windows, rank, edge, reference, unit)
        mean, std = _fit_left_flank(values, population.mean, population.std)
        verdict = _judge(population, values, mean, std, level, density, usable_share=float(population.chosen.mean()))
        if verdict is None:
            count = windows.shape
            for z, y, x in np.ndindex(WINDOW, WINDOW, WINDOW):
                solvent[z : z + count[0], y : y + count[1], x : x + count[2]] |= windows
        else:
            mean, std, reason = None, None, verdict
    return NoiseEstimate(
        mean=None if mean is None else mean * unit + reference,
        std=None if std is None else std * unit,
        background=None if level is None else level * unit + reference,
        background_share=share,
        density=density * unit + reference,
        reason=reason if mean is None else None,
        solvent=solvent,
        block=edge,
    )


def _measure_blocks(data: FloatArray, edge: int, reference: float, unit: float) -> _Blocks:
    """Statistics of cubic blocks of ``(data - reference) / unit``, one slab of blocks at a time."""
    nz, ny, nx = shape = (data.shape[0] // edge, data.shape[1] // edge, data.shape[2] // edge)
    mean, square = np.empty(shape), np.empty(shape)
    low, high = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32)

    def reduce(function: Callable[..., FloatArray], slab: FloatArray) -> FloatArray:
        rows = function(function(slab, axis=0).reshape(ny, edge, nx * edge), axis=1)
        return function(rows.reshape(ny, nx, edge), axis=2)

    def slab_of(k: int) -> FloatArray:
        return data[k * edge : (k + 1) * edge, : ny * edge, : nx * edge]

    for k in range(nz):
        slab = slab_of(k)
        low[k], high[k] = reduce(np.min, slab), reduce(np.max, slab)
        scaled = (slab - np.float32(reference)) * np.float32(1 / unit)
        mean[k] = reduce(np.sum, scaled) / edge**3
        square[k] = reduce(np.sum, scaled * scaled) / edge**3
    constant = low == high
    filled = constant
    if constant.mean() > LEAST_SHARE / 20:
        # A block that holds the fill value lies across the mask's edge; a voxel or two may do so by chance.
        fill = np.median(low[constant])
        filled = np.empty(shape, dtype=bool)
        for k in range(nz):
            filled[k] = reduce(np.sum, (slab_of(k) == fill).astype(np.float32)) > 0.04 * edge**3
    return _Blocks(mean, np.sqrt(np.maximum(square - mean**2, 0)), constant, filled)


def _pool(values: Float64Array) -> Float64Array:
    """Means over overlapping windows of `WINDOW` blocks an edge; ``n - WINDOW + 1`` along each axis."""
    for axis in range(3):
        count = max(0, values.shape[axis] - WINDOW + 1)
        parts = [np.take(values, range(i, i + count), axis=axis) for i in range(WINDOW)]
        values = np.mean(parts, axis=0)
    return values


def _find_solvent(means: Float64Array, stds: Float64Array, rank: Float64Array) -> _Population:
    """Find the population of windows that is lowest in mean and s.d."""
    logs = np.log(stds)
    centre, level = _lowest_mode(means, logs, rank)
    # Solvent has density on its right in both coordinates and little on its left: the left flanks give the spreads.
    spread, log_spread = MEAN_KERNEL * exp(level), LOG_KERNEL
    for _ in range(10):
        near = (logs > level - 3 * log_spread) & (logs < level + 2 * log_spread)
        flank = centre - means[near & (means < centre) & (means > centre - 3.5 * spread)]
        spread = _clipped(flank, 0.02 * exp(level), 3 * exp(level), spread)
        near = (means > centre - 3 * spread) & (means < centre + 2 * spread)
        flank = level - logs[near & (logs < level) & (logs > level - 3.0 * log_spread)]
        log_spread = _clipped(flank, 0.03, 0.4, log_spread)
    chosen = (logs > level - 3.5 * log_spread) & (logs < level + 2.5 * log_spread) & (abs(means - centre) < 2.5 * spread)
    if not chosen.any():
        chosen = (means - centre) ** 2 + (stds - exp(level)) ** 2 <= exp(2 * level)
    variance = float(np.mean(stds[chosen] ** 2) + means[chosen].var())
    return _Population(chosen, float(means[chosen].mean()), variance**0.5)


def _clipped(flank: Float64Array, low: float, high: float, otherwise: float) -> float:
    """S.d. of a Gaussian from the distances of its left flank to its centre, between `low` and `high`."""
    return float(np.clip(1.4826 * np.median(flank), low, high)) if flank.size > 5 else otherwise


def _lowest_mode(means: Float64Array, logs: Float64Array, rank: Float64Array) -> tuple[float, float]:
    """Mean-shift mode, of those that hold enough windows, that is lowest in mean and s.d."""
    order = np.argsort(rank)
    start, cloud = order[:150], order[:3000]
    points, point_logs = means[cloud][None], logs[cloud][None]
    centres, levels = means[start], logs[start]
    weight = np.ones(start.size)
    for _ in range(16):
        width = MEAN_KERNEL * np.exp(levels)[:, None]
        kernel = ((points - centres[:, None]) / width) ** 2 + ((point_logs - levels[:, None]) / LOG_KERNEL) ** 2
        kernel = np.exp(-0.5 * kernel)
        weight = kernel.sum(axis=1)
        centres, levels = kernel @ points[0] / weight, kernel @ point_logs[0] / weight
    modes: list[tuple[float, float]] = []
    members: list[int] = []
    for i in np.argsort(-weight, kind="stable"):
        for k, (centre, level) in enumerate(modes):
            if abs(levels[i] - level) < 1.5 * LOG_KERNEL and abs(centres[i] - centre) < 1.5 * MEAN_KERNEL * exp(level):
                members[k] += 1
                break
        else:
            modes.append((float(centres[i]), float(levels[i])))
            members.append(1)
    least = min(max(members), LEAST_SHARE * start.size)
    large = [mode for mode, count in zip(modes, members, strict=True) if count >= least]
    return min(large, key=lambda mode: mode[0] + 2 * exp(mode[1]))


def _gather_voxels(
    data: FloatArray, windows: BoolArray, rank: Float64Array, edge: int, reference: float, unit: float
) -> Float64Array:
    """Voxels of at most 1000 of the windows, as ``(data - reference) / unit``."""
    places = np.argwhere(windows)[np.argsort(rank[windows])[:1000]] * edge
    size = WINDOW * edge
    values = np.concatenate([data[z : z + size, y : y + size, x : x + size].ravel() for z, y, x in places])
    return (values.astype(np.float64) - reference) / unit


def _fit_left_flank(values: Float64Array, mean: float, std: float) -> tuple[float, float]:
    """Gaussian through the left flank and the top of a histogram: a parabola through the logarithm of its counts."""
    start = mean, std
    for _ in range(6):
        counts, edges = np.histogram(values, bins=40, range=(mean - 2.5 * std, mean + 0.75 * std))
        kept = counts > 5
        if kept.sum() < 8:
            break
        position = ((edges[1:] + edges[:-1])[kept] / 2 - mean) / std
        curvature, slope, _ = np.polyfit(position, np.log(counts[kept]), 2, w=np.sqrt(counts[kept]))
        if curvature >= 0:
            break
        variance = -0.5 / curvature
        mean += std * float(np.clip(slope * variance, -0.5, 0.5))
        std *= float(np.clip(variance**0.5, 0.6, 1.5))
    return (mean, std) if std < 1.2 * start[1] else start


def _judge(
    population: _Population,
    values: Float64Array,
    mean: float,
    std: float,
    background: float | None,
    density: float,
    *,
    usable_share: float,
) -> str | None:
    """Why the population is not solvent noise, or `None` if it is."""
    centred = (values - population.mean) / population.std
    square = centred * centred
    skewness, kurtosis = float(np.mean(square * centred)), float(np.mean(square * square)) - 3
    excess = population.std / std
    if background is None:
        if usable_share > 0.85 and (skewness > 0.4 or excess > 1.2):
            return "its density reaches everywhere"
        return None
    rise = abs(population.mean - background) / population.std
    if usable_share > 0.85 and (rise > 0.25 or skewness > 0.2):
        return "outside its density it is flat"
    if excess > 1.4 or kurtosis > 6:
        return "it fades into a flat background"
    # Programs that mask write zeros into maps whose solvent averages zero. Where it does not, only a population that is
    # large, clean and well below the density is believed.
    contrast = (density - mean) / std
    if rise > 0.35 and (usable_share < 0.25 or excess > 1.2 or skewness > 0.5 or contrast < 4):
        return "outside its density it is flat"
    return None
