"""Reading files, whole and damaged, and the generated sets."""

import gzip
import io
import pickle
import struct
import sys
import zipfile
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import datasets as bundled

from dnncore import datasets
from dnncore.datasets import (
    Arrays,
    load_digits,
    load_fashion_mnist,
    load_mnist,
    load_table,
    make_blobs,
    make_moons,
    make_spirals,
    read_idx,
    read_npz,
    read_parquet,
)
from dnncore.tables import TableEncoder

CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def idx_bytes(array):
    head = bytes([0, 0, CODES[array.dtype.name], array.ndim])
    body = array.astype(array.dtype.newbyteorder(">")).tobytes()
    return head + struct.pack(f">{array.ndim}I", *array.shape) + body


def save(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4), (2, 1, 3, 2)])
def test_idx_round_trip(tmp_path, pack, dtype, shape):
    array = np.random.default_rng(0).normal(0, 50, shape).astype(dtype)
    assert array.std() > 0
    back = read_idx(save(tmp_path / "a", pack(idx_bytes(array))))
    assert back.dtype == array.dtype and back.dtype.isnative
    np.testing.assert_array_equal(back, array)


IMAGE = idx_bytes(np.arange(12, dtype=np.uint8).reshape(3, 2, 2))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "an empty file"),
        (b"\0\0\x08", "not an IDX file"),
        (b"\0\1" + IMAGE[2:], "got 00 01 08 03"),
        (b"\0\0\x0a" + IMAGE[3:], "not an IDX file"),
        (b"\0\0\x08\0", "not an IDX file"),
        (b"\0\0\x08\x05" + bytes(40), "not an IDX file"),
        (b"PK\3\4" + bytes(40), "got 50 4b 03 04"),
        (IMAGE[:10], "within its header"),
        (IMAGE[:-1], "more than the file can hold|holds 11"),
        (IMAGE + b"x", "data follow"),
        (b"\0\0\x08\1\0\0\0\0", "empty array"),
        (b"\0\0\x08\1\xff\xff\xff\xff", "more than the file can hold"),
        (b"\0\0\x0e\2\xff\xff\xff\xff\xff\xff\xff\xff", "max_bytes"),
        (b"\0\0\x0e\4" + b"\xff" * 16, "max_bytes"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_idx_damage(tmp_path, pack, data, words):
    path = save(tmp_path / "bad", pack(data))
    with pytest.raises(ValueError, match=words) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_idx_every_truncation_and_every_flipped_bit_of_gzip(tmp_path):
    whole = gzip.compress(IMAGE, mtime=0)
    path = tmp_path / "cut.gz"
    for length in range(len(whole)):
        with pytest.raises(ValueError, match=r"cut\.gz"):
            read_idx(save(path, whole[:length]))
    survivors = 0
    for position in range(10, len(whole)):  # after gzip's own header, which has no check sum
        for bit in range(8):
            data = bytearray(whole)
            data[position] ^= 1 << bit
            try:
                np.testing.assert_array_equal(read_idx(save(path, data)), read_idx_of(IMAGE))
                survivors += 1
            except ValueError:
                pass
    assert survivors < 10  # bits that deflate does not use


def read_idx_of(data):
    return np.frombuffer(data[16:], np.uint8).reshape(3, 2, 2)


def test_idx_trailing_garbage_and_limits(tmp_path):
    with pytest.raises(ValueError, match="damaged"):
        read_idx(save(tmp_path / "a", gzip.compress(IMAGE) + b"garbage"))
    with pytest.raises(ValueError, match="more than 11 are not read"):
        read_idx(save(tmp_path / "b", IMAGE), max_bytes=11)
    assert read_idx(tmp_path / "b", max_bytes=12).shape == (3, 2, 2)
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "none")


def test_idx_bomb_takes_no_memory(tmp_path):
    # 4 GiB declared, all of it there as zeros would be; the cap is checked first.
    path = save(tmp_path / "bomb", gzip.compress(b"\0\0\x08\1\x7f\xff\xff\xff" + bytes(10**6)))
    with pytest.raises(ValueError, match="more than the file can hold"):
        read_idx(path)


@pytest.fixture
def mnist_like(tmp_path):
    """A directory in the layout of MNIST, half of it compressed, made from real digits."""
    X, y = bundled.load_digits(return_X_y=True)
    images = (X.reshape(-1, 8, 8) * 15.9375).astype(np.uint8)
    labels = y.astype(np.uint8)
    for part, rows in (("train", slice(0, 1500)), ("t10k", slice(1500, None))):
        image_data = gzip.compress(idx_bytes(images[rows]))
        save(tmp_path / f"{part}-images-idx3-ubyte.gz", image_data)
        save(tmp_path / f"{part}-labels-idx1-ubyte", idx_bytes(labels[rows]))
    return tmp_path, images.reshape(-1, 64), y


@pytest.mark.parametrize("load", [load_mnist, load_fashion_mnist, load_table])
def test_mnist_directory(mnist_like, load):
    directory, images, y = mnist_like
    X_train, y_train, X_test, y_test = loaded = load(str(directory))
    if load is load_table:
        assert isinstance(loaded, Arrays)
        y_train, X_test = loaded.y, loaded.X_test
    assert X_train.dtype == np.float32 and y_train.dtype == np.int64
    np.testing.assert_array_equal(np.vstack([X_train, X_test]), images / np.float32(255))
    np.testing.assert_array_equal(np.concatenate([y_train, y_test]), y)
    assert X_train.min() == 0 and X_train.max() == 1


def test_mnist_directory_damage(mnist_like):
    directory, images, _ = mnist_like
    labels = directory / "t10k-labels-idx1-ubyte"
    save(labels, idx_bytes(np.zeros(5, np.uint8)))
    with pytest.raises(ValueError, match=r"297 t10k images need as many.*\(5,\)"):
        load_mnist(directory)
    save(labels, idx_bytes(np.zeros(297, np.float32)))
    with pytest.raises(ValueError, match="whole numbers"):
        load_mnist(directory)
    save(labels, idx_bytes(np.zeros(297, np.uint8)))
    wide = directory / "t10k-images-idx3-ubyte.gz"
    save(wide, idx_bytes(np.zeros((297, 2, 2), np.uint8)))
    with pytest.raises(ValueError, match="64 pixels, test images 4"):
        load_mnist(directory)
    save(wide, idx_bytes(images[:297]))
    with pytest.raises(ValueError, match="t10k images must be uint8"):
        load_mnist(directory)
    wide.unlink()
    with pytest.raises(FileNotFoundError, match="no t10k-images-idx3-ubyte"):
        load_table(directory)


def test_fashion_mnist_says_where_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "FASHION_MNIST_DIRECTORY", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="apt-get install dataset-fashion-mnist.*--data"):
        load_fashion_mnist()


@pytest.mark.skipif(
    not Path(datasets.FASHION_MNIST_DIRECTORY).is_dir(),
    reason="needs Debian's package dataset-fashion-mnist",
)
def test_fashion_mnist():
    X_train, y_train, X_test, y_test = load_fashion_mnist()
    assert X_train.shape == (60_000, 784) and X_test.shape == (10_000, 784)
    assert X_train.dtype == X_test.dtype == np.float32
    assert np.bincount(y_train).tolist() == [6000] * 10
    assert np.bincount(y_test).tolist() == [1000] * 10
    assert X_train.mean(dtype=np.float64) == pytest.approx(0.2860, abs=1e-4)  # as published
    assert X_train.std(dtype=np.float64) == pytest.approx(0.3530, abs=1e-4)


def test_digits():
    X, y = load_digits()
    assert X.shape == (1797, 64) and X.dtype == np.float32 and X.max() == 1
    np.testing.assert_array_equal(X * 16, bundled.load_digits().data)
    np.testing.assert_array_equal(y, bundled.load_digits().target)


@pytest.mark.parametrize(
    ("module", "call", "extra"),
    [
        ("sklearn.datasets", load_digits, "sklearn"),
        ("pyarrow.parquet", lambda: read_parquet("a.parquet"), "data"),
    ],
)
def test_missing_packages_are_named(monkeypatch, module, call, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"pip install 'dnncore\[{extra}\]'"):
        call()


@pytest.fixture(scope="module")
def wine():
    return bundled.load_wine(as_frame=True).frame


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".TSV", ".parquet"])
def test_a_real_table_in_every_format(tmp_path, wine, suffix):
    path = tmp_path / f"wine{suffix}"
    if suffix == ".parquet":
        wine.sample(frac=1, random_state=0).sort_index().to_parquet(path)  # with its index
    else:
        wine.to_csv(path, index=False, sep="\t" if suffix == ".TSV" else ",")
    columns = load_table(path)
    assert list(columns) == list(wine.columns)
    for name in wine:
        np.testing.assert_array_equal(columns[name], wine[name].to_numpy())
    assert columns["target"].dtype == np.int64 and columns["alcohol"].dtype == np.float64


def test_parquet_types(tmp_path):
    table = pa.table(
        {
            "i": pa.array([1, None, 3]),
            "s": pa.array(["a", None, "b"]).dictionary_encode(),
            "b": pa.array([True, None, False]),
            "t": pa.array([datetime(2020, 1, 1), None, datetime(2021, 1, 1)]),
            "d": pa.array([date(2020, 1, 1), None, date(2021, 1, 1)]),
            "n": pa.array([Decimal("1.5"), None, Decimal("2.5")]),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    columns = load_table(tmp_path / "t.parquet")
    encoder = TableEncoder(scaling="none").fit(columns)
    actions = {record.column: record.action for record in encoder.report}
    assert actions == {
        "i": "number",
        "s": "category",
        "b": "number",
        "t": "time",
        "d": "time",
        "n": "number",
    }
    assert encoder.transform(columns)[2, :2].tolist() == [3, 0]


def test_parquet_damage(tmp_path):
    path = tmp_path / "bad.parquet"
    pd.DataFrame({"a": [1, 2]}).to_parquet(path)
    whole = path.read_bytes()
    for data in (b"", b"PAR1", whole[:-5], whole[: len(whole) // 2], b"\0" * 100, b"a,b\n1,2\n"):
        with pytest.raises(ValueError, match=r"bad\.parquet"):
            load_table(save(path, data))
    pq.write_table(pa.table({"a": [[1], [2]]}), path)
    with pytest.raises(ValueError, match="'a' has the nested type"):
        load_table(path)
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), path)
    with pytest.raises(ValueError, match="no rows"):
        load_table(path)
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), path)
    with pytest.raises(ValueError, match="several columns named 'a'"):
        load_table(path)
    with pytest.raises(FileNotFoundError):
        read_parquet(tmp_path / "none.parquet")


@pytest.mark.parametrize("store", [np.savez, np.savez_compressed])
def test_npz(tmp_path, store):
    X, y = bundled.load_iris(return_X_y=True)
    store(tmp_path / "a.npz", X=X, y=y, note="text")
    for name, expected in zip(Arrays._fields, (X, y, None, None), strict=True):
        np.testing.assert_array_equal(getattr(load_table(tmp_path / "a.npz"), name), expected)
    store(tmp_path / "b.npz", X_train=X[:100], y_train=y[:100], x_test=X[100:], Y_test=y[100:])
    again = read_npz(tmp_path / "b.npz")
    np.testing.assert_array_equal(np.vstack([again.X, again.X_test]), X)
    np.testing.assert_array_equal(np.concatenate([again.y, again.y_test]), y)
    store(tmp_path / "c.npz", X=np.asfortranarray(X))
    assert read_npz(tmp_path / "c.npz").y is None
    np.testing.assert_array_equal(read_npz(tmp_path / "c.npz").X, X)
    with pytest.raises(ValueError, match="more than 10 are not read"):
        read_npz(tmp_path / "c.npz", max_bytes=10)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("code in a data file was run",))


def npy_header(shape, descr="<f8"):
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


@pytest.mark.parametrize(
    ("member", "data", "words"),
    [
        ("z.npy", npy_header((1,)) + bytes(8), "must hold arrays X and y.*it holds z"),
        ("X_test.npy", npy_header((1,)) + bytes(8), "must hold arrays"),
        ("X.npy", b"garbage", "magic"),
        ("X.npy", npy_header((2,)) + bytes(8), "damaged"),
        ("X.npy", npy_header((10**9,)) + bytes(8), "max_bytes"),
        ("X.npy", npy_header((2**28,)) + bytes(8), "damaged"),
        ("X.npy", npy_header((0, 4)), "empty"),
        ("X.npy", npy_header((10**15,), "|V0"), "empty"),
        ("X.npy", npy_header((-1, -1)) + bytes(8), "readable"),
        ("X.npy", npy_header((1,), "|O") + pickle.dumps(Trap()), "Python objects"),
        ("X.npy", npy_header((1,), "os.system") + bytes(8), "readable"),
        ("X.npy", npy_header((1,))[:9] + b"\xff" * 200, "readable"),
    ],
)
def test_npz_damage(tmp_path, member, data, words):
    path = tmp_path / "bad.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, data)
    with pytest.raises(ValueError, match=words) as caught:
        load_table(path)
    assert "bad.npz" in str(caught.value)


def test_npz_truncated_and_flipped(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, X=np.arange(40.0).reshape(8, 5), y=np.arange(8))
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        with pytest.raises(ValueError, match=r"x\.npz"):
            read_npz(save(path, whole[:length]))
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(1500):
        data = bytearray(whole)
        for position in rng.integers(0, len(whole), rng.integers(1, 4)):
            data[position] = rng.integers(256)
        try:
            read_npz(save(path, data))
        except ValueError:
            refused += 1
    assert refused > 1000


def test_load_table_refuses(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file or directory .*none\.csv"):
        load_table(tmp_path / "none.csv")
    with pytest.raises(ValueError, match=r"one of \.csv.*\.parquet, \.npz, or a directory"):
        load_table(save(tmp_path / "data.xlsx", b"x"))
    with pytest.raises(FileNotFoundError, match="MNIST-like"):
        load_table(tmp_path)


@pytest.mark.parametrize("make", [make_moons, make_spirals, make_blobs])
def test_generated_sets(make):
    X, y = make(301, seed=4)
    assert X.dtype == np.float32 and y.dtype == np.int64 and X.shape == (301, 2)
    counts = np.bincount(y)
    assert np.ptp(counts) <= 1 and (X.std(axis=0) > 0.1).all()
    assert 60 < (np.diff(y) != 0).sum() < 250  # shuffled: neither sorted by class nor in turns
    for again, first in zip(make(301, seed=4), (X, y), strict=True):
        np.testing.assert_array_equal(again, first)
    assert not np.array_equal(make(301, seed=5)[0], X)
    with pytest.raises(ValueError, match="noise"):
        make(10, noise=-1.0)
    with pytest.raises(ValueError, match="n must be at least"):
        make(1)


def test_generated_shapes():
    X, y = make_moons(500, noise=0.0)
    center = np.where(y[:, None] == 0, [0.0, 0.0], [1.0, 0.5])
    np.testing.assert_allclose(np.hypot(*(X - center).T), 1, rtol=1e-5)
    assert ((X - center)[:, 1] * np.where(y == 0, 1, -1) >= -1e-6).all()
    X, y = make_spirals(300, 3, noise=0.0)
    radius = np.hypot(*X.T)
    turned = np.arctan2(X[:, 1], X[:, 0]) - 3 * np.pi * radius - 2 * np.pi * y / 3
    np.testing.assert_allclose(np.cos(turned), 1, atol=1e-5)
    assert radius.max() <= 1 and set(y) == {0, 1, 2}
    X, y = make_blobs(4000, 4, features=7, noise=0.5)
    assert X.shape == (4000, 7)
    for label in range(4):
        np.testing.assert_allclose(X[y == label].std(axis=0), 0.5, rtol=0.1)
