"""Losses as a user meets them: declared, trained with, predicted with, refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats
from sklearn.linear_model import GammaRegressor, QuantileRegressor, TweedieRegressor

import dnncore as dnn
from dnncore import kernels, losses
from dnncore import reference as ref
from dnncore.losses import LOSSES, BinaryFocal, Loss, Quantile, SoftmaxFocal, Tweedie

TORCH = json.loads((Path(__file__).parent / "fixtures" / "torch_losses.json").read_text())
RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 3))
LINE = X @ [0.5, -0.3, 0.2] + 0.4


def linear(loss, n_out=1, **more):
    return dnn.Network(3, [dnn.Dense(n_out)], loss=loss, dtype="float64", **more)


def fitted(loss, y, n_out=1, rate=0.05, epochs=1500, **more):
    """A linear model at its optimum: full batches of Adam, the rate falling to 0."""
    net = linear(loss, n_out)
    adam = dnn.Adam(dnn.schedules.Cosine(rate))
    net.fit(X, y, epochs=epochs, batch_size=None, optimizer=adam, **more)
    return net


# ------------------------------------------------------------------ against other libraries


def test_quantiles_are_scikit_learns_all_at_once():
    y = LINE + RNG.standard_normal(300) * np.exp(0.5 * X[:, 0])
    levels = [0.1, 0.5, 0.9]
    net = fitted(Quantile(levels), y, n_out=3)
    predicted = net.predict(X)
    assert predicted.shape == (300, 3)
    for level, own in zip(levels, predicted.T, strict=True):
        theirs = QuantileRegressor(quantile=level, alpha=0, solver="highs").fit(X, y).predict(X)
        np.testing.assert_allclose(own, theirs, atol=0.05)
        assert (y < own).mean() == pytest.approx(level, abs=0.02)
    assert set(net.evaluate(X, y)) == {"loss"}  # no mean is predicted: no R2


def test_gamma_and_tweedie_are_scikit_learns():
    mean = np.exp(LINE)
    weight = RNG.uniform(0.5, 2.0, 300)
    y = RNG.gamma(2.0, mean / 2.0)
    claims = np.where(RNG.random(300) < 0.4, 0.0, y)
    for loss, target, theirs in [
        ("gamma", y, GammaRegressor(alpha=0, tol=1e-8, max_iter=1000)),
        (Tweedie(1.3), claims, TweedieRegressor(power=1.3, alpha=0, tol=1e-8, max_iter=1000)),
    ]:
        net = fitted(loss, target, sample_weight=weight)
        theirs.fit(X, target, sample_weight=weight)
        np.testing.assert_allclose(net.weights[0][:, 0], theirs.coef_, atol=1e-3)
        np.testing.assert_allclose(net.predict(X), theirs.predict(X), rtol=2e-3)


def test_values_are_those_of_scipy():
    z, y = RNG.standard_normal((2, 50, 1)) * 3
    wide = np.abs(z - y)
    assert kernels.loss("log_cosh", z, y)[0] == pytest.approx(np.log(np.cosh(wide)).mean())
    y = RNG.gamma(2.0, size=(50, 1))
    density = stats.gamma.logpdf(y, 1.0, scale=np.exp(z))  # of shape 1 without more terms in y
    assert kernels.loss("gamma", z, y)[0] == pytest.approx(-density.mean())
    labels = RNG.integers(4, size=50)
    z = RNG.standard_normal((50, 4))
    p = special.softmax(z, axis=1)[np.arange(50), labels]
    for gamma in (0.0, 0.5, 2.0):
        value = kernels.loss("softmax_focal", z, labels, parameter=gamma)[0]
        assert value == pytest.approx(-((1 - p) ** gamma * np.log(p)).mean())


@pytest.mark.parametrize("case", TORCH["losses"], ids=lambda c: f"{c['loss']}-{c['parameter']}")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_and_gradients_are_pytorchs(case, dtype):
    z, weight = (np.array(case[name], dtype) for name in ("z", "weight"))
    y = np.array(case["y"])
    y = y.astype(np.int32 if y.ndim == 1 else dtype)
    more = {} if case["parameter"] is None else {"parameter": case["parameter"]}
    value, gradient = kernels.loss(case["loss"], z, y, weight, **more)
    assert value == pytest.approx(case["value"], rel=1e-12 if dtype == np.float64 else 1e-5)
    atol = 1e-13 if dtype == np.float64 else 1e-6
    np.testing.assert_allclose(gradient, case["gradient"], rtol=1e-5, atol=atol)


def test_pytorch_has_them_all():
    assert {case["loss"] for case in TORCH["losses"]} == set(ref.LOSSES)


# ------------------------------------------------------------------ parameters of losses

PARAMETERS = [
    ("softmax_cross_entropy", 0.1),
    ("binary_cross_entropy", 0.3),
    ("huber", 0.5),
    ("quantile", 0.9),
    ("quantile", (0.1, 0.5, 0.9)),
    ("tweedie", 1.2),
    ("binary_focal", 0.0),
    ("binary_focal", 0.5),
    ("softmax_focal", 0.0),
    ("softmax_focal", 0.5),
    ("softmax_focal", 3.0),
]


MADE = {
    "softmax_cross_entropy": losses.SoftmaxCrossEntropy,
    "binary_cross_entropy": losses.BinaryCrossEntropy,
    "huber": losses.Huber,
    "quantile": Quantile,
    "tweedie": Tweedie,
    "binary_focal": BinaryFocal,
    "softmax_focal": SoftmaxFocal,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
@pytest.mark.parametrize("labels", [False, True])
def test_parameters_reach_kernel_and_engine(name, parameter, labels, dtype):
    rng = np.random.default_rng(1)
    z = (2 * rng.standard_normal((70, 3))).astype(dtype)
    kind = LOSSES[name].targets
    if labels and kind != "labels":
        pytest.raises(TypeError, kernels.loss, name, z, np.zeros(70, int))
        return
    y = rng.random((70, 3)) + 0.1 if kind == "values" else rng.integers(2, size=(70, 3))
    if kind == "labels":
        y = rng.dirichlet([0.3] * 3, 70)
    y = rng.integers(3, size=70) if labels else y.astype(dtype)
    w = rng.uniform(0.5, 2.0, 70).astype(dtype)
    value, gradient = kernels.loss(name, z, y, w, parameter=parameter)
    double = [a.astype(float) if a.dtype.kind == "f" else a for a in (z, y, w)]
    exact, exact_gradient = ref.loss(name, *double, parameter)
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    assert value == pytest.approx(exact, rel=tolerance)
    np.testing.assert_allclose(gradient, exact_gradient, rtol=tolerance, atol=tolerance / 20)
    default, _ = kernels.loss(name, z, y, w)
    assert default != pytest.approx(value, rel=1e-3)
    net = dnn.Network(3, [dnn.Dense(3)], loss=Loss(name, parameter), dtype=dtype)
    net.weights[0][:] = np.eye(3)
    targets = y[:, :1] if isinstance(parameter, tuple) else y
    if isinstance(parameter, tuple):
        exact = ref.loss(name, double[0], double[1][:, [0, 0, 0]], double[2], parameter)[0]
    assert net.evaluate(z, targets, sample_weight=w)["loss"] == pytest.approx(exact, rel=tolerance)


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
def test_parameters_survive_files_and_words(name, parameter, tmp_path):
    loss = Loss(name, parameter)
    net = dnn.Network(4, [dnn.Dense(3)], loss=loss)
    net.save(tmp_path / "net.safetensors")
    assert dnn.load(tmp_path / "net.safetensors").loss == loss
    assert dnn.Network.from_config(json.loads(json.dumps(net.get_config()))).loss == loss
    assert eval(repr(net), vars(dnn)).loss == loss
    assert MADE[name](parameter) == loss


def test_descriptions_of_the_first_files_are_understood():
    for name in ("mse", "softmax_cross_entropy", "binary_cross_entropy", "huber", "poisson"):
        config = linear(name, 2).get_config() | {"loss_parameter": 1.0}
        assert dnn.Network.from_config(config).loss == Loss(name)


def test_smoothing_draws_probabilities_to_the_middle():
    # Without inputs the best prediction is the share of the classes, smoothed.
    y, nothing = np.repeat([0, 1, 2], [30, 60, 10]), np.zeros((100, 3))
    adam = dnn.Adam(dnn.schedules.Cosine(0.1))
    for loss, target, n_out, best in [
        (losses.BinaryCrossEntropy(0.2), (y > 1).astype(int), 1, [0.82, 0.18]),
        (losses.SoftmaxCrossEntropy(0.3), y, 3, [0.31, 0.52, 0.17]),
    ]:
        net = linear(loss, n_out)
        net.fit(nothing, target, epochs=500, batch_size=None, optimizer=adam)
        np.testing.assert_allclose(net.predict_proba(nothing)[0], best, atol=1e-4)


# ------------------------------------------------------------------ predictions and targets


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_hinges_separate_two_classes_of_any_name(loss):
    y = np.where(LINE > 0.4, "yes", "no")
    net = fitted(loss, y, epochs=300)
    assert net.evaluate(X, y)["accuracy"] > 0.98
    assert set(net.predict(X)) == {"no", "yes"}
    np.testing.assert_array_equal(net.predict(X) == "yes", net.forward(X)[:, 0] > 0)
    with pytest.raises(ValueError, match=f"cross-entropy or focal loss; this is {loss}"):
        net.predict_proba(X)
    with pytest.raises(ValueError, match=f"metric 'log_loss' needs probabilities; {loss} has"):
        net.evaluate(X, y, metrics=["log_loss"])


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "binary_focal", "hinge"])
def test_several_labels_a_row(loss):
    y = np.stack([LINE > 0, LINE > 0.5, X[:, 0] > X[:, 1]], axis=1).astype(int)
    net = fitted(loss, y, n_out=3, epochs=300)
    predicted = net.predict(X)
    assert predicted.shape == (300, 3)
    assert (predicted == y).mean() > 0.97
    assert net.evaluate(X, y)["accuracy"] == pytest.approx((predicted == y).all(axis=1).mean())
    if loss != "hinge":
        proba = net.predict_proba(X)
        assert proba.shape == (300, 3)
        np.testing.assert_array_equal(proba > 0.5, predicted)


def test_focal_losses_classify():
    y = np.digitize(LINE, [0.0, 0.8])
    net = fitted(SoftmaxFocal(), np.array(["low", "mid", "high"])[y], n_out=3, epochs=400)
    assert net.evaluate(X, np.array(["low", "mid", "high"])[y])["accuracy"] > 0.95
    np.testing.assert_allclose(net.predict_proba(X).sum(axis=1), 1.0)
    net = fitted(BinaryFocal(1.0), y > 0, epochs=400)
    assert net.predict(X).dtype == bool
    assert net.evaluate(X, y > 0)["accuracy"] > 0.97


def test_quantiles_of_several_targets():
    y = np.stack([LINE, -LINE], axis=1) + 0.1 * RNG.standard_normal((300, 2))
    net = fitted(Quantile([0.25, 0.75]), y, n_out=4, epochs=600)
    below = (y[:, [0, 0, 1, 1]] < net.predict(X)).mean(axis=0)
    np.testing.assert_allclose(below, [0.25, 0.75, 0.25, 0.75], atol=0.02)
    assert fitted(Quantile(0.3), LINE, epochs=1).predict(X).shape == (300,)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: linear("gamma").fit(X, 0 * X[:, 0] ** 2), ValueError, "gamma needs y > 0; got 0"),
        (lambda: linear("tweedie").fit(X, LINE - 9), ValueError, "tweedie needs y >= 0; got -"),
        (lambda: linear("hinge").fit(X, LINE), ValueError, "y has 300 classes .* outputs for 2"),
        (
            lambda: linear("hinge", 2).fit(X, np.full((300, 2), 0.5)),
            ValueError,
            "y as a matrix must hold 0 and 1 for hinge; got values from 0.5 to 0.5",
        ),
        (
            lambda: linear("binary_focal", 2).fit(X, np.full((300, 2), 2.0)),
            ValueError,
            r"probabilities in \[0, 1\] for binary_focal",
        ),
        (
            lambda: linear("softmax_focal"),
            ValueError,
            "softmax_focal needs at least two outputs",
        ),
        (
            lambda: linear(Quantile([0.1, 0.9]), 3),
            ValueError,
            "Quantile with 2 quantiles needs one output for each",
        ),
        (
            lambda: linear(Quantile([0.1, 0.9]), 4).fit(X, LINE),
            ValueError,
            r"y must have shape \(rows, 2\), one column per target",
        ),
        (
            lambda: linear(Quantile([0.1, 0.9]), 2).fit(X, np.ones((300, 2))),
            ValueError,
            "y must have 1 column",
        ),
        (lambda: Quantile([]), ValueError, "quantiles must hold at least one number"),
        (lambda: Quantile([0.1, 1.0]), ValueError, "quantiles must be less than 1; got 1"),
        (lambda: Quantile("half"), TypeError, "quantiles must be a number; got 'h'"),
        (lambda: Tweedie(2.0), ValueError, "power must be less than 2; got 2"),
        (lambda: Tweedie(1.0), ValueError, "power must be greater than 1; got 1"),
        (lambda: BinaryFocal(-1.0), ValueError, "gamma must be at least 0; got -1"),
        (lambda: losses.SoftmaxCrossEntropy(1.0), ValueError, "label_smoothing must be less than"),
        (lambda: losses.BinaryCrossEntropy(-0.1), ValueError, "label_smoothing must be at least"),
        (lambda: Loss("log_cosh", 2.0), ValueError, "loss 'log_cosh' has no parameter; got 2.0"),
        (
            lambda: kernels.loss("quantile", X, X, parameter=[0.1, 0.9]),
            ValueError,
            "the quantiles of 'quantile', must be one number, or as many as divide the columns",
        ),
        (
            lambda: kernels.loss("tweedie", X, X, parameter=2.0),
            ValueError,
            "the power of 'tweedie', must be above 1 and below 2; got 2",
        ),
        (lambda: ref.loss("mse", X, X, parameter=2.0), ValueError, "'mse' has no parameter"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
