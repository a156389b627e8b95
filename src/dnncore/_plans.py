"""How one column of a table becomes features: a frozen plan that is carried out on any rows.

``Numeric`` serves numbers and dates, ``Categorical`` text. A plan is made by
``TableEncoder.fit`` or read from a configuration, which may come from a damaged file and is
checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnncore._columns import missing, parse_number, read_column, read_labels
from dnncore._scalers import Scaler, scaler_from_config
from dnncore._validation import check_real

__all__ = [
    "PARTS",
    "Categorical",
    "Numeric",
    "check_column_finite",
    "plan_from_config",
    "split_parts",
]

_CYCLES = ("yearday", "weekday", "time")
PARTS: dict[str, tuple[str, ...]] = {
    "number": ("",),
    "time": ("year", *(f"{cycle}_{wave}" for cycle in _CYCLES for wave in ("sin", "cos"))),
}
"""The features that each kind of column can give, as suffixes of its name."""


def split_parts(kind: str, values: NDArray[Any], parts: tuple[str, ...]) -> NDArray[np.float64]:
    """Compute features of a number or of a moment.

    Parameters
    ----------
    kind : {"number", "time"}
        Kind of column.
    values : ndarray of shape (n,)
        float64 or datetime64[us].
    parts : tuple of str
        Which of ``PARTS[kind]``.

    Returns
    -------
    ndarray of shape (n, len(parts)), float64
        Cyclic parts are ``sin(2 pi t)`` and ``cos(2 pi t)`` for the elapsed fraction t of the
        year, of the week in whole days from Monday, and of the day.
    """
    if kind == "number":
        return values[:, np.newaxis][:, : len(parts)].copy()
    days, years = values.astype("datetime64[D]"), values.astype("datetime64[Y]")
    one_day = np.timedelta64(1, "D")
    turns = {
        "yearday": (values - years) / one_day / 365.2425,
        "weekday": (days.astype(np.int64) + 3) % 7 / 7,  # day 0, 1 January 1970: a Thursday
        "time": (values - days) / one_day,
    }
    result = np.empty((len(values), len(parts)))
    for j, part in enumerate(parts):
        if part == "year":
            result[:, j] = years.astype(np.int64) + 1970
        else:
            cycle, wave = part.split("_")
            angle = 2 * np.pi * turns[cycle]
            # Rounded, so that noon and midnight have exactly the same sine.
            result[:, j] = np.round(np.sin(angle) if wave == "sin" else np.cos(angle), 12)
    return result


def check_column_finite(name: str, values: NDArray[Any]) -> None:
    """Refuse infinity in a column of numbers.

    Raises
    ------
    ValueError
        Naming the column and the row.
    """
    if values.dtype.kind == "f" and np.isinf(values).any():
        row = int(np.flatnonzero(np.isinf(values))[0])
        raise ValueError(
            f"Column {name!r} holds infinity at row {row}; replace it by a number or leave it "
            "empty to mark it as missing."
        )


@dataclass(frozen=True)
class Numeric:
    """A number, or the parts of a date, with what replaces missing values and the scaler."""

    name: str
    kind: str  # "number" or "time"
    parts: tuple[str, ...]
    fill: tuple[float, ...]
    indicator: bool
    scaler: Scaler | None

    @property
    def features(self) -> list[str]:
        names = [f"{self.name}_{part}" if part else self.name for part in self.parts]
        return names + [f"{self.name}_missing"] * self.indicator

    def encode(self, raw: Any) -> NDArray[Any]:
        kind, values = read_column(self.name, raw)
        absent = missing(kind, values)
        if absent.all():
            matrix = np.tile(np.array(self.fill), (len(values), 1))
        elif kind != self.kind:
            raise ValueError(self._complaint(raw))
        else:
            check_column_finite(self.name, values)
            matrix = split_parts(kind, values, self.parts)
            matrix[absent] = self.fill
        if self.scaler is not None:
            matrix = self.scaler.transform(matrix)
        return np.column_stack([matrix, absent]) if self.indicator else matrix

    def _complaint(self, raw: Any) -> str:
        held = "numbers" if self.kind == "number" else "dates (ISO 8601)"
        row, label = next(
            (row, label)
            for row, label in enumerate(read_labels(self.name, raw))
            if label is not None and (self.kind == "time" or parse_number(label) is None)
        )
        return f"Column {self.name!r} held {held} in training; row {row} now holds {label!r}."

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "parts": list(self.parts),
            "fill": list(self.fill),
            "indicator": self.indicator,
            "scaler": None if self.scaler is None else self.scaler.get_config(),
        }


@dataclass(frozen=True)
class Categorical:
    """Text as one 0/1 feature per category, one for the rest and one for missing."""

    name: str
    categories: tuple[str, ...]
    other: bool
    indicator: bool

    @property
    def features(self) -> list[str]:
        names = [f"{self.name}={category}" for category in self.categories]
        names += [f"{self.name}=<other>"] * self.other
        return names + [f"{self.name}_missing"] * self.indicator

    def encode(self, raw: Any) -> NDArray[Any]:
        labels = read_labels(self.name, raw)
        place = {category: j for j, category in enumerate(self.categories)}
        width = len(self.features)
        rest = len(self.categories) if self.other else width
        absent = width - 1 if self.indicator else rest
        codes = [absent if label is None else place.get(label, rest) for label in labels]
        # What has no feature of its own goes to one that is cut off: its row is all 0.
        matrix = np.zeros((len(labels), width + 1), dtype=np.float32)
        matrix[np.arange(len(labels)), codes] = 1.0
        return matrix[:, :width]

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": "category",
            "categories": list(self.categories),
            "other": self.other,
            "indicator": self.indicator,
        }


def plan_from_config(config: Mapping[str, Any]) -> Numeric | Categorical:
    """Rebuild a plan from its ``get_config``.

    Raises
    ------
    ValueError, TypeError, KeyError
        If ``config`` is not what ``get_config`` writes.
    """
    name, kind, indicator = config["name"], config["kind"], config["indicator"]
    if not isinstance(name, str) or not isinstance(indicator, bool):
        raise ValueError(f"a column has name {name!r:.80} and indicator {indicator!r:.80}.")
    if kind == "category":
        categories, other = _texts(config, "categories"), config["other"]
        if not isinstance(other, bool) or not categories:
            raise ValueError(f"column {name!r:.80} has no categories.")
        return Categorical(name, categories, other, indicator)
    if kind not in PARTS:
        raise ValueError(f"column {name!r:.80} has the unknown kind {kind!r:.80}.")
    parts = _texts(config, "parts")
    fill = tuple(check_real(value, f"fill of column {name!r:.80}") for value in config["fill"])
    scaler = None if config["scaler"] is None else scaler_from_config(config["scaler"])
    widths = {len(parts), len(fill), len(parts) if scaler is None else len(scaler.center)}
    if len(widths) > 1 or not set(parts) <= set(PARTS[kind]) or not (parts or indicator):
        raise ValueError(f"column {name!r:.80} has parts, fill and scaler that do not match.")
    return Numeric(name, kind, parts, fill, indicator, scaler)


def _texts(config: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = config[key]
    distinct = isinstance(values, list) and all(isinstance(value, str) for value in values)
    if not distinct or len(set(values)) < len(values):
        raise ValueError(f"{key} must be a list of different texts.")
    return tuple(values)
