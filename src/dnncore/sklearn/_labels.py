"""Class labels to columns and back, without the checks of what is plain to see.

Scikit-learn's ``LabelBinarizer`` looks at labels in every way they might be wrong, which takes
longer than a few epochs on a small set. One-dimensional arrays of integers, booleans or text need
none of that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import LabelBinarizer

__all__ = ["binarizer", "decode", "encode", "is_plain"]


def is_plain(y: Any) -> bool:
    """Whether `y` is a plain array of labels, of which few are different."""
    if not (isinstance(y, np.ndarray) and y.ndim == 1 and y.dtype.kind in "iubU" and y.size):
        return False
    # Scikit-learn warns of more classes than half the rows; more than 10,000 are looked up slowly.
    return len(np.unique(y)) <= min(0.5 * y.size, 10_000)


def binarizer(classes: NDArray[Any]) -> LabelBinarizer:
    """Make a ``LabelBinarizer`` as it is after ``fit`` on such an array."""
    made = LabelBinarizer()
    made.y_type_ = "multiclass" if len(classes) > 2 else "binary"
    made.sparse_input_ = False
    made.classes_ = classes
    return made


def encode(classes: NDArray[Any], y: NDArray[Any]) -> NDArray[np.bool_]:
    """One column a class, or a single one for two classes; labels must be among `classes`."""
    codes = np.searchsorted(classes, y)
    if len(classes) <= 2:
        return np.asarray(codes == 1).reshape(-1, 1)
    columns = np.zeros((len(y), len(classes)), np.bool_)
    columns[np.arange(len(y)), codes] = True
    return columns


def decode(known: LabelBinarizer, out: NDArray[Any]) -> NDArray[Any]:
    """Turn outputs into labels: of the kind that was fitted, so sparse columns stay sparse."""
    if known.y_type_ == "multiclass" and not known.sparse_input_:
        return np.asarray(known.classes_.take(out.argmax(axis=1)))
    if known.y_type_ == "binary" and len(known.classes_) == 2 and not known.sparse_input_:
        return np.asarray(known.classes_.take((out.ravel() > 0.5).astype(np.intp)))
    found: NDArray[Any] = known.inverse_transform(out.ravel() if out.shape[1] == 1 else out)
    return found
