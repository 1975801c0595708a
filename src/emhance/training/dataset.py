"""Crops of simulated maps, each decided by its number alone, so that runs repeat and resume exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from emhance.errors import AtomicModelError
from emhance.training.atoms import Atoms
from emhance.training.simulation import SimulatedMaps, SimulationConfig, simulate

TARGETS = ("tight", "wide")


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """How crops are cut from simulated maps."""

    edge: int = 64
    """Edge of a crop in voxels."""
    per_map: int = 2
    """Crops taken from one simulated map."""
    jitter: int = 20
    """How far a crop's centre lies from a random voxel of the molecule at most, along each axis, voxels."""
    anywhere: float = 0.05
    """Share of crops taken anywhere, solvent included."""
    single_half: float = 0.15
    """Share of maps of which half map 1 alone is the input."""
    target: str = "tight"
    """Which target: tight or wide."""


class SimulatedCrops(Dataset[tuple[Tensor, Tensor]]):
    """Item `i` is a stack of crops from one simulated map: inputs and targets, each ``(per_map, 1, edge, edge, edge)``.

    Parameters
    ----------
    structures
        Atomic models to draw from, each with the same chance.
    simulation
        Ranges of the simulation.
    crops
        How crops are cut.
    seed
        Together with the item's number it decides everything.
    """

    def __init__(self, structures: Sequence[Atoms], simulation: SimulationConfig, crops: CropConfig, *, seed: int) -> None:
        self._structures, self._simulation, self._crops, self._seed = structures, simulation, crops, seed

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        # PyTorch's CPU generator looks at 32 bits of its seed only, so both numbers are mixed into these.
        mixed = np.random.SeedSequence([self._seed, index]).generate_state(1)
        generator = torch.Generator().manual_seed(int(mixed[0]))
        maps = self._simulated(generator)
        half = bool(torch.rand(1, generator=generator) < self._crops.single_half)
        data = maps.half1 if half else 0.5 * (maps.half1 + maps.half2)
        target = maps.wide_target if self._crops.target == "wide" else maps.target
        inputs, targets = [], []
        inside = maps.molecule.nonzero()
        for _ in range(self._crops.per_map):
            corner = self._corner(inside, generator)
            cut = tuple(slice(c, c + self._crops.edge) for c in corner)
            inputs.append(data[cut])
            targets.append(target[cut])
        return torch.stack(inputs)[:, None], torch.stack(targets)[:, None]

    def _simulated(self, generator: torch.Generator) -> SimulatedMaps:
        for _ in range(20):
            number = int(torch.randint(len(self._structures), (1,), generator=generator))
            try:
                return simulate(self._structures[number], self._simulation, generator)
            except AtomicModelError:
                continue  # the random place held too few atoms: draw another
        raise AtomicModelError("Twenty random places in a row held fewer than 100 atoms; give larger atomic models.")

    def _corner(self, inside: Tensor, generator: torch.Generator) -> list[int]:
        box, edge, jitter = self._simulation.box, self._crops.edge, self._crops.jitter
        margin = 4  # the box is periodic: stay clear of what wraps around
        low, high = margin, box - edge - margin
        if float(torch.rand(1, generator=generator)) < self._crops.anywhere:
            corner = torch.randint(low, high + 1, (3,), generator=generator)
        else:
            centre = inside[int(torch.randint(len(inside), (1,), generator=generator))]
            corner = centre + torch.randint(-jitter, jitter + 1, (3,), generator=generator) - edge // 2
        return [int(c) for c in corner.clamp(low, high)]
