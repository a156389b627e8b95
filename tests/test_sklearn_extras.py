"""What the estimators of dnncore.sklearn take beyond scikit-learn's; each is off by default."""

import logging
import time

import numpy as np
import pytest
import scipy.sparse
import sklearn.datasets
from sklearn.base import clone
from sklearn.metrics import get_scorer
from sklearn.preprocessing import StandardScaler

import dnncore as dnn
from dnncore.reference import activations
from dnncore.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore:scipy.optimize. The `disp`:DeprecationWarning",  # with scikit-learn 1.6
)

X, Y = sklearn.datasets.load_wine(return_X_y=True)
X = StandardScaler().fit_transform(X)
RNG = np.random.default_rng(0)
V = X[:, 0] + np.sin(X[:, 1]) + 0.1 * RNG.standard_normal(len(X))
COMMON = {"hidden_layer_sizes": (16, 8), "max_iter": 40, "random_state": 0}
COMMON |= {"learning_rate_init": 0.01}


def classifier(**more):
    return MLPClassifier(**COMMON | more)


def regressor(**more):
    return MLPRegressor(**COMMON | more)


class TestClassWeight:
    @pytest.mark.parametrize("target", [Y, Y == 1, np.array(["a", "b", "c"])[Y]])
    def test_is_a_weight_of_rows(self, target):
        labels = np.unique(target).tolist()
        given = {labels[0]: 3.0, labels[1]: 0.5}
        weights = np.array([given.get(label, 1.0) for label in target.tolist()])
        ours = classifier(class_weight=given).fit(X, target)
        same = classifier().fit(X, target, sample_weight=weights)
        np.testing.assert_array_equal(ours.loss_curve_, same.loss_curve_)
        twice = classifier(class_weight=given).fit(X, target, sample_weight=weights)
        same = classifier().fit(X, target, sample_weight=weights**2)
        np.testing.assert_array_equal(twice.loss_curve_, same.loss_curve_)

    def test_balanced(self):
        counts = np.bincount(Y)
        ours = classifier(class_weight="balanced").fit(X, Y)
        weights = (len(Y) / (3 * counts))[Y]
        same = classifier().fit(X, Y, sample_weight=weights)
        np.testing.assert_allclose(ours.loss_curve_, same.loss_curve_, rtol=1e-12)

    def test_by_class_in_partial_fit(self):
        ours, plain = classifier(class_weight={0: 5.0}), classifier()
        for model in (ours, plain):
            for _ in range(3):
                model.partial_fit(X[:90], Y[:90], classes=[0, 1, 2])
        assert ours.loss_curve_ != plain.loss_curve_

    @pytest.mark.parametrize(
        "given, words",
        [
            ({7: 1.0}, "names 7"), ("even", "class_weight"), (3, "class_weight"),
            ({0: -1.0}, "at least 0"), ({0: np.nan}, "finite"), ({0: "a"}, "numbers"),
        ],
    )  # fmt: skip
    def test_what_it_cannot_be(self, given, words):
        with pytest.raises(ValueError, match=words):
            classifier(class_weight=given).fit(X, Y)

    def test_where_it_cannot_be(self):
        with pytest.raises(ValueError, match="one class a row"):
            classifier(class_weight="balanced").fit(X, np.stack([Y == 0, Y == 1], axis=1))
        with pytest.raises(ValueError, match="not possible with partial_fit"):
            classifier(class_weight="balanced").partial_fit(X, Y, classes=[0, 1, 2])


class TestLayers:
    @pytest.mark.parametrize("names", [["gelu", "tanh"], ["logistic", "leaky_relu"], "mish"])
    def test_activations(self, names):
        model = regressor(activation=names).fit(X, V)
        assert model.loss_ < 0.5 * model.loss_curve_[0]
        h = X
        each = [names] * 2 if isinstance(names, str) else names
        for w, b, name in zip(model.coefs_[:-1], model.intercepts_[:-1], each, strict=False):
            name = "sigmoid" if name == "logistic" else name
            h = activations.ACTIVATIONS[name].forward(h @ w + b)
        expected = h @ model.coefs_[-1] + model.intercepts_[-1]
        np.testing.assert_allclose(model.predict(X), expected.ravel(), rtol=1e-8, atol=1e-10)

    def test_a_list_of_the_same_is_the_same(self):
        one, several = classifier(activation="tanh"), classifier(activation=["tanh", "tanh"])
        np.testing.assert_array_equal(one.fit(X, Y).loss_curve_, several.fit(X, Y).loss_curve_)

    @pytest.mark.parametrize("rate", [0.3, [0.5, 0.0]])
    def test_dropout(self, rate):
        plain, model = regressor().fit(X, V), regressor(dropout=rate).fit(X, V)
        assert model.loss_ > plain.loss_
        np.testing.assert_array_equal(model.predict(X), model.predict(X))
        again = clone(model).fit(X, V)
        np.testing.assert_array_equal(again.loss_curve_, model.loss_curve_)
        other = regressor(dropout=rate, random_state=1).fit(X, V)
        assert other.loss_curve_ != model.loss_curve_

    @pytest.mark.parametrize(
        "more, words",
        [
            ({"activation": ["tanh"]}, "one for each of the 2 hidden layers"),
            ({"activation": ["tanh", "sine"]}, "activation"),
            ({"activation": "sine"}, "activation"),
            ({"activation": ["tanh", "softmax"]}, "is for outputs"),
            ({"dropout": [0.1, 0.2, 0.3]}, "one for each of the 2 hidden layers"),
            ({"dropout": 1.0}, "dropout"),
            ({"dropout": 0.5, "solver": "lbfgs"}, "dropout needs a stochastic solver"),
        ],
    )
    def test_what_they_cannot_be(self, more, words):
        with pytest.raises(ValueError, match=words):
            regressor(**more).fit(X, V)


def half_squares(y_true, y_pred, sample_weight=None):
    d = y_pred - y_true
    return 0.5 * (d**2).mean(), d / d.size


class TestLosses:
    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    @pytest.mark.parametrize(
        "loss",
        [
            "absolute_error", "huber", "log_cosh", "quantile", "gamma", "tweedie",
            dnn.losses.Quantile(0.9), half_squares,
        ],
    )  # fmt: skip
    def test_for_values(self, loss, solver):
        y = np.exp(V / 2) if loss in ("gamma", "tweedie") else V
        model = regressor(loss=loss, solver=solver, max_iter=80).fit(X, y)
        start = regressor(loss=loss, solver="adam", max_iter=1).fit(X, y)
        assert model.loss_ < start.loss_
        found = model.predict(X)
        if loss in ("gamma", "tweedie"):
            assert model.out_activation_ == "exp" and found.min() > 0
        if isinstance(loss, dnn.Loss):
            assert 0.8 < (y < found).mean() < 1
        else:
            assert np.corrcoef(found, y)[0, 1] > 0.8

    def test_a_function_is_the_loss_it_computes(self):
        more = {"alpha": 0.0, "batch_size": 32, "solver": "sgd"}
        ours = regressor(loss=half_squares, **more).fit(X, V)
        same = regressor(**more).fit(X, V)
        np.testing.assert_allclose(ours.loss_curve_, same.loss_curve_, rtol=1e-9)
        np.testing.assert_allclose(ours.predict(X), same.predict(X), rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize("target", [Y, Y == 1, np.stack([Y == 0, Y == 1], axis=1)])
    def test_for_classes(self, target):
        model = classifier(loss="focal", max_iter=80).fit(X, target)
        assert model.score(X, target) > 0.95

    def test_a_function_for_classes(self):
        def cross_entropy(y_true, y_pred):
            p = np.exp(y_pred - y_pred.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            rows = np.arange(len(p))
            value = -np.log(p[rows, y_true]).mean()
            p[rows, y_true] -= 1
            return value, p / len(p)

        ours = classifier(loss=cross_entropy, alpha=0.0).fit(X, Y)
        same = classifier(alpha=0.0).fit(X, Y)
        np.testing.assert_allclose(ours.loss_curve_[:5], same.loss_curve_[:5], rtol=1e-4)
        assert ours.score(X, Y) > 0.95

    @pytest.mark.parametrize(
        "make, loss, y, words",
        [
            (regressor, "gamma", V, "greater than 0"),
            (regressor, "hinge", V, "loss"),
            (regressor, dnn.losses.SoftmaxFocal(), V, "for classes"),
            (classifier, dnn.losses.BinaryFocal(), Y, "labels targets"),
            (classifier, dnn.Huber(), Y, "gives probabilities"),
        ],
    )
    def test_what_does_not_fit(self, make, loss, y, words):
        with pytest.raises(ValueError, match=words):
            make(loss=loss).fit(X, y)

    def test_a_function_needs_dense_inputs(self):
        with pytest.raises(ValueError, match="dense X"):
            regressor(loss=half_squares).fit(scipy.sparse.csr_array(X), V)

    def test_a_function_that_returns_nonsense(self):
        with pytest.raises(ValueError, match="not finite"):
            regressor(loss=lambda t, p: (np.nan, p)).fit(X, V)


class TestSolvers:
    @pytest.mark.parametrize("solver", sorted(set(dnn.optimizers.OPTIMIZERS) - {"sgd", "adam"}))
    def test_by_name(self, solver):
        rate = {"adadelta": 1.0, "lion": 1e-3, "adagrad": 0.05}.get(solver, 0.01)
        model = classifier(solver=solver, learning_rate_init=rate, batch_size=20).fit(X, Y)
        assert model.loss_ < 0.9 * model.loss_curve_[0]
        assert model._optimizer.learning_rate == pytest.approx(rate)

    def test_an_optimizer(self):
        ours = classifier(solver=dnn.Adam(0.01)).fit(X, Y)
        np.testing.assert_allclose(ours.loss_curve_, classifier().fit(X, Y).loss_curve_, rtol=1e-9)
        assert classifier(solver=dnn.AdamW(0.01, weight_decay=0.1)).fit(X, Y).score(X, Y) > 0.95

    @pytest.mark.parametrize("solver", ["adam", "sgd", "nadam"])
    def test_schedules(self, solver):
        schedule = dnn.schedules.Cosine(0.02)
        model = classifier(solver=solver, learning_rate=schedule).fit(X, Y)
        assert model._optimizer.learning_rate < 0.001
        assert model.score(X, Y) > 0.9

    def test_a_function_of_the_step(self):
        ours = classifier(solver="sgd", learning_rate=lambda step: 0.01).fit(X, Y)
        same = classifier(solver="sgd").fit(X, Y)
        np.testing.assert_allclose(ours.loss_curve_, same.loss_curve_, rtol=1e-12)

    @pytest.mark.parametrize("solver", ["sgd", "rmsprop"])
    @pytest.mark.parametrize("clip", ["clip_norm", "clip_value"])
    def test_clipping(self, clip, solver):
        more = {"solver": solver, "momentum": 0.0, "alpha": 0.0, "max_iter": 1}
        plain, model = regressor(**more), regressor(**more, **{clip: 1e-3})
        before = regressor(**more | {"learning_rate_init": 1e-300}).fit(X, V).coefs_
        steps = [
            np.concatenate([(w - w0).ravel() for w, w0 in zip(m.coefs_, before, strict=True)])
            for m in (plain.fit(X, V), model.fit(X, V))
        ]
        if solver == "sgd":
            size = np.linalg.norm if clip == "clip_norm" else lambda step: np.abs(step).max()
            assert size(steps[1]) <= 1.0001e-5 < size(steps[0])
        else:
            assert not np.array_equal(*steps)

    def test_partial_fit_goes_on(self):
        model = classifier(solver="nadam")
        for _ in range(40):
            model.partial_fit(X, Y, classes=[0, 1, 2])
        np.testing.assert_allclose(
            model.loss_curve_,
            classifier(solver="nadam", shuffle=False, n_iter_no_change=100).fit(X, Y).loss_curve_,
            rtol=1e-6,
        )
        with pytest.raises(ValueError, match="steps="):
            classifier(learning_rate=dnn.schedules.Cosine(0.1)).partial_fit(X, Y, classes=[0, 1, 2])

    @pytest.mark.parametrize(
        "more, words",
        [
            ({"solver": "adam", "learning_rate": "cosine"}, "learning_rate"),
            ({"solver": "nadam", "learning_rate": "adaptive"}, "needs solver='sgd'"),
            ({"solver": dnn.Adam(), "learning_rate": "adaptive"}, "learning rate of its own"),
            ({"solver": dnn.Adam(l2=0.1)}, "set alpha instead"),
            ({"solver": "newton"}, "solver"),
            ({"clip_norm": 1.0, "clip_value": 1.0}, "not both"),
            ({"clip_norm": -1.0}, "clip_norm"),
            ({"clip_norm": 1.0, "solver": "lbfgs"}, "line search"),
            ({"learning_rate": lambda step: 0.1, "solver": "lbfgs"}, "line search"),
            ({"callbacks": [dnn.Callback()], "solver": "lbfgs"}, "callbacks needs"),
            ({"max_time": 1.0, "solver": "lbfgs"}, "max_time needs"),
            ({"progress_bar": True, "solver": "lbfgs"}, "progress_bar needs"),
            ({"restore_best": True, "solver": "lbfgs"}, "restore_best needs"),
            ({"clip_norm": 1.0, "solver": dnn.Adam()}, "Let the optimizer clip"),
        ],
    )
    def test_what_they_cannot_be(self, more, words):
        with pytest.raises(ValueError, match=words):
            classifier(**more).fit(X, Y)


class TestValidation:
    held = {"X_val": X[::3], "y_val": Y[::3]}

    def test_of_rows_given(self):
        plain = classifier().fit(X, Y)
        model = classifier().fit(X, Y, **self.held)
        assert model.loss_curve_ == plain.loss_curve_
        assert len(model.validation_scores_) == len(model.validation_loss_curve_) == model.n_iter_
        assert model.validation_scores_[-1] == model.score(X[::3], Y[::3])
        p = model.predict_proba(X[::3])[np.arange(len(Y[::3])), Y[::3]]
        assert model.validation_loss_curve_[-1] == pytest.approx(-np.log(p).mean())
        weighted = classifier().fit(X, Y, **self.held, sample_weight_val=1.0 + Y[::3])
        assert weighted.validation_loss_curve_ != model.validation_loss_curve_

    def test_stops_on_it(self):
        model = classifier(early_stopping=True, max_iter=500).fit(X, Y, **self.held)
        assert model.n_iter_ < 500
        assert model.t_ == model.n_iter_ * len(X)  # no rows were held out
        assert model.score(X[::3], Y[::3]) == model.best_validation_score_

    @pytest.mark.parametrize(
        "scoring", ["loss", "balanced_accuracy", "neg_log_loss", get_scorer("f1_macro")]
    )
    def test_scorers(self, scoring):
        model = classifier(early_stopping=True, scoring=scoring).fit(X, Y, **self.held)
        if scoring == "loss":
            assert model.validation_scores_ == [-x for x in model.validation_loss_curve_]
        else:
            scorer = get_scorer(scoring) if isinstance(scoring, str) else scoring
            found = scorer(model, X[::3], Y[::3])
            assert found == pytest.approx(model.best_validation_score_)

    def test_of_values(self):
        model = regressor(scoring="neg_mean_absolute_error", early_stopping=True, max_iter=20)
        model.fit(X, V)
        assert model.best_validation_score_ == max(model.validation_scores_) < 0
        assert len(model.validation_loss_curve_) == model.n_iter_

    def test_from_a_warm_start_on(self):
        model = classifier(warm_start=True, max_iter=5).fit(X, Y)
        model.fit(X, Y, **self.held)
        assert (len(model.loss_curve_), len(model.validation_scores_)) == (10, 5)

    @pytest.mark.parametrize("given", [True, False])
    def test_best_epoch(self, given):
        # A rate so high that the last epoch is not the best one.
        more = {"learning_rate_init": 0.3, "restore_best": True, "alpha": 0.0, "batch_size": 178}
        model = regressor(**more).fit(X, V, **({"X_val": X, "y_val": V} if given else {}))
        loss = 0.5 * np.mean((model.predict(X) - V) ** 2)
        if given:
            assert model.score(X, V) == pytest.approx(model.best_validation_score_)
            assert loss == pytest.approx(min(model.validation_loss_curve_))
        else:
            # The loss of an epoch of one step is that of the parameters before it.
            assert model.best_loss_ == min(model.loss_curve_)

    @pytest.mark.parametrize(
        "given, more, words",
        [
            ({"X_val": X}, {}, "belong together"),
            ({"X_val": X[:, :3], "y_val": Y}, {}, "features"),
            ({"X_val": X, "y_val": Y + 1}, {}, "classes that y has not"),
            ({"X_val": X, "y_val": Y}, {"solver": "lbfgs"}, "'lbfgs' does not"),
            ({}, {"scoring": "nonsense", "early_stopping": True}, "scor"),
        ],
    )
    def test_what_it_cannot_be(self, given, more, words):
        with pytest.raises(ValueError, match=words):
            classifier(**more).fit(X, Y, **given)


class TestWatching:
    def test_callbacks(self):
        seen, losses = [], []
        watch = dnn.LambdaCallback(
            on_train_begin=lambda net, epochs: seen.append(epochs),
            on_epoch_end=lambda net, epoch, logs: seen.append((epoch, sorted(logs))),
            on_batch_end=lambda net, epoch, batch, loss: losses.append((epoch, batch, loss)),
        )
        more = {"max_iter": 2, "batch_size": 100, "alpha": 0.0}
        model = classifier(callbacks=[watch], **more).fit(X, Y, X_val=X, y_val=Y)
        names = ["loss", "time", "val_loss", "val_score"]
        assert seen == [2, (0, names), (1, names)]
        assert [x[:2] for x in losses] == [(0, 0), (0, 1), (1, 0), (1, 1)]
        first = (100 * losses[0][2] + 78 * losses[1][2]) / 178
        assert first == pytest.approx(model.loss_curve_[0])
        assert classifier(**more).fit(X, Y).loss_curve_ == model.loss_curve_

    def test_callbacks_stop_and_change(self):
        stop = dnn.EarlyStopping("val_score", patience=3)
        slow = dnn.ReduceLROnPlateau("loss", patience=1, min_delta=1.0)
        model = classifier(callbacks=[stop, slow], max_iter=300)
        model.fit(X, Y, X_val=X[::3], y_val=Y[::3])
        assert model.n_iter_ < 300 and stop.stopped_epoch is not None
        assert model._network.learning_rate_scale < 0.1
        assert model.score(X[::3], Y[::3]) == max(model.validation_scores_)

    @pytest.mark.parametrize("given", ["training", logging.getLogger("training")])
    def test_logger(self, caplog, capsys, given):
        with caplog.at_level(logging.INFO, "training"):
            model = classifier(logger=given, max_iter=3, verbose=True).fit(X, Y)
        assert [r.name for r in caplog.records] == ["training"] * 3
        assert caplog.messages[0] == f"Iteration 1, loss = {model.loss_curve_[0]:.8f}"
        assert capsys.readouterr().out == ""

    def test_progress_bar(self, capsys):
        classifier(progress_bar=True, max_iter=3).fit(X, Y)
        assert "3.0/3" in capsys.readouterr().err

    def test_time_limit(self):
        began = time.perf_counter()
        model = classifier(max_time=0.2, max_iter=10**9, n_iter_no_change=np.inf, tol=0.0)
        model.fit(X, Y)
        assert 0 < model.n_iter_ < 10**9
        assert time.perf_counter() - began < 60

    def test_checkpoints_are_refused(self, tmp_path):
        with pytest.raises(ValueError, match="ModelCheckpoint"):
            classifier(callbacks=[dnn.Checkpoint(tmp_path)]).fit(X, Y)

    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_any_number_of_threads(self, solver):
        wide = np.tile(X, (10, 40))
        found = [
            MLPClassifier((200,), solver=solver, max_iter=4, random_state=0, n_threads=n)
            .fit(wide, np.tile(Y, 10)).coefs_[0] for n in (1, 2, 3)
        ]  # fmt: skip
        np.testing.assert_array_equal(found[0], found[1])
        np.testing.assert_array_equal(found[0], found[2])
