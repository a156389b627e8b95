"""Epochs of the stochastic solvers: what scikit-learn's loop does, with the engine in it."""

from __future__ import annotations

import logging
import math
import time
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from dnncore import _custom_loss
from dnncore._engine import Position
from dnncore._state import model_arrays
from dnncore._steps import exclusive
from dnncore._threads import training_work
from dnncore.callbacks import (
    Callback,
    Checkpoint,
    ProgressBar,
    TimeLimit,
    as_callbacks,
    check_monitors,
)
from dnncore.callbacks._base import overrides
from dnncore.losses import Custom
from dnncore.sklearn._inputs import as_data
from dnncore.sklearn._model import attach, choose_threads, objective_of
from dnncore.sklearn._optimizers import Settings
from dnncore.sklearn._validation_set import Examples, ValidationSet

__all__ = ["Loop"]

SLICE_SECONDS = 0.05
"""How long the engine runs before it returns for Ctrl-C, progress and callbacks."""


class Loop:
    """One call of ``fit`` or ``partial_fit``.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Its network and ``_optimizer`` must be there.
    examples : tuple
        See ``_validation_set.Examples``.
    held : tuple or None
        Examples to validate on.
    once : bool
        Whether to stop after an epoch: ``partial_fit``.
    """

    def __init__(
        self, estimator: Any, examples: Examples, held: Examples | None, *, once: bool
    ) -> None:
        self.estimator, self.once = estimator, once
        self.network = network = attach(estimator)
        X, self.y, self.weight = examples
        self.n = int(X.shape[0])
        self.batch_size = self._batch_size()
        network._check_batch(self.batch_size)
        self.data = as_data(
            X, self.y, self.weight, network.dtype, labels=estimator.out_activation_ == "softmax"
        )
        self.aim = objective_of(estimator, network.n_out)
        self.threads = choose_threads(
            estimator, training_work(self.batch_size, network._program.work_per_row)
        )
        self.constant = None if self.aim.constant is None else self.aim.constant(self.y)
        self.validation = None if held is None else ValidationSet(estimator, held)
        self.callbacks = self._callbacks()
        self.before = [c for c in self.callbacks if overrides(c, "on_batch_begin")]
        self.after = [c for c in self.callbacks if overrides(c, "on_batch_end")]
        self.made = 0  # steps of this training
        self.logger = estimator.logger
        if isinstance(self.logger, str):
            self.logger = logging.getLogger(self.logger)
        self.optimizer = estimator._optimizer
        if not once:
            self.optimizer.begin(estimator.max_iter, -(-self.n // self.batch_size))
        self.position = Position(step=self.optimizer.steps)

    def _batch_size(self) -> int:
        asked = self.estimator.batch_size
        if isinstance(asked, str):
            return min(200, self.n)
        if asked > self.n:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than "
                "sample size. It is going to be clipped",
                stacklevel=2,
            )
        return min(int(asked), self.n)

    def _callbacks(self) -> list[Callback]:
        estimator = self.estimator
        found = as_callbacks([] if estimator.callbacks is None else estimator.callbacks)
        if any(isinstance(callback, Checkpoint) for callback in found):
            raise ValueError(
                "callbacks: Checkpoint resumes Network.fit. Here ModelCheckpoint keeps the "
                "network, and joblib.dump the estimator with its optimizer."
            )
        if estimator.max_time is not None:
            found.append(TimeLimit(estimator.max_time))
        if estimator.progress_bar:
            found.append(ProgressBar())
        scores = [] if self.validation is None else ["val_loss", "val_score"]
        check_monitors(found, ["loss", *scores, "time"])
        return found

    def say(self, text: str) -> None:
        """Tell the user: by logging if there is a logger, else by print if ``verbose``."""
        if self.logger is not None:
            self.logger.info(text)
        elif self.estimator.verbose:
            print(text)

    # ------------------------------------------------------------------ epochs

    def run(self) -> None:
        """Train until nothing gets better or ``max_iter`` is reached."""
        estimator, network = self.estimator, self.network
        network.stop_training, network.learning_rate_scale = False, 1.0
        network._greater = {"score": True}
        if estimator.__dict__.get("_best", ...) is None:
            self._keep()  # what training goes back to if no score is a number
        order = np.arange(self.n, dtype=np.int64)
        with exclusive(network):
            for callback in self.callbacks:
                callback.on_train_begin(network, estimator.max_iter)
            try:
                estimator.n_iter_ = 0
                for epoch in range(estimator.max_iter):
                    if estimator.shuffle:
                        drawn = np.arange(self.n)
                        estimator._random_state.shuffle(drawn)
                        order = order[drawn]
                    if not self._epoch(epoch, order if estimator.shuffle else None):
                        break
            except KeyboardInterrupt:
                warnings.warn("Training interrupted by user.", stacklevel=2)
            finally:
                for callback in self.callbacks:
                    callback.on_train_end(network)
        if (estimator.early_stopping or estimator.restore_best) and not self.once:
            self._restore()

    def _epoch(self, epoch: int, order: NDArray[np.int64] | None) -> bool:
        """Train for an epoch; returns whether to go on."""
        estimator, network = self.estimator, self.network
        began = time.perf_counter()
        for callback in self.callbacks:
            callback.on_epoch_begin(network, epoch)
        self._steps(epoch, order)
        whole = self.position.start == self.n
        estimator.n_iter_ += 1
        estimator.loss_ = self._loss(order)
        self.position.rewind()
        estimator.t_ += self.n
        estimator.loss_curve_.append(estimator.loss_)
        self.say(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
        self._look()
        self.optimizer.epoch_ends(estimator.t_)
        logs = {"loss": estimator.loss_}
        if self.validation is not None:
            logs["val_loss"] = estimator.validation_loss_curve_[-1]
            logs["val_score"] = estimator.validation_scores_[-1]
        logs["time"] = time.perf_counter() - began
        for callback in self.callbacks:
            if self.validation is not None:
                callback.on_validation_end(network, epoch, logs)
            callback.on_epoch_end(network, epoch, logs)
        if estimator._no_improvement_count > estimator.n_iter_no_change:
            stop, more = self.optimizer.stop()
            self.say(self._reason() + more)
            if stop:
                return False
            estimator._no_improvement_count = 0
        if self.once or not whole or network.stop_training:
            return False
        if estimator.n_iter_ == estimator.max_iter:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) "
                "reached and the optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return True

    def _steps(self, epoch: int, order: NDArray[np.int64] | None) -> None:
        """Run the engine over the rows of an epoch, or until a callback wants to stop."""
        network, position, optimizer = self.network, self.position, self.optimizer
        # One step at a time only if somebody looks at steps.
        most = 1 if self.before or self.after else 0
        seen = 0.0, 0.0
        while position.start < self.n and not network.stop_training:
            batch = position.start // self.batch_size
            for callback in self.before:
                if (self.made + 1) % callback.every_steps == 0:
                    callback.on_batch_begin(network, epoch, batch)
            settings = optimizer.settings(
                position.step,
                -(-(self.n - position.start) // self.batch_size),
                network.learning_rate_scale,
            )
            before = position.step
            self._engine(order, most, settings)
            optimizer.steps = position.step
            self.made += position.step - before
            due = [c for c in self.after if self.made % c.every_steps == 0]
            for callback in due:
                loss = (position.loss_sum - seen[0]) / (position.weight_sum - seen[1])
                callback.on_batch_end(network, epoch, batch, loss)
            if due:
                seen = position.loss_sum, position.weight_sum
            for callback in self.callbacks:
                callback.on_progress(network, epoch, position.start / self.n, position.loss)

    def _engine(self, order: NDArray[np.int64] | None, most: int, settings: Settings) -> None:
        network, state = self.network, self.optimizer.state
        loss, alpha = self.aim.loss, self.estimator.alpha
        if isinstance(loss, Custom):
            # By the rows of a batch; the engine divides by their weights.
            settings = settings[0], settings[1].copy()
            settings[1][:, 1] += alpha / self.batch_size
        arguments = (
            self.data, order, self.position, self.batch_size, SLICE_SECONDS, most, settings,
            state.first, state.second, self.threads,
        )  # fmt: skip
        if not isinstance(loss, Custom):
            factors = self.aim.loss_factor, self.aim.gradient_factor, alpha
            network._program.run(*arguments, factors)
            return
        _custom_loss.run(network, loss, *arguments)
        if not self.position.finite:
            raise ValueError(
                "The loss, or its gradient, is not finite. The input data may contain large "
                "values and need to be preprocessed."
            )

    def _loss(self, order: NDArray[np.int64] | None) -> float:
        """Mean over the epoch's rows, batches counting by their rows."""
        loss = self.position.loss
        if self.constant is not None:
            constant = self.constant if order is None else self.constant[order]
            starts = np.arange(0, self.n, self.batch_size)
            sizes = np.diff(np.append(starts, self.n))
            weight = np.ones(self.n) if self.weight is None else self.weight
            weight = weight if order is None else weight[order]
            means = np.add.reduceat(weight * constant, starts) / np.add.reduceat(weight, starts)
            loss += float(np.average(means, weights=sizes))
        return loss

    # ------------------------------------------------------------------ better or not

    def _look(self) -> None:
        """Score, and count the epochs without improvement."""
        estimator, validation = self.estimator, self.validation
        if validation is not None:
            loss = validation.loss()
            score = validation.score(loss)
            estimator.validation_loss_curve_.append(loss)
            estimator.validation_scores_.append(score)
            self.say(f"Validation score: {score:f}")
            best = estimator.best_validation_score_
            if estimator.early_stopping:
                worse = score < best + estimator.tol
                estimator._no_improvement_count = (
                    estimator._no_improvement_count + 1 if worse else 0
                )
            if score > best:
                estimator.best_validation_score_ = score
                if estimator.early_stopping or estimator.restore_best:
                    self._keep()
        if estimator.early_stopping:
            return
        best, loss = estimator.best_loss_, estimator.loss_
        self._count(loss > best - estimator.tol)
        if loss < best:
            estimator.best_loss_ = loss
            if estimator.restore_best and validation is None:
                self._keep()

    def _count(self, worse: bool) -> None:
        count = self.estimator._no_improvement_count
        self.estimator._no_improvement_count = count + 1 if worse else 0

    def _reason(self) -> str:
        what = "Training loss"
        if self.estimator.early_stopping:
            what = "Validation score"
        return (
            f"{what} did not improve more than tol={self.estimator.tol:f} for "
            f"{_whole(self.estimator.n_iter_no_change)} consecutive epochs."
        )

    def _keep(self) -> None:
        self.estimator._best = {n: a.copy() for n, a in model_arrays(self.network).items()}

    def _restore(self) -> None:
        """Go back to the best parameters; those of now are the best from here on."""
        best = self.estimator.__dict__.pop("_best", None)
        if best is not None:
            for name, array in model_arrays(self.network).items():
                array[...] = best[name]


def _whole(n: float) -> str:
    return str(int(n)) if math.isfinite(n) else str(n)
