"""Crops of simulated maps, each decided by its number alone, so that runs repeat and resume exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from emhance.errors import AtomicModelError
from emhance.steps.restoration import restore
from emhance.training.atoms import Atoms
from emhance.training.simulation import SimulatedMaps, SimulationConfig, simulate

TARGETS = ("tight", "wide")


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """How crops are cut from simulated maps."""

    edge: int = 96
    """Edge of a crop in voxels. Crops of 64 train faster and end lower: near their faces the network lacks what a map has."""
    per_map: int = 4
    """Crops taken from one simulated map."""
    jitter: int = 20
    """How far a crop's centre lies from a random voxel of the molecule at most, along each axis, voxels."""
    anywhere: float = 0.05
    """Share of crops taken anywhere, solvent included."""
    around_others: float = 0.15
    """Share of the other crops that are centred, within the jitter, on an atom that is neither protein nor nucleic acid, where
    a simulated map holds any: ligands, glycans, lipids and ions are a small part of most models."""
    single_half: float = 0.2
    """Share of maps of which half map 1 alone is the input."""
    stated: float = 0.2
    """Share of maps of which nothing but a resolution is known, within 8 %; else half maps or solvent tell what is noise."""
    unrestored: float = 0.1
    """Share of maps the network sees as they are, because nothing is known of their noise."""
    target: str = "tight"
    """Which target: tight or wide."""


class Crops(NamedTuple):
    """Crops of one map, or of several.

    Parameters
    ----------
    inputs, targets
        Shape ``(n, 1, edge, edge, edge)``.
    reliability
        F of the input, 0 to 1, per shell of a crop from zero frequency to Nyquist, shape ``(n, edge // 2 + 1)``.
    """

    inputs: Tensor
    targets: Tensor
    reliability: Tensor


class SimulatedCrops(Dataset[Crops]):
    """Item `i` are the crops from one simulated map.

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
    device
        Where maps are simulated.
    """

    def __init__(
        self,
        structures: Sequence[Atoms],
        simulation: SimulationConfig,
        crops: CropConfig,
        *,
        seed: int,
        device: torch.device | None = None,
    ) -> None:
        self._structures, self._simulation, self._crops, self._seed = structures, simulation, crops, seed
        self._device = device or torch.device("cpu")

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, index: int) -> Crops:
        generator = torch.Generator(self._device).manual_seed(mixed_seed(self._seed, index))
        maps = self._simulated(generator)
        half = self._number(generator) < self._crops.single_half
        data = maps.half1 if half else 0.5 * (maps.half1 + maps.half2)
        shown = self._shown(data, maps, half, generator)
        target = maps.wide_target if self._crops.target == "wide" else maps.target
        F = maps.reliability / (2 - maps.reliability) if half else maps.reliability  # of one half map it is the FSC itself
        reliability = at_shells_of_crop(F, self._simulation.box, self._crops.edge).expand(self._crops.per_map, -1)
        inputs, targets = [], []
        inside = maps.molecule.nonzero()
        for _ in range(self._crops.per_map):
            corner = self._corner(inside, maps.others, generator)
            cut = tuple(slice(c, c + self._crops.edge) for c in corner)
            inputs.append(shown[cut])
            targets.append(target[cut])
        return Crops(torch.stack(inputs)[:, None], torch.stack(targets)[:, None], reliability)

    def _shown(self, data: Tensor, maps: SimulatedMaps, half: bool, generator: torch.Generator) -> Tensor:
        """What the network sees of a map; see `emhance.steps.restoration`."""
        known = self._number(generator)
        stated = maps.resolution * (0.92 + 0.16 * self._number(generator))
        if known < self._crops.unrestored:
            return data
        paired = not half and known >= self._crops.unrestored + self._crops.stated
        measured = half and known >= self._crops.unrestored + self._crops.stated
        restored = restore(
            data.cpu().numpy(),
            voxel_size=self._simulation.voxel_size,
            half_difference=(0.5 * (maps.half1 - maps.half2)).cpu().numpy() if paired else None,
            noise=measured and not maps.log["masked"],
            resolution=stated,
            workers=1,
        )
        return torch.from_numpy(restored.data).to(data.device)

    def _simulated(self, generator: torch.Generator) -> SimulatedMaps:
        for _ in range(20):
            number = self._whole(generator, 0, len(self._structures))
            try:
                return simulate(self._structures[number], self._simulation, generator)
            except AtomicModelError:
                continue  # the random place held too few atoms: draw another
        raise AtomicModelError("Twenty random places in a row held fewer than 100 atoms; give larger atomic models.")

    def _corner(self, inside: Tensor, others: Tensor, generator: torch.Generator) -> list[int]:
        box, edge, jitter = self._simulation.box, self._crops.edge, self._crops.jitter
        margin = 4  # the box is periodic: stay clear of what wraps around
        low, high = margin, box - edge - margin
        if self._number(generator) < self._crops.anywhere:
            return [self._whole(generator, low, high + 1) for _ in range(3)]
        centres = others if self._number(generator) < self._crops.around_others and len(others) else inside
        centre = centres[self._whole(generator, 0, len(centres))].tolist()
        corner = [c + self._whole(generator, -jitter, jitter + 1) - edge // 2 for c in centre]
        return [min(max(c, low), high) for c in corner]

    def _number(self, generator: torch.Generator) -> float:
        return float(torch.rand(1, generator=generator, device=self._device))

    def _whole(self, generator: torch.Generator, low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator, device=self._device))


def mixed_seed(seed: int, index: int) -> int:
    """A seed that both numbers decide: PyTorch's CPU generator looks at 32 bits of its seed only."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def at_shells_of_crop(curve: Tensor, box: int, edge: int) -> Tensor:
    """Interpolate a curve over the shells of a box of `box` voxels to those of a crop of `edge`, zero frequency to Nyquist."""
    wanted = np.arange(edge // 2 + 1) * (box / edge)
    values = np.interp(wanted, np.arange(len(curve)), curve.cpu().numpy())
    values[0] = values[1]  # the mean says nothing about the data
    return torch.from_numpy(values.astype(np.float32)).to(curve.device)
