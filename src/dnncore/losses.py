"""Losses: what a name means for the engine, for the output and for the targets."""

from __future__ import annotations

from dataclasses import dataclass

from dnncore._kernels import LOSSES as _IDS
from dnncore._validation import check_choice, check_real

__all__ = ["LOSSES", "Huber", "Loss", "as_loss"]


@dataclass(frozen=True)
class Loss:
    """A loss on the network's last outputs (logits, for the cross-entropies).

    The network ends in these outputs; the loss owns the link that turns them into predictions.

    Parameters
    ----------
    name : str
        One of ``LOSSES``.
    parameter : float
        Huber's threshold; the others have none.
    """

    name: str
    parameter: float = 1.0

    def __post_init__(self) -> None:
        check_choice(self.name, "loss", LOSSES)
        parameter = check_real(self.parameter, "parameter", minimum=0.0, exclusive=True)
        object.__setattr__(self, "parameter", parameter)

    @property
    def id(self) -> int:
        """Id of the kernel."""
        return _IDS[self.name]

    @property
    def link(self) -> str:
        """Activation that turns outputs into probabilities or values."""
        return LOSSES[self.name][0]

    @property
    def targets(self) -> str:
        """Kind of target: ``"labels"``, ``"binary"`` or ``"values"``."""
        return LOSSES[self.name][1]


LOSSES: dict[str, tuple[str, str]] = {
    "softmax_cross_entropy": ("softmax", "labels"),
    "binary_cross_entropy": ("sigmoid", "binary"),
    "mse": ("identity", "values"),
    "mae": ("identity", "values"),
    "huber": ("identity", "values"),
    "poisson": ("exp", "values"),
}
"""Link and kind of target of each loss.

==========================  ================================================================
``softmax_cross_entropy``   ``logsumexp(z) - z[y]``, mean over rows
``binary_cross_entropy``    ``max(z, 0) - z y + log(1 + exp(-|z|))``, mean over all elements
``mse``                     ``(z - y)^2``, mean over all elements
``mae``                     ``|z - y|``, mean over all elements
``huber``                   quadratic within a threshold, linear outside: Huber 1964,
                            "Robust estimation of a location parameter"
``poisson``                 ``exp(z) - y z``, mean over all elements; log link, y >= 0
==========================  ================================================================
"""


def Huber(delta: float = 1.0) -> Loss:  # noqa: N802 - reads as a class, like its peers
    """Huber's loss: ``d^2 / 2`` for ``|d| <= delta``, ``delta (|d| - delta / 2)`` beyond.

    Parameters
    ----------
    delta : float
        Residual at which it turns from quadratic to linear.
    """
    return Loss("huber", delta)


def as_loss(loss: str | Loss) -> Loss:
    """Return a loss given by name or as it is.

    Raises
    ------
    ValueError
        For an unknown name.
    """
    return loss if isinstance(loss, Loss) else Loss(check_choice(loss, "loss", LOSSES))
