"""What the constructors take: all that scikit-learn's do, in its order, and the extras."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from sklearn.utils._param_validation import Interval, Options, StrOptions

from dnncore._kernels import ACTIVATIONS
from dnncore._schedule import Schedule
from dnncore.losses import Loss
from dnncore.optimizers import OPTIMIZERS, Optimizer

__all__ = ["CLASSIFIER", "COMMON", "REGRESSOR", "constraints", "constructor"]

COMMON: dict[str, Any] = {
    "dropout": 0.0,
    "batch_norm": False,
    "layer_norm": False,
    "clip_norm": None,
    "clip_value": None,
    "scoring": None,
    "restore_best": False,
    "callbacks": None,
    "progress_bar": False,
    "logger": None,
    "max_time": None,
    "n_threads": None,
}
"""Extras of both classes, and their defaults."""

CLASSIFIER: dict[str, Any] = {"loss": "log_loss", "class_weight": None, **COMMON}
REGRESSOR: dict[str, Any] = {"loss": "squared_error", **COMMON}

_HIDDEN = {"logistic", *ACTIVATIONS} - {"softmax"}
_REGRESSION = {
    "squared_error",
    "poisson",
    "absolute_error",
    "huber",
    "log_cosh",
    "quantile",
    "gamma",
    "tweedie",
}

_MORE: dict[str, list[Any]] = {
    "activation": [StrOptions(_HIDDEN), "array-like"],
    "solver": [StrOptions({"lbfgs", *OPTIMIZERS}), Optimizer],
    "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
    "batch_norm": ["boolean"],
    "layer_norm": ["boolean"],
    "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
    "clip_value": [Interval(Real, 0, None, closed="neither"), None],
    "scoring": [str, callable, None],
    "restore_best": ["boolean"],
    "callbacks": ["array-like", None],
    "progress_bar": ["boolean"],
    "logger": [str, logging.Logger, None],
    "max_time": [Interval(Real, 0, None, closed="neither"), None],
    "n_threads": [Interval(Integral, 1, None, closed="left"), None],
}


def constraints(parent: type, extras: dict[str, Any]) -> dict[str, Any]:
    """Return scikit-learn's table of what parameters may be, with the extras added."""
    merged = {**parent._parameter_constraints, **_MORE}  # type: ignore[attr-defined]
    rates = parent._parameter_constraints["learning_rate"]  # type: ignore[attr-defined]
    merged["learning_rate"] = [*rates, Schedule, callable]
    if "class_weight" in extras:
        merged["class_weight"] = [StrOptions({"balanced"}), dict, None]
        merged["loss"] = [StrOptions({"log_loss", "focal"}), Loss, callable]
    else:
        merged["loss"] = [StrOptions(_REGRESSION), Loss, callable]
    if not any(isinstance(c, Options) for c in merged["n_iter_no_change"]):
        raise TypeError("scikit-learn has changed what n_iter_no_change may be")
    return merged


def constructor(parent: type, extras: dict[str, Any]) -> Callable[..., None]:
    """Make an ``__init__`` with scikit-learn's parameters and the extras, as keywords.

    It does what scikit-learn asks of an ``__init__``: it sets attributes and nothing else.
    """
    known = inspect.signature(parent.__init__).parameters  # type: ignore[misc]
    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [
        inspect.Parameter(name, keyword, default=default)
        for name, default in extras.items()
        if name not in known
    ]
    signature = inspect.Signature([*known.values(), *added])

    defaults = {name: p.default for name, p in list(signature.parameters.items())[1:]}
    by_place = [p.name for p in signature.parameters.values() if p.kind is not keyword][1:]

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        placed = dict(zip(by_place, args, strict=False))
        if len(args) > len(by_place) or kwargs.keys() - (defaults.keys() - placed.keys()):
            try:
                signature.bind(self, *args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{type(self).__name__}.__init__() {error}") from None
        for name, value in {**defaults, **placed, **kwargs}.items():
            setattr(self, name, value)

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    return __init__
