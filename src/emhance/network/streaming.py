"""Run the network over a long box slab by slab, exactly, without computing anything twice.

A convolution along z needs two planes of its past. Kept between slabs, these make the result the same as that of the
whole box at once, while memory grows with the area of a plane, not with the length of the box, and no halo is
recomputed. Skip connections wait in queues until the deeper levels have caught up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from emhance.network.devices import has_onednn
from emhance.network.unet import ResidualBlock, UNet, fold, input_features, unfold

Z = 2
"""The dimension of a ``(n, c, z, y, x)`` batch along which slabs follow one another."""


class Queue:
    """Planes that wait for their partners."""

    def __init__(self) -> None:
        self._slabs: list[Tensor] = []

    def push(self, slab: Tensor) -> None:
        """Add planes at the end."""
        if slab.shape[Z]:
            self._slabs.append(slab)

    def pop(self, planes: int) -> Tensor:
        """Take the first `planes` planes, at least one."""
        taken = list(self._take(planes))
        return taken[0] if len(taken) == 1 else _join(taken)

    def add_to(self, x: Tensor) -> Tensor:
        """Take as many planes as `x` has and add them to it, in place."""
        z = 0
        for slab in self._take(x.shape[Z]):
            x[:, :, z : z + slab.shape[Z]].add_(slab)
            z += slab.shape[Z]
        return x

    def _take(self, planes: int) -> Iterator[Tensor]:
        while planes:
            slab = self._slabs[0]
            if slab.shape[Z] <= planes:
                self._slabs.pop(0)
            else:
                self._slabs[0] = slab[:, :, planes:]
                slab = slab[:, :, :planes]
            planes -= slab.shape[Z]
            yield slab


class ConvolutionStream:
    """A 3×3×3 convolution with zero padding, slab by slab; one plane behind its input."""

    def __init__(self, layer: nn.Conv3d) -> None:
        self._layer = layer
        self._past: Tensor | None = None

    def push(self, x: Tensor, last: bool) -> Tensor:
        """Take the next planes; return those that can be computed now (possibly none)."""
        plane = x.new_zeros((*x.shape[:Z], 1, *x.shape[Z + 1 :]))
        pieces = [plane if self._past is None else self._past, x]
        if last:
            pieces.append(plane)
        x = _join(pieces)
        planes = x.shape[Z] - 2
        if planes < 1:
            self._past = x
            return x.new_zeros((x.shape[0], self._layer.out_channels, 0, *x.shape[Z + 1 :]))
        self._past = x[:, :, planes:].clone()
        return _convolve(self._layer, x)


def _join(pieces: list[Tensor]) -> Tensor:
    """Put slabs behind one another along z."""
    return torch.cat([_channels_last(piece) for piece in pieces], 1).permute(0, 4, 1, 2, 3)


def _channels_last(x: Tensor) -> Tensor:
    # What lies last in memory as the last dimension: slabs are then joined by a plain copy, twice as fast.
    return x.permute(0, 2, 3, 4, 1)


def _convolve(layer: nn.Conv3d, x: Tensor) -> Tensor:
    """Convolve with padding in y and x alone."""
    if x.device.type == "cpu" and x.dtype == torch.float32 and has_onednn():
        # PyTorch's own choice takes a slow path for a single thin slab (under 20,480 rows); oneDNN is several times faster.
        result: Tensor = torch.ops.aten.mkldnn_convolution(x, layer.weight, layer.bias, [0, 1, 1], [1, 1, 1], [1, 1, 1], 1)
        return result
    return functional.conv3d(x, layer.weight, layer.bias, padding=(0, 1, 1))


class ResidualStream:
    """A residual block, slab by slab; two planes behind its input."""

    def __init__(self, block: ResidualBlock) -> None:
        self._a, self._b = ConvolutionStream(block.a), ConvolutionStream(block.b)
        self._waiting = Queue()

    def push(self, x: Tensor, last: bool) -> Tensor:
        """Take the next planes; return those that can be computed now."""
        self._waiting.push(x)
        y = self._b.push(self._a.push(x, last).relu_(), last)
        return self._waiting.add_to(y).relu_()


class LevelStream:
    """One level of the U-Net with all deeper ones inside it."""

    def __init__(self, network: UNet, level: int) -> None:
        self._encoder = _streams(network.encoder[level])
        self._deeper = LevelStream(network, level + 1) if level < len(network.down) else None
        if self._deeper is not None:
            self._down = cast("nn.Conv3d", network.down[level])
            self._up = cast("nn.ConvTranspose3d", network.up[level])
            self._decoder = _streams(network.decoder[level])
            self._skip, self._odd = Queue(), Queue()
            self._held = 0

    def push(self, x: Tensor, last: bool) -> Tensor:
        """Take the next planes; return those that can be computed now."""
        for block in self._encoder:
            x = block.push(x, last)
        if self._deeper is None:
            return x
        self._skip.push(x)
        self._odd.push(x)
        self._held += x.shape[Z]
        pairs = self._held // 2
        self._held -= 2 * pairs
        area = (x.shape[3] // 2, x.shape[4] // 2)
        if pairs:
            coarse = self._down(self._odd.pop(2 * pairs)).relu_()
        else:
            coarse = x.new_zeros((x.shape[0], self._down.out_channels, 0, *area))
        coarse = self._deeper.push(coarse, last)
        x = self._skip.add_to(cast("Tensor", self._up(coarse))) if coarse.shape[Z] else x[:, :, :0]
        for block in self._decoder:
            x = block.push(x, last)
        return x


def _streams(blocks: nn.Module) -> list[ResidualStream]:
    return [ResidualStream(cast("ResidualBlock", block)) for block in blocks.children()]


def stream(network: UNet, slabs: Iterable[Tensor]) -> Iterator[Tensor]:
    """Enhance a box that comes slab by slab.

    Parameters
    ----------
    network
        The network, in evaluation mode, on the device of the slabs.
    slabs
        Consecutive parts along z of one batch, ``(n, 1, z, y, x)``; every z even, their sum, y and x multiples of
        ``network.alignment``.

    Yields
    ------
    Tensor
        Consecutive parts of what ``network(whole box)`` would return; the parts are of other sizes than the slabs.
    """
    stem, head = ConvolutionStream(network.stem), ConvolutionStream(network.head)
    top = LevelStream(network, 0)
    waiting = Queue()
    slabs = iter(slabs)
    slab: Tensor | None = next(slabs)
    while slab is not None:
        following = next(slabs, None)
        last = following is None
        memory_format = torch.channels_last_3d if slab.device.type == "cpu" else torch.preserve_format
        folded = fold(input_features(slab)).contiguous(memory_format=memory_format)
        waiting.push(folded)
        x = top.push(stem.push(folded, last).relu_(), last)
        if x.shape[Z] or last:
            x = torch.cat([x, waiting.pop(x.shape[Z])], 1) if x.shape[Z] else x
            x = head.push(x, last)
            if x.shape[Z]:
                yield unfold(x)
        slab = following
