"""Keras layers of 3-D networks as torch modules with the same arithmetic.

Every module takes and returns batches ``(n, c, z, y, x)``. In memory they are channels-last (``torch.channels_last_3d``),
which is both Keras' own order and the fastest one for torch on a CPU. A module with `overwrites_input` may reuse the memory
of its input, which the graph therefore hands over only when nobody else needs it.

Keras pads where torch would not: 'same' padding with a stride is asymmetric, and so is the crop of a transposed convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Triple = tuple[int, int, int]
Activation = Callable[[Tensor], Tensor]

ROW_LENGTH = 512
"""Shortest row, in numbers, over which a broadcast multiplication runs at memory speed."""


def same_padding(n: int, window: int, stride: int) -> tuple[int, int]:
    """Voxels that TensorFlow's 'same' padding adds before and after an axis of length `n`.

    >>> same_padding(64, 3, 2), same_padding(64, 3, 1), same_padding(7, 3, 2)
    ((0, 1), (1, 1), (1, 1))
    """
    total = max((-(-n // stride) - 1) * stride + window - n, 0)
    return total // 2, total - total // 2


def _pad(x: Tensor, window: Triple, stride: Triple, value: float) -> tuple[Tensor, Triple]:
    """Pad explicitly where 'same' is asymmetric; return what is left to a layer's own symmetric padding."""
    pads = [same_padding(n, k, s) for n, k, s in zip(x.shape[2:], window, stride, strict=True)]
    if all(before == after for before, after in pads):
        return x, (pads[0][0], pads[1][0], pads[2][0])
    flat = [p for pair in reversed(pads) for p in pair]
    return functional.pad(x, flat, value=value), (0, 0, 0)


class Convolution(nn.Module):
    """Conv3D: a kernel ``(out, in / groups, z, y, x)`` with strides, dilation, groups and 'same' or 'valid' padding."""

    kernel: Tensor
    bias: Tensor | None

    def __init__(
        self, kernel: Tensor, bias: Tensor | None, *, strides: Triple, dilation: Triple, groups: int, same: bool, act: Activation
    ) -> None:
        super().__init__()
        self.register_buffer("kernel", kernel.contiguous(memory_format=torch.channels_last_3d))
        self.register_buffer("bias", bias)
        self.strides, self.dilation, self.groups, self.same, self.act = strides, dilation, groups, same, act
        z, y, x = ((k - 1) * d + 1 for k, d in zip(kernel.shape[2:], dilation, strict=True))
        self.window: Triple = (z, y, x)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve a batch."""
        x, padding = _pad(x, self.window, self.strides, 0.0) if self.same else (x, (0, 0, 0))
        return self.act(functional.conv3d(x, self.kernel, self.bias, self.strides, padding, self.dilation, self.groups))


class TransposedConvolution(nn.Module):
    """Conv3DTranspose: the gradient of a convolution, whose output size and crop follow from that convolution's padding."""

    kernel: Tensor
    bias: Tensor | None

    def __init__(
        self,
        kernel: Tensor,
        bias: Tensor | None,
        *,
        strides: Triple,
        same: bool,
        output_padding: Triple | None,
        act: Activation,
    ) -> None:
        super().__init__()
        self.register_buffer("kernel", kernel)
        self.register_buffer("bias", bias)
        self.strides, self.same, self.output_padding, self.act = strides, same, output_padding, act

    def forward(self, x: Tensor) -> Tensor:
        """Convolve a batch, enlarging it."""
        before: list[int] = []
        extra: list[int] = []
        lengths: list[int] = []
        for axis, (n, k, s) in enumerate(zip(x.shape[2:], self.kernel.shape[2:], self.strides, strict=True)):
            if self.output_padding is not None:
                length = (n - 1) * s + k - 2 * (k // 2 if self.same else 0) + self.output_padding[axis]
            else:
                length = n * s if self.same else n * s + max(k - s, 0)
            crop = max((n - 1) * s + k - length, 0) // 2 if self.same else 0
            before.append(crop)
            extra.append(length - ((n - 1) * s + k - 2 * crop))
            lengths.append(length)
        y = functional.conv_transpose3d(x, self.kernel, self.bias, self.strides, tuple(before), tuple(max(e, 0) for e in extra))
        if min(extra) < 0:
            y = y[:, :, : lengths[0], : lengths[1], : lengths[2]].contiguous(memory_format=torch.channels_last_3d)
        return self.act(y)


class Upsampling(nn.Module):
    """UpSampling3D: every voxel repeated along each axis."""

    def __init__(self, size: Triple) -> None:
        super().__init__()
        self.factors = tuple(float(s) for s in size)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge a batch."""
        return functional.interpolate(x, scale_factor=self.factors, mode="nearest")


class Pooling(nn.Module):
    """MaxPooling3D or AveragePooling3D; padded voxels never count."""

    def __init__(self, *, size: Triple, strides: Triple, same: bool, average: bool) -> None:
        super().__init__()
        self.size, self.strides, self.same, self.average = size, strides, same, average

    def forward(self, x: Tensor) -> Tensor:
        """Pool a batch."""
        if not self.same:
            pool = functional.avg_pool3d if self.average else functional.max_pool3d
            return pool(x, self.size, self.strides)
        pads = [p for n, k, s in zip(x.shape[2:], self.size, self.strides, strict=True) for p in reversed(same_padding(n, k, s))]
        pads.reverse()
        order = pads[4:6] + pads[2:4] + pads[0:2]
        if not self.average:
            return functional.max_pool3d(functional.pad(x, order, value=float("-inf")), self.size, self.strides)
        share = functional.avg_pool3d(functional.pad(torch.ones_like(x[:1, :1]), order), self.size, self.strides)
        return functional.avg_pool3d(functional.pad(x, order), self.size, self.strides) / share


class Border(nn.Module):
    """ZeroPadding3D (positive) or Cropping3D (negative voxels): ``((z0, z1), (y0, y1), (x0, x1))``."""

    def __init__(self, voxels: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]) -> None:
        super().__init__()
        self.order = [v for pair in reversed(voxels) for v in pair]

    def forward(self, x: Tensor) -> Tensor:
        """Pad or crop a batch."""
        return functional.pad(x, self.order)


class Pointwise(nn.Module):
    """An activation without weights."""

    overwrites_input = True

    def __init__(self, act: Activation) -> None:
        super().__init__()
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation."""
        return self.act(x)


class ParametricReLU(nn.Module):
    """PReLU: ``max(x, 0) + alpha * min(x, 0)``, alpha per channel or of any shape that broadcasts."""

    alpha: Tensor

    def __init__(self, alpha: Tensor) -> None:
        super().__init__()
        self.register_buffer("alpha", alpha)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation."""
        if self.alpha.shape[1:].numel() == 1:
            return functional.prelu(x, self.alpha.reshape(-1))
        return functional.relu(x) - self.alpha * functional.relu(-x)


class ChannelScale(nn.Module):
    """``scale * x + shift`` per channel: a BatchNormalization with its running statistics folded in."""

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale.reshape(1, -1, 1, 1, 1))
        self.register_buffer("shift", shift.reshape(1, -1, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Scale a batch."""
        return torch.addcmul(self.shift, x, self.scale)


class BufferGroupNormalization(nn.Module):
    """keras-contrib's GroupNormalization on channels-last data: groups are contiguous blocks of memory, not of channels.

    The ``(z, y, x, c)`` buffer of a sample is cut into `groups` equal runs, each is normalised by its own mean and variance, and
    its numbers are scaled by ``gamma[g * w + i % w]`` with ``w = c / groups`` and ``i`` the position in the run. Where
    `groups` divides the tile's planes, a run is a slab of planes with all its channels.
    """

    overwrites_input = True

    gamma: Tensor
    beta: Tensor

    def __init__(self, *, groups: int, epsilon: float, gamma: Tensor, beta: Tensor) -> None:
        super().__init__()
        self.groups, self.epsilon = groups, epsilon
        self.register_buffer("gamma", gamma)
        self.register_buffer("beta", beta)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise a batch; its memory is overwritten and returned."""
        n, c, nz, ny, nx = x.shape
        x = x.contiguous(memory_format=torch.channels_last_3d)
        buffer = x.permute(0, 2, 3, 4, 1)
        width = c // self.groups
        # Rows long enough that the broadcast below runs at memory speed: one or more whole lines of a run.
        lines = 1
        while lines * width * nx < ROW_LENGTH and ny % (2 * lines) == 0:
            lines *= 2
        length = lines * width * nx
        rows = buffer.reshape(n, self.groups, -1, length)
        # Sums over rows first, in double afterwards: as accurate as two passes, at the price of one.
        count = rows.shape[2] * length
        mean = rows.sum(-1).sum(-1, dtype=torch.float64) / count
        square = torch.linalg.vector_norm(rows, dim=-1).double().square().sum(-1) / count
        deviation = (square - mean.square()).clamp_(min=0.0).add_(self.epsilon).sqrt_()
        scale = self.gamma.view(1, self.groups, width) / deviation.unsqueeze(-1)
        shift = self.beta.view(1, self.groups, width) - scale * mean.unsqueeze(-1)
        repeats = (1, 1, length // width)
        rows.mul_(scale.float().repeat(repeats).unsqueeze(2)).add_(shift.float().repeat(repeats).unsqueeze(2))
        return rows.view(n, nz, ny, nx, c).permute(0, 4, 1, 2, 3)


class ChannelGroupNormalization(nn.Module):
    """Groups of channels, each normalised over its voxels: Keras' own class, or keras-contrib's on channels-first."""

    gamma: Tensor
    beta: Tensor

    def __init__(self, *, groups: int, epsilon: float, gamma: Tensor, beta: Tensor) -> None:
        super().__init__()
        self.groups, self.epsilon = groups, epsilon
        self.register_buffer("gamma", gamma)
        self.register_buffer("beta", beta)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise a batch."""
        return functional.group_norm(x, self.groups, self.gamma, self.beta, self.epsilon)


class InstanceNormalization(nn.Module):
    """keras-contrib's InstanceNormalization: ``(x - mean) / (s.d. + epsilon)`` of a sample, over all but `axis` (None: all)."""

    gamma: Tensor
    beta: Tensor

    def __init__(self, *, axis: int | None, epsilon: float, gamma: Tensor, beta: Tensor) -> None:
        super().__init__()
        self.axes = [a for a in (1, 2, 3, 4) if a != axis]
        self.epsilon = epsilon
        shape = [1 if a != axis else -1 for a in range(5)]
        self.register_buffer("gamma", gamma.reshape(shape))
        self.register_buffer("beta", beta.reshape(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise a batch."""
        variance, mean = torch.var_mean(x, self.axes, correction=0, keepdim=True)
        scale = self.gamma / (variance.sqrt() + self.epsilon)
        return torch.addcmul(self.beta - scale * mean, x, scale)


class Merge(nn.Module):
    """Add, Multiply, ... : several tensors of one shape into one."""

    def __init__(self, combine: Callable[[list[Tensor]], Tensor]) -> None:
        super().__init__()
        self.combine = combine

    def forward(self, *inputs: Tensor) -> Tensor:
        """Combine the inputs."""
        return self.combine(list(inputs))


def _sum(inputs: list[Tensor]) -> Tensor:
    total = inputs[0]
    for x in inputs[1:]:
        total = total + x
    return total


def _product(inputs: list[Tensor]) -> Tensor:
    total = inputs[0]
    for x in inputs[1:]:
        total = total * x
    return total


def _extreme(pick: Callable[[Tensor, Tensor], Tensor]) -> Callable[[list[Tensor]], Tensor]:
    def combine(inputs: list[Tensor]) -> Tensor:
        total = inputs[0]
        for x in inputs[1:]:
            total = pick(total, x)
        return total

    return combine


MERGES: dict[str, Callable[[list[Tensor]], Tensor]] = {
    "Add": _sum,
    "Average": lambda inputs: _sum(inputs) / len(inputs),
    "Maximum": _extreme(torch.maximum),
    "Minimum": _extreme(torch.minimum),
    "Multiply": _product,
    "Subtract": lambda inputs: inputs[0] - inputs[1],
}


def rectifier(*, max_value: float | None, negative_slope: float, threshold: float) -> Activation:
    """Keras' ReLU with all its options."""

    def activate(x: Tensor) -> Tensor:
        y = torch.where(x >= threshold, x, negative_slope * (x - threshold))
        return y if max_value is None else torch.where(x >= max_value, torch.full_like(y, max_value), y)

    if threshold == 0.0 and max_value is None:
        return torch.relu_ if negative_slope == 0.0 else leaky_rectifier(negative_slope)
    return activate


def leaky_rectifier(slope: float) -> Activation:
    """``x`` above zero, ``slope * x`` below."""
    return lambda x: functional.leaky_relu_(x, slope)


def _identity(x: Tensor) -> Tensor:
    return x


def activation(name: str, *, keras_major: int) -> Activation | None:
    """The activation Keras calls `name`, or None for one that is unknown here; it may overwrite what it is given."""
    known: dict[str, Activation] = {
        "elu": functional.elu_,
        "exponential": torch.exp_,
        "gelu": functional.gelu,
        "hard_sigmoid": functional.hardsigmoid if keras_major >= 3 else lambda x: (0.2 * x + 0.5).clamp(0.0, 1.0),
        "leaky_relu": leaky_rectifier(0.2),
        "linear": _identity,
        "mish": functional.mish,
        "relu": torch.relu_,
        "relu6": functional.relu6,
        "selu": functional.selu,
        "sigmoid": torch.sigmoid_,
        "silu": functional.silu,
        "softmax": lambda x: torch.softmax(x, 1),
        "softplus": functional.softplus,
        "softsign": functional.softsign,
        "swish": functional.silu,
        "tanh": torch.tanh_,
    }
    return known.get(name)


def is_identity(module: Any) -> bool:
    """Whether a module returns its input as it is."""
    return isinstance(module, nn.Identity) or (isinstance(module, Pointwise) and module.act is _identity)
