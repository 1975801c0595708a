"""An imported network survives saving and loading bit for bit, and nothing else is loaded."""

import numpy as np
import pytest
import safetensors.numpy
import torch
from checkpoints import small_network

from emhance.errors import OutputError, WeightsError
from emhance.legacy.importing import is_imported, load_imported, load_keras, save_imported


@pytest.fixture
def network(tmp_path):
    return load_keras(small_network(tmp_path / "net.hd5"))


def output_of(network, seed=0):
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, 1, 16, 16, 16)).astype(np.float32))
    with torch.inference_mode():
        return network.module(x).numpy()


def test_round_trip_is_bit_identical(network, tmp_path):
    card = save_imported(network, tmp_path / "net.safetensors")
    again = load_imported(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(output_of(again), output_of(network))
    assert card == tmp_path / "net.toml"
    for name in ("tile_size", "stride", "normalization", "name", "sha256"):
        assert getattr(again, name) == getattr(network, name)
    assert is_imported(tmp_path / "net.safetensors")


@pytest.mark.shared_data
def test_round_trip_of_the_golden_checkpoints(shared, tmp_path):
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, 32, 32, 32)).astype(np.float32))
    for path in sorted((shared / "golden" / "checkpoints").glob("*.hd5")):
        network = load_keras(path)
        save_imported(network, tmp_path / f"{path.stem}.safetensors")
        again = load_imported(tmp_path / f"{path.stem}.safetensors")
        with torch.inference_mode():
            assert torch.equal(again.module(x), network.module(x))
        assert (network.tile_size, network.stride) == (64, 16)


def test_existing_files_are_kept_unless_asked(network, tmp_path):
    save_imported(network, tmp_path / "net.safetensors")
    with pytest.raises(OutputError, match="exists"):
        save_imported(network, tmp_path / "net.safetensors")
    save_imported(network, tmp_path / "net.safetensors", overwrite=True)
    with pytest.raises(OutputError, match=r"\.safetensors"):
        save_imported(network, tmp_path / "net.bin")
    with pytest.raises(OutputError):
        save_imported(network, tmp_path / "missing" / "net.safetensors")


def test_weights_that_are_not_the_cards_are_refused(network, tmp_path):
    path = tmp_path / "net.safetensors"
    save_imported(network, path)
    with path.open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x7f")
    with pytest.raises(WeightsError, match="SHA-256"):
        load_imported(path)


def test_a_missing_card_is_reported(network, tmp_path):
    save_imported(network, tmp_path / "net.safetensors").unlink()
    with pytest.raises(WeightsError, match="card"):
        load_imported(tmp_path / "net.safetensors")


def test_other_safetensors_files_are_told_apart(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(2, np.float32)}, path)
    assert not is_imported(path)
    assert not is_imported(tmp_path / "missing.safetensors")
