"""What an optimizer is, and what it carries along; the kinds are in ``optimizers.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dnncore._kernels import OPTIMIZERS as _KERNELS
from dnncore._memory import aligned_zeros
from dnncore._schedule import Schedule, as_schedule
from dnncore._validation import check_real

if TYPE_CHECKING:
    from typing import Self

__all__ = ["TABLE_STEPS", "Hyper", "Optimizer", "OptimizerState"]

Hyper = float | Schedule | Callable[[int], float]
"""A hyper-parameter: a number, or one for each step. Functions get the step, from 0."""

_RANGES: dict[str, tuple[bool, float | None]] = {  # name: (greater than 0, less than)
    "learning_rate": (False, None),
    "l2": (False, None),
    "weight_decay": (False, None),
    "momentum": (False, 1.0),
    "rho": (False, 1.0),
    "beta1": (False, 1.0),
    "beta2": (False, 1.0),
    "eps": (True, None),
    "clip_norm": (True, None),
    "clip_value": (True, None),
}
TABLE_STEPS = 2048
"""Steps for which schedules are evaluated at once."""


@dataclass(frozen=True, repr=False)
class Optimizer:
    """Base of all optimizers.

    Every number may be a schedule instead, or a function of the number of the step.

    Parameters
    ----------
    learning_rate : float or Schedule
        Step size.
    l2 : float or Schedule
        Adds ``l2 * W`` to the gradient of the weights; biases are never decayed.
    clip_norm : float or Schedule, optional
        If the Euclidean norm of the whole gradient, over all trainable parameters, is greater,
        the gradient is scaled down to it (Pascanu et al. 2013, "On the difficulty of training
        recurrent neural networks").
    clip_value : float or Schedule, optional
        Limits each number of the gradient to ``[-clip_value, clip_value]``. Either clips the
        gradient of the loss, before ``l2`` and the layers' penalties are added.

    Raises
    ------
    TypeError, ValueError
        For settings out of range.

    Examples
    --------
    >>> import dnncore as dnn
    >>> adam = dnn.Adam(dnn.schedules.Cosine(1e-3, steps=10_000))
    >>> adam.value("learning_rate", 5000)
    0.0005
    """

    learning_rate: Hyper = 1e-3
    l2: Hyper = field(default=0.0, kw_only=True)
    clip_norm: Hyper | None = field(default=None, kw_only=True)
    clip_value: Hyper | None = field(default=None, kw_only=True)

    _slots: ClassVar[tuple[str, str, str, str]] = ("", "", "", "")
    """Fields that the kernel takes as decay, beta1, beta2 and eps."""

    def __post_init__(self) -> None:
        for name in self._hyper():
            value = getattr(self, name)
            if value is None and name.startswith("clip"):
                continue
            if isinstance(value, Schedule) or callable(value):
                value = as_schedule(value)
            else:
                value = _check(value, name)
            object.__setattr__(self, name, value)  # a float or Schedule; frozen for everyone else
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError("Give clip_norm or clip_value, not both.")

    def __repr__(self) -> str:
        """Write the call that makes the optimizer, without clipping that is not asked for."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        words = [f"{name}={value!r}" for name, value in values.items() if value is not None]
        return f"{type(self).__name__}({', '.join(words)})"

    def _hyper(self) -> list[str]:
        return [f.name for f in fields(self) if f.name in _RANGES]

    @property
    def kernel(self) -> str:
        """Name of the kernel in ``dnncore.kernels.OPTIMIZERS``."""
        raise NotImplementedError

    @cached_property
    def is_scheduled(self) -> bool:
        """Whether any number changes from step to step."""
        return any(isinstance(getattr(self, name), Schedule) for name in self._hyper())

    def value(self, name: str, step: int = 0) -> float:
        """Value of a hyper-parameter at a step, counted from 0."""
        return float(self._values(name, step, 1)[0])

    def settings(
        self, step: int = 0, *, steps: int | None = None, scale: float = 1.0
    ) -> tuple[int, NDArray[np.float64]]:
        """Tell the engine the settings of the next steps.

        Parameters
        ----------
        step : int
            Steps made so far.
        steps : int, optional
            Steps that are to come, if known; no schedule is asked beyond them.
        scale : float
            Factor on the learning rate.

        Returns
        -------
        id : int
            Id of the kernel.
        table : ndarray of shape (rows, 8)
            ``lr, l2, decay, beta1, beta2, eps, clip_value, clip_norm``, where 0 does not clip:
            one row if all are constant, else one a step.

        Raises
        ------
        ValueError
            If a schedule leaves the range of its hyper-parameter.
        """
        rows = TABLE_STEPS if steps is None else min(steps, TABLE_STEPS)
        table = self._table(step, rows) if self.is_scheduled else self._constants
        if scale != 1.0:
            table = table * [scale, *[1.0] * (table.shape[1] - 1)]
        return _KERNELS[self.kernel][0], table

    @cached_property
    def _constants(self) -> NDArray[np.float64]:
        table = self._table(0, 1)
        table.flags.writeable = False
        return table

    def _table(self, step: int, steps: int) -> NDArray[np.float64]:
        names = ("learning_rate", "l2", *self._slots, "clip_value", "clip_norm")
        table = np.zeros((steps, len(names)))
        for column, name in enumerate(names):
            if name and getattr(self, name) is not None:
                table[:, column] = self._values(name, step, steps)
        return table

    def _values(self, name: str, step: int, steps: int) -> NDArray[np.float64]:
        value = getattr(self, name)
        if not isinstance(value, Schedule):
            return np.full(steps, value)
        values = value.values(step, steps)
        for i in (np.nanargmin(values), np.nanargmax(values)):
            _check(values[i], f"{name}, which {value!r} sets at step {step + i},")
        if np.isnan(values).any():
            raise ValueError(f"{name}={value!r} is NaN at step {step + np.isnan(values).argmax()}.")
        return values

    def over(self, first: int, steps: int, steps_per_epoch: int) -> Self:
        """Fill in what only training knows: where it begins, and how long it and an epoch are.

        Parameters
        ----------
        first : int
            Steps made before training.
        steps : int
            Steps of the whole training.
        steps_per_epoch : int
            Steps of an epoch.
        """
        if not self.is_scheduled:
            return self
        known = {name: getattr(self, name) for name in self._hyper()}
        return replace(
            self,
            **{
                name: schedule.over(first, steps, steps_per_epoch)
                for name, schedule in known.items()
                if isinstance(schedule, Schedule)
            },
        )

    def get_config(self) -> dict[str, Any]:
        """Describe the optimizer in plain values.

        Raises
        ------
        TypeError
            If a schedule is a function.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"kind": type(self).__name__} | {
            name: value.get_config() if isinstance(value, Schedule) else value
            for name, value in values.items()
        }


def _check(value: Any, name: str) -> float:
    positive, below = _RANGES[name.partition(",")[0]]
    result = check_real(value, name, minimum=0.0, exclusive=positive)
    return check_real(result, name, maximum=below, exclusive=True)


@dataclass
class OptimizerState:
    """What an optimizer carries from step to step.

    Attributes
    ----------
    kernel : str
        Kernel that the moments belong to.
    moments : list of ndarray
        Laid out as the parameters.
    """

    kernel: str
    moments: list[NDArray[Any]]

    @classmethod
    def start(cls, kernel: str, n: int, dtype: np.dtype[Any]) -> OptimizerState:
        """State before the first step: moments of zero, as many as the kernel has."""
        return cls(kernel, [aligned_zeros(n, dtype) for _ in _KERNELS[kernel][1]])

    def copy(self) -> OptimizerState:
        """Independent copy, its moments aligned as the engine likes them."""
        copies = [aligned_zeros(moment.size, moment.dtype) for moment in self.moments]
        for copy, moment in zip(copies, self.moments, strict=True):
            copy[...] = moment
        return OptimizerState(self.kernel, copies)

    @property
    def first(self) -> NDArray[Any] | None:
        """First of the moments."""
        return self.moments[0] if self.moments else None

    @property
    def second(self) -> NDArray[Any] | None:
        """Second of the moments."""
        return self.moments[1] if len(self.moments) > 1 else None
