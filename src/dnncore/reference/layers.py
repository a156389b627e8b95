"""Normalisation, parametric activations, masks and noise: the twins of ``_tiers``' own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .shuffling import mix64, shuffle_key

__all__ = [
    "alpha_dropout",
    "batch_norm",
    "blend",
    "dropout",
    "gaussian_noise",
    "hashes",
    "layer_norm",
    "noise_key",
    "norm_backward",
    "prelu",
    "running_update",
]

Array = NDArray[np.floating]


def layer_norm(x: Array, eps: float, centred: bool = True) -> tuple[Array, Array]:
    """Normalise each row; without centring it is RMS normalisation.

    Parameters
    ----------
    x : ndarray of shape (rows, columns)
        Inputs.
    eps : float
        Added to the variance, or to the mean square.
    centred : bool
        Whether the row's mean is taken off first.

    Returns
    -------
    normalised : ndarray of shape (rows, columns)
    factor : ndarray of shape (rows, 1)
        ``1 / sqrt(variance + eps)``.
    """
    mean = x.mean(axis=1, keepdims=True) if centred else np.zeros((len(x), 1), x.dtype)
    factor = 1 / np.sqrt(np.square(x - mean).mean(axis=1, keepdims=True) + x.dtype.type(eps))
    return (x - mean) * factor, factor


def batch_norm(x: Array, eps: float) -> tuple[Array, Array, Array, Array]:
    """Normalise each column by the batch's own mean and variance (over n).

    Parameters
    ----------
    x : ndarray of shape (rows, columns)
        Inputs.
    eps : float
        Added to the variance.

    Returns
    -------
    normalised : ndarray of shape (rows, columns)
    factor, mean, variance : ndarray of shape (columns,)
    """
    mean, variance = x.mean(axis=0), x.var(axis=0)
    factor = 1 / np.sqrt(variance + x.dtype.type(eps))
    return (x - mean) * factor, factor, mean, variance


def norm_backward(
    d: Array, normalised: Array, factor: Array, axis: int, centred: bool = True
) -> Array:
    """Return the gradient by the input of a normalisation without scale and shift.

    Parameters
    ----------
    d : ndarray of shape (rows, columns)
        Gradient by the normalised values.
    normalised, factor : ndarray
        What forward returned.
    axis : int
        Along which was normalised: 1 for rows, 0 for columns.
    centred : bool
        As in forward.

    Returns
    -------
    ndarray of shape (rows, columns)
        ``factor (d - mean(d) - normalised mean(d normalised))``.
    """
    mean: Array | int = d.mean(axis=axis, keepdims=True) if centred else 0
    dot: Array = (d * normalised).mean(axis=axis, keepdims=True)
    result: Array = factor * (d - mean - normalised * dot)
    return result


def running_update(running: Array, found: Array, momentum: float, rows: int | None) -> Array:
    """Move a running average towards what a batch of ``rows`` rows showed.

    Parameters
    ----------
    running, found : ndarray of shape (columns,)
        The average, and the batch's mean or variance (over n).
    momentum : float
        Weight of the batch.
    rows : int or None
        If given, ``found`` is a variance, and made unbiased: times ``rows / (rows - 1)``.

    Returns
    -------
    ndarray of shape (columns,)
    """
    factor = 1.0 if rows is None else rows / (rows - 1)
    return (1 - momentum) * running + momentum * factor * found


def prelu(x: Array, alpha: Array) -> tuple[Array, Array, Array]:
    """Return ``x`` where it is positive, else ``alpha x``; and both derivatives.

    Parameters
    ----------
    x : ndarray of shape (rows, columns)
        Inputs.
    alpha : ndarray of shape (columns,)
        Slopes; at 0 they are the derivative.

    Returns
    -------
    value, by_x, by_alpha : ndarray of shape (rows, columns)
    """
    positive = x > 0
    return np.where(positive, x, alpha * x), np.where(positive, 1, alpha), np.where(positive, 0, x)


def blend(x: Array, f: Array, slope: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Return ``x + (f - x) weight`` and its derivatives.

    Parameters
    ----------
    x, f, slope : ndarray of shape (rows, columns)
        Inputs, an activation of them and its derivative.
    weight : ndarray of shape (columns,)
        How much of the activation is taken.

    Returns
    -------
    value, by_x, by_weight : ndarray of shape (rows, columns)
    """
    return x + (f - x) * weight, 1 + (slope - 1) * weight, f - x


def noise_key(seed: int, step: int, stream: int) -> int:
    """Return the 64-bit key of a layer's masks at a step; its low word is that of masks.

    Parameters
    ----------
    seed, step : int
        The network's seed, and the number of steps made before.
    stream : int
        Place of the layer in the engine's list of operations.

    Returns
    -------
    int
    """
    return int(mix64((int(shuffle_key(seed, 1, step)) + stream) % 2**64))


def hashes(key: int, n: int) -> NDArray[np.uint32]:
    """Return ``n`` 32-bit hashes of the numbers from 0: MurmurHash3's finaliser (Appleby 2011).

    Parameters
    ----------
    key : int
        Added to each number times 2**32 / golden ratio; modulo 2**32.
    n : int
        How many.

    Returns
    -------
    ndarray of uint32 of shape (n,)
    """
    h = np.arange(n, dtype=np.uint32) * np.uint32(0x9E3779B9) + np.uint32(key % 2**32)
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))


def _kept(x: Array, rate: float, key: int) -> NDArray[np.bool_]:
    return hashes(key, x.size).reshape(x.shape) >= np.uint32(int(rate * 2**32))


def dropout(x: Array, rate: float, key: int) -> Array:
    """Return ``x`` with a share of its elements set to 0, the others over ``1 - rate``.

    Parameters
    ----------
    x : ndarray
        Inputs of the whole batch.
    rate : float
        Share, in [0, 1).
    key : int
        See :func:`noise_key`.

    Returns
    -------
    ndarray shaped as ``x``
    """
    return np.where(_kept(x, rate, key), x * x.dtype.type(1 / (1 - rate)), x.dtype.type(0))


def alpha_dropout(x: Array, rate: float, key: int) -> tuple[Array, Array]:
    """Return ``a x' + b``, where ``x'`` is ``x`` or selu's lower limit; and its derivative.

    Parameters
    ----------
    x, rate, key
        As for :func:`dropout`.

    Returns
    -------
    value, by_x : ndarray shaped as ``x``

    References
    ----------
    Klambauer et al. 2017, "Self-normalizing neural networks".
    """
    limit = -1.0507009873554805 * 1.6732632423543772
    a = ((1 - rate) * (1 + rate * limit**2)) ** -0.5
    kept, real = _kept(x, rate, key), x.dtype.type
    value = np.where(kept, x * real(a) - real(a * rate * limit), real(a * limit * (1 - rate)))
    return value, np.where(kept, real(a), real(0))


def gaussian_noise(x: Array, stddev: float, key: int) -> Array:
    """Return ``x`` with normal noise added (Box and Muller 1958, the first of each pair).

    Parameters
    ----------
    x : ndarray
        Inputs of the whole batch.
    stddev : float
        Standard deviation.
    key : int
        See :func:`noise_key`; its low word gives the radius, its high word the angle.

    Returns
    -------
    ndarray shaped as ``x``
    """
    real: Any = x.dtype.type
    radius = (hashes(key, x.size) >> np.uint32(1)).astype(x.dtype)
    radius = np.sqrt(-2 * np.log((radius + real(0.5)) * real(2.0**-31)))
    turns = hashes(key >> 32, x.size).view(np.int32).astype(x.dtype) * real(2.0**-32)
    noise = radius * np.cos(2 * np.pi * turns.astype(np.float64)).astype(x.dtype)
    result: Array = x + real(stddev) * noise.reshape(x.shape)
    return result
