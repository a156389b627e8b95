"""Losses from logits: the value, and the gradient by the logits.

A network ends in logits ``z`` and the loss owns the link (softmax, sigmoid, exp), so that no
probability is ever rounded to 0 or 1 before its logarithm is taken. With row losses ``l_i`` and
weights ``w_i`` (all 1 when none are given) the value is ``sum(w_i l_i) / sum(w_i)``.

To add one: write its row loss with gradient below, and one row in :data:`LOSSES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from .._validation import check_choice

__all__ = ["LOSSES", "loss"]

Array = NDArray[np.floating]
RowLoss = Callable[[Array, Array, float], tuple[Array, Array]]


def _softmax_cross_entropy(z: Array, y: Array, parameter: float) -> tuple[Array, Array]:
    """``l = -sum_k y_k log softmax(z)_k``, ``dl/dz = softmax(z) sum_k y_k - y``."""
    shifted = z - z.max(axis=1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=1, keepdims=True)
    rows = (y * (np.log(total) - shifted)).sum(axis=1)
    # sum_k y_k is 1 for probabilities; kept, so that this is the gradient for any y.
    return rows, e / total * y.sum(axis=1, keepdims=True) - y


def _binary_cross_entropy(z: Array, y: Array, parameter: float) -> tuple[Array, Array]:
    """``l = mean_k(max(z, 0) - z y + log(1 + exp(-|z|)))``, ``dl/dz = (sigmoid(z) - y) / k``."""
    elements = np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))
    return elements.mean(axis=1), (expit(z) - y) / z.shape[1]


def _mse(z: Array, y: Array, parameter: float) -> tuple[Array, Array]:
    """``l = mean_k((z - y)**2)``, ``dl/dz = 2 (z - y) / k``."""
    r = z - y
    return (r * r).mean(axis=1), 2 * r / z.shape[1]


def _mae(z: Array, y: Array, parameter: float) -> tuple[Array, Array]:
    """``l = mean_k(|z - y|)``, ``dl/dz = sign(z - y) / k``, 0 where ``z = y``."""
    r = z - y
    return np.abs(r).mean(axis=1), np.sign(r) / z.shape[1]


def _huber(z: Array, y: Array, parameter: float) -> tuple[Array, Array]:
    """``r**2 / 2`` up to ``|r| = delta``, then ``delta (|r| - delta / 2)``; Huber, 1964."""
    r = z - y
    size = np.abs(r)
    quadratic = np.minimum(size, parameter)
    elements = quadratic * (size - 0.5 * quadratic)
    return elements.mean(axis=1), np.clip(r, -parameter, parameter) / z.shape[1]


def _poisson(z: Array, y: Array, parameter: float) -> tuple[Array, Array]:
    """``l = mean_k(exp(z) - y z)``, ``dl/dz = (exp(z) - y) / k``; McCullagh and Nelder, 1989.

    The negative log-likelihood of counts ``y`` at rate ``exp(z)``, without its term in ``y``
    alone. A rate too large for the dtype is infinite, and so is the loss.
    """
    with np.errstate(over="ignore"):
        rate = np.exp(z)
    return (rate - y * z).mean(axis=1), (rate - y) / z.shape[1]


LOSSES: dict[str, RowLoss] = {
    "softmax_cross_entropy": _softmax_cross_entropy,
    "binary_cross_entropy": _binary_cross_entropy,
    "mse": _mse,
    "mae": _mae,
    "huber": _huber,
    "poisson": _poisson,
}
"""Every loss by name: ``(z, y, parameter) -> (row losses (batch,), their gradient (batch, k))``."""


def _target_matrix(name: str, target: NDArray[Any], logits: Array) -> Array:
    if name == "softmax_cross_entropy" and target.shape == logits.shape[:1]:
        classes = logits.shape[1]
        if target.dtype.kind not in "iu":
            raise ValueError(f"Labels must be integers; got dtype {target.dtype}.")
        if target.size and not 0 <= target.min() <= target.max() < classes:
            raise ValueError(
                f"Labels must lie in 0..{classes - 1}, one class a logit; "
                f"got {target.min()}..{target.max()}."
            )
        one_hot: Array = np.eye(classes, dtype=logits.dtype)[target]
        return one_hot
    if target.shape != logits.shape:  # broadcasting would quietly compare all rows with all
        raise ValueError(
            f"target must have the shape of the logits, {logits.shape}; got {target.shape}."
        )
    return target.astype(logits.dtype)


def loss(
    name: str,
    logits: Array,
    target: NDArray[Any],
    sample_weight: Array | None = None,
    parameter: float = 1.0,
) -> tuple[float, Array]:
    """Return the weighted mean loss of a batch and its gradient by the logits.

    Parameters
    ----------
    name : str
        A key of :data:`LOSSES`.
    logits : ndarray of shape (batch, k)
        Outputs of the network, before any link.
    target : ndarray of shape (batch, k), or (batch,) for integer labels
        Softmax cross-entropy takes labels from 0 to k - 1, or rows of probabilities; binary
        cross-entropy takes numbers in [0, 1]; Poisson takes counts.
    sample_weight : ndarray of shape (batch,), optional
        Weights of the rows; a weight of 2 counts as the row given twice.
    parameter : float
        ``delta`` of the Huber loss; the others have none.

    Returns
    -------
    value : float
        ``sum(w_i l_i) / sum(w_i)``. A row loss ``l_i`` is the mean over the k outputs, except
        for softmax cross-entropy, where it is the cross-entropy of the row.
    gradient : ndarray of shape (batch, k)
        Gradient of ``value`` by the logits.

    Raises
    ------
    ValueError
        For an unknown name, a target of the wrong shape, labels that are no class, or weights
        that do not sum to a positive number (no rows at all included).

    References
    ----------
    Bishop, *Pattern Recognition and Machine Learning*, 2006, sections 4.3 and 5.2;
    Huber, *Robust estimation of a location parameter*, 1964.

    Examples
    --------
    >>> import numpy as np
    >>> value, gradient = loss("mse", np.array([[1.0, 3.0]]), np.array([[0.0, 1.0]]))
    >>> value
    2.5
    >>> gradient
    array([[1., 2.]])
    """
    row_loss = LOSSES[check_choice(name, "loss", LOSSES)]
    rows, gradient = row_loss(logits, _target_matrix(name, target, logits), parameter)
    weight = np.ones_like(rows) if sample_weight is None else sample_weight.astype(rows.dtype)
    if weight.shape != rows.shape:
        raise ValueError(
            f"sample_weight must have one element a row, shape {rows.shape}; got {weight.shape}."
        )
    total = weight.sum()
    if not total > 0:
        raise ValueError(f"The weights of a batch must sum to a positive number; got {total}.")
    return float((weight * rows).sum() / total), (weight / total)[:, np.newaxis] * gradient
