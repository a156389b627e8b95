"""From what scikit-learn has validated to the engine's ``Data``."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dnncore._engine import Data

__all__ = ["as_data", "as_rows", "input_data"]


def as_rows(X: Any, dtype: np.dtype[Any]) -> Any:
    """Bring inputs into the form that the engine reads: C order, or CSR in canonical format."""
    if not scipy.sparse.issparse(X):
        return np.require(X, dtype, ["C", "A"])
    rows: Any = X
    rows = rows.tocsr()
    if rows.dtype != dtype:
        rows = rows.astype(dtype)
    if not rows.has_canonical_format:
        rows = rows.copy()
        rows.sum_duplicates()
    return rows


def input_data(
    X: Any,
    labels: NDArray[np.int32] | None,
    target: NDArray[Any] | None,
    weight: NDArray[Any] | None,
) -> Data:
    """Wrap inputs from ``as_rows`` with what belongs to them."""
    if not scipy.sparse.issparse(X):
        return Data(X, labels, target, weight)
    rows: Any = X
    return Data(
        np.require(rows.data, None, ["C", "A"]),
        labels,
        target,
        weight,
        rows.indptr.astype(np.int64),
        np.require(rows.indices, np.int32, ["C", "A"]),
    )


def as_data(
    X: Any,
    y: NDArray[Any],
    weight: NDArray[Any] | None,
    dtype: np.dtype[Any],
    *,
    labels: bool,
) -> Data:
    """Bring examples into the engine's form.

    Parameters
    ----------
    X : ndarray or sparse matrix of shape (n_samples, n_features)
        Inputs.
    y : ndarray of shape (n_samples, n_outputs)
        Targets as scikit-learn's MLP encodes them.
    weight : ndarray of shape (n_samples,) or None
        Weights.
    dtype : dtype
        Type that the network has.
    labels : bool
        Whether rows of `y` are one-hot, and the engine wants class numbers.
    """
    codes = y.argmax(axis=1).astype(np.int32) if labels else None
    target = None if labels else np.require(y, dtype, ["C", "A"])
    if weight is not None:
        weight = np.require(weight, dtype, ["C", "A"])
    return input_data(as_rows(X, dtype), codes, target, weight)
