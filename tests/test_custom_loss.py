"""A user's own loss in Python, wherever a loss of the library can stand."""

import math
import pickle

import numpy as np
import pytest

import dnncore as dnn
from dnncore import reference as ref
from dnncore.callbacks import Checkpoint
from dnncore.losses import Custom
from dnncore.schedules import Cosine

RNG = np.random.default_rng(0)
X = RNG.standard_normal((90, 4))
Y = np.sin(X[:, :2]) + X[:, 2:]
WEIGHT = RNG.uniform(0.2, 2.0, 90)


def squares(y_true, y_pred, sample_weight=None):
    w = np.ones(len(y_true)) if sample_weight is None else sample_weight
    share = (w / w.sum())[:, None] / y_pred.shape[1]
    d = y_pred - y_true
    return (share * d * d).sum(), 2 * share * d


def likelihood(y_true, y_pred):
    """Normal of mean and log variance, both predicted, for one column of targets."""
    mean, log_variance = y_pred[:, :1], y_pred[:, 1:]
    precision, d = np.exp(-log_variance), mean - y_true
    value = 0.5 * (log_variance + d * d * precision).mean()
    slopes = [d * precision, 0.5 * (1 - d * d * precision)]
    return value, np.concatenate(slopes, axis=1) / len(y_true)


def entropy(y_true, y_pred):
    return ref.loss("softmax_cross_entropy", y_pred, y_true)


def make(loss, n_out=2, dtype="float64", layers=()):
    layers = [dnn.Dense(9, "tanh"), *layers, dnn.Dense(n_out)]
    return dnn.Network(4, layers, loss=loss, dtype=dtype, seed=4)


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_trains_as_the_compiled_one(weight, dtype):
    own, other = (make(loss, dtype=dtype, layers=[dnn.Dropout(0.3)]) for loss in (squares, "mse"))
    settings = {
        "epochs": 7,
        "batch_size": 16,
        "optimizer": dnn.AdamW(Cosine(0.02), beta1=Cosine(0.9, final=0.8)),
        "sample_weight": weight,
        "validation_data": (X[:30], Y[:30]),
        "metrics": ["r2"],
    }
    histories = [net.fit(X, Y, **settings).history for net in (own, other)]
    rtol = 1e-11 if dtype == "float64" else 1e-3
    np.testing.assert_allclose(own.params, other.params, rtol=rtol, atol=rtol / 100)
    for name in ("loss", "val_loss", "val_r2"):
        np.testing.assert_allclose(histories[0][name], histories[1][name], rtol=rtol)
    assert own._position.step == other._position.step == 42
    for _ in range(3):
        values = [net.train_step(X, Y, "adam", sample_weight=weight) for net in (own, other)]
        assert values[0] == pytest.approx(values[1], rel=rtol)
    scores = [net.evaluate(X, Y, sample_weight=weight) for net in (own, other)]
    assert set(scores[0]) == {"loss"}
    assert scores[0]["loss"] == pytest.approx(scores[1]["loss"], rel=rtol)
    np.testing.assert_allclose(own.predict(X), other.predict(X), rtol=rtol, atol=rtol)


def test_targets_may_have_other_columns_than_the_network():
    y = X[:, 0] + RNG.standard_normal(90) * np.exp(0.5 * X[:, 1] - 1)
    net = make(likelihood)
    history = net.fit(X, y, epochs=200, batch_size=30, optimizer=dnn.Adam(Cosine(0.02)))
    assert history.history["loss"][-1] < history.history["loss"][0] - 0.5
    predicted = net.predict(X)
    assert predicted.shape == (90, 2)
    assert np.corrcoef(predicted[:, 1], X[:, 1])[0, 1] > 0.7
    assert net.evaluate(X, y)["loss"] == pytest.approx(likelihood(y[:, None], predicted)[0])


def test_classes():
    labels = np.array(["a", "b", "c"])[np.digitize(X[:, 0], [-0.5, 0.5])]
    own, other = make(Custom(entropy, "labels"), 3), make("softmax_cross_entropy", 3)
    for net in (own, other):
        net.fit(X, labels, epochs=20, batch_size=30, optimizer=dnn.Adam(0.03))
    np.testing.assert_allclose(own.params, other.params, rtol=1e-10)
    np.testing.assert_array_equal(own.predict(X), other.predict(X))
    np.testing.assert_allclose(own.predict_proba(X), other.predict_proba(X), rtol=1e-10)
    assert own.evaluate(X, labels) == pytest.approx(other.evaluate(X, labels))
    one = make(Custom(lambda y, z: ref.loss("binary_cross_entropy", z, y), "binary"), 1)
    one.fit(X, labels == "a", epochs=20, optimizer=dnn.Adam(0.05))
    assert one.predict(X).dtype == bool
    assert one.predict_proba(X).shape == (90, 2)
    rates = make(Custom(lambda y, z: ref.loss("poisson", z, y), link="exp"), 1)
    rates.fit(X, np.arange(90.0), epochs=1)
    assert (rates.predict(X) > 0).all()


def test_bits_do_not_depend_on_threads():
    found = []
    for threads in (1, 3):
        net = dnn.Network(4, [dnn.Dense(300, "relu"), dnn.Dense(300, "relu"), dnn.Dense(2)],
                          loss=squares)  # fmt: skip
        net.fit(X, Y, epochs=2, batch_size=80, n_threads=threads)
        found.append(net.params)
    np.testing.assert_array_equal(*found)


def test_files_hold_everything_but_the_code(tmp_path):
    net = make(likelihood)
    net.fit(X, X[:, 0], epochs=2)
    assert "Custom(likelihood" in repr(net)
    for copy in (net.copy(), pickle.loads(pickle.dumps(net))):
        assert copy.train_step(X, X[:, 0]) == net.copy().train_step(X, X[:, 0])
    net.save(tmp_path / "net.safetensors")
    loaded = dnn.load(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(loaded.predict(X), net.predict(X))
    for call in (loaded.fit, loaded.evaluate, loaded.train_step):
        with pytest.raises(ValueError, match=r"load it with dnncore.load\(path, loss=function\)"):
            call(X, X[:, 0])
    loaded = dnn.load(tmp_path / "net.safetensors", loss=likelihood)
    assert loaded.evaluate(X, X[:, 0]) == net.evaluate(X, X[:, 0])
    make("mse").save(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="loss is 'mse'; it needs no function"):
        dnn.load(tmp_path / "other.safetensors", loss=likelihood)


def test_training_goes_on_from_a_checkpoint(tmp_path):
    settings = {"batch_size": 16, "optimizer": dnn.Adam(Cosine(0.05, steps=24))}
    whole, part, rest = make(squares), make(squares), make(squares)
    whole.fit(X, Y, epochs=4, **settings)
    part.fit(X, Y, epochs=2, callbacks=[Checkpoint(tmp_path)], **settings)
    rest.fit(X, Y, epochs=4, resume_from=tmp_path, **settings)
    np.testing.assert_array_equal(rest.params, whole.params)


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (lambda y, z: 1.0, TypeError, r"must return \(value, gradient\); got 1.0"),
        (lambda y, z: (z, z), TypeError, "must return a number and an array"),
        (lambda y, z: (1.0, "up"), TypeError, "must return a number and an array"),
        (
            lambda y, z: (1.0, z[:, 0]),
            ValueError,
            r"the shape of y_pred, \(64, 2\); got \(64,\)",
        ),
        (lambda y, z: (math.nan, z), dnn.DivergenceError, "epoch 1, step 1"),
        (lambda y, z: (1.0, z * np.inf), dnn.DivergenceError, "epoch 1, step 1"),
    ],
)
def test_what_it_returns_is_checked(loss, error, message):
    net = make(loss)
    before = net.params.copy()
    with np.errstate(invalid="ignore"), pytest.raises(error, match=message):
        net.fit(X, Y, batch_size=64)
    np.testing.assert_array_equal(net.params, before)


def test_bad_declarations_are_refused():
    with pytest.raises(TypeError, match="a name, a Loss or a function; got 'mse'"):
        Custom("mse")
    with pytest.raises(ValueError, match="targets must be one of 'values', 'labels', 'binary'"):
        Custom(squares, "classes")
    with pytest.raises(ValueError, match="link must be one of"):
        Custom(squares, link="log")
    with pytest.raises(ValueError, match="loss must be one of 'softmax_cross_entropy'.*got 3"):
        make(3)
    with pytest.raises(TypeError, match="sample_weight"):
        make(likelihood).fit(X, Y[:, 0], sample_weight=WEIGHT)
