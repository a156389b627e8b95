"""Read one column of a table: numbers, moments in time or text, with what is missing marked.

Every column becomes one of three kinds: ``"number"`` (float64, NaN where missing), ``"time"``
(datetime64[us], NaT where missing) or ``"text"`` (an object array of ``str``, None where
missing).
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["infer_task", "is_missing", "missing", "parse_number", "read_column", "read_labels"]

_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?")
_FEW = 20  # distinct whole numbers that still look like class labels


def read_column(name: str, values: Any) -> tuple[str, NDArray[Any]]:
    """Return the kind of a column, and its values in that kind's one representation.

    Parameters
    ----------
    name : str
        Used in messages.
    values : array_like of shape (n,)
        Numbers, bools, text, bytes, dates, times; None, NaN, NaT and blank text are missing.
        Text that always parses as numbers is read as numbers, ISO 8601 text as time.

    Returns
    -------
    kind : {"number", "time", "text"}
    values : ndarray of shape (n,)

    Raises
    ------
    TypeError
        For complex numbers, nested lists and records.
    ValueError
        If the column is not 1-D.
    """
    array = _as_column(name, values)
    if array.dtype.kind in "biuf":
        return "number", array.astype(np.float64)
    if array.dtype.kind == "M":
        return "time", array
    return _read_objects(name, array.tolist())


def _as_column(name: str, values: Any) -> NDArray[Any]:
    if np.ma.isMaskedArray(values):
        hidden = np.ma.getmaskarray(values)
        values = np.ma.getdata(values).astype(object)
        values[hidden] = None
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"Column {name!r} must be 1-D; got an array of shape {array.shape}.")
    kind = array.dtype.kind
    if kind == "M":
        return array.astype("datetime64[us]")
    if kind == "m":
        return np.asarray(array / np.timedelta64(1, "s"))
    if kind == "S":
        return np.char.decode(array, "utf-8", "replace")
    if kind not in "biufOUT":
        raise TypeError(
            f"Column {name!r} has dtype {array.dtype}; expected numbers, text or dates."
        )
    return array


def _read_objects(name: str, values: list[Any]) -> tuple[str, NDArray[Any]]:
    try:
        distinct = list(dict.fromkeys(values))
    except TypeError as error:
        raise TypeError(
            f"Column {name!r} holds values that are not numbers, text or dates ({error})."
        ) from error
    absent = {value: None for value in distinct if _is_missing_value(value)}
    present = [value for value in distinct if value not in absent]

    def read_as(parse: Callable[[Any], Any]) -> list[Any] | None:
        parsed: dict[Any, Any] = dict(absent)
        for value in present:
            parsed[value] = parse(value)
            if parsed[value] is None:
                return None
        return [parsed[value] for value in values]

    if (found := read_as(_to_number)) is not None:
        return "number", np.array(found, dtype=np.float64)
    if (found := read_as(_to_time)) is not None:
        return "time", np.array(found, dtype="datetime64[us]")
    result = np.empty(len(values), dtype=object)
    result[:] = read_as(_to_label)
    return "text", result


def _is_missing_value(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or type(value).__name__ == "NAType" or bool(value != value)


def parse_number(text: str) -> float | None:
    """Return the number that ``text`` spells in plain ASCII, or None."""
    if "_" in text or not text.isascii():  # float() would take 1_000 and other scripts' digits
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _to_number(value: Any) -> float | None:
    if isinstance(value, str):
        return parse_number(value)
    if isinstance(value, numbers.Integral) and abs(int(value)) > 2**1000:
        return math.inf  # float() would raise OverflowError
    return float(value) if isinstance(value, (numbers.Real, Decimal, np.bool_)) else None


def _to_time(value: Any) -> Any:
    if isinstance(value, str):
        text = value.strip()
        try:
            value = datetime.fromisoformat(text) if _ISO_DATE.fullmatch(text) else None
        except ValueError:
            return None
    if isinstance(value, datetime) and value.tzinfo is not None:
        value = value.astimezone(UTC).replace(tzinfo=None)
    if isinstance(value, (date, np.datetime64)):
        return np.array(value, dtype="datetime64[us]")[()]
    return None


def _to_label(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    whole = isinstance(value, (float, np.floating)) and float(value).is_integer()
    if whole or (isinstance(value, numbers.Integral) and not isinstance(value, bool)):
        return str(int(value))
    return str(value)


def read_labels(name: str, values: Any) -> NDArray[Any]:
    """Return a column as text whatever it holds, None where missing; whole numbers as "3".

    Raises
    ------
    TypeError, ValueError
        As :func:`read_column`.
    """
    labels = [
        None if _is_missing_value(v) else _to_label(v) for v in _as_column(name, values).tolist()
    ]
    result = np.empty(len(labels), dtype=object)
    result[:] = labels
    return result


def missing(kind: str, values: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell where a column that ``read_column`` returned has no value."""
    if kind == "text":
        return np.array([value is None for value in values], dtype=bool)
    return np.asarray(np.isnat(values) if kind == "time" else np.isnan(values))


def is_missing(values: Any, name: str = "column") -> NDArray[np.bool_]:
    """Tell where a column has no value: None, NaN, NaT or blank text.

    Parameters
    ----------
    values : array_like of shape (n,)
        Any column that :class:`TableEncoder` takes.
    name : str
        Used in messages.

    Returns
    -------
    ndarray of bool of shape (n,)

    Raises
    ------
    TypeError, ValueError
        If it is not a column of numbers, text or dates.
    """
    return missing(*read_column(name, values))


def infer_task(y: Any) -> str:
    """Guess from the targets whether this is classification or regression.

    Text and bools are classes. So are whole numbers, however stored, with at most 20 distinct
    values which either repeat (three rows each on average) or are consecutive, like 0, 1, 2.
    Anything else is regression. A matrix is classification if each row is one-hot.

    Parameters
    ----------
    y : array_like of shape (n,) or (n, k)
        Targets; missing values are left out of the decision.

    Returns
    -------
    {"classification", "regression"}

    Raises
    ------
    TypeError
        If y holds dates or other things that are neither labels nor numbers.
    ValueError
        If no target is there at all.
    """
    array = y if isinstance(y, np.ma.MaskedArray) else np.asarray(y)
    if array.ndim == 2 and array.shape[1] > 1:
        if array.dtype.kind not in "biufO":
            raise TypeError(f"A matrix of targets must hold numbers; got dtype {array.dtype}.")
        matrix = array.astype(np.float64)
        hot = ((matrix == 0) | (matrix == 1)).all() and (matrix.sum(axis=1) == 1).all()
        return "classification" if hot and matrix.size else "regression"
    kind, values = read_column("y", array.reshape(-1) if array.ndim == 2 else array)
    if kind == "time":
        raise TypeError("y holds dates; turn them into numbers, such as days since a start.")
    if kind == "text" or array.dtype.kind == "b":
        return "classification"
    values = values[~np.isnan(values)]
    if not values.size:
        raise ValueError("y holds no value to tell classification from regression by.")
    return "classification" if _look_like_labels(values) else "regression"


def _look_like_labels(values: NDArray[np.float64]) -> bool:
    if not np.array_equal(values, np.floor(values)):
        return False
    distinct: Sequence[float] = np.unique(values).tolist()
    if len(distinct) > _FEW or not math.isfinite(distinct[-1] - distinct[0]):
        return False
    return len(values) >= 3 * len(distinct) or distinct[-1] - distinct[0] == len(distinct) - 1
