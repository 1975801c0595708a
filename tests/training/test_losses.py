"""No empty, blurred or noisy output satisfies the loss better than the truth, or than a better one."""

import pytest
import torch
from torch import Tensor

from emhance.training.example_protein import example_protein
from emhance.training.losses import enhancement_loss, shell_correlation
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
