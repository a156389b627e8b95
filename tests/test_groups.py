"""Batches that are worked on in groups of rows, each of which sums a gradient of its own."""

import numpy as np
import pytest

import dnncore as dnn
from dnncore import reference as ref
from dnncore._engine import Data, Position
from dnncore._summary import fit_bytes

LAYERS = {
    "dense": [dnn.Dense(20, "tanh"), dnn.Dense(9, "relu"), dnn.Dense(3)],
    "one output": [dnn.Dense(17, "relu"), dnn.Dense(1)],
    "no bias": [dnn.Dense(12, "gelu", use_bias=False), dnn.Dense(2, use_bias=False)],
    "one layer": [dnn.Dense(4)],
    "noise": [dnn.Dense(20, "relu"), dnn.Dropout(0.3), dnn.Dense(9), dnn.AlphaDropout(0.2),
              dnn.GaussianNoise(0.1), dnn.Dense(2)],
    "norms": [dnn.LayerNorm(), dnn.Dense(20, "tanh"), dnn.RMSNorm(), dnn.Dense(3)],
    "slopes": [dnn.Dense(20), dnn.PReLU(), dnn.Dense(9), dnn.Blend("gelu"), dnn.Dense(3)],
    "blocks": [dnn.Dense(8), dnn.Residual([dnn.Dense(11, "relu"), dnn.Dropout(0.1), dnn.Dense(8)]),
               dnn.Activation("tanh"), dnn.Dense(2)],
    "frozen": [dnn.Dense(20, "tanh", trainable=False), dnn.BatchNorm(trainable=False),
               dnn.Dense(9, "relu"), dnn.Dense(3)],
}  # fmt: skip
ROWS = [301, 1000, 2502, 20_003]  # groups of one piece and of several, even and odd ones


def problem(name, rows, dtype="float64"):
    rng = np.random.default_rng(rows)
    net = dnn.Network(6, LAYERS[name], loss="mse", dtype=dtype, seed=3)
    return net, rng.standard_normal((rows, 6)), rng.standard_normal((rows, net.n_out))


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", LAYERS)
def test_gradient_is_that_of_the_batch_as_a_whole(name, rows):
    net, X, Y = problem(name, rows)
    weight = np.random.default_rng(1).uniform(0, 2, rows)
    assert net._program.groups(rows) >= 2
    grads = np.zeros(net.n_params)
    loss, total = net._program.loss_gradient(Data(X, None, Y, weight), grads, 2)
    whole = net.copy()  # forward and backward keep the whole batch
    expected, d_out = ref.loss("mse", whole.forward(X), Y, weight)
    whole.backward(d_out)
    assert np.abs(grads).max() > 1e-3
    np.testing.assert_allclose(grads, whole.grads, rtol=1e-9, atol=1e-13)
    assert loss / total == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_any_number_of_threads_gives_the_same_bits(name, dtype):
    def train(threads):
        net, X, Y = problem(name, 2600, dtype)
        net.fit(X, Y, epochs=2, batch_size=1000, n_threads=threads)  # and a last one of 600
        return net.params.tobytes()

    assert len({train(threads) for threads in (1, 2, 3, 4)}) == 1


@pytest.mark.parametrize(
    ("optimizer", "fit"),
    [({"clip_norm": 0.1}, {}), ({"clip_value": 0.01}, {}), ({}, {"accumulate": 3})],
)
def test_steps_that_need_the_whole_gradient(optimizer, fit):
    """Clipped, or added up over several batches: as in one small batch after the other."""
    ends = []
    for batch in (900, 60):  # in groups; too few rows for them
        net, X, Y = problem("norms", 2700)
        steps = {"batch_size": batch, "accumulate": 900 * fit.get("accumulate", 1) // batch}
        net.fit(X, Y, epochs=2, optimizer=dnn.SGD(0.5, **optimizer), **steps)
        ends.append(net.params)
    assert net._program.groups(900) > 0 and net._program.groups(60) == 0
    np.testing.assert_allclose(*ends, rtol=1e-9, atol=1e-12)


def test_a_loss_that_is_not_finite_stops_before_the_step():
    net, X, Y = problem("dense", 1000)
    Y[777] = 1e200
    start, at = net.params.copy(), Position()
    net._program.run(
        Data(X, None, Y, None), None, at, 1000, np.inf, 0, dnn.SGD(0.1).settings(), None, None, 2
    )
    assert not at.finite and at.step == 0
    np.testing.assert_array_equal(net.params, start)


def test_which_batches():
    program = problem("dense", 1)[0]._program
    groups = [program.groups(rows) for rows in range(1, 12_000)]
    assert groups[:256] == [0] * 256  # too few rows, whatever the network
    assert groups[256] == 2 and groups[-1] == 32
    assert groups == sorted(groups) and {n % 2 for n in groups} == {0}
    large = dnn.Network(784, [dnn.Dense(512, "relu"), dnn.Dense(10)])._program
    assert large.groups(500) == 0 < large.groups(1000)  # more gradient than activations
    normed = dnn.Network(6, [dnn.Dense(20), dnn.BatchNorm(), dnn.Dense(3)])._program
    assert normed.groups(10_000) == 0  # its statistics are the whole batch's


def test_path_of_a_gradient_is_that_of_the_whole_layer(run_python):
    """A tile of 24 of its 64 rows would be too little work for BLAS."""
    code = """
import dnncore as dnn
program = dnn.Network(64, [dnn.Dense(64, "relu"), dnn.Dense(10)])._program
print(program.groups(150), *program.paths(150, True))
"""
    assert run_python(code, DNNCORE_SIMD="base") == "2 blas own"


def test_summary_counts_the_whole_batch_for_a_loss_in_python():
    def square(true, pred):
        return float(((pred - true) ** 2).mean()), 2 * (pred - true) / pred.size

    compiled, in_python = (
        dnn.Network(6, LAYERS["dense"], loss=loss, dtype="float64") for loss in ("mse", square)
    )
    assert fit_bytes(in_python, 10_000) > 2 * fit_bytes(compiled, 10_000)


def test_memory_does_not_grow_with_the_batch():
    program = problem("dense", 1)[0]._program
    sizes = [program.workspace_bytes(rows, 2) for rows in (300, 10_000, 1_000_000)]
    assert sizes[0] < sizes[1] < 1.05 * sizes[2]
    assert sizes[2] < program.workspace_bytes(10_000, 2, by_hand=True) / 2
