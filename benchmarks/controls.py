"""What the networks must not do, and how they differ: controls on maps simulated from structures that none was trained on.

    python benchmarks/controls.py --structures FOLDER [--networks tight wide highres]

- noise: two half maps, or one map, of noise alone, its power even, falling or rising with spatial frequency. S.d. of the output
  over that of an enhanced map.
- a chain left out of the simulation, so that nothing is there: mean of the output in its place, over the mean in the molecule.
- phases scrambled beyond 8 Å, in each half map on its own, and alike in both, which no FSC can tell from data: power of the
  output beyond 8 Å over that of the unscrambled output, and its correlation with the true detail there.
- how the networks differ: on maps with a micelle, mean density in the molecule over that of the simulator's tight target,
  mean density in the micelle over that in the molecule, and the share of it above the contour that holds 90 % of the molecule;
  the first row is what the wide target, which is the truth there, has; on maps finer than 4 Å, where the FSC with the truth
  falls below 0.5 and the mean FSC up to the stated resolution, both inside the molecule.
- maps finer than 2.5 Å, voxels of 0.7 Å: mean FSC with the truth inside the molecule, and the amplitude at 0.7 to 0.9 of the
  resolution's frequency over that at 8 to 4 Å, both over the truth's. The amplitude times the FSC is right, not the whole.

Every figure is a mean over the maps named, unless it says otherwise.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import scipy.fft
import torch
from scipy import ndimage

import emhance
from emhance.maps.fourier import (
    apply_radial,
    fsc_curve,
    fsc_mean,
    inverse_transform,
    resolution_at,
    shell_frequencies,
    shell_sums,
)
from emhance.training.atoms import Atoms, atoms_of, read_model
from emhance.training.simulation import UNPROCESSED, SimulatedMaps, SimulationConfig, raw_pair, simulate

WITHOUT_CHAIN = (("1oph", "B", 3.5, 128), ("1jt0", "A", 4.0, 112), ("2irf", "A", 3.0, 112))
"""Structures of the validation split: name, chain, resolution in Å, box in voxels of 1 Å."""

SCRAMBLED = (("4zw9", 3.2, 96), ("3v7e", 3.6, 96), ("1oph", 4.0, 112))
BEYOND = 1 / 8
"""1/Å."""

MICELLES = (("4zw9", 3.5), ("4o6y", 4.0), ("1h2s", 3.2))
FINE = (("6cwg", 2.4), ("4zw9", 2.8), ("3v7e", 3.2), ("1jt0", 3.6))
FINEST = (("4zw9", 1.7), ("6cwg", 2.0), ("3v7e", 2.4))
FINEST_VOXEL, FINEST_BOX = 0.7, 160
"""Å, and voxels."""

Array = np.ndarray


def model_of(folder: Path, name: str) -> gemmi.Model:
    """The atomic model of that name in the folder."""
    found = sorted(folder.glob(f"{name}.*"))
    if not found:
        raise SystemExit(f"{folder} holds no {name}")
    return read_model(found[0])


def enhanced(*maps: Array, network: str, voxel_size: float = 1.0) -> Array:
    """Two half maps, or one map, enhanced."""
    given = [emhance.DensityMap(data.astype(np.float32), emhance.Geometry.whole_box(data.shape, voxel_size)) for data in maps]
    return emhance.enhance(*given, network=network, gpus="none").map.data


def of(maps: SimulatedMaps, network: str) -> Array:
    """Simulated half maps, enhanced."""
    return enhanced(maps.half1.numpy(), maps.half2.numpy(), network=network)


def noise(networks: list[str], reference: dict[str, float]) -> None:
    """Print what becomes of noise."""
    box = 128
    print("| noise alone, power with frequency | " + " | ".join(networks) + " |\n|---" + "|---" * len(networks) + "|")
    for name, slope in (("even", 0.0), ("falling", -1.0), ("rising", 1.0)):
        curve = np.maximum(np.arange(box // 2 + 1), 2.0) ** (slope / 2)
        halves = []
        for seed in (1, 2):
            F = scipy.fft.rfftn(np.random.default_rng(seed).standard_normal((box,) * 3).astype(np.float32))
            apply_radial(F, (box,) * 3, curve)
            halves.append(inverse_transform(F, (box,) * 3))
        for what, maps in (("two half maps", halves), ("one map", [0.5 * (halves[0] + halves[1])])):
            cells = [f"{enhanced(*maps, network=n).std() / reference[n]:.2%}" for n in networks]
            print(f"| {name}, {what} | " + " | ".join(cells) + " |", flush=True)


def without_chain(folder: Path, networks: list[str]) -> None:
    """Print what appears where a chain is missing."""
    print("\n| left out | " + " | ".join(networks) + " |\n|---" + "|---" * len(networks) + "|")
    for name, chain, resolution, box in WITHOUT_CHAIN:
        model = model_of(folder, name)
        atoms = atoms_of(model)
        left_out = np.concatenate([np.full(c.count_atom_sites(), c.name == chain) for c in model])
        occupancies = np.where(left_out, 0, atoms.occupancies).astype(np.float32)
        whole = raw_pair(atoms, resolution=resolution, box=box, seed=5)
        maps = raw_pair(replace(atoms, occupancies=occupancies), resolution=resolution, box=box, seed=5)
        there, rest = (whole.truth - maps.truth).numpy() > 0.3, maps.truth.numpy() > 0.3
        there &= ndimage.distance_transform_edt(~rest) > 4
        outputs = [of(maps, network) for network in networks]
        cells = [f"{output[there].mean() / output[rest].mean():.2%}" for output in outputs]
        print(
            f"| chain {chain} of {name} ({left_out.mean():.0%} of its atoms), {resolution:g} Å | " + " | ".join(cells) + " |",
            flush=True,
        )


def scrambled(folder: Path, networks: list[str]) -> dict[str, float]:
    """Print what becomes of phases that mean nothing; return the s.d. of enhanced maps with their own phases."""
    columns = [f"{n}, {what}" for n in networks for what in ("power", "correlation")]
    print("\n| phases beyond 8 Å | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")
    spread: dict[str, list[float]] = {network: [] for network in networks}
    results: dict[str, list[list[float]]] = {}
    for name, resolution, box in SCRAMBLED:
        maps = raw_pair(atoms_of(model_of(folder, name)), resolution=resolution, box=box, seed=6)
        halves = [maps.half1.numpy(), maps.half2.numpy()]
        truth = fine(maps.truth.numpy())
        versions = {
            "the data's own": halves,
            "scrambled in each half map": [scramble(half, seed) for seed, half in enumerate(halves)],
            "scrambled alike in both": [scramble(half, 7) for half in halves],
        }
        own: dict[str, float] = {}
        for version, pair in versions.items():
            cells = []
            for network in networks:
                output = enhanced(*pair, network=network)
                detail = fine(output)
                power = float(np.square(detail).mean())
                own.setdefault(network, power)
                if pair is halves:
                    spread[network].append(float(output.std()))
                cells += [power / own[network], float(np.corrcoef(detail.ravel(), truth.ravel())[0, 1])]
            results.setdefault(version, []).append(cells)
    for version, rows in results.items():
        print(f"| {version} | " + " | ".join(f"{value:.2f}" for value in np.mean(rows, axis=0)) + " |", flush=True)
    return {network: float(np.mean(values)) for network, values in spread.items()}


def fine(data: Array) -> Array:
    """What a map holds beyond 8 Å."""
    return filtered(data, lambda s: (s > BEYOND).astype(float))


def filtered(data: Array, curve: Callable[[Array], Array]) -> Array:
    """A map times a function of spatial frequency (1/Å)."""
    F = scipy.fft.rfftn(data.astype(np.float32))
    apply_radial(F, data.shape, curve(shell_frequencies(data.shape, 1.0)))
    return inverse_transform(F, data.shape)


def scramble(data: Array, seed: int) -> Array:
    """Random phases beyond 8 Å, amplitudes kept."""
    F, R = scipy.fft.rfftn(data), scipy.fft.rfftn(np.random.default_rng(seed).standard_normal(data.shape))
    axes = (*(np.fft.fftfreq(n) for n in data.shape[:2]), np.fft.rfftfreq(data.shape[2]))
    s = np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij")))
    return scipy.fft.irfftn(np.where(s > BEYOND, np.abs(F) * R / np.abs(R), F), s=data.shape).astype(np.float32)


def differences(folder: Path, networks: list[str]) -> None:
    """Print how the networks differ."""
    columns = ["network", "density in the molecule", "density in the micelle", "micelle above the contour"]
    columns += ["FSC = 0.5 at, Å", "mean FSC"]
    print("\n| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    micelles = [simulated(folder, name, resolution, seed, micelle_share=1.0) for seed, (name, resolution) in enumerate(MICELLES)]
    details = [simulated(folder, name, resolution, 8) for name, resolution in FINE]
    truths = [of_micelle(maps, maps.wide_target.numpy()) for maps in micelles]
    print("| truth | " + " | ".join(cells_of_micelle(truths)) + " | | |", flush=True)
    for network in networks:
        finest, means = [], []
        cells = cells_of_micelle([of_micelle(maps, of(maps, network)) for maps in micelles])
        for maps in details:
            mask = mask_of(maps)
            frequency, fsc = fsc_curve(of(maps, network) * mask, maps.truth.numpy() * mask, 1.0)
            finest.append(resolution_at(frequency, fsc, 0.5))
            means.append(fsc_mean(frequency, fsc, maps.resolution))
        cells += [f"{np.mean(finest):.2f}", f"{np.mean(means):.3f}"]
        print(f"| {network} | " + " | ".join(cells) + " |", flush=True)


def finest_maps(folder: Path, networks: list[str]) -> None:
    """Print what the networks make of maps finer than 2.5 Å."""
    columns = ["finest maps", "input, mean FSC"]
    columns += [f"{network}, {what}" for network in networks for what in ("mean FSC", "amplitude")]
    print("\n| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for name, resolution in FINEST:
        maps = simulated(folder, name, resolution, 8, voxel_size=FINEST_VOXEL, box=FINEST_BOX)
        mask = mask_of(maps)
        truth = maps.truth.numpy() * mask
        wanted = shell_sums(scipy.fft.rfftn(truth), truth.shape)
        frequency = shell_frequencies(truth.shape, FINEST_VOXEL)
        coarse = (frequency > 1 / 8) & (frequency < 1 / 4)
        close = (frequency > 0.7 / resolution) & (frequency < 0.9 / resolution)
        halves = maps.half1.numpy(), maps.half2.numpy()
        outputs = [0.5 * (halves[0] + halves[1])]
        outputs += [enhanced(*halves, network=network, voxel_size=FINEST_VOXEL) for network in networks]
        scores, ratios = [], []
        for output in outputs:
            _, fsc = fsc_curve(output * mask, truth, FINEST_VOXEL)
            scores.append(fsc_mean(frequency, fsc, resolution))
            amplitude = np.sqrt(shell_sums(scipy.fft.rfftn(output * mask), truth.shape) / wanted)
            ratios.append(amplitude[close].mean() / amplitude[coarse].mean())
        cells = [f"{score:.3f} | {ratio:.2f}" for score, ratio in zip(scores[1:], ratios[1:], strict=True)]
        print(f"| {name} at {resolution:g} Å | {scores[0]:.3f} | " + " | ".join(cells) + " |", flush=True)


def mask_of(maps: SimulatedMaps) -> Array:
    """A soft mask around the molecule."""
    return ndimage.gaussian_filter((maps.truth.numpy() > 0.1).astype(np.float32), 1.5)


def of_micelle(maps: SimulatedMaps, output: Array) -> tuple[float, float, float]:
    """Density in the molecule, density in the micelle, and the share of the micelle above the molecule's contour."""
    molecule = maps.truth.numpy() > 0.3
    micelle = (maps.wide_target.numpy() > 0.05) & (ndimage.distance_transform_edt(~molecule) > 4)
    inside = float(output[molecule].mean())
    contour = np.quantile(output[molecule], 0.1)
    there = float(output[micelle].mean()) / inside
    return inside / float(maps.target.numpy()[molecule].mean()), there, float((output[micelle] > contour).mean())


def cells_of_micelle(rows: list[tuple[float, float, float]]) -> list[str]:
    """Their means over maps, as they are printed."""
    inside, there, above = np.mean(rows, axis=0)
    return [f"{inside:.2f}", f"{there:.2f}", f"{above:.0%}"]


def simulated(folder: Path, name: str, resolution: float, seed: int, **changes: float) -> SimulatedMaps:
    """Raw half maps of a part of a structure, 128 Å wide, with everything that happens to a map but processing."""
    nothing = dict.fromkeys(
        ("extra_density_share", "nanodisc_share", "lipids_share", "micelle_share", "moving_domain_share", "empty_share"), 0.0
    )
    config = SimulationConfig(resolution=(resolution, resolution), **{**UNPROCESSED, **nothing, **changes})
    atoms: Atoms = atoms_of(model_of(folder, name))
    return simulate(atoms, config, torch.Generator().manual_seed(seed))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", default=["tight", "wide", "highres"])
    args = parser.parse_args()
    logging.getLogger("emhance").setLevel(logging.ERROR)
    spread = scrambled(args.structures, args.networks)
    print()
    noise(args.networks, spread)
    without_chain(args.structures, args.networks)
    differences(args.structures, args.networks)
    finest_maps(args.structures, args.networks)


if __name__ == "__main__":
    main()
