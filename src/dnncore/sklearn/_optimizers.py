"""What ``solver`` and ``learning_rate`` mean for the engine; the estimator's ``_optimizer``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnncore._kernels import OPTIMIZERS as _KERNELS
from dnncore._schedule import Schedule
from dnncore.optimizers import OPTIMIZERS, Optimizer, OptimizerState

__all__ = ["STOCHASTIC", "Adam", "Chosen", "Settings", "Sgd", "is_stochastic", "make"]

STOCHASTIC = ("sgd", "adam")
"""Solvers that scikit-learn has too."""

Settings = tuple[int, NDArray[np.float64]]


class _Base:
    """Learning rate, state and number of steps.

    Attributes
    ----------
    learning_rate : float
        Rate of the last step, or of the next one where the solver has a schedule.
    state : OptimizerState
        Moments, laid out as the network's parameters.
    steps : int
        Steps made.
    """

    learning_rate: float

    def __init__(self, kernel: str, n: int, dtype: np.dtype[Any]) -> None:
        self.state = OptimizerState.start(kernel, n, dtype)
        self.steps = 0

    def fits(self, n: int, dtype: np.dtype[Any]) -> bool:
        """Whether the moments are those of a network with `n` parameters of this type."""
        return all((m.size, m.dtype) == (n, dtype) for m in self.state.moments)

    def begin(self, epochs: int, steps_per_epoch: int) -> None:
        """Learn how long training will be."""

    def settings(self, step: int, left: int, scale: float) -> Settings:
        """Tell the engine the settings of the next steps, at most `left`."""
        raise NotImplementedError

    def epoch_ends(self, samples: int) -> None:
        """Follow the schedule; `samples` have been trained on since the beginning."""

    def stop(self) -> tuple[bool, str]:
        """Say whether to stop now that nothing gets better, and what to tell the user."""
        return True, " Stopping."


def _clip(estimator: Any) -> tuple[float, float]:
    """Limits of each number of the gradient, and of its norm; 0 sets none."""
    return estimator.clip_value or 0.0, estimator.clip_norm or 0.0


class Sgd(_Base):
    """``solver="sgd"`` with its three schedules."""

    def __init__(self, estimator: Any, n: int, dtype: np.dtype[Any]) -> None:
        kernel = "sgd"
        if estimator.momentum > 0:
            kernel = "nesterov" if estimator.nesterovs_momentum else "momentum"
        super().__init__(kernel, n, dtype)
        self.learning_rate_init = estimator.learning_rate_init
        self.learning_rate = float(estimator.learning_rate_init)
        self.schedule = estimator.learning_rate
        self.momentum, self.power_t = estimator.momentum, estimator.power_t
        self.clip = _clip(estimator)

    def settings(self, step: int, left: int, scale: float) -> Settings:
        """See ``_Base``."""
        row = [self.learning_rate * scale, 0.0, 0.0, self.momentum, 0.0, 0.0, *self.clip]
        return _KERNELS[self.state.kernel][0], np.array([row])

    def epoch_ends(self, samples: int) -> None:
        """See ``_Base``."""
        if self.schedule == "invscaling":
            self.learning_rate = float(self.learning_rate_init) / (samples + 1) ** self.power_t

    def stop(self) -> tuple[bool, str]:
        """See ``_Base``."""
        if self.schedule != "adaptive":
            return super().stop()
        if self.learning_rate <= 1e-6:
            return True, " Learning rate too small. Stopping."
        self.learning_rate /= 5.0
        return False, f" Setting learning rate to {self.learning_rate:f}"


class Adam(_Base):
    """``solver="adam"``: eps is added before the correction of the bias."""

    def __init__(self, estimator: Any, n: int, dtype: np.dtype[Any]) -> None:
        super().__init__("adam", n, dtype)
        self.learning_rate_init = estimator.learning_rate_init
        self.learning_rate = float(estimator.learning_rate_init)
        self.beta_1, self.beta_2 = estimator.beta_1, estimator.beta_2
        self.epsilon = estimator.epsilon
        self.clip = _clip(estimator)

    def settings(self, step: int, left: int, scale: float) -> Settings:
        """See ``_Base``."""
        rate = self.learning_rate_init * scale
        row = [rate, 0.0, 0.0, self.beta_1, self.beta_2, self.epsilon, *self.clip]
        return _KERNELS["adam"][0], np.array([row])

    def epoch_ends(self, samples: int) -> None:
        """See ``_Base``."""
        t = self.steps
        self.learning_rate = float(
            self.learning_rate_init * np.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        )


class Chosen(_Base):
    """Any of dnncore's optimizers, with any of its schedules."""

    def __init__(self, optimizer: Optimizer, n: int, dtype: np.dtype[Any]) -> None:
        super().__init__(optimizer.kernel, n, dtype)
        self.optimizer = self.running = optimizer
        self.learning_rate = float("nan")  # a schedule may need to know how long training is

    def begin(self, epochs: int, steps_per_epoch: int) -> None:
        """See ``_Base``."""
        self.running = self.optimizer.over(self.steps, epochs * steps_per_epoch, steps_per_epoch)

    def settings(self, step: int, left: int, scale: float) -> Settings:
        """See ``_Base``."""
        return self.running.settings(step, steps=left, scale=scale)

    def epoch_ends(self, samples: int) -> None:
        """See ``_Base``."""
        self.learning_rate = self.running.value("learning_rate", max(0, self.steps - 1))


def is_stochastic(estimator: Any) -> bool:
    """Whether the solver works on mini-batches."""
    return not (isinstance(estimator.solver, str) and estimator.solver == "lbfgs")


def make(estimator: Any, n: int, dtype: np.dtype[Any]) -> _Base:
    """Make the optimizer of a new training.

    Raises
    ------
    ValueError
        If settings contradict each other.
    """
    solver, rate = estimator.solver, estimator.learning_rate
    scheduled = isinstance(rate, Schedule) or callable(rate)
    clip = {"clip_norm": estimator.clip_norm, "clip_value": estimator.clip_value}
    if None not in clip.values():
        raise ValueError("Give clip_norm or clip_value, not both.")
    if isinstance(solver, Optimizer):
        if scheduled or rate != "constant":
            raise ValueError(
                f"learning_rate={rate!r} would change nothing: {solver!r} has a learning rate of "
                "its own, which may be a schedule."
            )
        if any(clip.values()):
            raise ValueError(f"Let the optimizer clip: give {solver!r} the clip.")
        if solver.l2 != 0.0:
            raise ValueError(f"alpha stands for the l2 of {solver!r}; set alpha instead.")
        return Chosen(solver, n, dtype)
    if solver in STOCHASTIC and not scheduled:
        return Sgd(estimator, n, dtype) if solver == "sgd" else Adam(estimator, n, dtype)
    if not scheduled and rate != "constant":
        raise ValueError(
            f"learning_rate={rate!r} needs solver='sgd'; with {solver!r} it may be 'constant' or "
            "a schedule from dnncore.schedules."
        )
    optimizer = OPTIMIZERS[solver]()
    known: dict[str, Any] = {
        "learning_rate": rate if scheduled else estimator.learning_rate_init,
        "beta1": estimator.beta_1,
        "beta2": estimator.beta_2,
        "eps": estimator.epsilon,
        "momentum": estimator.momentum,
        "nesterov": estimator.nesterovs_momentum and estimator.momentum > 0,
    }
    if solver == "lion":  # scikit-learn's defaults are Adam's
        del known["beta2"]
    fields = {name: value for name, value in known.items() if hasattr(optimizer, name)}
    return Chosen(replace(optimizer, **fields, **clip), n, dtype)
