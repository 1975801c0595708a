"""A small network with random weights: what a test of the engine needs, in milliseconds."""

import numpy as np
import torch
from numpy.typing import NDArray

from emhance.network.unet import UNet, UNetShape

SMALL = UNetShape(channels=(8, 8, 8), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1))
SHALLOW = UNetShape(channels=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1,))
"""Sees half as far, so that tiles in a box of 64 voxels end before its faces."""


def untrained(shape: UNetShape = SMALL, *, seed: int = 0, positive: bool = False) -> UNet:
    """A network whose every weight matters; with `positive` ones no rectifier ever cuts anything off."""
    generator = torch.Generator().manual_seed(seed)
    network = UNet(shape).eval().requires_grad_(False)
    for parameter in network.parameters():
        fan_in = max(1, parameter[0].numel())
        values = torch.randn(parameter.shape, generator=generator) * (1.4 / fan_in**0.5 if parameter.dim() > 1 else 0.1)
        parameter.copy_(values.abs() if positive else values)
    return network


def noise(*shape: int, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def whole(network: UNet, data: NDArray[np.float32]) -> NDArray[np.float32]:
    """The network on the whole box at once, zeros beyond its far faces."""
    step = network.alignment
    padded = np.pad(data, [(0, -n % step) for n in data.shape])
    with torch.inference_mode():
        result = network(torch.from_numpy(padded)[None, None])[0, 0].numpy()
    return result[tuple(slice(n) for n in data.shape)]


def largest_difference(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Largest difference as a share of the largest value."""
    return float(np.abs(a - b).max() / np.abs(b).max())
