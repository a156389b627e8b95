"""Where what a training step runs through lies in memory."""

import mmap
import re
from pathlib import Path

import numpy as np
import pytest

import dnncore
from dnncore import _memory
from dnncore._memory import LARGE_PAGE, aligned_bytes, aligned_zeros

PAGES = Path("/sys/kernel/mm/transparent_hugepage")


def asks_for_large_pages(address: int) -> bool:
    """Whether the mapping that an address lies in is marked for them, by what the kernel tells."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if span := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(span[1], 16) <= address < int(span[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return "hg" in line.split()
    raise LookupError(hex(address))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "nbytes", [8, 4096, LARGE_PAGE - 8, LARGE_PAGE, LARGE_PAGE + 8, 3 * LARGE_PAGE + 4096]
)
def test_zeros_on_a_line_of_their_own(nbytes, dtype):
    n = nbytes // np.dtype(dtype).itemsize
    found = aligned_zeros(n, np.dtype(dtype))
    assert found.shape == (n,) and found.dtype == dtype
    assert found.ctypes.data % 64 == 0
    assert not found.any()
    found[:] = 3.0  # all of it is there, and ours
    assert found.sum() == 3.0 * n


@pytest.mark.parametrize("extra", [0, 4096, LARGE_PAGE - 64])
def test_large_pages_where_they_are_full(extra):
    memory = aligned_bytes(2 * LARGE_PAGE + extra)
    start = memory.ctypes.data
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return
    assert start % LARGE_PAGE == 0
    if PAGES.exists():
        assert asks_for_large_pages(start)
        assert asks_for_large_pages(start + 2 * LARGE_PAGE - 1)
    if extra:
        assert not asks_for_large_pages(start + 2 * LARGE_PAGE)


def test_kernels_without_large_pages_do(monkeypatch):
    class Plain(mmap.mmap):
        def madvise(self, *_):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(_memory.mmap, "mmap", Plain)
    memory = aligned_bytes(LARGE_PAGE + 1)
    memory[:] = 1
    assert int(memory.sum(dtype=np.int64)) == LARGE_PAGE + 1


@pytest.mark.parametrize("nbytes", [1 << 60, 1 << 70])
def test_more_than_there_is(nbytes):
    with pytest.raises(MemoryError, match="no memory for"):
        aligned_bytes(nbytes)


def test_parameters_and_moments_of_a_network():
    net = dnncore.Network(700, [dnncore.Dense(800, "relu"), dnncore.Dense(2)])
    net.train_step(np.zeros((4, 700), np.float32), np.array([0, 1, 0, 1]))
    assert net._params.nbytes > LARGE_PAGE
    for array in (net._params, *net._state.moments):
        assert array.ctypes.data % (LARGE_PAGE if hasattr(mmap, "MADV_HUGEPAGE") else 64) == 0
