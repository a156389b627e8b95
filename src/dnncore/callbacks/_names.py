"""Whether what callbacks watch will be recorded: asked before training."""

from __future__ import annotations

from collections.abc import Sequence

from dnncore.callbacks._base import Callback, overrides
from dnncore.callbacks._monitor import Monitor, ReduceLROnPlateau

__all__ = ["check_monitors"]


def check_monitors(callbacks: Sequence[Callback], names: Sequence[str]) -> None:
    """Refuse to watch what will not be recorded.

    What callbacks of the user's own will record is not known: with one that could, an unknown
    name is an error only once an epoch has gone by without it.

    Parameters
    ----------
    callbacks : sequence of Callback
        Those of a training.
    names : sequence of str
        What the training records itself.

    Raises
    ------
    ValueError
        If a callback watches something else.
    """
    if any(_may_record(callback) for callback in callbacks):
        return
    names = list(names)
    if any(isinstance(callback, ReduceLROnPlateau) for callback in callbacks):
        names.append("learning_rate_scale")
    for callback in callbacks:
        if isinstance(callback, Monitor):
            callback.check(names)


def _may_record(callback: Callback) -> bool:
    """Whether a hook with ``logs`` is not one of the library's."""
    for hook in ("on_validation_end", "on_epoch_end"):
        if overrides(callback, hook):
            function = getattr(callback, hook)
            if not getattr(function, "__module__", "").startswith("dnncore.callbacks."):
                return True
    return False
