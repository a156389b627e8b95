"""Test accuracy of the README's commands over several seeds: ``dnncore train`` as a user runs it.

python bench/accuracy.py --json bench/results/accuracy.json
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import machine

COMMANDS = {
    "digits": ["digits"],
    "fashion-mnist": ["fashion-mnist", "--hidden", "256,128"],
}
SCORE = re.compile(r"accuracy (\d\.\d+) on (\d+) rows; always answering .*: (\d\.\d+)")
SECONDS = re.compile(r"trained in (\d+\.\d+) s")


def train(command: list[str], seed: int) -> dict[str, float]:
    """Run one command with one seed, and read what it prints at the end."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "dnncore", "train", *command, "--seed", str(seed), "--no-plot",
             "--out", str(Path(folder) / "model.safetensors")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    score, seconds = SCORE.search(done.stdout), SECONDS.search(done.stdout)
    if done.returncode or score is None or seconds is None:
        raise SystemExit(f"dnncore train {' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return {
        "seed": seed,
        "accuracy": float(score[1]),
        "test_rows": int(score[2]),
        "baseline": float(score[3]),
        "seconds": float(seconds[1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits,fashion-mnist", help="names, comma-separated")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0, 1, ... (default: 5)")
    parser.add_argument("--json", type=Path, help="write all results here")
    options = parser.parse_args()
    results = {}
    for name in options.data.split(","):
        runs = [train(COMMANDS[name], seed) for seed in range(options.seeds)]
        scores = [run["accuracy"] for run in runs]
        results[name] = {"command": ["dnncore", "train", *COMMANDS[name]], "runs": runs}
        print(
            f"{name}: {scores[0]:.4f} with the default seed; "
            f"{min(scores):.4f} to {max(scores):.4f}, mean {statistics.mean(scores):.4f} "
            f"over {len(scores)} seeds"
        )
    if options.json:
        content = {"machine": machine.describe(), "results": results}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
