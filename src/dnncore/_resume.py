"""Going on from a checkpoint: is it of this training, and what is taken from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dnncore._plain import dump, encode
from dnncore._state import model_arrays
from dnncore.callbacks import Callback
from dnncore.checkpoints import Saved

if TYPE_CHECKING:
    from dnncore.network import Network

__all__ = ["check_terms", "take_over"]

_WORDS = {
    "data": "",
    "batch_size": "batch_size",
    "part_rows": "accumulate",
    "shuffle": "shuffle",
    "optimizer": "the optimizer",
    "averaging": "averaging",
}


def check_terms(
    saved: Saved, network: Network, terms: dict[str, Any], callbacks: Sequence[Callback]
) -> dict[str, Any]:
    """Return the state of the loop in a checkpoint, once it is known to be of this training.

    Raises
    ------
    ValueError
        If network, data, options or callbacks differ, naming what.
    """
    run = saved.run
    where = f"Cannot go on from {saved.path!r}"
    if run is None:
        raise ValueError(
            f"{where}: it was not written during fit. Load it with dnncore.load_checkpoint."
        )
    ours, theirs = _config(network), _config(saved.network)
    for name, value in theirs.items():
        if ours[name] != value:
            raise ValueError(f"{where}: its network has {name}={value}, this one {ours[name]}.")
    for name, words in _WORDS.items():
        if run[name] != terms[name]:
            if name == "data":
                raise ValueError(
                    f"{where}: the data must be what they were; these are others, or weighted "
                    "differently."
                )
            raise ValueError(
                f"{where}: {words} must be what it was; it was {run[name]} and is now "
                f"{terms[name]}."
            )
    start, rows = saved.network._position.start, terms["data"][0]
    if start > rows or (start == rows and run["stage"] != "after"):
        raise ValueError(f"{where}: its place in the epoch, row {start}, is not within the data.")
    kinds = [kind for kind, _ in run["callbacks"]]
    given = [type(callback).__name__ for callback in callbacks]
    if kinds != given:
        raise ValueError(
            f"{where}: callbacks with a state must be what they were, {kinds}; got {given}."
        )
    return run


def take_over(saved: Saved, network: Network) -> None:
    """Copy parameters, optimizer state and position of a checkpoint's network."""
    arrays = model_arrays(network)
    for name, array in model_arrays(saved.network).items():
        np.copyto(arrays[name], array)
    network._state = saved.network._state
    network._average = saved.network._average
    network._position = saved.network._position
    network._forward_step = saved.network._forward_step


def _config(network: Network) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(dump(encode(network.get_config(), "config")))
    return config
