"""From the arguments of ``Network.fit`` to a plan whose every part has been checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import ArrayLike

from dnncore import checkpoints
from dnncore._data import ClassWeight, as_validation, split, weigh
from dnncore._scores import scores
from dnncore._threads import threads_for, training_work
from dnncore._validation import check_bool, check_int
from dnncore.averaging import Averaging, as_averaging
from dnncore.callbacks import (
    Callback,
    ProgressBar,
    as_callbacks,
    check_monitors,
    somebody_watches,
)
from dnncore.lbfgs import LBFGS, check_lbfgs
from dnncore.metrics import Metric
from dnncore.optimizers import SGD, Optimizer, as_optimizer
from dnncore.training import Plan

if TYPE_CHECKING:
    from dnncore.network import Network

__all__ = ["plan_fit"]


def plan_fit(
    network: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    epochs: int,
    batch_size: int | None,
    optimizer: str | Optimizer | LBFGS,
    accumulate: int,
    averaging: Averaging | None,
    shuffle: bool,
    sample_weight: ArrayLike | None,
    class_weight: ClassWeight | None,
    validation_data: tuple[Any, ...] | None,
    validation_split: float,
    stratify: bool | None,
    validation_every: int,
    validation_every_steps: int | None,
    metrics: Sequence[str | Metric | Callable[..., float]] | None,
    callbacks: Sequence[Callback],
    resume_from: str | os.PathLike[str] | None,
    n_threads: int | None,
    verbose: bool | Literal["auto"],
) -> Plan:
    """Check everything that ``Network.fit`` was given; nothing of the network has changed before.

    Raises
    ------
    TypeError, ValueError, ModelFormatError
        As ``Network.fit``.
    """
    epochs = check_int(epochs, "epochs", minimum=0)
    threads_for(n_threads, 0)
    check_bool(shuffle, "shuffle")
    chosen = SGD() if isinstance(optimizer, LBFGS) else as_optimizer(optimizer)
    called = as_callbacks(callbacks)
    if isinstance(optimizer, LBFGS):
        batch_size = None if batch_size == 128 else batch_size
    targets = network._targets.learn(y)
    data = network._data(targets, X, y, sample_weight)
    validation = as_validation(
        network.n_in, targets, validation_data, dense_because=network._dense_because
    )
    if validation_split:
        if validation is not None:
            raise ValueError("Give validation_data or validation_split, not both.")
        data, validation = split(
            data, targets, validation_split, stratify=stratify, seed=network.seed
        )
    average = as_averaging(averaging)
    size = data.rows if batch_size is None else check_int(batch_size, "batch_size")
    if isinstance(optimizer, LBFGS):
        given = {
            "accumulate": accumulate != 1,
            "averaging": averaging is not None,
            "validation_every_steps": validation_every_steps is not None,
        }
        check_lbfgs(network, given, batch_size, data.rows)
    size = min(size, data.rows)
    network._check_batch(size)
    step_rows = min(size * check_int(accumulate, "accumulate"), data.rows)
    data = weigh(targets, data, class_weight)
    every = check_int(validation_every, "validation_every")
    if validation_every_steps is not None:
        check_int(validation_every_steps, "validation_every_steps")
    scored = data if validation is None and metrics is not None else validation
    asked = network._metrics(metrics)
    if validation is None and metrics is None:
        asked = []
    names = [] if validation is None else ["val_loss"]
    names += [metric.name if validation is None else f"val_{metric.name}" for metric in asked]

    check_monitors(called, ["loss", *names, "time"])

    def score() -> dict[str, float]:
        if scored is None:
            return {}
        loss = validation is not None
        found = scores(network._looked_at, scored, asked, loss=loss)
        return dict(zip(names, found.values(), strict=True))

    if verbose == "auto":
        called += [ProgressBar(delay=1.0)] if somebody_watches() else []
    elif check_bool(verbose, "verbose"):
        called.append(ProgressBar())
    saved = None if resume_from is None else checkpoints.find(resume_from)
    network._targets = targets
    network._greater = {metric.name: metric.greater_is_better for metric in asked}
    return Plan(
        data,
        epochs,
        step_rows,
        chosen,
        shuffle and step_rows < data.rows,
        threads_for(n_threads, training_work(size, network._program.work_per_row)),
        called,
        score if names else None,
        tuple(names),
        validation is not None,
        every,
        validation_every_steps,
        saved,
        size if size < step_rows else 0,
        average,
    )
