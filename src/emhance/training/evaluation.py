"""How much better a network makes maps whose truth is known: a table of scores, before and after."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

import numpy as np

from emhance.config import EnhanceConfig
from emhance.errors import OptionError
from emhance.maps.atomic_write import atomic_output
from emhance.maps.fourier import fsc_mean
from emhance.maps.mrc import read_map
from emhance.maps.volume import DensityMap
from emhance.network.weights import Network
from emhance.pipeline import enhance
from emhance.training.fine_tuning import is_masked
from emhance.training.pairs import Pair, read_table
from emhance.training.simulated_folder import is_case, read_case
from emhance.validation.map_model import MapModelFit, ModelDensity, map_model_fit, model_density

TABLE = "table.csv"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A map, or two half maps, whose truth is known.

    Parameters
    ----------
    name
        For the table.
    maps
        One map, or half map 1 and 2.
    mask
        For networks whose input is normalised by a mask.
    atomic_model
        mmCIF or PDB file; None for a simulated case.
    truth
        True density of a simulated case, which lies beside its mask.
    resolution
        Å.
    """

    name: str
    maps: tuple[Path, ...]
    mask: Path | None
    atomic_model: Path | None
    truth: Path | None
    resolution: float


@dataclass(frozen=True)
class Scores:
    """How a map agrees with the truth.

    Parameters
    ----------
    cc_box, cc_mask
        Correlation with the truth cut at the stated resolution: everywhere, and near the atoms.
    fsc05
        Å at which the FSC with the truth, within a soft mask around the atoms, falls below 0.5.
    fsc_mean
        Mean of that FSC up to the stated resolution, shells weighted by their number of coefficients.
    """

    cc_box: float
    cc_mask: float
    fsc05: float
    fsc_mean: float


SCORES = tuple(f.name for f in fields(Scores))


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    name: str
    resolution: float
    before: Scores
    after: Scores


def find_cases(data: Path) -> list[Case]:
    """The cases in a folder: what `emhance simulate` left, there or in folders within, and the rows of a ``table.csv``.

    Parameters
    ----------
    data
        The folder, or a table itself; see `emhance.training.pairs.read_table`.

    Raises
    ------
    OptionError
        If there are none.
    """
    if data.is_file():
        return [_of_pair(pair) for pair in read_table(data)]
    if not data.is_dir():
        raise OptionError(f"--data {data} does not exist; give a folder of simulated cases, or a table.")
    folders = [folder for folder in (data, *sorted(data.iterdir())) if folder.is_dir() and is_case(folder)]
    cases = [_of_folder(folder) for folder in folders]
    if (data / TABLE).is_file():
        cases += [_of_pair(pair) for pair in read_table(data / TABLE)]
    if not cases:
        raise OptionError(f"--data {data} holds neither folders made by emhance simulate nor a {TABLE}; give another.")
    return cases


def _of_pair(pair: Pair) -> Case:
    return Case(
        name=pair.name, maps=pair.maps, mask=pair.mask, atomic_model=pair.atomic_model, truth=None, resolution=pair.resolution
    )


def _of_folder(folder: Path) -> Case:
    resolution = read_case(folder).resolution
    halves = (folder / "half1.mrc", folder / "half2.mrc")
    truth, mask = folder / "truth.mrc", folder / "mask.mrc"
    return Case(name=folder.name, maps=halves, mask=mask, atomic_model=None, truth=truth, resolution=resolution)


def evaluate(
    network: Network,
    weights: str,
    cases: list[Case],
    *,
    config: EnhanceConfig,
    progress: Callable[[str, int, int], None] | None = None,
) -> Iterator[Row]:
    """Enhance every case and compare input and output with the truth.

    Parameters
    ----------
    network, weights
        The network, and the name or path it was loaded from.
    cases
        From `find_cases`.
    config
        Options of the enhancement; network and resolution are filled in.
    progress
        Called as by `emhance.enhance`.

    Yields
    ------
    Row
        One for each case, as soon as it is known.
    """
    for case in cases:
        mask = None
        if is_masked(network.card.name):
            if case.mask is None:
                raise OptionError(f"{case.name}: the masked network needs a mask; name one in the table's column mask.")
            mask = case.mask
        maps = [read_map(path) for path in case.maps]
        one = case.resolution if len(maps) == 1 else None
        result = enhance(*maps, mask=mask, config=replace(config, network=weights, resolution=one), progress=progress)
        data = maps[0].data if len(maps) == 1 else np.float32(0.5) * (maps[0].data + maps[1].data)
        truth = _truth(case, maps[0])
        before, after = (
            _scores(map_model_fit(values, truth, voxel_size=maps[0].voxel_size, resolution=case.resolution), case.resolution)
            for values in (data, result.map.data)
        )
        yield Row(case.name, case.resolution, before, after)


def _truth(case: Case, density: DensityMap) -> ModelDensity:
    if case.atomic_model is not None:
        return model_density(case.atomic_model, density.geometry)
    if case.truth is None or case.mask is None:
        raise OptionError(f"{case.name} has neither an atomic model nor a true density; give one.")
    return ModelDensity(read_map(case.truth).data, read_map(case.mask, allow_constant=True).data > 0.5, 0)


def _scores(fit: MapModelFit, resolution: float) -> Scores:
    return Scores(fit.cc_box, fit.cc_mask, fit.resolution_masked, fsc_mean(fit.frequency, fit.fsc_masked, resolution))


def means(rows: list[Row]) -> Row:
    """The mean of every score."""
    before, after = (
        Scores(*np.mean([astuple(getattr(row, which)) for row in rows], axis=0).tolist()) for which in ("before", "after")
    )
    return Row("mean", math.fsum(row.resolution for row in rows) / len(rows), before, after)


def write_table(rows: list[Row], path: Path, *, overwrite: bool = False) -> None:
    """Write rows as CSV: name, resolution, and every score before and after.

    Raises
    ------
    OutputError
        If the file exists already (unless `overwrite`) or cannot be written.
    """
    with atomic_output(path, overwrite=overwrite) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "resolution", *(f"{score}_{when}" for score in SCORES for when in ("before", "after"))])
        for row in rows:
            pairs = zip(astuple(row.before), astuple(row.after), strict=True)
            writer.writerow([row.name, f"{row.resolution:.4g}", *(f"{value:.4f}" for pair in pairs for value in pair)])
