"""Maps with atomic models of a user's own: read from a table, checked, and brought to what a network sees and should make."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.utils.data import Dataset

from emhance.config import Normalization
from emhance.errors import AtomicModelError, GeometryError, OptionError
from emhance.maps.fourier import fsc_curve, shell_frequencies
from emhance.maps.masks import check_binary_mask
from emhance.maps.mrc import read_map
from emhance.maps.resampling import ResamplingPlan, plan_resampling
from emhance.maps.volume import DensityMap, FloatArray, Geometry, require_same_geometry
from emhance.steps.normalization import BoolArray, normalize
from emhance.steps.reliability import typical
from emhance.steps.restoration import restore
from emhance.training.atoms import KINDS, read_atoms
from emhance.training.dataset import CropConfig, Crops, at_shells_of_crop, mixed_seed
from emhance.training.grids import frequencies_squared, to_map
from emhance.training.scattering import density_transform
from emhance.training.simulation import SOLVENT_FREE_DENSITY
from emhance.validation.map_model import first_voxel

COLUMNS = ("name", "map", "half1", "half2", "mask", "atomic_model", "resolution", "set")

LARGEST_MEDIAN_B = 40.0
"""Å². A target shows its atoms as a sharpened map would: where the median of their B-factors is larger, all are lowered."""

LEAST_CORRELATION = 0.1
"""Below this a map and its atomic model do not lie in one frame, or do not belong together."""

NEAR_ATOMS = 0.1
"""Where the target is larger than this there are atoms; well-ordered density is about 1."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A row of the table: a map or two half maps, and the atomic model.

    Parameters
    ----------
    name
        For messages.
    maps
        One map, or half map 1 and 2.
    mask
        For networks whose input is normalised by a mask.
    atomic_model
        mmCIF or PDB file.
    resolution
        Å.
    validation
        Whether it is kept for validation.
    """

    name: str
    maps: tuple[Path, ...]
    mask: Path | None
    atomic_model: Path
    resolution: float
    validation: bool = False


def read_table(path: Path) -> list[Pair]:
    """Read a CSV table of pairs; paths in it are relative to its own folder.

    Columns: ``map``, or ``half1`` and ``half2``; ``atomic_model``; ``resolution`` (Å); if wanted ``name``, ``mask``, and ``set``
    (train or validation).

    Raises
    ------
    OptionError
        For a table that cannot be read, unknown columns, or a row that lacks something.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = list(reader)
            columns = [name or "" for name in reader.fieldnames or ()]
    except OSError as error:
        raise OptionError(f"The table {path} cannot be read ({error.strerror}); check the path.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise OptionError(f"The table {path} is no CSV file ({error}); give a text file with a line of column names.") from error
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise OptionError(f"{path.name}: unknown column {unknown[0]!r}; there are {', '.join(COLUMNS)}.")
    if not rows:
        raise OptionError(f"{path.name} holds no rows; give one for every map, under a line with some of {', '.join(COLUMNS)}.")
    return [_pair(row, number, path) for number, row in enumerate(rows, 2)]


def _pair(row: dict[str, str | None], line: int, table: Path) -> Pair:
    where = f"{table.name}, line {line}"
    if None in row:
        raise OptionError(f"{where} has more values than there are columns; write a path with a comma in quotation marks.")
    values = {key: (value or "").strip() for key, value in row.items()}

    def file(column: str) -> Path | None:
        if not values.get(column):
            return None
        path = table.parent / Path(values[column]).expanduser()
        if not path.is_file():
            raise OptionError(f"{where}: {column} {values[column]} does not exist; paths are relative to the table's folder.")
        return path

    one, half1, half2 = file("map"), file("half1"), file("half2")
    if (one is None) == (half1 is None) or (half1 is None) != (half2 is None):
        raise OptionError(f"{where} must name either a map, or half1 and half2.")
    model = file("atomic_model")
    if model is None:
        raise OptionError(f"{where} names no atomic_model; give an mmCIF or PDB file.")
    try:
        resolution = float(values.get("resolution", ""))
    except ValueError:
        resolution = math.nan
    if not 0.5 <= resolution <= 30:
        raise OptionError(f"{where}: resolution must be a number of Å between 0.5 and 30, not {values.get('resolution', '')!r}.")
    kind = values.get("set") or "train"
    if kind not in ("train", "validation"):
        raise OptionError(f"{where}: set must be train or validation, not {kind!r}.")
    maps = tuple(path for path in (one, half1, half2) if path is not None)
    return Pair(
        name=values.get("name") or maps[0].name,
        maps=maps,
        mask=file("mask"),
        atomic_model=model,
        resolution=resolution,
        validation=kind == "validation",
    )


@dataclass(frozen=True, eq=False)
class PreparedPair:
    """A pair at the network's voxel size.

    Parameters
    ----------
    inputs
        What the network sees: the map, or the mean of the half maps, and after it every half map alone; normalised.
    reliability
        F of each of them, per shell of a cube with the map's longest edge, zero frequency to Nyquist.
    target
        Density of the atomic model, at the map's resolution; well-ordered density is about 1.
    atoms
        Voxels with density of an atom, shape ``(n, 3)``.
    others
        Voxels of the atoms that are neither protein nor nucleic acid, shape ``(m, 3)``.
    """

    inputs: list[Tensor]
    reliability: list[Tensor]
    target: Tensor
    atoms: Tensor
    others: Tensor


def prepare_pair(pair: Pair, *, voxel_size: float, masked: bool) -> PreparedPair:
    """Read a pair, normalise it as `emhance.enhance` does, bring it to the network's voxel size, and make its target.

    Parameters
    ----------
    pair
        From `read_table`.
    voxel_size
        Of the network, Å.
    masked
        Whether the network wants its input normalised by the pair's mask.

    Raises
    ------
    UserError
        One of its kinds, for maps or models that cannot be used.
    """
    maps = [read_map(path) for path in pair.maps]
    if len(maps) == 2:
        require_same_geometry(*maps, what="half maps")
        if np.array_equal(maps[0].data, maps[1].data):
            raise GeometryError(f"{pair.name}: the half maps are identical; give two independent ones, or one map alone.")
    geometry = maps[0].geometry
    if pair.resolution < 2 * geometry.voxel_size:
        raise OptionError(
            f"{pair.name}: a resolution of {pair.resolution:g} Å is finer than the map can hold; twice its voxel size is "
            f"{2 * geometry.voxel_size:.3g} Å."
        )
    inside = _inside(pair, maps[0]) if masked else None
    plan = plan_resampling(geometry.shape, geometry.voxel_size, voxel_size)
    inputs = [_resampled(_shown(values, inside, geometry, pair.resolution), plan) for values in _seen(maps)]
    target, others = _target(pair, geometry, plan)
    atoms = target > NEAR_ATOMS
    if int(atoms.sum()) < 100:
        raise AtomicModelError(
            f"{pair.name}: hardly any atom of {pair.atomic_model.name} lies in the box; check that both share one frame."
        )
    correlation = float(np.corrcoef(inputs[0].ravel(), target.ravel())[0, 1])
    if not correlation > LEAST_CORRELATION:
        raise AtomicModelError(
            f"{pair.name}: {pair.atomic_model.name} does not fit the map (correlation {correlation:.2f}); check that both share "
            "one frame, and the map's hand."
        )
    return PreparedPair(
        [torch.from_numpy(values) for values in inputs],
        _reliabilities([_resampled(m.data, plan) for m in maps], atoms, pair.resolution, plan.voxel_size),
        torch.from_numpy(target),
        torch.from_numpy(np.argwhere(atoms)),
        torch.from_numpy(others),
    )


def _inside(pair: Pair, density: DensityMap) -> BoolArray:
    if pair.mask is None:
        raise OptionError(f"{pair.name}: the masked network needs a mask; name one in the table's column mask.")
    return check_binary_mask(read_map(pair.mask, need_voxel_size=False, allow_constant=True), density)


def _seen(maps: list[DensityMap]) -> list[tuple[FloatArray, FloatArray | None]]:
    """A map; or the mean of the half maps with half their difference, and every half map alone."""
    values = [m.data for m in maps]
    if len(values) == 1:
        return [(values[0], None)]
    first, second = values
    half = np.float32(0.5)
    return [(half * (first + second), half * (first - second)), (first, None), (second, None)]


def _shown(
    values: tuple[FloatArray, FloatArray | None], inside: BoolArray | None, geometry: Geometry, resolution: float
) -> FloatArray:
    """What the network sees of a map, as in `emhance.enhance`."""
    data, half_difference = values
    mode: Normalization = "auto" if inside is None else "mask"
    normalized = normalize(data, mode=mode, mask=inside, voxel_size=geometry.voxel_size)
    if half_difference is not None:
        normalized.scale_difference(half_difference)
    return restore(
        normalized.data,
        voxel_size=geometry.voxel_size,
        half_difference=half_difference,
        noise=not normalized.from_density,
        resolution=resolution,
    ).data


def _resampled(data: FloatArray, plan: ResamplingPlan) -> FloatArray:
    """At the network's voxel size; of a small box that is repeated for that, one copy."""
    once = tuple(slice(0, n // r) for n, r in zip(plan.new_shape, plan.repeats, strict=True))
    return np.ascontiguousarray(plan.forward(data)[once])


def _target(pair: Pair, geometry: Geometry, plan: ResamplingPlan) -> tuple[FloatArray, NDArray[np.int64]]:
    """What `emhance.training.simulation` calls the tight target, on the network's grid, and its voxels of "other" atoms."""
    atoms = read_atoms(pair.atomic_model)
    corner = np.array(first_voxel(geometry), dtype=np.float32)
    edges = np.array(geometry.shape) * geometry.voxel_size
    nz, ny, nx = (n // r for n, r in zip(plan.new_shape, plan.repeats, strict=True))
    voxel = plan.voxel_size
    positions = (atoms.positions - corner) * (np.array([nz, ny, nx]) * voxel / edges)  # the axes' voxels differ by up to 1 %
    keep = ((positions > 0) & (positions < np.array([nz, ny, nx]) * voxel - voxel)).all(1)
    if keep.sum() < 10:
        raise AtomicModelError(
            f"{pair.name}: only {int(keep.sum())} atoms of {pair.atomic_model.name} lie in the map's box; check that both "
            "share one frame."
        )
    b_factors = atoms.b_factors[keep]
    b_factors = b_factors - max(0.0, float(np.median(b_factors)) - LARGEST_MEDIAN_B)
    n = 2 * math.ceil(max(nz, ny, nx) / 2)
    transform = density_transform(
        torch.from_numpy(positions[keep].astype(np.float32)),
        torch.from_numpy(atoms.elements[keep]).long(),
        torch.from_numpy(b_factors.astype(np.float32)),
        torch.from_numpy(atoms.occupancies[keep]),
        n=n,
        voxel_size=voxel,
    )
    s2 = frequencies_squared(n, voxel, transform.device)
    transform *= torch.rsqrt(1 + (s2 * (0.9 * pair.resolution) ** 2) ** 4)
    values = to_map(transform)[:nz, :ny, :nx].clamp(min=0) / SOLVENT_FREE_DENSITY
    others = np.rint(positions[keep & (atoms.kinds == KINDS.index("other"))] / voxel).astype(np.int64)
    return np.ascontiguousarray(values.numpy()), others


def _reliabilities(maps: list[FloatArray], atoms: BoolArray, resolution: float, voxel_size: float) -> list[Tensor]:
    """F of every input: from the half maps' FSC near the atoms, or what is typical of the resolution for a map alone."""
    if len(maps) == 1:
        return [torch.from_numpy(typical(shell_frequencies(atoms.shape, voxel_size), resolution)).float()]
    near = np.minimum(2 * gaussian_filter(atoms.astype(np.float32), 3.0 / voxel_size), 1)
    _, fsc = fsc_curve(maps[0] * near, maps[1] * near, voxel_size)
    alone = torch.from_numpy(np.clip(fsc, 0, 1)).float()
    return [2 * alone / (1 + alone), alone, alone]


class PairCrops(Dataset[Crops]):
    """Item `i` are crops of one pair, near its atoms, turned by a random multiple of 90° about each axis.

    Parameters
    ----------
    pairs
        To draw from, each with the same chance.
    crops
        How crops are cut; of half maps, `single_half` is the share of crops from half map 1 or 2 alone.
    seed
        Together with the item's number it decides everything.
    simulated
        Crops of simulated maps to mix in.
    simulated_share
        Share of items that are simulated.
    """

    def __init__(
        self,
        pairs: list[PreparedPair],
        crops: CropConfig,
        *,
        seed: int,
        simulated: Dataset[Crops] | None = None,
        simulated_share: float = 0.5,
    ) -> None:
        self._pairs, self._crops, self._seed = pairs, crops, seed
        self._simulated, self._share = simulated, simulated_share

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, index: int) -> Crops:
        rng = np.random.default_rng(mixed_seed(self._seed, index))
        if self._simulated is not None and rng.random() < self._share:
            return self._simulated[index]
        pair = self._pairs[rng.integers(len(self._pairs))]
        which = int(rng.integers(1, len(pair.inputs))) if len(pair.inputs) > 1 and rng.random() < self._crops.single_half else 0
        data, F = pair.inputs[which], pair.reliability[which]
        edge, jitter = self._crops.edge, self._crops.jitter
        inputs, targets = [], []
        for _ in range(self._crops.per_map):
            if rng.random() < self._crops.anywhere:
                corner = [int(rng.integers(0, n - edge + 1)) for n in data.shape]
            else:
                centres = pair.others if rng.random() < self._crops.around_others and len(pair.others) else pair.atoms
                centre = centres[rng.integers(len(centres))].tolist()
                wanted = [c + int(rng.integers(-jitter, jitter + 1)) - edge // 2 for c in centre]
                corner = [min(max(c, 0), n - edge) for c, n in zip(wanted, data.shape, strict=True)]
            cut = tuple(slice(c, c + edge) for c in corner)
            turn = _turn(rng)
            inputs.append(_turned(data[cut], turn))
            targets.append(_turned(pair.target[cut], turn))
        reliability = at_shells_of_crop(F, 2 * (len(F) - 1), edge).expand(self._crops.per_map, -1)
        return Crops(torch.stack(inputs)[:, None], torch.stack(targets)[:, None], reliability)


Turn = tuple[tuple[int, ...], tuple[int, ...]]
"""A permutation of the axes, and the axes that are flipped after it."""


def _turn(rng: np.random.Generator) -> Turn:
    """One of the 24 rotations that keep a cube: never a reflection, which would change the hand."""
    axes = tuple(int(a) for a in rng.permutation(3))
    flips = [bool(f) for f in rng.integers(0, 2, 2)]
    odd = sum(axes[i] > axes[j] for i in range(3) for j in range(i + 1, 3)) % 2
    flips.append(bool((odd + sum(flips)) % 2))
    return axes, tuple(axis for axis, flip in enumerate(flips) if flip)


def _turned(values: Tensor, turn: Turn) -> Tensor:
    axes, flips = turn
    turned: Tensor = values.permute(axes).flip(flips)
    return turned.contiguous()
