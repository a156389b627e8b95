"""Curves of what training recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dnncore.history import History
from dnncore.plotting._axes import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_history"]


def plot_history(
    history: History | Mapping[str, Sequence[float]],
    ax: Axes | None = None,
    *,
    names: Sequence[str] | None = None,
) -> Axes:
    """Plot what training recorded, by epoch.

    Parameters
    ----------
    history : History or mapping of str to sequence of float
        What ``Network.fit`` returned.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default into a new figure.
    names : sequence of str, optional
        Which curves; by default ``"loss"`` and, if recorded, ``"val_loss"`` and ``"test_loss"``.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If there is no such curve, or no epoch.

    Examples
    --------
    >>> history = {"loss": [1.0, 0.5], "val_loss": [1.1, 0.7]}
    >>> plot_history(history).get_ylabel()  # doctest: +SKIP
    'loss'
    """
    curves = history.history if isinstance(history, History) else history
    if names is None:
        names = [name for name in ("loss", "val_loss", "test_loss") if name in curves]
    lacking = [name for name in names if name not in curves]
    if lacking or not names or not all(len(curves[name]) for name in names):
        raise ValueError(
            f"history must hold at least one epoch of {list(names) or 'loss'}; it has "
            f"{', '.join(curves) or 'nothing'}."
        )
    ax = new_axes(ax)
    for name in names:
        values = curves[name]
        epochs = np.arange(1, len(values) + 1)
        shown = ~np.isnan(values)  # epochs without validation
        marker = "o" if shown.sum() == 1 else ""
        ax.plot(epochs[shown], np.asarray(values)[shown], marker=marker, label=_in_words(name))
    ax.set_xlabel("epoch")
    kinds = {_kind(name) for name in names}
    if len(names) > 1:
        ax.legend()
    ax.set_ylabel(_in_words(names[0]) if len(names) == 1 else " and ".join(sorted(kinds)))
    ax.locator_params(axis="x", integer=True)
    ax.grid(alpha=0.3)
    return ax


def _kind(name: str) -> str:
    kind = name.removeprefix("val_").removeprefix("test_")
    return {"r2": "R²"}.get(kind, kind)


def _in_words(name: str) -> str:
    if name == "loss":
        return "training loss"
    for prefix, word in (("val_", "validation"), ("test_", "test")):
        if name.startswith(prefix):
            return f"{word} {_kind(name)}"
    return _kind(name)
