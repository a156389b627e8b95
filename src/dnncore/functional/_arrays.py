"""What every step shares: reading arrays, checking their shapes, multiplying them.

Matrices hold one example per *column*. A C-order ``(n, m)`` matrix is the transpose of a
row-major ``(m, n)`` batch and the other way round, so arrays of either order reach the
row-major kernels as views.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnncore import _kernels
from dnncore._validation import _as_real_array

Array = NDArray[np.float64]
LinearCache = tuple[Array, Array, Array]
LayerCache = tuple[LinearCache, Array]

_FLOAT64 = np.dtype(np.float64)
_BLAS_MIN_WORK = 1 << 23


def as_array(value: ArrayLike, name: str) -> Array:
    """Return ``value`` as an aligned float64 array of any shape, copied only if it must be."""
    if type(value) is np.ndarray and value.dtype == _FLOAT64 and value.flags.aligned:
        return value
    return np.require(_as_real_array(value, name), np.float64, ["A"])


def as_columns(value: ArrayLike, name: str, *, rows: int | None = None) -> Array:
    """Return ``value`` as a float64 matrix with one column per example."""
    array = as_array(value, name)
    if array.ndim != 2 or 0 in array.shape:
        hint = f" Use {name}.reshape(1, -1) for one row." if array.ndim == 1 else ""
        if array.ndim > 2:
            hint = f" Flatten each example into a column: {name}.reshape(len({name}), -1).T."
        raise ValueError(
            f"{name} must be a matrix with one column per example; "
            f"got an array of shape {array.shape}.{hint}"
        )
    if rows is not None and array.shape[0] != rows:
        raise ValueError(f"{name} must have {rows} row(s); got shape {array.shape}.")
    return array


def as_shaped(value: ArrayLike, name: str, shape: tuple[int, ...], like: str) -> Array:
    """Return ``value`` as a float64 array of exactly the shape that ``like`` implies."""
    array = as_array(value, name)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, {like}; got {array.shape}.")
    return array


def as_targets(Y: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Return ``Y`` in the shape of the output; a vector of one value per example will do."""
    array = as_array(Y, "Y")
    if array.shape != shape and not (array.ndim == 1 and shape == (1, array.size)):
        raise ValueError(
            f"Y must have the shape of the network's output, {shape}, one column per example; "
            f"got {array.shape}."
        )
    return array.reshape(shape)


def as_layer(
    W: ArrayLike, b: ArrayLike, n_in: int, names: tuple[str, str, str]
) -> tuple[Array, Array]:
    """Check one layer's weights and biases against the number of rows that come in."""
    name_w, name_b, name_in = names
    weights = as_array(W, name_w)
    if weights.ndim != 2 or weights.shape[1] != n_in:
        raise ValueError(
            f"{name_w} must have shape (n, {n_in}), one column for each row of {name_in}; "
            f"got {weights.shape}. Examples are columns: {name_in} is (features, examples)."
        )
    return weights, as_shaped(b, name_b, (weights.shape[0], 1), f"one row per row of {name_w}")


def count_layers(parameters: Mapping[str, Any]) -> int:
    """Return the number of layers, after checking that each has its ``W`` and ``b``."""
    n_layers = 0
    while f"W{n_layers + 1}" in parameters:
        n_layers += 1
    if n_layers == 0:
        raise ValueError(
            f"parameters must hold 'W1', 'b1', 'W2', ...; got the keys {sorted(parameters)}."
        )
    for i in range(1, n_layers + 1):
        lookup(parameters, f"b{i}", "parameters")
    return n_layers


def lookup(mapping: Mapping[str, Any], key: str, name: str) -> Any:
    """Return an entry of a dictionary of arrays, or say which one is missing."""
    try:
        return mapping[key]
    except KeyError:
        raise ValueError(f"{name} must hold {key!r}; got the keys {sorted(mapping)}.") from None


def multiply(a: Array, b: Array) -> Array:
    """Return ``a @ b`` in C order.

    Above some millions of multiply-adds NumPy's BLAS takes any order at full speed, on all cores.
    """
    if a.size * b.shape[1] >= _BLAS_MIN_WORK:
        return a @ b
    row_major_a, transpose_a = _row_major(a)
    row_major_b, transpose_b = _row_major(b)
    return cast(
        Array,
        _kernels.product(
            row_major_a, row_major_b, transpose_a=transpose_a, transpose_b=transpose_b
        ),
    )


def _row_major(matrix: Array) -> tuple[Array, bool]:
    if matrix.flags.c_contiguous:
        return matrix, False
    if matrix.flags.f_contiguous:
        return matrix.T, True
    return np.ascontiguousarray(matrix), False
