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

A few rows are not of differences: their whole step is held to all of its arithmetic. ``--add``
puts rows into a JSON that is there already, in the place of those of the same name.

To add a case, see ``feature_cases.py``: shapes are chosen such that the feature is a large part of
the step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import Any

from common import document, micro, options, summary, table, take_turns, write
from feature_cases import cases
from threadpoolctl import threadpool_limits

LIMIT = 1.3
LIGHT = 0.02  # share of a step that callbacks and schedules may cost


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    content = document("features", asked, limit=LIMIT)
    seconds, turns = (0.0, 1) if asked.smoke else (0.03, asked.turns)
    for case in cases(asked.smoke):
        if asked.only and not any(w in f"{case.group} {case.name}" for w in asked.only.split(",")):
            continue
        functions = {"with": case.with_, "start with": case.with_.start, "alone": case.alone}
        if case.without is not None:
            functions |= {"without": case.without, "start without": case.without.start}
        for name in ("instead", "around"):
            if (function := getattr(case, name)) is not None:
                functions[name] = function
        found = take_turns(functions, turns, seconds=seconds)
        trained = ("with",) if case.without is None else ("without", "with")
        for name in trained:
            start = min(found.pop(f"start {name}"))
            steps = case.with_.epochs * case.with_.steps
            found[name] = [(t - start) / steps for t in found[name]]
        found["alone"] = [t / case.per for t in found["alone"]]
        best = {name: 1e6 * min(values) for name, values in found.items()}
        cost = best["with"] - best.get("without", 0.0) + best.get("instead", 0.0)
        light = LIGHT * best["without"] if case.group == "python" else 0.0
        alone = best["alone"] - best.get("around", 0.0)
        resolution = sum(_spread(found[name]) for name in trained)
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
            micro(row["without"]["us"] if "without" in row else None),
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
    parser.add_argument("--add", action="store_true", help="add rows to the file of --json")
    asked = parser.parse_args()
    with threadpool_limits(1):
        content = measure(asked)
    print(render(content))
    if asked.add and asked.json is not None and asked.json.exists():
        older = json.loads(asked.json.read_text())
        new = {(row["group"], row["feature"]): row for row in content["rows"]}
        rows = [new.pop((row["group"], row["feature"]), row) for row in older["rows"]]
        write(older | {"rows": [*rows, *new.values()]}, asked.json)
    else:
        write(content, asked.json)
    return 0 if asked.smoke or all(row["ok"] for row in content["rows"]) else 1


if __name__ == "__main__":
    sys.exit(main())
