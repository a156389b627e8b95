"""Layers as plain, frozen descriptions; ``Network`` turns them into the engine's program."""

from __future__ import annotations

from dataclasses import dataclass, field

from dnncore._kernels import ACTIVATIONS
from dnncore._validation import check_choice, check_int, check_real
from dnncore.initializers import INITIALIZERS, Initializer

__all__ = ["Dense", "Dropout", "Layer"]


@dataclass(frozen=True)
class Layer:
    """Base of all layers."""


@dataclass(frozen=True)
class Dense(Layer):
    """Fully connected layer: ``activation(X @ W + b)``.

    Parameters
    ----------
    units : int
        Number of outputs.
    activation : str
        Name from ``dnncore.kernels.ACTIVATIONS``.
    weight_initializer : str or callable, optional
        Name from ``dnncore.initializers.INITIALIZERS`` or a function of ``(rng, n_in, n_out)``.
        The default follows the activation: He for relu and its kin, LeCun for selu, else Glorot.
    use_bias : bool
        Whether there is a bias; it starts at zero.
    trainable : bool
        False freezes the layer.

    Raises
    ------
    TypeError, ValueError
        For a size that is no positive integer or an unknown name.
    """

    units: int
    activation: str = "identity"
    weight_initializer: str | Initializer | None = field(default=None, kw_only=True)
    use_bias: bool = field(default=True, kw_only=True)
    trainable: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        check_int(self.units, "units")
        check_choice(self.activation, "activation", ACTIVATIONS)
        if self.weight_initializer is not None and not callable(self.weight_initializer):
            check_choice(self.weight_initializer, "weight_initializer", INITIALIZERS)


@dataclass(frozen=True)
class Dropout(Layer):
    """Sets a random share of its inputs to zero during training, and scales up the others.

    ``out = x * mask / (1 - rate)``, a new mask each step; nothing happens at prediction. The
    mask comes from a counter-based generator: the same seed gives the same masks.

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
        check_real(self.rate, "rate", minimum=0.0)
        check_real(self.rate, "rate", maximum=1.0, exclusive=True)
