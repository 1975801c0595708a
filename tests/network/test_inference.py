"""The result depends on the network and the map, on nothing else."""

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from untrained import SHALLOW, largest_difference, noise, untrained, whole

from emhance.errors import DeviceError
from emhance.network import inference
from emhance.network.inference import InferenceConfig, infer
from emhance.network.streaming import stream

CPU = torch.device("cpu")
LONG = [(16, 20, 203), (13, 190, 24), (200, 16, 9)]
"""Longer than a tile and its halo, along each axis in turn."""
BOXES = [(64, 64, 64), (45, 61, 50), (7, 5, 3), (1, 1, 1), *LONG]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("tile_size", [None, 16, 40])
def test_any_tile_size_gives_the_whole_boxs_result(box: tuple[int, int, int], tile_size: int | None) -> None:
    network, data = untrained(), noise(*box)
    if max(box) <= 64:
        network = untrained(SHALLOW)
    result = infer(network, data, InferenceConfig(tile_size=tile_size))
    assert result.shape == box
    assert result.dtype == np.float32
    assert largest_difference(result, whole(network, data)) < 1e-5


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_any_batch_size_gives_the_same(batch_size: int) -> None:
    network, data = untrained(SHALLOW), noise(17, 85, 90)
    result = infer(network, data, InferenceConfig(tile_size=16, batch_size=batch_size))
    assert largest_difference(result, whole(network, data)) < 1e-5


@pytest.mark.parametrize("devices", [2, 3])
@pytest.mark.parametrize("tile_size", [None, 24])
@pytest.mark.parametrize("box", [(203, 16, 20), (50, 45, 61)])
def test_several_devices_give_the_same(devices: int, tile_size: int | None, box: tuple[int, int, int]) -> None:
    network, data = untrained(SHALLOW), noise(*box)
    result = infer(network, data, InferenceConfig(devices=(CPU,) * devices, tile_size=tile_size))
    assert largest_difference(result, whole(network, data)) < 1e-5


def test_no_thread_changes_the_layout_of_weights_another_convolves_with(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    lay_out = inference.channels_last
    monkeypatch.setattr(inference, "channels_last", lambda module: threads.append(threading.current_thread()) or lay_out(module))
    network = untrained(SHALLOW)
    strides = [p.stride() for p in network.parameters()]
    infer(network, noise(24, 16, 20), InferenceConfig(devices=(CPU,) * 3, tile_size=8))
    assert threads == [threading.main_thread()]
    assert [p.stride() for p in network.parameters()] == strides, "the caller's network was changed"


def test_two_threads_give_the_same() -> None:
    network, data = untrained(), noise(48, 48, 48)
    torch.set_num_threads(2)
    assert largest_difference(infer(network, data), whole(network, data)) < 1e-5


def test_bfloat16_is_close() -> None:
    network, data = untrained(), noise(32, 32, 32)
    result = infer(network, data, InferenceConfig(precision=torch.bfloat16))
    assert largest_difference(result, whole(network, data)) < 0.05
    assert next(network.parameters()).dtype == torch.float32, "the caller's network was changed"


@pytest.mark.parametrize("tile_size", [None, 16])
def test_a_region_is_that_part_of_the_whole_and_the_rest_is_zero(tile_size: int | None) -> None:
    network, data = untrained(SHALLOW), noise(60, 64, 99)
    start, stop = (3, 16, 21), (30, 40, 60)
    result = infer(network, data, InferenceConfig(tile_size=tile_size), region=(start, stop))
    expected = whole(network, data)
    wanted = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    assert largest_difference(result[wanted], expected[wanted]) < 1e-5
    step = network.alignment
    aligned = tuple(slice(a // step * step, -(-b // step) * step) for a, b in zip(start, stop, strict=True))
    outside = np.ones(data.shape, bool)
    outside[aligned] = False
    assert not result[outside].any()
    assert result[aligned].all()


def test_no_seams_where_tiles_meet() -> None:
    """The difference to the whole box's result is no larger at the tiles' faces than elsewhere."""
    network, data = untrained(SHALLOW), noise(16, 96, 96)
    difference = np.abs(infer(network, data, InferenceConfig(tile_size=24)) - whole(network, data))
    faces = np.zeros(96, bool)
    faces[[23, 24, 47, 48, 71, 72]] = True
    at_faces = (faces[:, None] | faces[None, :])[None] & np.ones_like(data, bool)
    assert difference[at_faces].max() <= 10 * max(difference[~at_faces].max(), 1e-7 * np.abs(data).max())


def test_the_borders_are_not_damped() -> None:
    network, data = untrained(SHALLOW), noise(64, 64, 64)
    result, expected = infer(network, data, InferenceConfig(tile_size=32)), whole(network, data)
    for face in ((0,), (-1,), (slice(None), 0), (slice(None), -1), (..., 0), (..., -1)):
        assert np.std(result[face]) == pytest.approx(np.std(expected[face]), rel=1e-4)


@pytest.mark.parametrize(("tile_size", "devices"), [(None, 1), (16, 1), (24, 2)])
def test_the_progress_rises_to_its_total(tile_size: int | None, devices: int) -> None:
    seen: list[tuple[int, int]] = []
    config = InferenceConfig(tile_size=tile_size, devices=(CPU,) * devices, batch_size=2)
    infer(untrained(), noise(40, 56, 48), config, progress=lambda done, total: seen.append((done, total)))
    assert len({total for _, total in seen}) == 1
    assert all(a[0] < b[0] for a, b in itertools.pairwise(seen))
    assert seen[-1][0] == seen[-1][1]


def test_the_input_is_not_changed() -> None:
    data = noise(24, 24, 24)
    before = data.copy()
    infer(untrained(), data)
    assert np.array_equal(data, before)


def failing_stream(monkeypatch: pytest.MonkeyPatch, *, times: int, after_parts: int = 0) -> list[tuple[int, ...]]:
    """Let `stream` run out of memory in its first calls, after some parts; return a list that gets every call's shape."""
    shapes: list[tuple[int, ...]] = []

    def fail(network: Any, slabs: Any) -> Iterator[Tensor]:
        slabs = list(slabs)
        shapes.append((slabs[0].shape[0], *slabs[0].shape[3:]))
        fails = len(shapes) <= times
        for number, part in enumerate(stream(network, slabs)):
            if fails and number >= after_parts:
                break
            yield part
        if fails:
            raise torch.cuda.OutOfMemoryError("out of memory, says the test")

    monkeypatch.setattr(inference, "stream", fail)
    return shapes


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("after_parts", [0, 1])
def test_out_of_memory_halves_the_batch_and_gives_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, devices: int, after_parts: int
) -> None:
    network, data = untrained(SHALLOW), noise(64, 64, 64)
    shapes = failing_stream(monkeypatch, times=1, after_parts=after_parts)
    seen: list[tuple[int, int]] = []
    result = infer(
        network,
        data,
        InferenceConfig(tile_size=32, batch_size=4, devices=(CPU,) * devices),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert largest_difference(result, whole(network, data)) < 1e-5
    assert "2 tiles at a time" in caplog.text
    assert (2, *shapes[0][1:]) in shapes[1:]
    assert seen[-1][0] == seen[-1][1]
    assert all(0 <= done <= total for done, total in seen)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_out_of_memory_halves_the_tile_and_gives_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, times: int
) -> None:
    network, data = untrained(), noise(24, 160, 200)
    shapes = failing_stream(monkeypatch, times=times, after_parts=1)
    seen: list[tuple[int, int]] = []
    result = infer(network, data, progress=lambda done, total: seen.append((done, total)))
    assert largest_difference(result, whole(network, data)) < 1e-5
    assert "smaller tiles" in caplog.text
    assert shapes[1][1] * shapes[1][2] < shapes[0][1] * shapes[0][2]
    assert seen[-1][0] == seen[-1][1]


def test_a_gpu_that_holds_no_tile_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    failing_stream(monkeypatch, times=1000)
    with pytest.raises(DeviceError, match="smallest; use --gpus none"):
        infer(untrained(), noise(32, 64, 64))


@pytest.mark.parametrize("devices", [1, 3])
def test_a_failure_of_one_device_ends_the_run(monkeypatch: pytest.MonkeyPatch, devices: int) -> None:
    def fail(network: Any, slabs: Any) -> Iterator[Tensor]:
        raise ZeroDivisionError
        yield

    monkeypatch.setattr(inference, "stream", fail)
    with pytest.raises(ZeroDivisionError):
        infer(untrained(), noise(32, 64, 64), InferenceConfig(tile_size=16, devices=(CPU,) * devices))


def test_little_memory_cuts_smaller_tiles_and_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    network, data = untrained(SHALLOW), noise(16, 200, 150)
    columns: list[int] = []

    def watch(network: Any, slabs: Any) -> Iterator[Tensor]:
        slabs = list(slabs)
        columns.append(slabs[0].shape[3] * slabs[0].shape[4])
        return stream(network, slabs)

    monkeypatch.setattr(inference, "stream", watch)
    monkeypatch.setattr(inference, "network_memory", lambda device: 15000.0 * inference.bytes_per_column(network))
    assert largest_difference(infer(network, data), whole(network, data)) < 1e-5
    assert len(columns) > 1
    # Cores come out even in steps of the alignment, so that a tile may exceed its share by a step.
    assert max(columns) <= 1.2 * 15000
