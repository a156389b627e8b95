"""What a busy machine does to training: every workload beside a process that never sleeps.

``python bench/busy.py [--json FILE]``. One competitor for each CPU, tied to it, does nothing but
count; they are stopped and let go in turns, and training goes on with the default threads. With
one competitor a core half of the machine is left, so a factor of 2 is what cannot be avoided;
waiting for threads that were put aside would cost orders of magnitude.

All run at ordinary priority, whatever the script was started with: beside a real-time process
competitors would not compete.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from typing import Any

from common import document, micro, options, table, write
from machine import usable_cpus
from workloads import GROUPS, WORKLOADS, Workload, make_data, shrink

import dnncore

LIMIT = 3.0
COUNT = "i = 0\nwhile True:\n    i += 1\n"


class Competitors:
    """One busy process for each CPU, all stopped until they are told to go."""

    def __init__(self) -> None:
        self.processes = []
        for cpu in sorted(os.sched_getaffinity(0)):
            process = subprocess.Popen([sys.executable, "-c", COUNT])
            os.sched_setaffinity(process.pid, {cpu})
            self.processes.append(process)
        self.tell(signal.SIGSTOP)

    def tell(self, what: signal.Signals) -> None:
        for process in self.processes:
            process.send_signal(what)
        time.sleep(0.05)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def trainer(work: Workload) -> Any:
    """Return a function that trains as many epochs as it is told."""
    hidden = [dnncore.Dense(width, work.activation) for width in work.sizes[1:-1]]
    net = dnncore.Network(
        work.sizes[0], [*hidden, dnncore.Dense(work.sizes[-1])], loss=work.loss, dtype=work.dtype
    )
    X, y = make_data(work)
    return lambda epochs: net.fit(X, y, epochs=epochs, batch_size=work.batch)


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    content = document("busy", asked, (usable_cpus(),))
    turns, least = (1, 0.0) if asked.smoke else (asked.turns, 0.3)
    competitors = Competitors()
    try:
        for name in GROUPS["table"]:
            work = shrink(WORKLOADS[name]) if asked.smoke else WORKLOADS[name]
            train = trainer(work)
            train(1)
            start = time.perf_counter()
            train(1)
            # Long enough for the system to have switched processes many times.
            epochs = max(1, round(least / (time.perf_counter() - start)))
            seconds: dict[str, list[float]] = {"quiet": [], "busy": []}
            for _ in range(turns):
                for state, word in (("quiet", signal.SIGSTOP), ("busy", signal.SIGCONT)):
                    competitors.tell(word)
                    start = time.perf_counter()
                    train(epochs)
                    seconds[state].append((time.perf_counter() - start) / epochs)
                competitors.tell(signal.SIGSTOP)
            each = {
                state: statistics.median(found) / work.steps_per_epoch
                for state, found in seconds.items()
            }
            content["rows"].append(
                {
                    "workload": work.to_dict(),
                    "us_quiet": 1e6 * each["quiet"],
                    "us_busy": 1e6 * each["busy"],
                    "slowdown": each["busy"] / each["quiet"],
                    "slowdown_by_turn": [
                        b / q for q, b in zip(seconds["quiet"], seconds["busy"], strict=True)
                    ],
                }
            )
    finally:
        competitors.close()
    return content


def render(content: dict[str, Any]) -> str:
    body = [
        [
            row["workload"]["name"],
            micro(row["us_quiet"]),
            micro(row["us_busy"]),
            f"{row['slowdown']:.2f}",
            f"{max(row['slowdown_by_turn']):.2f}",
        ]
        for row in content["rows"]
    ]
    return table(["microseconds a step", "quiet", "busy", "slow-down", "worst turn"], body)


def main() -> int:
    asked = options(__doc__).parse_args()
    if not hasattr(os, "sched_setaffinity"):
        raise SystemExit("bench/busy.py ties processes to CPUs, which this system cannot do.")
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    content = measure(asked)
    print(render(content))
    write(content, asked.json)
    slow = [row for row in content["rows"] if row["slowdown"] > LIMIT]
    return 1 if slow and not asked.smoke else 0


if __name__ == "__main__":
    raise SystemExit(main())
