"""Training: slices of the engine's work with Python in between.

The engine runs until about 50 ms are over, or somebody wants to be called: at an epoch's end, after
a step. Then come callbacks, validation and checkpoints. Nothing of that changes a bit of the
result. Epochs at whose end nobody wants anything pass within the engine, which takes no GIL: of a
small network an epoch takes no longer than what Python would do after it.

For exact resume, the loop keeps to three stages. What Python knows (callbacks, history) is put
down in a snapshot before each run of the engine, and the engine moves ``Position`` forward
together with the parameters. So wherever Ctrl-C falls, snapshot, position and parameters tell
what is left to do: to begin a slice, to run it, or to do what follows it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnncore._divergence import LastFinite, diverged
from dnncore._engine import Data, Position
from dnncore._kernels import all_finite
from dnncore._steps import exclusive, step, train_step
from dnncore.averaging import Averaging, begin_average, describe_averaging
from dnncore.callbacks import Callback, Checkpoint
from dnncore.callbacks._base import overrides
from dnncore.checkpoints import Saved, fingerprint, optimizer_of
from dnncore.exceptions import DivergenceError
from dnncore.history import History
from dnncore.optimizers import Optimizer

if TYPE_CHECKING:
    from dnncore.network import Network

__all__ = ["History", "Plan", "Run", "exclusive", "step", "train", "train_step"]

SLICE_SECONDS = 0.05
"""How long the engine runs before it returns to Python for Ctrl-C, progress and callbacks."""

MOST_EPOCHS = 1000
"""How many epochs the engine may end before it returns."""

LOOK_SHARE = 100
"""Within an epoch that nobody watches, the wait between two looks at all parameters for numbers
that are not finite, in parts of what a look takes: of a large network it would cost a slice 4 %."""

_log = logging.getLogger("dnncore")


@dataclass
class Plan:
    """What ``Network.fit`` was asked for, checked."""

    data: Data
    epochs: int
    batch_size: int
    optimizer: Optimizer
    shuffle: bool
    threads: int
    callbacks: list[Callback] = field(default_factory=list)
    score: Callable[[], dict[str, float]] | None = None
    """Computes what is recorded beside the loss, by the names in the history."""
    score_names: tuple[str, ...] = ()
    validates: bool = False
    """Whether these come from validation data."""
    every_epochs: int = 1
    every_steps: int | None = None
    resume: Saved | None = None
    part_rows: int = 0
    """Rows of a mini-batch, if the gradients of several are added up for a step, which then has
    ``batch_size`` rows; else 0."""
    averaging: Averaging | None = None


def train(network: Network, plan: Plan) -> History:
    """Train a network; see ``Network.fit``."""
    return Run(network, plan).train()


class Run:
    """One call of ``fit``.

    Attributes
    ----------
    network : Network
        What is trained.
    history : History
        What has been recorded.
    resumed : str or None
        The checkpoint that training goes on from.
    """

    def __init__(self, network: Network, plan: Plan) -> None:
        self.network, self.plan = network, plan
        self.history = History()
        self.resumed = None if plan.resume is None else plan.resume.path
        self._steps_per_epoch = -(-plan.data.rows // plan.batch_size)
        self._first_epoch = network._position.epoch
        self._first_step = 0
        self._seconds = 0.0  # of training in the running epoch
        self._scores: dict[str, float] = {}  # of the running epoch
        self._stage = "begin"
        self._progress_time = -math.inf
        self._loss_before = (0.0, 0.0)
        self._stateful = [c for c in plan.callbacks if c.get_state() is not None]
        self._checkpoints = [c for c in plan.callbacks if isinstance(c, Checkpoint)]
        self._snapshot: dict[str, Any] | None = None
        self._print: list[int] = fingerprint(plan.data) if self._needs_print() else []
        self._before = [c for c in plan.callbacks if overrides(c, "on_batch_begin")]
        self._after = [c for c in plan.callbacks if overrides(c, "on_batch_end")]
        periods = [c.every_steps for c in self._after]
        periods += [c.save_steps for c in self._checkpoints if c.save_steps is not None]
        periods += [plan.every_steps] if plan.every_steps is not None else []
        self._ends = sorted(set(periods))
        self._watched = bool(self._ends or self._before or self._checkpoints)
        self._ended = np.empty((0 if self._epochs_watched() else MOST_EPOCHS, 2))
        self._look_at = 0.0

    def _epochs_watched(self) -> bool:
        """Whether Python has to do with the end of each epoch more than to note its loss."""
        hooks = ("on_epoch_begin", "on_epoch_end")
        return (
            self._watched
            or self.plan.score is not None
            or _log.isEnabledFor(logging.INFO)
            or any(overrides(c, hook) for c in self.plan.callbacks for hook in hooks)
        )

    def _needs_print(self) -> bool:
        return bool(self._checkpoints) or self.plan.resume is not None

    @property
    def _position(self) -> Position:
        return self.network._position

    @property
    def epoch(self) -> int:
        """Number of the running epoch, from 0: of epochs that are over."""
        return self._position.epoch - self._first_epoch

    @property
    def steps(self) -> int:
        """Steps of this training so far."""
        return self._steps_at(self.epoch, self._position.start)

    def _steps_at(self, epoch: int, start: int) -> int:
        whole, rest = divmod(start, self.plan.batch_size)
        return epoch * self._steps_per_epoch + whole + (rest > 0)

    # ------------------------------------------------------------------ the loop

    def train(self) -> History:
        """Train to the end."""
        network, plan = self.network, self.plan
        begun: list[Callback] = []
        with exclusive(network):
            network.stop_training, network.learning_rate_scale = False, 1.0
            if plan.resume is None:
                self._position.rewind()
            else:
                self._restore(plan.resume)
            self._state = network._optimizer_state(plan.optimizer)
            if plan.resume is None:
                self._first_step = self._position.step
            length = max(plan.epochs * self._steps_per_epoch, 1)
            self._optimizer = plan.optimizer.over(self._first_step, length, self._steps_per_epoch)
            begin_average(
                network, plan.averaging, self._first_step, length, self._steps_per_epoch,
                resumed=plan.resume is not None,
            )  # fmt: skip
            self._last = LastFinite(network.params)
            try:
                for checkpoint in self._checkpoints:
                    checkpoint.begin(self)
                for callback in plan.callbacks:
                    begun.append(callback)
                    callback.on_train_begin(network, plan.epochs)
                if plan.resume is not None and plan.resume.run is not None:
                    states = plan.resume.run["callbacks"]
                    for callback, (_, state) in zip(self._stateful, states, strict=True):
                        callback.set_state(network, state)
                self._loop()
            except DivergenceError:
                self._snapshot = None
                raise
            finally:
                try:
                    self._save_all()
                    if self._stage == "stopped" and self._position.start > 0:
                        self._end_epoch()
                finally:
                    for callback in begun:
                        callback.on_train_end(network)
        return self.history

    def _loop(self) -> None:
        network, plan, position = self.network, self.plan, self._position
        order = np.empty(plan.data.rows, np.int64) if plan.shuffle else None
        ordered = -1
        while True:
            if self._stage == "begin":
                if self._is_over():
                    break
                self._begin()
                self._commit("run")
            if self._stage != "after":
                if order is not None and ordered != position.epoch:
                    network._program.shuffled(plan.data.rows, position.epoch, order)
                self._run_engine(order)
                ordered = position.epoch
            self._follow_up()
            self._stage = "begin"
        self._stage = "stopped"

    def _is_over(self) -> bool:
        return self.epoch >= self.plan.epochs or self.network.stop_training

    def _begin(self) -> None:
        network, position, n = self.network, self._position, self.steps
        if position.start == 0:
            for callback in self.plan.callbacks:
                callback.on_epoch_begin(network, self.epoch)
            self._loss_before = (0.0, 0.0)
        for callback in self._before:
            if (n + 1) % callback.every_steps == 0:
                callback.on_batch_begin(network, self.epoch, n % self._steps_per_epoch)

    def _run_engine(self, order: Any) -> None:
        network, plan, position, state = self.network, self.plan, self._position, self._state
        began, epoch = time.perf_counter(), position.epoch
        ended = self._ended[: max(plan.epochs - 1 - self.epoch, 0)]
        settings = self._optimizer.settings(
            position.step,
            steps=(1 + len(ended)) * self._steps_per_epoch - self.steps % self._steps_per_epoch,
            scale=network.learning_rate_scale,
        )
        network._run(
            plan.data, order, position, plan.batch_size, SLICE_SECONDS, self._slice_steps(),
            settings, state.first, state.second, plan.threads, part_rows=plan.part_rows,
            average=None if network._average is None else network._average.engine, ended=ended,
        )  # fmt: skip
        if position.epoch > epoch:
            self._note(ended[: position.epoch - epoch])
        start, size = position.start, plan.batch_size
        if not position.finite:
            diverged(network, self._last, self._optimizer, self.epoch, start // size)
        if start >= plan.data.rows or self._watched or time.perf_counter() >= self._look_at:
            self._look()
        self._seconds += time.perf_counter() - began

    def _note(self, ended: NDArray[np.float64]) -> None:
        """Record epochs that ended within the engine."""
        losses, seconds = ended.T.tolist()
        seconds[0] += self._seconds
        self._seconds -= sum(seconds)  # soon all of the engine's seconds are added
        self.history.extend({"loss": losses, "time": seconds})

    def _look(self) -> None:
        """Look for numbers that overflowed, and keep parameters that did not."""
        began = time.perf_counter()
        if not all(map(all_finite, (self.network.params, *self._state.moments))):
            step = (self._position.start - 1) // self.plan.batch_size
            diverged(self.network, self._last, self._optimizer, self.epoch, step)
        if self._position.start < self.plan.data.rows or self.epoch + 1 < self.plan.epochs:
            self._last.keep()  # after the last step nobody goes back
        now = time.perf_counter()
        self._look_at = now + LOOK_SHARE * (now - began)

    def _slice_steps(self) -> int:
        """Count the steps until somebody wants to be called; 0 if nobody does."""
        n = self.steps
        until = [period - n % period for period in self._ends]
        for callback in self._before:
            period = callback.every_steps
            until.append((period - 1 - n) % period or period)
        return min(until, default=0)

    def _follow_up(self) -> None:
        """Do what follows a run of the engine."""
        network, plan, position = self.network, self.plan, self._position
        n, over = self.steps, position.start >= plan.data.rows
        for callback in self._after:
            if n % callback.every_steps == 0:
                batch = (n - 1) % self._steps_per_epoch
                callback.on_batch_end(network, self.epoch, batch, self._loss_since())
        if any(n % callback.every_steps == 0 for callback in self._after):
            self._loss_before = (position.loss_sum, position.weight_sum)
        now = time.perf_counter()
        if over or now - self._progress_time >= SLICE_SECONDS / 2:
            self._progress_time = now
            for callback in plan.callbacks:
                callback.on_progress(
                    network, self.epoch, position.start / plan.data.rows, position.loss
                )
        if plan.every_steps is not None and n % plan.every_steps == 0:
            self._validate()
        if over:
            self._end_epoch()
        else:
            self._commit("begin")
        for checkpoint in self._checkpoints:
            checkpoint.look(self, epoch_ended=over)

    def _loss_since(self) -> float:
        loss, weight = self._loss_before
        weight = self._position.weight_sum - weight
        return (self._position.loss_sum - loss) / weight if weight > 0 else 0.0

    def _validate(self) -> None:
        """Score, record, and tell callbacks."""
        plan = self.plan
        if plan.score is None:
            return
        self._scores = plan.score()
        if plan.validates:
            where = {"epoch": self.epoch + self._position.start / plan.data.rows}
            self.history.append_validation(where | {"step": self.steps} | self._scores)
            for callback in plan.callbacks:
                callback.on_validation_end(self.network, self.epoch, self._scores)

    def _end_epoch(self) -> None:
        network, plan, position = self.network, self.plan, self._position
        epoch = self.epoch
        if plan.every_steps is None and (
            (epoch + 1) % plan.every_epochs == 0 or epoch + 1 == plan.epochs
        ):
            self._validate()
        logs = {"loss": position.loss}
        logs |= {name: self._scores.get(name, math.nan) for name in plan.score_names}
        logs["time"] = self._seconds
        for callback in plan.callbacks:
            callback.on_epoch_end(network, epoch, logs)
        self.history.append(logs)
        if _log.isEnabledFor(logging.INFO):
            numbers = ", ".join(f"{name} {value:.4g}" for name, value in logs.items())
            _log.info("epoch %d of %d: %s", epoch + 1, plan.epochs, numbers)
        self._scores, self._seconds = {}, 0.0
        self._commit("begin", next_epoch=True)
        position.next_epoch()

    # ------------------------------------------------------------------ checkpoints

    def _commit(self, stage: str, *, next_epoch: bool = False) -> None:
        """Put down what Python knows at the beginning of a stage."""
        self._stage = stage
        if not self._checkpoints:
            return
        at = self._position
        place = [at.step, at.epoch, at.start, at.loss_sum, at.weight_sum]
        if next_epoch:
            place[1:] = [at.epoch + 1, 0, 0.0, 0.0]
        self._snapshot = {
            "stage": stage,
            "position": place,
            "first_epoch": self._first_epoch,
            "first_step": self._first_step,
            "epochs": len(self.history),
            "validations": len(self.history.validations.get("step", [])),
            "scores": [[name, np.array([value])] for name, value in self._scores.items()],
            "seconds": self._seconds,
            "loss_before": list(self._loss_before),
            "learning_rate_scale": self.network.learning_rate_scale,
            "callbacks": [[type(c).__name__, c.get_state()] for c in self._stateful],
        }

    def state(self) -> dict[str, Any] | None:
        """Return all that a checkpoint must hold beside the network; None before the start."""
        snapshot, at = self._snapshot, self._position
        if snapshot is None:
            return None
        state = dict(snapshot)
        if state["stage"] == "run":
            place = [at.step, at.epoch, at.start, at.loss_sum, at.weight_sum]
            if place != state["position"]:
                state |= {"stage": "after", "position": place}
        for name in ("epochs", "validations"):
            columns = self.history.history if name == "epochs" else self.history.validations
            rows = state[name]
            kept = {key: np.array(values[:rows]) for key, values in columns.items()}
            state[name] = list(kept.items()) if rows else []
        epoch = state["position"][1] - self._first_epoch
        state["steps"] = self._steps_at(epoch, state["position"][2])
        return state | self._terms()

    def _terms(self) -> dict[str, Any]:
        """Describe what must be the same when training goes on."""
        plan = self.plan
        return {
            "data": self._print,
            "batch_size": plan.batch_size,
            "part_rows": plan.part_rows,
            "shuffle": plan.shuffle,
            "optimizer": optimizer_of(plan.optimizer),
            "averaging": describe_averaging(plan.averaging),
        }

    def _save_all(self) -> None:
        for checkpoint in self._checkpoints:
            if self._snapshot is not None:
                checkpoint.save(self)

    def _restore(self, saved: Saved) -> None:
        """Take over network, history and place of a checkpoint.

        Raises
        ------
        ValueError
            If it belongs to another network or another training.
        """
        from dnncore._resume import check_terms, take_over

        run = check_terms(saved, self.network, self._terms(), self._stateful)
        take_over(saved, self.network)
        self._first_epoch, self._first_step = run["first_epoch"], run["first_step"]
        self._stage = run["stage"]
        self._scores = {name: float(value[0]) for name, value in run["scores"]}
        self._seconds = run["seconds"]
        first, second = run["loss_before"]
        self._loss_before = (first, second)
        self.network.learning_rate_scale = run["learning_rate_scale"]
        for name, columns in (
            ("epochs", self.history.history),
            ("validations", self.history.validations),
        ):
            columns.update({key: values.tolist() for key, values in run[name]})
