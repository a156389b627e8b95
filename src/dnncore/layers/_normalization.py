"""Normalisation layers."""

from __future__ import annotations

from dataclasses import dataclass, field

from dnncore._validation import check_bool, check_real
from dnncore.layers._basic import Layer

__all__ = ["BatchNorm", "LayerNorm", "Norm", "RMSNorm"]


@dataclass(frozen=True, repr=False)
class Norm(Layer):
    """Base of the normalisation layers."""

    eps: float = field(default=1e-5, kw_only=True)
    scale: bool = field(default=True, kw_only=True)
    trainable: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        self._set("eps", check_real(self.eps, "eps", minimum=0.0, exclusive=True))
        self._set("scale", check_bool(self.scale, "scale"))
        self._set("trainable", check_bool(self.trainable, "trainable"))


@dataclass(frozen=True, repr=False)
class LayerNorm(Norm):
    """Normalises each row: ``(x - mean) / sqrt(variance + eps) * gamma + beta``.

    Mean and variance are those of the row, so training and prediction are the same.

    Parameters
    ----------
    eps : float
        Added to the variance.
    scale, center : bool
        Whether there are ``gamma``, which starts at 1, and ``beta``, which starts at 0.
    trainable : bool
        False freezes ``gamma`` and ``beta``.

    References
    ----------
    Ba, Kiros and Hinton 2016, "Layer normalization".
    """

    center: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("center", check_bool(self.center, "center"))


@dataclass(frozen=True, repr=False)
class RMSNorm(Norm):
    """Scales each row to a root mean square of 1: ``x / sqrt(mean(x**2) + eps) * gamma``.

    Parameters
    ----------
    eps : float
        Added to the mean square.
    scale : bool
        Whether there is ``gamma``, which starts at 1.
    trainable : bool
        False freezes ``gamma``.

    References
    ----------
    Zhang and Sennrich 2019, "Root mean square layer normalization".
    """

    eps: float = field(default=1e-6, kw_only=True)


@dataclass(frozen=True, repr=False)
class BatchNorm(Norm):
    """Normalises each column: ``(x - mean) / sqrt(variance + eps) * gamma + beta``.

    In training, mean and variance are those of the batch, whatever the weights of its rows, and
    the same bits for any number of threads. Prediction and evaluation use running averages,
    which every step moves: ``running = (1 - momentum) * running + momentum * batch``, the variance
    unbiased (over ``n - 1``). They lie in ``net.params`` as ``running_mean`` and ``running_var``,
    so that files and checkpoints hold them; no optimizer touches them. In a loop of your own
    ``net.step`` moves them by the last ``net.forward``. Where ``fit(accumulate=...)`` makes a step
    of several mini-batches, each is normalised by its own, and the last one moves the averages.

    A batch of one row cannot be normalised: ``batch_size=1`` is an error. An epoch's last batch,
    if it is left with one row, is normalised by the running averages and leaves them alone.

    Parameters
    ----------
    momentum : float
        Weight of the newest batch in the running averages, in (0, 1], as in PyTorch. Keras
        counts the other way: its 0.99 is 0.01 here.
    eps : float
        Added to the variance.
    scale, center : bool
        Whether there are ``gamma``, which starts at 1, and ``beta``, which starts at 0.
    trainable : bool
        False freezes the layer: it does in training what it does at prediction.

    References
    ----------
    Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network training by reducing
    internal covariate shift".
    """

    center: bool = field(default=True, kw_only=True)
    momentum: float = field(default=0.1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("center", check_bool(self.center, "center"))
        check_real(self.momentum, "momentum", minimum=0.0, exclusive=True)
        self._set("momentum", check_real(self.momentum, "momentum", maximum=1.0))
