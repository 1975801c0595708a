"""From one layer of a Keras configuration to the torch module that does the same, or an error that names the layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from emhance.errors import WeightsError
from emhance.legacy import keras_layers as layers
from emhance.legacy.checkpoint import LayerWeights


@dataclass(frozen=True, kw_only=True)
class LayerDescription:
    """One layer as the file describes it.

    Parameters
    ----------
    name, class_name
        How Keras calls the layer and its class.
    config
        The layer's options.
    weights
        Its arrays, in Keras' layout.
    channels_last
        Whether the network keeps its channels in the last axis.
    keras_major
        Major version of the Keras that wrote the file.
    custom
        Whether the class is defined by the file's own source rather than by Keras.
    """

    name: str
    class_name: str
    config: dict[str, Any]
    weights: LayerWeights
    channels_last: bool
    keras_major: int
    custom: bool

    def fail(self, reason: str) -> NoReturn:
        """Raise the error that names this layer."""
        raise WeightsError(f"Layer '{self.name}' of class {self.class_name} cannot be imported: {reason}.")

    def number(self, key: str, default: float) -> float:
        """A numeric option; Keras 2.2 may wrap it in a small dictionary."""
        value = self.config.get(key, default)
        if isinstance(value, dict):
            value = value.get("value", value.get("config", {}).get("value"))
        if value is None:
            value = default
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.fail(f"its {key} is {value!r}, not a number")
        return float(value)

    def triple(self, key: str, default: int | None = None) -> layers.Triple:
        """An option with one positive integer per axis."""
        value = self.config.get(key)
        if value is None:
            value = default
        if isinstance(value, int):
            value = [value] * 3
        if not isinstance(value, (list, tuple)) or len(value) != 3 or not all(isinstance(v, int) and v > 0 for v in value):
            self.fail(f"its {key} is {value!r}, not three positive integers")
        return (value[0], value[1], value[2])

    def same(self) -> bool:
        """Whether the padding is 'same' ('valid' otherwise)."""
        padding = str(self.config.get("padding", "valid")).lower()
        if padding not in ("same", "valid"):
            self.fail(f"its padding '{padding}' is neither 'same' nor 'valid'")
        return padding == "same"

    def array(self, key: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """One of the layer's arrays, checked against the shape that the options ask for."""
        if key not in self.weights:
            self.fail(f"the file holds no weights '{key}' for it (found {', '.join(self.weights) or 'none'})")
        array = self.weights[key]
        if shape is not None and array.shape != shape:
            self.fail(f"its {key} has shape {array.shape} where its options ask for {shape}")
        if not np.isfinite(array).all():
            self.fail(f"its {key} holds values that are not finite")
        return torch.from_numpy(np.ascontiguousarray(array, np.float32).copy())

    def activation(self, key: str = "activation") -> layers.Activation:
        """The activation named by an option."""
        name = self.config.get(key) or "linear"
        found = layers.activation(name, keras_major=self.keras_major) if isinstance(name, str) else None
        if found is None:
            self.fail(f"its activation {name!r} is not known")
        return found

    def axis(self, value: Any) -> int:
        """A Keras axis as an axis of ``(n, c, z, y, x)``."""
        if isinstance(value, (list, tuple)) and len(value) == 1:
            value = value[0]
        if not isinstance(value, int) or not -5 <= value < 5:
            self.fail(f"its axis {value!r} is none of a batch of boxes")
        axis: int = value % 5
        return (0, 2, 3, 4, 1)[axis] if self.channels_last else axis

    def affine(self, size: int | None) -> tuple[Tensor, Tensor]:
        """Gamma and beta of a normalisation; ones and zeros where it has none."""
        shape = None if size is None else (size,)
        gamma = self.array("gamma", shape) if self.config.get("scale", True) else None
        beta = self.array("beta", shape) if self.config.get("center", True) else None
        like = gamma if gamma is not None else beta
        if like is None:
            if size is None:
                self.fail("without scale and center its number of channels cannot be told")
            like = torch.ones(size)
        return (torch.ones_like(like) if gamma is None else gamma, torch.zeros_like(like) if beta is None else beta)


def build_layer(layer: LayerDescription) -> nn.Module:
    """Build the module for a layer.

    Raises
    ------
    WeightsError
        For a class, an option or weights that cannot be imported; the message names layer and class.
    """
    class_name = layer.class_name.rsplit(">", 1)[-1]
    if class_name in layers.MERGES:
        return layers.Merge(layers.MERGES[class_name])
    builder = BUILDERS.get(class_name)
    if builder is None:
        layer.fail(f"this class is not among those that can be ({', '.join(sorted([*BUILDERS, *layers.MERGES]))})")
    return builder(layer)


def _convolution(layer: LayerDescription) -> nn.Module:
    size, groups, filters = layer.triple("kernel_size"), int(layer.number("groups", 1)), int(layer.number("filters", 0))
    kernel = layer.array("kernel")
    if kernel.ndim != 5 or tuple(kernel.shape[:3]) != size or kernel.shape[4] != filters:
        layer.fail(f"its kernel has shape {tuple(kernel.shape)} where its options ask for {(*size, 'channels', filters)}")
    return layers.Convolution(
        kernel.permute(4, 3, 0, 1, 2),
        layer.array("bias", (filters,)) if layer.config.get("use_bias", True) else None,
        strides=layer.triple("strides", 1),
        dilation=layer.triple("dilation_rate", 1),
        groups=groups,
        same=layer.same(),
        act=layer.activation(),
    )


def _transposed_convolution(layer: LayerDescription) -> nn.Module:
    size, filters = layer.triple("kernel_size"), int(layer.number("filters", 0))
    if layer.triple("dilation_rate", 1) != (1, 1, 1) or int(layer.number("groups", 1)) != 1:
        layer.fail("dilated or grouped transposed convolutions are not supported")
    kernel = layer.array("kernel")
    if kernel.ndim != 5 or tuple(kernel.shape[:3]) != size or kernel.shape[3] != filters:
        layer.fail(f"its kernel has shape {tuple(kernel.shape)} where its options ask for {(*size, filters, 'channels')}")
    padding = layer.config.get("output_padding")
    if padding is not None:
        padding = [padding] * 3 if isinstance(padding, int) else padding
        if len(padding) != 3 or not all(isinstance(p, int) and p >= 0 for p in padding):
            layer.fail(f"its output_padding is {padding!r}, not three integers")
    return layers.TransposedConvolution(
        kernel.permute(4, 3, 0, 1, 2),
        layer.array("bias", (filters,)) if layer.config.get("use_bias", True) else None,
        strides=layer.triple("strides", 1),
        same=layer.same(),
        output_padding=None if padding is None else (padding[0], padding[1], padding[2]),
        act=layer.activation(),
    )


def _pooling(layer: LayerDescription) -> nn.Module:
    size = layer.triple("pool_size", 2)
    strides = size if layer.config.get("strides") is None else layer.triple("strides")
    average = layer.class_name.startswith("Average")
    return layers.Pooling(size=size, strides=strides, same=layer.same(), average=average)


def _border(layer: LayerDescription) -> nn.Module:
    crop = layer.class_name.startswith("Cropping")
    key = "cropping" if crop else "padding"
    value: Any = layer.config.get(key, 1)
    pairs: list[Any] = [value] * 3 if isinstance(value, int) else list(value)
    pairs = [[pair, pair] if isinstance(pair, int) else pair for pair in pairs]
    if len(pairs) != 3 or not all(len(pair) == 2 and all(isinstance(v, int) and v >= 0 for v in pair) for pair in pairs):
        layer.fail(f"its {key} is {value!r}, not three pairs of voxels")
    sign = -1 if crop else 1
    (a, b), (c, d), (e, f) = pairs
    return layers.Border(((sign * a, sign * b), (sign * c, sign * d), (sign * e, sign * f)))


def _upsampling(layer: LayerDescription) -> nn.Module:
    if layer.config.get("interpolation", "nearest") != "nearest":
        layer.fail(f"its interpolation is {layer.config['interpolation']!r}, only 'nearest' exists for boxes")
    return layers.Upsampling(layer.triple("size", 2))


def _batch_normalization(layer: LayerDescription) -> nn.Module:
    if layer.axis(layer.config.get("axis", -1)) != 1:
        layer.fail("it normalises along another axis than the channels")
    mean = layer.array("moving_mean")
    gamma, beta = layer.affine(len(mean))
    variance = layer.array("moving_variance", tuple(mean.shape))
    scale = gamma.double() / torch.sqrt(variance.double() + layer.number("epsilon", 1e-3))
    return layers.ChannelScale(scale.float(), (beta.double() - mean.double() * scale).float())


def _group_normalization(layer: LayerDescription) -> nn.Module:
    axis, groups = layer.axis(layer.config.get("axis", -1)), int(layer.number("groups", 32))
    if axis != 1:
        layer.fail("it normalises along another axis than the channels")
    gamma, beta = layer.affine(None)
    if groups == -1:
        groups = len(gamma)
    if groups < 1 or len(gamma) % groups:
        layer.fail(f"its {len(gamma)} channels do not divide into {groups} groups")
    # Keras 2.11 added a class of the same name that does group channels; on channels-first keras-contrib's does, too.
    buffer = layer.custom and layer.channels_last
    normalization = layers.BufferGroupNormalization if buffer else layers.ChannelGroupNormalization
    return normalization(groups=groups, epsilon=layer.number("epsilon", 1e-5 if layer.custom else 1e-3), gamma=gamma, beta=beta)


def _instance_normalization(layer: LayerDescription) -> nn.Module:
    if layer.class_name != "InstanceNormalization":
        layer.fail("only keras-contrib's class of this name is known")
    axis = layer.config.get("axis")
    axis = None if axis is None else layer.axis(axis)
    if axis == 0:
        layer.fail("it normalises along the batch")
    gamma, beta = layer.affine(1 if axis is None else None)
    return layers.InstanceNormalization(axis=axis, epsilon=layer.number("epsilon", 1e-3), gamma=gamma, beta=beta)


def _parametric_relu(layer: LayerDescription) -> nn.Module:
    alpha = layer.array("alpha")
    if alpha.ndim != 4:
        layer.fail(f"its alpha has shape {tuple(alpha.shape)}, not that of a box with channels")
    return layers.ParametricReLU(alpha.permute(3, 0, 1, 2) if layer.channels_last else alpha)


def _relu(layer: LayerDescription) -> nn.Module:
    limit = layer.config.get("max_value")
    return layers.Pointwise(
        layers.rectifier(
            max_value=None if limit is None else layer.number("max_value", 0.0),
            negative_slope=layer.number("negative_slope", 0.0),
            threshold=layer.number("threshold", 0.0),
        )
    )


def _leaky_relu(layer: LayerDescription) -> nn.Module:
    key = "negative_slope" if "negative_slope" in layer.config else "alpha"
    return layers.Pointwise(layers.leaky_rectifier(layer.number(key, 0.3)))


def _elu(layer: LayerDescription) -> nn.Module:
    alpha = layer.number("alpha", 1.0)
    return layers.Pointwise(lambda x: functional.elu_(x, alpha))


def _concatenation(layer: LayerDescription) -> nn.Module:
    axis = layer.axis(layer.config.get("axis", -1))
    return layers.Merge(lambda inputs: torch.cat(inputs, axis))


def _identity(layer: LayerDescription) -> nn.Module:
    return nn.Identity()


BUILDERS: dict[str, Callable[[LayerDescription], nn.Module]] = {
    "Activation": lambda layer: layers.Pointwise(layer.activation()),
    "ActivityRegularization": _identity,
    "AlphaDropout": _identity,
    "AveragePooling3D": _pooling,
    "BatchNormalization": _batch_normalization,
    "BatchNormalizationV1": _batch_normalization,
    "Concatenate": _concatenation,
    "Conv3D": _convolution,
    "Conv3DTranspose": _transposed_convolution,
    "Cropping3D": _border,
    "Dropout": _identity,
    "ELU": _elu,
    "GaussianDropout": _identity,
    "GaussianNoise": _identity,
    "GroupNormalization": _group_normalization,
    "InstanceNormalization": _instance_normalization,
    "LeakyReLU": _leaky_relu,
    "MaxPooling3D": _pooling,
    "PReLU": _parametric_relu,
    "ReLU": _relu,
    "SpatialDropout3D": _identity,
    "UpSampling3D": _upsampling,
    "ZeroPadding3D": _border,
}
"""The layer classes that can be imported, beside the merging ones of `keras_layers.MERGES`."""
