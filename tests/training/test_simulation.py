"""The simulator: atoms as theory has them, noise as asked for, the same for the same seed."""

import gemmi
import numpy as np
import pytest
import torch
from torch import Tensor

from emhance.errors import AtomicModelError
from emhance.maps.fourier import fsc_curve, resolution_at
from emhance.maps.masks import soft_mask
from emhance.training.atoms import Atoms
from emhance.training.dataset import CropConfig, SimulatedCrops
from emhance.training.example_protein import example_protein
from emhance.training.scattering import density_transform, spread
from emhance.training.simulation import NOISE_STD, SimulationConfig, raw_pair, simulate


def density(positions: Tensor, elements: list[int], b_factors: list[float], n: int, voxel_size: float) -> Tensor:
    transform = density_transform(
        positions, torch.tensor(elements), torch.tensor(b_factors), torch.ones(len(elements)), n=n, voxel_size=voxel_size
    )
    return torch.fft.irfftn(transform, s=(n, n, n))


def closed_form(element: int, b_factor: float, place: np.ndarray, n: int, voxel_size: float) -> np.ndarray:
    """Density of one atom up to Nyquist, from the closed form of its transform: the sum of a exp(-(b + b_factor) s²/4)."""
    full, half = np.fft.fftfreq(n, voxel_size), np.fft.rfftfreq(n, voxel_size)
    z, y, x = full[:, None, None], full[None, :, None], half[None, None, :]
    s2 = z**2 + y**2 + x**2
    coefficients = gemmi.Element(element).c4322
    factor = sum(a * np.exp(-(b + b_factor) * s2 / 4) for a, b in zip(coefficients.a, coefficients.b, strict=True))
    phase = np.exp(-2j * np.pi * (z * place[0] + y * place[1] + x * place[2]))
    return np.fft.irfftn(factor * phase / voxel_size**3, s=(n, n, n), axes=(0, 1, 2))


@pytest.mark.parametrize("element", [6, 8, 16, 26])
@pytest.mark.parametrize(
    ("b_factor", "voxel_size", "tolerance"), [(30.0, 1.0, 0.05), (60.0, 1.0, 0.02), (200.0, 1.0, 0.002), (60.0, 1.4, 0.05)]
)
def test_the_density_of_an_atom_is_its_closed_form(element: int, b_factor: float, voxel_size: float, tolerance: float) -> None:
    n = 32
    place = torch.tensor([[15.3, 16.0, 14.75]]) * voxel_size
    result = density(place, [element], [b_factor], n, voxel_size).numpy()
    expected = closed_form(element, b_factor, place[0].numpy().astype(np.float64), n, voxel_size)
    assert np.abs(result - expected).max() < tolerance * expected.max()


def test_a_larger_b_factor_is_a_blur() -> None:
    n, extra = 32, 80.0
    place = torch.tensor([[16.2, 15.5, 16.9]])
    sharp, blurred = (density(place, [6], [b], n, 1.0) for b in (40.0, 40.0 + extra))
    full, half = torch.fft.fftfreq(n), torch.fft.rfftfreq(n)
    s2 = full[:, None, None] ** 2 + full[None, :, None] ** 2 + half[None, None, :] ** 2
    filtered = torch.fft.irfftn(torch.fft.rfftn(sharp) * torch.exp(-extra * s2 / 4), s=(n, n, n))
    assert float((blurred - filtered).abs().max()) < 0.015 * float(blurred.max())
    assert float(blurred.sum()) == pytest.approx(float(sharp.sum()), rel=1e-3)


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


@pytest.mark.parametrize(("resolution", "voxel_size"), [(3.5, 1.0), (5.0, 1.0), (6.0, 1.4)])
def test_the_half_maps_fsc_crosses_at_the_resolution(resolution: float, voxel_size: float) -> None:
    maps = raw_pair(example_protein(seed=1), resolution=resolution, box=96, seed=3, voxel_size=voxel_size)
    sharp = maps.molecule.numpy()
    crossings = []
    for mask in (sharp, soft_mask(sharp > 0.5, width_voxels=6.0)):
        frequency, fsc = fsc_curve(maps.half1.numpy() * mask, maps.half2.numpy() * mask, voxel_size)
        crossings.append(resolution_at(frequency, fsc, 0.143))
    # A sharp mask carries strong coarse shells into fine ones and flatters; a soft one lets solvent noise in.
    assert crossings[0] < 1.05 * resolution
    assert crossings[1] > 0.95 * resolution
    assert np.sqrt(crossings[0] * crossings[1]) == pytest.approx(resolution, rel=0.1)


def test_the_noise_is_normalised() -> None:
    maps = raw_pair(example_protein(seed=1), resolution=4.0, box=96, seed=3)
    mean = 0.5 * (maps.half1 + maps.half2)
    solvent = torch.ones_like(mean, dtype=torch.bool)
    solvent[20:-20, 20:-20, 20:-20] = False
    assert float(mean[solvent].std()) == pytest.approx(NOISE_STD, rel=0.3)
    assert abs(float(mean[solvent].mean())) < 0.3 * NOISE_STD
    difference = 0.5 * (maps.half1 - maps.half2)
    assert float(difference[solvent].std()) == pytest.approx(float(mean[solvent].std()), rel=0.1), "the noise is independent"


def test_targets_are_empty_outside_and_high_inside() -> None:
    maps = raw_pair(example_protein(seed=1), resolution=4.0, box=64, seed=3)
    outside = maps.molecule < 0.5
    for target in (maps.target, maps.wide_target):
        assert float(target.min()) >= 0
        assert 0.2 < float(torch.quantile(target.flatten()[::7], 0.999)) < 3
        assert float(target[outside].mean()) < 0.05 * float(target[~outside].mean())
    sharp, wide = (float(t[~outside].std() / t[~outside].mean()) for t in (maps.target, maps.wide_target))
    assert wide < sharp


def same(a: object, b: object) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("half1", "half2", "target", "molecule", "truth"))


def test_the_seed_decides_everything() -> None:
    atoms, config = example_protein(seed=1), SimulationConfig(box=48)
    first, again, other = (simulate(atoms, config, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert same(first, again)
    assert first.log == again.log
    assert not same(first, other)
    assert first.log["resolution"] != other.log["resolution"]


@pytest.mark.parametrize(
    "config",
    [
        SimulationConfig(box=48, masked_share=1.0),
        SimulationConfig(box=48, sharpened_share=1.0, masked_share=0.0),
        SimulationConfig(box=48, outside_sphere_share=1.0, masked_share=0.0, low_pass_share=1.0),
        SimulationConfig(box=48, extra_density_share=1.0, voxel_size=1.3),
    ],
)
def test_every_kind_of_map_is_finite_and_in_range(config: SimulationConfig) -> None:
    for seed in range(2):
        maps = simulate(example_protein(seed=1), config, torch.Generator().manual_seed(seed))
        for values in (maps.half1, maps.half2, maps.target, maps.wide_target, maps.truth):
            assert torch.isfinite(values).all()
            assert 0.05 < float(values.abs().max()) < 200


def test_too_few_atoms_are_said() -> None:
    atoms = example_protein(seed=1)
    few = Atoms(*(getattr(atoms, name)[:50] for name in ("positions", "elements", "b_factors", "occupancies", "kinds")))
    with pytest.raises(AtomicModelError, match="Only 50 atoms"):
        raw_pair(few, resolution=4.0, box=64, seed=1)
    with pytest.raises(AtomicModelError, match="Twenty random places"):
        SimulatedCrops([few], SimulationConfig(box=48), CropConfig(edge=16), seed=1)[0]


def test_a_crop_is_decided_by_its_number() -> None:
    def crops(seed: int) -> SimulatedCrops:
        return SimulatedCrops([example_protein(seed=1)], SimulationConfig(box=48), CropConfig(edge=24, per_map=3), seed=seed)

    inputs, targets = crops(1)[7]
    assert inputs.shape == targets.shape == (3, 1, 24, 24, 24)
    crops(1)[3]  # what was drawn before does not matter
    again = crops(1)[7]
    assert torch.equal(inputs, again[0])
    assert torch.equal(targets, again[1])
    assert not torch.equal(inputs, crops(1)[8][0])
    assert not torch.equal(inputs, crops(2)[7][0])


def test_the_wide_target_is_another() -> None:
    pair = [
        SimulatedCrops([example_protein(seed=1)], SimulationConfig(box=48), CropConfig(edge=24, target=target), seed=1)[0]
        for target in ("tight", "wide")
    ]
    assert torch.equal(pair[0][0], pair[1][0])
    assert not torch.equal(pair[0][1], pair[1][1])
