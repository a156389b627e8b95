"""Training that diverges: noticed, taken back to finite parameters, told in words."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from dnncore._kernels import all_finite
from dnncore.exceptions import DivergenceError
from dnncore.optimizers import Optimizer

if TYPE_CHECKING:
    from dnncore.network import Network

__all__ = ["KEEP_SECONDS", "LastFinite", "diverged"]

KEEP_SECONDS = 0.05
"""Age from which the copy of the parameters is renewed."""


class LastFinite:
    """A copy of a network's parameters, made while they were finite.

    Parameters
    ----------
    params : ndarray of shape (n_params,)
        The parameters, which are watched.

    Raises
    ------
    ValueError
        If they are not finite to begin with.
    """

    def __init__(self, params: NDArray[Any]) -> None:
        self.params = params
        self._copy = np.empty_like(params)
        self._time = -math.inf
        self.keep()

    def keep(self) -> bool:
        """Copy the parameters, unless the copy is young; say whether it did.

        Raises
        ------
        ValueError
            If they are not finite, because somebody else has written to them.
        """
        now = time.perf_counter()
        if now - self._time < KEEP_SECONDS:
            return False
        if not all_finite(self.params):
            raise ValueError(
                "net.params holds values that are not finite; call net.initialize() or write "
                "finite ones."
            )
        np.copyto(self._copy, self.params)
        self._time = now
        return True

    def take(self) -> None:
        """Copy the parameters, which are finite, whatever the copy's age."""
        np.copyto(self._copy, self.params)
        self._time = time.perf_counter()

    def restore_all(self) -> None:
        """Go back to the copy in any case."""
        np.copyto(self.params, self._copy)

    def restore(self) -> float:
        """Go back to the copy if the parameters are not finite; returns its largest magnitude."""
        if not all_finite(self.params):
            np.copyto(self.params, self._copy)
        return float(np.abs(self._copy).max())


def diverged(
    network: Network, last: LastFinite, optimizer: Optimizer, epoch: int | None, step: int
) -> NoReturn:
    """Go back to finite parameters and say what happened; ``epoch`` and ``step`` count from 0.

    Raises
    ------
    DivergenceError
        Always.
    """
    largest, rate = last.restore(), optimizer.value("learning_rate", network._position.step)
    network.reset_optimizer()
    if network._average is not None and not all_finite(network._average.network.params):
        network._average = None
    where = f"step {step + 1}" if epoch is None else f"epoch {epoch + 1}, step {step + 1}"
    raise DivergenceError(
        f"Training diverged in {where}: the loss, a gradient or a parameter is no longer a finite "
        f"number (largest parameter before: {largest:.3g}). The network keeps its last finite "
        f"parameters. Try a smaller learning_rate (it was {rate:g}), "
        "standardised inputs (and targets, for regression), or dtype='float64'.",
        epoch=0 if epoch is None else epoch + 1,
        step=step + 1,
    )
