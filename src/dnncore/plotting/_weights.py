"""Weights of a layer as pictures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dnncore._validation import check_int
from dnncore.plotting._axes import new_axes

if TYPE_CHECKING:
    from typing import Any

    from matplotlib.axes import Axes

    from dnncore.network import Network

__all__ = ["plot_weights"]


def plot_weights(
    network: Network,
    layer: int = 0,
    ax: Axes | None = None,
    *,
    shape: tuple[int, int] | None = None,
    units: int = 64,
) -> Axes:
    """Show the weights of a layer: one picture per unit if its inputs are pixels, else a matrix.

    Blue is positive, red negative, white zero. Each picture has its own scale; units come in the
    order of their weights' size, largest first.

    Parameters
    ----------
    network : Network
        The network.
    layer : int
        Which of its dense layers, counted from 0.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default into a new figure.
    shape : (height, width), optional
        Shape of the pictures. By default that of a square, if the layer's inputs make one and it
        is the first.
    units : int
        Most pictures to show.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If there is no such layer, or its inputs do not make the shape.
    """
    matrices = network.weights
    if not 0 <= layer < len(matrices):
        raise ValueError(f"layer must be from 0 to {len(matrices) - 1}; got {layer}.")
    weights: NDArray[Any] = matrices[layer].astype(np.float64)
    side = math.isqrt(len(weights))
    if shape is None and layer == 0 and side * side == len(weights) and side > 2:
        shape = side, side
    if shape is not None and shape[0] * shape[1] != len(weights):
        raise ValueError(f"shape {shape} does not hold the layer's {len(weights)} inputs.")
    most = check_int(units, "units")
    ax = new_axes(ax)
    total = weights.shape[1]
    if shape is None:
        limit = float(np.abs(weights).max()) or 1.0
        image = ax.imshow(
            weights, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest"
        )
        ax.figure.colorbar(image, ax=ax, label="weight")
        ax.set_xlabel("unit")
        ax.set_ylabel("input")
        ax.locator_params(axis="both", integer=True)
        ax.set_title(f"weights of dense layer {layer}")
        return ax
    norms = np.linalg.norm(weights, axis=0)
    chosen = np.argsort(-norms, kind="stable")[:most]
    import matplotlib as mpl

    colors = mpl.colormaps["RdBu"].with_extremes(bad="0.8")
    mosaic = _mosaic(weights[:, chosen], shape)
    ax.imshow(mosaic, cmap=colors, vmin=-1, vmax=1, interpolation="nearest")
    ax.set_axis_off()
    some = f"{len(chosen)} of {total} units" if len(chosen) < total else f"{total} units"
    ax.set_title(f"weights of dense layer {layer}, {some}")
    return ax


def _mosaic(weights: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Put the pictures of units side by side, each scaled to its largest weight."""
    height, width = shape
    count = weights.shape[1]
    columns = max(1, round(math.sqrt(count * height / width)))
    rows = -(-count // columns)
    gap = max(1, round(0.08 * max(shape)))
    result = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for i in range(count):
        picture = weights[:, i].reshape(shape)
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        largest = np.abs(picture).max()
        result[top : top + height, left : left + width] = picture / (largest or 1.0)
    return result
