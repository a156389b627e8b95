"""The base of all layers, and the dense one."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from dnncore._kernels import ACTIVATIONS
from dnncore._validation import check_bool, check_choice, check_int, check_real
from dnncore.initializers import INITIALIZERS, Initializer

__all__ = ["Dense", "Layer"]


@dataclass(frozen=True, repr=False)
class Layer:
    """Base of all layers."""

    def __repr__(self) -> str:
        """Write the call that makes the layer, with what differs from the defaults."""
        words = []
        for i, f in enumerate(fields(self)):
            value = getattr(self, f.name)
            if (i == 0 and not f.kw_only) or value != f.default:
                words.append(f"{f.name}={value!r}" if f.kw_only else repr(value))
        return f"{type(self).__name__}({', '.join(words)})"

    def get_config(self) -> dict[str, Any]:
        """Describe the layer in plain values; a function that draws weights is left out."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"kind": type(self).__name__} | {
            name: None if callable(value) else value for name, value in values.items()
        }

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # frozen for everyone else


@dataclass(frozen=True, repr=False)
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
    l1, l2 : float
        Penalties ``l1 * sum(abs(W)) + l2 / 2 * sum(W**2)`` on this layer's weights. They act
        through the gradient, beside the optimizer's own ``l2`` and after any clipping; the
        reported loss is without them.
    learning_rate_factor : float
        Factor on the optimizer's learning rate for weights and bias, greater than 0.
    max_norm : float, optional
        Limit of the Euclidean norm of each unit's incoming weights, a column of W: longer ones
        are scaled back after each update (Srivastava et al. 2014, "Dropout: a simple way to
        prevent neural networks from overfitting").

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
    l1: float = field(default=0.0, kw_only=True)
    l2: float = field(default=0.0, kw_only=True)
    learning_rate_factor: float = field(default=1.0, kw_only=True)
    max_norm: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self._set("units", check_int(self.units, "units"))
        check_choice(self.activation, "activation", ACTIVATIONS)
        if self.weight_initializer is not None and not callable(self.weight_initializer):
            check_choice(self.weight_initializer, "weight_initializer", INITIALIZERS)
        self._set("use_bias", check_bool(self.use_bias, "use_bias"))
        self._set("trainable", check_bool(self.trainable, "trainable"))
        for name in ("l1", "l2"):
            self._set(name, check_real(getattr(self, name), name, minimum=0.0))
        if self.learning_rate_factor == 0:
            raise ValueError(
                "learning_rate_factor must be greater than 0; to freeze the layer set "
                "trainable=False."
            )
        factor = check_real(
            self.learning_rate_factor, "learning_rate_factor", minimum=0.0, exclusive=True
        )
        self._set("learning_rate_factor", factor)
        if self.max_norm is not None:
            limit = check_real(self.max_norm, "max_norm", minimum=0.0, exclusive=True)
            self._set("max_norm", limit)
