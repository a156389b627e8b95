"""Matrix products against float64: every remainder, both paths, every epilogue."""

import itertools

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from dnncore import _kernels, kernels

DTYPES = [np.float32, np.float64]
TRANSPOSES = list(itertools.product([False, True], repeat=2))
# Around the block heights and vector lengths of every SIMD level.
REMAINDERS = [1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 15, 16, 17, 23, 31, 32, 33, 40]


@pytest.fixture(autouse=True, scope="module")
def one_blas_thread():
    with threadpool_limits(1, "blas"):  # hundreds of tiny products: threads only get in the way
        yield


@pytest.fixture(params=["own", "blas"])
def path(request):
    _kernels._force_matmul_path(request.param)
    yield request.param
    _kernels._force_matmul_path(None)


def draw(shape, dtype, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def guarded(array, fill=np.nan):
    """Copy an array into the middle of a block of NaN: a read outside it would show."""
    block = np.full(array.size + 128, fill, array.dtype)
    copy = block[64 : 64 + array.size].reshape(array.shape)
    copy[...] = array
    return copy


def operands(m, n, k, dtype, transpose_a=False, transpose_b=False, seed=0):
    a = guarded(draw((k, m) if transpose_a else (m, k), dtype, seed))
    b = guarded(draw((n, k) if transpose_b else (k, n), dtype, seed + 1))
    a.flags.writeable = b.flags.writeable = False
    return a, b


def exact(a, b, transpose_a=False, transpose_b=False):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a.T if transpose_a else a) @ (b.T if transpose_b else b)


def assert_near(got, want, a, b, transpose_a=False, transpose_b=False):
    """Hold the error to depth + 1 roundings of the sum of absolute products."""
    eps = np.finfo(got.dtype).eps
    depth = a.shape[0 if transpose_a else 1]
    size = exact(np.abs(a), np.abs(b), transpose_a, transpose_b)
    assert (np.abs(got - want) <= eps * (depth + 1) * (size + 10)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("transpose_a", "transpose_b"), TRANSPOSES)
def test_every_remainder(dtype, transpose_a, transpose_b):
    flags = {"transpose_a": transpose_a, "transpose_b": transpose_b}
    sizes = range(1, 41) if not (transpose_a or transpose_b) else REMAINDERS
    for k in sizes:
        a, b = operands(40, 40, k, dtype, **flags)
        whole = kernels.matmul(a, b, **flags)
        assert_near(whole, exact(a, b, **flags), a, b, **flags)
        b_column = guarded(b[:1] if transpose_b else b[:, :1])
        column = kernels.matmul(a, b_column, **flags)
        assert_near(column, exact(a, b_column, **flags), a, b_column, **flags)
        parts_a = {m: guarded(a[:, :m] if transpose_a else a[:m]) for m in sizes}
        parts_b = {n: guarded(b[:n] if transpose_b else b[:, :n]) for n in sizes}
        for m, n in itertools.product(sizes, sizes):
            block = np.full(m * n + 128, -7.0, dtype)
            out = block[64 : 64 + m * n].reshape(m, n)
            kernels.matmul(parts_a[m], parts_b[n], out=out, **flags)
            # An element is the same sum in the same order, whatever block it falls into; a
            # product with one column has an order of its own.
            same = column if n == 1 else whole
            assert np.array_equal(out, same[:m, :n]), (m, n, k)
            assert (block[:64] == -7).all()
            assert (block[64 + m * n :] == -7).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("transpose_a", "transpose_b"), TRANSPOSES)
@pytest.mark.parametrize("size", [(1, 1, 1), (1, 50, 7), (50, 1, 7), (5, 70, 1), (61, 131, 67)])
def test_both_paths(path, dtype, transpose_a, transpose_b, size):
    flags = {"transpose_a": transpose_a, "transpose_b": transpose_b}
    a, b = operands(*size, dtype, **flags)
    want = exact(a, b, **flags)
    out = np.full(size[:2], np.nan, dtype)  # what it held must not matter, even NaN
    assert kernels.matmul(a, b, out=out, **flags) is out
    assert_near(out, want, a, b, **flags)


@pytest.mark.parametrize("dtype", DTYPES)
# 256 steps of depth are summed before the sums go to memory and back.
@pytest.mark.parametrize("depth", [1, 20, 255, 256, 257, 513, 1025])
@pytest.mark.parametrize(("transpose_a", "transpose_b"), TRANSPOSES)
def test_epilogues(path, dtype, depth, transpose_a, transpose_b):
    flags = {"transpose_a": transpose_a, "transpose_b": transpose_b}
    for m, n in [(3, 5), (26, 33), (29, 64)]:
        a, b = operands(m, n, depth, dtype, **flags)
        bias = guarded(draw(n, dtype, 3))
        held = draw((m, n), dtype, 4)
        gate = guarded(draw((m, n), dtype, 5).clip(min=0))
        gate[0, 0] = -0.0
        product = exact(a, b, **flags)

        def check(want, a=a, b=b, **arguments):
            got = kernels.matmul(a, b, **flags, **arguments)
            assert_near(got, want, a, b, **flags)

        check(product + bias, bias=bias)
        check(product + held, out=held.copy(), accumulate=True)
        for extra, base in [({}, product), ({"bias": bias}, product + bias)]:
            check(np.maximum(base, 0), relu=True, **extra)
            check(np.where(gate > 0, base, 0), gate=gate, **extra)
        check(np.maximum(product + held, 0), out=held.copy(), accumulate=True, relu=True)
        gated = kernels.matmul(a, b, out=held.copy(), accumulate=True, gate=gate, **flags)
        assert_near(gated, np.where(gate > 0, product + held, 0), a, b, **flags)
        assert (gated[gate <= 0] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("transpose_a", "transpose_b"), TRANSPOSES)
# B is packed for 48 rows and more, or 12 to 24 if it has over 512 KB; A for 256 columns and more,
# 264 rows at a time. Up to 3 rows take eight vectors of columns at a time.
@pytest.mark.parametrize(
    "size",
    [
        (47, 300, 80),
        (48, 255, 80),
        (49, 256, 65),
        (50, 256, 65),
        (1, 300, 80),
        (2, 300, 520),
        (3, 300, 80),
        (4, 300, 80),
        (264, 257, 3),
        (265, 300, 256),
        (541,) * 3,
        (12, 260, 520),
        (25, 260, 520),
        # Strides of 4 KB: A is packed from 64 columns on, B from 12 rows on.
        (1024, 70, 33),
        (13, 1024, 20),
        # Depth 1 and 2 go by rows.
        (70, 300, 1),
        (70, 300, 2),
    ],
)
def test_large_operands_that_are_packed(dtype, transpose_a, transpose_b, size):
    flags = {"transpose_a": transpose_a, "transpose_b": transpose_b}
    m, n, k = size
    a, b = operands(m, n, k, dtype, **flags)
    want = exact(a, b, **flags)
    _kernels._force_matmul_path("own")
    try:
        whole = kernels.matmul(a, b, **flags)
        assert_near(whole, want, a, b, **flags)
        bias, gate = guarded(draw(n, dtype, 3)), guarded(draw((m, n), dtype, 4))
        got = kernels.matmul(a, b, bias=bias, gate=gate, **flags)
        assert_near(got, np.where(gate > 0, want + bias, 0), a, b, **flags)
        held = draw((m, n), dtype, 5)
        got = kernels.matmul(a, b, out=held.copy(), accumulate=True, relu=True, **flags)
        assert_near(got, np.maximum(want + held, 0), a, b, **flags)
        # Unpacked, a corner of the operands gives the same bits.
        part_a = guarded(a[:, -5:] if transpose_a else a[-5:])
        part_b = guarded(b[-19:] if transpose_b else b[:, -19:])
        corner = kernels.matmul(part_a, part_b, **flags)
        np.testing.assert_array_equal(corner, whole[-5:, -19:])
    finally:
        _kernels._force_matmul_path(None)


@pytest.mark.parametrize("dtype", DTYPES)
# From 64 rows and 48 steps on the transpose is computed, 128 of its columns at a time.
@pytest.mark.parametrize("size", [(64, 48), (97, 60), (513, 50), (1024, 130), (70, 401), (64, 801)])
def test_few_columns_and_many_rows(dtype, size):
    m, k = size
    _kernels._force_matmul_path("own")
    try:
        for n in (2, 3, 7, 8, 9, 10, 12, 13):
            a, b = operands(m, n, k, dtype, transpose_a=True)
            held = draw((m, n), dtype, 5)
            for arguments in ({}, {"out": held, "accumulate": True}):
                wanted = exact(a, b, transpose_a=True) + (held if arguments else 0)
                pieces = []
                for i in range(0, m, 21):
                    own = {**arguments, "out": held[i : i + 21].copy()} if arguments else {}
                    pieces.append(
                        kernels.matmul(guarded(a[:, i : i + 21]), b, transpose_a=True, **own)
                    )
                block = np.full(m * n + 128, -7.0, dtype)
                out = block[64 : 64 + m * n].reshape(m, n)
                out[...] = held
                got = kernels.matmul(a, b, transpose_a=True, **{**arguments, "out": out})
                np.testing.assert_array_equal(got, np.concatenate(pieces))
                assert_near(got, wanted, a, b, transpose_a=True)
                assert (block[:64] == -7).all()
                assert (block[64 + m * n :] == -7).all()
    finally:
        _kernels._force_matmul_path(None)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sizes_of_zero(path, dtype):
    def zeros(*shape):
        return np.zeros(shape, dtype)

    bias = np.array([1, -2, 3], dtype)
    assert kernels.matmul(zeros(0, 4), zeros(4, 3), bias=bias).shape == (0, 3)
    assert kernels.matmul(zeros(0, 4), zeros(4, 300)).shape == (0, 300)
    assert kernels.matmul(zeros(2, 4), zeros(4, 0)).shape == (2, 0)
    # A sum of nothing is 0, and the rest still happens.
    for columns in (3, 300):
        got = kernels.matmul(zeros(2, 0), zeros(0, columns))
        np.testing.assert_array_equal(got, np.zeros((2, columns)))
    for flags in ({}, {"relu": True}):
        got = kernels.matmul(zeros(2, 0), zeros(0, 3), bias=bias, **flags)
        want = np.maximum(bias, 0) if flags else bias
        np.testing.assert_array_equal(got, [want, want])
    held = np.ones((2, 3), dtype)
    kernels.matmul(zeros(2, 0), zeros(0, 3), out=held, accumulate=True)
    np.testing.assert_array_equal(held, np.ones((2, 3)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity_go_through(path, dtype):
    for m, n in [(5, 3), (30, 40)]:
        a, b = (x.copy() for x in operands(m, n, 17, dtype))
        a[1, 2], a[2, 0] = np.nan, np.inf
        b[0, 1] = 1
        for flags in ({}, {"relu": True}):
            got = kernels.matmul(a, b, **flags)
            assert np.isnan(got[1]).all()
            assert got[2, 1] == np.inf
            assert np.isfinite(np.delete(got, [1, 2], axis=0)).all()
    # A closed gate is 0 even for NaN: a choice, not a product.
    gate = np.zeros((m, n), dtype)
    np.testing.assert_array_equal(kernels.matmul(a, b, gate=gate), gate)


def test_path_follows_the_size():
    assert kernels.matmul_path(30, 64, 64) == "own"
    always_own = "float32" not in _kernels.describe_paths()  # with AVX-512
    assert kernels.matmul_path(4096, 4096, 4096) == ("own" if always_own else "blas")
    assert kernels.matmul_path(0, 0, 0) == "own"
    # BLAS takes sizes of 32 bits.
    assert kernels.matmul_path(2**31, 1000, 1000) == "own"
    with pytest.raises(ValueError, match="sizes must be at least 0; got -1, 2 and 3"):
        kernels.matmul_path(-1, 2, 3)
    with pytest.raises(TypeError, match="depth must be an integer; got 2.5"):
        kernels.matmul_path(1, 2, 2.5)


A = np.ones((4, 3), np.float32)
B = np.ones((3, 5), np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"a": [[1.0]]}, TypeError, "^a must be a NumPy array; got list"),
        ({"a": A.astype(np.float16)}, TypeError, "^a must be float32 or float64; got float16"),
        ({"b": B.astype(float)}, TypeError, "^b must be float32, the dtype of the first array"),
        ({"a": A[0]}, ValueError, r"^a must have shape \(rows, columns\); got \(3,\)"),
        ({"b": B.T}, ValueError, "^b must be C-contiguous and aligned"),
        ({"b": A}, ValueError, r"^inner sizes must agree; got a \(4, 3\) and b \(4, 3\)"),
        ({"transpose_a": True}, ValueError, r"got a \(4, 3\), transposed, and b \(3, 5\)"),
        ({"transpose_b": True}, ValueError, r"got a \(4, 3\) and b \(3, 5\), transposed"),
        ({"bias": np.ones(4, "f")}, ValueError, r"^bias must have shape \(5,\); got \(4,\)"),
        ({"bias": np.ones((1, 5), "f")}, ValueError, r"^bias must have shape \(5,\)"),
        ({"bias": np.ones(5)}, TypeError, "^bias must be float32"),
        ({"gate": np.ones((5, 4), "f")}, ValueError, r"^gate must have shape \(4, 5\)"),
        ({"gate": np.ones((4, 5))}, TypeError, "^gate must be float32"),
        ({"gate": np.ones((4, 5), "f"), "relu": True}, ValueError, "exclude each other"),
        ({"out": np.ones((5, 4), "f")}, ValueError, r"^out must have shape \(4, 5\)"),
        ({"out": np.ones((4, 5))}, TypeError, "^out must be float32"),
        ({"out": np.ones((4, 10), "f")[:, ::2]}, ValueError, "^out must be C-contiguous"),
        ({"accumulate": True}, ValueError, "accumulate adds to out: pass out, and no bias"),
        (
            {"accumulate": True, "out": np.ones((4, 5), "f"), "bias": np.ones(5, "f")},
            ValueError,
            "accumulate adds to out: pass out, and no bias",
        ),
    ],
)
def test_bad_calls_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        kernels.matmul(**({"a": A, "b": B} | arguments))


def test_results_may_not_overwrite_what_they_come_from():
    square = np.ones((4, 4))
    for name in ("a", "b", "gate"):
        arguments = {"a": np.ones((4, 4)), "b": np.ones((4, 4)), name: square}
        with pytest.raises(ValueError, match=f"^out shares memory with {name},"):
            kernels.matmul(**arguments, out=square)
    with pytest.raises(ValueError, match="^out shares memory with bias,"):
        kernels.matmul(np.ones((4, 4)), np.ones((4, 4)), bias=square[2], out=square)
    frozen = np.ones((4, 4))
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="^out is read-only"):
        kernels.matmul(square, square, out=frozen)


def test_an_operand_may_be_both():
    x = draw((20, 7), np.float64, 9)
    np.testing.assert_allclose(kernels.matmul(x, x, transpose_a=True), x.T @ x, rtol=1e-12)
