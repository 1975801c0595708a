"""How the C library hands out memory while the network runs (glibc; elsewhere nothing happens)."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of <malloc.h>
_LARGE = 4 * 2**20


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
