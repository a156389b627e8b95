"""Initial weights: named distributions scaled by the fans of a layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnncore._validation import as_matrix, check_choice

__all__ = ["INITIALIZERS", "Initializer", "default_initializer", "initialize"]

Initializer = Callable[[np.random.Generator, int, int], NDArray[Any]]
"""A function of ``(rng, n_in, n_out)`` that returns an array of shape ``(n_in, n_out)``."""


def _uniform(variance: Callable[[int, int], float]) -> Initializer:
    def draw(rng: np.random.Generator, n_in: int, n_out: int) -> NDArray[Any]:
        bound = math.sqrt(3.0 * variance(n_in, n_out))
        return rng.uniform(-bound, bound, (n_in, n_out))

    return draw


def _normal(variance: Callable[[int, int], float]) -> Initializer:
    def draw(rng: np.random.Generator, n_in: int, n_out: int) -> NDArray[Any]:
        return rng.standard_normal((n_in, n_out)) * math.sqrt(variance(n_in, n_out))

    return draw


def _glorot(n_in: int, n_out: int) -> float:
    return 2.0 / (n_in + n_out)


def _he(n_in: int, n_out: int) -> float:
    return 2.0 / n_in


def _lecun(n_in: int, n_out: int) -> float:
    return 1.0 / n_in


def _orthogonal(rng: np.random.Generator, n_in: int, n_out: int) -> NDArray[Any]:
    tall = rng.standard_normal((max(n_in, n_out), min(n_in, n_out)))
    q, r = np.linalg.qr(tall)
    q *= np.sign(np.diag(r))  # without it QR favours some orthogonal matrices over others
    return q if n_in >= n_out else q.T


def _zeros(rng: np.random.Generator, n_in: int, n_out: int) -> NDArray[Any]:
    return np.zeros((n_in, n_out))


INITIALIZERS: dict[str, Initializer] = {
    "glorot_uniform": _uniform(_glorot),
    "glorot_normal": _normal(_glorot),
    "he_uniform": _uniform(_he),
    "he_normal": _normal(_he),
    "lecun_uniform": _uniform(_lecun),
    "lecun_normal": _normal(_lecun),
    "orthogonal": _orthogonal,
    "zeros": _zeros,
}
"""Initializers by name.

=================  =========================================================================
``glorot_*``       variance 2 / (n_in + n_out): Glorot and Bengio 2010, "Understanding the
                   difficulty of training deep feedforward neural networks"
``he_*``           variance 2 / n_in: He et al. 2015, "Delving deep into rectifiers"
``lecun_*``        variance 1 / n_in: LeCun et al. 1998, "Efficient BackProp"
``orthogonal``     rows or columns orthonormal: Saxe et al. 2014, "Exact solutions to the
                   nonlinear dynamics of learning in deep linear neural networks"
``zeros``          all zero; for biases and last layers
=================  =========================================================================
"""

_HE = ("relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "mish", "hard_swish")


def default_initializer(activation: str) -> str:
    """Name of the initializer that suits an activation: He for relu and its kin.

    ``selu`` needs LeCun's variance to normalise itself (Klambauer et al. 2017); all others get
    Glorot's.
    """
    if activation in _HE:
        return "he_normal"
    return "lecun_normal" if activation == "selu" else "glorot_uniform"


def initialize(
    initializer: str | Initializer, rng: np.random.Generator, n_in: int, n_out: int
) -> NDArray[Any]:
    """Draw a weight matrix, in float64.

    Parameters
    ----------
    initializer : str or callable
        A name from ``INITIALIZERS`` or a function of ``(rng, n_in, n_out)``.
    rng : numpy.random.Generator
        Source of random numbers.
    n_in, n_out : int
        Fans of the layer.

    Returns
    -------
    ndarray of shape (n_in, n_out)

    Raises
    ------
    TypeError, ValueError
        For an unknown name, or if a function returns something else than such a matrix.
    """
    if callable(initializer):
        drawn = np.asarray(initializer(rng, n_in, n_out))
        if drawn.shape != (n_in, n_out):
            raise ValueError(
                f"weight_initializer must return an array of shape ({n_in}, {n_out}); "
                f"got shape {drawn.shape}."
            )
        return as_matrix(drawn, "The result of weight_initializer", dtype=np.dtype(np.float64))
    return INITIALIZERS[check_choice(initializer, "initializer", INITIALIZERS)](rng, n_in, n_out)
