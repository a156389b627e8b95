"""The way through the network: forward, cost, predict."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from dnncore._validation import check_choice
from dnncore.functional._activations import activate
from dnncore.functional._arrays import (
    Array,
    LayerCache,
    LinearCache,
    as_columns,
    as_layer,
    as_targets,
    count_layers,
    multiply,
)

__all__ = [
    "L_model_forward",
    "compute_cost",
    "linear_activation_forward",
    "linear_forward",
    "predict",
]


def linear_forward(A: ArrayLike, W: ArrayLike, b: ArrayLike) -> tuple[Array, LinearCache]:
    """Return ``Z = W A + b`` and the cache ``(A, W, b)``.

    Parameters
    ----------
    A : array_like of shape (n_prev, m)
        Activations of the layer before, or the input.
    W : array_like of shape (n, n_prev)
        Weights.
    b : array_like of shape (n, 1)
        Biases.

    Returns
    -------
    Z : ndarray of shape (n, m)
    cache : tuple
        ``(A, W, b)``.

    Raises
    ------
    ValueError
        If the shapes do not fit together.
    """
    return _linear(A, W, b, ("W", "b", "A"))


def _linear(
    A: ArrayLike, W: ArrayLike, b: ArrayLike, names: tuple[str, str, str]
) -> tuple[Array, LinearCache]:
    inputs = as_columns(A, names[2])
    weights, biases = as_layer(W, b, inputs.shape[0], names)
    Z = multiply(weights, inputs)
    Z += biases
    return Z, (inputs, weights, biases)


def linear_activation_forward(
    A_prev: ArrayLike, W: ArrayLike, b: ArrayLike, activation: str
) -> tuple[Array, LayerCache]:
    """Return ``A = g(W A_prev + b)`` and the cache ``((A_prev, W, b), Z)``.

    Parameters
    ----------
    A_prev : array_like of shape (n_prev, m)
        Activations of the layer before, or the input.
    W : array_like of shape (n, n_prev)
        Weights.
    b : array_like of shape (n, 1)
        Biases.
    activation : {'sigmoid', 'relu'}
        The function ``g``.

    Returns
    -------
    A : ndarray of shape (n, m)
    cache : tuple
        Of the linear part and of the activation.

    Raises
    ------
    ValueError
        If the shapes do not fit together or the activation is unknown.
    """
    check_choice(activation, "activation", ("sigmoid", "relu"))
    Z, linear_cache = _linear(A_prev, W, b, ("W", "b", "A_prev"))
    A, activation_cache = activate(activation, Z)
    return A, (linear_cache, activation_cache)


def L_model_forward(
    X: ArrayLike, parameters: Mapping[str, ArrayLike]
) -> tuple[Array, list[LayerCache]]:
    """Run the whole network: ReLU in every layer but the last, sigmoid there.

    Parameters
    ----------
    X : array_like of shape (n_0, m)
        One column per example.
    parameters : dict
        ``W1``, ``b1``, ..., ``WL``, ``bL``.

    Returns
    -------
    AL : ndarray of shape (n_L, m)
        Output of the last layer, probabilities.
    caches : list of tuple
        One of :func:`linear_activation_forward` per layer, the first layer's first.

    Raises
    ------
    ValueError
        If the shapes do not fit together or a parameter is missing.
    """
    n_layers = count_layers(parameters)
    A = as_columns(X, "X")
    caches: list[LayerCache] = []
    for i in range(1, n_layers + 1):
        names = (f"W{i}", f"b{i}", "X" if i == 1 else f"A{i - 1}")
        Z, linear_cache = _linear(A, parameters[f"W{i}"], parameters[f"b{i}"], names)
        A, Z = activate("sigmoid" if i == n_layers else "relu", Z)
        caches.append((linear_cache, Z))
    return A, caches


def compute_cost(AL: ArrayLike, Y: ArrayLike) -> Array:
    """Return the mean cross-entropy ``-1/m sum(Y log AL + (1 - Y) log(1 - AL))``.

    Nothing is clipped: an output of exactly 0 or 1 makes the cost infinite or NaN, and NumPy
    warns.

    Parameters
    ----------
    AL : array_like of shape (n_L, m)
        Probabilities.
    Y : array_like of shape (n_L, m), or (m,) if n_L is 1
        Targets; any real numbers.

    Returns
    -------
    ndarray of shape ()

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    AL = as_columns(AL, "AL")
    Y = as_targets(Y, AL.shape)
    log_likelihood = np.vdot(Y, np.log(AL)) + np.vdot(1 - Y, np.log(1 - AL))
    return np.asarray(-log_likelihood / AL.shape[1])


def predict(X: ArrayLike, y: ArrayLike | None, parameters: Mapping[str, ArrayLike]) -> Array:
    """Return 1 where the network's output is above one half and 0 elsewhere; print the accuracy.

    Parameters
    ----------
    X : array_like of shape (n_0, m)
        One column per example.
    y : array_like of shape (1, m) or (m,), or None
        The true labels, 0 or 1; with None nothing is printed.
    parameters : dict
        ``W1``, ``b1``, ..., ``WL``, ``bL``.

    Returns
    -------
    ndarray of shape (1, m)
        Of 0.0 and 1.0.

    Raises
    ------
    ValueError
        If the shapes do not fit together.
    """
    AL, _ = L_model_forward(X, parameters)
    p = (AL > 0.5).astype(np.float64)
    if y is not None:
        print(f"Accuracy: {np.mean(p == as_targets(y, p.shape))}")
    return p
