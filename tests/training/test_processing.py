"""Filters, interpolation, masks, scale and offset."""

import numpy as np
import pytest
import torch
from plain_simulation import draw, plain
from torch import Tensor

from emhance.training.grids import frequencies_squared, offsets, to_map
from emhance.training.half_maps import HalfTransforms
from emhance.training.processing import DENSITY_TOP, NOISE_STD, filter_curve, interpolated, processed
from emhance.training.simulation_config import SimulationConfig

N = 48
RELIABILITY = torch.linspace(1, 0, N // 2 + 1)


@pytest.fixture(scope="module")
def molecule() -> Tensor:
    z, y, x = offsets(N, torch.full((3,), N / 2))
    return (z**2 + y**2 + x**2 < 11**2).float()


@pytest.fixture(scope="module")
def pair(molecule: Tensor) -> HalfTransforms:
    generator = torch.Generator().manual_seed(1)
    halves = [torch.fft.rfftn(30 * molecule + 7 * torch.randn(N, N, N, generator=generator) + 400) for _ in range(2)]
    return HalfTransforms((halves[0], halves[1]), RELIABILITY)


def frequency() -> Tensor:
    return torch.sqrt(frequencies_squared(N, 1.0, torch.device("cpu")))


def wave(cycles: int) -> Tensor:
    """Waves along z."""
    return torch.cos(2 * np.pi * cycles * torch.arange(N) / N)[:, None, None].expand(N, N, N).contiguous()


def test_interpolation_onto_the_same_grid_changes_nothing() -> None:
    values = wave(5) + wave(11)
    assert torch.allclose(interpolated(torch.fft.rfftn(values), N, [0.0, 0.0, 0.0]), values, atol=1e-4)


@pytest.mark.parametrize("size", [40, 62])
def test_interpolation_keeps_coarse_waves_in_place(size: int) -> None:
    values = wave(2)
    result = interpolated(torch.fft.rfftn(values), size, [0.3, -0.4, 0.1])
    assert torch.allclose(result, values, atol=0.05)


def test_linear_interpolation_weakens_fine_waves() -> None:
    values = wave(12)
    same, coarser, finer = (
        interpolated(torch.fft.rfftn(values), size, shift)
        for size, shift in ((N, [0.5, 0.0, 0.0]), (34, [0.0] * 3), (90, [0.0] * 3))
    )
    # Half a voxel off, each value is the mean of its neighbours: the cosine of half the phase between them.
    assert torch.allclose(same, np.cos(np.pi * 12 / N) * values, atol=1e-3)
    transform = [torch.fft.fft(result[:, 0, 0])[12].abs() / (N / 2) for result in (coarser, finer)]
    for size, amplitude in zip((34, 90), transform, strict=True):
        assert float(amplitude) == pytest.approx(np.sinc(12 / size) ** 2, rel=0.02)


def test_what_a_coarser_grid_cannot_hold_is_lost() -> None:
    assert float(interpolated(torch.fft.rfftn(wave(20)), 36, [0.0] * 3).abs().max()) < 1e-3


def test_filters_are_what_they_are_called() -> None:
    s = frequency()
    assert filter_curve(plain(box=N), draw(), RELIABILITY, 4.0, 100.0) is None
    weighted = filter_curve(plain(box=N, fsc_weighted_share=1.0), draw(), RELIABILITY, 4.0, 100.0)
    assert weighted is not None
    assert torch.allclose(weighted, (1 - 2 * s).clamp(min=0), atol=1e-3)
    low_pass = filter_curve(plain(box=N, low_pass_share=1.0, low_pass_at=(1.0, 1.0)), draw(), RELIABILITY, 4.0, 100.0)
    assert low_pass is not None
    assert float(low_pass[s < 0.15].min()) > 0.9
    assert float(low_pass[s > 0.36].max()) < 0.1
    config = plain(box=N, sharpened_share=1.0, sharpened_by=(0.5, 0.5), low_pass_at=(1.4, 1.4))
    sharpened = filter_curve(config, draw(), RELIABILITY, 4.0, 100.0)
    assert sharpened is not None
    low = s < 0.2
    assert torch.allclose(sharpened[low], ((1 - 2 * s) * torch.exp(0.25 * 50 * s**2))[low], rtol=0.05)


def halves(config: SimulationConfig, pair: HalfTransforms, molecule: Tensor, seed: int = 1) -> tuple[Tensor, Tensor]:
    return processed(config, draw(seed), pair, molecule, 4.0, 100.0)


def test_both_half_maps_are_treated_alike(pair: HalfTransforms, molecule: Tensor) -> None:
    config = plain(box=N, sharpened_share=1.0, masked_share=1.0, interpolated_share=1.0)
    first, _ = halves(config, pair, molecule)
    again, swapped = halves(config, HalfTransforms((pair.halves[1], pair.halves[0]), RELIABILITY), molecule)
    assert torch.allclose(first, swapped, atol=1e-5)
    assert not torch.allclose(first, again, atol=1e-2)


def test_the_solvents_noise_is_normalised(pair: HalfTransforms, molecule: Tensor) -> None:
    maps = halves(plain(box=N), pair, molecule)
    mean = 0.5 * (maps[0] + maps[1])
    assert float(mean[:8].std()) == pytest.approx(NOISE_STD, rel=0.3)
    assert abs(float(mean[:8].mean())) < 0.2 * NOISE_STD


def test_an_arbitrary_scale_and_offset_are_all_that_normalising_removes(pair: HalfTransforms, molecule: Tensor) -> None:
    normal = halves(plain(box=N), pair, molecule)
    one = draw(1)
    raw = processed(plain(box=N, normalised=False, scale=(250.0, 250.0), offset=(2.0, 2.0)), one, pair, molecule, 4.0, 100.0)
    for half, other in zip(normal, raw, strict=True):
        assert torch.allclose(other, 250 * (half + 2 * NOISE_STD), rtol=1e-4, atol=1e-2)
    assert one.log["scale"] == pytest.approx(250)
    assert one.log["offset"] == pytest.approx(2)


def test_a_mask_leaves_nothing_outside(pair: HalfTransforms, molecule: Tensor) -> None:
    config = plain(box=N, masked_share=1.0, soft_mask_share=0.0, scaled_inside_share=1.0)
    for seed in range(3):
        maps = halves(config, pair, molecule, seed)
        assert torch.equal(maps[0][:6], torch.zeros(6, N, N))
        inside = 0.5 * (maps[0] + maps[1])[molecule > 0.5]
        assert DENSITY_TOP / 3.5 < float(torch.quantile(inside, 0.999)) < 3.5 * DENSITY_TOP


def test_a_sphere_leaves_nothing_outside(pair: HalfTransforms, molecule: Tensor) -> None:
    config = plain(box=N, outside_sphere_share=1.0, sphere_radius=(0.4, 0.4))
    maps = halves(config, pair, molecule)
    z, y, x = offsets(N, torch.full((3,), N / 2))
    r = torch.sqrt(z**2 + y**2 + x**2)
    whole = halves(plain(box=N), pair, molecule)
    assert float(maps[0][r > 0.4 * N + 9].abs().max()) < 0.01
    assert torch.allclose(maps[0][r < 0.4 * N - 12], whole[0][r < 0.4 * N - 12], atol=1e-2)


def test_maps_without_solvent_are_normalised_as_well(pair: HalfTransforms) -> None:
    maps = halves(plain(box=N), pair, torch.ones(N, N, N))
    assert all(bool(torch.isfinite(values).all()) for values in maps)
    assert 0.05 < float(maps[0].std()) < 10
    assert to_map(pair.halves[0]).shape == maps[0].shape
