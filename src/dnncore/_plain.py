"""Nested plain values as JSON, with the arrays among them moved out; for files' metadata."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnncore._safefile import check_tensor
from dnncore._safeheader import parse_json
from dnncore.exceptions import ModelFormatError

__all__ = ["decode", "dump", "encode", "parse_mapping"]

_ARRAY = "__ndarray__"  # marks the place of an array within the JSON
_MAX_DEPTH = 100


def parse_mapping(metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    """Read the JSON object under a key of a file's metadata.

    Raises
    ------
    ModelFormatError
        If there is none.
    """
    if key not in metadata:
        raise ModelFormatError(f"its metadata has no {key}")
    value = parse_json(metadata[key], f"its {key}", floats=True)
    if type(value) is not dict:
        raise ModelFormatError(f"its {key} is not a JSON object")
    return value


def dump(value: Any) -> str:
    """Write plain values as JSON, always in the same way."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def encode(
    value: Any,
    where: str,
    arrays: dict[str, NDArray[Any]] | None = None,
    *,
    prefix: str = "",
    allow_nonfinite: bool = False,
    depth: int = 0,
) -> Any:
    """Return a value as plain JSON types.

    Parameters
    ----------
    value : object
        Text, numbers, booleans, None, lists, tuples, mappings with text keys, arrays; nested.
    where : str
        What it is; starts the error messages.
    arrays : dict of str to ndarray, optional
        Takes the arrays, under names that start with ``prefix``; without it none may occur.
    prefix : str
        See above.
    allow_nonfinite : bool
        Whether arrays may hold NaN and infinity.
    depth : int
        Levels above this one.

    Raises
    ------
    TypeError, ValueError
        For anything that cannot be stored.
    """
    if depth > _MAX_DEPTH:
        raise ValueError(f"{where[:80]}... is nested more than {_MAX_DEPTH} levels deep.")
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, (np.integer, np.floating, np.bool_)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}; only finite numbers can be saved.")
    if isinstance(value, (bool, int, float)):
        return value

    def inner(item: Any, place: str) -> Any:
        return encode(
            item,
            f"{where}[{place}]",
            arrays,
            prefix=prefix,
            allow_nonfinite=allow_nonfinite,
            depth=depth + 1,
        )

    if isinstance(value, (list, tuple)):
        return [inner(item, str(i)) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key == _ARRAY:
                raise TypeError(
                    f"{where} has the key {key!r}; keys must be text, and {_ARRAY!r} is taken."
                )
        return {key: inner(item, repr(key)) for key, item in value.items()}
    if isinstance(value, np.ndarray) and arrays is not None:
        name = f"{prefix}{len(arrays)}"
        arrays[name] = check_tensor(value, where, allow_nonfinite=allow_nonfinite)
        return {_ARRAY: name}
    raise TypeError(
        f"{where} is of type {type(value).__name__}; only text, numbers, booleans, None, lists, "
        f"mappings{'' if arrays is None else ' and arrays'} can be saved."
    )


def decode(
    value: Any, what: str, tensors: dict[str, NDArray[Any]], *, prefix: str = "", depth: int = 0
) -> Any:
    """Undo :func:`encode`; what is used of ``tensors`` is removed from them.

    Raises
    ------
    ModelFormatError
        If an array is missing or referred to in a malformed way.
    """
    if depth > _MAX_DEPTH:
        raise ModelFormatError(f"its {what} is nested more than {_MAX_DEPTH} levels deep")

    def inner(item: Any) -> Any:
        return decode(item, what, tensors, prefix=prefix, depth=depth + 1)

    if isinstance(value, list):
        return [inner(item) for item in value]
    if not isinstance(value, dict):
        return value
    if _ARRAY not in value:
        return {key: inner(item) for key, item in value.items()}
    name = value[_ARRAY]
    if len(value) > 1 or not isinstance(name, str) or not name.startswith(prefix):
        raise ModelFormatError(f"its {what} refers to an array in a malformed way")
    if name not in tensors:
        raise ModelFormatError(f"its {what} refers to the missing tensor {name[:40]!r}")
    return tensors.pop(name)  # each array has one place; what is left must be parameters
