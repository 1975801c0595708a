"""Model cards and weights: what a network is for, and the numbers that make it work.

Weights are safetensors files; beside each lies a TOML card of the same name. Nothing is unpickled, nothing is executed,
and loading is strict.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import tomli_w
import torch

from emhance.config import NETWORK_NAMES
from emhance.errors import WeightsError
from emhance.maps.atomic_write import atomic_output
from emhance.network.unet import UNet, UNetShape

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHIPPED = Path(__file__).parent / "shipped"
"""Where the networks that come with the package lie."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What there is to know about a network.

    Parameters
    ----------
    name
        Short name, as given to ``--network``.
    version
        Changes whenever the weights do.
    purpose
        What it is for, one sentence.
    voxel_size
        Voxel size in Å of its input and output.
    shape
        Layers of the network, see `UNetShape`.
    resolution
        Range of map resolutions it was trained for, Å.
    trained_on, training
        Sentences: on what, for how long.
    scores
        Figures of merit with their meaning.
    sha256
        Of the weights file.
    """

    name: str
    version: str
    purpose: str
    voxel_size: float
    shape: dict[str, list[int]]
    resolution: tuple[float, float]
    trained_on: str
    training: str
    sha256: str
    scores: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Network:
    """A network ready to run on the CPU, with its card."""

    module: UNet
    card: Card


def available_cards() -> list[Card]:
    """Cards of the networks that ship with the package, in the order of `NETWORK_NAMES`."""
    return [read_card(SHIPPED / f"{name}.toml") for name in NETWORK_NAMES if (SHIPPED / f"{name}.toml").exists()]


def load_network(name_or_path: str) -> Network:
    """Load a shipped network by name, or any by the path of its ``.safetensors`` file with the card beside it.

    Raises
    ------
    WeightsError
        If there is no such network, its card is missing, or weights and card do not belong together.
    """
    if name_or_path in NETWORK_NAMES:
        path = SHIPPED / f"{name_or_path}.safetensors"
    else:
        path = Path(name_or_path)
        if path.suffix != ".safetensors":
            raise WeightsError(
                f"Unknown network '{name_or_path}'; choose one of {', '.join(NETWORK_NAMES)}, or give a .safetensors file."
            )
    if not path.is_file():
        raise WeightsError(f"The weights {path} do not exist; `emhance networks` lists what is there.")
    card = read_card(path.with_suffix(".toml"))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != card.sha256:
        raise WeightsError(
            f"{path} does not belong to its card: its SHA-256 is {found[:16]}…, the card says {card.sha256[:16]}…; "
            "get both files again."
        )
    try:
        module = UNet(UNetShape.from_dict(card.shape))
    except (AttributeError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"The card of {path} describes no network ({error}); get both files again.") from error
    try:
        values = safetensors.torch.load_file(path)
        module.load_state_dict({key: value.float() for key, value in values.items()}, strict=True)
    except (safetensors.SafetensorError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())  # PyTorch's runs over several lines
        raise WeightsError(f"{path} cannot be loaded into the network its card describes: {reason}") from error
    return Network(module.eval().requires_grad_(False), card)


def read_card(path: Path) -> Card:
    """Read a card.

    Raises
    ------
    WeightsError
        If it is missing or not a card.
    """
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        low, high = values.pop("resolution")
        return Card(resolution=(float(low), float(high)), **values)
    except OSError as error:
        raise WeightsError(f"The card {path} cannot be read ({error.strerror}); it must lie beside the weights.") from error
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is not a model card of emhance: {error}.") from error


def save_network(module: UNet, path: Path, *, name: str, **about: Any) -> Card:
    """Write weights, rounded to float16, and the card beside them; what is there is replaced.

    Parameters
    ----------
    module
        The trained network.
    path
        The ``.safetensors`` file to write; the card gets the same name with ``.toml``.
    name, about
        Entries of the `Card`; shape and SHA-256 are filled in.
    """
    values = {key: value.detach().to("cpu", torch.float16).contiguous() for key, value in module.state_dict().items()}
    data = safetensors.torch.save(values)
    card = Card(name=name, shape=module.shape.to_dict(), sha256=hashlib.sha256(data).hexdigest(), **about)
    with atomic_output(path, overwrite=True) as weights, atomic_output(path.with_suffix(".toml"), overwrite=True) as text:
        weights.write_bytes(data)
        text.write_text(tomli_w.dumps(asdict(card)), encoding="utf-8")
    return card
