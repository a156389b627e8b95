"""BLAS held at one thread while the engine runs.

The engine cuts work by itself; threads of BLAS inside it would compete with it, change the
last bits with their number, and in OpenBLAS, called from several threads, can return wrong
numbers (OpenBLAS#5836). The limit belongs to the process, so it is counted: the first to enter
sets it, the last to leave restores what was there.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from dnncore._engine import Program

__all__ = ["blas_info", "limits_for", "single_threaded_blas"]

_lock = threading.Lock()
_users = 0
_controller: Any = None
_limited: list[tuple[Any, int]] = []
_no_limits = nullcontext()


def _blas() -> Any:
    global _controller
    if _controller is None:
        # cython_blas calls SciPy's BLAS, which is loaded as soon as the kernels are.
        _controller = ThreadpoolController().select(user_api="blas")
    return _controller


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Hold every BLAS of the process at one thread until the last user leaves."""
    global _users
    with _lock:
        if _users == 0:
            _limit()
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                while _limited:
                    _set_threads(*_limited.pop())


def limits_for(program: Program) -> AbstractContextManager[None]:
    """Do the same while nothing but this program runs: nothing, if it never asks BLAS.

    Setting and restoring one takes longer than a small network's step.
    """
    return single_threaded_blas() if program.may_use_blas else _no_limits


def _limit() -> None:
    for library in _blas().lib_controllers:
        threads = library.num_threads
        if threads == 1:
            continue
        _set_threads(library, 1)
        _limited.append((library, threads))
        if library.num_threads != 1:
            warnings.warn(
                f"BLAS {library.filepath} kept {library.num_threads} threads although one was "
                "asked for; results may depend on the number of threads.",
                RuntimeWarning,
                stacklevel=5,
            )


def _set_threads(library: Any, threads: int) -> None:
    # Newer threadpoolctl lets one thread at a time change OpenBLAS and ignores all others. The
    # one that leaves last need not be the one that came first, and others must have their turn.
    release = getattr(library, "clear_controlling_thread", lambda force: None)
    release(force=True)
    library.set_num_threads(threads)
    release(force=True)


if hasattr(os, "register_at_fork"):
    # A child forked while another thread holds the lock would wait for it forever.
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )


def blas_info() -> list[dict[str, Any]]:
    """Libraries, versions and numbers of threads, as threadpoolctl reports them."""
    info: list[dict[str, Any]] = _blas().info()
    return info
