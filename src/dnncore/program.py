"""From layers to the engine: where parameters lie in the flat buffer, and what is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnncore._kernels import ACTIVATIONS
from dnncore._validation import INT_MAX
from dnncore.layers import (
    Activation,
    AlphaDropout,
    BatchNorm,
    Blend,
    Dense,
    Dropout,
    GaussianNoise,
    Layer,
    LayerNorm,
    Norm,
    PReLU,
    Residual,
    RMSNorm,
)

if TYPE_CHECKING:
    from dnncore._engine import OperationFields

__all__ = ["Layout", "Parameter", "Place", "layout_of"]

_NORMS: dict[type[Layer], str] = {
    LayerNorm: "layer_norm",
    RMSNorm: "rms_norm",
    BatchNorm: "batch_norm",
}


@dataclass(frozen=True)
class Parameter:
    """A named piece of the parameter buffer.

    Attributes
    ----------
    name : str
        ``layers.<i>.<kind>``; within a residual block ``layers.<i>.layers.<j>.<kind>``.
    kind : str
        ``weight``, ``bias``, ``gamma``, ``beta``, ``alpha``, ``blend``, ``running_mean`` or
        ``running_var``.
    owner : Layer
        The layer it belongs to.
    shape : tuple of int
        Its shape.
    offset : int
        Its first element in the buffer.
    """

    name: str
    kind: str
    owner: Layer
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod([int(n) for n in self.shape], dtype=object))

    @property
    def is_statistic(self) -> bool:
        """Whether it is measured, and not learned."""
        return self.kind.startswith("running")

    def view(self, buffer: NDArray[Any]) -> NDArray[Any]:
        """Its view of a buffer laid out as the parameters."""
        return buffer[self.offset : self.offset + self.size].reshape(self.shape)


@dataclass(frozen=True)
class Place:
    """A layer in its network.

    Attributes
    ----------
    path : str
        ``<i>``, or within a residual block ``<i>.layers.<j>``.
    layer : Layer
        The layer.
    width : int
        Columns of its output.
    slot : int
        The engine's slot that holds its output.
    parameters : list of Parameter
        What belongs to it alone.
    """

    path: str
    layer: Layer
    width: int
    slot: int
    parameters: list[Parameter]


@dataclass
class Layout:
    """What the engine needs to know of a list of layers.

    Attributes
    ----------
    widths : list of int
        Width of each slot; slot 0 is the input, the last one the output.
    parameters : list of Parameter
        In the order in which they lie in the buffer, layer by layer.
    operations : list of dict
        See ``_engine.Program``.
    places : list of Place
        All layers; those within a residual block follow it.
    """

    widths: list[int]
    parameters: list[Parameter] = field(default_factory=list)
    operations: list[OperationFields] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    size: int = 0

    def add(self, layers: Sequence[Layer], source: int, prefix: str) -> int:
        """Append layers that work on a slot; returns the slot of their output."""
        for i, layer in enumerate(layers):
            source = self._add_one(layer, source, f"{prefix}{i}")
        return source

    def _add_one(self, layer: Layer, source: int, path: str) -> int:
        at, width = len(self.places), self.widths[source]
        first = len(self.parameters)
        self.places.append(Place(path, layer, width, source, []))
        if isinstance(layer, Residual):
            target = self._add_block(layer, source, path)
            first = len(self.parameters)
        else:
            target = self._slot(layer.units if isinstance(layer, Dense) else width)
            operation = self._operation(layer, source, target, path)
            self.operations.append(operation)
        own = self.parameters[first:]
        self.places[at] = Place(path, layer, self.widths[target], target, own)
        return target

    def _add_block(self, block: Residual, source: int, path: str) -> int:
        fork: OperationFields = {"kind": "fork", "source": source, "target": 0}
        self.operations.append(fork)
        inner = self.add(block.layers, source, f"{path}.layers.")
        if self.widths[inner] != self.widths[source]:
            raise ValueError(
                f"The Residual block layers.{path} gets {self.widths[source]} columns and its "
                f"layers give {self.widths[inner]}; they must be equal to be added. Let its last "
                f"Dense layer have {self.widths[source]} units."
            )
        target = self._slot(self.widths[source])
        fork["target"] = target
        self.operations.append({"kind": "add", "source": inner, "target": target, "skip": source})
        return target

    def _slot(self, width: int) -> int:
        self.widths.append(width)
        return len(self.widths) - 1

    def _parameter(self, path: str, kind: str, owner: Layer, *shape: int) -> int:
        found = Parameter(f"layers.{path}.{kind}", kind, owner, shape, self.size)
        self.parameters.append(found)
        self.size += found.size
        if self.size > INT_MAX:
            raise ValueError(
                f"The network would have more than {INT_MAX} parameters, the largest number "
                "supported."
            )
        return found.offset

    def _operation(self, layer: Layer, source: int, target: int, path: str) -> OperationFields:
        # Masks differ by stream: the place in the list of operations.
        stream, width = len(self.operations), self.widths[target]
        fields: OperationFields = {"kind": "dense", "source": source, "target": target}
        if isinstance(layer, Dense):
            fields["activation"] = ACTIVATIONS[layer.activation]
            fields["trainable"] = layer.trainable
            fields["l1"], fields["l2"] = layer.l1, layer.l2
            fields["learning_rate_factor"] = layer.learning_rate_factor
            fields["max_norm"] = layer.max_norm or 0.0
            fields["weight"] = self._parameter(path, "weight", layer, self.widths[source], width)
            if layer.use_bias:
                fields["bias"] = self._parameter(path, "bias", layer, width)
        elif isinstance(layer, Dropout | AlphaDropout):
            fields["kind"] = "dropout" if isinstance(layer, Dropout) else "alpha_dropout"
            fields["rate"], fields["stream"] = layer.rate, stream
        elif isinstance(layer, GaussianNoise):
            fields["kind"] = "noise"
            fields["rate"], fields["stream"] = layer.stddev, stream
        elif isinstance(layer, Activation):
            fields["kind"] = "activation"
            fields["activation"] = ACTIVATIONS[layer.activation]
        elif isinstance(layer, PReLU):
            fields["kind"], fields["trainable"] = "prelu", layer.trainable
            fields["weight"] = self._parameter(path, "alpha", layer, width)
        elif isinstance(layer, Blend):
            fields["kind"], fields["trainable"] = "blend", layer.trainable
            fields["activation"] = ACTIVATIONS[layer.activation]
            fields["weight"] = self._parameter(path, "blend", layer, width)
        elif isinstance(layer, Norm):
            self._normalization(fields, layer, width, path)
        else:
            raise TypeError(f"unknown layer {layer!r}")
        return fields

    def _normalization(self, fields: OperationFields, layer: Norm, width: int, path: str) -> None:
        fields["kind"], fields["rate"] = _NORMS[type(layer)], layer.eps
        if layer.scale:
            fields["weight"] = self._parameter(path, "gamma", layer, width)
        if getattr(layer, "center", False):
            fields["bias"] = self._parameter(path, "beta", layer, width)
        fields["trainable"] = layer.trainable and ("weight" in fields or "bias" in fields)
        if isinstance(layer, BatchNorm):
            fields["trainable"], fields["momentum"] = layer.trainable, layer.momentum
            fields["running"] = self._parameter(path, "running_mean", layer, width)
            self._parameter(path, "running_var", layer, width)  # right behind the means


def layout_of(n_in: int, layers: Sequence[Layer]) -> Layout:
    """Lay out the parameters and operations of a network.

    Raises
    ------
    ValueError
        If there are more than 2**31 - 1 parameters, or a residual block changes the width.
    """
    layout = Layout([n_in])
    layout.add(layers, 0, "")
    return layout
