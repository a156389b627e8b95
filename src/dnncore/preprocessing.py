"""Prepare arrays for training: scale columns, encode labels, split rows, draw mini-batches.

Scalers learn from training data (``fit``) and are applied to new data (``transform``).
Whatever is random here comes from a counter-based generator keyed by (seed, stream, epoch) and
uses its raw output only, so that a seed means the same rows with every version of NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from dnncore._scalers import (
    SCALERS,
    MinMaxScaler,
    RobustScaler,
    Scaler,
    Standardizer,
    scaler_from_config,
)
from dnncore._validation import as_float_dtype, check_int, check_real, check_same_rows, check_size

__all__ = [
    "SCALERS",
    "MinMaxScaler",
    "RobustScaler",
    "Scaler",
    "Standardizer",
    "flatten_images",
    "mini_batches",
    "one_hot",
    "scaler_from_config",
    "split_indices",
    "train_test_split",
]

_SPLIT, _BATCHES = 1, 2  # streams of the generator: the same seed gives unrelated draws


def one_hot(
    labels: ArrayLike, n_classes: int | None = None, dtype: DTypeLike = np.float32
) -> NDArray[Any]:
    """Turn class numbers into rows with a single 1.

    Parameters
    ----------
    labels : array_like of shape (n,), integer
        Class numbers, 0 to ``n_classes - 1``.
    n_classes : int, optional
        Number of columns; by default the largest label plus one.
    dtype : numpy.dtype
        ``float32`` or ``float64``.

    Returns
    -------
    ndarray of shape (n, n_classes)

    Raises
    ------
    TypeError
        If the labels are not integers.
    ValueError
        If they are not 1-D, are empty, or lie outside ``0 .. n_classes - 1``.

    Examples
    --------
    >>> one_hot([2, 0])
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """
    y = np.asarray(labels)
    if y.ndim != 1 or y.size == 0:
        raise ValueError(f"labels must be 1-D and not empty; got shape {y.shape}.")
    if y.dtype.kind not in "iub":
        raise TypeError(
            f"labels must be integers from 0; got dtype {y.dtype}. Number other labels with "
            "classes, labels = np.unique(labels, return_inverse=True)."
        )
    y = y.astype(np.intp)
    width = int(y.max()) + 1 if n_classes is None else check_int(n_classes, "n_classes")
    wrong = np.flatnonzero((y < 0) | (y >= width))
    if wrong.size:
        raise ValueError(
            f"labels must lie in 0..{width - 1}; got {y[wrong[0]]} at index {wrong[0]}."
        )
    check_size((width,), "one_hot(labels)")
    result = np.zeros((len(y), width), dtype=as_float_dtype(dtype))
    result[np.arange(len(y)), y] = 1.0
    return result


def flatten_images(images: ArrayLike, scale: bool = True) -> NDArray[np.float32]:
    """Turn images into rows of a float32 matrix, with pixel values 0..255 as 0..1.

    Parameters
    ----------
    images : array_like of shape (n, height, width) or (n, height, width, channels)
        uint8 unless ``scale`` is false.
    scale : bool
        Divide by 255.

    Returns
    -------
    ndarray of shape (n, height * width * channels), float32

    Raises
    ------
    TypeError
        If values are to be scaled and are not uint8, or are not numbers.
    ValueError
        If the array is not 3-D or 4-D, or is empty.
    """
    pixels = np.asarray(images)
    if pixels.ndim not in (3, 4) or pixels.size == 0:
        raise ValueError(
            "images must have shape (n, height, width) or (n, height, width, channels), none "
            f"of them 0; got {pixels.shape}."
        )
    if scale and pixels.dtype != np.uint8:
        raise TypeError(
            f"scale=True divides by 255 and expects uint8 pixels; got {pixels.dtype}. "
            "Pass scale=False and use a scaler."
        )
    if pixels.dtype.kind not in "fiub":
        raise TypeError(f"images must hold real numbers; got dtype {pixels.dtype}.")
    rows = pixels.reshape(len(pixels), -1)
    check_size(rows.shape, "images")
    if scale:
        rows = np.divide(rows, np.float32(255), dtype=np.float32)
    return rows.astype(np.float32, copy=False)


def _permutation(n: int, seed: int, stream: int, epoch: int = 0) -> NDArray[np.intp]:
    seed = check_int(seed, "seed", minimum=0, maximum=2**64 - 1)
    bits = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64), counter=epoch << 192)
    draws: NDArray[np.uint64] = bits.random_raw(n)
    return np.asarray(draws.argsort(kind="stable"), dtype=np.intp)


def split_indices(
    y: ArrayLike | int,
    fraction: float,
    *,
    stratify: bool = True,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Draw the rows to hold out, and return both parts in the order of the data.

    Parameters
    ----------
    y : array_like of shape (n,) or (n, k), or int
        Class labels of any type or one-hot rows; without ``stratify`` any targets, or n itself.
    fraction : float
        Share of rows to hold out, between 0 and 1, rounded to whole rows (at least one row
        stays on each side).
    stratify : bool
        Keep the share of every class, to within one row; every class stays in the first part.
    seed : int
        The same seed draws the same rows.
    groups : array_like of shape (n,), optional
        Rows of one group stay together, as measurements of one patient should; only with
        ``stratify=False``. The part held out is at least ``fraction``, by whole groups.

    Returns
    -------
    kept, held_out : ndarray of intp
        Sorted row numbers; together each row once.

    Raises
    ------
    TypeError, ValueError
        If the rows cannot be split that way, for instance a class with one member.
    """
    fraction = check_real(fraction, "fraction", minimum=0, maximum=1, exclusive=True)
    targets = None if isinstance(y, (int, np.integer)) else np.asarray(y)
    if targets is not None and targets.ndim not in (1, 2):
        raise ValueError(f"y must be 1-D or 2-D; got shape {targets.shape}.")
    n = check_int(y if targets is None else len(targets), "The number of rows", minimum=2)
    n_out = min(max(1, round(fraction * n)), n - 1)
    order = _permutation(n, seed, _SPLIT)
    held = np.zeros(n, dtype=bool)
    if groups is not None:
        if stratify:
            raise ValueError("A split by groups cannot be stratified; pass stratify=False.")
        held = _hold_groups(np.asarray(groups), order, n_out)
    elif not stratify:
        held[order[:n_out]] = True
    else:
        if targets is None:
            raise ValueError("A stratified split needs the labels y; pass them or stratify=False.")
        codes, counts = _class_codes(targets)
        by_class = order[np.argsort(codes[order], kind="stable")]
        starts = np.cumsum(counts) - counts
        for start, size in zip(starts, _shares(counts, n_out), strict=True):
            held[by_class[start : start + size]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def _class_codes(y: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the class number of each row and the size of each class, at least two."""
    if y.dtype.kind == "f" and not np.array_equal(y, np.floor(y)):
        raise ValueError(
            "A stratified split needs class labels, but y holds fractions or NaN; "
            "pass stratify=False for regression."
        )
    try:
        classes, codes, counts = np.unique(
            y, return_inverse=True, return_counts=True, axis=0 if y.ndim == 2 else None
        )
    except TypeError as error:
        raise TypeError(
            f"y holds labels that cannot be compared with each other ({error}); "
            "turn them all into strings."
        ) from error
    alone = classes[counts < 2].tolist()
    if alone:
        names = ", ".join(map(repr, alone[:5])) + (", ..." if len(alone) > 5 else "")
        raise ValueError(
            f"A stratified split needs at least two rows of every class; {len(alone)} of "
            f"{len(classes)} classes have one: {names}. Remove or merge them, or pass "
            "stratify=False (as for regression)."
        )
    return codes.reshape(-1), counts


def _shares(counts: NDArray[np.intp], n_out: int) -> NDArray[np.intp]:
    """Cut ``n_out`` into whole rows per class by largest remainder, leaving one row of each."""
    exact = counts * n_out / counts.sum()
    shares: NDArray[np.intp] = np.minimum(np.floor(exact).astype(np.intp), counts - 1)
    open_ = np.flatnonzero(shares + 1 < counts)
    best = open_[np.argsort((shares - exact)[open_], kind="stable")]
    shares[best[: n_out - shares.sum()]] += 1
    return shares


def _hold_groups(groups: NDArray[Any], order: NDArray[np.intp], n_out: int) -> NDArray[np.bool_]:
    if groups.shape != order.shape:
        raise ValueError(f"groups must have shape ({len(order)},); got {groups.shape}.")
    names, codes, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ValueError("A split by groups needs at least two groups; got one.")
    _, first = np.unique(codes[order], return_index=True)
    drawn = codes[order][np.sort(first)]  # groups in the order of their first drawn row
    needed = int(np.searchsorted(np.cumsum(counts[drawn]), n_out)) + 1
    return np.isin(codes, drawn[: min(needed, len(names) - 1)])


def train_test_split(
    X: ArrayLike,
    y: ArrayLike,
    *,
    test_fraction: float = 0.2,
    stratify: bool = True,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Split rows into a part to train on and a part to test with.

    Parameters
    ----------
    X : array_like of shape (n, ...)
        Inputs.
    y : array_like of shape (n,) or (n, k)
        Class labels or targets.
    test_fraction : float
        Share of rows in the test part.
    stratify : bool
        Keep the share of every class (classification); pass False for regression.
    seed, groups
        As in :func:`split_indices`.

    Returns
    -------
    X_train, X_test, y_train, y_test : ndarray
        Copies, in the order of the data.

    Raises
    ------
    TypeError, ValueError
        As in :func:`split_indices`, and for X and y of different length.
    """
    X, y = np.atleast_1d(np.asarray(X)), np.atleast_1d(np.asarray(y))
    check_same_rows(X=X, y=y)
    train, test = split_indices(y, test_fraction, stratify=stratify, seed=seed, groups=groups)
    return X[train], X[test], y[train], y[test]


def mini_batches(
    n: int, batch_size: int, *, shuffle: bool = True, seed: int = 0, epoch: int = 0
) -> Iterator[NDArray[np.intp]]:
    """Yield the row numbers of each mini-batch of one epoch; the last may be smaller.

    Parameters
    ----------
    n : int
        Number of rows.
    batch_size : int
        Rows per batch.
    shuffle : bool
        Draw a new order, which depends on ``seed`` and ``epoch`` only.
    seed : int
        Key of the order.
    epoch : int
        Number of the epoch, from 0.

    Yields
    ------
    ndarray of intp

    Raises
    ------
    TypeError, ValueError
        If a number is not an integer in range.

    Examples
    --------
    >>> [rows.tolist() for rows in mini_batches(5, 2, shuffle=False)]
    [[0, 1], [2, 3], [4]]
    """
    n, batch_size = check_int(n, "n"), check_int(batch_size, "batch_size")
    epoch = check_int(epoch, "epoch", minimum=0)
    order = _permutation(n, seed, _BATCHES, epoch) if shuffle else np.arange(n, dtype=np.intp)
    return (order[start : start + batch_size] for start in range(0, n, batch_size))
