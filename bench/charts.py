"""Charts of the scripts other than ``versus.py``; ``plot.py`` picks one by the JSON's script."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

INK, GREY, PALE = "#1a1a1a", "#777777", "#e4e4e4"
BLUE, ORANGE, GREEN, PINK = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
"""Told apart by colour-blind readers too."""

WHERE = ("L2", "L3", "memory")


def _tidy(axes: Any, *, grid: str = "both") -> None:
    axes.grid(axis=grid, color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def kernels(content: dict[str, Any], pyplot: Any) -> Any:
    """Products against BLAS and the FMA ceiling; the others against the memory ceiling."""
    rows = [row for row in content["rows"] if row["dtype"] == content["settings"]["dtypes"][0]]
    products = [row for row in rows if row["group"] == "products"]
    shapes = list(dict.fromkeys(tuple(row["shape"]) for row in products))
    names = list(dict.fromkeys(row["kernel"] for row in products))
    figure, grid = pyplot.subplots(
        1, len(names), figsize=(11, 1.6 + 0.32 * len(shapes)), sharey=True, sharex=True
    )
    titles = {"x w": "forward: act(X W + b)", "dz w'": "back: dZ W'", "x' dz": "gradient: X' dZ"}
    for axes, name in zip(grid, names, strict=True):
        for key, label, colour, mark in (
            ("numpy", "NumPy", GREY, "v"),
            ("blas", "SciPy's BLAS", ORANGE, "s"),
            ("dnncore", "dnncore", BLUE, "o"),
        ):
            chosen = {tuple(row["shape"]): row for row in products if row["kernel"] == name}
            axes.scatter(
                [100 * chosen[s]["gflops"][key] / chosen[s]["ceiling"] for s in shapes],
                range(len(shapes)), color=colour, marker=mark, s=34, label=label, zorder=3,
            )  # fmt: skip
        axes.set_title(titles.get(name, name), fontsize=10)
        axes.set_xlim(0, 100)
        axes.set_xlabel("% of the FMA peak")
        _tidy(axes)
    grid[0].set_yticks(range(len(shapes)), [" x ".join(map(str, s)) for s in shapes], fontsize=9)
    grid[0].set_ylabel("rows x outputs x inputs")
    grid[0].invert_yaxis()
    figure.legend(
        *grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False
    )
    return figure


def loops(content: dict[str, Any], pyplot: Any) -> Any:
    """Draw how near the elementwise kernels come to the speed of memory."""
    rows = [
        row
        for row in content["rows"]
        if row["dtype"] == content["settings"]["dtypes"][0] and row["group"] != "products"
    ]
    labels = list(dict.fromkeys((row["group"], row["kernel"]) for row in rows))
    half = (len(labels) + 1) // 2
    figure, grid = pyplot.subplots(1, 2, figsize=(11, 1.6 + 0.24 * half), sharex=True)
    for axes, part in zip(grid, (labels[:half], labels[half:]), strict=True):
        for where, colour, mark in zip(WHERE, (BLUE, ORANGE, GREEN), "os^", strict=True):
            points = [
                (100 * row["of_ceiling"], part.index((row["group"], row["kernel"])))
                for row in rows
                if row["where"] == where and (row["group"], row["kernel"]) in part
            ]
            axes.scatter(
                [x for x, _ in points], [y for _, y in points], color=colour, marker=mark, s=26,
                label=f"arrays in {where}", zorder=3,
            )  # fmt: skip
        axes.axvline(100, color=INK, linewidth=1.2)
        axes.set_yticks(range(len(part)), [f"{group} {name}" for group, name in part], fontsize=8)
        axes.set_xlabel("% of the memory ceiling at that size")
        axes.set_xlim(0, 130)
        axes.set_ylim(len(part) - 0.5, -0.5)
        _tidy(axes)
    figure.legend(
        *grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False
    )
    return figure


def scaling(content: dict[str, Any], pyplot: Any) -> Any:
    """GFLOP/s along each curve, for one thread and the default number, with the ceilings."""
    curves = list(dict.fromkeys(row["curve"] for row in content["rows"]))
    counts = content["settings"]["threads"]
    peaks = content["machine"]["peak_gflops"]["float32"]
    figure, grid = pyplot.subplots(2, len(curves), figsize=(3.1 * len(curves), 5.6), sharey="row")
    for j, name in enumerate(curves):
        rows = [row for row in content["rows"] if row["curve"] == name]
        x = [row["value"] for row in rows]
        for threads, colour, mark in zip(counts, (BLUE, ORANGE), "os", strict=False):
            label = "1 thread" if threads == 1 else f"default of {threads} threads"
            cells = [row[f"threads {threads}"] for row in rows]
            style = {"color": colour, "marker": mark, "markersize": 4, "label": label}
            grid[0][j].plot(x, [cell["ns_per_example"] / 1e3 for cell in cells], **style)
            grid[1][j].plot(x, [cell["gflops"] for cell in cells], **style)
            grid[1][j].axhline(peaks[str(threads)], color=colour, linestyle=":", linewidth=1.2)
        for axes in (grid[0][j], grid[1][j]):
            axes.set_xscale("log", base=2)
            axes.set_xticks(x[:: max(1, len(x) // 5)])
            axes.xaxis.set_major_formatter(lambda value, _: _count(value))
            axes.minorticks_off()
            _tidy(axes)
        grid[0][j].set_yscale("log")
        grid[1][j].set_xlabel(name)
    grid[0][0].set_ylabel("µs an example")
    grid[1][0].set_ylabel("GFLOP/s (dotted: FMA peak)")
    grid[1][0].set_ylim(bottom=0)
    base = content["settings"]["base"]
    figure.legend(
        *grid[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=2,
        frameon=False,
        title=f"{content['settings']['n_in']}-{base['width']}-{base['width']}-"
        f"{content['settings']['n_out']}, batch {base['batch']}, one thing varied at a time",
    )  # fmt: skip
    return figure


def predict(content: dict[str, Any], pyplot: Any) -> Any:
    """Latency by rows, a line a contender at its better thread count."""
    from plot import STYLE

    networks: dict[str, list[dict[str, Any]]] = {}
    for row in content["rows"]:
        sizes = "-".join(map(str, row["workload"]["sizes"]))
        networks.setdefault(sizes, []).append(row)
    figure, grid = pyplot.subplots(1, len(networks), figsize=(9.6, 4.4), squeeze=False)
    for axes, (sizes, rows) in zip(grid[0], networks.items(), strict=True):
        for name in content["settings"]["contenders"]:
            best = [
                min(
                    (r["us_per_step"] for r in row["results"]
                     if r["contender"] == name and r["us_per_step"] is not None),
                    default=None,
                )
                for row in rows
            ]  # fmt: skip
            points = [
                (row["workload"]["batch"], value)
                for row, value in zip(rows, best, strict=True)
                if value is not None
            ]
            label, colour, mark = STYLE.get(name, (name, PINK, "x"))
            ours = name == "dnncore"
            if points:
                axes.plot(
                    [x for x, _ in points], [y for _, y in points], label=label, color=colour,
                    marker="o" if ours else mark, markersize=5, linewidth=2.4 if ours else 1.2,
                    zorder=4 if ours else 2,
                )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks([row["workload"]["batch"] for row in rows])
        axes.xaxis.set_major_formatter(lambda value, _: _count(value))
        axes.yaxis.set_major_formatter(lambda value, _: _micro(value))
        axes.minorticks_off()
        axes.set_title(sizes, fontsize=10)
        axes.set_xlabel("rows in a call")
        _tidy(axes)
    grid[0][0].set_ylabel("time of a call")
    figure.legend(
        *grid[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=6, frameon=False
    )
    return figure


def sweep(content: dict[str, Any], pyplot: Any) -> Any:
    """Networks a second, relative to one after the other on one thread."""
    rows = content["rows"]
    figure, axes = pyplot.subplots(figsize=(7.6, 1.6 + 0.62 * len(rows)))
    ways = list(rows[0]["networks_per_second"])
    for k, (way, colour) in enumerate(zip(ways, (GREY, ORANGE, BLUE), strict=True)):
        places = [i + 0.26 * (k - 1) for i in range(len(rows))]
        rates = [row["networks_per_second"] for row in rows]
        values = [rate[way] / rate[ways[0]] for rate in rates]
        axes.barh(places, values, height=0.24, color=colour, label=way)
        for place, value, rate in zip(places, values, rates, strict=True):
            text = f"{rate[way]:,.0f}/s" if rate[way] >= 20 else f"{rate[way]:.1f}/s"
            axes.text(value + 0.02, place, text, va="center", fontsize=8, color=INK)
    names = [f"{row['workload']['name']}, {row['epochs']} epochs" for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.set_xlabel("networks a second, relative to one after the other on one thread")
    axes.set_xlim(0, 2.4)
    _tidy(axes, grid="x")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def busy(content: dict[str, Any], pyplot: Any) -> Any:
    """Slow-down of every workload beside a busy process on each core."""
    rows = content["rows"]
    figure, axes = pyplot.subplots(figsize=(7.6, 1.4 + 0.36 * len(rows)))
    for i, row in enumerate(rows):
        turns = row["slowdown_by_turn"]
        axes.plot([min(turns), max(turns)], [i, i], color=PALE, linewidth=5, solid_capstyle="butt")
        axes.scatter([row["slowdown"]], [i], color=BLUE, s=44, zorder=3)
    axes.axvline(2, color=GREY, linewidth=1.2, linestyle=":", label="half of each core")
    axes.axvline(3, color=ORANGE, linewidth=1.2, label="promised at most")
    axes.set_yticks(range(len(rows)), [row["workload"]["name"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(left=0, right=max(4.0, 1.1 * max(row["slowdown"] for row in rows)))
    axes.set_xlabel("times slower with one busy process on each core (bar: all turns)")
    _tidy(axes, grid="x")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def profile(content: dict[str, Any], pyplot: Any) -> Any:
    """Parts of a step of every workload."""
    kinds = {
        "forward": (BLUE, ("forward", "activation")),
        "loss": (GREEN, ("loss",)),
        "backward": (ORANGE, ("slope", "dx", "dw")),
        "update": (INK, ("update",)),
        "gather and between phases": (GREY, ("gather", "next")),
        "waiting": (PALE, ("wait",)),
    }
    rows = content["rows"]
    figure, axes = pyplot.subplots(figsize=(7.6, 1.6 + 0.36 * len(rows)))
    left = [0.0] * len(rows)
    for kind, (colour, parts) in kinds.items():
        shares = [
            sum(part["share"] for part in row["profile"]["rows"]
                if (part["part"] or part["name"]) in parts)
            for row in rows
        ]  # fmt: skip
        axes.barh(range(len(rows)), shares, left=left, height=0.7, color=colour, label=kind)
        left = [a + b for a, b in zip(left, shares, strict=True)]
    for i, row in enumerate(rows):
        axes.text(1.01, i, _micro(float(f"{row['profile']['us']:.3g}")), va="center", color=INK)
    axes.set_yticks(range(len(rows)), [row["workload"]["name"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15)
    axes.set_xlabel("share of a step, over all threads")
    _tidy(axes, grid="x")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def _count(value: float) -> str:
    return f"{value / 1024:g}k" if value >= 1024 and value % 1024 == 0 else f"{value:g}"


def _micro(value: float) -> str:
    return f"{value:g} µs" if value < 1_000 else f"{value / 1_000:g} ms"


CHARTS: dict[str, dict[str, Callable[[dict[str, Any], Any], Any]]] = {
    "kernels": {"": kernels, "-loops": loops},
    "scaling": {"": scaling},
    "predict": {"": predict},
    "sweep": {"": sweep},
    "busy": {"": busy},
    "profile": {"": profile},
}
"""By script: what is added to the picture's name, and the function that draws it."""
