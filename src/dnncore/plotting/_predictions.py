"""Predicted values against the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnncore._validation import as_matrix
from dnncore.plotting._axes import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_predictions"]

_MANY_POINTS = 3000


def plot_predictions(y_true: ArrayLike, y_pred: ArrayLike, ax: Axes | None = None) -> Axes:
    """Plot predicted values against the true ones; on the dashed line they are equal.

    Parameters
    ----------
    y_true, y_pred : array_like of shape (rows,) or (rows, outputs)
        Values; each output gets its colour.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default into a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError, ValueError
        If the values are not finite numbers, or differ in shape.
    """
    true, pred = _as_values(y_true, "y_true"), _as_values(y_pred, "y_pred")
    if true.shape != pred.shape:
        raise ValueError(
            f"y_true and y_pred must have the same shape; got {true.shape} and {pred.shape}."
        )
    ax = new_axes(ax)
    low, high = float(min(true.min(), pred.min())), float(max(true.max(), pred.max()))
    ax.plot([low, high], [low, high], "--", color="gray", linewidth=1)
    many = len(true) > _MANY_POINTS
    for j in range(true.shape[1]):
        label = f"output {j}" if 1 < true.shape[1] <= 10 else None
        ax.scatter(
            true[:, j],
            pred[:, j],
            s=4 if many else 18,
            alpha=0.3 if many else 0.6,
            linewidths=0,
            label=label,
            rasterized=many,
        )
    if 1 < true.shape[1] <= 10:
        ax.legend()
    ax.set_aspect("equal", adjustable="box")
    ax.set_xlabel("true")
    ax.set_ylabel("predicted")
    ax.grid(alpha=0.3)
    return ax


def _as_values(y: ArrayLike, name: str) -> NDArray[Any]:
    values = np.asarray(y)
    return as_matrix(
        values[:, None] if values.ndim == 1 else values, name, dtype=np.dtype(np.float64)
    )
