"""Batches of crops: which process learns from which maps, and who simulates them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from emhance.training.dataset import Crops
from emhance.training.interruption import leave_signals_to_parent
from emhance.training.processes import Processes, processor_share
from emhance.training.training_config import TrainingConfig


def map_numbers(config: TrainingConfig, own: Processes, *, step: int) -> range:
    """The numbers of the maps from which this process learns from `step` on: the processes take turns."""
    first = step // steps_per_mixture(config) * config.maps_mixed
    last = -(-config.steps // steps_per_mixture(config)) * config.maps_mixed
    return range(first * own.count + own.rank, last * own.count, own.count)


def steps_per_mixture(config: TrainingConfig) -> int:
    """Steps for which the crops of maps that are mixed last."""
    return config.crops_mixed // config.crops_per_step


def simulated(
    config: TrainingConfig, own: Processes, crops: Dataset[Crops], numbers: range, *, ahead: int = 4
) -> DataLoader[Any]:
    """The crops of one map after the other, simulated by workers or on the device.

    Parameters
    ----------
    config, own
        The run, and its processes.
    crops
        Where they come from.
    numbers
        Of the maps wanted.
    ahead
        Maps that workers simulate before they are wanted.
    """
    there = config.simulate_on == "device"
    workers = config.workers if config.workers is not None else max(1, processor_share(own.local_count) - 1)
    workers = 0 if there else min(workers, len(numbers))
    return DataLoader(
        crops,
        batch_size=1,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=-(-ahead // workers) if workers else None,
        worker_init_fn=_start_worker,
        collate_fn=_the_only if there else _as_arrays,
    )


def batches(config: TrainingConfig, own: Processes, crops: Dataset[Crops], *, step: int) -> Iterator[Crops]:
    """What this process learns from, from `step` on: the crops of `maps_mixed` maps at a time, shuffled.

    The order depends on the step alone, so that a run that is resumed goes on as if it had never stopped.
    """
    numbers = map_numbers(config, own, step=step)
    done = step % steps_per_mixture(config)
    mixture: list[Crops] = []
    for number, made in zip(numbers, simulated(config, own, crops, numbers, ahead=config.maps_mixed + 4), strict=True):
        mixture.append(on_device(own.device, made))
        if len(mixture) < config.maps_mixed:
            continue
        mixed = Crops(*(torch.cat(parts) for parts in zip(*mixture, strict=True)))
        mixture = []
        order = np.random.default_rng([config.seed, number]).permutation(len(mixed.inputs))
        for part in order.reshape(-1, config.crops_per_step)[done:]:
            yield Crops(*(values[part] for values in mixed))
        done = 0


def _as_arrays(items: Sequence[Crops]) -> tuple[NDArray[np.float32], ...]:
    """The crops of a map as arrays, which travel between processes through a pipe.

    Tensors would travel through shared memory, which runs out, or of which the system allows too little.
    """
    (only,) = items
    return tuple(part.cpu().numpy() for part in only)


def _the_only(items: Sequence[Crops]) -> Crops:
    (only,) = items
    return only


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    leave_signals_to_parent()


def on_device(device: torch.device, batch: Any) -> Crops:
    """A batch where it is needed."""
    return Crops(*(torch.as_tensor(part).to(device) for part in batch))
