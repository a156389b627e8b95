"""dnncore against its peers: microseconds a training step, honestly measured.

``python bench/versus.py`` runs every workload of ``workloads.py`` with every contender of
``peers`` at 1 and 2 threads, each in a process of its own. One runs at a time, in turns
(A B C A B C), so that a machine that slows down slows everybody; a cell of the table is the best
turn. With ``--rounds`` all rows are measured again and the turns put together. ``README.md`` beside
this file tells the method, and how to add a peer.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import report
import rounds
from contenders import ContenderError, Lane, available
from machine import describe, load_average, usable_cpus
from peak import PeakProbe
from workloads import (
    GROUPS,
    Array,
    Workload,
    load_parameters,
    make_data,
    make_parameters,
    probabilities,
    reference_loss,
    save_parameters,
    select,
    shrink,
)

SCHEMA = 1
PREDICT_FLOPS = 1e8
PREDICT_ROWS = 8


@dataclass
class Options:
    threads: tuple[int, ...]
    turns: int
    settle: float
    timeout: float
    verbose: bool
    probe_seconds: float


@dataclass
class Run:
    """A lane with what it has shown so far."""

    name: str
    threads: int
    lane: Lane | None = None
    seconds: list[float] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)

    def fail(self, error: ContenderError) -> None:
        self.result["error"], self.result["missing"] = str(error), error.missing
        print(f"  {self.name} x{self.threads}: {error}", file=sys.stderr)
        self.close()

    def close(self) -> None:
        if self.lane is not None:
            self.lane.close()
            self.lane = None


def run_workload(
    work: Workload, names: list[str], options: Options, probe: PeakProbe
) -> dict[str, Any]:
    """Measure one workload with all contenders and return its row."""
    print(f"{work.name}", file=sys.stderr)
    runs = [Run(name, threads) for threads in options.threads for name in names]
    x, y = make_data(work)
    parameters = make_parameters(work)
    row: dict[str, Any] = {
        "workload": work.to_dict(),
        "flops_per_step": work.flops_per_step,
        "steps_per_epoch": work.steps_per_epoch,
        "epochs_per_turn": work.epochs_per_turn,
        "loss_initial": reference_loss(work, parameters, x, y),
        "control_gflops": {
            str(t): round(probe.measure(t, work.dtype, options.probe_seconds), 1)
            for t in options.threads
        },
    }
    row["rounds"] = [
        {
            "started": now(),
            "load_average": load_average(),
            "control_gflops": row["control_gflops"],
        }
    ]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        data, start = str(Path(folder, "data.npz")), str(Path(folder, "start.npz"))
        np.savez(data, X=x, y=y)
        save_parameters(start, parameters)
        try:
            for run in runs:
                time.sleep(options.settle)
                _attempt(run, options, _set_up, work, data, start)
            for turn in range(options.turns):
                for run in runs:
                    time.sleep(options.settle if run.lane else 0.0)
                    _attempt(run, options, _take_turn, work)
                print(f"  turn {turn + 1} of {options.turns}", file=sys.stderr)
            for run in runs:
                _attempt(run, options, _finish, work, x, y, folder)
        finally:
            for run in runs:
                run.close()
    row["results"] = [_result(run, work) for run in runs]
    if work.kind == "train":
        row["agreement"] = report.agreement(work.dtype, row["loss_initial"], row["results"])
    return row


def _attempt(run: Run, options: Options, action: Any, *arguments: Any) -> None:
    if "error" in run.result:
        return
    try:
        if run.lane is None:
            run.lane = Lane(run.name, run.threads, timeout=options.timeout, verbose=options.verbose)
        action(run, run.lane, *arguments)
    except ContenderError as error:
        run.fail(error)


def _set_up(run: Run, lane: Lane, work: Workload, data: str, start: str) -> None:
    """Import, build, first epoch: what a user waits for before training is at full speed."""
    answer = lane.ask(
        "setup", workload=work.to_dict(), data=data, parameters=start, threads=run.threads
    )
    if work.kind == "train":
        # In the given order, so that all contenders must arrive at the same loss.
        first = lane.ask("epoch", count=1, shuffle=False)["seconds"]
        lane.ask("parameters", path=f"{start}.{run.name}.{run.threads}.npz")
        run.result["first_epoch_parameters"] = f"{start}.{run.name}.{run.threads}.npz"
    else:
        first = lane.ask("predict", calls=1)["seconds"]
    imported, built = answer["import_seconds"], answer["build_seconds"]
    run.result |= {
        "stand_in": answer["stand_in"],
        "versions": answer["versions"],
        "pools": answer["pools"],
        "first_call_seconds": {
            "import": round(imported, 4),
            "build": round(built, 4),
            "first": round(first, 4),
            "total": round(imported + built + first, 4),
        },
    }


def _take_turn(run: Run, lane: Lane, work: Workload) -> None:
    if work.kind == "train":
        answer = lane.ask("epoch", count=work.epochs_per_turn, shuffle=True)
        run.seconds.append(answer["seconds"] / answer["steps"])
    else:
        calls = round(PREDICT_FLOPS / work.flops_per_step)
        answer = lane.ask("predict", calls=min(1_000, max(5, calls)))
        run.seconds.append(answer["seconds"] / answer["calls"])


def _finish(run: Run, lane: Lane, work: Workload, x: Array, y: Array, folder: str) -> None:
    """Judge what the contender has learnt; its answers are checked here, not by itself."""
    if work.kind == "predict":
        given = np.array(lane.ask("probabilities", rows=PREDICT_ROWS)["probabilities"])
        expected = probabilities(work, make_parameters(work), x[:PREDICT_ROWS])
        if given.shape != expected.shape or not np.allclose(given, expected, rtol=0, atol=1e-5):
            raise ContenderError("wrong probabilities")
        run.close()
        return
    path = str(Path(folder, "final.npz"))
    lane.ask("parameters", path=path)
    run.close()
    first = load_parameters(run.result.pop("first_epoch_parameters"))
    run.result["loss_first_epoch"] = reference_loss(work, first, x, y)
    run.result["loss_final"] = reference_loss(work, load_parameters(path), x, y)


def _result(run: Run, work: Workload) -> dict[str, Any]:
    result: dict[str, Any] = {
        "contender": run.name,
        "threads": run.threads,
        "us_per_step": None,
        "error": None,
        **run.result,
    }
    result.pop("first_epoch_parameters", None)
    if run.seconds and result["error"] is None:
        result |= rounds.timed([1e6 * s for s in run.seconds], work.flops_per_step)
    return result


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--workloads", default="all", help=f"comma-separated names or {', '.join(GROUPS)}"
    )
    parser.add_argument(
        "--contenders", default=None, help=f"comma-separated, of {', '.join(available())}"
    )
    parser.add_argument("--threads", default=None, help="comma-separated thread counts; 1,2")
    parser.add_argument(
        "--epochs", type=int, default=None, help="timed turns of each in a round; 7"
    )
    parser.add_argument("--rounds", type=int, default=1, help="times to measure all rows")
    parser.add_argument("--json", type=Path, default=None, help="write all results here")
    parser.add_argument("--settle", type=float, default=0.25, help="pause before a turn, seconds")
    parser.add_argument("--timeout", type=float, default=900.0, help="longest request, seconds")
    parser.add_argument("--smoke", action="store_true", help="miniature sizes: does it run?")
    parser.add_argument("--verbose", action="store_true", help="show what contenders print")
    options = parser.parse_args(arguments)
    try:
        options.workloads = select(options.workloads)
        options.contenders, options.named = _names(options.contenders)
        options.threads = _threads(options.threads)
        if options.rounds < 1:
            raise ValueError(f"rounds must be at least 1; got {options.rounds}.")
    except ValueError as error:
        parser.error(str(error))
    options.epochs = options.epochs or (1 if options.smoke else 7)
    if options.smoke:
        options.workloads = [shrink(work) for work in options.workloads]
        options.settle = 0.0
    return options


def _names(text: str | None) -> tuple[list[str], bool]:
    known = available()
    if text is None:
        return known, False
    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        if name not in known:
            raise ValueError(f"unknown contender {name!r}; choose from {', '.join(known)}.")
    return names, True


def _threads(text: str | None) -> tuple[int, ...]:
    limit = usable_cpus()
    if text is None:
        return tuple(t for t in (1, 2) if t <= limit)
    counts = [int(part) for part in text.split(",")]
    for count in counts:
        if not 1 <= count <= limit:
            raise ValueError(f"threads must lie between 1 and this machine's {limit}; got {count}.")
    return tuple(counts)


def main(arguments: list[str] | None = None) -> int:
    asked = parse(arguments)
    probe_seconds = 0.01 if asked.smoke else 0.1
    options = Options(
        asked.threads, asked.epochs, asked.settle, asked.timeout, asked.verbose, probe_seconds
    )
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "started": now(),
        "smoke": asked.smoke,
        "machine": describe(asked.threads, probe_seconds),
        "settings": {
            "contenders": asked.contenders,
            "threads": list(asked.threads),
            "turns": asked.epochs,
            "settle_seconds": asked.settle,
            "first_tolerance": report.FIRST_TOLERANCE,
            "final_tolerance": report.FINAL_TOLERANCE,
        },
        "rows": [],
    }
    probe = PeakProbe()
    rows: dict[str, dict[str, Any]] = {}
    for work in asked.workloads * asked.rounds:
        row = run_workload(work, asked.contenders, options, probe)
        rows[work.name] = rounds.join(rows[work.name], row) if work.name in rows else row
        document["rows"] = list(rows.values())
        report.summarise(document)
        if asked.json is not None:  # after every row: an interrupted run keeps what it has
            asked.json.parent.mkdir(parents=True, exist_ok=True)
            asked.json.write_text(json.dumps(document, indent=1) + "\n")
    print(report.render(document))
    return 1 if report.problems(document, missing_is_fine=not asked.named) else 0


if __name__ == "__main__":
    sys.exit(main())
