"""What training recorded: as lists, as a data frame, as a plot."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from dnncore._validation import check_choice

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["History"]


@dataclass
class History:
    """What training recorded.

    Attributes
    ----------
    history : dict of str to list of float
        One value an epoch: ``"loss"`` (mean over the epoch, as training went), ``"time"``
        (seconds of training; validation and callbacks at the epoch's end are not counted), and
        with validation data ``"val_loss"`` and the metrics with ``val_`` in front; NaN for
        epochs without. What callbacks add to an epoch's ``logs`` is here too.
    validations : dict of str to list of float
        One value a validation: ``"epoch"`` (2.5 is the middle of the third), ``"step"``, and
        the numbers of that validation.

    Examples
    --------
    >>> history = History({"loss": [0.9, 0.5], "time": [0.1, 0.1]})
    >>> history
    History(2 epochs; last: loss=0.5, time=0.1)
    """

    history: dict[str, list[float]] = field(default_factory=dict)
    validations: dict[str, list[float]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of epochs."""
        return _length(self.history)

    def append(self, logs: dict[str, float]) -> None:
        """Add an epoch's numbers."""
        self.extend({name: [float(value)] for name, value in logs.items()})

    def extend(self, logs: dict[str, list[float]]) -> None:
        """Add the numbers of some epochs."""
        _extend(self.history, logs)

    def append_validation(self, logs: dict[str, float]) -> None:
        """Add a validation's numbers."""
        _extend(self.validations, {name: [float(value)] for name, value in logs.items()})

    def to_frame(self, which: Literal["epochs", "validations"] = "epochs") -> pd.DataFrame:
        """Return the numbers as a data frame.

        Parameters
        ----------
        which : {"epochs", "validations"}
            One row an epoch, with the epoch's number from 1 as the index; or one row a
            validation.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "to_frame needs pandas: pip install 'dnncore[sklearn]', or take history.history."
            ) from error
        if check_choice(which, "which", ("epochs", "validations")) == "validations":
            return pd.DataFrame(self.validations)
        return pd.DataFrame(self.history, index=pd.RangeIndex(1, len(self) + 1, name="epoch"))

    def plot(self, ax: Axes | None = None, *, names: list[str] | None = None) -> Axes:
        """Plot the curves; see ``dnncore.plotting.plot_history``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is nothing to plot.
        """
        from dnncore.plotting import plot_history

        return plot_history(self, ax, names=names)

    def __repr__(self) -> str:
        last = ", ".join(f"{k}={v[-1]:.4g}" for k, v in self.history.items() if v)
        return f"History({len(self)} epochs; last: {last})"


def _length(columns: dict[str, list[float]]) -> int:
    return max(map(len, columns.values()), default=0)


def _extend(columns: dict[str, list[float]], rows: dict[str, list[float]]) -> None:
    """Add rows; columns stay of equal length, with NaN where a number is missing."""
    length, more = _length(columns), _length(rows)
    for name in rows:
        if name not in columns:  # setdefault would make the list, as long as all epochs, each time
            columns[name] = [math.nan] * length
    for name, values in columns.items():
        values.extend(rows.get(name) or [math.nan] * more)
