"""How many threads a piece of work gets."""

from __future__ import annotations

import os

from dnncore._engine import MAX_THREADS
from dnncore._validation import check_int

__all__ = ["available_cpus", "threads_for", "training_work"]

WORTH_SHARING = 1_000_000
"""Multiply-adds of a step below which threads cost more than they bring."""
ROW_WORK = 300
"""Multiply-adds that take as long as what a row costs in any network: to gather it, its loss."""
SMALL_BATCH, NEAR_WEIGHTS = 12, 1 << 18
"""A step of no more rows and of fewer weights, which one processor's caches hold, is not shared."""


def available_cpus() -> int:
    """Processors that this process may use, or ``DNNCORE_NUM_THREADS`` if that is set."""
    wanted = os.environ.get("DNNCORE_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_for(n_threads: int | None, work: float) -> int:
    """Choose the number of threads for steps of `work` multiply-adds.

    Parameters
    ----------
    n_threads : int or None
        What the caller asked for; None leaves the choice to the size of the work.
    work : float
        Multiply-adds of a step.

    Raises
    ------
    TypeError, ValueError
        If `n_threads` is no positive integer.
    """
    if n_threads is not None:
        return min(check_int(n_threads, "n_threads"), MAX_THREADS)
    return min(available_cpus(), MAX_THREADS) if work >= WORTH_SHARING else 1


def training_work(rows: int, work_per_row: float) -> float:
    """Multiply-adds of a training step, as far as threads can share them.

    A few rows are little work for each weight. If one processor has all weights nearby, fetching
    those that the other has just updated takes as long as is saved.
    """
    if rows <= SMALL_BATCH and work_per_row < NEAR_WEIGHTS:
        return 0.0
    return 3.0 * rows * (work_per_row + ROW_WORK)
