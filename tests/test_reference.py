"""The NumPy twin, against arithmetic done by hand, finite differences and its own invariants."""

import math
from math import exp, log, pi, sqrt

import numpy as np
import pytest

from dnncore import reference as ref
from dnncore.gradcheck import check_gradient

ELEMENTWISE = [name for name, act in ref.ACTIVATIONS.items() if act.derivative is not None]
KINKS = np.array([-3.0, -1.0, 0.0, 1.0, 3.0])  # of any activation, and of mae and huber
DTYPES = [np.float32, np.float64]


def away_from_kinks(rng, shape, margin=0.1):
    """Draw from [-5, 5], at least `margin` from every kink."""
    x = rng.uniform(-5, 5, size=shape)
    while (near := np.abs(x[..., np.newaxis] - KINKS).min(axis=-1) < margin).any():
        x[near] = rng.uniform(-5, 5, size=near.sum())
    assert np.unique(x).size == x.size
    assert x.std() > 1
    return x


def target_for(name, rng, logits):
    n, k = logits.shape
    if name.startswith("softmax"):
        return rng.integers(k, size=n)
    if name.startswith("binary"):
        return rng.uniform(size=(n, k))
    if "hinge" in name:
        return rng.integers(2, size=(n, k)).astype(float)
    if name in ("poisson", "tweedie"):
        return rng.poisson(3.0, size=(n, k)).astype(float)
    if name == "gamma":
        return rng.uniform(0.5, 3.0, size=(n, k))
    return logits - away_from_kinks(rng, (n, k))


def freeze(*arrays):
    for array in arrays:
        array.flags.writeable = False


# Activations: value and derivative by hand

PHI_1, DENSITY_1 = 0.841344746068543, 0.241970724519143  # normal distribution function, density
U_1 = sqrt(2 / pi) * 1.044715  # gelu_tanh's u at z = 1; u' = sqrt(2 / pi) * (1 + 3 * 0.044715)

ACTIVATION_TABLE = [  # name, z, f(z), f'(z)
    ("identity", -2.5, -2.5, 1.0),
    ("sigmoid", log(3), 0.75, 0.1875),  # 1 / (1 + 1/3) = 3/4; 3/4 * 1/4
    ("tanh", log(2), 0.6, 0.64),  # (2 - 1/2) / (2 + 1/2) = 3/5; 1 - 9/25
    ("relu", 2.0, 2.0, 1.0),
    ("relu", 0.0, 0.0, 0.0),
    ("relu", -2.0, 0.0, 0.0),
    ("leaky_relu", 2.0, 2.0, 1.0),
    ("leaky_relu", 0.0, 0.0, 0.01),
    ("leaky_relu", -2.0, -0.02, 0.01),
    ("elu", 2.0, 2.0, 1.0),
    ("elu", -log(2), -0.5, 0.5),  # exp(-log 2) - 1; exp(-log 2)
    ("selu", 2.0, 2.101401974710961, 1.0507009873554805),
    ("selu", 0.0, 0.0, 1.7580993408473766),  # 1.05070099 * 1.67326324
    ("selu", -log(2), -0.8790496704236888, 0.8790496704236888),  # 1.05070099 * 1.67326324 / 2
    ("gelu", 1.0, PHI_1, PHI_1 + DENSITY_1),  # 1 * Phi(1); Phi(1) + 1 * phi(1)
    ("gelu", -1.0, PHI_1 - 1, 1 - PHI_1 - DENSITY_1),  # -(1 - Phi(1)); 1 - Phi(1) - phi(1)
    ("gelu_tanh", 0.0, 0.0, 0.5),
    (
        "gelu_tanh",
        1.0,
        (1 + math.tanh(U_1)) / 2,
        (1 + math.tanh(U_1)) / 2 + sqrt(2 / pi) * 1.134145 / (2 * math.cosh(U_1) ** 2),
    ),
    ("silu", log(3), 0.75 * log(3), 0.75 + 0.1875 * log(3)),  # s; s + z s (1 - s)
    ("mish", 0.0, 0.0, 0.6),  # tanh(log 2) = 3/5
    # log(1 + 2) = log 3, tanh(log 3) = 8/10, 1 - 0.64 = 0.36, sigmoid(log 2) = 2/3
    ("mish", log(2), 0.8 * log(2), 0.8 + 0.24 * log(2)),
    ("softplus", log(3), log(4), 0.75),
    ("softsign", -3.0, -0.75, 0.0625),  # -3 / 4; 1 / 16
    ("hardtanh", 0.5, 0.5, 1.0),
    ("hardtanh", 1.0, 1.0, 0.0),
    ("hardtanh", -1.0, -1.0, 0.0),
    ("hardtanh", -7.0, -1.0, 0.0),
    ("hard_swish", 1.0, 2 / 3, 5 / 6),  # 1 * 4 / 6; (2 + 3) / 6
    ("hard_swish", -2.0, -1 / 3, -1 / 6),  # -2 * 1 / 6; (-4 + 3) / 6
    ("hard_swish", 3.0, 3.0, 1.0),
    ("hard_swish", -3.0, 0.0, 0.0),
    ("hard_swish", 8.0, 8.0, 1.0),
]


@pytest.mark.parametrize(("name", "z", "value", "derivative"), ACTIVATION_TABLE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_activation_by_hand(name, z, value, derivative, dtype):
    z = np.array([z], dtype)
    rtol = 1e-13 if dtype == np.float64 else 1e-6
    a = ref.activation_forward(name, z)
    np.testing.assert_allclose(a, [value], rtol)
    np.testing.assert_allclose(ref.ACTIVATIONS[name].derivative(z, a), [derivative], rtol)
    dz = ref.activation_backward(name, np.array([-2], dtype), z, a)
    np.testing.assert_allclose(dz, [-2 * derivative], rtol)
    assert a.dtype == dz.dtype == dtype


def test_every_activation_has_a_row_in_the_table():
    assert {row[0] for row in ACTIVATION_TABLE} == set(ELEMENTWISE)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_by_hand(dtype):
    z = np.log(np.array([[1, 2, 5], [4, 4, 8]], dtype))
    a = ref.activation_forward("softmax", z)
    np.testing.assert_allclose(a, [[1 / 8, 2 / 8, 5 / 8], [1 / 4, 1 / 4, 1 / 2]], rtol=1e-6)
    # a (da - a.da): a.da is 1/8 in the first row, 1/2 in the second
    dz = ref.activation_backward("softmax", np.array([[1, 0, 0], [0, 0, 1]], dtype), z, a)
    expected = [[7 / 64, -2 / 64, -5 / 64], [-1 / 8, -1 / 8, 1 / 4]]
    np.testing.assert_allclose(dz, expected, rtol=1e-6)
    assert a.dtype == dz.dtype == dtype


@pytest.mark.parametrize("name", ref.ACTIVATIONS)
@pytest.mark.parametrize("n_directions", [None, 5])
def test_activation_gradient(name, n_directions):
    rng = np.random.default_rng(1)
    z = away_from_kinks(rng, (4, 7))
    c = rng.normal(size=z.shape)
    freeze(z, c)

    def gradient(z):
        return ref.activation_backward(name, c, z, ref.activation_forward(name, z))

    check_gradient(
        lambda z: np.sum(c * ref.activation_forward(name, z)),
        gradient,
        z,
        n_directions=n_directions,
    )


RIGHT_TAIL = {"sigmoid": (1, 0), "tanh": (1, 0), "hardtanh": (1, 0), "softsign": (1e4 / 10001, 0)}
RIGHT_TAIL["selu"] = (10507.009873554805, 1.0507009873554805)
LEFT_TAIL = {
    "identity": (-1e4, 1),
    "tanh": (-1, 0),
    "leaky_relu": (-100, 0.01),
    "elu": (-1, 0),
    "selu": (-1.7580993408473766, 0),
    "softsign": (-1e4 / 10001, 0),
    "hardtanh": (-1, 0),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_activation_saturates(name, dtype):
    z = np.array([-1e4, 1e4], dtype)
    left, right = LEFT_TAIL.get(name, (0, 0)), RIGHT_TAIL.get(name, (1e4, 1))
    a = ref.activation_forward(name, z)
    np.testing.assert_allclose(a, [left[0], right[0]], rtol=1e-6)
    dz = ref.activation_backward(name, np.ones_like(z), z, a)
    np.testing.assert_allclose(dz, [left[1], right[1]], rtol=1e-6, atol=2e-7)


@pytest.mark.parametrize("name", ref.ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_activation_is_finite_all_the_way(name, dtype):
    z = np.concatenate([-np.logspace(4, -4, 99), [0], np.logspace(-4, 4, 99)]).astype(dtype)
    a = ref.activation_forward(name, z)
    dz = ref.activation_backward(name, np.ones_like(z), z, a)
    assert np.isfinite(a).all()
    assert np.isfinite(dz).all()


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activation_propagates_nan(name):
    z = np.array([-1.5, np.nan, 1.5])
    a = ref.activation_forward(name, z)
    assert np.isnan(a).tolist() == [False, True, False]
    dz = ref.activation_backward(name, np.ones_like(z), z, a)
    assert np.isnan(dz).tolist() == [False, name != "identity", False]


def test_softmax_at_extremes():
    z = np.array([[1e4, -1e4, 0], [np.nan, 0, 0]])
    a = ref.activation_forward("softmax", z)
    assert a[0].tolist() == [1, 0, 0]
    assert np.isnan(a[1]).all()


# Losses: value and gradient by hand

LN = np.log(np.array([[1.0, 2.0, 5.0]]))  # softmax: 1/8, 2/8, 5/8
FOCAL = 5 / 8 * log(5 / 8) - 3 / 8  # d (p - 1) log p / d log p at p = 5/8
LOSS_TABLE = [  # name, logits, target, parameter, value, gradient
    ("softmax_cross_entropy", LN, np.array([2]), None, log(8 / 5), [[1 / 8, 2 / 8, -3 / 8]]),
    ("softmax_cross_entropy", LN, np.array([0]), None, log(8), [[-7 / 8, 2 / 8, 5 / 8]]),
    (  # (log 8 + log 4) / 2
        "softmax_cross_entropy", LN, np.array([[0.5, 0.5, 0]]), None,
        log(32) / 2, [[-3 / 8, -2 / 8, 5 / 8]],
    ),
    (  # p = 3/4 with y = 1, p = 1/2 with y = 0.5: (log 4/3 + log 2) / 2; (p - y) / 2
        "binary_cross_entropy", [[log(3), 0]], [[1, 0.5]], None, log(8 / 3) / 2, [[-1 / 8, 0]],
    ),
    ("binary_cross_entropy", [[log(3)], [log(3)]], [[1], [0]], None,
     log(16 / 3) / 2, [[-1 / 8], [3 / 8]]),  # (log 4/3 + log 4) / 2; -1/4 and 3/4, over 2 rows
    ("mse", [[1, 5], [0, 2]], [[0, 2], [0, 4]], None,
     3.5, [[0.5, 1.5], [0, -1]]),  # (1 + 9 + 0 + 4) / 4; 2 r / 4
    ("mae", [[1, 5], [0, 2]], [[0, 2], [0, 4]], None,
     1.5, [[0.25, 0.25], [0, -0.25]]),  # (1 + 3 + 0 + 2) / 4; sign(r) / 4
    ("huber", [[0.5, 3]], [[0, 0]], 1, 1.3125, [[0.25, 0.5]]),  # (0.125 + 1 (3 - 0.5)) / 2
    ("huber", [[0.5, -3]], [[0, 0]], 2, 2.0625, [[0.25, -1]]),  # (0.125 + 2 (3 - 1)) / 2
    ("poisson", [[log(2), 0]], [[3, 1]], None,
     1.5 - 1.5 * log(2), [[-0.5, 0]]),  # (2 - 3 log 2 + 1 - 0) / 2; (2 - 3, 1 - 1) / 2
    (  # y = 0.7 * (1, 0, 0) + 0.1: 0.8 log 8 + 0.1 log 4 + 0.1 log 8/5; p - y
        "softmax_cross_entropy", LN, np.array([0]), 0.3,
        0.8 * log(8) + 0.1 * log(4) + 0.1 * log(8 / 5), [[1 / 8 - 0.8, 2 / 8 - 0.1, 5 / 8 - 0.1]],
    ),
    # y = 0.8 * 1 + 0.1, p = 3/4: -0.9 log 3/4 - 0.1 log 1/4; p - y
    ("binary_cross_entropy", [[log(3)]], [[1]], 0.2, log(4) - 0.9 * log(3), [[-0.15]]),
    ("log_cosh", [[log(2), 5]], [[0, 5]], None,
     log(1.25) / 2, [[0.3, 0]]),  # cosh log 2 = (2 + 1/2) / 2, tanh = (4 - 1) / (4 + 1); over 2
    ("quantile", [[1, 1]], [[3, 0]], 0.25, 0.625, [[-0.125, 0.375]]),  # (2 / 4 + 3 / 4) / 2
    ("quantile", [[1, 1, 1]], [[3, 0, 1]], (0.25, 0.5, 0.75),
     1 / 3, [[-0.25 / 3, 0.5 / 3, 0]]),  # (2 / 4 + 1 / 2 + 0) / 3
    ("gamma", [[log(2), 0]], [[3, 1]], None,
     (log(2) + 2.5) / 2, [[-0.25, 0]]),  # (log 2 + 3 / 2 + 0 + 1) / 2; 1 - 3 / 2, 1 - 1
    ("tweedie", [[log(4), 0]], [[2, 0]], 1.5,
     4, [[0.5, 0.5]]),  # 2 * 2 + 2 * 2 / 2, 2 * 1 + 0: (6 + 2) / 2; 2 - 2 / 2, 1 - 0
    ("hinge", [[0.5, 0.5, 2]], [[1, 0, 1]], None,
     2 / 3, [[-1 / 3, 1 / 3, 0]]),  # (0.5 + 1.5 + 0) / 3
    ("squared_hinge", [[0.5, 0.5, 2]], [[1, 0, 1]], None,
     2.5 / 3, [[-1 / 3, 1, 0]]),  # (0.25 + 2.25) / 3; -2 * 0.5, 2 * 1.5
    ("binary_focal", [[log(3), log(3)]], [[1, 0]], 1,  # p = 3/4: log 4/3 / 4, 3/4 log 4
     (log(4 / 3) / 4 + log(4) * 3 / 4) / 2,
     [[-(1 / 4 + 3 / 4 * log(4 / 3)) / 8, (3 / 4 + log(4) / 4) * 3 / 8]]),
    ("binary_focal", [[log(3)]], [[1]], 0, log(4 / 3), [[-1 / 4]]),
    ("softmax_focal", LN, np.array([2]), 1, 3 / 8 * log(8 / 5),  # p = 5/8
     [[-1 / 8 * FOCAL, -2 / 8 * FOCAL, 3 / 8 * FOCAL]]),
    ("softmax_focal", LN, np.array([0]), 0, log(8), [[-7 / 8, 2 / 8, 5 / 8]]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "z", "y", "parameter", "value", "gradient"), LOSS_TABLE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_by_hand(name, z, y, parameter, value, gradient, dtype):
    z = np.array(z, dtype)
    got_value, got_gradient = ref.loss(name, z, np.asarray(y), parameter=parameter)
    assert isinstance(got_value, float)
    assert got_value == pytest.approx(value, rel=1e-13 if dtype == np.float64 else 1e-6)
    np.testing.assert_allclose(got_gradient, gradient, rtol=1e-6, atol=1e-7)
    assert got_gradient.dtype == dtype


def test_every_loss_has_a_row_in_the_table():
    assert {row[0] for row in LOSS_TABLE} == set(ref.LOSSES)


def test_weighted_loss_by_hand():
    z, y = np.log(np.array([[1.0, 1.0], [3.0, 1.0]])), np.array([0, 1])
    value, gradient = ref.loss("softmax_cross_entropy", z, y, np.array([1.0, 3.0]))
    assert value == pytest.approx((1 * log(2) + 3 * log(4)) / 4)
    np.testing.assert_allclose(gradient, [[-1 / 8, 1 / 8], [9 / 16, -9 / 16]])  # w (p - y) / 4


@pytest.mark.parametrize("name", ref.LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_gradient(name, weighted):
    rng = np.random.default_rng(2)
    z = away_from_kinks(rng, (6, 3))
    y = target_for(name, rng, z)
    assert np.unique(y).size > 1 + ("hinge" not in name)
    weight = rng.uniform(0.5, 2, size=6) if weighted else None
    check_gradient(
        lambda z: ref.loss(name, z, y, weight)[0], lambda z: ref.loss(name, z, y, weight)[1], z
    )


def test_cross_entropy_gradient_for_rows_of_any_sum():
    rng = np.random.default_rng(3)
    z, y = rng.normal(size=(4, 5)), rng.uniform(size=(4, 5))
    assert np.abs(y.sum(axis=1) - 1).min() > 0.1
    check_gradient(
        lambda z: ref.loss("softmax_cross_entropy", z, y)[0],
        lambda z: ref.loss("softmax_cross_entropy", z, y)[1],
        z,
    )


@pytest.mark.parametrize("name", ref.LOSSES)
def test_integer_weights_equal_repeated_rows(name):
    rng = np.random.default_rng(4)
    z = away_from_kinks(rng, (5, 3))
    y = target_for(name, rng, z)
    times = np.array([2, 0, 1, 3, 1])
    rows = np.repeat(np.arange(5), times)
    value, gradient = ref.loss(name, z, y, times.astype(float))
    repeated_value, repeated_gradient = ref.loss(name, z[rows], y[rows])
    assert value == pytest.approx(repeated_value, rel=1e-13)
    summed = np.zeros_like(z)
    np.add.at(summed, rows, repeated_gradient)
    np.testing.assert_allclose(gradient, summed, rtol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "z", "y", "value"),
    [
        ("softmax_cross_entropy", [[1e4, -1e4]], np.array([0]), 0),
        ("softmax_cross_entropy", [[1e4, -1e4]], np.array([1]), 2e4),
        ("binary_cross_entropy", [[1e4]], [[1]], 0),
        ("binary_cross_entropy", [[1e4]], [[0]], 1e4),
        ("binary_cross_entropy", [[-1e4]], [[1]], 1e4),
        ("mse", [[-1e4]], [[1e4]], 4e8),
        ("mae", [[-1e4]], [[1e4]], 2e4),
        ("huber", [[-1e4]], [[1e4]], 2e4 - 0.5),
        ("poisson", [[-1e4]], [[2]], 2e4),
        ("log_cosh", [[-1e4]], [[1e4]], 2e4 - math.log(2)),
        ("quantile", [[-1e4]], [[1e4]], 1e4),
        ("gamma", [[1e4]], [[2]], 1e4),
        ("gamma", [[-1e4]], [[2]], math.inf),
        ("tweedie", [[1e4]], [[2]], math.inf),
        ("hinge", [[-1e4]], [[1]], 1e4 + 1),
        ("squared_hinge", [[-1e4]], [[1]], 100020001),
        ("binary_focal", [[1e4]], [[1]], 0),
        ("binary_focal", [[1e4]], [[0]], 1e4),
        ("binary_focal", [[-1e4]], [[1]], 1e4),
        ("softmax_focal", [[1e4, -1e4]], np.array([0]), 0),
        ("softmax_focal", [[1e4, -1e4]], np.array([1]), 2e4),
        ("poisson", [[1e4]], [[2]], math.inf),
    ],
)
def test_loss_at_extremes(name, z, y, value, dtype):
    got, gradient = ref.loss(name, np.array(z, dtype), np.asarray(y))
    assert got == pytest.approx(value, rel=1e-6)
    assert np.isfinite(gradient).all() == math.isfinite(value)


def test_binary_cross_entropy_keeps_small_losses():
    value, _ = ref.loss("binary_cross_entropy", np.array([[40.0]]), np.array([[1.0]]))
    assert value == pytest.approx(exp(-40), rel=1e-12)  # log(1 + e) = e, to first order


@pytest.mark.parametrize("name", ref.LOSSES)
def test_loss_propagates_nan(name):
    z = np.array([[0.5, np.nan], [0.5, 0.5]])
    y = np.array([0, 1]) if name.startswith("softmax") else np.ones((2, 2))
    value, gradient = ref.loss(name, z, y)
    assert math.isnan(value)
    assert np.isnan(gradient[0, 1])
    assert np.isfinite(gradient[1]).all()


def test_thousand_classes():
    value, gradient = ref.loss("softmax_cross_entropy", np.zeros((2, 1000)), np.array([0, 999]))
    assert value == pytest.approx(log(1000))
    assert gradient[0, 0] == gradient[1, 999] == pytest.approx((0.001 - 1) / 2)
    assert gradient[0, 1] == pytest.approx(0.0005)
    rng = np.random.default_rng(5)
    z, y = rng.normal(0, 30, size=(64, 1000)), rng.integers(1000, size=64)
    value, gradient = ref.loss("softmax_cross_entropy", z, y)
    np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-16)
    single, _ = ref.loss("softmax_cross_entropy", z.astype(np.float32), y)
    assert single == pytest.approx(value, rel=1e-5)
    one_hot = np.eye(1000, dtype=np.float32)[y]
    assert ref.loss("softmax_cross_entropy", z, one_hot)[0] == value


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("softmax_cross_entropy", np.array([0, 3]), r"lie in 0\.\.2.*got 0\.\.3"),
        ("softmax_cross_entropy", np.array([-1, 0]), r"got -1\.\.0"),
        ("softmax_cross_entropy", np.array([0.0, 1.0]), "integers; got dtype float64"),
        ("softmax_cross_entropy", np.array([0, 1, 2]), r"\(2, 3\).*got \(3,\)"),
        ("mse", np.zeros(2), r"\(2, 3\).*got \(2,\)"),
        ("mse", np.zeros((2, 1)), r"\(2, 3\).*got \(2, 1\)"),
        ("hinges", np.zeros((2, 3)), "loss must be one of 'softmax_cross_entropy'"),
    ],
)
def test_loss_refuses_wrong_targets(name, target, message):
    with pytest.raises(ValueError, match=message):
        ref.loss(name, np.zeros((2, 3)), target)


def test_loss_refuses_wrong_weights():
    z = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"shape \(2,\); got \(3,\)"):
        ref.loss("mse", z, z, np.ones(3))
    with pytest.raises(ValueError, match="positive number; got 0"):
        ref.loss("mse", z, z, np.zeros(2))
    with pytest.raises(ValueError, match="positive number; got 0"):
        ref.loss("mse", z[:0], z[:0])
