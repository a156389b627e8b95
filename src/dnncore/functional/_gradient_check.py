"""Gradient checking: is what the backward pass returns the derivative of the cost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from dnncore._validation import check_real
from dnncore.functional._arrays import Array, as_array, as_shaped, lookup
from dnncore.functional._forward import L_model_forward, compute_cost
from dnncore.functional._optimization import parameter_names

__all__ = ["dictionary_to_vector", "gradient_check_n", "vector_to_dictionary"]


def dictionary_to_vector(parameters: Mapping[str, ArrayLike]) -> tuple[Array, list[str]]:
    """Roll all parameters out into one column: ``W1`` row by row, ``b1``, ``W2``, ...

    Parameters
    ----------
    parameters : dict
        ``W1``, ``b1``, ..., ``WL``, ``bL``.

    Returns
    -------
    theta : ndarray of shape (n, 1)
        A copy.
    keys : list of str
        For each element of ``theta``, the name of the array it came from.
    """
    names = parameter_names(parameters)
    arrays = [as_array(parameters[name], name) for name in names]
    theta = np.concatenate([array.reshape(-1, 1) for array in arrays])
    keys = [name for name, array in zip(names, arrays, strict=True) for _ in range(array.size)]
    return theta, keys


def vector_to_dictionary(theta: ArrayLike, parameters: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """Undo :func:`dictionary_to_vector`.

    Parameters
    ----------
    theta : array_like of shape (n, 1) or (n,)
        All parameters in one column.
    parameters : dict
        Arrays that tell the names and the shapes.

    Returns
    -------
    dict
        New arrays.

    Raises
    ------
    ValueError
        If the number of elements differs.
    """
    shapes = {name: np.shape(parameters[name]) for name in parameter_names(parameters)}
    n = sum(int(np.prod(shape)) for shape in shapes.values())
    flat = as_array(theta, "theta").reshape(-1)
    if flat.size != n:
        raise ValueError(f"theta must have {n} elements, as parameters has; got {flat.size}.")
    result: dict[str, Array] = {}
    start = 0
    for name, shape in shapes.items():
        stop = start + int(np.prod(shape))
        result[name] = flat[start:stop].reshape(shape).copy()
        start = stop
    return result


def gradient_check_n(
    parameters: Mapping[str, ArrayLike],
    gradients: Mapping[str, ArrayLike],
    X: ArrayLike,
    Y: ArrayLike,
    epsilon: float = 1e-7,
    print_msg: bool = False,
) -> float:
    """Compare the gradients with differences of the cost, one parameter at a time.

    ::

        approx[i] = (J(theta + epsilon e_i) - J(theta - epsilon e_i)) / (2 epsilon)
        difference = |grad - approx| / (|grad| + |approx|)

    It runs the network twice per parameter, so keep the network small.

    Parameters
    ----------
    parameters : dict
        ``W1``, ``b1``, ..., ``WL``, ``bL``, of a network as in
        :func:`~dnncore.functional.L_model_forward`.
    gradients : dict
        ``dW1``, ``db1``, ..., of the same shapes; other entries are ignored.
    X : array_like of shape (n_0, m)
        One column per example.
    Y : array_like of shape (n_L, m), or (m,) if n_L is 1
        Targets.
    epsilon : float
        Step of the differences.
    print_msg : bool
        Print the verdict.

    Returns
    -------
    float
        The difference: about 1e-7 if the gradients are right, 1e-3 and more if they are not.

    Raises
    ------
    ValueError
        If a gradient is missing or has another shape than its parameter.
    """
    epsilon = check_real(epsilon, "epsilon", minimum=0.0, exclusive=True)
    theta, _ = dictionary_to_vector(parameters)
    gradient = np.concatenate(
        [
            as_shaped(
                lookup(gradients, f"d{name}", "gradients"),
                f"d{name}",
                np.shape(parameters[name]),
                f"that of {name}",
            ).reshape(-1)
            for name in parameter_names(parameters)
        ]
    )
    approximation = np.empty_like(gradient)
    for i in range(theta.size):
        costs = []
        for step in (epsilon, -epsilon):
            moved = theta.copy()
            moved[i] += step
            AL, _ = L_model_forward(X, vector_to_dictionary(moved, parameters))
            costs.append(float(compute_cost(AL, Y)))
        approximation[i] = (costs[0] - costs[1]) / (2 * epsilon)
    scale = np.linalg.norm(gradient) + np.linalg.norm(approximation)
    difference = float(np.linalg.norm(gradient - approximation) / scale) if scale else 0.0
    if print_msg:
        verdict = "agree" if difference <= 2 * epsilon else "do not agree"
        print(f"Gradients and differences of the cost {verdict}: relative difference {difference}")
    return difference
