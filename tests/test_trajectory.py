"""Training against the NumPy twin's, parameter for parameter."""

import os
import subprocess
import sys

import numpy as np
import pytest

import dnncore as dnn
from dnncore import _kernels
from dnncore import reference as ref

OPTIMIZERS = {  # name: (optimizer, the twin's name and settings)
    "sgd": (dnn.SGD(0.05, l2=0.02), "sgd", {"lr": 0.05, "l2": 0.02}),
    "momentum": (dnn.SGD(0.03, momentum=0.8), "momentum", {"lr": 0.03, "momentum": 0.8}),
    "nesterov": (
        dnn.SGD(0.03, momentum=0.8, nesterov=True, l2=0.01),
        "nesterov",
        {"lr": 0.03, "momentum": 0.8, "l2": 0.01},
    ),
    "rmsprop": (
        dnn.RMSprop(0.01, rho=0.8, eps=1e-6, l2=0.01),
        "rmsprop",
        {"lr": 0.01, "rho": 0.8, "eps": 1e-6, "l2": 0.01},
    ),
    "adam": (
        dnn.Adam(0.02, beta1=0.8, beta2=0.99, eps=1e-7, l2=0.01),
        "adam",
        {"lr": 0.02, "beta1": 0.8, "beta2": 0.99, "eps": 1e-7, "l2": 0.01},
    ),
    "adamw": (dnn.AdamW(0.02, weight_decay=0.1), "adamw", {"lr": 0.02, "weight_decay": 0.1}),
    "nadam": (dnn.Nadam(0.02, l2=0.01), "nadam", {"lr": 0.02, "l2": 0.01}),
    "radam": (dnn.RAdam(0.02, beta2=0.9), "radam", {"lr": 0.02, "beta2": 0.9}),
    "adagrad": (dnn.Adagrad(0.05, eps=1e-3), "adagrad", {"lr": 0.05, "eps": 1e-3}),
    "adadelta": (dnn.Adadelta(eps=1e-3), "adadelta", {"lr": 1.0, "eps": 1e-3}),
    "lion": (
        dnn.Lion(1e-3, weight_decay=0.1),
        "lion",
        {"lr": 1e-3, "weight_decay": 0.1, "beta2": 0.99},
    ),
}
ROWS, BATCH, EPOCHS = 76, 16, 10  # 5 batches an epoch, the last of 12 rows: 50 steps


def data_for(loss, rng, rows, n_in, n_out):
    X = rng.standard_normal((rows, n_in))
    if loss.startswith("softmax"):
        y = rng.integers(n_out, size=rows)
    elif loss.startswith("binary") or "hinge" in loss:
        y = rng.integers(2, size=(rows, n_out)).astype(float)
    elif loss in ("poisson", "tweedie"):
        y = rng.poisson(2.0, size=(rows, n_out)).astype(float)
    elif loss == "gamma":
        y = rng.gamma(2.0, size=(rows, n_out)) + 0.1
    else:
        y = rng.standard_normal((rows, n_out))
    return X, y, rng.uniform(0.2, 3.0, rows)


def make(widths, activation, loss, *, dtype="float64", seed=7):
    """A network of the given widths with biases that are not zero, and its twin."""
    *hidden, last = widths[1:]
    layers = [dnn.Dense(n, activation) for n in hidden] + [dnn.Dense(last)]
    net = dnn.Network(widths[0], layers, loss=loss, dtype=dtype, seed=seed)
    rng = np.random.default_rng(1)
    for b in net.biases:
        b[:] = 0.1 * rng.standard_normal(b.shape)
    names = [layer.activation for layer in net.layers]
    wide = [a.astype(np.float64) for a in (*net.weights, *net.biases)]
    return net, list(zip(wide[: len(names)], wide[len(names) :], names, strict=True))


def batches_of(rows, batch, epochs, seed):
    for epoch in range(epochs):
        order = np.arange(rows) if seed is None else ref.shuffle(rows, seed, 0, epoch)
        for start in range(0, rows, batch):
            yield order[start : start + batch]


def flatten(layers):
    return np.concatenate([part.ravel() for w, b, _ in layers for part in (w, b)])


def compare(net, twin, optimizer, X, y, weight, *, rows, batch, epochs, tolerance=1e-10, **fit):
    """Train both; compare parameters and the losses of all epochs."""
    chosen, name, settings = OPTIMIZERS[optimizer]
    before = net.params.copy()
    history = net.fit(
        X, y, epochs=epochs, batch_size=batch, optimizer=chosen, sample_weight=weight, **fit
    )
    batches = list(batches_of(rows, batch, epochs, net.seed if fit.get("shuffle", True) else None))
    losses, trained = ref.train(
        twin, net.loss.name, name, X, y, batches=batches, sample_weight=weight, **settings
    )
    expected = flatten(trained)
    assert np.abs(net.params - before).max() > 1e-3  # it went somewhere
    np.testing.assert_allclose(
        net.params, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max()
    )
    sums = [len(b) if weight is None else weight[b].sum() for b in batches]
    by_epoch = np.reshape(losses, (epochs, -1)), np.reshape(sums, (epochs, -1))
    means = np.sum(by_epoch[0] * by_epoch[1], axis=1) / by_epoch[1].sum(axis=1)
    np.testing.assert_allclose(history.history["loss"], means, rtol=tolerance)


@pytest.mark.parametrize("loss", ref.LOSSES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_with_every_loss(optimizer, loss):
    net, twin = make([6, 9, 5, 3], "tanh", loss)
    X, y, weight = data_for(loss, np.random.default_rng(0), ROWS, 6, 3)
    compare(net, twin, optimizer, X, y, weight, rows=ROWS, batch=BATCH, epochs=EPOCHS)


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "mse"])
@pytest.mark.parametrize("activation", ref.ACTIVATIONS)
def test_every_activation(activation, loss):
    net, twin = make([6, 9, 5, 3], activation, loss)
    X, y, _ = data_for(loss, np.random.default_rng(0), ROWS, 6, 3)
    compare(net, twin, "adam", X, y, None, rows=ROWS, batch=BATCH, epochs=EPOCHS)


@pytest.mark.parametrize("widths", [[2, 16, 1], [1, 1], [30, 1, 4], [7, 3], [3, 40, 40, 40, 2]])
@pytest.mark.parametrize("batch", [1, 7, ROWS])
def test_widths_and_batches(widths, batch):
    net, twin = make(widths, "relu", "mse")
    X, y, weight = data_for("mse", np.random.default_rng(0), ROWS, widths[0], widths[-1])
    # The order of a full batch does not matter; the engine leaves it as it lies.
    shuffle = batch < ROWS
    compare(
        net, twin, "adam", X, y, weight, rows=ROWS, batch=batch, epochs=2, shuffle=shuffle
    )  # fmt: skip


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("batch", "rows"), [(400, 1500), (1000, 2100), (3000, 3000)])
def test_batches_in_groups(batch, rows, shuffle):
    """Batches of 300 and 100 rows end an epoch: one is worked on in groups, one is not."""
    net, twin = make([6, 20, 9, 3], "relu", "softmax_cross_entropy")
    assert [net._program.groups(n) > 0 for n in (batch, 300, 100)] == [True, True, False]
    X, y, weight = data_for("softmax", np.random.default_rng(0), rows, 6, 3)
    compare(
        net, twin, "adam", X, y, weight, rows=rows, batch=batch, epochs=2, shuffle=shuffle,
    )  # fmt: skip


def test_unshuffled():
    net, twin = make([6, 9, 3], "relu", "mse")
    X, y, weight = data_for("mse", np.random.default_rng(0), ROWS, 6, 3)
    compare(
        net, twin, "momentum", X, y, weight, rows=ROWS, batch=BATCH, epochs=EPOCHS, shuffle=False
    )


@pytest.mark.parametrize(("path", "n_threads"), [("own", 1), ("own", 3), ("blas", 1), (None, 2)])
def test_many_tiles_on_any_path(path, n_threads):
    # Several tiles of rows and of weights; the last batch has another number of them.
    net, twin = make([203, 301, 307, 2], "relu", "mse")
    X, y, weight = data_for("mse", np.random.default_rng(0), 500, 203, 2)
    _kernels._force_matmul_path(path)
    try:
        compare(net, twin, "adam", X, y, weight, rows=500, batch=300, epochs=2, n_threads=n_threads)
    finally:
        _kernels._force_matmul_path(None)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_float32_follows_in_its_precision(optimizer):
    # Small steps of an early stage: later on single precision parts ways with double.
    net, twin = make([6, 9, 5, 3], "gelu", "huber", dtype="float32")
    X, y, weight = data_for("huber", np.random.default_rng(0), ROWS, 6, 3)
    X, y, weight = (a.astype(np.float32).astype(np.float64) for a in (X, y, weight))
    compare(
        net, twin, optimizer, X, y, weight, rows=ROWS, batch=BATCH, epochs=2, tolerance=2e-5
    )  # fmt: skip


def test_fits_go_on_where_the_last_one_stopped():
    X, y, _ = data_for("mse", np.random.default_rng(0), ROWS, 6, 3)
    net, _ = make([6, 9, 3], "relu", "mse")
    parts, whole = net.copy(), net
    for epochs in (2, 1, 4):
        parts.fit(X, y, epochs=epochs, batch_size=BATCH, optimizer=dnn.Adam(0.01))
        parts = parts.copy()
    whole.fit(X, y, epochs=7, batch_size=BATCH, optimizer=dnn.Adam(0.01))
    np.testing.assert_array_equal(parts.params, whole.params)


def test_steps_are_the_epochs_batches():
    X, y, weight = data_for("mse", np.random.default_rng(0), ROWS, 6, 3)
    net, _ = make([6, 9, 3], "relu", "mse")
    steps = net.copy()
    history = net.fit(
        X, y, epochs=1, batch_size=BATCH, optimizer=dnn.Adam(0.01), sample_weight=weight
    )
    losses, sums = [], []
    for rows in batches_of(ROWS, BATCH, 1, net.seed):
        losses.append(
            steps.train_step(X[rows], y[rows], dnn.Adam(0.01), sample_weight=weight[rows])
        )
        sums.append(weight[rows].sum())
    np.testing.assert_array_equal(steps.params, net.params)
    assert history.history["loss"][0] == pytest.approx(np.average(losses, weights=sums), rel=1e-12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_frozen_layer_stays_and_the_rest_trains_on_its_features(optimizer):
    X, y, _ = data_for("mse", np.random.default_rng(0), ROWS, 6, 2)
    chosen = OPTIMIZERS[optimizer][0]
    net = dnn.Network(
        6,
        [dnn.Dense(5, "tanh", trainable=False), dnn.Dense(4, "relu"), dnn.Dense(2)],
        loss="mse",
        dtype="float64",
    )
    top = dnn.Network(5, [dnn.Dense(4, "relu"), dnn.Dense(2)], loss="mse", dtype="float64")
    frozen = net.params[:35].copy()
    top.params[:] = net.params[35:]
    net.fit(X, y, epochs=5, batch_size=BATCH, optimizer=chosen)
    features, _ = ref.linear_forward(X, frozen[:30].reshape(6, 5), frozen[30:], "tanh")
    top.fit(features, y, epochs=5, batch_size=BATCH, optimizer=chosen)
    np.testing.assert_array_equal(net.params[:35], frozen)
    np.testing.assert_allclose(net.params[35:], top.params, rtol=1e-10)


def test_without_bias_is_a_bias_that_cannot_move():
    X, y, _ = data_for("mse", np.random.default_rng(0), ROWS, 6, 2)
    layers = [dnn.Dense(5, "tanh", use_bias=False), dnn.Dense(2, use_bias=False)]
    net = dnn.Network(6, layers, loss="mse", dtype="float64")
    own = dnn.Network(6, [dnn.Dense(5, "tanh"), dnn.Dense(2)], loss="mse", dtype="float64")
    for _ in range(10):
        net.train_step(X, y, dnn.SGD(0.1))
        own.train_step(X, y, dnn.SGD(0.1))
        for b in own.biases:
            b[:] = 0
    for w, other in zip(net.weights, own.weights, strict=True):
        np.testing.assert_allclose(w, other, rtol=1e-12)


@pytest.mark.parametrize("level", [n for n in _kernels.simd_levels() if n != _kernels.SIMD_LEVEL])
def test_other_instruction_sets(level):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
        + ["-k", "not instruction_sets"],
        env={**os.environ, "DNNCORE_SIMD": level},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
