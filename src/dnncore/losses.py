"""Losses: how they are declared; ``docs/losses.md`` has an example of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dnncore._loss import LOSSES, Custom, Function, Loss
from dnncore._validation import check_choice

__all__ = [
    "LOSSES",
    "BinaryCrossEntropy",
    "BinaryFocal",
    "Custom",
    "Huber",
    "Loss",
    "Quantile",
    "SoftmaxCrossEntropy",
    "SoftmaxFocal",
    "Tweedie",
    "as_loss",
    "loss_from_config",
]


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


def as_loss(loss: str | Loss | Function) -> Loss:
    """Return a loss given by name, as a function, or as it is.

    Raises
    ------
    ValueError
        For an unknown name.
    """
    if isinstance(loss, Loss):
        return loss
    return Custom(loss) if callable(loss) else Loss(check_choice(loss, "loss", LOSSES))


def loss_from_config(name: str, parameter: Any) -> Loss:
    """Build a loss from what a network's description says.

    Raises
    ------
    TypeError, ValueError
        If it makes no loss.
    """
    if name == "custom":
        return Custom(None, *parameter)
    if parameter == 1.0 and not str(name).endswith("focal"):
        parameter = None  # what the first files say for all losses, and Huber's default
    return Loss(name, tuple(parameter) if isinstance(parameter, list) else parameter)
