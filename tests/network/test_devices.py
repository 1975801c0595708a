"""Choosing devices, arithmetic and threads."""

import contextlib
from pathlib import Path

import pytest
import torch

from emhance.errors import DeviceError, OptionError
from emhance.network import devices
from emhance.network.devices import cpu_threads, device_name, network_memory, pick_devices, pick_precision

CPU = torch.device("cpu")


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def cuda(*numbers: int) -> list[torch.device]:
    return [torch.device("cuda", number) for number in numbers]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", cuda(0)),
        ("none", [CPU]),
        ("all", cuda(0, 1, 2)),
        ("1", cuda(1)),
        ("2,0", cuda(2, 0)),
        (" 0 , 1 ", cuda(0, 1)),
        ("1,1", cuda(1)),
        ("NONE", [CPU]),
    ],
)
def test_gpus_are_picked_as_asked(monkeypatch: pytest.MonkeyPatch, choice: str, expected: list[torch.device]) -> None:
    gpus(monkeypatch, 3)
    assert pick_devices(choice) == expected


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_without_a_gpu_the_cpu_is_picked(monkeypatch: pytest.MonkeyPatch, choice: str) -> None:
    gpus(monkeypatch, 0)
    assert pick_devices(choice) == [CPU]


@pytest.mark.parametrize(
    ("choice", "count", "message"),
    [
        ("0", 0, "GPU 0 does not exist: PyTorch sees no GPU here"),
        ("all", 0, "sees no GPU here"),
        ("0,3", 3, "GPU 3 does not exist: PyTorch sees GPUs 0 to 2"),
        ("-1", 3, "GPU -1 does not exist"),
        ("first", 3, "cannot be read"),
        ("", 3, "cannot be read"),
        ("0,", 3, "cannot be read"),
    ],
)
def test_gpus_that_are_not_there_are_said(monkeypatch: pytest.MonkeyPatch, choice: str, count: int, message: str) -> None:
    gpus(monkeypatch, count)
    with pytest.raises(DeviceError, match=message):
        pick_devices(choice)


def test_precision() -> None:
    assert pick_precision("float32", CPU) == torch.float32
    assert pick_precision("bfloat16", CPU) == torch.bfloat16
    assert pick_precision("float16", torch.device("cuda", 0)) == torch.float16
    assert pick_precision("auto", torch.device("cuda", 0)) == torch.float16
    with pytest.raises(OptionError, match="float16 needs a GPU"):
        pick_precision("float16", CPU)


@pytest.mark.parametrize(("faster", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bfloat16_on_the_cpu_where_it_is_faster(monkeypatch: pytest.MonkeyPatch, faster: bool, expected: torch.dtype) -> None:
    monkeypatch.setattr(devices, "_bfloat16_is_faster", lambda: faster)
    assert pick_precision("auto", CPU) == expected


def test_the_measurement_of_bfloat16_runs() -> None:
    assert isinstance(devices._bfloat16_is_faster(), bool)


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with cpu_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with contextlib.suppress(ValueError), cpu_threads(before + 1):
        raise ValueError
    assert torch.get_num_threads() == before


def test_the_network_takes_a_bounded_share_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < network_memory(CPU) <= devices.CPU_MEMORY
    monkeypatch.setattr(devices, "_available_memory", lambda: 1e9)
    assert network_memory(CPU) == pytest.approx(0.4e9)
    assert network_memory(CPU) < devices.CPU_MEMORY


def test_memory_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert devices._available_memory() > 0


def test_device_names() -> None:
    assert device_name(CPU) == "CPU"
