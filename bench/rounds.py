"""Puts together what the rounds of ``versus.py`` found of a row.

A machine that is slowed down is so for seconds to minutes, about as long as all turns of a row
take. Further rounds come back to every row after all others.
"""

from __future__ import annotations

import statistics
from typing import Any


def timed(micro: list[float], flops: float) -> dict[str, Any]:
    """Return what the turns of a contender come to, from microseconds a step."""
    return {
        "us_per_step": min(micro),
        "us_per_step_median": statistics.median(micro),
        "us_per_step_turns": [round(m, 3) for m in micro],
        "gflops": flops / min(micro) / 1e3,
    }


def join(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the turns of both; whoever failed in one of them has failed.

    First calls and losses are those of the earlier one, unless losses differ in the later one. The
    control is the higher of the two: shares of the peak are held to the strictest.
    """
    row = earlier | {
        "rounds": earlier["rounds"] + later["rounds"],
        "control_gflops": {
            threads: max(rate, later["control_gflops"][threads])
            for threads, rate in earlier["control_gflops"].items()
        },
        "results": [
            _join_results(*pair) for pair in zip(earlier["results"], later["results"], strict=True)
        ],
    }
    if "agreement" in earlier:
        row["agreement"] = {
            key: later["agreement"][key] if check["agree"] else check
            for key, check in earlier["agreement"].items()
        }
    return row


def _join_results(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    if earlier["error"] is not None or later["error"] is not None:
        return earlier if earlier["error"] is not None else later
    # Turns are rounded, the best one of each round is not.
    best = min(earlier, later, key=lambda result: result["us_per_step"])
    turns = earlier["us_per_step_turns"] + later["us_per_step_turns"]
    return earlier | {
        "us_per_step": best["us_per_step"],
        "us_per_step_median": statistics.median(turns),
        "us_per_step_turns": turns,
        "gflops": best["gflops"],
    }
