"""The simulator: FSC and noise as asked for, targets of what is there, every choice in the log, the same for the same seed."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from plain_simulation import plain

from emhance.errors import AtomicModelError
from emhance.maps.fourier import fsc_curve, resolution_at
from emhance.maps.masks import soft_mask
from emhance.training.atoms import KINDS, Atoms
from emhance.training.dataset import CropConfig, SimulatedCrops
from emhance.training.example_protein import example_protein
from emhance.training.half_maps import fsc_mask
from emhance.training.simulation import NOISE_STD, SimulatedMaps, SimulationConfig, raw_pair, simulate

ATOMS = example_protein(seed=1)


def simulated(config: SimulationConfig, atoms: Atoms = ATOMS, *, seed: int = 1) -> SimulatedMaps:
    return simulate(atoms, config, torch.Generator().manual_seed(seed))


def crossing(maps: SimulatedMaps, voxel_size: float) -> float:
    """Resolution of the half maps behind a mask with a cosine edge of 6 Å outside the molecule."""
    mask = soft_mask(maps.molecule.numpy() > 0.5, width_voxels=6.0 / voxel_size)
    frequency, fsc = fsc_curve(maps.half1.numpy() * mask, maps.half2.numpy() * mask, voxel_size)
    return resolution_at(frequency, fsc, 0.143)


@pytest.mark.parametrize(("resolution", "voxel_size"), [(3.0, 1.0), (4.0, 1.0), (6.0, 1.0), (6.0, 1.4)])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_half_maps_fsc_crosses_at_the_resolution(resolution: float, voxel_size: float, seed: int) -> None:
    maps = raw_pair(ATOMS, resolution=resolution, box=80, seed=seed, voxel_size=voxel_size)
    assert crossing(maps, voxel_size) == pytest.approx(resolution, rel=0.05)
    mask = fsc_mask(maps.molecule, voxel_size).numpy()
    own = resolution_at(*fsc_curve(maps.half1.numpy() * mask, maps.half2.numpy() * mask, voxel_size), 0.143)
    assert own == pytest.approx(resolution, rel=0.04)
    assert maps.resolution == pytest.approx(resolution)
    fsc = (maps.reliability / (2 - maps.reliability)).double().numpy()
    frequency = np.arange(len(fsc)) / (80 * voxel_size)
    assert resolution_at(frequency, fsc, 0.143) == pytest.approx(resolution, rel=0.08)


@pytest.mark.parametrize(
    "effect",
    [
        {"missing_cone_share": 1.0, "missing_cone_angle": (40.0, 40.0)},
        {"noise_variation": (0.4, 0.4), "noise_centre_gain": (0.6, 0.6), "noise_slope": (1.5, 1.5)},
        {"angular_error": (1.5, 1.5), "flexibility": (0.5, 0.5)},
        {"micelle_share": 1.0, "low_frequency_loss": (0.9, 0.9)},
    ],
)
def test_the_resolution_holds_whatever_happens_to_the_map(effect: dict) -> None:
    assert crossing(simulated(plain(box=80, **effect)), 1.0) == pytest.approx(4.0, rel=0.05)


def test_the_noise_is_normalised() -> None:
    maps = raw_pair(ATOMS, resolution=4.0, box=96, seed=3)
    mean = 0.5 * (maps.half1 + maps.half2)
    solvent = torch.ones_like(mean, dtype=torch.bool)
    solvent[20:-20, 20:-20, 20:-20] = False
    assert float(mean[solvent].std()) == pytest.approx(NOISE_STD, rel=0.3)
    assert abs(float(mean[solvent].mean())) < 0.3 * NOISE_STD
    difference = 0.5 * (maps.half1 - maps.half2)
    assert float(difference[solvent].std()) == pytest.approx(float(mean[solvent].std()), rel=0.1), "the noise is independent"


def test_the_half_maps_share_the_molecule() -> None:
    maps = simulated(plain(resolution=(3.0, 3.0), median_b=(5.5, 5.5)))
    inside = maps.molecule > 0.5
    halves = [half[inside] for half in (maps.half1, maps.half2)]
    assert float(torch.corrcoef(torch.stack(halves))[0, 1]) > 0.9
    halves = [half[~inside] for half in (maps.half1, maps.half2)]
    assert float(torch.corrcoef(torch.stack(halves))[0, 1]) < 0.5


def test_an_empty_map_holds_the_noise_alone() -> None:
    config = plain(normalised=False)
    whole, empty = simulated(config), simulated(replace(config, empty_share=1.0))
    assert not empty.target.any()
    assert not empty.wide_target.any()
    assert not empty.truth.any()
    assert not empty.reliability.any()
    inside = empty.molecule > 0.5
    first, second = ((half - half.mean())[inside] for half in (empty.half1, empty.half2))
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.1
    difference = [maps.half1 - maps.half2 for maps in (whole, empty)]
    assert float(torch.corrcoef(torch.stack([d.flatten() for d in difference]))[0, 1]) == pytest.approx(1.0, abs=1e-3)


def test_an_empty_map_is_never_masked() -> None:
    maps = simulated(plain(empty_share=1.0, masked_share=1.0))
    for half in (maps.half1, maps.half2):
        assert float((half == 0).float().mean()) < 1e-3


def test_the_atoms_of_ligands_are_known() -> None:
    kinds = np.zeros_like(ATOMS.kinds)
    kinds[:3] = KINDS.index("other")
    maps = simulated(plain(), replace(ATOMS, kinds=kinds))
    assert maps.others.shape == (3, 3)
    z, y, x = maps.others.unbind(1)
    assert float(maps.truth[z, y, x].min()) > 0.3
    assert simulated(plain(), replace(ATOMS, kinds=0 * kinds)).others.shape == (0, 3)


def test_targets_are_empty_outside_and_high_inside() -> None:
    maps = raw_pair(ATOMS, resolution=4.0, box=64, seed=3)
    outside = maps.molecule < 0.5
    for target in (maps.target, maps.wide_target):
        assert float(target.min()) >= 0
        assert 0.2 < float(torch.quantile(target.flatten()[::7], 0.999)) < 3
        assert float(target[outside].mean()) < 0.05 * float(target[~outside].mean())
    sharp, wide = (float(t[~outside].std() / t[~outside].mean()) for t in (maps.target, maps.wide_target))
    assert wide < sharp


@pytest.mark.parametrize("kind", ["micelle_share", "nanodisc_share", "lipids_share", "extra_density_share"])
def test_unmodelled_density_is_in_the_data_and_the_wide_target_alone(kind: str) -> None:
    config = plain(box=80, extra_level=(0.6, 0.6), extra_core=(0.5, 0.5))
    without, maps = simulated(config), simulated(replace(config, **{kind: 1.0}))
    extra = (maps.wide_target - without.wide_target) * (maps.molecule < 0.5)
    there = extra > 0.5 * extra.max()
    assert float(extra.max()) > 0.03
    assert int(there.sum()) > 200
    for half in (maps.half1, maps.half2):
        assert float(half[there].mean()) > float(half[maps.wide_target < 1e-3].mean()) + 0.5 * NOISE_STD
    assert torch.allclose(maps.target, without.target, atol=1e-5)


def test_copies_are_in_every_target() -> None:
    config = plain(box=96, voxel_size=1.5)
    for share in ("symmetry_share", "neighbour_share"):
        maps = simulated(replace(config, **{share: 1.0}))
        alone = simulated(config)
        for name in ("target", "wide_target", "truth"):
            assert float(getattr(maps, name).sum()) > 1.2 * float(getattr(alone, name).sum()), (share, name)


def same(a: SimulatedMaps, b: SimulatedMaps) -> bool:
    names = ("half1", "half2", "target", "wide_target", "molecule", "truth", "reliability")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


def test_the_seed_decides_everything() -> None:
    config = everything(True)
    first, again, other = (simulated(config, seed=seed) for seed in (5, 5, 6))
    assert same(first, again)
    assert first.log == again.log
    assert not same(first, other)
    assert first.log["median_b"] != other.log["median_b"]


def everything(on: bool) -> SimulationConfig:
    """The default ranges, with every effect always there, or none."""
    shares = {field.name: float(on) for field in fields(SimulationConfig) if field.name.endswith("_share")}
    return SimulationConfig(box=48, **shares)  # type: ignore[arg-type]


def test_every_parameter_is_in_the_log_within_its_range() -> None:
    """Some effects exclude one another, so that what is logged is gathered from several maps."""
    log: dict[str, float | str | bool] = {}
    exclusive = [{}, {"symmetry_share": 0.0}, {"micelle_share": 0.0}, {"micelle_share": 0.0, "nanodisc_share": 0.0}]
    exclusive += [{"empty_share": 0.0}, {"masked_share": 0.0}, {"masked_share": 0.0, "normalised": False}]
    for number, changes in enumerate(exclusive * 3):
        maps = simulated(replace(everything(True), **changes), seed=number)
        for name, value in maps.log.items():
            log[name] = value if not isinstance(value, bool) else log.get(name, False) or value
    for field in fields(SimulationConfig):
        value = getattr(SimulationConfig(), field.name)
        if field.name.endswith("_share"):
            assert log[field.name.removesuffix("_share")] is True, field.name
        elif isinstance(value, tuple) and field.name != "ripple_period":
            low, high = value
            assert low - 1e-4 <= float(log[field.name]) <= high + 1e-4, field.name
    for k in (1, 2, 3):
        assert {f"ripple_{k}", f"ripple_period_{k}", f"ripple_phase_{k}"} <= set(log)
    assert {"rotation_w", "centre_atom", "shift_z", "noise_strength", "filament_axis_z", "missing_cone_x"} <= set(log)


def test_without_chance_nothing_is_done() -> None:
    log = simulated(everything(False)).log
    assert not [name for name, value in log.items() if value is True]


@pytest.mark.parametrize(
    "config",
    [
        SimulationConfig(box=48, masked_share=1.0),
        SimulationConfig(box=48, sharpened_share=1.0, masked_share=0.0),
        SimulationConfig(box=48, outside_sphere_share=1.0, masked_share=0.0, low_pass_share=1.0),
        SimulationConfig(box=48, extra_density_share=1.0, interpolated_share=1.0, voxel_size=1.3),
        SimulationConfig(box=48, moving_domain_share=1.0, symmetry_share=1.0, missing_cone_share=1.0),
        everything(True),
    ],
)
def test_every_kind_of_map_is_finite_and_in_range(config: SimulationConfig) -> None:
    for seed in range(2):
        maps = simulated(replace(config, empty_share=0.0), seed=seed)
        for values in (maps.half1, maps.half2, maps.target, maps.wide_target, maps.truth):
            assert torch.isfinite(values).all()
            assert 0.05 < float(values.abs().max()) < 200


def test_too_few_atoms_are_said() -> None:
    few = Atoms(*(getattr(ATOMS, name)[:50] for name in ("positions", "elements", "b_factors", "occupancies", "kinds")))
    with pytest.raises(AtomicModelError, match="Only 50 atoms"):
        raw_pair(few, resolution=4.0, box=64, seed=1)
    with pytest.raises(AtomicModelError, match="Twenty random places"):
        SimulatedCrops([few], SimulationConfig(box=48), CropConfig(edge=16), seed=1)[0]


def test_a_crop_is_decided_by_its_number() -> None:
    def crops(seed: int) -> SimulatedCrops:
        return SimulatedCrops([ATOMS], SimulationConfig(box=48), CropConfig(edge=24, per_map=3), seed=seed)

    inputs, targets, _ = crops(1)[7]
    assert inputs.shape == targets.shape == (3, 1, 24, 24, 24)
    crops(1)[3]  # what was drawn before does not matter
    again = crops(1)[7]
    assert torch.equal(inputs, again[0])
    assert torch.equal(targets, again[1])
    assert not torch.equal(inputs, crops(1)[8][0])
    assert not torch.equal(inputs, crops(2)[7][0])


def test_the_wide_target_is_another() -> None:
    pair = [
        SimulatedCrops([ATOMS], SimulationConfig(box=48), CropConfig(edge=24, target=target), seed=1)[0]
        for target in ("tight", "wide")
    ]
    assert torch.equal(pair[0][0], pair[1][0])
    assert not torch.equal(pair[0][1], pair[1][1])
