"""Which devices the network runs on, in which arithmetic, and how much memory it may take there."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from emhance.errors import DeviceError, OptionError
from emhance.network.unet import channels_last

logger = logging.getLogger("emhance")

CPU_MEMORY = 4 * 2**30
"""Largest share of the memory that the network's own arrays take on the CPU, bytes."""


def pick_devices(gpus: str) -> list[torch.device]:
    """Translate the user's choice of GPUs into devices.

    Parameters
    ----------
    gpus
        "auto" (the first GPU if there is one, else the CPU), "none", "all", or numbers: "0", "0,1".

    Raises
    ------
    DeviceError
        For GPUs that are not there, or a choice that cannot be read.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    choice = gpus.strip().lower()
    if choice == "none":
        return [torch.device("cpu")]
    if choice == "auto":
        return [torch.device("cuda", 0)] if count else [torch.device("cpu")]
    if choice == "all":
        if not count:
            raise DeviceError("--gpus all was given but PyTorch sees no GPU here; use --gpus none to run on the CPU.")
        return [torch.device("cuda", i) for i in range(count)]
    try:
        numbers = [int(part) for part in choice.split(",")]
    except ValueError:
        raise DeviceError(f"--gpus {gpus!r} cannot be read; give auto, none, all, or numbers as in 0 or 0,1.") from None
    for number in numbers:
        if not 0 <= number < count:
            there = f"PyTorch sees GPUs 0 to {count - 1}" if count else "PyTorch sees no GPU here"
            raise DeviceError(f"GPU {number} does not exist: {there}; choose another one, or --gpus none to run on the CPU.")
    return [torch.device("cuda", number) for number in dict.fromkeys(numbers)]


def pick_precision(precision: str, device: torch.device) -> torch.dtype:
    """The arithmetic of the convolutions on a device.

    Parameters
    ----------
    precision
        "float32", "bfloat16", "float16", or "auto": float16 on a GPU; on a CPU float32, or bfloat16 where the processor has it
        and a short measurement finds it faster.

    Raises
    ------
    OptionError
        For float16 on a CPU.
    """
    if precision == "auto":
        if device.type == "cuda":
            return torch.float16
        return torch.bfloat16 if _bfloat16_is_faster() else torch.float32
    if precision == "float16" and device.type == "cpu":
        raise OptionError("--precision float16 needs a GPU; use float32 or bfloat16 on the CPU.")
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]


def default_threads() -> int:
    """CPU threads that PyTorch uses unless told otherwise: one for every core this process may use."""
    return torch.get_num_threads()


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Let PyTorch use `count` CPU threads inside the block, and as many as before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def network_memory(device: torch.device) -> float:
    """Bytes that the network's own arrays may take on a device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return 0.8 * free
    return min(CPU_MEMORY, 0.4 * _available_memory())


def device_name(device: torch.device) -> str:
    """A name for the provenance: the GPU's model, or "CPU"."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else "CPU"


def has_onednn() -> bool:
    """Whether PyTorch was built with oneDNN, the CPU's fast convolutions."""
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def has_matrix_units() -> bool:
    """Whether the processor multiplies matrices in bfloat16 by itself (AMX), and PyTorch, from 2.5 on, makes use of it."""
    known = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return has_onednn() and known is not None and bool(known())


def _bfloat16_is_faster() -> bool:
    """Measure one convolution in both arithmetics, where the processor has bfloat16 units."""
    if not has_onednn() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    seconds = {}
    with torch.inference_mode():
        for dtype in (torch.float32, torch.bfloat16):
            layer = channels_last(torch.nn.Conv3d(32, 32, 3, padding=1).to(dtype))
            x = torch.zeros((1, 32, 16, 64, 64), dtype=dtype).to(memory_format=torch.channels_last_3d)
            layer(x)
            start = time.perf_counter()
            for _ in range(3):
                layer(x)
            seconds[dtype] = time.perf_counter() - start
    faster = seconds[torch.bfloat16] < 0.8 * seconds[torch.float32]
    logger.debug("bfloat16 takes %.2f of the time of float32", seconds[torch.bfloat16] / seconds[torch.float32])
    return faster


def _available_memory() -> float:
    """Bytes of memory that can be taken without swapping."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    return 4.0 * 2**30  # systems without /proc: what every laptop has
