"""L2 regularisation and dropout, for networks of any depth.

These functions pass the caches of all layers as one flat tuple: four entries per layer,
``Z, A, W, b``, or with dropout five, ``Z, D, A, W, b``, except that the last layer, which is never
dropped, has no mask ``D``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dnncore._validation import check_int, check_real
from dnncore.functional._activations import differentiate
from dnncore.functional._arrays import Array, as_array, as_columns, as_targets, count_layers
from dnncore.functional._backward import linear_backward
from dnncore.functional._forward import L_model_forward, compute_cost, linear_activation_forward

__all__ = [
    "backward_propagation_with_dropout",
    "backward_propagation_with_regularization",
    "compute_cost_with_regularization",
    "forward_propagation",
    "forward_propagation_with_dropout",
]

FlatCache = tuple[Array, ...]


def forward_propagation(
    X: ArrayLike, parameters: Mapping[str, ArrayLike]
) -> tuple[Array, FlatCache]:
    """Run the whole network; the same numbers as ``L_model_forward``, with a flat cache.

    Parameters
    ----------
    X : array_like of shape (n_0, m)
        One column per example.
    parameters : dict
        ``W1``, ``b1``, ..., ``WL``, ``bL``.

    Returns
    -------
    AL : ndarray of shape (n_L, m)
    cache : tuple
        ``(Z1, A1, W1, b1, Z2, A2, W2, b2, ...)``.

    Raises
    ------
    ValueError
        If the shapes do not fit together or a parameter is missing.
    """
    AL, caches = L_model_forward(X, parameters)
    inputs = [linear_cache[0] for linear_cache, _ in caches]
    outputs = [*inputs[1:], AL]
    cache: FlatCache = ()
    for ((_, W, b), Z), A in zip(caches, outputs, strict=True):
        cache += (Z, A, W, b)
    return AL, cache


def compute_cost_with_regularization(
    A3: ArrayLike, Y: ArrayLike, parameters: Mapping[str, ArrayLike], lambd: float
) -> Array:
    """Return the cross-entropy plus ``lambd / (2 m)`` times the sum of all squared weights.

    Parameters
    ----------
    A3 : array_like of shape (n_L, m)
        Output of the network.
    Y : array_like of shape (n_L, m), or (m,) if n_L is 1
        Targets.
    parameters : dict
        ``W1``, ``b1``, ..., ``WL``, ``bL``; biases do not count.
    lambd : float
        Strength of the regularisation.

    Returns
    -------
    ndarray of shape ()

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    lambd = check_real(lambd, "lambd", minimum=0.0)
    A3 = as_columns(A3, "A3")
    squares = 0.0
    for i in range(1, count_layers(parameters) + 1):
        W = as_array(parameters[f"W{i}"], f"W{i}")
        squares += float(np.vdot(W, W))
    return np.asarray(compute_cost(A3, Y) + lambd / (2 * A3.shape[1]) * squares)


def backward_propagation_with_regularization(
    X: ArrayLike, Y: ArrayLike, cache: FlatCache, lambd: float
) -> dict[str, Array]:
    """Return the gradients of :func:`compute_cost_with_regularization`.

    To each ``dW`` of the plain network it adds ``lambd / m W``.

    Parameters
    ----------
    X : array_like of shape (n_0, m)
        One column per example.
    Y : array_like of shape (n_L, m), or (m,) if n_L is 1
        Targets.
    cache : tuple
        Of :func:`forward_propagation`.
    lambd : float
        Strength of the regularisation; 0 gives the plain gradients.

    Returns
    -------
    dict
        ``dZ{l}``, ``dW{l}`` and ``db{l}`` for each layer and ``dA{l}`` for each hidden one.

    Raises
    ------
    ValueError
        If the cache is of another kind or the shapes do not fit together.
    """
    lambd = check_real(lambd, "lambd", minimum=0.0)
    layers = [_unpack(part) for part in _split(cache, dropout=False)]
    grads = _backward(X, Y, layers, lambda i, dA: dA)
    m = layers[0]["Z"].shape[1]
    for i, layer in enumerate(layers, start=1):
        grads[f"dW{i}"] += lambd / m * layer["W"]
    return grads


def forward_propagation_with_dropout(
    X: ArrayLike, parameters: Mapping[str, ArrayLike], keep_prob: float = 0.5, *, seed: int = 1
) -> tuple[Array, FlatCache]:
    """Run the network with hidden units switched off at random.

    Each unit of a hidden layer stays with probability ``keep_prob``, independently for each
    example, and is then divided by it, so that the expected activation does not change
    (inverted dropout: Srivastava et al. 2014, *Dropout: a simple way to prevent neural networks
    from overfitting*).

    Parameters
    ----------
    X : array_like of shape (n_0, m)
        One column per example.
    parameters : dict
        ``W1``, ``b1``, ..., ``WL``, ``bL``.
    keep_prob : float
        Above 0, at most 1.
    seed : int
        The masks are the numbers of ``np.random.seed(seed)`` and ``np.random.rand(n_l, m)`` below
        ``keep_prob``, layer by layer. Give each iteration another seed to get new masks.

    Returns
    -------
    AL : ndarray of shape (n_L, m)
    cache : tuple
        ``(Z1, D1, A1, W1, b1, Z2, D2, A2, W2, b2, ..., ZL, AL, WL, bL)``; masks ``D`` are 0 or 1.

    Raises
    ------
    ValueError
        If the shapes do not fit together, a parameter is missing or ``keep_prob`` is out of range.
    """
    keep_prob = _check_keep_prob(keep_prob)
    stream = np.random.RandomState(check_int(seed, "seed", minimum=0, maximum=2**32 - 1))
    n_layers = count_layers(parameters)
    A = as_columns(X, "X")
    cache: FlatCache = ()
    for i in range(1, n_layers + 1):
        activation = "sigmoid" if i == n_layers else "relu"
        A, ((_, W, b), Z) = linear_activation_forward(
            A, parameters[f"W{i}"], parameters[f"b{i}"], activation
        )
        if i < n_layers:
            D = (stream.rand(*A.shape) < keep_prob).astype(np.float64)
            A *= D
            A /= keep_prob
            cache += (Z, D, A, W, b)
        else:
            cache += (Z, A, W, b)
    return A, cache


def backward_propagation_with_dropout(
    X: ArrayLike, Y: ArrayLike, cache: FlatCache, keep_prob: float
) -> dict[str, Array]:
    """Return the gradients of the network that was run with dropout.

    What comes back to a hidden layer passes the same masks, and is divided by ``keep_prob`` too.

    Parameters
    ----------
    X : array_like of shape (n_0, m)
        One column per example.
    Y : array_like of shape (n_L, m), or (m,) if n_L is 1
        Targets.
    cache : tuple
        Of :func:`forward_propagation_with_dropout`.
    keep_prob : float
        The one of the forward pass.

    Returns
    -------
    dict
        ``dZ{l}``, ``dW{l}`` and ``db{l}`` for each layer and ``dA{l}`` for each hidden one.

    Raises
    ------
    ValueError
        If the cache is of another kind, the shapes do not fit together or ``keep_prob`` is out of
        range.
    """
    keep_prob = _check_keep_prob(keep_prob)
    layers = [_unpack(part) for part in _split(cache, dropout=True)]
    return _backward(X, Y, layers, lambda i, dA: dA * layers[i - 1]["D"] / keep_prob)


def _check_keep_prob(keep_prob: Any) -> float:
    if check_real(keep_prob, "keep_prob", maximum=1.0) <= 0:
        raise ValueError(f"keep_prob must be greater than 0; got {keep_prob}.")
    return float(keep_prob)


def _split(cache: FlatCache, *, dropout: bool) -> list[FlatCache]:
    size = 5 if dropout else 4
    n_hidden, rest = divmod(len(cache) - 4, size)
    if n_hidden < 0 or rest:
        maker = "forward_propagation_with_dropout" if dropout else "forward_propagation"
        raise ValueError(
            f"cache has {len(cache)} entries; pass the second result of {maker} "
            f"({size} entries per hidden layer and 4 for the last one)."
        )
    return [cache[i * size : (i + 1) * size] for i in range(n_hidden + 1)]


def _unpack(part: FlatCache) -> dict[str, Array]:
    names = "ZAWb" if len(part) == 4 else "ZDAWb"
    return {name: as_array(value, name) for name, value in zip(names, part, strict=True)}


def _backward(
    X: ArrayLike,
    Y: ArrayLike,
    layers: list[dict[str, Array]],
    drop: Callable[[int, Array], Array],
) -> dict[str, Array]:
    AL = layers[-1]["A"]
    # The sigmoid's derivative cancels the denominators of the cost's.
    dZ = AL - as_targets(Y, AL.shape)
    grads: dict[str, Array] = {}
    for i in range(len(layers), 0, -1):
        layer = layers[i - 1]
        A_prev = layers[i - 2]["A"] if i > 1 else as_columns(X, "X")
        dA_prev, dW, db = linear_backward(dZ, (A_prev, layer["W"], layer["b"]))
        grads[f"dZ{i}"], grads[f"dW{i}"], grads[f"db{i}"] = dZ, dW, db
        if i > 1:
            dA_prev = drop(i - 1, dA_prev)
            grads[f"dA{i - 1}"] = dA_prev
            dZ = differentiate("relu", dA_prev, layers[i - 2]["Z"])
    return grads
