"""The twin's layer, optimizers, training loop and shuffle."""

import math

import numpy as np
import pytest

from dnncore import reference as ref
from dnncore.gradcheck import check_gradient

DTYPES = [np.float32, np.float64]
KINKS = np.array([-3.0, -1.0, 0.0, 1.0, 3.0])


def distance_to_kinks(*arrays):
    return min(np.abs(a[..., np.newaxis] - KINKS).min() for a in arrays)


# Layer


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_layer_by_hand(dtype):
    x = np.array([[1, 2], [3, -1]], dtype)
    w = np.array([[1, 0, -1], [2, 1, 0]], dtype)
    b = np.array([0, -5, 10], dtype)
    da = np.array([[1, 1, 2], [10, 10, 10]], dtype)
    for array in (x, w, b, da):
        array.flags.writeable = False
    a, z = ref.linear_forward(x, w, b, "relu")
    assert z.tolist() == [[5, -3, 9], [1, -6, 7]]  # (1 + 4, 2 - 5, -1 + 10), (3 - 2, -1 - 5, ...)
    assert a.tolist() == [[5, 0, 9], [1, 0, 7]]
    dx, dw, db = ref.linear_backward(da, x, w, z, a, "relu")
    # dz = [[1, 0, 2], [10, 0, 10]]
    assert dx.tolist() == [[-1, 2], [0, 20]]  # (1 - 2, 2 + 0), (10 - 10, 20 + 0)
    assert dw.tolist() == [[31, 0, 32], [-8, 0, -6]]  # (1 + 30, 0, 2 + 30), (2 - 10, 0, 4 - 10)
    assert db.tolist() == [11, 0, 12]
    assert {array.dtype for array in (a, z, dx, dw, db)} == {np.dtype(dtype)}
    assert ref.linear_backward(da, x, w, z, a, "relu", need_dx=False)[0] is None


@pytest.mark.parametrize(
    ("activation", "loss_name"),
    [(a, loss) for a in ref.ACTIVATIONS for loss in ("mse", "softmax_cross_entropy")]
    + [(a, loss) for a in ("tanh", "relu") for loss in ref.LOSSES],
)
def test_gradient_of_a_network(activation, loss_name):
    rng = np.random.default_rng(0)
    shapes = [(4, 3), (3, 5), (5,), (5, 2), (2,)]  # x, w1, b1, w2, b2
    ends = np.cumsum([np.prod(shape) for shape in shapes])

    def unpack(p):
        parts = np.split(p, ends[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def passes(p):
        x, w1, b1, w2, b2 = unpack(p)
        a1, z1 = ref.linear_forward(x, w1, b1, activation)
        a2, z2 = ref.linear_forward(a1, w2, b2)
        value, da2 = ref.loss(loss_name, z2, y)
        da1, dw2, db2 = ref.linear_backward(da2, a1, w2, z2, a2)
        dx, dw1, db1 = ref.linear_backward(da1, x, w1, z1, a1, activation)
        gradient = np.concatenate([g.ravel() for g in (dx, dw1, db1, dw2, db2)])
        return value, gradient, z1, z2

    y = rng.integers(2, size=(4, 2)).astype(float)
    while True:
        p = rng.normal(size=ends[-1])
        _, gradient, z1, z2 = passes(p)
        if distance_to_kinks(z1, z2 - y) > 0.02:
            break
    assert min(np.ptp(z1), np.ptp(z2)) > 1
    assert np.ptp(gradient) > 1e-2
    check_gradient(lambda p: passes(p)[0], lambda p: passes(p)[1], p, n_directions=4)


# Optimizers

OPTIMIZER_TABLE = [  # name, hyper-parameters, gradients, w after each, from w = 1 with lr = 0.6
    ("sgd", {}, [1, -0.5], [0.4, 0.7]),  # 1 - 0.6; 0.4 + 0.3
    # v = -0.6; v = -0.3 - 0.6
    ("momentum", {"momentum": 0.5}, [1, 1], [0.4, -0.5]),
    # v = -0.6, w += 0.5 v - 0.6; v = -0.3 - 0.6, w += 0.5 v - 0.6
    ("nesterov", {"momentum": 0.5}, [1, 1], [0.1, -0.95]),
    # v = 0.25, w -= 0.6 / (0.5 + 0.5); v = 0.1875 + 0.0625, w += 0.3 / (0.5 + 0.5)
    ("rmsprop", {"rho": 0.75, "eps": 0.5}, [1, -0.5], [0.4, 0.7]),
    # m = 0.5, v = 0.25, c = 0.5, 0.25: w -= 0.6 * 1 / (1 + 1);
    # m = -0.25, v = 0.4375, c = 0.75, 0.4375: w -= 0.6 * (-1/3) / (1 + 1)
    ("adam", {"beta1": 0.5, "beta2": 0.75, "eps": 1.0}, [1, -1], [0.7, 0.8]),
    # the same after a decay by 1 - 0.6 * 0.5 = 0.7: 0.7 - 0.3; 0.28 + 0.1
    ("adamw", {"beta1": 0.5, "beta2": 0.75, "eps": 1.0, "weight_decay": 0.5}, [1, -1], [0.4, 0.38]),
    # Without beta1 there is nothing to look ahead with: adam, with m = g.
    ("nadam", {"beta1": 0.0, "beta2": 0.75, "eps": 1.0}, [1, -1], [0.7, 1.0]),
    # rho is 1, then 7 - 4 * 0.5625 / 0.4375: w -= 0.6 m / c, with m / c as for adam
    ("radam", {"beta1": 0.5, "beta2": 0.75}, [1, -1], [0.4, 0.6]),
    # v = 2.25: w -= 0.9 / (1.5 + 0.5); v = 6.25: w += 1.2 / (2.5 + 0.5)
    ("adagrad", {"eps": 0.5}, [1.5, -2], [0.55, 0.95]),
    # v = 0.75, d = sqrt(0.25 / 1), u = 0.1875; v = 0.9375, d = -sqrt(0.4375 / 1.1875)
    ("adadelta", {"rho": 0.25, "eps": 0.25}, [1, -1], [0.7, 0.7 + 0.6 * math.sqrt(7 / 19)]),
    # sign 1, decay 0.6 * 0.5 * 1, m = 0.25; 0.125 - 0.05 is positive still, decay 0.6 * 0.5 * 0.1
    ("lion", {"beta1": 0.5, "beta2": 0.75, "weight_decay": 0.5}, [1, -0.1], [0.1, -0.53]),
]


@pytest.mark.parametrize(("name", "hyper", "gradients", "expected"), OPTIMIZER_TABLE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_optimizer_by_hand(name, hyper, gradients, expected, dtype):
    w, state = np.ones((2, 1), dtype), {}
    for step, (g, after) in enumerate(zip(gradients, expected, strict=True), start=1):
        g = np.full((2, 1), g, dtype)
        g.flags.writeable = False
        ref.optimizer_update(name, w, g, state, step, lr=0.6, **hyper)
        np.testing.assert_allclose(w, after, rtol=1e-6 if dtype == np.float32 else 1e-14)
    assert set(state) == set(ref.OPTIMIZERS[name])
    assert {w.dtype, *(s.dtype for s in state.values())} == {np.dtype(dtype)}


def test_every_optimizer_has_a_row_in_the_table():
    assert {row[0] for row in OPTIMIZER_TABLE} == set(ref.OPTIMIZERS)


def test_state_given_is_updated_in_place():
    state = {"m": np.array([1.0]), "v": np.array([4.0])}
    m, v = state["m"], state["v"]
    ref.optimizer_update(
        "adam", np.zeros(1), np.array([2.0]), state, 7, lr=0.1, beta1=0.5, beta2=0.25
    )
    assert state["m"] is m
    assert state["v"] is v
    assert m == 1.5  # 0.5 * 1 + 0.5 * 2
    assert v == 4.0  # 0.25 * 4 + 0.75 * 4


@pytest.mark.parametrize("name", ref.OPTIMIZERS)
def test_l2_adds_to_the_gradient(name):
    w, g = np.array([2.0, -1.0]), np.array([0.5, 0.25])
    penalised, added = w.copy(), w.copy()
    ref.optimizer_update(name, penalised, g, {}, 1, lr=0.1, l2=0.3)
    ref.optimizer_update(name, added, g + 0.3 * w, {}, 1, lr=0.1)
    assert np.array_equal(penalised, added)
    plain = w.copy()
    ref.optimizer_update(name, plain, g, {}, 1, lr=0.1, eps=1.0)
    ref.optimizer_update(name, w, g, {}, 1, lr=0.1, eps=1.0, l2=0.3)
    assert not np.array_equal(plain, w)


def test_first_adam_step_is_the_sign_of_the_gradient():
    w = np.zeros(3)
    ref.optimizer_update("adam", w, np.array([1e-3, -5.0, 1e4]), {}, 1, lr=0.1)
    np.testing.assert_allclose(w, [-0.1, 0.1, -0.1], rtol=1e-4)


FASTER = {  # those that would take longer to get anywhere
    "radam": {"lr": 0.05},
    "adagrad": {"lr": 0.5},
    "adadelta": {"lr": 1.0, "eps": 1e-2},
}


@pytest.mark.parametrize("name", ref.OPTIMIZERS)
def test_optimizer_finds_the_bottom_of_a_parabola(name):
    hyper = {"lr": 0.02} | FASTER.get(name, {})
    bottom, curvature = np.array([1.0, -2.0, 0.5]), np.array([0.5, 1.0, 4.0])
    w, state = np.zeros(3), {}
    for step in range(1, 601):
        ref.optimizer_update(name, w, curvature * (w - bottom), state, step, **hyper)
    np.testing.assert_allclose(w, bottom, atol=0.02)


def test_optimizer_refuses_what_it_does_not_know():
    w = np.ones(1)
    with pytest.raises(ValueError, match="optimizer must be one of 'sgd'"):
        ref.optimizer_update("tiger", w, w, {}, 1, lr=0.1)
    with pytest.raises(ValueError, match="step must be at least 1; got 0"):
        ref.optimizer_update("adam", w, w, {}, 0, lr=0.1)
    with pytest.raises(ValueError, match="'adam' has none. Use l2"):
        ref.optimizer_update("adam", w, w, {}, 1, lr=0.1, weight_decay=0.1)


# Training


def test_training_by_hand():
    layers = [(np.array([[1.0]]), np.array([0.0]), "identity")]
    x, y = np.array([[1.0], [2.0]]), np.array([[0.0], [0.0]])
    batches = [np.array([0]), np.array([1])]
    losses, trained = ref.train(layers, "mse", "sgd", x, y, batches=batches, lr=0.1)
    # z = 1, loss 1, dz = 2: w = 1 - 0.2, b = -0.2
    # z = 2 * 0.8 - 0.2 = 1.4, loss 1.96, dz = 2.8: w = 0.8 - 0.56, b = -0.2 - 0.28
    assert losses == pytest.approx([1, 1.96])
    (w, b, _) = trained[0]
    assert w.item() == pytest.approx(0.24)
    assert b.item() == pytest.approx(-0.48)
    assert layers[0][0].item() == 1  # the network given is left alone
    assert layers[0][1].item() == 0


def test_gradients_of_a_batch_are_taken_before_any_update():
    layers = [
        (np.array([[2.0]]), np.array([0.0]), "identity"),
        (np.array([[3.0]]), np.array([0.0]), "identity"),
    ]
    x, y = np.array([[1.0]]), np.array([[5.0]])
    _, trained = ref.train(layers, "mse", "sgd", x, y, batches=[np.array([0])], lr=0.1)
    # z2 = 6, dz2 = 2; dw2 = 2 * 2, db2 = 2; dz1 = 3 * 2 = 6 = dw1 = db1
    assert [w.item() for w, _, _ in trained] == pytest.approx([1.4, 2.6])
    assert [b.item() for _, b, _ in trained] == pytest.approx([-0.6, -0.2])


def test_training_counts_steps_from_one():
    layers = [(np.array([[1.0]]), np.array([0.0]), "identity")]
    x = y = np.array([[3.0]])
    _, [(w, _, _)] = ref.train(layers, "mse", "adam", x, -y, batches=[np.array([0])], lr=0.1)
    assert w.item() == pytest.approx(0.9)  # Adam's first step is lr, whatever the gradient


@pytest.mark.parametrize(("optimizer", "decay"), [("sgd", "l2"), ("adamw", "weight_decay")])
def test_decay_acts_on_weights_only(optimizer, decay):
    layers = [(np.full((2, 1), 4.0), np.array([4.0]), "identity")]
    x, y = np.zeros((3, 2)), np.full((3, 1), 4.0)  # fitted already: the gradient is zero
    batches = [np.arange(3)]
    _, [(w, b, _)] = ref.train(
        layers, "mse", optimizer, x, y, batches=batches, lr=0.1, **{decay: 0.5}
    )
    np.testing.assert_allclose(w, 4 * (1 - 0.1 * 0.5))
    assert b.item() == 4


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", ref.OPTIMIZERS)
def test_training_separates_two_blobs(optimizer, dtype):
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    x = (rng.normal(size=(200, 2)) + 4 * y[:, np.newaxis]).astype(dtype)
    layers = [
        (rng.normal(size=(2, 8)).astype(dtype), np.zeros(8, dtype), "tanh"),
        (rng.normal(size=(8, 2)).astype(dtype), np.zeros(2, dtype), "identity"),
    ]
    batches = [part for epoch in range(30) for part in np.split(ref.shuffle(200, 0, 0, epoch), 10)]
    hyper = {"lr": 0.05} | FASTER.get(optimizer, {})
    losses, trained = ref.train(
        layers, "softmax_cross_entropy", optimizer, x, y, batches=batches, **hyper
    )
    assert len(losses) == 300
    assert np.mean(losses[-10:]) < 0.2 < 0.5 < losses[0]
    assert (ref.forward(trained, x).argmax(axis=1) == y).mean() > 0.97
    assert {a.dtype for w, b, _ in trained for a in (w, b)} == {np.dtype(dtype)}


def test_sample_weights_and_loss_parameter_reach_the_loss():
    layers = [(np.array([[1.0]]), np.array([0.0]), "identity")]
    x, y = np.array([[1.0], [3.0]]), np.zeros((2, 1))
    arguments = {"batches": [np.array([1, 0])], "lr": 0.0, "sample_weight": np.array([3.0, 1.0])}
    losses, _ = ref.train(layers, "huber", "sgd", x, y, **arguments)
    assert losses == pytest.approx([(3 * 0.5 + 1 * 2.5) / 4])
    losses, _ = ref.train(layers, "huber", "sgd", x, y, loss_parameter=2.0, **arguments)
    assert losses == pytest.approx([(3 * 0.5 + 1 * 4.0) / 4])


# Shuffle


def test_words_are_splitmix64():
    # The first outputs of SplitMix64 for the seed 1234567, as other implementations print them.
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert ref.random_words(1234567, 0, 5).tolist() == published
    assert ref.random_words(1234567, 2, 3).tolist() == published[2:]
    assert ref.random_words(0, 0, 1).dtype == np.uint64


def test_shuffle_follows_its_definition():
    golden, mask = 0x9E3779B97F4A7C15, 2**64 - 1

    def mix(x):
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & mask
        x = (x ^ x >> 27) * 0x94D049BB133111EB & mask
        return x ^ x >> 31

    seed, stream, epoch = 2**64 - 3, 5, 11
    key = mix(mix(mix(seed + golden & mask) + stream + golden & mask) + epoch + golden & mask)
    order = list(range(100))
    for i in range(99, 0, -1):
        j = mix(key + (i + 1) * golden & mask) * (i + 1) >> 64
        order[i], order[j] = order[j], order[i]
    assert ref.shuffle_key(seed, stream, epoch) == key
    assert ref.shuffle(100, seed, stream, epoch).tolist() == order


def test_shuffle_stays_what_it_is():
    # A resumed run relies on these; they may not change between versions.
    assert ref.shuffle(12, 0, 0, 0).tolist() == [5, 9, 3, 11, 1, 7, 8, 4, 2, 0, 6, 10]
    assert ref.shuffle(12, 42, 1, 7).tolist() == [4, 11, 1, 10, 5, 2, 6, 7, 9, 8, 0, 3]


@pytest.mark.parametrize("n", [0, 1, 2, 3, 17, 1000])
def test_shuffle_is_a_permutation(n):
    order = ref.shuffle(n, 0, 0, 0)
    assert order.dtype == np.int64
    assert order.shape == (n,)
    assert np.array_equal(np.sort(order), np.arange(n))


def test_shuffle_depends_on_each_part_of_its_key():
    keys = [(s, t, e) for s in range(4) for t in range(4) for e in range(4)]
    orders = {tuple(ref.shuffle(30, *key)) for key in keys}
    assert len(orders) == 64
    assert np.array_equal(ref.shuffle(30, 1, 2, 3), ref.shuffle(30, 1, 2, 3))


def test_shuffle_is_uniform():
    n, epochs = 8, 4000
    orders = np.array([ref.shuffle(n, 1, 0, epoch) for epoch in range(epochs)])
    # Each place holds numbers uniform on 0..7: mean 3.5, variance (64 - 1) / 12.
    deviation = (orders.mean(axis=0) - 3.5) / np.sqrt(63 / 12 / epochs)
    assert np.abs(deviation).max() < 4
    assert np.ptp(orders[:, 0]) == n - 1
    counts = np.array([np.bincount(orders[:, place], minlength=n) for place in range(n)])
    chi2 = ((counts - epochs / n) ** 2 / (epochs / n)).sum()
    assert 20 < chi2 < 90  # 49 degrees of freedom: standard deviation 10


def test_shuffle_refuses_what_is_not_a_size():
    with pytest.raises(ValueError, match="n must be at least 0"):
        ref.shuffle(-1, 0, 0, 0)
    with pytest.raises(TypeError, match="n must be an integer"):
        ref.shuffle(2.0, 0, 0, 0)
