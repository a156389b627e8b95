"""The header of a model file: what it may say, checked before anything is allocated.

A safetensors header is a JSON object that maps each tensor's name to its ``dtype``, ``shape``
and ``data_offsets``, and ``__metadata__`` to a mapping of text to text. The rules here are
narrower than the format's: few dtypes, plain names, no duplicate keys, no gaps or overlaps, and
sizes that add up to the file's.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

import numpy as np

from dnncore.exceptions import ModelFormatError

__all__ = [
    "DTYPES",
    "MAX_HEADER",
    "MAX_NDIM",
    "MAX_TENSORS",
    "TENSOR_NAME",
    "Entry",
    "is_text",
    "parse_header",
    "parse_json",
]

MAX_HEADER = 2**20
MAX_TENSORS = 10_000
MAX_NDIM = 4
TENSOR_NAME = re.compile(r"[A-Za-z0-9_.]{1,128}")
DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
}


class Entry(NamedTuple):
    """One tensor as the header declares it; ``begin`` and ``end`` count from the data's start."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int


def parse_header(raw: bytes, data_size: int) -> tuple[list[Entry], dict[str, str]]:
    """Return what the header declares, once it is known to describe exactly the data.

    Parameters
    ----------
    raw : bytes
        The header without its length.
    data_size : int
        Number of bytes that follow it.

    Returns
    -------
    entries : list of Entry
        In the order of the data.
    metadata : dict of str to str

    Raises
    ------
    ModelFormatError
        If a rule of the format is broken.
    """
    if not raw.startswith(b"{") or not raw.rstrip(b" ").endswith(b"}"):
        raise ModelFormatError("its header is not a JSON object")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelFormatError(f"its header is not UTF-8 ({error.reason})") from error
    header = parse_json(text, "its header", floats=False)
    metadata = header.pop("__metadata__", {})
    if type(metadata) is not dict or not all(map(is_text, [*metadata, *metadata.values()])):
        raise ModelFormatError("its __metadata__ is not a mapping of text to text")
    if len(header) > MAX_TENSORS:
        raise ModelFormatError(f"it declares {len(header)} tensors, the limit is {MAX_TENSORS}")
    entries = sorted((_entry(*item) for item in header.items()), key=lambda entry: entry.begin)
    position = 0
    for entry in entries:
        if entry.begin != position:
            raise ModelFormatError(
                f"tensor {entry.name!r} starts at byte {entry.begin} of the data, "
                f"where {position} is due"
            )
        position = entry.end
    if position != data_size:
        raise ModelFormatError(
            f"its tensors take {position} bytes, but {data_size} are there: truncated or extended"
        )
    return entries, metadata


def _entry(name: str, fields: Any) -> Entry:
    if not TENSOR_NAME.fullmatch(name):
        raise ModelFormatError(f"it declares a tensor of the forbidden name {name[:40]!r}")
    if type(fields) is not dict or fields.keys() != {"dtype", "shape", "data_offsets"}:
        raise ModelFormatError(f"tensor {name!r} must have dtype, shape, data_offsets, no more")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if type(dtype) is not str or dtype not in DTYPES:
        raise ModelFormatError(f"tensor {name!r} must have a dtype of {', '.join(DTYPES)}")
    if not _are_sizes(shape, minimum=1) or not 1 <= len(shape) <= MAX_NDIM:
        raise ModelFormatError(f"tensor {name!r} has no valid shape of 1 to {MAX_NDIM} dimensions")
    if not _are_sizes(offsets, minimum=0) or len(offsets) != 2:
        raise ModelFormatError(f"tensor {name!r} has no valid data_offsets")
    begin, end = offsets
    if end - begin != DTYPES[dtype].itemsize * math.prod(shape):
        raise ModelFormatError(f"the shape of tensor {name!r} does not fit its data_offsets")
    return Entry(name, DTYPES[dtype], tuple(shape), begin, end)


def _are_sizes(values: Any, *, minimum: int) -> bool:
    return type(values) is list and all(
        type(value) is int and minimum <= value < 2**63 for value in values
    )


def is_text(value: Any) -> bool:
    """Return whether ``value`` is a ``str`` that UTF-8 can hold (no half surrogate pairs)."""
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def parse_json(text: str, what: str, *, floats: bool) -> Any:
    """Parse JSON without its laxities: no duplicate keys, no NaN, infinity or overflow.

    Parameters
    ----------
    text : str
        The JSON.
    what : str
        What it is; starts the error messages.
    floats : bool
        Whether numbers with a fraction or exponent may occur.

    Raises
    ------
    ModelFormatError
        If it is anything else.
    """

    def number(literal: str) -> float:
        if floats and math.isfinite(value := float(literal)):
            return value
        raise ModelFormatError(f"{what} holds the number {literal[:40]}")

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ModelFormatError(f"{what} holds a key twice")
        return result

    try:
        return json.loads(
            text, object_pairs_hook=mapping, parse_float=number, parse_constant=number
        )
    except ModelFormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{what} is not valid JSON ({error})") from error
