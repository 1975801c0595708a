"""The 3-D network as a plain module: a residual U-Net without any statistics of its own input.

There is no instance, group or layer normalisation, so the value at a voxel depends on its receptive field alone and
tiling is exact. The stem moves every 2×2×2 voxels into channels (space to depth), so all convolutions run at 1/2, 1/4 and
1/8 of the resolution; the head sees the untouched input beside the features, so that fine detail can pass straight through.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

Module = TypeVar("Module", bound=nn.Module)

ALIGNMENT_FACTOR = 2
"""Space-to-depth factor of the stem."""


@dataclass(frozen=True, kw_only=True)
class UNetShape:
    """What defines the network's layers; stored in the card beside the weights.

    Parameters
    ----------
    channels
        Features at 1/2, 1/4, ... of the input's resolution.
    encoder_blocks
        Residual blocks on the way down at each of these levels; the last entry is the bottom.
    decoder_blocks
        Residual blocks on the way up at each level but the last.
    """

    channels: tuple[int, ...] = (64, 96, 128)
    encoder_blocks: tuple[int, ...] = (1, 2, 2)
    decoder_blocks: tuple[int, ...] = (2, 2)

    def to_dict(self) -> dict[str, Any]:
        """The shape as plain lists, for the card."""
        return {key: list(value) for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> UNetShape:
        """Read back what `to_dict` wrote."""
        return cls(**{key: tuple(int(v) for v in value) for key, value in values.items()})


class ResidualBlock(nn.Module):
    """``relu(x + b(relu(a(x))))`` with two 3×3×3 convolutions; starts as the identity of non-negative features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = nn.Conv3d(channels, channels, 3, padding=1)
        self.b = nn.Conv3d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.b.weight)
        nn.init.zeros_(torch.as_tensor(self.b.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, c, z, y, x)`` to the same shape."""
        return functional.relu(x + self.b(functional.relu(self.a(x))))


class UNet(nn.Module):
    """The network: one channel of normalised density in, one channel of enhanced density out.

    Parameters
    ----------
    shape
        Layer counts and widths.
    """

    INPUT_FEATURES = 2

    def __init__(self, shape: UNetShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or UNetShape()
        channels = shape.channels
        folded = self.INPUT_FEATURES * ALIGNMENT_FACTOR**3
        self.stem = nn.Conv3d(folded, channels[0], 3, padding=1)
        self.encoder = nn.ModuleList(_blocks(c, n) for c, n in zip(channels, shape.encoder_blocks, strict=True))
        pairs = list(pairwise(channels))
        self.down = nn.ModuleList(nn.Conv3d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose3d(coarse, fine, 2, stride=2) for fine, coarse in pairs)
        self.decoder = nn.ModuleList(_blocks(c, n) for c, n in zip(channels[:-1], shape.decoder_blocks, strict=True))
        self.head = nn.Conv3d(channels[0] + folded, ALIGNMENT_FACTOR**3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Enhance a batch of maps.

        Parameters
        ----------
        x
            Normalised density (noise mean 0, s.d. 0.1), ``(n, 1, z, y, x)``, every edge a multiple of `alignment`.

        Returns
        -------
        Tensor
            Enhanced density of the same shape; solvent near 0, well-ordered density of the order of 1.
        """
        folded = fold(input_features(x))
        x = functional.relu(self.stem(folded))
        skips: list[Tensor] = []
        for level, blocks in enumerate(self.encoder):
            x = blocks(x)
            if level < len(self.down):
                skips.append(x)
                x = functional.relu(self.down[level](x))
        for level in reversed(range(len(self.up))):
            x = self.decoder[level](self.up[level](x) + skips[level])
        return unfold(self.head(torch.cat([x, folded], 1)))

    @property
    def alignment(self) -> int:
        """Every edge of the input must be a multiple of this many voxels; tiles start at multiples of it."""
        return int(ALIGNMENT_FACTOR * 2 ** len(self.down))

    @property
    def receptive_radius(self) -> int:
        """How far, in voxels, an input voxel can influence the output; rounded up to a multiple of `alignment`."""
        radius = 0
        step = ALIGNMENT_FACTOR
        for level, blocks in enumerate(self.shape.encoder_blocks):
            up = self.shape.decoder_blocks[level] if level < len(self.shape.decoder_blocks) else 0
            radius += 2 * (blocks + up) * step
            radius += step  # the fold, or the strided convolutions, see one neighbour cell at most
            step *= 2
        radius += 2 * ALIGNMENT_FACTOR  # stem and head
        return -(-radius // self.alignment) * self.alignment

    def operations_per_voxel(self) -> float:
        """Floating-point operations for one input voxel: two for every multiplication with a weight."""
        total = 0.0
        for name, module in self.named_modules():
            if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
                part, _, rest = name.partition(".")
                level = int(rest.split(".")[0]) if rest[:1].isdigit() else 0
                # A strided convolution and a transposed one run once per coarse voxel.
                coarser = part in ("down", "up")
                step = ALIGNMENT_FACTOR * 2 ** (level + coarser)
                total += 2.0 * module.weight.numel() / step**3
        return total


def channels_last(module: Module) -> Module:
    """Lay a module's weights out with the channels last in memory, which convolutions on a CPU like best."""
    return module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))


def input_features(x: Tensor) -> Tensor:
    """Two views of the density, compressed so that strong density does not drown weak: ``(n, 1, ...)`` to ``(n, 2, ...)``."""
    return torch.cat([torch.asinh(x), torch.asinh(8.0 * x) / 3.0], 1)


def fold(x: Tensor) -> Tensor:
    """Space to depth: ``(n, c, 2z, 2y, 2x)`` to ``(n, 8c, z, y, x)``."""
    n, c, z, y, w = x.shape
    x = x.view(n, c, z // 2, 2, y // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return x.reshape(n, 8 * c, z // 2, y // 2, w // 2)


def unfold(x: Tensor) -> Tensor:
    """Depth to space, the inverse of `fold`."""
    n, c, z, y, w = x.shape
    x = x.reshape(n, c // 8, 2, 2, 2, z, y, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(n, c // 8, 2 * z, 2 * y, 2 * w)
