"""The network: shapes, reach, cost."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from untrained import SMALL, noise, untrained, whole

from emhance.network.unet import UNet, UNetShape, fold, unfold

SHAPES = [
    SMALL,
    UNetShape(channels=(8, 16), encoder_blocks=(2, 1), decoder_blocks=(1,)),
    UNetShape(channels=(4, 8, 8, 16), encoder_blocks=(1, 1, 1, 1), decoder_blocks=(1, 2, 1)),
]


def test_unfold_undoes_fold() -> None:
    x = torch.randn(2, 3, 4, 6, 8)
    assert torch.equal(unfold(fold(x)), x)


def test_fold_keeps_neighbours_together() -> None:
    x = torch.zeros(1, 1, 4, 4, 4)
    x[0, 0, 2:, 2:, 2:] = 1
    assert torch.equal(fold(x)[0, :, 1, 1, 1], torch.ones(8))
    assert fold(x).sum() == 8


@pytest.mark.parametrize("shape", SHAPES)
def test_the_output_has_the_shape_of_the_input(shape: UNetShape) -> None:
    network = untrained(shape)
    a = network.alignment
    x = torch.randn(2, 1, a, 2 * a, 3 * a)
    assert network(x).shape == x.shape


@pytest.mark.parametrize("shape", SHAPES)
def test_the_receptive_radius_bounds_the_influence_of_a_voxel(shape: UNetShape) -> None:
    network = untrained(shape, positive=True)
    radius, n = network.receptive_radius, 3 * network.receptive_radius
    n -= n % network.alignment
    for corner in (n // 2 - n // 2 % network.alignment, n // 2 - n // 2 % network.alignment + network.alignment - 1):
        a = np.full((network.alignment, network.alignment, n), 0.5, np.float32)
        b = a.copy()
        b[3, 3, corner] += 10
        touched = np.flatnonzero((np.abs(whole(network, a) - whole(network, b)) > 0).any((0, 1)))
        reach = max(corner - touched.min(), touched.max() - corner)
        assert reach <= radius
        assert reach > radius - 3 * network.alignment, "the bound is so loose that halos cost too much"


def test_a_shift_by_the_alignment_shifts_the_result() -> None:
    network = untrained()
    a = network.alignment
    data = np.zeros((16, 16, 160), np.float32)
    data[4:12, 4:12, 70:90] = noise(8, 8, 20)
    # Far from the faces, whose zeros are of another kind than those of the input, the network moves with its input.
    moved = np.roll(whole(network, data), a, 2)[..., 60:110]
    np.testing.assert_allclose(whole(network, np.roll(data, a, 2))[..., 60:110], moved, atol=1e-4)


def test_nothing_of_the_input_is_averaged() -> None:
    """A voxel far away changes nothing, however strong it is: the network holds no statistics of its input."""
    network = untrained()
    data = noise(8, 8, 8 * (network.receptive_radius // 4))
    changed = data.copy()
    changed[..., -1] = 1e4
    near = slice(0, data.shape[2] - network.receptive_radius - 8)
    assert np.array_equal(whole(network, data)[..., near], whole(network, changed)[..., near])


@pytest.mark.parametrize("shape", [*SHAPES, UNetShape()])
def test_the_stated_cost_is_what_torch_counts(shape: UNetShape) -> None:
    network = UNet(shape).eval()
    x = torch.zeros(1, 1, 32, 32, 32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(x)
    assert network.operations_per_voxel() == pytest.approx(counter.get_total_flops() / x.numel(), rel=1e-6)


def test_the_default_network_costs_between_100_and_500_kflop_per_voxel_and_fits_its_file() -> None:
    network = UNet()
    assert 90e3 < network.operations_per_voxel() < 500e3
    assert 2 * sum(p.numel() for p in network.parameters()) < 10e6, "the weights in float16 exceed 10 MB"


def test_a_shape_survives_the_card() -> None:
    shape = SHAPES[2]
    assert UNetShape.from_dict(shape.to_dict()) == shape
