"""The loss while the learning rate grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dnncore.plotting._axes import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dnncore.learning_rate import LearningRateSweep

__all__ = ["plot_learning_rates"]


def plot_learning_rates(sweep: LearningRateSweep, ax: Axes | None = None) -> Axes:
    """Plot a sweep over learning rates: each batch's loss, their average, the suggestion.

    Parameters
    ----------
    sweep : LearningRateSweep
        What ``find_learning_rate`` returned.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default into a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    axes: Axes = new_axes(ax)
    axes.plot(sweep.learning_rates, sweep.losses, color="0.8", lw=1, label="of each batch")
    axes.plot(sweep.learning_rates, sweep.smoothed, color="C0", label="averaged")
    axes.axvline(sweep.suggestion, color="C1", ls="--", label=f"steepest at {sweep.suggestion:.2g}")
    axes.set_xscale("log")
    low, high = float(sweep.smoothed.min()), float(np.max(sweep.smoothed[:10]))
    margin = max(high - low, 1e-12)
    axes.set_ylim(low - 0.3 * margin, high + 0.7 * margin)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.legend()
    return axes
