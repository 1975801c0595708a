"""No empty, blurred or noisy output satisfies the loss better than the truth, or than a better one."""

import numpy as np
import pytest
import torch
from torch import Tensor

from emhance.steps.recombination import recombine
from emhance.training.example_protein import example_protein
from emhance.training.losses import enhancement_loss, recombined, shell_correlation
from emhance.training.simulation import raw_pair


@pytest.fixture(scope="module")
def target() -> Tensor:
    maps = raw_pair(example_protein(seed=1), resolution=4.0, box=64, seed=3)
    return maps.target[16:48, 16:48, 16:48][None, None]


def blurred(x: Tensor, b_factor: float) -> Tensor:
    n = x.shape[-1]
    full, half = torch.fft.fftfreq(n), torch.fft.rfftfreq(n)
    s2 = full[:, None, None] ** 2 + full[None, :, None] ** 2 + half[None, None, :] ** 2
    return torch.fft.irfftn(torch.fft.rfftn(x[0, 0]) * torch.exp(-s2 * b_factor / 4), s=(n, n, n))[None, None]


def loss(prediction: Tensor, target: Tensor) -> float:
    return float(enhancement_loss(prediction, target)[0])


def test_the_truth_costs_nothing(target: Tensor) -> None:
    assert loss(target, target) == pytest.approx(0.0, abs=0.01)


def test_an_empty_output_is_worse_than_a_blurred_one(target: Tensor) -> None:
    costs = [loss(blurred(target, b), target) for b in (0.0, 30.0, 100.0, 300.0)]
    assert costs == sorted(costs)
    empty = loss(torch.zeros_like(target), target)
    flat = loss(torch.full_like(target, float(target.mean())), target)
    assert empty > 1.5 * costs[-1]
    assert flat > costs[-1]


def test_noise_and_wrong_scale_cost(target: Tensor) -> None:
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(1)) * target.std()
    assert loss(target + 0.1 * noise, target) < loss(target + 0.5 * noise, target) < loss(target + 2 * noise, target)
    assert loss(0.5 * target, target) > 0.1
    assert loss(target.flip(2), target) > 1


def test_an_empty_output_has_a_way_out(target: Tensor) -> None:
    """At zero the gradient leads towards the target: training cannot stay there."""
    prediction = torch.zeros_like(target, requires_grad=True)
    enhancement_loss(prediction, target)[0].backward()
    assert prediction.grad is not None
    assert torch.isfinite(prediction.grad).all()
    assert float((prediction.grad * target).sum()) < 0


def test_an_empty_target_wants_an_empty_output() -> None:
    nothing = torch.zeros(2, 1, 32, 32, 32)
    assert loss(nothing, nothing) == pytest.approx(0.0, abs=1e-4)
    assert loss(nothing + 0.3, nothing) > 0.5


def test_shell_correlation_of_equals_is_one(target: Tensor) -> None:
    fsc, power_a, power_b = shell_correlation(target, target)
    assert fsc.shape == (1, 16)
    assert fsc[power_b > 1e-2 * power_b.max()] == pytest.approx(1.0, abs=1e-3)
    assert torch.equal(power_a, power_b)
    assert shell_correlation(-target, target)[0][0, 0] == pytest.approx(-1.0, abs=1e-3)


def test_reliability_weighs_the_phases_where_the_data_is_in_doubt(target: Tensor) -> None:
    """Where F is 1/2 in the fine shells only, an error there costs more than where F is 1/2 in the coarse ones."""
    n = target.shape[-1]
    coarse_doubt, fine_doubt = torch.ones(1, n // 2 + 1), torch.ones(1, n // 2 + 1)
    coarse_doubt[:, :5], fine_doubt[:, 5:] = 0.5, 0.5
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(1))
    wrong = target + 0.3 * (noise - blurred(noise, 400.0))  # in the fine shells

    def phases(F: Tensor | None) -> float:
        return enhancement_loss(wrong, target, reliability=F)[1]["phases"]

    assert phases(fine_doubt) > 1.2 * phases(coarse_doubt)
    assert phases(torch.full((1, n // 2 + 1), 0.3)) == pytest.approx(phases(None), abs=1e-6)


@pytest.fixture(scope="module")
def crop() -> tuple[Tensor, Tensor, Tensor]:
    """Network output (here a blurred target), data and target of a whole molecule in a box of 64 voxels."""
    maps = raw_pair(example_protein(seed=1), resolution=4.0, box=64, seed=3)
    data = 0.5 * (maps.half1 + maps.half2)
    target = maps.target[None, None]
    return blurred(target, 60.0), data[None, None], target


def test_recombination_of_crops_is_that_of_whole_maps(crop: tuple[Tensor, Tensor, Tensor]) -> None:
    output, data, target = crop
    whole, curves = recombine(output[0, 0].numpy().copy(), data[0, 0].numpy().copy(), voxel_size=1.0, resolution=4.0)
    F = torch.from_numpy(curves.value).float()[None]
    y, faded = recombined(output, data, target, F)
    inner = (slice(12, 52),) * 3
    assert np.corrcoef(y[0, 0][inner].ravel(), whole[inner].ravel())[0, 1] > 0.99
    assert float(y[0, 0][inner].std()) == pytest.approx(float(whole[inner].std()), rel=0.05)
    assert torch.equal(faded[0, 0][inner], target[0, 0][inner])
    assert float(faded[0, 0, 0].abs().max()) < 0.1 * float(faded.max())


def test_recombination_is_the_network_without_data_and_the_data_where_they_are_perfect(
    crop: tuple[Tensor, Tensor, Tensor],
) -> None:
    output, data, target = crop
    network, _ = recombined(output, data, target, torch.zeros(1, 33))
    other, _ = recombined(output, 5 * data.flip(2), target, torch.zeros(1, 33))
    assert torch.allclose(network, other)
    inner = (slice(None), slice(None), *(slice(12, 52),) * 3)
    assert torch.allclose(network[inner], (output * (output > 0.02))[inner], atol=0.05)
    from_data, _ = recombined(output, data, target, torch.ones(1, 33))
    scaled, _ = recombined(output, 3 * data, target, torch.ones(1, 33))
    assert torch.allclose(from_data, scaled, atol=1e-4), "only the data's phases and their distribution count"
    assert not torch.allclose(from_data, network, atol=0.05)


def test_gradients_flow_through_the_recombination(crop: tuple[Tensor, Tensor, Tensor]) -> None:
    output, data, target = crop
    F = torch.linspace(1, 0, 33)[None]
    prediction = output.clone().requires_grad_(True)
    before, _ = enhancement_loss(*recombined(prediction, data, target, F))
    before.backward()
    assert prediction.grad is not None
    assert torch.isfinite(prediction.grad).all()
    assert float(prediction.grad.abs().max()) > 0
    with torch.no_grad():
        better = prediction - 1e-2 * prediction.grad / prediction.grad.abs().max()
        assert float(enhancement_loss(*recombined(better, data, target, F))[0]) < float(before)


def test_an_empty_output_recombines_to_nothing(crop: tuple[Tensor, Tensor, Tensor]) -> None:
    _, data, target = crop
    y, _ = recombined(torch.zeros_like(target), data, target, torch.full((1, 33), 0.5))
    assert float(y.abs().max()) == 0
