"""Read IDX, NPZ and Parquet files that may be damaged, truncated or made to do harm.

What a file declares is checked against what it can hold before memory is taken for it, and
nothing in a file is ever run: no pickles.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_BYTES", "Arrays", "read_idx", "read_npz", "read_parquet"]

MAX_BYTES = 2**32
"""Largest array, in bytes, that is read unless the caller allows more."""

# Deflate, in gzip and zip alike, cannot expand its input by more than this.
_MAX_RATIO = 1032

_IDX_DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_NPZ_NAMES = {
    "x": "X", "x_train": "X", "y": "y", "y_train": "y", "x_test": "X_test", "y_test": "y_test"
}  # fmt: skip


class Arrays(NamedTuple):
    """What a file of arrays holds.

    Attributes
    ----------
    X : ndarray of shape (rows, ...)
        Inputs.
    y : ndarray of shape (rows,) or (rows, k), or None
        Targets.
    X_test, y_test : ndarray or None
        The part for testing, if the file keeps one apart.
    """

    X: NDArray[Any]
    y: NDArray[Any] | None = None
    X_test: NDArray[Any] | None = None
    y_test: NDArray[Any] | None = None


def read_idx(path: str | Path, *, max_bytes: int = MAX_BYTES) -> NDArray[Any]:
    """Read an array in IDX format, the one of the MNIST files, plain or compressed with gzip.

    The format: two zero bytes, a byte for the type, a byte for the number of dimensions, the
    dimensions as big-endian 32-bit integers, the elements in C order, big-endian.

    Parameters
    ----------
    path : str or Path
        The file; gzip is recognised by its content.
    max_bytes : int
        Refuse arrays larger than this.

    Returns
    -------
    ndarray
        In native byte order.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not IDX, is damaged, or is longer or shorter than its header says.
    """
    path = Path(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not compressed:
            return _read_idx(path, file, size, max_bytes)
        try:
            with gzip.open(file) as unpacked:
                return _read_idx(path, unpacked, size * _MAX_RATIO, max_bytes)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} is damaged or truncated: {error}. Fetch it again.") from error


def _read_idx(path: Path, file: io.BufferedIOBase, most: int, max_bytes: int) -> NDArray[Any]:
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _IDX_DTYPES or not 1 <= head[3] <= 4:
        raise ValueError(
            f"{path} is not an IDX file: expected a magic number 00 00, type, 1 to 4 dimensions; "
            f"got {head.hex(' ') or 'an empty file'}."
        )
    dtype, sizes = _IDX_DTYPES[head[2]], file.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise ValueError(f"{path} is truncated: it ends within its header.")
    shape = struct.unpack(f">{head[3]}I", sizes)
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes == 0:
        raise ValueError(f"{path} declares an empty array of shape {shape}.")
    if n_bytes > max_bytes:
        raise ValueError(
            f"{path} declares an array of shape {shape}, {n_bytes} bytes; more than {max_bytes} "
            "are not read (max_bytes)."
        )
    if n_bytes > most:
        raise ValueError(
            f"{path} is damaged or truncated: it declares {n_bytes} bytes of shape {shape}, more "
            "than the file can hold."
        )
    result = np.empty(shape, dtype)
    view, filled = result.reshape(-1).view(np.uint8).data, 0
    while filled < n_bytes:
        count = file.readinto(view[filled:])
        if not count:
            raise ValueError(
                f"{path} is truncated: shape {shape} takes {n_bytes} bytes, it holds {filled}."
            )
        filled += count
    if file.read(1):
        raise ValueError(f"{path} is damaged: data follow the {n_bytes} bytes of shape {shape}.")
    native: NDArray[Any] = result.astype(dtype.newbyteorder("="), copy=False)
    return native


def read_npz(path: str | Path, *, max_bytes: int = MAX_BYTES) -> Arrays:
    """Read inputs and targets from a NumPy archive.

    Parameters
    ----------
    path : str or Path
        Archive of ``np.savez``, with arrays X and y, or x_train, y_train, x_test and y_test;
        upper or lower case. Only X (or x_train) is required; other arrays are left alone.
    max_bytes : int
        Refuse arrays larger than this, each.

    Returns
    -------
    Arrays

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not such an archive or damaged, holds Python objects, or lacks X.
    """
    path = Path(path)
    found: dict[str, NDArray[Any]] = {}
    most = os.path.getsize(path) * _MAX_RATIO
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = _NPZ_NAMES.get(member.filename.removesuffix(".npy").lower())
                if name in found:
                    raise ValueError(f"it holds {name} twice, as {member.filename} and before.")
                if name:
                    found[name] = _read_npy(archive, member, most, max_bytes)
            names = ", ".join(member.filename.removesuffix(".npy") for member in archive.infolist())
    except (ValueError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        # RuntimeError: encrypted or compressed in a way that this Python does not know.
        raise ValueError(f"{path} is not a readable NPZ file: {error}") from error
    if "X" not in found or ("y_test" in found) != ("X_test" in found):
        raise ValueError(
            f"{path} must hold arrays X and y, or x_train, y_train, x_test and y_test; it holds "
            f"{names or 'nothing'}."
        )
    return Arrays(**found)


def _read_npy(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int, max_bytes: int
) -> NDArray[Any]:
    name = member.filename
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is not compressed in the way of np.savez_compressed.")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(f"{name} has the unknown format version {version}.")
        if dtype.hasobject:
            raise ValueError(
                f"{name} holds Python objects, which could run code and are never loaded; "
                "store numbers or fixed-width text."
            )
        n_bytes = math.prod(shape) * dtype.itemsize
        if n_bytes > max_bytes:
            raise ValueError(
                f"{name} has shape {shape}, {n_bytes} bytes; more than {max_bytes} are not read "
                "(max_bytes)."
            )
        there = member.file_size - file.tell()
        if n_bytes == 0 or n_bytes != there or n_bytes > most:
            raise ValueError(
                f"{name} is empty or damaged: shape {shape} of {dtype} takes {n_bytes} bytes, "
                f"it has {there}."
            )
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def read_parquet(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read a Parquet file into named columns; needs pyarrow.

    Row labels that pandas stores beside the data (``__index_level_0__``) are left out.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    dict of str to ndarray of shape (rows,)
        Numbers (NaN where missing), datetime64, or objects with None where missing.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a Parquet file or damaged, is empty, or has nested or repeated columns.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError("Reading Parquet needs pyarrow: pip install 'dnncore[data]'.") from error
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path} is not a readable Parquet file: {error}") from error
    if table.num_rows == 0:
        raise ValueError(f"{path} has no rows.")
    columns: dict[str, NDArray[Any]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name.startswith("__index_level_"):
            continue
        if name in columns:
            raise ValueError(f"{path} has several columns named {name!r}.")
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_nested(column.type):
            raise ValueError(
                f"{path}: column {name!r} has the nested type {column.type}; flatten it first."
            )
        columns[name] = column.to_numpy()
    return columns
