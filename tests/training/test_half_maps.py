"""Noise: independent, coloured, as uneven in space as asked for, and as strong as the FSC wants."""

import numpy as np
import pytest
import torch
from plain_simulation import draw, plain
from scipy.ndimage import gaussian_filter
from torch import Tensor

from emhance.training.grids import along_shells, frequencies_squared, offsets, shell_sums, to_map
from emhance.training.half_maps import HalfTransforms, half_transforms, noise_gain
from emhance.training.simulation_config import SimulationConfig

N = 64


@pytest.fixture(scope="module")
def molecule() -> Tensor:
    z, y, x = offsets(N, torch.full((3,), N / 2))
    return (z**2 + y**2 + x**2 < 20**2).float()


@pytest.fixture(scope="module")
def signal(molecule: Tensor) -> Tensor:
    """White inside the molecule, with a fall-off of 150 Å²."""
    white = torch.randn(N, N, N, generator=torch.Generator().manual_seed(9)) * molecule
    return torch.fft.rfftn(white) * torch.exp(-0.25 * 150 * frequencies_squared(N, 1.0, torch.device("cpu")))


def noises(pair: HalfTransforms, signal: Tensor) -> list[np.ndarray]:
    return [to_map(half - signal).numpy() for half in pair.halves]


def pair_of(config: SimulationConfig, signal: Tensor, molecule: Tensor, **options: Tensor) -> HalfTransforms:
    options = {"direction_gain": None, **options}
    return half_transforms(config, draw(4), signal, molecule, 4.0, **options)


def test_half_maps_share_the_signal_and_not_the_noise(signal: Tensor, molecule: Tensor) -> None:
    first, second = noises(pair_of(plain(), signal, molecule), signal)
    assert first.std() == pytest.approx(second.std(), rel=0.02)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02
    truth = to_map(signal).numpy()
    for noise in (first, second):
        assert abs(np.corrcoef(noise.ravel(), truth.ravel())[0, 1]) < 0.02


def test_the_reliability_is_that_of_the_powers(signal: Tensor, molecule: Tensor) -> None:
    pair = pair_of(plain(), signal, molecule)
    assert pair.reliability.shape == (N // 2 + 1,)
    fsc = pair.reliability / (2 - pair.reliability)
    assert float(fsc[N // 4]) == pytest.approx(0.143, abs=0.04)
    mask = gaussian_filter(molecule.numpy(), 4.5)
    mask = np.clip(2 * mask, 0, 1)
    s, a = (
        shell_sums(torch.fft.rfftn(torch.from_numpy(v * mask)).abs() ** 2)
        for v in (to_map(signal).numpy(), noises(pair, signal)[0])
    )
    assert torch.allclose((s / (s + a))[3:25].float(), fsc[3:25], atol=0.08)
    assert bool((pair.reliability >= 0).all())
    assert bool((pair.reliability <= 1).all())


@pytest.mark.parametrize("slope", [0.0, 1.0, 1.6])
def test_noise_has_the_colour_asked_for(signal: Tensor, molecule: Tensor, slope: float) -> None:
    config = plain(noise_slope=(slope, slope), noise_knee=(0.1, 0.1))
    power = shell_sums(torch.fft.rfftn(torch.from_numpy(noises(pair_of(config, signal, molecule), signal)[0])).abs() ** 2)
    count = shell_sums(torch.ones(N, N, N // 2 + 1))
    frequency = torch.arange(N // 2 + 1) / N
    expected = 1 + (frequency / 0.1) ** slope
    ratio = (power / count / expected)[6:].numpy()
    assert ratio.std() < 0.12 * ratio.mean()


def test_noise_is_as_uneven_as_its_gain(signal: Tensor, molecule: Tensor) -> None:
    config = plain(noise_variation=(0.4, 0.4), noise_variation_length=(14.0, 14.0), noise_centre_gain=(0.5, 0.5))
    gain, share = noise_gain(config, draw(4), molecule)
    assert float(torch.log(gain).std()) > 0.3
    assert float(share.min()) >= 0
    assert float(share.max()) <= 1
    one = draw(4)
    pair = half_transforms(config, one, signal, molecule, 4.0, None)
    for noise in noises(pair, signal):
        local = np.sqrt(gaussian_filter(noise**2, 3.0, mode="wrap")).ravel()
        even = np.sqrt(gaussian_filter(np.random.default_rng(1).normal(size=noise.shape) ** 2, 3.0, mode="wrap"))
        assert local.std() / local.mean() > 3 * even.std() / even.mean()
    locals_ = [np.sqrt(gaussian_filter(noise**2, 3.0, mode="wrap")).ravel() for noise in noises(pair, signal)]
    assert np.corrcoef(locals_[0], locals_[1])[0, 1] > 0.8, "the same places in both halves"


def test_noise_is_stronger_inside_the_molecule(signal: Tensor, molecule: Tensor) -> None:
    z, y, x = offsets(N, torch.full((3,), N / 2))
    radius = torch.sqrt(z**2 + y**2 + x**2).numpy()
    for inside in (0.0, 0.8):
        noise = noises(pair_of(plain(noise_inside=(inside, inside)), signal, molecule), signal)[0]
        assert noise[radius < 12].std() / noise[radius > 29].std() == pytest.approx(1 + inside, rel=0.05)


def test_the_local_strength_follows_the_field(signal: Tensor, molecule: Tensor) -> None:
    config = plain(noise_variation=(0.4, 0.4), noise_variation_length=(14.0, 14.0))
    one = draw(4)
    one.uniform("noise_slope", (0, 0))  # two numbers are drawn before the gain: slope and knee, and the colour's difference
    one.uniform("noise_knee", (0, 0))
    one.uniform("noise_local_colour", (0, 0))
    gain, _ = noise_gain(config, one, molecule)
    noise = noises(pair_of(config, signal, molecule), signal)[0]
    local = np.sqrt(gaussian_filter(noise**2, 3.0, mode="wrap"))
    assert np.corrcoef(local.ravel(), gain.numpy().ravel())[0, 1] > 0.9


def test_the_colour_differs_from_place_to_place(signal: Tensor, molecule: Tensor) -> None:
    def redness(colour: float) -> float:
        config = plain(noise_local_colour=(colour, colour), noise_variation_length=(14.0, 14.0))
        noise = noises(pair_of(config, signal, molecule), signal)[0]
        low = gaussian_filter(noise, 1.0, mode="wrap")
        high = noise - low
        ratio = np.log(gaussian_filter(low**2, 4.0, mode="wrap") / gaussian_filter(high**2, 4.0, mode="wrap"))
        return float(ratio.std())

    assert redness(2.0) > 1.5 * redness(0.0)


def test_noise_is_missing_where_directions_are(signal: Tensor, molecule: Tensor) -> None:
    gain = torch.ones(N, N, N // 2 + 1)
    gain[:, :, N // 4 :] = 0.0
    pair = pair_of(plain(), signal, molecule, direction_gain=gain)
    assert torch.equal(pair.halves[0][:, :, N // 4 :], signal[:, :, N // 4 :])
    assert not torch.equal(pair.halves[0][:, :, : N // 4], signal[:, :, : N // 4])


def test_curves_go_from_shells_to_coefficients() -> None:
    values = along_shells(torch.arange(N // 2 + 1).float())
    radius = torch.sqrt(frequencies_squared(N, 1.0 / N, torch.device("cpu")))
    assert torch.allclose(values, radius.clamp(max=N // 2), atol=1e-3)
    assert float(shell_sums(torch.ones(N, N, N // 2 + 1)).sum()) == pytest.approx(4 / 3 * np.pi * (N / 2) ** 3, rel=0.06)
