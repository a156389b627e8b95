"""L-BFGS over all rows at once, with the loss and gradient of the engine."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnncore import _custom_loss
from dnncore._divergence import diverged
from dnncore._plain import dump
from dnncore._quasi_newton import Point, advance, begin
from dnncore._validation import check_int, check_real
from dnncore.checkpoints import Saved, plain
from dnncore.exceptions import ModelFormatError
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
    are its running statistics after each iteration. There are at most ``epochs`` iterations, or
    ``max_iter`` if given; training ends sooner once the gradient is small or the loss hardly
    falls. Checkpoints hold all that the method knows, so training goes on with the same bits.

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
    Liu and Nocedal 1989, "On the limited memory BFGS method for large scale optimization". Settings
    mean what they do for ``scipy.optimize.minimize(method="L-BFGS-B")``.

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
    """One call of ``fit`` with L-BFGS: what the engine does in an epoch is here an iteration.

    ``_point`` says where training is, and is replaced whole. Parameters and position follow it,
    so that an interrupt may fall anywhere.
    """

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
        places = [np.arange(p.offset, p.offset + p.size) for p in trained]
        self._places = np.concatenate([np.zeros(0, np.intp), *places])
        decay = [
            np.full(p.size, settings.l2 + p.owner.l2)
            if isinstance(p.owner, Dense) and p.kind == "weight" else np.zeros(p.size)
            for p in trained
        ]  # fmt: skip
        self._decay = np.concatenate([np.zeros(0), *decay])
        self._point: Point | None = None
        self._x = np.empty(0)  # where the loss was computed last
        self._moving = False

    def _loop(self) -> None:
        if self._places.size:
            try:
                super()._loop()
            finally:
                self._arrive()
        self._stage = "stopped"

    def _is_over(self) -> bool:
        if super()._is_over():
            return True
        if self._point is None:
            start = self.network.params[self._places].astype(np.float64)
            self._point = begin(self._loss_and_gradient, start, tol=self.settings.tol)
            if not np.isfinite(self._point.value):
                diverged(self.network, self._last, self.plan.optimizer, self.epoch, 0)
        return self._point.ended

    def _run_engine(self, order: Any) -> None:
        began, settings, self._moving = time.perf_counter(), self.settings, True
        assert self._point is not None
        self._point = advance(
            self._loss_and_gradient, self._point,
            history=settings.history, tol=settings.tol, rtol=settings.rtol,
        )  # fmt: skip
        self._arrive()
        self._seconds += time.perf_counter() - began

    def _arrive(self) -> None:
        """Let parameters and position be those of the last whole iteration."""
        point, position, rows = self._point, self._position, self.plan.data.rows
        if not self._moving or point is None:
            return
        if point.iterations > self.steps:
            if self._settles:
                if not np.array_equal(point.x, self._x):
                    self._loss_and_gradient(point.x)
                self.network._program.settle(rows)
            position.loss_sum = rows * (point.value - self._penalty(point.x))
            position.weight_sum = rows
            position.step = self._first_step + point.iterations
            position.start = rows  # last, for self.steps
        with np.errstate(over="ignore"):
            self.network.params[self._places] = point.x
        self._moving = False

    def _loss_and_gradient(self, x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        network, data = self.network, self.plan.data
        with np.errstate(over="ignore"):
            network.params[self._places] = x
        if isinstance(network.loss, Custom):
            total, weight = _custom_loss.loss_gradient(
                network, network.loss, data, network.grads, self.plan.threads
            )
        else:
            total, weight = network._program.loss_gradient(data, network.grads, self.plan.threads)
        self._x = x
        gradient = network.grads[self._places].astype(np.float64) + self._decay * x
        loss = total / weight + self._penalty(x)
        return loss if np.isfinite(gradient).all() else np.inf, gradient

    def _penalty(self, x: NDArray[np.float64]) -> float:
        return 0.5 * float(self._decay @ (x * x))

    # ------------------------------------------------------------------ checkpoints

    def state(self) -> dict[str, Any] | None:
        """Return what a checkpoint must hold: also where the method is, and its pairs."""
        self._arrive()
        state = super().state()
        if state is None or self._point is None:
            return None
        return state | {"lbfgs": self._point.state()}

    def _terms(self) -> dict[str, Any]:
        settings = replace(self.settings, max_iter=None)  # there may be more of them
        return super()._terms() | {"optimizer": dump(plain(settings))}

    def _restore(self, saved: Saved) -> None:
        terms = self._terms()["optimizer"]
        if saved.run is not None and saved.run["optimizer"] == terms:
            try:
                point = Point.of(saved.run["lbfgs"], self._places.size)
            except (LookupError, TypeError, ValueError) as error:
                raise ModelFormatError(
                    f"Cannot load {saved.path!r}: its state of L-BFGS is not valid ({error!r})."
                ) from error
            self._point = point
        super()._restore(saved)
