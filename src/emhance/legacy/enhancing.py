"""Enhance maps with an imported network; the hand-over is the same as `emhance.pipeline.enhance`'s."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import torch

from emhance.config import CAUTION, EnhanceConfig
from emhance.errors import OptionError
from emhance.legacy.importing import KerasNetwork
from emhance.legacy.reference import NETWORK_VOXEL, ReferenceResult, normalization_function, normalize, reference_exact
from emhance.legacy.reference_normalization import NOISE
from emhance.legacy.tiled import run_tiled
from emhance.maps.masks import check_binary_mask
from emhance.maps.mrc import read_map
from emhance.maps.resampling import plan_resampling
from emhance.maps.volume import DensityMap, FloatArray, require_same_geometry
from emhance.network.devices import device_name, pick_devices
from emhance.pipeline import EnhanceResult, MapLike, Progress
from emhance.provenance import Provenance
from emhance.steps import normalization as steps
from emhance.steps.cleaning import clean

logger = logging.getLogger("emhance")

BATCH = 8
"""Tiles at a time where the user does not say: the fastest on a CPU (`benchmarks/legacy.py`), and the reference program's own."""

MASK_LEVEL = 0.1
"""Value of the resampled mask above which a voxel counts as inside when tiles are chosen."""


def enhance_with_imported(
    map: MapLike,
    half2: MapLike | None = None,
    *,
    network: KerasNetwork,
    mask: MapLike | None = None,
    config: EnhanceConfig | None = None,
    exact: bool = False,
    stride: int | None = None,
    normalization: str | None = None,
    progress: Progress | None = None,
) -> EnhanceResult:
    """Enhance a map or two half maps with an imported network, on the input's grid and with its geometry.

    Parameters
    ----------
    map, half2
        The map, or half maps 1 and 2.
    network
        What `load_keras` or `load_imported` returned.
    mask
        Binary mask on the same grid, for a network that was trained with one.
    config
        Noise statistics, cleaning, voxel size, batch size, GPUs, threads. Network, tile size, precision, resolution and
        recombination do not apply.
    exact
        Use the reference program's arithmetic, defects included; otherwise the corrected way.
    stride
        Largest step between tiles in voxels of 1 Å, for the corrected way; see `run_tiled`.
    normalization
        Name of the reference program's normalisation function where the checkpoint names none.
    progress
        Called with the stage, the tiles done and their total.

    Returns
    -------
    EnhanceResult
        The enhanced map and its provenance; in its `normalization` the noise statistics that were used.

    Raises
    ------
    UserError
        One of its kinds, for input that cannot be used.
    """
    if exact and stride is not None:
        raise OptionError("--stride does not go with --reference-exact, which uses the checkpoint's own; drop one of the two.")
    # The ending keeps a checkpoint called like one of emhance's own networks apart from it.
    config = replace(config or EnhanceConfig(), network=f"{network.name}.hd5", recombine=False).resolved(
        has_mask=mask is not None
    )
    function = normalization_function(network, has_mask=mask is not None, chosen=normalization)
    device, *others = pick_devices(config.gpus)
    if others:
        logger.warning("An imported network runs on one GPU: %s is used, %d more left alone.", device_name(device), len(others))
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    batch_size = config.batch_size or BATCH
    provenance = Provenance(config={**asdict(config), "reference_exact": exact, "stride": stride})
    provenance.network = {
        "name": network.name,
        "sha256": network.sha256,
        "voxel_size": NETWORK_VOXEL,
        "imported_from": f"Keras {network.checkpoint.keras_version}",
    }
    with provenance.timed("read"):
        first = _read(map, "half map 1" if half2 is not None else "map", config, provenance)
        second = None if half2 is None else _read(half2, "half map 2", config, provenance)
        if second is not None:
            require_same_geometry(first, second, what="half maps")
        inside = None
        if mask is not None:
            mask_map = mask if isinstance(mask, DensityMap) else read_map(mask, voxel_size=first.voxel_size, allow_constant=True)
            inside = check_binary_mask(mask_map, first).astype(np.float32)
    report = None if progress is None else _stage(progress)
    data = first.data if second is None else np.float32(0.5) * (first.data + second.data)
    noise = (config.noise_mean, config.noise_std) if config.normalization == "statistics" else None
    if exact:
        with provenance.timed("network"):
            result = reference_exact(
                data,
                network,
                voxel_size=first.geometry.voxel_size_zyx[2],
                mask=inside,
                noise=None if noise is None else (float(noise[0] or 0.0), float(noise[1] or 0.0)),
                normalization=function,
                clean=config.clean,
                batch_size=batch_size,
                device=device,
                progress=report,
            )
        enhanced = result.data
        provenance.normalization = _record(function, result)
    else:
        enhanced = _corrected(data, first, network, inside, config, function, stride, batch_size, device, report, provenance)
    provenance.device = {"devices": [device_name(device)], "precision": "float32", "threads": torch.get_num_threads()}
    version = provenance.versions["emhance"]
    label = f"emhance {version} network {network.name} {network.sha256[:8]}: {CAUTION}"
    return EnhanceResult(DensityMap(enhanced, first.geometry, labels=(*first.labels, label)), provenance)


def _corrected(
    data: FloatArray,
    source: DensityMap,
    network: KerasNetwork,
    inside: FloatArray | None,
    config: EnhanceConfig,
    function: str,
    stride: int | None,
    batch_size: int,
    device: torch.device,
    report: Callable[[int, int], None] | None,
    provenance: Provenance,
) -> FloatArray:
    with provenance.timed("normalize"):
        if function == NOISE:
            mode = "auto" if config.normalization is None else config.normalization
            found = steps.normalize(
                data,
                mode=mode,  # type: ignore[arg-type]
                noise_mean=config.noise_mean,
                noise_std=config.noise_std,
            )
            if found.message:
                provenance.warnings.append(found.message)
                logger.warning("%s", found.message)
            normalized = found.data
            used = {key: value for key, value in vars(found).items() if key not in ("data", "message")}
            provenance.normalization = {"function": function, **used}
        else:
            # Its own scale belongs to a network trained with a mask.
            normalized, _ = normalize(data, network, mask=inside, normalization=function)
            provenance.normalization = {"function": function, "mode": "mask"}
    with provenance.timed("resample"):
        plan = plan_resampling(source.geometry.shape, source.voxel_size, NETWORK_VOXEL)
        resampled = plan.forward(normalized)
        region = None if inside is None else plan.forward(inside) > MASK_LEVEL
    with provenance.timed("network"):
        enhanced = run_tiled(
            network.module,
            resampled,
            tile=network.tile_size,
            stride=stride,
            batch_size=batch_size,
            mask=region,
            device=device,
            progress=report,
        )
    with provenance.timed("resample"):
        enhanced = plan.backward(enhanced)
    if config.clean:
        with provenance.timed("clean"):
            cleaned = clean(enhanced, fraction=config.clean)
            provenance.cleaning = {key: value for key, value in vars(cleaned).items() if key != "data"}
            enhanced = cleaned.data
            logger.info("%s", cleaned.sentence)
    return enhanced


def _read(source: MapLike, role: str, config: EnhanceConfig, provenance: Provenance) -> DensityMap:
    density = source if isinstance(source, DensityMap) else read_map(source, voxel_size=config.voxel_size)
    if isinstance(source, DensityMap) and config.voxel_size is not None:
        density = replace(density, geometry=density.geometry.with_voxel_size(config.voxel_size))
    density.geometry.require_isotropic(density.name)
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
    return density


def _record(function: str, result: ReferenceResult) -> dict[str, object]:
    noise = result.noise
    record: dict[str, object] = {"function": function, "tiles": result.tiles}
    return record if noise is None else {**record, "mean": noise.mean, "std": noise.std}


def _stage(progress: Progress) -> Callable[[int, int], None]:
    return lambda done, total: progress("network", done, total)
