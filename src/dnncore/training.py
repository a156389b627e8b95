"""Training: slices of the engine's work with Python in between, and what stops it safely."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from dnncore._blas_threads import single_threaded_blas
from dnncore._engine import Data
from dnncore._kernels import all_finite
from dnncore._threads import threads_for
from dnncore.callbacks import Callback
from dnncore.exceptions import DivergenceError
from dnncore.optimizers import Optimizer, OptimizerState
from dnncore.prediction import scores

if TYPE_CHECKING:
    from dnncore.network import Network

__all__ = ["History", "LastFinite", "exclusive", "step", "train", "train_step"]

SLICE_SECONDS = 0.05
"""How long the engine runs before it returns to Python for Ctrl-C, progress and callbacks."""


@dataclass
class History:
    """What training recorded.

    Attributes
    ----------
    history : dict of str to list of float
        One value an epoch: ``"loss"`` (mean over the epoch, as training went), ``"time"``
        (seconds), and with validation data ``"val_loss"`` and the metrics of ``evaluate``.
    """

    history: dict[str, list[float]] = field(default_factory=dict)

    def append(self, logs: dict[str, float]) -> None:
        """Add an epoch's numbers."""
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def __repr__(self) -> str:
        epochs = len(self.history.get("loss", []))
        last = ", ".join(f"{k}={v[-1]:.4g}" for k, v in self.history.items() if v)
        return f"History({epochs} epochs; last: {last})"


class LastFinite:
    """A copy of a network's parameters, made while they were finite.

    Parameters
    ----------
    params : ndarray of shape (n_params,)
        The parameters, which are watched.

    Raises
    ------
    ValueError
        If they are not finite to begin with.
    """

    def __init__(self, params: NDArray[Any]) -> None:
        self.params = params
        self._copy = np.empty_like(params)
        self._time = -math.inf
        self.keep()

    def keep(self) -> bool:
        """Copy the parameters, unless the copy is younger than a slice; say whether it did.

        Raises
        ------
        ValueError
            If they are not finite, because somebody else has written to them.
        """
        now = time.perf_counter()
        if now - self._time < SLICE_SECONDS:
            return False
        if not all_finite(self.params):
            raise ValueError(
                "net.params holds values that are not finite; call net.initialize() or write "
                "finite ones."
            )
        np.copyto(self._copy, self.params)
        self._time = now
        return True

    def restore(self) -> float:
        """Go back to the copy if the parameters are not finite; returns its largest magnitude."""
        if not all_finite(self.params):
            np.copyto(self.params, self._copy)
        return float(np.abs(self._copy).max())


@contextmanager
def exclusive(network: Network) -> Iterator[None]:
    """Let one thread at a time train a network, with BLAS held at one thread.

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
        with single_threaded_blas():
            yield
    finally:
        network._lock.release()


def train(
    network: Network,
    data: Data,
    validation: Data | None,
    *,
    epochs: int,
    batch_size: int,
    optimizer: Optimizer,
    shuffle: bool,
    callbacks: Sequence[Callback],
    threads: int,
) -> History:
    """Train a network on validated data; see ``Network.fit``."""
    history = History()
    program, position = network._program, network._position
    order = np.empty(data.rows, np.int64) if shuffle else None
    begun: list[Callback] = []
    with exclusive(network):
        state = network._optimizer_state(optimizer)
        steps = math.ceil(data.rows / batch_size)
        optimizer = optimizer.over(position.step, max(epochs * steps, 1), steps)
        last = LastFinite(network.params)
        network.stop_training = False
        try:
            for callback in callbacks:
                begun.append(callback)
                callback.on_train_begin(network, epochs)
            for epoch in range(epochs):
                began = time.perf_counter()
                for callback in callbacks:
                    callback.on_epoch_begin(network, epoch)
                if order is not None:
                    program.shuffled(data.rows, position.epoch, order)
                position.rewind()
                while position.start < data.rows:
                    left = math.ceil((data.rows - position.start) / batch_size)
                    settings = optimizer.settings(position.step, steps=left)
                    program.run(
                        data, order, position, batch_size, SLICE_SECONDS, 0, settings,
                        state.first, state.second, threads,
                    )  # fmt: skip
                    start = position.start
                    if not position.finite:
                        _diverged(network, last, optimizer, epoch, start // batch_size)
                    if not all(map(all_finite, (network.params, *state.moments))):
                        _diverged(network, last, optimizer, epoch, (start - 1) // batch_size)
                    last.keep()
                    for callback in callbacks:
                        callback.on_progress(network, epoch, start / data.rows, position.loss)
                logs = {"loss": position.loss}
                position.next_epoch()
                if validation is not None:
                    found = scores(network, validation)
                    logs.update({f"val_{name}": value for name, value in found.items()})
                logs["time"] = time.perf_counter() - began
                history.append(logs)
                for callback in callbacks:
                    callback.on_epoch_end(network, epoch, logs)
                if network.stop_training:
                    break
        finally:
            for callback in begun:
                callback.on_train_end(network)
    return history


def train_step(network: Network, data: Data, optimizer: Optimizer) -> float:
    """One step on validated data; see ``Network.train_step``."""
    threads = threads_for(None, 3.0 * data.rows * network._program.work_per_row)
    position = network._position
    with exclusive(network):
        state, last = _prepare(network, optimizer)
        position.rewind()
        network._program.run(
            data, None, position, data.rows, math.inf, 1,
            optimizer.settings(position.step, steps=1), state.first, state.second, threads,
        )  # fmt: skip
        if not position.finite:
            _diverged(network, last, optimizer, None, position.step)
        if not all_finite(network.params):
            _diverged(network, last, optimizer, None, position.step - 1)
        return position.loss


def step(network: Network, optimizer: Optimizer) -> None:
    """One update from the network's gradients; see ``Network.step``."""
    position = network._position
    with exclusive(network):
        state, last = _prepare(network, optimizer)
        if not all_finite(network.grads):
            _diverged(network, last, optimizer, None, position.step)
        network._program.step(
            network.grads, position, optimizer.settings(position.step, steps=1),
            state.first, state.second,
        )  # fmt: skip
        if not all_finite(network.params):
            _diverged(network, last, optimizer, None, position.step - 1)


def _prepare(network: Network, optimizer: Optimizer) -> tuple[OptimizerState, LastFinite]:
    """State and copy for a single step; the moments are looked at as seldom as copies are made."""
    state = network._optimizer_state(optimizer)
    if network._last_finite is None:
        network._last_finite = LastFinite(network.params)
    last = network._last_finite
    if last.keep() and not all(map(all_finite, state.moments)):
        _diverged(network, last, optimizer, None, network._position.step - 1)
    return state, last


def _diverged(
    network: Network, last: LastFinite, optimizer: Optimizer, epoch: int | None, step: int
) -> NoReturn:
    """Go back to finite parameters and say what happened; ``epoch`` and ``step`` count from 0."""
    largest, rate = last.restore(), optimizer.value("learning_rate", network._position.step)
    network.reset_optimizer()
    where = f"step {step + 1}" if epoch is None else f"epoch {epoch + 1}, step {step + 1}"
    raise DivergenceError(
        f"Training diverged in {where}: the loss, a gradient or a parameter is no longer a finite "
        f"number (largest parameter before: {largest:.3g}). The network keeps its last finite "
        f"parameters. Try a smaller learning_rate (it was {rate:g}), "
        "standardised inputs (and targets, for regression), or dtype='float64'.",
        epoch=0 if epoch is None else epoch + 1,
        step=step + 1,
    )
