"""What both classes do differently from scikit-learn's: fitting, predictions, pickles."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
import sklearn.neural_network
from numpy.typing import NDArray
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, validate_data

from dnncore.layers import Dense, Dropout
from dnncore.sklearn import _lbfgs, _model, _optimizers
from dnncore.sklearn._loop import Loop
from dnncore.sklearn._validation_set import Examples, hold_out

__all__ = ["Engine", "if_stochastic", "in_their_order", "validated"]

# Scikit-learn's MLP takes weights since 1.7, its private methods too.
_WEIGHTS = "sample_weight" in signature(sklearn.neural_network.MLPClassifier.fit).parameters

Method = TypeVar("Method", bound=Callable[..., Any])


def validated(method: Method) -> Method:
    """Check the parameters first, as scikit-learn does."""
    return cast(Method, _fit_context(prefer_skip_nested_validation=True)(method))


def if_stochastic(method: Method) -> Method:
    """Let estimators have a method only if their solver works on mini-batches."""
    return cast(Method, available_if(lambda estimator: estimator._check_solver())(method))


def in_their_order(method: Method) -> Method:
    """Let ``classes`` come third where scikit-learn's ``partial_fit`` takes no weights."""
    if _WEIGHTS:
        return method

    def partial_fit(
        self: Any, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> Any:
        return method(self, X, y, sample_weight=sample_weight, classes=classes)

    partial_fit.__doc__ = method.__doc__
    return cast(Method, partial_fit)


class Engine:
    """What both classes do differently from scikit-learn's; goes before them in the order."""

    _classifies: ClassVar[bool]
    _extras: ClassVar[dict[str, Any]]
    _parameter_constraints: ClassVar[dict[str, Any]]

    @validated
    def fit(
        self: Any,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Any:
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Inputs.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels, or values.
        sample_weight : array-like of shape (n_samples,), optional
            Weights.
        X_val, y_val, sample_weight_val : optional
            Examples to validate on after each epoch: for ``early_stopping``, instead of rows
            held out, and for ``validation_scores_`` and ``validation_loss_curve_``.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            As scikit-learn's; and if an extra does not fit the rest.
        """
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val belong together; only one of them was given.")
        given = None if X_val is None else (X_val, y_val, sample_weight_val)
        return self._fit(X, y, sample_weight, given=given)

    def _check_solver(self: Any) -> bool:
        if not _optimizers.is_stochastic(self):
            raise AttributeError(
                "partial_fit is only available for stochastic"
                f" optimizers. {self.solver} is not stochastic."
            )
        return True

    def _fit(
        self: Any,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        incremental: bool = False,
        given: tuple[Any, Any, Any] | None = None,
    ) -> Any:
        hidden = _model.units_of(self)
        self._check_norms()
        first = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        X, y = self._validate_input(X, y, incremental, reset=first)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        if y.ndim == 1:
            y = y.reshape((-1, 1))
        sample_weight = self._weigh(y, sample_weight, incremental)
        self.n_outputs_ = y.shape[1]
        held = None if given is None else self._given(*given)
        self._random_state = check_random_state(self.random_state)
        if first:
            self._initialize(y, [X.shape[1], *hidden, y.shape[1]], X.dtype, held is not None)
        _model.check_targets(_model.objective_of(self, self.n_outputs_), X, y)
        if _optimizers.is_stochastic(self):
            self._fit_stochastic((X, y, sample_weight), held, incremental)
        else:
            self._fit_lbfgs(X, y, sample_weight)
        if not np.isfinite(_model.attach(self).params).all():
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may"
                " contain large values and need to be preprocessed."
            )
        return self

    def _check_norms(self: Any) -> None:
        if self.batch_norm and self.layer_norm:
            raise ValueError("batch_norm and layer_norm are both True; set one of them, not both.")
        if self.batch_norm and not _optimizers.is_stochastic(self):
            raise ValueError(
                "batch_norm needs a stochastic solver; 'lbfgs' needs a loss that does not change "
                "from batch to batch. layer_norm goes with it."
            )

    def _weigh(self: Any, y: NDArray[Any], weight: Any, incremental: bool) -> Any:
        return weight

    def _given(self: Any, X: Any, y: Any, weight: Any) -> Examples:
        """Check the validation set that was given to ``fit``."""
        if not _optimizers.is_stochastic(self):
            raise ValueError("X_val needs a solver that works in epochs; 'lbfgs' does not.")
        X, y = validate_data(
            self, X, y, accept_sparse=["csr", "csc"], multi_output=True, reset=False,
            dtype=(np.float64, np.float32), y_numeric=not self._classifies,
        )  # fmt: skip
        if self._classifies:
            unknown = np.setdiff1d(y, self.classes_ if y.ndim == 1 else [0, 1])
            if unknown.size:
                raise ValueError(f"y_val has classes that y has not: {unknown}.")
            y = self._label_binarizer.transform(y).astype(bool)
        y = y.reshape((-1, 1)) if y.ndim == 1 else y
        if y.shape[1] != self.n_outputs_:
            raise ValueError(f"y_val has {y.shape[1]} outputs; y has {self.n_outputs_}.")
        return X, y, None if weight is None else _check_sample_weight(weight, X)

    # ------------------------------------------------------------------ training

    def _initialize(
        self: Any, y: NDArray[Any], units: list[int], dtype: Any, validates: bool = False
    ) -> None:
        """Set all attributes, and draw the weights as scikit-learn does."""
        self.n_iter_ = self.t_ = 0
        self.n_outputs_ = y.shape[1]
        self.n_layers_ = len(units)
        if self._classifies:
            multiclass = self._label_binarizer.y_type_ == "multiclass"
            self.out_activation_ = "softmax" if multiclass else "logistic"
        else:
            link = _model.objective_of(self, self.n_outputs_).loss.link
            self.out_activation_ = link
        self.coefs_, self.intercepts_ = _model.initial(self, units, dtype)
        for name in ("_best", "_network"):  # what lies in it beside coefs_ starts anew, too
            self.__dict__.pop(name, None)
        if np.any(self.dropout):
            self._mask_seed = int(self._random_state.randint(2**31))
        if not _optimizers.is_stochastic(self):
            return
        if self.early_stopping or self.restore_best:
            self._best = None
        self.loss_curve_: list[float] = []
        self._no_improvement_count = 0
        self.best_loss_ = None if self.early_stopping else np.inf
        self.validation_scores_ = self.best_validation_score_ = None
        if self.early_stopping or validates:
            self._begin_validation()

    def _begin_validation(self: Any) -> None:
        self.validation_scores_ = []
        self.validation_loss_curve_: list[float] = []
        self.best_validation_score_ = -np.inf

    def _fit_stochastic(
        self: Any, examples: Examples, held: Examples | None, incremental: bool
    ) -> None:
        network = _model.attach(self)
        size = network.n_params, network.dtype
        known = self.__dict__.get("_optimizer") if incremental else None
        if known is None or not known.fits(*size):  # not after coefs_ of other shapes, say
            self._optimizer = _optimizers.make(self, *size)
        # early stopping in partial_fit makes no sense
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        if self.early_stopping and held is None:
            examples, held = hold_out(self, *examples)
        if held is not None and self.validation_scores_ is None:  # none at the last warm start
            self._begin_validation()
        Loop(self, examples, held, once=incremental).run()

    def _fit_lbfgs(self: Any, X: Any, y: NDArray[Any], weight: Any) -> None:
        if np.any(self.dropout):
            raise ValueError("dropout needs a stochastic solver; 'lbfgs' sees all rows at once.")
        if self.clip_norm is not None or self.clip_value is not None:
            raise ValueError("Clipping needs a stochastic solver; 'lbfgs' has a line search.")
        for name in ("callbacks", "max_time", "progress_bar", "restore_best"):
            if getattr(self, name):
                raise ValueError(f"{name} needs a solver that works in epochs; 'lbfgs' does not.")
        if not isinstance(self.learning_rate, str):
            raise ValueError("A schedule needs a stochastic solver; 'lbfgs' has a line search.")
        _lbfgs.fit(self, X, y, weight)

    def _loss_grad_lbfgs(self: Any, packed: NDArray[Any], X: Any, y: Any, *rest: Any) -> Any:
        """Loss and gradient at packed parameters; scikit-learn's own arguments."""
        problem = _lbfgs.Problem(self, X, y, rest[0] if _WEIGHTS else None)
        return problem.loss(packed), problem.gradient(packed)

    # ------------------------------------------------------------------ predictions, pickles

    def _forward_pass_fast(self: Any, X: Any, check_input: bool = True) -> NDArray[Any]:
        if check_input:
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        return _model.outputs(self, X)

    def __getstate__(self: Any) -> dict[str, Any]:
        state = cast(dict[str, Any], super().__getstate__())
        state = {name: value for name, value in state.items() if name != "_views"}
        network = state.get("_network")
        if network is not None and all(isinstance(c, Dense | Dropout) for c in network.layers):
            del state["_network"]  # `coefs_` and `intercepts_` are all there is to it
        return state

    def __setstate__(self: Any, state: dict[str, Any]) -> None:
        # Pickled by scikit-learn's class, which has none of them.
        super().__setstate__({**self._extras, **state})  # type: ignore[misc]
        optimizer = self.__dict__.get("_optimizer")
        if hasattr(optimizer, "state"):
            optimizer.state = optimizer.state.copy()  # joblib's mapped arrays cannot be written
        elif optimizer is not None:
            del self._optimizer  # scikit-learn's, whose moments lie elsewhere
