"""What the metrics have in common: pairs of arrays, counts by class, areas under curves."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnncore._validation import check_same_rows

__all__ = [
    "counts",
    "each_column",
    "explained",
    "pair",
    "precision_area",
    "probabilities",
    "ratio",
    "roc_area",
    "spread",
    "values",
    "weighted_mean",
]

Array = NDArray[Any]


def pair(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[Array, Array, Array]:
    """Return truth and predictions of one shape, and a weight for each row."""
    true, pred = np.asarray(y_true), np.asarray(y_pred)
    if true.shape != pred.shape or true.ndim not in (1, 2) or true.size == 0:
        raise ValueError(
            f"y_true and y_pred must be of one shape, (rows,) or (rows, outputs), and not empty; "
            f"got {true.shape} and {pred.shape}."
        )
    return true, pred, weights_of(sample_weight, len(true))


def weights_of(sample_weight: ArrayLike | None, rows: int) -> Array:
    """Return the weights of rows; all 1 if none are given."""
    if sample_weight is None:
        return np.ones(rows)
    weight = np.asarray(sample_weight, np.float64)
    if weight.shape != (rows,):
        raise ValueError(f"sample_weight must have shape ({rows},); got {weight.shape}.")
    return weight


def weighted_mean(values: Array, weight: Array) -> float:
    """Return the weighted mean."""
    return float(weight @ values / weight.sum())


def ratio(part: Array, whole: Array) -> Array:
    """Divide; 0 where the divisor is 0."""
    result: Array = np.where(whole > 0, part / np.where(whole > 0, whole, 1), 0.0)
    return result


def counts(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[Array, Array, Array]:
    """Weight of right, predicted and true rows of each class, or of each of several labels."""
    true, pred, weight = pair(y_true, y_pred, sample_weight)
    if true.ndim == 2:
        a, b = true.astype(bool), pred.astype(bool)
        return weight @ (a & b), weight @ b, weight @ a
    classes, codes = np.unique(np.concatenate([true, pred]), return_inverse=True)
    t, p = codes[: len(true)], codes[len(true) :]
    k = len(classes)
    hit = np.bincount(t[t == p], weight[t == p], minlength=k)
    return hit, np.bincount(p, weight, minlength=k), np.bincount(t, weight, minlength=k)


def probabilities(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[Array, Array, Array]:
    """Class numbers and one column of probabilities per class; or several labels a row."""
    true, proba = np.asarray(y_true), np.asarray(y_pred)
    check_same_rows(y_true=true, y_pred=proba)
    if true.ndim == 2:
        return pair(true, proba, sample_weight)
    if proba.ndim == 1:
        proba = np.stack([1 - proba, proba], axis=1)
    k = proba.shape[1]
    if true.dtype.kind in "iu" and true.min() >= 0 and true.max() < k:
        codes = true.astype(np.intp)
    else:
        classes, codes = np.unique(true, return_inverse=True)
        if len(classes) != k:
            raise ValueError(f"y_true has {len(classes)} classes, y_pred {k} columns.")
    return codes, proba, weights_of(sample_weight, len(true))


def each_column(
    area: Callable[[Array, Array, Array], float],
    y_true: ArrayLike,
    y_pred: ArrayLike,
    sample_weight: ArrayLike | None,
) -> float:
    """Mean of an area over the columns of probabilities, each class against the rest."""
    true, proba, weight = probabilities(y_true, y_pred, sample_weight)
    if true.ndim == 2:
        return float(
            np.mean([area(true[:, j] > 0, proba[:, j], weight) for j in range(true.shape[1])])
        )
    first = 1 if proba.shape[1] == 2 else 0  # of two classes the second is the positive one
    columns = range(first, proba.shape[1])
    return float(np.mean([area(true == j, proba[:, j], weight) for j in columns]))


def curve(positive: Array, score: Array, weight: Array) -> tuple[Array, Array]:
    """Weight of true and of false positives above each threshold, highest first."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    hits = np.cumsum(np.where(positive[order], weight[order], 0.0))[last]
    misses = np.cumsum(np.where(positive[order], 0.0, weight[order]))[last]
    return hits, misses


def roc_area(positive: Array, score: Array, weight: Array) -> float:
    """Area under the curve of true by false positives; NaN without both."""
    hits, misses = curve(positive, score, weight)
    if not (hits[-1] > 0 and misses[-1] > 0):
        return math.nan
    x, y = np.append(0.0, misses / misses[-1]), np.append(0.0, hits / hits[-1])
    return float((np.diff(x) * (y[1:] + y[:-1])).sum() / 2)


def precision_area(positive: Array, score: Array, weight: Array) -> float:
    """Area under the steps of precision by recall; NaN without positives."""
    hits, misses = curve(positive, score, weight)
    if not hits[-1] > 0:
        return math.nan
    return float((np.diff(hits, prepend=0.0) / hits[-1] * ratio(hits, hits + misses)).sum())


def values(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[Array, Array, Array]:
    """Return truth and predictions as matrices of float64, and a weight for each row."""
    true, pred, weight = pair(y_true, y_pred, sample_weight)
    true, pred = true.astype(np.float64), pred.astype(np.float64)
    return true.reshape(len(true), -1), pred.reshape(len(pred), -1), weight


def spread(columns: Array, weight: Array) -> Array:
    """Return the weighted sum of squares around the mean, exactly 0 for constant columns."""
    shifted = columns - columns[0]
    result: Array = weight @ (shifted - weight @ shifted / weight.sum()) ** 2
    return result


def explained(left: Array, total: Array) -> float:
    """One minus the share of the spread that is left, mean over outputs."""
    safe = np.where(total > 0, total, 1.0)
    return float(np.where(total > 0, 1 - left / safe, np.where(left > 0, 0.0, 1.0)).mean())
