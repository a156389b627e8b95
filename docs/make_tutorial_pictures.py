"""Draws the pictures of ``tutorial.md`` from what the tutorial's own code computes.

    python docs/make_tutorial_pictures.py [--out DIR]

Needs matplotlib and scikit-learn: ``pip install 'dnncore[sklearn,plot]'``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from dnncore import functional as F

HERE = Path(__file__).resolve().parent
ODD, EVEN, INK, SOFT = "#c2571a", "#1f6f8b", "#222222", "#8a8a8a"
STYLE = {
    "figure.dpi": 110,
    "savefig.dpi": 110,
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def run_tutorial() -> SimpleNamespace:
    """Run all code of the tutorial; return its variables."""
    text = (HERE / "tutorial.md").read_text(encoding="utf-8")
    variables: dict[str, Any] = {"__name__": "tutorial"}
    with contextlib.redirect_stdout(io.StringIO()):
        for block in re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S):
            exec(compile(block, "tutorial.md", "exec"), variables)
    return SimpleNamespace(**variables)


def picture(axes: Any, image: Any) -> None:
    """Show one digit without axes."""
    axes.imshow(image, cmap="gray_r", vmin=0, vmax=image.max())
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def preprocess(t: SimpleNamespace) -> Any:
    """Show some digits, one of them as numbers, and X."""
    figure = plt.figure(figsize=(10.5, 3.7))
    left, middle, right = figure.subfigures(1, 3, width_ratios=[4.6, 3, 3.2])
    grid = left.subplots(2, 5)
    for row, first in enumerate((1, 0)):
        for column, axes in enumerate(grid[row]):
            digit = first + 2 * column
            picture(axes, t.images[np.flatnonzero(t.digits.target == digit)[3]])
            axes.set_title(str(digit), color=ODD if first else EVEN)
    left.suptitle("odd digits and even ones", fontsize=11)

    image = t.images[t.train[0]]
    axes = middle.subplots()
    picture(axes, image)
    for (y, x), value in np.ndenumerate(image.astype(int)):
        colour = "white" if value > 8 else INK
        axes.text(x, y, str(value), ha="center", va="center", fontsize=8, color=colour)
    for spine in axes.spines.values():
        spine.set_visible(True)
    axes.set_title("one picture, 8 by 8")

    axes = right.subplots()
    axes.imshow(t.X_train[:, :30], cmap="gray_r", aspect="auto", vmin=0, vmax=1)
    axes.set_title("the first 30 columns of X;\nthe first is that picture")
    axes.set(xlabel="example", ylabel="pixel")
    axes.set_xticks([0, 9, 19, 29], ["1", "10", "20", "30"])
    axes.set_yticks([0, 15, 31, 47, 63], ["1", "16", "32", "48", "64"])
    axes.add_patch(plt.Rectangle((-0.5, -0.5), 1, 64, fill=False, edgecolor=ODD, linewidth=2))
    return figure


def learning_rate(t: SimpleNamespace) -> Any:
    """Show the cost for learning rates from too small to too large."""
    figure, axes = plt.subplots(figsize=(7.5, 4))
    rates = {0.3: ("#9dc3d4", 1.2), 0.01: (SOFT, 2), 0.1: (EVEN, 2.4), 2.0: (ODD, 2)}
    for rate, (colour, width) in rates.items():
        parameters = F.initialize_parameters_deep(t.layers_dims, variant="application")
        costs = []
        for _ in range(401):
            AL, caches = F.L_model_forward(t.X_train, parameters)
            costs.append(F.compute_cost(AL, t.Y_train))
            grads = F.L_model_backward(AL, t.Y_train, caches)
            parameters = F.update_parameters(parameters, grads, rate)
        axes.semilogy(costs, color=colour, linewidth=width)
        axes.annotate(f"{rate:g}", (400, costs[-1]), xytext=(6, 0), textcoords="offset points",
                      va="center", color=colour, fontweight="bold")  # fmt: skip
    axes.set(xlabel="iteration", ylabel="cost on the training pictures (log scale)", xlim=(0, 400))
    ticks = [0.03, 0.1, 0.3, 1, 3]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_title("learning rate", loc="right")
    return figure


def initialise(t: SimpleNamespace) -> Any:
    """Show the size of the signal layer by layer."""
    widths = [64] + [32] * 10
    figure, axes = plt.subplots(figsize=(7, 3.8))
    variants = {"application": ("divided by the root of $n_{l-1}$", EVEN),
                "step_by_step": ("multiplied by 0.01", ODD)}  # fmt: skip
    for variant, (label, colour) in variants.items():
        parameters = F.initialize_parameters_deep(widths, variant=variant)
        _, caches = F.L_model_forward(t.X_train, parameters)
        spread = [np.sqrt(np.mean(Z**2)) for _, Z in caches]
        layers = np.arange(1, len(spread) + 1)
        axes.semilogy(layers, spread, "o-", color=colour, label=label, linewidth=2)
    axes.set_xticks(layers)
    axes.set(xlabel="layer", ylabel="typical size of $Z_l$ (log scale)", ylim=(1e-16, 10))
    axes.set_yticks([1, 1e-3, 1e-6, 1e-9, 1e-12, 1e-15])
    axes.legend(title="random weights", loc="lower left")
    return figure


def loop(t: SimpleNamespace) -> Any:
    """Draw what flows where in one turn of the loop."""
    figure, axes = plt.subplots(figsize=(9.4, 4))
    axes.set(xlim=(0.1, 9), ylim=(0.1, 4))
    axes.axis("off")
    columns = [0.8, 2.7, 4.6, 6.5, 8.35]
    upper, lower = 2.75, 1.2
    widths = [f"{n} {'units' if n > 1 else 'unit'}" for n in t.layers_dims[1:]]
    notes = [f"{t.layers_dims[0]} features", *widths, "labels $Y$ come in"]
    labels = ["$X$", "$W_1, b_1$\nrelu", "$W_2, b_2$\nrelu", "$W_3, b_3$\nsigmoid", "cost $J$"]
    for x, label, note in zip(columns, labels, notes, strict=True):
        box(axes, x, upper, label, EVEN)
        axes.text(x, upper + 0.5, note, ha="center", fontsize=10)
    for i, x in enumerate(columns[1:4], start=1):
        box(axes, x, lower, f"$dW_{i}, db_{i}$", ODD)
        arrow(axes, (x, upper - 0.4), (x, lower + 0.4), SOFT, dashed=True)
        axes.text(x + 0.08, (upper + lower) / 2, "cache", color=SOFT, fontsize=10, va="center")
    for i in range(4):
        middle = (columns[i] + columns[i + 1]) / 2
        arrow(axes, (columns[i] + 0.6, upper), (columns[i + 1] - 0.6, upper), EVEN)
        axes.text(middle, upper + 0.12, f"$A_{i}$", ha="center", color=EVEN)
        if i in (1, 2):
            arrow(axes, (columns[i + 1] - 0.6, lower), (columns[i] + 0.6, lower), ODD)
            axes.text(middle, lower + 0.12, f"$dA_{i}$", ha="center", color=ODD)
    arrow(axes, (columns[4], upper - 0.4), (columns[3] + 0.6, lower), ODD, bend=-0.35)
    axes.text(columns[4], (upper + lower) / 2 - 0.45, "$dA_3$", color=ODD, ha="center")
    axes.text(0.25, 3.75, "forward", color=EVEN, fontweight="bold")
    axes.text(0.25, lower, "backward", color=ODD, fontweight="bold", va="center")
    axes.text(columns[2], 0.35, "update: $W_l$ minus learning rate times $dW_l$, and so for $b_l$",
              ha="center")  # fmt: skip
    return figure


def box(axes: Any, x: float, y: float, text: str, colour: str) -> None:
    """Draw a labelled box."""
    shape = FancyBboxPatch((x - 0.55, y - 0.35), 1.1, 0.7, boxstyle="round,pad=0.04",
                           facecolor="white", edgecolor=colour, linewidth=1.6)  # fmt: skip
    axes.add_patch(shape)
    axes.text(x, y, text, ha="center", va="center", color=INK)


def arrow(axes: Any, start: Any, end: Any, colour: str, *, dashed: bool = False,
          bend: float = 0.0) -> None:  # fmt: skip
    """Draw an arrow."""
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=13,
            color=colour,
            linewidth=1.4,
            linestyle="--" if dashed else "-",
            shrinkA=0,
            shrinkB=0,
            connectionstyle=f"arc3,rad={bend}",
        )  # fmt: skip
    )


def forward(t: SimpleNamespace) -> Any:
    """Show what each layer makes of three pictures."""
    AL, caches = F.L_model_forward(t.X_test, t.trained)
    layers = [cache[0][0] for cache in caches] + [AL]
    digits = t.digits.target[t.test]
    shown = [int(np.flatnonzero(digits == digit)[0]) for digit in (3, 9, 4)]
    figure, grid = plt.subplots(
        3, 5, figsize=(9, 3.6), gridspec_kw={"width_ratios": [1, 4, 2.6, 1.7, 1.1]}
    )
    titles = ["picture", "$X$: 64 pixels", "$A_1$: 32 units", "$A_2$: 16 units", "$A_3$"]
    for row, example in zip(grid, shown, strict=True):
        picture(row[0], t.images[t.test[example]])
        for axes, values in zip(row[1:], layers, strict=True):
            column = values[:, example]
            if len(column) == 1:
                colour = ODD if column[0] > 0.5 else EVEN
                axes.barh([0], column, color=colour, height=0.5)
                axes.set(xlim=(0, 1), ylim=(-0.6, 0.6), yticks=[], xticks=[0, 0.5, 1])
                axes.tick_params(labelsize=8)
                axes.set_xticklabels(["0", ".5", "1"])
                axes.text(0.5, 0.42, f"{column[0]:.3f}", ha="center", fontsize=9, color=colour)
            else:
                axes.bar(np.arange(len(column)), column, color=INK, width=0.85)
                top = 1.05 * values[:, shown].max()
                axes.set(xticks=[], yticks=[], xlim=(-0.7, len(column) - 0.3), ylim=(0, top))
                axes.spines["left"].set_visible(False)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title)
    return figure


def cost(t: SimpleNamespace) -> Any:
    """Show the cost of one answer."""
    a = np.linspace(0.005, 0.995, 400)
    figure, axes = plt.subplots(figsize=(6.4, 3.6))
    axes.plot(a, -np.log(a), color=ODD, linewidth=2.2)
    axes.plot(a, -np.log(1 - a), color=EVEN, linewidth=2.2)
    axes.text(0.09, 3.1, "the digit is odd: $-\\log a$", color=ODD)
    axes.text(0.91, 3.1, "it is even: $-\\log(1-a)$", color=EVEN, ha="right")
    axes.plot([0.5], [np.log(2)], "o", color=INK)
    axes.annotate("undecided: 0.693", (0.5, np.log(2)), xytext=(0.5, 1.45), ha="center",
                  arrowprops={"arrowstyle": "-", "color": SOFT})  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 4), xlabel="answer $a$, the probability of odd",
             ylabel="cost of this answer")  # fmt: skip
    return figure


def backward(t: SimpleNamespace) -> Any:
    """Compare derivatives of the backward pass with measured ones."""
    theta, names = F.dictionary_to_vector(
        F.initialize_parameters_deep(t.layers_dims, variant="application")
    )
    parameters = F.vector_to_dictionary(theta, t.parameters)
    AL, caches = F.L_model_forward(t.X_few, parameters)
    grads = F.L_model_backward(AL, t.Y_few, caches)
    computed, _ = F.dictionary_to_vector({name: grads[f"d{name}"] for name in parameters})
    measured = np.empty_like(computed)
    epsilon = 1e-6
    for i in range(theta.size):
        moved = []
        for step in (epsilon, -epsilon):
            changed = theta.copy()
            changed[i] += step
            AL, _ = F.L_model_forward(t.X_few, F.vector_to_dictionary(changed, parameters))
            moved.append(float(F.compute_cost(AL, t.Y_few)))
        measured[i] = (moved[0] - moved[1]) / (2 * epsilon)
    figure, axes = plt.subplots(figsize=(5, 4.4))
    limit = 1.08 * np.abs(computed).max()
    axes.plot([-limit, limit], [-limit, limit], color=SOFT, linewidth=1, zorder=0)
    layer = np.array([int(name[1:]) for name in names])
    for number, colour in ((1, "#9ecae1"), (2, EVEN), (3, ODD)):
        axes.plot(computed[layer == number], measured[layer == number], "o", markersize=4,
                  color=colour, label=f"layer {number}", markeredgewidth=0)  # fmt: skip
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal",
             xlabel="derivative by the backward pass",
             ylabel="derivative measured by a small push")  # fmt: skip
    axes.legend(loc="upper left")
    return figure


def update(t: SimpleNamespace) -> Any:
    """Show how the cost falls on training and test pictures."""
    parameters = F.initialize_parameters_deep(t.layers_dims, variant="application")
    iterations, on_train, on_test = [], [], []
    for iteration in range(t.num_iterations + 1):
        AL, caches = F.L_model_forward(t.X_train, parameters)
        if iteration % 10 == 0:
            iterations.append(iteration)
            on_train.append(F.compute_cost(AL, t.Y_train))
            on_test.append(F.compute_cost(F.L_model_forward(t.X_test, parameters)[0], t.Y_test))
        grads = F.L_model_backward(AL, t.Y_train, caches)
        parameters = F.update_parameters(parameters, grads, t.learning_rate)
    figure, axes = plt.subplots(figsize=(7, 3.8))
    axes.plot(iterations, on_test, color=ODD, linewidth=2, label="test pictures")
    axes.plot(iterations, on_train, color=INK, linewidth=2, label="training pictures")
    axes.legend()
    axes.set(xlabel="iteration", ylabel="cost", xlim=(0, t.num_iterations))
    axes.set_ylim(bottom=0)
    return figure


def predict(t: SimpleNamespace) -> Any:
    """Show all answers to the test pictures, and the wrong ones one by one."""
    AL, _ = F.L_model_forward(t.X_test, t.trained)
    answers, odd = AL[0], t.Y_test[0] == 1
    wrong = (answers > 0.5) != odd
    figure = plt.figure(figsize=(10, 3.8))
    left, right = figure.subfigures(1, 2, width_ratios=[5, 5])
    axes = left.subplots()
    heights = odd + np.random.default_rng(0).uniform(-0.3, 0.3, odd.size)
    for is_odd, colour in ((True, ODD), (False, EVEN)):
        chosen = (odd == is_odd) & ~wrong
        axes.plot(answers[chosen], heights[chosen], "o", color=colour, markersize=4, alpha=0.35,
                  markeredgewidth=0)  # fmt: skip
    axes.plot(answers[wrong], heights[wrong], "x", color=INK, markersize=7, markeredgewidth=1.8,
              label="wrong")  # fmt: skip
    axes.axvline(0.5, color=SOFT, linewidth=1, linestyle="--")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.5, 1.5), xlabel="answer: probability of odd")
    axes.set_yticks([0, 1], ["even\ndigits", "odd\ndigits"])
    axes.legend(loc="upper left")
    axes.set_title(f"{odd.size} test pictures")

    columns = 5
    grid = right.subplots(-(-int(wrong.sum()) // columns), columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, example in zip(grid.flat, np.flatnonzero(wrong), strict=False):
        picture(axes, t.images[t.test[example]])
        digit = t.digits.target[t.test[example]]
        axes.set_title(f"{digit}: {answers[example]:.2f}", color=ODD if digit % 2 else EVEN)
    right.suptitle(f"the {wrong.sum()} wrong ones: digit, and answer", fontsize=11)
    return figure


PICTURES = {
    "preprocess": preprocess,
    "learning-rate": learning_rate,
    "initialise": initialise,
    "loop": loop,
    "forward": forward,
    "cost": cost,
    "backward": backward,
    "update": update,
    "predict": predict,
}


def main() -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "images")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    plt.switch_backend("Agg")
    tutorial = run_tutorial()
    with plt.rc_context(STYLE):
        for name, draw in PICTURES.items():
            figure = draw(tutorial)
            figure.savefig(arguments.out / f"{name}.png", metadata={"Software": None})
            plt.close(figure)


if __name__ == "__main__":
    main()
