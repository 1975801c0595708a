"""What microscope and alignment leave of a map's signal: fall-off, waves, directions that are missing, errors of angles."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from emhance.training.draws import Draw
from emhance.training.grids import frequencies, frequencies_squared, gaussian
from emhance.training.simulation_config import SimulationConfig

WIENER = 0.1
"""What a reconstruction adds to the share of views before it divides by it, in units of the mean number of views."""


def angular_error_b(radius: Tensor, degrees: float) -> Tensor:
    """B-factor (Å²) by which errors of the particles' angles blur density at a distance (Å) from the particles' centre.

    Errors of s.d. σ about each of three axes displace a point at distance r by √2 σ r in all, tangentially. B is 8π² times the
    mean square displacement along one axis, in the mean over the three: 8π² · (2/3) · (σ r)².
    """
    return 8 * math.pi**2 * (2 / 3) * (math.radians(degrees) * radius) ** 2


def shift_error_b(error: float) -> float:
    """B-factor (Å²) by which errors of the particles' shifts blur the map, s.d. `error` (Å) along each axis of an image.

    An image's two axes are any two of three: 8π² · (2/3) · error².
    """
    return 8 * math.pi**2 * (2 / 3) * error**2


def overall_b(config: SimulationConfig, draw: Draw, resolution: float) -> float:
    """B-factor (Å²) of microscope, computing and shifts together."""
    envelope = min(14 * resolution**2 * draw.log_uniform("envelope", config.envelope), 400.0)
    return envelope + shift_error_b(draw.uniform("shift_error", config.shift_error) * resolution / 4)


def amplitudes(config: SimulationConfig, draw: Draw, b_factor: float) -> Tensor:
    """What every coefficient of the signal is multiplied by, shape ``(n, n, n // 2 + 1)``: the same in both half maps."""
    n, voxel, device = config.box, config.voxel_size, draw.device
    s2 = frequencies_squared(n, voxel, device)
    s = torch.sqrt(s2)
    waves = torch.zeros_like(s)
    for k in (1, 2, 3):
        period = draw.uniform(f"ripple_period_{k}", config.ripple_period)
        phase = draw.uniform(f"ripple_phase_{k}", (0.0, 2 * math.pi))
        waves += draw.gaussian(f"ripple_{k}", config.ripple) * torch.cos(2 * math.pi * k * period * s + phase)
    scale = draw.uniform("low_frequency_scale", config.low_frequency_scale)
    loss = draw.uniform("low_frequency_loss", config.low_frequency_loss)
    curve = gaussian(b_factor, n, voxel, device) * torch.exp(waves) * (1 - loss * torch.exp(s2 * (-0.5 * scale**2)))
    if draw.chance("anisotropic", config.anisotropic_share):
        along = _along(draw.direction("anisotropy"), n, voxel)
        curve = curve * torch.exp(along**2 * (-0.25 * draw.uniform("anisotropy", config.anisotropy)))
    return curve


def views(config: SimulationConfig, draw: Draw) -> Tensor | None:
    """Share of the views that hold each coefficient, shape ``(n, n, n // 2 + 1)``; None where every direction is seen alike.

    Views around one axis only, tilted by at most 90° less some angle, leave out a cone of that half angle around the axis.
    """
    if not draw.chance("missing_cone", config.missing_cone_share):
        return None
    n, voxel = config.box, config.voxel_size
    s = torch.sqrt(frequencies_squared(n, voxel, draw.device)).clamp(min=0.5 / (n * voxel))
    cosine = _along(draw.direction("missing_cone"), n, voxel).abs() / s
    edge = math.cos(math.radians(draw.uniform("missing_cone_angle", config.missing_cone_angle)))
    rest = draw.uniform("missing_cone_rest", config.missing_cone_rest)
    within = torch.sigmoid((cosine - edge) / 0.03) * (s > 1.5 / (n * voxel))
    return 1 - (1 - rest) * within


def signal_of_views(share: Tensor) -> Tensor:
    """Factor of the signal in a reconstruction of the given share of views: 1 where all are there."""
    return share * (1 + WIENER) / (share + WIENER)


def noise_of_views(share: Tensor) -> Tensor:
    """Factor of the noise's amplitude in the same reconstruction."""
    return torch.sqrt(share) * (1 + WIENER) / (share + WIENER)


def _along(direction: Tensor, n: int, voxel_size: float) -> Tensor:
    """Spatial frequency (1/Å) along a direction (zyx)."""
    z, y, x = frequencies(n, voxel_size, direction.device)
    return z * direction[0] + y * direction[1] + x * direction[2]
