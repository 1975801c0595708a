"""Random numbers that remember what was drawn, and random fields."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from emhance.training.grids import gaussian, to_map

Range = tuple[float, float]


class Draw:
    """Random numbers from one generator; those that are parameters are kept in `log` under their names."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.log: dict[str, float | str | bool] = {}

    @property
    def device(self) -> torch.device:
        """Where fields are made: the generator's device."""
        return self.generator.device

    def uniform(self, name: str, limits: Range) -> float:
        """A number between the limits, logged under `name`."""
        low, high = limits
        value = low + (high - low) * self._number()
        self.log[name] = round(value, 5)
        return value

    def log_uniform(self, name: str, limits: Range) -> float:
        """A positive number whose logarithm is uniform between the limits', logged under `name`."""
        low, high = (math.log(value) for value in limits)
        value = math.exp(low + (high - low) * self._number())
        self.log[name] = float(f"{value:.5g}")
        return value

    def gaussian(self, name: str, std: float) -> float:
        """A normal number of mean 0, logged under `name`."""
        value = std * float(self.normal(1))
        self.log[name] = round(value, 5)
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included, logged under `name`."""
        value = min(high, low + int((high - low + 1) * self._number()))
        self.log[name] = value
        return value

    def chance(self, name: str, probability: float) -> bool:
        """True with the given probability, logged under `name`."""
        value = self._number() < probability
        self.log[name] = value
        return value

    def direction(self, name: str) -> Tensor:
        """A random unit vector, zyx, shape ``(3,)``, logged as ``name_z``, ``name_y`` and ``name_x``."""
        vector = self.normal(3)
        vector /= vector.norm()
        self.log.update({f"{name}_{axis}": round(float(value), 5) for axis, value in zip("zyx", vector, strict=True)})
        return vector

    def rotation(self, name: str) -> Tensor:
        """A random rotation matrix, shape ``(3, 3)``, logged as the quaternion ``name_w``, ``name_z``, ``name_y``, ``name_x``."""
        quaternion = self.normal(4)
        quaternion = quaternion / quaternion.norm()
        w, z, y, x = quaternion.tolist()
        self.log.update({f"{name}_{axis}": round(value, 5) for axis, value in zip("wzyx", (w, z, y, x), strict=True)})
        norm = math.sqrt(z * z + y * y + x * x)
        axis = torch.tensor([z, y, x], device=self.device) / max(norm, 1e-9)
        return rotation_about(axis, 2 * math.atan2(norm, w))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers on the generator's device (not logged)."""
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def field(self, n: int, length: float) -> Tensor:
        """A random field of mean 0 and s.d. 1 that varies over `length` voxels, shape ``(n, n, n)`` (not logged)."""
        values = to_map(torch.fft.rfftn(self.normal(n, n, n)) * gaussian(40.0 * length**2, n, 1.0, self.device))
        return (values - values.mean()) / values.std()

    def _number(self) -> float:
        return float(torch.rand(1, generator=self.generator, device=self.device))


def rotation_about(axis: Tensor, angle: float) -> Tensor:
    """Rotation by an angle (radians) about a unit vector (zyx), shape ``(3, 3)``, for columns of zyx (Rodrigues' formula)."""
    z, y, x = axis.tolist()
    cross = torch.tensor([[0.0, -x, y], [x, 0.0, -z], [-y, z, 0.0]], device=axis.device)
    return torch.eye(3, device=axis.device) + math.sin(angle) * cross + (1 - math.cos(angle)) * (cross @ cross)
