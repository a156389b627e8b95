"""Averages of the parameters over training: often better than the last ones.

``fit(averaging=...)`` keeps one beside the parameters, which training goes on to change as if it
were not there::

    history = net.fit(X, y, validation_data=(Xv, yv), averaging=dnn.EMA(0.99))
    net.averaged.predict(Xv)

``Network.averaged`` is a network that has the average: it predicts, evaluates and is saved like
any other. Validation, and with it early stopping and ``ModelCheckpoint``, look at the average as
soon as there is one, unless ``validate=False``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dnncore._engine import Average
from dnncore._plain import dump
from dnncore._validation import check_bool, check_int, check_real

if TYPE_CHECKING:
    from dnncore.network import Network

__all__ = ["EMA", "SWA", "Averaging", "as_averaging"]


@dataclass(frozen=True)
class Averaging:
    """Base of all averages.

    Parameters
    ----------
    validate : bool
        Whether validation looks at the average, once there is one.
    """

    validate: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        check_bool(self.validate, "validate")

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # frozen for everyone else

    def when(self, steps: int, steps_per_epoch: int) -> tuple[int, int]:
        """Return the steps after which it begins, and the steps between two of its updates."""
        raise NotImplementedError

    @property
    def rule(self) -> tuple[float, bool]:
        """Decay, 0 for the mean of all, and whether it is warmed up."""
        raise NotImplementedError


@dataclass(frozen=True)
class EMA(Averaging):
    """Exponential moving average: ``average = decay * average + (1 - decay) * params``.

    The first parameters are copied.

    Parameters
    ----------
    decay : float
        In (0, 1). The average reaches back about ``1 / (1 - decay)`` times ``every`` steps.
    warmup : bool
        Let the decay be at most ``(1 + n) / (10 + n)`` for the n-th average, so that early
        parameters are forgotten sooner.
    every : int
        Steps from one average to the next.
    validate : bool
        See ``Averaging``.

    Raises
    ------
    TypeError, ValueError
        For settings out of range.

    References
    ----------
    Polyak and Juditsky 1992, "Acceleration of stochastic approximation by averaging".

    Examples
    --------
    >>> EMA(0.99).decay
    0.99
    """

    decay: float = 0.999
    warmup: bool = field(default=False, kw_only=True)
    every: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_real(self.decay, "decay", minimum=0.0, exclusive=True)
        self._set("decay", check_real(self.decay, "decay", maximum=1.0, exclusive=True))
        check_bool(self.warmup, "warmup")
        self._set("every", check_int(self.every, "every"))

    def when(self, steps: int, steps_per_epoch: int) -> tuple[int, int]:
        """Begin with the first step."""
        return 0, self.every

    @property
    def rule(self) -> tuple[float, bool]:
        """Decay and warm-up."""
        return self.decay, self.warmup


@dataclass(frozen=True)
class SWA(Averaging):
    """Stochastic weight averaging: the mean of the parameters from some epoch on.

    Parameters
    ----------
    start : float or int
        Epochs after which it begins: a share of them, in [0, 1), or as an integer their number.
    every : int, optional
        Steps from one parameter vector to the next; by default they are those at the end of each
        epoch.
    validate : bool
        See ``Averaging``.

    Raises
    ------
    TypeError, ValueError
        For settings out of range.

    Notes
    -----
    Training needs a learning rate that stays rather high while the mean is taken: a constant one,
    or a schedule that ends above 0.

    References
    ----------
    Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization".

    Examples
    --------
    >>> SWA(start=0.5).start
    0.5
    """

    start: float = 0.75
    every: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.start, float):
            check_real(self.start, "start", minimum=0.0)
            check_real(self.start, "start", maximum=1.0, exclusive=True)
        else:
            self._set("start", check_int(self.start, "start", minimum=0))
        if self.every is not None:
            self._set("every", check_int(self.every, "every"))

    def when(self, steps: int, steps_per_epoch: int) -> tuple[int, int]:
        """Begin between two epochs."""
        epochs = steps // steps_per_epoch
        begin = math.floor(self.start * epochs) if isinstance(self.start, float) else self.start
        return begin * steps_per_epoch, self.every or steps_per_epoch

    @property
    def rule(self) -> tuple[float, bool]:
        """The mean of all."""
        return 0.0, False


@dataclass
class Kept:
    """An average: the network that has it, and the engine's part.

    Attributes
    ----------
    network : Network
        Its ``params`` are the average.
    engine : Average
        What the engine writes to.
    validate : bool
        Whether validation looks at it.
    """

    network: Network
    engine: Average
    validate: bool = True

    @classmethod
    def start(cls, network: Network, count: int = 0) -> Kept:
        """Begin one that looks like the network."""
        twin = type(network).__new__(type(network))
        twin._restore(network.get_config(), network.layers, network.loss)
        twin.params[...] = network.params
        twin._targets = network._targets
        return cls(twin, Average(twin.params, 0.0, False, count, 0, 1))

    @property
    def count(self) -> int:
        """Parameters averaged so far."""
        return self.engine.count

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.network, self.count, self.validate)


def _rebuild(network: Network, count: int, validate: bool) -> Kept:
    return Kept(network, Average(network.params, 0.0, False, count, 0, 1), validate)


def as_averaging(averaging: Averaging | None) -> Averaging | None:
    """Check what ``fit`` is given.

    Raises
    ------
    TypeError
        If it is no average.
    """
    if averaging is not None and not isinstance(averaging, Averaging):
        raise TypeError(f"averaging must be EMA(...), SWA(...) or None; got {averaging!r}.")
    return averaging


def begin_average(
    network: Network,
    averaging: Averaging | None,
    first_step: int,
    steps: int,
    steps_per_epoch: int,
    *,
    resumed: bool,
) -> None:
    """Give a network that is to be trained a new average, or none, or go on with its own."""
    if averaging is None:
        network._average = None
        return
    kept = network._average if resumed else None
    kept = kept or Kept.start(network)
    start, every = averaging.when(steps, steps_per_epoch)
    kept.engine = Average(
        kept.network.params, *averaging.rule, kept.count, first_step + start, every
    )
    kept.validate = averaging.validate
    network._average = kept


def describe_averaging(averaging: Averaging | None) -> str:
    """Describe it as text, to compare it with another."""
    from dnncore.checkpoints import plain

    return dump(plain(averaging))
