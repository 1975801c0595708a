"""Slab by slab gives what the whole box gives."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from untrained import SMALL, untrained

from emhance.network.streaming import Queue, stream
from emhance.network.unet import UNetShape

SHAPES = [SMALL, UNetShape(channels=(8, 16), encoder_blocks=(2, 1), decoder_blocks=(1,))]


def slabs(x: Tensor, sizes: list[int]) -> Iterator[Tensor]:
    start = 0
    for size in sizes:
        yield x[:, :, start : start + size]
        start += size
    assert start == x.shape[2]


def assert_streamed_is_whole(shape: UNetShape, x: Tensor, sizes: list[int]) -> None:
    network = untrained(shape)
    with torch.inference_mode():
        whole = network(x)
        streamed = torch.cat(list(stream(network, slabs(x, sizes))), 2)
    assert streamed.shape == whole.shape
    assert float((streamed - whole).abs().max()) <= 1e-5 * float(whole.abs().max())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sizes", [[48], [2] * 24, [16, 16, 16], [46, 2], [2, 46], [6, 10, 2, 20, 4, 6]])
def test_streamed_is_whole(shape: UNetShape, sizes: list[int]) -> None:
    assert_streamed_is_whole(shape, torch.randn(1, 1, 48, 8, 16, generator=torch.Generator().manual_seed(3)), sizes)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=8))
def test_streamed_is_whole_for_any_slabs(halves: list[int]) -> None:
    sizes = [2 * half for half in halves]
    sizes.append(8 - sum(sizes) % 8) if sum(sizes) % 8 else None
    x = torch.randn(1, 1, sum(sizes), 8, 8, generator=torch.Generator().manual_seed(sum(sizes)))
    assert_streamed_is_whole(SMALL, x, sizes)


def test_a_box_of_one_alignment_streams() -> None:
    assert_streamed_is_whole(SMALL, torch.randn(1, 1, 8, 8, 8), [8])
    assert_streamed_is_whole(SMALL, torch.randn(1, 1, 8, 8, 8), [2, 2, 2, 2])


def test_a_batch_streams_as_its_members() -> None:
    network, x = untrained(), torch.randn(3, 1, 32, 8, 8)
    with torch.inference_mode():
        together = torch.cat(list(stream(network, slabs(x, [16, 16]))), 2)
        for i in range(3):
            alone = torch.cat(list(stream(network, slabs(x[i : i + 1], [8, 24]))), 2)
            torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-4)


def test_the_input_is_not_changed() -> None:
    network, x = untrained(), torch.randn(1, 1, 32, 8, 8)
    before = x.clone()
    with torch.inference_mode():
        list(stream(network, slabs(x, [16, 16])))
    assert torch.equal(x, before)


def test_a_queue_returns_its_planes_in_order() -> None:
    queue, x = Queue(), torch.arange(10.0).view(1, 1, 10, 1, 1)
    queue.push(x[:, :, :4])
    queue.push(x[:, :, 4:4])
    queue.push(x[:, :, 4:])
    assert queue.pop(3).flatten().tolist() == [0, 1, 2]
    assert queue.pop(5).flatten().tolist() == [3, 4, 5, 6, 7]
    assert queue.pop(2).flatten().tolist() == [8, 9]
