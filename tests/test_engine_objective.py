"""What the scikit-learn door asks of the engine: its objective, sparse inputs, clipped losses."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.neural_network._base import LOSS_FUNCTIONS

import dnncore as dnn
from dnncore._engine import Data, Position, Program
from dnncore._kernels import ACTIVATIONS, LOSS_IDS
from dnncore.gradcheck import check_gradient
from dnncore.program import layout_of

N_IN, N_OUT = 7, 3


def make(loss, dtype="float64", hidden=("tanh",), n_in=N_IN, n_out=N_OUT, units=5):
    layers = [*(dnn.Dense(units, activation) for activation in hidden), dnn.Dense(n_out)]
    layout = layout_of(n_in, layers)
    params = np.random.default_rng(0).standard_normal(layout.size).astype(dtype)
    return Program(params, layout.widths, layout.operations, LOSS_IDS[loss], (), 0)


def weights(program, units=5):
    """The two weight matrices of a network with one hidden layer."""
    n = N_IN * units
    return program.params[:n].reshape(N_IN, units), program.params[n + units : -N_OUT].reshape(
        units, N_OUT
    )


def run(program, data, optimizer, state=(None, None), batch=4, objective=None, threads=1, **more):
    position = Position()
    program.run(
        data, more.get("order"), position, batch, np.inf, 0, optimizer, *state, threads, objective
    )
    return position


def sparse_data(x, *rest):
    return Data(x.data, *rest, indptr=x.indptr.astype(np.int64), indices=x.indices.astype(np.int32))


class TestObjective:
    def test_a_step_of_gradient_descent(self):
        rng = np.random.default_rng(1)
        x, y = rng.standard_normal((6, N_IN)), rng.standard_normal((6, N_OUT))
        w = rng.uniform(0.5, 2, 6)
        program = make("mse")
        start = program.params.copy()
        penalty, lr = 0.3, 0.1
        grads = np.zeros_like(start)
        loss, total = program.loss_gradient(Data(x, None, y, w), grads, 1, N_OUT / 2)
        assert total == pytest.approx(w.sum())
        # The same batch by hand: half the squares, their gradient not divided by the outputs.
        squares = sum((matrix**2).sum() for matrix in weights(program))
        expected = 0.5 * loss / total + 0.5 * penalty * squares / total
        decayed = np.zeros_like(start)
        n = N_IN * 5
        decayed[:n], decayed[n + 5 : -N_OUT] = start[:n], start[n + 5 : -N_OUT]
        sums = run(
            program, Data(x, None, y, w), dnn.SGD(lr).settings(), batch=6,
            objective=(0.5, N_OUT / 2, penalty),
        )  # fmt: skip
        assert sums.loss_sum == pytest.approx(6 * expected, rel=1e-12)
        assert sums.weight_sum == 6 and sums.finite
        step = grads + penalty / total * decayed
        np.testing.assert_allclose(program.params, start - lr * step, rtol=1e-12, atol=1e-14)

    def test_batches_count_by_their_rows(self):
        rng = np.random.default_rng(2)
        x, y, w = rng.standard_normal((10, N_IN)), rng.standard_normal((10, N_OUT)), np.ones(10)
        w[:4] = 9.0
        frozen = dnn.SGD(0.0).settings()
        program = make("mse")
        seen = run(program, Data(x, None, y, w), frozen, objective=(1, 1, 0.0))
        parts = []
        for first in (0, 4, 8):
            part = slice(first, first + 4)
            sums = program.evaluate(Data(x[part], None, y[part], w[part]), 1)
            parts.append(len(x[part]) * sums[0] / sums[1])
        assert seen.loss_sum == pytest.approx(sum(parts), rel=1e-12)
        assert seen.weight_sum == 10

    def test_adam_adds_eps_before_its_correction(self):
        rng = np.random.default_rng(3)
        x, y = rng.standard_normal((4, N_IN)), rng.standard_normal((4, N_OUT))
        data, eps, lr = Data(x, None, y, None), 0.5, 0.01
        program = make("mse")
        start, grads = program.params.copy(), np.zeros_like(program.params)
        program.loss_gradient(data, grads, 1)
        state = (np.zeros_like(start), np.zeros_like(start))
        run(program, data, dnn.Adam(lr, eps=eps).settings(), state, objective=(1, 1, 0.0))
        rate = lr * np.sqrt(1 - 0.999) / (1 - 0.9)
        step = rate * 0.1 * grads / (np.sqrt(0.001 * grads**2) + eps)
        np.testing.assert_allclose(start - program.params, step, rtol=1e-9)

    def test_a_loss_that_is_not_finite_stops_nothing(self):
        x = np.full((4, N_IN), 1e300)
        data = Data(x, None, np.full((4, N_OUT), -1e300), None)
        program = make("mse", hidden=("identity",))
        seen = run(program, data, dnn.SGD(1.0).settings(), batch=2)
        assert (seen.start, seen.finite) == (0, False)
        seen = run(program, data, dnn.SGD(1.0).settings(), batch=2, objective=(1, 1, 0.1))
        assert (seen.start, seen.step, seen.finite) == (4, 2, False)
        assert not np.isfinite(seen.loss_sum)

    @pytest.mark.parametrize("loss", ["softmax_clipped", "binary_clipped", "mse", "poisson"])
    def test_gradient_by_finite_differences(self, loss):
        rng = np.random.default_rng(4)
        program = make(loss)
        labels = rng.integers(N_OUT, size=9).astype(np.int32) if "softmax" in loss else None
        target = None if labels is not None else rng.integers(2, size=(9, N_OUT)).astype(float)
        x = scipy.sparse.random(9, N_IN, 0.5, "csr", random_state=rng)
        data = sparse_data(x, labels, target, rng.uniform(0.5, 2, 9))
        grads = np.zeros_like(program.params)

        def value(params):
            program.params[:] = params
            total, weight = program.loss_gradient(data, grads, 1)
            return total / weight

        def gradient(params):
            value(params)
            return grads.copy()

        check_gradient(value, gradient, program.params.copy())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
class TestSparse:
    @pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
    def test_is_the_dense_network(self, dtype, activation):
        rng = np.random.default_rng(5)
        x = scipy.sparse.random(50, 300, 0.05, "csr", dtype=dtype, random_state=rng)
        y = rng.standard_normal((50, N_OUT)).astype(dtype)
        w = rng.uniform(0.5, 2, 50).astype(dtype)
        order = rng.permutation(50)
        optimizer = dnn.SGD(0.01).settings()
        eps = np.finfo(dtype).eps
        found = []
        for data in (Data(x.toarray(), None, y, w), sparse_data(x, None, y, w)):
            program = make("mse", dtype, (activation, "relu"), n_in=300, units=20)
            sums = run(program, data, optimizer, order=order, batch=16, objective=(1, 1, 0.1))
            run(program, data, optimizer, batch=7)
            out = np.empty((50, N_OUT), dtype)
            if isinstance(data.x, np.ndarray) and data.x.ndim == 2:
                program.infer(data.x, ACTIVATIONS["identity"], out, 1)
            else:
                program.infer_sparse(data, ACTIVATIONS["identity"], out, 1)
            found.append((sums.loss_sum, program.params.copy(), out))
        for dense, sparse in zip(*found, strict=True):
            np.testing.assert_allclose(sparse, dense, rtol=0, atol=500 * eps * np.abs(dense).max())

    def test_any_number_of_threads(self, dtype):
        rng = np.random.default_rng(6)
        x = scipy.sparse.random(400, 3000, 0.01, "csr", dtype=dtype, random_state=rng)
        labels = rng.integers(N_OUT, size=400).astype(np.int32)
        data = sparse_data(x, labels, None, None)
        params = []
        for threads in (1, 2, 4):
            program = make("softmax_clipped", dtype, ("relu",), n_in=3000, units=100)
            state = [np.zeros_like(program.params) for _ in range(2)]
            run(
                program, data, dnn.Adam().settings(), state, batch=200, threads=threads,
                order=np.arange(400)[::-1].copy(), objective=(1, 1, 0.1),
            )  # fmt: skip
            params.append(program.params)
        np.testing.assert_array_equal(params[0], params[1])
        np.testing.assert_array_equal(params[0], params[2])

    def test_rows_without_entries(self, dtype):
        x = scipy.sparse.csr_array((6, N_IN), dtype=dtype)
        program = make("mse", dtype)
        out = np.empty((6, N_OUT), dtype)
        program.infer_sparse(
            sparse_data(x, None, np.zeros((6, N_OUT), dtype), None), ACTIVATIONS["identity"], out, 1
        )
        np.testing.assert_array_equal(out, out[:1].repeat(6, axis=0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("loss", ["softmax_clipped", "binary_clipped"])
def test_clipped_losses_are_scikit_learns(loss, dtype, weighted, scale):
    rng = np.random.default_rng(7)
    layers = [dnn.Dense(4)]
    program = Program(
        np.r_[np.eye(4).ravel(), np.zeros(4)].astype(dtype), [4, 4],
        layout_of(4, layers).operations, LOSS_IDS[loss], (), 0,
    )  # fmt: skip
    z = (scale * rng.standard_normal((40, 4))).astype(dtype)
    w = rng.uniform(0, 2, 40).astype(dtype) if weighted else None
    double = z.astype(float)
    if loss == "softmax_clipped":
        labels = rng.integers(4, size=40).astype(np.int32)
        e = np.exp(double - double.max(axis=1, keepdims=True))
        p, y = e / e.sum(axis=1, keepdims=True), np.eye(4)[labels]
        total, weight = program.evaluate(Data(z, labels, None, w), 1)
        expected = LOSS_FUNCTIONS["log_loss"](y, p.astype(dtype), w)
    else:
        y = rng.integers(2, size=(40, 4))
        with np.errstate(over="ignore"):
            p = 1 / (1 + np.exp(-double))
        total, weight = program.evaluate(Data(z, None, y.astype(dtype), w), 1)
        expected = LOSS_FUNCTIONS["binary_log_loss"](y, p.astype(dtype), w) / 4
    assert total / weight == pytest.approx(expected, rel=1e-3 if dtype == "float32" else 1e-9)
