"""Sigmoid and ReLU beside their derivatives."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from dnncore import _kernels
from dnncore._validation import check_choice
from dnncore.functional._arrays import Array, as_array, as_shaped

__all__ = ["relu", "relu_backward", "sigmoid", "sigmoid_backward"]


def sigmoid(Z: ArrayLike) -> tuple[Array, Array]:
    """Return ``A = 1 / (1 + exp(-Z))`` and, for the way back, ``Z``.

    Parameters
    ----------
    Z : array_like of any shape
        Pre-activation.

    Returns
    -------
    A : ndarray of the shape of Z
    Z : ndarray
        The cache.
    """
    return activate("sigmoid", as_array(Z, "Z"))


def relu(Z: ArrayLike) -> tuple[Array, Array]:
    """Return ``A = max(0, Z)`` and, for the way back, ``Z``.

    Parameters
    ----------
    Z : array_like of any shape
        Pre-activation.

    Returns
    -------
    A : ndarray of the shape of Z
    Z : ndarray
        The cache.
    """
    return activate("relu", as_array(Z, "Z"))


def sigmoid_backward(dA: ArrayLike, Z: ArrayLike) -> Array:
    """Return ``dZ = dA * s * (1 - s)`` with ``s = sigmoid(Z)``.

    Parameters
    ----------
    dA : array_like of the shape of Z
        Gradient of the cost with respect to the activation.
    Z : array_like
        The cache of :func:`sigmoid`.

    Returns
    -------
    dZ : ndarray of the shape of Z

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    return differentiate("sigmoid", dA, Z)


def relu_backward(dA: ArrayLike, Z: ArrayLike) -> Array:
    """Return ``dZ = dA`` where ``Z > 0`` and 0 elsewhere; ``dA`` is not modified.

    Parameters
    ----------
    dA : array_like of the shape of Z
        Gradient of the cost with respect to the activation.
    Z : array_like
        The cache of :func:`relu`.

    Returns
    -------
    dZ : ndarray of the shape of Z

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    return differentiate("relu", dA, Z)


def activate(activation: str, Z: Array) -> tuple[Array, Array]:
    """Apply an activation by name."""
    check_choice(activation, "activation", ("sigmoid", "relu"))
    if Z.flags.c_contiguous:
        return cast(Array, _kernels.activation_forward(activation, Z)), Z
    A = cast(Array, _kernels.activation_forward(activation, np.ascontiguousarray(Z.T)))
    return A.T, Z


def differentiate(activation: str, dA: ArrayLike, Z: ArrayLike) -> Array:
    """Apply the derivative of an activation, given by name."""
    check_choice(activation, "activation", ("sigmoid", "relu"))
    Z = as_array(Z, "Z")
    dA = as_shaped(dA, "dA", Z.shape, "that of Z")
    if not Z.flags.c_contiguous:
        return differentiate(activation, np.ascontiguousarray(dA.T), np.ascontiguousarray(Z.T)).T
    dA = np.ascontiguousarray(dA) if dA.ndim else dA
    # The derivative comes from the output; for relu the input has the same sign.
    A = _kernels.activation_forward("sigmoid", Z) if activation == "sigmoid" else Z
    return cast(Array, _kernels.activation_backward(activation, dA, Z, A))
