"""``dnncore train``: from data to a model file, a picture and a score on rows kept apart."""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnncore._cli_data import Data, Rows, load_data, read_target
from dnncore._cli_model import HeldOut, Model, encode, fingerprint
from dnncore._cli_output import check_output, save_bytes, save_picture
from dnncore._cli_report import (
    EpochLines,
    describe_columns,
    describe_network,
    describe_scores,
    describe_target,
    is_terminal,
    note,
    say,
)
from dnncore._report import Part, Run, make_page
from dnncore._validation import check_int, check_real
from dnncore.callbacks import Callback, LayerStatistics, ProgressBar
from dnncore.exceptions import DivergenceError
from dnncore.history import History
from dnncore.layers import Dense, Dropout, Layer
from dnncore.network import Network
from dnncore.optimizers import OPTIMIZERS, AdamW, Optimizer
from dnncore.preprocessing import Standardizer
from dnncore.schedules import Cosine, PerEpoch
from dnncore.tables import TableEncoder, infer_task

__all__ = ["run"]

_MANY_ROWS = 10_000  # from here on larger batches and fewer epochs are the default
_WATCHED = 500  # rows on which the layers are looked at for the report
# Of 0, 0.1, 0.3, 1 and 3 the best over the sets that come with scikit-learn, Fashion-MNIST and
# Friedman's function; dropout added nothing to it, and pulls predicted numbers to their mean.
_WEIGHT_DECAY = {"classification": 0.3, "regression": 1.0}


def run(args: argparse.Namespace) -> None:
    """Carry out ``dnncore train``."""
    # Whatever can be refused is refused before any work is done.
    hidden = _hidden_layers(args)
    _optimizer(args)
    check_real(args.test_fraction, "--test-fraction", minimum=0, maximum=1, exclusive=True)
    check_int(args.seed, "--seed", minimum=0, maximum=2**64 - 1)
    check_output(args.out, "--out", args.data)
    picture = _picture_path(args)
    if picture is not None:
        check_output(picture, "--plot", args.data, args.out)
    if args.report is not None:
        check_output(args.report, "--report", args.data, args.out, *filter(None, [picture]))

    data = load_data(args.data, directory=args.directory, target=args.target, drop=args.drop)
    model, train, test = _prepare(data, args, hidden)
    optimizer = _optimizer(args, model.task)
    many = len(train.X) >= _MANY_ROWS
    batch_size = min(args.batch_size or (128 if many else 32), len(train.X))
    epochs = args.epochs or (20 if many else 40)
    unused = len(data.rows) - len(train) - (len(test) if data.test is None else 0)
    if not args.quiet:
        say(
            f"data: {data.name}, {len(train.X)} rows to train on, {len(test.X)} to test with"
            + f", {unused} without target left out" * (unused > 0)
        )
        classes = np.unique(train.y) if model.task == "classification" else None
        say(describe_target(model, classes))
        say(describe_columns(model))
        say(describe_network(model.network))
        say(
            f"training: {epochs} epochs of {math.ceil(len(train.X) / batch_size)} steps, "
            f"{args.optimizer}, learning rate {optimizer.learning_rate:g} falling to 0"
        )
    progress: Callback = Callback()
    if not args.quiet:
        progress = ProgressBar() if is_terminal() else EpochLines()
    began = time.perf_counter()
    watch = _watch(model, train) if args.report is not None else None
    called = [progress] if watch is None else [progress, watch]
    history = _train(model, train, test, optimizer, epochs, batch_size, called)
    seconds = time.perf_counter() - began

    predicted = model.predict(test.X)
    say(f"test part: {describe_scores(model, test.y, predicted)}")
    model.save(args.out)
    if picture is not None:
        save_picture(picture, history, model, test.y, predicted)
    if watch is not None:
        run = Run(
            data.name, _table(data.rows), None if data.test is None else _table(data.test), model,
            train, test, history, watch, _settings(args, optimizer, epochs, batch_size), unused,
            seconds,
        )  # fmt: skip
        save_bytes(args.report, make_page(run).encode())
    if not args.quiet:
        also = "" if picture is None else f", picture in {picture}"
        also += "" if watch is None else f", report in {args.report}"
        say(f"trained in {seconds:.1f} s; model in {args.out}{also}")


# ---------------------------------------------------------------------- options


def _hidden_layers(args: argparse.Namespace) -> list[Layer]:
    layers: list[Layer] = []
    for units in [] if args.hidden == "none" else args.hidden.split(","):
        try:
            layers.append(Dense(int(units), args.activation))
        except ValueError as error:
            raise ValueError(
                f"--hidden must be sizes such as 256,128, or none; got {args.hidden!r}."
            ) from error
        try:
            dropout = Dropout(args.dropout)
        except ValueError as error:
            raise ValueError(f"--dropout: {error}") from error
        if dropout.rate > 0:
            layers.append(dropout)
    return layers


def _optimizer(args: argparse.Namespace, task: str = "classification") -> Optimizer:
    kind = OPTIMIZERS[args.optimizer]
    options = {} if args.learning_rate is None else {"learning_rate": args.learning_rate}
    if kind is AdamW:
        decay = _WEIGHT_DECAY[task] if args.weight_decay is None else args.weight_decay
        options["weight_decay"] = decay
    elif args.weight_decay is not None:
        raise ValueError(f"--weight-decay goes with --optimizer adamw; got {args.optimizer}.")
    return kind(**options)


def _picture_path(args: argparse.Namespace) -> str | None:
    if args.no_plot:
        return None
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        if args.plot is not None:
            raise ImportError("--plot needs matplotlib: pip install 'dnncore[plot]'.") from error
        note("no picture without matplotlib: pip install 'dnncore[plot]'")
        return None
    return args.plot or str(Path(args.out).with_suffix(".png"))


# ---------------------------------------------------------------------- data and network


def _prepare(data: Data, args: argparse.Namespace, hidden: list[Layer]) -> tuple[Model, Part, Part]:
    """Split and encode the data, learning from the rows to train on only."""
    name = data.target
    rows, target = data.rows.labelled(name)
    task = infer_task(target) if args.task == "auto" else args.task
    y = read_target(target, name, task)
    _check_target(y, name)
    at = np.flatnonzero(data.rows.known(name))
    if data.test is None:
        held = HeldOut(len(y), 0, args.test_fraction, args.seed)
        rest, kept = held.split(y)
        encoder = _fit_encoder(rows, rest)
        X = encode(encoder, rows)
        held = replace(held, fingerprint=fingerprint(X, y))
        train, test = Part(X[rest], y[rest], at[rest]), Part(X[kept], y[kept], at[kept])
        model = Model(_build(train, task, hidden, args.seed), name, encoder, held_out=held)
    else:
        encoder = _fit_encoder(rows, slice(None))
        train = Part(encode(encoder, rows), y, at)
        new, target = data.test.labelled(name)
        classes = y if task == "classification" else None
        labels = read_target(target, name, task, classes)
        test = Part(encode(encoder, new), labels, np.flatnonzero(data.test.known(name)))
        model = Model(_build(train, task, hidden, args.seed), name, encoder)
    if task == "regression":
        model.scaler = Standardizer().fit(train.y)
    else:
        labels, counts = np.unique(train.y, return_counts=True)
        model.majority = labels[counts.argmax()].item()
    return model, train, test


def _fit_encoder(rows: Rows, chosen: NDArray[Any] | slice) -> TableEncoder | None:
    if not isinstance(rows.inputs, dict):
        return None
    return TableEncoder().fit({name: values[chosen] for name, values in rows.inputs.items()})


def _build(train: Part, task: str, hidden: list[Layer], seed: int) -> Network:
    if task == "regression":
        layers = [*hidden, Dense(train.y.shape[1])]
        return Network(train.X.shape[1], layers, loss="mse", seed=seed)
    layers = [*hidden, Dense(len(np.unique(train.y)))]
    return Network(train.X.shape[1], layers, loss="softmax_cross_entropy", seed=seed)


def _check_target(y: NDArray[Any], name: str) -> None:
    for column in y.T if y.ndim == 2 else [y]:
        if (column == column[0]).all():
            raise ValueError(
                f"The target {name!r} is {column[0]} in every row; there is nothing to learn."
            )
    distinct = 0 if y.ndim == 2 else len(np.unique(y))
    if distinct > len(y) / 2:
        raise ValueError(
            f"The target {name!r} has {distinct} different values in {len(y)} rows, too many for "
            "classes. Choose another --target, or --task regression."
        )


# ---------------------------------------------------------------------- training


class _Rename(Callback):
    """Calls what is watched the test part."""

    def on_epoch_end(self, network: Network, epoch: int, logs: dict[str, float]) -> None:
        for name in [name for name in logs if name.startswith("val_")]:
            logs[f"test_{name.removeprefix('val_')}"] = logs.pop(name)


def _train(
    model: Model,
    train: Part,
    test: Part,
    optimizer: Optimizer,
    epochs: int,
    batch_size: int,
    callbacks: list[Callback],
) -> History:
    """Train with a learning rate that falls to 0 along half a cosine, watching the test part.

    Nothing is chosen by what the test part shows.
    """
    y = train.y if model.scaler is None else model.scaler.transform(train.y)
    watched = _known(model, train, test)
    rate = optimizer.value("learning_rate")
    try:
        return model.network.fit(
            train.X,
            y,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=replace(optimizer, learning_rate=PerEpoch(Cosine(rate))),
            validation_data=None if watched is None else (watched.X, watched.y),
            callbacks=[_Rename(), *callbacks],
            verbose=False,
        )
    except DivergenceError as error:
        raise DivergenceError(
            f"Training diverged in epoch {error.epoch}, step {error.step}. Nothing was saved. "
            f"Try a smaller --learning-rate than {rate:g}.",
            epoch=error.epoch,
            step=error.step,
        ) from error


def _watch(model: Model, train: Part) -> LayerStatistics:
    """Return what watches the layers, on rows from all over the training part."""
    some = np.linspace(0, len(train) - 1, min(len(train), _WATCHED)).astype(int)
    y = train.y[some]
    if model.scaler is not None:
        y = model.scaler.transform(y)
    return LayerStatistics(train.X[some], y)


def _table(rows: Rows) -> dict[str, NDArray[Any]] | None:
    return rows.inputs if isinstance(rows.inputs, dict) else None


def _settings(
    args: argparse.Namespace, optimizer: Optimizer, epochs: int, batch_size: int
) -> dict[str, str]:
    found = {"optimizer": args.optimizer}
    found["learning rate"] = f"{optimizer.value('learning_rate'):g}, falling to 0 along a cosine"
    if isinstance(optimizer, AdamW):
        found["weight decay"] = f"{optimizer.value('weight_decay'):g}"
    return found | {
        "epochs": str(epochs),
        "rows a step": str(batch_size),
        "seed": str(args.seed),
        "model file": Path(args.out).name,
    }


def _known(model: Model, train: Part, test: Part) -> Part | None:
    """Return what of the test part the network can score: values scaled, labels it knows."""
    if model.scaler is not None:
        return Part(test.X, model.scaler.transform(test.y), test.numbers)
    known = np.isin(test.y, train.y)
    if not known.any():
        return None
    return Part(test.X[known], test.y[known].astype(train.y.dtype), test.numbers[known])
