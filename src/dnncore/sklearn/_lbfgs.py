"""SciPy's L-BFGS: loss and gradient, packed as scikit-learn packs them."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.utils.optimize import _check_optimize_result

from dnncore import _custom_loss
from dnncore._data import take_rows
from dnncore._steps import exclusive
from dnncore.losses import Custom
from dnncore.sklearn._inputs import as_data
from dnncore.sklearn._model import attach, choose_threads, norms, objective_of

try:
    from sklearn.utils.fixes import _get_additional_lbfgs_options_dict as _options_if_known
except ImportError:  # scikit-learn before 1.8

    def _options_if_known(key: str, value: Any) -> dict[str, Any]:
        return {key: value}


__all__ = ["Problem", "fit"]

PART = 2048
"""Rows at a time: all layers of as many stay in cache."""

BLOCK = 1 << 14
"""Parameters at a time, for the same reason."""

_ORDER = {"weight": 0, "bias": 1}


def fit(estimator: Any, X: Any, y: NDArray[Any], weight: Any) -> None:
    """Minimise the loss on all rows, as scikit-learn does, from the parameters that are there.

    SciPy works in float64, and that is the type of the parameters afterwards. Loss and gradient
    are computed in the type in which it asks for them: that of the parameters now, or, in old
    versions of SciPy, float64.
    """
    arrays = (*estimator.coefs_, *estimator.intercepts_, *norms(attach(estimator)).values())
    start = np.concatenate([array.ravel() for array in arrays])
    options: Any = {
        "maxfun": estimator.max_fun,
        "maxiter": estimator.max_iter,
        "gtol": estimator.tol,
        **_options_if_known("iprint", 1 if estimator.verbose >= 1 else -1),
    }
    known: list[Problem] = []
    with ExitStack() as stack:

        def loss(packed: NDArray[Any]) -> float:
            if not known:
                _cast(estimator, packed.dtype)
                known.append(Problem(estimator, X, y, weight))
                stack.enter_context(exclusive(known[0].network))
            return known[0].loss(packed)

        def gradient(packed: NDArray[Any]) -> Any:
            return known[0].gradient(packed)

        # Not as one function: SciPy would copy and compare all parameters twice more.
        found = minimize(loss, start, method="L-BFGS-B", jac=gradient, options=options)
    estimator.n_iter_ = _check_optimize_result("lbfgs", found, estimator.max_iter)
    estimator.loss_ = found.fun
    _cast(estimator, found.x.dtype)
    network = attach(estimator)
    place = 0
    for array in (*network.weights, *network.biases, *norms(network).values()):
        array[...] = found.x[place : place + array.size].reshape(array.shape)
        place += array.size


def _cast(estimator: Any, dtype: np.dtype[Any]) -> None:
    estimator.coefs_ = [c.astype(dtype, copy=False) for c in estimator.coefs_]
    estimator.intercepts_ = [b.astype(dtype, copy=False) for b in estimator.intercepts_]


class Problem:
    """The loss of an estimator on fixed examples, as a function of its packed parameters.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Its network gets the parameters at which the loss is asked for.
    X, y, weight
        Examples; see ``_validation_set.Examples``.
    """

    def __init__(self, estimator: Any, X: Any, y: NDArray[Any], weight: Any) -> None:
        self.network = network = attach(estimator)
        self.aim = objective_of(estimator, network.n_out)
        data = as_data(X, y, weight, network.dtype, labels=estimator.out_activation_ == "softmax")
        self.parts = [data]
        if data.x.ndim == 2 and data.rows >= 2 * PART and not isinstance(self.aim.loss, Custom):
            firsts = range(0, data.rows, PART)
            self.parts = [take_rows(data, slice(first, first + PART)) for first in firsts]
        self.alpha = estimator.alpha
        self.constant = 0.0
        if self.aim.constant is not None:
            self.constant = float(np.average(self.aim.constant(y), weights=weight))
        self.threads = choose_threads(
            estimator, 3.0 * self.parts[0].rows * network._program.work_per_row
        )
        # Weights, biases, norms: the places of each in the packed vector, in params and in grads.
        self.weights = sum(w.size for w in network.weights)
        self.kept = np.full(network.n_params, np.nan, network.dtype)
        self.known = False
        self.places: list[tuple[slice, slice]] = []
        start = 0
        for p in sorted(network._parameters, key=lambda p: _ORDER.get(p.kind, 2)):
            packed = slice(start, start + p.size)
            self.places.append((packed, slice(p.offset, p.offset + p.size)))
            start += p.size

    def loss(self, packed: NDArray[Any]) -> float:
        """Compute the loss, and keep the gradient.

        Parameters
        ----------
        packed : ndarray of shape (n_params,)
            Where: all weights, then all biases, then all norms.
        """
        network = self.network
        params, grads = network.params, network.grads
        self.known = True
        for mine, theirs in self.places:
            params[theirs] = packed[mine]
        if isinstance(self.aim.loss, Custom):
            total, weight = _custom_loss.loss_gradient(
                network, self.aim.loss, self.parts[0], grads, self.threads
            )
        else:
            total, weight, grads = self._in_parts(grads)
        if weight <= 0:
            raise ValueError("Sample weights must have a positive sum; theirs is zero or less.")
        scale = float(self.alpha / weight)
        loss = self.aim.loss_factor * total / weight + self.constant
        for mine, theirs in self.places:
            if mine.stop > self.weights:
                self.kept[mine] = grads[theirs]
                continue
            squares = 0.0
            for first in range(0, mine.stop - mine.start, BLOCK):
                block = packed[mine][first : first + BLOCK]
                out = self.kept[mine][first : first + BLOCK]
                np.multiply(block, scale, out=out)
                out += grads[theirs][first : first + BLOCK]
                squares += float(np.dot(block, block))
            loss += 0.5 * scale * squares
        return loss

    def gradient(self, packed: NDArray[Any]) -> NDArray[Any]:
        """Return the gradient, which the next call overwrites; SciPy has just had the loss."""
        params = self.network.params
        if not self.known or not all(
            np.array_equal(params[theirs], packed[mine]) for mine, theirs in self.places
        ):
            self.loss(packed)
        return self.kept

    def _in_parts(self, grads: NDArray[Any]) -> tuple[float, float, NDArray[Any]]:
        """Return sums of weighted loss and of weights, and the gradient of the mean loss."""
        run, factor = self.network._program.loss_gradient, self.aim.gradient_factor
        if len(self.parts) == 1:
            return *run(self.parts[0], grads, self.threads, factor), grads
        total = weight = 0.0
        gradient = np.zeros_like(grads)
        for part in self.parts:
            found = run(part, grads, self.threads, factor)
            grads *= found[1]
            gradient += grads
            total += found[0]
            weight += found[1]
        if weight > 0:
            gradient /= weight
        return total, weight, gradient
