"""Training and scoring with a loss in Python: what the engine does for its own, batch by batch."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnncore import _kernels
from dnncore._data import take_rows
from dnncore._engine import Average, Data, Position
from dnncore.losses import Custom

if TYPE_CHECKING:
    from dnncore._model import Model
    from dnncore.network import Network

__all__ = ["evaluate", "loss_gradient", "run"]

_PART_SHIFT = 40  # as the engine numbers the mini-batches of a step


def run(
    network: Network,
    loss: Custom,
    data: Data,
    order: NDArray[np.int64] | None,
    position: Position,
    batch_size: int,
    seconds: float,
    max_steps: int,
    optimizer: tuple[int, NDArray[np.float64]],
    s1: NDArray[Any] | None,
    s2: NDArray[Any] | None,
    threads: int,
    part_rows: int = 0,
    average: Average | None = None,
    ended: NDArray[np.float64] | None = None,
) -> None:
    """Train as ``Program.run`` does, calling the loss for each batch, to the epoch's end."""
    program, grads = network._program, network.grads
    kernel, table = optimizer
    end, made = time.perf_counter() + seconds, 0
    position.finite = True
    while position.start < data.rows:
        stop = min(position.start + batch_size, data.rows)
        rows = slice(position.start, stop)
        batch = take_rows(data, rows if order is None else order[rows])
        weight = _weight(batch)
        total = _gradient(network, loss, batch, position.step, part_rows, threads, weight)
        if total is None:
            position.finite = False
            return
        row = table[min(made, len(table) - 1)][np.newaxis]
        program.step(grads, position, (kernel, row), s1, s2, average)
        position.loss_sum += total
        position.weight_sum += weight
        position.start = stop
        made += 1
        if made in (max_steps, len(table) if len(table) > 1 else 0) or time.perf_counter() > end:
            return


def _gradient(
    network: Network,
    loss: Custom,
    batch: Data,
    step: int,
    part_rows: int,
    threads: int,
    weight: float,
) -> float | None:
    """Fill the network's gradients; return the loss times the weight, None if not finite."""
    program, grads = network._program, network.grads
    size, total, added = part_rows or batch.rows, 0.0, None
    for number, first in enumerate(range(0, batch.rows, size)):
        part = batch
        if part_rows:
            part = take_rows(batch, slice(first, min(first + size, batch.rows)))
        key = step + (number << _PART_SHIFT)
        out = program.forward(part.x, key, threads)
        value, gradient = loss.value_and_gradient(part, out)
        if not (math.isfinite(value) and _kernels.all_finite(gradient)):
            return None
        share = _weight(part)
        total += share * value
        if part is not batch:
            gradient = gradient * network.dtype.type(share / weight)
        program.backward(gradient, grads, key, threads)
        if size < batch.rows:
            added = grads.copy() if added is None else added + grads
    if added is not None:
        grads[...] = added
    return total


def loss_gradient(
    network: Network, loss: Custom, data: Data, grads: NDArray[Any], threads: int
) -> tuple[float, float]:
    """Do what ``Program.loss_gradient`` does."""
    out = network._program.forward(data.x, 0, threads)
    value, gradient = loss.value_and_gradient(data, out)
    network._program.backward(gradient, grads, 0, threads)
    return value * _weight(data), _weight(data)


def evaluate(
    network: Model,
    loss: Custom,
    data: Data,
    threads: int,
    link: int = 0,
    out: NDArray[Any] | None = None,
) -> tuple[float, float]:
    """Do what ``Program.evaluate`` does."""
    logits = np.empty((data.rows, network.n_out), network.dtype)
    network._program.infer(data.x, _kernels.ACTIVATIONS["identity"], logits, threads)
    total = loss.value_and_gradient(data, logits)[0] * _weight(data)
    if out is not None:
        name = next(name for name, number in _kernels.ACTIVATIONS.items() if number == link)
        _kernels.activation_forward(name, logits, out)
    return total, _weight(data)


def _weight(data: Data) -> float:
    return float(data.rows if data.weight is None else data.weight.sum(dtype=np.float64))
