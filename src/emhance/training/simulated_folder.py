"""A simulated case as a folder: half maps, what they should become, and every parameter that was drawn."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emhance.errors import AtomicModelError, DeviceError, MapFileError, OutputError
from emhance.maps.atomic_write import atomic_output, check_output
from emhance.maps.mrc import write_map
from emhance.maps.volume import DensityMap, Geometry
from emhance.training.atoms import Atoms
from emhance.training.simulation import SimulatedMaps, one_molecule, raw_pair, simulate

MAPS = ("half1.mrc", "half2.mrc", "truth.mrc", "target.mrc", "mask.mrc")
PARAMETERS = "parameters.json"

MARGIN = 30.0
"""Å of solvent on every side of a molecule whose box is chosen automatically."""

LARGEST_BOX = 512
"""Voxels; a larger one needs more memory than most machines have."""

SMALLEST_BOX = 32


def box_for(atoms: Atoms, voxel_size: float) -> int:
    """An even edge in voxels that holds a molecule however it is turned, with `MARGIN` Å of solvent around it.

    Raises
    ------
    AtomicModelError
        If that is more than `LARGEST_BOX`.
    """
    radius = float(np.linalg.norm(atoms.positions - atoms.positions.mean(0), axis=1).max())
    box = 2 * max(SMALLEST_BOX // 2, math.ceil((radius + MARGIN) / voxel_size))
    if box > LARGEST_BOX:
        raise AtomicModelError(
            f"The whole molecule would need a box of {box} voxels, more than {LARGEST_BOX}; give a coarser --voxel-size, or "
            "--box for the middle of it."
        )
    return box


def torch_device(name: str) -> torch.device:
    """The device called cpu, cuda, or cuda and a number.

    Raises
    ------
    DeviceError
        If there is no such device.
    """
    if name == "cpu":
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind != "cuda" or not (number or "0").isdecimal():
        raise DeviceError(f"--device {name!r} cannot be read; give cpu, or a GPU as in cuda:0.")
    if int(number or "0") >= count:
        raise DeviceError(f"--device {name} does not exist: PyTorch sees {count} GPU(s) here; use --device cpu.")
    return torch.device("cuda", int(number or "0"))


def simulate_case(
    atoms: Atoms, *, resolution: float, box: int, voxel_size: float, seed: int, raw: bool, device: torch.device
) -> SimulatedMaps:
    """Simulate one whole molecule in the middle of its box, on an arbitrary scale.

    Parameters
    ----------
    atoms
        The atomic model.
    resolution
        Where the half-map FSC crosses 0.143, Å.
    box
        Edge in voxels, even.
    voxel_size
        Å.
    seed
        Decides everything that is drawn.
    raw
        Unfiltered, unsharpened, unmasked half maps, always computed on the CPU; otherwise all of these are drawn as well.
    device
        Where the others are computed; the numbers drawn depend on it.
    """
    if raw:
        return raw_pair(atoms, resolution=resolution, box=box, seed=seed, voxel_size=voxel_size)
    config = replace(one_molecule(resolution=resolution, box=box, voxel_size=voxel_size), normalised=False)
    return simulate(atoms, config, torch.Generator(device).manual_seed(seed))


def write_case(
    maps: SimulatedMaps, folder: Path, *, voxel_size: float, parameters: dict[str, Any], overwrite: bool = False
) -> list[Path]:
    """Write half1, half2, truth, target and mask, and at last the parameters; returns the paths.

    Raises
    ------
    OutputError
        If a file exists already (unless `overwrite`) or cannot be written.
    """
    check_case(folder, overwrite=overwrite)
    arrays = (maps.half1, maps.half2, maps.truth, maps.target, (maps.molecule > 0.5).float())
    paths = [folder / name for name in (*MAPS, PARAMETERS)]
    for path, values in zip(paths, arrays, strict=False):
        data = np.ascontiguousarray(values.cpu().numpy(), dtype=np.float32)
        nz, ny, nx = data.shape
        label = f"emhance simulate: {path.stem}"
        write_map(path, DensityMap(data, Geometry.whole_box((nz, ny, nx), voxel_size), labels=(label,)), overwrite=overwrite)
    record = {**parameters, "drawn": maps.log}
    with atomic_output(paths[-1], overwrite=overwrite) as temporary:
        temporary.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return paths


def check_case(folder: Path, *, overwrite: bool) -> None:
    """Make the folder and say before the work starts whether a case can be written into it.

    Raises
    ------
    OutputError
        If it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made ({error.strerror}); choose another with --output.") from error
    for name in (*MAPS, PARAMETERS):
        check_output(folder / name, overwrite=overwrite)


@dataclass(frozen=True)
class SimulatedCase:
    """What `write_case` left.

    Parameters
    ----------
    folder
        Where.
    resolution
        Å.
    """

    folder: Path
    resolution: float


def is_case(folder: Path) -> bool:
    """Whether a folder holds a simulated case."""
    return (folder / PARAMETERS).is_file()


def read_case(folder: Path) -> SimulatedCase:
    """Read a simulated case's parameters.

    Raises
    ------
    MapFileError
        If a file is missing or the parameters cannot be read.
    """
    for name in MAPS:
        if not (folder / name).is_file():
            raise MapFileError(f"{folder} lacks {name}; simulate it again.")
    path = folder / PARAMETERS
    try:
        resolution = float(json.loads(path.read_text(encoding="utf-8"))["resolution"])
    except OSError as error:
        raise MapFileError(f"{path} cannot be read ({error.strerror}); check the file.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise MapFileError(f"{path} does not say the resolution ({error}); simulate it again.") from error
    return SimulatedCase(folder, resolution)
