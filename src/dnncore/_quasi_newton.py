"""The arithmetic of L-BFGS: which way to go, and how far.

All that the method knows is in a ``Point``, whose plain arrays a checkpoint can hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dnncore._validation import check_bool, check_int, check_real

__all__ = ["Pair", "Point", "advance", "begin"]

Function = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]
"""Returns value and gradient; a value that is not finite says that this is too far."""

DECREASE, CURVATURE = 1e-4, 0.9
"""A step must lower the value by this share of what the slope promises, and leave at most this
share of the slope (the conditions of Wolfe)."""

TRIALS = 20
"""Lengths that are tried in one direction."""


class Pair(NamedTuple):
    """A step and what it did to the gradient."""

    step: NDArray[np.float64]
    change: NDArray[np.float64]

    @property
    def tells(self) -> bool:
        """Whether it says something of the curvature: very small numbers underflow."""
        return all(float(array @ self.change) > 0 for array in self)


@dataclass(frozen=True)
class Point:
    """Where the method is, and the last pairs that brought it there, the oldest first."""

    x: NDArray[np.float64]
    value: float
    gradient: NDArray[np.float64]
    pairs: tuple[Pair, ...] = ()
    iterations: int = 0
    ended: bool = False

    def state(self) -> dict[str, Any]:
        """Return it as plain values and arrays."""
        return {
            "arrays": [self.x, self.gradient, *(array for pair in self.pairs for array in pair)],
            "value": self.value,
            "iterations": self.iterations,
            "ended": self.ended,
        }

    @classmethod
    def of(cls, state: dict[str, Any], size: int) -> Point:
        """Undo ``state``, for points of ``size`` numbers.

        Raises
        ------
        LookupError, TypeError, ValueError
            If it is something else.
        """
        x, gradient, *others = arrays = state["arrays"]
        for array in arrays:
            if array.shape != (size,) or array.dtype != np.float64 or not np.isfinite(array).all():
                raise ValueError(f"not {size} numbers")
        pairs = tuple(Pair(*pair) for pair in zip(others[::2], others[1::2], strict=True))
        if not all(pair.tells for pair in pairs):
            raise ValueError("a pair that says nothing of the curvature")
        iterations = check_int(state["iterations"], "iterations", minimum=0)
        ended = check_bool(state["ended"], "ended")
        return cls(x, check_real(state["value"], "value"), gradient, pairs, iterations, ended)


def begin(function: Function, x: NDArray[np.float64], *, tol: float) -> Point:
    """Return the point to start from; it is the end if no element of the gradient exceeds `tol`."""
    value, gradient = function(x)
    return Point(x, value, gradient, ended=_is_flat(gradient, tol))


def advance(function: Function, at: Point, *, history: int, tol: float, rtol: float) -> Point:
    """Do one iteration.

    Parameters
    ----------
    function : callable
        What to minimise.
    at : Point
        Where.
    history : int
        Number of pairs to keep.
    tol, rtol : float
        At the new point the method has ended if no element of the gradient exceeds ``tol``, or if
        the value has fallen by no more than ``rtol`` times its size, or 1 if that is greater.

    Returns
    -------
    Point
        The new one. If no step lowers the value, not even one against the gradient, it is the
        old one, ended.
    """
    moved = _search(function, at, direction(at.gradient, at.pairs))
    if moved is None and at.pairs:
        at = replace(at, pairs=())
        moved = _search(function, at, direction(at.gradient))
    if moved is None:
        return replace(at, iterations=at.iterations + 1, ended=True)
    x, value, gradient, step = moved
    pair = Pair(step, gradient - at.gradient)
    pairs = (*at.pairs, pair)[-history:] if pair.tells else at.pairs
    least = rtol * max(abs(at.value), abs(value), 1.0)
    ended = _is_flat(gradient, tol) or at.value - value <= least
    return Point(x, value, gradient, pairs, at.iterations + 1, ended)


def direction(gradient: NDArray[np.float64], pairs: Sequence[Pair] = ()) -> NDArray[np.float64]:
    """Return minus the inverse Hessian, as the pairs tell it, times the gradient.

    Without pairs it has length 1.

    References
    ----------
    Nocedal 1980, "Updating quasi-Newton matrices with limited storage".
    """
    q = -gradient
    if not pairs:
        return q / np.linalg.norm(q)
    products = [float(step @ change) for step, change in pairs]
    shares = []
    for (step, change), product in zip(reversed(pairs), reversed(products), strict=True):
        shares.append(float(step @ q) / product)
        q -= shares[-1] * change
    newest = pairs[-1].change
    q *= products[-1] / float(newest @ newest)
    for (step, change), product, share in zip(pairs, products, reversed(shares), strict=True):
        q += (share - float(change @ q) / product) * step
    return q


class _Trial(NamedTuple):
    length: float
    value: float
    slope: float


def _search(
    function: Function, at: Point, along: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float, NDArray[np.float64], NDArray[np.float64]] | None:
    """Find a step that meets the conditions of Wolfe; returns x, value, gradient and step.

    The interval between a length that is too short and one that is too long gets smaller until
    one between them is neither, which also works at the kinks of relu.

    References
    ----------
    Lewis and Overton 2013, "Nonsmooth optimization via quasi-Newton methods", algorithm 2.6.
    """
    slope = float(at.gradient @ along)
    if not slope < 0:
        return None
    short, long, length = _Trial(0.0, at.value, slope), None, 1.0
    for _ in range(TRIALS):
        step = length * along
        x = at.x + step
        value, gradient = function(x)
        trial = _Trial(length, value, float(gradient @ along))
        if not value <= at.value + DECREASE * length * slope:
            long = trial
        elif trial.slope < CURVATURE * slope:
            short = trial
        else:
            return x, value, gradient, step
        length = 2 * length if long is None else _between(short, long)
    return None


def _between(short: _Trial, long: _Trial) -> float:
    """Return where the parabola through both values is least, well within the interval."""
    width = long.length - short.length
    bend = long.value - short.value - short.slope * width
    share = -0.5 * short.slope * width / bend if bend > 0 and math.isfinite(bend) else 0.5
    return short.length + min(max(share, 0.1), 0.9) * width


def _is_flat(gradient: NDArray[Any], tol: float) -> bool:
    return bool(np.abs(gradient).max() <= tol) or not gradient @ gradient > 0  # it may underflow
