"""What becomes of freed memory: back to the system, or kept for what is allocated next.

Knows the C library's allocator (glibc; elsewhere nothing happens). Knows nothing of who allocates.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt, in glibc's malloc.h


def release_freed() -> None:
    """Hand freed pages back to the system where the C library would keep them.

    Tensors of a clip come and go in changing sizes; without this the process keeps growing by the gaps between them
    (measured: 13 % from 200 to 2,000 frames).
    """
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def keep_freed() -> None:
    """From now on, keep what is freed instead of handing it back.

    A training step frees what it allocated, and the next one allocates the same again. glibc gives large blocks back at
    once, and the system fills every page of the next with zeros first. docs/training-speed.md has what this saves.
    """
    library = _glibc()
    if library is not None:
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, -1)  # as an unsigned number the largest: never


@cache
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None  # musl has neither function
