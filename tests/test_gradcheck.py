"""The gradient checker: it passes right gradients and, above all, fails wrong ones."""

import pickle

import numpy as np
import pytest

from dnncore.gradcheck import GradientError, check_gradient

MODES = [
    pytest.param({}, id="coordinates"),
    pytest.param({"n_directions": 3}, id="directions"),
]


def sum_of_squares(x):
    return np.sum(x**2)


@pytest.fixture
def x():
    return np.random.default_rng(0).uniform(0.5, 2.0, size=(3, 4))


@pytest.mark.parametrize("mode", MODES)
def test_right_gradient_passes_and_its_error_is_returned(mode, x):
    error = check_gradient(sum_of_squares, lambda x: 2 * x, x, **mode)
    assert 0 <= error < 1e-9


@pytest.mark.parametrize("mode", MODES)
def test_slightly_wrong_gradient_fails(mode, x):
    with pytest.raises(GradientError, match="The gradient is wrong at (index|direction)"):
        check_gradient(sum_of_squares, lambda x: 2.001 * x, x, **mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_verdict_does_not_depend_on_the_scale_of_f(mode, scale, x):
    check_gradient(lambda x: scale * sum_of_squares(x), lambda x: scale * 2 * x, x, **mode)
    with pytest.raises(GradientError):
        check_gradient(lambda x: scale * sum_of_squares(x), lambda x: scale * 2.001 * x, x, **mode)


@pytest.mark.parametrize("mode", MODES)
def test_missing_gradient_fails(mode, x):
    with pytest.raises(GradientError):
        check_gradient(sum_of_squares, np.zeros_like, x, **mode)


def test_error_names_the_worst_coordinate_with_both_derivatives(x):
    def wrong(x):
        gradient = 2 * x
        gradient[0, 1] *= 1.001
        gradient[2, 3] *= 2
        return gradient

    with pytest.raises(GradientError, match=r"at index \(2, 3\): analytic .*numeric ") as caught:
        check_gradient(sum_of_squares, wrong, x)
    error = caught.value
    assert isinstance(error, ValueError)
    assert not isinstance(error, AssertionError)
    assert error.where == (2, 3)
    assert error.analytic == pytest.approx(4 * x[2, 3])
    assert error.numeric == pytest.approx(2 * x[2, 3])
    assert error.relative_error == pytest.approx(0.5)  # |4 x - 2 x| / |4 x|


def test_error_names_the_direction(x):
    with pytest.raises(GradientError, match=r"at direction [012]: ") as caught:
        check_gradient(sum_of_squares, lambda x: 3 * x, x, n_directions=3)
    assert caught.value.where in range(3)


def test_error_survives_pickling(x):
    with pytest.raises(GradientError) as caught:
        check_gradient(sum_of_squares, lambda x: 3 * x, x)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    assert copy.where == caught.value.where
    assert copy.analytic == caught.value.analytic


@pytest.mark.parametrize(("rtol", "passes"), [pytest.param(1e-3, True), pytest.param(4e-4, False)])
def test_rtol_is_the_border(rtol, passes, x):
    # |2.001 x - 2 x| / |2.001 x| = 0.001 / 2.001, which is just under 5e-4.
    if passes:
        error = check_gradient(sum_of_squares, lambda x: 2.001 * x, x, rtol=rtol)
        assert error == pytest.approx(0.001 / 2.001)
    else:
        with pytest.raises(GradientError):
            check_gradient(sum_of_squares, lambda x: 2.001 * x, x, rtol=rtol)


def test_zero_gradient_of_a_constant_passes(x):
    assert check_gradient(lambda x: 1e6, np.zeros_like, x) == 0.0


def test_rounding_of_f_is_not_taken_for_a_derivative(x):
    def one(x):
        return np.prod(np.exp(x) * np.exp(-x))

    assert len({one(x + k * 1e-3) for k in range(9)}) > 1  # it does round
    check_gradient(one, np.zeros_like, x)


def test_small_gradient_under_a_large_value_is_not_lost_in_rounding(x):
    # The differences carry noise of about 2e-13; a gradient of 1e-6 is checked to that.
    check_gradient(lambda x: 1 + 1e-6 * np.sum(np.sin(x)), lambda x: 1e-6 * np.cos(x), x)
    with pytest.raises(GradientError):
        check_gradient(lambda x: 1 + 1e-6 * np.sum(np.sin(x)), lambda x: 1.001e-6 * np.cos(x), x)


def test_stencil_is_of_fourth_order():
    x = np.array([1.0])

    def error(eps):
        with pytest.raises(GradientError) as caught:
            check_gradient(lambda x: np.exp(x[0]), lambda x: np.exp(x), x, eps=eps, rtol=1e-9)
        return caught.value.relative_error

    assert error(0.2) / error(0.1) == pytest.approx(2**4, rel=0.05)


def test_kink_within_reach_is_reported():
    def gradient(x):
        return np.sign(x)

    check_gradient(lambda x: np.sum(np.abs(x)), gradient, np.array([0.01, -1.0]))
    with pytest.raises(GradientError, match=r"index \(0,\)"):
        check_gradient(lambda x: np.sum(np.abs(x)), gradient, np.array([0.0005, -1.0]))


def test_same_directions_each_time_unless_asked_otherwise(x):
    def directions(rng):
        points = []
        check_gradient(
            lambda x: points.append(x) or np.sum(x), np.ones_like, x, n_directions=2, rng=rng
        )
        return np.array(points)

    assert np.array_equal(directions(None), directions(None))
    assert not np.array_equal(directions(None), directions(1))
    assert np.array_equal(directions(1), directions(np.random.default_rng(1)))


def test_directions_are_unit_vectors(x):
    points = []
    check_gradient(
        lambda x: points.append(x) or np.sum(x), np.ones_like, x, n_directions=2, eps=0.25
    )
    steps = [np.linalg.norm(point - x) for point in points]
    assert steps == pytest.approx([0.5, 0.25, 0.25, 0.5] * 2)


def test_callables_that_write_into_their_argument_do_no_harm(x):
    def f(x):
        x *= x
        return x.sum()

    def gradient(x):
        x *= 2
        return x

    before = x.copy()
    check_gradient(f, gradient, x)
    assert np.array_equal(x, before)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("mode", MODES)
def test_non_finite_gradient_or_value_fails(bad, mode, x):
    def gradient(x):
        g = 2 * x
        g[1, 2] = bad
        return g

    with pytest.raises(GradientError, match=r"at index \(1, 2\)"):
        check_gradient(sum_of_squares, gradient, x, **mode)
    with pytest.raises(GradientError, match="f is not finite"):
        check_gradient(lambda x: bad, lambda x: 2 * x, x, **mode)


@pytest.mark.parametrize(
    ("f", "grad", "x"),
    [
        pytest.param(np.sum, np.ones_like, np.ones(3, np.float32), id="x"),
        pytest.param(np.sum, lambda x: np.ones(3, np.float32), np.ones(3), id="gradient"),
        pytest.param(lambda x: np.float32(x.sum()), np.ones_like, np.ones(3), id="value"),
    ],
)
def test_float32_is_refused(f, grad, x):
    with pytest.raises(TypeError, match=r"float64.*float32"):
        check_gradient(f, grad, x)


def test_other_bad_arguments_are_refused():
    x = np.ones(3)
    with pytest.raises(TypeError, match="x must be a float64 array.*list"):
        check_gradient(np.sum, np.ones_like, [1.0, 2.0])
    with pytest.raises(ValueError, match=r"shape of x, \(3,\); got \(2,\)"):
        check_gradient(np.sum, lambda x: np.ones(2), x)
    with pytest.raises(ValueError, match="x is empty"):
        check_gradient(np.sum, np.ones_like, np.ones((0, 3)))
    with pytest.raises(ValueError, match="n_directions must be at least 1"):
        check_gradient(np.sum, np.ones_like, x, n_directions=0)
    with pytest.raises(ValueError, match="eps must be greater than 0"):
        check_gradient(np.sum, np.ones_like, x, eps=0.0)
    with pytest.raises(ValueError, match="rtol must be greater than 0"):
        check_gradient(np.sum, np.ones_like, x, rtol=0.0)
