"""Does a second thread pay? One thread against two, and against the default, over many networks.

``python bench/sharing.py [--json FILE]``: all rows of the table, and networks whose steps are near
the size from which threads share by default (``WORTH_SHARING`` in ``dnncore/_threads.py``): broad
and thin ones, deep ones, batches of few rows and of thousands, float64. It fails if the default is
below 0.95 of one thread anywhere. A turn goes through all networks, so that a slow second of the
machine touches a network in one of its turns only.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from common import document, micro, options, summary, table, take_turns, write
from machine import usable_cpus
from workloads import GROUPS, WORKLOADS, Workload, make_data, shrink

import dnncore

LEAST = 0.95
NEAR = (0.5e6, 1.2e6, 2.5e6, 5e6)
"""Multiply-adds of a step."""

SHAPES = {
    "2 x 32": ((32, 32, 32, 10), "relu"),
    "2 x 128": ((64, 128, 128, 10), "relu"),
    "2 x 512": ((512, 512, 512, 10), "relu"),
    "1 x 2048": ((64, 2048, 10), "relu"),
    "20 x 16": ((16, *[16] * 20, 4), "relu"),
    "20 x 64": ((64, *[64] * 20, 10), "relu"),
    "3 x 64 gelu": ((64, 64, 64, 64, 4), "gelu"),
    "2 x 16 tanh": ((2, 16, 16, 4), "tanh"),
    "no hidden layer": ((20, 3), "relu"),
}


def cases() -> Iterator[Workload]:
    """Yield what `fit` trains in the table, then each shape at the batches that give such steps."""
    for name in GROUPS["all"]:
        if WORKLOADS[name].kind == "train" and not WORKLOADS[name].by_call:
            yield WORKLOADS[name]
    for shape, (sizes, activation) in SHAPES.items():
        for dtype in ("float32", "float64"):
            batches = []
            for work in NEAR:
                row = Workload("", sizes, activation, "softmax_cross_entropy", 1, 1)
                batch = max(1, round(work / (3 * sum(row.weights))))
                if batch not in batches:
                    batches.append(batch)
                    n = batch * max(8, -(-32 // batch))
                    name = f"{shape}, {batch} {dtype}"
                    yield replace(row, name=name, batch=batch, n=n, dtype=dtype)


def ways(work: Workload) -> dict[str, Any]:
    """Return functions that train for an epoch, by number of threads."""
    x, y = make_data(work)
    rows = max(work.batch * (2 if sum(work.weights) * work.batch > 1e8 else 8), 32)
    x, y = x[:rows].copy(), y[:rows].copy()
    optimizer = "adam" if work.optimizer == "adam" else "sgd"
    found = {}
    for name, threads in (("1", 1), ("all", usable_cpus()), ("default", None)):
        hidden = [dnncore.Dense(width, work.activation) for width in work.sizes[1:-1]]
        net = dnncore.Network(
            work.sizes[0], [*hidden, dnncore.Dense(work.sizes[-1])], loss=work.loss,
            dtype=work.dtype,
        )  # fmt: skip
        # Epochs enough that what fit does once does not count.
        epochs = max(1, round(3e7 / (3 * len(x) * sum(work.weights))))
        found[name] = _epochs(net, x, y, epochs, work.batch, optimizer, threads)
    return found


def _epochs(net: Any, x: Any, y: Any, epochs: int, batch: int, optimizer: str, threads: Any) -> Any:
    return lambda: net.fit(
        x, y, epochs=epochs, batch_size=batch, optimizer=optimizer, n_threads=threads,
        verbose=False,
    )  # fmt: skip


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    from dnncore._threads import WORTH_SHARING, threads_for, training_work

    content = document("sharing", asked, (1, usable_cpus()), worth_sharing=WORTH_SHARING)
    chosen = [w for w in cases() if any(part in w.name for part in asked.only.split(","))]
    if asked.smoke:
        chosen = [shrink(work) for work in chosen[:4]]
    functions = {(work.name, way): f for work in chosen for way, f in ways(work).items()}
    turns, seconds = (1, 0.0) if asked.smoke else (asked.turns, 0.02)
    turned = take_turns(functions, turns, seconds=seconds)
    for work in chosen:
        found = {way: values for (name, way), values in turned.items() if name == work.name}
        size = 3.0 * work.batch * sum(work.weights)
        row: dict[str, Any] = {"name": work.name, "workload": work.to_dict(), "work": size}
        row["default_threads"] = threads_for(None, training_work(work.batch, sum(work.weights)))
        for way, values in found.items():
            row[way] = summary(values)
        row["speedup"] = min(found["1"]) / min(found["all"])
        # With one thread by default it is the same code, and a difference is noise.
        one = row["default_threads"] == 1
        row["of_one"] = 1.0 if one else min(found["1"]) / min(*found["all"], *found["default"])
        content["rows"].append(row)
    return content


def render(content: dict[str, Any]) -> str:
    body = [
        [
            row["name"],
            f"{row['work'] / 1e6:.2f}",
            micro(row["1"]["us"]),
            micro(row["all"]["us"]),
            f"{row['speedup']:.2f}",
            str(row["default_threads"]),
            f"{row['of_one']:.2f}",
        ]
        for row in content["rows"]
    ]
    header = ["network, batch", "million multiply-adds", "µs, 1 thread", "µs, all", "speed-up"]
    return table([*header, "default", "default of 1"], body)


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--only", default="", help="parts of names, comma-separated")
    asked = parser.parse_args()
    content = measure(asked)
    print(render(content))
    write(content, asked.json)
    slow = [row for row in content["rows"] if row["of_one"] < LEAST]
    return 1 if slow and not asked.smoke else 0


if __name__ == "__main__":
    raise SystemExit(main())
