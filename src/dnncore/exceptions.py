"""Errors that dnncore raises beyond ``ValueError`` and ``TypeError``."""

from __future__ import annotations

__all__ = ["DivergenceError", "ModelFormatError", "NotFittedError"]


class DivergenceError(ArithmeticError):
    """Training produced a loss or parameters that are not finite.

    The network keeps the last parameters that were finite.

    Attributes
    ----------
    epoch : int
        Epoch in which it happened, counted from 1.
    step : int
        Mini-batch within that epoch, counted from 1.
    """

    # Defaults let the error be pickled on its way out of a worker process.
    def __init__(self, message: str = "", *, epoch: int = 0, step: int = 0) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.step = step


class ModelFormatError(ValueError):
    """A model file is damaged, truncated, too large or not a dnncore model."""


class NotFittedError(ValueError, AttributeError):
    """The object must see data (``fit``) before this call."""
