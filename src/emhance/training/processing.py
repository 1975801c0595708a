"""What programs and depositors do to half maps: weights, low-pass, sharpening, interpolation, masks, scale and offset."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from emhance.training.draws import Draw
from emhance.training.grids import along_shells, blurred, frequencies, frequencies_squared, offsets, to_map
from emhance.training.half_maps import HalfTransforms
from emhance.training.simulation_config import SimulationConfig

NOISE_STD = 0.1
"""Standard deviation of the solvent noise after normalisation."""

DENSITY_TOP = 2.5
"""99.9th percentile of a map that is normalised by its own density because it has no noise to measure."""

MASK_B = 300.0
"""Blur of the molecule (Å²) whose contours are the masks' edges."""

LEAST_SOLVENT = 2000
"""Voxels of solvent needed to measure its noise."""


def processed(
    config: SimulationConfig, draw: Draw, pair: HalfTransforms, molecule: Tensor, resolution: float, b_factor: float
) -> tuple[Tensor, Tensor]:
    """Filter, mask and scale two half maps, both in the same way.

    Parameters
    ----------
    config, draw
        Ranges, and what is drawn from them.
    pair
        Transforms of the half maps.
    molecule
        1 inside, 0 outside, shape ``(n, n, n)``.
    resolution
        Å.
    b_factor
        Overall B of the map, of which sharpening undoes a part, Å².

    Returns
    -------
    tuple
        Half maps, each ``(n, n, n)``.
    """
    curve = filter_curve(config, draw, pair.reliability, resolution, b_factor)
    first, second = (half if curve is None else half * curve for half in pair.halves)
    maps = _sampled(config, draw, [first, second], resolution)
    maps = _masked(config, draw, maps, molecule)
    if not config.normalised:
        scale = draw.log_uniform("scale", config.scale)
        offset = draw.uniform("offset", config.offset) * NOISE_STD
        maps = [scale * (half + offset) for half in maps]
    return maps[0], maps[1]


def filter_curve(config: SimulationConfig, draw: Draw, reliability: Tensor, resolution: float, b_factor: float) -> Tensor | None:
    """Weights, low-pass and sharpening as one factor per coefficient; None for none of them."""
    n, voxel, device = config.box, config.voxel_size, draw.device
    s2 = frequencies_squared(n, voxel, device)
    curve: Tensor | None = None
    sharpened = draw.chance("sharpened", config.sharpened_share)
    # Sharpened without weights, nothing but noise would be left.
    if draw.chance("fsc_weighted", 1.0 if sharpened else config.fsc_weighted_share):
        curve = along_shells(reliability.to(device))
    if sharpened and curve is not None:
        sharpening = b_factor * draw.uniform("sharpened_by", config.sharpened_by)
        curve = curve * torch.exp(s2.clamp(max=1 / (0.8 * resolution) ** 2) * (0.25 * sharpening))
    if draw.chance("low_pass", 1.0 if sharpened else config.low_pass_share):
        cut = draw.uniform("low_pass_at", config.low_pass_at) / resolution
        low_pass = torch.sigmoid((cut - torch.sqrt(s2)) * (n * voxel / 2.0))
        curve = low_pass if curve is None else curve * low_pass
    return curve


def _sampled(config: SimulationConfig, draw: Draw, halves: list[Tensor], resolution: float) -> list[Tensor]:
    """Half maps from their transforms, some by way of another grid."""
    if not draw.chance("interpolated", config.interpolated_share):
        return [to_map(half) for half in halves]
    n, voxel = config.box, config.voxel_size
    other = min(draw.uniform("interpolated_from", config.interpolated_from) * voxel, 0.45 * resolution)
    size = 2 * round(0.5 * n * voxel / other)
    shift = [draw.uniform(f"interpolated_shift_{axis}", (-0.5, 0.5)) for axis in "zyx"]
    return [interpolated(half, size, shift) for half in halves]


def interpolated(transform: Tensor, size: int, shift: list[float]) -> Tensor:
    """A map sampled on another grid of the same periodic box, and interpolated linearly from there.

    Parameters
    ----------
    transform
        Of the map, shape ``(n, n, n // 2 + 1)``, n even.
    size
        Edge of the other grid, even; where it is smaller than n, what is beyond its Nyquist frequency is lost.
    shift
        Place of its first voxel, in its voxels, zyx.

    Returns
    -------
    Tensor
        The map, shape ``(n, n, n)``, not moved.
    """
    n, device = len(transform), transform.device
    z, y, x = (
        torch.exp((2j * math.pi * value / size) * axis) for value, axis in zip(shift, frequencies(n, 1 / n, device), strict=True)
    )
    moved = transform * (z * y * x)
    edge = min(n, size) // 2  # coefficients below both Nyquist frequencies
    other = torch.zeros((size, size, size // 2 + 1), dtype=transform.dtype, device=device)
    rows = torch.arange(1 - edge, edge, device=device)
    other[(rows % size)[:, None], (rows % size)[None, :], :edge] = moved[(rows % n)[:, None], (rows % n)[None, :], :edge]
    values = to_map(other) * (size / n) ** 3
    for axis, value in enumerate(shift):
        places = torch.arange(n, device=device) * (size / n) - value
        below = torch.floor(places)
        weight = (places - below).reshape([-1 if k == axis else 1 for k in range(3)])
        low, high = (values.index_select(axis, (below.long() + k) % size) for k in (0, 1))
        values = low + (high - low) * weight
    return values


def _masked(config: SimulationConfig, draw: Draw, maps: list[Tensor], molecule: Tensor) -> list[Tensor]:
    """Mask, or normalise by the solvent's noise and perhaps clear what is outside a sphere."""
    voxel = config.voxel_size
    mean = 0.5 * (maps[0] + maps[1])
    solvent = blurred(molecule, 3000.0, voxel) < 0.02
    if int(solvent.sum()) < LEAST_SOLVENT:
        solvent = molecule < 0.5
    if int(solvent.sum()) < LEAST_SOLVENT:
        solvent = mean <= torch.quantile(_sample(mean), 0.2)
    offset = mean[solvent].mean()
    if draw.chance("masked", config.masked_share):
        mask = (blurred(molecule, MASK_B, voxel) > draw.uniform("mask_cut", config.mask_cut)).float()
        inside = mask > 0.5
        if draw.chance("soft_mask", config.soft_mask_share):
            mask = blurred(mask, draw.uniform("mask_edge_b", config.mask_edge_b), voxel).clamp(0, 1)
        if draw.chance("mask_keeps_offset", config.mask_keeps_offset_share):
            offset = torch.zeros_like(offset)
        maps = [(half - offset) * mask for half in maps]
        values = 0.5 * (maps[0] + maps[1])
        if draw.chance("scaled_inside", config.scaled_inside_share):
            values = values[inside]
        top = torch.quantile(_sample(values), 0.999).clamp(min=1e-12)
        scale = DENSITY_TOP * math.exp(draw.gaussian("top_misjudged", 0.35)) / top
        return [half * scale for half in maps]
    scale = NOISE_STD * math.exp(draw.gaussian("noise_misjudged", 0.1)) / mean[solvent].std()
    maps = [(half - offset) * scale for half in maps]
    if draw.chance("outside_sphere", config.outside_sphere_share):
        n = len(mean)
        z, y, x = offsets(n, torch.full((3,), n / 2, device=mean.device))
        radius = n * draw.uniform("sphere_radius", config.sphere_radius)
        sphere = torch.sigmoid((radius - torch.sqrt(z**2 + y**2 + x**2)) / 1.5)
        maps = [half * sphere for half in maps]
    return maps


def _sample(values: Tensor) -> Tensor:
    """About 300,000 of the values, for quantiles."""
    flat = values.flatten()
    return flat[:: 1 + len(flat) // 300_000]
