"""Turns the JSON of ``versus.py`` into ratios and tables.

``python bench/report.py results/FILE.json`` prints the tables again.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

from workloads import VARIANTS

OURS = "dnncore"

FIRST_TOLERANCE = {"float32": 2e-2, "float64": 1e-4}
"""Difference of the losses after the first epoch, which all run in the same order, as a part of
how far that epoch brought the loss down.

Rounding comes to 1e-5 in float32, and to 6e-3 through the 21 layers of ``deep``.
"""

FINAL_TOLERANCE = (0.10, 0.001)
"""Difference of the final losses, after different shuffles: parts of the median and of the loss
before training. Shuffles alone spread them by 0.3 to 3 % of the median, by 7 % on ``gelu``."""


def peak(document: dict[str, Any], dtype: str, threads: int) -> float | None:
    """Return the highest ceiling in GFLOP/s seen in the whole run: the strictest to be held to."""
    key = str(threads)
    seen = [document["machine"]["peak_gflops"][dtype].get(key)]
    for row in document["rows"]:
        if row["workload"]["dtype"] == dtype:
            seen.append(row["control_gflops"].get(key))
    return max((value for value in seen if value), default=None)


def fastest(results: list[dict[str, Any]], *, ours: bool) -> dict[str, Any] | None:
    """Return the fastest finished result of dnncore, or of its peers."""
    finished = [
        r for r in results if r["us_per_step"] is not None and (r["contender"] == OURS) == ours
    ]
    return min(finished, key=lambda r: float(r["us_per_step"]), default=None)


def summarise(document: dict[str, Any]) -> None:
    """Add to every row, and to the document, what the tables show."""
    ratios = []
    for row in document["rows"]:
        results = row["results"]
        by_threads = {}
        for threads in document["settings"]["threads"]:
            same = [r for r in results if r["threads"] == threads]
            by_threads[str(threads)] = _ratio(fastest(same, ours=False), fastest(same, ours=True))
        peer, own = fastest(results, ours=False), fastest(results, ours=True)
        ratio = _ratio(peer, own)
        row["summary"] = {
            "best_peer": _name(peer),
            "best_own": _name(own),
            "ratio": ratio,
            "ratio_by_threads": by_threads,
            "peak_fraction": _peak_fractions(document, row),
        }
        if ratio is not None and row["workload"]["kind"] == "train":
            ratios.append((row["workload"]["name"], ratio))
    main = [ratio for name, ratio in ratios if not name.endswith(VARIANTS)]
    document["summary"] = {
        "geometric_mean_ratio": _geometric_mean(main),
        "geometric_mean_ratio_with_variants": _geometric_mean([ratio for _, ratio in ratios]),
        "lowest_ratio": min((ratio for _, ratio in ratios), default=None),
    }


def _ratio(peer: dict[str, Any] | None, own: dict[str, Any] | None) -> float | None:
    if peer is None or own is None:
        return None
    return float(peer["us_per_step"]) / float(own["us_per_step"])


def _name(result: dict[str, Any] | None) -> dict[str, Any] | None:
    if result is None:
        return None
    return {key: result[key] for key in ("contender", "threads", "us_per_step")}


def _peak_fractions(document: dict[str, Any], row: dict[str, Any]) -> dict[str, float]:
    fractions = {}
    for result in row["results"]:
        ceiling = peak(document, row["workload"]["dtype"], result["threads"])
        if result["contender"] == OURS and result["us_per_step"] is not None and ceiling:
            fractions[str(result["threads"])] = result["gflops"] / ceiling
    return fractions


def _geometric_mean(values: list[float]) -> float | None:
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def agreement(dtype: str, initial: float, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare the losses of all contenders that finished; other networks are left out."""
    finished = [r for r in results if r["error"] is None and not r["stand_in"]]
    checks: dict[str, Any] = {}
    for key in ("loss_first_epoch", "loss_final"):
        losses = [r[key] for r in finished]
        if not losses:
            checks[key] = {"median": None, "tolerance": None, "spread": None, "agree": False}
            continue
        median = statistics.median(losses)
        if key == "loss_first_epoch":
            tolerance = FIRST_TOLERANCE[dtype] * abs(initial - median)
        else:
            tolerance = FINAL_TOLERANCE[0] * median + FINAL_TOLERANCE[1] * initial
        checks[key] = {
            "median": median,
            "tolerance": tolerance,
            "spread": max(losses) - min(losses),
            "agree": all(abs(loss - median) <= tolerance for loss in losses),
            "outliers": [
                f"{r['contender']} x{r['threads']}: {r[key]:.6g}"
                for r in finished
                if not abs(r[key] - median) <= tolerance
            ],
        }
    return checks


def problems(document: dict[str, Any], *, missing_is_fine: bool = False) -> list[str]:
    """Return what must not be overlooked: failed contenders and losses that differ."""
    found = []
    for row in document["rows"]:
        name = row["workload"]["name"]
        for result in row["results"]:
            if result["error"] is None or (missing_is_fine and result.get("missing")):
                continue
            found.append(f"{name}: {result['contender']} x{result['threads']}: {result['error']}")
        for key, check in row.get("agreement", {}).items():
            if not check["agree"]:
                outliers = "; ".join(check.get("outliers", [])) or "no contender finished"
                found.append(f"{name}: {key} differs: {outliers}")
    return found


def render(document: dict[str, Any]) -> str:
    """Return the tables as Markdown."""
    parts = [_heading(document), _times(document), _first_calls(document), _losses(document)]
    trouble = problems(document)
    if trouble:
        parts.append("Problems:\n" + "\n".join(f"- {line}" for line in trouble))
    return "\n\n".join(part for part in parts if part)


def _heading(document: dict[str, Any]) -> str:
    machine = document["machine"]
    ceilings = "; ".join(
        f"{dtype} " + ", ".join(f"{v:.0f} GFLOP/s x{t}" for t, v in by_threads.items())
        for dtype, by_threads in machine["peak_gflops"].items()
    )
    versions: dict[str, str] = {"python": machine["python"]}
    for row in document["rows"]:
        for result in row["results"]:
            versions |= {
                key: value
                for key, value in result.get("versions", {}).items()
                if "thread" not in key
            }
    listed = ", ".join(f"{key} {value}" for key, value in versions.items())
    lines = [
        f"{machine['cpu']}, {machine['cpus_usable']} CPUs, {machine['system']}",
        f"Ceiling: {ceilings} ({machine['peak_method']})",
        f"Versions: {listed}",
    ]
    if "pieces" in document:
        starts = ", ".join(piece["started"] for piece in document["pieces"])
        lines.append(f"Run in {len(document['pieces'])} pieces, of whole rows: {starts}")
    if document["smoke"]:
        lines.insert(0, "SMOKE RUN on miniature sizes: the numbers mean nothing.")
    return "\n".join(lines)


def _columns(document: dict[str, Any]) -> list[tuple[str, int]]:
    settings = document["settings"]
    return [(name, t) for name in settings["contenders"] for t in settings["threads"]]


def _cells(row: dict[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    return {(r["contender"], r["threads"]): r for r in row["results"]}


def _times(document: dict[str, Any]) -> str:
    columns = _columns(document)
    calls = all(row["workload"]["kind"] == "predict" for row in document["rows"])
    header = [f"microseconds a {'call' if calls else 'step'}", *(f"{n} x{t}" for n, t in columns)]
    header += ["best peer", "ratio", "of peak"]
    body = []
    for row in document["rows"]:
        cells, summary = _cells(row), row["summary"]
        line = [row["workload"]["name"]]
        for column in columns:
            result = cells[column]
            line.append(_time(result) + ("*" if result.get("stand_in") else ""))
        best = summary["best_peer"]
        line.append(f"{best['contender']} x{best['threads']}" if best else "-")
        line.append(f"{summary['ratio']:.2f}" if summary["ratio"] else "-")
        fractions = summary["peak_fraction"].items()
        training = row["workload"]["kind"] == "train"
        line.append(
            ", ".join(f"{100 * f:.0f} % x{t}" for t, f in fractions)
            if training and fractions
            else "-"
        )
        body.append(line)
    text = _markdown(header, body)
    notes = []
    if any(result.get("stand_in") for row in document["rows"] for result in row["results"]):
        notes.append("`*` runs tanh in place of gelu, which it lacks.")
    mean = document["summary"]["geometric_mean_ratio"]
    if mean is not None:
        notes.append(
            "Ratio: the fastest peer's time over dnncore's, each at its better thread count. "
            f"Geometric mean of the float32 Adam training rows: {mean:.2f}."
        )
    return "\n\n".join([text, *notes])


def _time(result: dict[str, Any]) -> str:
    if result["error"] is not None:
        return "not installed" if result.get("missing") else "failed"
    value = float(result["us_per_step"])
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _first_calls(document: dict[str, Any]) -> str:
    columns = _columns(document)
    header = ["first call, seconds", *(f"{n} x{t}" for n, t in columns)]
    body = []
    for row in document["rows"]:
        line = [row["workload"]["name"]]
        for column in columns:
            seconds = _cells(row)[column].get("first_call_seconds")
            line.append(f"{seconds['total']:.2f}" if seconds else "-")
        body.append(line)
    note = "First call: import, build, compilation and the first epoch (or the first prediction)."
    return _markdown(header, body) + "\n\n" + note


def _losses(document: dict[str, Any]) -> str:
    body = []
    for row in document["rows"]:
        if "agreement" not in row:
            continue
        line = [row["workload"]["name"], f"{row['loss_initial']:.4f}"]
        for key in ("loss_first_epoch", "loss_final"):
            check = row["agreement"][key]
            if check["median"] is None:
                line += ["-", "-"]
                continue
            verdict = "agree" if check["agree"] else "DIFFER"
            line += [
                f"{check['median']:.6g}",
                f"{verdict}: {check['spread']:.1e} within {check['tolerance']:.1e}",
            ]
        body.append(line)
    if not body:
        return ""
    header = ["loss", "at the start", "epoch 1", "same order", "at the end", "own shuffles"]
    return _markdown(header, body)


def _markdown(header: list[str], body: list[list[str]]) -> str:
    widths = [max(len(line[i]) for line in [header, *body]) for i in range(len(header))]

    def write(line: list[str]) -> str:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        return "| " + " | ".join(cells) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([write(header), "| " + " | ".join(rule) + " |", *map(write, body)])


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python bench/report.py RESULTS.json")
    document = json.loads(Path(sys.argv[1]).read_text())
    summarise(document)
    print(render(document))


if __name__ == "__main__":
    main()
