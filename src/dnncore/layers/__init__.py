"""Layers as plain, frozen descriptions; ``Network`` turns them into the engine's program."""

from __future__ import annotations

from typing import Any

from dnncore.layers._activations import Activation, Blend, PReLU
from dnncore.layers._basic import Dense, Layer
from dnncore.layers._noise import AlphaDropout, Dropout, GaussianNoise
from dnncore.layers._normalization import BatchNorm, LayerNorm, Norm, RMSNorm
from dnncore.layers._residual import Residual, check_layers, walk

__all__ = [
    "LAYERS",
    "Activation",
    "AlphaDropout",
    "BatchNorm",
    "Blend",
    "Dense",
    "Dropout",
    "GaussianNoise",
    "Layer",
    "LayerNorm",
    "Norm",
    "PReLU",
    "RMSNorm",
    "Residual",
    "check_layers",
    "layer_from_config",
    "walk",
]

LAYERS: dict[str, type[Layer]] = {
    kind.__name__: kind
    for kind in (
        Activation, AlphaDropout, BatchNorm, Blend, Dense, Dropout, GaussianNoise, LayerNorm,
        PReLU, RMSNorm, Residual,
    )
}  # fmt: skip
"""Layers by the name that a network's description gives them."""


def layer_from_config(config: dict[str, Any]) -> Layer:
    """Build a layer from its ``get_config``.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the description makes no layer.
    """
    values = dict(config)
    kind = LAYERS[values.pop("kind")]
    if kind is Residual:
        values["layers"] = [layer_from_config(layer) for layer in values["layers"]]
    return kind(**values)
