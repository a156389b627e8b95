"""Sparse inputs: checked, brought into canonical CSR, and never made dense."""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from dnncore._engine import Data
from dnncore._validation import as_contiguous, check_size, format_shape

__all__ = ["as_csr", "csr_data", "is_sparse", "take_csr"]


def is_sparse(value: Any) -> TypeGuard[Any]:
    """Whether a value is a sparse matrix or array of SciPy's kind."""
    return hasattr(value, "tocsr")


def as_csr(
    value: Any, name: str, *, dtype: np.dtype[Any], columns: int | None = None, min_rows: int = 1
) -> Any:
    """Return a sparse matrix as CSR of ``dtype`` with ascending, different indices in each row.

    Parameters
    ----------
    value : sparse matrix or array of shape (rows, columns)
        Of any format; left as it is.
    name : str
        What the caller calls it.
    dtype : numpy.dtype
        ``float32`` or ``float64``.
    columns : int, optional
        Number of columns it must have.
    min_rows : int
        Least number of rows.

    Returns
    -------
    scipy.sparse.csr_array or csr_matrix
        Shares memory with ``value`` where nothing had to be changed.

    Raises
    ------
    TypeError
        For values that are not real numbers.
    ValueError
        For a wrong shape, indices out of range, NaN or infinity.
    """
    if value.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers; got a sparse matrix of {value.dtype}.")
    if len(value.shape) != 2:
        raise ValueError(f"{name} must be 2-D (rows, columns); got shape {value.shape}.")
    shape = format_shape(value.shape)
    if columns is not None and value.shape[1] != columns:
        raise ValueError(f"{name} must have {columns} column{'s' * (columns != 1)}; got {shape}.")
    if value.shape[0] < min_rows or value.shape[1] < 1:
        raise ValueError(
            f"{name} must have at least {max(min_rows, 1)} row(s) and one column; got {shape}."
        )
    check_size(value.shape, name)
    try:
        if value.format in ("csr", "csc"):
            value.check_format(full_check=True)
        rows = value.tocsr()
        if rows.format != value.format:
            rows.check_format(full_check=True)
    except ValueError as error:
        raise ValueError(f"{name} is a damaged sparse matrix: {error}.") from error
    if not rows.has_canonical_format:
        if rows is value:
            rows = rows.copy()
        rows.sum_duplicates()
    stored = int(rows.indptr[-1])
    values = as_contiguous(rows.data[:stored], dtype, f"{name}.data")
    return type(rows)((values, rows.indices[:stored], rows.indptr), shape=rows.shape, copy=False)


def csr_data(
    rows: Any,
    labels: NDArray[np.int32] | None,
    target: NDArray[Any] | None,
    weight: NDArray[Any] | None,
) -> Data:
    """Wrap inputs from ``as_csr`` with what belongs to them, or with nothing."""
    if labels is None and target is None:
        labels = np.zeros(rows.shape[0], np.int32)  # which nobody reads
    return Data(
        np.require(rows.data, None, ["C", "A"]),
        labels,
        target,
        weight,
        np.require(rows.indptr, np.int64, ["C", "A"]),
        np.require(rows.indices, np.int32, ["C", "A"]),
    )


def take_csr(
    sparse: tuple[NDArray[np.int64], NDArray[np.int32]],
    values: NDArray[Any],
    rows: NDArray[np.intp] | slice,
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int32]]:
    """Return values, indptr and indices of some rows; those of a slice are not copied."""
    indptr, indices = sparse
    if isinstance(rows, slice):
        start, stop, _ = rows.indices(len(indptr) - 1)
        first, last = int(indptr[start]), int(indptr[stop])
        return values[first:last], indptr[start : stop + 1] - first, indices[first:last]
    counts = np.diff(indptr)[rows]
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    places = np.repeat(indptr[:-1][rows] - ends[:-1], counts) + np.arange(ends[-1])
    return values[places], ends, indices[places]
