"""Clipping, penalties, rates by layer, limits of norms, accumulation: around the update."""

import json
from pathlib import Path

import numpy as np
import pytest

import dnncore as dnn
from dnncore import reference as ref
from dnncore.exceptions import DivergenceError

TORCH = json.loads((Path(__file__).parent / "fixtures/torch_updates.json").read_text("utf-8"))
CASES = [
    name for name in TORCH["cases"] if not {"ema", "swa"} & set(TORCH["cases"][name]["settings"])
]


def torch_network(settings, dtype="float64"):
    layers = []
    for i, (units, activation) in enumerate([(6, "tanh"), (2, "identity")]):
        own = {
            ours: settings[theirs][i]
            for theirs, ours in (
                ("l1", "l1"), ("l2", "l2"), ("factors", "learning_rate_factor"),
                ("max_norm", "max_norm"),
            )
            if theirs in settings
        }  # fmt: skip
        layers.append(dnn.Dense(units, activation, **own))
    net = dnn.Network(4, layers, loss="mse", dtype=dtype)
    net.params[...] = np.concatenate([np.ravel(a) for layer in TORCH["start"] for a in layer])
    return net


def torch_fit(net, settings, **options):
    clip = {name: settings[name] for name in ("clip_norm", "clip_value") if name in settings}
    return net.fit(
        np.array(TORCH["x"]), np.array(TORCH["y"]), sample_weight=TORCH["weight"],
        epochs=TORCH["epochs"], batch_size=TORCH["batch"], optimizer=dnn.Adam(0.05, **clip),
        accumulate=settings.get("accumulate", 1), shuffle=False, **options,
    )  # fmt: skip


def flat(layers):
    return np.concatenate([np.ravel(a) for layer in layers for a in layer])


@pytest.mark.parametrize("name", CASES)
def test_as_pytorch(name):
    case = TORCH["cases"][name]
    net = torch_network(case["settings"])
    torch_fit(net, case["settings"])
    # PyTorch adds 1e-6 to the norm and 1e-7 to that of a column before it divides.
    np.testing.assert_allclose(net.params, flat(case["after"]), rtol=2e-5, atol=1e-7)
    if name != "plain":
        assert np.abs(net.params - flat(TORCH["cases"]["plain"]["after"])).max() > 1e-3


OPTIONS = {  # layers' options, the optimizer's, those of fit
    "clip_norm": ({}, {"clip_norm": 0.2}, {}),
    "clip_value": ({}, {"clip_value": 0.01}, {}),
    "l1": ({"l1": 0.01}, {}, {}),
    "l2": ({"l2": 0.1}, {}, {}),
    "rate": ({"learning_rate_factor": 0.5}, {}, {}),
    "max_norm": ({"max_norm": 0.4}, {}, {}),
    "accumulate": ({}, {}, {"accumulate": 3}),
    "all": (
        {"l1": 0.01, "l2": 0.1, "learning_rate_factor": 0.5, "max_norm": 0.4},
        {"clip_norm": 0.2},
        {"accumulate": 3},
    ),
}
SIZES = {"tiny": (3, 5, 2), "wide": (130, 150, 70)}


def train(layer, optimizer, fit, size="wide", dtype="float32", dropout=0.2, **options):
    n_in, hidden, n_out = SIZES[size]
    rng = np.random.default_rng(0)
    X = rng.standard_normal((150, n_in))
    y = 3 * rng.standard_normal((150, n_out))
    layers = [dnn.Dense(hidden, "relu", **layer), dnn.Dropout(dropout), dnn.Dense(n_out, **layer)]
    net = dnn.Network(n_in, layers, loss="mse", dtype=dtype, seed=1)
    settings = {"batch_size": 20, "epochs": 3} | fit | options
    history = net.fit(X, y, optimizer=dnn.Adam(0.01, **optimizer), **settings)
    return net, history.history["loss"]


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("size", SIZES)
def test_any_number_of_threads_gives_the_same_bits(name, size):
    net, losses = train(*OPTIONS[name], size, n_threads=1)
    for n_threads in (2, 3, 4):
        other, again = train(*OPTIONS[name], size, n_threads=n_threads)
        assert other.params.tobytes() == net.params.tobytes()
        assert again == losses


@pytest.mark.parametrize("name", ["clip_norm", "clip_value", "l1", "l2", "rate", "max_norm", "all"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_callers_own_loop_makes_the_same_step(name, dtype):
    layer, clip, _ = OPTIONS[name]
    rng = np.random.default_rng(2)
    X, y = rng.standard_normal((30, 130)), 3 * rng.standard_normal((30, 70))
    nets = []
    for _ in range(2):
        layers = [dnn.Dense(150, "tanh", **layer), dnn.Dense(70, **layer)]
        nets.append(dnn.Network(130, layers, loss="mse", dtype=dtype))
    own, whole = nets
    optimizer = dnn.Adam(0.01, **clip)
    for _ in range(3):
        whole.train_step(X, y, optimizer)
        out = own.forward(X)
        own.backward(2 * (out - y) / out.size)
        before = own.grads.copy()
        own.step(optimizer)
        np.testing.assert_array_equal(own.grads, before)
    tolerance = {"float32": 2e-4, "float64": 1e-9}[dtype]
    np.testing.assert_allclose(own.params, whole.params, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES)
def test_steps_are_the_twins(size, dtype):
    n_in, hidden, n_out = SIZES[size]
    rng = np.random.default_rng(5)
    own = {"l1": 0.01, "l2": 0.1, "learning_rate_factor": 0.5, "max_norm": 0.4}
    net = dnn.Network(
        n_in, [dnn.Dense(hidden, **own), dnn.Dense(n_out)], loss="mse", dtype=dtype, seed=1
    )
    w1, b1, w2, b2 = (p.copy() for _, p in net.named_parameters())
    optimizer = dnn.SGD(0.1, clip_norm=0.5)
    for _ in range(3):
        gradients = [rng.standard_normal(p.shape).astype(dtype) for p in (w1, b1, w2, b2)]
        net.grads[...] = np.concatenate([g.ravel() for g in gradients])
        net.step(optimizer)
        g1, h1, g2, h2 = ref.clip_norm(gradients, 0.5)
        rate = np.array(0.1, dtype)
        w1 = ref.limit_columns(w1 - rate / 2 * (g1 + ref.penalty_gradient(w1, 0.01, 0.1)), 0.4)
        b1, w2, b2 = b1 - rate / 2 * h1, w2 - rate * g2, b2 - rate * h2
    expected = np.concatenate([p.ravel() for p in (w1, b1, w2, b2)])
    tolerance = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(net.params, expected, rtol=tolerance, atol=tolerance)
    norms = np.linalg.norm(net.weights[0], axis=0)
    assert norms.max() <= 0.4 * (1 + 1e-6)


def test_clipping_by_value_is_the_twins():
    net = dnn.Network(3, [dnn.Dense(2)], loss="mse", dtype="float64")
    before, rng = net.params.copy(), np.random.default_rng(0)
    net.grads[...] = gradient = rng.standard_normal(net.n_params)
    net.step(dnn.SGD(1.0, clip_value=0.5))
    np.testing.assert_array_equal(net.params, before - ref.clip_value(gradient, 0.5))


@pytest.mark.parametrize("loss", ["mse", "custom"])
@pytest.mark.parametrize(("rows", "batch", "accumulate"), [(40, 8, 3), (37, 8, 2), (37, 5, 100)])
def test_accumulation_equals_a_large_batch(loss, rows, batch, accumulate):
    def square(true, pred, sample_weight):
        weight = sample_weight[:, None] / sample_weight.sum() / true.shape[1]
        return float((weight * (pred - true) ** 2).sum()), 2 * weight * (pred - true)

    rng = np.random.default_rng(0)
    X, y, weight = rng.standard_normal((rows, 4)), rng.standard_normal((rows, 2)), rng.random(rows)
    ends = []
    for settings in (
        {"batch_size": batch, "accumulate": accumulate},
        {"batch_size": min(batch * accumulate, rows)},
    ):
        net = dnn.Network(
            4, [dnn.Dense(6, "tanh"), dnn.Dense(2)], dtype="float64",
            loss=square if loss == "custom" else loss,
        )  # fmt: skip
        history = net.fit(X, y, epochs=4, sample_weight=weight, optimizer="adam", **settings)
        ends.append((net.params, history.history["loss"], net._position.step))
    np.testing.assert_allclose(ends[0][0], ends[1][0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ends[0][1], ends[1][1], rtol=1e-12)
    assert ends[0][2] == ends[1][2]


def test_accumulation_needs_the_memory_of_one_mini_batch():
    sizes = []
    for settings in ({"batch_size": 10, "accumulate": 15}, {"batch_size": 10}, {"batch_size": 150}):
        net, _ = train({}, {}, {}, n_threads=1, **settings)
        sizes.append(net._program.workspace_bytes(1, 1))
    assert sizes[0] == sizes[1] < sizes[2]


def test_the_masks_of_a_steps_mini_batches_differ():
    """Twice the same rows: with one mask for both, they would give one batch's gradient."""
    X, y = np.ones((2, 50)), np.zeros(2)
    ends = []
    for accumulate, rows in ((2, 2), (1, 1)):
        net = dnn.Network(50, [dnn.Dropout(0.5), dnn.Dense(1)], loss="mse", dtype="float64")
        net.fit(X[:rows], y[:rows], batch_size=1, epochs=1, accumulate=accumulate, shuffle=False,
                optimizer=dnn.SGD(0.1))  # fmt: skip
        ends.append(net.params.copy())
    assert np.abs(ends[0] - ends[1]).max() > 1e-6


def test_what_is_not_asked_for_changes_no_bit():
    plain, losses = train({}, {}, {})
    for layer, optimizer, fit in (
        ({"learning_rate_factor": 1.0, "max_norm": 1e6}, {}, {}),
        ({}, {"clip_norm": 1e6}, {}),
        ({}, {"clip_value": 1e6}, {}),
        ({}, {}, {"accumulate": 1}),
    ):
        net, again = train(layer, optimizer, fit)
        assert net.params.tobytes() == plain.params.tobytes()
        assert again == losses


def test_limits_may_follow_a_schedule():
    falling = dnn.schedules.Exponential(1.0, 0.5)
    net = dnn.Network(3, [dnn.Dense(1)], loss="mse", dtype="float64")
    before, net.grads[...] = net.params.copy(), 10.0
    for limit in (1.0, 0.5, 0.25):
        net.step(dnn.SGD(1.0, clip_norm=falling))
        assert np.linalg.norm(net.params - before) == pytest.approx(limit)
        before = net.params.copy()


@pytest.mark.parametrize("name", ["max_norm", "clip_norm", "accumulate"])
def test_frozen_layers_stay(name):
    layer, clip, fit = OPTIONS[name]
    layers = [dnn.Dense(5, "relu", trainable=False, **layer), dnn.Dense(2, **layer)]
    net = dnn.Network(3, layers, loss="mse", seed=1)
    frozen = net.weights[0].copy()
    rng = np.random.default_rng(0)
    net.fit(rng.standard_normal((20, 3)), rng.standard_normal((20, 2)), batch_size=4,
            optimizer=dnn.Adam(**clip), **fit)  # fmt: skip
    np.testing.assert_array_equal(net.weights[0], frozen)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_divergence_is_told_and_undone(accumulate):
    X, y = np.ones((30, 3)), np.ones(30)
    y[-1] = 3e38
    net = dnn.Network(3, [dnn.Dense(4, "tanh"), dnn.Dense(1)], loss="mse")
    with pytest.raises(DivergenceError):
        net.fit(X, y, batch_size=5, accumulate=accumulate, shuffle=False, optimizer="sgd")
    assert np.isfinite(net.params).all()
    assert np.isfinite(net._position.loss_sum)


def test_settings_survive_a_file(tmp_path):
    layer = dnn.Dense(4, "tanh", l1=0.1, l2=0.2, learning_rate_factor=0.5, max_norm=2.0)
    net = dnn.Network(3, [layer, dnn.Dense(1)], loss="mse")
    net.save(tmp_path / "net.safetensors")
    assert dnn.load(tmp_path / "net.safetensors").layers[0] == layer
    assert "max_norm=2.0" in repr(layer)
    optimizer = dnn.Adam(clip_norm=1.0)
    assert dnn.optimizers.optimizer_from_config(optimizer.get_config()) == optimizer


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: dnn.Dense(3, l1=-1), ValueError, "l1"),
        (lambda: dnn.Dense(3, l2=np.nan), ValueError, "l2"),
        (lambda: dnn.Dense(3, learning_rate_factor=0), ValueError, "trainable=False"),
        (lambda: dnn.Dense(3, learning_rate_factor=-1), ValueError, "learning_rate_factor"),
        (lambda: dnn.Dense(3, max_norm=0), ValueError, "max_norm"),
        (lambda: dnn.Dense(3, max_norm="2"), TypeError, "max_norm"),
        (lambda: dnn.SGD(clip_norm=0), ValueError, "clip_norm"),
        (lambda: dnn.SGD(clip_value=-1), ValueError, "clip_value"),
        (lambda: dnn.SGD(clip_norm=1, clip_value=1), ValueError, "not both"),
        (lambda: dnn.SGD(clip_norm=True), TypeError, "clip_norm"),
    ],
)
def test_bad_settings(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("accumulate", [0, -1, 1.5, None, "2"])
def test_bad_accumulate(accumulate):
    net = dnn.Network(2, [dnn.Dense(1)], loss="mse")
    with pytest.raises((TypeError, ValueError), match="accumulate"):
        net.fit([[0.0, 1.0]], [1.0], accumulate=accumulate)
