"""How much the data should weigh in the recombination: w = a F^p over a grid of a and p, on maps no network was trained on.

    python benchmarks/recombination.py --structures FOLDER [--network tight] [--maps 24]

Half of the maps are pairs of half maps, half are single maps cut by a mask, for which a resolution is stated; everything about
them is drawn at random. FSC with the truth inside the molecule, mean up to the resolution, shells weighted by their number of
coefficients; below it on how many maps the enhanced map's is at least the input's.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from emhance.errors import AtomicModelError
from emhance.maps.fourier import fsc_curve, fsc_mean
from emhance.network.inference import infer
from emhance.network.weights import load_network
from emhance.steps import recombination
from emhance.steps.restoration import restore
from emhance.training.atoms import read_atoms
from emhance.training.simulation import SimulationConfig, simulate

STRUCTURES = "6n1q 4ikv 5kov 8du2 5e5m 6oc3 2irf 6cwg 1jt0 1h2s 2nwd 3dh4 3w4t 3egw 1zli 3h2v 2x9a 3csl 1oph"
"""Of the validation split."""

LEVELS, POWERS = (0.4, 0.6, 0.8, 1.0), (0.25, 1.0, 2.0, 4.0)


@dataclass(eq=False)
class Case:
    """One map: the network's output N, the data X, half the difference of the half maps if there are any, and the truth."""

    network: np.ndarray
    data: np.ndarray
    half_difference: np.ndarray | None
    truth: np.ndarray
    resolution: float

    def score(self, data: np.ndarray) -> float:
        """Mean FSC with the truth."""
        mask = ndimage.gaussian_filter((self.truth > 0.1).astype(np.float32), 1.5)
        frequency, fsc = fsc_curve(data * mask, self.truth * mask, 1.0)
        return fsc_mean(frequency, fsc, self.resolution)

    def recombined(self) -> np.ndarray:
        """As the package does it, with the weights of the moment."""
        difference = None if self.half_difference is None else self.half_difference.copy()
        options = {"half_difference": difference, "resolution": self.resolution, "voxel_size": 1.0, "workers": 2}
        return recombination.recombine(self.network.copy(), self.data.copy(), **options)[0]


def cases(folder: Path, network: str, number: int) -> list[Case]:
    """Simulate, and run the network."""
    module = load_network(network).module
    found: list[Case] = []
    names = STRUCTURES.split()
    for seed in range(10 * number):
        name, masked = names[seed % len(names)], len(found) % 2 == 1
        config = SimulationConfig(masked_share=float(masked), empty_share=0.0, resolution=(2.5, 6.5))
        try:
            maps = simulate(read_atoms(next(folder.glob(f"{name}.*"))), config, torch.Generator().manual_seed(seed))
        except AtomicModelError:
            continue
        data, difference = (0.5 * (maps.half1 + maps.half2)).numpy(), (0.5 * (maps.half1 - maps.half2)).numpy()
        known = {"resolution": maps.resolution} if masked else {"half_difference": difference}
        output = infer(module, restore(data, voxel_size=1.0, **known).data)
        found.append(Case(output, data, None if masked else difference, maps.truth.numpy(), maps.resolution))
        if len(found) == number:
            break
    return found


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=Path, required=True)
    parser.add_argument("--network", default="tight")
    parser.add_argument("--maps", type=int, default=24)
    args = parser.parse_args()
    every = cases(args.structures, args.network, args.maps)
    print("| a | p | half maps: mean FSC | not worse | masked single maps: mean FSC | not worse |\n|---|---|---|---|---|---|")
    groups = [[case for case in every if (case.half_difference is None) == single] for single in (False, True)]
    before = [np.array([case.score(case.data) for case in group]) for group in groups]
    print("| input | | " + " | ".join(f"{scores.mean():.4f} | " for scores in before) + " |")
    alone = [np.mean([case.score(case.network) for case in group]) for group in groups]
    print("| network alone | | " + " | ".join(f"{score:.4f} | " for score in alone) + " |", flush=True)
    for level in LEVELS:
        for power in POWERS:
            recombination.DATA_WEIGHT, recombination.DATA_POWER = level, power
            cells = []
            for group, inputs in zip(groups, before, strict=True):
                scores = np.array([case.score(case.recombined()) for case in group])
                cells.append(f"{scores.mean():.4f} | {np.sum(scores >= inputs - 1e-4)} of {len(scores)}")
            print(f"| {level} | {power} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
