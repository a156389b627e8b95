"""Sparse inputs: the results of dense ones, without ever being dense."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse

import dnncore as dnn
from dnncore._sparse import as_csr
from dnncore.checkpoints import fingerprint

ROWS, N_IN = 90, 40
FORMATS = ["csr", "csc", "coo", "lil", "dok"]


def examples(dtype="float64", rows=ROWS, seed=0):
    rng = np.random.default_rng(seed)
    X = scipy.sparse.random_array((rows, N_IN), density=0.1, rng=rng, dtype=dtype).tocsr()
    labels = np.array(["a", "b", "c"])[rng.integers(3, size=rows)]
    return X, labels, rng.uniform(0.5, 2, rows)


def network(dtype="float64", seed=1, first="tanh"):
    layers = [dnn.Dense(7, first), dnn.Dropout(0.2), dnn.Dense(3)]
    return dnn.Network(N_IN, layers, dtype=dtype, seed=seed)


def fit(net, X, y, weight=None, **options):
    settings = {"epochs": 4, "batch_size": 16, "optimizer": dnn.Adam(0.01, clip_norm=1.0)}
    return net.fit(X, y, sample_weight=weight, **settings | options)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("make", ["array", "matrix"])
def test_any_format_gives_what_dense_inputs_give(kind, make):
    X, y, weight = examples()
    given = X.asformat(kind)
    if make == "matrix":
        given = getattr(scipy.sparse, f"{kind}_matrix")(given)
    options = {
        "validation_split": 0.2, "class_weight": {"a": 2.0}, "metrics": ["accuracy", "log_loss"],
        "accumulate": 2, "averaging": dnn.EMA(0.9),
    }  # fmt: skip
    dense, sparse = network(), network()
    expected = fit(dense, X.toarray(), y, weight, **options)
    found = fit(sparse, given, y, weight, **options)
    np.testing.assert_allclose(sparse.params, dense.params, rtol=1e-9, atol=1e-12)
    for name in expected.history:
        if name != "time":
            np.testing.assert_allclose(found.history[name], expected.history[name], rtol=1e-9)
    assert (sparse.predict(given) == dense.predict(X.toarray())).all()
    np.testing.assert_allclose(
        sparse.predict_proba(given), dense.predict_proba(X.toarray()), rtol=1e-9
    )
    for one, other in zip(
        sparse.evaluate(given, y, sample_weight=weight).values(),
        dense.evaluate(X.toarray(), y, sample_weight=weight).values(),
        strict=True,
    ):
        assert one == pytest.approx(other)


@pytest.mark.parametrize("first", ["relu", "gelu", "identity"])
def test_validation_data_and_single_steps(first):
    X, y, _ = examples()
    nets = [network(first=first) for _ in range(2)]
    losses = []
    for net, given in zip(nets, (X, X.toarray()), strict=True):
        history = fit(net, given, y, validation_data=(given, y))
        losses.append([*history.history["val_loss"], net.train_step(given, y)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-9)


def test_any_number_of_threads_gives_the_same_bits():
    X, y, _ = examples("float32", rows=3000)
    ends = set()
    for n_threads in (1, 2, 3, 4):
        net = network("float32")
        fit(net, X, y, batch_size=500, n_threads=n_threads)
        ends.add(net.params.tobytes())
    assert len(ends) == 1


def test_regression_and_its_scores():
    X, _, _ = examples()
    y = X @ np.arange(N_IN)
    net = dnn.Network(N_IN, [dnn.Dense(1)], loss="mse", dtype="float64")
    history = net.fit(X, y, epochs=200, batch_size=10, optimizer=dnn.Adam(0.3), metrics=["r2"])
    assert history.history["r2"][-1] > 0.99
    assert net.evaluate(X, y)["r2"] == pytest.approx(history.history["r2"][-1])


def test_many_networks():
    X, y, _ = examples()
    rows = [np.arange(ROWS) % 3 != i for i in range(3)]
    nets = [network(seed=i) for i in range(3)]
    dnn.fit_many(nets, X.tocoo(), y, epochs=2, rows=rows, validation_rows=[~r for r in rows])
    for i, net in enumerate(nets):
        alone = network(seed=i)
        alone.fit(X[np.flatnonzero(rows[i])], y[rows[i]], epochs=2)
        assert net.params.tobytes() == alone.params.tobytes()


def test_resuming(tmp_path):
    X, y, _ = examples()
    expected = network()
    fit(expected, X, y)
    fit(network(), X, y, epochs=2, callbacks=[dnn.Checkpoint(tmp_path)])
    other = X.copy()
    other.indices[0] = (other.indices[0] + 1) % N_IN
    with pytest.raises(ValueError, match="data must be what they were"):
        fit(network(), other, y, resume_from=tmp_path)
    net = network()
    fit(net, X, y, resume_from=tmp_path)
    assert net.params.tobytes() == expected.params.tobytes()


def test_the_fingerprint_sees_where_numbers_stand():
    X, y, _ = examples()
    net = network()
    data = [net._data(net._targets.learn(y), x, y, None) for x in (X, X[:, ::-1])]
    assert fingerprint(data[0]) != fingerprint(data[1])


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_untidy_matrices_are_tidied_in_a_copy(index):
    indptr, indices = np.array([0, 3, 3, 5], index), np.array([2, 0, 2, 1, 0], index)
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    X = scipy.sparse.csr_array((values.copy(), indices.copy(), indptr.copy()), shape=(3, 3))
    net = dnn.Network(3, [dnn.Dense(2)], loss="mse", dtype="float64")
    expected = X.toarray() @ net.weights[0]
    np.testing.assert_allclose(net.predict(X), expected, rtol=1e-12)
    net.fit(X, np.ones((3, 2)), epochs=1)
    np.testing.assert_array_equal(X.data, values)
    np.testing.assert_array_equal(X.indices, indices)
    assert X.indices.dtype == index


def test_a_tidy_matrix_is_not_copied():
    X, _, _ = examples()
    assert np.shares_memory(as_csr(X, "X", dtype=np.dtype("float64")).data, X.data)


def test_memory_follows_the_non_zeros():
    X = scipy.sparse.random_array((2000, 20000), density=1e-4, dtype="float32", rng=0).tocsr()
    net = dnn.Network(20000, [dnn.Dense(2, "relu"), dnn.Dense(1)], loss="mse")
    tracemalloc.start()
    net.fit(X, np.ones(2000), epochs=1, batch_size=500, verbose=False, validation_split=0.5)
    net.predict(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2000 * 20000 * 4 / 20


@pytest.mark.parametrize("values", ["bool", "int64", "uint8"])
def test_integers_are_numbers(values):
    X, y, _ = examples()
    ones = (X != 0).astype(values)
    net, other = network(), network()
    fit(net, ones, y)
    fit(other, ones.toarray(), y)
    np.testing.assert_allclose(net.params, other.params, rtol=1e-9)


def broken(**parts):
    X = examples()[0]
    for name, value in parts.items():
        array = getattr(X, name).copy()
        array[-1] = value
        setattr(X, name, array)
    return X


X = examples()[0]
BAD = {
    "nan": (broken(data=np.nan), ValueError, "NaN"),
    "infinity": (broken(data=np.inf), ValueError, "infinity"),
    "column out of range": (broken(indices=N_IN), ValueError, "damaged"),
    "negative column": (broken(indices=-1), ValueError, "damaged"),
    "beyond its data": (broken(indptr=10**6), ValueError, "damaged"),
    "narrow": (X[:, :5], ValueError, f"{N_IN} columns"),
    "empty": (X[:0], ValueError, "row"),
    "complex": (X.astype(complex), TypeError, "real"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("call", ["fit", "predict", "evaluate", "fit_many"])
def test_bad_matrices(name, call):
    given, error, words = BAD[name]
    y, net = examples()[1][: given.shape[0]], network()
    calls = {
        "fit": lambda: net.fit(given, y),
        "predict": lambda: net.predict(given),
        "evaluate": lambda: net.evaluate(given, y),
        "fit_many": lambda: dnn.fit_many([net], given, y),
    }
    if name == "narrow" and call == "fit_many":
        words = "5 columns"
    if name == "empty" and call == "predict":
        return
    before = net.params.copy()
    with pytest.raises(error, match=words):
        calls[call]()
    np.testing.assert_array_equal(net.params, before)


def test_too_large_for_float32():
    with pytest.raises(ValueError, match="too large"):
        network("float32").predict(broken(data=1e300))


def test_where_only_dense_inputs_will_do():
    X, _, _ = examples()
    y = np.ones(ROWS)
    custom = dnn.Network(N_IN, [dnn.Dense(1)], loss=lambda y, p: (0.0, p))
    dropped = dnn.Network(N_IN, [dnn.Dropout(0.1), dnn.Dense(1)], loss="mse")
    for call in (
        lambda: custom.fit(X, y),
        lambda: dropped.fit(X, y),
        lambda: dropped.predict(X),
        lambda: dropped.fit(X.toarray(), y, validation_data=(X, y)),
        lambda: network().forward(X),
    ):
        with pytest.raises(TypeError, match="toarray"):
            call()
