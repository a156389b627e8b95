"""The network: declared as layers, trained by the engine."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from dnncore import _kernels
from dnncore._blas_threads import single_threaded_blas
from dnncore._engine import Data, Program
from dnncore._threads import threads_for
from dnncore._validation import (
    as_float_dtype,
    as_matrix,
    as_vector,
    check_int,
    check_real,
    check_same_rows,
)
from dnncore.callbacks import Callback, ProgressBar
from dnncore.initializers import default_initializer, initialize
from dnncore.layers import Dense, Dropout, Layer
from dnncore.losses import Loss, as_loss
from dnncore.optimizers import Optimizer, as_optimizer
from dnncore.program import aligned_zeros, operations_of, parameters_of, widths_of
from dnncore.targets import Targets
from dnncore.training import History, train

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Network", "OptimizerState"]

_LINKS = {**_kernels.ACTIVATIONS}
_LAYERS: dict[str, type[Layer]] = {"Dense": Dense, "Dropout": Dropout}


@dataclasses.dataclass
class OptimizerState:
    """What an optimizer carries from step to step.

    Attributes
    ----------
    kernel : str
        Kernel that the moments belong to.
    first, second : ndarray or None
        Moments, laid out as the parameters.
    step : int
        Steps made so far.
    """

    kernel: str
    first: NDArray[Any] | None
    second: NDArray[Any] | None
    step: int = 0


class Network:
    """A fully connected network.

    Parameters
    ----------
    n_in : int
        Number of input features.
    layers : sequence of Layer
        ``Dense`` and ``Dropout`` layers, first to last. The last one gives the outputs that the
        loss works on: logits for the cross-entropies, so it has no activation of its own.
    loss : str or Loss
        Name from ``dnncore.losses.LOSSES``, or e.g. ``Huber(0.5)``.
    dtype : {"float32", "float64"}
        Type of parameters and arithmetic.
    seed : int, numpy.random.Generator or None
        Fixes initial weights, shuffles and dropout masks. None draws one from the system.

    Attributes
    ----------
    params : ndarray of shape (n_params,)
        All parameters in one writable buffer: weights then bias, layer by layer.
    grads : ndarray of shape (n_params,)
        Gradients in the same layout, filled by ``backward``.
    weights, biases : list of ndarray
        Views of ``params`` by dense layer; shapes ``(n_in, n_out)`` and ``(n_out,)``.
    classes_ : ndarray or None
        Labels in the order of the outputs, once known.

    Raises
    ------
    TypeError, ValueError
        For sizes, layers, names or a dtype that make no network.

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
        loss: str | Loss = "softmax_cross_entropy",
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
        loss: str | Loss,
        dtype: DTypeLike,
        seed: int | np.random.Generator | None,
    ) -> None:
        self.n_in = check_int(n_in, "n_in")
        self.layers = tuple(layers)
        for i, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise TypeError(
                    f"layers[{i}] must be a layer such as Dense(100, 'relu'); got {layer!r}."
                )
        if not any(isinstance(layer, Dense) for layer in self.layers):
            raise ValueError("layers must hold at least one Dense layer.")
        self.loss = as_loss(loss)
        self.dtype = as_float_dtype(dtype)
        self.seed = _as_seed(seed)
        self._widths = widths_of(self.n_in, self.layers)
        self.n_out = self._widths[-1]
        self._parameters = parameters_of(self.n_in, self.layers)
        self._targets = Targets(self.loss, self.n_out, self.dtype)
        last = self.layers[-1]
        if self.loss.link != "identity" and getattr(last, "activation", "identity") != "identity":
            raise ValueError(
                f"The last layer must have no activation with loss {self.loss.name!r}: the loss "
                f"applies {self.loss.link} itself. Write Dense({self.n_out})."
            )

    def _allocate(self) -> None:
        n = sum(p.size for p in self._parameters)
        self._params = aligned_zeros(n, self.dtype)
        self._grads: NDArray[Any] | None = None
        self._state: OptimizerState | None = None
        self._forward_step = 0
        self._epochs_seen = 0
        self.stop_training = False
        self._program = Program(
            self._params,
            self._widths,
            operations_of(self.layers, self._parameters),
            self.loss.id,
            self.loss.parameter,
            self.seed,
        )

    # ------------------------------------------------------------------ parameters

    def initialize(self) -> Self:
        """Draw the initial weights again from the seed; biases start at zero.

        Returns
        -------
        Network
            The network itself.
        """
        rng = np.random.Generator(np.random.Philox(self.seed))
        for p in self._parameters:
            view, layer = p.view(self._params), self.layers[p.layer]
            if len(p.shape) == 1:
                view[...] = 0
            elif isinstance(layer, Dense):
                chosen = layer.weight_initializer or default_initializer(layer.activation)
                view[...] = initialize(chosen, rng, p.shape[0], p.shape[1])
        self.reset_optimizer()
        self._epochs_seen = 0
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
        """Number of parameters."""
        return int(self._params.size)

    @property
    def weights(self) -> list[NDArray[Any]]:
        """Weight matrices as views of ``params``."""
        return [p.view(self._params) for p in self._parameters if len(p.shape) == 2]

    @property
    def biases(self) -> list[NDArray[Any]]:
        """Bias vectors as views of ``params``."""
        return [p.view(self._params) for p in self._parameters if len(p.shape) == 1]

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
        optimizer: str | Optimizer = "adam",
        shuffle: bool = True,
        sample_weight: ArrayLike | None = None,
        validation_data: tuple[Any, ...] | None = None,
        validation_split: float = 0.0,
        stratify: bool | None = None,
        callbacks: Sequence[Callback] = (),
        n_threads: int | None = None,
        verbose: bool = False,
    ) -> History:
        """Train on mini-batches.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_in)
            Inputs.
        y : array_like of shape (n_samples,) or (n_samples, n_out)
            Labels of any dtype, one-hot rows, or values.
        epochs : int
            Passes over the data.
        batch_size : int or None
            Rows a step; None takes all of them.
        optimizer : str or Optimizer
            Its moments go on from an earlier call with the same kind of optimizer;
            ``reset_optimizer`` forgets them.
        shuffle : bool
            Whether each epoch sees the rows in a new order, which depends on the seed and the
            number of epochs so far only.
        sample_weight : array_like of shape (n_samples,), optional
            Weight of each row, at least 0; a batch's loss is the weighted mean.
        validation_data : tuple, optional
            ``(X, y)`` or ``(X, y, sample_weight)``, evaluated after each epoch.
        validation_split : float
            Share of the rows to set aside for validation instead, in [0, 1).
        stratify : bool, optional
            Whether the split keeps the classes' shares; the default does for labels.
        callbacks : sequence of Callback
            Called between epochs and, for progress, about every 50 ms.
        n_threads : int, optional
            Threads to train on; the default decides by the size of a step and the processors
            available (or ``DNNCORE_NUM_THREADS``). Results have the same bits for any number.
        verbose : bool
            Whether to show a progress bar.

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
        """
        epochs = check_int(epochs, "epochs", minimum=0)
        threads_for(n_threads, 0)
        chosen = as_optimizer(optimizer)
        inputs = self._as_input(X)
        known = (self._targets.classes, self._targets.vector)
        try:
            labels, target = self._targets.encode(y, learn=True)
            weight = self._as_weight(sample_weight, len(inputs))
            check_same_rows(X=inputs, y=labels if target is None else target)
            validation = self._as_validation(validation_data)
        except (TypeError, ValueError):
            self._targets.classes, self._targets.vector = known
            raise
        if validation_split:
            if validation is not None:
                raise ValueError("Give validation_data or validation_split, not both.")
            inputs, labels, target, weight, validation = self._split(
                inputs, labels, target, weight, np.asarray(y), validation_split, stratify
            )
        data = Data(inputs, labels, target, weight)
        size = data.rows if batch_size is None else check_int(batch_size, "batch_size")
        shown = [*callbacks, ProgressBar()] if verbose else list(callbacks)
        return train(
            self,
            data,
            validation,
            epochs=epochs,
            batch_size=min(size, data.rows),
            optimizer=chosen,
            shuffle=shuffle and size < data.rows,
            callbacks=shown,
            threads=threads_for(n_threads, 3.0 * self._work(min(size, data.rows))),
        )

    def train_step(
        self,
        X: ArrayLike,
        y: ArrayLike,
        optimizer: str | Optimizer = "adam",
        *,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Forward, loss, backward and update on one batch.

        Parameters
        ----------
        X, y, optimizer, sample_weight
            As for ``fit``.

        Returns
        -------
        float
            Loss before the update.

        Raises
        ------
        TypeError, ValueError
            As for ``fit``.
        DivergenceError
            If the loss is not finite; the parameters are unchanged then.
        """
        from dnncore.exceptions import DivergenceError

        chosen = as_optimizer(optimizer)
        data = self._as_data(X, y, sample_weight, learn=True)
        state = self._optimizer_state(chosen)
        with single_threaded_blas():
            _, step, loss, weight, finite = self._program.run(
                data, None, 0, data.rows, state.step, 3600.0, chosen.settings(),
                state.first, state.second, threads_for(None, 3.0 * self._work(data.rows)),
            )  # fmt: skip
        if not finite:
            raise DivergenceError(
                "The loss of this batch is not finite; no step was made. Try a smaller "
                "learning_rate or standardised inputs.",
                epoch=1,
                step=state.step + 1,
            )
        state.step = step
        return float(loss / weight) if weight > 0 else 0.0

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
        inputs = self._as_input(X)
        self._forward_step += 1
        with single_threaded_blas():
            out: NDArray[Any] = self._program.forward(
                inputs, self._forward_step, threads_for(None, self._work(len(inputs)))
            )
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
        with single_threaded_blas():
            dx: NDArray[Any] = self._program.backward(
                gradient, self.grads, self._forward_step, threads_for(None, 2.0 * self._work(rows))
            )
        return dx

    def step(self, optimizer: str | Optimizer = "adam") -> None:
        """One update of ``params`` from ``grads``.

        Parameters
        ----------
        optimizer : str or Optimizer
            See ``fit``.
        """
        chosen = as_optimizer(optimizer)
        state = self._optimizer_state(chosen)
        state.step += 1
        self._program.step(self.grads, state.step, chosen.settings(), state.first, state.second)

    def reset_optimizer(self) -> None:
        """Forget the optimizer's moments and steps."""
        self._state = None

    def _optimizer_state(self, optimizer: Optimizer) -> OptimizerState:
        if self._state is None or self._state.kernel != optimizer.kernel:
            moments = [aligned_zeros(self.n_params, self.dtype) for _ in range(optimizer.moments)]
            first, second = [*moments, None, None][:2]
            self._state = OptimizerState(optimizer.kernel, first, second)
        return self._state

    # ------------------------------------------------------------------ predictions

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predict labels (classification) or values (regression).

        Parameters
        ----------
        X : array_like of shape (n_samples, n_in)
            Inputs; computed in chunks, with memory that does not grow with their number.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_out)
            Labels of the dtype seen in ``fit``, or values shaped as its targets were.
        """
        return self._targets.decode(self._outputs(X))

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Predict probabilities of the classes.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_in)
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
        if not self._targets.is_classification:
            raise ValueError(f"predict_proba needs a cross-entropy loss; this is {self.loss.name}.")
        out = self._outputs(X)
        if self.loss.targets == "binary" and self.n_out == 1:
            return np.concatenate([1 - out, out], axis=1)
        return out

    def evaluate(
        self, X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None
    ) -> dict[str, float]:
        """Loss and score on given data, in inference mode.

        Parameters
        ----------
        X, y, sample_weight
            As for ``fit``.

        Returns
        -------
        dict of str to float
            ``"loss"``, and ``"accuracy"`` (classification) or ``"r2"`` (regression).
        """
        data = self._as_data(X, y, sample_weight, learn=self._targets.classes is None)
        with single_threaded_blas():
            loss, weight = self._program.evaluate(data, threads_for(None, self._work(data.rows)))
        result = {"loss": float(loss / weight) if weight > 0 else 0.0}
        out = self._outputs(data.x)
        w = data.weight if data.weight is not None else np.ones(data.rows)
        if self._targets.is_classification:
            if data.labels is not None:
                hit = out.argmax(axis=1) == data.labels
            elif self.loss.targets == "labels":
                hit = out.argmax(axis=1) == data.target.argmax(axis=1)
            else:
                hit = ((out > 0.5) == (data.target > 0.5)).all(axis=1)
            result["accuracy"] = float(np.average(hit, weights=w))
        else:
            result["r2"] = _r2(data.target.astype(np.float64), out.astype(np.float64), w)
        return result

    def _outputs(self, X: ArrayLike) -> NDArray[Any]:
        inputs = self._as_input(X)
        out = np.empty((len(inputs), self.n_out), self.dtype)
        link = "identity" if self.loss.link == "exp" else self.loss.link
        with single_threaded_blas():
            self._program.infer(
                inputs, _LINKS[link], out, threads_for(None, self._work(len(inputs)))
            )
        if self.loss.link == "exp":
            _kernels.exp(out, out)
        return out

    # ------------------------------------------------------------------ checks

    def _work(self, rows: int) -> float:
        return float(rows * self._program.work_per_row)

    def _as_input(self, X: ArrayLike) -> NDArray[Any]:
        return as_matrix(X, "X", dtype=self.dtype, columns=self.n_in)

    def _as_weight(self, sample_weight: ArrayLike | None, rows: int) -> NDArray[Any] | None:
        if sample_weight is None:
            return None
        weight = as_vector(sample_weight, "sample_weight", dtype=self.dtype, size=rows)
        if weight.min() < 0 or not weight.sum(dtype=np.float64) > 0:
            raise ValueError("sample_weight must be at least 0 and not all zero.")
        return weight

    def _as_data(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, *, learn: bool
    ) -> Data:
        inputs = self._as_input(X)
        known = (self._targets.classes, self._targets.vector)
        try:
            labels, target = self._targets.encode(y, learn=learn)
            check_same_rows(X=inputs, y=labels if target is None else target)
            weight = self._as_weight(sample_weight, len(inputs))
        except (TypeError, ValueError):
            self._targets.classes, self._targets.vector = known
            raise
        return Data(inputs, labels, target, weight)

    def _as_validation(self, validation: tuple[Any, ...] | None) -> tuple[Any, Any, Any] | None:
        if validation is None:
            return None
        if not isinstance(validation, tuple | list) or len(validation) not in (2, 3):
            raise TypeError("validation_data must be a tuple (X, y) or (X, y, sample_weight).")
        x, y, w = (*validation, None)[:3]
        try:
            self._as_data(x, y, w, learn=False)
        except (TypeError, ValueError) as error:
            raise type(error)(f"validation_data: {error}") from error
        return x, y, w

    def _split(
        self,
        inputs: NDArray[Any],
        labels: NDArray[Any] | None,
        target: NDArray[Any] | None,
        weight: NDArray[Any] | None,
        y: NDArray[Any],
        fraction: float,
        stratify: bool | None,
    ) -> tuple[Any, ...]:
        from dnncore.preprocessing import split_indices

        check_real(fraction, "validation_split", minimum=0.0)
        check_real(fraction, "validation_split", maximum=1.0, exclusive=True)
        if stratify is None:
            stratify = labels is not None or (
                self.loss.targets == "binary" and self.n_out == 1
            )  # fmt: skip
        rest, held = split_indices(
            y.ravel() if stratify else len(inputs), fraction, stratify=stratify, seed=self.seed
        )
        validation = (inputs[held], y[held], None if weight is None else weight[held])
        return (
            inputs[rest],
            None if labels is None else labels[rest],
            None if target is None else target[rest],
            None if weight is None else weight[rest],
            validation,
        )

    # ------------------------------------------------------------------ files and copies

    def get_config(self) -> dict[str, Any]:
        """Describe the network in plain values: everything but the parameters."""
        layers = []
        for layer in self.layers:
            fields = {f.name: getattr(layer, f.name) for f in dataclasses.fields(layer)}
            if callable(fields.get("weight_initializer")):
                fields["weight_initializer"] = None
            layers.append({"kind": type(layer).__name__, **fields})
        return {
            "n_in": self.n_in,
            "layers": layers,
            "loss": self.loss.name,
            "loss_parameter": self.loss.parameter,
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
        layers = []
        for fields in config["layers"]:
            fields = dict(fields)
            layers.append(_LAYERS[fields.pop("kind")](**fields))
        loss = Loss(config["loss"], config["loss_parameter"])
        net._describe(config["n_in"], layers, loss, config["dtype"], config["seed"])
        net._targets.set_config(config["targets"])
        net._allocate()
        return net

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
            "params": self._params.copy(),
            "state": self._state,
            "epochs_seen": self._epochs_seen,
            "forward_step": self._forward_step,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        config = state["config"]
        loss = Loss(config["loss"], config["loss_parameter"])
        self._describe(config["n_in"], state["layers"], loss, config["dtype"], config["seed"])
        self._targets.set_config(config["targets"])
        self._allocate()
        self._params[...] = state["params"]
        self._state = state["state"]
        self._epochs_seen = state["epochs_seen"]
        self._forward_step = state["forward_step"]

    def copy(self) -> Self:
        """Independent copy: parameters, classes and optimizer state."""
        import copy

        return copy.deepcopy(self)

    # ------------------------------------------------------------------ in words

    def __repr__(self) -> str:
        layers = ", ".join(_describe_layer(layer) for layer in self.layers)
        return (
            f"Network({self.n_in}, [{layers}], loss={self.loss.name!r}, "
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


def _r2(y: NDArray[Any], p: NDArray[Any], w: NDArray[Any]) -> float:
    """Coefficient of determination, the mean over outputs; 0 for a constant target missed."""
    mean = np.average(y, axis=0, weights=w)
    left = np.average((y - p) ** 2, axis=0, weights=w)
    spread = np.average((y - mean) ** 2, axis=0, weights=w)
    safe = np.where(spread > 0, spread, 1.0)
    return float(np.where(spread > 0, 1 - left / safe, np.where(left > 0, 0.0, 1.0)).mean())


def _describe_layer(layer: Layer) -> str:
    """The call that makes the layer, with what differs from the defaults."""
    words = []
    for i, f in enumerate(dataclasses.fields(layer)):
        value = getattr(layer, f.name)
        if i == 0 or value != f.default:
            words.append(repr(value) if i < 2 else f"{f.name}={value!r}")
    return f"{type(layer).__name__}({', '.join(words)})"
