"""Checkpoints: all of training in a file, so that it can go on with the same bits.

A checkpoint holds the network and its parameters, the optimizer's moments, the place in the data,
what has been recorded, and the state of callbacks. Shuffles and dropout masks are computed from
the seed, the epoch and the step, so there is no generator to keep. Files are written as model
files are: atomically, durably, with a checksum that reading verifies.

``callbacks.Checkpoint`` writes them during ``fit``; ``fit(resume_from=...)`` goes on from them.
With a loop of your own, ``save_checkpoint`` and ``load_checkpoint`` do the same for a network.
"""

from __future__ import annotations

import math
import os
import re
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnncore._engine import Data, Position
from dnncore._kernels import OPTIMIZERS
from dnncore._plain import decode, dump, encode, parse_mapping
from dnncore._safefile import MAX_BYTES, StrPath, read_tensors, write_tensors
from dnncore._state import model_arrays, training_arrays
from dnncore._validation import check_finite, check_int
from dnncore.averaging import Kept
from dnncore.exceptions import ModelFormatError
from dnncore.optimizers import Optimizer, OptimizerState
from dnncore.serialization import build_network, check_version, describe, fill

if TYPE_CHECKING:
    from dnncore.network import Network

__all__ = ["Saved", "find", "fingerprint", "load_checkpoint", "plain", "save_checkpoint"]

_KIND = "dnncore-checkpoint"
_PREFIX = "run."
_NAME = re.compile(r"checkpoint-([0-9]{12})\.safetensors")


@dataclass
class Saved:
    """A checkpoint that has been read.

    Attributes
    ----------
    path : str
        The file.
    network : Network
        With its parameters, optimizer state and position.
    run : dict or None
        What ``fit`` needs to go on; None if the file was written outside of it.
    """

    path: str
    network: Network
    run: dict[str, Any] | None


def save_checkpoint(
    network: Network, path: StrPath, *, run: Mapping[str, Any] | None = None
) -> None:
    """Write a network with all that training needs to go on, atomically and durably.

    Parameters
    ----------
    network : Network
        The network.
    path : path-like
        The file; an existing one is replaced only by a complete new one.
    run : mapping, optional
        What ``fit`` adds.

    Raises
    ------
    OSError
        If the file cannot be written; an existing one then stays as it was.
    ValueError
        If a parameter is not finite.

    Examples
    --------
    >>> import dnncore as dnn
    >>> net = dnn.Network(2, [dnn.Dense(1)], loss="mse")
    >>> loss = net.train_step([[0.0, 1.0]], [1.0])
    >>> dnn.save_checkpoint(net, "state.safetensors")  # doctest: +SKIP
    """
    state, at = network._state, network._position
    arrays = model_arrays(network) | training_arrays(network)
    for name, array in arrays.items():
        check_finite(array, name)
    training: dict[str, Any] = {
        "optimizer": None if state is None else state.kernel,
        "position": [at.step, at.epoch, at.start, at.loss_sum, at.weight_sum],
        "forward_step": network._forward_step,
        "averages": None if network._average is None else network._average.count,
    }
    found: dict[str, NDArray[Any]] = {}
    if run is not None:
        training["position"] = list(run["position"])
        training["run"] = encode(run, "training", found, prefix=_PREFIX, allow_nonfinite=True)
    metadata = describe(network, _KIND) | {"training": dump(training)}
    write_tensors(path, arrays | found, metadata, allow_nonfinite=True)


def load_checkpoint(path: StrPath) -> Network:
    """Read the network of a checkpoint: to predict with, or to go on training in your own loop.

    Parameters
    ----------
    path : path-like
        A file, or a folder that ``callbacks.Checkpoint`` has written to; of a folder the newest
        valid file is taken.

    Returns
    -------
    Network
        Its next ``train_step`` is the one that the saved network would have made.

    Raises
    ------
    ModelFormatError
        If there is no valid checkpoint.
    OSError
        If it cannot be read.
    """
    saved = find(path)
    if saved is None:
        raise ModelFormatError(f"There is no checkpoint in {os.fsdecode(path)!r}.")
    return saved.network


def find(path: StrPath) -> Saved | None:
    """Read a checkpoint, or the newest valid one of a folder; None if there is none at all.

    Raises
    ------
    ModelFormatError
        If there are files but none is valid.
    OSError
        If they cannot be read.
    """
    name = os.fsdecode(path)
    if not os.path.isdir(name):
        return _read(name) if os.path.lexists(name) else None
    first: ModelFormatError | None = None
    for _, file in reversed(generations(name)):
        try:
            saved = _read(file)
        except ModelFormatError as error:
            first = first or error
            continue
        if first is not None:
            warnings.warn(
                f"{first} Going on from the older {os.path.basename(file)}.",
                RuntimeWarning,
                stacklevel=4,
            )
        return saved
    if first is not None:
        raise first
    return None


def generations(folder: str) -> list[tuple[int, str]]:
    """List number and path of a folder's checkpoints, oldest first."""
    if not os.path.isdir(folder):
        return []
    matches = [_NAME.fullmatch(name) for name in os.listdir(folder)]
    return sorted((int(m[1]), os.path.join(folder, m[0])) for m in matches if m is not None)


def file_name(number: int) -> str:
    """Name of the checkpoint with a number."""
    return f"checkpoint-{number:012d}.safetensors"


def fingerprint(data: Data) -> list[int]:
    """Return a checksum of examples: rows, and CRC-32 of inputs, targets and weights."""
    total = 0
    for array in (data.x, data.labels, data.target, data.weight, *(data.sparse or ())):
        if array is not None:
            total = zlib.crc32(array.reshape(-1).view(np.uint8).data, total)
    return [data.rows, total]


def plain(settings: Any) -> Any:
    """Describe an optimizer or a schedule in plain values, to compare it with another."""
    if is_dataclass(settings) and not isinstance(settings, type):
        values = {f.name: plain(getattr(settings, f.name)) for f in fields(settings)}
        return {"kind": type(settings).__name__} | values
    if isinstance(settings, Mapping):
        return {str(key): plain(value) for key, value in settings.items()}
    if isinstance(settings, list | tuple):
        return [plain(value) for value in settings]
    if settings is None or isinstance(settings, str | bool | int):
        return settings
    if isinstance(settings, float) and math.isfinite(settings):
        return settings
    return getattr(settings, "__qualname__", type(settings).__qualname__)


def optimizer_of(optimizer: Optimizer) -> str:
    """Return the optimizer's description as text."""
    return dump(plain(optimizer))


# ---------------------------------------------------------------------- reading


def _read(path: str) -> Saved:
    tensors, metadata = read_tensors(path, max_bytes=4 * MAX_BYTES, allow_nonfinite=True)
    hint = ""
    try:
        hint = check_version(metadata, _KIND)
        network = build_network(metadata)
        training = parse_mapping(metadata, "training")
        try:
            run = decode(training.get("run"), "training", tensors, prefix=_PREFIX)
            _restore(network, training)
            if run is not None:
                _check_run(run)
        except ModelFormatError:
            raise
        except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
            raise ModelFormatError(f"its state of training is not valid ({error!r})") from error
        arrays = model_arrays(network) | training_arrays(network)
        fill(arrays, tensors)
        for name, array in arrays.items():
            try:
                check_finite(array, f"tensor {name!r}")
            except ValueError as error:
                raise ModelFormatError(f"{error}".rstrip(".")) from error
    except ModelFormatError as error:
        raise ModelFormatError(f"Cannot load {path!r}: {error}.{hint}") from error.__cause__
    return Saved(path, network, run)


_NUMBER = (int, float)
_RUN: dict[str, type | tuple[type, ...]] = {
    "stage": str,
    "first_epoch": int,
    "first_step": int,
    "steps": int,
    "epochs": list,
    "validations": list,
    "scores": list,
    "seconds": _NUMBER,
    "loss_before": list,
    "learning_rate_scale": _NUMBER,
    "callbacks": list,
    "data": list,
    "batch_size": int,
    "part_rows": int,
    "shuffle": bool,
    "optimizer": str,
    "averaging": str,
}


def _check_run(run: Any) -> None:
    """Refuse a state of ``fit`` that ``fit`` has not written.

    Raises
    ------
    LookupError, TypeError, ValueError
        If it is something else.
    """
    for name, kind in _RUN.items():
        if not isinstance(run[name], kind):
            raise TypeError(f"{name} is {run[name]!r:.40}")
    if run["stage"] not in ("begin", "run", "after"):
        raise ValueError(f"stage is {run['stage']!r:.40}")
    if len(run["loss_before"]) != 2:
        raise ValueError("loss_before is not a pair")
    for name in ("epochs", "validations", "scores"):
        for key, values in run[name]:
            if not isinstance(key, str) or values.dtype != np.float64 or values.ndim != 1:
                raise TypeError(f"{name} does not hold columns of numbers")
    for kind, state in run["callbacks"]:
        if not isinstance(kind, str) or not isinstance(state, dict):
            raise TypeError("callbacks does not hold states")


def _restore(network: Network, training: Mapping[str, Any]) -> None:
    """Give a new network the optimizer state, still zero, and the position of a file."""
    kernel = training["optimizer"]
    if kernel is not None:
        if kernel not in OPTIMIZERS:
            raise ModelFormatError(f"it names the unknown optimizer {str(kernel)[:40]!r}")
        network._state = OptimizerState.start(kernel, network.n_params, network.dtype)
    step, epoch, start, loss_sum, weight_sum = training["position"]
    big = 2**62
    network._position = Position(
        check_int(step, "step", minimum=0, maximum=big),
        check_int(epoch, "epoch", minimum=0, maximum=big),
        check_int(start, "start", minimum=0, maximum=big),
        float(loss_sum),
        float(weight_sum),
    )
    forward_step = training["forward_step"]
    network._forward_step = check_int(forward_step, "forward_step", minimum=0, maximum=big)
    averages = training.get("averages")
    if averages is not None:
        network._average = Kept.start(
            network, count=check_int(averages, "averages", minimum=0, maximum=big)
        )
