"""The command line: ``dnncore train``, ``predict``, ``evaluate``, ``info`` and ``bench``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import dnncore
from dnncore._cli_data import SETS, load_data, read_target
from dnncore._cli_model import Model, fingerprint
from dnncore._cli_output import check_output, predictions_as_csv, save_bytes
from dnncore._cli_report import describe_columns, describe_scores, describe_target, note, say
from dnncore._kernels import ACTIVATIONS
from dnncore._validation import check_int
from dnncore.optimizers import OPTIMIZERS

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Its arguments; by default those of the process.

    Returns
    -------
    int
        Exit code: 0, 2 after an error (one line on the error stream tells it), 130 after Ctrl-C.
    """
    try:
        args = _parser().parse_args(argv)
        args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("dnncore: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ArithmeticError, ImportError, MemoryError, OSError, TypeError, ValueError) as error:
        print(f"dnncore: error: {_in_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _in_one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        message = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    else:
        message = str(error) or type(error).__name__
    if isinstance(error, MemoryError):
        message = f"Not enough memory. {message}"
    return " ".join(message.split())


# ---------------------------------------------------------------------- options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="dnncore", description="Train fully connected deep networks, and use them."
    )
    parser.add_argument("--version", action="version", version=f"dnncore {dnncore.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add, name, text in (
        (_add_train, "train", "train on data; save the model and a picture"),
        (_add_predict, "predict", "predict new rows with a model"),
        (_add_evaluate, "evaluate", "score a model on data with known targets"),
        (_add_info, "info", "describe a model, or this installation"),
        (_add_bench, "bench", "show where the time of training goes"),
    ):
        add(commands.add_parser(name, help=text, description=f"{text.capitalize()}."))
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        metavar="DATA",
        help=f"{', '.join(SETS)}; or a .csv, .parquet or .npz file, or a directory of IDX files",
    )
    parser.add_argument(
        "--data", dest="directory", metavar="DIR", help="where the files of (fashion-)mnist are"
    )


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_train)
    _add_data(parser)
    add = parser.add_argument
    # fmt: off
    add("--target", metavar="COL",
        help="column to predict (default: one called target, label, class or y; else the last)")
    add("--drop", metavar="COL", action="append", default=[],
        help="column to leave out; may be given several times")
    add("--task", choices=("auto", "classification", "regression"), default="auto",
        help="what the target is (default: auto, by its values)")
    add("--hidden", metavar="SIZES", default="256,256",
        help="sizes of the hidden layers, or none (default: 256,256)")
    add("--activation", choices=sorted(ACTIVATIONS), metavar="NAME", default="relu",
        help="of the hidden layers (default: relu)")
    add("--dropout", type=float, metavar="R", default=0.0,
        help="share of hidden units to drop while training (default: 0)")
    add("--epochs", type=_count, metavar="N",
        help="passes over the data (default: 40; 20 from 10,000 rows on)")
    add("--batch-size", type=_count, metavar="N",
        help="rows a step (default: 32; 128 from 10,000 rows on)")
    add("--optimizer", choices=sorted(OPTIMIZERS), default="adamw", help="(default: adamw)")
    add("--learning-rate", type=float, metavar="LR",
        help="at the start; it falls to 0 along a cosine (default: the optimizer's)")
    add("--weight-decay", type=float, metavar="W",
        help="of adamw (default: 0.3; 1 for numbers)")
    add("--test-fraction", type=float, metavar="F", default=0.2,
        help="share of rows to test with, unless the data bring their own (default: 0.2)")
    add("--seed", type=int, default=0, help="of split, weights and shuffling (default: 0)")
    add("--out", metavar="FILE", default="model.safetensors",
        help="the model to write (default: model.safetensors)")
    add("--plot", metavar="FILE",
        help="the picture to write, .png, .svg or .pdf (default: named as the model)")
    add("--report", metavar="FILE",
        help="also write an .html page about data, training, scores and the worst errors")
    add("--no-plot", action="store_true", help="draw no picture")
    add("--quiet", action="store_true", help="print the score only")
    # fmt: on


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_predict)
    parser.add_argument("model", metavar="MODEL", help="file that dnncore train wrote")
    _add_data(parser)
    parser.add_argument("--out", metavar="FILE", help="CSV file to write (default: print it)")
    parser.add_argument("--proba", action="store_true", help="also give each class's probability")


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_evaluate)
    parser.add_argument("model", metavar="MODEL", help="file that dnncore train wrote")
    _add_data(parser)
    parser.add_argument(
        "--target", metavar="COL", help="column with the truth (default: as in training)"
    )


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_info)
    parser.add_argument("model", metavar="MODEL", nargs="?", help="file that dnncore train wrote")


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_bench)
    add = parser.add_argument
    # fmt: off
    add("model", metavar="MODEL", nargs="?", help="file that dnncore train wrote")
    add("data", metavar="DATA", nargs="?", help="what to train it on")
    add("--layers", metavar="SIZES", help="sizes from input to output, e.g. 784-512-10, with "
        "generated data")
    add("--data", dest="directory", metavar="DIR", help="where the files of (fashion-)mnist are")
    add("--target", metavar="COL", help="column with the truth (default: as in training)")
    add("--activation", choices=sorted(ACTIVATIONS), metavar="NAME", default="relu",
        help="of the hidden --layers (default: relu)")
    add("--dtype", choices=("float32", "float64"), default="float32",
        help="of --layers (default: float32)")
    add("--batch", type=_count, metavar="N", default=128, help="rows a step (default: 128)")
    add("--optimizer", choices=sorted(OPTIMIZERS), default="adam", help="(default: adam)")
    add("--threads", type=_count, metavar="N", help="(default: by the size of a step)")
    add("--seconds", type=float, metavar="S", default=1.0, help="how long to look (default: 1)")
    add("--json", metavar="FILE", help="also write the numbers there")
    # fmt: on


def _count(text: str) -> int:
    try:
        return check_int(int(text), "it")
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, got {text!r}") from error


# ---------------------------------------------------------------------- commands


def _train(args: argparse.Namespace) -> None:
    from dnncore._cli_train import run

    run(args)


def _bench(args: argparse.Namespace) -> None:
    from dnncore._cli_bench import run

    run(args)


def _predict(args: argparse.Namespace) -> None:
    if args.out is not None:
        check_output(args.out, "--out", args.model, args.data)
    model = Model.load(args.model)
    data = load_data(
        args.data,
        directory=args.directory,
        trained_target=model.target,
        needs_target=False,
        text_columns=model.text_columns,
    )
    text = predictions_as_csv(model, model.encode(data.new), proba=args.proba)
    if args.out is None:
        sys.stdout.write(text)
    else:
        save_bytes(args.out, text.encode())
        say(f"{len(data.new)} predictions in {args.out}")


def _evaluate(args: argparse.Namespace) -> None:
    model = Model.load(args.model)
    data = load_data(
        args.data,
        directory=args.directory,
        target=args.target,
        trained_target=model.target,
        text_columns=model.text_columns,
    )
    rows, target = data.new.labelled(data.target)
    X, y = model.encode(rows), read_target(target, data.target, model.task, model.network.classes_)
    held = model.held_out
    if data.test is not None:
        note(f"scoring the part of {data.name} that is kept for testing")
    elif held is not None and held.rows == len(y) and held.fingerprint == fingerprint(X, y):
        _, kept = held.split(y)
        X, y = X[kept], y[kept]
        note("these are the data of training; scoring the rows that were kept for testing")
    say(describe_scores(model, y, model.predict(X)))


def _info(args: argparse.Namespace) -> None:
    if args.model is None:
        dnncore.show_versions()
        return
    model = Model.load(args.model)
    say(model.network.summary())
    say(describe_target(model, model.network.classes_))
    say(describe_columns(model, every=True))
