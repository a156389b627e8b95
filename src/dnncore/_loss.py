"""What a loss is, the table of known ones, and one of your own; ``losses.py`` makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnncore._kernels import LOSS_PARAMETERS as _PARAMETERS
from dnncore._kernels import LOSSES as _IDS
from dnncore._validation import check_choice, check_real

if TYPE_CHECKING:
    from dnncore._engine import Data

__all__ = ["LOSSES", "Custom", "Function", "Loss", "Row"]

_LINKS = {"values": "identity", "labels": "softmax", "binary": "sigmoid"}
_ALL_LINKS = ("identity", "exp", "sigmoid", "softmax")

Function = Callable[..., tuple[Any, ArrayLike]]


class Row(NamedTuple):
    """What is known of a loss beside its kernel."""

    link: str
    """Activation that turns outputs into probabilities or values."""
    targets: str
    """``"labels"``, ``"binary"`` or ``"values"``."""
    least: float | None = None
    """Least value of a target."""
    above: bool = False
    """Whether targets must be greater than that."""


LOSSES: dict[str, Row] = {
    "softmax_cross_entropy": Row("softmax", "labels"),
    "binary_cross_entropy": Row("sigmoid", "binary"),
    "mse": Row("identity", "values"),
    "mae": Row("identity", "values"),
    "huber": Row("identity", "values"),
    "poisson": Row("exp", "values", 0.0),
    "log_cosh": Row("identity", "values"),
    "quantile": Row("identity", "values"),
    "gamma": Row("exp", "values", 0.0, above=True),
    "tweedie": Row("exp", "values", 0.0),
    "hinge": Row("identity", "binary"),
    "squared_hinge": Row("identity", "binary"),
    "binary_focal": Row("sigmoid", "binary"),
    "softmax_focal": Row("softmax", "labels"),
}
"""Link and kind of target of each loss; ``docs/losses.md`` has an example of each.

==========================  ================================================================
``softmax_cross_entropy``   ``logsumexp(z) - z[y]``, mean over rows
``binary_cross_entropy``    ``max(z, 0) - z y + log(1 + exp(-|z|))``, mean over all elements
``mse``                     ``(z - y)^2``, mean over all elements
``mae``                     ``|z - y|``, mean over all elements
``huber``                   quadratic within a threshold, linear outside
``poisson``                 ``exp(z) - y z``, mean over all elements; log link, y >= 0
``log_cosh``                ``log(cosh(z - y))``, mean over all elements
``quantile``                ``(y - z) (q - [y < z])``, mean over all elements
``gamma``                   ``z + y exp(-z)``, mean over all elements; log link, y > 0
``tweedie``                 between poisson and gamma; log link, y >= 0
``hinge``                   ``max(0, 1 - z)`` for the second class, ``max(0, 1 + z)`` else
``squared_hinge``           its square
``binary_focal``            binary cross-entropy times (1 - p of what is true)^gamma
``softmax_focal``           softmax cross-entropy times (1 - p of what is true)^gamma
==========================  ================================================================
"""


@dataclass(frozen=True)
class Loss:
    """A loss on the network's last outputs (logits, for the cross-entropies).

    The network ends in these outputs; the loss owns the link that turns them into predictions.

    Parameters
    ----------
    name : str
        One of ``LOSSES``.
    parameter : float or sequence of float, optional
        Its parameter, if it has one: see the functions of this module.

    Raises
    ------
    TypeError, ValueError
        For an unknown name, or a parameter that is out of range or that the loss does not have.
    """

    name: str
    parameter: float | tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_choice(self.name, "loss", LOSSES)
        if self.name not in _PARAMETERS:
            if self.parameter is not None:
                raise ValueError(f"loss {self.name!r} has no parameter; got {self.parameter!r}.")
            return
        what, default, least, greatest, closed = _PARAMETERS[self.name]
        given: Any = default if self.parameter is None else self.parameter
        several = self.name == "quantile" and isinstance(given, Sequence)
        if several and len(given) == 0:
            raise ValueError(f"{what} must hold at least one number; got {given!r}.")
        for value in given if several else [given]:
            check_real(value, what, minimum=least, exclusive=not closed)
            check_real(value, what, maximum=greatest if greatest < 1e300 else None, exclusive=True)
        parameter = tuple(float(q) for q in given) if several else float(given)
        object.__setattr__(self, "parameter", parameter)

    @property
    def id(self) -> int:
        """Id of the kernel."""
        return _IDS[self.name]

    @property
    def parameters(self) -> tuple[float, ...]:
        """Its parameter as the engine takes it: none, one or several numbers."""
        if self.parameter is None:
            return ()
        return self.parameter if isinstance(self.parameter, tuple) else (self.parameter,)

    @property
    def config_parameter(self) -> Any:
        """Its parameter as a network's description holds it."""
        return self.parameter

    @property
    def row(self) -> Row:
        """What is known of it beside its kernel."""
        return LOSSES[self.name]

    @property
    def link(self) -> str:
        """Activation that turns outputs into probabilities or values."""
        return self.row.link

    @property
    def targets(self) -> str:
        """Kind of target: ``"labels"``, ``"binary"`` or ``"values"``."""
        return self.row.targets

    @property
    def predicts_means(self) -> bool:
        """Whether predictions of values may be compared with the targets, as R2 does."""
        return self.name != "quantile"

    @property
    def has_probabilities(self) -> bool:
        """Whether predictions come from probabilities."""
        return self.link in ("softmax", "sigmoid")

    @property
    def threshold(self) -> float:
        """Value after the link from which the second of two classes is predicted."""
        return 0.5 if self.has_probabilities else 0.0


@dataclass(frozen=True, init=False)
class Custom(Loss):
    """A loss of your own, in Python; called for each batch, while the rest stays compiled.

    Parameters
    ----------
    function : callable
        ``f(y_true, y_pred)``, or ``f(y_true, y_pred, sample_weight=...)`` if there are weights.
        It returns the mean loss of the batch, weighted if there are weights, and its gradient
        by ``y_pred``, of the same shape. ``y_pred`` of shape (rows, n_out) are the network's
        outputs before any link. ``y_true`` are class numbers of shape (rows,) for targets
        ``"labels"``, else a matrix, also for one column.
    targets : {"values", "labels", "binary"}
        What targets look like. Values may have any number of columns.
    link : {"identity", "exp", "sigmoid", "softmax"}, optional
        What turns outputs into predictions; by default softmax for labels, sigmoid for binary.

    Notes
    -----
    Model files hold no code: a network that was loaded predicts, and trains or scores after
    ``dnn.load(path, loss=function)``. Check a gradient with ``dnncore.gradcheck``.

    Examples
    --------
    >>> def fourth_power(y_true, y_pred):
    ...     d = y_pred - y_true
    ...     return (d**4).mean(), 4 * d**3 / d.size
    >>> loss = Custom(fourth_power)
    """

    function: Function | None = None
    own: Row = Row("identity", "values")

    def __init__(
        self, function: Function | None, targets: str = "values", link: str | None = None
    ) -> None:
        check_choice(targets, "targets", _LINKS)
        link = check_choice(_LINKS[targets] if link is None else link, "link", _ALL_LINKS)
        if function is not None and not callable(function):
            raise TypeError(f"a loss must be a name, a Loss or a function; got {function!r}.")
        for name, value in [
            ("name", "custom"),
            ("parameter", None),
            ("function", function),
            ("own", Row(link, targets)),
        ]:
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        """Name the function."""
        name = getattr(self.function, "__name__", repr(self.function))
        return f"Custom({name}, targets={self.targets!r}, link={self.link!r})"

    @property
    def config_parameter(self) -> list[str]:
        """Everything but the function."""
        return [self.targets, self.link]

    @property
    def id(self) -> int:
        """Id of a kernel that is never run."""
        return _IDS["mse"]

    @property
    def row(self) -> Row:
        """What is known of it beside the function."""
        return self.own

    @property
    def predicts_means(self) -> bool:
        """Nobody knows."""
        return False

    def value_and_gradient(self, data: Data, out: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        """Call the function on a batch and its outputs.

        Raises
        ------
        TypeError, ValueError
            If it does not return a number and an array of the outputs' shape.
        """
        if self.function is None:
            raise ValueError(
                "This network's loss is a function that its file does not hold; load it with "
                "dnncore.load(path, loss=function) to train and score it."
            )
        name = getattr(self.function, "__name__", type(self.function).__name__)
        truth = data.target if data.labels is None else data.labels
        weights = {} if data.weight is None else {"sample_weight": data.weight}
        result = self.function(truth, out, **weights)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"The loss {name} must return (value, gradient); got {result!r:.80}.")
        try:
            value, gradient = float(result[0]), np.asarray(result[1], out.dtype, order="C")
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"The loss {name} must return a number and an array: {error}."
            ) from error
        if gradient.shape != out.shape:
            raise ValueError(
                f"The gradient that {name} returns must have the shape of y_pred, {out.shape}; "
                f"got {gradient.shape}."
            )
        return value, gradient
