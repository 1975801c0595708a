"""Fit and check the confidence map: do voxels given confidence c correlate with the truth as c says?

    python benchmarks/calibration.py --structures FOLDER --pairs FOLDER [--network WEIGHTS] [--crop 96]

The curve is fitted on simulated half-map pairs of structures that no network is trained on (`--structures`), written to
src/emhance/validation/calibration.json, and then checked on half-map pairs that RELION made (`--pairs`: NAME_half1.mrc.gz,
NAME_half2.mrc.gz, NAME_mask.mrc.gz, NAME_model.cif.gz), of which the fit saw nothing. The reliability diagram goes to
docs/quality.md.

The truth is the density of the atomic model as the particles show it, with all its disorder, cut at the resolution of the
half-map FSC (0.143) behind a soft mask. Before pooling, the enhanced map and the truth of every pair are divided by their s.d.
in the box. The calibration error is the mean over bins of |correlation - confidence|, weighted by the number of voxels, and again
weighted by the density in them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from emhance.config import EnhanceConfig
from emhance.evidence import enhance_with_evidence
from emhance.maps.fourier import fsc_curve, low_pass, resolution_at
from emhance.maps.mrc import read_map
from emhance.maps.volume import DensityMap, Geometry
from emhance.network.weights import load_network
from emhance.training.atoms import read_atoms
from emhance.training.half_maps import fsc_mask
from emhance.training.simulation import raw_molecule, simulate
from emhance.validation.confidence import CALIBRATION, Calibration
from emhance.validation.fsc import HALF_MAP_THRESHOLD
from emhance.validation.map_model import model_density

SIMULATED = (
    ("4zw9", 3.2, 88),
    ("4o6y", 4.5, 80),
    ("3v7e", 3.6, 88),
    ("1ddn", 5.5, 88),
    ("6cwg", 2.8, 72),
    ("1oph", 4.0, 96),
)
"""Structures of the validation split, resolution in Å, box in voxels of 1 Å."""

VARIANTS = {"steep": {"flexibility": 0.3, "envelope": 0.5}, "flat": {"flexibility": 1.2, "envelope": 0.08}}
"""Each is simulated twice: little disorder and amplitudes that fall steeply; much disorder, and noise even in coarse shells."""

IDENTITY = Calibration(np.array([0.0, 1.0]), np.array([0.0, 1.0]), "none")
FINE, COARSE = 25, 10
BEGIN, END = "<!-- calibration: begin -->", "<!-- calibration: end -->"
QUALITY = Path(__file__).parents[1] / "docs" / "quality.md"


@dataclass
class Case:
    """One pair: uncalibrated confidence, enhanced map and truth, flat, the latter two with s.d. 1."""

    name: str
    reliability: np.ndarray
    enhanced: np.ndarray
    truth: np.ndarray


@dataclass
class Moments:
    """Sums over the voxels of some bins, from which their correlations follow."""

    bins: int
    sums: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.sums = np.zeros((8, self.bins))

    def add(self, score: np.ndarray, enhanced: np.ndarray, truth: np.ndarray) -> Moments:
        """Add the voxels of a pair, by their score."""
        index = np.minimum((score * self.bins).astype(int), self.bins - 1)
        ones = np.ones_like(score)
        for row, values in enumerate(
            (ones, enhanced, truth, enhanced**2, truth**2, enhanced * truth, score, np.maximum(enhanced, 0))
        ):
            self.sums[row] += np.bincount(index, values, minlength=self.bins)
        return self

    @property
    def count(self) -> np.ndarray:
        """Voxels."""
        return self.sums[0]

    @property
    def density(self) -> np.ndarray:
        """Positive density of the voxels."""
        return self.sums[7]

    @property
    def score(self) -> np.ndarray:
        """Mean score."""
        return self.sums[6] / np.maximum(self.count, 1)

    @property
    def correlation(self) -> np.ndarray:
        """Pearson correlation of enhanced map and truth."""
        n, x, y, xx, yy, xy = self.sums[:6]
        n = np.maximum(n, 1)
        scale = np.sqrt(np.maximum((xx - x * x / n) * (yy - y * y / n), 1e-12))
        return (xy - x * y / n) / scale

    def error(self, weight: np.ndarray) -> float:
        """Mean difference of correlation and score."""
        return float(np.sum(weight * np.abs(self.correlation - self.score)) / np.sum(weight))


SEEN = "not fitted on; all were seen while choosing the width of the window and the level of density that counts"


def case_of(name: str, half1: DensityMap, half2: DensityMap, truth: np.ndarray, mask: np.ndarray, network: str) -> Case:
    """Enhance a pair with evidence; the truth is cut here, at the resolution behind the mask."""
    config = EnhanceConfig(network=network)
    found = enhance_with_evidence(half1, half2, config=config, calibration=IDENTITY)
    frequency, fsc = fsc_curve(half1.data * mask, half2.data * mask, half1.voxel_size)
    truth = low_pass(truth, half1.voxel_size, resolution_at(frequency, fsc, HALF_MAP_THRESHOLD), edge_shells=1)
    enhanced = found.result.map.data
    correlation = np.corrcoef(enhanced.ravel(), truth.ravel())[0, 1]
    print(f"{name}: gain {found.held_out.gain:.3f}, correlation with the truth {correlation:.3f}", flush=True)
    return Case(name, found.confidence.data.ravel(), (enhanced / enhanced.std()).ravel(), (truth / truth.std()).ravel())


def simulated_cases(folder: Path, network: str) -> Iterator[Case]:
    for name, resolution, box in SIMULATED:
        (path,) = folder.glob(f"{name}.*")
        atoms, geometry = read_atoms(path), Geometry.whole_box((box, box, box), 1.0)
        for variant, values in VARIANTS.items():
            ranges = {key: (value, value) for key, value in values.items()}
            config = replace(raw_molecule(resolution=resolution, box=box), **ranges, target_flexibility=1.0)
            maps = simulate(atoms, config, torch.Generator().manual_seed(sum(map(ord, name + variant))))
            half1, half2 = (DensityMap(half.numpy(), geometry) for half in (maps.half1, maps.half2))
            mask = fsc_mask(maps.molecule, 1.0).numpy()
            yield case_of(f"{name} at {resolution:g} Å, {variant}", half1, half2, maps.target.numpy(), mask, network)


def relion_cases(folder: Path, network: str, crop: int | None) -> Iterator[Case]:
    for path in sorted(folder.glob("*_half1.mrc.gz")):
        name = path.name.removesuffix("_half1.mrc.gz")
        half1, half2, mask = (cropped(read_map(folder / f"{name}_{what}.mrc.gz"), crop) for what in ("half1", "half2", "mask"))
        truth = model_density(folder / f"{name}_model.cif.gz", half1.geometry).data
        yield case_of(name, half1, half2, truth, mask.data, network)


def cropped(density: DensityMap, edge: int | None) -> DensityMap:
    """The middle of a map, so that a check on a small machine takes minutes."""
    if edge is None:
        return density
    z, y, x = ((n - edge) // 2 for n in density.geometry.shape)
    voxel_size = density.voxel_size
    origin = (z * voxel_size, y * voxel_size, x * voxel_size)
    data = np.ascontiguousarray(density.data[z : z + edge, y : y + edge, x : x + edge])
    return DensityMap(data, Geometry.whole_box((edge, edge, edge), voxel_size, origin=origin))


def fitted(cases: list[Case], network: str) -> Calibration:
    """Isotonic regression of the correlation with the truth on the uncalibrated confidence.

    The correlation is a mean over the pairs, weighted by their voxels: in one correlation of all, the density of a pair whose
    halves hardly agree would speak for the empty voxels of the others.
    """
    every = [Moments(FINE).add(case.reliability, case.enhanced, case.truth) for case in cases]
    count = np.sum([m.count for m in every], axis=0)
    scores = np.sum([m.count * m.score for m in every], axis=0)
    correlation = np.sum([m.count * m.correlation.clip(0, 1) for m in every], axis=0)
    used = count > 200
    blocks = [[s / n, c / n, n] for s, c, n in zip(scores[used], correlation[used], count[used], strict=True)]
    merged: list[list[float]] = []
    for block in blocks:  # pool adjacent violators
        merged.append(block)
        while len(merged) > 1 and merged[-2][1] > merged[-1][1]:
            s, c, n = merged.pop()
            last = merged[-1]
            total = last[2] + n
            merged[-1] = [(last[0] * last[2] + s * n) / total, (last[1] * last[2] + c * n) / total, total]
    scores = np.array([0.0, *(block[0] for block in merged), 1.0])
    values = np.array([0.0, *(block[1] for block in merged), merged[-1][1]])
    names = ", ".join(case.name for case in cases)
    card = load_network(network).card
    text = f"simulated pairs ({names}), network {card.name} {card.version}, weights {card.sha256[:16]}"
    return Calibration(scores, values, text)


def write_calibration(calibration: Calibration) -> None:
    values = {
        "fitted_on": calibration.fitted_on,
        "reliability": [round(float(x), 4) for x in calibration.reliability],
        "confidence": [round(float(x), 4) for x in calibration.confidence],
    }
    CALIBRATION.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def table_of(cases: list[Case], calibration: Calibration, title: str) -> list[str]:
    """Markdown rows of the reliability diagram: every pair, and all of them together."""
    lines = [
        f"**{title}**",
        "",
        "| confidence | " + " | ".join(f"{i / COARSE:.1f}-{(i + 1) / COARSE:.1f}" for i in range(COARSE)),
    ]
    lines[-1] += " | error, voxels | error, density |"
    lines.append("|---" * (COARSE + 3) + "|")
    pooled = Moments(COARSE)
    for case in cases:
        score = np.interp(case.reliability, calibration.reliability, calibration.confidence)
        moments = Moments(COARSE).add(score, case.enhanced, case.truth)
        pooled.sums += moments.sums
        lines.append(row_of(case.name, moments))
    lines.append(row_of("all", pooled))
    share = pooled.count / pooled.count.sum()
    lines.append("| share of voxels | " + " | ".join(f"{x:.1%}" for x in share) + " | | |")
    share = pooled.density / pooled.density.sum()
    lines.append("| share of density | " + " | ".join(f"{x:.1%}" for x in share) + " | | |")
    return [*lines, ""]


def row_of(name: str, moments: Moments) -> str:
    cells = [f"{c:.2f}" if n > 200 else "" for c, n in zip(moments.correlation, moments.count, strict=True)]
    errors = [moments.error(moments.count), moments.error(moments.density)]
    return f"| {name} | " + " | ".join(cells) + "".join(f" | {x:.3f}" for x in errors) + " |"


def write_section(lines: list[str]) -> None:
    """Put the section into docs/quality.md, in place of the one before."""
    text = QUALITY.read_text(encoding="utf-8") if QUALITY.exists() else f"# Quality\n\n{BEGIN}\n{END}\n"
    if BEGIN not in text:
        text = f"{text.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, after = text[: text.index(BEGIN)], text[text.index(END) + len(END) :]
    QUALITY.parent.mkdir(exist_ok=True)
    QUALITY.write_text(before + BEGIN + "\n" + "\n".join(lines) + END + after, encoding="utf-8")


def section(simulated: list[Case], relion: list[Case], calibration: Calibration) -> list[str]:
    return [
        "## Confidence: a reliability diagram",
        "",
        "Correlation of the enhanced map with the truth, over the voxels given a confidence between the column's limits. Where",
        "the figure equals the column, the confidence means what it says. The calibration error is the mean difference, over",
        "voxels and over the density in them. Empty: fewer than 200 voxels. Made by `benchmarks/calibration.py`.",
        "",
        f"The curve was fitted on {calibration.fitted_on}.",
        "",
        *table_of(relion, calibration, f"Pairs made by RELION ({SEEN})"),
        *table_of(simulated, calibration, "Simulated pairs, which the curve was fitted on"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=Path, required=True, help="folder of atomic models to simulate from")
    parser.add_argument("--pairs", type=Path, required=True, help="folder of half-map pairs with atomic models to check on")
    parser.add_argument("--network", default="tight", help="name or weights")
    parser.add_argument("--crop", type=int, help="use the middle of the pairs only, this many voxels along an edge")
    arguments = parser.parse_args()
    simulated = list(simulated_cases(arguments.structures, arguments.network))
    calibration = fitted(simulated, arguments.network)
    write_calibration(calibration)
    relion = list(relion_cases(arguments.pairs, arguments.network, arguments.crop))
    lines = section(simulated, relion, calibration)
    write_section(lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
