"""What a step does to the gradient before, and to the parameters after, the optimizer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["average", "clip_norm", "clip_value", "limit_columns", "penalty_gradient"]

Array = NDArray[np.floating]


def clip_norm(gradients: Sequence[Array], limit: float) -> list[Array]:
    """Scale gradients down if the Euclidean norm of all of them is greater than ``limit``.

    Parameters
    ----------
    gradients : sequence of ndarray
        Of all parameters.
    limit : float
        Greatest norm.

    Returns
    -------
    list of ndarray
        Copies, of the same direction (Pascanu et al. 2013).
    """
    norm = np.sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in gradients))
    scale = limit / norm if norm > limit else 1.0
    return [g * g.dtype.type(scale) for g in gradients]


def clip_value(gradient: Array, limit: float) -> Array:
    """Limit each number to ``[-limit, limit]``; NaN stays."""
    return np.clip(gradient, -limit, limit)


def penalty_gradient(w: Array, l1: float, l2: float) -> Array:
    """Gradient of ``l1 * sum(abs(w)) + l2 / 2 * sum(w**2)``; 0 for the absolute value at 0."""
    return w.dtype.type(l1) * np.sign(w) + w.dtype.type(l2) * w


def limit_columns(w: Array, limit: float) -> Array:
    """Scale columns of ``w`` whose Euclidean norm is greater than ``limit`` down to it.

    Parameters
    ----------
    w : ndarray of shape (n_in, n_out)
        A column holds what comes into a unit.
    limit : float
        Greatest norm of a column.

    Returns
    -------
    ndarray of shape (n_in, n_out)
        A copy (Srivastava et al. 2014).
    """
    norms = np.sqrt(np.sum(np.square(w, dtype=np.float64), axis=0))
    return w * np.where(norms > limit, limit / np.maximum(norms, limit), 1.0).astype(w.dtype)


def average(
    mean: Array, w: Array, count: int, decay: float = 0.0, *, warmup: bool = False
) -> Array:
    """Take ``w`` into an average of ``count`` arrays so far; the first one is copied.

    Parameters
    ----------
    mean, w : ndarray
        The average and the new array.
    count : int
        Arrays averaged so far.
    decay : float
        ``mean = decay * mean + (1 - decay) * w``; 0 stands for the mean of all.
    warmup : bool
        Whether the decay is at most ``(1 + count) / (10 + count)``.

    Returns
    -------
    ndarray
    """
    if count == 0:
        return w.copy()
    if decay == 0:
        amount = 1 / (count + 1)
    else:
        amount = 1 - (min(decay, (1 + count) / (10 + count)) if warmup else decay)
    return mean + mean.dtype.type(amount) * (w - mean)
