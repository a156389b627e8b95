"""From the caller's arrays to the engine's ``Data``: inputs, targets and weights, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnncore._engine import Data
from dnncore._validation import as_matrix, as_vector, check_real, check_same_rows
from dnncore.targets import Targets

__all__ = ["as_data", "as_validation", "split", "take_rows"]


def as_data(
    n_in: int, targets: Targets, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None
) -> Data:
    """Check examples and bring them into the network's dtype, copying only what must be.

    Raises
    ------
    TypeError, ValueError
        In the words of ``Network.fit``.
    """
    inputs = as_matrix(X, "X", dtype=targets.dtype, columns=n_in)
    labels, target = targets.encode(y)
    check_same_rows(X=inputs, y=labels if target is None else target)
    weight = None
    if sample_weight is not None:
        weight = as_vector(
            sample_weight, "sample_weight", dtype=targets.dtype, size=len(inputs)
        )  # fmt: skip
        if weight.min() < 0 or not weight.max() > 0:
            raise ValueError("sample_weight must be at least 0 and not all zero.")
    return Data(inputs, labels, target, weight)


def as_validation(
    n_in: int, targets: Targets, validation: Sequence[ArrayLike | None] | None
) -> Data | None:
    """Check ``validation_data``, a tuple ``(X, y)`` or ``(X, y, sample_weight)``.

    Raises
    ------
    TypeError, ValueError
        Naming ``validation_data``.
    """
    if validation is None:
        return None
    if not isinstance(validation, tuple | list) or len(validation) not in (2, 3):
        raise TypeError("validation_data must be a tuple (X, y) or (X, y, sample_weight).")
    try:
        return as_data(n_in, targets, *(*validation, None)[:3])
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation_data: {error}") from error


def split(
    data: Data, targets: Targets, fraction: float, *, stratify: bool | None, seed: int
) -> tuple[Data, Data]:
    """Set a share of the rows aside.

    Parameters
    ----------
    data : Data
        All examples.
    targets : Targets
        How they were encoded.
    fraction : float
        Share to set aside, in (0, 1).
    stratify : bool or None
        Whether each class keeps its share; None does so if there are classes.
    seed : int
        The same seed sets the same rows aside.

    Returns
    -------
    kept, held_out : Data

    Raises
    ------
    TypeError, ValueError
        If the rows cannot be split that way.
    """
    from dnncore.preprocessing import split_indices

    check_real(fraction, "validation_split", minimum=0.0)
    check_real(fraction, "validation_split", maximum=1.0, exclusive=True)
    classes = targets.strata(data.labels, data.target)
    if stratify and classes is None:
        raise ValueError("stratify=True needs class labels; these targets are values.")
    stratify = classes is not None and stratify is not False
    kept, held = split_indices(
        classes if classes is not None and stratify else data.rows,
        fraction,
        stratify=stratify,
        seed=seed,
    )
    return take_rows(data, kept), take_rows(data, held)


def take_rows(data: Data, rows: NDArray[np.intp] | slice) -> Data:
    """Return some of the rows; those of a slice are not copied."""

    def take(array: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if array is None else array[rows]

    return Data(data.x[rows], take(data.labels), take(data.target), take(data.weight))
