"""Products that leave out zeros: the bits of those that do not, in every shape and at every end."""

import itertools

import numpy as np
import pytest

from dnncore import _kernels, kernels

DTYPES = [np.float32, np.float64]
# Whose zeros are left out, and how it lies in memory.
FORMS = {
    "rows of a": {"zeros": "a", "transpose_a": False, "transpose_b": False},
    "rows of a, b transposed": {"zeros": "a", "transpose_a": False, "transpose_b": True},
    "columns of a": {"zeros": "a", "transpose_a": True, "transpose_b": False},
    "columns of a, b transposed": {"zeros": "a", "transpose_a": True, "transpose_b": True},
    "columns of b": {"zeros": "b", "transpose_a": True, "transpose_b": False},
}
# Rows, columns and depth: several groups of lines, stripes, chunks and parts of the depth, and what
# is left of each; no vectors to spare, so that the other operand is read where it lies.
SIZES = [
    *((64, 64, 64), (70, 61, 33), (97, 113, 65), (200, 131, 129), (64, 96, 401)),
    *((589, 75, 40), (75, 589, 40), (130, 257, 260)),
]


@pytest.fixture(autouse=True)
def own_kernels():
    _kernels._force_matmul_path("own")
    yield
    _kernels._force_matmul_path(None)


def aligned(array):
    """Copy an array to a place that is a multiple of 64 bytes, NaN before and after it."""
    block = np.full(array.size + 256, np.nan, array.dtype)
    start = (-block.ctypes.data % 64) // array.itemsize + 64
    copy = block[start : start + array.size].reshape(array.shape)
    copy[...] = array
    copy.flags.writeable = False
    return copy


def operands(size, dtype, form, share, seed=0):
    """Return A and B as they are multiplied; a `share` of the elements of one is not zero."""
    rng = np.random.default_rng(seed)
    m, n, k = size
    a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    sparse = a if form["zeros"] == "a" else b
    sparse *= rng.random(sparse.shape) < share
    return a.astype(dtype), b.astype(dtype)


def multiply(a, b, form, **arguments):
    flags = {name: form[name] for name in ("transpose_a", "transpose_b")}
    return kernels.matmul(
        aligned(a.T if flags["transpose_a"] else a),
        aligned(b.T if flags["transpose_b"] else b),
        **flags,
        **arguments,
    )


def by_few_rows(a, b, form, rows=5, **arguments):
    """Return the same a few rows and columns at a time, where zeros are not worth leaving out."""
    out = np.empty((a.shape[0], b.shape[1]), a.dtype)
    held = arguments.pop("out", None)
    for i, j in itertools.product(range(0, len(out), rows), range(0, out.shape[1], 40)):
        part = np.s_[i : i + rows, j : j + 40]
        now = dict(arguments)
        if "bias" in now:
            now["bias"] = now["bias"][part[1]].copy()
        if "gate" in now:
            now["gate"] = now["gate"][part].copy()
        if held is not None:
            now["out"] = held[part].copy()
        out[part] = multiply(a[part[0]], b[:, part[1]], form, **now)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_same_bits_as_with_the_zeros(dtype, form, size):
    for share in (0.5, 0.05, 0.0):
        a, b = operands(size, dtype, form, share)
        got = multiply(a, b, form)
        np.testing.assert_array_equal(got, by_few_rows(a, b, form))
        exact = a.astype(np.float64) @ b.astype(np.float64)
        bound = np.finfo(dtype).eps * (size[2] + 1) * (np.abs(a) @ np.abs(b) + 1)
        assert (np.abs(got - exact) <= bound).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("size", [(70, 77, 65), (64, 128, 64), (200, 131, 450)], ids=str)
def test_every_end_of_a_product(dtype, form, size):
    a, b = operands(size, dtype, form, 0.4)
    rng = np.random.default_rng(1)
    bias = rng.standard_normal(size[1]).astype(dtype)
    held, gate = (rng.standard_normal(size[:2]).astype(dtype) for _ in range(2))
    for arguments in (
        {"bias": bias},
        {"relu": True},
        {"bias": bias, "relu": True},
        {"gate": gate},
        {"bias": bias, "gate": gate},
        {"out": held, "accumulate": True},
        {"out": held, "accumulate": True, "relu": True},
        {"out": held, "accumulate": True, "gate": gate},
    ):
        want = by_few_rows(a, b, form, **arguments)
        if "out" in arguments:
            arguments = {**arguments, "out": held.copy()}
        np.testing.assert_array_equal(multiply(a, b, form, **arguments), want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_zeros_are_left_out(dtype, form):
    # The only sign of it in a result: nobody multiplies them by infinity.
    a, b = operands((130, 140, 96), dtype, form, 0.5)
    other = b if form["zeros"] == "a" else a.T
    (a.T if form["zeros"] == "a" else b)[17] = 0
    other[17] = np.inf
    assert np.isfinite(multiply(a, b, form)).all()
    assert np.isnan(by_few_rows(a, b, form)).all()
    # An operand with few zeros is multiplied as a whole.
    a, b = operands((130, 140, 96), dtype, form, 0.9)
    other = b if form["zeros"] == "a" else a.T
    (a.T if form["zeros"] == "a" else b)[17] = 0
    other[17] = np.inf
    assert np.isnan(multiply(a, b, form)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sparser", ["a", "b"])
def test_of_two_operands_with_zeros_the_one_with_more_is_taken(dtype, sparser):
    form = FORMS["columns of b"]
    a, b = operands((130, 140, 96), dtype, form, 0.5)
    a *= np.random.default_rng(2).random(a.shape) < 0.5
    rows = {"a": a.T, "b": b}
    more = rows.pop(sparser)
    more *= np.random.default_rng(3).random(more.shape) < 0.3
    more[17] = 0
    (other,) = rows.values()
    other[17] = np.inf
    assert np.isfinite(multiply(a, b, form)).all()
    other[17] = 0
    more[17] = np.inf
    assert np.isnan(multiply(a, b, form)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_nan_is_not_left_out(dtype, form):
    a, b = operands((130, 140, 96), dtype, form, 0.5)
    if form["zeros"] == "a":
        a[3, 50] = np.nan
        missing = np.s_[3, :]
    else:
        b[50, 3] = np.nan
        missing = np.s_[:, 3]
    got = multiply(a, b, form)
    assert np.isnan(got[missing]).all()
    got[missing] = 0
    assert np.isfinite(got).all()
