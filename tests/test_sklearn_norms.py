"""``batch_norm`` and ``layer_norm`` of the estimators of dnncore.sklearn."""

import copy
import pickle

import joblib
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import sklearn.datasets
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler

import dnncore as dnn
from dnncore.reference import activations
from dnncore.sklearn import MLPClassifier, MLPRegressor
from dnncore.sklearn._lbfgs import Problem
from dnncore.sklearn._model import norms

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore:scipy.optimize. The `disp`:DeprecationWarning",  # with scikit-learn 1.6
)

X, Y = sklearn.datasets.load_wine(return_X_y=True)
X = StandardScaler().fit_transform(X)
V = X[:, 0] + np.sin(X[:, 1])
COMMON = {"hidden_layer_sizes": (16, 8), "max_iter": 30, "random_state": 0}
COMMON |= {"learning_rate_init": 0.01, "batch_size": 50}
NORMS = ["batch_norm", "layer_norm"]


def classifier(norm=None, **more):
    return MLPClassifier(**COMMON | more | ({norm: True} if norm else {}))


def regressor(norm=None, **more):
    return MLPRegressor(**COMMON | more | ({norm: True} if norm else {}))


def state(model):
    return [a.copy() for a in (*model.coefs_, *model.intercepts_, *norms(model._network).values())]


def assert_same(model, other):
    for mine, theirs in zip(state(model), state(other), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def by_hand(model, rows, *, trained):
    """Outputs in NumPy: of a batch in training, or with the running averages."""
    found = list(norms(model._network).values())
    per = 4 if model.batch_norm else 2
    h = np.asarray(rows, np.float64)
    for i, (w, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        h = h @ w + b
        if i == len(model.coefs_) - 1:
            return h
        gamma, beta, *running = found[per * i : per * (i + 1)]
        axis = 0 if model.batch_norm else 1
        mean, var = h.mean(axis=axis, keepdims=True), h.var(axis=axis, keepdims=True)
        if running and not trained:
            mean, var = running
        h = activations.ACTIVATIONS["tanh"].forward((h - mean) / np.sqrt(var + 1e-5) * gamma + beta)


@pytest.mark.parametrize("norm", NORMS)
class TestNorms:
    def test_is_what_it_says(self, norm):
        more = {"activation": "tanh", "alpha": 0.0, "batch_size": 178, "shuffle": False}
        model = regressor(norm, **more).fit(X, V)
        assert model.loss_ < 0.3 * model.loss_curve_[0]
        expected = by_hand(model, X, trained=False).ravel()
        np.testing.assert_allclose(model.predict(X), expected, rtol=1e-8, atol=1e-10)
        loss = 0.5 * np.mean((by_hand(model, X, trained=True).ravel() - V) ** 2)
        # An epoch of one step has the loss of the parameters before it.
        model.set_params(learning_rate_init=1e-300, warm_start=True, max_iter=1).fit(X, V)
        assert model.loss_ == pytest.approx(loss, rel=1e-9)
        kind = dnn.BatchNorm() if norm == "batch_norm" else dnn.LayerNorm()
        one = (kind, dnn.Activation("tanh"))
        expected = (dnn.Dense(16), *one, dnn.Dense(8), *one, dnn.Dense(1))
        assert model._network.layers == expected

    def test_a_network_of_the_same_layers_trains_alike(self, norm):
        more = {"solver": "sgd", "momentum": 0.0, "alpha": 0.0, "shuffle": False, "max_iter": 3}
        model = classifier(norm, **more).fit(X, Y)
        start = classifier(norm, **more | {"learning_rate_init": 1e-300, "max_iter": 1}).fit(X, Y)
        network = dnn.Network(13, model._network.layers, dtype="float64")
        for mine, first in zip(network.weights, start.coefs_, strict=True):
            mine[...] = first
        for mine, first in zip(network.biases, start.intercepts_, strict=True):
            mine[...] = first
        network.fit(X, Y, epochs=3, batch_size=50, optimizer=dnn.SGD(0.01), shuffle=False)
        np.testing.assert_allclose(network.params, model._network.params, rtol=1e-9, atol=1e-12)

    def test_starts_from_the_same_weights(self, norm):
        plain, model = (classifier(n, learning_rate_init=1e-300, max_iter=1) for n in (None, norm))
        plain.fit(X, Y)
        model.fit(X, Y)
        for mine, theirs in zip(
            (*model.coefs_, *model.intercepts_), (*plain.coefs_, *plain.intercepts_), strict=True
        ):
            np.testing.assert_allclose(mine, theirs, rtol=1e-12)
        for (_, kind, _), array in norms(model._network).items():
            if kind in ("gamma", "beta"):
                np.testing.assert_allclose(array, float(kind == "gamma"), atol=1e-200)

    def test_coefs_are_views(self, norm):
        model = classifier(norm).fit(X, Y)
        for array in (*model.coefs_, *model.intercepts_):
            assert np.shares_memory(array, model._network.params)
        other, kept = classifier(norm, random_state=1).fit(X, Y), state(model)
        model.coefs_ = [c.copy() for c in other.coefs_]
        assert not np.allclose(model.predict_proba(X), other.predict_proba(X))
        model.coefs_ = kept[:3]
        np.testing.assert_array_equal(
            model.predict_proba(X), clone(model).fit(X, Y).predict_proba(X)
        )

    @pytest.mark.parametrize("way", ["pickle", "deepcopy", "joblib"])
    def test_copies_go_on_alike(self, norm, way, tmp_path):
        model = classifier(norm, dropout=0.1).fit(X, Y)
        if way == "pickle":
            again = pickle.loads(pickle.dumps(model))
        elif way == "deepcopy":
            again = copy.deepcopy(model)
        else:
            joblib.dump(model, tmp_path / "model")
            again = joblib.load(tmp_path / "model", mmap_mode="r")
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
        for each in (model, again):
            each.partial_fit(X, Y)
        assert_same(again, model)

    def test_fits_anew_from_the_start(self, norm):
        model = classifier(norm).fit(X, Y)
        once = copy.deepcopy(model)
        assert_same(model.fit(X, Y), once)
        assert_same(clone(model).fit(X, Y), once)

    def test_partial_fits_are_epochs(self, norm):
        model = classifier(norm, n_iter_no_change=100, shuffle=False).fit(X, Y)
        parts = classifier(norm, shuffle=False)
        for _ in range(30):
            parts.partial_fit(X, Y, classes=[0, 1, 2])
        for mine, theirs in zip(state(parts), state(model), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)

    def test_warm_start_goes_on(self, norm):
        model = classifier(norm, warm_start=True).fit(X, Y)
        before, end = state(model), model.loss_
        model.set_params(learning_rate_init=1e-300, dropout=0.01).fit(X, Y)  # builds anew
        for old, new, (_, kind, _) in zip(
            before[6:], state(model)[6:], norms(model._network), strict=True
        ):
            if kind in ("gamma", "beta"):
                np.testing.assert_allclose(old, new, rtol=1e-12)
        assert model.loss_curve_[30] < 3 * end

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_inputs(self, norm, dtype):
        rows = X.astype(dtype)
        model = classifier(norm).fit(rows, Y)
        assert model.coefs_[0].dtype == dtype and model.score(rows, Y) > 0.95
        found = model.predict_proba(rows)
        sparse = classifier(norm).fit(scipy.sparse.csr_array(rows), Y)
        rtol = 1e-2 if dtype == np.float32 else 1e-7
        np.testing.assert_allclose(sparse.predict_proba(rows), found, rtol=rtol, atol=rtol / 10)
        one = np.concatenate([model.predict_proba(rows[i : i + 1]) for i in range(5)])
        np.testing.assert_allclose(one, found[:5], rtol=1e-4)
        wide = model.predict_proba(rows.astype(np.float64))
        np.testing.assert_allclose(wide, found, rtol=1e-3, atol=1e-5)

    def test_with_the_rest(self, norm):
        model = classifier(
            norm, early_stopping=True, activation=["identity", "gelu"], dropout=[0.1, 0.0],
            solver="adamw", clip_norm=1.0, class_weight="balanced", max_iter=200,
        )  # fmt: skip
        model.fit(X, Y, X_val=X[::3], y_val=Y[::3])
        assert model.score(X[::3], Y[::3]) == model.best_validation_score_ > 0.95
        single = regressor(norm, loss=lambda t, p: (((p - t) ** 2).mean(), 2 * (p - t) / t.size))
        assert single.fit(X, V).loss_ < single.loss_curve_[0]

    def test_no_hidden_layer_no_norm(self, norm):
        plain, model = (classifier(n, hidden_layer_sizes=()).fit(X, Y) for n in (None, norm))
        assert model.loss_curve_ == plain.loss_curve_

    def test_any_number_of_threads(self, norm):
        wide = np.tile(X, (4, 10))
        found = [
            classifier(norm, hidden_layer_sizes=(100,), batch_size=200, max_iter=3, n_threads=n)
            .fit(wide, np.tile(Y, 4)) for n in (1, 2, 3)
        ]  # fmt: skip
        assert_same(found[0], found[1])
        assert_same(found[0], found[2])

    def test_set_later(self, norm):
        # There are more parameters, and moments, than the optimizer knows of.
        model = classifier().partial_fit(X, Y, classes=[0, 1, 2])
        model.set_params(**{norm: True}).partial_fit(X, Y)
        assert model._optimizer.state.first.size == model._network.n_params
        before = model.loss_
        for _ in range(30):
            model.partial_fit(X, Y)
        assert model.loss_ < before

    def test_what_it_cannot_be(self, norm):
        with pytest.raises(ValueError, match=f"The '{norm}' parameter"):
            classifier(**{norm: "yes"}).fit(X, Y)
        model = classifier(batch_norm=True, layer_norm=True)
        with pytest.raises(ValueError, match="batch_norm and layer_norm are both True"):
            model.fit(X, Y)
        assert not hasattr(model, "coefs_")


def test_coefs_of_other_shapes_start_the_optimizer_anew():
    model = classifier(hidden_layer_sizes=(4,)).partial_fit(X, Y, classes=[0, 1, 2])
    wide = np.zeros((13, 50)), np.zeros((50, 3))
    model.coefs_, model.intercepts_ = list(wide), [np.zeros(50), np.zeros(3)]
    model.partial_fit(X, Y)
    assert model._optimizer.state.first.size == model._network.n_params


class TestBatches:
    def test_of_one_row(self):
        with pytest.raises(ValueError, match="batch of one row"):
            classifier("batch_norm", batch_size=1).fit(X, Y)
        model = classifier("batch_norm", batch_size="auto")
        with pytest.raises(ValueError, match="batch of one row"):
            model.partial_fit(X[:1], Y[:1], classes=[0, 1, 2])
        classifier("layer_norm", batch_size=1, max_iter=1).fit(X, Y)

    def test_that_leave_one_row(self):
        model = classifier("batch_norm", batch_size=59).fit(X, Y)  # 178 = 3 * 59 + 1
        assert model.score(X, Y) > 0.95


class TestLbfgs:
    def test_trains_layer_norm(self):
        model = regressor("layer_norm", solver="lbfgs", alpha=0.1).fit(X, V)
        assert model.loss_ < 0.1 * regressor("layer_norm", max_iter=1).fit(X, V).loss_
        assert not any(np.all(a == 1) or np.all(a == 0) for a in norms(model._network).values())
        assert len(model.intercepts_) == 3
        problem, packed = (
            Problem(model, X, V[:, np.newaxis], None),
            np.concatenate([a.ravel() for a in state(model)]),
        )
        assert problem.loss(packed) == pytest.approx(model.loss_)
        loss = 0.5 * np.mean((model.predict(X) - V) ** 2)
        loss += 0.5 * 0.1 * sum((w**2).sum() for w in model.coefs_) / len(X)
        assert loss == pytest.approx(model.loss_)

    def test_gradient(self):
        model = regressor("layer_norm", activation="tanh", alpha=0.5, max_iter=2).fit(X, V)
        problem = Problem(model, X, V[:, np.newaxis], None)
        packed = np.concatenate([a.ravel() for a in state(model)])
        found = problem.gradient(packed).copy()
        numeric = scipy.optimize.approx_fprime(packed, problem.loss, 1e-6)
        np.testing.assert_array_equal(problem.gradient(packed), found)  # not where loss was last
        np.testing.assert_allclose(found, numeric, rtol=1e-3, atol=1e-5)

    def test_refuses_batch_norm(self):
        model = regressor("batch_norm", solver="lbfgs")
        with pytest.raises(ValueError, match="batch_norm needs a stochastic solver"):
            model.fit(X, V)
        assert not hasattr(model, "coefs_")
