"""From layers to the engine: where parameters lie in the flat buffer, and what is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnncore._kernels import ACTIVATIONS
from dnncore._validation import INT_MAX
from dnncore.layers import Dense, Dropout, Layer

if TYPE_CHECKING:
    from dnncore._engine import DenseFields, DropoutFields

__all__ = ["Parameter", "aligned_zeros", "parameters_of", "operations_of", "widths_of"]


@dataclass(frozen=True)
class Parameter:
    """A named piece of the parameter buffer.

    Attributes
    ----------
    name : str
        ``layers.<i>.weight`` or ``layers.<i>.bias``.
    layer : int
        Place of the layer in the network's list.
    shape : tuple of int
        Its shape.
    offset : int
        Its first element in the buffer.
    """

    name: str
    layer: int
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod([int(n) for n in self.shape], dtype=object))

    def view(self, buffer: NDArray[Any]) -> NDArray[Any]:
        """Its view of a buffer laid out as the parameters."""
        return buffer[self.offset : self.offset + self.size].reshape(self.shape)


def widths_of(n_in: int, layers: Sequence[Layer]) -> list[int]:
    """Width of the input and of each layer's output."""
    widths = [n_in]
    for layer in layers:
        widths.append(layer.units if isinstance(layer, Dense) else widths[-1])
    return widths


def parameters_of(n_in: int, layers: Sequence[Layer]) -> list[Parameter]:
    """List the parameters in the order in which they lie in the buffer: W then b, layer by layer.

    Raises
    ------
    ValueError
        If there are more than 2**31 - 1 of them.
    """
    found: list[Parameter] = []
    offset, width = 0, n_in
    for i, layer in enumerate(layers):
        if not isinstance(layer, Dense):
            continue
        shapes: list[tuple[str, tuple[int, ...]]] = [("weight", (width, layer.units))]
        if layer.use_bias:
            shapes.append(("bias", (layer.units,)))
        for kind, shape in shapes:
            found.append(Parameter(f"layers.{i}.{kind}", i, shape, offset))
            offset += found[-1].size
        width = layer.units
    if offset > INT_MAX:
        raise ValueError(
            f"The network would have {offset} parameters; the largest supported is {INT_MAX}."
        )
    return found


def operations_of(
    layers: Sequence[Layer], parameters: Sequence[Parameter]
) -> list[DenseFields | DropoutFields]:
    """List the engine's operations; see ``_engine.Program``."""
    places = {p.name: p.offset for p in parameters}
    operations: list[DenseFields | DropoutFields] = []
    for i, layer in enumerate(layers):
        if isinstance(layer, Dense):
            operations.append(
                {
                    "kind": "dense",
                    "source": i,
                    "target": i + 1,
                    "activation": ACTIVATIONS[layer.activation],
                    "trainable": layer.trainable,
                    "weight": places[f"layers.{i}.weight"],
                    "bias": places.get(f"layers.{i}.bias", -1),
                    "l1": layer.l1,
                    "l2": layer.l2,
                    "learning_rate_factor": layer.learning_rate_factor,
                    "max_norm": layer.max_norm or 0.0,
                }
            )
        elif isinstance(layer, Dropout):
            operations.append(
                {
                    "kind": "dropout",
                    "source": i,
                    "target": i + 1,
                    "rate": layer.rate,
                    "stream": i,
                }
            )
        else:
            raise TypeError(f"unknown layer {layer!r}")
    return operations


def aligned_zeros(n: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros whose first element starts a 64-byte cache line."""
    memory = np.zeros(n * dtype.itemsize + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + n * dtype.itemsize].view(dtype)
