"""Data to train on: files, the well-known small sets, and generated ones.

Nothing is ever downloaded. Files of named columns come back as a dict of arrays, for
``TableEncoder``; files of arrays as ``Arrays`` or as plain arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnncore._csv import read_csv
from dnncore._files import Arrays, read_idx, read_npz, read_parquet
from dnncore._validation import check_int, check_real
from dnncore.preprocessing import flatten_images

__all__ = [
    "Arrays",
    "load_digits",
    "load_fashion_mnist",
    "load_mnist",
    "load_table",
    "make_blobs",
    "make_moons",
    "make_spirals",
    "read_csv",
    "read_idx",
    "read_npz",
    "read_parquet",
]

FASHION_MNIST_DIRECTORY = "/usr/share/datasets/fashion-mnist"
"""Where Debian's package ``dataset-fashion-mnist`` puts the files."""

Features = NDArray[np.float32]
Labels = NDArray[np.int64]
Split = tuple[Features, Labels, Features, Labels]


def load_digits() -> tuple[Features, Labels]:
    """Load 1797 images of handwritten digits, 8 by 8 pixels; they come with scikit-learn.

    Returns
    -------
    X : ndarray of shape (1797, 64), float32
        Pixels, 0 to 1.
    y : ndarray of shape (1797,), int64
        Digits, 0 to 9.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise ImportError(
            "The digits come with scikit-learn: pip install 'dnncore[sklearn]'."
        ) from error
    X, y = load(return_X_y=True)
    return (X / 16).astype(np.float32), y.astype(np.int64)


def load_fashion_mnist(directory: str | Path | None = None) -> Split:
    """Load 70,000 images of clothes, 28 by 28 pixels, in 10 classes.

    Parameters
    ----------
    directory : str or Path, optional
        Where the four IDX files are; by default where Debian's package
        ``dataset-fashion-mnist`` puts them.

    Returns
    -------
    X_train : ndarray of shape (60000, 784), float32
        Pixels, 0 to 1.
    y_train : ndarray of shape (60000,), int64
        Classes, 0 to 9.
    X_test : ndarray of shape (10000, 784), float32
    y_test : ndarray of shape (10000,), int64

    Raises
    ------
    FileNotFoundError
        If the files are not there; the message says how to get them.
    ValueError
        If a file is damaged.

    References
    ----------
    Xiao, Rasul, Vollgraf: Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
    Algorithms. arXiv:1708.07747, 2017.
    """
    hint = (
        "On Debian and Ubuntu: apt-get install dataset-fashion-mnist. Elsewhere, fetch the four "
        "files and name their directory (--data DIR on the command line)."
    )
    return _load_idx_directory(directory or FASHION_MNIST_DIRECTORY, hint)


def load_mnist(directory: str | Path) -> Split:
    """Load MNIST, or any set laid out like it, from the directory of its four IDX files.

    The files are ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same with
    ``t10k``, each plain or with ``.gz``.

    Returns
    -------
    X_train, y_train, X_test, y_test : ndarray
        As from :func:`load_fashion_mnist`.

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    ValueError
        If a file is damaged, or images and labels do not match.
    """
    return _load_idx_directory(directory, "Name the directory that holds the four IDX files.")


def _load_idx_directory(directory: str | Path, hint: str) -> Split:
    directory = Path(directory).expanduser()
    arrays: list[NDArray[Any]] = []
    for part in ("train", "t10k"):
        images = read_idx(_find(directory, f"{part}-images-idx3-ubyte", hint))
        labels = read_idx(_find(directory, f"{part}-labels-idx1-ubyte", hint))
        if images.ndim != 3 or images.dtype != np.uint8:
            raise ValueError(
                f"{directory}: the {part} images must be uint8 of shape (n, height, width); got "
                f"{images.dtype} of shape {images.shape}."
            )
        if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
            raise ValueError(
                f"{directory}: {len(images)} {part} images need as many whole numbers as labels; "
                f"got {labels.dtype} of shape {labels.shape}."
            )
        arrays += [flatten_images(images), labels.astype(np.int64)]
    X_train, y_train, X_test, y_test = arrays
    if X_train.shape[1] != X_test.shape[1]:
        raise ValueError(
            f"{directory}: training images have {X_train.shape[1]} pixels, test images "
            f"{X_test.shape[1]}."
        )
    return X_train, y_train, X_test, y_test


def _find(directory: Path, name: str, hint: str) -> Path:
    for candidate in (name + ".gz", name):
        if (directory / candidate).is_file():
            return directory / candidate
    raise FileNotFoundError(f"There is no {name}[.gz] in {directory}. {hint}")


def _read_idx_arrays(path: Path) -> Arrays:
    return Arrays(*_load_idx_directory(path, "A directory is read as MNIST-like IDX files."))


_READERS: dict[str, Callable[..., dict[str, NDArray[Any]] | Arrays]] = {
    ".csv": read_csv,
    ".csv.gz": read_csv,
    ".tsv": read_csv,
    ".tsv.gz": read_csv,
    ".txt": read_csv,
    ".parquet": read_parquet,
    ".npz": read_npz,
}


def load_table(
    path: str | Path, *, text_columns: Collection[str] = ()
) -> dict[str, NDArray[Any]] | Arrays:
    """Read a data file of any known kind, told by its suffix, or a directory of IDX files.

    Parameters
    ----------
    path : str or Path
        A .csv, .tsv or .txt file (.csv and .tsv also with .gz), .parquet, .npz, or a directory
        with the four files of :func:`load_mnist`.
    text_columns : collection of str
        For text formats: see :func:`read_csv`.

    Returns
    -------
    dict of str to ndarray, or Arrays
        Named columns, or arrays X and y.

    Raises
    ------
    FileNotFoundError
        If there is nothing at ``path``.
    ImportError
        If the format needs a package that is not installed.
    ValueError
        If the suffix is unknown (the message lists the known ones) or the file cannot be read.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return _read_idx_arrays(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file or directory {path}.")
    for suffix, reader in _READERS.items():
        if path.name.lower().endswith(suffix):
            return reader(path, text_columns=text_columns) if reader is read_csv else reader(path)
    raise ValueError(
        f"Cannot tell the format of {path} by its name; expected one of {', '.join(_READERS)}, or "
        "a directory with IDX files."
    )


def _rng(seed: int) -> np.random.Generator:
    seed = check_int(seed, "seed", minimum=0, maximum=2**64 - 1)
    return np.random.Generator(np.random.Philox(key=seed))


def _finish(
    rng: np.random.Generator, X: NDArray[np.float64], y: NDArray[Any], noise: float
) -> tuple[Features, Labels]:
    X = X + check_real(noise, "noise", minimum=0) * rng.standard_normal(X.shape)
    order = rng.permutation(len(X))
    return X[order].astype(np.float32), y[order].astype(np.int64)


def make_moons(n: int = 1000, noise: float = 0.1, seed: int = 0) -> tuple[Features, Labels]:
    """Generate two interlocking half circles, one for each class.

    Parameters
    ----------
    n : int
        Number of points.
    noise : float
        Standard deviation of what is added to each coordinate.
    seed : int
        The same seed gives the same points.

    Returns
    -------
    X : ndarray of shape (n, 2), float32
    y : ndarray of shape (n,), int64
        0 or 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.
    """
    rng, y = _rng(seed), np.arange(check_int(n, "n", minimum=2)) % 2
    angle = np.pi * rng.random(n)
    upper = np.column_stack([np.cos(angle), np.sin(angle)])
    return _finish(rng, np.where(y[:, None] == 0, upper, [1.0, 0.5] - upper), y, noise)


def make_spirals(
    n: int = 1000, classes: int = 2, noise: float = 0.05, seed: int = 0
) -> tuple[Features, Labels]:
    """Generate spiral arms that wind around each other once and a half, one for each class.

    Parameters
    ----------
    n : int
        Number of points.
    classes : int
        Number of arms.
    noise, seed
        As in :func:`make_moons`.

    Returns
    -------
    X : ndarray of shape (n, 2), float32
        Within about 1 of the origin.
    y : ndarray of shape (n,), int64

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.
    """
    classes = check_int(classes, "classes", minimum=2)
    rng, y = _rng(seed), np.arange(check_int(n, "n", minimum=classes)) % classes
    radius = np.sqrt(rng.uniform(0.01, 1.0, n))  # as many points at each length of the arm
    angle = 3 * np.pi * radius + 2 * np.pi * y / classes
    X = radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    return _finish(rng, X, y, noise)


def make_blobs(
    n: int = 1000, classes: int = 3, features: int = 2, noise: float = 1.0, seed: int = 0
) -> tuple[Features, Labels]:
    """Generate normal clouds around centres drawn uniformly from -10 to 10 in each feature.

    Parameters
    ----------
    n : int
        Number of points.
    classes : int
        Number of clouds.
    features : int
        Number of columns.
    noise : float
        Standard deviation of each cloud.
    seed : int
        The same seed gives the same points.

    Returns
    -------
    X : ndarray of shape (n, features), float32
    y : ndarray of shape (n,), int64

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.
    """
    classes = check_int(classes, "classes", minimum=2)
    rng, y = _rng(seed), np.arange(check_int(n, "n", minimum=classes)) % classes
    centers = rng.uniform(-10, 10, (classes, check_int(features, "features")))
    return _finish(rng, centers[y], y, noise)
