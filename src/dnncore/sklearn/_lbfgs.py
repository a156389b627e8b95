"""Loss and gradient for SciPy's L-BFGS, packed as scikit-learn packs them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnncore import _custom_loss
from dnncore.losses import Custom
from dnncore.sklearn._inputs import as_data
from dnncore.sklearn._model import attach, choose_threads, objective_of

__all__ = ["Problem"]


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
        self.data = as_data(
            X, y, weight, network.dtype, labels=estimator.out_activation_ == "softmax"
        )
        self.alpha = estimator.alpha
        self.constant = 0.0
        if self.aim.constant is not None:
            self.constant = float(np.average(self.aim.constant(y), weights=weight))
        self.threads = choose_threads(
            estimator, 3.0 * self.data.rows * network._program.work_per_row
        )
        # Weights, then biases: the places of each in the packed vector, in params and in grads.
        self.weights = 0  # numbers in the weights
        self.size = network.n_params
        self.places: list[tuple[slice, slice]] = []
        start = 0
        for kind in ("weight", "bias"):
            for p in network._parameters:
                if p.name.endswith(kind):
                    packed = slice(start, start + p.size)
                    self.places.append((packed, slice(p.offset, p.offset + p.size)))
                    start += p.size
            if kind == "weight":
                self.weights = start

    def loss_and_gradient(self, packed: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
        """Compute both at packed parameters: all weights, then all biases."""
        network = self.network
        params, grads = network.params, network.grads
        for mine, theirs in self.places:
            params[theirs] = packed[mine]
        if isinstance(self.aim.loss, Custom):
            total, weight = _custom_loss.loss_gradient(
                network, self.aim.loss, self.data, grads, self.threads
            )
        else:
            total, weight = network._program.loss_gradient(
                self.data, grads, self.threads, self.aim.gradient_factor
            )
        if weight <= 0:
            raise ValueError("Sample weights must have a positive sum; theirs is zero or less.")
        weights = packed[: self.weights]
        loss = self.aim.loss_factor * total / weight + self.constant
        loss += 0.5 * self.alpha * float(np.dot(weights, weights)) / weight
        gradient = np.empty(self.size)
        for mine, theirs in self.places:
            gradient[mine] = grads[theirs]
        gradient[: self.weights] += self.alpha / weight * weights
        return loss, gradient
