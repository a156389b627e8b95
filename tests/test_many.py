"""``fit_many``: the bits of one after the other, and nothing lost when something goes wrong."""

import functools
import os
import signal
import threading
import time

import numpy as np
import pytest

import dnncore as dnn


def digits_like(n=300, n_in=6, classes=3):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, n_in))
    y = np.argmax(X[:, :classes] + 0.3 * rng.standard_normal((n, classes)), axis=1)
    return X, np.array(["red", "green", "blue"])[y]


def classifier(seed=0, units=8, dtype="float32"):
    layers = [dnn.Dense(units, "relu"), dnn.Dropout(0.1), dnn.Dense(3)]
    return dnn.Network(6, layers, dtype=dtype, seed=seed)


def same_state(one, other):
    return (
        one.params.tobytes() == other.params.tobytes()
        and all(
            a.tobytes() == b.tobytes()
            for a, b in zip(one._state.moments, other._state.moments, strict=True)
        )
        and one.classes_.tolist() == other.classes_.tolist()
    )


def helpers():
    """Return the threads that are left, but for tqdm's own."""
    kinds = (threading.main_thread().__class__, threading.Thread)
    return [
        t for t in threading.enumerate() if type(t) in kinds and t is not threading.main_thread()
    ]


def without_time(history):
    return {name: values for name, values in history.history.items() if name != "time"}


@pytest.mark.parametrize("n_threads", [1, 2, 3, 16])
def test_bits_are_those_of_one_after_the_other(n_threads):
    X, y = digits_like()
    weight = np.linspace(0, 1, len(y))
    optimizers = [dnn.Adam(1e-2), dnn.SGD(0.1, momentum=0.9), dnn.AdamW(1e-3), dnn.Adam(1e-3)]
    epochs, sizes = [3, 5, 1, 0], [16, 300, None, 7]
    dtypes = ["float32", "float64", "float32", "float32"]
    made = [[classifier(i, 8 + i, dtypes[i]) for i in range(4)] for _ in range(2)]
    histories = dnn.fit_many(
        made[0], X, y, sample_weight=weight, validation_data=(X[:50], y[:50]), epochs=epochs,
        batch_size=sizes, optimizer=optimizers, n_threads=n_threads,
    )  # fmt: skip
    for i, (network, alone) in enumerate(zip(*made, strict=True)):
        expected = alone.fit(
            X, y, sample_weight=weight, validation_data=(X[:50], y[:50]), epochs=epochs[i],
            batch_size=sizes[i], optimizer=optimizers[i],
        )  # fmt: skip
        assert same_state(network, alone)
        assert without_time(histories[i]) == without_time(expected)
        assert len(histories[i].history.get("val_loss", [])) == epochs[i]


@pytest.mark.parametrize("weighted", [False, True])
def test_rows_of_each_network(weighted):
    X, y = digits_like()
    weight = np.linspace(0.5, 1, len(y)) if weighted else None
    fold = np.arange(len(y)) % 3
    rows = [fold != 0, np.flatnonzero(fold != 1), None]
    held = [fold == 0, np.flatnonzero(fold == 1)[::-1], np.flatnonzero(fold == 2).tolist()]
    networks = [classifier(i) for i in range(3)]
    histories = dnn.fit_many(
        networks, X, y, rows=rows, validation_rows=held, sample_weight=weight, epochs=4, n_threads=2
    )
    for i, network in enumerate(networks):
        alone = classifier(i)
        chosen = slice(None) if rows[i] is None else rows[i]
        parts = [X, y] if weight is None else [X, y, weight]
        expected = alone.fit(
            X[chosen], y[chosen], epochs=4,
            sample_weight=None if weight is None else weight[chosen],
            validation_data=tuple(part[held[i]] for part in parts),
        )  # fmt: skip
        assert same_state(network, alone)
        assert without_time(histories[i]) == without_time(expected)


def test_goes_on_from_where_networks_are():
    X, y = digits_like()
    networks, twins = ([classifier(i) for i in range(3)] for _ in range(2))
    for epochs in (2, 3):
        dnn.fit_many(networks, X, y, epochs=epochs)
        for twin in twins:
            twin.fit(X, y, epochs=epochs)
    assert all(map(same_state, networks, twins))


class Meet(dnn.Callback):
    """Waits until as many networks have begun; a barrier that breaks is an error."""

    def __init__(self, networks):
        self.barrier = threading.Barrier(networks, timeout=60)

    def on_train_begin(self, network, epochs):
        self.barrier.wait()


def test_several_networks_train_at_the_same_time():
    X, y = digits_like()
    networks = [classifier(i) for i in range(4)]
    dnn.fit_many(networks, X, y, epochs=1, n_threads=2, callbacks=(Meet(2),))
    assert not helpers()


def test_one_network_gets_the_threads_that_are_left(monkeypatch):
    X, y = digits_like()
    seen = []
    fit = dnn.Network.fit

    @functools.wraps(fit)
    def spy(self, *args, n_threads=None, **settings):
        seen.append(n_threads)
        return fit(self, *args, n_threads=n_threads, **settings)

    monkeypatch.setattr(dnn.Network, "fit", spy)
    dnn.fit_many([classifier()], X, y, epochs=1, n_threads=4)
    dnn.fit_many([classifier(i) for i in range(3)], X, y, epochs=1, n_threads=4)
    assert seen == [4, 1, 1, 1]


def test_no_networks():
    assert dnn.fit_many([], *digits_like(), epochs=3) == []


def test_progress_bar_counts_networks(capsys):
    X, y = digits_like()
    dnn.fit_many([classifier(i) for i in range(3)], X, y, epochs=1, verbose=True)
    assert "3/3" in capsys.readouterr().err


def test_settings_of_numpy_hold_in_all_threads():
    X, y = digits_like()
    states = []

    class Look(dnn.Callback):
        def on_train_begin(self, network, epochs):
            states.append(np.geterr()["under"])

    with np.errstate(under="raise"):
        networks = [classifier(i) for i in range(4)]
        dnn.fit_many(networks, X, y, epochs=1, n_threads=2, callbacks=[[Look()] for _ in networks])
    assert states == ["raise"] * 4


# What goes wrong


def diverging():
    """Return four networks of which the second and the fourth cannot be trained like that."""
    rates = [1e-3, 1e38, 1e-3, 1e38]
    return [classifier(i) for i in range(4)], [dnn.SGD(rate) for rate in rates]


@pytest.mark.parametrize("n_threads", [1, 2])
def test_one_that_diverges_does_not_stop_the_others(n_threads):
    X, y = digits_like()
    networks, optimizers = diverging()
    with pytest.raises(dnn.DivergenceError) as caught:
        dnn.fit_many(networks, X, y, epochs=3, optimizer=optimizers, n_threads=n_threads)
    (note,) = caught.value.__notes__
    assert "2 of 4 networks failed: networks[1], networks[3]" in note
    for i in (0, 2):
        alone = classifier(i)
        alone.fit(X, y, epochs=3, optimizer=optimizers[i])
        assert same_state(networks[i], alone)
    assert all(np.isfinite(network.params).all() for network in networks)


def test_errors_can_be_returned():
    X, y = digits_like()
    networks, optimizers = diverging()
    results = dnn.fit_many(
        networks, X, y, epochs=3, optimizer=optimizers, return_exceptions=True, n_threads=2
    )
    assert [type(result).__name__ for result in results] == ["History", "DivergenceError"] * 2
    assert len(results[2].history["loss"]) == 3


class Fails(dnn.Callback):
    def __init__(self, error):
        self.error = error

    def on_epoch_end(self, network, epoch, logs):
        raise self.error


@pytest.mark.parametrize("n_threads", [1, 2])
def test_errors_of_callbacks(n_threads):
    X, y = digits_like()
    networks = [classifier(i) for i in range(3)]
    callbacks = [[], [Fails(LookupError("mine"))], []]
    with pytest.raises(LookupError, match="mine"):
        dnn.fit_many(networks, X, y, epochs=2, callbacks=callbacks, n_threads=n_threads)
    twin = classifier(2)
    twin.fit(X, y, epochs=2)
    assert same_state(networks[2], twin)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_exit_in_a_callback_ends_everything(place):
    # Whichever thread it comes up in, the caller sees it, and no thread is left behind.
    X, y = digits_like()
    networks = [classifier(i) for i in range(6)]
    meet = Meet(6)
    callbacks = [[meet, Fails(SystemExit(3))] if i == place else [meet] for i in range(6)]
    epochs = [1 if i == place else 1_000_000 for i in range(6)]
    with pytest.raises(SystemExit) as caught:
        dnn.fit_many(
            networks, X, y, epochs=epochs, callbacks=callbacks, n_threads=6,
            batch_size=4,
        )  # fmt: skip
    assert caught.value.__notes__ == [
        "0 of 6 networks are finished, 6 stopped midway, 0 not begun."
    ]
    assert not helpers()
    for network in networks:
        assert np.isfinite(network.params).all()
        network.fit(X, y, epochs=1)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_interrupt(n_threads):
    X, y = digits_like()
    networks = [classifier(i) for i in range(4)]
    before = [network.params.copy() for network in networks]

    def interrupt():
        while any(
            (a.params == b).all() for a, b in zip(networks[:n_threads], before, strict=False)
        ):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=interrupt)
    sender.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        dnn.fit_many(networks, X, y, epochs=10**8, n_threads=n_threads)
    sender.join()
    (note,) = caught.value.__notes__
    left = 4 - n_threads
    assert note == (f"0 of 4 networks are finished, {n_threads} stopped midway, {left} not begun.")
    assert not helpers()
    for network in networks:
        assert np.isfinite(network.params).all()
        network.fit(X, y, epochs=1)


def test_fewer_threads_than_wished(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    X, y = digits_like()
    networks = [classifier(i) for i in range(3)]
    assert len(dnn.fit_many(networks, X, y, epochs=1, n_threads=3)) == 3


def test_arguments_that_cannot_be_used():
    X, y = digits_like()
    networks = [classifier(0), classifier(1)]
    before = [network.params.copy() for network in networks]
    cases = [
        ((networks[0], X, y), {}, TypeError, "networks must be a list"),
        (([networks[0], "net"], X, y), {}, TypeError, r"networks\[1\] must be a Network"),
        (([networks[0]] * 2, X, y), {}, ValueError, "same object as networks"),
        ((networks, X[:, :5], y), {}, ValueError, r"networks\[0\] has 6 inputs, but X has 5"),
        ((networks, X, y[:-1]), {}, ValueError, "same number of rows"),
        ((networks, X, y), {"epoch": 3}, TypeError, "no setting 'epoch'; there are epochs,"),
        ((networks, X, y), {"epochs": [1, 2, 3]}, ValueError, "epochs must be a list with one"),
        ((networks, X, y), {"epochs": [1, -1]}, ValueError, "epochs must be at least 0"),
        ((networks, X, y), {"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ((networks, X, y), {"optimizer": "adamant"}, ValueError, "optimizer must be one of"),
        ((networks, X, y), {"n_threads": 0}, ValueError, "n_threads must be at least 1"),
        ((networks, X, y), {"verbose": 1}, TypeError, "verbose must be True or False"),
        (
            (networks, X, y),
            {"callbacks": [dnn.Callback(), dnn.Callback()]},
            TypeError,
            "one list of callbacks for each network",
        ),
        ((networks, X, y), {"rows": [[0, 1]]}, ValueError, "rows must be a list with one entry"),
        ((networks, X, y), {"rows": [[0, 300], None]}, ValueError, r"rows\[0\] must lie between"),
        ((networks, X, y), {"rows": [None, []]}, TypeError, r"rows\[1\] must be a 1-D array"),
        ((networks, X, y), {"rows": [None, y == "no"]}, ValueError, r"rows\[1\] holds no row"),
        ((networks, X, y), {"rows": [[True], None]}, ValueError, "one entry for each of the 300"),
        (
            (networks, X, y),
            {"validation_rows": [[0], [1]], "validation_data": (X, y)},
            ValueError,
            "not both",
        ),
    ]
    for arguments, settings, error, message in cases:
        with pytest.raises(error, match=message):
            dnn.fit_many(*arguments, **{"epochs": 1, **settings})
    assert all((a.params == b).all() for a, b in zip(networks, before, strict=True))
