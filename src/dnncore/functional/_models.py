"""Whole training loops, full batch: the same steps on buffers that are allocated once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from dnncore import _kernels
from dnncore._threads import available_cpus
from dnncore._validation import check_finite, check_int, check_real
from dnncore.functional._arrays import Array, as_columns, as_targets
from dnncore.functional._forward import compute_cost
from dnncore.functional._initialization import (
    check_widths,
    initialize_parameters,
    initialize_parameters_deep,
)

__all__ = ["L_layer_model", "two_layer_model"]

if TYPE_CHECKING:
    from typing import Self

COST_EVERY = 100
SLAB_WORK = 1 << 23  # multiply-adds: about 0.5 ms on one core
MAX_SLABS = 16


def two_layer_model(
    X: ArrayLike,
    Y: ArrayLike,
    layers_dims: Sequence[int],
    learning_rate: float = 0.0075,
    num_iterations: int = 3000,
    print_cost: bool = False,
) -> tuple[dict[str, Array], list[Array]]:
    """Train a network with one hidden layer: linear, ReLU, linear, sigmoid.

    It starts from :func:`~dnncore.functional.initialize_parameters` and repeats forward pass,
    cost, backward pass and update on all examples at once.

    Parameters
    ----------
    X : array_like of shape (n_x, m)
        One column per example.
    Y : array_like of shape (n_y, m), or (m,) if n_y is 1
        Targets, 0 or 1.
    layers_dims : (int, int, int)
        ``(n_x, n_h, n_y)``.
    learning_rate : float
        Length of the steps.
    num_iterations : int
        Number of steps.
    print_cost : bool
        Print the cost each time that it is recorded.

    Returns
    -------
    parameters : dict
        ``W1``, ``b1``, ``W2``, ``b2`` after the last step.
    costs : list of ndarray of shape ()
        The cost at iterations 0, 100, 200, ...

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or X or Y holds NaN or infinity.
    """
    widths = check_widths(layers_dims, "layers_dims")
    if len(widths) != 3:
        raise ValueError(f"layers_dims must be (n_x, n_h, n_y); got {len(widths)} widths.")
    X, Y = _check_data(X, Y, widths)
    parameters = initialize_parameters(*widths)
    return _train(X, Y, parameters, learning_rate, num_iterations, print_cost)


def L_layer_model(
    X: ArrayLike,
    Y: ArrayLike,
    layers_dims: Sequence[int],
    learning_rate: float = 0.0075,
    num_iterations: int = 3000,
    print_cost: bool = False,
) -> tuple[dict[str, Array], list[Array]]:
    """Train a network of any depth: linear and ReLU in each layer but the last, sigmoid there.

    It starts from the ``'application'`` variant of
    :func:`~dnncore.functional.initialize_parameters_deep` and repeats forward pass, cost, backward
    pass and update on all examples at once.

    Parameters
    ----------
    X : array_like of shape (n_0, m)
        One column per example.
    Y : array_like of shape (n_L, m), or (m,) if n_L is 1
        Targets, 0 or 1.
    layers_dims : sequence of int
        Widths from input to output, ``[n_0, n_1, ..., n_L]``.
    learning_rate : float
        Length of the steps.
    num_iterations : int
        Number of steps.
    print_cost : bool
        Print the cost each time that it is recorded.

    Returns
    -------
    parameters : dict
        ``W1``, ``b1``, ..., ``WL``, ``bL`` after the last step.
    costs : list of ndarray of shape ()
        The cost at iterations 0, 100, 200, ...

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or X or Y holds NaN or infinity.
    """
    widths = check_widths(layers_dims, "layers_dims")
    X, Y = _check_data(X, Y, widths)
    parameters = initialize_parameters_deep(widths, variant="application")
    return _train(X, Y, parameters, learning_rate, num_iterations, print_cost)


def _check_data(X: ArrayLike, Y: ArrayLike, widths: list[int]) -> tuple[Array, Array]:
    X = as_columns(X, "X")
    if X.shape[0] != widths[0]:
        raise ValueError(
            f"layers_dims starts with {widths[0]}, so X must have {widths[0]} rows (features), "
            f"one column per example; got shape {X.shape}."
        )
    Y = as_targets(Y, (widths[-1], X.shape[1]))
    check_finite(X, "X")
    check_finite(Y, "Y")
    return np.ascontiguousarray(X), np.ascontiguousarray(Y)


def _train(
    X: Array,
    Y: Array,
    parameters: dict[str, Array],
    learning_rate: float,
    num_iterations: int,
    print_cost: bool,
) -> tuple[dict[str, Array], list[Array]]:
    learning_rate = check_real(learning_rate, "learning_rate", minimum=0.0)
    num_iterations = check_int(num_iterations, "num_iterations", minimum=0)
    n_layers, m = len(parameters) // 2, X.shape[1]
    last = n_layers - 1
    # Weights are kept transposed, (n_prev, n): then both large products of the first layer read
    # X along its rows, and the one that gives the gradient has many rows and few columns.
    weights = [np.ascontiguousarray(parameters[f"W{i}"].T) for i in range(1, n_layers + 1)]
    biases = [parameters[f"b{i}"] for i in range(1, n_layers + 1)]
    A = [X, *(np.empty((w.shape[1], m)) for w in weights)]
    dZ = [np.empty_like(a) for a in A[1:]]
    costs: list[Array] = []

    with _FirstLayer(X, weights[0]) as first:
        for iteration in range(num_iterations):
            np.copyto(A[1], biases[0])
            first.add_product(A[1], relu=last > 0)
            for i in range(1, n_layers):
                np.copyto(A[i + 1], biases[i])
                _kernels.product(
                    weights[i], A[i], transpose_a=True, out=A[i + 1], accumulate=True, relu=i < last
                )
            AL = _kernels.sigmoid(A[-1], out=A[-1])

            if iteration % COST_EVERY == 0:
                costs.append(compute_cost(AL, Y))
                if print_cost:
                    print(f"Cost after iteration {iteration}: {costs[-1]}")

            # The sigmoid's derivative cancels the cost's denominators: dZ = AL - Y. Everything
            # on the way back is linear in it, so the factor of the update, -learning_rate / m,
            # goes in here once and the products add straight to the weights.
            np.subtract(Y, AL, out=dZ[last])
            dZ[last] *= learning_rate / m
            for i in range(last, 0, -1):
                _kernels.product(weights[i], dZ[i], gate=A[i], out=dZ[i - 1])
                _kernels.product(A[i], dZ[i], transpose_b=True, out=weights[i], accumulate=True)
                biases[i] += dZ[i].sum(axis=1, keepdims=True)
            first.add_gradient(dZ[0])
            biases[0] += dZ[0].sum(axis=1, keepdims=True)

    for i, W in enumerate(weights, start=1):
        parameters[f"W{i}"] = np.ascontiguousarray(W.T)
    return parameters, costs


class _FirstLayer:
    """The products with X, by far the largest if there are thousands of features.

    They are cut into slabs of features, which threads share. The cut depends on the shape only, so
    the numbers do not depend on how many threads there are.
    """

    def __init__(self, X: Array, W: Array) -> None:
        (n_features, m), n_out = X.shape, W.shape[1]
        count = 1
        if _kernels.product_path(n_out, m, n_features) == "own":  # BLAS has threads of its own
            count = max(1, min(MAX_SLABS, n_features, X.size * n_out // SLAB_WORK))
        edges = [n_features * i // count for i in range(count + 1)]
        self._slabs = [
            (X[start:stop], W[start:stop], np.empty((n_out, m)))
            for start, stop in zip(edges, edges[1:], strict=False)
        ]
        threads = min(available_cpus(), count)
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def _run(self, task: Callable[[tuple[Array, Array, Array]], None]) -> None:
        run = map if self._pool is None else self._pool.map
        for _ in run(task, self._slabs):
            pass

    def add_product(self, out: Array, *, relu: bool) -> None:
        """Add ``W X`` to ``out``, then apply ReLU if asked to."""
        if len(self._slabs) == 1:
            X, W, _ = self._slabs[0]
            _kernels.product(W, X, transpose_a=True, out=out, accumulate=True, relu=relu)
            return

        def multiply(slab: tuple[Array, Array, Array]) -> None:
            X, W, partial = slab
            _kernels.product(W, X, transpose_a=True, out=partial)

        self._run(multiply)
        for _, _, partial in self._slabs:
            out += partial
        if relu:
            _kernels.activation_forward("relu", out, out=out)

    def add_gradient(self, dZ: Array) -> None:
        """Add ``dZ X'`` to the weights."""

        def multiply(slab: tuple[Array, Array, Array]) -> None:
            X, W, _ = slab
            _kernels.product(X, dZ, transpose_b=True, out=W, accumulate=True)

        self._run(multiply)
