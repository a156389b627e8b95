"""What a schedule is, and schedules around others; the shapes are in ``schedules.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnncore._validation import check_int, check_real

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Array", "Constant", "Function", "Long", "PerEpoch", "Schedule", "Warmup", "as_schedule"]

Array = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Schedule:
    """Base of all schedules.

    Parameters
    ----------
    first : int
        Step at which it begins; the value before is that of the beginning. Steps count from 0,
        since the optimizer was new.
    """

    first: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.type == "int":
                self._set(f.name, check_int(value, f.name, minimum=0))
            elif f.type == "int | None" and value is not None:
                self._set(f.name, check_int(value, f.name))
            elif f.type == "float" or (f.type == "float | None" and value is not None):
                self._set(f.name, check_real(value, f.name))
            elif f.type == "Schedule":
                self._set(f.name, as_schedule(value))

    def __repr__(self) -> str:
        """Write the call that makes the schedule, with what differs from the defaults."""
        values = {f.name: (getattr(self, f.name), f.default) for f in fields(self)}
        first = values.pop("first")[0]
        words = [f"{name}={v!r}" for name, (v, default) in values.items() if v != default]
        return f"{type(self).__name__}({', '.join(words + [f'first={first}'] * (first > 0))})"

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # frozen for everyone else

    def _at(self, t: Array) -> Array:
        """Values at numbers of steps since the beginning."""
        raise NotImplementedError

    def values(self, first: int, count: int) -> Array:
        """Evaluate many steps.

        Parameters
        ----------
        first : int
            The first of them, counted from 0.
        count : int
            How many.

        Returns
        -------
        ndarray of shape (count,)

        Raises
        ------
        ValueError
            If the schedule lasts as long as training, and nobody has said how long that is.
        """
        return self._of(np.arange(first, first + count, dtype=np.float64))

    def _of(self, steps: Array) -> Array:
        return self._at(np.maximum(steps - self.first, 0.0))

    def __call__(self, step: int) -> float:
        """Value at a step."""
        return float(self.values(step, 1)[0])

    def over(self, first: int, steps: int, steps_per_epoch: int) -> Schedule:
        """Fill in what only training knows: where it begins, and how long it and an epoch are."""
        return self

    def plot(self, steps: int | None = None, ax: Axes | None = None) -> Axes:
        """Plot the values by step.

        Parameters
        ----------
        steps : int, optional
            How many, from step 0; by default the schedule's own length.
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default into a new figure.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If neither says how many steps.
        """
        from dnncore.plotting._axes import new_axes

        if steps is None:
            steps = getattr(self, "steps", None)
        if steps is None:
            raise ValueError("plot needs to know how many steps; give steps=...")
        shown = self.over(0, check_int(steps, "steps"), steps)
        axes: Axes = new_axes(ax)
        axes.plot(np.arange(steps), shown.values(0, steps))
        axes.set_xlabel("step")
        axes.set_ylabel("value")
        return axes

    def get_config(self) -> dict[str, Any]:
        """Describe the schedule in plain values."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"kind": type(self).__name__} | {
            name: value.get_config() if isinstance(value, Schedule) else value
            for name, value in values.items()
        }


class Long(Schedule):
    """Base of schedules with a field ``steps``, by default those of the call of ``fit``."""

    steps: int | None

    def over(self, first: int, steps: int, steps_per_epoch: int) -> Schedule:
        return self if self.steps is not None else replace(self, **{"steps": steps, "first": first})

    def _length(self) -> int:
        if self.steps is None:
            raise ValueError(
                f"{type(self).__name__} without steps lasts as long as a call of fit; elsewhere "
                "give it their number, steps=..."
            )
        return self.steps


@dataclass(frozen=True, repr=False)
class Warmup(Schedule):
    """A line up to another schedule, which begins after it.

    Step ``i`` of the warm-up has the share ``(i + 1) / steps`` of the way from ``start`` to where
    the other one begins.

    Parameters
    ----------
    schedule : Schedule, callable or float
        What comes after.
    steps : int
        Steps of the warm-up.
    start : float
        Where the line comes from.
    first : int
        See ``Schedule``.

    References
    ----------
    Goyal et al. 2017, "Accurate, large minibatch SGD: training ImageNet in 1 hour".
    """

    schedule: Schedule
    steps: int
    start: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int(self.steps, "steps")

    def over(self, first: int, steps: int, steps_per_epoch: int) -> Schedule:
        """Fill in the length of the schedule after the warm-up."""
        inner = self.schedule.over(0, max(steps - self.steps, 1), steps_per_epoch)
        return self if inner == self.schedule else replace(self, schedule=inner, first=first)

    def _at(self, t: Array) -> Array:
        after = self.schedule._of(np.maximum(t - self.steps, 0.0))
        share = np.minimum((t + 1.0) / self.steps, 1.0)
        return np.where(t < self.steps, self.start + (after - self.start) * share, after)


@dataclass(frozen=True, repr=False)
class PerEpoch(Schedule):
    """Another schedule by epochs instead of steps: it counts 0 all through the first epoch.

    Parameters
    ----------
    schedule : Schedule, callable or float
        What is evaluated at the number of the epoch.
    steps_per_epoch : int, optional
        Steps of an epoch; by default those of the call of ``fit``.
    first : int
        See ``Schedule``; a step.

    Examples
    --------
    >>> PerEpoch(Step(0.1, every=2), steps_per_epoch=10).values(0, 40)[::10]
    array([0.1 , 0.1 , 0.01, 0.01])
    """

    schedule: Schedule
    steps_per_epoch: int | None = None

    def over(self, first: int, steps: int, steps_per_epoch: int) -> Schedule:
        """Fill in the length of an epoch and of the schedule inside."""
        length = steps_per_epoch if self.steps_per_epoch is None else self.steps_per_epoch
        inner = self.schedule.over(0, max(steps // length, 1), 1)
        return replace(
            self,
            schedule=inner,
            steps_per_epoch=length,
            first=self.first if inner == self.schedule else first,
        )

    def plot(self, steps: int | None = None, ax: Axes | None = None) -> Axes:
        """Plot the values, by epoch where nobody has said how many steps that is."""
        if self.steps_per_epoch is not None:
            return super().plot(steps, ax)
        axes = self.schedule.plot(steps, ax)
        axes.set_xlabel("epoch")
        return axes

    def _at(self, t: Array) -> Array:
        if self.steps_per_epoch is None:
            raise ValueError(
                "PerEpoch needs fit, or steps_per_epoch=..., to know what an epoch is."
            )
        return self.schedule._of(t // self.steps_per_epoch)


@dataclass(frozen=True, repr=False)
class Function(Schedule):
    """A function of the number of the step, called ahead of the steps.

    Parameters
    ----------
    function : callable
        From an int to a float.
    first : int
        See ``Schedule``; the function's step 0.
    """

    function: Callable[[int], float]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.function):
            raise TypeError(f"a schedule must be a Schedule or a function; got {self.function!r}.")

    def _at(self, t: Array) -> Array:
        return np.array([check_real(self.function(int(i)), "a schedule's value") for i in t])

    def get_config(self) -> dict[str, Any]:
        """Refuse: a function is code.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError("A schedule that is a function cannot be put into a file.")


@dataclass(frozen=True, repr=False)
class Constant(Schedule):
    """The same value at all steps; what a number in another schedule's place becomes."""

    value: float

    def _at(self, t: Array) -> Array:
        return np.full(t.shape, self.value)


def as_schedule(value: Schedule | Callable[[int], float] | float) -> Schedule:
    """Return a schedule, made of a function or of a number if it is none.

    Raises
    ------
    TypeError
        If it is neither.
    """
    if isinstance(value, Schedule):
        return value
    return Function(value) if callable(value) else Constant(value)
