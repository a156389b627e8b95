"""How the cost of training grows with batch, width, depth, examples and threads.

``python bench/scaling.py [--json FILE]``. One of these varies at a time, around the network
64-256-256-10 with batches of 128 (float32, Adam); a point is the best of several turns of whole
epochs, all points of a curve taking turns, for one thread and for the default number.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from common import document, micro, options, summary, table, take_turns, write
from machine import usable_cpus

import dnncore

BASE = {"batch": 128, "width": 256, "depth": 2, "examples": 8_192}
CURVES = {
    "batch": [1, 4, 16, 32, 64, 128, 256, 512, 1024, 4096],
    "width": [4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048],
    "depth": [1, 2, 4, 8, 16, 32],
    "examples": [1_024, 8_192, 65_536, 524_288],
}
N_IN, N_OUT = 64, 10


def flops_per_example(point: dict[str, int]) -> int:
    """Return the arithmetic that nobody can avoid: 6 a weight, 4 in the first layer."""
    sizes = [N_IN, *[point["width"]] * point["depth"], N_OUT]
    weights = [a * b for a, b in zip(sizes[:-1], sizes[1:], strict=True)]
    return 6 * sum(weights) - 2 * weights[0]


def trainer(point: dict[str, int], data: Any, threads: int | None) -> Any:
    """Return a function that trains one epoch."""
    hidden = [dnncore.Dense(point["width"], "relu") for _ in range(point["depth"])]
    net = dnncore.Network(N_IN, [*hidden, dnncore.Dense(N_OUT)], seed=0)
    X, y = data[0][: point["examples"]], data[1][: point["examples"]]
    return lambda: net.fit(X, y, epochs=1, batch_size=point["batch"], n_threads=threads)


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    curves, base, turns = CURVES, BASE, asked.turns
    if asked.smoke:
        curves = {name: values[:2] for name, values in CURVES.items()}
        curves["examples"] = [16, 32]
        base, turns = {"batch": 8, "width": 8, "depth": 2, "examples": 16}, 1
    counts = (1, usable_cpus()) if usable_cpus() > 1 else (1,)
    content = document("scaling", asked, counts, base=base, n_in=N_IN, n_out=N_OUT)
    rng = np.random.default_rng(0)
    most = max(base["examples"], *curves["examples"])
    data = rng.standard_normal((most, N_IN), dtype=np.float32), rng.integers(0, N_OUT, most)
    for name, values in curves.items():
        points = [{**base, name: value} for value in values]
        for point in points:  # an epoch of few large steps, or of many small ones, not of hours
            if name == "batch":
                most = 256 * point["batch"]
                point["examples"] = min(max(base["examples"], 4 * point["batch"]), most)
        functions = {
            f"{i} {threads}": trainer(point, data, None if threads > 1 else 1)
            for i, point in enumerate(points)
            for threads in counts
        }
        found = take_turns(functions, turns, seconds=0.0 if asked.smoke else 0.02)
        for i, point in enumerate(points):
            steps = -(-point["examples"] // point["batch"])
            row: dict[str, Any] = {"curve": name, "value": point[name], **point, "steps": steps}
            for threads in counts:
                seconds = found[f"{i} {threads}"]
                row[f"threads {threads}"] = {
                    **summary([s / steps for s in seconds]),
                    "gflops": flops_per_example(point) * point["examples"] / min(seconds) / 1e9,
                    "ns_per_example": 1e9 * min(seconds) / point["examples"],
                }
            content["rows"].append(row)
    return content


def render(content: dict[str, Any]) -> str:
    counts = content["settings"]["threads"]
    parts = []
    for name in CURVES:
        rows = [row for row in content["rows"] if row["curve"] == name]
        header = [name]
        for threads in counts:
            label = "1 thread" if threads == 1 else f"default of {threads}"
            header += [f"µs a step, {label}", "GF/s"]
        header.append("ns an example")
        body = []
        for row in rows:
            line = [f"{row['value']:,}"]
            for threads in counts:
                cell = row[f"threads {threads}"]
                line += [micro(cell["us"]), f"{cell['gflops']:.1f}"]
            best = min(row[f"threads {t}"]["ns_per_example"] for t in counts)
            body.append([*line, f"{best:,.1f}"])
        parts.append(table(header, body))
    return "\n\n".join(parts)


def main() -> None:
    asked = options(__doc__).parse_args()
    content = measure(asked)
    print(render(content))
    write(content, asked.json)


if __name__ == "__main__":
    main()
