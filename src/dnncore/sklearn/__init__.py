"""Scikit-learn's ``MLPClassifier`` and ``MLPRegressor``, trained by the compiled engine.

>>> from dnncore.sklearn import MLPClassifier, MLPRegressor

Each is a subclass of scikit-learn's class of that name, with the same results for a seed, and
more parameters, all off by default. ``patch`` puts them in place of scikit-learn's.

===================  =====================================================================
``_estimators``      the two classes
``_base``            what they share: fitting, predictions, pickles
``_parameters``      what their constructors take and what is allowed
``_labels``          class labels to columns and back
``_model``           from an estimator to a ``Network``, and back to ``coefs_``
``_inputs``          from validated ``X``, ``y`` and weights to the engine's ``Data``
``_optimizers``      what ``solver`` and ``learning_rate`` mean for the engine
``_loop``            epochs of the stochastic solvers, and when to stop
``_validation_set``  rows held out, or given, and their scores
``_lbfgs``           loss and gradient for SciPy's L-BFGS
``_patch``           the two classes in place of scikit-learn's
``_onnx``            conversion by skl2onnx
===================  =====================================================================
"""

from __future__ import annotations

try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        "dnncore.sklearn needs scikit-learn: pip install 'dnncore[sklearn]'"
    ) from error

from dnncore.sklearn._estimators import MLPClassifier, MLPRegressor
from dnncore.sklearn._onnx import register_onnx
from dnncore.sklearn._patch import patch, unpatch

__all__ = ["MLPClassifier", "MLPRegressor", "patch", "register_onnx", "unpatch"]
