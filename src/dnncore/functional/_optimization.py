"""Mini-batches, and the updates of momentum and Adam."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from dnncore._validation import check_int, check_real
from dnncore.functional._arrays import (
    Array,
    as_array,
    as_columns,
    as_shaped,
    as_targets,
    count_layers,
    lookup,
)

__all__ = [
    "initialize_adam",
    "initialize_velocity",
    "random_mini_batches",
    "update_parameters_with_adam",
    "update_parameters_with_momentum",
]

Tensors = dict[str, Array]


def random_mini_batches(
    X: ArrayLike, Y: ArrayLike, mini_batch_size: int = 64, seed: int = 0
) -> list[tuple[Array, Array]]:
    """Return the examples in random order, cut into mini-batches.

    The order is that of ``np.random.seed(seed)`` and ``np.random.permutation(m)``.

    Parameters
    ----------
    X : array_like of shape (n_0, m)
        One column per example.
    Y : array_like of shape (n_L, m) or (m,)
        Targets.
    mini_batch_size : int
        Examples per mini-batch; the last one holds what is left.
    seed : int
        Give each epoch another one.

    Returns
    -------
    list of (ndarray of shape (n_0, size), ndarray of shape (n_L, size))

    Raises
    ------
    TypeError, ValueError
        If X and Y differ in their examples or the size is not an integer of at least 1.
    """
    size = check_int(mini_batch_size, "mini_batch_size")
    X = as_columns(X, "X")
    m = X.shape[1]
    Y = as_array(Y, "Y")
    Y = as_targets(Y, (Y.shape[0] if Y.ndim == 2 else 1, m))
    stream = np.random.RandomState(check_int(seed, "seed", minimum=0, maximum=2**32 - 1))
    order = stream.permutation(m)
    batches = []
    for start in range(0, m, size):
        columns = order[start : start + size]
        batches.append((X[:, columns], Y[:, columns]))
    return batches


def initialize_velocity(parameters: Mapping[str, ArrayLike]) -> Tensors:
    """Return zeros ``dW{l}``, ``db{l}`` in the shapes of the parameters.

    Parameters
    ----------
    parameters : dict
        ``W1``, ``b1``, ..., ``WL``, ``bL``.

    Returns
    -------
    dict
    """
    return {
        f"d{name}": np.zeros(np.shape(parameters[name])) for name in parameter_names(parameters)
    }


def update_parameters_with_momentum(
    parameters: Mapping[str, ArrayLike],
    grads: Mapping[str, ArrayLike],
    v: Mapping[str, ArrayLike],
    beta: float,
    learning_rate: float,
) -> tuple[Tensors, Tensors]:
    """Take one step along the running mean of the gradients.

    ::

        v = beta v + (1 - beta) dW        W = W - learning_rate v

    Parameters
    ----------
    parameters, grads, v : dict
        Parameters, their gradients and their velocities (:func:`initialize_velocity`); left as
        they were.
    beta : float
        Share of the past, at least 0 and below 1.
    learning_rate : float
        Length of the step.

    Returns
    -------
    parameters, v : dict
        New arrays.

    Raises
    ------
    ValueError
        If an entry is missing or of another shape, or a number is out of range.
    """
    beta = _check_decay(beta, "beta")
    learning_rate = check_real(learning_rate, "learning_rate")
    new_parameters: Tensors = {}
    new_v: Tensors = {}
    for name in parameter_names(parameters):
        value, gradient, velocity = _entries(name, parameters, grads=grads, v=v)
        velocity = beta * velocity + (1 - beta) * gradient
        new_v[f"d{name}"] = velocity
        new_parameters[name] = value - learning_rate * velocity
    return new_parameters, new_v


def initialize_adam(
    parameters: Mapping[str, ArrayLike],
) -> tuple[Tensors, Tensors]:
    """Return zeros for both moments of Adam.

    Parameters
    ----------
    parameters : dict
        ``W1``, ``b1``, ..., ``WL``, ``bL``.

    Returns
    -------
    v, s : dict
        ``dW{l}``, ``db{l}`` in the shapes of the parameters.
    """
    return initialize_velocity(parameters), initialize_velocity(parameters)


def update_parameters_with_adam(
    parameters: Mapping[str, ArrayLike],
    grads: Mapping[str, ArrayLike],
    v: Mapping[str, ArrayLike],
    s: Mapping[str, ArrayLike],
    t: int,
    learning_rate: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> tuple[Tensors, Tensors, Tensors, Tensors, Tensors]:
    """Take one step of Adam (Kingma and Ba 2015).

    ::

        v = beta1 v + (1 - beta1) dW              v_corrected = v / (1 - beta1**t)
        s = beta2 s + (1 - beta2) dW**2           s_corrected = s / (1 - beta2**t)
        W = W - learning_rate v_corrected / (sqrt(s_corrected) + epsilon)

    Parameters
    ----------
    parameters, grads, v, s : dict
        Parameters, their gradients and both moments (:func:`initialize_adam`); left as they were.
    t : int
        Number of this step, counted from 1.
    learning_rate : float
        Length of the step.
    beta1, beta2 : float
        Share of the past in each moment, at least 0 and below 1.
    epsilon : float
        Keeps the division safe.

    Returns
    -------
    parameters, v, s, v_corrected, s_corrected : dict
        New arrays.

    Raises
    ------
    TypeError, ValueError
        If an entry is missing or of another shape, or a number is out of range.
    """
    t = check_int(t, "t")
    learning_rate = check_real(learning_rate, "learning_rate")
    beta1, beta2 = _check_decay(beta1, "beta1"), _check_decay(beta2, "beta2")
    epsilon = check_real(epsilon, "epsilon", minimum=0.0)
    new_parameters: Tensors = {}
    new_v: Tensors = {}
    new_s: Tensors = {}
    v_corrected: Tensors = {}
    s_corrected: Tensors = {}
    for name in parameter_names(parameters):
        key = f"d{name}"
        value, gradient, first, second = _entries(name, parameters, grads=grads, v=v, s=s)
        new_v[key] = beta1 * first + (1 - beta1) * gradient
        new_s[key] = beta2 * second + (1 - beta2) * gradient**2
        v_corrected[key] = new_v[key] / (1 - beta1**t)
        s_corrected[key] = new_s[key] / (1 - beta2**t)
        new_parameters[name] = value - learning_rate * v_corrected[key] / (
            np.sqrt(s_corrected[key]) + epsilon
        )
    return new_parameters, new_v, new_s, v_corrected, s_corrected


def parameter_names(parameters: Mapping[str, ArrayLike]) -> list[str]:
    """Return ``W1``, ``b1``, ``W2``, ``b2``, ... in this order."""
    return [f"{kind}{i}" for i in range(1, count_layers(parameters) + 1) for kind in "Wb"]


def _check_decay(value: float, name: str) -> float:
    value = check_real(value, name, minimum=0.0)
    if value >= 1:
        raise ValueError(f"{name} must be less than 1; got {value:g}.")
    return value


def _entries(
    name: str, parameters: Mapping[str, ArrayLike], **others: Mapping[str, ArrayLike]
) -> list[Array]:
    value = as_array(parameters[name], name)
    key, like = f"d{name}", f"that of {name}"
    return [value] + [
        as_shaped(lookup(mapping, key, argument), f"{argument}[{key!r}]", value.shape, like)
        for argument, mapping in others.items()
    ]
