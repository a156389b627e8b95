"""How the layers of a network fared while it was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnncore._validation import check_choice
from dnncore.plotting._axes import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dnncore.callbacks import LayerStatistics

__all__ = ["plot_layer_statistics"]

_WORDS = {
    "dead": "share of dead units",
    "saturated": "share of saturated outputs",
    "activation_std": "spread of the outputs",
    "activation_mean": "mean of the outputs",
    "gradient": "gradient of the weights, root mean square",
    "weight": "weights, root mean square",
}
_ON_LOG = ("gradient", "weight", "activation_std")


def plot_layer_statistics(
    statistics: LayerStatistics, name: str = "dead", ax: Axes | None = None
) -> Axes:
    """Plot one quantity of all layers by epoch.

    Parameters
    ----------
    statistics : LayerStatistics
        The callback, after training.
    name : {"dead", "saturated", "activation_mean", "activation_std", "gradient", "weight"}
        The quantity.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default into a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        For an unknown quantity, or before training.
    """
    check_choice(name, "name", _WORDS)
    if not statistics.epochs:
        raise ValueError("LayerStatistics has recorded nothing; give it to fit as a callback.")
    ax = new_axes(ax)
    import matplotlib as mpl

    layers = statistics.layers
    shades = mpl.colormaps["viridis"]
    positive = False
    for i, layer in enumerate(layers):
        values = layer.values[name]
        color = shades(0.9 * i / max(1, len(layers) - 1))
        marker = "o" if len(values) == 1 else ""
        ax.plot(statistics.epochs, values, label=layer.title, color=color, marker=marker)
        positive = positive or max(values) > 0
    if name in _ON_LOG and positive:
        ax.set_yscale("log")
    elif name in ("dead", "saturated"):
        ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel("epoch")
    ax.set_ylabel(_WORDS[name])
    ax.locator_params(axis="x", integer=True)
    ax.grid(alpha=0.3)
    ax.legend()
    return ax
