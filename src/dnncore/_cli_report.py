"""What the command line says: data, network, progress and scores in words."""

from __future__ import annotations

import sys
from typing import Any

from numpy.typing import NDArray

from dnncore._cli_model import Model
from dnncore.callbacks import Callback
from dnncore.layers import Dense, Dropout, walk
from dnncore.network import Network

__all__ = [
    "EpochLines",
    "describe_columns",
    "describe_network",
    "describe_scores",
    "describe_target",
    "is_terminal",
    "note",
    "say",
]

_MOST_COLUMNS = 20  # told about one by one
_MOST_NAMES = 12


def say(text: str) -> None:
    """Print a result, at once: the progress bar goes to another stream."""
    print(text, flush=True)


def note(text: str) -> None:
    """Print what is not a result."""
    print(f"dnncore: {text}", file=sys.stderr)


def is_terminal() -> bool:
    """Whether somebody is watching who can be shown a progress bar."""
    return sys.stderr.isatty()


class EpochLines(Callback):
    """About ten plain lines in the course of training, for logs."""

    def on_train_begin(self, network: Network, epochs: int) -> None:
        """Learn how many epochs there will be."""
        self.epochs = epochs

    def on_epoch_end(self, network: Network, epoch: int, logs: dict[str, float]) -> None:
        """Print a line, if it is time for one."""
        if (epoch + 1) % max(1, self.epochs // 10) == 0 or epoch + 1 == self.epochs:
            numbers = ", ".join(
                f"{name.replace('_', ' ')} {value:.4f}"
                for name, value in logs.items()
                if name != "time"
            )
            width = len(str(self.epochs))
            line = f"epoch {epoch + 1:>{width}} of {self.epochs}: {numbers}"
            print(line, file=sys.stderr, flush=True)


def describe_target(model: Model, classes: NDArray[Any] | None) -> str:
    """Say what is predicted: classes, or a number with its mean and spread."""
    if model.task == "classification":
        if classes is None:
            return f"target: {model.target}, {model.network.n_out} classes"
        return f"target: {model.target}, {len(classes)} classes ({_some(classes.tolist())})"
    if model.scaler is None:
        return f"target: {model.target}, {model.network.n_out} value(s)"
    pairs = zip(model.scaler.center, model.scaler.scale, strict=True)
    listed = _some([f"mean {mean:.4g}, standard deviation {std:.4g}" for mean, std in pairs])
    return f"target: {model.target}, a number, {listed}"


def describe_columns(model: Model, *, every: bool = False) -> str:
    """Say what becomes of the inputs: plain numbers in one line, each other column in its own."""
    encoder = model.encoder
    if encoder is None:
        return f"inputs: {model.network.n_in} numbers, taken as they are"
    plain = [r.column for r in encoder.report if r.text == "number."]
    others = [str(r) for r in encoder.report if r.text != "number."]
    text = f"inputs: {len(encoder.report)} columns make {len(encoder.feature_names)} features"
    lines = [text]
    if plain:
        lines.append(f"  numbers: {', '.join(plain) if every else _some(plain)}")
    lines += [f"  {line}" for line in (others if every else others[:_MOST_COLUMNS])]
    if len(others) > _MOST_COLUMNS and not every:
        lines.append(f"  ... {len(others) - _MOST_COLUMNS} more; see dnncore info MODEL")
    return "\n".join(lines)


def describe_network(network: Network) -> str:
    """Say the network in a line, as ``64-256-256-10, relu``."""
    dense = [layer for layer in walk(network.layers) if isinstance(layer, Dense)]
    dropout = [layer for layer in walk(network.layers) if isinstance(layer, Dropout)]
    words = ["-".join(str(n) for n in (network.n_in, *(layer.units for layer in dense)))]
    words += dict.fromkeys(layer.activation for layer in dense[:-1])
    words += dict.fromkeys(f"dropout {layer.rate:g}" for layer in dropout)
    return f"network: {', '.join(words)}; {network.n_params:,} parameters"


def describe_scores(model: Model, y: NDArray[Any], predicted: NDArray[Any]) -> str:
    """Say how good predictions are, beside always giving the same answer."""
    scores = model.scores(y, predicted)
    rows = f"{len(y)} row{'s' * (len(y) != 1)}"
    if model.task == "classification":
        text = f"accuracy {scores['accuracy']:.4f} on {rows}"
        if model.majority is not None:
            text += f"; always answering {model.majority}: {scores['baseline_accuracy']:.4f}"
        return text
    text = f"R2 {scores['r2']:.4f}, RMSE {scores['rmse']:.4g} on {rows}"
    if model.scaler is not None:
        baseline = f"R2 {scores['baseline_r2']:.4f}, RMSE {scores['baseline_rmse']:.4g}"
        text += f"; always answering the training mean: {baseline}"
    return text


def _some(values: list[Any]) -> str:
    listed = ", ".join(str(value) for value in values[:_MOST_NAMES])
    more = len(values) - _MOST_NAMES
    return listed + (f" and {more} more" if more > 0 else "")
