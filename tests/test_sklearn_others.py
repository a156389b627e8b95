"""The estimators and packages that only one CI step installs: skl2onnx, polars."""

import warnings

import numpy as np
import pytest
import sklearn.datasets
import sklearn.neural_network
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dnncore.sklearn import MLPClassifier, MLPRegressor, register_onnx

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore::DeprecationWarning"
)

X, Y = sklearn.datasets.load_wine(return_X_y=True)
X = X.astype(np.float32)
TARGETS = {"three": Y, "two": Y == 1, "several": np.stack([Y == 0, Y == 1, Y > 0], axis=1)}


@pytest.fixture(scope="module")
def to_onnx():
    skl2onnx = pytest.importorskip("skl2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    register_onnx()

    def convert(model):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options = {"zipmap": False} if hasattr(model, "predict_proba") else None
            proto = skl2onnx.to_onnx(model, X[:1], options=options)
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return session.run(None, {session.get_inputs()[0].name: X})

    return convert


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("target", TARGETS)
def test_classifiers_in_onnx(to_onnx, target, activation):
    model = make_pipeline(
        StandardScaler(), MLPClassifier((10, 8), activation, max_iter=30, random_state=0)
    ).fit(X, TARGETS[target])
    labels, probabilities = to_onnx(model)
    np.testing.assert_array_equal(labels, model.predict(X))
    np.testing.assert_allclose(probabilities, model.predict_proba(X), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("outputs", [1, 2])
def test_regressors_in_onnx(to_onnx, outputs):
    y = X[:, 0] if outputs == 1 else X[:, :2]
    model = make_pipeline(StandardScaler(), MLPRegressor(max_iter=30, random_state=0)).fit(X, y)
    (values,) = to_onnx(model)
    np.testing.assert_allclose(
        values.reshape(y.shape), model.predict(X), rtol=1e-4, atol=1e-4 * np.abs(y).max()
    )


@pytest.mark.parametrize(
    "extra",
    [
        {"activation": "gelu"}, {"activation": ["relu"]}, {"loss": "poisson"},
        {"batch_norm": True}, {"layer_norm": True},
    ],
)  # fmt: skip
def test_what_onnx_cannot_have_is_refused(to_onnx, extra):
    model = MLPRegressor(max_iter=3, random_state=0, **extra).fit(X, Y)
    with pytest.raises(ValueError, match="what scikit-learn's MLP can be"):
        to_onnx(model)


def test_polars(recwarn):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({f"column {i}": X[:, i] for i in range(X.shape[1])})
    theirs, model = (
        kind(max_iter=5, random_state=0).fit(frame, polars.Series(Y))
        for kind in (sklearn.neural_network.MLPClassifier, MLPClassifier)
    )
    for name in ("n_features_in_", "feature_names_in_"):
        assert str(getattr(model, name, None)) == str(getattr(theirs, name, None))
    np.testing.assert_allclose(
        model.predict_proba(frame), theirs.predict_proba(frame), rtol=1e-6, atol=1e-12
    )
    assert not [w for w in recwarn if "feature names" in str(w.message)]
