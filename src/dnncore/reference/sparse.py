"""Products with a sparse matrix given by rows (CSR), non-zero by non-zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["sparse_forward", "sparse_gradient"]

Array = NDArray[np.floating]
Integers = NDArray[np.integer]


def _rows(indptr: Integers) -> Integers:
    return np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))


def sparse_forward(
    indptr: Integers, indices: Integers, values: Array, w: Array, bias: Array | None = None
) -> Array:
    """Return ``X @ w + bias``.

    Parameters
    ----------
    indptr, indices, values : ndarray
        ``X``: row i holds ``values[indptr[i]:indptr[i + 1]]`` in those columns.
    w : ndarray of shape (n_in, n_out)
        Weights.
    bias : ndarray of shape (n_out,), optional
        Added to every row.

    Returns
    -------
    ndarray of shape (rows, n_out)
    """
    z = np.zeros((len(indptr) - 1, w.shape[1]), w.dtype)
    z += 0 if bias is None else bias
    np.add.at(z, _rows(indptr), values[:, np.newaxis] * w[indices])
    return z


def sparse_gradient(
    indptr: Integers, indices: Integers, values: Array, dz: Array, n_in: int
) -> Array:
    """Return ``X.T @ dz``.

    Parameters
    ----------
    indptr, indices, values : ndarray
        ``X``, as for ``sparse_forward``.
    dz : ndarray of shape (rows, n_out)
        Gradient by ``X @ w``.
    n_in : int
        Columns of ``X``.

    Returns
    -------
    ndarray of shape (n_in, n_out)
    """
    dw = np.zeros((n_in, dz.shape[1]), dz.dtype)
    np.add.at(dw, indices, values[:, np.newaxis] * dz[_rows(indptr)])
    return dw
