"""The loop over epochs: slices of the engine's work, with Python in between."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dnncore._blas_threads import single_threaded_blas
from dnncore._engine import Data
from dnncore._kernels import all_finite
from dnncore.callbacks import Callback
from dnncore.exceptions import DivergenceError
from dnncore.optimizers import Optimizer

if TYPE_CHECKING:
    from dnncore.network import Network

__all__ = ["History", "train"]

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


def train(
    network: Network,
    data: Data,
    validation: tuple[Any, Any, Any] | None,
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
    program, state = network._program, network._optimizer_state(optimizer)
    settings = optimizer.settings()
    order = np.empty(data.rows, np.int64) if shuffle else None
    safe = network.params.copy()
    network.stop_training = False
    begun: list[Callback] = []
    with single_threaded_blas():
        try:
            for callback in callbacks:
                begun.append(callback)
                callback.on_train_begin(network, epochs)
            for epoch in range(epochs):
                began = time.perf_counter()
                for callback in callbacks:
                    callback.on_epoch_begin(network, epoch)
                if order is not None:
                    program.shuffled(data.rows, network._epochs_seen, order)
                start, loss_sum, weight_sum = 0, 0.0, 0.0
                while start < data.rows:
                    start, state.step, loss, weight, finite = program.run(
                        data, order, start, batch_size, state.step, SLICE_SECONDS, settings,
                        state.first, state.second, threads,
                    )  # fmt: skip
                    loss_sum += loss
                    weight_sum += weight
                    if not finite or not all_finite(network.params):
                        _diverged(network, safe, epoch, start // batch_size, optimizer)
                    np.copyto(safe, network.params)
                    for callback in callbacks:
                        callback.on_progress(
                            network, epoch, start / data.rows, _mean(loss_sum, weight_sum)
                        )
                network._epochs_seen += 1
                logs = {"loss": _mean(loss_sum, weight_sum)}
                if validation is not None:
                    x, y, w = validation
                    scores = network.evaluate(x, y, sample_weight=w)
                    logs.update({f"val_{name}": value for name, value in scores.items()})
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


def _mean(loss_sum: float, weight_sum: float) -> float:
    return loss_sum / weight_sum if weight_sum > 0 else 0.0


def _diverged(
    network: Network, safe: Any, epoch: int, batch: int, optimizer: Optimizer
) -> None:  # fmt: skip
    largest = float(np.abs(safe).max())
    if not all_finite(network.params):
        np.copyto(network.params, safe)
    network.reset_optimizer()
    raise DivergenceError(
        f"Training diverged in epoch {epoch + 1}, step {batch + 1}: the loss is no longer a "
        f"finite number (largest parameter before: {largest:.3g}). The network keeps its last "
        f"finite parameters. Try a smaller learning_rate (it was "
        f"{optimizer.learning_rate:g}), standardised inputs (and targets, for regression), or "
        "dtype='float64'.",
        epoch=epoch + 1,
        step=batch + 1,
    )
