"""A Keras functional graph as one torch module."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from emhance.errors import WeightsError
from emhance.legacy.checkpoint import KerasCheckpoint
from emhance.legacy.keras_builders import LayerDescription, build_layer
from emhance.legacy.keras_layers import is_identity

TensorName = tuple[str, int]
"""A tensor of the graph: the layer that makes it, and which of the layer's calls."""

DEFAULT_TILE = 64
"""Edge of a tile, in voxels, of a network that accepts any size and does not name one."""


@dataclass(frozen=True)
class Call:
    """One call of a layer: what goes in, what comes out."""

    layer: str
    inputs: tuple[TensorName, ...]
    output: TensorName


@dataclass(frozen=True)
class Step:
    """A call in the order of execution, with the tensors that nobody needs after it."""

    module: int
    inputs: tuple[TensorName, ...]
    output: TensorName
    copy_input: bool
    finished: tuple[TensorName, ...]


class KerasGraph(nn.Module):
    """The imported network: normalised density in, the network's output out, both ``(n, 1, z, y, x)`` float32.

    Parameters
    ----------
    checkpoint
        What `read_keras_file` found.

    Raises
    ------
    WeightsError
        For a graph or a layer that cannot be imported; the message names layer and class.
    """

    def __init__(self, checkpoint: KerasCheckpoint) -> None:
        super().__init__()
        descriptions = _layers(checkpoint)
        calls = {call.output: call for name, layer in descriptions.items() for call in _calls(name, layer)}
        (input_name,), output_names = _ends(checkpoint.graph, "input_layers"), _ends(checkpoint.graph, "output_layers")
        if len(output_names) != 1:
            raise WeightsError(f"The network has {len(output_names)} outputs; only networks with one can be imported.")
        self.tile_size, channels_last = _input_box(descriptions[input_name[0]], descriptions)
        major = int(checkpoint.keras_version.split(".")[0] or 2) if checkpoint.keras_version[:1].isdigit() else 2
        self.layers = nn.ModuleList()
        self._steps: list[Step] = []
        modules: dict[str, int] = {}
        aliases: dict[TensorName, TensorName] = {}
        order: list[tuple[int, tuple[TensorName, ...], TensorName]] = []
        for call in _sorted(calls, input_name, output_names[0]):
            if call.layer not in modules:
                layer = descriptions[call.layer]
                module = build_layer(
                    LayerDescription(
                        name=call.layer,
                        class_name=str(layer.get("class_name")),
                        config=layer["config"],
                        weights=checkpoint.weights.get(call.layer, {}),
                        channels_last=channels_last,
                        keras_major=major,
                        custom=_is_custom(layer, checkpoint),
                    )
                )
                modules[call.layer] = len(self.layers)
                self.layers.append(module)
            inputs = tuple(aliases.get(name, name) for name in call.inputs)
            if is_identity(self.layers[modules[call.layer]]):
                aliases[call.output] = inputs[0]
            else:
                order.append((modules[call.layer], inputs, call.output))
        self._input = input_name
        self._output = aliases.get(output_names[0], output_names[0])
        self._steps = self._schedule(order)
        self.eval().requires_grad_(False)

    def _schedule(self, order: list[tuple[int, tuple[TensorName, ...], TensorName]]) -> list[Step]:
        last_use: dict[TensorName, int] = {name: i for i, (_, inputs, _) in enumerate(order) for name in inputs}
        last_use[self._output] = len(order)
        steps = []
        for i, (module, inputs, output) in enumerate(order):
            finished = tuple({name for name in inputs if last_use[name] == i and name != self._input})
            overwrites = getattr(self.layers[module], "overwrites_input", False)
            steps.append(Step(module, inputs, output, bool(overwrites and inputs[0] not in finished), finished))
        return steps

    def forward(self, x: Tensor) -> Tensor:
        """Run the network on a batch ``(n, 1, z, y, x)``; the edges must be those the network was made for."""
        tensors = {self._input: x.contiguous(memory_format=torch.channels_last_3d)}
        for step in self._steps:
            inputs = [tensors[name] for name in step.inputs]
            if step.copy_input:
                inputs[0] = inputs[0].clone()
            for name in step.finished:
                del tensors[name]
            tensors[step.output] = self.layers[step.module](*inputs)
        return tensors[self._output]

    def check_shapes(self) -> None:
        """Run once without data, so that weights which do not fit together are found before a map is read.

        Raises
        ------
        WeightsError
            If the layers do not fit together, or the output is not one box of the input's size.
        """
        box = (1, 1, self.tile_size, self.tile_size, self.tile_size)
        try:
            with torch.inference_mode():
                shape = tuple(copy.deepcopy(self).to("meta")(torch.empty(box, device="meta")).shape)
        except (RuntimeError, ValueError, IndexError) as error:
            raise WeightsError(f"The network's layers do not fit together ({str(error).splitlines()[0]}).") from error
        if shape != box:
            raise WeightsError(f"The network turns a batch of shape {box} into {shape}; it must return one box of the same size.")


def _layers(checkpoint: KerasCheckpoint) -> dict[str, dict[str, Any]]:
    graph = checkpoint.graph
    kind, config = graph.get("class_name"), graph.get("config")
    if kind not in ("Model", "Functional") or not isinstance(config, dict) or not isinstance(config.get("layers"), list):
        raise WeightsError(f"{checkpoint.name}: only Keras' functional models can be imported, not class {kind}.")
    found: dict[str, dict[str, Any]] = {}
    for layer in config["layers"]:
        options = layer.get("config") if isinstance(layer, dict) else None
        name = (layer.get("name") or options.get("name")) if isinstance(options, dict) else None
        if not isinstance(name, str):
            raise WeightsError(f"{checkpoint.name}: a layer of the model_config attribute has no name; the file is damaged.")
        found[name] = layer
    return found


def _is_custom(layer: dict[str, Any], checkpoint: KerasCheckpoint) -> bool:
    """Whether the layer's class comes from the file's own source: Keras reuses some of keras-contrib's names."""
    if str(layer.get("module") or "").startswith("keras."):
        return False
    if str(layer.get("class_name")) in checkpoint.custom_layers:
        return True
    version = [int(part) for part in checkpoint.keras_version.split(".")[:2] if part.isdigit()]
    return bool(version) and version < [2, 11]


def _calls(name: str, layer: dict[str, Any]) -> list[Call]:
    """The calls of a layer, from either way in which Keras writes them down."""
    calls = []
    for index, node in enumerate(layer.get("inbound_nodes") or []):
        if isinstance(node, dict):  # Keras 3
            inputs = _keras3_tensors(node.get("args"))
            options = dict(node.get("kwargs") or {})
        else:
            entries = [node] if node and isinstance(node[0], str) else list(node)
            inputs, options = [], {}
            for entry in entries:
                if not isinstance(entry, list) or len(entry) < 3 or entry[2] != 0:
                    raise WeightsError(
                        f"Layer '{name}' of class {layer.get('class_name')} has inputs that cannot be read: {entry!r}."
                    )
                inputs.append((str(entry[0]), int(entry[1])))
                options.update(entry[3] if len(entry) > 3 and entry[3] else {})
        given = {key: value for key, value in options.items() if value not in (None, False)}
        if given or not inputs:
            raise WeightsError(
                f"Layer '{name}' of class {layer.get('class_name')} is called in a way that cannot be imported "
                f"({', '.join(f'{key}={value!r}' for key, value in given.items()) or 'without inputs'})."
            )
        calls.append(Call(name, tuple(inputs), (name, index)))
    return calls


def _keras3_tensors(value: Any) -> list[TensorName]:
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        history = value["config"]["keras_history"]
        return [(str(history[0]), int(history[1]))]
    if isinstance(value, list):
        return [tensor for item in value for tensor in _keras3_tensors(item)]
    return []


def _ends(graph: dict[str, Any], key: str) -> list[TensorName]:
    entries = graph["config"].get(key) or []
    if entries and isinstance(entries[0], str):
        entries = [entries]
    names = [(str(entry[0]), int(entry[1])) for entry in entries]
    if key == "input_layers" and len(names) != 1:
        raise WeightsError(f"The network has {len(names)} inputs; only networks with one can be imported.")
    return names


def _input_box(layer: dict[str, Any], layers: dict[str, dict[str, Any]]) -> tuple[int, bool]:
    """Edge of the input in voxels, and whether channels come last."""
    options = layer["config"]
    shape = options.get("batch_input_shape") or options.get("batch_shape")
    formats = {
        value["config"].get("data_format") or "channels_last" for value in layers.values() if "data_format" in value["config"]
    }
    if len(formats) > 1:
        raise WeightsError("Some layers keep their channels first and some last; such a network cannot be imported.")
    channels_last = formats != {"channels_first"}
    if not isinstance(shape, list) or len(shape) != 5:
        raise WeightsError(f"The network's input has shape {shape}; a batch of boxes with one channel is needed.")
    *edges, channels = shape[1:] if channels_last else [*shape[2:], shape[1]]
    if channels not in (1, None) or len(set(edges)) != 1:
        raise WeightsError(f"The network's input has shape {shape}; a batch of cubic boxes with one channel is needed.")
    return int(edges[0] or DEFAULT_TILE), channels_last


def _sorted(calls: dict[TensorName, Call], start: TensorName, end: TensorName) -> list[Call]:
    """The calls that `end` depends on, every one after those it needs."""
    order: list[Call] = []
    done: set[TensorName] = {start}
    waiting: list[TensorName] = [end]
    open_names: set[TensorName] = set()
    while waiting:
        name = waiting[-1]
        if name in done:
            waiting.pop()
            continue
        call = calls.get(name)
        if call is None:
            raise WeightsError(f"The graph needs the output of layer '{name[0]}', which no layer makes; the file is damaged.")
        missing = [tensor for tensor in call.inputs if tensor not in done]
        if not missing:
            order.append(call)
            done.add(name)
            waiting.pop()
        elif name in open_names:
            raise WeightsError(f"Layer '{name[0]}' depends on its own output; the file is damaged.")
        else:
            open_names.add(name)
            waiting.extend(missing)
    return order
