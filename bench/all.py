"""Runs every benchmark, one after the other, and draws the charts.

``python bench/all.py NAME`` writes ``results/SCRIPT-NAME.json`` and ``.png``; NAME is what you call
the machine. ``--smoke`` runs everything in miniature into a temporary folder. Allow two hours on a
machine that does nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BENCH = Path(__file__).resolve().parent

SCRIPTS = {
    "versus": ["--contenders", "dnncore,numpy_loop,sklearn_mlp", "--threads", "1"],
    "predict": ["--contenders", "dnncore,numpy_loop", "--threads", "1"],
    "kernels": [],
    "scaling": [],
    "sharing": [],
    "sweep": [],
    "busy": [],
    "profile": ["--workloads", "tiny,digits"],
    "memory": [],
    "features": [],
    "functional": [],
    "sklearn_dropin": ["--workloads", "iris,sparse text,100k x 50"],
}
"""Scripts in their order, and what their smoke run is limited to."""

CHARTLESS = ("sharing", "memory", "features", "functional", "sklearn_dropin")


def run(*command: str) -> int:
    print("$ python", *command, flush=True)
    start = time.perf_counter()
    status = subprocess.run([sys.executable, *command], cwd=BENCH.parent, check=False).returncode
    print(f"  status {status}, {time.perf_counter() - start:.0f} s", flush=True)
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", default="smoke", help="what to call the machine")
    parser.add_argument("--only", default=",".join(SCRIPTS), help="scripts, comma-separated")
    parser.add_argument("--smoke", action="store_true", help="miniature sizes: does it run?")
    asked = parser.parse_args()
    if not asked.smoke and asked.name == "smoke":
        parser.error("say what to call the machine, for example: xeon-avx512")
    failed = []
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        folder = Path(scratch) if asked.smoke else Path("bench/results")
        for script in asked.only.split(","):
            out = str(folder / f"{script}-{asked.name}.json")
            more = ["--smoke", *SCRIPTS[script]] if asked.smoke else []
            if run(f"bench/{script}.py", "--json", out, *more):
                failed.append(script)
            elif script not in CHARTLESS and run("bench/plot.py", out):
                failed.append(f"the chart of {script}")
    if failed:
        print("failed:", ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
