"""Give memory that was freed back to the system (glibc; elsewhere nothing happens)."""

from __future__ import annotations

import ctypes
import sys


def return_memory() -> None:
    """Return what the process no longer uses.

    The C library keeps freed blocks for later; after the network has run, with its thousands of slabs, that can be a
    gigabyte that the steps after it would otherwise take from the system once more.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
