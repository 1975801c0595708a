"""Fixtures every test may use."""

from pathlib import Path

import pytest

from simulated import Simulated

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def shared() -> Path:
    """The folder of development data beside the checkout; tests that use it are marked `shared_data`."""
    if not (SHARED / "README.md").exists():
        pytest.skip("the development data are not here")
    return SHARED


@pytest.fixture(scope="session")
def simulated() -> Simulated:
    from emhance.training.example_protein import example_protein
    from emhance.training.simulation import raw_pair

    maps = raw_pair(example_protein(seed=1), resolution=4.0, box=64, seed=1)
    arrays = [values.numpy() for values in (maps.half1, maps.half2, maps.target)]
    for array in arrays:
        array.flags.writeable = False  # shared by many tests
    return Simulated(arrays[0], arrays[1], arrays[2], maps.molecule.numpy() > 0.5)


@pytest.fixture(scope="session")
def small_network(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of a network that is fast and does something definite: it smooths, and cuts off what is low."""
    import torch

    from emhance.network.unet import UNet, UNetShape
    from emhance.network.weights import save_network

    network = UNet(UNetShape(channels=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1,))).requires_grad_(False)
    for parameter in network.parameters():
        parameter.zero_()
    for i in range(8):  # the stem takes the eight voxels of a cell, the head puts them back with some of their neighbours
        network.stem.weight[i, i, 1, 1, 1] = 1.0
        network.stem.bias[i] = -0.15
        network.head.weight[i, i] = 0.02
        network.head.weight[i, i, 1, 1, 1] = 1.0
    path = tmp_path_factory.mktemp("network") / "small.safetensors"
    about = {"purpose": "Tests.", "trained_on": "nothing", "training": "never"}
    save_network(network, path, name="small", version="3", voxel_size=1.0, resolution=(2.5, 7.0), **about)
    assert not torch.equal(network.head.weight, torch.zeros_like(network.head.weight))
    return str(path)
