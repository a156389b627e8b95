"""Memory that a training step runs through: on its own cache lines and, if long, large pages."""

from __future__ import annotations

import contextlib
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGE_PAGE", "aligned_bytes", "aligned_zeros"]

LARGE_PAGE = 1 << 21
_LINE = 64


def aligned_zeros(n: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros whose first element starts a cache line of 64 bytes."""
    return aligned_bytes(n * dtype.itemsize).view(dtype)


def aligned_bytes(n: int) -> NDArray[np.uint8]:
    """Zero bytes that start a cache line, and a large page if they fill one.

    Whoever walks through megabytes at a stride spends much of the time looking up pages of 4 KiB
    (docs/decisions/0012-large-pages.md). Linux is asked for large ones where the bytes fill them,
    so that none takes more memory than before; elsewhere pages are what they are.

    Raises
    ------
    MemoryError
        If there is not so much.
    """
    if n < LARGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        memory = np.zeros(n + _LINE, np.uint8)
        start = -memory.ctypes.data % _LINE
        return memory[start : start + n]
    try:
        pages = mmap.mmap(-1, n + LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"no memory for {n} bytes") from error
    memory = np.frombuffer(pages, np.uint8)
    start = -memory.ctypes.data % LARGE_PAGE
    with contextlib.suppress(OSError):  # a kernel that has none
        pages.madvise(mmap.MADV_HUGEPAGE, start, n // LARGE_PAGE * LARGE_PAGE)
    return memory[start : start + n]
