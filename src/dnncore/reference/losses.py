"""Losses from logits: the value, and the gradient by the logits.

A network ends in logits ``z`` and the loss owns the link (softmax, sigmoid, exp), so that no
probability is ever rounded to 0 or 1 before its logarithm is taken. With row losses ``l_i`` and
weights ``w_i`` (all 1 when none are given) the value is ``sum(w_i l_i) / sum(w_i)``.

To add one: write its row loss with gradient below, and one row in :data:`LOSSES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

from .._validation import check_choice

__all__ = ["LOSSES", "loss"]

Array = NDArray[np.floating]
RowLoss = Callable[[Array, Array, Array], tuple[Array, Array]]


def _softmax_cross_entropy(z: Array, y: Array, smoothing: Array) -> tuple[Array, Array]:
    """``l = -sum_k y_k log softmax(z)_k``, ``dl/dz = softmax(z) sum_k y_k - y``.

    Smoothing takes a share of ``y`` and spreads it over all classes; Szegedy et al., 2016.
    """
    y = (1 - smoothing) * y + smoothing / z.shape[1]
    shifted = z - z.max(axis=1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=1, keepdims=True)
    rows = (y * (np.log(total) - shifted)).sum(axis=1)
    # sum_k y_k is 1 for probabilities; kept, so that this is the gradient for any y.
    return rows, e / total * y.sum(axis=1, keepdims=True) - y


def _binary_cross_entropy(z: Array, y: Array, smoothing: Array) -> tuple[Array, Array]:
    """``l = mean_k(max(z, 0) - z y + log(1 + exp(-|z|)))``, ``dl/dz = (sigmoid(z) - y) / k``.

    Smoothing draws ``y`` towards 1/2.
    """
    y = (1 - smoothing) * y + smoothing / 2
    elements = np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))
    return elements.mean(axis=1), (expit(z) - y) / z.shape[1]


def _mse(z: Array, y: Array, _: Array) -> tuple[Array, Array]:
    """``l = mean_k((z - y)**2)``, ``dl/dz = 2 (z - y) / k``."""
    r = z - y
    return (r * r).mean(axis=1), 2 * r / z.shape[1]


def _mae(z: Array, y: Array, _: Array) -> tuple[Array, Array]:
    """``l = mean_k(|z - y|)``, ``dl/dz = sign(z - y) / k``, 0 where ``z = y``."""
    r = z - y
    return np.abs(r).mean(axis=1), np.sign(r) / z.shape[1]


def _huber(z: Array, y: Array, delta: Array) -> tuple[Array, Array]:
    """``r**2 / 2`` up to ``|r| = delta``, then ``delta (|r| - delta / 2)``; Huber, 1964."""
    r = z - y
    size = np.abs(r)
    quadratic = np.minimum(size, delta)
    elements = quadratic * (size - 0.5 * quadratic)
    return elements.mean(axis=1), np.clip(r, -delta, delta) / z.shape[1]


def _poisson(z: Array, y: Array, _: Array) -> tuple[Array, Array]:
    """``l = mean_k(exp(z) - y z)``, ``dl/dz = (exp(z) - y) / k``; McCullagh and Nelder, 1989.

    The negative log-likelihood of counts ``y`` at rate ``exp(z)``, without its term in ``y``
    alone. A rate too large for the dtype is infinite, and so is the loss.
    """
    with np.errstate(over="ignore"):
        rate = np.exp(z)
    return (rate - y * z).mean(axis=1), (rate - y) / z.shape[1]


def _log_cosh(z: Array, y: Array, _: Array) -> tuple[Array, Array]:
    """``l = mean_k(log(cosh(z - y)))``, ``dl/dz = tanh(z - y) / k``."""
    r = z - y
    # log(1 + (cosh r - 1)) = log(1 + 2 sinh^2(r / 2)) keeps small ones, which vanish below.
    small = np.log1p(2 * np.sinh(np.clip(r, -1, 1) / 2) ** 2)
    large = np.abs(r) + np.log1p(np.exp(-2 * np.abs(r))) - math.log(2)
    return np.where(np.abs(r) < 1, small, large).mean(axis=1), np.tanh(r) / z.shape[1]


def _quantile(z: Array, y: Array, levels: Array) -> tuple[Array, Array]:
    """``l = mean_k(d (q - [d < 0]))`` with ``d = y - z``; Koenker and Bassett, 1978.

    Several levels ``q`` take turns over the outputs. ``dl/dz = ([d < 0] - q) / k``, 0 at 0.
    """
    d = y - z
    level = np.tile(levels, z.shape[1] // levels.size)
    slope = np.where(d > 0, -level, np.where(d < 0, 1 - level, d))
    return (d * np.where(d > 0, level, level - 1)).mean(axis=1), slope / z.shape[1]


def _gamma(z: Array, y: Array, _: Array) -> tuple[Array, Array]:
    """``l = mean_k(z + y exp(-z))``, ``dl/dz = (1 - y exp(-z)) / k``; McCullagh and Nelder, 1989.

    Half the deviance of a gamma distribution of mean ``exp(z)``, without terms in ``y`` alone.
    """
    with np.errstate(over="ignore"):
        ratio = y * np.exp(-z)
    return (z + ratio).mean(axis=1), (1 - ratio) / z.shape[1]


def _tweedie(z: Array, y: Array, power: Array) -> tuple[Array, Array]:
    """``l = mean_k(exp((2 - p) z) / (2 - p) - y exp((1 - p) z) / (1 - p))``; Jorgensen, 1987.

    Half the deviance of a compound of Poisson and gamma, ``1 < p < 2``, of mean ``exp(z)``,
    without terms in ``y`` alone; ``dl/dz = (exp((2 - p) z) - y exp((1 - p) z)) / k``.
    """
    with np.errstate(over="ignore"):
        rising, falling = np.exp((2 - power) * z), y * np.exp((1 - power) * z)
    value = rising / (2 - power) - falling / (1 - power)
    return value.mean(axis=1), (rising - falling) / z.shape[1]


def _hinge(z: Array, y: Array, _: Array) -> tuple[Array, Array]:
    """``l = mean_k(max(0, 1 - s z))`` with ``s = 2 y - 1``; ``dl/dz = -s / k`` within the margin.

    Cortes and Vapnik, 1995.
    """
    s = 2 * y - 1
    gap = 1 - s * z
    slope = np.where(gap > 0, -s, np.where(gap <= 0, 0, gap))
    return np.maximum(gap, 0).mean(axis=1), slope / z.shape[1]


def _squared_hinge(z: Array, y: Array, _: Array) -> tuple[Array, Array]:
    """``l = mean_k(max(0, 1 - s z)**2)`` with ``s = 2 y - 1``, ``dl/dz = -2 s max(...) / k``."""
    s = 2 * y - 1
    gap = np.maximum(1 - s * z, 0)
    return (gap * gap).mean(axis=1), -2 * s * gap / z.shape[1]


def _binary_focal(z: Array, y: Array, gamma: Array) -> tuple[Array, Array]:
    """``l = mean_k(-y q**g log(p) - (1 - y) p**g log(q))`` with ``p = sigmoid(z)``, ``q = 1 - p``.

    Lin et al., 2017. ``dl/dz = ((1 - y) p**g (p - g q log(q)) - y q**g (q - g p log(p))) / k``.
    """
    p, q, log_p, log_q = expit(z), expit(-z), log_expit(z), log_expit(-z)
    one, zero = y * q**gamma, (1 - y) * p**gamma
    slope = zero * (p - gamma * q * log_q) - one * (q - gamma * p * log_p)
    return -(one * log_p + zero * log_q).mean(axis=1), slope / z.shape[1]


def _softmax_focal(z: Array, y: Array, gamma: Array) -> tuple[Array, Array]:
    """``l = -sum_k y_k (1 - p_k)**g log(p_k)`` with ``p = softmax(z)``; Lin et al., 2017.

    With ``a_k = y_k (1 - p_k)**g (g p_k log(p_k) / (1 - p_k) - 1)``: ``dl/dz = a - p sum_k a_k``.
    """
    shifted = z - z.max(axis=1, keepdims=True)
    log_p = np.minimum(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), 0)
    p, miss = np.exp(log_p), -np.expm1(log_p)
    ratio = np.where(miss > 0, log_p / np.where(miss > 0, miss, 1), -1)
    a = y * miss**gamma * (gamma * p * ratio - 1)
    return -(y * miss**gamma * log_p).sum(axis=1), a - p * a.sum(axis=1, keepdims=True)


LOSSES: dict[str, RowLoss] = {
    "softmax_cross_entropy": _softmax_cross_entropy,
    "binary_cross_entropy": _binary_cross_entropy,
    "mse": _mse,
    "mae": _mae,
    "huber": _huber,
    "poisson": _poisson,
    "log_cosh": _log_cosh,
    "quantile": _quantile,
    "gamma": _gamma,
    "tweedie": _tweedie,
    "hinge": _hinge,
    "squared_hinge": _squared_hinge,
    "binary_focal": _binary_focal,
    "softmax_focal": _softmax_focal,
}
"""Every loss by name: ``(z, y, own) -> (row losses (batch,), their gradient (batch, k))``."""

DEFAULTS = {
    "softmax_cross_entropy": 0.0,
    "binary_cross_entropy": 0.0,
    "huber": 1.0,
    "quantile": 0.5,
    "tweedie": 1.5,
    "binary_focal": 2.0,
    "softmax_focal": 2.0,
}
"""Parameters of those losses that have one."""


def _target_matrix(name: str, target: NDArray[Any], logits: Array) -> Array:
    if name.startswith("softmax") and target.shape == logits.shape[:1]:
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
    parameter: float | Sequence[float] | None = None,
) -> tuple[float, Array]:
    """Return the weighted mean loss of a batch and its gradient by the logits.

    Parameters
    ----------
    name : str
        A key of :data:`LOSSES`.
    logits : ndarray of shape (batch, k)
        Outputs of the network, before any link.
    target : ndarray of shape (batch, k), or (batch,) for integer labels
        Softmax losses take labels from 0 to k - 1, or rows of probabilities; binary ones and
        hinges numbers in [0, 1]; Poisson and Tweedie numbers from 0, gamma greater than 0.
    sample_weight : ndarray of shape (batch,), optional
        Weights of the rows; a weight of 2 counts as the row given twice.
    parameter : float or sequence of float, optional
        Label smoothing of a cross-entropy, delta of Huber, quantiles, power of Tweedie, gamma of
        a focal loss; :data:`DEFAULTS` has the rest.

    Returns
    -------
    value : float
        ``sum(w_i l_i) / sum(w_i)``. A row loss ``l_i`` is the mean over the k outputs, except
        for the softmax losses, which are sums over the classes.
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
    Huber, *Robust estimation of a location parameter*, 1964; the others beside their formulas.

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
    if parameter is not None and name not in DEFAULTS:
        raise ValueError(f"{name!r} has no parameter; got parameter={parameter!r}.")
    own = np.array(DEFAULTS.get(name, 0.0) if parameter is None else parameter, logits.dtype)
    rows, gradient = row_loss(logits, _target_matrix(name, target, logits), np.atleast_1d(own))
    weight = np.ones_like(rows) if sample_weight is None else sample_weight.astype(rows.dtype)
    if weight.shape != rows.shape:
        raise ValueError(
            f"sample_weight must have one element a row, shape {rows.shape}; got {weight.shape}."
        )
    total = weight.sum()
    if not total > 0:
        raise ValueError(f"The weights of a batch must sum to a positive number; got {total}.")
    return float((weight * rows).sum() / total), (weight / total)[:, np.newaxis] * gradient
