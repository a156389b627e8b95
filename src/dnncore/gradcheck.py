"""Check a gradient against finite differences of the function it should be the gradient of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._validation import check_int, check_real

__all__ = ["GradientError", "check_gradient"]

Array = NDArray[np.float64]


class GradientError(ValueError):
    """A gradient disagrees with finite differences.

    Attributes
    ----------
    where : tuple of int or int
        Index of the coordinate with the largest error, or number of the direction.
    analytic, numeric : float
        The derivative that was claimed and the one that was measured.
    relative_error : float
        Their relative error.
    """

    # Defaults let the error be pickled on its way out of a worker process.
    def __init__(
        self,
        message: str,
        where: tuple[int, ...] | int = (),
        analytic: float = np.nan,
        numeric: float = np.nan,
        relative_error: float = np.nan,
    ) -> None:
        super().__init__(message)
        self.where = where
        self.analytic = analytic
        self.numeric = numeric
        self.relative_error = relative_error


def check_gradient(
    f: Callable[[Array], Any],
    grad: Callable[[Array], Array],
    x: Array,
    *,
    eps: float = 1e-3,
    rtol: float = 1e-6,
    n_directions: int | None = None,
    rng: np.random.Generator | int | None = None,
) -> float:
    """Compare a gradient with central differences, in float64.

    The derivative along a unit vector ``d`` is measured with the stencil of fourth order ::

        (8 (f(x + h d) - f(x - h d)) - (f(x + 2 h d) - f(x - 2 h d))) / (12 h),    h = eps

    (Abramowitz and Stegun, *Handbook of Mathematical Functions*, 1964, 25.3.6 and 25.3.21).
    It sees ``f`` up to ``2 eps`` away from ``x``: a kink nearer than that is reported as an error.

    Parameters
    ----------
    f : callable
        ``f(x) -> float``.
    grad : callable
        ``grad(x) -> ndarray of the shape of x``, its gradient.
    x : ndarray of float64
        Where to check. ``f`` and ``grad`` are given copies.
    eps : float
        Step. The default suits functions and arguments of the order of 1.
    rtol : float
        Largest relative error allowed.
    n_directions : int, optional
        Check along this many random directions, four evaluations of ``f`` each, instead of along
        every coordinate, four each as well.
    rng : numpy.random.Generator or int, optional
        Where the directions come from. The default is a fixed seed: a check that fails, fails
        again.

    Returns
    -------
    float
        The largest relative error ``|analytic - numeric| / max(|analytic|, |numeric|, r)``. Here
        ``r`` is the smallest derivative that differences of ``f`` resolve to ``rtol``: its value
        rounded to ten units in the last place, over ``rtol eps``.

    Raises
    ------
    GradientError
        If the relative error exceeds ``rtol`` or is not a number. The message names the worst
        coordinate or direction, with both derivatives.
    TypeError
        If ``x``, or what ``f`` or ``grad`` returns, is not float64.
    ValueError
        If the gradient has another shape than ``x``, or ``x`` is empty.

    Examples
    --------
    >>> import numpy as np
    >>> from dnncore.gradcheck import check_gradient
    >>> x = np.array([1.0, 2.0])
    >>> check_gradient(lambda x: np.sum(x**2), lambda x: 2 * x, x) < 1e-9
    True
    >>> check_gradient(lambda x: np.sum(x**2), lambda x: 2.001 * x, x)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    dnncore.gradcheck.GradientError: The gradient is wrong at index (0,): ...
    """
    check_real(eps, "eps", minimum=0.0, exclusive=True)
    check_real(rtol, "rtol", minimum=0.0, exclusive=True)
    _require_float64_array(x, "x")
    if x.size == 0:
        raise ValueError("x is empty: there is nothing to check.")
    gradient = grad(x.copy())
    _require_float64_array(gradient, "The gradient")
    if gradient.shape != x.shape:
        raise ValueError(f"The gradient must have the shape of x, {x.shape}; got {gradient.shape}.")
    for bad in np.argwhere(~np.isfinite(gradient)):
        where = tuple(int(i) for i in bad)
        value = float(gradient[where])
        raise GradientError(f"The gradient is {value} at index {where}.", where, value)

    directions: Iterator[tuple[tuple[int, ...] | int, Array]]
    if n_directions is None:
        directions = _coordinates(x.shape)
    else:
        check_int(n_directions, "n_directions")
        directions = _random_directions(x.shape, n_directions, 0 if rng is None else rng)

    worst, failure = 0.0, None
    for place, direction in directions:
        label = f"index {place}" if n_directions is None else f"direction {place}"
        analytic = float(np.vdot(gradient, direction))
        numeric, noise = _derivative_along(f, x, direction, eps)
        if not np.isfinite(numeric):
            message = f"f is not finite within {2 * eps:g} of x at {label}."
            raise GradientError(message, place, analytic, numeric)
        difference = abs(analytic - numeric)
        scale = max(abs(analytic), abs(numeric), noise / rtol)
        error = difference / scale if difference else 0.0
        if error > worst:
            worst = error
            message = (
                f"The gradient is wrong at {label}: analytic {analytic:.10g}, "
                f"numeric {numeric:.10g}, relative error {error:.3g} (allowed: {rtol:g})."
            )
            failure = GradientError(message, place, analytic, numeric, error)
    if failure is not None and worst > rtol:
        raise failure
    return worst


def _require_float64_array(value: Any, name: str) -> None:
    if not isinstance(value, np.ndarray) or value.dtype != np.float64:
        what = f"dtype {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(
            f"{name} must be a float64 array: in less precision differences say nothing "
            f"about a gradient; got {what}."
        )


def _coordinates(shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Array]]:
    for index in np.ndindex(shape):
        direction = np.zeros(shape)
        direction[index] = 1.0
        yield index, direction


def _random_directions(
    shape: tuple[int, ...], count: int, rng: np.random.Generator | int
) -> Iterator[tuple[int, Array]]:
    rng = np.random.default_rng(rng)
    for number in range(count):
        direction = rng.standard_normal(shape)
        yield number, direction / np.sqrt(np.sum(direction**2))


def _derivative_along(
    f: Callable[[Array], Any], x: Array, direction: Array, h: float
) -> tuple[float, float]:
    """Return the derivative of ``f`` along a direction, and the rounding noise in it."""
    values = []
    for k in (-2, -1, 1, 2):
        value = f(x + k * h * direction)
        if getattr(value, "dtype", np.float64) != np.float64:
            raise TypeError(f"f must return a float64 number; got dtype {value.dtype}.")
        values.append(float(value))
    far_left, left, right, far_right = values
    numeric = (8 * (right - left) - (far_right - far_left)) / (12 * h)
    noise = 10 * np.finfo(np.float64).eps * max(map(abs, values)) / h
    return numeric, noise
