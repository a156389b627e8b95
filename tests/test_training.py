"""fit: what it records, whom it calls, what it sets aside; and that training trains."""

import io
import time

import numpy as np
import pytest

import dnncore as dnn
from dnncore import training
from dnncore.callbacks import ProgressBar
from dnncore.optimizers import OPTIMIZERS, as_optimizer
from dnncore.preprocessing import split_indices


def regression(rows=100, n_in=3, n_out=2):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, n_in))
    y = X @ rng.standard_normal((n_in, n_out)) + 0.1 * rng.standard_normal((rows, n_out))
    return X, y


def network(n_in=3, n_out=2, loss="mse", **options):
    return dnn.Network(n_in, [dnn.Dense(8, "tanh"), dnn.Dense(n_out)], loss=loss, **options)


class Recorder(dnn.Callback):
    """Writes down every call."""

    def __init__(self, name="", stop_after=None):
        self.name, self.stop_after, self.calls = name, stop_after, []

    def record(self, what, *details):
        self.calls.append((what, *details))

    def on_train_begin(self, network, epochs):
        self.record("train begins", epochs)

    def on_epoch_begin(self, network, epoch):
        self.record("epoch begins", epoch)

    def on_progress(self, network, epoch, done, loss):
        assert 0 < done <= 1 and np.isfinite(loss)
        if done == 1:
            self.record("data are through", epoch)

    def on_epoch_end(self, network, epoch, logs):
        self.record("epoch ends", epoch, sorted(logs))
        if epoch == self.stop_after:
            network.stop_training = True

    def on_train_end(self, network):
        self.record("train ends")


# Learning


@pytest.mark.parametrize(
    "optimizer",
    [
        *OPTIMIZERS,
        dnn.SGD(0.05, momentum=0.9),
        dnn.SGD(0.05, momentum=0.9, nesterov=True),
    ],
)
def test_every_optimizer_finds_the_line(optimizer):
    X, y = regression(n_out=1)
    net = dnn.Network(3, [dnn.Dense(1)], loss="mse", dtype="float64")
    chosen = as_optimizer(optimizer)
    if isinstance(optimizer, str) and optimizer != "sgd":
        rates = {"adagrad": 0.5, "adadelta": 10.0, "lion": 0.005}
        chosen = type(chosen)(rates.get(optimizer, 0.02))
    net.fit(X, y, epochs=200, batch_size=20, optimizer=chosen)
    ones = np.c_[X, np.ones(100)]
    best = np.linalg.lstsq(ones, y, rcond=None)[0]
    np.testing.assert_allclose(np.r_[net.weights[0], [net.biases[0]]], best, atol=0.02)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_classifier_separates_rings(dtype):
    rng = np.random.default_rng(0)
    angle, inner = rng.uniform(0, 2 * np.pi, 400), np.arange(400) % 2 == 0
    radius = np.where(inner, 1.0, 2.0) + 0.1 * rng.standard_normal(400)
    X = radius[:, None] * np.c_[np.cos(angle), np.sin(angle)]
    y = np.where(inner, "in", "out")
    for loss, n_out in [("softmax_cross_entropy", 2), ("binary_cross_entropy", 1)]:
        layers = [dnn.Dense(16, "relu"), dnn.Dense(16, "relu"), dnn.Dense(n_out)]
        net = dnn.Network(2, layers, loss=loss, dtype=dtype)
        before = net.evaluate(X, y)
        net.fit(X[:300], y[:300], epochs=60, batch_size=20, optimizer=dnn.Adam(0.01))
        after = net.evaluate(X[300:], y[300:])
        assert after["accuracy"] > 0.97 and after["loss"] < before["loss"] / 3
        assert after["accuracy"] == np.mean(net.predict(X[300:]) == y[300:])


# History


def test_history():
    X, y = regression()
    net = network()
    start = net.evaluate(X, y)["loss"]
    result = net.fit(X, y, epochs=5, batch_size=10, validation_data=(X[:20], y[:20]))
    history = result.history
    assert sorted(history) == ["loss", "time", "val_loss", "val_r2"]
    assert all(len(values) == 5 for values in history.values())
    assert all(type(value) is float for values in history.values() for value in values)
    assert start > history["loss"][0] > history["loss"][-1] > 0
    assert min(history["time"]) > 0
    final = net.evaluate(X[:20], y[:20])
    assert history["val_loss"][-1] == final["loss"]
    assert history["val_r2"][-1] == final["r2"]
    assert repr(result).startswith("History(5 epochs; last: loss=")
    assert net.fit(X, y, epochs=0).history == {}


def test_full_batch_and_batches_larger_than_the_data():
    X, y = regression()
    expected = network()
    expected.fit(X, y, epochs=3, batch_size=None)
    for batch_size in (100, 101, 10**6):
        net = network()
        net.fit(X, y, epochs=3, batch_size=batch_size)
        np.testing.assert_array_equal(net.params, expected.params)


def test_weights_count_as_repetitions():
    X, y = regression(20)
    weight = np.arange(20) % 3
    twice, weighted = network(dtype="float64"), network(dtype="float64")
    twice.fit(np.repeat(X, weight, axis=0), np.repeat(y, weight, axis=0), epochs=5, batch_size=None)
    weighted.fit(X, y, epochs=5, batch_size=None, sample_weight=weight)
    np.testing.assert_allclose(weighted.params, twice.params, rtol=1e-9)
    a = weighted.evaluate(X, y, sample_weight=weight)
    b = weighted.evaluate(np.repeat(X, weight, axis=0), np.repeat(y, weight, axis=0))
    assert a == pytest.approx(b)
    assert a != pytest.approx(weighted.evaluate(X, y), rel=1e-3)


def test_scores_by_hand():
    X = np.array([[1.0], [2.0], [3.0], [4.0]])
    net = dnn.Network(1, [dnn.Dense(1)], loss="mse", dtype="float64")
    net.params[:] = [1, 0]  # predicts its input
    scores = net.evaluate(X, [1, 2, 3, 6])
    assert scores["loss"] == pytest.approx(1.0)  # 2^2 / 4
    assert scores["r2"] == pytest.approx(1 - 4 / 14)  # the mean is 3: 4 + 1 + 0 + 9
    assert net.evaluate(X, [1, 2, 3, 6], sample_weight=[1, 1, 1, 0]) == {"loss": 0.0, "r2": 1.0}
    assert net.evaluate(X[:1], [1])["r2"] == 1.0  # a constant that is hit
    assert net.evaluate(X, [1, 1, 1, 1])["r2"] == 0.0  # and one that is missed
    two = dnn.Network(1, [dnn.Dense(2)], loss="mse", dtype="float64")
    two.params[:] = [1, 0, 0, 3]  # the second output is always 3
    scores = two.evaluate(X, np.c_[[1, 2, 3, 4], [1, 3, 3, 5]])
    assert scores["r2"] == pytest.approx((1 + (1 - 8 / 8)) / 2)


def test_accuracy_by_hand():
    X = np.array([[2.0, 0, 1], [0, 2, 1], [0, 1, 2], [1, 0, 2]])

    def copier(loss):
        net = dnn.Network(3, [dnn.Dense(3)], loss=loss, dtype="float64")
        net.params[:9] = np.eye(3).ravel()  # outputs are the inputs
        return net

    y, soft = np.array([0, 1, 1, 2]), np.eye(3)[[0, 1, 1, 2]] * 0.9 + 0.1 / 3
    for target in (y, np.eye(3)[y], soft):  # classes 0, 1, 2, 2 are predicted
        net = copier("softmax_cross_entropy")
        assert net.evaluate(X, target)["accuracy"] == 0.75
        assert net.evaluate(X, target, sample_weight=[0, 0, 3, 2])["accuracy"] == 0.4
    several = copier("binary_cross_entropy")  # a row counts if all its outputs are right
    Y = [[1, 0, 1], [0, 1, 1], [0, 1, 0], [0, 0, 1]]
    assert several.evaluate(X - 0.5, Y)["accuracy"] == 0.5


def test_training_on_what_is_not_float():
    X, y = regression()
    grid, labels = (X * 10).astype(np.int8), (y > 0).all(axis=1)
    net = network(loss="binary_cross_entropy", n_out=1)
    other = net.copy()
    net.fit(grid, labels, epochs=2)
    other.fit(np.asfortranarray(grid.astype(">f8")), labels.astype(np.float16), epochs=2)
    np.testing.assert_array_equal(net.params, other.params)
    assert net.predict(grid).dtype == np.bool_
    assert other.predict(grid).dtype == np.float16


# Data set aside


def test_validation_split_is_what_is_left_of_the_data():
    X, y = regression()
    net, by_hand = network(), network()
    rest, held = split_indices(100, 0.05, stratify=False, seed=net.seed)
    assert len(held) == 5
    a = net.fit(X, y, epochs=3, validation_split=0.05, batch_size=10)
    b = by_hand.fit(
        X[rest], y[rest], epochs=3, validation_data=(X[held], y[held]), batch_size=10
    )  # fmt: skip
    np.testing.assert_array_equal(net.params, by_hand.params)
    assert a.history["val_loss"] == b.history["val_loss"]


@pytest.mark.parametrize("kind", ["labels", "one-hot", "binary"])
@pytest.mark.parametrize("stratify", [None, True])
def test_validation_split_keeps_the_shares_of_classes(kind, stratify):
    y = np.zeros(200, int)
    y[np.random.default_rng(0).permutation(200)[:20]] = 1
    loss, n_out = ("binary_cross_entropy", 1) if kind == "binary" else ("softmax_cross_entropy", 2)
    net = network(loss=loss, n_out=n_out)
    X = y[:, None] * np.ones(3)
    net.fit(X, y, epochs=60, optimizer=dnn.Adam(0.05))
    given = np.eye(2)[y] if kind == "one-hot" else y
    still = dnn.SGD(0.0)
    history = net.fit(
        X, given, epochs=1, optimizer=still, validation_split=0.2, stratify=stratify
    ).history  # fmt: skip
    # The loss of a row depends on its class alone, so the means agree if the shares do.
    assert history["val_loss"][0] == pytest.approx(net.evaluate(X, y)["loss"], rel=1e-5)


def test_validation_split_without_strata():
    X, y = regression()
    net = network()
    with pytest.raises(ValueError, match="stratify=True needs class labels"):
        net.fit(X, y, validation_split=0.5, stratify=True)
    labels = np.r_[np.zeros(99, int), 1]
    classifier = network(loss="softmax_cross_entropy")
    with pytest.raises(ValueError, match="at least two rows of every class"):
        classifier.fit(X, labels, validation_split=0.5)
    classifier.fit(X, labels, validation_split=0.5, stratify=False, epochs=1)


@pytest.mark.parametrize(
    ("fraction", "error", "message"),
    [
        (1.0, ValueError, "validation_split must be less than 1"),
        (-0.1, ValueError, "validation_split must be at least 0"),
        (np.nan, ValueError, "validation_split must be finite"),
        ("0.1", TypeError, "validation_split must be a number"),
        (True, TypeError, "validation_split must be a number"),
    ],
)
def test_shares_that_are_none(fraction, error, message):
    X, y = regression()
    with pytest.raises(error, match=message):
        network().fit(X, y, validation_split=fraction)


# Callbacks


def test_callbacks_are_called_in_order():
    X, y = regression()
    first, second = Recorder(), Recorder()
    first.calls = second.calls
    network().fit(X, y, epochs=2, callbacks=(first, second), validation_split=0.2)
    expected = [("train begins", 2)]
    for epoch in range(2):
        expected += [("epoch begins", epoch), ("data are through", epoch)]
        expected += [("epoch ends", epoch, ["loss", "time", "val_loss", "val_r2"])]
    expected += [("train ends",)]
    assert second.calls == [call for call in expected for _ in range(2)]


def test_progress_comes_while_an_epoch_lasts(monkeypatch):
    X, y = np.zeros((10_000, 64), np.float32), np.zeros(10_000, np.float32)
    seen = []
    assert training.SLICE_SECONDS == 0.05
    monkeypatch.setattr(training, "SLICE_SECONDS", 0.001)

    class Watch(dnn.Callback):
        def on_progress(self, network, epoch, done, loss):
            seen.append(done)

    net = dnn.Network(64, [dnn.Dense(512, "relu"), dnn.Dense(1)], loss="mse")
    net.fit(X, y, epochs=1, batch_size=32, callbacks=[Watch()], n_threads=1)
    assert len(seen) > 5
    assert seen == sorted(seen) and seen[-1] == 1


class Nothing(dnn.Callback):
    """Wants to be called at the end of each epoch."""

    def on_epoch_end(self, network, epoch, logs):
        pass


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"shuffle": False},
        {"optimizer": dnn.SGD(dnn.schedules.Cosine(0.1), momentum=0.9), "accumulate": 3},
        {"averaging": dnn.SWA(start=2)},
        {"sample_weight": np.linspace(0, 1, 100)},
        {"batch_size": None},
    ],
    ids=lambda settings: ", ".join(settings) or "plain",
)
def test_epochs_that_nobody_watches_pass_within_the_engine(settings, n_threads, monkeypatch):
    X, y = regression()
    runs, run = [], training.Run._run_engine
    monkeypatch.setattr(training, "SLICE_SECONDS", 10.0)
    monkeypatch.setattr(training.Run, "_run_engine", lambda *a: runs.append(a) or run(*a))
    settings = {"epochs": 7, "batch_size": 16, "n_threads": n_threads, **settings}
    networks = [
        dnn.Network(3, [dnn.Dense(8, "tanh"), dnn.Dropout(0.2), dnn.Dense(2)], loss="mse")
        for _ in range(2)
    ]
    alone = networks[0].fit(X, y, **settings)
    assert len(runs) == 1
    watched = networks[1].fit(X, y, callbacks=[Nothing()], **settings)
    assert len(runs) == 8
    assert alone.history["loss"] == watched.history["loss"]
    assert networks[0].params.tobytes() == networks[1].params.tobytes()
    if "averaging" in settings:
        one, other = (network.averaged.params for network in networks)
        assert one.tobytes() == other.tobytes()
    for network in networks:  # the next epoch's order and masks are the same, too
        network.fit(X, y, **settings)
    assert networks[0].params.tobytes() == networks[1].params.tobytes()


def test_seconds_of_epochs_within_the_engine():
    X, y = regression(rows=2000)
    began = time.perf_counter()
    seconds = network().fit(X, y, epochs=300, batch_size=4).history["time"]
    took = time.perf_counter() - began
    assert len(seconds) == 300
    assert min(seconds) > 0
    assert 0.5 * took < sum(seconds) < took


def test_more_epochs_than_the_engine_may_end_at_once(monkeypatch):
    monkeypatch.setattr(training, "MOST_EPOCHS", 3)
    X, y = regression()
    one, other = network(), network()
    few = one.fit(X, y, epochs=11)
    monkeypatch.undo()
    many = other.fit(X, y, epochs=11)
    assert few.history["loss"] == many.history["loss"]
    assert one.params.tobytes() == other.params.tobytes()


def test_stopping_early():
    X, y = regression()
    recorder = Recorder(stop_after=2)
    net = network()
    history = net.fit(X, y, epochs=10, callbacks=[recorder])
    assert len(history.history["loss"]) == 3
    assert recorder.calls[-1] == ("train ends",)
    assert net.stop_training
    assert len(net.fit(X, y, epochs=4).history["loss"]) == 4  # the next fit starts afresh


@pytest.mark.parametrize(
    "hook", ["on_train_begin", "on_epoch_begin", "on_progress", "on_epoch_end", "on_train_end"]
)
def test_an_error_in_a_callback_comes_out_and_leaves_the_network_usable(hook):
    X, y = regression()

    class Broken(dnn.Callback):
        pass

    def fail(self, *details):
        raise ZeroDivisionError("mine")

    setattr(Broken, hook, fail)
    net, recorder = network(), Recorder()
    with pytest.raises(ZeroDivisionError, match="mine"):
        net.fit(X, y, epochs=2, callbacks=[recorder, Broken()])
    assert recorder.calls[-1] == ("train ends",)
    assert recorder.calls.count(("train ends",)) == 1
    assert np.isfinite(net.fit(X, y, epochs=1).history["loss"]).all()
    net.forward(X)


def test_progress_bar():
    X, y = regression()
    out = io.StringIO()
    network().fit(X, y, epochs=3, callbacks=[ProgressBar(file=out)])
    assert "3.0/3" in out.getvalue() and "loss=" in out.getvalue()


def test_verbose(capfd):
    X, y = regression()
    network().fit(X, y, epochs=3)
    assert capfd.readouterr() == ("", "")
    network().fit(X, y, epochs=3, verbose=True)
    assert "3.0/3" in capfd.readouterr().err


# Optimizer state


def test_moments_go_on_until_they_are_reset_or_another_optimizer_comes():
    X, y = regression()

    def run(*actions):
        net = network()
        for action in actions:
            if action is None:
                net.reset_optimizer()
            else:
                net.fit(X, y, epochs=1, optimizer=action, batch_size=None)
        return net.params

    adam, momentum = dnn.Adam(0.1), dnn.SGD(0.1, momentum=0.9)
    went_on, reset = run(adam, adam), run(adam, None, adam)
    assert (went_on != reset).any()
    back = run(adam, momentum, adam)
    np.testing.assert_array_equal(back, run(adam, None, momentum, None, adam))
    slower = dnn.Adam(0.01)  # other settings, same moments
    assert (run(adam, slower) != run(adam, None, slower)).any()


def test_biases_do_not_decay():
    X, y = np.zeros((10, 3)), np.zeros((10, 2))
    for optimizer in (dnn.SGD(0.1, l2=0.1), dnn.AdamW(0.1, weight_decay=0.1)):
        net = dnn.Network(3, [dnn.Dense(2)], loss="mae", dtype="float64")
        net.biases[0][:] = 0  # where mae's gradient is zero
        weights = net.weights[0].copy()
        net.train_step(X, y, optimizer)
        np.testing.assert_allclose(net.weights[0], weights * 0.99, rtol=1e-12)
        assert not net.biases[0].any()
