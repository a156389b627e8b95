"""Measures the ceilings of this machine: floating point, and memory at every size.

The ceiling comes from a loop of independent fused multiply-adds in registers, compiled on the
spot with the system's C compiler for this very CPU; without a compiler it is the best of a large
matrix product, which reads 5 to 20 % lower. Threads run the loop side by side (ctypes releases
the GIL), so the ceiling of two threads is measured, not doubled.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
import threading
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
#define PROBE(NAME, T)                                                          \
typedef T NAME##_v __attribute__((vector_size(BYTES)));                         \
double NAME(long rounds) {                                                      \
    NAME##_v s = (NAME##_v){0} + (T)0.999, t = (NAME##_v){0} + (T)0.001;        \
    NAME##_v a=t, b=t+s, c=a+t, d=b+t, e=c+t, f=d+t, g=e+t, h=f+t, i=g+t, j=h+t, \
             k=i+t, l=j+t;                                                      \
    for (long r = 0; r < rounds; r++) {                                         \
        a=a*s+t; b=b*s+t; c=c*s+t; d=d*s+t; e=e*s+t; f=f*s+t;                   \
        g=g*s+t; h=h*s+t; i=i*s+t; j=j*s+t; k=k*s+t; l=l*s+t;                   \
    }                                                                           \
    a += b+c+d+e+f+g+h+i+j+k+l;                                                 \
    double sum = 0;                                                             \
    for (unsigned n = 0; n < BYTES / sizeof(T); n++) sum += a[n];               \
    return sum;                                                                 \
}
PROBE(float32, float)
PROBE(float64, double)
long vector_bytes(void) { return BYTES; }
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
_CHAINS = 12


class PeakProbe:
    """Measures the floating-point ceiling; keeps the compiled loop for later calls.

    Attributes
    ----------
    method : str
        How the ceiling is measured.
    """

    def __init__(self) -> None:
        self._library = _compile_probe()
        if self._library is None:
            self.method = "largest of a 1536-cubed matrix product (no C compiler found)"
        else:
            bits = 8 * self._library.vector_bytes()
            self.method = f"{bits}-bit fused multiply-adds in registers, compiled for this CPU"

    def measure(self, threads: int, dtype: str = "float32", seconds: float = 0.2) -> float:
        """Return GFLOP/s of ``threads`` threads side by side, the best of several tries."""
        if self._library is None:
            return _gemm_peak(threads, dtype, seconds)
        loop = getattr(self._library, dtype)
        lanes = self._library.vector_bytes() // (4 if dtype == "float32" else 8)
        flops_per_round = 2 * _CHAINS * lanes
        rounds = 1_000_000

        def work() -> None:
            loop(rounds)

        best: float = 0.0
        end = time.perf_counter() + seconds
        while True:
            elapsed = _time_together(work, threads)
            best = max(best, threads * rounds * flops_per_round / elapsed / 1e9)
            if time.perf_counter() > end:
                return best

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
            best = max(best, 12 * n * rounds / _time_together(work, 1) / 1e9)
            if time.perf_counter() > end:
                return best


def _time_together(work: Callable[[], None], threads: int) -> float:
    """Return the seconds from a common start until the last thread has finished."""
    if threads == 1:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start
    gate = threading.Barrier(threads)
    starts, ends = [0.0] * threads, [0.0] * threads

    def run(i: int) -> None:
        gate.wait()
        starts[i] = time.perf_counter()
        work()
        ends[i] = time.perf_counter()

    team = [threading.Thread(target=run, args=(i,)) for i in range(threads)]
    for member in team:
        member.start()
    for member in team:
        member.join()
    return max(ends) - min(starts)


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
    for name in ("float32", "float64"):
        function = getattr(loaded, name)
        function.argtypes, function.restype = [ctypes.c_long], ctypes.c_double
    loaded.vector_bytes.restype = ctypes.c_long
    loaded.triad.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_long] * 2
    loaded.triad.restype = None
    return loaded


def _gemm_peak(threads: int, dtype: str, seconds: float) -> float:
    import numpy as np
    from threadpoolctl import threadpool_limits

    size = 1536
    a = np.ones((size, size), dtype)
    out = np.empty_like(a)
    best, end = 0.0, time.perf_counter() + seconds
    with threadpool_limits(threads):
        while True:
            start = time.perf_counter()
            np.matmul(a, a, out=out)
            best = max(best, 2 * size**3 / (time.perf_counter() - start) / 1e9)
            if time.perf_counter() > end:
                return best
