"""The arithmetic of L-BFGS, against SciPy's and the formulas of BFGS with whole matrices."""

import numpy as np
import pytest
from scipy.optimize import minimize, rosen, rosen_der

from dnncore._quasi_newton import CURVATURE, DECREASE, Pair, Point, advance, begin, direction


class Counted:
    """A function that keeps where it was asked for."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, x):
        self.calls += 1
        return self.function(x)


def rosenbrock(x):
    return float(rosen(x)), rosen_der(x)


def bowl(x):
    scale = np.logspace(0, 3, x.size)
    return float(0.5 * scale @ (x - 1) ** 2), scale * (x - 1)


def logistic(x):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((60, x.size)) * np.logspace(0, -1, x.size)
    signs = np.where(rng.random(60) < 0.7, 1, -1)
    z = signs * (A @ x)
    value = np.logaddexp(0, -z).sum() + 0.05 * x @ x
    return float(value), -A.T @ (signs / (1 + np.exp(z))) + 0.1 * x


def run(function, start, iterations=1000, history=10, tol=1e-6, rtol=0.0):
    at = begin(function, np.asarray(start, float), tol=tol)
    while not at.ended and at.iterations < iterations:
        at = advance(function, at, history=history, tol=tol, rtol=rtol)
    return at


@pytest.mark.parametrize("history", [1, 3, 10])
@pytest.mark.parametrize("function", [rosenbrock, bowl, logistic])
@pytest.mark.parametrize("size", [2, 20])
def test_as_good_as_scipy(function, size, history):
    start = np.random.default_rng(size).uniform(-1, 1, size)
    ours, theirs = Counted(function), Counted(function)
    found = run(ours, start, history=history)
    expected = minimize(
        theirs, start, jac=True, method="L-BFGS-B",
        options={"maxcor": history, "gtol": 1e-6, "ftol": 0, "maxiter": 1000, "maxfun": 10_000},
    )  # fmt: skip
    assert found.ended and np.abs(found.gradient).max() <= 1e-6
    assert found.value <= expected.fun + 1e-9 * max(1, abs(expected.fun))
    assert ours.calls <= 1.35 * theirs.calls + 10


def test_direction_as_with_whole_matrices():
    rng = np.random.default_rng(1)
    hessian = np.cov(rng.standard_normal((6, 30))) + np.eye(6)
    pairs = [Pair(s, hessian @ s) for s in rng.standard_normal((4, 6))]
    newest = pairs[-1]
    inverse = np.eye(6) * (newest.step @ newest.change) / (newest.change @ newest.change)
    for s, y in pairs:  # Nocedal and Wright, Numerical Optimization, (6.17)
        left = np.eye(6) - np.outer(s, y) / (s @ y)
        inverse = left @ inverse @ left.T + np.outer(s, s) / (s @ y)
    gradient = rng.standard_normal(6)
    np.testing.assert_allclose(direction(gradient, pairs), -inverse @ gradient, rtol=1e-12)
    assert np.linalg.norm(direction(gradient)) == pytest.approx(1)


def test_each_step_meets_the_conditions_of_wolfe():
    at = begin(rosenbrock, np.array([-1.2, 1.0, -0.5]), tol=1e-8)
    tried = 0
    while not at.ended:
        function = Counted(rosenbrock)
        new = advance(function, at, history=5, tol=1e-8, rtol=0.0)
        step = new.pairs[-1].step
        assert new.value <= at.value + DECREASE * (at.gradient @ step)
        assert new.gradient @ step >= CURVATURE * (at.gradient @ step)
        np.testing.assert_array_equal(new.x, at.x + step)
        tried = max(tried, function.calls)
        at = new
    assert tried > 1  # the first length was not always good


def test_kinks():
    found = run(
        lambda x: (float(np.abs(x).sum() + x @ x), np.sign(x) + 2 * x), [3.0, -1.0, 0.4], rtol=1e-12
    )
    assert found.ended
    np.testing.assert_allclose(found.x, 0, atol=1e-6)


@pytest.mark.parametrize("outside", [np.inf, np.nan])
def test_values_that_are_not_finite_are_too_far(outside):
    def barrier(x):
        if (x <= 0).any():
            return outside, np.full_like(x, np.nan)
        return float((x - np.log(x)).sum()), 1 - 1 / x

    found = run(barrier, [0.01, 40.0])
    np.testing.assert_allclose(found.x, 1, atol=1e-6)


def test_it_ends_where_nothing_lowers_the_value():
    def uphill(x):
        return float(x @ x), -2 * x

    found = run(uphill, [1.0, 2.0])
    assert found.ended and found.iterations == 1
    np.testing.assert_array_equal(found.x, [1.0, 2.0])
    nowhere = run(bowl, np.ones(3))
    assert nowhere.ended and nowhere.iterations == 0


def test_pairs_that_no_longer_help_are_forgotten():
    start = begin(bowl, np.array([5.0, 5.0]), tol=0)
    wrong = Pair(np.array([1.0, 0.0]), np.array([-1.0, 0.0]))
    found = advance(bowl, Point(start.x, start.value, start.gradient, (wrong,)), **SETTINGS)
    assert found.value < start.value and len(found.pairs) == 1 and not found.ended


SETTINGS = {"history": 5, "tol": 0.0, "rtol": 0.0}


def test_numbers_that_underflow():
    def low(x, scale):
        return scale * float(x @ x), 2 * scale * x

    at = run(lambda x: low(x, 5e-163), [3.0], iterations=1, tol=0)
    assert at.pairs == () and at.value < 9 * 5e-163 and not at.ended
    at = run(lambda x: low(x, 1e-170), [3.0], tol=0)
    assert at.ended and at.iterations == 0


def test_it_goes_on_from_its_state():
    start = np.array([-1.2, 1.0, 0.3, 2.0])
    whole = run(rosenbrock, start)
    for stop in range(whole.iterations + 1):
        at = Point.of(run(rosenbrock, start, iterations=stop).state(), 4)
        while not at.ended:
            at = advance(rosenbrock, at, history=10, tol=1e-6, rtol=0.0)
        np.testing.assert_array_equal(at.x, whole.x)
        assert at.iterations == whole.iterations


@pytest.mark.parametrize(
    "change",
    [
        {"arrays": []},
        {"arrays": [np.ones(3), np.ones(3)]},
        {"arrays": [np.ones(2), np.ones(2), np.ones(2)]},
        {"arrays": [np.ones(2), np.ones(2), np.ones(2), -np.ones(2)]},
        {"arrays": [np.ones(2), np.full(2, np.nan)]},
        {"arrays": [np.ones(2, "float32"), np.ones(2)]},
        {"value": np.inf},
        {"iterations": -1},
        {"ended": 1},
    ],
)
def test_malformed_states(change):
    state = Point(np.ones(2), 1.0, np.ones(2), (Pair(np.ones(2), np.ones(2)),)).state()
    Point.of(state, 2)
    with pytest.raises((TypeError, ValueError)):
        Point.of(state | change, 2)
