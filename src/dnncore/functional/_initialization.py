"""First values of the parameters, from the legacy random stream of NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from dnncore._validation import check_choice, check_int
from dnncore.functional._arrays import Array

__all__ = ["initialize_parameters", "initialize_parameters_deep"]


def initialize_parameters(n_x: int, n_h: int, n_y: int) -> dict[str, Array]:
    """Return small random weights and zero biases for a network with one hidden layer.

    The numbers are those of ``np.random.seed(1)`` followed by ``np.random.randn(...) * 0.01`` for
    each weight matrix in turn; NumPy's global random state is left alone.

    Parameters
    ----------
    n_x, n_h, n_y : int
        Width of the input, of the hidden layer and of the output.

    Returns
    -------
    dict
        ``W1`` (n_h, n_x), ``b1`` (n_h, 1), ``W2`` (n_y, n_h) and ``b2`` (n_y, 1).

    Raises
    ------
    TypeError, ValueError
        If a width is not an integer of at least 1.
    """
    widths = [check_int(n, name) for n, name in ((n_x, "n_x"), (n_h, "n_h"), (n_y, "n_y"))]
    return _draw(widths, seed=1, fan_in=False)


def initialize_parameters_deep(
    layer_dims: Sequence[int],
    *,
    variant: Literal["step_by_step", "application"] = "step_by_step",
) -> dict[str, Array]:
    """Return random weights and zero biases for a network of any depth.

    Parameters
    ----------
    layer_dims : sequence of int
        Widths from input to output, ``[n_0, n_1, ..., n_L]``.
    variant : {'step_by_step', 'application'}
        ``'step_by_step'``: ``W[l] = 0.01 randn(n_l, n_{l-1})`` after seed 3, as when the functions
        are built one at a time. ``'application'``: ``W[l] = randn(n_l, n_{l-1}) / sqrt(n_{l-1})``
        after seed 1, which keeps the signal alive through many layers;
        :func:`~dnncore.functional.L_layer_model` starts from it.

    Returns
    -------
    dict
        ``W1`` (n_1, n_0), ``b1`` (n_1, 1), ..., ``WL``, ``bL``.

    Raises
    ------
    TypeError, ValueError
        If there are fewer than two widths, one is not an integer of at least 1, or the variant is
        unknown.
    """
    check_choice(variant, "variant", ("step_by_step", "application"))
    widths = check_widths(layer_dims, "layer_dims")
    if variant == "application":
        return _draw(widths, seed=1, fan_in=True)
    return _draw(widths, seed=3, fan_in=False)


def check_widths(layer_dims: Sequence[int], name: str) -> list[int]:
    """Return a list of at least two widths."""
    try:
        widths = list(layer_dims)
    except TypeError:
        raise TypeError(
            f"{name} must be a list of widths such as [12288, 20, 1]; got {layer_dims!r}."
        ) from None
    if len(widths) < 2:
        raise ValueError(f"{name} must hold at least the input's and the output's width.")
    return [check_int(n, f"{name}[{i}]") for i, n in enumerate(widths)]


def _draw(widths: list[int], *, seed: int, fan_in: bool) -> dict[str, Array]:
    stream = np.random.RandomState(seed)
    parameters: dict[str, Array] = {}
    for i, (n_in, n_out) in enumerate(zip(widths, widths[1:], strict=False), start=1):
        weights = stream.randn(n_out, n_in)
        parameters[f"W{i}"] = weights / np.sqrt(n_in) if fan_in else weights * 0.01
        parameters[f"b{i}"] = np.zeros((n_out, 1))
    return parameters
