"""Scikit-learn's own tests: of its MLP, on dnncore's classes, and of estimators in general."""

import functools
import os
import subprocess
import sys
import warnings
from importlib.metadata import version

import numpy as np
import pytest
import sklearn.utils.estimator_checks
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._testing import assert_allclose_dense_sparse
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data

from dnncore.sklearn import MLPClassifier, MLPRegressor

SWAP = """
import sklearn.neural_network as theirs
from dnncore import sklearn as ours
theirs.MLPClassifier, theirs.MLPRegressor = ours.MLPClassifier, ours.MLPRegressor
"""
ITEMS = {"1.6": 55, "1.9": 59}


@pytest.mark.parametrize("seed", [0, 7, 42])
def test_scikit_learns_tests_of_its_mlp(tmp_path, seed):
    (tmp_path / "swap_mlp.py").write_text(SWAP, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "swap_mlp", "-p", "no:cacheprovider",
            "--pyargs", "sklearn.neural_network.tests.test_mlp",
        ],
        env={**os.environ, "PYTHONPATH": path, "SKLEARN_TESTS_GLOBAL_RANDOM_SEED": str(seed)},
        cwd=tmp_path, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    summary = done.stdout.strip().splitlines()[-1]
    assert "skipped" not in summary and "failed" not in summary
    items = ITEMS.get(".".join(version("scikit-learn").split(".")[:2]))
    assert items is None or summary.startswith(f"{items} passed")


class Single:
    """Takes all inputs in float32."""

    def _validate_input(self, X, y, *args, **kwargs):
        X, y = super()._validate_input(X, y, *args, **kwargs)
        return X.astype(np.float32), y

    def _forward_pass_fast(self, X, check_input=True):
        if check_input:
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False, dtype=np.float32)
        return super()._forward_pass_fast(X, check_input=False)


class SingleClassifier(Single, MLPClassifier):
    pass


class SingleRegressor(Single, MLPRegressor):
    pass


CHECKS = parametrize_with_checks(
    [
        kind(solver=solver)
        for kind in (MLPClassifier, MLPRegressor, SingleClassifier, SingleRegressor)
        for solver in ("adam", "sgd", "lbfgs")
    ]
).mark


@pytest.mark.parametrize(CHECKS.args[0], list(CHECKS.args[1]), ids=CHECKS.kwargs["ids"])
def test_estimator_checks(estimator, check, monkeypatch):
    if isinstance(estimator, Single) and "sample_weight_equivalence" in check.func.__name__:
        # It asks for 1e-7, the spacing of float32, after 200 epochs of sums in another order:
        # scikit-learn's own MLP in float32 does not have that either. Values are of the order 1.
        monkeypatch.setattr(
            sklearn.utils.estimator_checks, "assert_allclose_dense_sparse",
            functools.partial(assert_allclose_dense_sparse, rtol=1e-3, atol=1e-4),
        )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        check(estimator)
