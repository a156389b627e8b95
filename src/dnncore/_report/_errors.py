"""The report's part on the worst errors, one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnncore._columns import read_labels
from dnncore._report._charts import COLORS, bars
from dnncore._report._html import Html, h, number, picture, share
from dnncore._report._run import Run

__all__ = ["errors_section"]

_MOST = 12
_MOST_PICTURES = 24
_TELLING = 6


def errors_section(run: Run) -> Html:
    """Show the test rows with the largest loss."""
    loss = _losses(run)
    most = _MOST if run.picture is None else _MOST_PICTURES
    order = np.argsort(-loss, kind="stable")
    if run.classifies:
        order = order[run.answer[order] != run.true[order]]
    chosen = order[:most]
    title = h("h2", "The worst errors, one by one")
    if not len(chosen):
        return h("section", title, h("p", "Every row of the test part is right."), id="errors")
    wrong = len(order)
    if run.classifies:
        words = (
            f"{len(chosen)} of {wrong:,} mistakes, those made with most confidence first. Look at "
            "them: is the label right, would a person know, what do they have in common?"
        )
    else:
        words = f"The {len(chosen)} rows that are farthest off. What do they have in common?"
    if run.picture is not None:
        cards = [_picture_card(run, int(i)) for i in chosen]
        return h("section", title, h("p", words), h("div", *cards, cls="gallery"), id="errors")
    telling = _telling(run, chosen, loss)
    if telling:
        words += (
            " Beside each row the columns that drive its error: those whose typical value, in "
            "place of the row's, would lower its loss most."
        )
    cards = [
        _row_card(run, int(i), telling[k] if telling else [], loss) for k, i in enumerate(chosen)
    ]
    return h("section", title, h("p", words), h("div", *cards, cls="cards"), id="errors")


def _losses(run: Run, X: NDArray[Any] | None = None, rows: Any = slice(None)) -> NDArray[Any]:
    """Return the loss of test rows, also with other inputs in their place."""
    if run.classifies:
        proba = run.proba[rows] if X is None else run.model.network.predict_proba(X)
        true = run.true[rows]
        at = np.asarray(proba, np.float64)[np.arange(len(true)), np.maximum(true, 0)]
        return np.asarray(-np.log(np.maximum(np.where(true >= 0, at, 0.0), 1e-15)))
    predicted = run.predicted[rows] if X is None else run.model.predict(X)
    scale = np.ones(1) if run.model.scaler is None else run.model.scaler.scale
    return np.asarray(np.sqrt(np.square((run.test.y[rows] - predicted) / scale).mean(axis=1)))


def _telling(run: Run, chosen: NDArray[Any], loss: NDArray[Any]) -> list[list[tuple[str, float]]]:
    """Return for each row (column, how much its loss falls with the column's typical value)."""
    features = run.features()
    if not features:
        return []
    typical = np.asarray(run.train.X.mean(axis=0))
    falls = np.empty((len(chosen), len(features)))
    for j, places in enumerate(features.values()):
        X = run.test.X[chosen].copy()
        X[:, places] = typical[places]
        falls[:, j] = loss[chosen] - _losses(run, X, chosen)
    names = list(features)
    order = np.argsort(-falls, axis=1, kind="stable")[:, :_TELLING]
    return [[(names[j], float(falls[i, j])) for j in order[i]] for i in range(len(chosen))]


def _verdict(run: Run, i: int) -> Html:
    answer = run.labels[run.answer[i]]
    sure = float(run.proba[i].max())
    if run.true[i] < 0:
        label = str(read_labels("target", run.test.y[i : i + 1])[0])
        truth = h("div", "truly ", h("b", label, cls="truth"), ", a class that training lacked")
    else:
        at = float(run.proba[i, run.true[i]])
        truth = h("div", "truly ", h("b", run.labels[run.true[i]], cls="truth"), f" {_p(at)}")
    return h("div", h("div", "taken for ", h("b", answer, cls="wrong"), f" {_p(sure)}"), truth,
             cls="verdict")  # fmt: skip


def _p(p: float) -> str:
    if p < 0.001:
        return "under 0.1\N{NARROW NO-BREAK SPACE}%"
    return "over 99.9\N{NARROW NO-BREAK SPACE}%" if p > 0.999 else share(p)


def _where(run: Run, i: int) -> Html:
    return h("div", f"row {int(run.test.numbers[i]) + 1:,}", cls="note")


def _picture_card(run: Run, i: int) -> Html:
    assert run.picture is not None
    shown = picture(run.test.X[i].reshape(run.picture), f"row {int(run.test.numbers[i]) + 1}")
    if run.classifies:
        return h("div", shown, _verdict(run, i), _where(run, i), cls="card")
    return h("div", shown, _amounts(run, i), _where(run, i), cls="card")


def _row_card(run: Run, i: int, telling: list[tuple[str, float]], loss: NDArray[Any]) -> Html:
    head = _verdict(run, i) if run.classifies else _amounts(run, i)
    rows = []
    for name, fall in telling:
        value = _value(run.raw("test", name)[i])
        label = h("span", h("b", name), " ", value)
        rows.append((label, max(fall, 0.0), f"\N{MINUS SIGN}{fall:.2f}" if fall > 0.005 else ""))
    chart = bars(rows, color=COLORS[1], top=float(loss[i])) if rows else None
    what = f"loss {loss[i]:.2f}" if run.classifies else f"{loss[i]:.2f} standard deviations off"
    last = f"row {int(run.test.numbers[i]) + 1:,}, {what}"
    return h("div", head, chart, h("div", last, cls="note"), cls="card")


def _amounts(run: Run, i: int) -> Html:
    lines = []
    for true, predicted in zip(run.test.y[i][:4], run.predicted[i][:4], strict=True):
        off = float(true - predicted)
        sign = "+" if off < 0 else "\N{MINUS SIGN}"
        words = f", {sign}{number(abs(off))}"
        lines.append(
            h("div", "predicted ", h("b", number(float(predicted)), cls="wrong"), " for ",
              h("b", number(float(true)), cls="truth"), words)
        )  # fmt: skip
    return h("div", *lines, cls="verdict")


def _value(value: Any) -> Html:
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        return h("i", "missing")
    if isinstance(value, (int, float, np.number)):
        return h("span", number(float(value)))
    text = str(value)
    return h("span", text if len(text) <= 40 else f"{text[:39]}\N{HORIZONTAL ELLIPSIS}")
