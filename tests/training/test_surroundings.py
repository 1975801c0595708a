"""Solvent, detergent, lipids and disordered density: where they are and how dense."""

import numpy as np
import pytest
import torch
from plain_simulation import draw, plain
from torch import Tensor

from emhance.training.grids import offsets, to_map
from emhance.training.surroundings import bulk_solvent, density_beside

N = 80
MEMBRANE = {
    "extra_level": (0.5, 0.5),
    "extra_core": (0.2, 0.2),
    "extra_edge_b": (50.0, 50.0),
    "membrane_half_width": (18.0, 18.0),
    "membrane_margin": (12.0, 12.0),
}


@pytest.fixture(scope="module")
def ball() -> Tensor:
    z, y, x = offsets(N, torch.full((3,), N / 2))
    return (z**2 + y**2 + x**2 < 14**2).float()


def beside(ball: Tensor, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """The density, height above the membrane's middle and distance from its axis at every voxel."""
    one = draw(3)
    density = density_beside(plain(box=N, **MEMBRANE, **{kind: 1.0}), one, ball)
    assert density is not None
    axis = torch.tensor([float(one.log[f"membrane_axis_{letter}"]) for letter in "zyx"])
    spread = float((torch.stack([i.float() for i in ball.nonzero(as_tuple=True)], 1) @ axis).std())
    z, y, x = offsets(N, N / 2 + axis * float(one.log["membrane_height"]) * spread)
    height = z * axis[0] + y * axis[1] + x * axis[2]
    return density, height, torch.sqrt((z**2 + y**2 + x**2 - height**2).clamp(min=0))


def test_a_micelle_is_a_belt_of_head_groups_around_tails(ball: Tensor) -> None:
    density, height, radius = beside(ball, "micelle_share")
    tails = density[(height.abs() < 4) & (radius > 16) & (radius < 17.5)]
    heads = density[(height.abs() < 4) & (radius > 22) & (radius < 24)]
    assert float(tails.mean()) == pytest.approx(0.1, abs=0.03)
    assert float(heads.mean()) == pytest.approx(0.5, abs=0.1)
    assert float(density[(radius > 32) | (height.abs() > 24)].abs().max()) < 0.02
    assert float(density[ball > 0.5].abs().mean()) < 0.1, "not inside the molecule"


def test_a_nanodisc_has_two_leaflets_and_a_rim(ball: Tensor) -> None:
    density, height, radius = beside(ball, "nanodisc_share")
    ring = (radius > 17) & (radius < 23)

    def level(low: float, high: float) -> float:
        return float(density[ring & (height > low) & (height < high)].mean())

    assert level(-2, 2) == pytest.approx(0.1, abs=0.03)
    assert level(14, 16) == pytest.approx(0.5, abs=0.1)
    assert level(-16, -14) == pytest.approx(0.5, abs=0.1)
    assert abs(level(22, 26)) < 0.02
    assert float(density[(height.abs() < 8) & (radius > 28.5) & (radius < 33)].mean()) == pytest.approx(0.5, abs=0.1)
    assert float(density[radius > 42].abs().max()) < 0.02


def test_lipids_follow_the_surface(ball: Tensor) -> None:
    density, height, _ = beside(ball, "lipids_share")
    z, y, x = offsets(N, torch.full((3,), N / 2))
    depth = torch.sqrt(z**2 + y**2 + x**2) - 14
    heads = (height > 14) & (height < 16) & (depth > 3) & (depth < 8)
    assert float(density[heads].mean()) == pytest.approx(0.5, abs=0.12)
    assert float(density[(height.abs() < 5) & (depth > 3) & (depth < 8)].mean()) == pytest.approx(0.1, abs=0.04)
    assert float(density[(depth > 17) | (height.abs() > 23)].abs().max()) < 0.02


def test_patches_lie_beside_the_molecule(ball: Tensor) -> None:
    config = plain(box=N, extra_density_share=1.0, extra_level=(0.4, 0.4), extra_cut=(0.0, 0.0))
    density = density_beside(config, draw(2), ball)
    assert density is not None
    assert 0.3 < float(density.max()) < 0.45
    z, y, x = offsets(N, torch.full((3,), N / 2))
    distance = torch.sqrt(z**2 + y**2 + x**2)
    shell = density[(distance > 17) & (distance < 20)]
    assert 0.2 < float((shell > 0.2).float().mean()) < 0.8, "some of the surface, not all"
    assert float(density[distance > 38].abs().max()) < 0.05


def test_without_chance_there_is_nothing(ball: Tensor) -> None:
    assert density_beside(plain(box=N), draw(), ball) is None


def test_solvent_fills_the_molecules_place(ball: Tensor) -> None:
    config = plain(box=N, solvent_contrast=(0.4, 0.4), solvent_edge_b=(100.0, 100.0))
    solvent = to_map(bulk_solvent(config, draw(), ball)).numpy()
    assert solvent[N // 2, N // 2, N // 2] == pytest.approx(0.4, rel=0.01)
    assert np.abs(solvent[0]).max() < 0.01
    assert float(solvent.sum()) == pytest.approx(0.4 * float(ball.sum()), rel=1e-3)
