"""Callbacks that watch one number and act when it gets better, or does not."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dnncore._state import best_arrays
from dnncore._validation import check_bool, check_choice, check_int, check_real
from dnncore.callbacks._base import Callback

if TYPE_CHECKING:
    from dnncore.network import Network

__all__ = ["EarlyStopping", "ModelCheckpoint", "Monitor", "ReduceLROnPlateau"]

_log = logging.getLogger("dnncore")


class Monitor(Callback):
    """Watches a number of ``History``; the base of the callbacks below.

    A number that starts with ``val_`` is looked at after each validation, any other one after
    each epoch.

    Parameters
    ----------
    monitor : str
        ``"val_loss"``, ``"loss"``, ``"val_accuracy"``, or any number in ``logs``.
    mode : {"auto", "min", "max"}
        Whether less or more is better; ``"auto"`` asks the metric of that name, and takes less
        for names that are no metric.
    min_delta : float
        A change of up to this is none.

    Raises
    ------
    TypeError, ValueError
        For settings out of range.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        mode: Literal["auto", "min", "max"] = "auto",
        min_delta: float = 0.0,
    ) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be the name of a number in History; got {monitor!r}.")
        self.monitor = monitor
        self.mode = check_choice(mode, "mode", ("auto", "min", "max"))
        self.min_delta = check_real(min_delta, "min_delta", minimum=0.0)
        self.best: float | None = None
        self.wait = 0
        self._wants_more = False

    def on_train_begin(self, network: Network, epochs: int) -> None:
        """Forget an earlier training."""
        self.best, self.wait = None, 0
        metric = self.monitor.removeprefix("val_")
        self._wants_more = self.mode == "max" or (
            self.mode == "auto" and network._greater.get(metric, False)
        )

    def on_validation_end(self, network: Network, epoch: int, logs: dict[str, float]) -> None:
        """Look at the number, if it comes from validation."""
        if self.monitor.startswith("val_"):
            self._look(network, epoch, logs)

    def on_epoch_end(self, network: Network, epoch: int, logs: dict[str, float]) -> None:
        """Look at the number, if it does not."""
        if self.monitor not in logs:
            self._look(network, epoch, logs)
        elif not self.monitor.startswith("val_"):
            self._look(network, epoch, logs)

    def get_state(self) -> dict[str, Any]:
        """Keep the best value, and for how long it has been the best."""
        return {"best": self.best, "wait": self.wait}

    def set_state(self, network: Network, state: dict[str, Any]) -> None:
        """Go on from an earlier process."""
        self.best, self.wait = state["best"], state["wait"]

    def _look(self, network: Network, epoch: int, logs: dict[str, float]) -> None:
        self.check(logs)
        value = float(logs[self.monitor])
        if self._is_better(value):
            self.best, self.wait = value, min(self.wait + 1, 0)  # a cooldown goes on
            self._better(network, epoch, value)
        else:
            self.wait += 1
            self._not_better(network, epoch)

    def check(self, names: Iterable[str]) -> None:
        """Refuse to watch a number that is not among ``names``, with a ``ValueError``."""
        if self.monitor not in names:
            raise ValueError(
                f"{type(self).__name__} watches {self.monitor!r}, which is not recorded; there "
                f"are {', '.join(names)}. Give fit validation_data or metrics, or watch another."
            )

    def _is_better(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        if self.best is None:
            return True
        gain = value - self.best if self._wants_more else self.best - value
        return gain > self.min_delta

    def _better(self, network: Network, epoch: int, value: float) -> None: ...

    def _not_better(self, network: Network, epoch: int) -> None: ...


class EarlyStopping(Monitor):
    """Ends training that no longer gets better, and goes back to the best parameters.

    Parameters
    ----------
    monitor, mode, min_delta
        See ``Monitor``.
    patience : int
        Looks without getting better, after which training ends.
    restore_best : bool
        Whether the network has the parameters of the best look at the end, also if training
        ends in another way.

    Attributes
    ----------
    best : float or None
        Best value seen.
    best_epoch : int or None
        Epoch in which it was seen, counted from 0.
    stopped_epoch : int or None
        Epoch in which training was ended.

    Examples
    --------
    >>> stop = EarlyStopping("val_accuracy", patience=20)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        patience: int = 10,
        min_delta: float = 0.0,
        mode: Literal["auto", "min", "max"] = "auto",
        restore_best: bool = True,
    ) -> None:
        super().__init__(monitor, mode=mode, min_delta=min_delta)
        self.patience = check_int(patience, "patience")
        self.restore_best = check_bool(restore_best, "restore_best")
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self._arrays: dict[str, NDArray[Any]] | None = None

    def on_train_begin(self, network: Network, epochs: int) -> None:
        """Forget an earlier training."""
        super().on_train_begin(network, epochs)
        self.best_epoch = self.stopped_epoch = self._arrays = None

    def on_train_end(self, network: Network) -> None:
        """Go back to the best parameters."""
        if self._arrays is not None:
            for name, array in best_arrays(network).items():
                np.copyto(array, self._arrays[name])
        self._arrays = None

    def get_state(self) -> dict[str, Any]:
        """Keep the best parameters too."""
        return super().get_state() | {
            "best_epoch": self.best_epoch,
            "stopped_epoch": self.stopped_epoch,
            "arrays": self._arrays,
        }

    def set_state(self, network: Network, state: dict[str, Any]) -> None:
        """Go on from an earlier process; training that was ended stays so."""
        super().set_state(network, state)
        self.best_epoch, self.stopped_epoch = state["best_epoch"], state["stopped_epoch"]
        self._arrays = state["arrays"]
        if self.stopped_epoch is not None:
            network.stop_training = True

    def _better(self, network: Network, epoch: int, value: float) -> None:
        self.best_epoch = epoch
        if self.restore_best:
            self._arrays = {name: a.copy() for name, a in best_arrays(network).items()}

    def _not_better(self, network: Network, epoch: int) -> None:
        if self.wait >= self.patience:
            self.stopped_epoch = epoch
            network.stop_training = True
            _log.info(
                "stopped in epoch %d: %s was best in epoch %s (%s)",
                epoch + 1,
                self.monitor,
                None if self.best_epoch is None else self.best_epoch + 1,
                self.best,
            )


class ReduceLROnPlateau(Monitor):
    """Multiplies the learning rate by a factor when nothing has got better for some time.

    ``History`` has ``learning_rate_scale``: the product of the factors after each epoch.

    Parameters
    ----------
    monitor, mode, min_delta
        See ``Monitor``.
    factor : float
        In (0, 1).
    patience : int
        Looks without getting better, after which the rate falls.
    cooldown : int
        Looks to wait after that before counting again.
    min_scale : float
        The rate does not fall below this share of what the optimizer says.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        factor: float = 0.1,
        patience: int = 10,
        cooldown: int = 0,
        min_delta: float = 0.0,
        min_scale: float = 0.0,
        mode: Literal["auto", "min", "max"] = "auto",
    ) -> None:
        super().__init__(monitor, mode=mode, min_delta=min_delta)
        self.factor = check_real(factor, "factor", minimum=0.0, maximum=1.0, exclusive=True)
        self.patience = check_int(patience, "patience")
        self.cooldown = check_int(cooldown, "cooldown", minimum=0)
        self.min_scale = check_real(min_scale, "min_scale", minimum=0.0, maximum=1.0)

    def on_epoch_end(self, network: Network, epoch: int, logs: dict[str, float]) -> None:
        """Look, and record the factor that the next epoch begins with."""
        super().on_epoch_end(network, epoch, logs)
        logs["learning_rate_scale"] = network.learning_rate_scale

    def _not_better(self, network: Network, epoch: int) -> None:
        if self.wait >= self.patience:
            self.wait = -self.cooldown
            scale = max(network.learning_rate_scale * self.factor, self.min_scale)
            network.learning_rate_scale = scale
            _log.info("learning rate times %g from epoch %d on", scale, epoch + 2)


class ModelCheckpoint(Monitor):
    """Keeps the best model, or the last one, in a model file.

    The file is one that ``Network.save`` writes: for predictions. ``Checkpoint`` keeps what is
    needed to go on with training. Where validation looks at an average of the parameters, it is
    the average that is saved.

    Parameters
    ----------
    path : path-like
        The file.
    monitor, mode, min_delta
        See ``Monitor``.
    save_best_only : bool
        False saves after each look.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_loss",
        *,
        mode: Literal["auto", "min", "max"] = "auto",
        min_delta: float = 0.0,
        save_best_only: bool = True,
    ) -> None:
        super().__init__(monitor, mode=mode, min_delta=min_delta)
        self.path = os.fspath(path)
        self.save_best_only = check_bool(save_best_only, "save_best_only")

    def _better(self, network: Network, epoch: int, value: float) -> None:
        network._looked_at.save(self.path)
        _log.info("epoch %d: saved %s (%s %.6g)", epoch + 1, self.path, self.monitor, value)

    def _not_better(self, network: Network, epoch: int) -> None:
        if not self.save_best_only:
            network._looked_at.save(self.path)
