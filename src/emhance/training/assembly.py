"""Where the atoms of a simulated map are: turned, placed, copied, and with what is not the same in every particle."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from emhance.errors import AtomicModelError
from emhance.training.atoms import KINDS, Atoms
from emhance.training.draws import Draw, rotation_about
from emhance.training.imaging import angular_error_b
from emhance.training.scattering import LEAST_B, density_transform
from emhance.training.simulation_config import SimulationConfig

MOTION_COPIES = 5
"""Positions over which a moving domain is averaged."""

LEAST_ATOMS = 100
"""Fewer atoms of the molecule in the box are no map."""

CELL, CLASH = 4.0, 0.005
"""Copies clash when more than this share of one's atoms lies in cells (edge in Å) that the other occupies."""

Move = tuple[Tensor, Tensor]
"""Rotation and translation (Å) of a copy, from the centre of the molecule."""


@dataclass(eq=False)
class PlacedAtoms:
    """Atoms in the box.

    Parameters
    ----------
    positions
        Å from the first voxel, zyx, shape ``(m, 3)``.
    elements
        Atomic numbers, shape ``(m,)``, int64.
    b_factors
        Å², shape ``(m,)``.
    occupancies
        Shape ``(m,)``.
    kinds
        Index into `KINDS`, shape ``(m,)``.
    """

    positions: Tensor
    elements: Tensor
    b_factors: Tensor
    occupancies: Tensor
    kinds: Tensor

    def transform(self, *, n: int, voxel_size: float) -> Tensor:
        """Transform of their density, as `density_transform` gives it."""
        return density_transform(self.positions, self.elements, self.b_factors, self.occupancies, n=n, voxel_size=voxel_size)


@dataclass(eq=False)
class Assembly:
    """The molecule with its copies, three times.

    Parameters
    ----------
    data
        As the particles show it: disordered, moving, partly occupied, blurred by angular errors.
    target
        As the target keeps it: with part of that.
    truth
        As the atomic model has it.
    """

    data: PlacedAtoms
    target: PlacedAtoms
    truth: PlacedAtoms


def assemble(atoms: Atoms, config: SimulationConfig, draw: Draw, resolution: float) -> Assembly:
    """Turn the molecule at random, place it and its copies in the box, and draw what differs from particle to particle.

    Raises
    ------
    AtomicModelError
        If fewer than `LEAST_ATOMS` atoms of the molecule fall into the box.
    """
    device, voxel = draw.device, config.voxel_size
    edge = config.box * voxel
    positions = torch.from_numpy(atoms.positions).to(device)
    elements, own_b, occupancies, kinds = (
        torch.from_numpy(values).to(device) for values in (atoms.elements, atoms.b_factors, atoms.occupancies, atoms.kinds)
    )
    unit = (positions - positions.mean(0)) @ draw.rotation("rotation").T
    copies = _copies(unit, config, draw)
    assembly_centre = torch.stack([move for _, move in copies]).mean(0)
    centre = assembly_centre if config.whole else unit[draw.integer("centre_atom", 0, len(unit) - 1)]
    shift = torch.tensor([draw.uniform(f"shift_{axis}", (-config.shift, config.shift)) for axis in "zyx"], device=device)
    corner = centre - edge / 2 - shift * voxel  # of the box, from the molecule's centre

    def inside(places: Tensor) -> Tensor:
        return ((places - corner > 2 * voxel) & (places - corner < edge - 3 * voxel)).all(1)

    present = inside(unit)
    if int(present.sum()) < LEAST_ATOMS:
        raise AtomicModelError(f"Only {int(present.sum())} atoms fall into the simulated box; at least {LEAST_ATOMS} are needed.")

    median_b = draw.uniform("median_b", config.median_b) * resolution**2
    own_b = (own_b / own_b[present].median().clamp(min=1.0)).clamp(0.4, 4.0) * median_b
    disorder = _disorder(config, draw, (unit - corner) / voxel, present, resolution)
    degrees = draw.uniform("angular_error", config.angular_error) * resolution / 4
    disorder = disorder + angular_error_b((unit - assembly_centre).norm(dim=1), degrees)
    occupancy = occupancies * _partial(config, draw, unit, present, kinds)
    kept = config.target_flexibility
    domain, hinge, axis, angle = _motion(config, draw, unit, present, resolution)

    def placed(b_factors: Tensor, occupancy: Tensor, angle: float) -> PlacedAtoms:
        still = [unit[~domain]] if angle else [unit]
        rows = [(~domain).nonzero()[:, 0]] if angle else [torch.arange(len(unit), device=device)]
        shares = [1.0]
        for k in range(MOTION_COPIES if angle else 0):
            turn = rotation_about(axis, angle * (2 * k / (MOTION_COPIES - 1) - 1))
            still.append((unit[domain] - hinge) @ turn.T + hinge)
            rows.append(domain.nonzero()[:, 0])
            shares.append(1 / MOTION_COPIES)
        share = torch.cat([torch.full((len(part),), value, device=device) for part, value in zip(rows, shares, strict=True)])
        row, conformations = torch.cat(rows), torch.cat(still)
        every = [conformations @ rotation.T + move for rotation, move in copies]
        keep = [inside(places).nonzero()[:, 0] for places in every]
        found = torch.cat([places[k] for places, k in zip(every, keep, strict=True)])
        index = torch.cat([row[k] for k in keep])
        shared = torch.cat([share[k] for k in keep])
        b_factors = b_factors[index].clamp(min=LEAST_B * voxel**2)
        return PlacedAtoms(found - corner, elements[index].long(), b_factors, occupancy[index] * shared, kinds[index])

    return Assembly(
        data=placed(own_b + disorder, occupancy, angle),
        # B grows with the square of a displacement, so that the root of the share is the share of the angle.
        target=placed(
            own_b + kept * disorder, occupancies * (occupancy / occupancies.clamp(min=1e-6)) ** kept, angle * kept**0.5
        ),
        truth=placed(own_b, occupancies, 0.0),
    )


def _disorder(config: SimulationConfig, draw: Draw, voxels: Tensor, present: Tensor, resolution: float) -> Tensor:
    """Additional B (Å²) of every atom from a smooth random field: 0 at its lowest place in the box."""
    field = draw.field(config.box, draw.uniform("flexibility_length", config.flexibility_length))
    z, y, x = (torch.round(voxels).long() % config.box).unbind(1)
    values = field[z, y, x]
    low, high = values[present].min(), values[present].max()
    values = ((values - low) / (high - low + 1e-6)).clamp(0, 1)
    largest = 12 * resolution**2 * draw.uniform("flexibility", config.flexibility)
    return largest * values ** draw.uniform("flexibility_power", config.flexibility_power)


def _partial(config: SimulationConfig, draw: Draw, unit: Tensor, present: Tensor, kinds: Tensor) -> Tensor:
    """Share of the particles in which every atom is there: less than 1 within a ball."""
    occupancy = torch.ones(len(unit), device=unit.device)
    if draw.chance("partial", config.partial_share):
        candidates = present.nonzero()[:, 0]
        others = (present & (kinds == KINDS.index("other"))).nonzero()[:, 0]
        if draw.chance("partial_around_ligand", 0.5) and len(others):
            candidates = others
        centre = unit[candidates[draw.integer("partial_centre", 0, len(candidates) - 1)]]
        ball = (unit - centre).norm(dim=1) < draw.uniform("partial_radius", config.partial_radius)
        occupancy[ball] = draw.uniform("partial_occupancy", config.partial_occupancy)
    return occupancy


def _motion(
    config: SimulationConfig, draw: Draw, unit: Tensor, present: Tensor, resolution: float
) -> tuple[Tensor, Tensor, Tensor, float]:
    """Which atoms move, about which point and axis, and the largest angle in radians (0: none moves)."""
    nothing = torch.zeros(len(unit), dtype=torch.bool, device=unit.device)
    if not draw.chance("moving_domain", config.moving_domain_share):
        return nothing, unit[0], unit[0], 0.0
    outward = draw.direction("motion_towards")
    along = unit @ outward
    cut = torch.quantile(
        along[present][:: max(1, int(present.sum()) // 100_000)], 1 - draw.uniform("motion_part", config.motion_part)
    )
    domain = along > cut
    near = present & ((along - cut).abs() < 6)
    hinge = unit[near].mean(0) if near.any() else unit[domain & present].mean(0)
    axis = torch.linalg.cross(outward, draw.direction("motion_axis"))
    far = (unit[domain & present] - hinge).norm(dim=1).max().clamp(min=5.0)
    return domain, hinge, axis / axis.norm(), float(draw.uniform("motion", config.motion) * resolution / far)


def _copies(unit: Tensor, config: SimulationConfig, draw: Draw) -> list[Move]:
    """The molecule itself and its copies, as rotations and translations from its centre."""
    device = unit.device
    same, nowhere = torch.eye(3, device=device), torch.zeros(3, device=device)
    copies = [(same, nowhere)]
    if draw.chance("symmetry", config.symmetry_share):
        order = draw.integer("symmetry_order", *config.symmetry_order)
        axis = draw.direction("symmetry_axis")
        side = torch.linalg.cross(axis, draw.direction("symmetry_side"))
        side = side / side.norm()

        def around(distance: float) -> list[Move]:
            turns = [rotation_about(axis, 2 * math.pi * k / order) for k in range(1, order)]
            return [(turn, distance * side - distance * (turn @ side)) for turn in turns]

        return copies + around(_clear(unit, around) + draw.uniform("copy_gap", config.copy_gap))
    if draw.chance("neighbour", config.neighbour_share):
        gap = draw.uniform("copy_gap", config.copy_gap)
        if draw.chance("filament", 0.5):
            axis = draw.direction("filament_axis")
            twist = math.radians(draw.uniform("neighbour_twist", config.neighbour_twist))

            def beside(distance: float) -> list[Move]:
                return [(rotation_about(axis, sign * twist), sign * distance * axis) for sign in (1, -1)]

            return copies + beside(_clear(unit, beside) + gap)
        for direction in torch.eye(3, device=device):  # a crystal along the box's axes: the molecule itself is turned

            def next_cells(distance: float, direction: Tensor = direction) -> list[Move]:
                return [(same, sign * distance * direction) for sign in (1, -1)]

            copies = copies + next_cells(_clear(unit, next_cells) + gap)
    return copies


def _clear(unit: Tensor, moved: Callable[[float], list[Move]]) -> float:
    """The smallest of many distances (Å) at which the copies do not clash with the molecule."""
    sample = unit[:: max(1, len(unit) // 3000)]
    span = 2 * int(float(unit.norm(dim=1).max()) / CELL) + 3
    occupied = torch.zeros(span**3, dtype=torch.bool, device=unit.device)

    def cells(places: Tensor) -> Tensor:
        index = torch.round(places / CELL).long() + span // 2
        flat = (index[:, 0] * span + index[:, 1]) * span + index[:, 2]
        return flat[((index >= 0) & (index < span)).all(1)]

    occupied[cells(unit)] = True
    distance, furthest = 0.0, span * CELL
    while distance < furthest:
        shares = [occupied[cells(sample @ rotation.T + move)].sum() / len(sample) for rotation, move in moved(distance)]
        if not shares or float(torch.stack(shares).max()) < CLASH:
            break
        distance += 2.0
    return distance
