"""Loss and gradient for SciPy's L-BFGS, packed as scikit-learn packs them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnncore import _custom_loss
from dnncore._data import take_rows
from dnncore.losses import Custom
from dnncore.sklearn._inputs import as_data
from dnncore.sklearn._model import attach, choose_threads, objective_of

__all__ = ["Problem"]

PART = 2048
"""Rows at a time: all layers of as many stay in cache."""

_ORDER = {"weight": 0, "bias": 1}


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
        self.size = network.n_params
        self.places: list[tuple[slice, slice]] = []
        start = 0
        for p in sorted(network._parameters, key=lambda p: _ORDER.get(p.kind, 2)):
            packed = slice(start, start + p.size)
            self.places.append((packed, slice(p.offset, p.offset + p.size)))
            start += p.size

    def loss_and_gradient(self, packed: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
        """Compute both at packed parameters: all weights, then all biases, then all norms."""
        network = self.network
        params, grads = network.params, network.grads
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
        weights = packed[: self.weights]
        loss = self.aim.loss_factor * total / weight + self.constant
        loss += 0.5 * self.alpha * float(np.dot(weights, weights)) / weight
        gradient = np.empty(self.size)
        for mine, theirs in self.places:
            if mine.stop <= self.weights:
                np.multiply(packed[mine], self.alpha / weight, out=gradient[mine])
                gradient[mine] += grads[theirs]
            else:
                gradient[mine] = grads[theirs]
        return loss, gradient

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
