"""The network: declared as layers, trained by the engine."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from dnncore import _custom_loss, _kernels, checkpoints, prediction, training
from dnncore._data import ClassWeight, as_data, as_validation, split, weigh
from dnncore._divergence import LastFinite
from dnncore._engine import Data, Position, Program
from dnncore._scores import scores
from dnncore._threads import threads_for
from dnncore._validation import as_float_dtype, as_matrix, check_bool, check_int
from dnncore.averaging import Averaging, Kept, as_averaging
from dnncore.callbacks import (
    Callback,
    Checkpoint,
    ProgressBar,
    as_callbacks,
    check_monitors,
    somebody_watches,
)
from dnncore.initializers import default_initializer, initialize
from dnncore.layers import BatchNorm, Dense, Layer, check_layers, layer_from_config, walk
from dnncore.lbfgs import LBFGS, LbfgsRun, check_lbfgs
from dnncore.losses import Custom, Loss, as_loss, loss_from_config
from dnncore.metrics import Metric, as_metrics
from dnncore.optimizers import SGD, Optimizer, OptimizerState, as_optimizer
from dnncore.program import Parameter, aligned_zeros, layout_of
from dnncore.targets import Targets
from dnncore.training import History, Plan

if TYPE_CHECKING:
    from typing import Self

    from dnncore.profiling import Profile

__all__ = ["Network"]


class Network:
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

    def _describe(
        self,
        n_in: int,
        layers: Iterable[Layer],
        loss: str | Loss | Callable[..., Any],
        dtype: DTypeLike,
        seed: int | np.random.Generator | None,
    ) -> None:
        self.n_in = check_int(n_in, "n_in")
        self.layers = check_layers(layers, "layers")
        if not any(isinstance(layer, Dense) for layer in walk(self.layers)):
            raise ValueError("layers must hold at least one Dense layer.")
        self.loss = as_loss(loss)
        self.dtype = as_float_dtype(dtype)
        self.seed = _as_seed(seed)
        self._layout = layout_of(self.n_in, self.layers)
        self.n_out = self._layout.widths[-1]
        self._targets = Targets(self.loss, self.n_out, self.dtype)
        last = self.layers[-1]
        if self.loss.link != "identity" and getattr(last, "activation", "identity") != "identity":
            raise ValueError(
                f"The last layer must have no activation with loss {self.loss.name!r}: the loss "
                f"applies {self.loss.link} itself. Write Dense({self.n_out})."
            )

    def _allocate(self) -> None:
        self._params = aligned_zeros(self._layout.size, self.dtype)
        self._grads: NDArray[Any] | None = None
        self._state: OptimizerState | None = None
        self._last_finite: LastFinite | None = None
        self._lock = threading.RLock()
        self._forward_step = 0
        self._position = Position()
        self._average: Kept | None = None
        self.stop_training = False
        self.learning_rate_scale = 1.0
        self._greater: dict[str, bool] = {}
        self._program = self._compile()
        link = self.loss.link  # exp is no activation: `prediction` applies it
        self._link = _kernels.ACTIVATIONS["identity" if link == "exp" else link]

    def _compile(self) -> Program:
        return Program(
            self._params,
            self._layout.widths,
            self._layout.operations,
            self.loss.id,
            self.loss.parameters,
            self.seed,
        )

    @property
    def _run(self) -> Callable[..., None]:
        """What trains on batches: the engine, with a Python loss in between if there is one."""
        if isinstance(self.loss, Custom):
            return partial(_custom_loss.run, self, self.loss)
        return self._program.run

    @property
    def _evaluate(self) -> Callable[..., tuple[float, float]]:
        if isinstance(self.loss, Custom):
            return partial(_custom_loss.evaluate, self, self.loss)
        return self._program.evaluate

    @property
    def _dense_because(self) -> str | None:
        """Why inputs cannot be sparse."""
        if isinstance(self.loss, Custom):
            return "a loss of your own needs a dense one"
        if not isinstance(self.layers[0], Dense):
            return f"a network that begins with {self.layers[0]!r} needs a dense one"
        return None

    def _data(
        self, targets: Targets, X: Any, y: ArrayLike, sample_weight: ArrayLike | None
    ) -> Data:
        return as_data(self.n_in, targets, X, y, sample_weight, dense_because=self._dense_because)

    # ------------------------------------------------------------------ parameters

    def initialize(self) -> Self:
        """Draw the initial weights again from the seed; other parameters get their first values.

        Returns
        -------
        Network
            The network itself.
        """
        rng = np.random.Generator(np.random.Philox(self.seed))
        for p in self._parameters:
            view, layer = p.view(self._params), p.owner
            if p.kind == "weight" and isinstance(layer, Dense):
                chosen = layer.weight_initializer or default_initializer(layer.activation)
                weights = initialize(chosen, rng, p.shape[0], p.shape[1])
                view[...] = as_matrix(weights, f"The initial {p.name}", dtype=self.dtype)
            else:
                one = p.kind in ("gamma", "running_var")
                view[...] = getattr(layer, "initial", 1.0 if one else 0.0)
        self.reset_optimizer()
        self._position, self._average = Position(), None
        return self

    @property
    def params(self) -> NDArray[Any]:
        """All parameters, one flat buffer; writing to it changes the network."""
        return self._params

    @property
    def grads(self) -> NDArray[Any]:
        """Gradients of the last ``backward``, laid out as ``params``."""
        if self._grads is None:
            self._grads = aligned_zeros(self._params.size, self.dtype)
        return self._grads

    @property
    def n_params(self) -> int:
        """Number of parameters, the running statistics of ``BatchNorm`` included."""
        return int(self._params.size)

    @property
    def _parameters(self) -> list[Parameter]:
        return self._layout.parameters

    @property
    def weights(self) -> list[NDArray[Any]]:
        """Weight matrices of the dense layers as views of ``params``."""
        return [p.view(self._params) for p in self._parameters if p.kind == "weight"]

    @property
    def biases(self) -> list[NDArray[Any]]:
        """Bias vectors of the dense layers as views of ``params``."""
        return [p.view(self._params) for p in self._parameters if p.kind == "bias"]

    def named_parameters(self) -> list[tuple[str, NDArray[Any]]]:
        """List ``(name, view of params)`` in the order of the buffer."""
        return [(p.name, p.view(self._params)) for p in self._parameters]

    @property
    def classes_(self) -> NDArray[Any] | None:
        """Labels in the order of the outputs."""
        return self._targets.classes

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
        epochs = check_int(epochs, "epochs", minimum=0)
        threads_for(n_threads, 0)
        check_bool(shuffle, "shuffle")
        chosen = SGD() if isinstance(optimizer, LBFGS) else as_optimizer(optimizer)
        called = as_callbacks(callbacks)
        if isinstance(optimizer, LBFGS):
            batch_size = None if batch_size == 128 else batch_size
        targets = self._targets.learn(y)
        data = self._data(targets, X, y, sample_weight)
        validation = as_validation(
            self.n_in, targets, validation_data, dense_because=self._dense_because
        )
        if validation_split:
            if validation is not None:
                raise ValueError("Give validation_data or validation_split, not both.")
            data, validation = split(
                data, targets, validation_split, stratify=stratify, seed=self.seed
            )
        average = as_averaging(averaging)
        size = data.rows if batch_size is None else check_int(batch_size, "batch_size")
        if isinstance(optimizer, LBFGS):
            given = {
                "accumulate": accumulate != 1,
                "averaging": averaging is not None,
                "resume_from": resume_from is not None,
                "validation_every_steps": validation_every_steps is not None,
                "Checkpoint": any(isinstance(c, Checkpoint) for c in called),
            }
            check_lbfgs(self, given, batch_size, data.rows)
        size = min(size, data.rows)
        self._check_batch(size)
        step_rows = min(size * check_int(accumulate, "accumulate"), data.rows)
        data = weigh(targets, data, class_weight)
        every = check_int(validation_every, "validation_every")
        if validation_every_steps is not None:
            check_int(validation_every_steps, "validation_every_steps")
        scored = data if validation is None and metrics is not None else validation
        asked = self._metrics(metrics)
        if validation is None and metrics is None:
            asked = []
        names = [] if validation is None else ["val_loss"]
        names += [metric.name if validation is None else f"val_{metric.name}" for metric in asked]

        check_monitors(called, ["loss", *names, "time"])

        def score() -> dict[str, float]:
            if scored is None:
                return {}
            loss = validation is not None
            found = scores(self._looked_at, scored, asked, loss=loss)
            return dict(zip(names, found.values(), strict=True))

        if verbose == "auto":
            called += [ProgressBar(delay=1.0)] if somebody_watches() else []
        elif check_bool(verbose, "verbose"):
            called.append(ProgressBar())
        saved = None if resume_from is None else checkpoints.find(resume_from)
        self._targets = targets
        self._greater = {metric.name: metric.greater_is_better for metric in asked}
        plan = Plan(
            data,
            epochs,
            step_rows,
            chosen,
            shuffle and step_rows < data.rows,
            threads_for(n_threads, 3.0 * size * self._program.work_per_row),
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

    def _check_batch(self, rows: int) -> None:
        if rows == 1 and any(isinstance(s, BatchNorm) and s.trainable for s in walk(self.layers)):
            raise ValueError(
                "BatchNorm cannot normalise a batch of one row: its deviation from its own mean "
                "is 0. Train on batches of at least two rows, or use LayerNorm."
            )

    # ------------------------------------------------------------------ the caller's own loop

    def forward(self, X: ArrayLike) -> NDArray[Any]:
        """Forward pass in training mode, keeping what ``backward`` needs.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_in)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_out)
            Outputs of the last layer, before the loss's link.
        """
        inputs = as_matrix(X, "X", dtype=self.dtype, columns=self.n_in)
        self._check_batch(len(inputs))
        with training.exclusive(self):
            threads = threads_for(None, 1.0 * len(inputs) * self._program.work_per_row)
            out = self._program.forward(inputs, self._forward_step, threads)
            self._forward_step += 1
        return out

    def backward(self, d_out: ArrayLike) -> NDArray[Any]:
        """Backward pass of the last ``forward``; fills ``grads``.

        Parameters
        ----------
        d_out : array_like of shape (n_samples, n_out)
            Gradient of your loss by what ``forward`` returned.

        Returns
        -------
        ndarray of shape (n_samples, n_in)
            Gradient by the input.

        Raises
        ------
        RuntimeError
            If there was no ``forward`` since the last training.
        ValueError
            For a wrong shape or values that are not finite.
        """
        rows = self._program.rows_kept
        if rows == 0:
            raise RuntimeError("backward needs a forward first; call net.forward(X).")
        gradient = as_matrix(d_out, "d_out", dtype=self.dtype, columns=self.n_out)
        if len(gradient) != rows:
            raise ValueError(
                f"d_out must have the {rows} rows of the last forward; got {len(gradient)}."
            )
        with training.exclusive(self):
            threads = threads_for(None, 2.0 * rows * self._program.work_per_row)
            return self._program.backward(gradient, self.grads, self._forward_step - 1, threads)

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

    # ------------------------------------------------------------------ predictions

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predict labels (classification) or values (regression).

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_in)
            Inputs; computed in chunks, with memory that does not grow with their number.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_out)
            Labels of the dtype seen in ``fit``, or values shaped as its targets were.
        """
        return prediction.predict(self, X)

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Predict probabilities of the classes.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_in)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            One column per class; a single-logit network gives two.

        Raises
        ------
        ValueError
            If the loss is none for classification.
        """
        return prediction.predict_proba(self, X)

    def evaluate(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight | None = None,
        metrics: Sequence[str | Metric | Callable[..., float]] | None = None,
    ) -> dict[str, float]:
        """Loss and metrics on given data, in inference mode.

        Parameters
        ----------
        X, y, sample_weight, class_weight, metrics
            As for ``fit``. Without metrics memory does not grow with the number of rows; with
            them the predictions of all rows are held.

        Returns
        -------
        dict of str to float
            ``"loss"``, and the metrics: by default ``"accuracy"`` (classification) or ``"r2"``
            (regression).
        """
        targets = self._targets if self._targets.classes is not None else self._targets.learn(y)
        data = weigh(targets, self._data(targets, X, y, sample_weight), class_weight)
        asked = self._metrics(metrics)
        return scores(self, data, asked)

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

    def _metrics(
        self, metrics: Sequence[str | Metric | Callable[..., float]] | None
    ) -> list[Metric]:
        if metrics is None and self.loss.targets == "values" and not self.loss.predicts_means:
            return []
        found = as_metrics(metrics, classification=self._targets.is_classification)
        for metric in found:
            if metric.needs == "probabilities" and not self.loss.has_probabilities:
                raise ValueError(
                    f"metric {metric.name!r} needs probabilities; {self.loss.name} has none."
                )
        return found

    # ------------------------------------------------------------------ files and copies

    def get_config(self) -> dict[str, Any]:
        """Describe the network in plain values: everything but the parameters."""
        return {
            "n_in": self.n_in,
            "layers": [layer.get_config() for layer in self.layers],
            "loss": self.loss.name,
            "loss_parameter": self.loss.config_parameter,
            "dtype": self.dtype.name,
            "seed": self.seed,
            "targets": self._targets.get_config(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build a network from ``get_config``; its parameters are zero.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the description makes no network.
        """
        net = cls.__new__(cls)
        net._restore(config, [layer_from_config(layer) for layer in config["layers"]])
        return net

    def _restore(
        self, config: dict[str, Any], layers: Iterable[Layer], loss: Loss | None = None
    ) -> None:
        if loss is None:
            loss = loss_from_config(config["loss"], config["loss_parameter"])
        self._describe(config["n_in"], layers, loss, config["dtype"], config["seed"])
        self._targets.set_config(config["targets"])
        self._allocate()

    def _take_loss(self, function: Callable[..., Any]) -> None:
        """Give a network from a file the Python loss that files do not hold."""
        if not isinstance(self.loss, Custom):
            raise ValueError(f"The network's loss is {self.loss.name!r}; it needs no function.")
        self.loss = self._targets.loss = Custom(function, self.loss.targets, self.loss.link)

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
        return {
            "config": self.get_config(),
            "layers": self.layers,
            "loss": self.loss,
            "params": self._params.copy(),
            "state": self._state,
            "position": self._position,
            "forward_step": self._forward_step,
            "average": self._average,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._restore(state["config"], state["layers"], state["loss"])
        self._params[...] = state["params"]
        self._state = None if state["state"] is None else state["state"].copy()
        self._position = copy.copy(state["position"])
        self._forward_step = state["forward_step"]
        self._average = state["average"]

    def copy(self) -> Self:
        """Independent copy: parameters, classes and optimizer state."""
        return copy.deepcopy(self)

    # ------------------------------------------------------------------ in words

    def __repr__(self) -> str:
        plain = type(self.loss) is Loss and self.loss == Loss(self.loss.name)
        loss = self.loss.name if plain else self.loss
        return (
            f"Network({self.n_in}, {list(self.layers)!r}, loss={loss!r}, "
            f"dtype={self.dtype.name!r}, seed={self.seed})"
        )

    def summary(self, batch_size: int = 128) -> str:
        """Describe layers, parameters, memory and the path each product takes.

        Parameters
        ----------
        batch_size : int
            Rows a training step would have.

        Returns
        -------
        str
            A table; print it.
        """
        from dnncore._summary import summary

        return summary(self, check_int(batch_size, "batch_size"))


def _as_seed(seed: int | np.random.Generator | None) -> int:
    if seed is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> np.uint64(1))
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(2**63))
    return check_int(seed, "seed", minimum=0, maximum=2**64 - 1)
