"""The way back: the gradients of the cost, and the update of the parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from numpy.typing import ArrayLike

from dnncore._validation import check_choice, check_real
from dnncore.functional._activations import differentiate
from dnncore.functional._arrays import (
    Array,
    LayerCache,
    LinearCache,
    as_array,
    as_columns,
    as_layer,
    as_shaped,
    as_targets,
    count_layers,
    lookup,
    multiply,
)

__all__ = [
    "L_model_backward",
    "linear_activation_backward",
    "linear_backward",
    "update_parameters",
]


def linear_backward(dZ: ArrayLike, cache: LinearCache) -> tuple[Array, Array, Array]:
    """Return the gradients of the linear part of a layer, averaged over the examples.

    ::

        dW = dZ A_prev' / m        db = sum over examples of dZ / m        dA_prev = W' dZ

    Parameters
    ----------
    dZ : array_like of shape (n, m)
        Gradient with respect to the layer's pre-activation.
    cache : tuple
        ``(A_prev, W, b)`` of :func:`linear_forward`.

    Returns
    -------
    dA_prev : ndarray of shape (n_prev, m)
    dW : ndarray of shape (n, n_prev)
    db : ndarray of shape (n, 1)

    Raises
    ------
    ValueError
        If the shapes do not fit together.
    """
    A_prev, W, b = cache
    A_prev = as_columns(A_prev, "A_prev")
    W, _ = as_layer(W, b, A_prev.shape[0], ("W", "b", "A_prev"))
    m = A_prev.shape[1]
    dZ = as_shaped(dZ, "dZ", (W.shape[0], m), "(rows of W, columns of A_prev)")
    mean_dZ = dZ / m
    return multiply(W.T, dZ), multiply(mean_dZ, A_prev.T), mean_dZ.sum(axis=1, keepdims=True)


def linear_activation_backward(
    dA: ArrayLike, cache: LayerCache, activation: str
) -> tuple[Array, Array, Array]:
    """Return the gradients of a whole layer: its activation's derivative, then its linear part.

    Parameters
    ----------
    dA : array_like of shape (n, m)
        Gradient with respect to the layer's activation.
    cache : tuple
        Of :func:`linear_activation_forward`.
    activation : {'sigmoid', 'relu'}
        The activation of the layer.

    Returns
    -------
    dA_prev : ndarray of shape (n_prev, m)
    dW : ndarray of shape (n, n_prev)
    db : ndarray of shape (n, 1)

    Raises
    ------
    ValueError
        If the shapes do not fit together or the activation is unknown.
    """
    linear_cache, Z = cache
    return linear_backward(differentiate(activation, dA, Z), linear_cache)


def L_model_backward(
    AL: ArrayLike,
    Y: ArrayLike,
    caches: Sequence[LayerCache],
    *,
    dA_index: Literal["input", "layer"] = "input",
) -> dict[str, Array]:
    """Return the gradient of the cost with respect to every parameter.

    It starts from ``dAL = -(Y / AL - (1 - Y) / (1 - AL))`` and takes the sigmoid's derivative at
    the cached ``Z``, so ``AL`` need not be what the caches would give.

    Parameters
    ----------
    AL : array_like of shape (n_L, m)
        Output of the network.
    Y : array_like of shape (n_L, m), or (m,) if n_L is 1
        Targets.
    caches : sequence of tuple
        Of :func:`L_model_forward`.
    dA_index : {'input', 'layer'}
        How the gradient by the input of layer ``l`` is called: ``dA{l-1}``, down to ``dA0``, after
        the activation that it belongs to; or ``dA{l}``, after the layer, as was usual before 2021.

    Returns
    -------
    dict
        ``dW{l}``, ``db{l}`` and one ``dA`` for each layer; nothing else.

    Raises
    ------
    ValueError
        If the shapes do not fit together or there are no caches.
    """
    check_choice(dA_index, "dA_index", ("input", "layer"))
    AL = as_columns(AL, "AL")
    Y = as_targets(Y, AL.shape)
    if len(caches) == 0:
        raise ValueError("caches is empty; pass the second result of L_model_forward.")
    dA = (1 - Y) / (1 - AL) - Y / AL
    grads: dict[str, Array] = {}
    for i in range(len(caches), 0, -1):
        activation = "sigmoid" if i == len(caches) else "relu"
        dA, dW, db = linear_activation_backward(dA, caches[i - 1], activation)
        grads[f"dA{i - 1 if dA_index == 'input' else i}"] = dA
        grads[f"dW{i}"] = dW
        grads[f"db{i}"] = db
    return grads


def update_parameters(
    params: Mapping[str, ArrayLike], grads: Mapping[str, ArrayLike], learning_rate: float
) -> dict[str, Array]:
    """Take one step of gradient descent: ``W - learning_rate dW`` and ``b - learning_rate db``.

    Parameters
    ----------
    params : dict
        ``W1``, ``b1``, ..., ``WL``, ``bL``. It is left as it was.
    grads : dict
        ``dW1``, ``db1``, ..., of the same shapes; other entries are ignored.
    learning_rate : float
        Length of the step.

    Returns
    -------
    dict
        New arrays under the same names.

    Raises
    ------
    ValueError
        If a gradient is missing or has another shape than its parameter.
    """
    learning_rate = check_real(learning_rate, "learning_rate")
    updated: dict[str, Array] = {}
    for i in range(1, count_layers(params) + 1):
        for name in (f"W{i}", f"b{i}"):
            value = as_array(params[name], name)
            gradient = as_shaped(
                lookup(grads, f"d{name}", "grads"), f"d{name}", value.shape, f"that of {name}"
            )
            step = gradient * -learning_rate
            step += value
            updated[name] = step
    return updated
