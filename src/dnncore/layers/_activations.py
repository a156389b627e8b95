"""Activations as layers of their own, with and without parameters."""

from __future__ import annotations

from dataclasses import dataclass, field

from dnncore._kernels import ACTIVATIONS
from dnncore._validation import check_bool, check_choice, check_real
from dnncore.layers._basic import Layer

__all__ = ["Activation", "Blend", "PReLU"]


@dataclass(frozen=True, repr=False)
class Activation(Layer):
    """An activation as a layer of its own, e.g. after a normalisation.

    Straight after a dense layer it is better named there: ``Dense(100, "relu")`` computes both
    at once.

    Parameters
    ----------
    activation : str
        Name from ``dnncore.kernels.ACTIVATIONS``.
    """

    activation: str

    def __post_init__(self) -> None:
        check_choice(self.activation, "activation", ACTIVATIONS)


@dataclass(frozen=True, repr=False)
class PReLU(Layer):
    """Leaky relu whose slope is learned: ``x`` where it is positive, else ``alpha * x``.

    Parameters
    ----------
    initial : float
        Where ``alpha``, one for each column, starts.
    trainable : bool
        False freezes it.

    References
    ----------
    He et al. 2015, "Delving deep into rectifiers".
    """

    initial: float = 0.25
    trainable: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        self._set("initial", check_real(self.initial, "initial"))
        self._set("trainable", check_bool(self.trainable, "trainable"))


@dataclass(frozen=True, repr=False)
class Blend(Layer):
    """Learns for each column how much of an activation it takes: ``x + (f(x) - x) * w``.

    Parameters
    ----------
    activation : str
        ``f``, a name from ``dnncore.kernels.ACTIVATIONS`` other than softmax, which does not act
        on one column.
    initial : float
        Where ``w``, one for each column, starts: 1 is the activation, 0 the identity.
    trainable : bool
        False freezes it.

    References
    ----------
    Holzmüller, Grinsztajn and Steinwart 2024, "Better by default: strong pre-tuned MLPs and
    boosted trees on tabular data" (the parametric activation of RealMLP).
    """

    activation: str
    initial: float = field(default=1.0, kw_only=True)
    trainable: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        check_choice(self.activation, "activation", [a for a in ACTIVATIONS if a != "softmax"])
        self._set("initial", check_real(self.initial, "initial"))
        self._set("trainable", check_bool(self.trainable, "trainable"))
