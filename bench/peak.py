"""Measures the ceilings of this machine: floating point, and memory at every size.

Floating point is ``dnncore.profiling.ceiling``, the one that profiles are held to: independent
multiply-adds that never leave the registers, on threads side by side, so the ceiling of two
threads is measured, not doubled. The loop for memory is compiled on the spot with the system's
C compiler for this very CPU; without a compiler it is NumPy's addition.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROBE_SOURCE = r"""
#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
typedef float anywhere_v __attribute__((vector_size(BYTES), aligned(4)));
void triad(float *a, const float *b, const float *c, long n, long rounds) {
    const long lanes = BYTES / sizeof(float);
    for (long r = 0; r < rounds; r++) {
        for (long i = 0; i + lanes <= n; i += lanes)
            *(anywhere_v *)(a + i) =
                *(const anywhere_v *)(b + i) + *(const anywhere_v *)(c + i) * 0.5f;
        __asm__ volatile("" ::: "memory");
    }
}
"""


class PeakProbe:
    """Measures the ceilings; keeps the compiled loop for later calls.

    Attributes
    ----------
    method : str
        How the floating-point ceiling is measured.
    """

    def __init__(self) -> None:
        from dnncore.kernels import SIMD_LEVEL

        self._library = _compile_probe()
        self.method = f"multiply-adds in registers, {SIMD_LEVEL} (dnncore.profiling.ceiling)"

    def measure(self, threads: int, dtype: str = "float32", seconds: float = 0.2) -> float:
        """Return GFLOP/s of ``threads`` threads side by side, the best of several tries."""
        from dnncore.profiling import ceiling

        return ceiling(dtype, threads, seconds)

    def bandwidth(self, nbytes: float, seconds: float = 0.1, *, in_place: bool = False) -> float:
        """Return GB/s of one thread that reads two arrays and writes a third, or one of them.

        All arrays take ``nbytes`` together: the ceiling of a loop that touches as much memory.
        """
        import numpy as np

        n = max(1024, int(nbytes) // (8 if in_place else 12))
        a, b = np.ones(n, np.float32), np.ones(n, np.float32)
        c = a if in_place else np.ones(n, np.float32)
        rounds = max(1, 3_000_000 // n)
        if self._library is None:

            def work() -> None:
                for _ in range(rounds):
                    np.add(b, c, out=a)
        else:
            pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (a, b, c)]

            def work() -> None:
                self._library.triad(*pointers, n, rounds)

        best: float = 0.0
        end = time.perf_counter() + seconds
        while True:
            best = max(best, 12 * n * rounds / _time(work) / 1e9)
            if time.perf_counter() > end:
                return best


def _time(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _compile_probe() -> Any:
    installed = [name for name in ("cc", "gcc", "clang") if shutil.which(name)]
    compiler = os.environ.get("CC", "").split() or installed[:1]
    if not compiler:
        return None
    with tempfile.TemporaryDirectory(prefix="bench-probe-") as folder:
        source, library = Path(folder, "probe.c"), Path(folder, "probe.so")
        source.write_text(PROBE_SOURCE)
        for flag in ("-march=native", "-mcpu=native"):
            command = [*compiler, "-O2", flag, "-shared", "-fPIC", str(source), "-o", str(library)]
            try:
                done = subprocess.run(command, capture_output=True, check=False)
            except OSError:
                return None
            if done.returncode == 0:
                break
        else:
            return None
        try:
            loaded = ctypes.CDLL(str(library))  # stays mapped after the file is gone
        except OSError:
            return None
    loaded.triad.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_long] * 2
    loaded.triad.restype = None
    return loaded
