"""Prints the README's tables from a result of ``versus.py``.

``python bench/readme.py results/FILE.json [PROFILE.json]``: a table of the workloads, one of their
variants in float64 and with SGD and of a prediction, and what a first call costs. With a result of
``profile.py`` also what each step is made of, for ``README.md`` beside this file.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from common import micro, table
from plot import STYLE
from report import OURS, peak, summarise
from workloads import VARIANTS

WANTED = {
    "tiny": 6, "digits": 3, "tabular": 2.5, "mnist-s": 3, "mnist-m": 1.8, "mnist-l": 1.4,
    "gelu": 1.5, "deep": 3, "wide": 1.25,
}  # fmt: skip
"""Ratios to the fastest peer that dnncore set out to reach."""


def layers(sizes: list[int]) -> str:
    """Write a network's widths, long runs of the same one as ``20 x 64``."""
    parts: list[tuple[int, int]] = []
    for size in sizes:
        if parts and parts[-1][1] == size:
            parts[-1] = (parts[-1][0] + 1, size)
        else:
            parts.append((1, size))
    texts = [
        f"{count} x {size}" if count > 4 else "-".join([str(size)] * count) for count, size in parts
    ]
    return ", ".join(texts) if any(count > 4 for count, _ in parts) else "-".join(texts)


def line(row: dict[str, Any], contenders: list[str]) -> list[str]:
    work, summary = row["workload"], row["summary"]
    cells = [work["name"], f"{layers(work['sizes'])}, {work['batch']}"]
    for name in contenders:
        found = [r for r in row["results"] if r["contender"] == name]
        times = [r["us_per_step"] for r in found if r["us_per_step"] is not None]
        text = micro(min(times, default=None)) + "*" * any(r.get("stand_in") for r in found)
        cells.append(f"**{text}**" if name == OURS else text)
    ratio, medians = summary["ratio"], ratio_of_medians(row)
    peaks = summary["peak_fraction"]
    best = summary["best_own"]
    share = peaks.get(str(best["threads"])) if best else None
    trains = work["kind"] == "train" and share is not None
    ratios = [f"{value:.2f}" if value else "-" for value in (ratio, medians)]
    return [*cells, *ratios, f"{100 * share:.0f} %" if trains else "-"]


def ratio_of_medians(row: dict[str, Any]) -> float | None:
    """Return the ratio as one turn that found the machine idle cannot decide it."""
    found = [r for r in row["results"] if r["us_per_step"] is not None]
    times = [
        [r["us_per_step_median"] for r in found if (r["contender"] == OURS) == ours]
        for ours in (False, True)
    ]
    return float(min(times[0]) / min(times[1])) if all(times) else None


def first_calls(document: dict[str, Any], contenders: list[str]) -> str:
    parts = []
    for name in contenders:
        seconds = [
            result["first_call_seconds"]["total"]
            for row in document["rows"]
            for result in row["results"]
            if result["contender"] == name and "first_call_seconds" in result
        ]
        if seconds:
            parts.append(f"{STYLE.get(name, (name,))[0]} {min(seconds):.1f} to {max(seconds):.1f}")
    return "First call (import, build, compilation, first epoch), seconds: " + ", ".join(parts)


def render(document: dict[str, Any]) -> str:
    summarise(document)
    contenders = document["settings"]["contenders"]
    header = ["", "network, batch", *(STYLE.get(name, (name,))[0] for name in contenders)]
    header += ["ratio", "of medians", "of peak"]
    parts = []
    for variants in (False, True):
        rows = [
            row
            for row in document["rows"]
            if row["workload"]["name"].endswith((*VARIANTS, "predict-1")) == variants
        ]
        if rows:
            parts.append(table(header, [line(row, contenders) for row in rows]))
    mean = document["summary"]["geometric_mean_ratio"]
    if mean is not None:
        medians = [
            ratio_of_medians(row) for row in document["rows"] if row["workload"]["name"] in WANTED
        ]
        by_medians = statistics.geometric_mean([value for value in medians if value])
        parts.append(
            f"Geometric mean of the ratios in the first table: {mean:.2f}, of those of medians "
            f"{by_medians:.2f}."
        )
    parts.append(first_calls(document, contenders) + ".")
    return "\n\n".join(parts)


def at_peak(document: dict[str, Any], row: dict[str, Any], threads: int) -> float:
    """Return the ratio that the row would have if a step were its products at the ceiling."""
    ceiling = peak(document, row["workload"]["dtype"], threads)
    assert ceiling is not None
    return float(row["summary"]["best_peer"]["us_per_step"] * ceiling * 1e3 / row["flops_per_step"])


def made_of(profile: dict[str, Any]) -> list[str]:
    """Write how near to the ceiling a step's products come, and the shares of its parts."""
    rows = profile["rows"]
    products = [row for row in rows if row["gflops"] is not None]
    seconds = sum(row["us"] for row in products)
    rate = sum(row["us"] * row["gflops"] for row in products) / seconds
    shares = [
        sum(row["share"] for row in products),
        sum(row["share"] for row in rows if row["part"] in ("activation", "slope")
            or row["name"] == "loss"),
        sum(row["share"] for row in rows if row["part"] == "update"),
        sum(row["share"] for row in rows if row["name"] == "gather"),
        sum(row["share"] for row in rows if row["name"] in ("wait", "next")),
    ]  # fmt: skip
    return [f"{100 * share:.0f} %" for share in (rate / profile["ceiling"], *shares)]


def render_steps(document: dict[str, Any], profiles: dict[str, Any]) -> str:
    summarise(document)
    header = ["", "wanted", "ratio", "at peak", "products of ceiling", "products"]
    header += ["activations, loss", "update", "gather", "waiting"]
    by_name = {row["workload"]["name"]: row["profile"] for row in profiles["rows"]}
    return table(
        header,
        [
            [
                name,
                f"{WANTED[name]:g}",
                f"{row['summary']['ratio']:.2f}",
                f"{at_peak(document, row, by_name[name]['threads']):.1f}",
                *made_of(by_name[name]),
            ]
            for row in document["rows"]
            if (name := row["workload"]["name"]) in WANTED and name in by_name
        ],
    )


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python bench/readme.py RESULTS.json [PROFILE.json]")
    documents = [json.loads(Path(path).read_text()) for path in sys.argv[1:]]
    print(render(documents[0]))
    if len(documents) == 2:
        print("\n" + render_steps(*documents))


if __name__ == "__main__":
    main()
