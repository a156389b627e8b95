"""Activations, each beside its derivative.

All are stable for ``|z|`` up to 1e4, saturate instead of overflowing, and turn NaN into NaN, in
the value and (but for identity) in the derivative. At a kink the derivative is that of the piece
on the left (``relu'(0) = 0``); for hardtanh and hard_swish, of the piece outside.

To add one: write its forward and derivative below, and one row in :data:`ACTIVATIONS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc, expit

from .._validation import check_choice

__all__ = ["ACTIVATIONS", "Activation", "activation_backward", "activation_forward"]

Array = NDArray[np.floating]

LEAKY_SLOPE = 0.01
ELU_ALPHA = 1.0
# The fixed point (mean 0, variance 1) of Klambauer et al., arXiv:1706.02515, equation 14.
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805
GELU_TANH_FACTOR = math.sqrt(2.0 / math.pi)
GELU_TANH_CUBIC = 0.044715


@dataclass(frozen=True, slots=True)
class Activation:
    """One activation ``a = f(z)``.

    Attributes
    ----------
    forward : callable
        ``forward(z) -> a``.
    backward : callable
        ``backward(da, z, a) -> dz``, the gradient by ``z`` from the gradient by ``a``.
    derivative : callable or None
        ``derivative(z, a) -> f'(z)``; ``None`` where ``a`` at one place depends on ``z`` at
        others (softmax).
    """

    forward: Callable[[Array], Array]
    backward: Callable[[Array, Array, Array], Array]
    derivative: Callable[[Array, Array], Array] | None


def _elementwise(
    forward: Callable[[Array], Array], derivative: Callable[[Array, Array], Array]
) -> Activation:
    return Activation(forward, lambda da, z, a: da * derivative(z, a), derivative)


def _where(z: Array, condition: NDArray[np.bool_], yes: Array | float, no: Array | float) -> Array:
    """Choose elementwise in the dtype of ``z``; where ``z`` is NaN the result is."""
    return np.where(np.isnan(z), z, np.where(condition, yes, no).astype(z.dtype))


def _identity(z: Array) -> Array:
    """``z``."""
    return z.copy()


def _identity_derivative(z: Array, a: Array) -> Array:
    return np.ones_like(z)


def _sigmoid(z: Array) -> Array:
    """``1 / (1 + exp(-z))``."""
    a: Array = expit(z)
    return a


def _sigmoid_derivative(z: Array, a: Array) -> Array:
    return a * (1 - a)


def _tanh(z: Array) -> Array:
    """``(exp(z) - exp(-z)) / (exp(z) + exp(-z))``."""
    return np.tanh(z)


def _tanh_derivative(z: Array, a: Array) -> Array:
    return 1 - a * a


def _relu(z: Array) -> Array:
    """``max(z, 0)``; Nair and Hinton, ICML 2010."""
    return np.maximum(z, 0)


def _relu_derivative(z: Array, a: Array) -> Array:
    return _where(z, z > 0, 1.0, 0.0)


def _leaky_relu(z: Array) -> Array:
    """``z`` if ``z > 0`` else ``0.01 z``; Maas, Hannun and Ng, ICML 2013."""
    return np.where(z > 0, z, LEAKY_SLOPE * z)


def _leaky_relu_derivative(z: Array, a: Array) -> Array:
    return _where(z, z > 0, 1.0, LEAKY_SLOPE)


def _elu(z: Array) -> Array:
    """``z`` if ``z > 0`` else ``exp(z) - 1``; Clevert et al., arXiv:1511.07289."""
    return np.where(z > 0, z, ELU_ALPHA * np.expm1(np.minimum(z, 0)))


def _elu_derivative(z: Array, a: Array) -> Array:
    return _where(z, z > 0, 1.0, a + ELU_ALPHA)


def _selu(z: Array) -> Array:
    """``s z`` if ``z > 0`` else ``s alpha (exp(z) - 1)``; Klambauer et al., arXiv:1706.02515."""
    return SELU_SCALE * np.where(z > 0, z, SELU_ALPHA * np.expm1(np.minimum(z, 0)))


def _selu_derivative(z: Array, a: Array) -> Array:
    return _where(z, z > 0, SELU_SCALE, a + SELU_SCALE * SELU_ALPHA)


def _normal_cdf(z: Array) -> Array:
    # 1 + erf(x) = erfc(-x), without the cancellation in the left tail.
    cdf: Array = 0.5 * erfc(z * -math.sqrt(0.5))
    return cdf


def _gelu(z: Array) -> Array:
    """``z (1 + erf(z / sqrt(2))) / 2``; Hendrycks and Gimpel, arXiv:1606.08415."""
    return z * _normal_cdf(z)


def _gelu_derivative(z: Array, a: Array) -> Array:
    density = np.exp(-0.5 * z * z) * (1 / math.sqrt(2 * math.pi))
    return _normal_cdf(z) + z * density


def _gelu_tanh_gate(z: Array) -> Array:
    # (1 + tanh(u)) / 2 = sigmoid(2 u), without the cancellation in the left tail.
    return _sigmoid(2 * GELU_TANH_FACTOR * (z + GELU_TANH_CUBIC * z * z * z))


def _gelu_tanh(z: Array) -> Array:
    """``z (1 + tanh(sqrt(2 / pi) (z + 0.044715 z**3))) / 2``; the same paper."""
    return z * _gelu_tanh_gate(z)


def _gelu_tanh_derivative(z: Array, a: Array) -> Array:
    gate = _gelu_tanh_gate(z)
    slope = 2 * GELU_TANH_FACTOR * (1 + 3 * GELU_TANH_CUBIC * z * z)
    return gate + a * (1 - gate) * slope


def _silu(z: Array) -> Array:
    """``z sigmoid(z)``; Elfwing, Uchibe and Doya, arXiv:1702.03118."""
    return z * _sigmoid(z)


def _silu_derivative(z: Array, a: Array) -> Array:
    gate = _sigmoid(z)
    return gate + a * (1 - gate)


def _mish(z: Array) -> Array:
    """``z tanh(softplus(z))``; Misra, arXiv:1908.08681."""
    gate: Array = np.tanh(_softplus(z))
    return z * gate


def _mish_derivative(z: Array, a: Array) -> Array:
    gate: Array = np.tanh(_softplus(z))
    return gate + z * (1 - gate * gate) * _sigmoid(z)


def _softplus(z: Array) -> Array:
    """``log(1 + exp(z))``; Dugas et al., NIPS 2000."""
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def _softplus_derivative(z: Array, a: Array) -> Array:
    return _sigmoid(z)


def _softsign(z: Array) -> Array:
    """``z / (1 + |z|)``; Glorot and Bengio, AISTATS 2010."""
    size: Array = np.abs(z)
    return z / (1 + size)


def _softsign_derivative(z: Array, a: Array) -> Array:
    size: Array = np.abs(z)
    return 1 / np.square(1 + size)


def _hardtanh(z: Array) -> Array:
    """``min(max(z, -1), 1)``; Collobert, 2004."""
    return np.clip(z, -1, 1)


def _hardtanh_derivative(z: Array, a: Array) -> Array:
    return _where(z, np.abs(z) < 1, 1.0, 0.0)


def _hard_swish(z: Array) -> Array:
    """``z min(max(z + 3, 0), 6) / 6``; Howard et al., arXiv:1905.02244."""
    return z * np.clip(z + 3, 0, 6) / 6


def _hard_swish_derivative(z: Array, a: Array) -> Array:
    return _where(z, np.abs(z) < 3, (2 * z + 3) / 6, np.heaviside(z, 0.0))


def _softmax(z: Array) -> Array:
    """``exp(z_j) / sum_k exp(z_k)`` over the last axis; Bridle, 1990."""
    e: Array = np.exp(z - z.max(axis=-1, keepdims=True))
    total: Array = e.sum(axis=-1, keepdims=True)
    return e / total


def _softmax_backward(da: Array, z: Array, a: Array) -> Array:
    # The Jacobian is diag(a) - a a^T, symmetric; this is its product with da.
    mean: Array = (da * a).sum(axis=-1, keepdims=True)
    return a * (da - mean)


ACTIVATIONS: dict[str, Activation] = {
    "identity": _elementwise(_identity, _identity_derivative),
    "sigmoid": _elementwise(_sigmoid, _sigmoid_derivative),
    "tanh": _elementwise(_tanh, _tanh_derivative),
    "relu": _elementwise(_relu, _relu_derivative),
    "leaky_relu": _elementwise(_leaky_relu, _leaky_relu_derivative),
    "elu": _elementwise(_elu, _elu_derivative),
    "selu": _elementwise(_selu, _selu_derivative),
    "gelu": _elementwise(_gelu, _gelu_derivative),
    "gelu_tanh": _elementwise(_gelu_tanh, _gelu_tanh_derivative),
    "silu": _elementwise(_silu, _silu_derivative),
    "mish": _elementwise(_mish, _mish_derivative),
    "softplus": _elementwise(_softplus, _softplus_derivative),
    "softsign": _elementwise(_softsign, _softsign_derivative),
    "hardtanh": _elementwise(_hardtanh, _hardtanh_derivative),
    "hard_swish": _elementwise(_hard_swish, _hard_swish_derivative),
    "softmax": Activation(_softmax, _softmax_backward, None),
}
"""Every activation by name."""


def activation_forward(name: str, z: Array) -> Array:
    """Return ``a = f(z)``, a new array.

    Parameters
    ----------
    name : str
        A key of :data:`ACTIVATIONS`.
    z : ndarray of shape (..., n)
        Pre-activations; softmax works along the last axis.

    Returns
    -------
    ndarray of shape (..., n)

    Raises
    ------
    ValueError
        For an unknown name.
    """
    return ACTIVATIONS[check_choice(name, "activation", ACTIVATIONS)].forward(z)


def activation_backward(name: str, da: Array, z: Array, a: Array) -> Array:
    """Return ``dz``, the gradient by ``z``, from ``da``, the gradient by ``a = f(z)``.

    Elementwise activations give ``dz = da f'(z)``; softmax gives the product of ``da`` with its
    Jacobian.

    Parameters
    ----------
    name : str
        A key of :data:`ACTIVATIONS`.
    da : ndarray of shape (..., n)
        Gradient by the activations.
    z, a : ndarray of shape (..., n)
        Pre-activations, and what :func:`activation_forward` made of them.

    Returns
    -------
    ndarray of shape (..., n)

    Raises
    ------
    ValueError
        For an unknown name.
    """
    return ACTIVATIONS[check_choice(name, "activation", ACTIVATIONS)].backward(da, z, a)
