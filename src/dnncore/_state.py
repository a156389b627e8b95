"""All arrays that make up a network's state: the one list for checkpoints, copies, restoring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from dnncore.network import Network

__all__ = ["model_arrays", "training_arrays"]


def model_arrays(network: Network) -> dict[str, NDArray[Any]]:
    """Return what predictions depend on: views, by name, to read and to write."""
    return dict(network.named_parameters())


def training_arrays(network: Network) -> dict[str, NDArray[Any]]:
    """Return what the optimizer carries from step to step; nothing before the first step."""
    state = network._state
    if state is None:
        return {}
    return {f"optimizer.moment{i + 1}": moment for i, moment in enumerate(state.moments)}
