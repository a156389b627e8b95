"""Predictions and scores, a chunk of rows at a time: memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnncore import _kernels
from dnncore._blas_threads import single_threaded_blas
from dnncore._data import take_rows
from dnncore._engine import Data
from dnncore._sparse import as_csr, csr_data, is_sparse
from dnncore._threads import threads_for
from dnncore._validation import as_contiguous, check_matrix
from dnncore.layers import Dense
from dnncore.metrics import METRICS, Metric

if TYPE_CHECKING:
    from dnncore.network import Network

__all__ = ["Pairs", "predict", "predict_proba", "scores"]

CHUNK_ELEMENTS = 1 << 20
"""Elements of the widest of a chunk's inputs and outputs."""

CHUNK_WORK = 1 << 30
"""Multiply-adds of a chunk, during which Ctrl-C has to wait."""

ENGINE_ROWS = 256
"""Rows that the engine sends through the layers at a time."""


def predict(network: Network, X: ArrayLike) -> NDArray[Any]:
    """Labels or values; see ``Network.predict``."""
    return _collect(network, X, network._targets.decode)


def predict_proba(network: Network, X: ArrayLike) -> NDArray[Any]:
    """Probabilities of the classes; see ``Network.predict_proba``.

    Raises
    ------
    ValueError
        If the loss is none for classification.
    """
    loss = network.loss
    if not loss.has_probabilities:
        raise ValueError(f"predict_proba needs a cross-entropy or focal loss; this is {loss.name}.")
    single = loss.targets == "binary" and network.n_out == 1
    return _collect(network, X, _both_classes if single else _as_they_are)


def scores(
    network: Network, data: Data, metrics: Sequence[Metric], *, loss: bool = True
) -> dict[str, float]:
    """Loss and metrics of checked examples; see ``Network.evaluate``."""
    result: dict[str, float] = {}
    pairs: Pairs | None = None
    with single_threaded_blas():
        if loss:
            result["loss"] = _loss(network, data)
        for metric in metrics:
            if pairs is None and metric is not METRICS["accuracy"] and metric is not METRICS["r2"]:
                pairs = Pairs(network, data)
            with np.errstate(over="ignore", invalid="ignore"):
                if pairs is not None:
                    result[metric.name] = pairs.score(metric)
                elif metric is METRICS["accuracy"]:
                    result["accuracy"] = _accuracy(network, data)
                elif data.target is not None:
                    result["r2"] = _r2(network, data, data.target)
    return result


class Pairs:
    """Truth and predictions of all rows, in the forms that metrics take."""

    def __init__(self, network: Network, data: Data) -> None:
        self.targets, self.weight = network._targets, data.weight
        self.out = np.empty((data.rows, network.n_out), network.dtype)
        for rows in _chunks(network, data.rows):
            self.out[rows] = _outputs(network, _inputs(data, rows))
        self.truth: Any = data.target if data.labels is None else data.labels

    @cached_property
    def codes(self) -> NDArray[Any]:
        """Class of each row as a number, or its labels as 0 and 1."""
        truth: NDArray[Any] = self.truth
        if truth.ndim == 2 and self.targets.loss.targets == "labels":
            truth = truth.argmax(axis=1)
        elif truth.ndim == 2:
            truth = (truth > 0.5).astype(np.intp)
            truth = truth[:, 0] if truth.shape[1] == 1 else truth
        return truth

    @cached_property
    def true(self) -> NDArray[Any]:
        """The truth as ``predict`` would give it."""
        if not self.targets.is_classification:
            return self.targets.decode(self.truth)
        classes = self.targets.classes
        return self.codes if classes is None or self.codes.ndim == 2 else classes[self.codes]

    @cached_property
    def predicted(self) -> NDArray[Any]:
        """What ``predict`` gives."""
        return self.targets.decode(self.out)

    @cached_property
    def probabilities(self) -> NDArray[Any]:
        """What ``predict_proba`` gives."""
        single = self.targets.loss.targets == "binary" and self.out.shape[1] == 1
        return _both_classes(self.out) if single else self.out

    def score(self, metric: Metric) -> float:
        """Compute a metric.

        Raises
        ------
        TypeError
            If it does not return a number.
        """
        if metric.needs == "predictions":
            arguments = self.true, self.predicted
        else:
            arguments = (
                self.codes if metric is METRICS.get(metric.name) else self.true,
                (self.probabilities),
            )
        weights = {} if self.weight is None else {"sample_weight": self.weight}
        value = metric.function(*arguments, **weights)
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"metric {metric.name!r} must return a number; got {value!r}."
            ) from error


def _collect(
    network: Network, X: ArrayLike, finish: Callable[[NDArray[Any]], NDArray[Any]]
) -> NDArray[Any]:
    """Put into one array what ``finish`` makes of each chunk's outputs."""
    few = network._program.infer_few(X, network._link)
    if few is not None:
        return finish(_after_link(network, few))
    sparse: Data | None = None
    if is_sparse(X):
        if not isinstance(network.layers[0], Dense):
            raise TypeError(
                f"X is a sparse matrix, but a network that begins with {network.layers[0]!r} "
                "needs a dense one; pass X.toarray()."
            )
        rows_of_x = as_csr(X, "X", dtype=network.dtype, columns=network.n_in, min_rows=1)
        sparse = csr_data(rows_of_x, None, None, None)
        n = sparse.rows
    else:
        inputs = check_matrix(X, "X", network.n_in)
        n = len(inputs)
    result = np.empty(0)
    with single_threaded_blas():
        for rows in _chunks(network, n):
            if sparse is None:
                chunk = as_contiguous(inputs[rows], network.dtype, "X", rows.start)
                part = finish(_outputs(network, chunk))
            else:
                part = finish(_outputs(network, take_rows(sparse, rows)))
            if len(part) == n:
                return part
            if rows.start == 0:
                result = np.empty((n, *part.shape[1:]), part.dtype)
            result[rows] = part
    return result


def _chunks(network: Network, rows: int) -> Iterator[slice]:
    # Whole multiples of the engine's own chunks, so that the bits do not depend on these.
    height = min(
        CHUNK_ELEMENTS // max(network.n_in, network.n_out),
        CHUNK_WORK // network._program.work_per_row,
    )
    height = max(1, height // ENGINE_ROWS) * ENGINE_ROWS
    for first in range(0, rows, height):
        yield slice(first, min(first + height, rows))


def _inputs(data: Data, rows: slice) -> NDArray[Any] | Data:
    return data.x[rows] if data.sparse is None else take_rows(data, rows)


def _outputs(network: Network, inputs: NDArray[Any] | Data) -> NDArray[Any]:
    """Compute outputs after the loss's link, of dense rows or of sparse ones."""
    n = inputs.rows if isinstance(inputs, Data) else len(inputs)
    out = np.empty((n, network.n_out), network.dtype)
    program, threads = network._program, _threads(network, n)
    if isinstance(inputs, Data):
        program.infer_sparse(inputs, network._link, out, threads)
    else:
        program.infer(inputs, network._link, out, threads)
    return _after_link(network, out)


def _after_link(network: Network, out: NDArray[Any]) -> NDArray[Any]:
    """Apply the one link that is no activation."""
    return _kernels.exp(out, out) if network.loss.link == "exp" else out


def _threads(network: Network, rows: int) -> int:
    return threads_for(None, float(rows) * network._program.work_per_row)


def _loss(network: Network, data: Data) -> float:
    total = weights = 0.0
    for rows in _chunks(network, data.rows):
        chunk = take_rows(data, rows)
        loss, weight = network._evaluate(chunk, _threads(network, chunk.rows))
        total += loss
        weights += weight
    return total / weights


def _as_they_are(out: NDArray[Any]) -> NDArray[Any]:
    return out


def _both_classes(out: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([1 - out, out], axis=1)


def _accuracy(network: Network, data: Data) -> float:
    hits = total = 0.0
    for rows in _chunks(network, data.rows):
        out = _outputs(network, _inputs(data, rows))
        if data.labels is not None:
            hit = out.argmax(axis=1) == data.labels[rows]
        elif data.target is not None and network.loss.targets == "labels":
            hit = out.argmax(axis=1) == data.target[rows].argmax(axis=1)
        elif data.target is not None:
            hit = ((out > network.loss.threshold) == (data.target[rows] > 0.5)).all(axis=1)
        weight = _weights(data, rows)
        hits += float(hit @ weight)
        total += float(weight.sum())
    return hits / total


def _r2(network: Network, data: Data, target: NDArray[Any]) -> float:
    """Coefficient of determination, the mean over outputs; 0 for a constant target missed."""
    mean = left = spread = np.zeros(network.n_out)
    total = 0.0
    for rows in _chunks(network, data.rows):
        weight = _weights(data, rows)
        mean = mean + weight @ target[rows].astype(np.float64)
        total += float(weight.sum())
    mean = mean / total
    for rows in _chunks(network, data.rows):
        weight, y = _weights(data, rows), target[rows].astype(np.float64)
        left = left + weight @ (y - _outputs(network, _inputs(data, rows))) ** 2
        spread = spread + weight @ (y - mean) ** 2
    safe = np.where(spread > 0, spread, 1.0)
    return float(np.where(spread > 0, 1 - left / safe, np.where(left > 0, 0.0, 1.0)).mean())


def _weights(data: Data, rows: slice) -> NDArray[np.float64]:
    if data.weight is None:
        return np.ones(rows.stop - rows.start)
    weight: NDArray[np.float64] = data.weight[rows].astype(np.float64)
    return weight
