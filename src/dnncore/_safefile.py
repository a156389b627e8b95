"""Named arrays and text in one safetensors file: a strict reader and a durable writer.

Reading trusts nothing. Sizes are checked against the file before anything is allocated, the
header is parsed under narrow rules, a SHA-256 over the whole file must match, and no part of
the content is ever executed, imported or unpickled. The checksum finds damage; it does not
prove who wrote the file.

Layout: 8 bytes little-endian header length, the header (JSON, padded with spaces), the data in
row-major order without gaps. The checksum stands in the header's ``__metadata__`` under
``sha256`` and is computed over the whole file with its own 64 digits set to ``0``.

Why the package ``safetensors`` writes and this module reads: docs/decisions/0003-model-files.md.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import stat
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from dnncore._atomicfile import replace_file
from dnncore._safeheader import (
    DTYPES,
    MAX_HEADER,
    MAX_NDIM,
    MAX_TENSORS,
    TENSOR_NAME,
    is_text,
    parse_header,
)
from dnncore._validation import check_finite, check_int
from dnncore.exceptions import ModelFormatError

__all__ = ["MAX_BYTES", "StrPath", "check_tensor", "read_tensors", "write_tensors"]

StrPath = str | os.PathLike[str]

MAX_BYTES = 4 * 2**30
"""Largest file that is read unless the caller allows more."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NO_DIGEST = "0" * 64
_CHUNK = 1 << 23  # bytes read and hashed at a time


def read_tensors(
    path: StrPath, *, max_bytes: int = MAX_BYTES, allow_nonfinite: bool = False
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read a file that :func:`write_tensors` wrote.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    max_bytes : int
        Larger files are refused before any of their content is read.
    allow_nonfinite : bool
        Whether NaN and infinity may occur.

    Returns
    -------
    tensors : dict of str to ndarray
        In the order of the file; each array is writable, aligned and owns its memory.
    metadata : dict of str to str
        The text stored beside them, without the checksum.

    Raises
    ------
    ModelFormatError
        If the content is damaged, truncated, too large or breaks a rule of the format.
    OSError
        If the file cannot be opened or read, or does not fit into memory.
    """
    check_int(max_bytes, "max_bytes", maximum=None)
    name = os.fsdecode(path)
    with _open_regular(name) as file:
        try:
            return _read(file, max_bytes, allow_nonfinite)
        except ModelFormatError as error:
            raise ModelFormatError(f"Cannot load {name!r}: {error}.") from error.__cause__
        except MemoryError as error:
            raise OSError(errno.ENOMEM, "Not enough memory to load the file", name) from error


def write_tensors(
    path: StrPath,
    tensors: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str],
    *,
    allow_nonfinite: bool = False,
) -> None:
    """Write named arrays and text to ``path``, atomically and durably.

    Parameters
    ----------
    path : str or os.PathLike
        The file; an existing one is replaced only by a complete new one.
    tensors : mapping of str to ndarray
        From 1 to 10,000 arrays of 1 to 4 dimensions, not empty, of dtype ``float32``,
        ``float64``, ``int64`` or ``uint8``, in any memory layout. Names consist of letters,
        digits, ``_`` and ``.``.
    metadata : mapping of str to str
        Text; the key ``sha256`` is taken.
    allow_nonfinite : bool
        Whether NaN and infinity may occur; such a file is read with the same option only.

    Raises
    ------
    TypeError, ValueError
        If a name, an array or the text cannot be stored.
    OSError
        If the file cannot be written; an existing file then stays as it was.
    """
    name = os.fsdecode(path)
    arrays = _check_tensors(tensors, allow_nonfinite)
    blob = safetensors.numpy.save(arrays, _check_metadata(metadata) | {"sha256": _NO_DIGEST})
    start = 8 + int.from_bytes(blob[:8], "little")
    if start - 8 > MAX_HEADER:
        raise ValueError(
            f"names and metadata take {start - 8} bytes, the limit is {MAX_HEADER}; store long "
            "lists as arrays."
        )
    digest = hashlib.sha256(blob).hexdigest()
    header = blob[:start].replace(_seal(_NO_DIGEST), _seal(digest))

    def check(written: str) -> None:
        try:
            found, _ = read_tensors(written, max_bytes=len(blob), allow_nonfinite=True)
            if not all(_same_bits(array, found[key]) for key, array in arrays.items()):
                raise ModelFormatError("its arrays differ from those given")
        except ModelFormatError as error:
            raise OSError(
                errno.EIO, f"What was written does not read back ({error}); nothing was saved", name
            ) from error

    replace_file(name, [header, memoryview(blob)[start:]], check)


def check_tensor(array: NDArray[Any], label: str, *, allow_nonfinite: bool = False) -> NDArray[Any]:
    """Return ``array`` as it can be stored: little-endian, aligned, C-contiguous.

    Parameters
    ----------
    array : ndarray
        The array.
    label : str
        What the caller calls it; starts the error messages.
    allow_nonfinite : bool
        Whether NaN and infinity may occur.

    Raises
    ------
    TypeError, ValueError
        If its type, dtype, shape or content cannot be stored.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{label} must be a NumPy array; got {type(array).__name__}.")
    dtype = array.dtype.newbyteorder("<")
    if dtype not in DTYPES.values():
        raise TypeError(f"{label} must be float32, float64, int64 or uint8; got {array.dtype}.")
    if not 1 <= array.ndim <= MAX_NDIM or array.size == 0:
        raise ValueError(
            f"{label} must have 1 to {MAX_NDIM} dimensions, none of them 0; got shape "
            f"{array.shape}."
        )
    if not allow_nonfinite and not _is_finite(array):
        raise ValueError(f"{label} holds NaN or infinity, and such a file would not be loaded.")
    # The package stores the raw memory of a strided array as if it were C-contiguous.
    return np.require(array, dtype, ["C", "A", "E"])


def _open_regular(name: str) -> io.FileIO:
    flags = os.O_RDONLY
    for optional in ("O_CLOEXEC", "O_NONBLOCK", "O_BINARY"):  # never wait for a pipe's writer
        flags |= getattr(os, optional, 0)
    try:
        descriptor = os.open(name, flags)
    except ValueError as error:
        raise OSError(errno.EINVAL, f"Not a file name ({error})", name) from error
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "Expected a model file, got a folder", name)
        if not stat.S_ISREG(mode):
            raise ModelFormatError(f"Cannot load {name!r}: it is not a regular file.")
        return io.FileIO(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _read(
    file: io.FileIO, max_bytes: int, allow_nonfinite: bool
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    size = os.fstat(file.fileno()).st_size
    if size > max_bytes:
        raise ModelFormatError(f"it has {size} bytes, more than max_bytes={max_bytes}")
    if size < 10:
        raise ModelFormatError(f"it has only {size} bytes: empty or truncated")
    prefix = bytearray(8)
    _fill(file, memoryview(prefix))
    length = int.from_bytes(prefix, "little")
    if not 2 <= length <= min(size - 8, MAX_HEADER):
        raise ModelFormatError(
            f"its header claims {length} bytes, where at most {min(size - 8, MAX_HEADER)} can be: "
            "truncated, or not a safetensors file"
        )
    header = bytearray(length)
    _fill(file, memoryview(header))
    entries, metadata = parse_header(bytes(header), size - 8 - length)

    digest = metadata.pop("sha256", "")
    if not _DIGEST.fullmatch(digest):
        raise ModelFormatError("it carries no SHA-256 checksum, so dnncore did not write it")
    hasher = hashlib.sha256(prefix)
    hasher.update(header.replace(_seal(digest), _seal(_NO_DIGEST)))
    tensors = {}
    for entry in entries:
        array = np.empty(entry.shape, entry.dtype)
        _fill(file, array.reshape(-1).view(np.uint8).data, hasher)
        tensors[entry.name] = array.astype(entry.dtype.newbyteorder("="), copy=False)
    if file.read(1):
        raise ModelFormatError("it grew while being read")
    if hasher.hexdigest() != digest:
        raise ModelFormatError("its checksum does not match: the file is damaged")
    if not allow_nonfinite:
        for name, array in tensors.items():
            if not _is_finite(array):
                raise ModelFormatError(f"tensor {name!r} holds NaN or infinity")
    return tensors, metadata


def _fill(file: io.FileIO, target: memoryview, hasher: hashlib._Hash | None = None) -> None:
    position = 0
    while position < len(target):
        count = file.readinto(target[position : position + _CHUNK])
        if not count:
            raise ModelFormatError("it shrank while being read")
        if hasher is not None:
            hasher.update(target[position : position + count])
        position += count


def _check_tensors(
    tensors: Mapping[str, NDArray[Any]], allow_nonfinite: bool
) -> dict[str, NDArray[Any]]:
    if not 1 <= len(tensors) <= MAX_TENSORS:
        raise ValueError(f"a file holds 1 to {MAX_TENSORS} tensors; got {len(tensors)}.")
    arrays = {}
    for name, array in tensors.items():
        if not isinstance(name, str) or not TENSOR_NAME.fullmatch(name) or name == "__metadata__":
            raise ValueError(
                "a tensor's name must be 1 to 128 letters, digits, '_' or '.', "
                f"and not '__metadata__'; got {name!r}."
            )
        label = f"tensor {name!r}"
        arrays[name] = check_tensor(array, label, allow_nonfinite=allow_nonfinite)
    return arrays


def _check_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    for key, value in metadata.items():
        if not is_text(key) or not is_text(value):
            raise TypeError(
                f"metadata must map Unicode text to Unicode text; got {key!r}: {value!r}."
            )
    if "sha256" in metadata:
        raise ValueError("the metadata key 'sha256' is taken by the checksum; use another.")
    return dict(metadata)


def _seal(digest: str) -> bytes:
    # Quotes inside JSON strings are escaped, so only the key itself can match this.
    return b'"sha256":"' + digest.encode() + b'"'


def _is_finite(array: NDArray[Any]) -> bool:
    if array.dtype.kind != "f":
        return True
    try:
        check_finite(array, "tensor")
    except ValueError:
        return False
    return True


def _same_bits(first: NDArray[Any], second: NDArray[Any]) -> bool:
    # As integers, for NaN differs from itself.
    bits = np.dtype(f"u{first.itemsize}")
    second = second.astype(first.dtype, copy=False)
    return np.array_equal(first.view(bits), second.view(bits))
