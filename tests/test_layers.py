"""Every layer in networks: gradients, threads, resume, files, prediction, and what is refused."""

import hashlib
import pickle

import numpy as np
import pytest

import dnncore as dnn
from dnncore import _kernels
from dnncore import reference as ref
from dnncore._data import as_data
from dnncore.gradcheck import check_gradient
from dnncore.layers import LAYERS, layer_from_config, walk

D = dnn.Dense
# Every layer first, last, and between every kind of neighbour; smooth, but for the kinks of
# prelu, alpha dropout and relu at 0.
NETWORKS = {
    "activation": [dnn.Activation("gelu"), D(4), dnn.Activation("softmax"), dnn.Activation("tanh")],
    "layer_norm": [dnn.LayerNorm(), D(5, "tanh"), dnn.LayerNorm(scale=False), D(4, "gelu"),
                   dnn.LayerNorm(center=False)],
    "rms_norm": [dnn.RMSNorm(), D(5, "gelu"), dnn.RMSNorm(scale=False), D(2), dnn.RMSNorm()],
    "batch_norm": [dnn.BatchNorm(), D(5, "gelu"), dnn.BatchNorm(), dnn.BatchNorm(scale=False), D(2),
                   dnn.BatchNorm(center=False, scale=False)],
    "prelu": [dnn.PReLU(), D(5), dnn.PReLU(), D(2), dnn.PReLU(trainable=False)],
    "blend": [dnn.Blend("tanh"), D(5), dnn.Blend("gelu"), D(2), dnn.Blend("silu", initial=0.5)],
    "noise": [dnn.GaussianNoise(0.3), D(5, "tanh"), dnn.AlphaDropout(0.3), dnn.Dropout(0.2), D(2),
              dnn.GaussianNoise(0.1)],
    "elementwise": [D(4), dnn.BatchNorm(), dnn.Activation("tanh"), dnn.Dropout(0.2),
                    dnn.Residual([dnn.Activation("gelu"), dnn.AlphaDropout(0.1), D(4)]),
                    dnn.Residual([D(4), dnn.GaussianNoise(0.1)]), dnn.Activation("sigmoid"),
                    dnn.Residual([dnn.Dropout(0.2)]), dnn.GaussianNoise(0.1)],
    "residual": [dnn.Residual([D(3, "tanh")]), D(4), dnn.Residual([dnn.BatchNorm(), D(7, "gelu"),
                 dnn.Dropout(0.2), D(4)]), dnn.Residual([dnn.Activation("tanh")])],
    "nested": [dnn.Residual([dnn.Residual([dnn.LayerNorm(), D(3, "gelu")]), D(3), dnn.BatchNorm()]),
               D(4, "relu"), dnn.Residual([dnn.Residual([dnn.Blend("tanh")]), D(4, "relu"), D(4)])],
    "frozen": [D(4), dnn.BatchNorm(trainable=False), D(3, trainable=False), dnn.LayerNorm(), D(2),
               dnn.BatchNorm(trainable=False)],
    "frozen below": [D(4, trainable=False), dnn.Residual([dnn.BatchNorm(scale=False, center=False),
                     D(4, "tanh")]), D(2)],
}  # fmt: skip


def problem(name, rows=7, dtype="float64", seed=1):
    rng = np.random.default_rng(0)
    net = dnn.Network(3, NETWORKS[name], loss="mse", dtype=dtype, seed=seed)
    for parameter, view in net.named_parameters():
        positive = "running" in parameter or "alpha" in parameter
        view[...] = (
            rng.uniform(0.5, 1.5, view.shape) if positive else 0.7 * rng.normal(size=view.shape)
        )
    return net, rng.standard_normal((rows, 3)), rng.standard_normal((rows, net.n_out))


def learned(net):
    """Where in the buffer trainable parameters lie."""
    places = np.zeros(net.n_params, bool)
    for p in net._parameters:
        trainable = getattr(p.owner, "trainable", True) and not p.is_statistic
        places[p.offset : p.offset + p.size] = trainable
    return places


@pytest.mark.parametrize(
    ("name", "rows"),
    # With many rows some are always near the kinks of prelu and relu.
    [(name, 7) for name in NETWORKS]
    + [(name, 300) for name in NETWORKS if name not in ("prelu", "nested")],
)
def test_gradients_with_weights(name, rows):
    net, X, Y = problem(name, rows)
    weight = np.random.default_rng(3).uniform(0, 2, rows)
    free, start = learned(net), net.params.copy()
    data = as_data(3, net._targets.learn(Y), X, Y, weight)

    def loss_gradient(p):
        net.params[free] = p
        grads = np.zeros(net.n_params)
        loss, total = net._program.loss_gradient(data, grads, 2)
        return np.float64(loss / total), grads

    check_gradient(
        lambda p: loss_gradient(p)[0], lambda p: loss_gradient(p)[1][free], net.params[free],
        n_directions=12, rtol=1e-5,
    )  # fmt: skip
    grads = loss_gradient(start[free])[1]
    assert (grads[~free] == 0).all()
    assert (net.params == start).all()  # running statistics included


@pytest.mark.parametrize("rows", [40, 1000])
@pytest.mark.parametrize("name", NETWORKS)
def test_own_loop_has_the_gradients_of_the_engine_and_one_by_the_input(name, rows):
    net, X, Y = problem(name, rows)
    data = as_data(3, net._targets.learn(Y), X, Y, None)
    expected = np.zeros(net.n_params)
    net._program.loss_gradient(data, expected, 1)
    twin = net.copy()
    dX = twin.backward(ref.loss("mse", twin.forward(X), Y)[1])
    np.testing.assert_allclose(twin.grads, expected, rtol=1e-9, atol=1e-12)

    def loss(x):
        return ref.loss("mse", net.copy().forward(x), Y)[0]

    check_gradient(loss, lambda _: dX, X, n_directions=6, rtol=1e-5)


# ----------------------------------------------------------------------------------- training


def examples(rows=700, n_in=3):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((rows, n_in))
    return X, np.tanh(X[:, :1]) + 0.1 * rng.standard_normal((rows, 1))


def digest(net, history):
    values = [np.array(history.history[k]) for k in ("loss", "val_loss")]
    return hashlib.sha256(b"".join(a.tobytes() for a in (net.params, *values))).hexdigest()


@pytest.mark.parametrize("path", ["own", "blas"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
def test_any_number_of_threads_gives_the_same_bits(name, dtype, path):
    X, y = examples()

    def train(threads):
        net = dnn.Network(3, [D(70, "relu"), *wide(NETWORKS[name]), D(1)], loss="mse", dtype=dtype)
        return digest(net, net.fit(X, y, epochs=2, batch_size=300, validation_split=0.2,
                                   n_threads=threads))  # fmt: skip

    _kernels._force_matmul_path(path)
    try:
        assert len({train(n) for n in (1, 2, 3, 4)}) == 1
    finally:
        _kernels._force_matmul_path(None)


def wide(layers):
    """The same layers with 70 units each, so that batches are cut into tiles."""
    return [
        dnn.Residual(wide(layer.layers)) if isinstance(layer, dnn.Residual)
        else D(70, layer.activation) if isinstance(layer, D) else layer
        for layer in layers
    ]  # fmt: skip


class Stop(dnn.Callback):
    def __init__(self, after):
        self.left = after

    def on_batch_end(self, network, epoch, batch, loss):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "optimizer",
    [dnn.Adam(0.01), dnn.SGD(0.01, momentum=0.9), dnn.RMSprop(0.01), dnn.Lion(0.001)],
    ids=lambda optimizer: type(optimizer).__name__,
)
@pytest.mark.parametrize("name", ["batch_norm", "nested", "noise"])
def test_resume_is_exact(name, optimizer, tmp_path):
    X, y = examples(50)  # 7 steps an epoch, the last one of two rows
    options = {"epochs": 3, "batch_size": 8, "optimizer": optimizer, "validation_split": 0.1}

    def network():
        layers = [*NETWORKS[name], dnn.Dropout(0.1), D(1)]
        return dnn.Network(3, layers, loss="mse", seed=2)

    whole = network()
    expected = digest(whole, whole.fit(X, y, **options))
    for after in (1, 8, 13):
        with pytest.raises(KeyboardInterrupt):
            callbacks = [Stop(after), dnn.Checkpoint(tmp_path / str(after))]
            network().fit(X, y, callbacks=callbacks, **options)
        net = network()
        assert digest(net, net.fit(X, y, resume_from=tmp_path / str(after), **options)) == expected


@pytest.mark.parametrize("name", NETWORKS)
def test_files_copies_and_pickles(name, tmp_path):
    net, X, Y = problem(name, 60, "float32")
    net.fit(X, Y, epochs=2, batch_size=20)
    net.save(tmp_path / "net.safetensors")
    for other in (dnn.load(tmp_path / "net.safetensors"), net.copy(),
                  pickle.loads(pickle.dumps(net))):  # fmt: skip
        assert other.layers == net.layers
        assert (other.params == net.params).all()
        np.testing.assert_array_equal(other.predict(X), net.predict(X))
    assert repr(eval(repr(net), vars(dnn))) == repr(net)
    assert "0 parameters" not in net.summary()
    for layer in walk(net.layers):
        assert layer_from_config(layer.get_config()) == layer


@pytest.mark.parametrize("name", NETWORKS)
def test_prediction_does_not_depend_on_company(name):
    net, X, Y = problem(name, 200)
    net.fit(X, Y, epochs=1, batch_size=50)
    together = net.predict(X)
    alone = np.concatenate([net.predict(X[i : i + 1]) for i in range(len(X))])
    np.testing.assert_allclose(alone, together, rtol=1e-12, atol=1e-13)
    loss = net.evaluate(X, Y)["loss"]
    np.testing.assert_allclose(loss, np.square(together - Y).mean(), rtol=1e-12)


def test_summary_and_names():
    net = dnn.Network(3, [dnn.Residual([D(4, "relu"), D(3)]), dnn.BatchNorm(), dnn.GaussianNoise(),
                          D(2)])  # fmt: skip
    assert [name for name, _ in net.named_parameters()] == [
        "layers.0.layers.0.weight", "layers.0.layers.0.bias", "layers.0.layers.1.weight",
        "layers.0.layers.1.bias", "layers.1.gamma", "layers.1.beta", "layers.1.running_mean",
        "layers.1.running_var", "layers.3.weight", "layers.3.bias",
    ]  # fmt: skip
    assert len(net.weights) == len(net.biases) == 3
    lines = net.summary().splitlines()
    assert [line.split()[:3] for line in lines[2:8]] == [
        ["Residual", "3", "0"], ["Dense", "relu", "4"], ["Dense", "identity", "3"],
        ["BatchNorm", "3", "12"], ["GaussianNoise", "0.1", "3"], ["Dense", "identity", "2"],
    ]  # fmt: skip
    assert "6 of them running statistics" in lines[-1]


# ------------------------------------------------------------------------------- statistics


def test_batch_norm_measures_what_it_should():
    X, y = examples(1000)
    X = X * [1, 10, 0.1] + [0, 1000, -3]
    net = dnn.Network(3, [dnn.BatchNorm(momentum=1.0), D(1)], loss="mse")
    net.fit(X, y, epochs=1, batch_size=None)
    found = dict(net.named_parameters())
    np.testing.assert_allclose(found["layers.0.running_mean"], X.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        found["layers.0.running_var"], X.astype("f4").astype(float).var(axis=0, ddof=1), rtol=1e-5
    )


def test_running_statistics_move_with_the_step_and_only_then():
    X, y = examples(40)
    net = dnn.Network(3, [dnn.BatchNorm(momentum=0.3), D(1)], loss="mse", dtype="float64")
    mean = dict(net.named_parameters())["layers.0.running_mean"]
    net.predict(X), net.evaluate(X, y), net.forward(X), net.forward(X[:20])
    net.backward(np.ones((20, 1)))
    assert (mean == 0).all()
    net.step("sgd")
    expected = ref.running_update(np.zeros(3), X[:20].mean(axis=0), 0.3, None)
    np.testing.assert_allclose(mean, expected)
    net.step("sgd")  # no forward since
    np.testing.assert_allclose(mean, expected)
    net.train_step(X, y)
    np.testing.assert_allclose(mean, ref.running_update(expected, X.mean(axis=0), 0.3, None))


def test_a_loss_that_is_not_finite_moves_no_statistics():
    X, y = examples(40)
    net = dnn.Network(3, [dnn.BatchNorm(), D(1)], loss="mse")
    before = net.params.copy()
    with pytest.raises(dnn.DivergenceError):
        net.train_step(X, y * 1e30)
    assert (net.params == before).all()


def test_weight_decay_leaves_all_but_weights_alone():
    layers = [dnn.BatchNorm(), dnn.PReLU(), dnn.Blend("tanh"), dnn.LayerNorm(), D(1)]
    net = dnn.Network(3, layers, loss="mse", dtype="float64")
    net.grads[:] = 0
    before = {name: view.copy() for name, view in net.named_parameters()}
    net.step(dnn.AdamW(0.1, weight_decay=0.5))
    changed = {n for n, view in net.named_parameters() if (view != before[n]).any()}
    assert changed == {"layers.4.weight"}


def test_frozen_batch_norm_does_in_training_what_it_does_at_prediction():
    net, X, Y = problem("frozen", 30)
    before = dict(net.named_parameters())["layers.1.running_mean"].copy()
    np.testing.assert_allclose(net.forward(X), net.predict(X))
    net.fit(X, Y, epochs=2, batch_size=1)
    assert (dict(net.named_parameters())["layers.1.running_mean"] == before).all()


def test_batches_of_one_row():
    X, y = examples(31)
    net = dnn.Network(3, [dnn.Residual([dnn.BatchNorm(), D(3)]), D(1)], loss="mse")
    for call in (lambda: net.fit(X, y, batch_size=1), lambda: net.train_step(X[:1], y[:1]),
                 lambda: net.fit(X[:1], y[:1]), lambda: net.forward(X[:1])):  # fmt: skip
        with pytest.raises(ValueError, match="BatchNorm cannot normalise a batch of one row"):
            call()
    net.fit(X, y, epochs=1, batch_size=30, shuffle=False)  # the last one is left with one
    other = net.copy().initialize()
    other.fit(X[:30], y[:30], epochs=1, batch_size=30, shuffle=False)
    here, there = (dict(n.named_parameters()) for n in (net, other))
    for name in ("mean", "var"):
        kind = f"layers.0.layers.0.running_{name}"
        np.testing.assert_array_equal(here[kind], there[kind])
    assert np.isfinite(net.params).all()


def test_custom_loss_trains_as_the_library_s():
    X, y = examples(100)

    def mse(y_true, y_pred):
        return np.square(y_pred - y_true).mean(), 2 * (y_pred - y_true) / y_pred.size

    nets = [
        dnn.Network(3, NETWORKS["nested"] + [dnn.Dropout(0.1), D(1)], loss=loss, dtype="float64")
        for loss in ("mse", mse)
    ]
    for net in nets:
        # Adam would blow up the rounding of a gradient of 0, as of a bias before BatchNorm.
        net.fit(X, y, epochs=2, batch_size=25, optimizer=dnn.SGD(0.05, momentum=0.9))
    np.testing.assert_allclose(nets[1].params, nets[0].params, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", NETWORKS)
def test_steps_that_need_the_whole_gradient(name):
    X, y = examples(120)

    def train(optimizer, batch_size=30, **options):
        layers = [layer for layer in NETWORKS[name] if not isinstance(layer, dnn.GaussianNoise)]
        net = dnn.Network(3, [*layers, D(1)], loss="mse", dtype="float64")
        net.fit(X, y, epochs=2, batch_size=batch_size, optimizer=optimizer, **options)
        return net.params

    plain = train(dnn.Adam(0.01))
    np.testing.assert_allclose(train(dnn.Adam(0.01, clip_norm=1e9)), plain, rtol=1e-12, atol=1e-13)
    clipped = train(dnn.Adam(0.01, clip_norm=1e-3))
    assert (clipped != plain).any()
    if not any(isinstance(layer, dnn.BatchNorm | dnn.Dropout | dnn.AlphaDropout)
               for layer in walk(NETWORKS[name])):  # fmt: skip
        parts = train(dnn.Adam(0.01), batch_size=10, accumulate=3)
        np.testing.assert_allclose(parts, plain, rtol=1e-8, atol=1e-10)


def test_the_last_of_accumulated_mini_batches_moves_the_statistics():
    X, y = examples(40)
    net = dnn.Network(3, [dnn.BatchNorm(), D(1)], loss="mse", dtype="float64")
    net.fit(X, y, epochs=1, batch_size=20, accumulate=2, shuffle=False)
    expected = ref.running_update(np.zeros(3), X[20:].mean(axis=0), 0.1, None)
    np.testing.assert_allclose(dict(net.named_parameters())["layers.0.running_mean"], expected)


def test_statistics_of_layers_within_blocks():
    net, X, Y = problem("nested", 50)
    watch = dnn.LayerStatistics(X, Y)
    net.fit(X, Y, epochs=1, callbacks=[watch])
    assert [record.units for record in watch.layers] == [3, 3, 4, 4, 4]
    assert all(record.values["gradient"][-1] > 0 for record in watch.layers)


# ------------------------------------------------------------------------------- bad input

REFUSED = [
    (lambda: dnn.Residual([]), ValueError, "at least one layer"),
    (lambda: dnn.Residual(D(3)), TypeError, "must be a list of layers"),
    (lambda: dnn.Residual(["relu"]), TypeError, r"\[0\] must be a layer"),
    (lambda: dnn.Network(3, [dnn.Residual([D(4)]), D(1)]), ValueError,
     "gets 3 columns and its layers give 4"),
    (lambda: dnn.Network(3, [D(5), dnn.Residual([D(2), dnn.Residual([D(3)])]), D(1)]), ValueError,
     "layers.1.layers.1 gets 2 columns and its layers give 3"),
    (lambda: dnn.Network(3, [dnn.LayerNorm()]), ValueError, "at least one Dense"),
    (lambda: dnn.Network(3, [D(2), dnn.Activation("softmax")]), ValueError, "no activation"),
    (lambda: dnn.Activation("rleu"), ValueError, "activation must be one of"),
    (lambda: dnn.Blend("softmax"), ValueError, "activation must be one of"),
    (lambda: dnn.AlphaDropout(1.0), ValueError, "rate"),
    (lambda: dnn.GaussianNoise(-1), ValueError, "stddev"),
    (lambda: dnn.GaussianNoise(float("nan")), ValueError, "stddev"),
    (lambda: dnn.PReLU("a"), TypeError, "initial"),
    (lambda: dnn.LayerNorm(eps=0), ValueError, "eps"),
    (lambda: dnn.RMSNorm(scale=1), TypeError, "scale"),
    (lambda: dnn.BatchNorm(momentum=0), ValueError, "momentum"),
    (lambda: dnn.BatchNorm(momentum=1.5), ValueError, "momentum"),
    (lambda: dnn.BatchNorm(0.1), TypeError, "positional"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_all_layers_are_in_the_package_and_in_these_networks():
    assert {type(layer).__name__ for layers in NETWORKS.values() for layer in walk(layers)} == set(
        LAYERS
    )
    assert set(LAYERS) <= set(dnn.__all__)
