"""Draws the JSON of any of the scripts as a chart.

``python bench/plot.py results/FILE.json [OUT.png]``. That of ``versus.py`` has one line a workload
and one mark a contender, each at its better thread count; to the right is slower than dnncore, on
a logarithmic axis. The others are in ``charts.py``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from charts import CHARTS
from report import OURS

STYLE = {
    "dnncore": ("dnncore", "#1a1a1a", "|"),
    "jax_scan": ("JAX", "#0072b2", "o"),
    "torch_eager": ("PyTorch", "#d55e00", "s"),
    "torch_compiled": ("PyTorch, compiled", "#e69f00", "D"),
    "sklearn_mlp": ("scikit-learn", "#009e73", "^"),
    "numpy_loop": ("NumPy loop", "#999999", "v"),
}
"""Name in the legend, colour (told apart by colour-blind readers too) and mark."""

SPARE_MARKS = "PX*hp<>"


def relative_times(
    document: dict[str, Any], baseline: str
) -> list[tuple[str, float, dict[str, float]]]:
    """Return name, microseconds of the baseline, and everybody's times as multiples of it.

    Rows that the baseline did not finish are left out: there is nothing to compare with.
    """
    rows = []
    for row in document["rows"]:
        best: dict[str, float] = {}
        for result in row["results"]:
            if result["us_per_step"] is not None:
                name, micro = result["contender"], float(result["us_per_step"])
                best[name] = min(micro, best.get(name, micro))
        if baseline in best:
            own = best[baseline]
            rows.append((row["workload"]["name"], own, {k: v / own for k, v in best.items()}))
    return rows


def draw(document: dict[str, Any], path: Path, baseline: str = OURS) -> None:
    """Write the chart to ``path``.

    Raises
    ------
    ValueError
        If no row holds a time of the baseline.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    rows = relative_times(document, baseline)
    if not rows:
        raise ValueError(f"no row of these results holds a time of {baseline!r}.")
    names = [name for name in document["settings"]["contenders"] if name != baseline]
    figure, axes = plt.subplots(
        figsize=(8.6, 1.7 + 0.42 * len(rows)), dpi=150, layout="constrained"
    )
    places = range(len(rows))
    for y, (_, _, times) in zip(places, rows, strict=True):
        # From the baseline to the fastest peer: the gap that the number at the right names.
        nearest = min((v for k, v in times.items() if k != baseline), default=1.0)
        axes.plot([1.0, nearest], [y, y], color="#c8c8c8", linewidth=5, solid_capstyle="butt")
        axes.annotate(
            _multiple(nearest) if len(times) > 1 else "",
            (1.02, y),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=10,
            fontweight="bold",
            color="#1a1a1a" if nearest >= 1.0 else "#b00020",
        )
    for i, name in enumerate(names):
        label, colour, mark = STYLE.get(name, (name, f"C{i}", SPARE_MARKS[i % len(SPARE_MARKS)]))
        points = [
            (times[name], y) for y, (_, _, times) in zip(places, rows, strict=True) if name in times
        ]
        if points:
            axes.scatter(
                [x for x, _ in points],
                [y for _, y in points],
                s=46,
                marker=mark,
                color=colour,
                label=label,
                edgecolors="white",
                linewidths=0.6,
                zorder=3,
            )
    axes.axvline(1.0, color="#1a1a1a", linewidth=1.6, zorder=2)
    axes.set_xscale("log")
    low = min(min(times.values()) for _, _, times in rows)
    high = max(max(times.values()) for _, _, times in rows)
    axes.set_xlim(0.88 * low, 1.2 * high)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(
        list(places), [f"{name}   {_time(micro)}" for name, micro, _ in rows], fontsize=10
    )
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"time of a step, in multiples of {_label(baseline)}'s (smaller is faster)")
    axes.grid(axis="x", color="#ececec", zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(axis="both", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.annotate(
        "fastest\npeer",
        (1.02, 1.0),
        xycoords="axes fraction",
        va="bottom",
        fontsize=8,
        color="#555555",
    )
    axes.annotate(
        f"{_label(baseline)}'s time",
        (-0.01, 1.0),
        xycoords="axes fraction",
        ha="right",
        va="bottom",
        fontsize=8,
        color="#555555",
    )
    figure.legend(loc="outside upper center", ncols=6, frameon=False, fontsize=9)
    _save(figure, document, path)


def _save(figure: Any, document: dict[str, Any], path: Path) -> None:
    """Write a figure with the machine named below it."""
    machine = document["machine"]
    caption = f"{machine['cpu']}, {machine['cpus_usable']} cores, {document['started'][:10]}"
    if document["smoke"]:
        caption = f"SMOKE RUN, the numbers mean nothing. {caption}"
    figure.supxlabel(caption, fontsize=8, color="#555555")
    figure.savefig(path)
    print(path)


def draw_other(document: dict[str, Any], path: Path) -> None:
    """Write the charts of a script other than ``versus.py``, named like ``path``."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context({"figure.dpi": 150, "figure.constrained_layout.use": True}):
        for ending, chart in CHARTS[_script(document)].items():
            _save(chart(document, plt), document, path.with_stem(path.stem + ending))


def _script(document: dict[str, Any]) -> str:
    if "script" in document:
        return str(document["script"])
    predicts = all(row["workload"]["kind"] == "predict" for row in document["rows"])
    return "predict" if predicts else "versus"


def _label(name: str) -> str:
    return STYLE[name][0] if name in STYLE else name


def _multiple(value: float) -> str:
    return f"{value:.1f}x" if value >= 1.05 else f"{value:.2f}x"


def _time(micro: float) -> str:
    if micro < 999.5:
        return f"{micro:.3g} µs"
    return f"{micro / 1_000:.3g} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the results of a script.")
    parser.add_argument("results", type=Path, help="JSON written by a script")
    parser.add_argument("out", type=Path, nargs="?", help="PNG to write; beside the JSON")
    parser.add_argument("--baseline", default=OURS, help="contender that is 1x")
    arguments = parser.parse_args()
    out = arguments.out or arguments.results.with_suffix(".png")
    document = json.loads(arguments.results.read_text())
    script = _script(document)
    if script != "versus" and script not in CHARTS:
        parser.error(f"no chart is made of {script}.py; there are {', '.join(CHARTS)}.")
    try:
        if script == "versus":
            draw(document, out, arguments.baseline)
        else:
            draw_other(document, out)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
