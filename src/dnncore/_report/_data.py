"""The report's part on the data: target, columns or pictures, and what is odd about them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnncore._columns import missing, read_column
from dnncore._report._charts import bars, histogram
from dnncore._report._html import Html, h, number, picture, share, table
from dnncore._report._run import Part, Run

__all__ = ["data_section", "repeated_rows"]

_MOST_COLUMNS = 60
_MOST_CLASSES = 30


def data_section(run: Run) -> Html:
    """Describe target and inputs."""
    test = "its own test part" if run.test_columns is not None else "kept apart for the test"
    if run.columns is None:
        test = "for the test"
    words = f"{len(run.train):,} rows to train on, {len(run.test):,} rows {test}"
    if run.unused:
        words += f", {run.unused:,} without a target left out"
    inputs = _pictures(run) if run.columns is None else _columns(run)
    return h(
        "section", h("h2", "Data"), h("p", f"{words}."), h("h3", "Target: ", run.model.target),
        _classes(run) if run.classifies else _values(run), h("h3", "Inputs"), inputs, id="data",
    )  # fmt: skip


def repeated_rows(run: Run) -> int:
    """Count the rows of the test part whose inputs are also in the training part."""

    def keys(part: Part) -> list[bytes]:
        return [row.tobytes() for row in np.ascontiguousarray(part.X)]

    seen = set(keys(run.train))
    return sum(key in seen for key in keys(run.test))


# ---------------------------------------------------------------------- target


def _classes(run: Run) -> Html:
    counts = np.bincount(run.train_codes, minlength=len(run.labels))
    order = np.argsort(-counts, kind="stable") if len(counts) > 12 else np.arange(len(counts))
    rows = [
        (run.labels[i], float(counts[i]), f"{counts[i]:,} ({share(counts[i] / counts.sum())})")
        for i in order[:_MOST_CLASSES]
    ]
    more = len(counts) - len(rows)
    note = h("p", f"and {more} rarer classes", cls="note") if more > 0 else None
    return h("div", bars(rows), note)


def _values(run: Run) -> Html:
    body = []
    for j, values in enumerate(run.train.y.T):
        name = run.model.target if run.train.y.shape[1] == 1 else f"{run.model.target} {j}"
        low, middle, high = np.quantile(values, [0.0, 0.5, 1.0])
        cells = [number(float(v)) for v in (low, middle, values.mean(), high, values.std())]
        body.append([name, histogram(values, name), *cells])
    head = ["", "distribution", "least", "median", "mean", "greatest", "standard deviation"]
    return table(head, body, text=2)


# ---------------------------------------------------------------------- inputs


def _columns(run: Run) -> Html:
    assert run.columns is not None
    encoder = run.model.encoder
    reports = {} if encoder is None else {r.column: r for r in encoder.report}
    body = []
    for name in list(run.columns)[:_MOST_COLUMNS]:
        kind, values = read_column(name, run.raw("train", name))
        absent = missing(kind, values)
        body.append(
            [
                h("b", name),
                {"number": "number", "time": "date", "text": "text"}[kind],
                _look(kind, values[~absent], name),
                share(absent.mean()) if absent.any() else "none",
                reports[name].text if name in reports else "",
            ]
        )
    head = ["column", "kind", "values in training", "missing", "what becomes of it"]
    more = len(run.columns) - len(body)
    note = h("p", f"and {more} more columns", cls="note") if more > 0 else None
    features = run.train.X.shape[1]
    words = f"{len(run.columns)} columns make {features} features of the network."
    return h("div", h("p", words), table(head, body, text=5, cls="columns"), note)


def _look(kind: str, values: NDArray[Any], name: str) -> Html:
    if not len(values):
        return h("span", "no values", cls="note")
    if kind == "text":
        labels, counts = np.unique(values.astype(str), return_counts=True)
        order = np.argsort(-counts, kind="stable")
        if counts[order[0]] == 1:
            return h("span", f"{len(labels):,} different texts, such as ", _short(labels[0]))
        rows = [
            (_short(labels[i]), float(counts[i]), share(counts[i] / len(values), 0))
            for i in order[:4]
        ]
        more = len(labels) - len(rows)
        note = h("span", f"and {more} more", cls="note") if more > 0 else None
        return h("div", bars(rows, top=float(len(values))), note)
    if kind == "time":
        first, last = str(values.min())[:10], str(values.max())[:10]
        chart = histogram(values.astype("int64"), name)
        return h("div", chart, h("span", f"{first} to {last}", cls="note"))
    low, middle, high = (number(float(q)) for q in np.quantile(values, [0.0, 0.5, 1.0]))
    words = f"{low} to {high}, median {middle}"
    return h("div", histogram(values, name), h("span", words, cls="note"))


def _short(text: str, most: int = 24) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def _pictures(run: Run) -> Html:
    X = run.train.X
    words = f"{X.shape[1]:,} numbers a row, from {number(X.min())} to {number(X.max())}"
    if run.picture is None or not run.classifies:
        return h("p", f"{words}.")
    height, width = run.picture
    lines = []
    for i, label in enumerate(run.labels[:_MOST_CLASSES]):
        rows = np.flatnonzero(run.train_codes == i)
        mean = X[rows].mean(axis=0).reshape(height, width)
        shown = [picture(mean, f"mean of {label}")]
        shown += [picture(X[r].reshape(height, width), f"{label}") for r in rows[:7]]
        lines.append(h("div", h("span", label, cls="name"), *shown, cls="strip"))
    note = f"{words}, shown as {height} by {width} pixels; on the left the mean of each class."
    return h("div", h("p", note), h("div", *lines, cls="strips"))
