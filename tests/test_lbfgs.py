"""L-BFGS through ``fit``, against SciPy on the NumPy twin."""

import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

import dnncore as dnn
from dnncore import reference as ref
from dnncore.exceptions import DivergenceError


def examples():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3))
    return X, np.stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]], axis=1), rng.uniform(0.5, 2, 60)


def network(dtype="float64", loss="mse", **options):
    layers = [dnn.Dense(8, "tanh", **options), dnn.Dense(2)]
    return dnn.Network(3, layers, loss=loss, dtype=dtype, seed=1)


def test_as_scipy_on_the_twin():
    X, y, weight = examples()
    net = network(l2=0.02)
    shapes = [p.shape for _, p in net.named_parameters()]
    ends = np.cumsum([np.prod(s) for s in shapes])[:-1]

    def loss(flat):
        w1, b1, w2, b2 = (p.reshape(s) for p, s in zip(np.split(flat, ends), shapes, strict=True))
        a, z1 = ref.linear_forward(X, w1, b1, "tanh")
        out, z2 = ref.linear_forward(a, w2, b2)
        value, d = ref.loss("mse", out, y, weight)
        da, g2, h2 = ref.linear_backward(d, a, w2, z2, out)
        _, g1, h1 = ref.linear_backward(da, X, w1, z1, a, "tanh")
        value += 0.5 * (0.03 * np.sum(w1**2) + 0.01 * np.sum(w2**2))
        return value, np.concatenate([p.ravel() for p in (g1 + 0.03 * w1, h1, g2 + 0.01 * w2, h2)])

    expected = scipy.optimize.minimize(
        loss, net.params.copy(), jac=True, method="L-BFGS-B",
        options={"maxiter": 15, "maxcor": 10, "ftol": 2e-9, "gtol": 1e-5},
    )  # fmt: skip
    history = net.fit(X, y, sample_weight=weight, optimizer=dnn.LBFGS(max_iter=15, l2=0.01))
    np.testing.assert_allclose(net.params, expected.x, rtol=1e-5, atol=1e-7)
    losses = history.history["loss"]
    assert len(losses) == 15
    assert losses[-1] == pytest.approx(net.evaluate(X, y, sample_weight=weight)["loss"], rel=1e-9)
    assert losses[-1] < losses[0] / 1.5


def test_normalisation_and_residual_blocks_as_scipy_on_the_twin():
    X, y, _ = examples()
    layers = [
        dnn.Dense(6), dnn.BatchNorm(eps=1e-3), dnn.Activation("tanh"),
        dnn.Residual([dnn.LayerNorm(eps=1e-3), dnn.Dense(6, "tanh")]), dnn.RMSNorm(eps=1e-3),
        dnn.Dense(2),
    ]  # fmt: skip
    net = dnn.Network(3, layers, loss="mse", dtype="float64", seed=1)
    named = net.named_parameters()
    shapes = [p.shape for name, p in named if "running" not in name]
    start = np.concatenate([p.ravel() for name, p in named if "running" not in name])
    ends = np.cumsum([np.prod(s) for s in shapes])[:-1]

    def loss(flat, statistics=False):
        parts = [p.reshape(s) for p, s in zip(np.split(flat, ends), shapes, strict=True)]
        w1, b1, g1, h1, g2, h2, w2, b2, g3, w3, b3 = parts
        z1, _ = ref.linear_forward(X, w1, b1)
        n1, f1, mean, variance = ref.batch_norm(z1, 1e-3)
        if statistics:
            return mean, variance * len(X) / (len(X) - 1)
        a1 = np.tanh(n1 * g1 + h1)
        n2, f2 = ref.layer_norm(a1, 1e-3)
        a2, z2 = ref.linear_forward(n2 * g2 + h2, w2, b2, "tanh")
        total = a1 + a2
        n3, f3 = ref.layer_norm(total, 1e-3, centred=False)
        out, z3 = ref.linear_forward(n3 * g3, w3, b3)
        value, d = ref.loss("mse", out, y)
        d, dw3, db3 = ref.linear_backward(d, n3 * g3, w3, z3, out)
        d_total = ref.norm_backward(d * g3, n3, f3, 1, centred=False)
        dg3 = (d * n3).sum(0)
        d, dw2, db2 = ref.linear_backward(d_total, n2 * g2 + h2, w2, z2, a2, "tanh")
        d_a1 = d_total + ref.norm_backward(d * g2, n2, f2, 1)
        d1 = d_a1 * (1 - a1**2)
        d_z1 = ref.norm_backward(d1 * g1, n1, f1, 0)
        _, dw1, db1 = ref.linear_backward(d_z1, X, w1, z1, z1)
        found = [dw1, db1, (d1 * n1).sum(0), d1.sum(0), (d * n2).sum(0), d.sum(0), dw2, db2]
        return value, np.concatenate([p.ravel() for p in (*found, dg3, dw3, db3)])

    assert scipy.optimize.check_grad(lambda p: loss(p)[0], lambda p: loss(p)[1], start) < 1e-5
    expected = scipy.optimize.minimize(
        loss, start, jac=True, method="L-BFGS-B",
        options={"maxiter": 6, "maxcor": 10, "ftol": 2e-9, "gtol": 1e-5},
    )  # fmt: skip
    assert expected.nfev == 7  # the first length was good, so the methods are the same
    net.fit(X, y, optimizer=dnn.LBFGS(max_iter=6))
    named = net.named_parameters()
    ours = np.concatenate([p.ravel() for name, p in named if "running" not in name])
    np.testing.assert_allclose(ours, expected.x, rtol=1e-9, atol=1e-12)
    running = [p for name, p in named if "running" in name]
    for found, exact in zip(running, loss(ours, statistics=True), strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("load", [load_breast_cancer, load_diabetes, load_iris])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_as_good_as_scikit_learn(load, activation, dtype):
    """SciPy's L-BFGS-B, on the same loss, from the same weights."""
    X, y = load(return_X_y=True)
    X = (X - X.mean(0)) / X.std(0)
    classes = len(np.unique(y)) if load is not load_diabetes else 1
    y = y if classes > 1 else (y - y.mean()) / y.std()
    kind = MLPClassifier if classes > 1 else MLPRegressor
    ours, theirs = [], []
    for seed in range(3):
        layers = [dnn.Dense(12, activation), dnn.Dense(classes if classes > 2 else 1)]
        loss = {1: "mse", 2: "binary_cross_entropy"}.get(classes, "softmax_cross_entropy")
        net = dnn.Network(X.shape[1], layers, loss=loss, dtype=dtype, seed=seed)
        peer = kind(
            hidden_layer_sizes=12,
            activation=activation,
            alpha=0.01 * len(X),
            max_iter=1,
            solver="lbfgs",
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            peer.fit(X, y)  # for its attributes
            peer.set_params(max_iter=60, warm_start=True, max_fun=10**6)
            peer.coefs_ = [w.astype("float64") for w in net.weights]
            peer.intercepts_ = [b.astype("float64") for b in net.biases]
            peer.fit(X, y)
        halved = 1 if classes > 1 else 2  # scikit-learn takes half of the mean square
        net.fit(X, y, optimizer=dnn.LBFGS(max_iter=60, l2=0.01 * halved))
        squares = sum(float((w.astype("float64") ** 2).sum()) for w in net.weights)
        ours.append(net.evaluate(X, y)["loss"] / halved + 0.005 * squares)
        theirs.append(peer.loss_)
    assert np.mean(ours) <= 1.02 * np.mean(theirs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_batch_norm_predicts_as_it_trained(dtype):
    X, y, _ = examples()
    ends = []
    for n_threads in (1, 2, 3):
        layers = [dnn.Dense(7), dnn.BatchNorm(), dnn.Activation("tanh"), dnn.Dense(2)]
        net = dnn.Network(3, layers, loss="mse", dtype=dtype, seed=1)
        history = net.fit(
            X, y, optimizer=dnn.LBFGS(max_iter=20), validation_data=(X, y), n_threads=n_threads
        ).history  # fmt: skip
        # But for n / (n - 1) in the variance.
        assert history["val_loss"][-1] == pytest.approx(history["loss"][-1], rel=0.05)
        assert history["loss"][-1] < 0.5 * history["loss"][0]
        ends.append(net.params.tobytes())
    assert len(set(ends)) == 1


def test_it_stops_when_nothing_is_left_to_gain():
    X, _, _ = examples()
    net = dnn.Network(3, [dnn.Dense(1)], loss="mse", dtype="float64")
    history = net.fit(X, X @ [1.0, 2.0, 3.0] + 4, epochs=500, optimizer=dnn.LBFGS(tol=1e-9, rtol=0))
    assert len(history.history["loss"]) < 100
    np.testing.assert_allclose(net.weights[0][:, 0], [1, 2, 3], atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_validation_early_stopping_and_threads(dtype):
    X, y, _ = examples()
    ends = []
    for n_threads in (1, 2, 3):
        net, stop = network(dtype), dnn.EarlyStopping(patience=3)
        history = net.fit(
            X[:40], y[:40], epochs=200, optimizer=dnn.LBFGS(), callbacks=[stop],
            validation_data=(X[40:], y[40:]), n_threads=n_threads,
        )  # fmt: skip
        assert stop.stopped_epoch == len(history.history["loss"]) - 1
        best = min(history.history["val_loss"])
        assert net.evaluate(X[40:], y[40:])["loss"] == pytest.approx(best, rel=1e-6)
        ends.append(net.params.tobytes())
    assert len(set(ends)) == 1


def test_frozen_layers_sparse_inputs_and_losses_in_python():
    X, y, _ = examples()
    frozen = network(trainable=False)
    before = frozen.weights[0].copy()
    frozen.fit(X, y, epochs=20, optimizer=dnn.LBFGS())
    np.testing.assert_array_equal(frozen.weights[0], before)

    def square(true, pred):
        return float(np.mean((pred - true) ** 2)), 2 * (pred - true) / true.size

    ends = []
    for net, given in (
        (network(), X), (network(), scipy.sparse.csr_array(X)), (network(loss=square), X)
    ):  # fmt: skip
        net.fit(given, y, epochs=10, optimizer=dnn.LBFGS())
        ends.append(net.params)
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ends[2], ends[0], rtol=1e-6, atol=1e-9)


def test_many_networks():
    X, y, _ = examples()
    nets = [network(), network("float32")]
    found = dnn.fit_many(nets, X, y, optimizer=dnn.LBFGS(max_iter=5))
    assert [len(h.history["loss"]) for h in found] == [5, 5]


def test_an_interrupt_leaves_the_last_iteration():
    X, y, _ = examples()

    class Stop(dnn.Callback):
        def on_epoch_end(self, network, epoch, logs):
            if epoch == 4:
                raise KeyboardInterrupt

    net, expected = network(), network()
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, y, optimizer=dnn.LBFGS(), callbacks=[Stop()])
    expected.fit(X, y, optimizer=dnn.LBFGS(max_iter=5))
    np.testing.assert_array_equal(net.params, expected.params)


def test_divergence():
    net = dnn.Network(1, [dnn.Dense(1)], loss="mse")
    with pytest.raises(DivergenceError):
        net.fit([[1.0], [2.0]], [3e38, -3e38], optimizer=dnn.LBFGS())
    assert np.isfinite(net.params).all()


BAD = {
    "batch_size": {"batch_size": 10},
    "accumulate": {"accumulate": 2},
    "averaging": {"averaging": dnn.EMA()},
    "validation_every_steps": {"validation_every_steps": 2},
}


@pytest.mark.parametrize("name", BAD)
def test_options_that_make_no_sense(name):
    X, y, _ = examples()
    net = network()
    before = net.params.copy()
    with pytest.raises(ValueError, match=name):
        net.fit(X, y, optimizer=dnn.LBFGS(), **BAD[name])
    np.testing.assert_array_equal(net.params, before)


@pytest.mark.parametrize(
    "layer",
    [
        dnn.Dropout(0.1),
        dnn.Dense(4, l1=0.1),
        dnn.Dense(4, max_norm=1.0),
        dnn.Residual([dnn.GaussianNoise(0.1)]),
        dnn.Residual([dnn.Dense(4, learning_rate_factor=0.5)]),
    ],
)
def test_layers_that_make_no_sense(layer):
    X, y, _ = examples()
    net = dnn.Network(3, [dnn.Dense(4), layer, dnn.Dense(2)], loss="mse")
    with pytest.raises(ValueError, match="LBFGS"):
        net.fit(X, y, optimizer=dnn.LBFGS())


def test_single_steps_are_refused():
    X, y, _ = examples()
    net = network()
    for call in (lambda: net.train_step(X, y, dnn.LBFGS()), lambda: net.step(dnn.LBFGS())):
        with pytest.raises(TypeError, match="fit"):
            call()


@pytest.mark.parametrize(
    "settings", [{"max_iter": 0}, {"history": 0}, {"tol": -1}, {"rtol": np.nan}, {"l2": -0.1}]
)
def test_bad_settings(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        dnn.LBFGS(**settings)
