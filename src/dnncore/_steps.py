"""Single steps for callers who own the loop, and the rule of one training thread a network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dnncore._blas_threads import limits_for, single_threaded_blas
from dnncore._divergence import LastFinite, diverged
from dnncore._engine import Data
from dnncore._kernels import all_finite
from dnncore._threads import threads_for, training_work
from dnncore.optimizers import Optimizer, OptimizerState

if TYPE_CHECKING:
    from dnncore._model import Model
    from dnncore.network import Network

__all__ = ["exclusive", "step", "train_step"]


@contextmanager
def exclusive(network: Model, *, engine_only: bool = False) -> Iterator[None]:
    """Let one thread at a time train a network, with BLAS held at one thread.

    Unless it is `engine_only`, others may ask BLAS as well: L-BFGS, metrics, a callback.

    Raises
    ------
    RuntimeError
        If another thread is training it.
    """
    if not network._lock.acquire(blocking=False):
        raise RuntimeError(
            "This network is being trained by another thread; wait for it, or train a net.copy()."
        )
    try:
        with limits_for(network._program) if engine_only else single_threaded_blas():
            yield
    finally:
        network._lock.release()


def train_step(network: Network, data: Data, optimizer: Optimizer) -> float:
    """One step on validated data; see ``Network.train_step``."""
    threads = threads_for(None, training_work(data.rows, network._program.work_per_row))
    position = network._position
    with exclusive(network, engine_only=True):
        state, last = _prepare(network, optimizer)
        position.rewind()
        network._run(
            data, None, position, data.rows, math.inf, 1,
            optimizer.settings(position.step, steps=1), state.first, state.second, threads,
        )  # fmt: skip
        if not position.finite:
            diverged(network, last, optimizer, None, position.step)
        if not all_finite(network.params):
            diverged(network, last, optimizer, None, position.step - 1)
        return position.loss


def step(network: Network, optimizer: Optimizer) -> None:
    """One update from the network's gradients; see ``Network.step``."""
    position = network._position
    with exclusive(network, engine_only=True):
        state, last = _prepare(network, optimizer)
        if not all_finite(network.grads):
            diverged(network, last, optimizer, None, position.step)
        network._program.step(
            network.grads, position, optimizer.settings(position.step, steps=1),
            state.first, state.second,
        )  # fmt: skip
        if not all_finite(network.params):
            diverged(network, last, optimizer, None, position.step - 1)


def _prepare(network: Network, optimizer: Optimizer) -> tuple[OptimizerState, LastFinite]:
    """State and copy for a single step; the moments are looked at as seldom as copies are made."""
    state = network._optimizer_state(optimizer)
    if network._last_finite is None:
        network._last_finite = LastFinite(network.params)
    last = network._last_finite
    if last.keep() and not all(map(all_finite, state.moments)):
        diverged(network, last, optimizer, None, network._position.step - 1)
    return state, last
