"""Do simulated maps look like RELION's, and like experimental ones? Where each lies among simulated maps.

    python benchmarks/realism.py --structures FOLDER --shared ../shared [--maps 80]

Half-map pairs, everything inside the molecule (a soft mask):

- FSC at parts of the resolution's spatial frequency, the resolution being where it crosses 0.143;
- fall: how much the logarithm of the signal's power falls from 1/12 Å to 3/4 of the resolution's frequency;
- noise colour: how much the logarithm of the noise's power rises over the same range;
- noise inside: its s.d. inside the molecule over that outside.

Single maps: the fall alone, of the map's power. Cells hold the value and, in brackets, the share of simulated maps with a
smaller one: near 0 % or 100 % means that the simulator hardly ever makes such a map.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

import emhance
from emhance.errors import AtomicModelError
from emhance.maps.fourier import fsc_curve, resolution_at, shell_counts, shell_frequencies, shell_sums
from emhance.training.atoms import Atoms
from emhance.training.simulation import UNPROCESSED, SimulationConfig, simulate
from emhance.training.structures import load_structures, prepare_structures, structure_files

PARTS = (0.25, 0.5, 0.7, 0.85)
COARSE, FINE = 1 / 12, 0.75
"""1/Å, and a part of the resolution's frequency: where the falls are measured."""

Row = dict[str, float]


def power(data: np.ndarray, voxel_size: float) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (1/Å) and mean power per shell."""
    values = shell_sums(np.fft.rfftn(data), data.shape) / np.maximum(shell_counts(data.shape), 1)
    return shell_frequencies(data.shape, voxel_size), ndimage.uniform_filter1d(values, 3)


def fall(frequency: np.ndarray, values: np.ndarray, resolution: float) -> float:
    """Logarithm of the power at 1/12 Å over that at 3/4 of the resolution's frequency."""
    coarse, fine = np.interp([COARSE, FINE / resolution], frequency, np.log(np.maximum(values, 1e-30)))
    return float(coarse - fine)


def of_pair(half1: np.ndarray, half2: np.ndarray, inside: np.ndarray, voxel_size: float) -> Row:
    """Figures of two half maps; `inside` is a soft mask."""
    frequency, fsc = fsc_curve(half1 * inside, half2 * inside, voxel_size)
    resolution = resolution_at(frequency, fsc, 0.143)
    row = {f"FSC at {part}": float(np.interp(part / resolution, frequency, fsc)) for part in PARTS}
    difference = 0.5 * (half1 - half2)
    _, noise = power(difference * inside, voxel_size)
    _, both = power(0.5 * (half1 + half2) * inside, voxel_size)
    row["fall"] = fall(frequency, np.maximum(both - noise, 1e-3 * both), resolution)
    row["noise colour"] = -fall(frequency, noise, resolution)
    outside = (ndimage.gaussian_filter(inside, 4) < 0.01) & (difference != 0)
    if outside.mean() > 0.02 and (inside > 0.9).any():
        row["noise inside"] = float(difference[inside > 0.9].std() / difference[outside].std())
    return row


def unseen_models(structures: Path) -> list[Atoms]:
    """The validation split of a folder, or of a file that holds one packed."""
    if structures.is_file():
        return load_structures(structures).split()[1]
    with tempfile.TemporaryDirectory() as scratch:
        packed = Path(scratch) / "structures.npz"
        prepare_structures(structure_files(structures), packed)
        return load_structures(packed).split()[1]


def simulated(unseen: list[Atoms], number: int, *, raw: bool) -> Iterator[Row]:
    """Figures of simulated maps of unseen structures: `raw` half maps, or single maps with all that is done to them."""
    config = SimulationConfig(empty_share=0.0, **(UNPROCESSED if raw else {}))
    found = 0
    for seed in range(10 * number):
        try:
            maps = simulate(unseen[seed % len(unseen)], config, torch.Generator().manual_seed(seed))
        except AtomicModelError:
            continue
        inside = ndimage.gaussian_filter((maps.truth.numpy() > 0.1).astype(np.float32), 2.0)
        half1, half2 = maps.half1.numpy(), maps.half2.numpy()
        if raw:
            yield of_pair(half1, half2, inside, 1.0)
        else:
            frequency, values = power(0.5 * (half1 + half2) * inside, 1.0)
            yield {"fall": fall(frequency, values, maps.resolution)}
        found += 1
        if found == number:
            break


def table(title: str, rows: dict[str, Row], among: list[Row]) -> None:
    """Print values, and where they lie among the simulated ones."""
    keys = list(dict.fromkeys(key for row in among for key in row))
    print(f"\n| {title} | " + " | ".join(keys) + " |\n|---" + "|---" * len(keys) + "|")
    every = {key: np.array([row[key] for row in among if key in row]) for key in keys}
    for percent in (5, 50, 95):
        print(f"| simulated, {percent} % below | " + " | ".join(f"{np.percentile(every[k], percent):.2f}" for k in keys) + " |")
    for name, row in rows.items():
        cells = [f"{row[k]:.2f} ({np.mean(every[k] < row[k]):.0%})" if k in row else "" for k in keys]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=Path, required=True)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--maps", type=int, default=80)
    args = parser.parse_args()
    folder = args.shared / "relion_pairs"
    pairs = {}
    for case in csv.DictReader((folder / "index.csv").open()):
        half1, half2, mask = (emhance.read_map(folder / f"{case['name']}_{part}.mrc.gz") for part in ("half1", "half2", "mask"))
        pairs[case["name"]] = of_pair(half1.data, half2.data, mask.data, half1.voxel_size)
    unseen = unseen_models(args.structures)
    table("pair", pairs, list(simulated(unseen, args.maps, raw=True)))
    single = {}
    for case in json.loads((args.shared / "real" / "index.json").read_text()):
        density = emhance.read_map(args.shared / "real" / case["map"])
        top = np.percentile(density.data, 99)
        inside = ndimage.gaussian_filter((density.data > 0.3 * top).astype(np.float32), 2.0 / density.voxel_size)
        if case["resolution"] > 2 * density.voxel_size / FINE:
            frequency, values = power(density.data * inside, density.voxel_size)
            single[case["map"].split(".")[0]] = {"fall": fall(frequency, values, case["resolution"])}
    table("single map", single, list(simulated(unseen, args.maps, raw=False)))


if __name__ == "__main__":
    main()
