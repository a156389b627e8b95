"""From an estimator to a ``Network``, whose buffer ``coefs_`` and ``intercepts_`` are views of."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import joblib
import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads

from dnncore import _kernels, prediction
from dnncore._blas_threads import limits_for
from dnncore._state import model_arrays
from dnncore._threads import threads_for
from dnncore.layers import Activation, BatchNorm, Dense, Dropout, Layer, LayerNorm
from dnncore.losses import BinaryFocal, Custom, Loss, SoftmaxFocal
from dnncore.network import Network
from dnncore.sklearn._inputs import as_rows, input_data

__all__ = [
    "Objective",
    "attach",
    "check_targets",
    "choose_threads",
    "norms",
    "objective_of",
    "outputs",
    "units_of",
]


@dataclass(frozen=True)
class _Clipped(Loss):
    """A cross-entropy whose value comes from probabilities clipped as scikit-learn does."""

    @property
    def id(self) -> int:
        """Id of the kernel."""
        return _kernels.LOSS_IDS[self.name.partition("_")[0] + "_clipped"]


@dataclass(frozen=True)
class Objective:
    """A loss, and how scikit-learn's value and gradient relate to it."""

    loss: Loss
    loss_factor: float = 1.0
    gradient_factor: float = 1.0
    constant: Callable[[NDArray[Any]], NDArray[np.float64]] | None = None
    """What the engine's loss leaves out, by row; it depends on the targets only."""


def _poisson_constant(y: NDArray[Any]) -> NDArray[np.float64]:
    from scipy.special import xlogy

    y = np.asarray(y, np.float64)
    return np.asarray((xlogy(y, y) - y).sum(axis=1))


def objective_of(estimator: Any, n_outputs: int) -> Objective:
    """Return what an estimator minimises.

    Raises
    ------
    ValueError
        If its loss does not fit its kind of target.
    """
    loss = estimator.loss
    if estimator._classifies:
        multiclass = estimator.out_activation_ == "softmax"
        name = "softmax_cross_entropy" if multiclass else "binary_cross_entropy"
        if loss == "log_loss":
            factor = 1.0 if multiclass else float(n_outputs)
            return Objective(_Clipped(name), factor, factor)
        targets = "labels" if multiclass else "binary"
        if loss == "focal":
            loss = SoftmaxFocal() if multiclass else BinaryFocal()
        elif not isinstance(loss, Loss):
            loss = Custom(loss, targets)
        if loss.targets != targets or not loss.has_probabilities:
            raise ValueError(
                f"loss={loss!r} does not fit: the classifier needs one of {targets} targets that "
                "gives probabilities."
            )
        return Objective(loss)
    if loss == "squared_error":
        return Objective(Loss("mse"), 0.5, 0.5 * n_outputs)
    if loss == "poisson":
        return Objective(Loss("poisson"), n_outputs, n_outputs, _poisson_constant)
    if isinstance(loss, str):
        loss = Loss("mae" if loss == "absolute_error" else loss)
    elif not isinstance(loss, Loss):
        loss = Custom(loss, "values")
    if loss.targets != "values":
        raise ValueError(f"loss={loss!r} is for classes; the regressor needs one for values.")
    return Objective(loss)


def check_targets(aim: Objective, X: Any, y: NDArray[Any]) -> None:
    """See that a loss that scikit-learn does not have can be had of these examples.

    Raises
    ------
    ValueError
        If it cannot.
    """
    row = aim.loss.row
    if isinstance(aim.loss, Custom) and scipy.sparse.issparse(X):
        raise ValueError("A loss of your own needs dense X; this one is sparse.")
    if aim.constant is None and row.least is not None and y.size:
        if y.min() < row.least or (row.above and y.min() == row.least):
            least = f"greater than {row.least:g}" if row.above else f"at least {row.least:g}"
            raise ValueError(f"loss {aim.loss.name!r} needs y to be {least}; got {y.min():g}.")


def units_of(estimator: Any) -> list[int]:
    """Widths of the hidden layers, checked as scikit-learn does.

    Raises
    ------
    ValueError
        If one is not positive.
    """
    sizes = estimator.hidden_layer_sizes
    sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
    if np.any(np.array(sizes) <= 0):
        raise ValueError("hidden_layer_sizes must be > 0, got %s." % sizes)  # noqa: UP031
    return sizes


def per_layer(value: Any, n: int, name: str) -> list[Any]:
    """One value for each hidden layer.

    Raises
    ------
    ValueError
        If a list has another length.
    """
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return [value] * n
    values = list(value)
    if len(values) != n:
        raise ValueError(
            f"{name} must be one value or a list of one for each of the {n} hidden layers; got "
            f"{values!r}."
        )
    return values


def _layers(estimator: Any, units: list[int]) -> tuple[Layer, ...]:
    n = len(units) - 2
    layers: list[Layer] = []
    activations = per_layer(estimator.activation, n, "activation")
    if "softmax" in activations:
        raise ValueError("activation 'softmax' is for outputs; choose another for hidden layers.")
    rates = per_layer(estimator.dropout, n, "dropout")
    for width, activation, rate in zip(units[1:-1], activations, rates, strict=True):
        activation = "sigmoid" if activation == "logistic" else activation
        if estimator.batch_norm or estimator.layer_norm:
            layers.append(Dense(int(width)))
            layers.append(BatchNorm() if estimator.batch_norm else LayerNorm())
            if activation != "identity":
                layers.append(Activation(activation))
        else:
            layers.append(Dense(int(width), activation))
        if rate:
            layers.append(Dropout(rate))
    layers.append(Dense(int(units[-1])))
    return tuple(layers)


def initial(
    estimator: Any, units: list[int], dtype: np.dtype[Any]
) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Draw weights and biases as scikit-learn does: uniform, after Glorot and Bengio."""
    rng = estimator._random_state
    activations = per_layer(estimator.activation, len(units) - 2, "activation")
    # Scikit-learn's last layer follows the activation of all.
    activations.append(activations[-1] if activations else estimator.activation)
    coefs, intercepts = [], []
    for (n_in, n_out), activation in zip(pairwise(units), activations, strict=True):
        bound = np.sqrt((2.0 if activation in ("logistic", "sigmoid") else 6.0) / (n_in + n_out))
        coefs.append(rng.uniform(-bound, bound, (n_in, n_out)).astype(dtype, copy=False))
        intercepts.append(rng.uniform(-bound, bound, n_out).astype(dtype, copy=False))
    return coefs, intercepts


def blank(
    n_in: int, layers: tuple[Layer, ...], loss: Loss, dtype: np.dtype[Any], seed: int
) -> Network:
    """Build a network without drawing weights; what its norms have gets its first values."""
    network = Network.__new__(Network)
    network._describe(n_in, layers, loss, dtype, seed)
    network._allocate()
    for p in network._parameters:
        if p.kind in ("gamma", "running_var"):
            p.view(network.params)[...] = 1
    return network


def norms(network: Network) -> dict[Any, NDArray[Any]]:
    """Return views of what is not in ``coefs_`` and ``intercepts_``, by number, kind and shape."""
    found = [p for p in network._parameters if p.kind not in ("weight", "bias")]
    return {(i, p.kind, p.shape): p.view(network.params) for i, p in enumerate(found)}


def attach(estimator: Any) -> Network:
    """Return the network that has the estimator's parameters, ``coefs_`` being views of them.

    It is built anew if there is none, if other parameters of the estimator ask for another one,
    or if ``coefs_`` has other shapes; values that were assigned to ``coefs_`` and
    ``intercepts_`` are taken over. Norms go on from those of the network before, if they fit.
    """
    coefs, intercepts = estimator.coefs_, estimator.intercepts_
    views = estimator.__dict__.get("_views")
    network: Network | None = estimator.__dict__.get("_network")
    asked = (
        estimator.activation, estimator.dropout, estimator.batch_norm, estimator.layer_norm,
        estimator.loss, estimator.out_activation_,
    )  # fmt: skip
    if network is not None and views is not None and _same([coefs, intercepts, asked], views):
        return network
    units = [int(coefs[0].shape[0]), *(int(c.shape[1]) for c in coefs)]
    dtype = np.dtype(np.float32 if coefs[0].dtype == np.float32 else np.float64)
    layers = _layers(estimator, units)
    loss = objective_of(estimator, units[-1]).loss
    if (
        network is None
        or (network.n_in, network.layers, network.dtype) != (units[0], layers, dtype)
        or network.loss != loss
    ):
        seed = estimator.__dict__.get("_mask_seed", 0)
        kept = {} if network is None else norms(network)
        network, views = blank(units[0], layers, loss, dtype, seed), None
        estimator._network = network
        new = norms(network)
        if kept.keys() == new.keys():
            for key, array in new.items():
                array[...] = kept[key]
    weights, biases = network.weights, network.biases
    if views is None or not _same([coefs, intercepts], views[:2]):
        for given, own in ((coefs, weights), (intercepts, biases)):
            for array, view in zip(given, own, strict=True):
                view[...] = array
    else:
        weights, biases = map(list, views[:2])
    estimator._views = tuple(weights), tuple(biases), asked
    estimator.coefs_, estimator.intercepts_ = weights, biases
    return network


def _same(given: Any, kept: Any) -> bool:
    return all(
        len(these) == len(those) and all(a is b for a, b in zip(these, those, strict=True))
        for these, those in zip(given, kept, strict=True)
    )


def choose_threads(estimator: Any, work: float) -> int:
    """Threads for steps of `work` multiply-adds: as many as pay and nobody else uses.

    Within joblib's workers, and wherever OpenMP is limited, that is what is left for one worker.
    """
    threads = threads_for(estimator.n_threads, work)
    if estimator.n_threads is not None or threads == 1:
        return threads
    backend, _ = joblib.parallel.get_active_backend()
    main = threading.current_thread() is threading.main_thread()
    if (backend.nesting_level or 0) > 0 and not main:
        return 1
    return min(threads, int(_openmp_effective_n_threads()))


def outputs(estimator: Any, X: Any) -> NDArray[Any]:
    """Compute outputs after the link, in the type that NumPy gives ``X @ coefs_[0]``."""
    network = attach(estimator)
    dtype = np.result_type(X.dtype, network.dtype)
    if dtype != network.dtype:
        wide = blank(network.n_in, network.layers, network.loss, np.dtype(np.float64), 0)
        for name, array in model_arrays(network).items():
            model_arrays(wide)[name][...] = array
        network = wide
    program, dtype = network._program, network.dtype
    few = program.infer_few(X, network._link)
    if few is not None:
        return prediction.after_link(network, few)
    n = X.shape[0]
    out = np.empty((n, network.n_out), dtype)
    X = as_rows(X, dtype)
    with limits_for(program):
        for rows in prediction.chunks(network, n):
            part, chunk = X[rows], out[rows]
            threads = choose_threads(estimator, float(len(chunk)) * program.work_per_row)
            if scipy.sparse.issparse(part):
                data = input_data(part, None, chunk, None)
                program.infer_sparse(data, network._link, chunk, threads)
            else:
                program.infer(part, network._link, chunk, threads)
    return prediction.after_link(network, out)
