"""Loss kernels: value and gradient against the NumPy twin, stability, and what is refused."""

import numpy as np
import pytest

from dnncore import kernels, reference
from dnncore.gradcheck import GradientError, check_gradient

DTYPES = [np.float32, np.float64]
SHAPES = [(1, 1), (1, 7), (7, 1), (33, 17), (64, 10), (5, 1000), (127, 1), (129, 2), (90, 3)]


def target_for(name, rng, shape, dtype):
    if name.startswith("softmax"):
        y = rng.random(shape) ** 4
        return (y / y.sum(axis=1, keepdims=True)).astype(dtype)
    if name.startswith("binary"):
        return rng.random(shape).astype(dtype)
    if "hinge" in name:
        return rng.integers(2, size=shape).astype(dtype)
    if name in ("poisson", "tweedie"):
        return rng.poisson(3.0, shape).astype(dtype)
    if name == "gamma":
        return (0.1 + rng.gamma(2.0, size=shape)).astype(dtype)
    return (3 * rng.standard_normal(shape)).astype(dtype)


def weights_for(kind, rng, rows, dtype):
    if kind is None:
        return None
    w = rng.random(rows) + 0.1
    if kind == "some zero" and rows > 1:
        w[::2] = 0
    return w.astype(dtype)


def in_double(*arrays):
    return [a.astype(np.float64) if a is not None and a.dtype.kind == "f" else a for a in arrays]


def compare(name, z, y, w, parameter=None):
    """Hold value and gradient to the twin's, computed in double from the same numbers."""
    for array in (z, y, w):
        if array is not None:
            array.flags.writeable = False
    value, gradient = kernels.loss(name, z, y, w, parameter=parameter)
    exact, exact_gradient = reference.loss(name, *in_double(z, y, w), parameter)
    eps = float(np.finfo(z.dtype).eps)
    assert isinstance(value, float)
    assert gradient.dtype == z.dtype
    assert value == pytest.approx(exact, rel=16 * eps, abs=16 * eps)
    # A gradient near 0 is a difference of numbers of the order of the row's share.
    share = np.ones(len(z)) if w is None else w
    share = (share / share.sum() / (1 if name.startswith("softmax") else z.shape[1]))[:, None]
    size = np.maximum(np.abs(exact_gradient).max(axis=1, keepdims=True), share)
    assert (np.abs(gradient - exact_gradient) <= 8 * eps * size).all()
    return value, gradient


def test_every_loss_of_the_reference_is_compiled():
    assert set(kernels.LOSSES) == set(reference.LOSSES)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", kernels.LOSSES)
class TestEveryLoss:
    @pytest.mark.parametrize("weights", [None, "positive", "some zero"])
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_is_the_twins(self, name, dtype, shape, weights):
        rng = np.random.default_rng(4)
        z = (2 * rng.standard_normal(shape)).astype(dtype)
        y = target_for(name, rng, shape, dtype)
        compare(name, z, y, weights_for(weights, rng, shape[0], dtype))

    def test_writes_in_place_or_where_it_is_told(self, name, dtype):
        rng = np.random.default_rng(5)
        z = rng.standard_normal((40, 9)).astype(dtype)
        y = target_for(name, rng, z.shape, dtype)
        w = weights_for("positive", rng, 40, dtype)
        value, gradient = kernels.loss(name, z, y, w)
        out = np.full_like(z, np.nan)
        assert kernels.loss(name, z, y, w, grad_out=out)[1] is out
        np.testing.assert_array_equal(out, gradient)
        again, same = kernels.loss(name, z, y, w, grad_out=z)
        assert same is z
        assert again == value
        np.testing.assert_array_equal(z, gradient)

    def test_a_weight_counts_rows(self, name, dtype):
        rng = np.random.default_rng(6)
        z = rng.standard_normal((4, 3)).astype(dtype)
        y = target_for(name, rng, z.shape, dtype)
        count = np.array([1, 3, 0, 2])
        value, gradient = kernels.loss(name, z, y, count.astype(dtype))
        repeated, _ = kernels.loss(name, z.repeat(count, axis=0), y.repeat(count, axis=0))
        assert value == pytest.approx(repeated, rel=1e-5)
        assert (gradient[2] == 0).all()

    def test_nan_is_not_hidden(self, name, dtype):
        z = np.zeros((5, 4), dtype)
        z[3, 2] = np.nan
        value, gradient = kernels.loss(name, z, np.full((5, 4), 0.25, dtype))
        assert np.isnan(value)
        assert np.isnan(gradient[3, 2])
        assert np.isfinite(np.delete(gradient, 3, axis=0)).all()


@pytest.mark.parametrize("name", kernels.LOSSES)
@pytest.mark.parametrize("labels", [False, True])
def test_gradient_by_finite_differences(name, labels):
    rng = np.random.default_rng(7)
    z = rng.standard_normal((6, 5))
    w = rng.random(6) + 0.1
    if labels:
        if not name.startswith("softmax"):
            pytest.raises(TypeError, kernels.loss, name, z, np.zeros(6, int))
            return
        y = rng.integers(5, size=6)
    else:
        y = target_for(name, rng, z.shape, np.float64)
        if name in ("mae", "huber", "quantile"):  # away from the kinks at 0 and at delta
            y = z - np.array([-2.0, -1.5, -0.5, 0.5, 1.5])
        if "hinge" in name:  # away from the kink at 1
            z = (2 * y - 1) * np.array([-2.0, 0.5, 0.9, 1.1, 3.0])

    def value(x):
        return kernels.loss(name, x, y, w)[0]

    def gradient(x):
        return kernels.loss(name, x, y, w)[1]

    check_gradient(value, gradient, z)
    with pytest.raises(GradientError):
        check_gradient(value, lambda x: gradient(x) * (1 + 1e-5), z)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [1, 2, 3, 10, 100, 1000])
@pytest.mark.parametrize("weights", [None, "some zero"])
def test_labels_are_one_hot_rows(dtype, classes, weights):
    rng = np.random.default_rng(8)
    z = (3 * rng.standard_normal((37, classes))).astype(dtype)
    labels = rng.integers(classes, size=37)
    w = weights_for(weights, rng, 37, dtype)
    value, gradient = compare("softmax_cross_entropy", z, labels, w)
    one_hot = np.eye(classes, dtype=dtype)[labels]
    dense, dense_gradient = kernels.loss("softmax_cross_entropy", z, one_hot, w)
    eps = float(np.finfo(dtype).eps)
    assert value == pytest.approx(dense, rel=8 * eps, abs=8 * eps)
    np.testing.assert_allclose(gradient, dense_gradient, rtol=0, atol=8 * eps * gradient.max())


@pytest.mark.parametrize("kind", ["b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", ">i4", ">u8"])
def test_labels_of_any_integer_dtype_and_layout(kind):
    z = np.random.default_rng(9).standard_normal((6, 5))
    labels = np.array([0, 4, 2, 1, 3, 3])
    expected = kernels.loss("softmax_cross_entropy", z, labels)
    spread = np.zeros(12, kind)
    spread[::2] = labels
    frozen = labels.astype(kind)
    frozen.flags.writeable = False
    for given in (frozen, spread[::2], spread[::2][::-1][::-1]):
        value, gradient = kernels.loss("softmax_cross_entropy", z, given)
        assert value == expected[0]
        np.testing.assert_array_equal(gradient, expected[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [7, 8, 15, 16, 17, 31, 32, 33, 70])
def test_the_largest_logit_is_found_wherever_it_is(classes, dtype):
    z = np.zeros((classes, classes), dtype)
    np.fill_diagonal(z, 1e4)  # missed, its exponential would be infinite
    value, gradient = kernels.loss("softmax_cross_entropy", z, np.arange(classes))
    assert value == 0
    assert (gradient == 0).all()
    np.testing.assert_array_equal(kernels.activation_forward("softmax", z), np.eye(classes))
    np.fill_diagonal(z, np.nan)
    value, gradient = kernels.loss("softmax_cross_entropy", z, np.arange(classes))
    assert np.isnan(value)
    assert np.isnan(gradient).all()
    assert np.isnan(kernels.activation_forward("softmax", z)).all()


def test_targets_need_not_sum_to_one():
    rng = np.random.default_rng(10)
    z, y = rng.standard_normal((5, 4)), rng.random((5, 4))
    compare("softmax_cross_entropy", z, y, None)


@pytest.mark.parametrize("delta", [0.1, 1.0, 2.5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_huber_takes_its_delta(delta, dtype):
    rng = np.random.default_rng(11)
    z, y = (2 * rng.standard_normal((2, 20, 3))).astype(dtype)
    compare("huber", z, y, None, delta)
    edge = np.array([[delta, -delta, 0.0]])
    value, gradient = kernels.loss("huber", edge, np.zeros((1, 3)), parameter=delta)
    assert value == pytest.approx(delta**2 / 3)
    np.testing.assert_allclose(gradient, edge / 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_logits(dtype):
    z = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4]], dtype)
    value, gradient = kernels.loss("softmax_cross_entropy", z, np.array([1, 0, 2]))
    assert value == pytest.approx((2e4 + 2 * np.log(3)) / 3, rel=1e-6)
    np.testing.assert_allclose(gradient[0], [1 / 3, -1 / 3, 0], rtol=1e-6)
    value, gradient = kernels.loss("softmax_cross_entropy", z[:1], np.array([0]))
    assert value == 0
    assert (gradient == 0).all()

    y = np.array([[1, 1, 1], [0, 1, 0], [0, 1, 1]], dtype)
    value, gradient = kernels.loss("binary_cross_entropy", z, y)
    assert value == pytest.approx((3e4 + np.log(2)) / 9, rel=1e-6)
    np.testing.assert_allclose(
        gradient * 9, [[0, -1, -0.5], [0, -1, 0], [1, 0, 0]], rtol=1e-6, atol=0
    )
    for name in ("mse", "mae", "huber"):
        value, gradient = kernels.loss(name, z, -z)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
    # A rate beyond the dtype is infinite, and so is the loss: it is not cut off in silence.
    assert kernels.loss("poisson", z[:1], np.ones((1, 3), dtype))[0] == np.inf


def test_value_is_summed_in_double():
    # 2**24 + 1 is not a float32; a float32 sum of ones would stop there.
    n = 2**24 + 3
    value, _ = kernels.loss("mae", np.ones((n, 1), np.float32), np.zeros((n, 1), np.float32))
    assert value == 1.0


Z = np.zeros((3, 2), np.float32)
Y = np.zeros((3, 2), np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("hinges", Z, Y), ValueError, "loss must be one of 'softmax_cross_entropy'.*got 'hinges'"),
        ((None, Z, Y), ValueError, "loss must be one of .*got None"),
        (("mse", Z[:0], Y[:0]), ValueError, "logits must have at least one row"),
        (("mse", Z[:, :0].copy(), Y), ValueError, "logits must have at least one row and one col"),
        (("mse", Z[0], Y[0]), ValueError, r"logits must have shape \(rows, columns\); got \(2,\)"),
        (("mse", Z, Y[:2]), ValueError, r"target must have shape \(3, 2\); got \(2, 2\)"),
        (("mse", Z, Y[:, 0].copy()), ValueError, r"target must have shape \(3, 2\); got \(3,\)"),
        (("mse", Z, Y.astype(float)), TypeError, "target must be float32.*got float64"),
        (("mse", Z, [[0, 0]] * 3), TypeError, "target must be a NumPy array; got list"),
        (("mse", Z, Y.astype(int)), TypeError, "target of 'mse' must be float32.*got int64"),
        (("softmax_cross_entropy", Z, Y[:, 0] > 0), TypeError, "float32 or float64; got bool"),
        (("softmax_cross_entropy", Z, np.zeros(2, int)), ValueError, r"shape \(3,\).*got \(2,\)"),
        (("softmax_cross_entropy", Z, Y.astype(int)), ValueError, r"shape \(3,\).*got \(3, 2\)"),
        (("mse", Z, Y, np.ones(3)), TypeError, "sample_weight must be float32"),
        (("mse", Z, Y, [1, 1, 1]), TypeError, "sample_weight must be a NumPy array; got list"),
        (("mse", Z, Y, np.ones(2, "f")), ValueError, r"sample_weight must have shape \(3,\)"),
        (("mse", Z, Y, np.zeros(3, "f")), ValueError, "positive, finite sum; got 0"),
        (("mse", Z, Y, np.array([1, -2, 0], "f")), ValueError, "positive, finite sum; got -1"),
        (("mse", Z, Y, np.array([1, np.nan, 0], "f")), ValueError, "finite sum; got nan"),
        (("mse", Z, Y, np.array([1, np.inf, 0], "f")), ValueError, "finite sum; got inf"),
    ],
)
def test_bad_calls_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        kernels.loss(*arguments)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0, 1, 2]),
        np.array([0, -1, 1]),
        np.array([0, 1, 2**32]),  # would be 0 in 32 bits
        np.array([0, 1, 2**63], np.uint64),
        np.array([0, 1, 200], np.uint8),
        np.array([-128, 1, 0], np.int8),
    ],
)
def test_labels_out_of_range_are_refused_with_the_range(labels):
    message = f"labels from 0 to 1.*got {labels.min()} to {labels.max()}"
    with pytest.raises(ValueError, match=message):
        kernels.loss("softmax_cross_entropy", Z, labels)


@pytest.mark.parametrize("delta", [0.0, -1.0, np.nan, np.inf])
def test_bad_deltas_are_refused(delta):
    with pytest.raises(ValueError, match="parameter, the delta of 'huber', must be above 0; got"):
        kernels.loss("huber", Z, Y, parameter=delta)
    with pytest.raises(ValueError, match="'mse' has no parameter"):
        kernels.loss("mse", Z, Y, parameter=delta)


def test_overlap_is_refused():
    block = np.zeros((4, 2), np.float32)
    with pytest.raises(ValueError, match="grad_out shares memory with logits"):
        kernels.loss("mse", block[:3], Y, grad_out=block[1:])
    with pytest.raises(ValueError, match="grad_out shares memory with target"):
        kernels.loss("mse", Z, block[:3], grad_out=block[:3])
    weight = np.ones(6, np.float32)
    with pytest.raises(ValueError, match="grad_out shares memory with sample_weight"):
        kernels.loss("mse", Z, Y, weight[:3], grad_out=weight.reshape(3, 2))
    frozen = Z.copy()
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="grad_out is read-only"):
        kernels.loss("mse", Z, Y, grad_out=frozen)
