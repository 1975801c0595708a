"""Crops carry the reliability of their data, and travel as arrays."""

from dataclasses import replace

import numpy as np
import torch

from emhance.training.atoms import KINDS
from emhance.training.dataset import (
    CropConfig,
    SimulatedCrops,
    at_shells_of_crop,
)
from emhance.training.example_protein import example_protein
from emhance.training.simulation import SimulationConfig, one_molecule


def crops(**options: float) -> SimulatedCrops:
    config = replace(CropConfig(edge=24, per_map=2), **options)
    return SimulatedCrops([example_protein(seed=1)], SimulationConfig(box=48, resolution=(4.0, 4.0)), config, seed=1)


def test_an_item_has_inputs_targets_and_reliability() -> None:
    item = crops()[5]
    assert item.inputs.shape == item.targets.shape == (2, 1, 24, 24, 24)
    assert item.reliability.shape == (2, 13)
    assert ((item.reliability >= 0) & (item.reliability <= 1)).all()


def test_crops_can_be_taken_around_ligands() -> None:
    protein = example_protein(seed=1)
    kinds, occupancies = np.zeros_like(protein.kinds), np.full_like(protein.occupancies, 1e-3)
    ligand = int(np.argmax(protein.positions @ np.ones(3)))  # at one end of the molecule
    kinds[ligand], occupancies[ligand] = KINDS.index("other"), 1.0
    atoms = replace(protein, kinds=kinds, occupancies=occupancies)
    config = replace(one_molecule(resolution=4.0, box=88, voxel_size=1.0), moving_domain_share=0.0, partial_share=0.0)
    around = CropConfig(edge=24, per_map=8, jitter=2, anywhere=0, around_others=1.0)
    for target in SimulatedCrops([atoms], config, around, seed=1)[2].targets[:, 0]:
        highest = np.unravel_index(int(target.argmax()), target.shape)
        assert max(abs(place - 12) for place in highest) <= 3


def test_one_half_map_is_less_reliable_than_the_mean_of_two() -> None:
    both, single = crops(single_half=0.0)[3].reliability[0], crops(single_half=1.0)[3].reliability[0]
    assert (single <= both + 1e-6).all()
    middle = (both > 0.1) & (both < 0.9)
    assert middle.any()
    np.testing.assert_allclose(single[middle], (both / (2 - both))[middle], rtol=0.1)


def test_maps_are_shown_as_they_are_restored_or_cut_at_a_stated_resolution() -> None:
    as_is = crops(unrestored=1.0, stated=0.0)[3].inputs
    of_halves = crops(unrestored=0.0, stated=0.0, single_half=0.0)[3].inputs
    stated = crops(unrestored=0.0, stated=1.0, single_half=0.0)[3].inputs
    for other in (of_halves, stated):
        assert correlation(as_is, other) > 0.3  # the same places of the same map
    # Without half maps nothing but the resolution is known, 4 Å; noise within it stays.
    assert 0.5 < correlation(of_halves, stated) < 0.999
    assert 0.2 < float(of_halves.max()) < 5


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def test_curves_keep_their_frequencies_in_a_crop() -> None:
    curve = torch.arange(65.0) / 128  # the spatial frequency itself, in 1/voxel
    cropped = at_shells_of_crop(curve, 128, 32)
    np.testing.assert_allclose(cropped[1:], np.arange(1, 17) / 32, atol=1e-6)
