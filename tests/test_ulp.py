"""exp, tanh, erf, sigmoid and softplus: at most 4 ULP off, over the whole range.

The exact values come from extended precision, on paths of their own; where the platform has none
(long double is double) the float64 cases allow for the error of the reference as well.
"""

import math

import numpy as np
import pytest

from dnncore import kernels

LONG = np.longdouble
EXTENDED = np.finfo(LONG).eps < 1e-18
BOUND = 4
DTYPES = [np.float32, np.float64]
# Beyond these arguments exp is 0 or infinity.
EDGES = {np.float32: (-104.0, 88.8), np.float64: (-745.2, 709.8)}


def erf(x):
    """2/sqrt(pi) exp(-x^2) sum of 2^n x^(2n+1) / (2n+1)!!: positive terms only, no cancellation."""
    t = np.minimum(np.abs(x), LONG(6.6))  # where 1 - erf is 1e-20
    term = t.copy()
    total = t.copy()
    for n in range(1, 140):
        term *= 2 * t * t / (2 * n + 1)
        total += term
    root = np.sqrt(np.arctan(LONG(1)))  # sqrt(pi) / 2
    return np.copysign(total * np.exp(-t * t) / root, x)


EXACT = {
    "exp": np.exp,
    "tanh": np.tanh,
    "erf": erf,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
}


def ulps(got, exact, dtype):
    """Return the distance from the exact value in units of the last place of its rounding."""
    rounded = exact.astype(dtype)
    unit = np.spacing(np.minimum(np.abs(rounded), np.finfo(dtype).max))
    error = np.abs(got.astype(LONG) - exact) / unit
    return np.where(got == rounded, np.fmin(error, 0.5), error).astype(np.float64)


def grid(dtype):
    """Return the whole range evenly, the middle densely, and every size down to the subnormals."""
    low, high = EDGES[dtype]
    tiny = math.log10(np.finfo(dtype).smallest_subnormal) + 0.5
    sizes = np.logspace(tiny, math.log10(-low), 10_000)
    parts = [
        np.linspace(1.1 * low, 1.1 * high, 50_000),
        np.linspace(-10, 10, 60_000),
        np.linspace(-1.3, 1.3, 30_000),
        sizes,
        -sizes,
    ]
    return np.concatenate(parts).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EXACT)
def test_at_most_4_ulp(name, dtype):
    x = grid(dtype)
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(LONG))
        error = ulps(getattr(kernels, name)(x), exact, dtype)
    bound = BOUND if EXTENDED or dtype == np.float32 else BOUND + 2
    worst = np.argmax(error)  # NaN would be the largest of all
    assert error[worst] <= bound, f"{error[worst]:.2f} ULP at {x[worst]!r}"


def test_the_reference_is_exact_where_values_are_known():
    # erf(1/2), erf(1), erf(3): Abramowitz and Stegun, table 7.1
    known = {0.5: 0.5204998778, 1.0: 0.8427007929, 3.0: 0.9999779095}
    for x, value in known.items():
        assert abs(float(erf(np.array([x], LONG))[0]) - value) < 6e-11
    # A checker that cannot fail proves nothing: one ULP more is seen.
    x = np.array([0.3, 1.7])
    assert (ulps(np.nextafter(np.exp(x), 9), np.exp(x.astype(LONG)), np.float64) >= 0.5).all()
    assert (ulps(np.exp(x) * (1 + 2e-15), np.exp(x.astype(LONG)), np.float64) > BOUND).all()


@pytest.mark.parametrize("dtype", DTYPES)
class TestCorners:
    def test_special_arguments(self, dtype):
        x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan], dtype)
        nan = np.nan
        expected = {
            "exp": [1, 1, np.inf, 0, nan],
            "tanh": [0.0, -0.0, 1, -1, nan],
            "erf": [0.0, -0.0, 1, -1, nan],
            "sigmoid": [0.5, 0.5, 1, 0, nan],
            "softplus": [math.log(2), math.log(2), np.inf, 0, nan],
        }
        for name, values in expected.items():
            y = getattr(kernels, name)(x)
            np.testing.assert_allclose(y, np.array(values), rtol=np.finfo(dtype).eps, err_msg=name)
            np.testing.assert_array_equal(np.signbit(y[:4]), np.signbit(values[:4]))

    def test_saturation(self, dtype):
        big = np.finfo(dtype).max
        x = np.array([1e4, 1e30, big], dtype)
        one, zero, infinite = np.ones(3), np.zeros(3), np.full(3, np.inf)
        for name, right, left in [
            ("exp", infinite, zero),
            ("tanh", one, -one),
            ("erf", one, -one),
            ("sigmoid", one, zero),
            ("softplus", x, zero),
        ]:
            function = getattr(kernels, name)
            np.testing.assert_array_equal(function(x), right, err_msg=name)
            np.testing.assert_array_equal(function(-x), left, err_msg=name)

    def test_never_outside_the_range_of_the_function(self, dtype):
        x = grid(dtype)
        for name, low, high in [("tanh", -1, 1), ("erf", -1, 1), ("sigmoid", 0, 1)]:
            y = getattr(kernels, name)(x)
            assert y.min() >= low
            assert y.max() <= high
        assert (kernels.softplus(x) >= np.maximum(x, 0)).all()

    def test_subnormal_results(self, dtype):
        limits = np.finfo(dtype)
        smallest = math.log(limits.smallest_subnormal)
        x = np.linspace(smallest + 0.1, math.log(limits.tiny) - 0.1, 5000).astype(dtype)
        for name in ("exp", "sigmoid", "softplus"):
            y = getattr(kernels, name)(x)
            assert (y > 0).all(), name
            assert (y < limits.tiny).all(), name
        # Small arguments of odd functions: neither lost nor moved by more than the bound.
        steps = np.unique(np.logspace(0, 5, 40).astype(int))
        x = np.array(limits.smallest_subnormal * steps, dtype)
        np.testing.assert_array_equal(kernels.tanh(x), x)
        y = kernels.erf(x).astype(LONG)
        exact = x.astype(LONG) / np.sqrt(np.arctan(LONG(1)))
        assert (np.abs(y - exact) <= BOUND * limits.smallest_subnormal).all()

    def test_odd_functions_are_odd_to_the_bit(self, dtype):
        x = grid(dtype)
        for name in ("tanh", "erf"):
            function = getattr(kernels, name)
            np.testing.assert_array_equal(function(-x), -function(x))

    def test_signalling_neighbours_of_nan_do_not_matter(self, dtype):
        x = grid(dtype)[:1000].copy()
        clean = {name: getattr(kernels, name)(x) for name in EXACT}
        x[::7] = np.nan
        kept = ~np.isnan(x)
        for name, values in clean.items():
            y = getattr(kernels, name)(x)
            assert np.isnan(y[::7]).all()
            np.testing.assert_array_equal(y[kept], values[kept])
