"""Files that the command line writes: predictions and pictures, each atomically."""

from __future__ import annotations

import csv
import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnncore._atomicfile import replace_file
from dnncore._cli_model import Model
from dnncore.history import History

__all__ = ["check_output", "predictions_as_csv", "save_bytes", "save_picture"]

_PICTURES = (".png", ".svg", ".pdf")


def check_output(path: str, option: str, *inputs: str) -> None:
    """Refuse an output that cannot be written, before work is put into it.

    Parameters
    ----------
    path : str
        The file to be written.
    option : str
        Under which name the user gave it.
    *inputs : str
        Files that must not be overwritten.

    Raises
    ------
    OSError, ValueError
        If it cannot be written, or is one of the inputs.
    """
    target = Path(path)
    folder = target.resolve().parent
    if target.is_dir():
        raise IsADirectoryError(f"{option} {path} is a directory; give the name of a file.")
    if not folder.is_dir():
        raise FileNotFoundError(f"{option} {path}: there is no directory {target.parent}.")
    if target.exists() and not target.is_file():
        raise FileExistsError(f"{option} {path} is not a regular file; give another name.")
    if not (os.access(folder, os.W_OK) and (not target.exists() or os.access(target, os.W_OK))):
        raise PermissionError(f"{option} {path}: no permission to write there.")
    for other in inputs:
        if target.resolve() == Path(other).expanduser().resolve():
            raise ValueError(f"{option} {path} would overwrite {other}; give another name.")
    if option == "--plot" and target.suffix.lower() not in _PICTURES:
        raise ValueError(f"--plot must end in {', '.join(_PICTURES)}; got {path}.")
    if option == "--report" and target.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--report must end in .html; got {path}.")


def save_bytes(path: str, content: bytes) -> None:
    """Write a file atomically.

    Raises
    ------
    OSError
        If it cannot be written; an existing file then stays as it was.
    """

    def check(temporary: str) -> None:
        if os.path.getsize(temporary) != len(content):
            raise OSError(f"{path} could not be written completely.")

    replace_file(path, [content], check)


def predictions_as_csv(model: Model, X: NDArray[Any], *, proba: bool) -> str:
    """Predict, one line a row: ``prediction``, and with ``proba`` each class's probability.

    Raises
    ------
    ValueError
        If probabilities are asked of a regression.
    """
    predicted = model.predict(X)
    matrix = predicted if predicted.ndim == 2 else predicted[:, None]
    width = matrix.shape[1]
    names = ["prediction"] if width == 1 else [f"prediction_{j}" for j in range(width)]
    columns: list[Any] = list(matrix.T.tolist())
    if proba:
        if model.task == "regression":
            raise ValueError("--proba needs a model of classes; this one predicts numbers.")
        probabilities = model.network.predict_proba(X)
        classes = model.network.classes_
        labels = range(probabilities.shape[1]) if classes is None else classes.tolist()
        names += [f"probability_{label}" for label in labels]
        # Nine digits give a float32 back exactly.
        columns += [[f"{p:.9g}" for p in column] for column in probabilities.T.tolist()]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue()


def save_picture(
    path: str, history: History, model: Model, y: NDArray[Any], predicted: NDArray[Any]
) -> None:
    """Draw learning curves, and predictions against the truth, into one file."""
    from matplotlib.figure import Figure

    from dnncore.plotting import plot_confusion_matrix, plot_history, plot_predictions

    classes = model.task == "classification"
    # The matrix is large enough for the counts of some 20 classes.
    size = min(max(5.0, 0.45 * len(np.unique(y))), 9.0) if classes else 5.0
    figure = Figure(figsize=(5 + size, size + 0.5), layout="constrained", dpi=120)
    axes = figure.subplot_mosaic([["loss", "last"], ["score", "last"]], width_ratios=[5, size])
    plot_history(history, axes["loss"]).set_title("loss")
    metric = "test_accuracy" if classes else "test_r2"
    if metric in history.history:
        last = history.history[metric][-1]
        title = f"{'accuracy' if classes else 'R²'} on the test part: {last:.4f}"
        plot_history(history, axes["score"], names=[metric]).set_title(title)
    else:
        axes["score"].set_axis_off()
    if classes:
        if y.dtype.kind != predicted.dtype.kind:  # the test part has labels of another kind
            y, predicted = y.astype(str), predicted.astype(str)
        plot_confusion_matrix(y, predicted, axes["last"])
    else:
        title = f"{model.target} in the test part"
        plot_predictions(y, predicted, axes["last"]).set_title(title, parse_math=False)
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a font may lack signs of a label
        kind = Path(path).suffix[1:].lower()
        # Tight, because the layout does not count what hangs below square axes.
        figure.savefig(content, format=kind, bbox_inches="tight", pad_inches=0.15)
    save_bytes(path, content.getvalue())
