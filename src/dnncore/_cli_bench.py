"""``dnncore bench``: where the time of training goes, on generated data or the user's own."""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from dnncore._cli_data import load_data, read_target
from dnncore._cli_model import Model
from dnncore._cli_output import check_output, save_bytes
from dnncore._cli_report import say
from dnncore.layers import Dense
from dnncore.network import Network

__all__ = ["run"]


def run(args: argparse.Namespace) -> None:
    """Carry out ``dnncore bench``."""
    if args.json is not None:
        check_output(args.json, "--json", *[path for path in (args.model, args.data) if path])
    if (args.model is None) == (args.layers is None):
        raise ValueError("give --layers 784-512-10, or a model and the data it was trained on.")
    network, X, y = _generated(args) if args.model is None else _own(args)
    found = network.profile(
        X, y, seconds=args.seconds, batch_size=args.batch, optimizer=args.optimizer,
        n_threads=args.threads,
    )  # fmt: skip
    say(str(found))
    if args.json is not None:
        save_bytes(args.json, (json.dumps(found.to_dict(), indent=1) + "\n").encode())


def _generated(args: argparse.Namespace) -> tuple[Network, Any, Any]:
    try:
        sizes = [int(size) for size in args.layers.split("-")]
    except ValueError:
        sizes = []
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"--layers must be sizes such as 784-512-10; got {args.layers!r}.")
    layers = [Dense(units, args.activation) for units in sizes[1:-1]]
    loss = "mse" if sizes[-1] == 1 else "softmax_cross_entropy"
    network = Network(sizes[0], [*layers, Dense(sizes[-1])], loss=loss, dtype=args.dtype)
    # Enough for 64 steps, within some 64 MB.
    rows = max(args.batch, min(64 * args.batch, 2**24 // sizes[0]))
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, sizes[0]), dtype=np.float32)
    return network, X, rng.standard_normal(rows) if sizes[-1] == 1 else _labels(rows, sizes[-1])


def _labels(rows: int, classes: int) -> Any:
    return np.random.default_rng(1).integers(0, classes, rows)


def _own(args: argparse.Namespace) -> tuple[Network, Any, Any]:
    if args.data is None:
        raise ValueError("give the data too: dnncore bench MODEL DATA.")
    model = Model.load(args.model)
    data = load_data(
        args.data,
        directory=args.directory,
        target=args.target,
        trained_target=model.target,
        text_columns=model.text_columns,
    )
    rows, target = data.new.labelled(data.target)
    X = model.encode(rows)
    y = read_target(target, data.target, model.task, model.network.classes_)
    return model.network, X, y if model.scaler is None else model.scaler.transform(y)
