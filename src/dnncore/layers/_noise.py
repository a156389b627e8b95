"""Layers that disturb their inputs during training, and do nothing at prediction.

Masks and noise come from counter-based generators: the same seed gives the same ones, for any
number of threads and after any interruption.
"""

from __future__ import annotations

from dataclasses import dataclass

from dnncore._validation import check_real
from dnncore.layers._basic import Layer

__all__ = ["AlphaDropout", "Dropout", "GaussianNoise"]


def _check_rate(rate: float) -> float:
    rate = check_real(rate, "rate", minimum=0.0)
    check_real(rate, "rate", maximum=1.0, exclusive=True)
    return rate


@dataclass(frozen=True, repr=False)
class Dropout(Layer):
    """Sets a random share of its inputs to zero during training, and scales up the others.

    ``out = x * mask / (1 - rate)``, a new mask each step; nothing happens at prediction.

    Parameters
    ----------
    rate : float
        Share that is dropped, in [0, 1).

    References
    ----------
    Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting".
    """

    rate: float = 0.5

    def __post_init__(self) -> None:
        self._set("rate", _check_rate(self.rate))


@dataclass(frozen=True, repr=False)
class AlphaDropout(Layer):
    """Dropout that keeps mean 0 and variance 1, for ``selu`` networks.

    Dropped inputs become ``l = -1.758``, the least value of selu; then ``a x + b`` with
    ``a = ((1 - rate) (1 + rate l**2)) ** -0.5`` and ``b = -a rate l``. Nothing happens at
    prediction.

    Parameters
    ----------
    rate : float
        Share that is dropped, in [0, 1).

    References
    ----------
    Klambauer et al. 2017, "Self-normalizing neural networks".
    """

    rate: float = 0.5

    def __post_init__(self) -> None:
        self._set("rate", _check_rate(self.rate))


@dataclass(frozen=True, repr=False)
class GaussianNoise(Layer):
    """Adds normal noise of mean 0 to its inputs during training; nothing at prediction.

    Parameters
    ----------
    stddev : float
        Standard deviation of the noise, at least 0.

    References
    ----------
    Bishop 1995, "Training with noise is equivalent to Tikhonov regularization".
    """

    stddev: float = 0.1

    def __post_init__(self) -> None:
        self._set("stddev", check_real(self.stddev, "stddev", minimum=0.0))
