"""Optimizers as frozen settings; the engine applies them, the network keeps their state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnncore._kernels import OPTIMIZERS as _KERNELS
from dnncore._validation import check_bool, check_choice, check_real
from dnncore.program import aligned_zeros

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
]


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
        self._check("learning_rate")
        self._check("l2")

    def _check(self, name: str, *, positive: bool = False, below: float | None = None) -> None:
        value = check_real(getattr(self, name), name, minimum=0.0, exclusive=positive)
        check_real(value, name, maximum=below, exclusive=True)
        object.__setattr__(self, name, value)  # a plain float; frozen for everyone else

    @property
    def kernel(self) -> str:
        """Name of the kernel in ``dnncore.kernels.OPTIMIZERS``."""
        raise NotImplementedError

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
        self._check("momentum", below=1.0)
        check_bool(self.nesterov, "nesterov")
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
        self._check("rho", below=1.0)
        self._check("eps", positive=True)

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
        self._check("beta1", below=1.0)
        self._check("beta2", below=1.0)
        self._check("eps", positive=True)

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
        self._check("weight_decay")

    @property
    def kernel(self) -> str:
        """Name of the kernel."""
        return "adamw"

    def _more(self) -> tuple[float, float, float, float]:
        return self.weight_decay, self.beta1, self.beta2, self.eps


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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

    learning_rate: float = 0.01
    eps: float = field(default=1e-10, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("eps", positive=True)

    @property
    def kernel(self) -> str:
        """Name of the kernel."""
        return "adagrad"

    def _more(self) -> tuple[float, float, float, float]:
        return 0.0, 0.0, 0.0, self.eps


@dataclass(frozen=True)
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

    learning_rate: float = 1.0
    rho: float = field(default=0.9, kw_only=True)
    eps: float = field(default=1e-6, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("rho", below=1.0)
        self._check("eps", positive=True)

    @property
    def kernel(self) -> str:
        """Name of the kernel."""
        return "adadelta"

    def _more(self) -> tuple[float, float, float, float]:
        return 0.0, self.rho, 0.0, self.eps


@dataclass(frozen=True)
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

    learning_rate: float = 1e-4
    beta1: float = field(default=0.9, kw_only=True)
    beta2: float = field(default=0.99, kw_only=True)
    weight_decay: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("beta1", below=1.0)
        self._check("beta2", below=1.0)
        self._check("weight_decay")

    @property
    def kernel(self) -> str:
        """Name of the kernel."""
        return "lion"

    def _more(self) -> tuple[float, float, float, float]:
        return self.weight_decay, self.beta1, self.beta2, 0.0


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
    ValueError
        For an unknown name.
    """
    if isinstance(optimizer, Optimizer) and type(optimizer) is not Optimizer:
        return optimizer
    return OPTIMIZERS[check_choice(optimizer, "optimizer", OPTIMIZERS)]()


@dataclass
class OptimizerState:
    """What an optimizer carries from step to step.

    Attributes
    ----------
    kernel : str
        Kernel that the moments belong to.
    moments : list of ndarray
        Laid out as the parameters.
    """

    kernel: str
    moments: list[NDArray[Any]]

    @classmethod
    def start(cls, kernel: str, n: int, dtype: np.dtype[Any]) -> OptimizerState:
        """State before the first step: moments of zero, as many as the kernel has."""
        return cls(kernel, [aligned_zeros(n, dtype) for _ in _KERNELS[kernel][1]])

    def copy(self) -> OptimizerState:
        """Independent copy, its moments aligned as the engine likes them."""
        copies = [aligned_zeros(moment.size, moment.dtype) for moment in self.moments]
        for copy, moment in zip(copies, self.moments, strict=True):
            copy[...] = moment
        return OptimizerState(self.kernel, copies)

    @property
    def first(self) -> NDArray[Any] | None:
        """First of the moments."""
        return self.moments[0] if self.moments else None

    @property
    def second(self) -> NDArray[Any] | None:
        """Second of the moments."""
        return self.moments[1] if len(self.moments) > 1 else None
