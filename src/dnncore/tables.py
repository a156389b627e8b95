"""Turn a table of mixed columns into a float32 matrix, and remember how.

``TableEncoder.fit`` decides on a plan (``_plans.py``) for each column that it keeps, from what
the column holds (``_columns.py``); ``transform`` carries the plans out.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dnncore._columns import infer_task, is_missing, missing, read_column
from dnncore._plans import (
    PARTS,
    Categorical,
    Numeric,
    check_column_finite,
    plan_from_config,
    split_parts,
)
from dnncore._scalers import SCALERS
from dnncore._validation import check_choice, check_int
from dnncore.exceptions import NotFittedError

__all__ = ["ColumnReport", "TableEncoder", "infer_task", "is_missing"]

_MIN_DISTINCT = 10  # with fewer texts than this a column is never taken for an identifier
_log = logging.getLogger("dnncore")


@dataclass(frozen=True)
class ColumnReport:
    """What ``TableEncoder.fit`` did with one column.

    Attributes
    ----------
    column : str
        Its name.
    action : {"number", "time", "category", "dropped"}
        What it was taken for.
    features : int
        How many columns of the matrix come from it.
    text : str
        The same and the details, as a sentence.
    """

    column: str
    action: str
    features: int
    text: str

    def __str__(self) -> str:
        """Return the sentence with the column's name before it."""
        return f"{self.column}: {self.text}"


class TableEncoder:
    """Encode a table of numbers, text and dates as a float32 matrix, the same way every time.

    Numbers
        A missing value becomes the training median; if training had any, a 0/1 feature
        ``<column>_missing`` tells where. Then scaled. Bools and text that spells numbers count
        as numbers.
    Text
        One 0/1 feature per category. Beyond ``max_categories`` the rarest share one, which also
        takes categories that training did not have; without it those become all 0. Missing is
        a category of its own.
    Dates
        The year, and the places in the year, the week and the day as sine and cosine, so that
        December lies beside January. Parts that never change are left out.
    Dropped
        Columns without values, constant columns, and text with fewer than two rows per distinct
        value, like a name or an identifier.

    Parameters
    ----------
    scaling : {"standard", "minmax", "robust", "none"}
        How numbers and parts of dates are scaled; see :mod:`dnncore.preprocessing`.
    max_categories : int
        Most categories of a text column that get a feature of their own.

    Attributes
    ----------
    columns : list of str
        Columns that ``transform`` needs.
    feature_names : list of str
        Names of the columns of the matrix.
    report : list of ColumnReport
        What was done with each column seen by ``fit``.

    Examples
    --------
    >>> table = {"size": np.array([1.0, 3.0, np.nan]), "hue": np.array(["red", "blue", "red"])}
    >>> encoder = TableEncoder(scaling="none").fit(table)
    >>> encoder.feature_names
    ['size', 'size_missing', 'hue=blue', 'hue=red']
    >>> encoder.transform({"size": [2.0], "hue": ["red"]})
    array([[2., 0., 0., 1.]], dtype=float32)
    >>> print(encoder.report[0])
    size: number; 1 of 3 missing, set to the median 2 and marked in 'size_missing'.
    """

    def __init__(self, scaling: str = "standard", max_categories: int = 32) -> None:
        self.scaling = check_choice(scaling, "scaling", [*SCALERS, "none"])
        self.max_categories = check_int(max_categories, "max_categories")
        self.report: list[ColumnReport] = []
        self._plans: list[Numeric | Categorical] = []

    def __repr__(self) -> str:
        """Say how many columns become how many features."""
        state = f"{len(self.columns)} columns to {len(self.feature_names)} features"
        return f"<TableEncoder: {state if self._plans else 'not fitted'}>"

    @property
    def columns(self) -> list[str]:
        """Columns that ``transform`` needs."""
        return [plan.name for plan in self._plans]

    @property
    def feature_names(self) -> list[str]:
        """Names of the columns of the matrix."""
        return [name for plan in self._plans for name in plan.features]

    @property
    def text_columns(self) -> list[str]:
        """Columns to be read as text, even from a file where they happen to look like numbers."""
        return [plan.name for plan in self._plans if isinstance(plan, Categorical)]

    def fit(self, columns: Mapping[str, Any]) -> Self:
        """Decide what to do with each column.

        Parameters
        ----------
        columns : dict of str to array_like of shape (rows,)
            Training data; a pandas DataFrame will do.

        Returns
        -------
        TableEncoder

        Raises
        ------
        TypeError
            If a column holds neither numbers, text nor dates.
        ValueError
            If columns differ in length, are empty or infinite, or none is of use.
        """
        _check_rows(columns)
        plans, report = [], []
        for name in columns:
            plan, action, text = self._plan(name, *read_column(name, columns[name]))
            report.append(ColumnReport(name, action, len(plan.features) if plan else 0, text))
            if plan:
                plans.append(plan)
        if not plans:
            raise ValueError("No column is of use. " + " ".join(map(str, report)))
        self._plans, self.report = plans, report
        return self

    def _plan(
        self, name: str, kind: str, values: NDArray[Any]
    ) -> tuple[Numeric | Categorical | None, str, str]:
        absent = missing(kind, values)
        n, n_missing = len(values), int(absent.sum())
        if n_missing == n:
            return None, "dropped", "dropped; it has no values."
        present = values[~absent]
        if kind == "text":
            return self._plan_text(name, present.tolist(), n_missing)
        check_column_finite(name, values)
        every = PARTS[kind]
        matrix = split_parts(kind, present, every)
        varies = matrix.min(axis=0) < matrix.max(axis=0)
        parts = tuple(part for part, v in zip(every, varies, strict=True) if v)
        only = f"{present[0]:g}" if kind == "number" else str(present[0])
        if not parts and not n_missing:
            return None, "dropped", f"dropped; its only value is {only}."
        matrix = matrix[:, varies]
        fill = tuple(np.median(matrix, axis=0).tolist())
        scaler = SCALERS[self.scaling]().fit(matrix) if parts and self.scaling in SCALERS else None
        plan = Numeric(name, kind, parts, fill, n_missing > 0, scaler)
        text = kind if kind == "number" or not parts else f"time, as {', '.join(parts)}"
        text += "" if parts else f", always {only}"
        if n_missing:
            text += f"; {n_missing} of {n} missing, "
            if parts:
                text += f"set to the median{f' {fill[0]:g}' if kind == 'number' else ''} and "
            text += f"marked in '{name}_missing'"
        if _counts_rows(kind, values):
            text += "; a different whole number in every row: leave it out if it only counts rows"
        return plan, kind, text + "."

    def _plan_text(
        self, name: str, labels: list[str], n_missing: int
    ) -> tuple[Categorical | None, str, str]:
        counts = Counter(labels)
        if len(counts) > _MIN_DISTINCT and len(labels) < 2 * len(counts):
            detail = f"{len(counts)} different texts in {len(labels)} rows, like an identifier"
            return None, "dropped", f"dropped; {detail}."
        if len(counts) == 1 and not n_missing:
            return None, "dropped", f"dropped; its only value is {labels[0]!r}."
        ranked = sorted(counts, key=lambda label: (-counts[label], label))
        kept = tuple(sorted(ranked[: self.max_categories]))
        rare = sum(counts[label] for label in ranked[self.max_categories :])
        plan = Categorical(name, kept, rare > 0, n_missing > 0)
        text = f"text with {len(counts)} categories"
        if rare:
            text += f", the {len(kept)} most frequent kept, the others ({rare} rows) put together"
        if n_missing:
            text += f"; {n_missing} of {len(labels) + n_missing} missing, a category of its own"
        return plan, "category", text + "."

    def transform(self, columns: Mapping[str, Any]) -> NDArray[np.float32]:
        """Encode a table as ``fit`` decided.

        Parameters
        ----------
        columns : dict of str to array_like of shape (rows,)
            Must hold every column in ``self.columns``; others are ignored, and said so in the
            log (``logging.getLogger("dnncore")``).

        Returns
        -------
        ndarray of shape (rows, features), float32

        Raises
        ------
        NotFittedError
            Before ``fit``.
        TypeError, ValueError
            If a column is missing, or holds text where training had numbers; the message
            names the column and the value.
        """
        self._require_fit()
        lacking = [name for name in self.columns if name not in columns]
        if lacking:
            raise ValueError(
                f"The table lacks {len(lacking)} column(s) that training had: "
                f"{', '.join(map(repr, lacking))}. It has: {', '.join(map(repr, columns))}."
            )
        extra = self.ignored_columns(columns)
        if extra:
            _log.info("Columns that the encoder does not use are ignored: %s.", ", ".join(extra))
        n = _check_rows({name: columns[name] for name in self.columns})
        result = np.empty((n, len(self.feature_names)), dtype=np.float32)
        start = 0
        for plan in self._plans:
            block = plan.encode(columns[plan.name])
            with np.errstate(over="ignore"):  # to infinity, which the network's gate refuses
                result[:, start : start + block.shape[1]] = block
            start += block.shape[1]
        return result

    def fit_transform(self, columns: Mapping[str, Any]) -> NDArray[np.float32]:
        """Fit to a table and return it encoded."""
        return self.fit(columns).transform(columns)

    def ignored_columns(self, columns: Mapping[str, Any]) -> list[str]:
        """Return the names in a table that ``transform`` makes no use of."""
        used = set(self.columns)
        return [name for name in columns if name not in used]

    def _require_fit(self) -> None:
        if not self._plans:
            raise NotFittedError("TableEncoder is not fitted; call fit(columns) first.")

    def get_config(self) -> dict[str, Any]:
        """Return the fitted encoder as a dict that JSON can hold without loss."""
        self._require_fit()
        return {
            "scaling": self.scaling,
            "max_categories": self.max_categories,
            "columns": [plan.get_config() for plan in self._plans],
            "report": [[r.column, r.action, r.features, r.text] for r in self.report],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Rebuild an encoder from :meth:`get_config`; refuse a damaged configuration.

        Raises
        ------
        ValueError
            If ``config`` is not what ``get_config`` writes.
        """
        try:
            encoder = cls(config["scaling"], config["max_categories"])
            encoder._plans = [plan_from_config(column) for column in config["columns"]]
            encoder.report = [_report_from_config(*record) for record in config["report"]]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"Damaged configuration of a TableEncoder: {error}") from error
        if not encoder._plans or len(set(encoder.columns)) < len(encoder.columns):
            raise ValueError(
                "Damaged configuration of a TableEncoder: its columns must have different names."
            )
        return encoder


def _report_from_config(column: Any, action: Any, features: Any, text: Any) -> ColumnReport:
    if not all(isinstance(value, str) for value in (column, action, text)):
        raise ValueError("a report must hold text.")
    return ColumnReport(column, action, check_int(features, "features", minimum=0), text)


def _check_rows(columns: Mapping[str, Any]) -> int:
    """Return the number of rows, the same for all columns and at least one."""
    rows = {name: len(columns[name]) for name in columns}
    if not rows:
        raise ValueError("The table has no columns.")
    first = next(iter(rows))
    for name, n in rows.items():
        if n != rows[first]:
            raise ValueError(
                f"Columns must have the same length; {first!r} has {rows[first]} rows, "
                f"{name!r} has {n}."
            )
    if rows[first] == 0:
        raise ValueError("The table has no rows.")
    return rows[first]


def _counts_rows(kind: str, values: NDArray[Any]) -> bool:
    if kind != "number" or len(values) < 2 * _MIN_DISTINCT or np.isnan(values).any():
        return False
    whole = bool((values == np.floor(values)).all()) and np.unique(values).size == values.size
    return whole and float(values.max() - values.min()) < 3 * len(values)
