"""The page: what stands out, then the parts one after the other."""

from __future__ import annotations

import datetime
import math
from importlib import resources

import numpy as np

from dnncore._report._data import data_section, repeated_rows
from dnncore._report._errors import errors_section
from dnncore._report._html import Html, h, number, share
from dnncore._report._model import model_section, training_section
from dnncore._report._results import interval, results_section, scores
from dnncore._report._run import Run

__all__ = ["findings", "make_page"]


def make_page(run: Run) -> str:
    """Return the whole page; it needs nothing from outside.

    Parameters
    ----------
    run : Run
        The training to tell about.

    Returns
    -------
    str
    """
    style = resources.files("dnncore._report").joinpath("style.css").read_text("utf-8")
    title = f"{run.model.target}, from {run.data}"
    network = run.model.network
    words = f"{'-'.join(str(w) for w in _sizes(run))}, {network.n_params:,} parameters"
    when = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    parts = ("results", "errors", "training", "data", "model")
    links = [h("a", name, href=f"#{name}") for name in parts]
    head = h(
        "header", h("p", f"dnncore report · {when}", cls="note"), h("h1", title),
        h("p", f"A network {words}, trained on {len(run.train):,} rows and tested on "
          f"{len(run.test):,} others."), h("nav", *links),
    )  # fmt: skip
    body = h(
        "main", head, _cards(run),
        h("section", h("h2", "What stands out"), h("ul", *[h("li", f) for f in findings(run)])),
        results_section(run), errors_section(run), training_section(run), data_section(run),
        model_section(run),
    )  # fmt: skip
    meta = Html(
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, '
        'initial-scale=1"><meta http-equiv="Content-Security-Policy" content="default-src '
        "'none'; img-src data:; style-src 'unsafe-inline'\">"
    )
    top = h("head", meta, h("title", title), Html(f"<style>{style}</style>"))
    return f"<!DOCTYPE html>\n{h('html', top, h('body', body), lang='en')}\n"


def _sizes(run: Run) -> list[int]:
    network = run.model.network
    return [network.n_in, *(w.shape[1] for w in network.weights)]


def _cards(run: Run) -> Html:
    made = []
    for name, score, base, _ in scores(run)[:3]:
        shown = share(score) if name.endswith("accuracy") else number(score)
        below = share(base) if name.endswith("accuracy") else number(base)
        made.append(
            h("div", h("div", name, cls="name"), h("div", shown, cls="big"),
              h("div", f"baseline {below}", cls="note"))
        )  # fmt: skip
    if run.classifies:
        wrong = int((run.answer != run.true).sum())
        made.append(
            h("div", h("div", "mistakes", cls="name"), h("div", f"{wrong:,}", cls="big"),
              h("div", f"in {len(run.test):,} rows", cls="note"))
        )  # fmt: skip
    else:
        error = np.abs(run.test.y - run.predicted)
        made.append(
            h("div", h("div", "9 in 10 errors below", cls="name"),
              h("div", number(float(np.quantile(error, 0.9))), cls="big"),
              h("div", "in the target's unit", cls="note"))
        )  # fmt: skip
    return h("div", *made, cls="summary")


def findings(run: Run) -> list[str]:
    """Return sentences about what a reader should know first."""
    found = _quality(run)
    losses = [v for v in run.history.history.get("test_loss", []) if math.isfinite(v)]
    if losses:
        best = int(np.argmin(losses))
        if losses[-1] > 1.1 * losses[best] and best < len(losses) - 1:
            found.append(
                f"Overfitting: the loss on the test part was lowest after epoch {best + 1} "
                f"({losses[best]:.3g}) and has risen to {losses[-1]:.3g}. Fewer epochs, dropout, "
                "more weight decay or more data would help."
            )
        last = run.history.history["loss"][-1]
        if losses[-1] <= 1.1 * losses[best] and losses[-1] > 2 * last and last > 0:
            times = number(round(losses[-1] / last, 1))
            found.append(
                f"The loss on the test part ({losses[-1]:.3g}) is {times} times that of training "
                f"({last:.3g}): the network has learnt some rows by heart. More data or "
                "regularisation may help."
            )
    repeated = repeated_rows(run)
    if repeated:
        found.append(
            f"{repeated:,} of {len(run.test):,} test rows have inputs that are also among the "
            "training rows; if these are copies, the scores look better than they are."
        )
    words = run.statistics.describe() if run.statistics.epochs else ""
    if words and not words.startswith("All layers"):
        found += words.splitlines()
    return found


def _quality(run: Run) -> list[str]:
    n = len(run.test)
    if not run.classifies:
        found = run.model.scores(run.test.y, run.predicted)
        base = found.get("baseline_rmse", math.nan)
        text = (
            f"R² is {found['r2']:.3f}: the error (RMSE {number(found['rmse'])}) is "
            f"{share(found['rmse'] / base, 0)} of that of always answering the training mean "
            f"({number(base)})."
        )
        if found["rmse"] >= 0.98 * base:
            text += " The network has learnt nothing that helps with new rows."
        return [text]
    hits = int((run.answer == run.true).sum())
    low, high = interval(hits, n)
    majority = run.model.scores(run.test.y, run.predicted).get("baseline_accuracy", math.nan)
    text = (
        f"Accuracy {share(hits / n)} on {n:,} rows; on many more rows of this kind it would most "
        f"likely be between {share(low)} and {share(high)} (95 % interval). Always answering "
        f"{run.model.majority} gets {share(majority)}."
    )
    if low <= majority:
        text += " That is not clearly better than the baseline."
    found_words = [text]
    for i, label in enumerate(run.labels):
        rows = run.true == i
        if rows.sum() >= 5 and (run.answer[rows] == i).mean() < 0.5 and len(run.labels) <= 20:
            found_words.append(
                f"Of {label} less than half is found: {int((run.answer[rows] == i).sum())} of "
                f"{int(rows.sum())} rows."
            )
    unknown = int((run.true < 0).sum())
    if unknown:
        found_words.append(f"{unknown:,} test rows are of classes that training did not have.")
    sure, right = float(run.proba.max(axis=1).mean()), hits / n
    if sure - right > 0.05:
        found_words.append(
            f"The network is too sure of itself: its answers have a probability of {share(sure)} "
            f"on average, and {share(right)} are right."
        )
    doubtful = int(((run.answer != run.true) & (run.proba.max(axis=1) > 0.99)).sum())
    if doubtful:
        found_words.append(
            f"{doubtful:,} mistake{'s' * (doubtful != 1)} made with more than 99 % confidence: "
            "see the worst errors; some labels may be wrong."
        )
    return found_words
