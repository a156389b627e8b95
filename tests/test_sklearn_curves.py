"""The classes of dnncore.sklearn follow scikit-learn's: losses, random stream, numbers."""

import inspect
import warnings

import numpy as np
import pytest
import scipy.sparse
import sklearn.datasets
import sklearn.neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

import dnncore.sklearn

BUNDLED = {
    "iris": ("classifier", sklearn.datasets.load_iris),
    "wine": ("classifier", sklearn.datasets.load_wine),
    "breast_cancer": ("classifier", sklearn.datasets.load_breast_cancer),
    "digits": ("classifier", sklearn.datasets.load_digits),
    "diabetes": ("regressor", sklearn.datasets.load_diabetes),
    "linnerud": ("regressor", sklearn.datasets.load_linnerud),
}
SOLVERS = {
    "adam": {"solver": "adam"},
    "sgd": {"solver": "sgd"},
    "plain": {"solver": "sgd", "momentum": 0.0, "shuffle": False},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.02},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 1, "tol": 0.05},
    "stopping": {"solver": "adam", "early_stopping": True},
}
ACTIVATIONS = ("identity", "logistic", "tanh", "relu")


def load(name):
    kind, loader = BUNDLED[name]
    X, y = loader(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    return kind, X, y if kind == "classifier" else (y - y.mean(axis=0)) / y.std(axis=0)


def both(kind, **parameters):
    """Scikit-learn's estimator, and dnncore's."""
    name = {"classifier": "MLPClassifier", "regressor": "MLPRegressor"}[kind]
    return [getattr(m, name)(**parameters) for m in (sklearn.neural_network, dnncore.sklearn)]


def fit(estimator, *data, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", DeprecationWarning)  # of SciPy, in older scikit-learn
        return estimator.fit(*data, **more)


def agree(theirs, ours, rtol=1e-6):
    for name in ("loss_curve_", "validation_scores_", "loss_", "best_loss_"):
        expected = getattr(theirs, name, None)
        if expected is not None:
            np.testing.assert_allclose(getattr(ours, name), expected, rtol=rtol)
    assert (ours.n_iter_, ours.t_) == (theirs.n_iter_, theirs.t_)
    for ours_, theirs_ in zip(
        (*ours.coefs_, *ours.intercepts_), (*theirs.coefs_, *theirs.intercepts_), strict=True
    ):
        np.testing.assert_allclose(ours_, theirs_, rtol=rtol, atol=rtol * np.abs(theirs_).max())


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", BUNDLED)
def test_twenty_epochs(name, solver, activation):
    more = {"validation_fraction": 0.2} if (name, solver) == ("linnerud", "stopping") else {}
    kind, X, y = load(name)
    theirs, ours = both(
        kind, hidden_layer_sizes=(30, 20), activation=activation, max_iter=20, random_state=3,
        **SOLVERS[solver], **more,
    )  # fmt: skip
    agree(fit(theirs, X, y), fit(ours, X, y))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", BUNDLED)
def test_twenty_iterations_of_lbfgs(name, activation):
    kind, X, y = load(name)
    for iterations in (1, 5, 20):
        theirs, ours = both(
            kind, hidden_layer_sizes=(30, 20), activation=activation, max_iter=iterations,
            random_state=3, solver="lbfgs",
        )  # fmt: skip
        fit(theirs, X, y), fit(ours, X, y)
        assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-6)
        assert ours.n_iter_ == theirs.n_iter_


def cases():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((150, 12))
    signal = X[:, 0] + X[:, 1] * X[:, 2]
    labels = np.digitize(signal, [-0.5, 0.5])
    thin = scipy.sparse.random(150, 12, 0.3, "csr", random_state=rng)
    shuffled = thin.tocsc().tocsr()
    shuffled.has_sorted_indices = False
    shuffled.indices, shuffled.data = shuffled.indices.copy(), shuffled.data.copy()
    for first, last in zip(shuffled.indptr[:-1], shuffled.indptr[1:], strict=True):
        shuffled.indices[first:last] = shuffled.indices[first:last][::-1]
        shuffled.data[first:last] = shuffled.data[first:last][::-1]
    several = (rng.random((150, 4)) < 0.4).astype(int)
    return {
        "strings": ("classifier", X, np.array(["no", "perhaps", "yes"])[labels], {}),
        "three classes": ("classifier", X, labels, {}),
        "two classes": ("classifier", X, labels == 0, {}),
        "several labels": ("classifier", X, several, {}),
        "several labels, stopping": ("classifier", X, several, {"early_stopping": True}),
        "two classes, stopping": ("classifier", X, labels == 0, {"early_stopping": True}),
        "several targets": ("regressor", X, rng.standard_normal((150, 3)), {}),
        "column-major": ("regressor", np.asfortranarray(X), signal, {"early_stopping": True}),
        "csr": ("classifier", thin, labels, {}),
        "csc": ("classifier", thin.tocsc(), labels, {"early_stopping": True}),
        "csr, in any order": ("regressor", shuffled, signal, {}),
        "csr array": ("regressor", scipy.sparse.csr_array(thin), signal, {"shuffle": False}),
        "no hidden layer": ("classifier", X, labels, {"hidden_layer_sizes": ()}),
        "one batch": ("regressor", X, signal, {"batch_size": 150, "hidden_layer_sizes": 7}),
        "counts": ("regressor", X, rng.poisson(2.0, 150), {"loss": "poisson"}),
        "counts, stopping": (
            "regressor", X, rng.poisson(2.0, (150, 2)), {"loss": "poisson", "early_stopping": True},
        ),
    }  # fmt: skip


CASES = cases()


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_kinds_of_data(case, weighted, solver):
    kind, X, y, parameters = CASES[case]
    more = {}
    if weighted:
        more["sample_weight"] = np.random.default_rng(1).uniform(0.1, 3, 150)
    old = parameters.get("loss") == "poisson" and not HAS_WEIGHTS
    if old or (weighted and not HAS_WEIGHTS):
        parameters = {k: v for k, v in parameters.items() if not old or k != "loss"}
        more = {}
    theirs, ours = both(
        kind, solver=solver, max_iter=8, random_state=5,
        **{"hidden_layer_sizes": (20,), "batch_size": 32} | parameters,
    )  # fmt: skip
    agree(fit(theirs, X, y, **more), fit(ours, X, y, **more))
    for method in ("predict", "predict_proba", "predict_log_proba"):
        if hasattr(theirs, method):
            expected, found = getattr(theirs, method)(X), getattr(ours, method)(X)
            assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
            if expected.dtype.kind == "f":
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)
            else:
                np.testing.assert_array_equal(found, expected)


HAS_WEIGHTS = "loss" in sklearn.neural_network.MLPRegressor().get_params()


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("case", ["strings", "several labels", "several targets", "csr"])
def test_float32(case, solver):
    kind, X, y, parameters = CASES[case]
    X = X.astype(np.float32)
    theirs, ours = both(
        kind, solver=solver, max_iter=8, random_state=5, hidden_layer_sizes=(20,), **parameters
    )
    fit(theirs, X, y), fit(ours, X, y)
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-4)
    for other in (X, X.astype(np.float64)):
        for method in ("predict", "predict_proba"):
            if hasattr(theirs, method):
                assert getattr(ours, method)(other).dtype == getattr(theirs, method)(other).dtype
    assert [c.dtype for c in ours.coefs_] == [c.dtype for c in theirs.coefs_]


@pytest.mark.parametrize("early", [False, True])
def test_warm_start_goes_on(early):
    kind, X, y, _ = CASES["three classes"]
    theirs, ours = both(
        kind, max_iter=7, random_state=5, warm_start=True, early_stopping=early, n_iter_no_change=2
    )
    for _ in range(4):
        agree(fit(theirs, X, y), fit(ours, X, y))


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_partial_fit_goes_on(solver):
    kind, X, y, _ = CASES["three classes"]
    theirs, ours = both(kind, random_state=5, solver=solver, batch_size=32)
    for first in (0, 50, 100, 0, 50):
        rows = slice(first, first + 50)
        for estimator in (theirs, ours):
            estimator.partial_fit(X[rows], y[rows], classes=np.unique(y))
        agree(theirs, ours)


def test_sparse_columns_of_labels():
    X, y = sklearn.datasets.make_multilabel_classification(50, 5, n_classes=3, random_state=0)
    theirs, ours = both("classifier", random_state=5, max_iter=3)
    fit(theirs, X, scipy.sparse.csr_matrix(y)), fit(ours, X, scipy.sparse.csr_matrix(y))
    agree(theirs, ours)
    found, expected = ours.predict(X), theirs.predict(X)
    assert type(found) is type(expected) and found.shape == y.shape
    np.testing.assert_array_equal(found.toarray(), expected.toarray())


@pytest.mark.parametrize("weights", [True, False])
def test_partial_fit_takes_arguments_in_scikit_learns_order(monkeypatch, weights):
    def method(estimator, X, y, sample_weight=None, classes=None):
        return sample_weight, classes

    monkeypatch.setattr(dnncore.sklearn._base, "_WEIGHTS", weights)  # not before 1.7
    ordered = dnncore.sklearn._base.in_their_order(method)
    found = ordered(None, "X", "y", 1, 2)
    assert found == ((1, 2) if weights else (2, 1))
    assert ordered(None, "X", "y", classes=2, sample_weight=1) == (1, 2)


def test_what_is_printed(capsys):
    kind, X, y, _ = CASES["three classes"]
    for parameters in (
        {"early_stopping": True, "tol": 0.5, "n_iter_no_change": 2},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 1},
        {"tol": 1.0, "n_iter_no_change": 1},
    ):
        printed = []
        for estimator in both(kind, random_state=5, verbose=True, max_iter=100, **parameters):
            fit(estimator, X, y)
            printed.append(capsys.readouterr().out)
        assert printed[0] == printed[1]


def test_parameters_are_scikit_learns():
    for kind in ("classifier", "regressor"):
        theirs, ours = both(kind)
        assert ours.get_params().items() >= theirs.get_params().items()
        assert list(ours.get_params(deep=False)) == sorted(ours.get_params(deep=False))
        assert isinstance(ours, type(theirs))
        assert repr(ours) == repr(theirs)
        for name in ("fit", "partial_fit", "predict", "score"):
            expected, found = (
                list(inspect.signature(getattr(m, name)).parameters) for m in (theirs, ours)
            )
            assert found[: len(expected)] == expected
    with pytest.raises(TypeError, match=r"MLPClassifier.__init__\(\) .*nonsense"):
        dnncore.sklearn.MLPClassifier(nonsense=1)


def test_goes_back_to_the_beginning_if_no_score_is_a_number():
    kind, X, y, _ = CASES["one batch"]
    theirs, ours = both(
        kind, solver="sgd", learning_rate_init=1e200, early_stopping=True, max_iter=5,
        random_state=0, batch_size=10, activation="identity",
    )  # fmt: skip
    with np.errstate(all="ignore"):
        fit(theirs, X, y), fit(ours, X, y)
    assert np.isnan(ours.validation_scores_).all() and np.isnan(theirs.validation_scores_).all()
    for mine, other in zip(ours.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("weighted", [False, True])
def test_lbfgs_takes_many_rows_in_parts(weighted):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((5000, 6))
    y = rng.standard_normal((5000, 2))
    more = {"sample_weight": rng.uniform(0, 2, 5000)} if weighted and HAS_WEIGHTS else {}
    theirs, ours = both(
        "regressor", solver="lbfgs", max_iter=10, random_state=1, hidden_layer_sizes=(8,)
    )
    agree(fit(theirs, X, y, **more), fit(ours, X, y, **more))
