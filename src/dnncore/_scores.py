"""Loss and metrics of data: each row is sent through the network once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dnncore._blas_threads import single_threaded_blas
from dnncore._data import take_rows
from dnncore._engine import Data
from dnncore.metrics import METRICS, Metric
from dnncore.prediction import after_link, both_classes, chunks, outputs, threads

if TYPE_CHECKING:
    from dnncore._model import Model

__all__ = ["scores"]


def scores(
    network: Model, data: Data, metrics: Sequence[Metric], *, loss: bool = True
) -> dict[str, float]:
    """Loss and metrics of checked examples; see ``Network.evaluate``."""
    readers: list[_Reader] = []
    found: list[tuple[str, Callable[[], float]]] = []
    pairs: _Pairs | None = None
    for metric in metrics:
        own: _Accuracy | _R2 | None = None
        if metric is METRICS["accuracy"]:
            own = _Accuracy(network, data)
        elif metric is METRICS["r2"] and data.target is not None:
            own = _R2(network, data, data.target)
        elif pairs is None:
            pairs = _Pairs(network, data)
            readers.append(pairs)
        if own is not None:
            readers.append(own)
            found.append((metric.name, own.result))
        elif pairs is not None:
            found.append((metric.name, partial(pairs.score, metric)))
    result: dict[str, float] = {}
    with single_threaded_blas():
        if loss or readers:
            total, weight = _read(network, data, readers, loss=loss)
            if loss:
                result["loss"] = total / weight
        with np.errstate(over="ignore", invalid="ignore"):
            result |= {name: score() for name, score in found}
    return result


def _read(
    network: Model, data: Data, readers: Sequence[_Reader], *, loss: bool
) -> tuple[float, float]:
    """Show all outputs to the readers; return sums of weight times loss and of weight."""
    total = weights = 0.0
    for rows in chunks(network, data.rows):
        chunk = take_rows(data, rows)
        if not loss:
            out = outputs(network, chunk.x if chunk.sparse is None else chunk)
        else:
            out = np.empty((chunk.rows if readers else 0, network.n_out), network.dtype)
            value, weight = network._evaluate(
                chunk, threads(network, chunk.rows), network._link, out if readers else None
            )
            total, weights = total + value, weights + weight
            after_link(network, out)
        with np.errstate(over="ignore", invalid="ignore"):
            for reader in readers:
                reader.read(rows, out)
    return total, weights


class _Reader(Protocol):
    """What a metric is computed from, as outputs come in, some rows at a time."""

    def read(self, rows: slice, out: NDArray[Any]) -> None: ...


class _Pairs:
    """Truth and predictions of all rows, in the forms that metrics take."""

    def __init__(self, network: Model, data: Data) -> None:
        self.targets, self.weight = network._targets, data.weight
        self.out = np.empty((data.rows, network.n_out), network.dtype)
        self.truth: Any = data.target if data.labels is None else data.labels

    def read(self, rows: slice, out: NDArray[Any]) -> None:
        """Keep outputs."""
        self.out[rows] = out

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
        return both_classes(self.out) if single else self.out

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
                self.probabilities,
            )
        weights = {} if self.weight is None else {"sample_weight": self.weight}
        value = metric.function(*arguments, **weights)
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"metric {metric.name!r} must return a number; got {value!r}."
            ) from error


class _Accuracy:
    """Counts the rows that are right."""

    def __init__(self, network: Model, data: Data) -> None:
        self.loss, self.data = network.loss, data
        self.hits = self.total = 0.0

    def read(self, rows: slice, out: NDArray[Any]) -> None:
        data = self.data
        if data.labels is not None:
            hit = out.argmax(axis=1) == data.labels[rows]
        elif data.target is not None and self.loss.targets == "labels":
            hit = out.argmax(axis=1) == data.target[rows].argmax(axis=1)
        elif data.target is not None:
            hit = ((out > self.loss.threshold) == (data.target[rows] > 0.5)).all(axis=1)
        weight = _weights(data, rows)
        self.hits += float(hit @ weight)
        self.total += float(weight.sum())

    def result(self) -> float:
        return self.hits / self.total


class _R2:
    """Coefficient of determination, the mean over outputs; 0 for a constant target missed."""

    def __init__(self, network: Model, data: Data, target: NDArray[Any]) -> None:
        self.data, self.target = data, target
        self.left = self.spread = mean = np.zeros(network.n_out)
        total = 0.0
        for rows in chunks(network, data.rows):
            weight = _weights(data, rows)
            mean = mean + weight @ target[rows].astype(np.float64)
            total += float(weight.sum())
        self.mean = mean / total

    def read(self, rows: slice, out: NDArray[Any]) -> None:
        weight, y = _weights(self.data, rows), self.target[rows].astype(np.float64)
        self.left = self.left + weight @ (y - out) ** 2
        self.spread = self.spread + weight @ (y - self.mean) ** 2

    def result(self) -> float:
        left, spread = self.left, self.spread
        safe = np.where(spread > 0, spread, 1.0)
        return float(np.where(spread > 0, 1 - left / safe, np.where(left > 0, 0.0, 1.0)).mean())


def _weights(data: Data, rows: slice) -> NDArray[np.float64]:
    if data.weight is None:
        return np.ones(rows.stop - rows.start)
    weight: NDArray[np.float64] = data.weight[rows].astype(np.float64)
    return weight
