"""Optimizers as frozen settings; the engine applies them, the network keeps their state."""

from __future__ import annotations

from dataclasses import dataclass, field

from dnncore._kernels import OPTIMIZERS as _KERNELS
from dnncore._validation import check_choice, check_real

__all__ = ["OPTIMIZERS", "SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "as_optimizer"]


@dataclass(frozen=True)
class Optimizer:
    """Base of all optimizers.

    Parameters
    ----------
    learning_rate : float
        Step size.
    l2 : float
        Adds ``l2 * W`` to the gradient of the weights; biases are never decayed.
    """

    learning_rate: float = 1e-3
    l2: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        check_real(self.learning_rate, "learning_rate", minimum=0.0)
        check_real(self.l2, "l2", minimum=0.0)

    @property
    def kernel(self) -> str:
        """Name of the kernel in ``dnncore.kernels.OPTIMIZERS``."""
        raise NotImplementedError

    @property
    def moments(self) -> int:
        """Number of arrays of state, each as large as the parameters."""
        return _KERNELS[self.kernel][1]

    def settings(self) -> tuple[int, float, float, float, float, float, float]:
        """``(id, lr, l2, decay, beta1, beta2, eps)`` as the engine takes them."""
        return (_KERNELS[self.kernel][0], self.learning_rate, self.l2, *self._more())

    def _more(self) -> tuple[float, float, float, float]:
        raise NotImplementedError


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent: ``v = momentum v - lr g``, ``W = W + v``.

    Parameters
    ----------
    learning_rate, l2 : float
        See ``Optimizer``.
    momentum : float
        In [0, 1).
    nesterov : bool
        Look ahead: ``W = W + momentum v - lr g`` with the new ``v`` (Sutskever et al. 2013, "On
        the importance of initialization and momentum in deep learning").
    """

    learning_rate: float = 0.01
    momentum: float = field(default=0.0, kw_only=True)
    nesterov: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_real(self.momentum, "momentum", minimum=0.0)
        check_real(self.momentum, "momentum", maximum=1.0, exclusive=True)
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov needs momentum; set e.g. momentum=0.9.")

    @property
    def kernel(self) -> str:
        """Name of the kernel."""
        if self.momentum == 0.0:
            return "sgd"
        return "nesterov" if self.nesterov else "momentum"

    def _more(self) -> tuple[float, float, float, float]:
        return 0.0, self.momentum, 0.0, 0.0


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """``s = rho s + (1 - rho) g^2``, ``W = W - lr g / (sqrt(s) + eps)``.

    Parameters
    ----------
    learning_rate, l2 : float
        See ``Optimizer``.
    rho : float
        Decay rate of the mean square, in [0, 1).
    eps : float
        Keeps the division finite.

    References
    ----------
    Tieleman and Hinton 2012, lecture 6.5 of "Neural Networks for Machine Learning".
    """

    rho: float = field(default=0.9, kw_only=True)
    eps: float = field(default=1e-8, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_decay_rate(self.rho, "rho")
        check_real(self.eps, "eps", minimum=0.0, exclusive=True)

    @property
    def kernel(self) -> str:
        """Name of the kernel."""
        return "rmsprop"

    def _more(self) -> tuple[float, float, float, float]:
        return 0.0, self.rho, 0.0, self.eps


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam with bias correction.

    ``m = beta1 m + (1 - beta1) g``, ``v = beta2 v + (1 - beta2) g^2``,
    ``W = W - lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)``.

    Parameters
    ----------
    learning_rate, l2 : float
        See ``Optimizer``.
    beta1, beta2 : float
        Decay rates of the moments, in [0, 1).
    eps : float
        Keeps the division finite.

    References
    ----------
    Kingma and Ba 2015, "Adam: a method for stochastic optimization".
    """

    beta1: float = field(default=0.9, kw_only=True)
    beta2: float = field(default=0.999, kw_only=True)
    eps: float = field(default=1e-8, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_decay_rate(self.beta1, "beta1")
        _check_decay_rate(self.beta2, "beta2")
        check_real(self.eps, "eps", minimum=0.0, exclusive=True)

    @property
    def kernel(self) -> str:
        """Name of the kernel."""
        return "adam"

    def _more(self) -> tuple[float, float, float, float]:
        return 0.0, self.beta1, self.beta2, self.eps


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay: first ``W = W - lr weight_decay W``, then Adam.

    Parameters
    ----------
    learning_rate, l2, beta1, beta2, eps : float
        See ``Adam``.
    weight_decay : float
        Decay rate of the weights; biases are never decayed.

    References
    ----------
    Loshchilov and Hutter 2019, "Decoupled weight decay regularization".
    """

    weight_decay: float = field(default=0.01, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_real(self.weight_decay, "weight_decay", minimum=0.0)

    @property
    def kernel(self) -> str:
        """Name of the kernel."""
        return "adamw"

    def _more(self) -> tuple[float, float, float, float]:
        return self.weight_decay, self.beta1, self.beta2, self.eps


def _check_decay_rate(value: float, name: str) -> None:
    check_real(value, name, minimum=0.0)
    check_real(value, name, maximum=1.0, exclusive=True)


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
}
"""Optimizers by the name that ``fit(optimizer=...)`` takes."""


def as_optimizer(optimizer: str | Optimizer) -> Optimizer:
    """Return an optimizer given by name, with its defaults, or as it is.

    Raises
    ------
    ValueError
        For an unknown name.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    return OPTIMIZERS[check_choice(optimizer, "optimizer", OPTIMIZERS)]()
