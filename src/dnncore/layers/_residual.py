"""Residual blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from dnncore.layers._basic import Layer

__all__ = ["Residual", "check_layers", "walk"]


@dataclass(frozen=True, repr=False)
class Residual(Layer):
    """Adds its input to what its layers make of it: ``x + layers(x)``.

    Parameters
    ----------
    layers : sequence of Layer
        Any layers, residual blocks included; the last one must give as many columns as the first
        one gets.

    Raises
    ------
    TypeError, ValueError
        If it is no list of layers, or an empty one. That widths differ is found by ``Network``.

    References
    ----------
    He et al. 2016, "Deep residual learning for image recognition".
    """

    layers: tuple[Layer, ...]

    def __init__(self, layers: Iterable[Layer]) -> None:
        found = check_layers(layers, "Residual layers")
        if not found:
            raise ValueError("A Residual block needs at least one layer.")
        self._set("layers", found)

    def __repr__(self) -> str:
        return f"Residual({list(self.layers)!r})"

    def get_config(self) -> dict[str, Any]:
        """Describe the block and its layers in plain values."""
        return {"kind": "Residual", "layers": [layer.get_config() for layer in self.layers]}


def check_layers(layers: Iterable[Layer], name: str) -> tuple[Layer, ...]:
    """Require a sequence of layers.

    Raises
    ------
    TypeError
        If it is none.
    """
    if not isinstance(layers, Iterable):
        raise TypeError(f"{name} must be a list of layers; got {layers!r}.")
    found = tuple(layers)
    for i, layer in enumerate(found):
        if not isinstance(layer, Layer):
            raise TypeError(
                f"{name}[{i}] must be a layer such as Dense(100, 'relu'); got {layer!r}."
            )
    return found


def walk(layers: Iterable[Layer]) -> Iterator[Layer]:
    """All layers, first to last, and after each residual block those within it."""
    for layer in layers:
        yield layer
        if isinstance(layer, Residual):
            yield from walk(layer.layers)
