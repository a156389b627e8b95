"""Metrics in NumPy: how good predictions are, by name or by your own function.

Each takes ``(y_true, y_pred, sample_weight=None)`` and returns a float. Definitions and edge
cases are scikit-learn's; where a metric is not defined the value is NaN. ``METRICS`` lists what
``fit(metrics=[...])`` and ``evaluate(metrics=[...])`` know by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from dnncore._metric_parts import (
    counts,
    each_column,
    explained,
    pair,
    precision_area,
    probabilities,
    ratio,
    roc_area,
    spread,
    values,
    weighted_mean,
)
from dnncore._validation import check_bool, check_choice

__all__ = [
    "METRICS",
    "Metric",
    "accuracy",
    "as_metrics",
    "average_precision",
    "balanced_accuracy",
    "explained_variance",
    "f1",
    "log_loss",
    "mae",
    "mape",
    "matthews",
    "mse",
    "precision",
    "r2",
    "recall",
    "rmse",
    "roc_auc",
]

Function = Callable[..., Any]


@dataclass(frozen=True)
class Metric:
    """A metric for ``fit`` and ``evaluate``.

    Parameters
    ----------
    name : str
        Its name in the results.
    function : callable
        ``f(y_true, y_pred)``, or ``f(y_true, y_pred, sample_weight=...)`` if there are weights;
        returns a number.
    needs : {"predictions", "probabilities"}
        What ``y_pred`` is: labels or values as ``predict`` gives them, or ``predict_proba``.
    greater_is_better : bool
        For callbacks that look for the best.

    Examples
    --------
    >>> within = Metric("within_10", lambda y, p: float((abs(y - p) < 10).mean()))
    """

    name: str
    function: Function
    needs: Literal["predictions", "probabilities"] = "predictions"
    greater_is_better: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not callable(self.function):
            raise TypeError(f"Metric(name, function); got {self.name!r}, {self.function!r}.")
        check_choice(self.needs, "needs", ("predictions", "probabilities"))
        check_bool(self.greater_is_better, "greater_is_better")


# ---------------------------------------------------------------------- labels


def accuracy(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Share of rows that are right; with several labels a row, all of them must be."""
    true, pred, weight = pair(y_true, y_pred, sample_weight)
    hit = true == pred
    return weighted_mean(hit.all(axis=1) if hit.ndim == 2 else hit, weight)


def balanced_accuracy(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None
) -> float:
    """Mean over the classes of the share of their rows that are right."""
    hit, _, true = counts(y_true, y_pred, sample_weight)
    return float((hit[true > 0] / true[true > 0]).mean()) if (true > 0).any() else math.nan


def precision(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None
) -> float:
    """Share of the rows predicted as a class that are of it, mean over classes; 0 for 0/0."""
    hit, pred, _ = counts(y_true, y_pred, sample_weight)
    return float(ratio(hit, pred).mean())


def recall(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Share of a class's rows that are predicted as it, mean over classes; 0 for 0/0."""
    hit, _, true = counts(y_true, y_pred, sample_weight)
    return float(ratio(hit, true).mean())


def f1(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Harmonic mean of precision and recall of a class, mean over classes; 0 for 0/0."""
    hit, pred, true = counts(y_true, y_pred, sample_weight)
    return float(ratio(2 * hit, pred + true).mean())


def matthews(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Matthews' correlation of labels (Gorodkin 2004 for several classes); 0 for 0/0."""
    hit, pred, true = counts(y_true, y_pred, sample_weight)
    total = float(true.sum())
    covariance = float(hit.sum()) * total - float(pred @ true)
    product = (total**2 - float(pred @ pred)) * (total**2 - float(true @ true))
    return covariance / math.sqrt(product) if product > 0 else 0.0


# ---------------------------------------------------------------------- probabilities


def log_loss(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Mean of ``-log p`` of the true class.

    ``y_pred`` holds probabilities, one column per class in the order of the sorted labels, or
    the second class's only. They are kept away from 0 by their dtype's epsilon.
    """
    codes, proba, weight = probabilities(y_true, y_pred, sample_weight)
    if codes.ndim == 2:
        raise ValueError("log_loss needs one label a row; these targets have several.")
    eps = np.finfo(proba.dtype).eps if proba.dtype.kind == "f" else np.finfo(np.float64).eps
    clipped = np.clip(proba[np.arange(len(codes)), codes].astype(np.float64), eps, 1 - eps)
    return weighted_mean(-np.log(clipped), weight)


def roc_auc(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Area under the ROC curve; one class against the rest, mean over classes or labels.

    ``y_pred`` as for :func:`log_loss`. NaN if a class does not occur.
    """
    return each_column(roc_area, y_true, y_pred, sample_weight)


def average_precision(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None
) -> float:
    """Mean precision over the steps in recall; one class against the rest, mean over classes.

    ``y_pred`` as for :func:`log_loss`. NaN if a class does not occur.
    """
    return each_column(precision_area, y_true, y_pred, sample_weight)


# ---------------------------------------------------------------------- values


def mse(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Mean squared error."""
    true, pred, weight = values(y_true, y_pred, sample_weight)
    return float((weight @ (true - pred) ** 2 / weight.sum()).mean())


def rmse(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Root of the mean squared error, mean over outputs."""
    true, pred, weight = values(y_true, y_pred, sample_weight)
    return float(np.sqrt(weight @ (true - pred) ** 2 / weight.sum()).mean())


def mae(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Mean absolute error."""
    true, pred, weight = values(y_true, y_pred, sample_weight)
    return float((weight @ np.abs(true - pred) / weight.sum()).mean())


def mape(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Mean of the absolute error as a share of the truth; huge where the truth is 0."""
    true, pred, weight = values(y_true, y_pred, sample_weight)
    share = np.abs(true - pred) / np.maximum(np.abs(true), np.finfo(np.float64).eps)
    return float((weight @ share / weight.sum()).mean())


def r2(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Coefficient of determination, mean over outputs; 0 for a constant target missed."""
    true, pred, weight = values(y_true, y_pred, sample_weight)
    return explained(weight @ (true - pred) ** 2, spread(true, weight))


def explained_variance(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None
) -> float:
    """Share of the variance that predictions explain, whatever their mean; see :func:`r2`."""
    true, pred, weight = values(y_true, y_pred, sample_weight)
    return explained(spread(true - pred, weight), spread(true, weight))


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", accuracy),
        Metric("balanced_accuracy", balanced_accuracy),
        Metric("precision", precision),
        Metric("recall", recall),
        Metric("f1", f1),
        Metric("matthews", matthews),
        Metric("log_loss", log_loss, "probabilities", False),
        Metric("roc_auc", roc_auc, "probabilities"),
        Metric("average_precision", average_precision, "probabilities"),
        Metric("mse", mse, greater_is_better=False),
        Metric("rmse", rmse, greater_is_better=False),
        Metric("mae", mae, greater_is_better=False),
        Metric("mape", mape, greater_is_better=False),
        Metric("r2", r2),
        Metric("explained_variance", explained_variance),
    )
}
"""Metrics by name."""

_OF_VALUES = ("mse", "rmse", "mae", "mape", "r2", "explained_variance")


def as_metrics(
    metrics: Iterable[str | Metric | Function] | None, *, classification: bool
) -> list[Metric]:
    """Return metrics given by name, as functions or as ``Metric``; None takes the usual one.

    Raises
    ------
    TypeError, ValueError
        For something else, an unknown name, a name twice, or a name for another kind of target.
    """
    if metrics is None:
        return [METRICS["accuracy" if classification else "r2"]]
    if isinstance(metrics, str) or not isinstance(metrics, Iterable):
        raise TypeError(f"metrics must be a list of names or functions; got {metrics!r}.")
    suitable = [name for name in METRICS if (name in _OF_VALUES) is not classification]
    found: list[Metric] = []
    for metric in metrics:
        if isinstance(metric, Metric):
            found.append(metric)
        elif callable(metric):
            found.append(Metric(getattr(metric, "__name__", type(metric).__name__), metric))
        else:
            found.append(METRICS[check_choice(metric, "metrics: each", suitable)])
    names = [metric.name for metric in found]
    if len(set(names)) < len(names) or "loss" in names:
        raise ValueError(f"metrics must have different names, other than 'loss'; got {names}.")
    if not classification:
        for metric in found:
            if metric.needs == "probabilities":
                raise ValueError(f"metric {metric.name!r} needs classes; these targets are values.")
    return found
