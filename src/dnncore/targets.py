"""Targets as the caller gives them, and as the engine computes with them.

Class labels may be of any dtype: strings, booleans, integers with gaps. They are numbered
0..k-1 for the engine and turned back into labels for predictions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnncore._validation import as_matrix, as_vector, check_finite
from dnncore.losses import Loss

__all__ = ["Targets"]

Encoded = tuple[NDArray[Any] | None, NDArray[Any] | None]
"""``(labels of int32, None)`` or ``(None, matrix)``."""


class Targets:
    """Translates targets to and from the engine's form, and remembers how.

    Parameters
    ----------
    loss : Loss
        Decides the kind of target.
    n_out : int
        Number of the network's outputs.
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
        self.loss = loss
        self.n_out = n_out
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

    def encode(self, y: ArrayLike, *, learn: bool) -> Encoded:
        """Turn targets into labels 0..k-1 or into a matrix of the network's dtype.

        Parameters
        ----------
        y : array_like of shape (rows,) or (rows, n_out)
            Labels, one-hot rows, or values.
        learn : bool
            Whether classes not yet known may be learnt from `y`.

        Returns
        -------
        labels : ndarray of int32 of shape (rows,) or None
        target : ndarray of shape (rows, n_out) or None

        Raises
        ------
        TypeError, ValueError
            For a wrong shape, values that are not finite, or labels outside the classes.
        """
        array = np.asarray(y)
        if array.ndim == 0 or array.shape[0] == 0:
            raise ValueError(f"y must have at least one row; got shape {array.shape}.")
        if array.ndim > 2:
            raise ValueError(f"y must be 1-D or 2-D; got shape {array.shape}.")
        if array.ndim == 2 and array.shape[1] == 1 and self._single_labels:
            array = array[:, 0]
        if array.ndim == 1 and self._single_labels:
            return self._encode_labels(array, learn)
        if self.n_out > 1 and array.ndim == 1:
            raise ValueError(
                f"y must have shape (rows, {self.n_out}), one column per output; "
                f"got {array.shape}."
            )
        if learn and not self.is_classification:
            self.vector = array.ndim == 1
        matrix = as_matrix(
            array if array.ndim == 2 else array[:, None], "y", dtype=self.dtype, columns=self.n_out
        )
        self._check_range(matrix)
        return None, matrix

    def _check_range(self, matrix: NDArray[Any]) -> None:
        if self.is_classification and (matrix.min() < 0 or matrix.max() > 1):
            raise ValueError(
                f"y as a matrix must hold probabilities in [0, 1] for {self.loss.name}; "
                f"got values from {matrix.min():g} to {matrix.max():g}."
            )
        if self.loss.name == "poisson" and matrix.min() < 0:
            raise ValueError(f"poisson needs y >= 0; got {matrix.min():g}.")

    def _encode_labels(self, y: NDArray[Any], learn: bool) -> Encoded:
        if y.dtype.kind == "f":
            check_finite(y, "y")
            soft = self.loss.targets == "binary" and not np.isin(y, (0.0, 1.0)).all()
            if soft and y.min() >= 0 and y.max() <= 1 and self.classes is None:
                return None, as_vector(y, "y", dtype=self.dtype)[:, None]
        elif y.dtype.kind in "cMmV":
            raise TypeError(f"y must hold labels (numbers, booleans or text); got {y.dtype}.")
        if self.classes is None:
            if not learn:
                raise ValueError("The network has not seen labels yet; call fit first.")
            self.classes = self._learn_classes(y)
        codes = self._codes(y, self.classes)
        if self.loss.targets == "labels":
            return codes, None
        return None, codes.astype(self.dtype)[:, None]

    def _learn_classes(self, y: NDArray[Any]) -> NDArray[Any]:
        try:
            found = np.unique(y)
        except TypeError as error:
            raise TypeError(
                "y mixes labels that cannot be compared, such as text and numbers or None; "
                "make them all of one kind."
            ) from error
        k = self._n_classes
        if found.dtype.kind in "iuf" and found[0] >= 0 and found[-1] < k:
            numbers = np.arange(k).astype(found.dtype)
            if np.isin(found, numbers).all():
                return numbers  # labels that are already numbers of outputs keep their meaning
        if found.dtype.kind == "b" and k == 2:
            return np.array([False, True])
        if len(found) != k:
            raise ValueError(
                f"y has {len(found)} classes ({_shorten(found)}) but the network has outputs for "
                f"{k}; make the last layer as wide as there are classes."
            )
        return found

    def _codes(self, y: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int32]:
        try:
            at = np.searchsorted(classes, y)
        except TypeError as error:
            raise TypeError(
                f"y has dtype {y.dtype}, but the classes are {_shorten(classes)}."
            ) from error
        at = np.minimum(at, len(classes) - 1)
        wrong = classes[at] != y
        if np.any(wrong):
            unknown = np.unique(y[wrong])
            raise ValueError(
                f"y contains labels outside the classes: {_shorten(unknown)}; the network knows "
                f"{_shorten(classes)}."
            )
        return np.ascontiguousarray(at, dtype=np.int32)

    # ------------------------------------------------------------------ back to the caller

    def decode(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Turn the engine's predictions (after the link) into labels or values."""
        if self.loss.targets == "labels":
            codes = outputs.argmax(axis=1)
            return codes if self.classes is None else self.classes[codes]
        if self.loss.targets == "binary":
            positive = outputs > 0.5
            if self.n_out > 1:
                return positive.astype(np.int64)
            codes = positive[:, 0].astype(np.int64)
            return codes if self.classes is None else self.classes[codes]
        return outputs[:, 0] if self.vector and self.n_out == 1 else outputs

    # ------------------------------------------------------------------ into a file

    def get_config(self) -> dict[str, Any]:
        """Describe what was learnt, in plain values."""
        if self.classes is None:
            return {"classes": None, "classes_dtype": None, "vector": self.vector}
        kind = "str" if self.classes.dtype.kind in "UTO" else self.classes.dtype.name
        return {
            "classes": [c.item() if hasattr(c, "item") else c for c in self.classes],
            "classes_dtype": kind,
            "vector": self.vector,
        }

    def set_config(self, config: dict[str, Any]) -> None:
        """Restore what ``get_config`` described.

        Raises
        ------
        ValueError
            If classes do not fit the outputs.
        """
        self.vector = bool(config["vector"])
        if config["classes"] is None:
            self.classes = None
            return
        kinds = {"str": np.str_, "bool": np.bool_}
        name = config["classes_dtype"]
        if name not in (*kinds, *(f"{s}int{b}" for s in ("", "u") for b in (8, 16, 32, 64)),
                        "float16", "float32", "float64"):  # fmt: skip
            raise ValueError(f"unknown dtype of classes {name!r}")
        classes = np.array(config["classes"], dtype=kinds.get(name, name))
        if classes.shape != (self._n_classes,) or not self.is_classification:
            raise ValueError(f"{classes.size} classes for {self._n_classes}")
        self.classes = classes


def _shorten(values: NDArray[Any], most: int = 10) -> str:
    listed = ", ".join(repr(v.item() if hasattr(v, "item") else v) for v in values[:most])
    return listed + (f", ... ({len(values)} in all)" if len(values) > most else "")
