"""What independent data say about an enhanced map: each half map is enhanced alone, and the two are compared.

Costs two more runs of the network. Nothing here looks at an atomic model or at anything but the two half maps.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from emhance.config import EnhanceConfig
from emhance.errors import OptionError
from emhance.maps.atomic_write import check_output
from emhance.maps.fourier import Curve, resolution_at, shell_frequencies, shell_sums
from emhance.maps.mrc import read_map, write_map
from emhance.maps.volume import DensityMap, FloatArray
from emhance.pipeline import EnhanceResult, MapLike, Progress, enhance
from emhance.steps.normalization import NOISE_STD
from emhance.validation.confidence import Calibration, confidence_map, shipped_calibration
from emhance.validation.fsc import HALF_MAP_THRESHOLD
from emhance.validation.held_out import HeldOut, held_out

logger = logging.getLogger("emhance")

GATE_CLOSED, GATE_OPEN = 0.2, 0.5
"""Confidence up to which `gate` removes density, and from which it keeps all of it."""


@dataclass(frozen=True, eq=False)
class EvidenceResult:
    """An enhanced map with the evidence for it.

    Parameters
    ----------
    result
        The enhanced map, gated if that was asked for, and its provenance, which holds the evidence's numbers.
    confidence
        0 to 1 per voxel, on the same grid: the correlation with the truth to expect.
    held_out
        FSC of each enhanced half map with the raw other half.
    """

    result: EnhanceResult
    confidence: DensityMap
    held_out: HeldOut

    def write(self, path: str | Path, *, overwrite: bool = False) -> tuple[Path, Path, Path]:
        """Write the map, its provenance and the confidence map beside it; return the three paths.

        Raises
        ------
        OutputError
            If one of them exists already (unless `overwrite`) or cannot be written.
        """
        path = Path(path)
        confidence = confidence_path(path)
        check_output(confidence, overwrite=overwrite)
        written, record = self.result.write(path, overwrite=overwrite)
        write_map(confidence, self.confidence, overwrite=overwrite)
        return written, record, confidence


def confidence_path(path: Path) -> Path:
    """Where the confidence of the map written to `path` lies: ``map.mrc.gz`` has ``map_confidence.mrc``."""
    name = path.name
    for suffix in (".gz", ".bz2", ".mrc", ".map", ".ccp4"):
        name = name.removesuffix(suffix)
    return path.with_name(f"{name}_confidence.mrc")


def enhance_with_evidence(
    half1: MapLike,
    half2: MapLike,
    *,
    mask: MapLike | None = None,
    config: EnhanceConfig | None = None,
    gate: bool = False,
    calibration: Calibration | None = None,
    progress: Progress | None = None,
) -> EvidenceResult:
    """Enhance two half maps together and each alone, and compare.

    Parameters
    ----------
    half1, half2
        Raw half maps: `DensityMap` or path.
    mask, config, progress
        As in `emhance.enhance`.
    gate
        Let density fade where the evidence is lacking: nothing stays below a confidence of 0.2, everything from 0.5 on.
    calibration
        Of the confidence; default: the shipped one.

    Returns
    -------
    EvidenceResult

    Raises
    ------
    UserError
        One of its kinds, for input that cannot be used.
    """
    calibration = calibration or shipped_calibration()
    result = enhance(half1, half2, mask=mask, config=config, progress=_stage(progress, "both halves"))
    provenance = result.provenance
    with provenance.timed("evidence"):
        alone = _config_for_halves(config or EnhanceConfig(), result, has_mask=mask is not None)
        halves = [_loaded(half, alone) for half in (half1, half2)]
        with _quiet_about_halves():
            enhanced1, enhanced2 = (
                enhance(half, mask=mask, config=alone, progress=_stage(progress, f"half {number}")).map.data
                for number, half in enumerate(halves, 1)
            )
        workers = int(provenance.device["threads"])
        voxel_size = result.map.voxel_size
        curves = held_out(enhanced1, enhanced2, halves[0].data, halves[1].data, voxel_size=voxel_size, workers=workers)
        del halves
        resolution = float(provenance.recombination.get("resolution", math.inf))
        if math.isinf(resolution):  # nothing was recombined
            resolution = resolution_at(curves.frequency, curves.raw, HALF_MAP_THRESHOLD)
        confidence = confidence_map(enhanced1, enhanced2, voxel_size=voxel_size, resolution=resolution, calibration=calibration)
        del enhanced1, enhanced2
        provenance.evidence = {
            "held_out": {**asdict(curves), "sentence": curves.sentence},
            "power_shares": _power_shares(result, workers=workers),
            "confidence": _summary(confidence, result.map.data, calibration),
        }
    logger.info("%s", curves.sentence)
    if gate:
        result = _gated(result, confidence)
    label = "emhance: confidence, the correlation with the truth to expect (0-1)"
    return EvidenceResult(result, DensityMap(confidence, result.map.geometry, labels=(label,)), curves)


def power_shares(data_weight: Curve) -> tuple[Curve, Curve]:
    """Shares of the output's power that come from the data and from the network, per shell; they add up to 1.

    Parameters
    ----------
    data_weight
        w of the recombination ``Y = w g X' + (1 - w) N'`` with ``g² P_X' = P_N'``: the parts have the powers w² P_N' and
        (1 - w)² P_N'.
    """
    data, network = data_weight**2, (1 - data_weight) ** 2
    total = data + network
    return data / total, network / total


def gate_of(confidence: FloatArray) -> FloatArray:
    """Factor by which a density of some confidence is multiplied: 0 up to 0.2, 1 from 0.5 on, smooth between."""
    t = np.clip((confidence - np.float32(GATE_CLOSED)) / np.float32(GATE_OPEN - GATE_CLOSED), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def _config_for_halves(config: EnhanceConfig, result: EnhanceResult, *, has_mask: bool) -> EnhanceConfig:
    """Return the configuration for a half map alone: everything as for both, their normalisation included."""
    provenance = result.provenance
    used = provenance.normalization
    alone = replace(
        config,
        clean=None,
        precision=str(provenance.device["precision"]),  # "auto" measures, and might decide otherwise now
        # Only a fallback, for halves without solvent noise.
        resolution=provenance.recombination.get("resolution") if config.recombine else None,
    )
    if alone.resolution is not None and not 2 * result.map.voxel_size <= alone.resolution < float("inf"):
        alone = replace(alone, resolution=None)
    if has_mask:
        return alone
    # (x - mean) / (10 std) is the mean's own (x - offset) * scale.
    return replace(
        alone, normalization="statistics", noise_mean=float(used["offset"]), noise_std=NOISE_STD / float(used["scale"])
    )


def _loaded(half: MapLike, config: EnhanceConfig) -> DensityMap:
    return half if isinstance(half, DensityMap) else read_map(half, voxel_size=config.voxel_size)


@contextmanager
def _quiet_about_halves() -> Iterator[None]:
    """Hold back warnings: what there is to say about the half maps was said about their mean."""

    def only_errors(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    logger.addFilter(only_errors)
    try:
        yield
    finally:
        logger.removeFilter(only_errors)


def _stage(progress: Progress | None, name: str) -> Progress | None:
    if progress is None:
        return None
    return lambda stage, done, total: progress(f"{stage}, {name}", done, total)


def _power_shares(result: EnhanceResult, *, workers: int) -> dict[str, object]:
    """Shares per shell and over all shells; the network's is 1 where nothing was recombined."""
    shape = result.map.geometry.shape
    frequency = shell_frequencies(shape, result.map.voxel_size)
    weight = result.provenance.recombination.get("data_weight")
    data, network = power_shares(np.zeros_like(frequency) if weight is None else np.asarray(weight, dtype=np.float64))
    power = _power(result.map.data, workers=workers)
    total = float(power[1:].sum())
    overall = float(np.sum(power[1:] * data[1:])) / total if total > 0 else 0.0
    return {"frequency": frequency, "data": data, "network": network, "data_overall": overall}


def _power(data: FloatArray, *, workers: int) -> Curve:
    import scipy.fft

    nz, ny, nx = data.shape
    return shell_sums(scipy.fft.rfftn(data, workers=workers), (nz, ny, nx))


def _summary(confidence: FloatArray, density: FloatArray, calibration: Calibration) -> dict[str, object]:
    """Mean confidence of the density, and how much of it lies in each tenth of the confidence."""
    weight = np.maximum(density, 0).ravel()
    tenths, _ = np.histogram(confidence.ravel(), bins=10, range=(0, 1), weights=weight)
    total = max(float(tenths.sum()), 1e-30)
    return {
        "mean_of_density": float(np.dot(confidence.ravel(), weight)) / total,
        "density_by_tenth": tenths / total,
        "calibration": calibration.fitted_on,
    }


def _gated(result: EnhanceResult, confidence: FloatArray) -> EnhanceResult:
    density = result.map.data
    gated = density * gate_of(confidence)
    before, after = (float(np.sum(np.maximum(data, 0), dtype=np.float64)) for data in (density, gated))
    removed = 1 - after / before if before > 0 else 0.0
    sentence = (
        f"The gate removed {removed:.1%} of the density: what has a confidence below {GATE_CLOSED:g}, and gradually what has "
        f"one below {GATE_OPEN:g}."
    )
    result.provenance.evidence["gate"] = {"removed": removed, "sentence": sentence}
    logger.warning("%s", sentence)
    return replace(result, map=replace(result.map, data=gated))


def require_half_maps(option: str, half2: object) -> None:
    """Raise `OptionError` if an option that needs two half maps is given with one map alone."""
    if half2 is None:
        raise OptionError(f"{option} needs two half maps; give half map 2, or drop the option.")
