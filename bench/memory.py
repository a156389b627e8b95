"""Memory of a fit: what ``summary()`` predicts against what the system sees.

``python bench/memory.py [--json FILE]``. Each network is built and trained in a process of its own,
whose resident size is taken before and at the end of each epoch (Linux: it reads ``/proc``). The
data are there before; they are not part of the prediction. glibc is told to give back what is
freed, as it does until it has seen larger blocks come and go; else the weights' drawing leaves a
gap behind.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import document, options, table, write
from machine import usable_cpus
from workloads import Workload, make_data, select, shrink

NAMES = "tabular,mnist-s,mnist-m,mnist-l,gelu,wide,mnist-m-f64"
MIB = 2**20
CLOSE, SMALL = 0.10, MIB // 4
"""How far the two may be apart."""


def resident() -> int:
    """Return the resident size of this process, page by page (``status`` may lag behind)."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return 1024 * int(line.split()[1])
    raise OSError("/proc/self/smaps_rollup does not tell Rss")


def serve(text: str) -> None:
    """Child side: trains one network and prints predicted and measured bytes."""
    import dnncore
    from dnncore._summary import fit_bytes

    work = Workload.from_dict(json.loads(text))
    X, y = make_data(work)
    X, y = X[: 4 * work.batch], y[: 4 * work.batch]

    def network(sizes: tuple[int, ...]) -> dnncore.Network:
        hidden = [dnncore.Dense(width, work.activation) for width in sizes[1:-1]]
        return dnncore.Network(
            sizes[0], [*hidden, dnncore.Dense(sizes[-1])], loss=work.loss, dtype=work.dtype
        )

    # Once in small, for what is imported and started at the first training.
    small = network((X.shape[1], 2, 2, work.sizes[-1]))
    small.fit(X[:8], y[:8], epochs=1, n_threads=usable_cpus())
    sizes = []
    look = dnncore.LambdaCallback(on_epoch_end=lambda *_: sizes.append(resident()))
    before = resident()
    net = network(work.sizes)
    # In some steps only has each thread had each kind of tile.
    net.fit(X, y, epochs=10, batch_size=work.batch, callbacks=[look])
    found = {"predicted": fit_bytes(net, work.batch), "measured": max(sizes) - before}
    print(json.dumps(found))


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    content = document("memory", asked, (usable_cpus(),))
    for work in asked.workloads:
        work = shrink(work) if asked.smoke else work
        done = subprocess.run(
            [sys.executable, __file__, "--serve", json.dumps(work.to_dict())],
            env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{work.name}: the process failed:\n{done.stderr}")
        found = json.loads(done.stdout)
        content["rows"].append(
            {"workload": work.to_dict(), **found, "ratio": found["measured"] / found["predicted"]}
        )
    return content


def render(content: dict[str, Any]) -> str:
    body = [
        [
            f"{row['workload']['name']}, batch {row['workload']['batch']}",
            f"{row['predicted'] / MIB:.1f}",
            f"{row['measured'] / MIB:.1f}",
            f"{row['ratio']:.2f}",
        ]
        for row in content["rows"]
    ]
    return table(["MiB", "summary()", "measured", "ratio"], body)


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--workloads", default=NAMES, help="names of workloads.py")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    asked.workloads = select(asked.workloads)
    if asked.serve:
        serve(asked.serve)
        return 0
    content = measure(asked)
    print(render(content))
    write(content, asked.json)
    far = [
        row
        for row in content["rows"]
        if abs(row["measured"] - row["predicted"]) > CLOSE * row["predicted"] + SMALL
    ]
    return 1 if far else 0


if __name__ == "__main__":
    raise SystemExit(main())
