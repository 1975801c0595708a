"""Weights and cards: what is written is what is read, and nothing else is loaded."""

from pathlib import Path

import pytest
import safetensors.torch
import tomllib
import torch
from untrained import SMALL, untrained

from emhance.config import NETWORK_NAMES
from emhance.errors import WeightsError
from emhance.network.unet import UNet, UNetShape
from emhance.network.weights import SHIPPED, available_cards, load_network, read_card, save_network

ABOUT = {
    "version": "7",
    "purpose": "Tests.",
    "voxel_size": 1.5,
    "resolution": (3.0, 6.0),
    "trained_on": "nothing",
    "training": "never",
    "scores": {"cc_box": "0.5 (made up)"},
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_network(untrained(), path, name="small", **ABOUT)
    return path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_network_and_its_card_survive_the_disk(saved: Path) -> None:
    network = load_network(str(saved))
    card = network.card
    assert (card.name, card.version, card.purpose, card.voxel_size) == ("small", "7", "Tests.", 1.5)
    assert card.resolution == (3.0, 6.0)
    assert card.scores == {"cc_box": "0.5 (made up)"}
    assert network.module.shape == SMALL
    for key, value in untrained().state_dict().items():
        assert torch.equal(network.module.state_dict()[key], value.half().float()), key
    assert not network.module.training
    assert not any(p.requires_grad for p in network.module.parameters())


def test_weights_of_another_card_are_refused(saved: Path) -> None:
    data = bytearray(saved.read_bytes())
    data[-1] ^= 1
    saved.write_bytes(bytes(data))
    with pytest.raises(WeightsError, match="does not belong to its card: its SHA-256"):
        load_network(str(saved))


def test_a_missing_card_is_said(saved: Path) -> None:
    saved.with_suffix(".toml").unlink()
    with pytest.raises(WeightsError, match=r"card .*small\.toml cannot be read .*beside the weights"):
        load_network(str(saved))


def test_missing_weights_are_said(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="do not exist"):
        load_network(str(tmp_path / "none.safetensors"))


@pytest.mark.parametrize("name", ["tigth", "", "weights.pt", "tight.safetensors.bin", ".."])
def test_an_unknown_network_is_said_with_those_there_are(name: str) -> None:
    with pytest.raises(WeightsError, match=r"Unknown network .*tight, wide, highres, masked"):
        load_network(name)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[shape]", "[["),
        ('name = "small"', 'names = "small"'),
        ('name = "small"\n', ""),
        ("resolution = [", "resolution = 5\nother = ["),
    ],
)
def test_what_is_no_card_is_said(saved: Path, old: str, new: str) -> None:
    change(saved.with_suffix(".toml"), old, new)
    with pytest.raises(WeightsError, match="is not a model card"):
        read_card(saved.with_suffix(".toml"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("channels", "widths"),
        ("encoder_blocks = [\n    1,", "encoder_blocks = [\n    1,\n    1,"),
        ("channels = [\n    8,", 'channels = [\n    "x",'),
    ],
)
def test_a_card_that_describes_no_network_is_said(saved: Path, old: str, new: str) -> None:
    change(saved.with_suffix(".toml"), old, new)
    with pytest.raises(WeightsError, match="describes no network"):
        load_network(str(saved))


def test_loading_is_strict(saved: Path) -> None:
    change(saved.with_suffix(".toml"), "channels = [\n    8,", "channels = [\n    16,")
    with pytest.raises(WeightsError, match="cannot be loaded into the network its card describes") as caught:
        load_network(str(saved))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("extra", [True, False])
def test_missing_and_unexpected_weights_are_refused(tmp_path: Path, extra: bool) -> None:
    path = tmp_path / "odd.safetensors"

    class Odd(UNet):
        def state_dict(self, *args: object, **kwargs: object) -> dict[str, torch.Tensor]:  # type: ignore[override]
            values = dict(super().state_dict())
            if extra:
                values["more"] = torch.zeros(1)
            else:
                values.pop("head.bias")
            return values

    save_network(Odd(SMALL), path, name="odd", **ABOUT)
    with pytest.raises(WeightsError, match="more" if extra else "head.bias"):
        load_network(str(path))


def test_a_file_that_is_no_safetensors_is_refused(saved: Path) -> None:
    from hashlib import sha256

    before = sha256(saved.read_bytes()).hexdigest()
    saved.write_bytes(b"not weights at all")
    change(saved.with_suffix(".toml"), before, sha256(saved.read_bytes()).hexdigest())
    with pytest.raises(WeightsError, match="cannot be loaded"):
        load_network(str(saved))


def test_the_shipped_networks_load_and_stay_small() -> None:
    cards = available_cards()
    assert "tight" in {card.name for card in cards}
    for card in cards:
        assert card.name in NETWORK_NAMES
        network = load_network(card.name)
        assert network.card.sha256 == card.sha256
        assert (SHIPPED / f"{card.name}.safetensors").stat().st_size < 10e6
        assert network.module.shape == UNetShape.from_dict(card.shape)


def test_cards_are_plain_toml(saved: Path) -> None:
    values = tomllib.loads(saved.with_suffix(".toml").read_text())
    assert values["shape"] == {"channels": [8, 8, 8], "encoder_blocks": [1, 1, 1], "decoder_blocks": [1, 1]}
    weights = safetensors.torch.load_file(saved)
    assert {value.dtype for value in weights.values()} == {torch.float16}
