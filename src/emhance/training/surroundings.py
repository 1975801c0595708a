"""What is in a map beside the atoms: bulk solvent, detergent, lipids, disordered chains."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from emhance.training.draws import Draw
from emhance.training.grids import blurred, gaussian, offsets, to_map
from emhance.training.simulation_config import SimulationConfig

MOLECULE_B = 60.0
"""Blur of the density (Å²) whose contour bounds the molecule."""

MOLECULE_CUT = 0.12
"""That contour in units of the blurred density's 99.9th percentile."""

HEAD_GROUPS = 6.0
"""Thickness of a layer of head groups, Å."""

SCAFFOLD = 10.0
"""Thickness of the scaffold protein around a nanodisc, Å."""


def molecule_of(clean: Tensor, voxel_size: float) -> Tensor:
    """The molecule's region from the transform of its density: 1 inside, 0 outside, shape ``(n, n, n)``."""
    density = to_map(clean * gaussian(MOLECULE_B, len(clean), voxel_size, clean.device))
    top = torch.quantile(density.flatten()[:: 1 + density.numel() // 300_000], 0.999)
    return (density > MOLECULE_CUT * top).float()


def bulk_solvent(config: SimulationConfig, draw: Draw, molecule: Tensor) -> Tensor:
    """Transform of the solvent that the molecule displaces, in units of the mean density inside the molecule."""
    n, device = len(molecule), molecule.device
    edge = gaussian(draw.uniform("solvent_edge_b", config.solvent_edge_b), n, config.voxel_size, device)
    transform: Tensor = torch.fft.rfftn(molecule)
    return transform * (edge * draw.uniform("solvent_contrast", config.solvent_contrast))


def density_beside(config: SimulationConfig, draw: Draw, molecule: Tensor) -> Tensor | None:
    """Density that no atomic model explains, in units of the mean density inside the molecule; None for none.

    Returns
    -------
    Tensor
        Shape ``(n, n, n)``: a micelle, a nanodisc or a belt of lipids, and patches.
    """
    membranes = {
        "micelle": (config.micelle_share, _micelle),
        "nanodisc": (config.nanodisc_share, _nanodisc),
        "lipids": (config.lipids_share, _lipids),
    }
    density = torch.zeros_like(molecule)
    for name, (share, shape) in membranes.items():
        if draw.chance(name, share):
            density = shape(config, draw, molecule)
            break
    if draw.chance("extra_density", config.extra_density_share):
        density = torch.where(density == 0, _patches(config, draw, molecule), density)
    if not density.any():
        return None
    level = draw.uniform("extra_level", config.extra_level)
    density = density * (molecule < 0.5)
    return blurred(density * level, draw.uniform("extra_edge_b", config.extra_edge_b), config.voxel_size)


def _patches(config: SimulationConfig, draw: Draw, molecule: Tensor) -> Tensor:
    """Disordered chains: patches of level 1 next to the molecule."""
    near = blurred(molecule, draw.uniform("extra_reach_b", config.extra_reach_b), config.voxel_size)
    field = draw.field(len(molecule), draw.uniform("extra_patch", config.extra_patch))
    return ((field > draw.uniform("extra_cut", config.extra_cut)) & (near > 0.03)).float()


def _micelle(config: SimulationConfig, draw: Draw, molecule: Tensor) -> Tensor:
    """An oblate belt around the molecule: a shell of head groups, level 1, around the detergent's tails."""
    core, half_width, margin = _membrane(config, draw)
    height, radius, reach = _cylinder(config, draw, molecule, half_width)
    size = reach + margin

    def within(layer: float) -> Tensor:
        return (radius / (size - layer)) ** 4 + (height / (half_width - layer)) ** 2 < 1

    return torch.where(within(HEAD_GROUPS), core, within(0.0).float())


def _nanodisc(config: SimulationConfig, draw: Draw, molecule: Tensor) -> Tensor:
    """A disc around the molecule: two layers of head groups, level 1, tails between them, and the scaffold at the rim."""
    core, half_width, margin = _membrane(config, draw)
    height, radius, reach = _cylinder(config, draw, molecule, half_width)
    size = reach + margin + SCAFFOLD
    disc = _bilayer(height, half_width, core)
    rim = (radius > size - SCAFFOLD) & (height.abs() < half_width - 0.5 * HEAD_GROUPS)
    return torch.where(radius < size, torch.where(rim, 1.0, disc), 0.0)


def _lipids(config: SimulationConfig, draw: Draw, molecule: Tensor) -> Tensor:
    """Two leaflets that follow the molecule's surface."""
    core, half_width, margin = _membrane(config, draw)
    height, _, _ = _cylinder(config, draw, molecule, half_width)
    # A plane's edge blurred by a Gaussian of s.d. σ falls to 2.3 % at 2σ: there the belt ends.
    near = blurred(molecule, 8 * math.pi**2 * (0.5 * min(margin, 15.0)) ** 2, config.voxel_size) > 0.023
    return torch.where(near, _bilayer(height, half_width, core), 0.0)


def _membrane(config: SimulationConfig, draw: Draw) -> tuple[float, float, float]:
    """Level of the tails, half width and margin in Å."""
    return (
        draw.uniform("extra_core", config.extra_core),
        draw.uniform("membrane_half_width", config.membrane_half_width),
        draw.uniform("membrane_margin", config.membrane_margin),
    )


def _bilayer(height: Tensor, half_width: float, core: float) -> Tensor:
    """Head groups, level 1, at both surfaces of a slab, tails between them."""
    return torch.where(height.abs() < half_width - HEAD_GROUPS, core, (height.abs() < half_width).float())


def _cylinder(config: SimulationConfig, draw: Draw, molecule: Tensor, half_width: float) -> tuple[Tensor, Tensor, float]:
    """Height above a membrane's middle and distance from its axis (Å) at every voxel, and the molecule's radius in it (Å)."""
    n, voxel = len(molecule), config.voxel_size
    inside = molecule.nonzero().float()
    centre = inside.mean(0)
    axis = draw.direction("membrane_axis")
    heights = (inside - centre) @ axis
    spread = float(heights.std())
    centre = centre + axis * draw.uniform("membrane_height", (-0.7, 0.7)) * spread
    z, y, x = offsets(n, centre)
    height = (z * axis[0] + y * axis[1] + x * axis[2]) * voxel
    radius = torch.sqrt(((z**2 + y**2 + x**2) * voxel**2 - height**2).clamp(min=0))
    slab = (molecule > 0.5) & (height.abs() < half_width)
    reach = radius[slab][:: 1 + int(slab.sum()) // 300_000]
    return height, radius, float(torch.quantile(reach, 0.95)) if len(reach) else 10.0
