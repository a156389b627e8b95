"""The one gate: every public entry checks its arguments here, before any kernel runs.

Kernels are unchecked. What passes this module is a C-contiguous, aligned, native-endian
array of the network's dtype whose dimensions fit the 32-bit integers of BLAS, and holds
finite numbers only. Everything else is refused in the caller's terms: what was expected,
what came, what to do.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from dnncore._kernels import all_finite

__all__ = [
    "INT_MAX",
    "as_array",
    "as_contiguous",
    "as_float_dtype",
    "as_matrix",
    "as_vector",
    "check_bool",
    "check_choice",
    "check_finite",
    "check_int",
    "check_matrix",
    "check_real",
    "check_same_rows",
    "check_size",
    "format_shape",
]

INT_MAX = 2**31 - 1
"""Largest dimension that BLAS, with its 32-bit integers, can take."""

T = TypeVar("T")


def as_float_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return ``dtype`` as ``float32`` or ``float64``, the two that the kernels know.

    Raises
    ------
    ValueError
        For any other dtype.
    """
    try:
        result = None if dtype is None else np.dtype(dtype)
    except TypeError as error:
        raise ValueError(f"dtype must be 'float32' or 'float64'; got {dtype!r}.") from error
    if result is None or result not in (np.float32, np.float64):
        raise ValueError(f"dtype must be 'float32' or 'float64'; got {dtype!r}.")
    return result.newbyteorder("=")


def format_shape(shape: tuple[int, ...], names: tuple[str, ...] = ("rows", "columns")) -> str:
    """Write a shape for an error message, as ``(rows=32, columns=784)``."""
    if len(shape) != len(names):
        return str(tuple(shape))
    return "(" + ", ".join(f"{n}={s}" for n, s in zip(names, shape, strict=True)) + ")"


def as_array(value: ArrayLike, name: str) -> NDArray[Any]:
    """Return ``value`` as an array of any dtype, if no information is lost by that.

    Raises
    ------
    TypeError
        For a sparse matrix.
    ValueError
        For rows of different length, masked values, or a dimension over 2**31 - 1.
    """
    if hasattr(value, "tocsr"):
        raise TypeError(f"{name} is a sparse matrix; pass a dense array, {name}.toarray().")
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(f"{name} has masked values; fill them first, {name}.filled(...).")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{name} cannot be turned into an array ({error}); pass rows of equal length."
        ) from error
    check_size(array.shape, name)
    return array


def _as_real_array(value: ArrayLike, name: str) -> NDArray[Any]:
    array = as_array(value, name)
    if array.dtype == object:
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{name} has dtype object and holds values that are not numbers ({error}); "
                "encode text and missing values as numbers first."
            ) from error
    if array.dtype.kind == "c":
        raise TypeError(f"Complex data not supported: {name} has dtype {array.dtype}.")
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"{name} must hold real numbers; got dtype {array.dtype}. "
            "Encode text and dates as numbers first."
        )
    return array


def _is_plain(array: NDArray[Any]) -> bool:
    """Whether kernels take it as it is; a byte order that is spelled out they do not."""
    return (
        isinstance(array, np.ndarray)
        and array.dtype.char in "fd"
        and array.dtype.byteorder == "="
        and array.flags.c_contiguous
        and array.flags.aligned
    )


def check_finite(array: NDArray[Any], name: str, first_row: int = 0) -> None:
    """Refuse NaN and infinity, naming the first place where one stands.

    ``first_row`` is the row of the caller's array that ``array`` starts at.

    Raises
    ------
    ValueError
        If any element is not finite.
    """
    if _is_plain(array):
        if all_finite(array):
            return
    else:  # a sum is finite if all elements are, unless it overflows; only then look closer
        with np.errstate(over="ignore", invalid="ignore"):
            if math.isfinite(array.sum()):
                return
    finite = np.isfinite(array)
    if finite.all():
        return
    where = tuple(int(i) for i in np.argwhere(~finite)[0])
    what = "NaN" if np.isnan(array[where]) else "infinity"
    if first_row:
        where = (where[0] + first_row, *where[1:])
    raise ValueError(
        f"{name} contains {what} (first at index {where}; {int((~finite).sum())} in all are not "
        "finite). Remove or impute such values first."
    )


def as_contiguous(
    array: NDArray[Any], dtype: np.dtype[Any], name: str, first_row: int = 0
) -> NDArray[Any]:
    """Return an array of real numbers as a finite, C-order one of ``dtype``.

    ``first_row`` is the row of the caller's array that ``array`` starts at.

    Raises
    ------
    ValueError
        For NaN, infinity, or values that are infinite in ``dtype``.
    """
    if array.dtype == dtype and _is_plain(array):
        check_finite(array, name, first_row)
        return array
    is_float = array.dtype.kind == "f"
    if is_float:
        check_finite(array, name, first_row)
    narrowed = is_float and array.dtype.itemsize > dtype.itemsize
    with np.errstate(over="ignore", under="ignore"):
        array = np.require(array, dtype, ["C", "A"])
    if narrowed and not np.isfinite(array).all():
        raise ValueError(
            f"{name} holds values too large for {dtype} (over {np.finfo(dtype).max:.3g}); "
            "rescale it or use dtype='float64'."
        )
    return array


def as_matrix(
    value: ArrayLike,
    name: str = "X",
    *,
    dtype: np.dtype[Any],
    columns: int | None = None,
    min_rows: int = 1,
) -> NDArray[Any]:
    """Return ``value`` as a finite C-order matrix of ``dtype``, copying only if it must.

    Parameters
    ----------
    value : array_like of shape (rows, columns)
        Anything NumPy reads as a matrix of real numbers; read-only, strided and misaligned
        arrays are welcome.
    name : str
        What the caller calls it; used in messages.
    dtype : numpy.dtype
        ``float32`` or ``float64``.
    columns : int, optional
        Number of columns it must have.
    min_rows : int
        Least number of rows.

    Returns
    -------
    ndarray of shape (rows, columns)

    Raises
    ------
    TypeError
        For data that are not real numbers.
    ValueError
        For a wrong shape, too few rows, NaN or infinity, or a dimension over 2**31 - 1.
    """
    return as_contiguous(check_matrix(value, name, columns, min_rows), dtype, name)


def check_matrix(
    value: ArrayLike, name: str, columns: int | None = None, min_rows: int = 1
) -> NDArray[Any]:
    """Return ``value`` as a matrix of real numbers, not yet converted nor searched for NaN.

    Parameters and errors are those of :func:`as_matrix`.
    """
    array = _as_real_array(value, name)
    if array.ndim != 2:
        hint = ""
        if array.ndim == 1:
            hint = f" Use {name}.reshape(1, -1) for one row, {name}.reshape(-1, 1) for one column."
        elif array.ndim > 2:
            hint = f" Flatten it: {name}.reshape(len({name}), -1)."
        raise ValueError(
            f"{name} must be 2-D (rows, columns); got an array of shape {array.shape}.{hint}"
        )
    if columns is not None and array.shape[1] != columns:
        raise ValueError(
            f"{name} must have {columns} column{'s' * (columns != 1)}; got shape "
            f"{format_shape(array.shape)}."
        )
    if array.shape[0] < min_rows:
        raise ValueError(
            f"{name} must have at least {min_rows} row(s); got shape {format_shape(array.shape)}."
        )
    if array.shape[1] < 1:
        raise ValueError(f"{name} must have at least one column; got {format_shape(array.shape)}.")
    return array


def as_vector(
    value: ArrayLike, name: str, *, dtype: np.dtype[Any], size: int | None = None
) -> NDArray[Any]:
    """Return ``value`` as a finite, C-order vector of ``dtype``.

    Raises
    ------
    TypeError, ValueError
        As for :func:`as_matrix`.
    """
    array = _as_real_array(value, name)
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D; got an array of shape {array.shape}.")
    if size is not None and array.shape[0] != size:
        raise ValueError(f"{name} must have {size} elements; got {array.shape[0]}.")
    return as_contiguous(array, dtype, name)


def check_size(shape: Iterable[int], name: str) -> None:
    """Refuse dimensions that do not fit the 32-bit integers of BLAS.

    Raises
    ------
    ValueError
        If a dimension is over 2**31 - 1.
    """
    for size in shape:
        if size > INT_MAX:
            raise ValueError(
                f"{name} has a dimension of {size}; the largest supported is {INT_MAX} "
                "(2**31 - 1). Train on it in parts."
            )


def check_same_rows(**arrays: NDArray[Any] | int | None) -> None:
    """Refuse arrays, or numbers of rows, that differ.

    Raises
    ------
    ValueError
        Naming each array with its number of rows.
    """
    rows = {
        name: a if isinstance(a, int) else len(a) for name, a in arrays.items() if a is not None
    }
    if len(set(rows.values())) > 1:
        listing = ", ".join(f"{name}: {n}" for name, n in rows.items())
        raise ValueError(f"Arrays must have the same number of rows; got {listing}.")


def check_int(
    value: Any, name: str, *, minimum: int | None = 1, maximum: int | None = INT_MAX
) -> int:
    """Return ``value`` as an ``int`` within bounds; booleans and fractions are refused.

    Raises
    ------
    TypeError
        If it is not an integer.
    ValueError
        If it is out of bounds.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer; got {value!r}.")
    result = int(value)
    if minimum is not None and result < minimum:
        raise ValueError(f"{name} must be at least {minimum}; got {result}.")
    if maximum is not None and result > maximum:
        raise ValueError(f"{name} must be at most {maximum}; got {result}.")
    return result


def check_real(
    value: Any,
    name: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    exclusive: bool = False,
) -> float:
    """Return ``value`` as a finite ``float`` within bounds.

    Parameters
    ----------
    value : float
        The number.
    name : str
        What the caller calls it.
    minimum, maximum : float, optional
        Bounds, inclusive unless ``exclusive``.
    exclusive : bool
        Whether the bounds themselves are refused.

    Raises
    ------
    TypeError
        If it is not a real number.
    ValueError
        If it is not finite or out of bounds.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number; got {value!r}.")
    try:
        result = float(value)
    except OverflowError:
        raise ValueError(f"{name} must fit a float; got a larger number.") from None
    if not math.isfinite(result):
        raise ValueError(f"{name} must be finite; got {result}.")
    if minimum is not None and (result < minimum or (exclusive and result == minimum)):
        bound = "greater than" if exclusive else "at least"
        raise ValueError(f"{name} must be {bound} {minimum:g}; got {result:g}.")
    if maximum is not None and (result > maximum or (exclusive and result == maximum)):
        bound = "less than" if exclusive else "at most"
        raise ValueError(f"{name} must be {bound} {maximum:g}; got {result:g}.")
    return result


def check_bool(value: Any, name: str) -> bool:
    """Return ``value`` as a ``bool``; what merely counts as true or false is refused.

    Raises
    ------
    TypeError
        If it is not a boolean.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False; got {value!r}.")
    return bool(value)


def check_choice(value: Any, name: str, choices: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``choices``.

    Raises
    ------
    ValueError
        Listing the choices.
    """
    names = list(choices)
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, names))}; got {value!r}.")
    return value
