"""The network: declared as layers, trained by the engine."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from dnncore import _custom_loss, training
from dnncore._data import ClassWeight, weigh
from dnncore._divergence import LastFinite
from dnncore._engine import Position
from dnncore._fitting import plan_fit
from dnncore._model import Model
from dnncore.averaging import Averaging, Kept
from dnncore.callbacks import Callback
from dnncore.layers import Layer
from dnncore.lbfgs import LBFGS, LbfgsRun
from dnncore.losses import Custom, Loss
from dnncore.metrics import Metric
from dnncore.optimizers import Optimizer, OptimizerState, as_optimizer
from dnncore.training import History

if TYPE_CHECKING:
    from typing import Self

    from dnncore.profiling import Profile

__all__ = ["Network"]


class Network(Model):
    """A fully connected network.

    Parameters
    ----------
    n_in : int
        Number of input features.
    layers : sequence of Layer
        The layers of ``dnncore.layers``, first to last. The last one gives the outputs that the
        loss works on: logits for the cross-entropies, so it has no activation of its own.
    loss : str, Loss or callable
        Name from ``dnncore.losses.LOSSES``, e.g. ``Huber(0.5)``, or a function of yours: see
        ``dnncore.losses.Custom``.
    dtype : {"float32", "float64"}
        Type of parameters and arithmetic.
    seed : int, numpy.random.Generator or None
        Fixes initial weights, shuffles, masks and noise. None draws one from the system.

    Attributes
    ----------
    params : ndarray of shape (n_params,)
        All parameters in one writable buffer, layer by layer: weights then bias, and the running
        statistics of ``BatchNorm``, which no optimizer touches.
    grads : ndarray of shape (n_params,)
        Gradients in the same layout, filled by ``backward``.
    weights, biases : list of ndarray
        Views of ``params`` by dense layer; shapes ``(n_in, n_out)`` and ``(n_out,)``.
    classes_ : ndarray or None
        Labels in the order of the outputs, once known.
    stop_training : bool
        Set by callbacks to end training.
    learning_rate_scale : float
        Factor on the optimizer's learning rate, for callbacks to change; ``fit`` starts with 1.

    Raises
    ------
    TypeError, ValueError
        For sizes, layers, names or a dtype that make no network.

    Notes
    -----
    Different networks may be used from different threads at will. One network is trained by one
    thread at a time, a second one is refused; any number of threads may predict with it. What
    they see while it is being trained are parameters in the middle of a step: for a fixed state
    predict with a ``copy``.

    Examples
    --------
    >>> import dnncore as dnn
    >>> net = dnn.Network(64, [dnn.Dense(100, "relu"), dnn.Dense(10)],
    ...                   loss="softmax_cross_entropy", seed=0)
    >>> net.n_params
    7510
    """

    def __init__(
        self,
        n_in: int,
        layers: Iterable[Layer],
        *,
        loss: str | Loss | Callable[..., Any] = "softmax_cross_entropy",
        dtype: DTypeLike = "float32",
        seed: int | np.random.Generator | None = 0,
    ) -> None:
        self._describe(n_in, layers, loss, dtype, seed)
        self._allocate()
        self.initialize()

    def _allocate(self) -> None:
        super()._allocate()
        self._state: OptimizerState | None = None
        self._last_finite: LastFinite | None = None
        self._position = Position()
        self._average: Kept | None = None
        self.stop_training = False
        self.learning_rate_scale = 1.0
        self._greater: dict[str, bool] = {}

    @property
    def _run(self) -> Callable[..., None]:
        """What trains on batches: the engine, with a Python loss in between if there is one."""
        if isinstance(self.loss, Custom):
            return partial(_custom_loss.run, self, self.loss)
        return self._program.run

    def initialize(self) -> Self:
        """Draw the initial weights again from the seed; other parameters get their first values.

        Returns
        -------
        Network
            The network itself.
        """
        self._draw()
        self.reset_optimizer()
        self._position, self._average = Position(), None
        return self

    # ------------------------------------------------------------------ training

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        epochs: int = 10,
        batch_size: int | None = 128,
        optimizer: str | Optimizer | LBFGS = "adam",
        accumulate: int = 1,
        averaging: Averaging | None = None,
        shuffle: bool = True,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight | None = None,
        validation_data: tuple[Any, ...] | None = None,
        validation_split: float = 0.0,
        stratify: bool | None = None,
        validation_every: int = 1,
        validation_every_steps: int | None = None,
        metrics: Sequence[str | Metric | Callable[..., float]] | None = None,
        callbacks: Sequence[Callback] = (),
        resume_from: str | os.PathLike[str] | None = None,
        n_threads: int | None = None,
        verbose: bool | Literal["auto"] = "auto",
    ) -> History:
        """Train on mini-batches.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_in)
            Inputs. Sparse ones (SciPy's, of any format) are never made dense: what the first
            layer costs follows their non-zeros.
        y : array_like of shape (n_samples,) or (n_samples, n_out)
            Labels of any dtype, one-hot rows, or values.
        epochs : int
            Passes over the data.
        batch_size : int or None
            Rows a step; None takes all of them.
        optimizer : str, Optimizer or LBFGS
            Its moments go on from an earlier call with the same kind of optimizer;
            ``reset_optimizer`` forgets them. ``LBFGS`` takes all rows at once.
        accumulate : int
            Mini-batches whose gradients are added up before each update, with the memory of one.
            The update is that of one batch of all their rows, up to rounding; fewer are added up
            at the end of an epoch. A step is an update: callbacks, schedules and checkpoints
            come between updates only.
        averaging : EMA or SWA, optional
            Keep an average of the parameters: see ``dnncore.averaging``. Validation looks at it,
            and ``averaged`` is the network that has it.
        shuffle : bool
            Whether each epoch sees the rows in a new order, which depends on the seed and the
            number of epochs so far only.
        sample_weight : array_like of shape (n_samples,), optional
            Weight of each row, at least 0; a batch's loss is the weighted mean.
        class_weight : "balanced", mapping or array_like of shape (n_classes,), optional
            Weight of each class in training, by label (1 for those not named) or in the order of
            the classes; it multiplies ``sample_weight``. ``"balanced"`` lets all classes count
            alike. Validation is not weighted by it.
        validation_data : tuple, optional
            ``(X, y)`` or ``(X, y, sample_weight)``, evaluated after each epoch.
        validation_split : float
            Share of the rows to set aside for validation instead, in [0, 1).
        stratify : bool, optional
            Whether the split keeps the classes' shares; the default does for labels.
        validation_every : int
            Validate after every so many epochs, and after the last one.
        validation_every_steps : int, optional
            Validate after every so many steps instead, which may be within an epoch; see
            ``History.validations``.
        metrics : sequence of str, callable or Metric, optional
            What to record beside the loss; see ``dnncore.metrics``. By default accuracy, or r2,
            of validation data. Without validation data, the metrics named here are computed on
            the training data.
        callbacks : sequence of Callback
            Called between epochs and, for progress, about every 50 ms.
        resume_from : path-like, optional
            Folder, or file, that ``callbacks.Checkpoint`` has written to: training goes on from
            there, and ends with the bits of training that was never stopped. Data and options
            must be what they were; ``epochs`` may be more. A folder without checkpoints starts
            from the beginning, so one script serves the first start and every later one.
        n_threads : int, optional
            Threads to train on; the default decides by the size of a step and the processors
            available (or ``DNNCORE_NUM_THREADS``). Results have the same bits for any number.
        verbose : bool or "auto"
            Whether to show a progress bar. By default one appears in terminals and notebooks if
            training takes longer than a second.

        Returns
        -------
        History
            Losses and scores by epoch.

        Raises
        ------
        TypeError, ValueError
            For arguments or data that cannot be trained on; nothing has changed then.
        DivergenceError
            If the loss stops being finite; the last finite parameters are kept.
        ModelFormatError
            If there are checkpoints to go on from, but none is valid.
        """
        plan = plan_fit(
            self, X, y, epochs=epochs, batch_size=batch_size, optimizer=optimizer,
            accumulate=accumulate, averaging=averaging, shuffle=shuffle,
            sample_weight=sample_weight, class_weight=class_weight,
            validation_data=validation_data, validation_split=validation_split,
            stratify=stratify, validation_every=validation_every,
            validation_every_steps=validation_every_steps, metrics=metrics, callbacks=callbacks,
            resume_from=resume_from, n_threads=n_threads, verbose=verbose,
        )  # fmt: skip
        if isinstance(optimizer, LBFGS):
            return LbfgsRun(self, plan, optimizer).train()
        return training.train(self, plan)

    def train_step(
        self,
        X: ArrayLike,
        y: ArrayLike,
        optimizer: str | Optimizer = "adam",
        *,
        sample_weight: ArrayLike | None = None,
        class_weight: Mapping[Any, float] | ArrayLike | None = None,
    ) -> float:
        """Forward, loss, backward and update on one batch.

        Parameters
        ----------
        X, y, optimizer, sample_weight
            As for ``fit``.
        class_weight : mapping or array_like of shape (n_classes,), optional
            As for ``fit``; ``"balanced"`` is not possible, for a batch does not know the shares.

        Returns
        -------
        float
            Loss before the update.

        Raises
        ------
        TypeError, ValueError
            As for ``fit``.
        DivergenceError
            If the loss or a parameter stops being finite. Parameters that overflowed go back to
            a copy that is at most 50 ms old.
        RuntimeError
            If another thread is training this network.
        """
        chosen = as_optimizer(optimizer)
        targets = self._targets.learn(y)
        data = self._data(targets, X, y, sample_weight)
        if isinstance(class_weight, str):
            raise ValueError(
                "class_weight must be weights by label; a batch does not know the shares of all "
                f"data. Got {class_weight!r}."
            )
        data = weigh(targets, data, class_weight)
        self._check_batch(data.rows)
        self._targets = targets
        return training.train_step(self, data, chosen)

    def profile(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        seconds: float = 1.0,
        batch_size: int | None = 128,
        optimizer: str | Optimizer = "adam",
        shuffle: bool = True,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight | None = None,
        accumulate: int = 1,
        n_threads: int | None = None,
    ) -> Profile:
        """See where the time of training goes: a copy of the network is trained for a while.

        Parameters
        ----------
        X, y, batch_size, optimizer, shuffle, sample_weight, class_weight, accumulate, n_threads
            As for ``fit``.
        seconds : float
            How long to look, after a short start.

        Returns
        -------
        dnncore.profiling.Profile
            Print it, or see its ``rows``, ``to_dict``, ``to_frame``; ``dnncore.plotting`` has
            ``plot_profile``.

        Raises
        ------
        TypeError, ValueError, DivergenceError
            As for ``fit``.
        """
        from dnncore.profiling import profile

        return profile(
            self, X, y, seconds=seconds, batch_size=batch_size, optimizer=optimizer,
            shuffle=shuffle, sample_weight=sample_weight, class_weight=class_weight,
            accumulate=accumulate, n_threads=n_threads,
        )  # fmt: skip

    def step(self, optimizer: str | Optimizer = "adam") -> None:
        """One update of ``params`` from ``grads``.

        ``BatchNorm``'s running statistics take in those of the last ``forward``.

        Parameters
        ----------
        optimizer : str or Optimizer
            See ``fit``.

        Raises
        ------
        DivergenceError
            If a gradient is not finite (no step is made) or a parameter stops being finite, as
            for ``train_step``.
        RuntimeError
            If another thread is training this network.
        """
        training.step(self, as_optimizer(optimizer))

    def reset_optimizer(self) -> None:
        """Forget the optimizer's moments and steps."""
        self._state = None
        self._position.step = 0

    def _optimizer_state(self, optimizer: Optimizer) -> OptimizerState:
        if self._state is None or self._state.kernel != optimizer.kernel:
            self.reset_optimizer()
            self._state = OptimizerState.start(optimizer.kernel, self.n_params, self.dtype)
        return self._state

    @property
    def averaged(self) -> Network | None:
        """The network with the average that ``fit(averaging=...)`` keeps; None before there is one.

        It predicts, evaluates and is saved like any other. Its parameters change while training
        goes on; a later ``fit`` begins with another.
        """
        kept = self._average
        return None if kept is None or kept.count == 0 else kept.network

    @property
    def _looked_at(self) -> Network:
        """What validation looks at."""
        kept = self._average
        return kept.network if kept is not None and kept.validate and kept.count > 0 else self

    # ------------------------------------------------------------------ files and copies

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a safetensors file, atomically.

        Parameters
        ----------
        path : path-like
            Usually ``*.safetensors``; an existing file is replaced only once the new one is
            complete and on disk.
        """
        from dnncore.serialization import save_network

        save_network(self, path)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {
            "state": self._state,
            "position": self._position,
            "average": self._average,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._state = None if state["state"] is None else state["state"].copy()
        self._position = copy.copy(state["position"])
        self._average = state["average"]
