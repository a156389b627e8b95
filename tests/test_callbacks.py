"""Callbacks: when hooks are called, what stops training, what is kept and written."""

import csv
import io
import json
import logging
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import dnncore as dnn
from dnncore import callbacks, training
from dnncore.exceptions import DivergenceError


def examples(rows=60, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, 3))
    return X, np.sin(X @ rng.standard_normal((3, 1)))[:, 0]


def network(**options):
    layers = [dnn.Dense(8, "tanh"), dnn.Dropout(0.1), dnn.Dense(1)]
    return dnn.Network(3, layers, loss="mse", **options)


class Script(dnn.Callback):
    """Replaces a number of the validation by one of its own, epoch by epoch."""

    def __init__(self, values, name="val_loss"):
        self.values, self.name, self.params = values, name, []

    def on_validation_end(self, network, epoch, logs):
        logs[self.name] = self.values[epoch]

    def on_epoch_end(self, network, epoch, logs):
        logs[self.name] = self.values[epoch]
        self.params.append(network.params.copy())


def fit(net, called=(), epochs=10, **options):
    X, y = examples()
    options = {"validation_data": examples(20, 1), "batch_size": 16} | options
    return net.fit(X, y, epochs=epochs, callbacks=called, **options)


# Hooks


class Batches(dnn.Callback):
    def __init__(self, every=1):
        self.every_steps, self.seen = every, []

    def on_batch_begin(self, network, epoch, batch):
        self.seen.append(("begin", epoch, batch))

    def on_batch_end(self, network, epoch, batch, loss):
        self.seen.append(("end", epoch, batch))


@pytest.mark.parametrize("every", [1, 3, 4, 7])
def test_batch_hooks(every):
    expected, net, called = network(), network(), Batches(every)
    wanted = fit(expected, epochs=3)
    history = fit(net, [called], epochs=3)
    np.testing.assert_array_equal(net.params, expected.params)
    assert history.history["loss"] == wanted.history["loss"]
    steps = [divmod(n - 1, 4) for n in range(every, 13, every)]
    assert called.seen == [(w, *at) for at in steps for w in ("begin", "end")]


def test_the_loss_of_a_batch():
    losses, net, twin = [], network(), network()
    X, y = examples()
    watch = dnn.LambdaCallback(on_batch_end=lambda n, epoch, batch, loss: losses.append(loss))
    net.fit(X, y, epochs=2, batch_size=16, shuffle=False, callbacks=[watch])
    expected = [twin.train_step(X[i : i + 16], y[i : i + 16]) for i in (0, 16, 32, 48)]
    assert losses[:4] == pytest.approx(expected, rel=1e-6)
    again = network().fit(X, y, epochs=1, batch_size=16, shuffle=False).history["loss"]
    assert np.average(losses[:4], weights=[16, 16, 16, 12]) == pytest.approx(again[0])


def test_without_batch_hooks_the_engine_is_not_interrupted(monkeypatch):
    seen = []

    def count(self, order, run=training.Run._run_engine):
        seen.append(1)
        return run(self, order)

    monkeypatch.setattr(training, "SLICE_SECONDS", 1e9)
    monkeypatch.setattr(training.Run, "_run_engine", count)
    fit(network(), [dnn.EarlyStopping(), dnn.TimeLimit(100)], epochs=5)
    assert len(seen) == 5
    fit(network(), [Batches()], epochs=5)
    assert len(seen) == 5 + 5 * 4
    fit(network(), [Batches(10)], epochs=5)  # before and after step 10 and 20, and at epochs' ends
    assert len(seen) == 25 + 5 + 2 * 2 - 1


def test_lambda_callback_refuses_what_is_no_hook():
    with pytest.raises(TypeError, match="'on_epoch' is no hook; there are on_train_begin, "):
        dnn.LambdaCallback(on_epoch=print)
    with pytest.raises(TypeError, match="on_epoch_end must be a function"):
        dnn.LambdaCallback(on_epoch_end=3)


# Stopping


@pytest.mark.parametrize(
    ("values", "options", "stopped", "best"),
    [
        ([5, 4, 3, 3, 3, 3, 3, 3, 3, 3], {"patience": 2}, 4, 2),
        ([5, 4, 4.5, 3, 3.5, 3.4, 3.3, 2, 1, 0], {"patience": 3}, 6, 3),
        ([5, 4, 3.9, 3.8, 3.7, 0, 0, 0, 0, 0], {"patience": 3, "min_delta": 0.5}, 4, 1),
        ([1, 2, 3, 3, 3, 4, 4, 4, 4, 4], {"patience": 4, "mode": "max"}, 9, 5),
        ([1, np.nan, np.nan, 0, 0, 0, 0, 0, 0, 0], {"patience": 3}, 6, 3),
        (list(range(10, 0, -1)), {"patience": 1}, None, 9),
    ],
)
def test_early_stopping(values, options, stopped, best):
    net, script, stop = network(), Script(values), dnn.EarlyStopping(**options)
    history = fit(net, [script, stop])
    assert (stop.stopped_epoch, stop.best_epoch, stop.best) == (stopped, best, values[best])
    assert len(history) == (10 if stopped is None else stopped + 1)
    np.testing.assert_array_equal(net.params, script.params[best])
    assert net.stop_training is (stopped is not None)
    net, script = network(), Script(values)
    fit(net, [script, dnn.EarlyStopping(**options, restore_best=False)])
    np.testing.assert_array_equal(net.params, script.params[-1])


def test_early_stopping_restores_the_best_after_an_error_too():
    def fail(net, epoch, logs):
        if epoch == 5:
            raise KeyboardInterrupt

    net, script = network(), Script([5, 4, 3, 4, 5, 6])
    with pytest.raises(KeyboardInterrupt):
        fit(net, [script, dnn.EarlyStopping(), dnn.LambdaCallback(on_epoch_end=fail)])
    np.testing.assert_array_equal(net.params, script.params[2])


def test_mode_follows_the_metric():
    X, y = examples()
    for name, more in (("val_r2", True), ("val_mae", False), ("val_loss", False), ("val_own", 1)):
        stop = dnn.EarlyStopping(name, patience=100)
        own = dnn.Metric("own", lambda t, p: -abs(t - p).mean(), greater_is_better=True)
        history = fit(network(), [stop], metrics=["r2", "mae", own]).history
        best = (np.argmax if more else np.argmin)(history[name])
        assert stop.best_epoch == best and stop.best == history[name][best]


@pytest.mark.parametrize("kind", [dnn.EarlyStopping, dnn.ReduceLROnPlateau])
def test_what_is_watched_must_be_recorded(kind):
    with pytest.raises(ValueError, match="watches 'val_f1', which is not recorded; there are"):
        fit(network(), [kind("val_f1")])
    with pytest.raises(ValueError, match="watches 'val_loss', which is not recorded"):
        fit(network(), [kind()], validation_data=None)
    with pytest.raises(TypeError, match="monitor must be the name"):
        kind(3)
    with pytest.raises(ValueError, match="mode must be one of"):
        kind(mode="least")
    with pytest.raises(ValueError, match="patience must be at least 1"):
        kind(patience=0)


def test_time_limit(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(callbacks._progress.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(training, "SLICE_SECONDS", 0.0)

    def tick(net, epoch, done, loss):
        clock[0] += 1

    limit = dnn.TimeLimit(6)
    slow = dnn.LambdaCallback(on_progress=tick)
    history = fit(network(), [Batches(), slow, limit], epochs=99)
    # Six slices of a step: an epoch of four, and half of another, which is recorded as it is.
    assert len(history) == 2 and history.validations["epoch"] == [1, pytest.approx(1 + 32 / 60)]
    assert len(fit(network(), [limit], epochs=3)) == 3  # the clock stands still


# Learning rate


def test_reduce_on_plateau():
    values = [5, 4, 4, 4, 4, 4, 4, 3, 3, 3]
    plateau = dnn.ReduceLROnPlateau(factor=0.5, patience=2, cooldown=1, min_scale=0.2)
    net = network()
    history = fit(net, [Script(values), plateau], optimizer="sgd").history
    # Down after epoch 4; epoch 5 is cooldown; down after 7, then better; to the least after 10.
    assert history["learning_rate_scale"] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2]
    assert net.learning_rate_scale == 0.2
    assert fit(net, epochs=1).history.keys().isdisjoint(["learning_rate_scale"])
    assert net.learning_rate_scale == 1


PLATEAUS = json.loads((Path(__file__).parent / "fixtures/torch_losses.json").read_text())[
    "plateaus"
]


@pytest.mark.parametrize("case", PLATEAUS)
def test_plateaus_are_pytorchs(case):
    settings = {name: case[name] for name in ("patience", "cooldown", "min_delta")}
    plateau = dnn.ReduceLROnPlateau(factor=0.5, min_scale=0.05, **settings)
    called = [Script(case["values"]), plateau]
    scales = fit(network(), called, epochs=len(case["values"])).history["learning_rate_scale"]
    assert len(set(scales)) > 3
    np.testing.assert_allclose(scales, case["scales"])


def test_the_scale_is_a_factor_on_the_rate():
    def halve(net, epoch):
        net.learning_rate_scale = 0.5

    for make in (dnn.SGD, dnn.AdamW):
        scaled, plain = network(), network()
        fit(scaled, [dnn.LambdaCallback(on_epoch_begin=halve)], optimizer=make(0.1))
        fit(plain, optimizer=make(0.05))
        np.testing.assert_array_equal(scaled.params, plain.params)


# Files


def test_model_checkpoint(tmp_path):
    net, script = network(), Script([5, 4, 3, 4, 5, 2, 3, 4, 5, 6])
    fit(net, [script, dnn.ModelCheckpoint(tmp_path / "best.safetensors")])
    np.testing.assert_array_equal(dnn.load(tmp_path / "best.safetensors").params, script.params[5])
    last = dnn.ModelCheckpoint(tmp_path / "last.safetensors", save_best_only=False)
    fit(net, [script, last])
    np.testing.assert_array_equal(dnn.load(last.path).params, net.params)


def test_csv_logger(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("old\n" * 100)
    history = fit(network(), [dnn.CSVLogger(path)], epochs=3).history
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert list(rows[0]) == ["epoch", "loss", "val_loss", "val_r2", "time"]
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    for name, values in history.items():
        assert [float(row[name]) for row in rows] == values


def test_csv_logger_goes_on_after_a_resume(tmp_path):
    def stop(net, epoch, batch, loss):
        if (epoch, batch) == (2, 1):
            raise KeyboardInterrupt

    def run(more=(), **options):
        log, keep = dnn.CSVLogger(tmp_path / "log.csv"), dnn.Checkpoint(tmp_path / "run")
        return fit(network(), [log, keep, *more], epochs=5, **options)

    with pytest.raises(KeyboardInterrupt):
        run([dnn.LambdaCallback(on_batch_end=stop)])
    with open(tmp_path / "log.csv", "a") as file:
        file.write("a line of an epoch that the checkpoint does not know\n")
    history = run(resume_from=tmp_path / "run")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "log.csv").read_text())))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5]
    assert [float(row["loss"]) for row in rows] == history.history["loss"]


def test_tensorboard(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        fit(network(), [dnn.TensorBoard(tmp_path)])
    written = []

    class Writer:
        def __init__(self, folder):
            self.folder = folder

        def add_event(self, event):
            written.append(event)

        flush = close = lambda self: None

    class Message(dict):
        Value = dict

        def __init__(self, **fields):
            super().__init__(fields)

    for name, content in {
        "": {},
        ".compat": {},
        ".compat.proto": {},
        ".compat.proto.event_pb2": {"Event": Message},
        ".compat.proto.summary_pb2": {"Summary": Message},
        ".summary": {},
        ".summary.writer": {},
        ".summary.writer.event_file_writer": {"EventFileWriter": Writer},
    }.items():
        module = types.ModuleType(f"tensorboard{name}")
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    history = fit(network(), [dnn.TensorBoard(tmp_path / "new")], epochs=2).history
    assert [event["step"] for event in written] == [1, 2]
    values = {value["tag"]: value["simple_value"] for value in written[1]["summary"]["value"]}
    assert values == {name: column[1] for name, column in history.items()}


# Bars and logs


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_appears_where_somebody_watches(monkeypatch):
    quiet, watched = io.StringIO(), Terminal()
    for stream in (quiet, watched, None):
        monkeypatch.setattr(sys, "stderr", stream)
        fit(network(), epochs=2)  # shorter than the delay
    assert quiet.getvalue() == watched.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", watched)
    clock = iter(np.arange(0, 1e4, 0.3).tolist())
    monkeypatch.setattr(callbacks._progress.time, "perf_counter", lambda: next(clock))
    fit(network(), epochs=9)
    assert "9.0/9" in watched.getvalue() and "val_r2=" in watched.getvalue()
    before = watched.getvalue()
    fit(network(), epochs=9, verbose=False)
    assert watched.getvalue() == before
    monkeypatch.setattr(sys, "stderr", quiet)
    fit(network(), epochs=2, verbose=True)
    assert "2.0/2" in quiet.getvalue()
    with pytest.raises(TypeError, match="verbose must be True or False"):
        fit(network(), verbose=2)


def test_logging(caplog):
    fit(network(), epochs=2)
    assert not caplog.records
    with caplog.at_level(logging.INFO, "dnncore"):
        fit(network(), [Script([1, 2, 3, 4]), dnn.EarlyStopping(patience=1)], epochs=4)
    text = [record.getMessage() for record in caplog.records]
    assert text[0].startswith("epoch 1 of 4: loss ") and "val_r2 " in text[0]
    assert any(line == "stopped in epoch 2: val_loss was best in epoch 1 (1.0)" for line in text)


# History


def test_validation_every_few_epochs():
    history = fit(network(), epochs=8, validation_every=3)
    assert [not np.isnan(v) for v in history.history["val_loss"]] == [
        False, False, True, False, False, True, False, True
    ]  # fmt: skip
    assert history.validations["epoch"] == [3, 6, 8]
    assert history.validations["step"] == [12, 24, 32]
    stop = dnn.EarlyStopping(patience=1, min_delta=1e9)  # counts validations, not epochs
    assert len(fit(network(), [stop], epochs=20, validation_every=3)) == 6


def test_validation_every_few_steps():
    expected, net = network(), network()
    fit(expected, epochs=5)
    stop = dnn.EarlyStopping(patience=100, restore_best=False)
    history = fit(net, [stop], epochs=5, validation_every_steps=3)
    np.testing.assert_array_equal(net.params, expected.params)
    assert history.validations["step"] == [3, 6, 9, 12, 15, 18]
    assert history.validations["epoch"][:2] == [pytest.approx(48 / 60), pytest.approx(1 + 32 / 60)]
    assert stop.wait + 1 + np.argmin(history.validations["val_loss"]) == 6
    assert history.history["val_loss"][2] == history.validations["val_loss"][3]
    assert np.isnan(history.history["val_loss"]).tolist() == [False] * 5
    sparse = fit(network(), epochs=3, validation_every_steps=11).history["val_loss"]
    assert np.isnan(sparse).tolist() == [True, True, False]
    with pytest.raises(ValueError, match="validation_every_steps must be at least 1"):
        fit(network(), validation_every_steps=0)


def test_history_as_a_frame(tmp_path):
    history = fit(network(), epochs=3, validation_every=2)
    frame = history.to_frame()
    assert frame.index.tolist() == [1, 2, 3] and frame.index.name == "epoch"
    assert frame["loss"].tolist() == history.history["loss"]
    assert frame["val_loss"].isna().tolist() == [True, False, False]
    assert history.to_frame("validations")["epoch"].tolist() == [2, 3]
    assert len(dnn.History().to_frame()) == 0
    json.dumps(history.history)
    history.append({"new": 1})
    assert len(history) == 4 and history.history["new"][3] == 1
    assert np.isnan([history.history["new"][0], history.history["loss"][3]]).all()


def test_what_callbacks_add_to_logs_is_recorded():
    def add(net, epoch, logs):
        logs["norm"] = float(np.linalg.norm(net.params))

    stop = dnn.EarlyStopping("norm", mode="max", patience=99)
    history = fit(network(), [dnn.LambdaCallback(on_epoch_end=add), stop]).history
    assert len(history["norm"]) == 10 and stop.best == max(history["norm"])


def test_time_leaves_out_validation():
    class Slow(dnn.Callback):
        def on_validation_end(self, network, epoch, logs):
            clock[0] += 1000

    clock = [0.0]
    X, y = examples()

    class Clock:
        def perf_counter(self):
            clock[0] += 0.001
            return clock[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "time", Clock())
        history = network().fit(X, y, epochs=2, callbacks=[Slow()], validation_split=0.1)
    assert all(0 < seconds < 1 for seconds in history.history["time"])


def test_divergence_tells_callbacks_of_the_end():
    seen = []
    end = dnn.LambdaCallback(on_train_end=seen.append)
    with pytest.raises(DivergenceError):
        fit(network(), [end], optimizer=dnn.SGD(1e20))
    assert len(seen) == 1
