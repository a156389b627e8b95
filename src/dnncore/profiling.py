"""Where the time of training a network goes."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from dnncore import _kernels
from dnncore._engine import CLOCK_CELLS, CLOCK_PARTS, Clock
from dnncore._threads import threads_for, training_work
from dnncore._validation import INT_MAX, as_float_dtype, check_int, check_real
from dnncore.callbacks import Callback

if TYPE_CHECKING:
    from dnncore.network import Network

__all__ = ["Profile", "ProfileRow", "ceiling", "profile"]

_ACTIVATIONS = {number: name for name, number in _kernels.ACTIVATIONS.items()}
_PRODUCTS = ("forward", "dx", "dw")


@dataclass(frozen=True)
class ProfileRow:
    """One kind of work.

    Attributes
    ----------
    operation : int or None
        Place among the network's operations; None for what belongs to none.
    name : str
        The operation, e.g. ``"dense 784-512 relu"``, or ``"gather"``, ``"loss"``, ``"update"``
        (that needs the whole gradient first), ``"next"`` (what one thread prepares between two
        phases), ``"wait"``.
    part : str
        Of an operation: ``"forward"`` (with bias and relu), ``"activation"``, ``"slope"`` (times
        the activation's derivative), ``"dx"``, ``"dw"`` (with the bias's), ``"update"``.
    us : float
        Microseconds of a step, over all threads, divided by their number: the rows add up to the
        step.
    share : float
        Of the step.
    gflops : float or None
        Of a product: billions of floating-point operations a second, of all threads together,
        those on zeros that are left out (behind relu, say) included.
    of_ceiling : float or None
        The same as a share of ``Profile.ceiling``.
    path : str
        Of a product: ``"own"`` kernels or ``"blas"``.
    """

    operation: int | None
    name: str
    part: str
    us: float
    share: float
    gflops: float | None = None
    of_ceiling: float | None = None
    path: str = ""


@dataclass(frozen=True)
class Profile:
    """Where the time of training went; print it, or take ``rows``.

    Attributes
    ----------
    network : str
        Widths, type and loss.
    batch_size, threads, steps : int
        Rows of a step, threads it ran on, steps that were timed.
    us : float
        Microseconds of a step.
    outside_us : float
        What Python takes beside it: callbacks, shuffles, the loop over epochs. For a loss in
        Python it holds that loss, and the update.
    gflops : float
        Arithmetic of the products over the time of a step, in GFLOP/s.
    ceiling : float
        GFLOP/s that as many threads reach with multiply-adds in registers.
    rows : tuple of ProfileRow
        In the order of a step; work that took no time is left out.
    """

    network: str
    batch_size: int
    threads: int
    steps: int
    us: float
    outside_us: float
    gflops: float
    ceiling: float
    rows: tuple[ProfileRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give everything in plain values, as JSON takes them."""
        return asdict(self) | {"rows": [asdict(row) for row in self.rows]}

    def to_frame(self) -> Any:
        """Give the rows as a pandas DataFrame.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows])

    def __str__(self) -> str:
        head = (
            f"{self.network}, batches of {self.batch_size}, "
            f"{self.threads} thread{'s' * (self.threads > 1)}: "
            f"{self.us:,.4g} us a step over {self.steps:,} steps, "
            f"{self.outside_us:,.3g} us beside it; {self.gflops:,.3g} GF/s, "
            f"{self.gflops / self.ceiling:.0%} of the ceiling of {self.ceiling:,.4g}"
        )
        lines = [("work", "", "share", "us", "GF/s", "ceiling", "path")]
        last = None
        for row in self.rows:
            lines.append(
                (
                    "" if row.operation is not None and row.operation == last else row.name,
                    row.part,
                    f"{row.share:.1%}",
                    f"{row.us:,.3g}" if row.us < 100 else f"{row.us:,.0f}",
                    "" if row.gflops is None else f"{row.gflops:,.3g}",
                    "" if row.of_ceiling is None else f"{row.of_ceiling:.0%}",
                    row.path,
                )
            )
            last = row.operation
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        shown = [head]
        for line in lines:
            cells = [
                cell.ljust(width) if i in (0, 1, 6) else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ]
            shown.append("  ".join(cells).rstrip())
        return "\n".join(shown)


class _Enough(BaseException):
    """Ends the training that is watched; never leaves this module."""


class _Watch(Callback):
    """Puts a clock into a network's program after a while, and ends its training after another."""

    def __init__(self, threads: int, operations: int, rows: int, seconds: float) -> None:
        self.clock = Clock(operations, threads)
        self.rows, self.seconds, self.warm = rows, seconds, min(0.2, seconds / 4)
        self.created = time.perf_counter()
        self.start: tuple[float, int, int] | None = None

    def on_progress(self, network: Network, epoch: int, done: float, loss: float) -> None:
        now, at = time.perf_counter(), network._position
        examples = (at.epoch * self.rows) + at.start
        if self.start is None:
            if now - self.created >= self.warm:
                network._program.clock = self.clock
                self.start = now, at.step, examples
        elif now - self.start[0] >= self.seconds:
            self.wall = now - self.start[0]
            self.steps, self.examples = at.step - self.start[1], examples - self.start[2]
            raise _Enough


def profile(
    network: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    seconds: float,
    batch_size: int | None,
    n_threads: int | None,
    **options: Any,
) -> Profile:
    """See ``Network.profile``."""
    seconds = check_real(seconds, "seconds", minimum=0.0, exclusive=True)
    trained = network.copy()
    program, rows = trained._program, max(len(np.atleast_1d(y)), 1)
    size = rows if batch_size is None else min(check_int(batch_size, "batch_size"), rows)
    threads = threads_for(n_threads, training_work(size, program.work_per_row))
    operations: list[dict[str, Any]] = [dict(fields) for fields in network._layout.operations]
    watch = _Watch(threads, len(operations), rows, seconds)
    try:
        trained.fit(
            X, y, epochs=INT_MAX // -(-rows // size), batch_size=batch_size, n_threads=n_threads,
            callbacks=[watch], verbose=False, **options,
        )  # fmt: skip
    except _Enough:
        pass
    wall, spent = _by_cell(watch.clock)
    top = ceiling(network.dtype, threads)
    rows_made = _Rows(threads * wall, threads * watch.steps, top)
    work = _fill(rows_made, trained, operations, size, watch.examples / watch.steps, spent)
    us = 1e6 * wall / watch.steps
    widths = "-".join(map(str, trained._layout.widths))
    return Profile(
        network=f"{widths} {network.dtype.name} {network.loss.name}",
        batch_size=size,
        threads=threads,
        steps=watch.steps,
        us=us,
        outside_us=1e6 * max(watch.wall - wall, 0.0) / watch.steps,
        gflops=work / us / 1e3,
        ceiling=top,
        rows=tuple(rows_made.rows),
    )


def _by_cell(clock: Clock) -> tuple[float, NDArray[np.float64]]:
    """Seconds of the runs, and of each cell over all threads.

    Threads that had not come yet, or were gone, waited.
    """
    spent, _ = clock.read()
    wall, total = float(spent[0].sum()), spent.sum(axis=0)
    wait = CLOCK_CELLS.index("wait")
    total[wait] += max(clock.workers * wall - float(total.sum()), 0.0)
    return wall, total


class _Rows:
    """Makes rows from seconds of all threads."""

    def __init__(self, seconds: float, thread_steps: float, top: float) -> None:
        self.seconds, self.thread_steps, self.top = seconds, thread_steps, top
        self.rows: list[ProfileRow] = []

    def add(
        self,
        operation: int | None,
        name: str,
        part: str,
        seconds: float,
        flops: float = 0.0,
        path: str = "",
    ) -> None:
        if seconds <= 0:
            return
        us = 1e6 * seconds / self.thread_steps
        rate = flops / us / 1e3 if flops else None
        share = None if rate is None else rate / self.top
        row = ProfileRow(operation, name, part, us, seconds / self.seconds, rate, share, path)
        self.rows.append(row)


def _fill(
    made: _Rows,
    network: Network,
    operations: list[dict[str, Any]],
    batch_size: int,
    examples: float,
    spent: NDArray[np.float64],
) -> float:
    """Add the rows of a step in its order; returns the operations of its products."""
    program, widths, head = network._program, network._layout.widths, len(CLOCK_CELLS)
    cells = dict(zip(CLOCK_CELLS, spent.tolist(), strict=False))
    parts = spent[head:].reshape(len(operations), len(CLOCK_PARTS)).tolist()
    paths = [iter(program.paths(batch_size, weights)) for weights in (False, True)]
    forward: list[tuple[Any, ...]] = []
    backward: list[tuple[Any, ...]] = []
    work = 0.0
    for i, fields in enumerate(operations):
        dense = fields["kind"] == "dense"
        n_in, n_out = widths[fields["source"]], widths[fields["target"]]
        activation = _ACTIVATIONS[fields.get("activation", 0)]
        name = f"{fields['kind']} {n_in}-{n_out}" if dense else f"{fields['kind']} {n_out}"
        name += f" {activation}" * (activation != "identity")
        path = [str(next(each)) for each in paths] if dense else ["", ""]
        flops = 2.0 * examples * n_in * n_out * dense
        rows: list[tuple[Any, ...]] = []
        for part, seconds in zip(CLOCK_PARTS, parts[i], strict=True):
            product = part in _PRODUCTS and seconds > 0
            work += flops * product
            shown = path[part == "dw"] * product
            rows.append((i, name, part, seconds, flops * product, shown))
        forward += rows[:2]
        backward[:0] = rows[2:]
    made.add(None, "gather", "", cells["gather"])
    for row in forward:
        made.add(*row)
    made.add(None, "loss", "", cells["loss"])
    for row in backward:
        made.add(*row)
    made.add(None, "update", "", cells["update"])
    made.add(None, "next", "", cells["next"])
    made.add(None, "wait", "", cells["wait"])
    return work


def ceiling(dtype: DTypeLike, threads: int = 1, seconds: float = 0.1) -> float:
    """Measure what threads reach side by side with multiply-adds that never leave the registers.

    With the instructions that the kernels use: see ``show_versions``.

    Parameters
    ----------
    dtype : {"float32", "float64"}
        Type of the numbers.
    threads : int
        Threads side by side.
    seconds : float
        How long to measure; the best of several tries counts.

    Returns
    -------
    float
        Billions of floating-point operations a second, of all threads together.
    """
    size = as_float_dtype(dtype).itemsize
    # Each try is long enough for the system to move a thread that it started on a busy core.
    rounds, best, end = 4_000_000, 0.0, time.perf_counter() + seconds
    while True:
        flops, elapsed = _together(check_int(threads, "threads"), size, rounds)
        best = max(best, flops / elapsed / 1e9)
        if time.perf_counter() > end:
            return best


def _together(threads: int, size: int, rounds: int) -> tuple[float, float]:
    """Operations of all threads, and seconds from their common start until the last is done."""
    gate = threading.Barrier(threads)
    times: list[tuple[float, float]] = []

    def run() -> None:
        gate.wait()
        start = time.perf_counter()
        _kernels._multiply_adds(size, rounds)
        times.append((start, time.perf_counter()))

    others = [threading.Thread(target=run) for _ in range(threads - 1)]
    for thread in others:
        thread.start()
    run()
    for thread in others:
        thread.join()
    starts, ends = zip(*times, strict=True)
    return float(threads * _kernels._multiply_adds(size, 1) * rounds), max(ends) - min(starts)
