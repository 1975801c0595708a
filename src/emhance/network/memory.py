"""How the C library hands out memory while the network runs (glibc; elsewhere nothing happens)."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of <malloc.h>
_LARGE = 4 * 2**20


def ask_for_huge_pages() -> None:
    """Let PyTorch mark its large blocks for pages of 2 MiB, unless the user decided about it; to be called before it is imported.

    Blocks that come from the system anew each time cost a fault per page: at a 512³ box a seventh of the network's time.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


@contextmanager
def large_blocks_apart() -> Iterator[None]:
    """Take every large block from the system alone, and give back at the end what was freed.

    The slabs of a big box come and go by the thousand in a dozen sizes. Taken from one heap, as the C library does with
    blocks up to 32 MiB, they leave holes that add up to half a gigabyte.
    """
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if library is None or not hasattr(library, "malloc_trim"):
        yield
        return
    library.mallopt(_MMAP_THRESHOLD, _LARGE)
    try:
        yield
    finally:
        library.malloc_trim(0)
