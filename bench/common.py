"""What the benchmark scripts share: options, taking turns, and the JSON they write."""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from machine import describe

SCHEMA = 1
Key = TypeVar("Key", bound=Hashable)

BUILD = (
    *("dnncore", "numpy", "scipy", "cython (build)", "compiler", "native build", "debug build"),
    *("simd level", "matrix products"),
)
"""What a reader wants to know of ``show_versions``; no paths."""


def options(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that every script has; ``doc`` is its docstring."""
    parser = argparse.ArgumentParser(
        description=(doc or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--json", type=Path, help="write all results here")
    parser.add_argument("--turns", type=int, default=7, help="timed turns of each; the best counts")
    parser.add_argument("--smoke", action="store_true", help="miniature sizes: does it run?")
    return parser


def take_turns(
    functions: Mapping[Key, Callable[[], Any]], turns: int, *, seconds: float, settle: float = 0.0
) -> dict[Key, list[float]]:
    """Return the seconds a call of each function takes, one figure a turn.

    Functions work one at a time, A B C A B C, and are called as often in a turn as fills
    ``seconds``; ``settle`` is a pause before each turn, in which others' threads go to sleep.
    """
    repeats = {}
    for name, function in functions.items():
        function()
        start = time.perf_counter()
        function()
        once = time.perf_counter() - start
        repeats[name] = max(1, round(seconds / max(once, 1e-7)))
    found: dict[Key, list[float]] = {name: [] for name in functions}
    for _ in range(turns):
        for name, function in functions.items():
            if settle:
                time.sleep(settle)
            function()  # brings its data and code back into cache
            start = time.perf_counter()
            for _ in range(repeats[name]):
                function()
            found[name].append((time.perf_counter() - start) / repeats[name])
    return found


def summary(seconds: list[float]) -> dict[str, float]:
    """Return the best and the median of some turns, in microseconds."""
    return {
        "us": round(1e6 * min(seconds), 4),
        "us_median": round(1e6 * statistics.median(seconds), 4),
    }


def document(
    script: str, asked: argparse.Namespace, threads: tuple[int, ...] = (1,), **settings: Any
) -> dict[str, Any]:
    """Return the head of a script's JSON: what ran, when, and on which machine."""
    import contextlib
    import io

    import dnncore

    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        dnncore.show_versions()
    lines = [line.partition("  ") for line in shown.getvalue().splitlines()]
    return {
        "schema": SCHEMA,
        "script": script,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "smoke": asked.smoke,
        "machine": describe(threads, 0.01 if asked.smoke else 0.3),
        "dnncore": {key: value.strip() for key, _, value in lines if key in BUILD},
        "settings": {"threads": list(threads), "turns": asked.turns, **settings},
        "rows": [],
    }


def write(content: dict[str, Any], path: Path | None) -> None:
    """Write a script's JSON, if a path was given."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")


def table(header: list[str], body: list[list[str]]) -> str:
    """Return a Markdown table, the first column to the left and the others to the right."""
    widths = [max(len(line[i]) for line in [header, *body]) for i in range(len(header))]

    def line(cells: list[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return "| " + " | ".join([first, *rest]) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(header), "| " + " | ".join(rule) + " |", *map(line, body)])


def micro(value: float | None) -> str:
    """Write microseconds with three digits that mean something."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
