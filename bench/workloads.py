"""The workloads of the benchmarks: networks, data, first parameters and reference losses.

Everything a contender needs is made here once, from fixed seeds, and handed to all of them:
the same arrays, the same initial parameters. The losses that the benchmark compares are
computed here too, in float64, from the parameters that each contender gives back, so that no
contender is judged by its own arithmetic.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Parameters = list[tuple[Array, Array]]

MOMENTUM = 0.9
"""Momentum of the SGD rows (heavy ball, not Nesterov)."""

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Constants of Adam, the same for every contender."""

_TURN_FLOPS = 1e10
_MAX_EPOCHS_PER_TURN = 60


@dataclass(frozen=True)
class Workload:
    """One row of the table.

    Parameters
    ----------
    name : str
        Name of the row.
    sizes : tuple of int
        Width of the input, of each hidden layer, and of the output.
    activation : str
        Activation of the hidden layers: ``relu``, ``tanh`` or ``gelu`` (the erf form).
    loss : str
        ``softmax_cross_entropy``, ``binary_cross_entropy`` or ``mse``, averaged over the batch.
    batch, n : int
        Rows in a mini-batch and in the training set; ``batch`` divides ``n``.
    dtype : str
        ``float32`` or ``float64``.
    optimizer : str
        ``adam`` or ``sgd`` (with momentum).
    learning_rate : float
        Constant learning rate.
    kind : str
        ``train``: time of a training step. ``predict``: time of one call for ``batch`` rows.
    by_call : bool
        The caller owns the loop: it takes each batch out of its arrays and hands it over in a call.
    """

    name: str
    sizes: tuple[int, ...]
    activation: str
    loss: str
    batch: int
    n: int
    dtype: str = "float32"
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    kind: str = "train"
    by_call: bool = False

    def __post_init__(self) -> None:
        if self.n % self.batch:
            raise ValueError(f"{self.name}: batch {self.batch} does not divide n {self.n}.")

    @property
    def weights(self) -> list[int]:
        """Number of weights of each layer, biases left out."""
        return [a * b for a, b in zip(self.sizes[:-1], self.sizes[1:], strict=True)]

    @property
    def n_parameters(self) -> int:
        return sum(self.weights) + sum(self.sizes[1:])

    @property
    def steps_per_epoch(self) -> int:
        return self.n // self.batch

    @property
    def flops_per_step(self) -> int:
        """Arithmetic that a step cannot avoid.

        Training: 6 per weight and example (2 each for the forward product, ``dW`` and ``dX``),
        4 in the first layer, whose ``dX`` nobody needs. Prediction: 2.
        """
        if self.kind == "predict":
            return 2 * self.batch * sum(self.weights)
        return self.batch * (6 * sum(self.weights) - 2 * self.weights[0])

    @property
    def epochs_per_turn(self) -> int:
        """Epochs timed as one piece.

        So many that a processor which the pause before the turn has put to sleep, and what a call
        costs once, do not decide.
        """
        epochs = _TURN_FLOPS / (self.flops_per_step * self.steps_per_epoch)
        return max(1, min(_MAX_EPOCHS_PER_TURN, math.ceil(epochs)))

    def batches(self, rng: np.random.Generator, shuffle: bool) -> Iterator[Array]:
        """Yield the rows of each batch of an epoch, for contenders that own the loop."""
        order = rng.permutation(self.n) if shuffle else np.arange(self.n)
        yield from order.reshape(-1, self.batch)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Workload:
        return cls(**{**fields, "sizes": tuple(fields["sizes"])})


EXTRA_OF = ("digits", "tabular", "mnist-m")
"""Rows that also come in float64 and with SGD."""

CALLS_OF = ("tiny", "digits")
"""Rows that also come in calls of a batch each."""

VARIANTS = ("-f64", "-sgd", "-calls")
"""How the names of these end."""


def _table() -> dict[str, Workload]:
    ce = "softmax_cross_entropy"
    main = [
        Workload("tiny", (2, 16, 16, 1), "tanh", "binary_cross_entropy", 32, 3_200),
        Workload("digits", (64, 100, 10), "relu", ce, 200, 7_200),
        Workload("tabular", (54, 256, 256, 7), "relu", ce, 256, 15_360),
        Workload("mnist-s", (784, 128, 64, 10), "relu", ce, 64, 12_800),
        Workload("mnist-m", (784, 512, 512, 10), "relu", ce, 128, 7_680),
        Workload("mnist-l", (784, 1024, 1024, 10), "relu", ce, 512, 6_144),
        Workload("gelu", (128, 512, 512, 512, 1), "gelu", "mse", 256, 7_680),
        Workload("deep", (64, *[64] * 20, 10), "relu", ce, 128, 7_680),
        Workload("wide", (1024, 2048, 2048, 10), "relu", ce, 1_024, 6_144),
    ]
    rows = {work.name: work for work in main}
    for name in EXTRA_OF:
        rows[f"{name}-f64"] = replace(rows[name], name=f"{name}-f64", dtype="float64")
    for name in EXTRA_OF:
        rows[f"{name}-sgd"] = replace(
            rows[name], name=f"{name}-sgd", optimizer="sgd", learning_rate=0.02
        )
    for name in CALLS_OF:
        rows[f"{name}-calls"] = replace(rows[name], name=f"{name}-calls", by_call=True)
    rows["predict-1"] = Workload("predict-1", (64, 100, 10), "relu", ce, 1, 1_000, kind="predict")
    return rows


def _predictions() -> dict[str, Workload]:
    rows = {}
    for name, sizes in (("small", (64, 100, 10)), ("mnist-m", (784, 512, 512, 10))):
        for batch in (1, 16, 256, 4_096):
            key = f"{name} x {batch}"
            n = batch * max(1, min(1_000, 8_192 // batch))
            rows[key] = Workload(
                key, sizes, "relu", "softmax_cross_entropy", batch, n, kind="predict"
            )
    return rows


_TRAINING = _table()
_PREDICTIONS = _predictions()

WORKLOADS = {**_TRAINING, **_PREDICTIONS}
"""All rows by name, in the order of the tables."""

GROUPS = {
    "table": tuple(_TRAINING)[:9],
    "extra": tuple(_TRAINING)[9:],
    "all": tuple(_TRAINING),
    "predict": tuple(_PREDICTIONS),
}
"""Names that stand for several rows on the command line."""


def select(names: str) -> list[Workload]:
    """Return the workloads that a comma-separated list of names and groups stands for.

    Raises
    ------
    ValueError
        If a name is neither a workload nor a group.
    """
    chosen: dict[str, Workload] = {}
    for name in filter(None, (part.strip() for part in names.split(","))):
        if name not in GROUPS and name not in WORKLOADS:
            known = ", ".join([*GROUPS, *WORKLOADS])
            raise ValueError(f"unknown workload {name!r}; choose from {known}.")
        for row in GROUPS.get(name, (name,)):
            chosen[row] = WORKLOADS[row]
    return list(chosen.values())


def shrink(work: Workload) -> Workload:
    """Return a miniature of a workload, for smoke tests: narrow layers, two small batches."""
    sizes = tuple(min(size, 12) for size in work.sizes)
    batch = min(work.batch, 8)
    n = 16 if work.kind == "predict" else 2 * batch  # as many as are checked, and more than one
    return replace(work, sizes=sizes, batch=batch, n=n)


def _rng(work: Workload, purpose: str) -> np.random.Generator:
    # The variants of a row share its data and first parameters.
    base = work.name
    for ending in VARIANTS:
        base = base.removesuffix(ending)
    return np.random.default_rng(zlib.crc32(f"{base} {purpose}".encode()))


def make_data(work: Workload) -> tuple[Array, Array]:
    """Return ``X`` (n, n_in) and ``y`` (n,): labels or values of a noisy random teacher.

    The noise keeps the loss away from zero, so that relative differences mean something.
    """
    rng = _rng(work, "data")
    n_in, n_out = work.sizes[0], work.sizes[-1]
    x = rng.standard_normal((work.n, n_in), dtype=np.float32)
    if work.loss == "softmax_cross_entropy":
        scores = x @ rng.standard_normal((n_in, n_out), dtype=np.float32) / math.sqrt(n_in)
        y = np.argmax(scores + 0.5 * rng.gumbel(size=scores.shape), axis=1).astype(np.int64)
        y[:n_out] = np.arange(n_out)[: work.n]  # every class occurs, whatever the size
    elif work.loss == "binary_cross_entropy":
        flip = rng.random(work.n) < 0.1
        y = ((np.sin(2.0 * x[:, 0]) > x[:, 1]) ^ flip).astype(np.int64)
        y[:2] = 0, 1
    else:
        slope = rng.standard_normal(n_in, dtype=np.float32) / math.sqrt(n_in)
        y = np.sin(2.0 * (x @ slope)) + 0.3 * rng.standard_normal(work.n)
        y = y.astype(work.dtype)
    return np.ascontiguousarray(x, dtype=work.dtype), y


def make_parameters(work: Workload) -> Parameters:
    """Return the first ``(W (n_in, n_out), b (n_out,))`` of each layer: He or Glorot normal."""
    rng = _rng(work, "parameters")
    result = []
    for fan_in, fan_out in zip(work.sizes[:-1], work.sizes[1:], strict=True):
        variance = 2.0 / (fan_in if work.activation == "relu" else fan_in + fan_out)
        w = rng.standard_normal((fan_in, fan_out), dtype=np.float32) * math.sqrt(variance)
        result.append((w.astype(work.dtype), np.zeros(fan_out, work.dtype)))
    return result


def logits(work: Workload, parameters: Parameters, x: Array) -> Array:
    """Return the network's output before the loss's link (n, n_out), in float64."""
    a = x.astype(np.float64)
    for layer, (w, b) in enumerate(parameters):
        a = a @ w.astype(np.float64) + b.astype(np.float64)
        if layer + 1 < len(parameters):
            a = _activate(work.activation, a)
    return a


def _activate(name: str, z: Array) -> Array:
    if name == "relu":
        return np.maximum(z, 0.0)
    if name == "tanh":
        return np.tanh(z)
    if name == "gelu":
        from scipy.special import erf

        return np.asarray(0.5 * z * (1.0 + erf(z * math.sqrt(0.5))))
    raise ValueError(f"unknown activation {name!r}.")


def probabilities(work: Workload, parameters: Parameters, x: Array) -> Array:
    """Return softmax probabilities (n, n_out), in float64."""
    z = logits(work, parameters, x)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def reference_loss(work: Workload, parameters: Parameters, x: Array, y: Array) -> float:
    """Return the mean loss over ``x`` and ``y``, in float64."""
    z = logits(work, parameters, x)
    if work.loss == "softmax_cross_entropy":
        top = z.max(axis=1)
        log_sum = top + np.log(np.exp(z - top[:, None]).sum(axis=1))
        return float(np.mean(log_sum - z[np.arange(len(y)), y]))
    z = z[:, 0]
    if work.loss == "binary_cross_entropy":
        return float(np.mean(np.logaddexp(0.0, z) - y * z))
    return float(np.mean((z - y) ** 2))


def save_parameters(path: str, parameters: Parameters) -> None:
    """Write parameters as ``W0, b0, W1, b1, ...`` to an npz file."""
    arrays: dict[str, Any] = {}
    for layer, (w, b) in enumerate(parameters):
        arrays[f"W{layer}"], arrays[f"b{layer}"] = w, b
    np.savez(path, **arrays)


def load_parameters(path: str) -> Parameters:
    """Read what `save_parameters` wrote."""
    with np.load(path) as stored:
        return [(stored[f"W{i}"], stored[f"b{i}"]) for i in range(len(stored.files) // 2)]
