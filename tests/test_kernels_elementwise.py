"""Activations and their derivatives against the NumPy twin, and what the kernels refuse."""

import pickle

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided
from scipy.special import ndtr

from dnncore import kernels, reference

DTYPES = [np.float32, np.float64]
SHAPES = [(), (0,), (1,), (7,), (0, 5), (3, 0), (1, 1), (5, 1), (33, 17), (2, 3, 5), (129, 301)]
FROM_INPUT = {"gelu", "gelu_tanh", "silu", "mish", "hard_swish"}
MATH = ["exp", "tanh", "erf", "sigmoid", "softplus"]
KINKS = [-3.0, -1.0, -0.0, 0.0, 1.0, 3.0]


def draw(shape, dtype, seed=0, spread=4.0):
    return np.asarray(spread * np.random.default_rng(seed).standard_normal(shape), dtype)


def freeze(*arrays):
    for array in arrays:
        array.flags.writeable = False
    return arrays if len(arrays) > 1 else arrays[0]


def misaligned(shape, dtype):
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(nbytes + 1, np.uint8)
    return raw[1:].view(dtype).reshape(shape)


def assert_near(got, want, z, dtype, units=8):
    """Compare to within `units` roundings of numbers as large as z."""
    assert got.dtype == dtype
    assert got.shape == want.shape
    size = np.maximum(1.0, np.abs(z.astype(np.float64)))
    error = np.abs(got.astype(np.float64) - want) / (np.finfo(dtype).eps * size)
    assert np.max(error, initial=0.0) <= units


def twin_forward(name, z):
    return reference.activation_forward(name, z.astype(np.float64)) if z.size else z.copy()


def twin_backward(name, da, z):
    if not z.size:
        return z.copy()
    z = z.astype(np.float64)
    return reference.activation_backward(
        name, da.astype(np.float64), z, reference.activation_forward(name, z)
    )


def test_every_activation_of_the_reference_is_compiled():
    assert set(kernels.ACTIVATIONS) == set(reference.ACTIVATIONS)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", kernels.ACTIVATIONS)
class TestActivation:
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_forward_and_backward_are_the_twins(self, name, dtype, shape):
        if shape == () and name == "softmax":
            shape = (1,)  # the reference needs an axis
        z, da = freeze(draw(shape, dtype), draw(shape, dtype, 1, 1.0))
        a = kernels.activation_forward(name, z)
        assert_near(a, twin_forward(name, z), z, dtype)
        dz = kernels.activation_backward(name, da, z, freeze(a))
        assert_near(dz, twin_backward(name, da, z), z, dtype, units=32)

    def test_extremes_saturate(self, name, dtype):
        z = np.array([-1e4, -700.0, -90.0, -17.0, 0.0, 17.0, 90.0, 700.0, 1e4], dtype)
        a = kernels.activation_forward(name, z)
        assert np.isfinite(a).all()
        assert_near(a, twin_forward(name, z), z, dtype)
        da = np.ones_like(z)
        dz = kernels.activation_backward(name, da, z, a)
        assert np.isfinite(dz).all()
        assert_near(dz, twin_backward(name, da, z), np.ones_like(z), dtype, units=32)

    def test_kinks_follow_the_convention(self, name, dtype):
        z = np.array(KINKS, dtype)[:, np.newaxis]  # a row each, for softmax
        a = kernels.activation_forward(name, z)
        dz = kernels.activation_backward(name, np.ones_like(z), z, a)
        assert_near(dz, twin_backward(name, np.ones_like(z), z), z, dtype)

    def test_nan_stays_nan_and_stays_where_it_is(self, name, dtype):
        z = draw((5, 9), dtype)
        clean = kernels.activation_forward(name, z)
        z[2, 4] = np.nan
        a = kernels.activation_forward(name, z)
        where = np.isnan(a)
        expected = np.zeros((5, 9), bool)
        expected[2, slice(None) if name == "softmax" else 4] = True
        np.testing.assert_array_equal(where, expected)
        np.testing.assert_array_equal(a[~where], clean[~where])

    def test_writes_where_it_is_told(self, name, dtype):
        z = draw((6, 21), dtype)
        da = draw((6, 21), dtype, 1)
        a = kernels.activation_forward(name, z)
        out = np.full_like(z, np.nan)
        assert kernels.activation_forward(name, z, out=out) is out
        np.testing.assert_array_equal(out, a)
        assert kernels.activation_forward(name, out, out) is out  # in place: no check of its value
        in_place = z.copy()
        kernels.activation_forward(name, in_place, in_place)
        np.testing.assert_array_equal(in_place, a)

        dz = kernels.activation_backward(name, da, z, a)
        for place in range(3):
            arguments = [da.copy(), z.copy(), a.copy()]
            target = arguments[place]
            assert kernels.activation_backward(name, *arguments, out=target) is target
            np.testing.assert_array_equal(target, dz)

    def test_backward_does_without_what_it_does_not_need(self, name, dtype):
        z, da = draw((4, 5), dtype), draw((4, 5), dtype, 1)
        a = kernels.activation_forward(name, z)
        dz = kernels.activation_backward(name, da, z, a)
        needed = "z" if name in FROM_INPUT else "a"
        kept = {"z": z, "a": None} if needed == "z" else {"z": None, "a": a}
        np.testing.assert_array_equal(kernels.activation_backward(name, da, **kept), dz)
        if name != "identity":
            other = {"z": None, "a": a} if needed == "z" else {"z": z, "a": None}
            with pytest.raises(ValueError, match=f"{needed} is None.*{name}.*taken from {needed}"):
                kernels.activation_backward(name, da, **other)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "hardtanh"])
def test_piecewise_linear_derivatives_at_nan_are_those_of_the_left_or_outer_piece(name):
    nan = np.array([np.nan])
    slope = {"relu": 0.0, "leaky_relu": 0.01, "hardtanh": 0.0}[name]
    assert kernels.activation_backward(name, np.ones(1), nan, nan) == slope


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_rows_are_distributions(dtype):
    a = kernels.activation_forward("softmax", draw((2, 50, 37), dtype, spread=30.0))
    assert (a >= 0).all()
    np.testing.assert_allclose(a.sum(axis=-1), 1.0, rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MATH)
def test_math_functions_take_any_shape_and_write_in_place(name, dtype):
    function = getattr(kernels, name)
    flat = function(draw((129 * 301,), dtype))
    for shape in SHAPES:
        x = freeze(draw(shape, dtype))
        y = function(x)
        assert y.dtype == dtype
        assert y.shape == shape
        out = x.copy()
        assert function(out, out=out) is out
        np.testing.assert_array_equal(out, y)
    # A tail of a vector is computed like its body.
    for n in range(70):
        np.testing.assert_array_equal(function(draw((129 * 301,), dtype)[:n].copy()), flat[:n])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_all_finite(dtype, bad):
    limits = np.finfo(dtype)
    for n in range(1, 70):
        x = np.full(n, limits.max)
        x[::2] = limits.min
        assert kernels.all_finite(x) is True
        x[n // 2] = bad
        assert kernels.all_finite(x) is False
    assert kernels.all_finite(np.empty((0, 3), dtype)) is True


# What is refused, and in which words

ONE = np.ones((2, 4), np.float32)
BAD_ARRAYS = [
    ([[1.0]], TypeError, "NumPy array; got list"),
    (None, TypeError, "NumPy array; got NoneType"),
    (1.0, TypeError, "NumPy array; got float"),
    (np.float32(1.0), TypeError, "NumPy array; got float32"),
    (np.ones((2, 4), int), TypeError, "float32 or float64; got int64"),
    (np.ones((2, 4), bool), TypeError, "float32 or float64; got bool"),
    (np.ones((2, 4), np.float16), TypeError, "float32 or float64; got float16"),
    (np.ones((2, 4), np.longdouble), TypeError, "float32 or float64; got"),
    (np.ones((2, 4), np.complex64), TypeError, "float32 or float64; got complex64"),
    (np.ones((2, 4), object), TypeError, "float32 or float64; got object"),
    (np.ones((2, 4), "M8[s]"), TypeError, "float32 or float64; got datetime64"),
    (np.array([["a"]]), TypeError, "float32 or float64; got <U1"),
    (np.ones((2, 4), ">f4"), TypeError, "foreign byte order"),
    (np.zeros((2, 4), [("x", "f4")]), TypeError, "float32 or float64; got"),
    (np.ones((4, 2), np.float32).T, ValueError, "C-contiguous.*requirements"),
    (np.ones((2, 8), np.float32)[:, ::2], ValueError, "C-contiguous.*strides"),
    (as_strided(np.ones(1, np.float32), (2, 4), (0, 0)), ValueError, "C-contiguous"),
    (misaligned((2, 4), np.float32), ValueError, "aligned"),
]


@pytest.mark.parametrize(("bad", "error", "message"), BAD_ARRAYS)
def test_bad_inputs_are_refused_by_name(bad, error, message):
    with pytest.raises(error, match="^z must be .*" + message):
        kernels.activation_forward("relu", bad)
    with pytest.raises(error, match="^x must be .*" + message):
        kernels.exp(bad)
    with pytest.raises(error, match="^x must be .*" + message):
        kernels.all_finite(bad)
    with pytest.raises(error, match="^da must be .*" + message):
        kernels.activation_backward("relu", bad, ONE, ONE)
    if bad is not None:
        with pytest.raises(error, match="^a must be .*" + message):
            kernels.activation_backward("relu", ONE, ONE, bad)
        with pytest.raises(error, match="^out must be .*" + message):
            kernels.activation_forward("relu", ONE, out=bad)


def test_bad_outputs_are_refused():
    with pytest.raises(ValueError, match=r"^out is read-only"):
        kernels.tanh(ONE, freeze(ONE.copy()))
    with pytest.raises(ValueError, match=r"^out must have shape \(2, 4\); got \(8,\)"):
        kernels.tanh(ONE, np.empty(8, np.float32))
    with pytest.raises(TypeError, match=r"^out must be float32, .* first array; got float64"):
        kernels.tanh(ONE, np.empty((2, 4)))
    with pytest.raises(ValueError, match=r"^a must have shape \(2, 4\); got \(4, 2\)"):
        kernels.activation_backward("relu", ONE, ONE, np.ones((4, 2), np.float32))


def test_partial_overlap_is_refused_and_neighbours_are_not():
    x = np.linspace(-1, 1, 11)
    for shift in (1, 3, -1):
        source, out = (x[: 11 - shift], x[shift:]) if shift > 0 else (x[1:], x[:-1])
        with pytest.raises(ValueError, match="^out shares memory with x"):
            kernels.exp(source, out)
        with pytest.raises(ValueError, match="^out shares memory with z"):
            kernels.activation_forward("relu", source, out)
        with pytest.raises(ValueError, match="^out shares memory with a"):
            kernels.activation_backward("relu", source.copy(), source.copy(), source, out)
    kernels.exp(x[:5], x[5:10])
    np.testing.assert_array_equal(x[5:10], kernels.exp(x[:5]))
    kernels.exp(x[:0], x[3:3])


@pytest.mark.parametrize("name", ["Relu", "", None, 3, ["relu"]])
def test_unknown_activations_are_refused_with_the_choices(name):
    with pytest.raises(ValueError, match="activation must be one of 'identity', 'relu'.*got"):
        kernels.activation_forward(name, ONE)
    with pytest.raises(ValueError, match="activation must be one of"):
        kernels.activation_backward(name, ONE, ONE, ONE)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu"])
def test_gates_are_exact_where_they_are_nearly_shut(name, dtype):
    # 1 + erf would cancel there: of -1e-6 hardly a digit would be left in float32.
    z = np.linspace(-9, 0, 5001).astype(dtype)[:-1]
    exact = z.astype(np.longdouble)
    inner = {"gelu": None, "gelu_tanh": np.sqrt(8 / np.pi) * exact * (1 + 0.044715 * exact**2),
             "silu": exact}[name]  # fmt: skip
    gate = ndtr(z.astype(float)) if inner is None else 1 / (1 + np.exp(-inner))
    error = kernels.activation_forward(name, z) / (exact * gate) - 1
    rounded = np.abs(exact if inner is None else inner) ** (2 if inner is None else 1)
    assert np.max(np.abs(error) / (8 + 2 * rounded)) < np.finfo(dtype).eps


def test_subclasses_give_plain_arrays(tmp_path):
    mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=(3, 4))
    assert type(kernels.exp(mapped)) is np.ndarray
    assert kernels.activation_forward(np.str_("relu"), ONE).sum() == 8


def test_functions_are_known_by_their_public_names():
    for name in kernels.__all__:
        member = getattr(kernels, name)
        if callable(member):
            assert member.__name__ == name
            assert member.__doc__
            assert pickle.loads(pickle.dumps(member)) is member
