"""Imported networks: from a Keras checkpoint, to and from safetensors with a TOML card."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.numpy
import tomli_w

from emhance.errors import OutputError, WeightsError
from emhance.legacy.checkpoint import KerasCheckpoint, LayerWeights, sha256_of
from emhance.legacy.keras_graph import KerasGraph
from emhance.maps.atomic_write import atomic_output, check_output

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FORMAT = "emhance-keras-graph-1"
"""Marks weights of an imported network, in the safetensors file and in its card."""

DEFAULT_STRIDE_SHARE = 4
"""The reference program's stride where the checkpoint names none: this part of the tile."""


@dataclass(frozen=True, kw_only=True)
class KerasNetwork:
    """An imported network, ready to run.

    Parameters
    ----------
    module
        The network as a torch module.
    tile_size, stride
        Edge of a tile and the reference program's step between tiles, in voxels of 1 Å.
    normalization
        The reference program's function that normalises the input (see `reference_normalization`), or None if the
        checkpoint does not name one.
    name
        Name of the checkpoint.
    sha256
        SHA-256 of the Keras file it came from.
    checkpoint
        What the file said.
    """

    module: KerasGraph
    tile_size: int
    stride: int
    normalization: str | None
    name: str
    sha256: str
    checkpoint: KerasCheckpoint


def load_keras(path: str | Path) -> KerasNetwork:
    """Load a Keras checkpoint; nothing in it is executed.

    Parameters
    ----------
    path
        Keras HDF5 file (.hd5, .h5) of a functional model.

    Raises
    ------
    WeightsError
        If the file cannot be read, or holds a layer that cannot be imported.
    """
    from emhance.legacy.keras_file import read_keras_file  # here, as what is imported already needs no h5py

    network = _network(read_keras_file(path))
    network.module.check_shapes()
    return network


def load_imported(path: str | Path) -> KerasNetwork:
    """Load what `save_imported` wrote.

    Parameters
    ----------
    path
        The .safetensors file; its card (.toml) lies beside it.

    Raises
    ------
    WeightsError
        If the file or its card is missing, of another kind, or the weights are not those the card names.
    """
    path = Path(path)
    card = _read_card(path)
    digest = sha256_of(path)
    if digest != card.get("sha256"):
        raise WeightsError(f"{path.name} has SHA-256 {digest}, its card says {card.get('sha256')}; import the checkpoint again.")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path.name} is not a safetensors file ({error}); import the checkpoint again.") from error
    if metadata.get("format") != FORMAT or "checkpoint" not in metadata:
        raise WeightsError(f"{path.name} holds no imported Keras network (format {metadata.get('format')!r}).")
    description = json.loads(metadata["checkpoint"])
    weights: dict[str, LayerWeights] = {}
    for key, array in arrays.items():
        layer, _, name = key.rpartition("/")
        weights.setdefault(layer, {})[name] = array
    description["custom_layers"] = frozenset(description["custom_layers"])
    return _network(KerasCheckpoint(weights=weights, **description))


def is_imported(path: str | Path) -> bool:
    """Whether a .safetensors file holds an imported Keras network; False for one that cannot be read."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (OSError, safetensors.SafetensorError):
        return False


def save_imported(network: KerasNetwork, path: str | Path, *, overwrite: bool = False) -> Path:
    """Save an imported network as safetensors with a TOML card beside it.

    Parameters
    ----------
    network
        What `load_keras` returned.
    path
        The file to write, ending in .safetensors; the card gets the ending .toml.
    overwrite
        Replace existing files.

    Returns
    -------
    Path
        The card's path.

    Raises
    ------
    OutputError
        If the file exists, has another ending or cannot be written.
    """
    path = Path(path)
    card_path = path.with_suffix(".toml")
    if path.suffix != ".safetensors":
        raise OutputError(f"{path.name} must end in .safetensors.")
    for target in (path, card_path):
        check_output(target, overwrite=overwrite)
    checkpoint = network.checkpoint
    description = {
        "name": checkpoint.name,
        "graph": checkpoint.graph,
        "keras_version": checkpoint.keras_version,
        "tile_size": checkpoint.tile_size,
        "stride": checkpoint.stride,
        "normalization": checkpoint.normalization,
        "custom_layers": sorted(checkpoint.custom_layers),
        "sha256": checkpoint.sha256,
    }
    arrays = {f"{layer}/{name}": array for layer, group in checkpoint.weights.items() for name, array in group.items()}
    payload = safetensors.numpy.save(arrays, {"format": FORMAT, "checkpoint": json.dumps(description)})
    with atomic_output(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(payload)
    parameters = sum(array.size for array in arrays.values())
    card: dict[str, Any] = {
        "format": FORMAT,
        "name": network.name,
        "sha256": sha256_of(path),
        "source_sha256": network.sha256,
        "keras_version": checkpoint.keras_version,
        "normalization": network.normalization or "",
        "tile_size": network.tile_size,
        "stride": network.stride,
        "voxel_size": 1.0,
        "parameters": parameters,
    }
    heading = "# An imported Keras network: its weights and graph are in the .safetensors file of the same name.\n"
    with atomic_output(card_path, overwrite=overwrite) as temporary:
        temporary.write_text(heading + tomli_w.dumps(card), encoding="utf-8")
    return card_path


def _network(checkpoint: KerasCheckpoint) -> KerasNetwork:
    module = KerasGraph(checkpoint)
    stride = checkpoint.stride or module.tile_size // DEFAULT_STRIDE_SHARE
    if not 0 < stride <= module.tile_size:
        raise WeightsError(
            f"{checkpoint.name} names a stride of {stride} voxels for tiles of {module.tile_size}; the file is damaged."
        )
    return KerasNetwork(
        module=module,
        tile_size=module.tile_size,
        stride=stride,
        normalization=checkpoint.normalization,
        name=checkpoint.name,
        sha256=checkpoint.sha256,
        checkpoint=checkpoint,
    )


def _read_card(path: Path) -> Mapping[str, Any]:
    card_path = path.with_suffix(".toml")
    if not path.is_file() or not card_path.is_file():
        missing = path if not path.is_file() else card_path
        raise WeightsError(
            f"There is no file {missing}; an imported network is a .safetensors file and a card (.toml) beside it."
        )
    try:
        return tomllib.loads(card_path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WeightsError(f"{card_path.name} is not a TOML file ({error}).") from error
