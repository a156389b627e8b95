"""Conversion to ONNX: skl2onnx goes by exact classes, so it has to be told of ours."""

from __future__ import annotations

from typing import Any

from dnncore.layers import Dense, Dropout
from dnncore.sklearn._estimators import MLPClassifier, MLPRegressor
from dnncore.sklearn._model import attach

__all__ = ["register_onnx"]


def register_onnx() -> None:
    """Let skl2onnx convert the two classes as it does scikit-learn's.

    Networks with activations, layers or links that scikit-learn does not have are refused when
    they are converted.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.

    Notes
    -----
    To be called once in the process that converts, before ``skl2onnx.to_onnx``.
    """
    from skl2onnx import update_registered_converter
    from skl2onnx.common._registration import get_converter, get_shape_calculator

    for ours in (MLPClassifier, MLPRegressor):
        theirs = f"Sklearn{ours.__name__}"
        options: dict[str, Any] = {}
        if ours is MLPClassifier:
            options = {
                "zipmap": [True, False, "columns"],
                "output_class_labels": [False, True],
                "nocl": [True, False],
            }
        update_registered_converter(
            ours,
            f"Dnncore{ours.__name__}",
            get_shape_calculator(theirs),
            _checked(get_converter(theirs)),
            options=options,
        )


def _checked(convert: Any) -> Any:
    def checked(scope: Any, operator: Any, container: Any) -> None:
        estimator = operator.raw_operator
        known = ("identity", "logistic", "tanh", "relu")
        layers = attach(estimator).layers
        if (
            not (isinstance(estimator.activation, str) and estimator.activation in known)
            or estimator.out_activation_ not in ("identity", "logistic", "softmax")
            or not all(isinstance(layer, Dense | Dropout) for layer in layers)
        ):
            raise ValueError(
                f"skl2onnx converts what scikit-learn's MLP can be; {estimator!r} is more."
            )
        convert(scope, operator, container)

    return checked
