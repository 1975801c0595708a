"""The processes of one training run: one, or as many as torchrun started, on one machine or several."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from emhance.errors import DeviceError, OptionError
from emhance.network.devices import has_matrix_units

PATIENCE = timedelta(hours=1)
"""How long processes wait for one another, as while the first one prepares the atomic models."""

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Processes:
    """A training process and its fellows.

    Parameters
    ----------
    rank, count
        Number of this process, and how many there are.
    local_count
        How many run on this machine.
    device
        What this one trains on.
    """

    rank: int
    count: int
    local_count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.rank == 0

    def share(self, network: nn.Module) -> nn.Module:
        """The network whose gradients are averaged over all processes."""
        if self.count == 1:
            return network
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=ids)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            torch.distributed.barrier()

    def any(self, value: int) -> int:
        """The largest of the processes' values."""
        if self.count == 1:
            return value
        shared = torch.tensor(value, device=self.device)
        torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
        return int(shared)


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started, by its variables RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE.

    Parameters
    ----------
    device
        auto (a GPU each if there are any, else the CPU), cpu or cuda.

    Raises
    ------
    DeviceError
        If there are not as many GPUs as processes, or none.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    local_rank, local_count = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    own = torch.device("cpu")
    if device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if local_rank >= gpus:
            raise DeviceError(
                f"{local_count} training process(es) on this machine need a GPU each, but PyTorch sees {gpus}; start "
                'fewer, or set device = "cpu".'
            )
        own = torch.device("cuda", local_rank)
        torch.cuda.set_device(own)
    if count == 1:
        yield Processes(0, 1, 1, own)
        return
    backend: dict[str, Any] = {"backend": "nccl" if own.type == "cuda" else "gloo"}
    torch.distributed.init_process_group(timeout=PATIENCE, **backend)
    try:
        yield Processes(rank, count, local_count, own)
    finally:
        torch.distributed.destroy_process_group()


def training_precision(precision: str, device: torch.device) -> torch.dtype:
    """The arithmetic of the convolutions: auto is bfloat16 on a GPU, or a CPU with matrix units, that has it, else float32.

    Raises
    ------
    OptionError
        For anything but auto, float32 and bfloat16.
    """
    if precision not in PRECISIONS:
        raise OptionError(f"Unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}.")
    if precision == "auto":
        # Four times as fast on matrix units; on a CPU without them bfloat16 is slower.
        gpu = device.type == "cuda"
        fit = torch.cuda.is_bf16_supported(including_emulation=False) if gpu else has_matrix_units()
        return torch.bfloat16 if fit else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def processor_share(local_count: int) -> int:
    """Cores of this machine for each of its training processes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // local_count)
