"""A network with what turns rows of data into its inputs and its outputs into answers."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dnncore._cli_data import Rows
from dnncore._columns import read_labels
from dnncore._validation import check_int, check_real
from dnncore.exceptions import ModelFormatError
from dnncore.network import Network
from dnncore.preprocessing import Standardizer, split_indices
from dnncore.serialization import load_network, save_network
from dnncore.tables import TableEncoder

__all__ = ["HeldOut", "Model", "encode", "fingerprint"]


@dataclass(frozen=True)
class HeldOut:
    """Which rows of the training data were kept for testing.

    Attributes
    ----------
    rows : int
        Rows of the data.
    fingerprint : int
        Of the data, to know them again.
    fraction, seed : float, int
        What the split was drawn with.
    """

    rows: int
    fingerprint: int
    fraction: float
    seed: int

    def split(self, y: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the rows to train on and those to test with; labels are stratified.

        Classes with a single row stay in the first part.
        """
        if y.ndim == 2:
            return split_indices(len(y), self.fraction, stratify=False, seed=self.seed)
        _, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
        splittable = np.flatnonzero(counts[codes] > 1)
        _, held = split_indices(y[splittable], self.fraction, seed=self.seed)
        held = splittable[held]
        return np.setdiff1d(np.arange(len(y)), held), held


@dataclass
class Model:
    """A network and its preparation.

    Attributes
    ----------
    network : Network
        The network.
    target : str
        What the target is called.
    encoder : TableEncoder or None
        For tables; None for inputs that are taken as they are.
    scaler : Standardizer or None
        Of regression targets.
    majority : int, str or None
        Most frequent class of training.
    held_out : HeldOut or None
        If rows of the data were kept for testing.
    """

    network: Network
    target: str = "target"
    encoder: TableEncoder | None = None
    scaler: Standardizer | None = None
    majority: int | str | None = None
    held_out: HeldOut | None = None

    @property
    def task(self) -> str:
        """``"classification"`` or ``"regression"``."""
        return "regression" if self.network.loss.targets == "values" else "classification"

    @property
    def text_columns(self) -> list[str]:
        """Columns to be read as text."""
        return [] if self.encoder is None else self.encoder.text_columns

    def encode(self, rows: Rows) -> NDArray[Any]:
        """Turn rows of data into the network's inputs."""
        bare = self.scaler is None and self.majority is None  # saved by Network.save
        return encode(self.encoder, rows, pixels=not bare)

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        """Predict labels, or values in the target's unit of shape (rows, outputs)."""
        predicted = self.network.predict(X)
        if self.task == "classification":
            return predicted
        values = predicted.astype(np.float64).reshape(len(X), -1)
        return values if self.scaler is None else self.scaler.inverse_transform(values)

    def scores(self, y: NDArray[Any], predicted: NDArray[Any]) -> dict[str, float]:
        """Score predictions, and what always answering the same would reach.

        Parameters
        ----------
        y, predicted : ndarray of shape (rows,) or (rows, outputs)
            Labels or values.

        Returns
        -------
        dict of str to float
            ``accuracy``, or ``r2`` and ``rmse``; the same with ``baseline_`` before, if known.
        """
        if self.task == "classification":
            y = read_labels("target", y)
            result = {"accuracy": float((read_labels("prediction", predicted) == y).mean())}
            if self.majority is not None:
                result["baseline_accuracy"] = float((y == str(self.majority)).mean())
            return result
        result = _regression_scores("", y, predicted)
        if self.scaler is not None:
            result |= _regression_scores("baseline_", y, self.scaler.center)
        return result

    def save(self, path: str) -> None:
        """Write all of it to a model file."""
        held = self.held_out
        preprocessing = {
            "target": self.target,
            "encoder": None if self.encoder is None else self.encoder.get_config(),
            "scaler": None if self.scaler is None else self.scaler.get_config(),
            "majority": self.majority,
            "held_out": None if held is None else vars(held),
        }
        save_network(self.network, path, preprocessing=preprocessing)

    @classmethod
    def load(cls, path: str) -> Self:
        """Read a model file, also one that holds a network alone.

        Raises
        ------
        ModelFormatError
            If it is damaged or its preprocessing is something else.
        OSError
            If it cannot be read.
        """
        network, preprocessing = load_network(path)
        if preprocessing is None:
            return cls(network)
        try:
            return cls(network, **_read_preprocessing(network, preprocessing))
        except (LookupError, TypeError, ValueError) as error:
            raise ModelFormatError(
                f"Cannot load {path!r}: its preprocessing is not what dnncore train writes "
                f"({error})."
            ) from error


def _read_preprocessing(network: Network, found: Mapping[str, Any]) -> dict[str, Any]:
    target, majority, held = found["target"], found["majority"], found["held_out"]
    if not isinstance(target, str) or not isinstance(majority, str | int | None):
        raise ValueError("target and majority must be text")
    result: dict[str, Any] = {"target": target, "majority": majority}
    if found["encoder"] is not None:
        encoder = TableEncoder.from_config(found["encoder"])
        if len(encoder.feature_names) != network.n_in:
            raise ValueError(f"its columns do not make the network's {network.n_in} inputs")
        result["encoder"] = encoder
    if found["scaler"] is not None:
        scaler = Standardizer.from_config(found["scaler"])
        if len(scaler.center) != network.n_out or network.loss.targets != "values":
            raise ValueError(f"its scaler does not fit the network's {network.n_out} outputs")
        result["scaler"] = scaler
    if held is not None:
        result["held_out"] = HeldOut(
            check_int(held["rows"], "rows", minimum=2),
            check_int(held["fingerprint"], "fingerprint", minimum=0, maximum=2**32 - 1),
            check_real(held["fraction"], "fraction", minimum=0, maximum=1, exclusive=True),
            check_int(held["seed"], "seed", minimum=0, maximum=2**64 - 1),
        )
    return result


def encode(encoder: TableEncoder | None, rows: Rows, *, pixels: bool = True) -> NDArray[Any]:
    """Turn rows into a matrix, as the data were turned that the network was trained on.

    Parameters
    ----------
    encoder : TableEncoder or None
        None if those were no table.
    rows : Rows
        Inputs.
    pixels : bool
        Without an encoder: whether they were pixels from 0 to 1.

    Returns
    -------
    ndarray of shape (rows, features)

    Raises
    ------
    ValueError
        If these data are of another kind.
    """
    inputs = rows.inputs
    if encoder is not None:
        if not isinstance(inputs, dict):
            raise ValueError("The model was trained on a table; these data are images.")
        return encoder.transform(inputs)
    if not isinstance(inputs, dict):
        return inputs
    for name, values in inputs.items():
        if values.dtype.kind not in "biuf":
            raise ValueError(f"The model takes numbers only; column {name!r} holds others.")
        if pixels and (values.min() < 0 or values.max() > 1):
            raise ValueError(
                f"The model takes pixels from 0 to 1; column {name!r} goes from {values.min():g} "
                f"to {values.max():g}."
            )
    return np.column_stack(list(inputs.values()))


def fingerprint(X: NDArray[Any], y: NDArray[Any]) -> int:
    """Return a checksum of data, the same for the same inputs and targets."""
    target = "\n".join(y.tolist()).encode() if y.dtype.kind == "U" else y.tobytes()
    return zlib.crc32(target, zlib.crc32(np.ascontiguousarray(X).tobytes()))


def _regression_scores(prefix: str, y: NDArray[Any], predicted: NDArray[Any]) -> dict[str, float]:
    left = np.square(y - predicted).mean(axis=0)
    spread = np.square(y - y.mean(axis=0)).mean(axis=0)
    r2 = np.where(spread > 0, 1 - left / np.where(spread > 0, spread, 1), 0)
    return {f"{prefix}r2": float(r2.mean()), f"{prefix}rmse": float(np.sqrt(left.mean()))}
