"""Kernels of layers, updates and sparse products against their twins, and what they refuse."""

import numpy as np
import pytest
import scipy.sparse

from dnncore import kernels, reference

DTYPES = [np.float32, np.float64]
SHAPES = [(1, 1), (1, 33), (7, 5), (8, 16), (33, 70), (300, 17), (0, 4)]
KEY = 0x9E3779B97F4A7C15


def tolerance(dtype):
    return {"rtol": 2e-5, "atol": 2e-5} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-12}


def normal(*shape, dtype=np.float64, seed=0, frozen=True):
    array = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    array.flags.writeable = not frozen  # inputs may be read-only
    return array


def layer_norm(x, d, gamma, beta, centred=True):
    out, kept, factor = kernels.layer_norm(x, gamma, beta, eps=1e-3, centred=centred)
    dx = kernels.layer_norm_backward(d, kept, factor, gamma, centred=centred)
    return out, kept, factor, dx


def layer_norm_twin(x, d, gamma, beta, centred=True):
    kept, factor = reference.layer_norm(x, 1e-3, centred)
    dx = reference.norm_backward(d * gamma, kept, factor, 1, centred)
    return kept * gamma + beta, kept, factor[:, 0], dx


def batch_norm(x, d, gamma, beta):
    mean, variance = kernels.batch_moments(x)
    out, kept = kernels.batch_norm(x, mean, variance, gamma, beta, eps=1e-3)
    return (
        out,
        kept,
        mean,
        variance,
        *kernels.batch_norm_backward(d, kept, variance, gamma, eps=1e-3),
    )


def batch_norm_twin(x, d, gamma, beta):
    kept, factor, mean, variance = reference.batch_norm(x, 1e-3)
    dx = reference.norm_backward(d * gamma, kept, factor, 0)
    return kept * gamma + beta, kept, mean, variance, dx, (d * kept).sum(0), d.sum(0)


# Functions of x, a gradient or second matrix, and two parameters a column.
BY_COLUMN = {
    "layer_norm": (layer_norm, layer_norm_twin),
    "rms_norm": (
        lambda *arrays: layer_norm(*arrays, centred=False),
        lambda *arrays: layer_norm_twin(*arrays, centred=False),
    ),
    "batch_norm": (batch_norm, batch_norm_twin),
    "prelu": (
        lambda x, d, slope, _: (kernels.prelu(x, slope), kernels.prelu_backward(d, x, slope)),
        lambda x, d, slope, _: (
            reference.prelu(x, slope)[0],
            d * reference.prelu(x, slope)[1],
        ),
    ),
    "columns": (
        lambda x, y, *_: (kernels.column_sums(x), kernels.column_dots(x, y)),
        lambda x, y, *_: (x.sum(axis=0), (x * y).sum(axis=0)),
    ),
    "blend": (
        lambda x, f, weight, _: (kernels.blend(x, f, weight),),
        lambda x, f, weight, _: (reference.blend(x, f, np.ones_like(f), weight)[0],),
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", BY_COLUMN)
def test_layers_are_their_twins(name, shape, dtype):
    kernel, twin = BY_COLUMN[name]
    if shape[0] == 0 and name not in ("prelu", "columns"):
        shape = (2, 4)
    arrays = [normal(*shape, dtype=dtype, seed=i) for i in range(2)]
    arrays += [normal(shape[1], dtype=dtype, seed=i) for i in (2, 3)]
    found = kernel(*arrays)
    expected = twin(*(array.astype(np.float64) for array in arrays))
    for actual, exact in zip(found, expected, strict=True):
        assert actual.dtype == dtype and actual.shape == exact.shape
        np.testing.assert_allclose(actual, exact, **tolerance(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_scale_and_shift_may_be_left_out(dtype):
    x, d = normal(6, 9, dtype=dtype), normal(6, 9, dtype=dtype, seed=1)
    ones, zeros = np.ones(9, dtype), np.zeros(9, dtype)
    moments = kernels.batch_moments(x)
    for gamma, beta in ((None, None), (ones, None), (None, zeros)):
        np.testing.assert_array_equal(
            kernels.layer_norm(x, gamma, beta)[0], kernels.layer_norm(x, ones, zeros)[0]
        )
        np.testing.assert_array_equal(
            kernels.batch_norm(x, *moments, gamma, beta)[0],
            kernels.batch_norm(x, *moments, ones, zeros)[0],
        )
    _, kept, factor = kernels.layer_norm(x)
    np.testing.assert_array_equal(
        kernels.layer_norm_backward(d, kept, factor),
        kernels.layer_norm_backward(d, kept, factor, ones),
    )
    for one, other in zip(
        kernels.batch_norm_backward(d, kept, moments[1]),
        kernels.batch_norm_backward(d, kept, moments[1], ones),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_variance_far_from_zero():
    x = (normal(500, 3) + 1e4).astype(np.float32)
    mean, variance = kernels.batch_moments(x)
    np.testing.assert_allclose(mean, x.astype(float).mean(0), rtol=1e-6)
    np.testing.assert_allclose(variance, x.astype(float).var(0), rtol=1e-4)


NOISE = {
    "dropout": (
        lambda x, out=None: kernels.dropout(x, 0.3, KEY, out=out),
        lambda x: reference.dropout(x, 0.3, KEY),
    ),
    "alpha_dropout": (
        lambda x, out=None: kernels.alpha_dropout(x, 0.3, KEY, out=out),
        lambda x: reference.alpha_dropout(x, 0.3, KEY)[0],
    ),
    "alpha_dropout backward": (
        lambda x, out=None: kernels.alpha_dropout(x, 0.3, KEY, backward=True, out=out),
        lambda x: x * reference.alpha_dropout(x, 0.3, KEY)[1],
    ),
    "gaussian_noise": (
        lambda x, out=None: kernels.gaussian_noise(x, 0.5, KEY, out=out),
        lambda x: reference.gaussian_noise(x, 0.5, KEY),
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (67,), (40, 33), (3, 4, 5)], ids=str)
@pytest.mark.parametrize("name", NOISE)
def test_noise_is_the_twins(name, shape, dtype):
    kernel, twin = NOISE[name]
    x = np.asarray(normal(*shape, dtype=dtype))
    found, expected = kernel(x), twin(x)
    np.testing.assert_allclose(found, expected, **tolerance(dtype))
    np.testing.assert_array_equal(found == 0, np.asarray(expected) == 0)
    inside = x.copy()
    assert kernel(inside, out=inside) is inside
    np.testing.assert_array_equal(inside, found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0,), (1,), (33,), (5, 7), (1003,)], ids=str)
def test_updates_are_the_twins(shape, dtype):
    x, y = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype, seed=1)
    wide = x.astype(float), y.astype(float)
    close = tolerance(dtype)
    assert kernels.sum_squares(x) == pytest.approx(float(np.sum(wide[0] ** 2)), rel=1e-12)
    total = x.copy()
    assert kernels.accumulate(total, y) is None
    np.testing.assert_array_equal(total, x + y)
    shaped = kernels.shape_gradient(x, y, scale=0.5, limit=0.4, l1=0.1)
    expected = reference.clip_value(wide[0] * 0.5, 0.4)
    expected = expected + reference.penalty_gradient(wide[1], 0.1, 0.0)
    np.testing.assert_allclose(shaped, expected, **close)
    np.testing.assert_array_equal(kernels.shape_gradient(x, y), x)
    for count, decay in ((0, 0.9), (3, 0.0), (7, 0.9)):
        mean = x.copy()
        amount = 1 if count == 0 else (1 - decay if decay else 1 / (count + 1))
        kernels.move_towards(mean, y, amount)
        np.testing.assert_allclose(mean, reference.average(*wide, count, decay), **close)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (20, 64), (33, 131)], ids=str)
def test_limit_of_columns_is_the_twins(shape, dtype):
    w = normal(*shape, dtype=dtype, frozen=False)
    expected = reference.limit_columns(w.astype(float), 2.0)
    kernels.limit_columns(w, 2.0)
    np.testing.assert_allclose(w, expected, **tolerance(dtype))


def test_not_a_number_goes_through():
    nan = np.array([np.nan, 3.0])
    assert np.isnan(kernels.shape_gradient(nan, nan, limit=1.0)[0])
    assert np.isnan(kernels.sum_squares(nan))
    assert np.isnan(kernels.layer_norm(nan.reshape(1, 2))[0]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_out", [1, 3, 8, 16, 70])
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_sparse_products_are_the_twins_and_scipys(density, n_out, dtype):
    rng = np.random.default_rng(3)
    X = scipy.sparse.random_array((20, 31), density=density, rng=rng, format="csr", dtype=dtype)
    X.sort_indices()
    csr = X.indptr.astype(np.int64), X.indices.astype(np.int32), X.data
    w, bias = normal(31, n_out, dtype=dtype), normal(n_out, dtype=dtype)
    dz = normal(20, n_out, dtype=dtype)
    z, dw = kernels.sparse_forward(*csr, w, bias), kernels.sparse_gradient(*csr, dz, 31)
    np.testing.assert_allclose(z, X @ w + bias, **tolerance(dtype))
    np.testing.assert_allclose(dw, X.T @ dz, **tolerance(dtype))
    np.testing.assert_allclose(z, reference.sparse_forward(*csr, w, bias), **tolerance(dtype))
    np.testing.assert_allclose(dw, reference.sparse_gradient(*csr, dz, 31), **tolerance(dtype))
    np.testing.assert_allclose(kernels.sparse_forward(*csr, w), X @ w, **tolerance(dtype))


X, D, V = np.ones((4, 3)), np.ones((4, 3)), np.ones(3)
CSR = np.array([0, 1, 2]), np.array([0, 2], np.int32), np.ones(2)
# Calls with arrays by name, of which one at a time is spoiled.
CALLS = {
    "layer_norm": {"x": X, "gamma": V, "beta": V, "out": D, "kept_out": D},
    "layer_norm_backward": {"d": D, "kept": X, "factor": np.ones(4), "gamma": V, "out": D},
    "batch_moments": {"x": X},
    "batch_norm": {"x": X, "mean": V, "variance": V, "gamma": V, "beta": V, "out": D},
    "batch_norm_backward": {"d": D, "kept": X, "variance": V, "gamma": V, "out": D},
    "column_sums": {"x": X},
    "column_dots": {"x": X, "y": D},
    "prelu": {"x": X, "slope": V, "out": D},
    "prelu_backward": {"d": D, "x": X, "slope": V, "out": D},
    "blend": {"x": X, "f": D, "weight": V, "out": D},
    "dropout": {"x": X, "rate": 0.5, "key": 1, "out": D},
    "alpha_dropout": {"x": X, "rate": 0.5, "key": 1, "out": D},
    "gaussian_noise": {"x": X, "deviation": 0.5, "key": 1, "out": D},
    "sum_squares": {"x": X},
    "accumulate": {"x": X, "y": D},
    "shape_gradient": {"g": X, "w": D, "out": D},
    "move_towards": {"average": X, "w": D, "amount": 0.5},
    "limit_columns": {"w": X, "limit": 1.0},
    "sparse_forward": {
        "indptr": CSR[0], "indices": CSR[1], "values": CSR[2], "w": np.ones((3, 4)),
        "bias": np.ones(4), "out": np.ones((2, 4)),
    },
    "sparse_gradient": {
        "indptr": CSR[0], "indices": CSR[1], "values": CSR[2], "dz": np.ones((2, 4)), "n_in": 3,
        "out": np.ones((3, 4)),
    },
}  # fmt: skip
WRITTEN = {"out", "kept_out", "average"}
ARRAYS = [
    (name, argument)
    for name, given in CALLS.items()
    for argument, value in given.items()
    if isinstance(value, np.ndarray) and argument not in ("indptr", "indices")
]


def call(name, **changed):
    own = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in CALLS[name].items()}
    return getattr(kernels, name)(**(own | changed))


@pytest.mark.parametrize(("name", "argument"), ARRAYS)
def test_arrays_that_do_not_fit_are_refused(name, argument):
    call(name)
    good = CALLS[name][argument]
    strided = np.ones((*good.shape[:-1], 2 * good.shape[-1]))[..., ::2]
    with pytest.raises(ValueError, match=f"^{argument} must be C-contiguous"):
        call(name, **{argument: strided})
    with pytest.raises(TypeError, match=f"^{argument} must be a NumPy array; got list"):
        call(name, **{argument: good.tolist()})
    with pytest.raises(TypeError, match=f"^{argument} must be float32 or float64; got int64"):
        call(name, **{argument: good.astype(int)})
    others = [a for n, a in ARRAYS if n == name]
    if others != [argument]:
        with pytest.raises(TypeError, match="must be float(32|64), .*got float(32|64)"):
            call(name, **{argument: good.astype(np.float32)})
        with pytest.raises(ValueError, match="must have shape"):
            call(name, **{argument: np.ones((5, 5, 5))})
    frozen = good.copy()
    frozen.flags.writeable = False
    if argument in WRITTEN or (name, argument) in {("accumulate", "x"), ("limit_columns", "w")}:
        with pytest.raises(ValueError, match=f"^{argument} is read-only"):
            call(name, **{argument: frozen})
    else:
        call(name, **{argument: frozen})


def test_outputs_that_share_memory_are_refused():
    x = np.ones((4, 3))
    for name, changed in {
        "layer_norm": {"x": x, "out": x},
        "batch_norm": {"x": x, "kept_out": x},
        "prelu": {"x": x, "out": x},
        "blend": {"f": x, "out": x},
        "accumulate": {"x": x, "y": x},
        "move_towards": {"average": x, "w": x},
        "shape_gradient": {"w": x, "out": x},
    }.items():
        with pytest.raises(ValueError, match="shares memory"):
            call(name, **changed)
    block = np.ones((5, 3))
    with pytest.raises(ValueError, match="shares memory"):
        call("dropout", x=block[:4], out=block[1:])


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("layer_norm", {"eps": -1.0}, "eps must be at least 0"),
        ("batch_norm", {"eps": np.nan}, "eps must be at least 0"),
        ("batch_moments", {"x": np.ones((0, 3))}, "x must have at least one row"),
        ("batch_norm_backward", {"d": np.ones((0, 3))}, "d must have at least one row"),
        ("dropout", {"rate": 1.0}, "rate must be at least 0 and below 1; got 1"),
        ("alpha_dropout", {"rate": -0.1}, "rate must be at least 0 and below 1"),
        ("gaussian_noise", {"deviation": -1.0}, "deviation must be at least 0"),
        ("shape_gradient", {"limit": np.inf}, "limit must be at least 0 and finite"),
        ("move_towards", {"amount": 1.5}, "amount must be from 0 to 1; got 1.5"),
        ("limit_columns", {"limit": 0.0}, "limit must be positive and finite"),
        ("sparse_forward", {"indices": np.array([0, 3], np.int32)}, "from 0 to 2; row 1"),
        ("sparse_forward", {"indices": np.array([0, -1], np.int32)}, "indices must ascend"),
        ("sparse_gradient", {"indptr": np.array([0, 2, 1])}, "indptr must go from 0"),
        ("sparse_gradient", {"indptr": np.array([0, 3, 2])}, "indptr must not fall"),
        ("sparse_gradient", {"n_in": -1}, "n_in must be at least 0"),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(name, changed, message):
    with pytest.raises(ValueError, match=message):
        call(name, **changed)


def test_keys_and_indices_must_be_integers():
    with pytest.raises(TypeError, match=r"key must be an integer; got 0\.5"):
        call("dropout", key=0.5)
    with pytest.raises(TypeError, match="indices must be an int32 array; got int64"):
        call("sparse_forward", indices=np.array([0, 2]))
