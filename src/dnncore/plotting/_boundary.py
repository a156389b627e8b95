"""What a network of two inputs answers where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnncore._validation import as_matrix, check_int, check_same_rows
from dnncore.plotting._axes import new_axes, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_decision_boundary"]

_MOST_CLASSES = 20


def plot_decision_boundary(
    model: Any,
    X: ArrayLike,
    y: ArrayLike | None = None,
    ax: Axes | None = None,
    *,
    resolution: int = 200,
) -> Axes:
    """Show what a model of two inputs answers in the region of the data.

    Classes have colours, mixed in the shares of their probabilities; a line runs where the
    answer changes. Of a regression the height is shown.

    Parameters
    ----------
    model : Network or estimator
        Has ``predict``, and ``predict_proba`` if it tells classes.
    X : array_like of shape (rows, 2)
        Points, which fix the region.
    y : array_like of shape (rows,), optional
        Their labels or values; the points are drawn in their colours.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default into a new figure.
    resolution : int
        Answers computed along each side.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If there are not two inputs, or more than 20 classes.

    Examples
    --------
    >>> import dnncore as dnn
    >>> net = dnn.Network(2, [dnn.Dense(8, "tanh"), dnn.Dense(2)])
    >>> X, y = dnn.datasets.make_blobs(90, classes=2)
    >>> history = net.fit(X, y)
    >>> ax = plot_decision_boundary(net, X, y)  # doctest: +SKIP
    """
    points = as_matrix(X, "X", dtype=np.dtype(np.float64), columns=2)
    labels = None if y is None else np.asarray(y)
    if labels is not None:
        check_same_rows(X=points, y=labels)
    n = check_int(resolution, "resolution", minimum=2)
    low, high = points.min(axis=0), points.max(axis=0)
    margin = np.where(high > low, 0.08 * (high - low), 0.5)
    low, high = low - margin, high + margin
    across, up = (np.linspace(low[i], high[i], n) for i in range(2))
    grid = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    proba = _probabilities(model, grid)
    ax = new_axes(ax)
    extent = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
    if proba is None:
        _draw_values(model, grid, points, labels, ax, extent, n)
    else:
        _draw_classes(model, proba, points, labels, ax, extent, n)
    ax.set_xlim(low[0], high[0])
    ax.set_ylim(low[1], high[1])
    ax.set_xlabel("input 0")
    ax.set_ylabel("input 1")
    return ax


def _probabilities(model: Any, grid: NDArray[Any]) -> NDArray[Any] | None:
    """Return a column per class, or None for a regression."""
    if getattr(getattr(model, "loss", None), "targets", "labels") == "values":
        return None
    if not hasattr(model, "predict_proba"):
        return None
    return np.asarray(model.predict_proba(grid), np.float64)


def _draw_classes(
    model: Any,
    proba: NDArray[Any],
    points: NDArray[Any],
    labels: NDArray[Any] | None,
    ax: Any,
    extent: tuple[float, float, float, float],
    n: int,
) -> None:
    import matplotlib as mpl

    k = proba.shape[1]
    if k > _MOST_CLASSES:
        raise ValueError(f"A boundary can be shown of up to {_MOST_CLASSES} classes; got {k}.")
    colors = mpl.colormaps["tab10" if k <= 10 else "tab20"](range(k))[:, :3]
    image = (proba @ colors).reshape(n, n, 3)
    ax.imshow(
        1 - 0.55 * (1 - np.clip(image, 0, 1)), origin="lower", extent=extent, aspect="auto",
        interpolation="bilinear",
    )  # fmt: skip
    left, right, bottom, top = extent
    across, up = np.linspace(left, right, n), np.linspace(bottom, top, n)
    for j in range(k if k > 2 else 1):
        others = np.delete(proba, j, axis=1).max(axis=1)
        lead = (proba[:, j] - others).reshape(n, n)
        if lead.min() < 0 < lead.max():
            ax.contour(across, up, lead, levels=[0], colors="black", linewidths=1, alpha=0.7)
    if labels is None:
        return
    classes = getattr(model, "classes_", None)
    classes = np.unique(labels) if classes is None else np.asarray(classes)
    for j, label in enumerate(classes[:k]):
        chosen = labels == label
        if chosen.any():
            ax.scatter(
                *points[chosen].T, s=14, color=colors[j], edgecolors="white", linewidths=0.4,
                label=shorten(label),
            )  # fmt: skip
    ax.legend(framealpha=0.9)


def _draw_values(
    model: Any,
    grid: NDArray[Any],
    points: NDArray[Any],
    values: NDArray[Any] | None,
    ax: Any,
    extent: tuple[float, float, float, float],
    n: int,
) -> None:
    height = np.asarray(model.predict(grid), np.float64).reshape(len(grid), -1)
    if height.shape[1] != 1:
        raise ValueError(f"The model must have one output; it has {height.shape[1]}.")
    both = height if values is None else np.concatenate([height[:, 0], values.reshape(-1)])
    limits = {"vmin": float(both.min()), "vmax": float(both.max())}
    image = ax.imshow(height.reshape(n, n), origin="lower", extent=extent, aspect="auto", **limits)
    ax.figure.colorbar(image, ax=ax, label="predicted" if values is None else "predicted, true")
    if values is not None:
        ax.scatter(*points.T, c=values.reshape(-1), s=16, edgecolors="white", linewidths=0.5,
                   **limits)  # fmt: skip
