"""Callbacks: your code at the start and end of training and of each epoch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dnncore.network import Network

__all__ = ["Callback", "ProgressBar", "as_callbacks"]


class Callback:
    """Base of callbacks; override what you need.

    ``logs`` holds the epoch's numbers, as in ``History``. Set ``network.stop_training = True``
    to end training after the epoch.
    """

    def on_train_begin(self, network: Network, epochs: int) -> None:
        """Before the first epoch."""

    def on_epoch_begin(self, network: Network, epoch: int) -> None:
        """Before each epoch, counted from 0."""

    def on_progress(self, network: Network, epoch: int, done: float, loss: float) -> None:
        """About every 50 ms within an epoch: share done in [0, 1] and mean loss so far."""

    def on_epoch_end(self, network: Network, epoch: int, logs: dict[str, float]) -> None:
        """After each epoch."""

    def on_train_end(self, network: Network) -> None:
        """After training, also if it ended by an error."""


class ProgressBar(Callback):
    """A tqdm bar over the epochs; what ``fit(verbose=True)`` shows.

    Parameters
    ----------
    **options
        Passed on to ``tqdm``.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self._bar: Any = None

    def on_train_begin(self, network: Network, epochs: int) -> None:
        """Open the bar."""
        from tqdm.auto import tqdm

        self._bar = tqdm(
            total=epochs,
            unit="epoch",
            bar_format="{l_bar}{bar}| {n:.1f}/{total} [{elapsed}<{remaining}{postfix}]",
            **self.options,
        )

    def on_progress(self, network: Network, epoch: int, done: float, loss: float) -> None:
        """Move the bar within the epoch."""
        self._bar.n = epoch + done
        self._bar.refresh()

    def on_epoch_end(self, network: Network, epoch: int, logs: dict[str, float]) -> None:
        """Move the bar and show the epoch's numbers."""
        self._bar.n = epoch + 1
        self._bar.set_postfix({k: f"{v:.4f}" for k, v in logs.items() if k != "time"})

    def on_train_end(self, network: Network) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


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
