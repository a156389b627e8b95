"""Model files: everything needed to predict, in one safetensors file.

The file holds each parameter as a tensor under its name in the network, the network's
configuration and the preparation of its inputs as JSON in the metadata, and a checksum. Any
safetensors tool can read it. Loading builds the network from its configuration through the same
checks as a user's call, and never executes anything that the file contains.

Files of an older format version stay readable; those of a newer major version are refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from dnncore._plain import decode, dump, encode, parse_mapping
from dnncore._safefile import MAX_BYTES, StrPath, read_tensors, write_tensors
from dnncore._state import model_arrays
from dnncore.exceptions import ModelFormatError

if TYPE_CHECKING:
    from dnncore.network import Network

__all__ = [
    "FORMAT_VERSION",
    "build_network",
    "check_version",
    "describe",
    "fill",
    "load_network",
    "save_network",
]

FORMAT_VERSION = (1, 0)
"""Major and minor version of the files written."""

_PREFIX = "preprocessing."


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
    arrays: dict[str, NDArray[Any]] = {}
    metadata = describe(net, "dnncore")
    if preprocessing is not None:
        metadata["preprocessing"] = dump(
            encode(preprocessing, "preprocessing", arrays, prefix=_PREFIX)
        )
    write_tensors(path, model_arrays(net) | arrays, metadata)


def describe(net: Network, kind: str) -> dict[str, str]:
    """Return the metadata that files of every kind have: format, versions, the network."""
    import dnncore

    return {
        "format": kind,
        "format_version": "{}.{}".format(*FORMAT_VERSION),
        "dnncore_version": str(getattr(dnncore, "__version__", "unknown")),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": dump(encode(net.get_config(), "config")),
    }


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
        hint = check_version(metadata, "dnncore")
        prepared = _take_preprocessing(metadata, tensors)
        net = build_network(metadata)
        fill(model_arrays(net), tensors)
        return net, prepared
    except ModelFormatError as error:
        raise ModelFormatError(
            f"Cannot load {os.fsdecode(path)!r}: {error}.{hint}"
        ) from error.__cause__


def check_version(metadata: Mapping[str, str], kind: str) -> str:
    """Refuse a newer major version; return what to add to later errors if the minor is newer.

    Raises
    ------
    ModelFormatError
        For a file of another kind, or of a newer major version.
    """
    found = metadata.get("format")
    if found != kind:
        hint = "; read it with dnncore.load_checkpoint" if found == "dnncore-checkpoint" else ""
        noun = {"dnncore": "a dnncore model"}.get(kind, "a checkpoint of dnncore")
        raise ModelFormatError(f"it is not {noun}{hint}")
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


def build_network(metadata: Mapping[str, str]) -> Network:
    """Build the network that a file describes; its parameters are zero.

    Raises
    ------
    ModelFormatError
        If the description makes no network.
    """
    from dnncore.network import Network

    config = parse_mapping(metadata, "config")
    try:
        return Network.from_config(config)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelFormatError(f"its network configuration is not valid ({error})") from error
    except (MemoryError, RecursionError) as error:
        raise ModelFormatError("its network configuration is too large to build") from error


def fill(arrays: Mapping[str, NDArray[Any]], tensors: Mapping[str, NDArray[Any]]) -> None:
    """Copy a file's tensors into the arrays of the same names.

    Raises
    ------
    ModelFormatError
        If names, shapes or dtypes differ; nothing has been copied then.
    """
    if arrays.keys() != tensors.keys():
        missing, extra = arrays.keys() - tensors.keys(), tensors.keys() - arrays.keys()
        raise ModelFormatError(
            "its tensors are not those of its network configuration "
            f"(missing: {_some(missing)}; unknown: {_some(extra)})"
        )
    for name, array in arrays.items():
        tensor = tensors[name]
        if tensor.shape != array.shape or tensor.dtype != array.dtype:
            raise ModelFormatError(
                f"tensor {name!r} must be {array.dtype} of shape {array.shape}, and is "
                f"{tensor.dtype} of shape {tensor.shape}"
            )
    for name, array in arrays.items():
        array[...] = tensors[name]


def _take_preprocessing(
    metadata: Mapping[str, str], tensors: dict[str, NDArray[Any]]
) -> dict[str, Any] | None:
    """Decode the preprocessing and remove its arrays from ``tensors``."""
    if "preprocessing" not in metadata:
        return None
    given = parse_mapping(metadata, "preprocessing")
    decoded: dict[str, Any] = decode(given, "preprocessing", tensors, prefix=_PREFIX)
    return decoded


def _some(names: set[str]) -> str:
    listed = ", ".join(sorted(names)[:3]) or "none"
    return listed if len(names) <= 3 else f"{listed} and {len(names) - 3} more"
