"""Callbacks about the time that training takes: a bar, and a limit."""

from __future__ import annotations

import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

from dnncore._validation import check_real
from dnncore.callbacks._base import Callback

if TYPE_CHECKING:
    from dnncore.network import Network

__all__ = ["ProgressBar", "TimeLimit", "somebody_watches"]


def somebody_watches() -> bool:
    """Whether a progress bar would be seen: in a terminal or a notebook."""
    if "ipykernel" in sys.modules:
        return True
    stream = sys.stderr
    return stream is not None and hasattr(stream, "isatty") and stream.isatty()


class ProgressBar(Callback):
    """A tqdm bar over the epochs; what ``fit(verbose=True)`` shows.

    Parameters
    ----------
    delay : float
        Seconds to train before the bar appears.
    **options
        Passed on to ``tqdm``.
    """

    def __init__(self, *, delay: float = 0.0, **options: Any) -> None:
        self.delay = check_real(delay, "delay", minimum=0.0)
        self.options = options
        self._bar: Any = None
        self._epochs = 0
        self._began = 0.0

    def on_train_begin(self, network: Network, epochs: int) -> None:
        """Learn how many epochs there will be."""
        self._epochs, self._began, self._bar = epochs, time.perf_counter(), None

    def on_progress(self, network: Network, epoch: int, done: float, loss: float) -> None:
        """Move the bar within the epoch."""
        if self._opened():
            self._bar.n = epoch + done
            self._bar.refresh()

    def on_epoch_end(self, network: Network, epoch: int, logs: dict[str, float]) -> None:
        """Move the bar and show the epoch's numbers."""
        if self._opened():
            self._bar.n = epoch + 1
            self._bar.set_postfix({k: f"{v:.4f}" for k, v in logs.items() if k != "time"})

    def on_train_end(self, network: Network) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def _opened(self) -> bool:
        if self._bar is None and time.perf_counter() - self._began >= self.delay:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a notebook without widgets gets a plain bar
                from tqdm.auto import tqdm

                self._bar = tqdm(
                    total=self._epochs,
                    unit="epoch",
                    bar_format="{l_bar}{bar}| {n:.1f}/{total} [{elapsed}<{remaining}{postfix}]",
                    **self.options,
                )
        return self._bar is not None


class TimeLimit(Callback):
    """Ends training after some time, within an epoch if need be.

    Parameters
    ----------
    seconds : float
        Time from the beginning of training; training that goes on from a checkpoint has as much
        again.

    Raises
    ------
    TypeError, ValueError
        For anything but a number from 0 on.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = check_real(seconds, "seconds", minimum=0.0)
        self._began = 0.0

    def on_train_begin(self, network: Network, epochs: int) -> None:
        """Look at the clock."""
        self._began = time.perf_counter()

    def on_progress(self, network: Network, epoch: int, done: float, loss: float) -> None:
        """Stop if it is time."""
        if time.perf_counter() - self._began >= self.seconds:
            network.stop_training = True
