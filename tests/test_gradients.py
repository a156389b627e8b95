"""Network.forward and backward against finite differences and against the training loop's own."""

import numpy as np
import pytest

import dnncore as dnn
from dnncore import _kernels
from dnncore import reference as ref
from dnncore.gradcheck import GradientError, check_gradient

KINKS = np.array([-3.0, -1.0, 0.0, 1.0, 3.0])  # of any activation, and of mae and huber
N_OUT = {"binary_cross_entropy": 1, "mae": 2, "poisson": 2, "hinge": 1}


PAIRS = [  # each activation with some losses, each loss with some activations
    (activation, loss)
    for activation in ref.ACTIVATIONS
    for loss in ref.LOSSES
    if activation in ("relu", "gelu") or loss in ("mse", "softmax_cross_entropy", "huber")
]


def targets(loss, rng, rows, n_out):
    if loss.startswith("softmax"):
        return rng.integers(n_out, size=rows)
    if loss.startswith("binary") or "hinge" in loss:
        return rng.integers(2, size=(rows, n_out)).astype(float)
    if loss in ("poisson", "tweedie"):
        return rng.poisson(2.0, size=(rows, n_out)).astype(float)
    if loss == "gamma":
        return rng.uniform(0.5, 3.0, (rows, n_out))
    return rng.standard_normal((rows, n_out))


def clear_of_kinks(net, X, y, margin=0.01):
    """Whether no pre-activation, and no residual, is near a kink: differences would see it."""
    a, distances = X, []
    biases = iter(net.biases)
    for w, layer in zip(net.weights, net.layers, strict=True):
        b = next(biases) if layer.use_bias else np.zeros(layer.units)
        a, z = ref.linear_forward(a, w, b, layer.activation)
        distances.append(z)
    if y.shape == a.shape:
        distances.append(a - y)
    flat = np.concatenate([d.ravel() for d in distances])
    return np.abs(flat[:, np.newaxis] - KINKS).min() > margin


def problem(layers, loss, *, rows=5, n_in=3, check_kinks=True):
    """A network with random parameters, inputs and targets, away from every kink."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        net = dnn.Network(n_in, layers, loss=loss, dtype="float64", seed=seed)
        net.params[:] = rng.standard_normal(net.n_params) * 0.7
        X = rng.standard_normal((rows, n_in))
        y = targets(loss, rng, rows, net.n_out)
        if not check_kinks or clear_of_kinks(net, X, y):
            return net, X, y
    raise AssertionError("every seed has a value near a kink")


def check(net, X, y, *, n_directions=None, loss=None):
    """Check the gradients by parameters and inputs together; returns the relative error."""
    loss = loss or net.loss.name
    n = net.n_params
    step = net.copy()  # whose masks, if it has any, are those of the next forward

    def forward(p):
        copy = step.copy()
        copy.params[:] = p[:n]
        return copy, copy.forward(p[n:].reshape(X.shape))

    def value(p):
        return ref.loss(loss, forward(p)[1], y)[0]

    def gradient(p):
        copy, out = forward(p)
        dX = copy.backward(ref.loss(loss, out, y)[1])
        return np.concatenate([copy.grads, dX.ravel()])

    p = np.concatenate([net.params, X.ravel()])
    return check_gradient(value, gradient, p, n_directions=n_directions)


@pytest.mark.parametrize(("activation", "loss"), PAIRS)
def test_every_activation_with_every_loss(activation, loss):
    n_out = N_OUT.get(loss, 3)
    layers = [dnn.Dense(4, activation), dnn.Dense(3, activation), dnn.Dense(n_out)]
    net, X, y = problem(layers, loss, rows=4)
    check(net, X, y, n_directions=12)


@pytest.mark.parametrize("activation", ref.ACTIVATIONS)
def test_every_coordinate(activation):
    net, X, y = problem([dnn.Dense(4, activation), dnn.Dense(2)], "mse", rows=3)
    check(net, X, y)


@pytest.mark.parametrize("activation", ref.ACTIVATIONS)
def test_activation_on_the_last_layer(activation):
    net, X, y = problem([dnn.Dense(3), dnn.Dense(2, activation)], "mse", rows=3)
    check(net, X, y)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_layers_without_bias(activation):
    layers = [dnn.Dense(4, activation, use_bias=False), dnn.Dense(2, use_bias=False)]
    net, X, y = problem(layers, "mse")
    assert net.n_params == 3 * 4 + 4 * 2
    check(net, X, y)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_dropout_at_a_fixed_step(place):
    layers = [dnn.Dense(6, "tanh"), dnn.Dense(5, "silu"), dnn.Dense(2)]
    layers.insert(place, dnn.Dropout(0.4))
    net, X, y = problem(layers, "mse", check_kinks=False)
    assert (net.copy().forward(X) != net.predict(X)).any()  # something is dropped
    check(net, X, y)


def test_frozen_layer_passes_the_gradient_on_but_gets_none():
    frozen = [dnn.Dense(4, "tanh"), dnn.Dense(3, "tanh", trainable=False), dnn.Dense(2)]
    free = [dnn.Dense(4, "tanh"), dnn.Dense(3, "tanh"), dnn.Dense(2)]
    net, X, y = problem(frozen, "mse")
    other = dnn.Network(3, free, loss="mse", dtype="float64")
    other.params[:] = net.params
    results = []
    for n in (net, other):
        dX = n.backward(ref.loss("mse", n.forward(X), y)[1])
        results.append((dX, n.grads.copy()))
    (dX, grads), (dX_free, grads_free) = results
    in_frozen = slice(16, 16 + 15)  # 3 x 4 + 4 parameters before it
    assert (grads[in_frozen] == 0).all()
    assert (grads_free[in_frozen] != 0).all()
    grads_free[in_frozen] = 0
    np.testing.assert_array_equal(grads, grads_free)
    np.testing.assert_array_equal(dX, dX_free)


@pytest.mark.parametrize("path", ["own", "blas"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_many_tiles_on_both_paths(activation, path):
    # Several tiles of rows, and of each layer's weights; none of the sizes divides into them.
    layers = [dnn.Dense(301, activation), dnn.Dense(307, "tanh"), dnn.Dense(2)]
    net, X, y = problem(layers, "mse", rows=517, n_in=211, check_kinks=False)
    net.params[:] *= 0.1
    if activation == "relu":  # smooth where it is looked at: every unit is on, or off, for good
        net.biases[0][:] = np.where(np.arange(301) % 2, 30.0, -30.0)
        z = X @ net.weights[0] + net.biases[0]
        assert np.abs(z).min() > 1
    _kernels._force_matmul_path(path)
    try:
        assert check(net, X, y, n_directions=2) < 1e-6
    finally:
        _kernels._force_matmul_path(None)


@pytest.mark.parametrize("scale", [1 + 1e-5, 1 - 1e-5, -1.0])
def test_checker_sees_a_wrong_gradient(scale, monkeypatch):
    net, X, y = problem([dnn.Dense(4, "tanh"), dnn.Dense(2)], "mse")
    backward = dnn.Network.backward

    def wrong(self, d_out):
        dX = backward(self, d_out)
        self.grads[7] *= scale
        return dX

    monkeypatch.setattr(dnn.Network, "backward", wrong)
    with pytest.raises(GradientError, match=r"index \(7,\)"):
        check(net, X, y)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("activation", "loss"), PAIRS)
def test_the_training_loop_has_the_same_gradient(activation, loss, weighted):
    # Gradient descent with step size 1 subtracts the gradient.
    layers = [dnn.Dense(19, activation), dnn.Dropout(0.3), dnn.Dense(N_OUT.get(loss, 3))]
    net, X, y = problem(layers, loss, rows=37, n_in=11, check_kinks=False)
    weight = np.linspace(0.5, 2, 37) if weighted else None
    own = net.copy()
    value, d_out = ref.loss(loss, own.forward(X), y, weight)
    own.backward(d_out)
    before = net.params.copy()
    loss = net.train_step(X, y, dnn.SGD(1.0), sample_weight=weight)
    assert loss == pytest.approx(value, rel=1e-12)
    largest = np.abs(own.grads).max()
    assert largest > 1e-4
    np.testing.assert_allclose(before - net.params, own.grads, rtol=0, atol=1e-14 * (1 + largest))


@pytest.mark.parametrize("rows", [1, 2, 63, 64, 65, 129, 300, 517])
@pytest.mark.parametrize("n_out", [1, 2, 33])
def test_the_training_loop_has_the_same_gradient_in_many_tiles(rows, n_out):
    layers = [dnn.Dense(310, "relu"), dnn.Dense(230, "relu"), dnn.Dense(n_out)]
    rng = np.random.default_rng(0)
    net = dnn.Network(240, layers, loss="mse", dtype="float64")
    X, y = rng.standard_normal((rows, 240)), rng.standard_normal((rows, n_out))
    own = net.copy()
    value, d_out = ref.loss("mse", own.forward(X), y)
    own.backward(d_out)
    before = net.params.copy()
    assert net.train_step(X, y, dnn.SGD(1.0)) == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(before - net.params, own.grads, rtol=1e-9, atol=1e-13)


def test_loop_of_ones_own_is_training():
    # forward, loss, backward, step: the same as train_step, with masks and moments.
    layers = [dnn.Dense(16, "relu"), dnn.Dropout(0.5), dnn.Dense(1)]
    net = dnn.Network(4, layers, loss="mse", dtype="float64", seed=3)
    own, rng, adam = net.copy(), np.random.default_rng(0), dnn.AdamW(0.01, l2=0.01)
    for _ in range(30):
        X, y = rng.standard_normal((8, 4)), rng.standard_normal((8, 1))
        loss = net.train_step(X, y, adam)
        value, d_out = ref.loss("mse", own.forward(X), y)
        own.backward(d_out)
        own.step(adam)
        assert value == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(own.params, net.params, rtol=1e-10)


def test_backward_twice_and_with_another_loss():
    net, X, y = problem([dnn.Dense(4, "relu"), dnn.Dense(2)], "mse")
    out = net.forward(X)
    first = net.backward(np.ones_like(out)), net.grads.copy()
    net.backward(out)
    second = net.backward(np.ones_like(out)), net.grads.copy()
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    check(net, X, y, loss="huber", n_directions=5)
