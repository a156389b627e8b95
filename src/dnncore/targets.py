"""Targets as the caller gives them, and as the engine computes with them.

Class labels may be of any dtype: strings, booleans, integers with gaps. They are numbered
0..k-1 for the engine and turned back into labels for predictions.
"""

from __future__ import annotations

import copy
import numbers
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnncore._validation import as_array, as_matrix, as_vector, check_bool, check_finite
from dnncore.losses import Custom, Loss

__all__ = ["Targets", "as_labels"]

Encoded = tuple[NDArray[Any] | None, NDArray[Any] | None]
"""``(labels of int32, None)`` or ``(None, matrix)``."""

PROBABILITY_TOLERANCE = 1e-3
"""How far rows of probabilities may be from summing to 1: float16's rounding, and no more."""

LABEL_KINDS = (
    *("str", "bytes", "bool", "float16", "float32", "float64"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)
"""dtypes of classes in a network's description."""


class Targets:
    """Translates targets to and from the engine's form; ``learn`` gives one that knows more.

    Parameters
    ----------
    loss : Loss
        Decides the kind of target.
    n_out : int
        Number of the network's outputs; ``n_targets`` of targets they are for, None if any.
    dtype : numpy.dtype
        The network's dtype.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,) or None
        Labels in the order of the outputs; None before the first data and for values.
    vector : bool
        Whether targets were one-dimensional, so that predictions are as well.
    """

    def __init__(self, loss: Loss, n_out: int, dtype: np.dtype[Any]) -> None:
        if loss.targets == "labels" and n_out < 2:
            raise ValueError(
                f"{loss.name} needs at least two outputs, one per class; the last layer has "
                f"{n_out}. For two classes and one output use 'binary_cross_entropy'."
            )
        several = len(loss.parameters) if loss.name == "quantile" else 1
        if n_out % several:
            raise ValueError(
                f"Quantile with {several} quantiles needs one output for each, or several times "
                f"as many for several targets; the last layer has {n_out}."
            )
        self.loss = loss
        self.n_out = n_out
        self.n_targets: int | None = n_out // several
        if isinstance(loss, Custom) and loss.targets == "values":
            self.n_targets = None
        self.dtype = dtype
        self.classes: NDArray[Any] | None = None
        self.vector = n_out == 1 or loss.targets == "labels"

    @property
    def is_classification(self) -> bool:
        """Whether predictions are labels."""
        return self.loss.targets in ("labels", "binary")

    @property
    def _single_labels(self) -> bool:
        return self.loss.targets == "labels" or (self.loss.targets == "binary" and self.n_out == 1)

    @property
    def _n_classes(self) -> int:
        return 2 if self.n_out == 1 else self.n_out

    # ------------------------------------------------------------------ into the engine

    def learn(self, y: ArrayLike) -> Targets:
        """Take over the classes and the dimension of `y`, unless classes are known already.

        Parameters
        ----------
        y : array_like of shape (rows,) or (rows, n_out)
            Labels, one-hot rows, or values.

        Returns
        -------
        Targets
            One that can encode `y`, which may be this one; it stays as it is.

        Raises
        ------
        TypeError, ValueError
            For a wrong shape, or labels that do not fit the outputs.
        """
        if self.classes is not None:
            return self
        array = self._as_targets(y)
        known = copy.copy(self)
        if not self.is_classification:
            known.vector = array.ndim == 1
        elif array.ndim == 1 and not self._is_soft(array):
            known.classes = self._classes_of(array)
        return known

    def encode(self, y: ArrayLike) -> Encoded:
        """Turn targets into labels 0..k-1 or into a matrix of the network's dtype.

        Parameters
        ----------
        y : array_like of shape (rows,) or (rows, n_out)
            Labels, one-hot rows, or values.

        Returns
        -------
        labels : ndarray of int32 of shape (rows,) or None
        target : ndarray of shape (rows, n_out) or None

        Raises
        ------
        TypeError, ValueError
            For a wrong shape, values that are not finite, or labels outside the classes.
        """
        array = self._as_targets(y)
        if array.ndim == 1 and self._single_labels:
            if self._is_soft(array):
                return None, as_vector(array, "y", dtype=self.dtype)[:, None]
            if self.classes is None:
                raise ValueError("The network has not seen labels yet; call fit first.")
            codes = self._codes(array, self.classes)
            if self.loss.targets == "labels":
                return codes, None
            return None, codes.astype(self.dtype)[:, None]
        matrix = as_matrix(
            array if array.ndim == 2 else array[:, None],
            "y",
            dtype=self.dtype,
            columns=self.n_targets,
        )
        self._check_range(matrix)
        if self.n_targets is not None and self.n_out > self.n_targets:
            matrix = np.repeat(matrix, self.n_out // self.n_targets, axis=1)
        return None, matrix

    def strata(
        self, labels: NDArray[Any] | None, target: NDArray[Any] | None
    ) -> NDArray[Any] | None:
        """Class of each encoded row, by which a split can be stratified; None if there is none."""
        if labels is not None or target is None:
            return labels
        if self.loss.targets == "labels":
            codes: NDArray[np.intp] = target.argmax(axis=1)
            return codes
        if self.loss.targets == "binary" and self.n_out == 1 and np.isin(target, (0, 1)).all():
            return target[:, 0].astype(np.int32)
        return None

    def _as_targets(self, y: ArrayLike) -> NDArray[Any]:
        """Return `y` as a vector or a matrix; single labels as a vector of a plain dtype."""
        array = as_array(y, "y")
        if array.ndim not in (1, 2):
            raise ValueError(f"y must be 1-D or 2-D; got shape {array.shape}.")
        if array.shape[0] == 0:
            raise ValueError(f"y must have at least one row; got shape {array.shape}.")
        if self._single_labels:
            if array.ndim == 2 and array.shape[1] == 1:
                array = array[:, 0]
            return as_labels(array) if array.ndim == 1 else array
        if self.n_targets is not None and self.n_targets > 1 and array.ndim == 1:
            raise ValueError(
                f"y must have shape (rows, {self.n_targets}), one column per "
                f"{'output' if self.n_targets == self.n_out else 'target'}; got {array.shape}."
            )
        return array

    def _check_range(self, matrix: NDArray[Any]) -> None:
        if not self.loss.has_probabilities and self.loss.targets == "binary":
            if not np.isin(matrix, (0, 1)).all():
                raise ValueError(
                    f"y as a matrix must hold 0 and 1 for {self.loss.name}; got values from "
                    f"{matrix.min():g} to {matrix.max():g}."
                )
        elif self.is_classification and (matrix.min() < 0 or matrix.max() > 1):
            raise ValueError(
                f"y as a matrix must hold probabilities in [0, 1] for {self.loss.name}; "
                f"got values from {matrix.min():g} to {matrix.max():g}."
            )
        if self.loss.targets == "labels":
            wrong = np.abs(matrix.sum(axis=1, dtype=np.float64) - 1) > PROBABILITY_TOLERANCE
            if wrong.any():
                row = int(wrong.argmax())
                raise ValueError(
                    f"y as a matrix must hold one-hot rows, or probabilities that sum to 1; row "
                    f"{row} sums to {matrix[row].sum():g}. For several labels a row use loss "
                    "'binary_cross_entropy'."
                )
        _, _, least, above = self.loss.row
        if least is not None and not (matrix > least if above else matrix >= least).all():
            raise ValueError(
                f"{self.loss.name} needs y {'>' if above else '>='} {least:g}; "
                f"got {matrix.min():g}."
            )

    def _is_soft(self, y: NDArray[Any]) -> bool:
        """Whether `y` holds probabilities of the second class rather than labels."""
        if self.loss.link != "sigmoid" or y.dtype.kind != "f":
            return False
        if self.classes is not None and (
            self.classes.dtype.kind not in "iufb" or self.classes.tolist() != [0, 1]
        ):
            return False
        return bool(y.min() >= 0 and y.max() <= 1 and not np.isin(y, (0.0, 1.0)).all())

    def _classes_of(self, y: NDArray[Any]) -> NDArray[Any]:
        found, k = np.unique(y), self._n_classes
        if found.dtype.kind in "iuf" and found[0] >= 0 and found[-1] < k:
            # Labels that are numbers of outputs keep their meaning, whether all occur or not.
            outputs = np.arange(k)
            if np.isin(found, outputs).all():
                same = outputs.astype(found.dtype)  # int8 does not hold 200 classes
                return same if (same == outputs).all() else outputs
        if found.dtype.kind == "b" and k == 2:
            return np.array([False, True])
        if len(found) != k:
            raise ValueError(
                f"y has {len(found)} classes ({_shorten(found)}) but the network has outputs for "
                f"{k}; make the last layer as wide as there are classes."
            )
        return found

    def _codes(self, y: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int32]:
        kinds = {y.dtype.kind, classes.dtype.kind}
        if len(kinds) > 1 and kinds & {"S", "U"}:
            raise TypeError(f"y has dtype {y.dtype}, but the classes are {_shorten(classes)}.")
        if y.dtype.kind in "iu" and _are_numbers(classes):
            at = y  # most labels are numbers of outputs already
            wrong = (y < 0) | (y >= len(classes))
        else:
            at = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
            wrong = classes[at] != y
        if wrong.any():
            unknown = np.unique(y[wrong])
            raise ValueError(
                f"y contains labels outside the classes: {_shorten(unknown)}; the network knows "
                f"{_shorten(classes)}."
            )
        # A copy in any case: nobody may change labels while a kernel trusts them.
        return np.array(at, np.int32, order="C")

    # ------------------------------------------------------------------ back to the caller

    def decode(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Turn the engine's predictions (after the link) into labels or values."""
        if self.loss.targets == "labels":
            codes: NDArray[np.intp] = outputs.argmax(axis=1)
            return codes if self.classes is None else self.classes[codes]
        if self.loss.targets == "binary":
            positive = outputs > self.loss.threshold
            if self.n_out > 1:
                return positive.astype(np.intp)
            codes = positive[:, 0].astype(np.intp)
            return codes if self.classes is None else self.classes[codes]
        return outputs[:, 0] if self.vector and self.n_out == 1 else outputs

    # ------------------------------------------------------------------ into a file

    def get_config(self) -> dict[str, Any]:
        """Describe what was learnt, in plain values."""
        if self.classes is None:
            return {"classes": None, "classes_dtype": None, "vector": self.vector}
        kind = {"U": "str", "S": "bytes"}.get(self.classes.dtype.kind, self.classes.dtype.name)
        classes = np.char.decode(self.classes, "latin-1") if kind == "bytes" else self.classes
        return {"classes": classes.tolist(), "classes_dtype": kind, "vector": self.vector}

    def set_config(self, config: dict[str, Any]) -> None:
        """Restore what ``get_config`` described.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is no such description, or classes do not fit the outputs.
        """
        self.vector = check_bool(config["vector"], "vector")
        self.classes = None
        if config["classes"] is None:
            return
        kind = config["classes_dtype"]
        if kind not in LABEL_KINDS:
            raise ValueError(f"unknown dtype of classes {kind!r}")
        classes = np.array(config["classes"], dtype="str" if kind == "bytes" else kind)
        if kind == "bytes":
            classes = np.char.encode(classes, "latin-1")
        if classes.shape != (self._n_classes,) or not self.is_classification:
            raise ValueError(f"{classes.size} classes for {self._n_classes}")
        if not (classes[:-1] < classes[1:]).all():
            raise ValueError("classes must be sorted and different")
        self.classes = classes


def as_labels(y: NDArray[Any]) -> NDArray[Any]:
    """Return labels in a dtype that sorts and compares: text, bytes, booleans or numbers.

    Parameters
    ----------
    y : ndarray of shape (rows,)
        Labels of any dtype; those of dtype object may be all text or all numbers.

    Raises
    ------
    TypeError
        For labels of mixed or other kinds, such as dates or None.
    ValueError
        For NaN and infinity.
    """
    if y.dtype.kind in "OT":
        values = y.tolist()
        if any(all(isinstance(v, kind) for v in values) for kind in (str, bytes, numbers.Real)):
            y = np.array(values)
    if y.dtype.kind not in "biufSU" or y.ndim != 1:
        raise TypeError(
            "y must hold labels of one kind: text, numbers or booleans. This one has dtype "
            f"{y.dtype}; mixed kinds and None cannot be put in order."
        )
    if y.dtype.kind == "f":
        check_finite(y, "y")
        if y.dtype.itemsize > 8:
            y = y.astype(np.float64)
    return y


def _are_numbers(classes: NDArray[Any]) -> bool:
    """Whether classes, which are sorted and different, are 0, 1, 2 and so on."""
    if classes.dtype.kind in "iu":
        return bool(classes[0] == 0 and classes[-1] == len(classes) - 1)
    return np.array_equal(classes, np.arange(len(classes)))


def _shorten(values: NDArray[Any], most: int = 10) -> str:
    listed = ", ".join(map(repr, values[:most].tolist()))
    return listed + (f", ... ({len(values)} in all)" if len(values) > most else "")
