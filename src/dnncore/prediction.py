"""Predictions, a chunk of rows at a time: memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnncore import _kernels
from dnncore._blas_threads import limits_for
from dnncore._data import take_rows
from dnncore._engine import Data
from dnncore._sparse import as_csr, csr_data, is_sparse
from dnncore._threads import threads_for
from dnncore._validation import as_contiguous, check_matrix
from dnncore.layers import Dense

if TYPE_CHECKING:
    from dnncore._model import Model

__all__ = [
    "after_link",
    "both_classes",
    "chunks",
    "outputs",
    "predict",
    "predict_proba",
    "threads",
]

CHUNK_ELEMENTS = 1 << 20
"""Elements of the widest of a chunk's inputs and outputs."""

CHUNK_WORK = 1 << 30
"""Multiply-adds of a chunk, during which Ctrl-C has to wait."""

ENGINE_ROWS = 256
"""Rows that the engine sends through the layers at a time."""


def predict(network: Model, X: ArrayLike) -> NDArray[Any]:
    """Labels or values; see ``Network.predict``."""
    return _collect(network, X, network._targets.decode)


def predict_proba(network: Model, X: ArrayLike) -> NDArray[Any]:
    """Probabilities of the classes; see ``Network.predict_proba``.

    Raises
    ------
    ValueError
        If the loss is none for classification.
    """
    loss = network.loss
    if not loss.has_probabilities:
        raise ValueError(f"predict_proba needs a cross-entropy or focal loss; this is {loss.name}.")
    single = loss.targets == "binary" and network.n_out == 1
    return _collect(network, X, both_classes if single else _as_they_are)


def _collect(
    network: Model, X: ArrayLike, finish: Callable[[NDArray[Any]], NDArray[Any]]
) -> NDArray[Any]:
    """Put into one array what ``finish`` makes of each chunk's outputs."""
    few = network._program.infer_few(X, network._link)
    if few is not None:
        return finish(after_link(network, few))
    sparse: Data | None = None
    if is_sparse(X):
        if not isinstance(network.layers[0], Dense):
            raise TypeError(
                f"X is a sparse matrix, but a network that begins with {network.layers[0]!r} "
                "needs a dense one; pass X.toarray()."
            )
        rows_of_x = as_csr(X, "X", dtype=network.dtype, columns=network.n_in, min_rows=1)
        sparse = csr_data(rows_of_x, None, None, None)
        n = sparse.rows
    else:
        inputs = check_matrix(X, "X", network.n_in)
        n = len(inputs)
    result = np.empty(0)
    with limits_for(network._program):
        for rows in chunks(network, n):
            if sparse is None:
                chunk = as_contiguous(inputs[rows], network.dtype, "X", rows.start)
                part = finish(outputs(network, chunk))
            else:
                part = finish(outputs(network, take_rows(sparse, rows)))
            if len(part) == n:
                return part
            if rows.start == 0:
                result = np.empty((n, *part.shape[1:]), part.dtype)
            result[rows] = part
    return result


def chunks(network: Model, rows: int) -> Iterator[slice]:
    """Cut rows into parts that are sent through the network one after the other."""
    # Whole multiples of the engine's own chunks, so that the bits do not depend on these.
    height = min(
        CHUNK_ELEMENTS // max(network.n_in, network.n_out),
        CHUNK_WORK // network._program.work_per_row,
    )
    height = max(1, height // ENGINE_ROWS) * ENGINE_ROWS
    for first in range(0, rows, height):
        yield slice(first, min(first + height, rows))


def outputs(network: Model, inputs: NDArray[Any] | Data) -> NDArray[Any]:
    """Compute outputs after the loss's link, of dense rows or of sparse ones."""
    n = inputs.rows if isinstance(inputs, Data) else len(inputs)
    out = np.empty((n, network.n_out), network.dtype)
    program, workers = network._program, threads(network, n)
    if isinstance(inputs, Data):
        program.infer_sparse(inputs, network._link, out, workers)
    else:
        program.infer(inputs, network._link, out, workers)
    return after_link(network, out)


def after_link(network: Model, out: NDArray[Any]) -> NDArray[Any]:
    """Apply the one link that is no activation."""
    return _kernels.exp(out, out) if network.loss.link == "exp" else out


def threads(network: Model, rows: int) -> int:
    """Choose how many threads a forward pass of these rows is worth."""
    return threads_for(None, float(rows) * network._program.work_per_row)


def _as_they_are(out: NDArray[Any]) -> NDArray[Any]:
    return out


def both_classes(out: NDArray[Any]) -> NDArray[Any]:
    """Give the other class of a single probability its column."""
    return np.concatenate([1 - out, out], axis=1)
