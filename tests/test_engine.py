"""The engine's program, asked directly: slices, sums, masks, paths."""

import pickle

import numpy as np
import pytest

import dnncore as dnn
from dnncore import _kernels
from dnncore import reference as ref
from dnncore._engine import MAX_THREADS, Data, Position
from dnncore._threads import ROW_WORK, available_cpus, threads_for, training_work

SGD = dnn.SGD(0.1).settings()


def make(layers=None, loss="mse", n_in=3, dtype="float64", seed=5):
    layers = layers or [dnn.Dense(4, "tanh"), dnn.Dense(2)]
    return dnn.Network(n_in, layers, loss=loss, dtype=dtype, seed=seed)


def examples(rows=10, weighted=False):
    rng = np.random.default_rng(0)
    weight = rng.uniform(0.5, 2, rows) if weighted else None
    return Data(rng.standard_normal((rows, 3)), None, rng.standard_normal((rows, 2)), weight)


def run(net, data, order=None, start=0, batch=4, step=0, seconds=np.inf, threads=1, steps=0):
    at = Position(step, start=start)
    net._program.run(data, order, at, batch, seconds, steps, SGD, None, None, threads)
    return at.start, at.step, at.loss_sum, at.weight_sum, at.finite


# Slices


@pytest.mark.parametrize("threads", [1, 3])
def test_a_slice_ends_with_a_step_and_is_gone_on_with(threads):
    rng = np.random.default_rng(0)
    X, y = 0.05 * rng.standard_normal((5000, 300)), rng.standard_normal((5000, 1))
    data = Data(X, None, y, None)
    layers = [dnn.Dense(400, "relu"), dnn.Dense(1)]
    whole, parts = make(layers, n_in=300), make(layers, n_in=300)
    order = ref.shuffle(5000, 5, 0, 0)
    *_, loss, weight, finite = expected = run(whole, data, order, batch=33, threads=threads)
    assert expected[:2] == (5000, 152) and finite and weight == 5000
    start = step = slices = 0
    sums = np.zeros(2)
    while start < 5000:
        start, step, *more, finite = run(
            parts, data, order, start, 33, step, seconds=0.0, threads=threads
        )
        assert finite and (start % 33 == 0 or start == 5000) and step == -(-start // 33)
        sums += more
        slices += 1
    assert slices > 5
    np.testing.assert_array_equal(parts.params, whole.params)
    np.testing.assert_allclose(sums, [loss, weight], rtol=1e-12)


def test_slices_of_some_steps_add_up_to_the_same_bits():
    data, whole, parts = examples(103), make(), make()
    at, expected = Position(), run(whole, data)
    for steps in (1, 3, 2, 100):
        before = at.step
        parts._program.run(data, None, at, 4, np.inf, steps, SGD, None, None, 1)
        assert at.step == min(before + steps, 26)
    assert (at.start, at.step, at.loss_sum, at.weight_sum, at.finite) == expected
    np.testing.assert_array_equal(parts.params, whole.params)
    assert at.loss == at.loss_sum / 103
    copied = pickle.loads(pickle.dumps(at))
    at.next_epoch()
    assert (at.step, at.epoch, at.start, at.loss_sum, at.loss) == (26, 1, 0, 0.0, 0.0)
    assert (copied.step, copied.epoch, copied.start, copied.loss_sum) == (26, 0, 103, expected[2])


@pytest.mark.parametrize("weighted", [False, True])
def test_sums_of_loss_and_weight(weighted):
    net, data = make(), examples(weighted=weighted)
    weight = np.ones(10) if data.weight is None else data.weight
    value, _ = ref.loss("mse", net.forward(data.x), data.target, weight)
    for loss, total in (net._program.evaluate(data, 1), run(net, data, batch=10)[2:4]):
        assert loss == pytest.approx(value * weight.sum())
        assert total == pytest.approx(weight.sum())


def test_a_batch_whose_loss_is_not_finite_is_not_applied():
    net = make()
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((12, 3)), rng.standard_normal((12, 2))
    y[6] = 1e200
    start, step, loss, weight, finite = run(net, Data(X, None, y, None))
    assert (start, step, finite) == (4, 1, False)
    assert weight == 4 and np.isfinite(loss)
    expected = make()
    run(expected, Data(X[:4], None, y[:4], None))
    np.testing.assert_array_equal(net.params, expected.params)


def test_rows_without_weight_do_not_matter():
    data = examples(8)
    weight = np.array([1.0, 0, 1, 0, 0, 0, 0, 0])
    net, expected = make(), make()
    result = run(net, Data(data.x, None, data.target, weight))  # the second batch weighs nothing
    run(expected, Data(data.x[[0, 2]], None, data.target[[0, 2]], None))
    assert result[0] == 8 and result[4]
    np.testing.assert_allclose(net.params, expected.params, rtol=1e-12)


# Order


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 1000])
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (0, 1), (1, 0), (2**64 - 1, 2**40)])
def test_shuffles_are_the_twin_s(n, seed, epoch):
    order = np.empty(n, np.int64)
    make(seed=seed)._program.shuffled(n, epoch, order)
    np.testing.assert_array_equal(order, ref.shuffle(n, seed, 0, epoch))


# Dropout


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_dropout_zeroes_its_share_and_scales_the_rest(rate, dtype):
    n = 300
    eye = [dnn.Dense(n, weight_initializer=lambda rng, i, o: np.eye(i, o))]
    net = make([*eye, dnn.Dropout(rate)], n_in=n, dtype=dtype)
    X = np.random.default_rng(0).uniform(1, 2, (n, n)).astype(dtype)
    out = net.forward(X)
    kept = out != 0
    np.testing.assert_allclose(out[kept], (X / (1 - rate))[kept], rtol=1e-6)
    error = np.sqrt(rate * (1 - rate) / n)
    assert abs(kept.mean() - (1 - rate)) <= 5 * error / np.sqrt(n)
    # No row, column or diagonal is favoured, and neighbours are independent.
    assert np.abs(kept.mean(axis=0) - (1 - rate)).max() <= 5 * error
    assert np.abs(kept.mean(axis=1) - (1 - rate)).max() <= 5 * error
    together = kept[:, 1:] & kept[:, :-1]
    assert together.mean() == pytest.approx((1 - rate) ** 2, abs=0.02)
    np.testing.assert_array_equal(net.predict(X), X)  # at prediction nothing happens
    # The gradient goes through the same mask.
    dX = net.backward(np.ones((n, n)))
    np.testing.assert_allclose(dX, kept / (1 - rate), rtol=1e-6)


def test_masks_differ_between_steps_layers_and_seeds():
    eye = dnn.Dense(50, weight_initializer=lambda rng, i, o: np.eye(i, o))
    X = np.ones((40, 50))

    def masks(seed, layers, steps=1):
        net = make(layers, n_in=50, seed=seed)
        return [net.forward(X) != 0 for _ in range(steps)]

    first, second = masks(1, [eye, dnn.Dropout(0.5)], steps=2)
    (other_seed,) = masks(2, [eye, dnn.Dropout(0.5)])
    (other_place,) = masks(1, [dnn.Dropout(0.5), eye])
    (both,) = masks(1, [dnn.Dropout(0.5), eye, dnn.Dropout(0.5)])
    for mask in (second, other_seed, other_place):
        assert 0.4 < (mask == first).mean() < 0.6
    assert 0.2 < both.mean() < 0.3
    np.testing.assert_array_equal(masks(1, [eye, dnn.Dropout(0.5)])[0], first)


def test_masks_do_not_depend_on_tiles():
    eye = dnn.Dense(600, weight_initializer=lambda rng, i, o: np.eye(i, o))
    X = np.ones((700, 600))
    net, few = (make([eye, dnn.Dropout(0.5)], n_in=600) for _ in range(2))
    np.testing.assert_array_equal(few.forward(X[:70]), net.forward(X)[:70])


# What others may ask


def test_paths():
    wide = make([dnn.Dense(2048, "relu"), dnn.Dropout(0.1), dnn.Dense(2048), dnn.Dense(2)], n_in=9)
    assert wide._program.paths(1) == ["own"] * 3
    large = "blas" if "float64" in _kernels.describe_paths() else "own"  # AVX2 never asks BLAS
    assert wide._program.paths(4096) == ["own", large, "own"]
    assert wide._program.work_per_row == 9 * 2048 + 2048 * 2048 + 2048 * 2
    try:
        _kernels._force_matmul_path("own")
        assert wide._program.paths(4096) == ["own"] * 3
        _kernels._force_matmul_path("blas")
        assert wide._program.paths(64) == ["blas"] * 3
    finally:
        _kernels._force_matmul_path(None)


def test_workspace_grows_with_rows_and_threads():
    program = make()._program
    sizes = [program.workspace_bytes(rows, 1, by_hand=True) for rows in (1, 100, 1000)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[2]
    # Values and gradients of each slot, and the targets, labels, weights of each row.
    assert sizes[2] - sizes[1] >= 900 * 8 * (2 * (3 + 4 + 2) + 2)
    assert program.workspace_bytes(1000, 2, by_hand=True) > sizes[2]


@pytest.mark.parametrize("rows", [1, 127, 128, 129, 1000])
@pytest.mark.parametrize("threads", [1, 3])
def test_inference_of_any_number_of_rows(rows, threads):
    net = make()
    X = np.random.default_rng(0).standard_normal((rows, 3))
    out = np.full((rows, 2), np.nan)
    net._program.infer(X, _kernels.ACTIVATIONS["sigmoid"], out, threads)
    layers = list(zip(net.weights, net.biases, ["tanh", "identity"], strict=True))
    expected = ref.activation_forward("sigmoid", ref.forward(layers, X))
    np.testing.assert_allclose(out, expected, rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 16, 24, 25, 48, 64, 65])
def test_inference_of_few_rows_shares_columns(rows, dtype):
    # The first layer's last part is a single column. The largest layer has 1024 x 512 weights:
    # columns are cut for up to 64 rows.
    layers = [
        dnn.Dense(257, "relu"),
        dnn.BatchNorm(),
        dnn.Dense(1024, "gelu"),
        dnn.Dense(512, use_bias=False),
        dnn.Residual([dnn.Dense(512, "tanh")]),
        dnn.Dense(300, "softmax"),
        dnn.Dense(5, "sigmoid"),
    ]
    net = dnn.Network(300, layers, loss="mse", dtype=dtype, seed=1)
    X = np.random.default_rng(0).standard_normal((300, 300)).astype(dtype)
    identity = _kernels.ACTIVATIONS["identity"]
    expected = np.empty((300, 5), dtype)
    _kernels._force_matmul_path("own")  # BLAS has an order of its own
    try:
        net._program.infer(X, identity, expected, 2)  # so many rows are cut themselves
        for threads in (1, 2, 3):
            out = np.full((rows, 5), np.nan, dtype)
            net._program.infer(X[:rows], identity, out, threads)
            np.testing.assert_array_equal(out, expected[:rows])
        data = Data(X[:rows], None, out + 1, None)
        loss, weight = net._program.evaluate(data, 2)
        assert (loss, weight) == net._program.evaluate(data, 1)
    finally:
        _kernels._force_matmul_path(None)
    assert weight == rows
    np.testing.assert_allclose(loss, rows, rtol=1e-4)


def test_number_of_threads(monkeypatch):
    monkeypatch.setenv("DNNCORE_NUM_THREADS", "3")
    assert available_cpus() == 3
    assert threads_for(None, 1e12) == min(3, MAX_THREADS)
    assert threads_for(None, 1e3) == 1  # not worth sharing
    assert threads_for(2, 0) == min(2, MAX_THREADS)
    assert threads_for(10**6, 0) == MAX_THREADS
    for text in ("", "0", "-1", "many"):
        monkeypatch.setenv("DNNCORE_NUM_THREADS", text)
        assert available_cpus() >= 1
    for bad in (0, -1, 1.5, "2", True):
        with pytest.raises((TypeError, ValueError), match="n_threads"):
            threads_for(bad, 0)


def test_steps_of_few_rows_are_shared_if_their_weights_are_far():
    """A thread more is worth it only if the caches of one processor do not hold the weights."""
    assert threads_for(None, training_work(12, 2**18 - 1)) == 1
    assert training_work(13, 2**18 - 1) == 39.0 * (2**18 - 1 + ROW_WORK)
    assert training_work(2, 2**18) == 6.0 * (2**18 + ROW_WORK)


@pytest.mark.parametrize("moments", [np.zeros(3), np.zeros(26, np.float32)])
def test_moments_that_are_not_laid_out_as_the_parameters_are_refused(moments):
    net, at = make(), Position()
    assert net.n_params == 26
    optimizer, whole = dnn.Adam(0.1).settings(), np.zeros(26)
    before = net.params.copy()
    for first, second in ((moments, whole), (whole, moments)):
        with pytest.raises(ValueError, match="must be 26 numbers of float64"):
            net._program.run(examples(), None, at, 4, np.inf, 0, optimizer, first, second, 1)
        with pytest.raises(ValueError, match="must be 26 numbers of float64"):
            net._program.step(whole, Position(), optimizer, first, second)
    assert at.step == 0 and np.array_equal(net.params, before)
    run(net, examples())
