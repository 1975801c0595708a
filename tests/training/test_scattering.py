"""Density of atoms: the closed form within 1 % of the peak, for every element, B-factor, place and voxel size."""

import gemmi
import numpy as np
import pytest
import torch
from torch import Tensor

from emhance.training.scattering import LEAST_B, density_transform, spread


def density(positions: Tensor, elements: list[int], b_factors: list[float], n: int, voxel_size: float) -> np.ndarray:
    transform = density_transform(
        positions.float(), torch.tensor(elements), torch.tensor(b_factors), torch.ones(len(elements)), n=n, voxel_size=voxel_size
    )
    return torch.fft.irfftn(transform, s=(n, n, n)).numpy()


def gaussians_of(element: int, b_factor: float) -> list[tuple[float, float]]:
    """Amplitudes and total B values of an atom."""
    table = gemmi.Element(element).c4322
    return [(a, b + b_factor) for a, b in zip(table.a, table.b, strict=True)]


def up_to_nyquist(gaussians: list[tuple[float, float]], place: np.ndarray, n: int, voxel_size: float) -> np.ndarray:
    """Density up to Nyquist, from the closed form of its transform: the sum of a exp(-B s²/4) over pairs of a and B."""
    full, half = np.fft.fftfreq(n, voxel_size), np.fft.rfftfreq(n, voxel_size)
    z, y, x = full[:, None, None], full[None, :, None], half[None, None, :]
    s2 = z**2 + y**2 + x**2
    factor = sum(a * np.exp(-b * s2 / 4) for a, b in gaussians)
    phase = np.exp(-2j * np.pi * (z * place[0] + y * place[1] + x * place[2]))
    return np.fft.irfftn(factor * phase / voxel_size**3, s=(n, n, n), axes=(0, 1, 2))


def sum_of_gaussians(gaussians: list[tuple[float, float]], place: np.ndarray, n: int) -> np.ndarray:
    """The same in real space, at voxels of 1 Å: the sum of a (4π / B)^1.5 exp(-4π² r² / B)."""
    axes = [np.arange(n) - value for value in place]
    r2 = axes[0][:, None, None] ** 2 + axes[1][None, :, None] ** 2 + axes[2][None, None, :] ** 2
    return sum(a * (4 * np.pi / b) ** 1.5 * np.exp(-4 * np.pi**2 * r2 / b) for a, b in gaussians)


@pytest.mark.parametrize("element", [6, 8, 15, 16, 30])
@pytest.mark.parametrize("voxel_size", [1.0, 1.4])
@pytest.mark.parametrize("b_factor", [LEAST_B, 30.0, 60.0, 150.0, 400.0])
def test_an_atom_is_its_closed_form(element: int, b_factor: float, voxel_size: float) -> None:
    """B is in units of voxel size²; both ends of the range on two grids, one grid and the coarse grid."""
    n, b_factor = 32, b_factor * voxel_size**2
    for place in ([15.3, 16.0, 14.75], [16.5, 15.5, 16.5]):
        position = np.array(place) * voxel_size
        result = density(torch.from_numpy(position)[None], [element], [b_factor], n, voxel_size)
        expected = up_to_nyquist(gaussians_of(element, b_factor), position, n, voxel_size)
        assert np.abs(result - expected).max() < 0.01 * expected.max()


@pytest.mark.parametrize("b_factor", [100.0, 300.0, 700.0])
def test_a_well_sampled_atom_is_a_sum_of_gaussians(b_factor: float) -> None:
    place = np.array([20.2, 19.5, 21.1])
    result = density(torch.from_numpy(place)[None], [7], [b_factor], 40, 1.0)
    expected = sum_of_gaussians(gaussians_of(7, b_factor), place, 40)
    assert np.abs(result - expected).max() < 0.01 * expected.max()


def test_atoms_of_many_b_factors_share_the_grids() -> None:
    """What is interpolated between B values is as good as what is not."""
    n, rng = 48, np.random.default_rng(1)
    grid = np.stack(np.meshgrid(*[[8.0, 24.0, 40.0]] * 3), -1).reshape(-1, 3)
    places = grid + rng.uniform(-1, 1, grid.shape)
    b_factors = np.geomspace(20.0, 900.0, len(places))
    elements = rng.choice([6, 7, 8, 16], len(places)).tolist()
    result = density(torch.from_numpy(places), elements, b_factors.tolist(), n, 1.0)
    parts = [up_to_nyquist(gaussians_of(e, b), p, n, 1.0) for e, b, p in zip(elements, b_factors, places, strict=True)]
    expected = np.sum(parts, axis=0)
    for part, place in zip(parts, places, strict=True):
        near = tuple(slice(int(v) - 4, int(v) + 6) for v in place)
        assert np.abs(result[near] - expected[near]).max() < 0.01 * part.max() + 1e-3 * expected.max()


def test_a_larger_b_factor_is_a_blur() -> None:
    n, extra = 32, 80.0
    place = torch.tensor([[16.2, 15.5, 16.9]])
    sharp, blurred = (density(place, [6], [b], n, 1.0) for b in (20.0, 20.0 + extra))
    full, half = np.fft.fftfreq(n), np.fft.rfftfreq(n)
    s2 = full[:, None, None] ** 2 + full[None, :, None] ** 2 + half[None, None, :] ** 2
    filtered = np.fft.irfftn(np.fft.rfftn(sharp) * np.exp(-extra * s2 / 4), s=(n, n, n), axes=(0, 1, 2))
    assert np.abs(blurred - filtered).max() < 0.01 * blurred.max()
    assert float(blurred.sum()) == pytest.approx(float(sharp.sum()), rel=1e-3)


def test_gaussians_that_the_grid_does_not_resolve_are_blurred_to_what_it_does() -> None:
    place, voxel_size = np.array([24.3, 23.0, 25.1]), 1.5
    result = density(torch.from_numpy(place)[None], [26], [-1000.0], 32, voxel_size)
    expected = up_to_nyquist([(a, LEAST_B * voxel_size**2) for a, _ in gaussians_of(26, 0.0)], place, 32, voxel_size)
    assert np.abs(result - expected).max() < 0.01 * expected.max()


def test_occupancies_and_atoms_add_up() -> None:
    places = torch.tensor([[10.0, 11.0, 12.0], [20.0, 18.0, 15.0]])
    args = torch.tensor([6, 8]), torch.tensor([50.0, 50.0])
    both = density_transform(places, *args, torch.tensor([0.25, 1.0]), n=32, voxel_size=1.0)
    first = density_transform(places[:1], args[0][:1], args[1][:1], torch.ones(1), n=32, voxel_size=1.0)
    second = density_transform(places[1:], args[0][1:], args[1][1:], torch.ones(1), n=32, voxel_size=1.0)
    expected = 0.25 * first + second
    assert float((both - expected).abs().max()) < 0.01 * float(expected.abs().max())


def test_spreading_keeps_the_weights_and_wraps_around() -> None:
    positions = torch.tensor([[0.0, 7.9, 3.5], [4.2, 4.4, 4.6]])
    box = spread(positions, torch.tensor([2.0, 3.0]), 8)
    assert float(box.sum()) == pytest.approx(5.0)
    assert float(box[7, 0, 3]) > 0
    assert (box >= 0).all()
