"""Averages of the parameters: against PyTorch and the twin, in files, and exactly resumed."""

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

import dnncore as dnn
from dnncore import reference as ref

TORCH = json.loads((Path(__file__).parent / "fixtures/torch_updates.json").read_text("utf-8"))
ROWS, BATCH, EPOCHS = 50, 8, 4  # 7 steps an epoch, the last one of two rows
STEPS_PER_EPOCH = -(-ROWS // BATCH)
STEPS = EPOCHS * STEPS_PER_EPOCH


def examples(rows=ROWS):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((rows, 3))
    y = X @ rng.standard_normal((3, 2)) + rng.standard_normal((rows, 2))
    return X, y


def network(dtype="float32", seed=3):
    layers = [dnn.Dense(8, "tanh"), dnn.Dropout(0.3), dnn.Dense(6, "relu"), dnn.Dense(2)]
    return dnn.Network(3, layers, loss="mse", dtype=dtype, seed=seed)


def fit(net, optimizer="adam", callbacks=(), **options):
    validation = tuple(a[:10] for a in examples(20))
    settings = {"epochs": EPOCHS, "batch_size": BATCH, "validation_data": validation} | options
    return net.fit(*examples(), optimizer=optimizer, callbacks=callbacks, **settings)


class Stop(dnn.Callback):
    """Ends training as Ctrl-C would, after a number of steps."""

    def __init__(self, after):
        self.after, self.seen = after, 0

    def on_batch_end(self, network, epoch, batch, loss):
        self.seen += 1
        if self.seen == self.after:
            raise KeyboardInterrupt


AVERAGES = {
    "ema": dnn.EMA(0.8),
    "warm": dnn.EMA(0.99, warmup=True, every=2),
    "swa": dnn.SWA(start=0.5),
    "steps": dnn.SWA(start=1, every=3),
}


@pytest.mark.parametrize("name", [n for n in TORCH["cases"] if "averaged" in TORCH["cases"][n]])
def test_as_pytorch(name):
    case = TORCH["cases"][name]
    settings = case["settings"]
    average = dnn.EMA(settings["ema"]) if "ema" in settings else dnn.SWA(0, every=settings["swa"])
    names = {"l1": "l1", "l2": "l2", "factors": "learning_rate_factor", "max_norm": "max_norm"}
    own = [{names[k]: settings[k][i] for k in names if k in settings} for i in range(2)]
    layers = [dnn.Dense(6, "tanh", **own[0]), dnn.Dense(2, **own[1])]
    net = dnn.Network(4, layers, loss="mse", dtype="float64")
    net.params[...] = flat(TORCH["start"])
    net.fit(
        np.array(TORCH["x"]), np.array(TORCH["y"]), sample_weight=TORCH["weight"],
        epochs=TORCH["epochs"], batch_size=TORCH["batch"], shuffle=False, averaging=average,
        optimizer=dnn.Adam(0.05, clip_norm=settings.get("clip_norm")),
        accumulate=settings.get("accumulate", 1),
    )  # fmt: skip
    np.testing.assert_allclose(net.params, flat(case["after"]), rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(net.averaged.params, flat(case["averaged"]), rtol=2e-5, atol=1e-7)


def flat(layers):
    return np.concatenate([np.ravel(a) for layer in layers for a in layer])


class Record(dnn.Callback):
    def __init__(self):
        self.params = []

    def on_batch_end(self, network, epoch, batch, loss):
        self.params.append(network.params.copy())


@pytest.mark.parametrize("name", AVERAGES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_average_is_the_twins(name, dtype):
    average, record, net = AVERAGES[name], Record(), network(dtype)
    fit(net, callbacks=[record], averaging=average)
    start, every = average.when(STEPS, STEPS_PER_EPOCH)
    mean, count = record.params[0], 0
    for step, params in enumerate(record.params, start=1):
        if step > start and (step - start) % every == 0:
            mean = ref.average(mean, params, count, average.rule[0], warmup=average.rule[1])
            count += 1
    assert count == net._average.count > 1
    tolerance = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(net.averaged.params, mean, rtol=tolerance, atol=tolerance)
    plain = network(dtype)
    fit(plain)
    assert plain.params.tobytes() == net.params.tobytes()
    assert plain.averaged is None


@pytest.mark.parametrize("loss", ["mse", lambda y, p, sample_weight: (0.5, 0.01 * (p - y))])
def test_a_loss_in_python_has_averages_too(loss):
    X, y = np.ones((9, 2)), np.ones(9)
    net = dnn.Network(2, [dnn.Dense(3, "tanh"), dnn.Dense(1)], loss=loss)
    net.fit(X, y, epochs=3, batch_size=3, sample_weight=np.ones(9), averaging=dnn.SWA(1, every=2))
    assert net._average.count == 3
    assert np.abs(net.averaged.params - net.params).max() > 0


@pytest.mark.parametrize("name", AVERAGES)
def test_stopped_anywhere_and_resumed(name, tmp_path):
    average, expected = AVERAGES[name], network()
    options = {"averaging": average, "accumulate": 2, "batch_size": 4}
    history = fit(expected, dnn.Adam(clip_norm=0.5), **options)
    for after in (1, 5, 7, 16, STEPS):
        folder, optimizer = tmp_path / str(after), dnn.Adam(clip_norm=0.5)
        with pytest.raises(KeyboardInterrupt):
            fit(network(), optimizer, [Stop(after), dnn.Checkpoint(folder)], **options)
        net = network()
        again = fit(net, optimizer, [dnn.Checkpoint(folder)], resume_from=folder, **options)
        assert net.params.tobytes() == expected.params.tobytes()
        assert net.averaged.params.tobytes() == expected.averaged.params.tobytes()
        assert again.history["val_loss"] == history.history["val_loss"]
    saved = dnn.load_checkpoint(tmp_path / str(STEPS))
    assert saved.averaged.params.tobytes() == expected.averaged.params.tobytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"averaging": dnn.EMA(0.5)}, "averaging"),
        ({"batch_size": 4, "accumulate": 2}, "accumulate"),
    ],
)
def test_resuming_with_other_settings_is_refused(change, words, tmp_path):
    options = {"averaging": dnn.EMA(0.8)}
    fit(network(), callbacks=[dnn.Checkpoint(tmp_path)], epochs=1, **options)
    with pytest.raises(ValueError, match=words):
        fit(network(), resume_from=tmp_path, **options | change)


def test_validation_looks_at_the_average(tmp_path):
    best, stop = dnn.ModelCheckpoint(tmp_path / "best.safetensors"), dnn.EarlyStopping(patience=99)
    net, last = network(), network()
    history = fit(net, callbacks=[best, stop], averaging=dnn.EMA(0.9))
    fit(last, averaging=dnn.EMA(0.9, validate=False))
    X, y = (a[:10] for a in examples(20))
    found = net.averaged.evaluate(X, y)["loss"]
    assert found == pytest.approx(min(history.history["val_loss"]), rel=1e-6)
    assert dnn.load(tmp_path / "best.safetensors").params.tobytes() == net.averaged.params.tobytes()
    assert history.history["val_loss"] != fit(network()).history["val_loss"]
    plain = network()
    assert fit(plain).history["val_loss"][-1] == plain.evaluate(X, y)["loss"]
    assert last.evaluate(X, y) == plain.evaluate(X, y)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
def test_copies_have_their_own_average(copied):
    net = network()
    fit(net, averaging=dnn.EMA(0.9))
    other = copied(net)
    assert other.averaged.params.tobytes() == net.averaged.params.tobytes()
    other.averaged.params[...] = 0
    assert np.abs(net.averaged.params).max() > 0
    net.initialize()
    assert net.averaged is None


def test_any_number_of_threads_gives_the_same_bits():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((90, 211)), rng.standard_normal((90, 5))
    found = set()
    for n_threads in (1, 2, 3, 4):
        net = dnn.Network(211, [dnn.Dense(301, "relu"), dnn.Dense(5)], loss="mse")
        net.fit(X, y, epochs=2, batch_size=30, averaging=dnn.EMA(0.9), n_threads=n_threads)
        found.add(net.averaged.params.tobytes())
    assert len(found) == 1


def test_many_networks_have_averages_of_their_own():
    X, y = (a[:10] for a in examples(20))
    nets = [network(seed=i) for i in range(3)]
    dnn.fit_many(nets, X, y, epochs=2, batch_size=3, accumulate=2, averaging=dnn.EMA(0.9))
    for i, net in enumerate(nets):
        alone = network(seed=i)
        alone.fit(X, y, epochs=2, batch_size=3, accumulate=2, averaging=dnn.EMA(0.9))
        assert net.averaged.params.tobytes() == alone.averaged.params.tobytes()


def test_before_its_start_there_is_no_average():
    net = network()
    history = fit(net, averaging=dnn.SWA(start=99))
    assert net.averaged is None
    assert len(history.history["val_loss"]) == EPOCHS


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: dnn.EMA(1.0), ValueError, "decay"),
        (lambda: dnn.EMA(0.0), ValueError, "decay"),
        (lambda: dnn.EMA("0.9"), TypeError, "decay"),
        (lambda: dnn.EMA(every=0), ValueError, "every"),
        (lambda: dnn.EMA(warmup=1), TypeError, "warmup"),
        (lambda: dnn.SWA(1.0), ValueError, "start"),
        (lambda: dnn.SWA(-1), ValueError, "start"),
        (lambda: dnn.SWA(every=1.5), TypeError, "every"),
        (lambda: fit(network(), averaging=0.9), TypeError, "EMA"),
    ],
)
def test_bad_settings(make, error, words):
    with pytest.raises(error, match=words):
        make()
