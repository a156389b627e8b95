"""JAX: a whole epoch in one jitted ``lax.scan``, rows gathered inside, the state donated.

If the caller owns the loop, a jitted step for each batch.

The permutation is drawn by NumPy within the timed epoch and handed in: ``jax.random.permutation``
sorts, which on a CPU costs small networks up to half of their time.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from workloads import BETA1, BETA2, EPSILON, MOMENTUM, Array, Parameters, Workload

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "gelu": partial(jax.nn.gelu, approximate=False),
}


class Contender:
    def __init__(
        self, work: Workload, parameters: Parameters, x: Array, y: Array, threads: int
    ) -> None:
        if work.dtype == "float64":
            jax.config.update("jax_enable_x64", True)
        self.work = work
        self.rng = np.random.default_rng(0)
        self.x = jnp.asarray(x)
        if work.loss == "softmax_cross_entropy":
            self.y = jnp.asarray(y, jnp.int32)
        else:
            self.y = jnp.asarray(y, work.dtype)
        weights = [(jnp.asarray(w), jnp.asarray(b)) for w, b in parameters]
        zeros = jax.tree.map(jnp.zeros_like, weights)
        more = jax.tree.map(jnp.zeros_like, weights) if work.optimizer == "adam" else ()
        self.state = (weights, zeros, more, jnp.zeros((), work.dtype))
        self.epoch = jax.jit(partial(_epoch, work), donate_argnums=0)
        self.step = jax.jit(partial(_step, work), donate_argnums=0)
        self.given = x, y.astype(self.y.dtype)
        self.forward = jax.jit(lambda weights, x: jax.nn.softmax(_logits(work, weights, x)))

    def run(self, epochs: int, shuffle: bool) -> None:
        n = self.work.n
        for _ in range(epochs):
            if self.work.by_call:
                x, y = self.given
                for rows in self.work.batches(self.rng, shuffle):
                    self.state = self.step(self.state, x[rows], y[rows])
                continue
            order = self.rng.permutation(n) if shuffle else np.arange(n)
            self.state = self.epoch(self.state, self.x, self.y, order.astype(np.int32))
        jax.block_until_ready(self.state)

    def parameters(self) -> Parameters:
        return [(np.asarray(w), np.asarray(b)) for w, b in self.state[0]]

    def row(self, x: Array) -> jax.Array:
        return jnp.asarray(x)

    def predict(self, x: jax.Array) -> jax.Array:
        return self.forward(self.state[0], x).block_until_ready()  # type: ignore[no-any-return]

    def versions(self) -> dict[str, str]:
        import jaxlib

        return {"jax": jax.__version__, "jaxlib": jaxlib.__version__}


def _logits(work: Workload, weights: Any, x: jax.Array) -> jax.Array:
    for w, b in weights[:-1]:
        x = ACTIVATIONS[work.activation](x @ w + b)
    w, b = weights[-1]
    return x @ w + b


def _loss(work: Workload, weights: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    z = _logits(work, weights, x)
    if work.loss == "softmax_cross_entropy":
        picked = jnp.take_along_axis(z, y[:, None], axis=1)[:, 0]
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - picked)
    z = z[:, 0]
    if work.loss == "binary_cross_entropy":
        return jnp.mean(jax.nn.softplus(z) - y * z)
    return jnp.mean((z - y) ** 2)


def _step(work: Workload, state: Any, x: jax.Array, y: jax.Array) -> Any:
    weights, first, second, count = state
    gradient = jax.grad(partial(_loss, work))(weights, x, y)
    count = count + 1
    if work.optimizer == "sgd":
        first = jax.tree.map(lambda v, g: MOMENTUM * v + g, first, gradient)
        weights = jax.tree.map(lambda p, v: p - work.learning_rate * v, weights, first)
        return weights, first, second, count
    first = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, first, gradient)
    second = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, second, gradient)
    root = jnp.sqrt(1 - BETA2**count)
    rate = work.learning_rate * root / (1 - BETA1**count)
    weights = jax.tree.map(
        lambda p, m, v: p - rate * m / (jnp.sqrt(v) + EPSILON * root), weights, first, second
    )
    return weights, first, second, count


def _epoch(work: Workload, state: Any, x: jax.Array, y: jax.Array, order: jax.Array) -> Any:
    def step(state: Any, rows: jax.Array) -> tuple[Any, None]:
        xb = x.at[rows].get(mode="promise_in_bounds")
        yb = y.at[rows].get(mode="promise_in_bounds")
        return _step(work, state, xb, yb), None

    state, _ = lax.scan(step, state, order.reshape(-1, work.batch))
    return state
