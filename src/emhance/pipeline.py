"""The story of an enhancement, start here: read, normalise, restore, resample, infer, recombine, clean, write.

result = enhance("half1.mrc", "half2.mrc")
result.write("enhanced.mrc")
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emhance.config import CAUTION, EnhanceConfig
from emhance.errors import GeometryError, MapContentError, NormalizationError, OptionError, OutputError
from emhance.maps.atomic_write import check_output
from emhance.maps.inspection import inspect
from emhance.maps.masks import check_binary_mask
from emhance.maps.mrc import read_map, write_map
from emhance.maps.resampling import plan_resampling
from emhance.maps.volume import DensityMap, FloatArray, Geometry, require_same_geometry
from emhance.network.devices import cpu_threads, default_threads, device_name, pick_devices, pick_precision
from emhance.network.inference import InferenceConfig, infer
from emhance.network.weights import Network, load_network
from emhance.provenance import Provenance
from emhance.steps.cleaning import clean
from emhance.steps.normalization import NormalizationResult, normalize
from emhance.steps.recombination import Reliability, recombine
from emhance.steps.restoration import restore

logger = logging.getLogger("emhance")

MapLike = DensityMap | str | Path

Progress = Callable[[str, int, int], None]
"""Called with the name of the stage, the voxels done and the voxels to do."""

MASK_REACH = 8
"""Voxels of the network's grid beyond the mask that are computed: mask normalisation keeps density to 6 Å beyond it."""

FINEST_DETAIL = 2.2
"""Detail that a network can show, in units of its voxels: 0.9 of their Nyquist frequency."""

LEAST_KEPT = 0.8
"""An output that holds less than this of what its half maps have in common is warned of."""


@dataclass(frozen=True, eq=False)
class EnhanceResult:
    """An enhanced map and how it was made.

    Parameters
    ----------
    map
        The enhanced map, on the input's grid.
    provenance
        The record of everything it depends on.
    """

    map: DensityMap
    provenance: Provenance

    def write(self, path: str | Path, *, overwrite: bool = False) -> tuple[Path, Path]:
        """Write the map, and the provenance beside it as JSON; return both paths.

        Raises
        ------
        OutputError
            If either file exists already (unless `overwrite`) or cannot be written; neither is left half-written.
        """
        path = Path(path)
        record = provenance_path(path)
        for target in (path, record):
            check_output(target, overwrite=overwrite)
        recorded = False

        def write_record() -> None:
            nonlocal recorded
            self.provenance.write(record, overwrite=overwrite)
            recorded = True

        # The record is moved first, so that whenever the run is killed no map lies there without it.
        try:
            write_map(path, self.map, overwrite=overwrite, before_move=write_record)
        finally:
            if recorded and not path.exists():  # failed or stopped between the two moves
                record.unlink(missing_ok=True)
        return path, record


def provenance_path(path: Path) -> Path:
    """Where the provenance of the map written to `path` lies: ``map.mrc.gz`` has ``map.json``.

    Raises
    ------
    OutputError
        If that would be the map itself.
    """
    name = path.name
    for suffix in (".gz", ".bz2", path.with_suffix("").suffix if path.suffix in (".gz", ".bz2") else path.suffix):
        name = name.removesuffix(suffix)
    record = path.with_name(name + ".json")
    if record == path:
        raise OutputError(f"{path}: this name belongs to the record beside the map; give the map one that ends in .mrc.")
    return record


def enhance(
    map: MapLike,
    half2: MapLike | None = None,
    *,
    mask: MapLike | None = None,
    config: EnhanceConfig | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> EnhanceResult:
    """Enhance a density map, or better its two half maps.

    Parameters
    ----------
    map
        The map, or half map 1: a `DensityMap` or a path. Best is a raw reconstruction: not sharpened, not masked.
    half2
        Half map 2.
    mask
        A binary mask on the same grid; it selects mask normalisation and the masked network.
    config
        All options in one object.
    progress
        Called now and then with the stage and how much of it is done.
    **options
        Fields of `EnhanceConfig`, instead of `config`: ``network="wide"``, ``resolution=3.2``, ...

    Returns
    -------
    EnhanceResult
        The enhanced map, an aid to interpretation and no replacement of the experimental map, and its provenance.

    Raises
    ------
    UserError
        One of its kinds, for input that cannot be used.
    """
    if config is not None and options:
        raise OptionError("Give either config or single options, not both.")
    config = (config or _config_of(options)).resolved(has_mask=mask is not None)
    devices = pick_devices(config.gpus)
    precision = pick_precision(config.precision, devices[0])
    workers = config.threads or default_threads()
    network = load_network(str(config.network))
    provenance = Provenance(config=asdict(config), network=_network_record(network))
    warn = _warner(provenance)

    with provenance.timed("read"):
        density, half_difference = _read(map, half2, config, provenance)
        inside = _read_mask(mask, density, config, provenance)
    with provenance.timed("check"):
        for finding in inspect(density, workers=workers):
            warn(f"{finding.message} {finding.suggestion}")
        _check_resolution(config, density, network, warn)
    with provenance.timed("normalize"):
        normalized = _normalize(density, inside, config, provenance, warn)
        data = normalized.data
        if half_difference is not None:
            normalized.scale_difference(half_difference)
    geometry, labels, name = density.geometry, density.labels, density.name
    del density
    with provenance.timed("restore"):
        restored = restore(
            data,
            voxel_size=geometry.voxel_size,
            half_difference=half_difference,
            noise=not normalized.from_density,
            resolution=config.resolution,
            workers=workers,
        )
        provenance.restoration = {"source": restored.source, "signal_share": restored.signal_share}
        packed = None if half_difference is None else _Packed.of(half_difference)
        del half_difference

    with provenance.timed("resample"):
        plan = plan_resampling(geometry.shape, geometry.voxel_size, network.card.voxel_size)
        resampled = plan.forward(restored.data, workers=workers)
        del restored
    with provenance.timed("network"), cpu_threads(workers):
        running = InferenceConfig(
            devices=tuple(devices), precision=precision, batch_size=config.batch_size, tile_size=config.tile_size
        )
        region = None if inside is None or plan.repeats != (1, 1, 1) else _region(inside, plan.new_shape)
        enhanced = infer(network.module, resampled, running, region=region, progress=_stage(progress, "network"))
    provenance.device = {
        "devices": [device_name(device) for device in devices],
        "precision": str(precision).removeprefix("torch."),
        "threads": workers,
        "network_box_xyz": list(plan.new_shape[::-1]),
        "network_voxel_size": plan.voxel_size,
    }
    del resampled
    with provenance.timed("resample"):
        enhanced = plan.backward(enhanced, workers=workers)
    if config.recombine:
        with provenance.timed("recombine"):
            enhanced, reliability = recombine(
                enhanced,
                data,
                voxel_size=geometry.voxel_size,
                half_difference=None if packed is None else packed.unpacked(),
                noise=not normalized.from_density,
                resolution=config.resolution,
                workers=workers,
            )
            _record_recombination(reliability, provenance, warn)
            _check_detail(reliability, geometry, network, warn)
    if config.clean:
        with provenance.timed("clean"):
            cleaned = clean(enhanced, fraction=config.clean)
            enhanced = cleaned.data
            provenance.cleaning = {key: value for key, value in vars(cleaned).items() if key != "data"}
            logger.info("%s", cleaned.sentence)
    label = f"emhance {provenance.versions['emhance']} network {network.card.name} {network.card.version}: {CAUTION}"
    result = DensityMap(enhanced, geometry, labels=(*labels, label))
    logger.info("Enhanced %s with the %s network.", name, network.card.name)
    return EnhanceResult(result, provenance)


@dataclass(frozen=True, eq=False)
class _Packed:
    """Half the difference of the half maps in half the memory, while the network runs.

    It serves their FSC alone, which float16 keeps to six digits.
    """

    values: NDArray[np.float16]
    scale: np.float32

    @classmethod
    def of(cls, half_difference: FloatArray) -> _Packed:
        """Pack an array, which is overwritten."""
        largest = np.float32(max(float(half_difference.max()), -float(half_difference.min())))
        half_difference /= largest
        return cls(half_difference.astype(np.float16), largest)

    def unpacked(self) -> FloatArray:
        """The array again, float32."""
        values: FloatArray = self.values.astype(np.float32)
        values *= self.scale
        return values


def _config_of(options: dict[str, Any]) -> EnhanceConfig:
    known = set(EnhanceConfig.__dataclass_fields__)
    unknown = sorted(set(options) - known)
    if unknown:
        raise OptionError(f"Unknown option '{unknown[0]}'; enhance() knows {', '.join(sorted(known))}.")
    return EnhanceConfig(**options)


def _warner(provenance: Provenance) -> Callable[[str], None]:
    def warn(message: str) -> None:
        provenance.warnings.append(message)
        logger.warning("%s", message)

    return warn


def _stage(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(name, done, total)


def _read(
    map: MapLike, half2: MapLike | None, config: EnhanceConfig, provenance: Provenance
) -> tuple[DensityMap, FloatArray | None]:
    """The map, or the mean of the half maps and half their difference; both arrays are this run's own."""
    first = _load(map, config)
    _record_input(provenance, "half map 1" if half2 is not None else "map", first)
    if half2 is None:
        return first, None
    second = _load(half2, config)
    _record_input(provenance, "half map 2", second)
    require_same_geometry(first, second, what="half maps")
    if np.array_equal(first.data, second.data):
        raise GeometryError(
            f"The half maps {first.name} and {second.name} are identical; give two independent half maps, or one map alone."
        )
    # What was read here is this run's own; a caller's array is never touched.
    mean = first.data.copy() if isinstance(map, DensityMap) else first.data
    mean += second.data
    mean *= np.float32(0.5)
    half_difference = np.subtract(mean, second.data, out=None if isinstance(half2, DensityMap) else second.data)
    return replace(first, data=mean), half_difference


def _load(source: MapLike, config: EnhanceConfig) -> DensityMap:
    if not isinstance(source, DensityMap):
        return read_map(source, voxel_size=config.voxel_size)
    density = source
    if config.voxel_size is not None:
        density = replace(source, geometry=source.geometry.with_voxel_size(config.voxel_size))
    if not density.voxel_size > 0:
        raise GeometryError(f"{density.name} has no voxel size; give it with voxel_size=.")
    density.geometry.require_isotropic(density.name)
    low, high = float(density.data.min()), float(density.data.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise MapContentError(f"{density.name} holds NaN or infinite values; find out where they come from.")
    if low == high:
        raise MapContentError(f"{density.name}: every voxel is {low:g}; a constant map holds nothing to enhance, give another.")
    return density


def _network_record(network: Network) -> dict[str, Any]:
    card = network.card
    return {"name": card.name, "version": card.version, "voxel_size": card.voxel_size, "sha256": card.sha256}


def _record_input(provenance: Provenance, role: str, density: DensityMap) -> None:
    geometry = density.geometry
    provenance.inputs.append(
        {
            "role": role,
            "path": density.path,
            "sha256": density.sha256,
            "box_xyz": geometry.shape[::-1],
            "voxel_size": geometry.voxel_size,
            "origin_xyz": geometry.origin[::-1],
            "nstart_xyz": geometry.nstart[::-1],
        }
    )


def _read_mask(
    mask: MapLike | None, density: DensityMap, config: EnhanceConfig, provenance: Provenance
) -> NDArray[np.bool_] | None:
    if mask is None:
        return None
    if not isinstance(mask, DensityMap):
        mask = read_map(mask, voxel_size=config.voxel_size, need_voxel_size=False, allow_constant=True)
    _record_input(provenance, "mask", mask)
    return check_binary_mask(mask, density)


def _check_resolution(config: EnhanceConfig, density: DensityMap, network: Network, warn: Callable[[str], None]) -> None:
    if config.resolution is None:
        return
    if config.resolution < 2 * density.voxel_size:
        raise OptionError(
            f"--resolution {config.resolution:g} Å is finer than the map can hold: twice its voxel size is "
            f"{2 * density.voxel_size:.3g} Å; check both."
        )
    low, high = network.card.resolution
    if not low <= config.resolution <= high:
        warn(
            f"The {network.card.name} network was trained on maps of {low:g} to {high:g} Å, this one is said to be at "
            f"{config.resolution:g} Å; judge the result with care."
        )


def _normalize(
    density: DensityMap,
    inside: NDArray[np.bool_] | None,
    config: EnhanceConfig,
    provenance: Provenance,
    warn: Callable[[str], None],
) -> NormalizationResult:
    try:
        result = normalize(
            density.data,
            mode=config.normalization or "auto",  # type: ignore[arg-type]
            noise_mean=config.noise_mean,
            noise_std=config.noise_std,
            mask=inside,
            voxel_size=density.voxel_size,
        )
    except NormalizationError as error:
        raise NormalizationError(f"{density.name}: {error}") from error
    if result.message:
        warn(result.message)
    provenance.normalization = {key: value for key, value in vars(result).items() if key not in ("data", "message", "weight")}
    return result


def _region(inside: NDArray[np.bool_], new_shape: tuple[int, int, int]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Box around the mask, at the network's voxel size; beyond it the masked input is zero and no output is wanted."""
    start, stop = [], []
    for axis in range(3):
        others = tuple(i for i in range(3) if i != axis)
        filled = np.flatnonzero(inside.any(axis=others))
        factor = new_shape[axis] / inside.shape[axis]
        start.append(max(0, int(np.floor(filled[0] * factor)) - MASK_REACH))
        stop.append(min(new_shape[axis], int(np.ceil((filled[-1] + 1) * factor)) + MASK_REACH))
    return (start[0], start[1], start[2]), (stop[0], stop[1], stop[2])


def _check_detail(reliability: Reliability, geometry: Geometry, network: Network, warn: Callable[[str], None]) -> None:
    """Warn of data that hold finer detail than the network's voxels, which are larger than theirs, can show."""
    finest = FINEST_DETAIL * network.card.voxel_size
    if geometry.voxel_size < network.card.voxel_size and reliability.resolution < finest:
        advice = "" if network.card.name == "highres" else "; use --network highres"
        warn(
            f"The data reach {reliability.resolution:.2f} Å ({reliability.source}), the {network.card.name} network shows "
            f"detail to about {finest:.2g} Å{advice}."
        )


def _record_recombination(reliability: Reliability, provenance: Provenance, warn: Callable[[str], None]) -> None:
    provenance.recombination = {
        "source": reliability.source,
        "resolution": reliability.resolution,
        "frequency": reliability.frequency,
        "reliability": reliability.value,
        "data_weight": reliability.weight,
        "gain": reliability.gain,
        "kept": reliability.kept,
    }
    if reliability.kept is not None and reliability.kept < LEAST_KEPT:
        warn(
            f"The output holds only {reliability.kept:.0%} of what the two half maps have in common. The rest may be detergent, "
            "lipids or disordered chains, or density the network missed: compare with the input, or try another network."
        )
    elif reliability.kept is not None:
        logger.info("The output holds %.0f %% of what the two half maps have in common.", 100 * reliability.kept)
    if reliability.source == "default resolution":
        warn(
            "The map has no half maps and no solvent noise, so what its data support is unknown; a resolution of "
            f"{reliability.resolution:.1f} Å was assumed. Give the true one with --resolution."
        )
    elif reliability.source == "no support":
        warn("The network found no density in this map; the output is next to nothing.")
    elif reliability.source == "nothing but noise":
        warn("The map has nowhere more power than its own solvent; the output is empty. Is there a molecule in it?")
    elif reliability.source == "no agreement":
        warn("The two half maps have no more in common than noise has; the output is empty. Are they halves of one particle set?")
    else:
        logger.info("Data are trusted to %.2f Å (%s).", reliability.resolution, reliability.source)
