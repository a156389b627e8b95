"""The report's parts on the network and on its training."""

from __future__ import annotations

import numpy as np

from dnncore._report._charts import curves
from dnncore._report._html import Html, h, number, picture, share, table
from dnncore._report._run import Run
from dnncore._versions import versions
from dnncore.layers import Dense

__all__ = ["model_section", "training_section"]

_VERSIONS = ("dnncore", "numpy", "scipy", "python", "platform", "simd level")


def model_section(run: Run) -> Html:
    """Show layers, settings and versions."""
    net = run.model.network
    body = [["input", f"{net.n_in:,}", ""]]
    for place in net._layout.places:
        size = sum(p.size for p in place.parameters)
        config = place.layer.get_config()
        words = [
            f"{value:g}" if isinstance(value, float) else str(value)
            for name, value in config.items()
            if name in ("activation", "rate", "stddev") and value != "identity"
        ]
        name = " ".join([type(place.layer).__name__, *words])
        body.append([name, f"{place.width:,}", f"{size:,}" if size else ""])
    body.append([h("b", "all"), "", h("b", f"{net.n_params:,}")])
    layers = table(["layer", "outputs", "parameters"], body)
    settings = {**run.settings, "loss": net.loss.name, "precision": net.dtype.name}
    return h(
        "section", h("h2", "Model"),
        h("div", layers, _list(settings), cls="pair"),
        h("h3", "Made with"), _list({k: v for k, v in versions().items() if k in _VERSIONS}),
        id="model",
    )  # fmt: skip


def _list(values: dict[str, str]) -> Html:
    return h("dl", *[x for k, v in values.items() for x in (h("dt", k), h("dd", v))])


def training_section(run: Run) -> Html:
    """Show learning curves, and how the layers fared."""
    found = run.history.history
    charts = []
    losses = {"training": found["loss"]}
    if "test_loss" in found:
        losses["test part"] = found["test_loss"]
    charts.append(curves(f"Loss: {run.model.network.loss.name}", losses, log=True))
    score = "test_accuracy" if run.classifies else "test_r2"
    if score in found:
        base = run.model.scores(run.test.y, run.predicted)
        name = "baseline_accuracy" if run.classifies else "baseline_r2"
        level = ("baseline", base[name]) if name in base else None
        title = f"{'Accuracy' if run.classifies else 'R²'} on the test part"
        charts.append(curves(title, {score: found[score]}, level=level))
    words = (
        f"{len(run.history)} epochs in {run.seconds:.1f} s. The loss of training is the mean over "
        "an epoch while the network changes, so early on it may lie above that of the test part."
    )
    parts = [h("h2", "Training"), h("p", words), h("div", *charts, cls="charts")]
    parts += _layers(run)
    return h("section", *parts, id="training")


def _layers(run: Run) -> list[Html]:
    watch = run.statistics
    if not watch.epochs:
        return []
    body = []
    for record in watch.layers:
        last = {name: values[-1] for name, values in record.values.items()}
        body.append(
            [record.title, share(last["dead"], 0), share(last["saturated"], 0),
             number(last["activation_mean"]), number(last["activation_std"]),
             number(last["weight"]), number(last["gradient"])]
        )  # fmt: skip
    head = ["", "dead units", "saturated", "mean output", "its spread", "weights, rms",
            "gradient, rms"]  # fmt: skip
    parts = [h("h3", "How the layers fared")]
    parts += [h("p", line) for line in watch.describe().splitlines()]
    parts.append(table(head, body))
    charts = [
        curves(title, {r.title: r.values[name] for r in watch.layers}, first=0, log=True)
        for name, title in (("gradient", "Gradient of the weights, rms"),
                            ("activation_std", "Spread of the outputs"))
    ]  # fmt: skip
    parts.append(h("div", *charts, cls="charts"))
    first = run.model.network.layers[0]
    if run.picture is not None and isinstance(first, Dense) and first.units > 2:
        parts += _weights(run)
    return parts


def _weights(run: Run) -> list[Html]:
    assert run.picture is not None
    weights = run.model.network.weights[0].astype(np.float64)
    order = np.argsort(-np.linalg.norm(weights, axis=0), kind="stable")[:32]
    shown = []
    for unit in order:
        w = weights[:, unit].reshape(run.picture)
        w = w / (np.abs(w).max() or 1.0)
        # White is zero, blue positive, orange negative.
        strength = np.abs(w)[:, :, None]
        ink = np.where(w[:, :, None] > 0, [31, 95, 168], [209, 102, 27]) / 255
        shown.append(picture(1 - strength * (1 - ink), f"unit {unit}"))
    words = (
        f"What the first layer looks for: the {len(shown)} units with the largest weights; blue "
        "pixels excite, orange ones inhibit."
    )
    return [h("h3", "Weights"), h("p", words, cls="note"), h("div", *shown, cls="mosaic")]
