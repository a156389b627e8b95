"""Scalers: learn an offset and a unit for each column, apply them to new data.

Each is the affine map ``(x - center) / scale`` per column, so one base class holds all but the
choice of ``center`` and ``scale``, and a model file carries a scaler as two lists of numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnncore._validation import as_matrix, check_real
from dnncore.exceptions import NotFittedError

__all__ = [
    "SCALERS",
    "MinMaxScaler",
    "RobustScaler",
    "Scaler",
    "Standardizer",
    "scaler_from_config",
]

_BLOCK = 2**17  # elements converted to float64 at a time


class Scaler:
    """Map each column by ``(x - center) / scale``, with both learnt from training data.

    A column that was constant in training carries nothing that could have been learnt: its
    ``scale`` is 0, it always becomes 0, and ``inverse_transform`` gives the constant back.

    Attributes
    ----------
    center, scale : ndarray of shape (columns,), float64
        What ``fit`` found.
    """

    name: ClassVar[str]
    center: NDArray[np.float64]
    scale: NDArray[np.float64]

    def __repr__(self) -> str:
        state = f"{len(self.center)} columns" if hasattr(self, "center") else "not fitted"
        return f"<{type(self).__name__}: {state}>"

    def _learn(self, X: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        raise NotImplementedError

    def fit(self, X: ArrayLike) -> Self:
        """Learn ``center`` and ``scale`` of each column.

        Parameters
        ----------
        X : array_like of shape (rows, columns)
            Training data: finite real numbers.

        Returns
        -------
        Self

        Raises
        ------
        TypeError, ValueError
            If X is not a finite matrix, or spans a range that float64 cannot express.
        """
        X = _gate(X)
        try:
            with np.errstate(over="raise"):
                center, scale = self._learn(X)
        except FloatingPointError as error:
            raise ValueError(
                "X has a column whose spread overflows float64; rescale it first."
            ) from error
        constant = X.min(axis=0) == X.max(axis=0)
        self.center = np.where(constant, X[0], center).astype(np.float64)
        self.scale = np.where(constant, 0.0, scale)
        return self

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Return ``(X - center) / scale``.

        Parameters
        ----------
        X : array_like of shape (rows, columns)
            Data with the columns seen by ``fit``.

        Returns
        -------
        ndarray of shape (rows, columns)
            float32 for float32 input, otherwise float64; always a new array.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        TypeError, ValueError
            If X is not a finite matrix of as many columns, or a result overflows.
        """
        return self._apply(X, inverse=False)

    def fit_transform(self, X: ArrayLike) -> NDArray[Any]:
        """Fit to X and return it transformed."""
        return self.fit(X).transform(X)

    def inverse_transform(self, X: ArrayLike) -> NDArray[Any]:
        """Return ``X * scale + center``: undo :meth:`transform`, which see."""
        return self._apply(X, inverse=True)

    def _apply(self, X: ArrayLike, *, inverse: bool) -> NDArray[Any]:
        if not hasattr(self, "center"):
            raise NotFittedError(f"{type(self).__name__} is not fitted; call fit(X) first.")
        X = _gate(X, columns=len(self.center))
        constant = self.scale == 0
        divisor = np.where(constant, 1.0, self.scale)
        result = np.empty_like(X)
        step = max(1, _BLOCK // X.shape[1])
        try:
            with np.errstate(over="raise"):
                for start in range(0, len(X), step):
                    block = X[start : start + step].astype(np.float64)
                    if inverse:
                        block *= self.scale
                        block += self.center
                    else:
                        block -= self.center
                        block /= divisor
                        block[:, constant] = 0.0
                    result[start : start + step] = block
        except FloatingPointError as error:
            raise ValueError(
                f"X holds values so far from the training data that the result overflows "
                f"{X.dtype}; look for wrong units or placeholder values."
            ) from error
        return result

    def get_config(self) -> dict[str, Any]:
        """Return the fitted scaler as a dict that JSON can hold without loss."""
        if not hasattr(self, "center"):
            raise NotFittedError(f"{type(self).__name__} is not fitted; call fit(X) first.")
        center, scale = self.center.tolist(), self.scale.tolist()
        return {"scaler": self.name, "center": center, "scale": scale}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Rebuild a scaler from :meth:`get_config`; refuse a damaged configuration.

        Raises
        ------
        ValueError
            If ``config`` is not what ``get_config`` of this class writes.
        """
        if not isinstance(config, Mapping) or config.get("scaler") != cls.name:
            raise ValueError(f"Not the configuration of a {cls.__name__}: {config!r:.80}.")
        arrays = [np.array(_numbers(config, key), dtype=np.float64) for key in ("center", "scale")]
        if len(arrays[0]) != len(arrays[1]) or not len(arrays[0]) or (arrays[1] < 0).any():
            raise ValueError(
                f"Damaged configuration of a {cls.__name__}: 'center' and 'scale' must be lists "
                "of the same length, and no scale may be negative."
            )
        scaler = cls()
        scaler.center, scaler.scale = arrays
        return scaler


class Standardizer(Scaler):
    """Mean 0 and standard deviation 1: ``(x - mean) / std`` per column.

    ``std`` is the population's (divided by the number of rows). Columns that are constant in
    training become 0.

    Examples
    --------
    >>> Standardizer().fit_transform([[1.0, 5.0], [3.0, 5.0]])
    array([[-1.,  0.],
           [ 1.,  0.]])
    """

    name = "standard"

    def _learn(self, X: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        mean = X.mean(axis=0, dtype=np.float64)
        squares = np.zeros_like(mean)
        step = max(1, _BLOCK // X.shape[1])
        for start in range(0, len(X), step):
            squares += np.square(X[start : start + step] - mean).sum(axis=0)
        return mean, np.sqrt(squares / len(X))


class MinMaxScaler(Scaler):
    """Range 0 to 1: ``(x - min) / (max - min)`` per column of the training data.

    New data may fall outside 0 to 1. Columns that are constant in training become 0.

    Examples
    --------
    >>> MinMaxScaler().fit([[2.0], [4.0]]).transform([[3.0], [5.0]])
    array([[0.5],
           [1.5]])
    """

    name = "minmax"

    def _learn(self, X: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        low = X.min(axis=0).astype(np.float64)
        return low, X.max(axis=0) - low


class RobustScaler(Scaler):
    """Median 0 and inter-quartile range 1: ``(x - median) / (q75 - q25)``; outliers do not count.

    Where more than half of a column is one value and the quartiles coincide, half the range
    ``(max - min) / 2`` takes the place of ``q75 - q25``. Columns that are constant in training
    become 0.

    Examples
    --------
    >>> RobustScaler().fit_transform([[1.0], [2.0], [3.0], [4.0], [900.0]]).ravel()
    array([ -1. ,  -0.5,   0. ,   0.5, 448.5])
    """

    name = "robust"

    def _learn(self, X: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        center, scale = np.empty((2, X.shape[1]))
        for j in range(X.shape[1]):  # by column: a quantile sorts a copy of what it is given
            column = X[:, j].astype(np.float64)
            low, center[j], high = np.quantile(column, (0.25, 0.5, 0.75))
            scale[j] = high - low if high > low else (column.max() - column.min()) / 2
        return center, scale


SCALERS: dict[str, type[Scaler]] = {
    scaler.name: scaler for scaler in (Standardizer, MinMaxScaler, RobustScaler)
}
"""Scalers by the name under which configurations and options know them."""


def scaler_from_config(config: Mapping[str, Any]) -> Scaler:
    """Rebuild whichever scaler wrote ``config`` with its ``get_config``.

    Raises
    ------
    ValueError
        If ``config`` is not the configuration of a scaler.
    """
    name = config.get("scaler") if isinstance(config, Mapping) else None
    if not isinstance(name, str) or name not in SCALERS:
        raise ValueError(f"Not the configuration of a scaler: {config!r:.80}.")
    return SCALERS[name].from_config(config)


def _numbers(config: Mapping[str, Any], key: str) -> list[float]:
    values = config.get(key)
    if not isinstance(values, list):
        raise ValueError(f"Damaged scaler configuration: {key!r} must be a list of numbers.")
    return [check_real(value, f"{key}[{i}] of the scaler") for i, value in enumerate(values)]


def _gate(X: ArrayLike, columns: int | None = None) -> NDArray[Any]:
    dtype = getattr(X, "dtype", None)
    small = getattr(dtype, "kind", "") == "f" and getattr(dtype, "itemsize", 8) <= 4
    return as_matrix(X, dtype=np.dtype(np.float32 if small else np.float64), columns=columns)
