"""What a training run leaves: its checkpoint and its log."""

from __future__ import annotations

import csv
import pickle
from pathlib import Path
from typing import Any

import torch

from emhance.errors import OptionError, WeightsError
from emhance.maps.atomic_write import atomic_output
from emhance.network.unet import UNetShape

CHECKPOINT, LOG = "checkpoint.pt", "log.csv"

Row = dict[str, Any]


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; whoever looks sees the old one or the whole new one."""
    with atomic_output(path, overwrite=True) as temporary, temporary.open("wb") as file:
        torch.save(state, file)


def load_checkpoint(path: Path, *, device: torch.device, shape: UNetShape) -> dict[str, Any]:
    """Read a checkpoint with the keys network, average, optimizer, step and shape; newer ones hold more.

    Raises
    ------
    WeightsError
        If it cannot be read.
    OptionError
        If it belongs to a network of another shape.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        found = UNetShape.from_dict(state["shape"])
        missing = {"network", "average", "optimizer", "step"} - set(state)
    except OSError as error:
        raise WeightsError(f"The checkpoint {path} cannot be read ({error.strerror or error}); check the path.") from error
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path} is not a checkpoint of a training run, or it is damaged; give another.") from error
    if missing:
        raise WeightsError(f"The checkpoint {path} lacks {', '.join(sorted(missing))}; give another.")
    if found != shape:
        known, wanted = (f"channels {s.channels}, blocks {s.encoder_blocks} and {s.decoder_blocks}" for s in (found, shape))
        raise OptionError(
            f"The checkpoint {path} belongs to a network with {known}, but [network] says {wanted}; make them equal."
        )
    return state


class TrainingLog:
    """The CSV log: a row for every validation.

    Parameters
    ----------
    path
        The file; rows that are there up to `step` are kept, later ones belong to what was lost when the run died.
    step
        Where the run goes on.
    """

    def __init__(self, path: Path, *, step: int) -> None:
        self._path = path
        self.rows: list[Row] = []
        if step and path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]

    def append(self, row: Row) -> None:
        """Add a row and write the file."""
        self.rows.append(row)
        columns = list(dict.fromkeys(key for known in self.rows for key in known))
        with atomic_output(self._path, overwrite=True) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(self.rows)
