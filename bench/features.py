"""What each feature adds to a training step, beside the cost of its arithmetic measured alone.

``python bench/features.py [--json FILE] [--only WORDS]``, on one thread. A case trains the same
network without and with a feature, in turns, inside the compiled loop; ``alone`` is the feature's
arithmetic as functions over arrays of the same size: kernels, for metrics the prediction and the
metric. A feature that takes the place of another one, as Adam does of SGD, is held to its own
arithmetic, with that of the other one added to the difference.

``ratio`` is the cost in the loop over the cost alone and should not be above 1.3. ``resolution`` is
what a difference of these two steps can be wrong by: how far the median of the turns of each lies
above its best one. A case fails if it is above 1.3 by more than that; what is cheaper than the
resolution is shown but proves nothing. Callbacks and schedules have no arithmetic to speak of; they
may cost 2 % of a step.

To add a case, add a line to ``cases``: shapes are chosen such that the feature is a large part of
the step.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from common import document, micro, options, summary, table, take_turns, write
from threadpoolctl import threadpool_limits

import dnncore as dnn
from dnncore import kernels, losses, metrics, schedules

LIMIT = 1.3
LIGHT = 0.02  # share of a step that callbacks and schedules may cost
EPOCHS = 4  # of a call of ``fit``, so that what it does once is a small part
LOSSES = {
    "mae": "mae",
    "huber": "huber",
    "log_cosh": "log_cosh",
    "poisson": "poisson",
    "gamma": "gamma",
    "tweedie": losses.Tweedie(1.5),
    "binary_cross_entropy": "binary_cross_entropy",
    "softmax_cross_entropy": "softmax_cross_entropy",
    "hinge": "hinge",
}


@dataclass
class Train:
    """A training: network, data, and options of ``fit``."""

    layers: list[Any]
    x: Any
    y: Any
    batch: int
    loss: Any = "mse"
    fit: dict[str, Any] = field(default_factory=dict)
    network: Any = None

    def __post_init__(self) -> None:
        self.network = dnn.Network(self.x.shape[1], self.layers, loss=self.loss, seed=0)

    @property
    def steps(self) -> int:
        return -(-len(self.x) // self.batch)

    def __call__(self, epochs: int = EPOCHS) -> None:
        given = {"optimizer": dnn.SGD(1e-6), "verbose": False, "n_threads": 1, **self.fit}
        self.network.fit(self.x, self.y, epochs=epochs, batch_size=self.batch, **given)

    def start(self) -> None:
        """Do what ``fit`` does once: check and convert the data."""
        self(epochs=0)


@dataclass
class Case:
    """A feature.

    Parameters
    ----------
    group, name : str
        What it is.
    without, with_ : Train
        The two trainings.
    alone : callable
        The feature's arithmetic.
    instead : callable, optional
        The arithmetic whose place it takes.
    around : callable, optional
        What ``alone`` cannot help doing beside the arithmetic; its time is taken off.
    per : int
        Steps that one call of ``alone`` does the arithmetic of.
    """

    group: str
    name: str
    without: Train
    with_: Train
    alone: Callable[[], Any]
    instead: Callable[[], Any] | None = None
    around: Callable[[], Any] | None = None
    per: int = 1


def cases(smoke: bool) -> Iterator[Case]:
    yield from activations(*((8, 4, 16) if smoke else (256, 4, 2048)))
    for where, width in ({"L2": 4} if smoke else {"L2": 256, "L3": 1024}).items():
        yield from optimizers(where, 8, width)
    yield from loss_functions(*((8, 4, 4) if smoke else (512, 4, 512)))
    yield from per_epoch(*((32, 8, 8) if smoke else (4096, 256, 1024)))


def activations(rows: int, n_in: int, width: int) -> Iterator[Case]:
    """Yield activations and dropout behind a wide layer, whose products are small."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8 * rows, n_in), dtype=np.float32)
    y = rng.standard_normal((8 * rows, 1), dtype=np.float32)
    z = rng.standard_normal((rows, width), dtype=np.float32)
    da, out = rng.standard_normal(z.shape, dtype=np.float32), np.empty_like(z)

    def train(*layers: Any) -> Train:
        return Train([*layers, dnn.Dense(1)], x, y, rows)

    for name in kernels.ACTIVATIONS:
        if name in ("identity", "softmax"):
            continue
        a = kernels.activation_forward(name, z)

        def alone(name: str = name, a: Any = a) -> None:
            kernels.activation_forward(name, z, out=a)
            kernels.activation_backward(name, da, z, a, out=out)

        without, with_ = train(dnn.Dense(width)), train(dnn.Dense(width, name))
        yield Case("activation", name, without, with_, alone)

    # There is no kernel of dropout: a network of little else, forward and backward.
    bare = dnn.Network(width, [dnn.Dense(1)], loss="mse")
    drop = dnn.Network(width, [dnn.Dropout(0.5), dnn.Dense(1)], loss="mse")

    def both(network: Any) -> Callable[[], None]:
        def run() -> None:
            network.forward(z)
            network.backward(y[:rows])

        return run

    yield Case(
        "layer", "dropout", train(dnn.Dense(width)), train(dnn.Dense(width), dnn.Dropout(0.5)),
        both(drop), around=both(bare),
    )  # fmt: skip


def optimizers(where: str, rows: int, width: int) -> Iterator[Case]:
    """Yield optimizers on many parameters, with few rows."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((16 * rows, width), dtype=np.float32)

    def train(optimizer: Any) -> Train:
        return Train([dnn.Dense(width)], x, x, rows, fit={"optimizer": optimizer})

    n = width * width + width
    w, g = (rng.standard_normal(n, dtype=np.float32) for _ in range(2))

    def update(kernel: str, **more: Any) -> Callable[[], None]:
        state = {key: np.zeros(n, np.float32) for key in kernels.OPTIMIZERS[kernel]}
        return lambda: kernels.optimizer_update(kernel, w, g, state, 10, lr=1e-9, **more)

    for name, optimizer in {
        "momentum": dnn.SGD(1e-6, momentum=0.9),
        "nesterov": dnn.SGD(1e-6, momentum=0.9, nesterov=True),
        **{
            kind.__name__: kind(1e-6)
            for kind in (dnn.RMSprop, dnn.Adam, dnn.AdamW, dnn.Nadam, dnn.RAdam, dnn.Adagrad,
                         dnn.Adadelta, dnn.Lion)
        },
        "SGD with l2": dnn.SGD(1e-6, l2=1e-3),
    }.items():  # fmt: skip
        more = {"l2": 1e-3} if name == "SGD with l2" else {}
        yield Case(
            f"optimizer, {where}", name, train(dnn.SGD(1e-6)), train(optimizer),
            update(optimizer.kernel, **more), update("sgd"),
        )  # fmt: skip


def loss_functions(rows: int, n_in: int, width: int) -> Iterator[Case]:
    """Yield losses of many outputs, label smoothing and sample weights."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8 * rows, n_in), dtype=np.float32)
    values = rng.integers(0, 2, (8 * rows, width)).astype(np.float32)
    labels = np.arange(8 * rows) % width
    z = rng.standard_normal((rows, width), dtype=np.float32)
    grad = np.empty_like(z)
    weight = rng.uniform(0.5, 1.5, 8 * rows).astype(np.float32)

    def train(loss: Any, y: Any, **fit: Any) -> Train:
        return Train([dnn.Dense(width)], x, y, rows, loss, fit)

    def kernel(loss: str, y: Any, weighted: bool = False, **more: Any) -> Callable[[], Any]:
        target = y[:rows].astype(np.int32) if y.ndim == 1 else y[:rows]
        sample = weight[:rows] if weighted else None
        return lambda: kernels.loss(loss, z, target, sample, grad_out=grad, **more)

    mse = kernel("mse", values)
    for name, loss in LOSSES.items():
        y = labels if name == "softmax_cross_entropy" else values
        if name in ("gamma", "tweedie"):
            y = values + 1
        more = {"parameter": 1.5} if name == "tweedie" else {}
        yield Case("loss", name, train("mse", values), train(loss, y), kernel(name, y, **more), mse)
    plain = "softmax_cross_entropy"
    yield Case(
        "loss", "label smoothing", train(plain, labels),
        train(losses.SoftmaxCrossEntropy(0.1), labels), kernel(plain, labels, parameter=0.1),
        kernel(plain, labels),
    )  # fmt: skip
    for name, y in ((plain, labels), ("mse", values)):
        yield Case(
            "sample weights", name, train(name, y), train(name, y, sample_weight=weight),
            kernel(name, y, weighted=True), kernel(name, y),
        )  # fmt: skip


def per_epoch(n: int, n_in: int, width: int) -> Iterator[Case]:
    """Yield what happens once an epoch or step, in Python: metrics, callbacks, schedules."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, n_in), dtype=np.float32)
    y = rng.integers(0, 10, n)
    batch = max(1, n // 16)

    def train(**fit: Any) -> Train:
        return Train(
            [dnn.Dense(width, "relu"), dnn.Dense(10)], x, y, batch, "softmax_cross_entropy", fit
        )

    twin = train()
    twin()
    proba = np.empty((n, 10), np.float32)
    target = y.astype(np.int32)

    def validated(metric: Callable[..., Any] | None, probabilities: bool = False) -> None:
        found = twin.network.predict_proba(x)
        kernels.loss("softmax_cross_entropy", found, target, grad_out=proba)
        if metric is not None:
            metric(y, found if probabilities else found.argmax(axis=1))

    steps = twin.steps
    data = {"validation_data": (x, y)}
    for name, asked, alone in (
        ("validation loss", [], lambda: validated(None)),
        ("validation accuracy", ["accuracy"], lambda: validated(metrics.accuracy)),
        ("validation F1", ["f1"], lambda: validated(metrics.f1)),
        ("validation log loss", ["log_loss"], lambda: validated(metrics.log_loss, True)),
    ):
        yield Case("each epoch", name, train(), train(metrics=asked, **data), alone, per=steps)
    best = twin.network.params.copy()

    def keep() -> None:
        best[...] = twin.network.params

    yield Case(
        "python", "early stopping, best kept", train(**data, metrics=["accuracy"]),
        train(**data, metrics=["accuracy"], callbacks=[dnn.EarlyStopping(patience=9)]),
        keep, per=steps,
    )  # fmt: skip
    nothing = dnn.LambdaCallback(on_epoch_end=lambda net, epoch, logs: None)
    yield Case(
        "python", "a callback each epoch", train(), train(callbacks=[nothing]),
        lambda: nothing.on_epoch_end(twin.network, 0, {}), per=steps,
    )  # fmt: skip
    rate = schedules.Cosine(1e-6, 10**6)
    yield Case(
        "python", "cosine schedule", train(), train(optimizer=dnn.SGD(rate)),
        lambda: rate.values(0, steps), per=steps,
    )  # fmt: skip


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    content = document("features", asked, limit=LIMIT)
    seconds, turns = (0.0, 1) if asked.smoke else (0.03, asked.turns)
    for case in cases(asked.smoke):
        if asked.only and not any(w in f"{case.group} {case.name}" for w in asked.only.split(",")):
            continue
        functions = {"without": case.without, "with": case.with_, "alone": case.alone}
        functions |= {"start without": case.without.start, "start with": case.with_.start}
        for name in ("instead", "around"):
            if (function := getattr(case, name)) is not None:
                functions[name] = function
        found = take_turns(functions, turns, seconds=seconds)
        for name in ("without", "with"):
            start = min(found.pop(f"start {name}"))
            found[name] = [(t - start) / (EPOCHS * case.with_.steps) for t in found[name]]
        found["alone"] = [t / case.per for t in found["alone"]]
        best = {name: 1e6 * min(values) for name, values in found.items()}
        cost = best["with"] - best["without"] + best.get("instead", 0.0)
        light = LIGHT * best["without"] if case.group == "python" else 0.0
        alone = best["alone"] - best.get("around", 0.0)
        resolution = sum(_spread(found[name]) for name in ("without", "with"))
        content["rows"].append(
            {
                "group": case.group,
                "feature": case.name,
                **{name: summary(values) for name, values in found.items()},
                "cost": cost,
                "resolution": resolution,
                "arithmetic": alone,
                "ratio": cost / alone,
                "ok": cost - resolution <= max(LIMIT * alone, light),
            }
        )
    return content


def _spread(values: list[float]) -> float:
    """Return how far the median of some turns is above the best, in microseconds."""
    return 1e6 * (statistics.median(values) - min(values))


def render(content: dict[str, Any]) -> str:
    body = [
        [
            f"{row['group']}: {row['feature']}",
            micro(row["without"]["us"]),
            micro(row["with"]["us"]),
            micro(row["cost"]),
            micro(row["arithmetic"]),
            micro(row["resolution"]),
            f"{row['ratio']:.2f}",
            "ok" if row["ok"] else "above",
        ]
        for row in content["rows"]
    ]
    header = [
        "microseconds a step",
        "without",
        "with",
        "cost",
        "alone",
        "resolution",
        "ratio",
        "verdict",
    ]
    return table(header, body)


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--only", default="", help="words in groups or names, comma-separated")
    asked = parser.parse_args()
    with threadpool_limits(1):
        content = measure(asked)
    print(render(content))
    write(content, asked.json)
    return 0 if asked.smoke or all(row["ok"] for row in content["rows"]) else 1


if __name__ == "__main__":
    sys.exit(main())
