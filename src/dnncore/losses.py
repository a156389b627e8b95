"""Losses: what a name means for the engine, for the output and for the targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dnncore._kernels import LOSS_PARAMETERS as _PARAMETERS
from dnncore._kernels import LOSSES as _IDS
from dnncore._validation import check_choice, check_real

__all__ = [
    "LOSSES",
    "BinaryCrossEntropy",
    "BinaryFocal",
    "Huber",
    "Loss",
    "Quantile",
    "SoftmaxCrossEntropy",
    "SoftmaxFocal",
    "Tweedie",
    "as_loss",
    "loss_from_config",
]


class _Row(NamedTuple):
    """What is known of a loss beside its kernel."""

    link: str
    """Activation that turns outputs into probabilities or values."""
    targets: str
    """``"labels"``, ``"binary"`` or ``"values"``."""
    least: float | None = None
    """Least value of a target."""
    above: bool = False
    """Whether targets must be greater than that."""


LOSSES: dict[str, _Row] = {
    "softmax_cross_entropy": _Row("softmax", "labels"),
    "binary_cross_entropy": _Row("sigmoid", "binary"),
    "mse": _Row("identity", "values"),
    "mae": _Row("identity", "values"),
    "huber": _Row("identity", "values"),
    "poisson": _Row("exp", "values", 0.0),
    "log_cosh": _Row("identity", "values"),
    "quantile": _Row("identity", "values"),
    "gamma": _Row("exp", "values", 0.0, above=True),
    "tweedie": _Row("exp", "values", 0.0),
    "hinge": _Row("identity", "binary"),
    "squared_hinge": _Row("identity", "binary"),
    "binary_focal": _Row("sigmoid", "binary"),
    "softmax_focal": _Row("softmax", "labels"),
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
    def link(self) -> str:
        """Activation that turns outputs into probabilities or values."""
        return LOSSES[self.name].link

    @property
    def targets(self) -> str:
        """Kind of target: ``"labels"``, ``"binary"`` or ``"values"``."""
        return LOSSES[self.name].targets

    @property
    def has_probabilities(self) -> bool:
        """Whether predictions come from probabilities."""
        return self.link in ("softmax", "sigmoid")

    @property
    def threshold(self) -> float:
        """Value after the link from which the second of two classes is predicted."""
        return 0.5 if self.has_probabilities else 0.0


def SoftmaxCrossEntropy(label_smoothing: float = 0.0) -> Loss:  # noqa: N802 - reads as a class
    """Softmax cross-entropy, ``-sum_k y_k log softmax(z)_k``.

    Parameters
    ----------
    label_smoothing : float
        Share of each target that is spread over all k classes, in [0, 1):
        ``y = (1 - s) y + s / k``.

    References
    ----------
    Szegedy et al. 2016, "Rethinking the Inception architecture for computer vision".
    """
    return Loss("softmax_cross_entropy", label_smoothing)


def BinaryCrossEntropy(label_smoothing: float = 0.0) -> Loss:  # noqa: N802
    """Binary cross-entropy, one logit for two classes or one for each of several labels.

    Parameters
    ----------
    label_smoothing : float
        Share of each target that becomes 1/2, in [0, 1): ``y = (1 - s) y + s / 2``.
    """
    return Loss("binary_cross_entropy", label_smoothing)


def Huber(delta: float = 1.0) -> Loss:  # noqa: N802
    """Huber's loss: ``d^2 / 2`` for ``|d| <= delta``, ``delta (|d| - delta / 2)`` beyond.

    Parameters
    ----------
    delta : float
        Residual at which it turns from quadratic to linear.

    References
    ----------
    Huber 1964, "Robust estimation of a location parameter".
    """
    return Loss("huber", delta)


def Quantile(quantiles: float | Sequence[float] = 0.5) -> Loss:  # noqa: N802
    """Loss of quantile regression: ``q d`` for ``d = y - z > 0``, ``(q - 1) d`` below.

    Parameters
    ----------
    quantiles : float or sequence of float
        Which to predict, each in (0, 1). The network has an output for each of them, and with
        several targets those of the first target come first.

    References
    ----------
    Koenker and Bassett 1978, "Regression quantiles".
    """
    return Loss("quantile", tuple(quantiles) if isinstance(quantiles, Sequence) else quantiles)


def Tweedie(power: float = 1.5) -> Loss:  # noqa: N802
    """Half the Tweedie deviance with log link: amounts that are often exactly 0, as claims are.

    Parameters
    ----------
    power : float
        The variance grows as the mean to this power, in (1, 2). At the ends are the losses
        ``"poisson"`` and ``"gamma"``.

    References
    ----------
    Jorgensen 1987, "Exponential dispersion models".
    """
    return Loss("tweedie", power)


def BinaryFocal(gamma: float = 2.0) -> Loss:  # noqa: N802
    """Binary cross-entropy that looks away from what is predicted well already.

    Each element is multiplied by ``(1 - p)^gamma``, p the probability of what is true.

    Parameters
    ----------
    gamma : float
        0 is the binary cross-entropy. The balancing weights of the paper are class weights.

    References
    ----------
    Lin et al. 2017, "Focal loss for dense object detection".
    """
    return Loss("binary_focal", gamma)


def SoftmaxFocal(gamma: float = 2.0) -> Loss:  # noqa: N802
    """Softmax cross-entropy that looks away from what is predicted well already.

    Parameters
    ----------
    gamma : float
        See ``BinaryFocal``.
    """
    return Loss("softmax_focal", gamma)


def as_loss(loss: str | Loss) -> Loss:
    """Return a loss given by name or as it is.

    Raises
    ------
    ValueError
        For an unknown name.
    """
    return loss if isinstance(loss, Loss) else Loss(check_choice(loss, "loss", LOSSES))


def loss_from_config(name: str, parameter: Any) -> Loss:
    """Build a loss from what a network's description says.

    Raises
    ------
    TypeError, ValueError
        If it makes no loss.
    """
    if parameter == 1.0 and not str(name).endswith("focal"):
        parameter = None  # what the first files say for all losses, and Huber's default
    return Loss(name, tuple(parameter) if isinstance(parameter, list) else parameter)
