"""Metrics against scikit-learn's; and what fit and evaluate make of them."""

import warnings

import numpy as np
import pytest
import scipy.sparse
import sklearn.metrics as skm
from sklearn.utils.class_weight import compute_class_weight

import dnncore as dnn
from dnncore import metrics, prediction
from dnncore.metrics import METRICS, Metric

RNG = np.random.default_rng(0)
WEIGHTS = [None, RNG.uniform(0, 3, 200)]


def macro(function):
    return lambda t, p, sample_weight=None: function(
        t, p, sample_weight=sample_weight, average="macro", zero_division=0
    )


LABELS = {
    "accuracy": skm.accuracy_score,
    "balanced_accuracy": skm.balanced_accuracy_score,
    "precision": macro(skm.precision_score),
    "recall": macro(skm.recall_score),
    "f1": macro(skm.f1_score),
    "matthews": skm.matthews_corrcoef,
}
VALUES = {
    "mse": skm.mean_squared_error,
    "rmse": skm.root_mean_squared_error,
    "mae": skm.mean_absolute_error,
    "mape": skm.mean_absolute_percentage_error,
    "r2": skm.r2_score,
    "explained_variance": skm.explained_variance_score,
}


@pytest.mark.parametrize("weight", WEIGHTS, ids=["plain", "weighted"])
@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize(
    ("true", "pred"),
    [
        (RNG.integers(2, size=200), RNG.integers(2, size=200)),
        (RNG.integers(5, size=200), RNG.integers(5, size=200)),
        (RNG.choice(["a", "b", "c"], 200), RNG.choice(["b", "c", "d"], 200)),
        (np.zeros(200, int), np.zeros(200, int)),
        (np.zeros(200, int), np.ones(200, int)),
        (RNG.integers(3, size=200), np.full(200, 1)),
    ],
    ids=["two", "five", "names", "one class", "all wrong", "one answer"],
)
def test_metrics_of_labels(name, true, pred, weight):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns where a ratio is 0/0
        expected = LABELS[name](true, pred, sample_weight=weight)
    assert METRICS[name].function(true, pred, weight) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("weight", WEIGHTS, ids=["plain", "weighted"])
@pytest.mark.parametrize("name", ["accuracy", "precision", "recall", "f1"])
def test_metrics_of_several_labels_a_row(name, weight):
    true, pred = RNG.integers(2, size=(2, 200, 3))
    pred[:, 2] = 0
    expected = LABELS[name](true, pred, sample_weight=weight)
    assert METRICS[name].function(true, pred, weight) == pytest.approx(expected)


@pytest.mark.parametrize("weight", WEIGHTS, ids=["plain", "weighted"])
@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("shape", [(200,), (200, 3)])
def test_metrics_of_values(name, shape, weight):
    true = RNG.standard_normal(shape)
    for pred in (true + RNG.standard_normal(shape), true, np.zeros(shape)):
        expected = VALUES[name](true, pred, sample_weight=weight)
        assert METRICS[name].function(true, pred, weight) == pytest.approx(expected, abs=1e-12)
    constant = np.ones(shape)
    for name in ("r2", "explained_variance"):
        # scikit-learn's mean of a constant with weights is off by a rounding, and so is the rest.
        for pred, expected in ((constant, 1.0), (true, 0.0)):
            assert METRICS[name].function(0.1 * constant, 0.1 * pred, weight) == expected
            assert weight is not None or VALUES[name](constant, pred) == expected


@pytest.mark.parametrize("weight", WEIGHTS, ids=["plain", "weighted"])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [2, 4])
def test_metrics_of_probabilities(k, ties, weight):
    true = RNG.integers(k, size=200)
    proba = RNG.dirichlet(np.ones(k), 200)
    if ties:
        proba = np.round(proba * 4) / 4 + 0.01
        proba /= proba.sum(axis=1, keepdims=True)
    names = np.array(["w", "x", "y", "z"])[true]
    for y in (true, names):
        value = metrics.log_loss(y, proba, weight)
        assert value == pytest.approx(skm.log_loss(y, proba, sample_weight=weight))
        score = proba[:, 1] if k == 2 else proba
        expected = skm.roc_auc_score(y, score, sample_weight=weight, multi_class="ovr")
        assert metrics.roc_auc(y, proba, weight) == pytest.approx(expected)
        if k == 2:
            assert metrics.roc_auc(y, score, weight) == pytest.approx(expected)
            assert metrics.log_loss(y, score, weight) == pytest.approx(value)
        hot = np.eye(k)[true][:, 1:] if k == 2 else np.eye(k)[true]
        columns = proba[:, 1:] if k == 2 else proba
        expected = skm.average_precision_score(hot, columns, sample_weight=weight)
        assert metrics.average_precision(y, proba, weight) == pytest.approx(expected)


def test_areas_of_several_labels_a_row():
    true, proba = RNG.integers(2, size=(200, 3)), RNG.random((200, 3))
    assert metrics.roc_auc(true, proba) == pytest.approx(skm.roc_auc_score(true, proba))
    expected = skm.average_precision_score(true, proba)
    assert metrics.average_precision(true, proba) == pytest.approx(expected)
    with pytest.raises(ValueError, match="log_loss needs one label a row"):
        metrics.log_loss(true, proba)


def test_certain_mistakes_and_missing_classes():
    assert metrics.log_loss([0, 1], [[1.0, 0.0], [1.0, 0.0]]) == pytest.approx(
        skm.log_loss([0, 1], [[1.0, 0.0], [1.0, 0.0]])
    )
    assert np.isfinite(metrics.log_loss([0, 1], np.float32([[1, 0], [1, 0]])))
    assert np.isnan(metrics.roc_auc([0, 0], [0.1, 0.2]))
    assert np.isnan(metrics.average_precision([0, 0], [0.1, 0.2]))
    assert np.isnan(metrics.roc_auc([0, 1, 1], RNG.random((3, 3))))


@pytest.mark.parametrize(
    ("true", "pred", "weight", "message"),
    [
        ([0, 1], [0], None, "must be of one shape"),
        ([], [], None, "not empty"),
        ([0, 1], [0, 1], [1], r"sample_weight must have shape \(2,\)"),
    ],
)
def test_pairs_that_do_not_match(true, pred, weight, message):
    for name in (*LABELS, *VALUES):
        with pytest.raises(ValueError, match=message):
            METRICS[name].function(true, pred, weight)


# In fit and evaluate


def classifier(kind, dtype="float64"):
    X = RNG.standard_normal((80, 4))
    code = (X[:, 0] + 0.5 * RNG.standard_normal(80) > 0) * 1 + (X[:, 1] > 0.5)
    if kind == "binary":
        y, n_out, loss = np.where(code > 0, "yes", "no"), 1, "binary_cross_entropy"
    elif kind == "multilabel":
        y, n_out, loss = np.c_[code > 0, code > 1] * 1, 2, "binary_cross_entropy"
    else:
        y, n_out, loss = np.array([7, 9, 30])[code], 3, "softmax_cross_entropy"
        y = np.eye(3)[code] if kind == "one-hot" else y
    net = dnn.Network(4, [dnn.Dense(6, "tanh"), dnn.Dense(n_out)], loss=loss, dtype=dtype)
    return net, X, y


@pytest.mark.parametrize("weight", [None, RNG.uniform(0.1, 3, 80)], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", ["labels", "one-hot", "binary", "multilabel"])
def test_evaluate_with_metrics(kind, weight):
    net, X, y = classifier(kind)
    net.fit(X, y, epochs=5)
    names = ["accuracy", "f1", "balanced_accuracy", "roc_auc"]
    names = names if kind != "multilabel" else ["accuracy", "f1", "roc_auc"]
    found = net.evaluate(X, y, metrics=names, sample_weight=weight)
    assert list(found) == ["loss", *names]
    true = y.argmax(axis=1) if kind == "one-hot" else y
    proba, predicted = net.predict_proba(X), net.predict(X)
    expected = {n: LABELS[n](true, predicted, sample_weight=weight) for n in names if n in LABELS}
    score = proba[:, 1] if kind == "binary" else proba
    more = {} if kind == "multilabel" else {"multi_class": "ovr"}
    expected["roc_auc"] = skm.roc_auc_score(true, score, sample_weight=weight, **more)
    assert found == pytest.approx({"loss": found["loss"]} | expected)
    assert found["loss"] == net.evaluate(X, y, sample_weight=weight)["loss"]
    if kind in ("labels", "one-hot"):
        log_loss = net.evaluate(X, y, metrics=["log_loss"], sample_weight=weight)["log_loss"]
        assert log_loss == pytest.approx(found["loss"])


def test_functions_as_metrics():
    net, X, y = classifier("labels")
    shares = Metric("top_share", lambda t, p: p.max(axis=1).mean(), needs="probabilities")

    def mine(y_true, y_pred):
        assert set(np.unique(y_true)) == {7, 9, 30} and y_pred.dtype == y_true.dtype
        return np.float32(0.25)

    history = net.fit(
        X, y, epochs=3, validation_data=(X, y), metrics=[mine, shares, skm.accuracy_score, "f1"]
    ).history  # fmt: skip
    assert list(history) == [
        "loss", "val_loss", "val_mine", "val_top_share", "val_accuracy_score", "val_f1", "time"
    ]  # fmt: skip
    assert history["val_mine"] == [0.25] * 3
    assert history["val_top_share"][-1] == pytest.approx(net.predict_proba(X).max(axis=1).mean())
    assert history["val_accuracy_score"][-1] == np.mean(net.predict(X) == y)
    weight = RNG.uniform(0, 1, 80)
    weighted = net.evaluate(X, y, metrics=[skm.accuracy_score], sample_weight=weight)
    share = (net.predict(X) == y) @ weight / weight.sum()
    assert weighted["accuracy_score"] == pytest.approx(share)
    with pytest.raises(TypeError, match="metric 'words' must return a number; got 'good'"):
        net.evaluate(X, y, metrics=[Metric("words", lambda t, p: "good")])


class Counting:
    """Stands for a network's program, and counts the rows that go forward."""

    def __init__(self, program):
        self.program, self.rows = program, 0

    def __getattr__(self, name):
        return getattr(self.program, name)

    def evaluate(self, data, *rest):
        self.rows += data.rows
        return self.program.evaluate(data, *rest)

    def infer(self, x, *rest):
        self.rows += len(x)
        return self.program.infer(x, *rest)

    def infer_sparse(self, data, *rest):
        self.rows += data.rows
        return self.program.infer_sparse(data, *rest)


@pytest.mark.parametrize("names", [[], ["accuracy"], ["f1"], ["accuracy", "f1", "roc_auc"]])
@pytest.mark.parametrize("wrap", [np.asarray, scipy.sparse.csr_array])
def test_rows_go_forward_once(wrap, names, monkeypatch):
    monkeypatch.setattr(prediction, "CHUNK_ELEMENTS", 0)  # several chunks
    net, X, y = classifier("labels")
    X, y = wrap(np.tile(X, (8, 1))), np.tile(y, 8)
    expected = net.evaluate(X, y, metrics=names)
    net._program = counting = Counting(net._program)
    assert net.evaluate(X, y, metrics=names) == expected
    assert counting.rows == 640
    net.fit(X, y, epochs=1, validation_data=(X, y), metrics=names)
    assert counting.rows == 1280


def test_losses_whose_link_is_no_activation_and_losses_in_python():
    X = RNG.standard_normal((50, 3))
    y = RNG.poisson(2, 50)
    for loss in ("poisson", lambda t, p: (((p - t) ** 2).mean(), 2 * (p - t) / len(t))):
        net = dnn.Network(3, [dnn.Dense(4), dnn.Dense(1)], loss=loss)
        found = net.evaluate(X, y, metrics=["r2", "mae"])
        expected = {name: VALUES[name](y, net.predict(X)) for name in ("r2", "mae")}
        assert found == pytest.approx({"loss": net.evaluate(X, y, metrics=[])["loss"]} | expected)


def test_metrics_of_regression():
    X = RNG.standard_normal((50, 3))
    for y in (X[:, 0], X[:, :2]):
        net = dnn.Network(3, [dnn.Dense(4), dnn.Dense(y.reshape(50, -1).shape[1])], loss="mse")
        history = net.fit(X, y, epochs=2, validation_data=(X, y), metrics=list(VALUES)).history
        assert history["val_mse"][-1] == pytest.approx(history["val_loss"][-1])
        for name, function in VALUES.items():
            assert history[f"val_{name}"][-1] == pytest.approx(function(y, net.predict(X)))


def test_without_validation_the_metrics_are_of_the_training_data():
    net, X, y = classifier("binary")
    history = net.fit(X, y, epochs=3, metrics=["f1", "accuracy"]).history
    assert list(history) == ["loss", "f1", "accuracy", "time"]
    assert history["accuracy"][-1] == np.mean(net.predict(X) == y)
    assert list(net.fit(X, y, epochs=3).history) == ["loss", "time"]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("f1", TypeError, "metrics must be a list"),
        (["F1"], ValueError, "metrics: each must be one of 'accuracy', "),
        (["mse"], ValueError, "metrics: each must be one of 'accuracy', "),
        (["f1", "f1"], ValueError, "different names"),
        ([Metric("loss", max)], ValueError, "other than 'loss'"),
        ([3], ValueError, "metrics: each must be one of"),
    ],
)
def test_metrics_that_are_none(given, error, message):
    net, X, y = classifier("labels")
    before = net.params.copy()
    for call in (net.fit, net.evaluate):
        with pytest.raises(error, match=message):
            call(X, y, metrics=given)
    np.testing.assert_array_equal(net.params, before)
    with pytest.raises(TypeError, match=r"Metric\(name, function\)"):
        Metric("f", 3)
    with pytest.raises(ValueError, match="needs must be one of"):
        Metric("f", max, needs="logits")
    values = dnn.Network(4, [dnn.Dense(1)], loss="mse")
    with pytest.raises(ValueError, match="needs classes; these targets are values"):
        values.evaluate(X, X[:, 0], metrics=[METRICS["roc_auc"]])


# Class weights


@pytest.mark.parametrize("kind", ["labels", "one-hot", "binary"])
def test_class_weight_is_a_sample_weight(kind):
    own = RNG.uniform(0.5, 2, 80)
    for sample_weight in (None, own):
        net, X, y = classifier(kind)
        k = 2 if kind == "binary" else 3
        codes = y.argmax(axis=1) if kind == "one-hot" else np.unique(y, return_inverse=True)[1]
        by_class = np.array([0.2, 3.0, 1.0])[:k]
        weight = by_class[codes] * (1 if sample_weight is None else own)
        labels = np.unique(y).tolist() if kind != "one-hot" else range(k)
        mapping = dict(zip(labels, by_class.tolist(), strict=True))
        mapping.pop(labels[-1]) if k == 3 else None  # what is not named counts 1
        expected = net.copy()
        expected.fit(X, y, epochs=3, batch_size=16, sample_weight=weight)
        for given in (mapping, by_class, by_class.tolist()):
            other = net.copy()
            options = {"class_weight": given, "sample_weight": sample_weight}
            other.fit(X, y, epochs=3, batch_size=16, **options)
            np.testing.assert_array_equal(other.params, expected.params)
            assert other.evaluate(X, y, **options) == expected.evaluate(X, y, sample_weight=weight)
            loss = other.train_step(X, y, **options)
            assert loss == pytest.approx(
                expected.copy().train_step(X, y, sample_weight=weight), rel=1e-9
            )


@pytest.mark.parametrize("kind", ["labels", "one-hot", "binary"])
def test_balanced(kind):
    net, X, y = classifier(kind)
    codes = y.argmax(axis=1) if kind == "one-hot" else np.unique(y, return_inverse=True)[1]
    by_class = compute_class_weight("balanced", classes=np.unique(codes), y=codes)
    expected = net.copy()
    expected.fit(X, y, epochs=2, class_weight=by_class)
    net.fit(X, y, epochs=2, class_weight="balanced")
    np.testing.assert_array_equal(net.params, expected.params)
    with pytest.raises(ValueError, match="a batch does not know the shares"):
        net.train_step(X, y, class_weight="balanced")


def test_probabilities_get_the_mean_weight():
    net = dnn.Network(2, [dnn.Dense(2)], dtype="float64")
    X, P = RNG.standard_normal((9, 2)), RNG.dirichlet([1, 1], 9)
    weighted = net.evaluate(X, P, class_weight=[1, 5])
    assert weighted == net.evaluate(X, P, sample_weight=P @ [1, 5])


def test_validation_is_not_weighted_by_class():
    net, X, y = classifier("labels")
    plain = net.copy()
    still = dnn.SGD(0.0)
    options = {"validation_split": 0.3, "optimizer": still, "epochs": 1}
    a = net.fit(X, y, class_weight="balanced", **options).history
    b = plain.fit(X, y, **options).history
    assert a["val_loss"] == b["val_loss"] and a["loss"] != b["loss"]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("even", ValueError, "class_weight must be one of 'balanced'"),
        ({8: 2.0}, ValueError, "class_weight names 8, which is no class; there are"),
        ([1, 2], ValueError, "class_weight must have 3 elements"),
        ([1, 2, -1], ValueError, "finite and at least 0"),
        ({7: np.nan}, ValueError, "finite and at least 0"),
        ([0, 0, 0], ValueError, "gives every row the weight 0"),
    ],
)
def test_class_weights_that_are_none(given, error, message):
    net, X, y = classifier("labels")
    before = net.params.copy()
    with pytest.raises(error, match=message):
        net.fit(X, y, class_weight=given)
    np.testing.assert_array_equal(net.params, before)


def test_class_weight_needs_classes():
    multi, X, y = classifier("multilabel")
    values = dnn.Network(4, [dnn.Dense(1)], loss="mse")
    for net, target in ((multi, y), (values, X[:, 0])):
        with pytest.raises(ValueError, match="class_weight needs one class label a row"):
            net.fit(X, target, class_weight="balanced")
