"""Optimizers as frozen settings; the engine applies them, the network keeps their state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dnncore._optimizer import Hyper, Optimizer, OptimizerState
from dnncore._validation import check_bool, check_choice
from dnncore.schedules import schedule_from_config

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Lion",
    "Nadam",
    "Optimizer",
    "OptimizerState",
    "RAdam",
    "RMSprop",
    "as_optimizer",
    "optimizer_from_config",
]


@dataclass(frozen=True, repr=False)
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

    learning_rate: Hyper = 0.01
    momentum: Hyper = field(default=0.0, kw_only=True)
    nesterov: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bool(self.nesterov, "nesterov")
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov needs momentum; set e.g. momentum=0.9.")

    @property
    def kernel(self) -> str:
        """Name of the kernel."""
        if self.momentum == 0.0:
            return "sgd"
        return "nesterov" if self.nesterov else "momentum"

    _slots = ("", "momentum", "", "")


@dataclass(frozen=True, repr=False)
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

    rho: Hyper = field(default=0.9, kw_only=True)
    eps: Hyper = field(default=1e-8, kw_only=True)

    @property
    def kernel(self) -> str:
        """Name of the kernel."""
        return "rmsprop"

    _slots = ("", "rho", "", "eps")


@dataclass(frozen=True, repr=False)
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

    beta1: Hyper = field(default=0.9, kw_only=True)
    beta2: Hyper = field(default=0.999, kw_only=True)
    eps: Hyper = field(default=1e-8, kw_only=True)

    @property
    def kernel(self) -> str:
        """Name of the kernel."""
        return "adam"

    _slots = ("", "beta1", "beta2", "eps")


@dataclass(frozen=True, repr=False)
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

    weight_decay: Hyper = field(default=0.01, kw_only=True)

    @property
    def kernel(self) -> str:
        """Name of the kernel."""
        return "adamw"

    _slots = ("weight_decay", "beta1", "beta2", "eps")


@dataclass(frozen=True, repr=False)
class Nadam(Adam):
    """Adam whose first moment looks one step ahead, as Nesterov's momentum does.

    With ``mu_t = beta1 (1 - 0.96^(t / 250) / 2)`` the ``m / (1 - beta1^t)`` of Adam becomes
    ``mu_t+1 m / (1 - mu_1 ... mu_t+1) + (1 - mu_t) g / (1 - mu_1 ... mu_t)``.

    Parameters
    ----------
    learning_rate, l2, beta1, beta2, eps : float
        See ``Adam``.

    References
    ----------
    Dozat 2016, "Incorporating Nesterov momentum into Adam".
    """

    @property
    def kernel(self) -> str:
        """Name of the kernel."""
        return "nadam"


@dataclass(frozen=True, repr=False)
class RAdam(Adam):
    """Adam that warms up by itself.

    While ``v`` is an average of too few gradients to say how much they vary, ``W = W - lr m /
    (1 - beta1^t)``; from then on Adam's steps, damped as long as ``v`` is young.

    Parameters
    ----------
    learning_rate, l2, beta1, beta2, eps : float
        See ``Adam``; ``eps`` is added to ``sqrt(v)`` before the correction of its bias.

    References
    ----------
    Liu et al. 2020, "On the variance of the adaptive learning rate and beyond".
    """

    @property
    def kernel(self) -> str:
        """Name of the kernel."""
        return "radam"


@dataclass(frozen=True, repr=False)
class Adagrad(Optimizer):
    """``s = s + g^2``, ``W = W - lr g / (sqrt(s) + eps)``: steps that only get shorter.

    Parameters
    ----------
    learning_rate, l2 : float
        See ``Optimizer``.
    eps : float
        Keeps the division finite.

    References
    ----------
    Duchi, Hazan and Singer 2011, "Adaptive subgradient methods for online learning and
    stochastic optimization".
    """

    learning_rate: Hyper = 0.01
    eps: Hyper = field(default=1e-10, kw_only=True)

    @property
    def kernel(self) -> str:
        """Name of the kernel."""
        return "adagrad"

    _slots = ("", "", "", "eps")


@dataclass(frozen=True, repr=False)
class Adadelta(Optimizer):
    """Steps of the size of earlier steps, in proportion to the gradient's size by now.

    ``v = rho v + (1 - rho) g^2``, ``d = g sqrt(u + eps) / sqrt(v + eps)``,
    ``u = rho u + (1 - rho) d^2``, ``W = W - lr d``.

    Parameters
    ----------
    learning_rate, l2 : float
        See ``Optimizer``; the paper has no learning rate, which is a rate of 1.
    rho : float
        Decay rate of the mean squares, in [0, 1).
    eps : float
        Starts the steps off.

    References
    ----------
    Zeiler 2012, "ADADELTA: an adaptive learning rate method".
    """

    learning_rate: Hyper = 1.0
    rho: Hyper = field(default=0.9, kw_only=True)
    eps: Hyper = field(default=1e-6, kw_only=True)

    @property
    def kernel(self) -> str:
        """Name of the kernel."""
        return "adadelta"

    _slots = ("", "rho", "", "eps")


@dataclass(frozen=True, repr=False)
class Lion(Optimizer):
    """Steps of one size in every coordinate, with half of Adam's memory.

    ``W = W - lr (sign(beta1 m + (1 - beta1) g) + weight_decay W)``,
    ``m = beta2 m + (1 - beta2) g``.

    Parameters
    ----------
    learning_rate, l2 : float
        See ``Optimizer``; a third to a tenth of what suits Adam.
    beta1, beta2 : float
        Shares of the moment in the step and in the next moment, in [0, 1).
    weight_decay : float
        Decay rate of the weights, three to ten times what suits AdamW; biases are never decayed.

    References
    ----------
    Chen et al. 2023, "Symbolic discovery of optimization algorithms".
    """

    learning_rate: Hyper = 1e-4
    beta1: Hyper = field(default=0.9, kw_only=True)
    beta2: Hyper = field(default=0.99, kw_only=True)
    weight_decay: Hyper = field(default=0.0, kw_only=True)

    @property
    def kernel(self) -> str:
        """Name of the kernel."""
        return "lion"

    _slots = ("weight_decay", "beta1", "beta2", "")


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
    "nadam": Nadam,
    "radam": RAdam,
    "adagrad": Adagrad,
    "adadelta": Adadelta,
    "lion": Lion,
}
"""Optimizers by the name that ``fit(optimizer=...)`` takes."""


def as_optimizer(optimizer: str | Optimizer) -> Optimizer:
    """Return an optimizer given by name, with its defaults, or as it is.

    Raises
    ------
    TypeError, ValueError
        For an unknown name, or ``LBFGS``, which makes no single steps.
    """
    if isinstance(optimizer, Optimizer) and type(optimizer) is not Optimizer:
        return optimizer
    if type(optimizer).__name__ == "LBFGS":
        raise TypeError("LBFGS needs all rows at each step: give it to fit(optimizer=...).")
    return OPTIMIZERS[check_choice(optimizer, "optimizer", OPTIMIZERS)]()


def optimizer_from_config(config: dict[str, Any]) -> Optimizer:
    """Build an optimizer from its ``get_config``.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the description makes no optimizer.
    """
    values = {
        name: schedule_from_config(value) if isinstance(value, dict) else value
        for name, value in config.items()
    }
    kind = values.pop("kind")
    return next(k for k in OPTIMIZERS.values() if k.__name__ == kind)(**values)
