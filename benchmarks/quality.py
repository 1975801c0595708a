"""Score enhanced maps against atomic models, beside their inputs, as a table.

    python benchmarks/quality.py --shared ../shared [--network tight] [--cases 6msm emd_3488:100 ...] [--gain] [--relion]
        [--ceilings] [--pictures DIR]

Cases are half-map pairs of ``relion_pairs`` and maps of ``real``; ``NAME:B`` blurs the input by a B-factor of B Å² first.
Scores are those of the development data's ``score/score.py``: every cell says input → enhanced. In the column fsc_avg_mask the
figure in brackets is the input's once its amplitudes are the enhanced map's, shell by shell. The last lines hold means.

The scorer's correlations compare with the model cut at the stated resolution, so that true detail beyond it lowers them.
``--ceilings`` therefore adds those of the enhanced map after the same cut, and after the best of all radial filters: the one that
brings it closest to that reference, which must be known for it. No sharpening or filtering of the map can reach more.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import logging
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import scipy.fft

import emhance
from emhance.maps.fourier import apply_b_factor, apply_radial, inverse_transform, shell_sums

CORRELATIONS = ("cc_box", "cc_mask", "cc_peaks")
SCORES = (*CORRELATIONS, "fsc05_mask", "fsc_avg_mask")
KEPT = 5e-4
"""A mean FSC that falls by less than this is kept: it is the same to three digits."""

KINDS = ("protein", "nucleic", "other")

Row = tuple["Case", dict[str, float], dict[str, float], float, list[list[float]]]
"""A case, its input's scores, its output's, fsc_avg_mask of the input with the output's amplitudes, and the output's correlations
after a cut and after the best filter, if they are wanted."""

Written = Callable[[emhance.DensityMap, str], str]
"""Writes a map under a name and returns its path."""


@dataclass(frozen=True)
class Case:
    """One input with its atomic model; two maps are half maps."""

    name: str
    maps: list[emhance.DensityMap]
    atomic_model: Path
    resolution: float
    offset_xyz: list[float]
    mask: Path | None = None

    @property
    def input(self) -> emhance.DensityMap:
        """What the enhanced map is compared with: the map, or the mean of the half maps."""
        return replace(self.maps[0], data=np.mean([m.data for m in self.maps], axis=0, dtype=np.float32))


def load_scorer(shared: Path) -> ModuleType:
    """Import score.py from where it lies."""
    spec = importlib.util.spec_from_file_location("score", shared / "score" / "score.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"{shared} holds no score/score.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cases(shared: Path, wanted: list[str] | None) -> Iterator[Case]:
    """All cases that have an atomic model, or those wanted."""
    pairs = {row["name"]: row for row in csv.DictReader((shared / "relion_pairs" / "index.csv").open())}
    real = {row["map"].split(".")[0]: row for row in json.loads((shared / "real" / "index.json").read_text())}
    with_model = [name for name, row in real.items() if row["atomic_model"]]
    for name in wanted or [*pairs, *(f"{n}{b}" for n in with_model for b in ("", ":100"))]:
        plain, _, b_factor = name.partition(":")
        if plain in pairs:
            folder = shared / "relion_pairs"
            halves = [emhance.read_map(folder / f"{plain}_half{i}.mrc.gz") for i in (1, 2)]
            model, mask = folder / f"{plain}_model.cif.gz", folder / f"{plain}_mask.mrc.gz"
            yield Case(name, halves, model, float(pairs[plain]["resolution"]), [0.0, 0.0, 0.0], mask)
        else:
            row, folder = real[plain], shared / "real"
            density = emhance.read_map(folder / row["map"])
            if b_factor:
                density = replace(density, data=apply_b_factor(density.data, density.voxel_size, float(b_factor)))
            yield Case(name, [density], folder / row["atomic_model"], float(row["resolution"]), row["offset_xyz"])


def main() -> None:
    """Score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--network", default="tight")
    parser.add_argument("--cases", nargs="+")
    parser.add_argument("--recombine", choices=("on", "off"), default="on")
    parser.add_argument("--gain", action="store_true", help="also enhance half map 1 alone and compare it with half map 2")
    parser.add_argument("--relion", action="store_true", help="also score the pairs after relion_postprocess, with their masks")
    parser.add_argument("--ceilings", action="store_true", help="also score the enhanced map after a cut and the best filter")
    parser.add_argument("--keep", type=Path, help="folder in which the enhanced maps are kept")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each case: slices of input, output and truth")
    args = parser.parse_args()
    logging.getLogger("emhance").setLevel(logging.ERROR)
    scorer = load_scorer(args.shared)
    inclusion = f"inclusion of {' / '.join(KINDS)}"
    columns = ["case", *SCORES, inclusion, "reliability from"]
    columns += ["gain"] * args.gain + [f"relion_postprocess: {', '.join(CORRELATIONS)}"] * args.relion
    columns += [f"enhanced, {how}: {', '.join(CORRELATIONS)}" for how in ("cut", "best filter")] * args.ceilings
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)

        def written(density: emhance.DensityMap, stem: str) -> str:
            path = scratch / f"{stem}.mrc"
            emhance.write_map(path, density, overwrite=True)
            return str(path)

        for case in cases(args.shared, args.cases):
            options = {"network": args.network, "gpus": "none", "recombine": args.recombine == "on"}
            if len(case.maps) == 1:
                options["resolution"] = case.resolution
            result = emhance.enhance(*case.maps, **options)

            def scored(density: emhance.DensityMap, case: Case = case) -> dict[str, float]:
                path = written(density, "scored")
                return scorer.score_model(path, str(case.atomic_model), case.resolution, case.offset_xyz)

            before, after = scored(case.input), scored(result.map)
            alike = scored(with_amplitudes_of(result.map, case.input))["fsc_avg_mask"]
            cells = [*scores_of(before, after, alike), result.provenance.recombination.get("source", "off")]
            if args.gain:
                cells.append(_gain(scorer, case, options, written) if len(case.maps) == 2 else "-")
            if args.relion:
                cells.append(_relion(case, scored, written, scratch) if case.mask is not None else "-")
            filtered = [scored(how(scorer, case, result.map)) for how in (cut, best_filtered)] if args.ceilings else []
            ceilings = [[scores[key] for key in CORRELATIONS] for scores in filtered]
            cells += [_correlations(values) for values in ceilings]
            rows.append((case, before, after, alike, ceilings))
            print(f"| {case.name} | " + " | ".join(cells) + " |", flush=True)
            if args.pictures:
                args.pictures.mkdir(parents=True, exist_ok=True)
                output = args.pictures / f"{case.name.replace(':', '_')}.png"
                picture(scorer, case, result.map, written(case.input, "pictured"), output)
            if args.keep:
                args.keep.mkdir(parents=True, exist_ok=True)
                result.write(args.keep / f"{case.name.replace(':', '_')}.mrc", overwrite=True)
    for name, group in means_of(rows).items():
        before, after = ({key: float(np.mean([row[i][key] for row in group])) for key in SCORES} for i in (1, 2))
        cells = scores_of(before, after, float(np.mean([alike for *_, alike, _ in group])))[:-1]
        change = after["fsc_avg_mask"] - before["fsc_avg_mask"]
        kept = sum(after["fsc_avg_mask"] >= before["fsc_avg_mask"] - KEPT for _, before, after, *_ in group)
        cells += [f"fsc_avg_mask {change:+.4f}, kept in {kept} of {len(group)}"] + [""] * (args.gain + args.relion)
        cells += [_correlations(values) for values in np.mean([ceilings for *_, ceilings in group], axis=0)]
        print(f"| mean of {name} | " + " | ".join(cells) + " |")


def means_of(rows: list[Row]) -> dict[str, list[Row]]:
    """The pairs, the single maps, and the blurred ones among these."""
    groups = {
        "pairs": [row for row in rows if len(row[0].maps) == 2],
        "single maps": [row for row in rows if len(row[0].maps) == 1],
        "blurred maps": [row for row in rows if ":" in row[0].name],
    }
    return {name: group for name, group in groups.items() if group}


def scores_of(before: dict[str, float], after: dict[str, float], alike: float) -> list[str]:
    """Cells of the table: the scores, and the inclusion."""
    cells = [f"{before[score]:.3f} → {after[score]:.3f}" for score in SCORES]
    cells[-1] = f"{before['fsc_avg_mask']:.3f} ({alike:.3f}) → {after['fsc_avg_mask']:.3f}"
    keys = [f"inclusion_{kind}" for kind in KINDS]
    return [*cells, " / ".join(f"{before[key]:.3f} → {after[key]:.3f}" if key in after else "-" for key in keys)]


def with_amplitudes_of(reference: emhance.DensityMap, density: emhance.DensityMap) -> emhance.DensityMap:
    """The map scaled in every shell to the reference's power: what sharpening alone does to it."""
    shape = density.data.shape
    R, F = (scipy.fft.rfftn(m.data, workers=2) for m in (reference, density))
    apply_radial(F, shape, np.sqrt(shell_sums(R, shape) / np.maximum(shell_sums(F, shape), 1e-30)))
    return replace(density, data=inverse_transform(F, shape, workers=2))


def cut(scorer: ModuleType, case: Case, density: emhance.DensityMap) -> emhance.DensityMap:
    """The map without what lies beyond the stated resolution, as the reference of the correlations is cut."""
    shape = density.data.shape
    shell, width, _ = scorer.shells(shape, density.voxel_size)
    F = scipy.fft.rfftn(density.data, workers=2)
    F.ravel()[shell * width > 1 / case.resolution] = 0
    return replace(density, data=inverse_transform(F, shape, workers=2))


def best_filtered(scorer: ModuleType, case: Case, density: emhance.DensityMap) -> emhance.DensityMap:
    """The map after the radial filter that brings it closest to the reference: in every shell ``<F, R> / <F, F>``."""
    shape = density.data.shape
    atoms, _, _ = scorer.place(str(case.atomic_model), shape, density.voxel_size, np.array(case.offset_xyz))
    _, reference = scorer.model_density(atoms, shape, density.voxel_size, case.resolution)
    shell, _, _ = scorer.shells(shape, density.voxel_size)
    F, R = (scipy.fft.rfftn(values, workers=2) for values in (density.data, reference))
    planes = np.arange(F.shape[2])
    twice = np.where((planes > 0) & (2 * planes < shape[2]), 2.0, 1.0)  # half of all coefficients are stored
    shared, own = (np.bincount(shell, (twice * (F * other.conj()).real).ravel()) for other in (R, F))
    F *= (shared / np.maximum(own, 1e-30))[shell].reshape(F.shape).astype(np.float32)
    return replace(density, data=inverse_transform(F, shape, workers=2))


def _correlations(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def picture(scorer: ModuleType, case: Case, enhanced: emhance.DensityMap, path_of_input: str, output: Path) -> None:
    """Slices of input, output and truth through the middle of the atoms, across z."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    _, voxel, _ = scorer.read_map(path_of_input)
    atoms, positions, _ = scorer.place(str(case.atomic_model), enhanced.data.shape, voxel, np.array(case.offset_xyz))
    _, truth = scorer.model_density(atoms, enhanced.data.shape, voxel, case.resolution)
    low, high = (
        np.clip((positions.min(0)[::-1] / voxel - 8).astype(int), 0, None),
        (positions.max(0)[::-1] / voxel + 8).astype(int),
    )
    z = int(np.median(positions[:, 2]) / voxel)
    figure, axes = pyplot.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
    for axis, name, data in zip(
        axes, ("input", "enhanced", "atomic model"), (case.input.data, enhanced.data, truth), strict=True
    ):
        shown = data[z, low[1] : high[1], low[2] : high[2]]
        axis.imshow(shown, cmap="gray", origin="lower", vmin=np.percentile(shown, 2), vmax=np.percentile(shown, 99.7))
        axis.set(title=name, xticks=[], yticks=[])
    figure.suptitle(f"{case.name}, {case.resolution:g} Å, slice z = {z}")
    figure.savefig(output, dpi=80)
    pyplot.close(figure)


def _gain(scorer: ModuleType, case: Case, options: dict, written: Written) -> str:
    first, second = case.maps
    enhanced = emhance.enhance(first, **options)
    paths = [written(density, stem) for density, stem in ((enhanced.map, "enhanced"), (first, "half1"), (second, "half2"))]
    return f"{scorer.score_halves(*paths)['gain']:.2f}"


def _relion(case: Case, scored: Callable[[emhance.DensityMap], dict[str, float]], written: Written, scratch: Path) -> str:
    """Scores of RELION's own sharpening: automatic B-factor, FSC weighting, the mask that comes with the pair."""
    half1, half2, mask = (written(density, f"relion_{i}") for i, density in enumerate((*case.maps, emhance.read_map(case.mask))))
    command = ["relion_postprocess", "--i", half1, "--i2", half2, "--mask", mask, "--auto_bfac", "--o", str(scratch / "relion")]
    subprocess.run([*command, "--angpix", str(case.input.voxel_size)], check=True, capture_output=True)
    scores = scored(emhance.read_map(scratch / "relion_masked.mrc"))
    return _correlations(scores[score] for score in CORRELATIONS)


if __name__ == "__main__":
    main()
