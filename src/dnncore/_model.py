"""What a network is, trained or not: layers, parameters, predictions, files."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from dnncore import _custom_loss, _kernels, prediction
from dnncore._data import ClassWeight, as_data, weigh
from dnncore._engine import Data, Program
from dnncore._memory import aligned_zeros
from dnncore._scores import scores
from dnncore._steps import exclusive
from dnncore._threads import threads_for
from dnncore._validation import as_float_dtype, as_matrix, check_int
from dnncore.initializers import default_initializer, initialize
from dnncore.layers import BatchNorm, Dense, Layer, check_layers, layer_from_config, walk
from dnncore.losses import Custom, Loss, as_loss, loss_from_config
from dnncore.metrics import Metric, as_metrics
from dnncore.program import Parameter, layout_of
from dnncore.targets import Targets

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Model"]


class Model:
    """What predictions depend on; ``Network`` adds what trains it, and documents the attributes."""

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
        self._lock = threading.RLock()
        self._forward_step = 0
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

    def _draw(self) -> None:
        """Give all parameters their first values."""
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

    # ------------------------------------------------------------------ forward and backward

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
        with exclusive(self, engine_only=True):
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
        with exclusive(self, engine_only=True):
            threads = threads_for(None, 2.0 * rows * self._program.work_per_row)
            return self._program.backward(gradient, self.grads, self._forward_step - 1, threads)

    def _check_batch(self, rows: int) -> None:
        if rows == 1 and any(isinstance(s, BatchNorm) and s.trainable for s in walk(self.layers)):
            raise ValueError(
                "BatchNorm cannot normalise a batch of one row: its deviation from its own mean "
                "is 0. Train on batches of at least two rows, or use LayerNorm."
            )

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

    @property
    def _evaluate(self) -> Callable[..., tuple[float, float]]:
        if isinstance(self.loss, Custom):
            return partial(_custom_loss.evaluate, self, self.loss)
        return self._program.evaluate

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

    def __getstate__(self) -> dict[str, Any]:
        return {
            "config": self.get_config(),
            "layers": self.layers,
            "loss": self.loss,
            "params": self._params.copy(),
            "forward_step": self._forward_step,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._restore(state["config"], state["layers"], state["loss"])
        self._params[...] = state["params"]
        self._forward_step = state["forward_step"]

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
