"""Atoms in the box: copies, moving domains, partial occupancy, errors of angles."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_simulation import draw, plain
from scipy.ndimage import affine_transform
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

from emhance.training.assembly import MOTION_COPIES, Assembly, assemble
from emhance.training.atoms import Atoms
from emhance.training.draws import Draw, rotation_about
from emhance.training.example_protein import example_protein
from emhance.training.grids import to_map
from emhance.training.imaging import angular_error_b
from emhance.training.simulation_config import SimulationConfig

ATOMS = example_protein(seed=1)


def assembled(config: SimulationConfig, seed: int = 1, atoms: Atoms = ATOMS) -> tuple[Assembly, Draw]:
    one = draw(seed)
    return assemble(atoms, config, one, 4.0), one


def logged_axis(one: Draw, name: str) -> torch.Tensor:
    axis = torch.tensor([float(one.log[f"{name}_{letter}"]) for letter in "zyx"])
    return axis / axis.norm()


def test_nothing_happens_to_a_plain_molecule() -> None:
    assembly, _ = assembled(plain(median_b=(2.0, 2.0)))
    for part in (assembly.data, assembly.target, assembly.truth):
        assert len(part.positions) == len(ATOMS)
        assert torch.equal(part.positions, assembly.truth.positions)
        assert torch.equal(part.b_factors, assembly.truth.b_factors)
    assert float(assembly.truth.b_factors.median()) == pytest.approx(2 * 4.0**2)
    assert torch.allclose(assembly.truth.positions.mean(0), torch.full((3,), 32.0), atol=0.1)
    ours, given = assembly.truth.positions.numpy(), ATOMS.positions
    assert np.allclose(pdist(ours[::20]), pdist(given[::20]), atol=1e-3), "turned, not deformed"


def test_disorder_is_smooth_and_reaches_its_largest() -> None:
    assembly, _ = assembled(plain(flexibility=(1.0, 1.0), target_flexibility=0.25))
    added = assembly.data.b_factors - assembly.truth.b_factors
    assert float(added.min()) == pytest.approx(0.0, abs=1e-3)
    assert float(added.max()) == pytest.approx(12 * 4.0**2, rel=0.01)
    assert torch.allclose(assembly.target.b_factors - assembly.truth.b_factors, 0.25 * added, atol=1e-3)
    places = assembly.truth.positions
    near = torch.cdist(places, places).fill_diagonal_(99).min(1).indices
    assert float((added - added[near]).abs().mean()) < 0.1 * float(added.std())


def test_errors_of_angles_blur_what_is_far_from_the_centre() -> None:
    assembly, _ = assembled(plain(angular_error=(2.0, 2.0)))
    added = assembly.data.b_factors - assembly.truth.b_factors
    radius = (assembly.truth.positions - 32.0).norm(dim=1)
    assert torch.allclose(added, angular_error_b(radius, 2.0), rtol=0.05, atol=0.5)
    kept = [to_map(part.transform(n=64, voxel_size=1.0)) for part in (assembly.data, assembly.truth)]
    ratio = []
    for places in (radius < 8, radius > 20):
        z, y, x = torch.round(assembly.truth.positions[places]).long().unbind(1)
        ratio.append(float(kept[0][z, y, x].mean() / kept[1][z, y, x].mean()))
    assert ratio[0] > 0.9
    assert ratio[1] < 0.8 * ratio[0], "amplitude falls with the radius"


def test_a_domain_moves_and_the_rest_does_not() -> None:
    config = plain(moving_domain_share=1.0, motion_part=(0.3, 0.3), motion=(0.5, 0.5), target_flexibility=0.25)
    assembly, _ = assembled(config)
    truth, data, target = assembly.truth, assembly.data, assembly.target
    moving = round(0.3 * len(ATOMS))
    assert len(data.positions) == pytest.approx(len(ATOMS) + (MOTION_COPIES - 1) * moving, abs=2 * MOTION_COPIES)
    assert float(data.occupancies.sum()) == pytest.approx(float(truth.occupancies.sum()), rel=1e-4)
    still = data.occupancies > 0.5
    distance = cKDTree(truth.positions.numpy()).query(data.positions[still].numpy())[0]
    assert distance.max() < 1e-3
    # Copies stand one after the other: the same atom in all of them.
    reach = []
    for part in (data, target):
        copies = part.positions[part.occupancies < 0.5].reshape(MOTION_COPIES, -1, 3)
        moved = (copies[-1] - copies[0]).norm(dim=1)
        reach.append(float(moved.max()))
        assert float(moved.min()) < 0.4 * float(moved.max()), "about a hinge"
        assert np.allclose(*(pdist(copies[k][::20].numpy()) for k in (0, -1)), atol=1e-3), "as a whole"
    assert 0.5 * 4.0 < reach[0] <= 2.05 * 0.5 * 4.0
    assert reach[1] == pytest.approx(0.5 * reach[0], rel=0.05), "a quarter of the mean square stays in the target"


def test_a_part_is_partly_occupied() -> None:
    config = plain(partial_share=1.0, partial_radius=(10.0, 10.0), partial_occupancy=(0.36, 0.36))
    assembly, _ = assembled(config)
    low = assembly.data.occupancies < 0.5
    assert 20 < int(low.sum()) < 0.7 * len(ATOMS)
    places = assembly.truth.positions[low]
    assert float((places - places.mean(0)).norm(dim=1).max()) < 20, "the atoms lie together"
    assert torch.allclose(assembly.data.occupancies[low], torch.tensor(0.36), atol=1e-3)
    assert torch.allclose(assembly.target.occupancies[low], torch.tensor(0.6), atol=1e-3), "the root of it"
    assert torch.equal(assembly.truth.occupancies, torch.ones(len(ATOMS)))
    ligand = np.zeros(len(ATOMS), np.uint8)
    ligand[:10] = 2
    config = replace(config, partial_radius=(1.0, 1.0))
    found = [assembled(config, seed, replace(ATOMS, kinds=ligand)) for seed in range(4)]
    around = [bool((a.data.occupancies[:10] < 0.5).any()) for a, one in found if one.log["partial_around_ligand"]]
    assert around
    assert all(around)


def turned(values: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    middle = np.full(3, len(values) / 2)
    return affine_transform(values, rotation, offset=middle - rotation @ middle, order=1)


@pytest.mark.parametrize("order", [2, 3])
def test_a_symmetric_map_is_its_own_turned_self(order: int) -> None:
    config = plain(box=72, voxel_size=2.0, symmetry_share=1.0, symmetry_order=(order, order), flexibility=(0.5, 0.5))
    assembly, one = assembled(config)
    assert len(assembly.truth.positions) == order * len(ATOMS)
    values = to_map(assembly.data.transform(n=72, voxel_size=2.0)).numpy()
    axis = logged_axis(one, "symmetry_axis")
    same, other = (
        np.corrcoef(values.ravel(), turned(values, rotation_about(axis, 2 * math.pi * share / order).numpy()).ravel())[0, 1]
        for share in (1.0, 0.4)
    )
    assert same > 0.93
    assert other < 0.75


@pytest.mark.parametrize("share", ["symmetry_share", "neighbour_share"])
@pytest.mark.parametrize("seed", range(4))
def test_copies_stand_close_without_clashing(share: str, seed: int) -> None:
    config = plain(box=160, voxel_size=2.0, copy_gap=(1.0, 1.0), **{share: 1.0})
    assembly, _ = assembled(config, seed)
    for part in (assembly.data, assembly.target, assembly.truth):
        assert len(part.positions) > 1.5 * len(ATOMS), "in the data, the target and the truth"
    places = assembly.truth.positions.numpy()
    first, others = places[: len(ATOMS)], places[len(ATOMS) :]
    distance = cKDTree(others).query(first)[0]
    assert (distance < 2.0).mean() < 0.02
    assert distance.min() < 10.0


def test_a_crystals_neighbours_are_moved_and_a_filaments_turned() -> None:
    kinds = set()
    for seed in range(6):
        assembly, one = assembled(plain(box=160, voxel_size=2.0, neighbour_share=1.0), seed)
        filament = bool(one.log["filament"])
        places = assembly.truth.positions[: 3 * len(ATOMS)].reshape(3, -1, 3)
        step = places[1] - places[0]
        if filament:
            along = step @ logged_axis(one, "filament_axis")
            assert float(along.std()) < 1e-2, "the same rise for every atom"
            turn = math.radians(float(one.log["neighbour_twist"]))
            centred = [p - p.mean(0) for p in places[:2]]
            rotation = rotation_about(logged_axis(one, "filament_axis"), turn)
            assert torch.allclose(centred[0] @ rotation.T, centred[1], atol=1e-2)
        else:
            assert float(step.std(0).max()) < 1e-2
            assert int((step[0].abs() > 1).sum()) == 1, "along one of the box's axes"
        assert torch.allclose(places[2].mean(0) - places[0].mean(0), -(places[1].mean(0) - places[0].mean(0)), atol=1e-2)
        kinds.add(filament)
    assert kinds == {True, False}
