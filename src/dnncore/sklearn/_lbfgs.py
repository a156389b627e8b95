"""Loss and gradient for SciPy's L-BFGS, packed as scikit-learn packs them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnncore import _custom_loss
from dnncore._blas_threads import single_threaded_blas
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
        self.examples = X, y, weight
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

    def fits(self, X: Any, y: Any, weight: Any, network: Any) -> bool:
        """Whether this is the problem of these examples and this network."""
        mine = (*self.examples, self.network)
        return all(a is b for a, b in zip(mine, (X, y, weight, network), strict=True))

    def loss_and_gradient(self, packed: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
        """Compute both at packed parameters: all weights, then all biases."""
        network = self.network
        arrays = [*network.weights, *network.biases]
        start = 0
        for array in arrays:
            array[...] = packed[start : start + array.size].reshape(array.shape)
            start += array.size
        grads = network.grads
        with single_threaded_blas():
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
        squares = sum(float(np.vdot(w, w)) for w in network.weights)
        loss = self.aim.loss_factor * total / weight + self.constant
        loss += 0.5 * self.alpha * squares / weight
        views = {p.name: p.view(grads) for p in network._parameters}
        gradient = np.empty(start)
        parts = []
        for name, array in network.named_parameters():
            if name.endswith("weight"):
                parts.append(views[name] + self.alpha / weight * array)
        parts += [view for name, view in views.items() if name.endswith("bias")]
        return loss, np.concatenate([part.ravel() for part in parts], out=gradient)
