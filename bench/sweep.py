"""Networks trained per second: ``fit_many`` against one after the other.

``python bench/sweep.py [--json FILE]``. The same networks, which differ by their seed, are trained
and in each turn go on: in a loop over ``fit`` with one thread, in a loop with the default number of
threads, and by ``fit_many``. All must end with the same bits.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
from collections.abc import Callable
from typing import Any

from common import document, options, table, take_turns, write
from machine import usable_cpus
from peak import PeakProbe
from workloads import WORKLOADS, Workload, make_data, shrink

import dnncore

EPOCHS = {"tiny": 20, "digits": 10, "tabular": 2, "mnist-s": 1, "mnist-m": 1}
"""Rows of the table, and epochs that a network is trained for."""


def build(work: Workload, seed: int) -> dnncore.Network:
    hidden = [dnncore.Dense(width, work.activation) for width in work.sizes[1:-1]]
    layers = [*hidden, dnncore.Dense(work.sizes[-1])]
    return dnncore.Network(work.sizes[0], layers, loss=work.loss, dtype=work.dtype, seed=seed)


def fingerprint(networks: list[dnncore.Network]) -> str:
    digest = hashlib.sha256()
    for network in networks:
        digest.update(network.params.tobytes())
    return digest.hexdigest()[:16]


def ways(
    work: Workload, count: int, epochs: int
) -> tuple[dict[str, Callable[[], Any]], dict[str, list[dnncore.Network]]]:
    """Return each way to train as many networks, and the networks that it trains."""
    x, y = make_data(work)
    settings = {"epochs": epochs, "batch_size": work.batch, "optimizer": dnncore.Adam(1e-3)}
    groups = {
        name: [build(work, seed) for seed in range(count)]
        for name in ("one by one, 1 thread", "one by one, default", "fit_many")
    }

    def loop(name: str, **more: Any) -> Callable[[], None]:
        def run() -> None:
            for network in groups[name]:
                network.fit(x, y, **settings, **more)

        return run

    def together() -> None:
        dnncore.fit_many(groups["fit_many"], x, y, **settings)

    functions = {
        "one by one, 1 thread": loop("one by one, 1 thread", n_threads=1),
        "one by one, default": loop("one by one, default"),
        "fit_many": together,
    }
    return functions, groups


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    counts = (1, usable_cpus()) if usable_cpus() > 1 else (1,)
    content = document("sweep", asked, counts, networks=asked.networks)
    probe = PeakProbe()
    for name in asked.workloads.split(","):
        epochs = EPOCHS[name]
        work = shrink(WORKLOADS[name]) if asked.smoke else WORKLOADS[name]
        count = 3 if asked.smoke else asked.networks
        functions, groups = ways(work, count, epochs)
        found = take_turns(functions, 1 if asked.smoke else asked.turns, seconds=0.0)
        one = found["one by one, 1 thread"]
        row: dict[str, Any] = {"workload": work.to_dict(), "epochs": epochs, "networks": count}
        row["networks_per_second"] = {k: count / min(turns) for k, turns in found.items()}
        row["speedup"] = min(one) / min(found["fit_many"])
        row["speedup_median"] = statistics.median(
            a / b for a, b in zip(one, found["fit_many"], strict=True)
        )
        row["same_bits"] = len({fingerprint(group) for group in groups.values()}) == 1
        seconds = 0.01 if asked.smoke else 0.3
        peaks = [probe.measure(t, work.dtype, seconds) for t in counts]
        row["speedup_of_peak"] = peaks[-1] / peaks[0]
        content["rows"].append(row)
    return content


def render(content: dict[str, Any]) -> str:
    body = []
    for row in content["rows"]:
        rates = row["networks_per_second"]
        body.append(
            [
                f"{row['workload']['name']}, {row['epochs']} epochs",
                *(f"{rate:,.1f}" for rate in rates.values()),
                f"{row['speedup']:.2f}",
                f"{row['speedup_median']:.2f}",
                f"{row['speedup_of_peak']:.2f}",
                "same" if row["same_bits"] else "DIFFER",
            ]
        )
    header = ["networks a second", *content["rows"][0]["networks_per_second"]]
    header += ["fit_many / 1 thread", "median", "arithmetic alone", "bits"]
    return table(header, body)


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--networks", type=int, default=16, help="networks to train")
    parser.add_argument("--workloads", default=",".join(EPOCHS), help="rows by name")
    asked = parser.parse_args()
    content = measure(asked)
    print(render(content))
    write(content, asked.json)
    return 0 if all(row["same_bits"] for row in content["rows"]) else 1


if __name__ == "__main__":
    raise SystemExit(main())
