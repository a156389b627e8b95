"""The estimators of dnncore.sklearn within the rest of scikit-learn, and in files."""

import io
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import sklearn.datasets
import sklearn.neural_network
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, VotingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dnncore._threads import available_cpus
from dnncore.sklearn import MLPClassifier, MLPRegressor, patch, unpatch
from dnncore.sklearn._model import choose_threads

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

WINE = sklearn.datasets.load_wine(return_X_y=True)
THEIRS = sklearn.neural_network.MLPClassifier


def small(**more):
    return MLPClassifier((15,), random_state=0, max_iter=60, learning_rate_init=0.01, **more)


def test_pipeline_and_scores():
    model = make_pipeline(StandardScaler(), small())
    assert cross_val_score(model, *WINE, cv=3).mean() > 0.95
    assert cross_val_predict(model, *WINE, cv=3, method="predict_proba").shape == (178, 3)


@pytest.mark.parametrize("jobs", [1, 2])
def test_grid_search(jobs):
    grid = {"mlpclassifier__alpha": [1e-4, 1.0], "mlpclassifier__solver": ["adam", "lbfgs"]}
    model = make_pipeline(StandardScaler(), small())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of SciPy, in older scikit-learn
        search = GridSearchCV(model, grid, cv=3, n_jobs=jobs).fit(*WINE)
    assert search.best_score_ > 0.95
    alone = cross_val_score(search.best_estimator_, *WINE, cv=3).mean()
    assert search.best_score_ == alone


def threads_here(_):
    return choose_threads(MLPClassifier(), 1e12)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_two_jobs_share_the_processors(backend):
    alone = threads_here(0)
    assert 1 <= alone <= available_cpus()
    found = joblib.Parallel(2, backend=backend)(joblib.delayed(threads_here)(i) for i in range(4))
    assert 2 * max(found) <= max(2, available_cpus())
    with joblib.parallel_config(backend, n_jobs=1):
        assert threads_here(0) == alone


def test_ensembles_calibration_importance():
    X, y = StandardScaler().fit_transform(WINE[0]), WINE[1]
    assert CalibratedClassifierCV(small(), cv=3).fit(X, y).score(X, y) > 0.95
    bagged = BaggingClassifier(small(), n_estimators=4, random_state=0, n_jobs=2).fit(X, y)
    assert bagged.score(X, y) > 0.95
    found = permutation_importance(small().fit(X, y), X, y, n_repeats=3, random_state=0, n_jobs=2)
    assert found.importances_mean.max() > 0.01


def test_regressors_together():
    X, y = sklearn.datasets.load_linnerud(return_X_y=True)
    X, y = StandardScaler().fit_transform(X), StandardScaler().fit_transform(y)
    mlp = MLPRegressor(
        hidden_layer_sizes=(10,), random_state=0, max_iter=100, learning_rate_init=0.02
    )
    assert MultiOutputRegressor(mlp).fit(X, y).predict(X).shape == (20, 3)
    assert VotingRegressor([("a", mlp), ("b", clone(mlp))]).fit(X, y[:, 0]).score(X, y[:, 0]) > 0.3


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("how", ["joblib", "joblib, mapped", "pickle", "clone"])
def test_files(tmp_path, solver, how):
    X, y = StandardScaler().fit_transform(WINE[0]), WINE[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model = small(solver=solver).fit(X, y)
    if how == "clone":
        again = clone(model)
        assert not hasattr(again, "coefs_")
        assert again.get_params() == model.get_params()
        return
    if how == "pickle":
        again = pickle.loads(pickle.dumps(model))
    else:
        joblib.dump(model, tmp_path / "model.joblib")
        again = joblib.load(
            tmp_path / "model.joblib", mmap_mode="r" if how.endswith("mapped") else None
        )
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    if solver != "lbfgs":
        for each in (model, again):
            for _ in range(3):
                each.partial_fit(X[:50], y[:50])
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_pandas_and_polars_names():
    frame = pd.DataFrame(WINE[0]).rename(columns=lambda i: f"column {i}")
    model = small(early_stopping=True, scoring="neg_log_loss").fit(frame, WINE[1])
    assert list(model.feature_names_in_) == list(frame.columns)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame.rename(columns={"column 0": "another"}))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(WINE[0])


def test_weights_are_routed():
    weights = np.random.default_rng(0).uniform(0.1, 1, 178)
    with sklearn.config_context(enable_metadata_routing=True):
        asked = small().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        found = [
            cross_val_score(asked, *WINE, cv=2, params=params).tolist()
            for params in ({}, {"sample_weight": weights})
        ]
        assert found[0] != found[1]
        with pytest.raises(ValueError, match="explicitly set as requested"):
            cross_val_score(small(), *WINE, params={"sample_weight": weights})


class TestParametersAsArrays:
    def test_are_views_of_one_buffer(self):
        model = small().fit(*WINE)
        buffer = model._network.params
        for array in (*model.coefs_, *model.intercepts_):
            assert np.shares_memory(array, buffer)
        assert sum(a.size for a in (*model.coefs_, *model.intercepts_)) == buffer.size

    @pytest.mark.parametrize("way", ["in place", "elements", "lists"])
    def test_can_be_set(self, way):
        X = StandardScaler().fit_transform(WINE[0])
        model, other = small().fit(X, WINE[1]), small(alpha=10.0).fit(X, WINE[1])
        expected = other.predict_proba(X)
        assert not np.allclose(model.predict_proba(X), expected)
        if way == "lists":
            model.coefs_ = [c.copy() for c in other.coefs_]
            model.intercepts_ = [b.copy() for b in other.intercepts_]
        for mine, theirs in (
            (model.coefs_, other.coefs_), (model.intercepts_, other.intercepts_)
        ):  # fmt: skip
            for i, array in enumerate(theirs):
                if way == "in place":
                    mine[i][...] = array
                elif way == "elements":
                    mine[i] = array.copy()
        np.testing.assert_array_equal(model.predict_proba(X), expected)
        model.partial_fit(X, WINE[1])
        assert not np.array_equal(model.predict_proba(X), expected)


class TestPatch:
    def test_there_and_back(self):
        for _ in range(2):
            patch()
            patch()
            assert sklearn.neural_network.MLPClassifier is MLPClassifier
            assert sklearn.neural_network.MLPRegressor is MLPRegressor
            unpatch()
            assert sklearn.neural_network.MLPClassifier is THEIRS

    def test_models_of_scikit_learn_become_ours(self):
        theirs = THEIRS((15,), random_state=0, max_iter=20).fit(*WINE)

        class Swap(pickle.Unpickler):
            def find_class(self, module, name):
                return (
                    MLPClassifier if name == "MLPClassifier" else super().find_class(module, name)
                )

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours = Swap(io.BytesIO(pickle.dumps(theirs))).load()
        np.testing.assert_allclose(
            ours.predict_proba(WINE[0]), theirs.predict_proba(WINE[0]), rtol=1e-9, atol=1e-12
        )
        assert ours.get_params()["class_weight"] is None

    @pytest.mark.parametrize("way", ["script", "module", "help", "nothing"])
    def test_command(self, tmp_path, way):
        script = tmp_path / "some_script.py"
        script.write_text(
            "import sys\nfrom sklearn.neural_network import MLPRegressor\n"
            "print(__name__, MLPRegressor.__module__, sys.argv[1:])\nsys.exit(3)\n",
            encoding="utf-8",
        )
        arguments = {"script": [script, "a", "-b"], "module": ["-m", "some_script", "a", "-b"]}
        arguments |= {"help": ["--help"], "nothing": []}
        done = subprocess.run(
            [sys.executable, "-m", "dnncore.sklearn", *arguments[way]],
            cwd=tmp_path, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        if way in ("help", "nothing"):
            assert done.returncode == (0 if way == "help" else 2)
            assert "script.py" in done.stdout + done.stderr
        else:
            assert done.returncode == 3, done.stderr
            assert done.stdout.split() == ["__main__", MLPRegressor.__module__, "['a',", "'-b']"]


def test_scikit_learn_missing(tmp_path, run_python):
    code = """
import sys
sys.modules["sklearn"] = None
try:
    import dnncore.sklearn
except ImportError as error:
    print(error)
"""
    assert "pip install 'dnncore[sklearn]'" in run_python(code)


def test_ctrl_c_keeps_what_there_is():
    from dnncore import Callback

    class Interrupt(Callback):
        def on_epoch_end(self, network, epoch, logs):
            if epoch == 4:
                raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model = small(callbacks=[Interrupt()]).fit(*WINE)
    assert (model.n_iter_, len(model.loss_curve_)) == (5, 5)
    assert isinstance(model.predict(WINE[0]), np.ndarray)


def test_tests_see_the_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConvergenceWarning, match=r"Maximum iterations \(2\) reached"):
            MLPClassifier(max_iter=2, random_state=0).fit(*WINE)
    assert Path(__file__).name.startswith("test_sklearn")
