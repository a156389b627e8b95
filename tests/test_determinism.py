"""The same seed gives the same bits: in any process, with any threads, in any company."""

import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import dnncore as dnn
from dnncore import _kernels
from dnncore import reference as ref
from dnncore._blas_threads import blas_info, single_threaded_blas

# A network for each way in which work is done: one tile, several tiles, zeros left out, BLAS,
# groups of rows.
REGIMES = {
    "tiny": ([2, 16, 1], "gelu", 300, 30, None),
    "small": ([64, 130, 70, 10], "gelu", 700, 200, None),
    "wide": ([211, 301, 307, 5], "gelu", 600, 400, None),
    "zeros": ([211, 301, 307, 5], "relu", 600, 400, "own"),
    "blas": ([211, 301, 307, 5], "gelu", 600, 400, "blas"),
    "groups": ([20, 40, 30, 3], "gelu", 2400, 700, None),
}
THREADS = [1, 2, 3, 4, None]


def train(regime, *, n_threads=None, seed=11, dtype="float32", dropout=True, epochs=2):
    widths, activation, rows, batch, path = REGIMES[regime]
    layers = [dnn.Dense(n, activation) for n in widths[1:-1]] + [dnn.Dense(widths[-1])]
    if dropout:
        layers.insert(1, dnn.Dropout(0.2))
    net = dnn.Network(widths[0], layers, loss="huber", dtype=dtype, seed=seed)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, widths[0]))
    y = rng.standard_normal((rows, widths[-1]))
    _kernels._force_matmul_path(path)
    try:
        history = net.fit(
            X, y, epochs=epochs, batch_size=batch, validation_split=0.25, n_threads=n_threads
        )
        outputs = net.predict(X)
    finally:
        _kernels._force_matmul_path(None)
    losses = np.array([history.history["loss"], history.history["val_loss"]])
    return hashlib.sha256(
        net.params.tobytes() + losses.tobytes() + outputs.tobytes()
    ).hexdigest()  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("regime", REGIMES)
def test_any_number_of_threads(regime, dtype):
    expected = train(regime, dtype=dtype, n_threads=1)
    assert [train(regime, dtype=dtype, n_threads=n) for n in THREADS] == [expected] * len(THREADS)
    assert train(regime, dtype=dtype, n_threads=1, seed=12) != expected
    assert train(regime, dtype=dtype, n_threads=1, dropout=False) != expected


@pytest.mark.parametrize("limit", [1, 2, None])
def test_any_number_of_blas_threads(limit):
    expected = train("blas", n_threads=1)
    with threadpool_limits(limits=limit, user_api="blas"):
        before = [library["num_threads"] for library in blas_info()]
        assert train("blas", n_threads=2) == expected
        assert [library["num_threads"] for library in blas_info()] == before


def test_fresh_processes(run_python):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_determinism as t;"
        "print(*(t.train(name) for name in t.REGIMES))"
    )
    here = " ".join(train(name) for name in REGIMES)
    for blas, own in [(1, 1), (2, 2), (2, 1)]:
        threads = {"OPENBLAS_NUM_THREADS": blas, "DNNCORE_NUM_THREADS": own}
        assert run_python(code, Path(__file__).parent, **threads) == here


def in_threads(*calls):
    """Call all at the same time; raises what they raise."""
    results, start = [None] * len(calls), threading.Barrier(len(calls))

    def run(i):
        start.wait()
        try:
            results[i] = calls[i]()
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


@pytest.mark.parametrize("n_threads", [1, 3])
def test_networks_trained_side_by_side(n_threads):
    names = ["tiny", "small", "wide", "wide"]  # "blas" would force its path on all of them
    calls = [lambda name=name: train(name, n_threads=n_threads) for name in names]
    assert in_threads(*calls) == [call() for call in calls]


def test_blas_is_held_at_one_thread_until_the_last_leaves():
    before = [library["num_threads"] for library in blas_info()]

    def enter_often():
        for _ in range(200):
            with single_threaded_blas():
                assert {library["num_threads"] for library in blas_info()} == {1}

    in_threads(*[enter_often] * 4)
    assert [library["num_threads"] for library in blas_info()] == before


def test_order_of_batches_depends_on_seed_and_epoch_alone():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((50, 3)), rng.standard_normal(50)
    net = dnn.Network(3, [dnn.Dense(1)], loss="mse", dtype="float64", seed=2**64 - 1)
    by_hand = net.copy()
    for _ in range(3):
        net.fit(X, y, epochs=1, batch_size=7, optimizer="sgd")
    for epoch in range(3):
        rows = ref.shuffle(50, 2**64 - 1, 0, epoch)
        by_hand.fit(
            X[rows], y[rows], epochs=1, batch_size=7, optimizer="sgd", shuffle=False
        )  # fmt: skip
    np.testing.assert_array_equal(net.params, by_hand.params)


def test_initial_weights_depend_on_the_seed():
    def params(seed):
        return dnn.Network(5, [dnn.Dense(4, "relu"), dnn.Dense(3)], seed=seed).params

    np.testing.assert_array_equal(params(3), params(3))
    assert (params(3) != params(4)).any()
    assert (params(None) != params(None)).any()
    np.testing.assert_array_equal(
        params(np.random.default_rng(0)), params(np.random.default_rng(0))
    )


@pytest.mark.parametrize("rows", [1, 5, 127, 128, 129, 1000])
def test_a_row_s_prediction_does_not_depend_on_its_company(rows):
    rng = np.random.default_rng(0)
    layers = [dnn.Dense(130, "tanh"), dnn.Dense(70, "relu"), dnn.Dense(10)]
    net = dnn.Network(64, layers, loss="mse")
    X = rng.standard_normal((1000, 64), dtype=np.float32)
    _kernels._force_matmul_path("own")  # the number of rows may decide between these and BLAS
    try:
        whole, first, last = net.predict(X), net.predict(X[:rows]), net.predict(X[-rows:])
    finally:
        _kernels._force_matmul_path(None)
    np.testing.assert_array_equal(first, whole[:rows])
    np.testing.assert_array_equal(last, whole[-rows:])
