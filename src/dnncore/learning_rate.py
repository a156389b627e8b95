"""How large the learning rate may be: a short training in which it grows from step to step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnncore._validation import check_int, check_real
from dnncore.callbacks import Callback
from dnncore.exceptions import DivergenceError
from dnncore.optimizers import Optimizer, as_optimizer
from dnncore.schedules import Exponential

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dnncore.network import Network

__all__ = ["LearningRateSweep", "find_learning_rate"]

_FEW = 10
"""Steps below which a curve says nothing."""

_WORSE = 4.0
"""Ratio of the smoothed loss to its least value from which a sweep is over."""


@dataclass(frozen=True)
class LearningRateSweep:
    """Loss by learning rate; see ``find_learning_rate``.

    Attributes
    ----------
    learning_rates : ndarray of shape (n,)
        Of each step, growing by the same factor.
    losses : ndarray of shape (n,)
        Of each step's batch, before the step.
    smoothed : ndarray of shape (n,)
        The same as an exponential average, corrected for its start.
    suggestion : float
        Rate at which the smoothed loss falls most steeply, on a logarithmic scale of rates.
    at_minimum : float
        Rate at which it is least; training with it would hardly go on falling.
    """

    learning_rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    smoothed: NDArray[np.float64]
    suggestion: float
    at_minimum: float

    def plot(self, ax: Axes | None = None) -> Axes:
        """Plot the loss by learning rate.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default into a new figure.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from dnncore.plotting import plot_learning_rates

        return plot_learning_rates(self, ax)


class _Recorder(Callback):
    def __init__(self, steps: int, smoothing: float) -> None:
        self.steps, self.smoothing = steps, smoothing
        self.losses: list[float] = []
        self.smoothed: list[float] = []
        self.mean = 0.0

    def on_batch_end(self, network: Network, epoch: int, batch: int, loss: float) -> None:
        self.losses.append(loss)
        n = len(self.losses)
        self.mean = self.smoothing * self.mean + (1 - self.smoothing) * loss
        self.smoothed.append(self.mean / (1 - self.smoothing**n))
        low, now = min(self.smoothed), self.smoothed[-1]
        worse = low > 0 and now > _WORSE * low
        network.stop_training = n >= self.steps or (n > _FEW and worse)


def find_learning_rate(
    network: Network,
    X: Any,
    y: ArrayLike,
    *,
    optimizer: str | Optimizer = "adam",
    smallest: float = 1e-6,
    largest: float = 10.0,
    steps: int = 200,
    smoothing: float = 0.9,
    batch_size: int | None = 128,
    **settings: Any,
) -> LearningRateSweep:
    """Train a copy of a network for some steps, while the learning rate grows.

    It grows by the same factor at each step. While it is too small the loss stays, then it falls,
    then it rises; the sweep ends there. Good rates lie where it falls.

    Parameters
    ----------
    network : Network
        Left as it is.
    X, y : array_like
        Data, as for ``Network.fit``.
    optimizer : str or Optimizer
        Whose learning rate to find; its own number does not count.
    smallest, largest : float
        Rates of the first and of the last step.
    steps : int
        Steps from the one to the other, at least 10.
    smoothing : float
        Share of the past in the average of losses, in [0, 1).
    batch_size : int or None
        As for ``fit``; the rates found belong to it.
    **settings
        ``sample_weight``, ``class_weight``, ``accumulate``, ``n_threads`` of ``fit``.

    Returns
    -------
    LearningRateSweep
        With ``suggestion``, and ``plot()``.

    Raises
    ------
    TypeError, ValueError
        For settings out of range, data as for ``fit``, or a loss that diverges at once.

    References
    ----------
    Smith 2017, "Cyclical learning rates for training neural networks".

    Examples
    --------
    >>> import numpy as np
    >>> import dnncore as dnn
    >>> X = np.random.default_rng(0).standard_normal((300, 4))
    >>> net = dnn.Network(4, [dnn.Dense(8, "tanh"), dnn.Dense(1)], loss="mse")
    >>> sweep = dnn.find_learning_rate(net, X, X[:, 0], batch_size=32)
    >>> 1e-5 < sweep.suggestion < 1
    True
    """
    low = check_real(smallest, "smallest", minimum=0.0, exclusive=True)
    high = check_real(largest, "largest", minimum=low, exclusive=True)
    steps = check_int(steps, "steps", minimum=_FEW)
    share = check_real(smoothing, "smoothing", minimum=0.0)
    check_real(share, "smoothing", maximum=1.0, exclusive=True)
    unknown = set(settings) - {"sample_weight", "class_weight", "accumulate", "n_threads"}
    if unknown:
        raise TypeError(f"find_learning_rate has no setting {min(unknown)!r}.")
    factor = (high / low) ** (1 / (steps - 1))
    chosen = replace(as_optimizer(optimizer), learning_rate=Exponential(low, factor))
    twin, record = network.copy(), _Recorder(steps, share)
    twin.reset_optimizer()
    try:
        twin.fit(
            X, y, epochs=steps, batch_size=batch_size, optimizer=chosen, callbacks=[record],
            verbose=False, **settings,
        )  # fmt: skip
    except DivergenceError:
        pass  # the end of the curve
    n = len(record.losses)
    if n < _FEW:
        raise ValueError(
            f"The loss diverged after {n} steps, at a learning rate of {low * factor**n:.3g}; "
            "begin with a smaller one, smallest=..., and look at the data's scale."
        )
    rates, smoothed = low * factor ** np.arange(n), np.array(record.smoothed)
    least = int(np.argmin(smoothed))
    # Over some steps, for a batch is noise, and not before the average is one.
    width, first = max(1, n // 20), min(least, round(1 / (1 - share)))
    places = np.arange(first, max(least, first + 1))
    falls = smoothed[np.minimum(places + width, n - 1)] - smoothed[np.maximum(places - width, 0)]
    steepest = int(places[np.argmin(falls)])
    return LearningRateSweep(
        rates, np.array(record.losses), smoothed, float(rates[steepest]), float(rates[least])
    )
