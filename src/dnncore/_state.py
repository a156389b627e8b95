"""All arrays that make up a network's state: the one list for checkpoints, copies, restoring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from dnncore.network import Network

__all__ = ["best_arrays", "model_arrays", "training_arrays"]


def model_arrays(network: Network) -> dict[str, NDArray[Any]]:
    """Return what predictions depend on: views, by name, to read and to write."""
    return dict(network.named_parameters())


def best_arrays(network: Network) -> dict[str, NDArray[Any]]:
    """Return what is kept of the best epoch: the parameters, and their average if there is one."""
    return model_arrays(network) | _average_arrays(network)


def training_arrays(network: Network) -> dict[str, NDArray[Any]]:
    """Return what training carries from step to step: moments, and the average."""
    state = network._state
    moments = [] if state is None else state.moments
    found = {f"optimizer.moment{i + 1}": moment for i, moment in enumerate(moments)}
    return found | _average_arrays(network)


def _average_arrays(network: Network) -> dict[str, NDArray[Any]]:
    kept = network._average
    if kept is None:
        return {}
    return {f"average.{name}": array for name, array in model_arrays(kept.network).items()}
