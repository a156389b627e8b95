"""BLAS held at one thread while the engine runs.

The engine cuts work by itself; threads of BLAS inside it would compete with it, change the
last bits with their number, and in OpenBLAS, called from several threads, can return wrong
numbers (OpenBLAS#5836). The limit belongs to the process, so it is counted: the first to enter
sets it, the last to leave restores what was there.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["blas_info", "single_threaded_blas"]

_lock = threading.Lock()
_users = 0
_controller: Any = None
_limiter: Any = None


def _blas() -> Any:
    global _controller
    if _controller is None:
        # cython_blas calls SciPy's BLAS, which is loaded as soon as the kernels are.
        _controller = ThreadpoolController().select(user_api="blas")
    return _controller


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Hold every BLAS of the process at one thread until the last user leaves."""
    global _users, _limiter
    with _lock:
        if _users == 0:
            _limiter = _blas().limit(limits=1)
            several = [lib for lib in _blas().info() if lib["num_threads"] != 1]
            if several:
                warnings.warn(
                    f"BLAS {several[0]['filepath']} kept {several[0]['num_threads']} threads "
                    "although one was asked for; results may depend on the number of threads.",
                    RuntimeWarning,
                    stacklevel=3,
                )
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _limiter.restore_original_limits()
                _limiter = None


def blas_info() -> list[dict[str, Any]]:
    """Libraries, versions and numbers of threads, as threadpoolctl reports them."""
    info: list[dict[str, Any]] = _blas().info()
    return info
