"""What a callback is: hooks to override, and a state that checkpoints keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dnncore.network import Network

__all__ = ["Callback", "LambdaCallback", "as_callbacks", "overrides"]


class Callback:
    """Base of callbacks; override what you need.

    Epochs, and the batches within one, are counted from 0. Set ``network.stop_training = True``
    to end training: at once from ``on_epoch_end``, else as soon as the engine comes back.

    A network whose callbacks define neither ``on_batch_begin`` nor ``on_batch_end`` trains many
    batches in one go; with such a hook the engine returns for each, or for every
    ``every_steps``-th.

    Attributes
    ----------
    every_steps : int
        Call the batch hooks at every so many steps of this training only.
    """

    every_steps: int = 1

    def on_train_begin(self, network: Network, epochs: int) -> None:
        """Before the first epoch."""

    def on_epoch_begin(self, network: Network, epoch: int) -> None:
        """Before each epoch."""

    def on_batch_begin(self, network: Network, epoch: int, batch: int) -> None:
        """Before a step."""

    def on_batch_end(self, network: Network, epoch: int, batch: int, loss: float) -> None:
        """After a step, with the mean loss since the last call or the epoch's beginning."""

    def on_progress(self, network: Network, epoch: int, done: float, loss: float) -> None:
        """About every 50 ms: share of the epoch done, in [0, 1], and its mean loss so far."""

    def on_validation_end(self, network: Network, epoch: int, logs: dict[str, float]) -> None:
        """After each validation, which may come within an epoch; ``logs`` holds its numbers."""

    def on_epoch_end(self, network: Network, epoch: int, logs: dict[str, float]) -> None:
        """After each epoch, with its numbers as in ``History``; what is added to them is kept."""

    def on_train_end(self, network: Network) -> None:
        """After training, also if it ended by an error."""

    def get_state(self) -> dict[str, Any] | None:
        """Return what a checkpoint must keep: plain values and arrays; None if there is nothing.

        Arrays must not be changed afterwards; make new ones.
        """
        return None

    def set_state(self, network: Network, state: dict[str, Any]) -> None:
        """Go on from ``get_state`` of an earlier process; comes after ``on_train_begin``."""


class LambdaCallback(Callback):
    """A callback made of functions.

    Parameters
    ----------
    **hooks
        Functions by the name of the hook, with the hook's arguments after ``self``.

    Raises
    ------
    TypeError
        For a name that is no hook, or something that cannot be called.

    Examples
    --------
    >>> losses = []
    >>> watch = LambdaCallback(on_epoch_end=lambda net, epoch, logs: losses.append(logs["loss"]))
    """

    def __init__(self, **hooks: Callable[..., None]) -> None:
        known = [name for name in vars(Callback) if name.startswith("on_")]
        for name, function in hooks.items():
            if name not in known:
                raise TypeError(f"{name!r} is no hook; there are {', '.join(known)}.")
            if not callable(function):
                raise TypeError(f"{name} must be a function; got {function!r}.")
            setattr(self, name, function)


def overrides(callback: Callback, hook: str) -> bool:
    """Whether a callback has its own version of a hook."""
    return hook in vars(callback) or getattr(type(callback), hook) is not getattr(Callback, hook)


def as_callbacks(callbacks: Iterable[Callback]) -> list[Callback]:
    """Return callbacks as a list.

    Raises
    ------
    TypeError
        For anything but objects of classes derived from ``Callback``.
    """
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks must be a list of callbacks; got {callbacks!r}.")
    found = list(callbacks)
    for i, callback in enumerate(found):
        if not isinstance(callback, Callback):
            raise TypeError(
                f"callbacks[{i}] must be an object of a class derived from dnncore.Callback; got "
                f"{callback!r}."
            )
    return found
