"""Schedules: hyper-parameters that change from step to step.

Any number of an optimizer may be one, ``Adam(Cosine(1e-3))``, ``SGD(0.1, momentum=Polynomial(0.5,
final=0.95))``. They are plain, frozen descriptions; training evaluates them for many steps at
once, and the compiled loop reads a row of numbers a step. A schedule depends on the number of the
step only: training that goes on from a step goes on with the same numbers.

To add one: a frozen dataclass below with ``_at``, and its name in ``SCHEDULES``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dnncore._schedule import (
    Array,
    Constant,
    Function,
    Long,
    PerEpoch,
    Schedule,
    Warmup,
    as_schedule,
)
from dnncore._validation import check_int, check_real

__all__ = [
    "SCHEDULES",
    "Cosine",
    "Exponential",
    "Function",
    "InverseScaling",
    "OneCycle",
    "PerEpoch",
    "Polynomial",
    "Schedule",
    "Step",
    "Warmup",
    "as_schedule",
    "schedule_from_config",
]


@dataclass(frozen=True, repr=False)
class Step(Schedule):
    """``initial * factor ** (step // every)``.

    Parameters
    ----------
    initial : float
        Value at the beginning.
    every : int
        Steps between two changes.
    factor : float
        Factor of each change.
    first : int
        See ``Schedule``.
    """

    initial: float
    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int(self.every, "every")

    def _at(self, t: Array) -> Array:
        return self.initial * self.factor ** (t // self.every)


@dataclass(frozen=True, repr=False)
class Exponential(Schedule):
    """``initial * rate ** (step / every)``.

    Parameters
    ----------
    initial : float
        Value at the beginning.
    rate : float
        Factor over ``every`` steps, greater than 0.
    every : int
        Steps after which the value is ``rate`` times what it was.
    first : int
        See ``Schedule``.
    """

    initial: float
    rate: float
    every: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_real(self.rate, "rate", minimum=0.0, exclusive=True)
        check_int(self.every, "every")

    def _at(self, t: Array) -> Array:
        return self.initial * self.rate ** (t / self.every)


@dataclass(frozen=True, repr=False)
class InverseScaling(Schedule):
    """``initial / (step + 1) ** power``.

    Parameters
    ----------
    initial : float
        Value at the beginning.
    power : float
        How fast it falls.
    first : int
        See ``Schedule``.
    """

    initial: float
    power: float = 0.5

    def _at(self, t: Array) -> Array:
        return self.initial / (t + 1.0) ** self.power


@dataclass(frozen=True, repr=False)
class Polynomial(Long):
    """``final + (initial - final) * (1 - step / steps) ** power``; a line by default.

    Parameters
    ----------
    initial : float
        Value at the beginning.
    steps : int, optional
        Steps after which it stays at ``final``; by default those of the call of ``fit``.
    final : float
        Value at the end.
    power : float
        Greater than 0.
    first : int
        See ``Schedule``.
    """

    initial: float
    steps: int | None = None
    final: float = field(default=0.0, kw_only=True)
    power: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_real(self.power, "power", minimum=0.0, exclusive=True)

    def _at(self, t: Array) -> Array:
        left = 1.0 - np.minimum(t / self._length(), 1.0)
        return self.final + (self.initial - self.final) * left**self.power


@dataclass(frozen=True, repr=False)
class Cosine(Long):
    """Half a cosine from ``initial`` down to ``final``, once or several times.

    ``final + (initial - final) * (1 + cos(pi * part)) / 2`` with the part of the cycle that is
    over.

    Parameters
    ----------
    initial : float
        Value at the beginning of each cycle.
    steps : int, optional
        Steps of all cycles together, after which it stays at ``final``; by default those of the
        call of ``fit``.
    final : float
        Value at the end.
    restarts : int
        How often it jumps back to ``initial``.
    growth : float
        Length of each cycle over that of the one before, greater than 0.
    first : int
        See ``Schedule``.

    References
    ----------
    Loshchilov and Hutter 2017, "SGDR: stochastic gradient descent with warm restarts".

    Examples
    --------
    >>> Cosine(1.0, steps=100)(50)
    0.5
    """

    initial: float
    steps: int | None = None
    final: float = field(default=0.0, kw_only=True)
    restarts: int = field(default=0, kw_only=True)
    growth: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_real(self.growth, "growth", minimum=0.0, exclusive=True)

    def _at(self, t: Array) -> Array:
        steps = self._length()
        lengths = self.growth ** np.arange(self.restarts + 1, dtype=np.float64)
        ends = np.rint(steps * np.cumsum(lengths) / lengths.sum())
        starts = np.concatenate([[0.0], ends[:-1]])
        cycle = np.minimum(np.searchsorted(ends, t, side="right"), self.restarts)
        part = (t - starts[cycle]) / np.maximum(ends - starts, 1.0)[cycle]
        return _half_cosine(self.initial, self.final, np.minimum(part, 1.0))


@dataclass(frozen=True, repr=False)
class OneCycle(Long):
    """Up to a peak and far down again, in two halves of a cosine.

    Parameters
    ----------
    peak : float
        Highest value (or lowest, for a momentum: ``OneCycle(0.85, initial=0.95, final=0.95)``).
    steps : int, optional
        Steps of the cycle; by default those of the call of ``fit``.
    initial : float, optional
        Value at the beginning, by default ``peak / 25``.
    final : float, optional
        Value at the last step, by default ``initial / 10_000``.
    rise : float
        Share of the steps that lead up to the peak, in (0, 1).
    first : int
        See ``Schedule``.

    References
    ----------
    Smith and Topin 2018, "Super-convergence: very fast training of neural networks using large
    learning rates".
    """

    peak: float
    steps: int | None = None
    initial: float | None = field(default=None, kw_only=True)
    final: float | None = field(default=None, kw_only=True)
    rise: float = field(default=0.3, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_real(self.rise, "rise", minimum=0.0, maximum=1.0, exclusive=True)

    def _at(self, t: Array) -> Array:
        initial = self.peak / 25 if self.initial is None else self.initial
        final = initial / 10_000 if self.final is None else self.final
        last = self._length() - 1
        top = max(self.rise * self._length() - 1, 0.0)
        up = np.minimum(t / top, 1.0) if top > 0 else np.ones_like(t)
        down = np.clip((t - top) / max(last - top, 1e-9), 0.0, 1.0)
        rising = _half_cosine(initial, self.peak, up)
        return np.where(t < top, rising, _half_cosine(self.peak, final, down))


def _half_cosine(start: float, end: float, part: Array) -> Array:
    """From ``start`` at 0 to ``end`` at 1, flat at both."""
    return end + (start - end) * 0.5 * (1.0 + np.cos(np.pi * part))


SCHEDULES: dict[str, type[Schedule]] = {
    kind.__name__: kind
    for kind in (
        Step, Exponential, InverseScaling, Polynomial, Cosine, OneCycle, Warmup, PerEpoch, Constant
    )
}  # fmt: skip
"""Schedules by the name that ``get_config`` gives them."""


def schedule_from_config(config: dict[str, Any]) -> Schedule:
    """Build a schedule from its ``get_config``.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the description makes no schedule.
    """
    values: dict[str, Any] = {
        name: schedule_from_config(value) if isinstance(value, dict) else value
        for name, value in config.items()
    }
    return SCHEDULES[values.pop("kind")](**values)
