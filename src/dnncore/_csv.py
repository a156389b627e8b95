"""Read CSV files into columns: strict about structure, tolerant about what cells hold.

One reader, Python's own ``csv``, whatever else is installed: a file means the same everywhere,
and a row that is too short or too long is an error with its line number, never padded. Rows
are converted in chunks, so that a large table of numbers never exists as text in memory.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from dnncore._columns import parse_number

__all__ = ["read_csv"]

_MISSING = frozenset({"", "na", "n/a", "nan", "null", "?"})
_BOOLS = {"true": True, "false": False}
_DELIMITERS = (",", ";", "\t", "|")
_CHUNK = 2**17  # cells converted at a time, about: what fits the cache


def read_csv(
    path: str | Path, *, delimiter: str | None = None, text_columns: Collection[str] = ()
) -> dict[str, NDArray[Any]]:
    """Read a CSV file into named columns.

    The first row holds the names, unless all its cells are numbers; then the columns are called
    ``col0``, ``col1``, ... Cells that are empty or read NA, N/A, NaN, null or ? (in any case) are
    missing.

    Parameters
    ----------
    path : str or Path
        UTF-8 text; compressed if the name ends in ``.gz``.
    delimiter : str, optional
        By default whichever of comma, semicolon, tab and ``|`` cuts the first row into most
        cells.
    text_columns : collection of str
        Columns that stay text even if all their cells look like numbers.

    Returns
    -------
    dict of str to ndarray of shape (rows,)
        int64 for whole numbers, float64 for numbers (NaN where missing), bool for True and
        False, otherwise objects: ``str``, ``True`` or ``False``, with None where missing.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is empty, is not UTF-8 text, has rows of unequal length (the line is
        named), bad quotes or repeated names, or is damaged gzip.
    """
    path = Path(path)
    with _explained(path):
        columns, late = _read(path, delimiter, text_columns)
        if late:  # numbers in the first chunks, text further down: read those as text
            columns, _ = _read(path, delimiter, {*text_columns, *late})
    return columns


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text (byte {error.object[error.start]:#04x}); save it as UTF-8."
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a complete gzip file: {error}.") from error


def _open(path: Path) -> TextIO:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return open(path, encoding="utf-8-sig", newline="")


def _read(
    path: Path, delimiter: str | None, text_columns: Collection[str]
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    with _open(path) as file:
        sample = file.read(2**16)
        if "\0" in sample:
            raise ValueError(f"{path} is not a text file: it holds NUL characters.")
        delimiter = delimiter or _guess_delimiter(sample)
        file.seek(0)
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        rows = _checked_rows(path, reader)
        first = next(rows, None)
        if first is None:
            raise ValueError(f"{path} is empty; expected a row of names and rows of values.")
        names, n_lines = _names(path, first), reader.line_num
        if _all_numbers(first):
            rows, n_lines = chain([first], rows), 0
        second = next(rows, None)
        if second is None:
            raise ValueError(f"{path} has a row of names but no rows of values.")
        if _all_numbers(second) and not {*names} & {*text_columns}:
            matrix = _read_matrix(path, delimiter, n_lines, len(names))
            if matrix is not None:
                return {name: _narrow(matrix[:, j]) for j, name in enumerate(names)}, []
        rows = chain([second], rows)
        builders = [_Builder(name in text_columns) for name in names]
        while chunk := list(islice(rows, 256 + _CHUNK // len(names))):
            for builder, cells in zip(builders, zip(*chunk, strict=True), strict=True):
                builder.add(cells)
    columns = {name: builder.finish() for name, builder in zip(names, builders, strict=True)}
    return columns, [name for name, b in zip(names, builders, strict=True) if b.late]


def _read_matrix(
    path: Path, delimiter: str, n_lines: int, width: int
) -> NDArray[np.float64] | None:
    """Read a file of nothing but numbers several times faster; None if it is not one."""
    with _open(path) as file:
        lines = islice(file, n_lines, None)
        try:
            matrix = np.loadtxt(lines, delimiter=delimiter, comments=None, quotechar='"', ndmin=2)
        except UnicodeDecodeError:
            raise
        except ValueError:
            return None
    return matrix if matrix.shape[1] == width else None


def _narrow(values: NDArray[np.float64]) -> NDArray[Any]:
    """Turn numbers into int64 if all are whole and exact."""
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
    exact = (whole == values) & (np.abs(values) < 2**53)
    return whole if exact.all() else values.copy()


def _checked_rows(path: Path, reader: Any) -> Iterator[list[str]]:
    width = 0
    try:
        for row in reader:
            if not row:
                continue
            if width and len(row) != width:
                raise ValueError(
                    f"{path}, line {reader.line_num}: expected {width} cells as in the first row, "
                    f"got {len(row)}. Quote cells that hold the delimiter."
                )
            width = len(row)
            yield row
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}.") from error


def _guess_delimiter(sample: str) -> str:
    line = next((line for line in sample.splitlines() if line.strip()), "")
    return max(_DELIMITERS, key=lambda mark: len(next(csv.reader([line], delimiter=mark), [])))


def _all_numbers(cells: Sequence[str]) -> bool:
    return all(parse_number(cell) is not None for cell in cells)


def _names(path: Path, first: Sequence[str]) -> list[str]:
    if _all_numbers(first):
        return [f"col{j}" for j in range(len(first))]
    names = [cell.strip() or f"col{j}" for j, cell in enumerate(first)]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{path} has repeated column names: {', '.join(map(repr, repeated))}.")
    return names


class _Builder:
    """One column while it is read: numbers as long as they last, else text."""

    def __init__(self, text: bool) -> None:
        self.text = self.forced = text
        self.late = False
        self.arrays: list[NDArray[np.float64]] = []
        self.cells: list[str | None] = []
        self.memo: dict[str, str | None] = {}

    def add(self, cells: Sequence[str]) -> None:
        if not self.text:
            numbers = _parse_numbers(cells)
            if numbers is not None:
                self.arrays.append(numbers)
                return
            self.text, self.late = True, bool(self.arrays)
        if not self.late:
            for cell in cells:
                if cell not in self.memo:  # one object for each distinct text
                    text = cell.strip()
                    self.memo[cell] = None if text.lower() in _MISSING else text
                self.cells.append(self.memo[cell])

    def finish(self) -> NDArray[Any]:
        if not self.text:
            return _narrow(np.concatenate(self.arrays))
        present = {text.lower() for text in self.memo.values() if text is not None}
        cells: list[Any] = self.cells
        if present and present <= _BOOLS.keys() and not self.forced:
            cells = [None if cell is None else _BOOLS[cell.lower()] for cell in self.cells]
            if None not in cells:
                return np.array(cells, dtype=bool)
        result = np.empty(len(cells), dtype=object)
        result[:] = cells
        return result


def _parse_numbers(cells: Sequence[str]) -> NDArray[np.float64] | None:
    joined = "".join(cells)
    if "_" in joined or not joined.isascii():  # float() would take 1_000 and other digits
        return None
    for read in (float, _float_or_empty, _float_or_missing):  # from the fastest to the widest
        try:
            return np.fromiter(map(read, cells), np.float64, len(cells))
        except ValueError:
            continue
    return None


def _float_or_empty(cell: str) -> float:
    return float(cell or "nan")


def _float_or_missing(cell: str) -> float:
    return np.nan if cell.strip().lower() in _MISSING else float(cell)
