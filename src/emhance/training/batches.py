"""Batches of crops: which process learns from which maps, and who simulates them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from emhance.training.dataset import Crops, as_arrays, as_tensors
from emhance.training.interruption import leave_signals_to_parent
from emhance.training.processes import Processes, processor_share
from emhance.training.training_config import TrainingConfig


class StepNumbers(Sampler[int]):
    """The numbers of the maps that this process learns from: those of one step are dealt out to the processes in turn."""

    def __init__(self, config: TrainingConfig, own: Processes, *, step: int, first: int) -> None:
        self._steps, self._maps, self._own, self._first = config.steps - step, config.maps_per_step, own, first

    def __len__(self) -> int:
        return self._steps * self._maps

    def __iter__(self) -> Iterator[int]:
        for step in range(self._steps):
            start = self._first + (step * self._own.count + self._own.rank) * self._maps
            yield from range(start, start + self._maps)


def loader(
    config: TrainingConfig, own: Processes, crops: Dataset[Crops], numbers: Sampler[int] | range, *, count: int, size: int
) -> DataLoader[Any]:
    """Batches of crops, simulated by workers or on the device.

    Parameters
    ----------
    config, own
        The run, and its processes.
    crops
        Where they come from.
    numbers
        Of the maps wanted.
    count, size
        How many maps in all, and in a batch.
    """
    there = config.simulate_on == "device"
    workers = config.workers if config.workers is not None else max(1, processor_share(own.local_count) - 1)
    workers = 0 if there else min(workers, count)
    return DataLoader(
        crops,
        batch_size=size,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_start_worker,
        collate_fn=as_tensors if there else as_arrays,
    )


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    leave_signals_to_parent()


def on_device(device: torch.device, batch: Any) -> Crops:
    """A batch where it is needed."""
    return Crops(*(torch.as_tensor(part).to(device) for part in batch))
