"""Model files: everything needed to predict, in one safetensors file.

The file holds each parameter as a tensor under its name in the network, the network's
configuration and the preparation of its inputs as JSON in the metadata, and a checksum. Any
safetensors tool can read it. Loading builds the network from its configuration through the same
checks as a user's call, and never executes anything that the file contains.

Files of an older format version stay readable; those of a newer major version are refused.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnncore._safefile import MAX_BYTES, StrPath, check_tensor, read_tensors, write_tensors
from dnncore._safeheader import parse_json
from dnncore.exceptions import ModelFormatError

if TYPE_CHECKING:
    from dnncore.network import Network

__all__ = ["FORMAT_VERSION", "load_network", "save_network"]

FORMAT_VERSION = (1, 0)
"""Major and minor version of the files written."""

_ARRAY = "__ndarray__"  # marks the place of an array within the JSON of the preprocessing
_ARRAY_PREFIX = "preprocessing."
_MAX_DEPTH = 100


def save_network(
    net: Network, path: StrPath, *, preprocessing: Mapping[str, Any] | None = None
) -> None:
    """Write ``net`` to a model file, atomically and durably.

    Parameters
    ----------
    net : Network
        The network.
    path : str or os.PathLike
        The file, by custom ``*.safetensors``. An existing file is replaced only once the new
        one is complete, on the disk and read back.
    preprocessing : mapping of str to object, optional
        How inputs are prepared for this network: text, finite numbers, booleans, None, lists,
        mappings with text keys, and arrays of ``float32``, ``float64``, ``int64`` or ``uint8``,
        nested at will. Tuples come back as lists, NumPy scalars as Python numbers.

    Raises
    ------
    TypeError, ValueError
        If ``preprocessing`` holds something else, or a parameter is not finite.
    OSError
        If the file cannot be written; an existing one then stays as it was.

    See Also
    --------
    load_network : Read the file back.
    """
    import dnncore

    arrays: dict[str, NDArray[Any]] = {}
    metadata = {
        "format": "dnncore",
        "format_version": "{}.{}".format(*FORMAT_VERSION),
        "dnncore_version": str(getattr(dnncore, "__version__", "unknown")),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": _dump(_encode(net.get_config(), "config", None)),
    }
    if preprocessing is not None:
        metadata["preprocessing"] = _dump(_encode(preprocessing, "preprocessing", arrays))
    write_tensors(path, dict(net.named_parameters()) | arrays, metadata)


def load_network(
    path: StrPath, *, max_bytes: int = MAX_BYTES
) -> tuple[Network, dict[str, Any] | None]:
    """Read a network from a model file.

    Parameters
    ----------
    path : str or os.PathLike
        A file written by :func:`save_network`.
    max_bytes : int
        Larger files are refused before their content is read.

    Returns
    -------
    net : Network
        Ready to predict or to train on.
    preprocessing : dict or None
        What was given to :func:`save_network`.

    Raises
    ------
    ModelFormatError
        If the file is damaged, truncated, too large, from a newer major version of the format,
        or not a dnncore model.
    OSError
        If the file cannot be opened or read.
    """
    tensors, metadata = read_tensors(path, max_bytes=max_bytes)
    hint = ""
    try:
        hint = _check_version(metadata)
        prepared = _take_preprocessing(metadata, tensors)
        return _build_network(metadata, tensors), prepared
    except ModelFormatError as error:
        raise ModelFormatError(
            f"Cannot load {os.fsdecode(path)!r}: {error}.{hint}"
        ) from error.__cause__


def _check_version(metadata: Mapping[str, str]) -> str:
    """Refuse a newer major version; return what to add to later errors if the minor is newer."""
    if metadata.get("format") != "dnncore":
        raise ModelFormatError("it is not a dnncore model")
    version = metadata.get("format_version", "")
    match = re.fullmatch(r"([0-9]{1,4})\.([0-9]{1,4})", version)
    if match is None:
        raise ModelFormatError(f"its format_version {version[:40]!r} is not of the form 1.0")
    writer = metadata.get("dnncore_version", "unknown")[:40]
    if int(match[1]) > FORMAT_VERSION[0]:
        raise ModelFormatError(
            f"its format is version {version} and this dnncore reads up to {FORMAT_VERSION[0]}.x; "
            f"upgrade dnncore to version {writer}, which wrote it, or later"
        )
    if (int(match[1]), int(match[2])) > FORMAT_VERSION:
        return f" It was written by dnncore {writer}, which is newer than this one; try upgrading."
    return ""


def _build_network(metadata: Mapping[str, str], tensors: dict[str, NDArray[Any]]) -> Network:
    from dnncore.network import Network

    config = _parse_mapping(metadata, "config")
    try:
        net = Network.from_config(config)
        parameters = dict(net.named_parameters())
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelFormatError(f"its network configuration is not valid ({error})") from error
    except (MemoryError, RecursionError) as error:
        raise ModelFormatError("its network configuration is too large to build") from error
    if parameters.keys() != tensors.keys():
        missing, extra = parameters.keys() - tensors.keys(), tensors.keys() - parameters.keys()
        raise ModelFormatError(
            "its tensors are not those of its network configuration "
            f"(missing: {_some(missing)}; unknown: {_some(extra)})"
        )
    for name, parameter in parameters.items():
        tensor = tensors[name]
        if tensor.shape != parameter.shape or tensor.dtype != parameter.dtype:
            raise ModelFormatError(
                f"tensor {name!r} must be {parameter.dtype} of shape {parameter.shape}, and is "
                f"{tensor.dtype} of shape {tensor.shape}"
            )
    for name, parameter in parameters.items():
        parameter[...] = tensors[name]
    return net


def _take_preprocessing(
    metadata: Mapping[str, str], tensors: dict[str, NDArray[Any]]
) -> dict[str, Any] | None:
    """Decode the preprocessing and remove its arrays from ``tensors``."""
    if "preprocessing" not in metadata:
        return None
    decoded: dict[str, Any] = _decode(_parse_mapping(metadata, "preprocessing"), tensors)
    return decoded


def _parse_mapping(metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    if key not in metadata:
        raise ModelFormatError(f"its metadata has no {key}")
    value = parse_json(metadata[key], f"its {key}", floats=True)
    if type(value) is not dict:
        raise ModelFormatError(f"its {key} is not a JSON object")
    return value


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _encode(value: Any, where: str, arrays: dict[str, NDArray[Any]] | None, depth: int = 0) -> Any:
    """Return ``value`` as plain JSON types; arrays move to ``arrays``, if there is one."""
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
    if isinstance(value, (list, tuple)):
        return [_encode(item, f"{where}[{i}]", arrays, depth + 1) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key == _ARRAY:
                raise TypeError(
                    f"{where} has the key {key!r}; keys must be text, and {_ARRAY!r} is taken."
                )
        return {
            key: _encode(item, f"{where}[{key!r}]", arrays, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, np.ndarray) and arrays is not None:
        name = f"{_ARRAY_PREFIX}{len(arrays)}"
        arrays[name] = check_tensor(value, where)
        return {_ARRAY: name}
    raise TypeError(
        f"{where} is of type {type(value).__name__}; only text, numbers, booleans, None, lists, "
        "mappings and (in preprocessing) arrays can be saved."
    )


def _decode(value: Any, tensors: dict[str, NDArray[Any]], depth: int = 0) -> Any:
    if depth > _MAX_DEPTH:
        raise ModelFormatError(f"its preprocessing is nested more than {_MAX_DEPTH} levels deep")
    if isinstance(value, list):
        return [_decode(item, tensors, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if _ARRAY not in value:
        return {key: _decode(item, tensors, depth + 1) for key, item in value.items()}
    name = value[_ARRAY]
    if len(value) > 1 or not isinstance(name, str) or not name.startswith(_ARRAY_PREFIX):
        raise ModelFormatError("its preprocessing refers to an array in a malformed way")
    if name not in tensors:
        raise ModelFormatError(f"its preprocessing refers to the missing tensor {name[:40]!r}")
    return tensors.pop(name)  # each array has one place; what is left must be parameters


def _some(names: set[str]) -> str:
    listed = ", ".join(sorted(names)[:3]) or "none"
    return listed if len(names) <= 3 else f"{listed} and {len(names) - 3} more"
