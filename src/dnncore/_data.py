"""From the caller's arrays to the engine's ``Data``: inputs, targets and weights, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnncore._engine import Data
from dnncore._sparse import as_csr, csr_data, is_sparse, take_csr
from dnncore._validation import (
    as_matrix,
    as_vector,
    check_choice,
    check_real,
    check_same_rows,
)
from dnncore.targets import Targets

__all__ = ["ClassWeight", "as_data", "as_validation", "split", "take_rows", "weigh"]


ClassWeight = str | Mapping[Any, float] | ArrayLike
"""``"balanced"``, a weight by label, or one in the order of the classes."""


def as_data(
    n_in: int,
    targets: Targets,
    X: Any,
    y: ArrayLike,
    sample_weight: ArrayLike | None,
    *,
    dense_because: str | None = None,
) -> Data:
    """Check examples and bring them into the network's dtype, copying only what must be.

    Sparse inputs stay so; ``dense_because`` says why they cannot be used.

    Raises
    ------
    TypeError, ValueError
        In the words of ``Network.fit``.
    """
    inputs: Any
    if is_sparse(X):
        if dense_because is not None:
            raise TypeError(f"X is a sparse matrix, but {dense_because}; pass X.toarray().")
        inputs = as_csr(X, "X", dtype=targets.dtype, columns=n_in)
    else:
        inputs = as_matrix(X, "X", dtype=targets.dtype, columns=n_in)
    rows = inputs.shape[0]
    labels, target = targets.encode(y)
    check_same_rows(X=rows, y=labels if target is None else target)
    weight = None
    if sample_weight is not None:
        weight = as_vector(
            sample_weight, "sample_weight", dtype=targets.dtype, size=rows
        )  # fmt: skip
        if weight.min() < 0 or not weight.max() > 0:
            raise ValueError("sample_weight must be at least 0 and not all zero.")
    make = csr_data if is_sparse(X) else Data
    return make(inputs, labels, target, weight)


def weigh(targets: Targets, data: Data, class_weight: ClassWeight | None) -> Data:
    """Multiply the weights of rows by those of their classes.

    ``"balanced"`` is ``rows / (n_classes * rows of the class)``. A row of probabilities gets the
    mean of the classes' weights.

    Raises
    ------
    TypeError, ValueError
        If there are no classes, or the weights do not fit them.
    """
    if class_weight is None:
        return data
    single = targets.loss.targets == "binary" and targets.n_out == 1
    if targets.loss.targets != "labels" and not single:
        raise ValueError("class_weight needs one class label a row; use sample_weight instead.")
    k = 2 if single else targets.n_out
    shares = None
    if data.labels is not None:
        codes = data.labels
    else:
        shares = np.asarray(data.target, np.float64)
        shares = np.concatenate([1 - shares, shares], axis=1) if single else shares
        codes = shares.argmax(axis=1)
    if isinstance(class_weight, str):
        check_choice(class_weight, "class_weight", ("balanced",))
        counts = np.bincount(codes, minlength=k)
        weights = np.where(counts > 0, len(codes) / (k * np.maximum(counts, 1)), 0.0)
    else:
        weights = _weights_by_class(targets, class_weight, k)
    factor = weights[codes] if shares is None else shares @ weights
    weight = factor if data.weight is None else data.weight * factor
    if not weight.max() > 0:
        raise ValueError("class_weight gives every row the weight 0.")
    weight = np.ascontiguousarray(weight, targets.dtype)
    return Data(data.x, data.labels, data.target, weight, *(data.sparse or ()))


def _weights_by_class(
    targets: Targets, class_weight: Mapping[Any, float] | ArrayLike, k: int
) -> NDArray[np.float64]:
    if isinstance(class_weight, Mapping):
        classes = list(range(k)) if targets.classes is None else targets.classes.tolist()
        unknown = [label for label in class_weight if label not in classes]
        if unknown:
            raise ValueError(
                f"class_weight names {unknown[0]!r}, which is no class; there are {classes[:10]}."
            )
        weights = np.array([float(class_weight.get(label, 1.0)) for label in classes])
    else:
        weights = as_vector(class_weight, "class_weight", dtype=np.dtype(np.float64), size=k)
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise ValueError("class_weight must be finite and at least 0.")
    return weights


def as_validation(
    n_in: int,
    targets: Targets,
    validation: Sequence[ArrayLike | None] | None,
    *,
    dense_because: str | None = None,
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
        X, y, weight = (*validation, None)[:3]
        return as_data(n_in, targets, X, y, weight, dense_because=dense_because)
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

    rest = take(data.labels), take(data.target), take(data.weight)
    if data.sparse is None:
        return Data(data.x[rows], *rest)
    values, indptr, indices = take_csr(data.sparse, data.x, rows)
    return Data(values, *rest, indptr, indices)
