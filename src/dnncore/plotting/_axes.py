"""Where pictures are drawn: the caller's axes, or new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["new_axes", "shorten"]


def new_axes(ax: Axes | None) -> Any:
    """Return the axes given, or those of a new figure.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("Plotting needs matplotlib: pip install 'dnncore[plot]'.") from error
    return plt.subplots(layout="constrained")[1]


def shorten(label: Any) -> str:
    """Write a label in at most 20 signs."""
    text = str(label)
    return text if len(text) <= 20 else f"{text[:10]}…{text[-9:]}"
