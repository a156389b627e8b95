"""Rows that are not trained on: held out by ``early_stopping``, or given to ``fit``."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import check_scoring, r2_score
from sklearn.model_selection import train_test_split

from dnncore.sklearn._inputs import as_data
from dnncore.sklearn._model import attach, choose_threads, objective_of, outputs

__all__ = ["Examples", "ValidationSet", "hold_out"]

Examples = tuple[Any, NDArray[Any], NDArray[np.float64] | None]
"""Inputs, encoded targets of shape (n_samples, n_outputs), and weights or None."""


def hold_out(estimator: Any, X: Any, y: NDArray[Any], weight: Any) -> tuple[Examples, Examples]:
    """Split as scikit-learn's MLP does, from the same random stream.

    Raises
    ------
    ValueError
        If too few rows are held out.
    """
    # Not stratified for several labels a row.
    stratify = y if estimator._classifies and estimator.n_outputs_ == 1 else None
    arrays = [X, y] if weight is None else [X, y, weight]
    parts = train_test_split(
        *arrays,
        random_state=estimator._random_state,
        test_size=estimator.validation_fraction,
        stratify=stratify,
    )
    kept, held = parts[::2], parts[1::2]
    if weight is None:
        kept.append(None)
        held.append(None)
    if held[0].shape[0] < 2:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' "
            "or the size of your dataset."
        )
    return tuple(kept), tuple(held)


class ValidationSet:
    """Examples, and how an estimator that is being trained does on them.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Its network must have been built.
    examples : tuple
        See ``Examples``.
    """

    def __init__(self, estimator: Any, examples: Examples) -> None:
        self.estimator = estimator
        self.X, self.y, self.weight = examples
        self.multiclass = estimator._classifies and estimator.out_activation_ == "softmax"
        self.scorer = None
        if estimator.scoring not in (None, "loss"):
            self.scorer = check_scoring(estimator, estimator.scoring)
            self.truth = self.y if self.y.shape[1] > 1 else self.y.ravel()
            if estimator._classifies:
                self.truth = estimator._label_binarizer.inverse_transform(self.y)
        network = attach(estimator)
        self.data = as_data(self.X, self.y, self.weight, network.dtype, labels=self.multiclass)
        self.codes = self.y.argmax(axis=1) if self.multiclass else self.y

    def loss(self) -> float:
        """Loss as in ``loss_curve_``, without the penalty."""
        network = attach(self.estimator)
        aim = objective_of(self.estimator, network.n_out)
        threads = choose_threads(
            self.estimator, float(self.data.rows) * network._program.work_per_row
        )
        total, weight = network._evaluate(self.data, threads)
        loss = aim.loss_factor * total / weight
        if aim.constant is not None:
            loss += float(np.average(aim.constant(self.y), weights=self.weight))
        return loss

    def score(self, loss: float) -> float:
        """Accuracy or R2 as scikit-learn's MLP scores it, or what ``scoring`` says.

        Parameters
        ----------
        loss : float
            What ``loss`` has returned, which ``scoring="loss"`` makes a score of.
        """
        estimator = self.estimator
        if estimator.scoring == "loss":
            return -loss
        if self.scorer is not None:
            # Without names, as the rows are: scoring them would warn.
            plain = object.__new__(type(estimator))
            plain.__dict__.update(estimator.__dict__)
            plain.__dict__.pop("feature_names_in_", None)
            weights = {} if self.weight is None else {"sample_weight": self.weight}
            return float(self.scorer(plain, self.X, self.truth, **weights))
        out = outputs(estimator, self.X)
        if not estimator._classifies:
            return self._r2(out)
        if self.multiclass:
            hit = out.argmax(axis=1) == self.codes
        else:
            hit = ((out > 0.5) == self.codes).all(axis=1)
        return float(np.average(hit, weights=self.weight))

    @cached_property
    def _spread(self) -> NDArray[np.float64]:
        """Weighted sum of squares around the mean, of each output."""
        mean = np.average(self.y, axis=0, weights=self.weight)
        return self._sums((self.y - mean) ** 2)

    def _sums(self, values: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(values.sum(axis=0) if self.weight is None else self.weight @ values)

    def _r2(self, out: NDArray[Any]) -> float:
        if not np.isfinite(out).all():
            return float("nan")
        left = self._sums((self.y - out) ** 2)
        if not (left.all() and self._spread.all()):  # scikit-learn has rules for these
            return float(r2_score(self.y, out, sample_weight=self.weight))
        return float(np.mean(1 - left / self._spread))
