"""What the command line reads: a file, a directory or a set by name, as rows with a target."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnncore._columns import read_column, read_labels
from dnncore._plans import check_column_finite
from dnncore.datasets import Arrays, load_digits, load_fashion_mnist, load_mnist, load_table
from dnncore.preprocessing import flatten_images
from dnncore.tables import is_missing

__all__ = ["SETS", "Columns", "Data", "Rows", "load_data", "read_target"]

SETS = ("digits", "fashion-mnist", "mnist")
"""Sets known by name."""

_TARGETS = ("target", "label", "class", "y")  # names that say what they are

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Rows:
    """Rows of data.

    Attributes
    ----------
    inputs : dict of str to ndarray, or ndarray of shape (rows, features)
        Named columns, or pixels from 0 to 1.
    target : ndarray of shape (rows,) or (rows, outputs), or None
        As it was read.
    """

    inputs: Columns | NDArray[Any]
    target: NDArray[Any] | None

    def __len__(self) -> int:
        inputs = self.inputs
        return len(next(iter(inputs.values())) if isinstance(inputs, dict) else inputs)

    def known(self, name: str) -> NDArray[np.bool_]:
        """Tell which rows have a target."""
        target = self.target
        if target is None:
            raise ValueError(f"The data hold no target {name!r}.")
        if target.ndim == 1:
            return ~is_missing(target, name)
        return np.asarray(~np.isnan(target.astype(np.float64).sum(axis=1)))

    def labelled(self, name: str) -> tuple[Rows, NDArray[Any]]:
        """Return the rows that have a target, and that target."""
        there, target = self.known(name), self.target
        assert target is not None
        if there.all():
            return self, target
        if not there.any():
            raise ValueError(f"The target {name!r} has no values.")
        if isinstance(self.inputs, dict):
            inputs: Any = {key: values[there] for key, values in self.inputs.items()}
        else:
            inputs = self.inputs[there]
        return Rows(inputs, target[there]), target[there]


@dataclass(frozen=True)
class Data:
    """What DATA on the command line stands for.

    Attributes
    ----------
    name : str
        As the user wrote it.
    rows : Rows
        All rows, or those to train on if the data keep others apart for testing.
    test : Rows or None
        Those kept apart.
    target : str
        What the target is called.
    """

    name: str
    rows: Rows
    test: Rows | None
    target: str

    @property
    def new(self) -> Rows:
        """Rows to predict or to score: those kept apart for testing, if any, else all."""
        return self.rows if self.test is None else self.test


def load_data(
    name: str,
    *,
    directory: str | None = None,
    target: str | None = None,
    trained_target: str | None = None,
    needs_target: bool = True,
    drop: Sequence[str] = (),
    text_columns: Collection[str] = (),
) -> Data:
    """Read what DATA names.

    Parameters
    ----------
    name : str
        One of ``SETS``, a data file, or a directory of IDX files.
    directory : str, optional
        Where the files of a set with a name are.
    target : str, optional
        The target's column in a table. By default ``trained_target``; else one that is called
        target, label, class or y; else the last.
    trained_target : str, optional
        What the target was called when the model was trained.
    needs_target : bool
        Whether there has to be a target.
    drop : sequence of str
        Columns to leave out.
    text_columns : collection of str
        See :func:`dnncore.datasets.load_table`.

    Returns
    -------
    Data

    Raises
    ------
    OSError, ImportError, ValueError
        If there are no such data, or not with these columns.
    """
    if directory is not None and name not in SETS[1:]:
        raise ValueError(f"--data goes with DATA {' or '.join(SETS[1:])}; got {name}.")
    if name in SETS:
        found: Columns | Arrays = _load_set(name, directory)
    else:
        path = Path(name).expanduser()
        if not path.exists():
            raise FileNotFoundError(
                f"There is no file or directory {name}; sets known by name: {', '.join(SETS)}."
            )
        found = load_table(path, text_columns=text_columns)
    if not isinstance(found, Arrays):
        if needs_target:
            target = target or _choose_target(found, trained_target)
        return _from_columns(found, name, target or trained_target, needs_target, drop)
    if target is not None or drop:
        raise ValueError(f"--target and --drop name columns of a table; {name} holds arrays X, y.")
    pixels = name in SETS or Path(name).expanduser().is_dir()
    return _from_arrays(found, name, needs_target, pixels)


def _load_set(name: str, directory: str | None) -> Arrays:
    if name == "digits":
        return Arrays(*load_digits())
    if name == "fashion-mnist":
        return Arrays(*load_fashion_mnist(directory))
    if directory is None:
        raise ValueError("mnist needs --data DIR, the directory of its four IDX files.")
    return Arrays(*load_mnist(directory))


def _choose_target(columns: Columns, trained: str | None) -> str:
    if trained is not None:
        return trained
    telling = [column for column in columns if column.lower() in _TARGETS]
    return telling[0] if len(telling) == 1 else list(columns)[-1]


def _from_columns(
    columns: Columns, name: str, target: str | None, needs_target: bool, drop: Sequence[str]
) -> Data:
    for column in (*drop, *([target] if target and needs_target else [])):
        if column not in columns:
            listed = ", ".join(map(repr, list(columns)[:20])) + ", ..." * (len(columns) > 20)
            raise ValueError(f"{name} has no column {column!r}; it has {listed}.")
    if target in drop:
        raise ValueError(f"Column {target!r} is the target and cannot be left out by --drop.")
    inputs = {k: values for k, values in columns.items() if k not in drop and k != target}
    if not inputs:
        raise ValueError(f"{name} has no column beside the target to predict from.")
    return Data(name, Rows(inputs, columns.get(target or "")), None, target or "target")


def _from_arrays(arrays: Arrays, name: str, needs_target: bool, pixels: bool) -> Data:
    X, y, X_test, y_test = arrays
    if X_test is not None and (X_test.shape[1:], X_test.dtype) != (X.shape[1:], X.dtype):
        raise ValueError(
            f"{name}: X is {X.dtype} of shape {X.shape}, but X_test {X_test.dtype} of shape "
            f"{X_test.shape}; they must match."
        )
    if needs_target and y is None:
        raise ValueError(f"{name} holds no targets; expected an array y beside X.")
    rows = _as_rows(X, y, name, pixels)
    test = None if X_test is None else _as_rows(X_test, y_test, name, pixels)
    return Data(name, rows, test, "y")


def _as_rows(X: NDArray[Any], y: NDArray[Any] | None, name: str, pixels: bool) -> Rows:
    if X.ndim == 0 or y is not None and y.shape[:1] != X.shape[:1]:
        raise ValueError(
            f"{name} must hold as many targets as rows of inputs; got shapes {X.shape} and "
            f"{None if y is None else y.shape}."
        )
    if y is not None and (y.ndim > 2 or y.ndim == 2 and y.dtype.kind not in "biuf"):
        raise ValueError(
            f"{name}: targets must have shape (rows,), or (rows, outputs) with numbers; got "
            f"{y.dtype} of shape {y.shape}."
        )
    if y is not None and y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if pixels or (X.ndim in (3, 4) and X.dtype == np.uint8):
        return Rows(X if pixels else flatten_images(X), y)
    matrix = X.reshape(len(X), -1)
    return Rows({f"x{j}": matrix[:, j] for j in range(matrix.shape[1])}, y)


def read_target(
    values: NDArray[Any], name: str, task: str, classes: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Turn a target without missing values into class labels or numbers.

    Parameters
    ----------
    values : ndarray of shape (rows,) or (rows, outputs)
        As it was read; a matrix of classes has one-hot rows.
    name : str
        For messages.
    task : {"classification", "regression"}
        What it is taken for.
    classes : ndarray, optional
        Labels that the model knows, whose type decides.

    Returns
    -------
    ndarray of shape (rows,), int64 or str, or of shape (rows, outputs), float64
        Labels are int64 if all are whole numbers.

    Raises
    ------
    ValueError
        If values are no numbers, for regression.
    """
    if task == "regression":
        kind, numbers = read_column(name, values) if values.ndim == 1 else ("number", values)
        if kind != "number":
            raise ValueError(f"The target {name!r} holds {kind}; regression needs numbers.")
        numbers = numbers.astype(np.float64)
        check_column_finite(name, numbers)
        return numbers[:, None] if numbers.ndim == 1 else numbers
    if values.ndim == 2:
        labels = [str(code) for code in values.argmax(axis=1)]
    else:
        labels = read_labels(name, values).tolist()
    whole = all(_is_whole(label) for label in set(labels))
    if whole and (classes is None or classes.dtype.kind == "i"):
        return np.array([int(label) for label in labels], dtype=np.int64)
    return np.array(labels, dtype=np.str_)


def _is_whole(label: str) -> bool:
    digits = label.removeprefix("-")
    plain = digits.isascii() and digits.isdigit() and len(digits) < 19
    return plain and str(int(label)) == label
