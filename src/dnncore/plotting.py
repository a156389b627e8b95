"""Pictures of training and predictions; they need matplotlib.

Each function draws into the axes it is given, or into new ones, and returns them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnncore._validation import as_matrix, check_same_rows
from dnncore.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_confusion_matrix", "plot_history", "plot_predictions"]

_COUNTED = 20  # most classes whose counts are written into the cells and which are all named
_MANY_POINTS = 3000


def _new_axes(ax: Axes | None) -> Any:
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("Plotting needs matplotlib: pip install 'dnncore[plot]'.") from error
    return plt.subplots(layout="constrained")[1]


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
    ax = _new_axes(ax)
    for name in names:
        values = curves[name]
        marker = "o" if len(values) == 1 else ""
        ax.plot(range(1, len(values) + 1), values, marker=marker, label=_in_words(name))
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
    ax, k = _new_axes(ax), len(names)
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
    labels = [_shorten(names[i]) for i in shown]
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


def _shorten(label: Any) -> str:
    text = str(label)
    return text if len(text) <= 20 else f"{text[:10]}…{text[-9:]}"


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
    ax = _new_axes(ax)
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
