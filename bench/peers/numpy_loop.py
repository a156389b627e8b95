"""A careful NumPy loop: what a patient person writes without a framework.

Everything is preallocated, every product and ufunc writes into its ``out``, parameters and
moments are flat, and the optimizer walks them in blocks that stay in cache.
"""

from __future__ import annotations

import math

import numpy as np
from workloads import BETA1, BETA2, EPSILON, MOMENTUM, Array, Parameters, Workload

BLOCK = 16_384
"""Elements that the optimizer takes at a time."""


class Contender:
    def __init__(
        self, work: Workload, parameters: Parameters, x: Array, y: Array, threads: int
    ) -> None:
        self.work, self.x = work, x
        self.rng = np.random.default_rng(0)
        dtype = np.dtype(work.dtype)
        flat = [part.ravel() for layer in parameters for part in layer]
        self.flat = np.concatenate(flat)
        self.gradient = np.zeros_like(self.flat)
        self.layers = self._views(self.flat, parameters)
        self.gradients = self._views(self.gradient, parameters)
        first, second = np.zeros_like(self.flat), np.zeros_like(self.flat)
        scratch = np.empty(BLOCK, dtype)
        self.blocks = [
            (
                self.flat[i : i + BLOCK],
                self.gradient[i : i + BLOCK],
                first[i : i + BLOCK],
                second[i : i + BLOCK],
                scratch[: len(self.flat[i : i + BLOCK])],
            )
            for i in range(0, len(self.flat), BLOCK)
        ]
        self.step_count = 0

        batch, widths = work.batch, work.sizes
        if work.loss == "softmax_cross_entropy":
            self.y = y
            self.arange = np.arange(batch)
        else:
            self.y = y.astype(dtype).reshape(-1, 1)
        self.targets = np.empty((batch, *self.y.shape[1:]), self.y.dtype)
        self.outputs = [np.empty((batch, width), dtype) for width in widths]
        self.deltas = [np.empty((batch, width), dtype) for width in widths]
        self.spare = [np.empty((batch, width), dtype) for width in widths]
        self.slopes = [np.empty((batch, width), dtype) for width in widths]
        self.column = np.empty((batch, 1), dtype)
        self.hidden = {"relu": lambda: _relu, "tanh": lambda: _tanh, "gelu": _Gelu}[
            work.activation
        ]()
        if work.kind == "predict":
            self.rows = [np.empty((batch, width), dtype) for width in widths]

    @staticmethod
    def _views(flat: Array, parameters: Parameters) -> Parameters:
        views, start = [], 0
        for w, b in parameters:
            middle, end = start + w.size, start + w.size + b.size
            views.append((flat[start:middle].reshape(w.shape), flat[middle:end]))
            start = end
        return views

    def run(self, epochs: int, shuffle: bool) -> None:
        update = self._adam if self.work.optimizer == "adam" else self._sgd
        for _ in range(epochs):
            for rows in self.work.batches(self.rng, shuffle):
                # mode="clip" lets take write straight into out; "raise" would buffer.
                np.take(self.x, rows, axis=0, out=self.outputs[0], mode="clip")
                np.take(self.y, rows, axis=0, out=self.targets, mode="clip")
                self._gradient()
                update()

    def _gradient(self) -> None:
        outputs, last = self.outputs, len(self.layers)
        for i, (w, b) in enumerate(self.layers, start=1):
            z = outputs[i]
            np.matmul(outputs[i - 1], w, out=z)
            z += b
            if i < last:
                self.hidden(z, self.slopes[i], self.spare[i])
        delta = self._loss_gradient(outputs[last])
        for i in range(last, 0, -1):
            dw, db = self.gradients[i - 1]
            np.matmul(outputs[i - 1].T, delta, out=dw)
            np.sum(delta, axis=0, out=db)
            if i > 1:
                np.matmul(delta, self.layers[i - 1][0].T, out=self.deltas[i - 1])
                delta = self.deltas[i - 1]
                delta *= self.slopes[i - 1]

    def _loss_gradient(self, z: Array) -> Array:
        batch = self.work.batch
        if self.work.loss == "softmax_cross_entropy":
            _softmax(z, self.column)
            z[self.arange, self.targets] -= 1.0
            z *= 1.0 / batch
        elif self.work.loss == "binary_cross_entropy":
            z *= 0.5  # sigmoid(z) = (1 + tanh(z / 2)) / 2
            np.tanh(z, out=z)
            z += 1.0
            z *= 0.5
            z -= self.targets
            z *= 1.0 / batch
        else:
            z -= self.targets
            z *= 2.0 / z.size
        return z

    def _adam(self) -> None:
        self.step_count += 1
        root = math.sqrt(1.0 - BETA2**self.step_count)
        rate = self.work.learning_rate * root / (1.0 - BETA1**self.step_count)
        for p, g, m, v, t in self.blocks:
            np.subtract(g, m, out=t)
            t *= 1.0 - BETA1
            m += t
            np.multiply(g, g, out=t)
            t -= v
            t *= 1.0 - BETA2
            v += t
            np.sqrt(v, out=t)
            t += EPSILON * root
            np.divide(m, t, out=t)
            t *= rate
            p -= t

    def _sgd(self) -> None:
        rate = self.work.learning_rate
        for p, g, velocity, _, t in self.blocks:
            velocity *= MOMENTUM
            velocity += g
            np.multiply(velocity, rate, out=t)
            p -= t

    def parameters(self) -> Parameters:
        return self.layers

    def row(self, x: Array) -> Array:
        return x

    def predict(self, x: Array) -> Array:
        a, last = x, len(self.layers)
        for i, (w, b) in enumerate(self.layers, start=1):
            z = self.rows[i]
            np.matmul(a, w, out=z)
            z += b
            if i < last:
                np.maximum(z, 0.0, out=z)
            a = z
        np.exp(a, out=a)  # bounded logits: no need to subtract the maximum
        a /= a.sum() if len(a) == 1 else np.sum(a, axis=1, keepdims=True, out=self.column)
        return a

    def versions(self) -> dict[str, str]:
        return {"numpy": np.__version__}


def _softmax(z: Array, column: Array) -> None:
    np.max(z, axis=1, keepdims=True, out=column)
    z -= column
    np.exp(z, out=z)
    np.sum(z, axis=1, keepdims=True, out=column)
    z /= column


# Hidden activations: z becomes the output, slope the derivative.


def _relu(z: Array, slope: Array, spare: Array) -> None:
    np.maximum(z, 0.0, out=z)
    np.greater(z, 0.0, out=slope)  # ones and zeros in the float type: faster than a mask


def _tanh(z: Array, slope: Array, spare: Array) -> None:
    np.tanh(z, out=z)
    np.multiply(z, z, out=slope)
    np.subtract(1.0, slope, out=slope)


class _Gelu:
    def __init__(self) -> None:
        from scipy.special import erf

        self.erf = erf

    def __call__(self, z: Array, slope: Array, spare: Array) -> None:
        np.multiply(z, math.sqrt(0.5), out=spare)
        self.erf(spare, out=spare)
        spare += 1.0
        spare *= 0.5  # the normal distribution function of z
        np.multiply(z, z, out=slope)
        slope *= -0.5
        np.exp(slope, out=slope)
        slope *= 1.0 / math.sqrt(2.0 * math.pi)
        slope *= z
        slope += spare
        z *= spare
