"""Which classes are taken for which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnncore._validation import check_same_rows
from dnncore.plotting._axes import new_axes, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_confusion_matrix"]

_COUNTED = 20  # most classes whose counts are written into the cells and which are all named


def plot_confusion_matrix(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    ax: Axes | None = None,
    *,
    classes: ArrayLike | None = None,
) -> Axes:
    """Show how often each class was taken for which.

    A cell holds the number of rows. Its colour tells their share of the true class, on a scale
    that lets rare mistakes be seen; beyond 20 classes there are colours only.

    Parameters
    ----------
    y_true, y_pred : array_like of shape (rows,)
        Labels.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default into a new figure.
    classes : array_like of shape (n_classes,), optional
        All labels in the order to show; by default those that occur, sorted.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError, ValueError
        If labels do not match in number or kind, or are none of ``classes``.
    """
    true, pred = _as_labels(y_true, "y_true"), _as_labels(y_pred, "y_pred")
    check_same_rows(y_true=true, y_pred=pred)
    names = None if classes is None else _as_labels(classes, "classes")
    kinds = {a.dtype.kind in "UTO" for a in (true, pred, names) if a is not None}
    if len(kinds) > 1:
        raise TypeError(
            f"Labels must be of one kind; y_true is {true.dtype}, y_pred {pred.dtype}"
            + (f", classes {names.dtype}." if names is not None else ".")
        )
    if names is None:
        names = np.unique(np.concatenate([true, pred]))
    counts = _count(true, pred, names)
    ax, k = new_axes(ax), len(names)
    from matplotlib.colors import PowerNorm

    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    shades = np.sqrt(shares)
    image = ax.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
    if k <= _COUNTED:
        for i, j in np.argwhere(counts):
            color = "white" if shades[i, j] > 0.5 else "black"
            size = 10 if k <= 12 else 7
            ax.text(j, i, counts[i, j], ha="center", va="center", color=color, fontsize=size)
    else:
        ax.figure.colorbar(image, ax=ax, label="share of the true class", shrink=0.8)
    shown = range(0, k, -(-k // _COUNTED))
    labels = [shorten(names[i]) for i in shown]
    turned = 90 if max(map(len, labels)) * len(labels) > 42 else 0
    ax.set_xticks(shown, labels, rotation=turned, parse_math=False)
    ax.set_yticks(shown, labels, parse_math=False)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    ax.set_title(f"{np.trace(counts)} of {counts.sum()} right ({np.trace(counts) / len(true):.2%})")
    return ax


def _as_labels(y: ArrayLike, name: str) -> NDArray[Any]:
    labels = np.asarray(y)
    if labels.ndim != 1 or not labels.size:
        raise ValueError(f"{name} must be 1-D and not empty; got shape {labels.shape}.")
    return labels


def _count(true: NDArray[Any], pred: NDArray[Any], names: NDArray[Any]) -> NDArray[np.intp]:
    """Count the rows of each (true, predicted) pair."""
    order = np.argsort(names, kind="stable")
    codes = []
    for labels in (true, pred):
        at = np.minimum(np.searchsorted(names[order], labels), len(names) - 1)
        code = order[at]
        unknown = np.unique(labels[names[code] != labels])
        if unknown.size:
            raise ValueError(f"Labels that are none of classes: {unknown[:5].tolist()}.")
        codes.append(code)
    flat = np.bincount(codes[0] * len(names) + codes[1], minlength=len(names) ** 2)
    return flat.reshape(len(names), len(names))
