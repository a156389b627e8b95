"""Fused linear layers against the NumPy twin, forward and backward."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from dnncore import _kernels, kernels, reference
from dnncore.gradcheck import check_gradient

DTYPES = [np.float32, np.float64]
KEEPS_Z = {"gelu", "gelu_tanh", "silu", "mish", "hard_swish"}
SIZES = [(1, 1, 1), (7, 5, 3), (33, 17, 40), (30, 64, 65), (3, 1500, 4), (1500, 3, 4)]


@pytest.fixture(autouse=True, scope="module")
def one_blas_thread():
    with threadpool_limits(1, "blas"):
        yield


def layer(rows, n_in, n_out, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, n_in))
    w = rng.standard_normal((n_in, n_out)) / max(n_in, 1) ** 0.5
    b = rng.standard_normal(n_out)
    da = rng.standard_normal((rows, n_out))
    arrays = [v.astype(dtype) for v in (x, w, b, da)]
    for array in arrays:
        array.flags.writeable = False
    return arrays


def in_double(*arrays):
    return [v.astype(np.float64) for v in arrays]


def assert_near(got, want, dtype, terms):
    """Allow for the roundings of a sum of so many terms of the order of 1."""
    assert got.dtype == dtype
    assert got.shape == want.shape
    scale = max(1.0, np.abs(want).max(initial=0.0))
    assert np.abs(got - want).max(initial=0.0) <= 8 * np.finfo(dtype).eps * scale * (terms + 8)


def no_kinks(z):
    """Whether no pre-activation is so near a kink that rounding could cross it."""
    return all(np.abs(z - kink).min(initial=1.0) > 1e-5 for kink in (-3, -1, 0, 1, 3))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", kernels.ACTIVATIONS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_layer_is_the_twins(activation, size, dtype):
    rows, n_in, n_out = size
    x, w, b, da = layer(*size, dtype)
    exact_a, exact_z = reference.linear_forward(*in_double(x, w, b), activation)
    assert no_kinks(exact_z)

    a, z = kernels.linear_forward(x, w, b, activation)
    assert_near(a, exact_a, dtype, n_in**0.5)
    assert (z is not None) == (activation in KEEPS_Z)
    if z is not None:
        assert_near(z, exact_z, dtype, n_in**0.5)
    again, kept = kernels.linear_forward(x, w, b, activation, z_out=np.empty_like(a))
    assert_near(kept, exact_z, dtype, n_in**0.5)
    assert_near(again, exact_a, dtype, n_in**0.5)

    exact = reference.linear_backward(*in_double(da, x, w), exact_z, exact_a, activation)
    got = kernels.linear_backward(da, x, w, z, None if z is not None else a, activation)
    for name, terms in [("dx", n_out), ("dw", rows), ("db", rows)]:
        place = ("dx", "dw", "db").index(name)
        assert_near(got[place], exact[place], dtype, terms**0.5 + n_in**0.5)


@pytest.mark.parametrize("activation", kernels.ACTIVATIONS)
def test_gradients_by_finite_differences(activation):
    x, w, b, da = layer(4, 3, 5, np.float64, seed=3)
    _, z = reference.linear_forward(x, w, b, activation)
    assert all(np.abs(z - kink).min() > 5e-3 for kink in (-3, -1, 0, 1, 3))

    def gradients(x, w, b):
        a, z = kernels.linear_forward(x, w, b, activation)
        return kernels.linear_backward(da, x, w, z, a, activation)

    def value(x, w, b):
        return float((da * kernels.linear_forward(x, w, b, activation)[0]).sum())

    check_gradient(lambda v: value(v, w, b), lambda v: gradients(v, w, b)[0], x)
    check_gradient(lambda v: value(x, v, b), lambda v: gradients(x, v, b)[1], w)
    check_gradient(lambda v: value(x, w, v), lambda v: gradients(x, w, v)[2], b)


@pytest.mark.parametrize("path", ["own", "blas"])
@pytest.mark.parametrize("activation", ["identity", "relu", "gelu", "softmax"])
def test_both_paths_agree(activation, path):
    x, w, b, da = layer(37, 21, 35, np.float64)
    a, z = reference.linear_forward(x, w, b, activation)
    _kernels._force_matmul_path(path)
    try:
        np.testing.assert_allclose(
            kernels.linear_forward(x, w, b, activation)[0], a, rtol=1e-12, atol=1e-14
        )
        got = kernels.linear_backward(da, x, w, z, a, activation)
    finally:
        _kernels._force_matmul_path(None)
    for ours, twin in zip(got, reference.linear_backward(da, x, w, z, a, activation), strict=True):
        np.testing.assert_allclose(ours, twin, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("activation", kernels.ACTIVATIONS)
def test_writes_where_it_is_told_and_nowhere_else(activation):
    x, w, b, da = layer(9, 6, 7, np.float32)
    a, z = kernels.linear_forward(x, w, b, activation, z_out=np.empty((9, 7), np.float32))
    outputs = [np.full_like(a, np.nan) for _ in range(2)]
    got = kernels.linear_forward(x, w, b, activation, *outputs)
    assert got[0] is outputs[0]
    assert got[1] is outputs[1]
    np.testing.assert_array_equal(got, [a, z])
    # For prediction z need not be kept: it is overwritten where it stands.
    shared = np.full_like(a, np.nan)
    got = kernels.linear_forward(x, w, b, activation, shared, z_out=shared)
    assert got[0] is got[1] is shared
    np.testing.assert_array_equal(shared, a)

    expected = kernels.linear_backward(da, x, w, z, a, activation)
    held = {name: np.full_like(v, np.nan) for name, v in [("dx_out", x), ("dw_out", w)]}
    held["db_out"] = np.full_like(b, np.nan)
    held["dz_out"] = da.copy()  # dz may take the place of da
    got = kernels.linear_backward(held["dz_out"], x, w, z, a, activation, **held)
    for value, (name, out), want in zip(got, list(held.items())[:3], expected, strict=True):
        assert value is out, name
        np.testing.assert_array_equal(value, want)
    np.testing.assert_array_equal(held["dz_out"], kernels.activation_backward(activation, da, z, a))

    without = kernels.linear_backward(da, x, w, z, a, activation, need_dx=False)
    assert without[0] is None
    np.testing.assert_array_equal(without[1], expected[1])
    np.testing.assert_array_equal(without[2], expected[2])


@pytest.mark.parametrize("activation", kernels.ACTIVATIONS)
@pytest.mark.parametrize("size", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)])
def test_sizes_of_zero(activation, size):
    rows, n_in, n_out = size
    x, w, b, da = layer(*size, np.float64)
    a, z = kernels.linear_forward(x, w, b, activation)
    assert a.shape == (rows, n_out)
    if n_in == 0 and a.size:  # a sum of nothing, plus the bias
        want = reference.activation_forward(activation, np.tile(b, (rows, 1)))
        np.testing.assert_allclose(a, want, rtol=1e-13)
    dx, dw, db = kernels.linear_backward(da, x, w, z, a, activation)
    assert (dx.shape, dw.shape, db.shape) == (x.shape, w.shape, b.shape)
    if rows == 0:
        assert not dw.any()
        assert not db.any()
    if n_out == 0:
        assert not dx.any()


X, W, B, D = (v.copy() for v in layer(3, 4, 5, np.float32))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": X[0]}, ValueError, r"^x must have shape \(rows, columns\); got \(4,\)"),
        ({"x": X.tolist()}, TypeError, "^x must be a NumPy array; got list"),
        ({"w": W.T}, ValueError, "^w must be C-contiguous"),
        ({"w": W.T.copy()}, ValueError, r"^w must have shape \(4, columns\); got \(5, 4\)"),
        ({"w": W.astype(float)}, TypeError, "^w must be float32"),
        ({"b": B[:4]}, ValueError, r"^b must have shape \(5,\); got \(4,\)"),
        ({"b": B[np.newaxis]}, ValueError, r"^b must have shape \(5,\); got \(1, 5\)"),
        ({"b": None}, TypeError, "^b must be a NumPy array; got NoneType"),
        ({"activation": "swish"}, ValueError, "^activation must be one of 'identity'.*'swish'"),
        ({"out": D[:2]}, ValueError, r"^out must have shape \(3, 5\); got \(2, 5\)"),
        ({"z_out": D.astype(float)}, TypeError, "^z_out must be float32"),
    ],
)
def test_bad_forward_calls_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        kernels.linear_forward(**({"x": X, "w": W, "b": B} | change))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"da": D[:2]}, ValueError, r"^x must have shape \(2, columns\); got \(3, 4\)"),
        ({"x": X[:, :3].copy()}, ValueError, r"^w must have shape \(3, 5\); got \(4, 5\)"),
        ({"w": W.T.copy()}, ValueError, r"^w must have shape \(4, 5\); got \(5, 4\)"),
        ({"a": D[:2]}, ValueError, r"^a must have shape \(3, 5\)"),
        ({"z": D.astype(float)}, TypeError, "^z must be float32"),
        ({"a": None}, ValueError, "^a is None, but the derivative of 'tanh' is taken from a"),
        ({"activation": "silu", "z": None}, ValueError, "^z is None, but .*'silu'.* from z"),
        ({"activation": 0}, ValueError, "^activation must be one of"),
        ({"dx_out": D}, ValueError, r"^dx_out must have shape \(3, 4\)"),
        ({"dx_out": X.copy(), "need_dx": False}, ValueError, "^dx_out is given but need_dx"),
        ({"dw_out": W.T.copy()}, ValueError, r"^dw_out must have shape \(4, 5\)"),
        ({"db_out": D[:1]}, ValueError, r"^db_out must have shape \(5,\); got \(1, 5\)"),
        ({"db_out": np.ones(5)}, TypeError, "^db_out must be float32"),
        ({"dz_out": X.copy()}, ValueError, r"^dz_out must have shape \(3, 5\)"),
        ({"dx_out": X}, ValueError, "^dx_out shares memory with x,"),
        ({"dw_out": W}, ValueError, "^dw_out shares memory with w,"),
        ({"db_out": D[1]}, ValueError, "^db_out shares memory with"),
    ],
)
def test_bad_backward_calls_are_refused(change, error, message):
    arguments = {"da": D, "x": X, "w": W, "z": None, "a": D, "activation": "tanh"}
    with pytest.raises(error, match=message):
        kernels.linear_backward(**(arguments | change))


def test_outputs_may_not_share_memory_with_other_arrays():
    square = [np.ones((4, 4)) for _ in range(3)]
    x, w, block = square
    b = np.ones(4)
    for name, other in [("x", x), ("w", w)]:
        with pytest.raises(ValueError, match=f"^out shares memory with {name},"):
            kernels.linear_forward(x, w, b, out=other)
        with pytest.raises(ValueError, match=f"^z_out shares memory with {name},"):
            kernels.linear_forward(x, w, b, z_out=other)
    with pytest.raises(ValueError, match="^out shares memory with b,"):
        kernels.linear_forward(x, w, block[0], out=block)
    tall = np.ones((5, 4))
    with pytest.raises(ValueError, match="^z_out shares memory with out,"):
        kernels.linear_forward(x, w, b, out=tall[:4], z_out=tall[1:])
    with pytest.raises(ValueError, match="^dx_out shares memory with dw_out,"):
        kernels.linear_backward(block, x, w, None, None, dx_out=tall[:4], dw_out=tall[1:])
    with pytest.raises(ValueError, match="^dw_out shares memory with dz_out,"):
        kernels.linear_backward(block, x, w, None, None, dw_out=tall[:4], dz_out=tall[:4])
    with pytest.raises(ValueError, match="^dz_out shares memory with x,"):
        kernels.linear_backward(block, x, w, None, None, dz_out=x)
    frozen = np.ones(4)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="^db_out is read-only"):
        kernels.linear_backward(block, x, w, None, None, db_out=frozen)
