"""L-BFGS: SciPy's, over all rows at once, with the loss and gradient of the engine."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnncore import _custom_loss
from dnncore._divergence import diverged
from dnncore._validation import check_int, check_real
from dnncore.layers import BatchNorm, Dense, walk
from dnncore.losses import Custom
from dnncore.optimizers import SGD
from dnncore.training import Plan, Run

if TYPE_CHECKING:
    from dnncore.network import Network

__all__ = ["LBFGS", "LbfgsRun", "check_lbfgs"]

_RANDOM = ("Dropout", "AlphaDropout", "GaussianNoise")


@dataclass(frozen=True)
class LBFGS:
    """L-BFGS for ``Network.fit``: for networks and data small enough to see all rows each time.

    Each iteration is an epoch of ``fit``: an entry of the history, after which validation and
    callbacks have their turn. ``BatchNorm`` normalises by the mean and variance of all rows, which
    are its running statistics after each iteration. There are at most ``epochs`` of them, or
    ``max_iter`` if given; training ends sooner once the loss or its gradient has become small, or
    hardly changes.

    Parameters
    ----------
    max_iter : int, optional
        Greatest number of iterations; by default ``epochs`` of ``fit``.
    l2 : float
        Adds ``l2 / 2 * sum(W**2)`` to what is minimised, over the weights of all layers.
    history : int
        Corrections that stand for the second derivatives.
    tol : float
        Stop when no element of the gradient is greater.
    rtol : float
        Stop when an iteration gains less than this share of the loss.

    Raises
    ------
    TypeError, ValueError
        For settings out of range.

    References
    ----------
    Byrd, Lu, Nocedal and Zhu 1995, "A limited memory algorithm for bound constrained
    optimization"; ``scipy.optimize.minimize(method="L-BFGS-B")``.

    Examples
    --------
    >>> LBFGS(max_iter=500).history
    10
    """

    max_iter: int | None = None
    l2: float = field(default=0.0, kw_only=True)
    history: int = field(default=10, kw_only=True)
    tol: float = field(default=1e-5, kw_only=True)
    rtol: float = field(default=2e-9, kw_only=True)

    def __post_init__(self) -> None:
        if self.max_iter is not None:
            check_int(self.max_iter, "max_iter")
        check_int(self.history, "history")
        for name in ("l2", "tol", "rtol"):
            check_real(getattr(self, name), name, minimum=0.0)


def check_lbfgs(network: Network, given: dict[str, Any], batch_size: int | None, rows: int) -> None:
    """Refuse what cannot go with L-BFGS; ``given`` holds options of ``fit`` that are set.

    Raises
    ------
    ValueError
        Naming what.
    """
    for name, value in given.items():
        if value and name in ("Checkpoint", "resume_from"):
            raise ValueError(
                f"{name} cannot go with LBFGS: what it knows of curvature is within SciPy, so it "
                "could not go on with the same bits. Keep the network with ModelCheckpoint; fit "
                "after dnncore.load goes on from its parameters."
            )
        if value:
            raise ValueError(f"{name} makes no sense with LBFGS, which has no steps on batches.")
    if batch_size is not None and batch_size != 128 and batch_size < rows:
        raise ValueError("LBFGS takes all rows at each step; leave batch_size out.")
    for layer in walk(network.layers):
        if type(layer).__name__ in _RANDOM:
            raise ValueError(
                "LBFGS needs a loss that is a function of the parameters; random numbers make it "
                f"another one each time: {layer!r}."
            )
        if isinstance(layer, Dense) and (
            layer.l1 or layer.max_norm or layer.learning_rate_factor != 1
        ):
            raise ValueError(f"LBFGS knows no l1, max_norm or learning_rate_factor: {layer!r}.")


class LbfgsRun(Run):
    """One call of ``fit`` with L-BFGS."""

    def __init__(self, network: Network, plan: Plan, settings: LBFGS) -> None:
        plan.optimizer = SGD(l2=settings.l2)
        plan.epochs = plan.epochs if settings.max_iter is None else settings.max_iter
        super().__init__(network, plan)
        self.settings = settings
        trained = [
            p for p in network._parameters
            if getattr(p.owner, "trainable", True) and not p.kind.startswith("running")
        ]  # fmt: skip
        layers = walk(network.layers)
        self._settles = any(isinstance(layer, BatchNorm) and layer.trainable for layer in layers)
        self._x = np.empty(0)  # where the loss was computed last
        places = [np.arange(p.offset, p.offset + p.size) for p in trained]
        self._places = np.concatenate([np.zeros(0, np.intp), *places])
        decay = [
            np.full(p.size, settings.l2 + p.owner.l2)
            if isinstance(p.owner, Dense) and p.kind == "weight" else np.zeros(p.size)
            for p in trained
        ]  # fmt: skip
        self._decay = np.concatenate([np.zeros(0), *decay])
        self._begun = False
        self._since = time.perf_counter()

    def _loop(self) -> None:
        from scipy.optimize import minimize

        network, settings = self.network, self.settings
        best = network.params[self._places].astype(np.float64)
        try:
            if self.plan.epochs > 0 and best.size and not network.stop_training:
                self._since = time.perf_counter()
                minimize(
                    self._loss_and_gradient,
                    best,
                    jac=True,
                    method="L-BFGS-B",
                    callback=self._iteration,
                    options={
                        "maxiter": self.plan.epochs,
                        "maxfun": 1000 * self.plan.epochs,
                        "maxcor": settings.history,
                        "gtol": settings.tol,
                        "ftol": settings.rtol,
                    },
                )
        finally:
            self._last.restore_all()
        self._stage = "stopped"

    def _loss_and_gradient(self, x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        network, data = self.network, self.plan.data
        if not self._begun:
            self._begin()
            self._begun = True
        with np.errstate(over="ignore"):
            network.params[self._places] = x
        if isinstance(network.loss, Custom):
            total, weight = _custom_loss.loss_gradient(
                network, network.loss, data, network.grads, self.plan.threads
            )
        else:
            total, weight = network._program.loss_gradient(data, network.grads, self.plan.threads)
        self._x = x.copy()
        gradient = network.grads[self._places].astype(np.float64) + self._decay * x
        loss = total / weight + 0.5 * float(self._decay @ (x * x))
        if not (np.isfinite(loss) and np.isfinite(gradient).all()):
            self._last.restore_all()
            diverged(network, self._last, self.plan.optimizer, self.epoch, 0)
        return loss, gradient

    def _iteration(self, intermediate_result: Any) -> None:
        """Do what follows an epoch; SciPy calls it by this argument's name."""
        network, position = self.network, self._position
        x = intermediate_result.x
        network.params[self._places] = x
        if self._settles:
            if not np.array_equal(x, self._x):
                self._loss_and_gradient(x)
            network._program.settle(self.plan.data.rows)
        self._last.take()
        now = time.perf_counter()
        self._seconds += now - self._since
        weight = self.plan.data.rows
        loss = float(intermediate_result.fun) - 0.5 * float(self._decay @ (x * x))
        position.loss_sum, position.weight_sum = loss * weight, weight
        position.start = self.plan.data.rows
        position.step += 1
        self._follow_up()
        self._begun, self._since = False, time.perf_counter()
        if network.stop_training or self.epoch >= self.plan.epochs:
            raise StopIteration
