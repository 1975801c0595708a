"""Read a Keras HDF5 checkpoint as data: its graph, its weights and what the reference program stored beside them.

Nothing in the file is executed and nothing is unpickled. The Python source in ``code/`` is parsed only to learn the *name* of
the normalisation function; links that lead out of the file are refused.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from emhance.errors import MissingExtraError, WeightsError
from emhance.legacy.checkpoint import KerasCheckpoint, LayerWeights, sha256_of

try:
    import h5py
except ImportError as error:
    raise MissingExtraError("Keras checkpoints need h5py; install it with: pip install 'emhance[legacy]'") from error

LARGEST_CHECKPOINT = 4 * 2**30
"""Bytes of weights beyond which a file is refused: the published ones hold about 0.2 GB."""


def read_keras_file(path: str | Path) -> KerasCheckpoint:
    """Read a checkpoint written by Keras 2.2 to 2.15 (or by Keras 3 in its HDF5 format).

    Parameters
    ----------
    path
        An HDF5 file with the attribute ``model_config`` and the group ``model_weights``.

    Returns
    -------
    KerasCheckpoint
        The file's contents, as data.

    Raises
    ------
    WeightsError
        If the file is missing, not HDF5, truncated, holds weights only, or links to other files.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"There is no checkpoint at {path}; give the path of a Keras HDF5 file (.hd5, .h5).")
    if not h5py.is_hdf5(path):
        raise WeightsError(f"{path.name} is not an HDF5 file; a Keras checkpoint (.hd5, .h5) is needed.")
    try:
        with h5py.File(path, "r") as file:
            graph = _model_config(file, path.name)
            normalization, custom_layers = _source_names(file)
            return KerasCheckpoint(
                name=path.stem,
                graph=graph,
                weights=_weights(file, path.name),
                keras_version=_text(_attribute(file, "keras_version") or _attribute(file["model_weights"], "keras_version")),
                tile_size=_parameter(file, "NNET_INPUT_SIZE"),
                stride=_parameter(file, "NNET_INPUT_STRIDE"),
                normalization=normalization,
                custom_layers=custom_layers,
                sha256=sha256_of(path),
            )
    except OSError as error:
        raise WeightsError(f"{path.name} is damaged or truncated and cannot be read ({error}); fetch it again.") from error


def name_assigned(source: str, variable: str) -> str | None:
    """The function that Python source assigns to, imports as, or defines as `variable`; the source is parsed, never run.

    >>> name_assigned("from a import inputNormalization_3; normFun = inputNormalization_3", "normFun")
    'inputNormalization_3'
    >>> name_assigned("from a.b import inputNormalization_3 as normFun", "normFun")
    'inputNormalization_3'
    """
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found: str | None = None
    for node in module.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == variable for t in node.targets):
            found = _function_named(node.value)
        elif isinstance(node, ast.FunctionDef) and node.name == variable:
            found = _function_named(node)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == variable:
                    found = alias.name
    return found


def _function_named(node: ast.AST) -> str | None:
    """The function that an expression is, or the only one that a lambda or a wrapping function calls."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, (ast.Lambda, ast.FunctionDef)):
        called = {_function_named(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}
        return called.pop() if len(called) == 1 else None
    return None


def _model_config(file: h5py.File, name: str) -> dict[str, Any]:
    config = _attribute(file, "model_config")
    if config is None or "model_weights" not in file:
        raise WeightsError(
            f"{name} holds no whole Keras model (model_config and model_weights are needed, found "
            f"{', '.join([*file.attrs, *file]) or 'nothing'}); a file of weights alone cannot be imported."
        )
    try:
        graph = json.loads(_text(config))
    except (json.JSONDecodeError, RecursionError) as error:
        raise WeightsError(f"{name}: the model_config attribute is not JSON ({error}); the file is damaged.") from error
    if not isinstance(graph, dict):
        raise WeightsError(f"{name}: the model_config attribute describes no model; the file is damaged.")
    return graph


def _weights(file: h5py.File, name: str) -> dict[str, LayerWeights]:
    weights: dict[str, LayerWeights] = {}
    total = 0
    root = _member(file, "model_weights", name)
    for layer in root:
        group = _member(root, layer, name)
        if not isinstance(group, h5py.Group):
            raise WeightsError(f"{name}: model_weights/{layer} is not a group; the file is damaged.")
        arrays: LayerWeights = {}
        for path, dataset in _datasets(group, name):
            total += int(dataset.size) * dataset.dtype.itemsize
            if dataset.dtype.kind not in "fiu" or total > LARGEST_CHECKPOINT:
                raise WeightsError(
                    f"{name}: weights {layer}/{path} of type {dataset.dtype} and shape {dataset.shape} cannot be imported."
                )
            # "conv3d/kernel:0" in Keras 2, "conv3d/kernel" in Keras 3.
            key = path.rsplit("/", 1)[-1].split(":")[0]
            if key in arrays:
                raise WeightsError(f"{name}: layer {layer} holds two arrays called {key}; nested models cannot be imported.")
            arrays[key] = np.asarray(dataset[()], np.float32)
        weights[layer] = arrays
    return weights


def _datasets(group: h5py.Group, name: str, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, h5py.Dataset]]:
    if depth > 16:
        raise WeightsError(f"{name}: groups of weights are nested deeper than {depth} levels; the file is damaged.")
    for key in group:
        member = _member(group, key, name)
        if isinstance(member, h5py.Group):
            yield from _datasets(member, name, f"{prefix}{key}/", depth + 1)
        elif isinstance(member, h5py.Dataset):
            if member.is_virtual or member.external:
                raise WeightsError(f"{name}: weights {prefix}{key} lie in another file; only self-contained files are imported.")
            yield prefix + key, member


def _member(group: h5py.Group, key: str, name: str) -> Any:
    """A member of a group; links are refused because they may lead out of the file or in circles."""
    link = group.get(key, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise WeightsError(f"{name}: {group.name}/{key} is a link; only self-contained files are imported.")
    return group[key]


def _attribute(node: Any, key: str) -> Any:
    return node.attrs.get(key)


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0] if value.size else ""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return "" if value is None else str(value)


def _first(file: h5py.File, path: str) -> Any:
    """First element of a small dataset, or None."""
    group_name, key = path.split("/")
    if group_name not in file:
        return None
    group = _member(file, group_name, Path(file.filename).name)
    if not isinstance(group, h5py.Group) or key not in group:
        return None
    dataset = _member(group, key, Path(file.filename).name)
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external or not 0 < dataset.size < 64:
        return None
    return np.asarray(dataset[()]).reshape(-1)[0]


def _parameter(file: h5py.File, key: str) -> int | None:
    value = _first(file, f"configParams/{key}")
    return int(value) if isinstance(value, (int, float, np.integer, np.floating)) else None


def _source_names(file: h5py.File) -> tuple[str | None, frozenset[str]]:
    """The normalisation's name and every identifier in the source of the custom objects."""
    normalization = name_assigned(_text(_first(file, "code/normFun")), "normFun")
    try:
        custom = ast.parse(_text(_first(file, "code/custom_objects")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return normalization, frozenset()
    names = {node.name for node in ast.walk(custom) if isinstance(node, ast.ClassDef)}
    names |= {node.attr for node in ast.walk(custom) if isinstance(node, ast.Attribute)}
    names |= {node.id for node in ast.walk(custom) if isinstance(node, ast.Name)}
    names |= {alias.name for node in ast.walk(custom) if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names}
    return normalization, frozenset(names)
