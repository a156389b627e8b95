"""What a report is about."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnncore._cli_model import Model
from dnncore._columns import read_labels
from dnncore.callbacks import LayerStatistics
from dnncore.history import History

__all__ = ["Part", "Run"]


@dataclass(frozen=True)
class Part:
    """Rows to train on or to test with.

    Attributes
    ----------
    X : ndarray of shape (rows, features)
        Encoded inputs.
    y : ndarray of shape (rows,) or (rows, outputs)
        Labels or values, as ``read_target`` returns them.
    numbers : ndarray of int of shape (rows,)
        Their places in the data that they come from, counted from 0.
    """

    X: NDArray[Any]
    y: NDArray[Any]
    numbers: NDArray[Any]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.X)


@dataclass(frozen=True)
class Run:
    """A training that is over.

    Attributes
    ----------
    data : str
        What the data are called.
    columns, test_columns : dict of str to ndarray, or None
        The table before it was encoded, and the one to test with if it is another.
    model, train, test, history, statistics
        What was trained, on what, and what was seen meanwhile.
    settings : dict of str to str
        How it was trained.
    unused : int
        Rows without a target.
    seconds : float
        How long training took.
    """

    data: str
    columns: dict[str, NDArray[Any]] | None
    test_columns: dict[str, NDArray[Any]] | None
    model: Model
    train: Part
    test: Part
    history: History
    statistics: LayerStatistics
    settings: dict[str, str]
    unused: int
    seconds: float

    @property
    def classifies(self) -> bool:
        """Whether the targets are classes."""
        return self.model.task == "classification"

    @cached_property
    def predicted(self) -> NDArray[Any]:
        """Predictions for the test part."""
        return self.model.predict(self.test.X)

    @cached_property
    def proba(self) -> NDArray[Any]:
        """Probabilities for the test part."""
        return np.asarray(self.model.network.predict_proba(self.test.X), np.float64)

    @cached_property
    def labels(self) -> list[str]:
        """Classes that the network knows, in the order of its outputs."""
        classes = self.model.network.classes_
        assert classes is not None
        return [str(label) for label in read_labels("target", classes)]

    @cached_property
    def true(self) -> NDArray[np.intp]:
        """Number of each test row's class; -1 for one that training did not have."""
        place = {label: i for i, label in enumerate(self.labels)}
        return np.array([place.get(str(v), -1) for v in read_labels("target", self.test.y)])

    @cached_property
    def train_codes(self) -> NDArray[np.intp]:
        """Number of each training row's class."""
        place = {label: i for i, label in enumerate(self.labels)}
        return np.array([place[str(v)] for v in read_labels("target", self.train.y)])

    @cached_property
    def answer(self) -> NDArray[np.intp]:
        """Number of the class that each test row was given."""
        return np.asarray(self.proba.argmax(axis=1))

    @cached_property
    def picture(self) -> tuple[int, int] | None:
        """Height and width of the inputs, if they are square pictures."""
        side = round(self.train.X.shape[1] ** 0.5)
        square = self.columns is None and side > 2 and side * side == self.train.X.shape[1]
        return (side, side) if square else None

    def raw(self, which: str, name: str) -> NDArray[Any]:
        """Return a column before encoding: the rows to train on, or those to test with."""
        assert self.columns is not None
        if which == "train":
            return np.asarray(self.columns[name][self.train.numbers])
        table = self.columns if self.test_columns is None else self.test_columns
        return np.asarray(table[name][self.test.numbers])

    def features(self) -> dict[str, list[int]]:
        """Return which columns of the inputs come from which column of the table."""
        found: dict[str, list[int]] = {}
        start = 0
        if self.model.encoder is not None:
            for plan in self.model.encoder._plans:
                n = len(plan.features)
                found[plan.name] = list(range(start, start + n))
                start += n
        return found
