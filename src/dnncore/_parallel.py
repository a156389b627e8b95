"""Jobs on a few Python threads: for work that releases the GIL, a network's training."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from dnncore.callbacks import Callback

if TYPE_CHECKING:
    from dnncore.network import Network

__all__ = ["StopWhenTold", "run_all"]

T = TypeVar("T")


class _Stopped(BaseException):
    """Ends a training whose result nobody waits for any more; never leaves this module."""


class StopWhenTold(Callback):
    """Ends any number of trainings, each after the step that it is at."""

    def __init__(self) -> None:
        self.told = threading.Event()

    def on_progress(self, network: Network, epoch: int, done: float, loss: float) -> None:
        """Stop if told to."""
        if self.told.is_set():
            raise _Stopped


def run_all(
    jobs: Sequence[T],
    run: Callable[[T], None],
    threads: int,
    stop: StopWhenTold,
    *,
    what: str,
    verbose: bool,
) -> None:
    """Run jobs, the first ones first, several at a time.

    The calling thread takes part, so that Ctrl-C reaches its training as it would reach any.

    Parameters
    ----------
    jobs : sequence
        The jobs.
    run : callable
        Does one job; keeps errors to itself. What it raises ends everything: Ctrl-C does.
    threads : int
        Threads, the calling one included. If fewer can be started, these do the work.
    stop : StopWhenTold
        Callback of the trainings that `run` begins.
    what : str
        What the jobs are about, for messages and the bar.
    verbose : bool
        Whether to show a bar that counts jobs.
    """
    todo = deque(jobs)
    begun: list[T] = []
    finished: list[T] = []
    reasons: list[BaseException] = []

    def work() -> None:
        while not stop.told.is_set():
            try:
                job = todo.popleft()
            except IndexError:
                return
            begun.append(job)
            run(job)
            finished.append(job)
            count()

    def help_out() -> None:
        try:
            work()
        except _Stopped:
            pass
        except BaseException as reason:
            reasons.append(reason)
            stop.told.set()

    helpers: list[threading.Thread] = []
    with _counter(len(jobs), what, verbose) as count:
        try:
            for _ in range(min(threads, len(jobs)) - 1):
                # In a copy of the context np.errstate holds as it does here.
                context = contextvars.copy_context()
                helpers.append(threading.Thread(target=context.run, args=(help_out,)))
                try:
                    helpers[-1].start()
                except RuntimeError:  # no more threads to be had
                    helpers.pop()
                    break
            try:
                work()
            except _Stopped:
                pass
            for helper in helpers:
                helper.join()
            if reasons:
                raise reasons[0]
        except BaseException as reason:
            stop.told.set()
            for helper in helpers:
                if helper.ident is not None:
                    helper.join()
            reason.add_note(
                f"{len(finished)} of {len(jobs)} {what} are finished, "
                f"{len(begun) - len(finished)} stopped midway, {len(jobs) - len(begun)} not begun."
            )
            raise


@contextmanager
def _counter(total: int, what: str, verbose: bool) -> Iterator[Callable[[], None]]:
    """Give a function to call after each job; with `verbose` it moves a bar."""
    if not verbose:
        yield lambda: None
        return
    from tqdm.auto import tqdm

    lock = threading.Lock()
    with tqdm(total=total, unit=what) as bar:

        def count() -> None:
            with lock:
                bar.update()

        yield count
