"""The two classes in place of scikit-learn's, for code that cannot be edited."""

from __future__ import annotations

from typing import Any

import sklearn.neural_network

from dnncore.sklearn._estimators import MLPClassifier, MLPRegressor

__all__ = ["patch", "unpatch"]

_OURS: dict[str, Any] = {"MLPClassifier": MLPClassifier, "MLPRegressor": MLPRegressor}
_THEIRS = {name: ours._theirs for name, ours in _OURS.items()}


def patch() -> None:
    """Let ``sklearn.neural_network`` have dnncore's two classes.

    Imports that come later get them; names that were imported earlier stay what they are, so
    call it first. Calling it again does no harm.

    Examples
    --------
    >>> from dnncore.sklearn import patch, unpatch
    >>> patch()
    >>> from sklearn.neural_network import MLPClassifier
    >>> MLPClassifier.__module__.startswith("dnncore")
    True
    >>> unpatch()
    """
    for name, ours in _OURS.items():
        setattr(sklearn.neural_network, name, ours)


def unpatch() -> None:
    """Give ``sklearn.neural_network`` its own classes back."""
    for name, theirs in _THEIRS.items():
        setattr(sklearn.neural_network, name, theirs)
