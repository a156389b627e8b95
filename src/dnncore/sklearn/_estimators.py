"""The two classes: scikit-learn's own, with the engine in the place of their loops."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import sklearn.neural_network
from numpy.typing import NDArray
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target
from sklearn.utils.validation import validate_data

from dnncore.sklearn._base import Engine, if_stochastic, in_their_order, validated
from dnncore.sklearn._labels import binarizer, decode, encode, is_plain
from dnncore.sklearn._parameters import CLASSIFIER, REGRESSOR, constraints, constructor

__all__ = ["MLPClassifier", "MLPRegressor"]


class MLPClassifier(Engine, sklearn.neural_network.MLPClassifier):  # type: ignore[misc]
    """Scikit-learn's ``MLPClassifier``, several times faster, and with more parameters.

    Every parameter, attribute and method of scikit-learn's class is there and means the same;
    ``docs/sklearn.md`` says what is identical and what is more. The parameters below are added or
    take more, as keywords, and change nothing by default.

    Parameters
    ----------
    activation : str or list of str
        Also any of ``dnncore.kernels.ACTIVATIONS`` but softmax; a list has one for each hidden
        layer.
    solver : str or Optimizer
        Also ``"adamw"``, ``"rmsprop"`` and the other names of ``dnncore.optimizers.OPTIMIZERS``,
        or an optimizer, whose own learning rate and decay then count.
    learning_rate : str, Schedule or callable
        Also a schedule from ``dnncore.schedules``, or a function of the step, for any solver
        given by name but ``"lbfgs"``.
    loss : str, Loss or callable
        Also ``"focal"``, a loss with probabilities from ``dnncore.losses``, or a function: see
        ``dnncore.losses.Custom``.
    class_weight : dict or "balanced", optional
        Weights by class, 1 for those not named; they multiply ``sample_weight``.
    dropout : float or list of float
        Share of each hidden layer's outputs that is dropped in training.
    batch_norm, layer_norm : bool
        Whether ``dnncore.layers.BatchNorm`` or ``LayerNorm`` comes before the activation of each
        hidden layer; not both.
    clip_norm, clip_value : float, optional
        Limit of the norm of the loss's gradient, or of each of its numbers.
    scoring : str or callable, optional
        What scores the validation set after each epoch: as in ``cross_val_score``, or ``"loss"``.
        By default the accuracy.
    restore_best : bool
        Whether training ends with the parameters of the epoch whose validation score, or without
        validation whose loss, was best. ``early_stopping`` always does.
    callbacks : list of Callback, optional
        From ``dnncore.callbacks``, or your own. They see ``loss``, ``val_loss`` and ``val_score``.
    progress_bar : bool
        Whether to show one.
    logger : str or logging.Logger, optional
        Where messages go that ``verbose`` would print.
    max_time : float, optional
        Seconds after which training ends, within an epoch if need be.
    n_threads : int, optional
        Threads; by default as many as pay for the size of a batch and are left by joblib. Results
        have the same bits for any number.

    Attributes
    ----------
    validation_loss_curve_ : list of float
        Loss on the validation set after each epoch, without the penalty, if there is such a set.
    """

    _theirs = sklearn.neural_network.MLPClassifier
    _classifies = True
    _extras = CLASSIFIER
    _parameter_constraints = constraints(_theirs, CLASSIFIER)
    __init__ = constructor(_theirs, CLASSIFIER)

    def _weigh(self, y: NDArray[Any], weight: Any, incremental: bool) -> Any:
        """Multiply the weights of rows by those of their classes."""
        given = self.class_weight
        if given is None:
            return weight
        if self._label_binarizer.y_type_.startswith("multilabel"):
            raise ValueError("class_weight needs one class a row; use sample_weight instead.")
        codes = y.argmax(axis=1) if y.shape[1] > 1 else y.ravel().astype(int)
        classes = self.classes_.tolist()
        if isinstance(given, dict):
            unknown = [label for label in given if label not in classes]
            if unknown:
                raise ValueError(f"class_weight names {unknown[0]!r}, which is none of {classes}.")
            values = [given.get(label, 1.0) for label in classes]
            if not all(isinstance(v, Real) and 0 <= float(v) < np.inf for v in values):
                raise ValueError(f"class_weight must have finite numbers, at least 0; got {given}.")
            factors = np.array(values, np.float64)
        elif incremental:
            raise ValueError(
                "class_weight='balanced' is not possible with partial_fit, which does not know "
                "all data; give weights by class."
            )
        else:
            counts = np.bincount(codes, minlength=len(classes))
            factors = len(codes) / (np.count_nonzero(counts) * np.maximum(counts, 1))
        return factors[codes] if weight is None else weight * factors[codes]

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> Any:
        known: Any = self.__dict__.get("_label_binarizer")
        defines = not hasattr(self, "classes_") or not (self.warm_start or incremental)
        if not is_plain(y) or not (defines or known.y_type_ in ("binary", "multiclass")):
            return super()._validate_input(X, y, incremental, reset=reset)
        X, y = validate_data(
            self, X, y, accept_sparse=["csr", "csc"], multi_output=True, reset=reset,
            dtype=(np.float64, np.float32),
        )  # fmt: skip
        found = np.unique(y)
        if defines:
            self._label_binarizer = binarizer(found)
            self.classes_ = found
        elif (
            set(found) != set(self.classes_) if self.warm_start else set(found) - set(self.classes_)
        ):
            return super()._validate_input(X, y, incremental, reset=reset)  # raises
        return X, encode(self.classes_, y)

    def _predict(self, X: Any, check_input: bool = True) -> NDArray[Any]:
        return decode(self._label_binarizer, self._forward_pass_fast(X, check_input=check_input))

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Predict probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``. Those of several labels a row are between 0 and 1,
            never 0 or 1.
        """
        found: NDArray[Any] = super().predict_proba(X)
        if self.out_activation_ == "logistic" and self.n_outputs_ > 1:
            limits = np.finfo(found.dtype)
            np.clip(found, limits.tiny, 1 - limits.epsneg, out=found)
        return found

    @if_stochastic
    @validated
    @in_their_order
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Any:
        """Train for one epoch.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Inputs.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels.
        sample_weight : array-like of shape (n_samples,), optional
            Weights.
        classes : array of shape (n_classes,), optional
            All classes that there will be; needed in the first call.

        Returns
        -------
        self
        """
        if _check_partial_fit_first_call(self, classes):
            self._label_binarizer = LabelBinarizer()
            self._label_binarizer.fit(y if type_of_target(y).startswith("multilabel") else classes)
        return self._fit(X, y, sample_weight, incremental=True)


class MLPRegressor(Engine, sklearn.neural_network.MLPRegressor):  # type: ignore[misc]
    """Scikit-learn's ``MLPRegressor``, several times faster, and with more parameters.

    Every parameter, attribute and method of scikit-learn's class is there and means the same;
    ``docs/sklearn.md`` says what is identical and what is more. The parameters below are added or
    take more, as keywords, and change nothing by default.

    Parameters
    ----------
    activation : str or list of str
        Also any of ``dnncore.kernels.ACTIVATIONS`` but softmax; a list has one for each hidden
        layer.
    solver : str or Optimizer
        Also ``"adamw"``, ``"rmsprop"`` and the other names of ``dnncore.optimizers.OPTIMIZERS``,
        or an optimizer, whose own learning rate and decay then count.
    learning_rate : str, Schedule or callable
        Also a schedule from ``dnncore.schedules``, or a function of the step, for any solver
        given by name but ``"lbfgs"``.
    loss : str, Loss or callable
        Also ``"absolute_error"``, ``"huber"``, ``"log_cosh"``, ``"quantile"``, ``"gamma"``,
        ``"tweedie"``, a loss for values from ``dnncore.losses``, or a function: see
        ``dnncore.losses.Custom``.
    dropout : float or list of float
        Share of each hidden layer's outputs that is dropped in training.
    batch_norm, layer_norm : bool
        Whether ``dnncore.layers.BatchNorm`` or ``LayerNorm`` comes before the activation of each
        hidden layer; not both.
    clip_norm, clip_value : float, optional
        Limit of the norm of the loss's gradient, or of each of its numbers.
    scoring : str or callable, optional
        What scores the validation set after each epoch: as in ``cross_val_score``, or ``"loss"``.
        By default R2.
    restore_best : bool
        Whether training ends with the parameters of the epoch whose validation score, or without
        validation whose loss, was best. ``early_stopping`` always does.
    callbacks : list of Callback, optional
        From ``dnncore.callbacks``, or your own. They see ``loss``, ``val_loss`` and ``val_score``.
    progress_bar : bool
        Whether to show one.
    logger : str or logging.Logger, optional
        Where messages go that ``verbose`` would print.
    max_time : float, optional
        Seconds after which training ends, within an epoch if need be.
    n_threads : int, optional
        Threads; by default as many as pay for the size of a batch and are left by joblib. Results
        have the same bits for any number.

    Attributes
    ----------
    validation_loss_curve_ : list of float
        Loss on the validation set after each epoch, without the penalty, if there is such a set.
    """

    _theirs = sklearn.neural_network.MLPRegressor
    _classifies = False
    _extras = REGRESSOR
    _parameter_constraints = constraints(_theirs, REGRESSOR)
    __init__ = constructor(_theirs, REGRESSOR)

    @if_stochastic
    @validated
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train for one epoch.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Inputs.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Values.
        sample_weight : array-like of shape (n_samples,), optional
            Weights.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, incremental=True)
