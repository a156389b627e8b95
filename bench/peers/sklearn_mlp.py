"""scikit-learn's MLPClassifier and MLPRegressor, one ``partial_fit`` an epoch, or a batch.

It has no gelu: that row runs tanh instead, and ``stand_in`` says so.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier, MLPRegressor
from workloads import BETA1, BETA2, EPSILON, MOMENTUM, Array, Parameters, Workload

ADAM_EPSILON = EPSILON * math.sqrt(1.0 - BETA2)
"""It adds epsilon before the bias correction, the others after; equal at the first step, where
it matters most."""


class Contender:
    stand_in = ""

    def __init__(
        self, work: Workload, parameters: Parameters, x: Array, y: Array, threads: int
    ) -> None:
        self.work, self.x, self.y = work, x, y
        self.rng = np.random.default_rng(0)
        classifier = work.loss != "mse"
        base = MLPClassifier if classifier else MLPRegressor
        queue = iter(parameters)

        class Given(base):  # type: ignore[misc, valid-type]
            """The estimator, started from the given parameters instead of drawn ones."""

            def _init_coef(self, fan_in: int, fan_out: int, dtype: Any) -> tuple[Array, Array]:
                w, b = next(queue)
                return w.astype(dtype), b.astype(dtype)

        activation = work.activation
        if activation == "gelu":
            activation, self.stand_in = "tanh", "tanh for gelu"
        rate = work.learning_rate
        if work.optimizer == "sgd" and not classifier:
            rate *= 2.0  # its squared loss is half of ours
        self.model = Given(
            hidden_layer_sizes=work.sizes[1:-1],
            activation=activation,
            solver=work.optimizer,
            alpha=0.0,
            batch_size=work.batch,
            learning_rate="constant",
            learning_rate_init=rate,
            beta_1=BETA1,
            beta_2=BETA2,
            epsilon=ADAM_EPSILON,
            momentum=MOMENTUM,
            nesterovs_momentum=False,
            tol=0.0,
            n_iter_no_change=10**9,
            # An int would make every partial_fit draw the same shuffle again.
            random_state=np.random.RandomState(0),
        )
        self.classes = np.unique(y) if classifier else None
        if work.kind == "predict":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.run(1, False)
            self.model.coefs_ = [w for w, _ in parameters]
            self.model.intercepts_ = [b for _, b in parameters]

    def run(self, epochs: int, shuffle: bool) -> None:
        work = self.work
        self.model.shuffle = shuffle and not work.by_call
        classes = {} if self.classes is None else {"classes": self.classes}
        for _ in range(epochs):
            if not work.by_call:
                self.model.partial_fit(self.x, self.y, **classes)
                continue
            for rows in work.batches(self.rng, shuffle):
                self.model.partial_fit(self.x[rows], self.y[rows], **classes)

    def parameters(self) -> Parameters:
        return list(zip(self.model.coefs_, self.model.intercepts_, strict=True))

    def row(self, x: Array) -> Array:
        return x

    def predict(self, x: Array) -> Array:
        return np.asarray(self.model.predict_proba(x))

    def versions(self) -> dict[str, str]:
        return {"scikit-learn": sklearn.__version__, "numpy": np.__version__}
