"""What a Keras checkpoint holds, as data; reading one needs h5py (`keras_file`), an imported one does not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LayerWeights = dict[str, NDArray[np.float32]]
"""The arrays of one layer by their Keras name (kernel, bias, gamma, ...), in Keras' own layout."""


@dataclass(frozen=True, kw_only=True)
class KerasCheckpoint:
    """What a checkpoint says, before a network is built from it.

    Parameters
    ----------
    name
        The file's name without its suffix.
    graph
        The ``model_config`` attribute, parsed from JSON.
    weights
        Arrays by layer name.
    keras_version
        The Keras that wrote the file, such as ``2.15.0``; empty where the file does not say.
    tile_size, stride
        Edge of a tile and step between tiles in voxels (``configParams``); None where the file does not say.
    normalization
        Name of the normalisation function that the file's ``code/normFun`` defines; None where none can be read.
    custom_layers
        Names of the layer classes that the file's ``code/custom_objects`` defines or mentions.
    sha256
        SHA-256 of the file's bytes.
    """

    name: str
    graph: dict[str, Any]
    weights: dict[str, LayerWeights]
    keras_version: str = ""
    tile_size: int | None = None
    stride: int | None = None
    normalization: str | None = None
    custom_layers: frozenset[str] = field(default_factory=frozenset)
    sha256: str = ""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
