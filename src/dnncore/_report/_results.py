"""The report's part on how good the predictions are."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dnncore import metrics
from dnncore._report._charts import bars, histogram, scatter
from dnncore._report._html import Html, h, number, share, table
from dnncore._report._run import Run

__all__ = ["importance", "interval", "results_section", "scores"]

_MOST_CLASSES = 20
_ROWS = 2000
_CELLS = 400_000


def interval(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share after E. B. Wilson (1927)."""
    z, p = 1.959964, hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def scores(run: Run) -> list[tuple[str, float, float, str]]:
    """Return (name, score, baseline's score, explanation) of the test part."""
    if not run.classifies:
        found = run.model.scores(run.test.y, run.predicted)
        error = np.abs(run.test.y - run.predicted)
        center = np.zeros(1) if run.model.scaler is None else run.model.scaler.center
        rows = [
            ("R²", found["r2"], found.get("baseline_r2", math.nan),
             "share of variance explained"),
            ("RMSE", found["rmse"], found.get("baseline_rmse", math.nan), "root mean square error"),
            ("mean absolute error", float(error.mean()),
             float(np.abs(run.test.y - center).mean()), "in the target's unit"),
            ("median absolute error", float(np.median(error)),
             float(np.median(np.abs(run.test.y - center))), "half of the errors are smaller"),
        ]  # fmt: skip
        return rows
    known = run.true >= 0
    true, answer, proba = run.true, run.answer, run.proba
    counts = np.bincount(run.train_codes, minlength=len(run.labels))
    top = np.full_like(true, counts.argmax())
    prior = np.tile(counts / counts.sum(), (int(known.sum()), 1))
    rows = [
        ("accuracy", float((answer == true).mean()), float((top == true).mean()),
         "share of rows that are right"),
        ("balanced accuracy", metrics.balanced_accuracy(true, answer),
         metrics.balanced_accuracy(true, top), "mean over the classes, each counting alike"),
    ]  # fmt: skip
    if known.any():
        at = np.flatnonzero(known)

        def log_loss(p: NDArray[np.float64]) -> float:
            chosen = p[np.arange(len(at)), true[at]]
            return float(-np.log(np.maximum(chosen, 1e-15)).mean())

        rows.append(
            ("log loss", log_loss(proba[at]), log_loss(prior), "less is better; 0 is certain")
        )
        if len(run.labels) == 2 and len(np.unique(true[at])) == 2:
            area = metrics.roc_auc(true[at], proba[at])
            rows.append(("ROC AUC", area, 0.5, f"how well {run.labels[1]} is told apart"))
    return rows


def results_section(run: Run) -> Html:
    """Show scores, confusions or predicted values, and what they depend on."""
    body = [
        [h("b", name), number(score), number(base), why] for name, score, base, why in scores(run)
    ]
    always = f"always {run.model.majority}" if run.classifies else "always the training mean"
    head = ["score", "network", always, ""]
    found = table(head, body, cls="scores")
    parts = [h("h2", "Results on the test part"), found]
    parts += _classification(run) if run.classifies else _regression(run)
    found_importance = importance(run)
    if found_importance:
        low = f"{'accuracy' if run.classifies else 'R²'}"
        rows = [
            (name, loss, f"{loss:+.3f}".replace("+", "\N{MINUS SIGN}"))
            for name, loss in found_importance[:15]
            if loss > 0
        ]
        parts.append(h("h3", "Which columns matter"))
        if rows:
            parts.append(
                h("p", f"How much {low} falls when a column of the test part is shuffled, so that "
                  "it says nothing any more. Of two columns that tell the same, neither seems to "
                  "matter.", cls="note")
            )  # fmt: skip
            parts.append(bars(rows))
        else:
            parts.append(h("p", f"Shuffling a single column does not lower {low}."))
    return h("section", *parts, id="results")


def importance(run: Run) -> list[tuple[str, float]]:
    """Return (column, loss of accuracy or R² when it is shuffled), most first."""
    features = run.features()
    if not features or len(run.test) < 10:
        return []
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(run.test))[:_ROWS]
    X, y = run.test.X[chosen], run.test.y[chosen]
    if len(features) * X.size > 100 * _CELLS:
        return []

    def score(inputs: NDArray[np.float32]) -> float:
        found = run.model.scores(y, run.model.predict(inputs))
        return found["accuracy" if run.classifies else "r2"]

    whole = score(X)
    losses = []
    for name, places in features.items():
        found = []
        for _ in range(3):
            shuffled = X.copy()
            shuffled[:, places] = X[rng.permutation(len(X))][:, places]
            found.append(whole - score(shuffled))
        losses.append((name, float(np.mean(found))))
    return sorted(losses, key=lambda pair: -pair[1])


# ---------------------------------------------------------------------- classes


def _classification(run: Run) -> list[Html]:
    k = len(run.labels)
    known = run.true >= 0
    counts = np.bincount(k * run.true[known] + run.answer[known], minlength=k * k).reshape(k, k)
    parts = [h("h3", "Which class is taken for which")]
    if k <= _MOST_CLASSES:
        parts.append(_confusion(run.labels, counts))
    off = counts - np.diag(np.diag(counts))
    order = np.argsort(-off, axis=None, kind="stable")[:6]
    pairs = [(int(i) // k, int(i) % k) for i in order if off.flat[int(i)] > 0]
    if pairs and k > 2:
        words = [
            h("li", h("b", run.labels[i]), " taken for ", h("b", run.labels[j]),
              f": {off[i, j]} of {counts[i].sum()} ({share(off[i, j] / counts[i].sum())})")
            for i, j in pairs
        ]  # fmt: skip
        parts += [h("p", "Most frequent mistakes:"), h("ul", *words, cls="wide")]
    parts += [h("h3", "Class by class"), _by_class(run, counts)]
    parts += [h("h3", "Can its probabilities be trusted?"), _calibration(run)]
    return parts


def _confusion(labels: list[str], counts: NDArray[np.intp]) -> Html:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    rows = []
    for i, label in enumerate(labels):
        cells = [h("th", label, scope="row", cls="true")]
        for j, count in enumerate(counts[i]):
            depth = math.sqrt(shares[i, j])
            # Right answers in blue, mistakes in orange.
            hue = "31,95,168" if i == j else "209,102,27"
            style = f"background:rgba({hue},{0.85 * depth:.3f})" if count else None
            dark = "dark" if depth > 0.75 else None
            words = f"{label} taken for {labels[j]}: {share(shares[i, j])}"
            cells.append(h("td", count if count else "·", style=style, cls=dark, title=words))
        rows.append(h("tr", *cells))
    head = h("tr", h("th", "true \N{RIGHTWARDS ARROW} predicted", cls="corner"),
             *[h("th", h("span", label), scope="col") for label in labels])  # fmt: skip
    long = "slanted" if max(map(len, labels)) * len(labels) > 60 else ""
    inside = h("table", h("thead", head), h("tbody", *rows), cls=f"confusion {long}".strip())
    return h("div", inside, cls="scroll")


def _by_class(run: Run, counts: NDArray[np.intp]) -> Html:
    found, answered = counts.sum(axis=1), counts.sum(axis=0)
    body = []
    recall = np.diag(counts) / np.maximum(found, 1)
    for i in np.argsort(recall, kind="stable")[:30] if len(found) > 30 else range(len(found)):
        precision = counts[i, i] / answered[i] if answered[i] else math.nan
        body.append(
            [h("b", run.labels[i]), f"{found[i]:,}",
             share(recall[i]) if found[i] else "-", share(precision)]
        )  # fmt: skip
    head = ["class", "rows", "found (recall)", "right when named (precision)"]
    note = h("p", "The 30 classes that are found least.", cls="note") if len(found) > 30 else None
    return h("div", table(head, body), note)


def _calibration(run: Run) -> Html:
    sure = run.proba.max(axis=1)
    right = run.answer == run.true
    edges = [0.0, 0.5, 0.7, 0.9, 0.99, 1.0 + 1e-9]
    names = ["below 50 %", "50 to 70 %", "70 to 90 %", "90 to 99 %", "99 % and more"]
    body = []
    for low, high, name in zip(edges, edges[1:], names, strict=False):
        rows = (sure >= low) & (sure < high)
        if rows.any():
            n = int(rows.sum())
            body.append([name, f"{n:,}", share(sure[rows].mean()), share(right[rows].mean())])
    words = (
        f"On average the network gives its answer {share(float(sure.mean()))}, and is right in "
        f"{share(float(right.mean()))}."
    )
    head = ["probability of the answer", "rows", "on average", "right"]
    return h("div", h("p", words), table(head, body))


# ---------------------------------------------------------------------- values


def _regression(run: Run) -> list[Html]:
    parts: list[Html] = []
    outputs = run.test.y.shape[1]
    for j in range(min(outputs, 4)):
        true, predicted = run.test.y[:, j], run.predicted[:, j]
        name = run.model.target if outputs == 1 else f"{run.model.target} {j}"
        left = scatter(f"{name}: predicted, by true value", true, predicted, "true value",
                       line=lambda v: v, square=True)  # fmt: skip
        right = scatter(f"{name}: true minus predicted", predicted, true - predicted,
                        "predicted value", line=lambda v: 0.0)  # fmt: skip
        error = true - predicted
        words = (
            f"Half of the errors are within {number(float(np.median(np.abs(error))))}, nine in ten "
            f"within {number(float(np.quantile(np.abs(error), 0.9)))}; on average the true value "
            f"is {number(abs(float(error.mean())))} {'above' if error.mean() > 0 else 'below'} "
            "the predicted one."
        )
        shape = h("p", histogram(error, "errors"), cls="spread")
        text = h("div", h("p", words), shape, h("p", "true minus predicted", cls="note"))
        parts.append(h("div", left, h("div", right, text), cls="pair"))
    return parts
