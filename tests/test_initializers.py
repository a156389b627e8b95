"""Initial weights: the moments each initializer promises, and what functions may return."""

import math

import numpy as np
import pytest

import dnncore as dnn
from dnncore import _kernels
from dnncore.initializers import INITIALIZERS, default_initializer, initialize

FANS = [(150, 100), (40, 300), (300, 40)]
VARIANCE = {
    "glorot": lambda n_in, n_out: 2 / (n_in + n_out),
    "he": lambda n_in, n_out: 2 / n_in,
    "lecun": lambda n_in, n_out: 1 / n_in,
}


def draw(name, n_in, n_out, seed=0):
    return initialize(name, np.random.default_rng(seed), n_in, n_out)


def test_all_are_covered_below():
    scaled = {f"{kind}_{shape}" for kind in VARIANCE for shape in ("uniform", "normal")}
    assert scaled | {"orthogonal", "zeros"} == set(INITIALIZERS)


@pytest.mark.parametrize(("n_in", "n_out"), FANS)
@pytest.mark.parametrize("shape", ["uniform", "normal"])
@pytest.mark.parametrize("kind", VARIANCE)
def test_mean_variance_and_shape(kind, shape, n_in, n_out):
    weights = draw(f"{kind}_{shape}", n_in, n_out)
    variance, n = VARIANCE[kind](n_in, n_out), n_in * n_out
    assert weights.shape == (n_in, n_out)
    # Five standard errors each; var(s^2) = (kurtosis - 1) sigma^4 / n.
    kurtosis = 9 / 5 if shape == "uniform" else 3
    assert abs(weights.mean()) < 5 * math.sqrt(variance / n)
    assert abs(weights.var() / variance - 1) < 5 * math.sqrt((kurtosis - 1) / n)
    fourth = np.mean(weights**4) / variance**2
    assert fourth == pytest.approx(kurtosis, rel=0.1)
    if shape == "uniform":
        bound = math.sqrt(3 * variance)
        assert bound * 0.99 < np.abs(weights).max() <= bound


@pytest.mark.parametrize(("n_in", "n_out"), [*FANS, (30, 30), (1, 1), (1, 5), (5, 1)])
def test_orthogonal(n_in, n_out):
    weights = draw("orthogonal", n_in, n_out)
    smaller = weights.T @ weights if n_in >= n_out else weights @ weights.T
    np.testing.assert_allclose(smaller, np.eye(min(n_in, n_out)), atol=1e-12)


def test_orthogonal_favours_no_direction():
    # The trace of a random orthogonal matrix has mean 0 and variance 1.
    traces = [np.trace(draw("orthogonal", 4, 4, seed)) for seed in range(2000)]
    assert abs(np.mean(traces)) < 5 / math.sqrt(2000)
    assert np.var(traces) == pytest.approx(1, abs=0.2)


def test_zeros():
    assert not draw("zeros", 3, 4).any()
    assert draw("zeros", 3, 4).shape == (3, 4)


@pytest.mark.parametrize("name", sorted(set(INITIALIZERS) - {"zeros"}))
def test_the_generator_decides(name):
    np.testing.assert_array_equal(draw(name, 20, 30, 1), draw(name, 20, 30, 1))
    assert (draw(name, 20, 30, 1) != draw(name, 20, 30, 2)).any()


def test_defaults():
    found = {name: default_initializer(name) for name in _kernels.ACTIVATIONS}
    assert found["relu"] == found["gelu"] == found["silu"] == "he_normal"
    assert found["selu"] == "lecun_normal"
    assert found["identity"] == found["tanh"] == found["sigmoid"] == "glorot_uniform"
    assert set(found.values()) <= set(INITIALIZERS)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_networks_use_them(dtype):
    layers = [
        dnn.Dense(120, "relu"),
        dnn.Dropout(0.5),
        dnn.Dense(60, weight_initializer="orthogonal"),
        dnn.Dense(30, weight_initializer=lambda rng, n_in, n_out: np.full((n_in, n_out), 0.25)),
        dnn.Dense(10, weight_initializer="zeros"),
    ]
    net = dnn.Network(200, layers, dtype=dtype)
    first, second, third, last = net.weights
    assert first.var() == pytest.approx(2 / 200, rel=0.05)
    np.testing.assert_allclose(second.T @ second, np.eye(60), atol=1e-5)
    assert (third == 0.25).all() and not last.any()
    assert not any(b.any() for b in net.biases)
    other = net.copy()
    other.params[:] = 1
    np.testing.assert_array_equal(other.initialize().params, net.params)


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (np.zeros((3, 2)), ValueError, r"shape \(2, 3\); got shape \(3, 2\)"),
        (0.0, ValueError, r"shape \(2, 3\); got shape \(\)"),
        (np.full((2, 3), np.nan), ValueError, "weight_initializer contains NaN"),
        (np.full((2, 3), 1e300), ValueError, "too large for float32"),
        (np.full((2, 3), 1j), TypeError, "Complex"),
        (np.full((2, 3), "a"), TypeError, "real numbers"),
        (None, ValueError, "shape"),
    ],
)
def test_functions_that_return_something_else(returned, error, message):
    layer = dnn.Dense(3, weight_initializer=lambda rng, n_in, n_out: returned)
    with pytest.raises(error, match=message):
        dnn.Network(2, [layer])


@pytest.mark.parametrize("name", ["unknown", "", 3, ["zeros"]])
def test_unknown_names(name):
    with pytest.raises(ValueError, match="must be one of 'glorot_uniform'"):
        dnn.Dense(3, weight_initializer=name)
    with pytest.raises(ValueError, match="must be one of"):
        initialize(name, np.random.default_rng(0), 2, 3)
