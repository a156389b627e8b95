"""The linear layer, the forward pass and the training loop: the twin of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .activations import activation_backward, activation_forward
from .losses import loss
from .optimizers import optimizer_update

__all__ = ["Layer", "forward", "linear_backward", "linear_forward", "train"]

Array = NDArray[np.floating]

Layer = tuple[Array, Array, str]
"""Weights ``(n_in, n_out)``, bias ``(n_out,)`` and the name of the activation."""


def linear_forward(
    x: Array, w: Array, b: Array, activation: str = "identity"
) -> tuple[Array, Array]:
    """Return ``a = f(z)`` and ``z = x @ w + b``.

    Parameters
    ----------
    x : ndarray of shape (batch, n_in)
        Examples as rows.
    w : ndarray of shape (n_in, n_out)
        Weights.
    b : ndarray of shape (n_out,)
        Bias.
    activation : str
        Name of the activation ``f``.

    Returns
    -------
    a, z : ndarray of shape (batch, n_out)

    Raises
    ------
    ValueError
        For an unknown activation.
    """
    z = x @ w + b
    return activation_forward(activation, z), z


def linear_backward(
    da: Array,
    x: Array,
    w: Array,
    z: Array,
    a: Array,
    activation: str = "identity",
    need_dx: bool = True,
) -> tuple[Array | None, Array, Array]:
    """Return the gradients by the input, the weights and the bias of :func:`linear_forward`.

    With ``dz`` the gradient by ``z``: ``dx = dz @ w.T``, ``dw = x.T @ dz`` and ``db`` is the sum
    of ``dz`` over the batch (Rumelhart, Hinton and Williams, Nature 323, 1986).

    Parameters
    ----------
    da : ndarray of shape (batch, n_out)
        Gradient by the activations ``a``.
    x : ndarray of shape (batch, n_in)
        Input of the layer.
    w : ndarray of shape (n_in, n_out)
        Weights.
    z, a : ndarray of shape (batch, n_out)
        What the forward pass returned.
    activation : str
        Name of the activation.
    need_dx : bool
        Whether the gradient by the input is wanted; the first layer of a network does without.

    Returns
    -------
    dx : ndarray of shape (batch, n_in), or None
    dw : ndarray of shape (n_in, n_out)
    db : ndarray of shape (n_out,)

    Raises
    ------
    ValueError
        For an unknown activation.
    """
    dz = activation_backward(activation, da, z, a)
    return (dz @ w.T if need_dx else None), x.T @ dz, dz.sum(axis=0)


def forward(layers: Sequence[Layer], x: Array) -> Array:
    """Return the output of a network.

    Parameters
    ----------
    layers : sequence of (w, b, activation)
        From the input to the output.
    x : ndarray of shape (batch, n_in)
        Examples as rows.

    Returns
    -------
    ndarray of shape (batch, n_out)
    """
    for w, b, activation in layers:
        x, _ = linear_forward(x, w, b, activation)
    return x


def train(
    layers: Sequence[Layer],
    loss_name: str,
    optimizer_name: str,
    x: Array,
    y: NDArray[Any],
    *,
    batches: Iterable[NDArray[np.integer]],
    sample_weight: Array | None = None,
    loss_parameter: float | Sequence[float] | None = None,
    **hyper: float,
) -> tuple[list[float], list[Layer]]:
    """Train a copy of a network: forward, loss, backward, update, once a batch.

    All gradients of a batch are taken at the same parameters. ``l2`` and ``weight_decay`` act on
    weights, never on biases.

    Parameters
    ----------
    layers : sequence of (w, b, activation)
        Where to start; copied.
    loss_name, optimizer_name : str
        Keys of :data:`LOSSES` and :data:`OPTIMIZERS`.
    x : ndarray of shape (n, n_in)
        Examples as rows.
    y : ndarray of shape (n,) or (n, k)
        Targets, as :func:`loss` takes them.
    batches : iterable of ndarray of int
        Rows of each mini-batch; the optimizer's step counts them, from 1.
    sample_weight : ndarray of shape (n,), optional
        Weights of the examples.
    loss_parameter : float or sequence of float, optional
        ``parameter`` of :func:`loss`.
    **hyper : float
        Keyword arguments of :func:`optimizer_update`; ``lr`` is required.

    Returns
    -------
    losses : list of float
        Loss of each batch, before its update.
    layers : list of (w, b, activation)
        The trained network.
    """
    trained = [(w.copy(), b.copy(), activation) for w, b, activation in layers]
    states: list[tuple[dict[str, Array], dict[str, Array]]] = [({}, {}) for _ in trained]
    bias_hyper = {**hyper, "l2": 0.0, "weight_decay": 0.0}
    losses = []
    for step, batch in enumerate(batches, start=1):
        tape = []
        a = x[batch]
        for w, b, activation in trained:
            layer_input = a
            a, z = linear_forward(layer_input, w, b, activation)
            tape.append((layer_input, z, a))

        weight = None if sample_weight is None else sample_weight[batch]
        value, da = loss(loss_name, a, y[batch], weight, loss_parameter)
        losses.append(value)

        gradients: list[tuple[Array, Array]] = []
        for (w, _, activation), (layer_input, z, a) in zip(trained[::-1], tape[::-1], strict=True):
            need_dx = len(gradients) < len(trained) - 1
            dx, dw, db = linear_backward(da, layer_input, w, z, a, activation, need_dx)
            gradients.append((dw, db))
            if dx is not None:
                da = dx

        for (w, b, _), (dw, db), (w_state, b_state) in zip(
            trained, gradients[::-1], states, strict=True
        ):
            optimizer_update(optimizer_name, w, dw, w_state, step, **hyper)
            optimizer_update(optimizer_name, b, db, b_state, step, **bias_hyper)
    return losses, trained
