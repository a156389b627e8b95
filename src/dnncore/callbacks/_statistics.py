"""The callback that watches how layers fare: dead units, saturation, gradients, in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnncore._data import as_data
from dnncore._validation import check_int
from dnncore.callbacks._base import Callback
from dnncore.layers import Dense

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dnncore.network import Network

__all__ = ["LayerStatistics"]

_BOUNDS = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "hardtanh": (-1.0, 1.0),
           "softsign": (-1.0, 1.0)}  # fmt: skip
_RELUS = ("relu", "hard_swish")
_DEAD, _SATURATED = 0.2, 0.5  # shares from which words are made of it
_VANISHES, _EXPLODES = 1e-4, 1e3


@dataclass
class LayerRecord:
    """What was seen of one dense layer.

    Attributes
    ----------
    index : int
        Its place among all layers of the network, residual blocks counted before their layers.
    activation : str
        Its activation.
    values : dict of str to list of float
        One value a look: ``dead``, ``saturated``, ``activation_mean``, ``activation_std``,
        ``gradient``, ``weight``.
    """

    index: int
    units: int
    activation: str
    values: dict[str, list[float]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Name for people."""
        shown = "" if self.activation == "identity" else f" {self.activation}"
        return f"layer {self.index}: {self.units}{shown}"


class LayerStatistics(Callback):
    """Watches each dense layer on a sample of rows, before training and after epochs.

    A unit is *dead* if it answers the same to every row of the sample. An output is *saturated*
    if it is within 1 % of the activation's bounds. Looking computes on a copy, and changes
    nothing of training.

    Parameters
    ----------
    X : array_like of shape (rows, n_in)
        The sample, some hundred rows.
    y : array_like of shape (rows,) or (rows, n_out)
        Its targets.
    every_epochs : int
        Look after every so many epochs.

    Attributes
    ----------
    epochs : list of int
        Epochs after which there was a look; 0 is before training.
    layers : list of LayerRecord
        What was seen.

    Examples
    --------
    >>> import numpy as np
    >>> import dnncore as dnn
    >>> X = np.random.default_rng(0).standard_normal((64, 5))
    >>> net = dnn.Network(5, [dnn.Dense(20, "relu"), dnn.Dense(1)], loss="mse")
    >>> net.biases[0][:8] = -100
    >>> watch = LayerStatistics(X, X[:, 0])
    >>> history = net.fit(X, X[:, 0], epochs=2, callbacks=[watch])
    >>> watch.layers[0].values["dead"]
    [0.4, 0.4, 0.4]
    >>> print(watch.describe())
    layer 0: 20 relu: 40 % of its units are dead, they give the same answer to every row. Try a \
smaller learning rate, another activation such as leaky_relu or gelu, or standardised inputs.
    """

    def __init__(self, X: ArrayLike, y: ArrayLike, *, every_epochs: int = 1) -> None:
        self.X, self.y = X, y
        self.every_epochs = check_int(every_epochs, "every_epochs")
        self.epochs: list[int] = []
        self.layers: list[LayerRecord] = []

    def on_train_begin(self, network: Network, epochs: int) -> None:
        """Look before training."""
        self.epochs = []
        self.layers = [
            LayerRecord(i, place.layer.units, place.layer.activation)
            for i, place in enumerate(network._layout.places)
            if isinstance(place.layer, Dense)
        ]
        self._look(network, 0)

    def on_epoch_end(self, network: Network, epoch: int, logs: dict[str, float]) -> None:
        """Look, if it is time to."""
        if (epoch + 1) % self.every_epochs == 0:
            self._look(network, epoch + 1)

    def get_state(self) -> dict[str, Any]:
        """Keep what was seen."""
        return {"epochs": list(self.epochs), "values": [dict(r.values) for r in self.layers]}

    def set_state(self, network: Network, state: dict[str, Any]) -> None:
        """Go on from an earlier process."""
        self.epochs = state["epochs"]
        for record, values in zip(self.layers, state["values"], strict=True):
            record.values = values

    def _look(self, network: Network, epoch: int) -> None:
        twin = network.copy()
        targets = twin._targets if twin.classes_ is not None else twin._targets.learn(self.y)
        data = as_data(twin.n_in, targets, self.X, self.y, None)
        twin._program.loss_gradient(data, twin.grads, 1)
        if data.sparse is None:  # loss_gradient leaves the others where they are looked for
            twin.forward(data.x)
        self.epochs.append(epoch)
        for record in self.layers:
            place = twin._layout.places[record.index]
            out = twin._program.kept(place.slot)
            pieces = [p for p in place.parameters if p.kind == "weight"]
            gradient = np.concatenate([p.view(twin.grads).reshape(-1) for p in pieces])
            weight = np.concatenate([p.view(twin.params).reshape(-1) for p in pieces])
            for name, value in {
                "dead": float((out.max(axis=0) == out.min(axis=0)).mean()),
                "saturated": _saturated(out, record.activation),
                "activation_mean": float(out.mean(dtype=np.float64)),
                "activation_std": float(out.std(dtype=np.float64)),
                "gradient": _rms(gradient),
                "weight": _rms(weight),
            }.items():
                record.values[name] = [*record.values.get(name, []), value]

    def describe(self) -> str:
        """Say in words what is wrong with which layer, as it was seen last.

        Returns
        -------
        str
            A sentence a line.
        """
        found = [words for record in self.layers for words in _words(record)]
        gradients = [record.values["gradient"] for record in self.layers]
        for record, values in zip(self.layers, gradients, strict=True):
            first, last = values[0], values[-1]
            if last > _EXPLODES * max(first, 1e-12) and last > 1:
                found.append(
                    f"{record.title}: its gradients explode, {last:.2g} now and {first:.2g} at "
                    "first. Try a smaller learning rate, or clip the gradients."
                )
        largest = max(values[-1] for values in gradients)
        for record, values in zip(self.layers, gradients, strict=True):
            if values[-1] < _VANISHES * largest:
                found.append(
                    f"{record.title}: its gradients vanish, {values[-1]:.2g} where another layer "
                    f"has {largest:.2g}; it hardly learns. Try relu or its kin, fewer layers, or "
                    "other initial weights."
                )
        return "\n".join(found) or "All layers look healthy: no dead units, saturation or extremes."

    def plot(self, name: str = "dead", ax: Axes | None = None) -> Axes:
        """Plot one quantity; see ``dnncore.plotting.plot_layer_statistics``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            For an unknown quantity.
        """
        from dnncore.plotting import plot_layer_statistics

        return plot_layer_statistics(self, name, ax)


def _words(record: LayerRecord) -> list[str]:
    dead, saturated = record.values["dead"][-1], record.values["saturated"][-1]
    found = []
    if dead >= _DEAD:
        remedy = "another activation such as leaky_relu or gelu, " * (record.activation in _RELUS)
        found.append(
            f"{record.title}: {100 * dead:.0f} % of its units are dead, they give the same answer "
            f"to every row. Try a smaller learning rate, {remedy}or standardised inputs."
        )
    if saturated >= _SATURATED:
        found.append(
            f"{record.title}: {100 * saturated:.0f} % of its outputs are saturated, where "
            f"{record.activation} is flat and passes no gradient. Try standardised inputs, smaller "
            "initial weights, or a smaller learning rate."
        )
    return found


def _saturated(out: NDArray[Any], activation: str) -> float:
    if activation not in _BOUNDS:
        return 0.0
    low, high = _BOUNDS[activation]
    near = 0.01 * (high - low)
    return float(((out < low + near) | (out > high - near)).mean())


def _rms(values: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
