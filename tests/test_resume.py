"""Training that is stopped anywhere, and goes on in a new process, ends with the same bits."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import dnncore as dnn
from dnncore._safefile import read_tensors, write_tensors
from dnncore.checkpoints import find, generations
from dnncore.exceptions import ModelFormatError
from dnncore.optimizers import OPTIMIZERS, as_optimizer

ROWS, BATCH, EPOCHS = 50, 8, 4  # 7 steps an epoch, the last one of two rows
STEPS = EPOCHS * -(-ROWS // BATCH)

CHOICES = {
    **{name: as_optimizer(name) for name in OPTIMIZERS},
    "momentum": dnn.SGD(0.05, momentum=0.9),
    "nesterov": dnn.SGD(0.05, momentum=0.9, nesterov=True),
    "scheduled": dnn.AdamW(dnn.schedules.OneCycle(0.01), weight_decay=lambda t: 0.01 * t),
}


def examples(rows=ROWS):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((rows, 3))
    y = X @ rng.standard_normal((3, 2)) + rng.standard_normal((rows, 2))
    return X, y, rng.uniform(0.5, 2, rows)


def network(dtype="float32", seed=3):
    layers = [
        dnn.Dense(8), dnn.BatchNorm(), dnn.Activation("tanh"), dnn.Dropout(0.3),
        dnn.Dense(6, "relu"), dnn.LayerNorm(), dnn.Dense(2),
    ]  # fmt: skip
    return dnn.Network(3, layers, loss="mse", dtype=dtype, seed=seed)


class Stop(dnn.Callback):
    """Ends training as Ctrl-C would, after a number of steps."""

    def __init__(self, after):
        self.after, self.seen = after, 0

    def on_batch_end(self, network, epoch, batch, loss):
        self.seen += 1
        if self.seen == self.after:
            raise KeyboardInterrupt


def fit(net, optimizer="adam", callbacks=(), **options):
    X, y, weight = examples()
    options = {"epochs": EPOCHS, "batch_size": BATCH, "sample_weight": weight} | options
    validation = tuple(a[:10] for a in examples(20)[:2])
    return net.fit(
        X, y, optimizer=optimizer, callbacks=callbacks, validation_data=validation, **options
    )


def bits(net, history):
    """All that training changed, but for what the clock says."""
    digest = hashlib.sha256(net.params.tobytes())
    for moment in net._state.moments:
        digest.update(moment.tobytes())
    columns = history.history | {f"at {k}": v for k, v in history.validations.items()}
    for name in sorted(columns):
        if name != "time":
            digest.update(f"{name}{np.array(columns[name]).tobytes()}".encode())
    digest.update(repr(net._position.__reduce__()[1]).encode())
    return digest.hexdigest()


@pytest.mark.parametrize("optimizer", CHOICES)
def test_stopped_at_every_step(optimizer, tmp_path):
    chosen, expected = CHOICES[optimizer], network()
    dtype_of = {"sgd": "float64"}.get(optimizer, "float32")
    expected = network(dtype_of)
    wanted = bits(expected, fit(expected, chosen, validation_every_steps=5))
    for after in range(1, STEPS + 1):
        folder = tmp_path / str(after)
        with pytest.raises(KeyboardInterrupt):
            fit(
                network(dtype_of), chosen, [Stop(after), dnn.Checkpoint(folder)],
                validation_every_steps=5,
            )  # fmt: skip
        net = network(dtype_of)
        keep = dnn.Checkpoint(folder)
        history = fit(net, chosen, [keep], resume_from=folder, validation_every_steps=5)
        assert bits(net, history) == wanted, after


@pytest.mark.parametrize("every", [{"every_steps": 3, "every_epochs": None}, {"every_seconds": 0}])
def test_checkpoints_on_the_way_are_as_good(every, tmp_path):
    expected = network()
    wanted = bits(expected, fit(expected))
    net = network()
    keep = dnn.Checkpoint(tmp_path, keep=100, **every)
    assert bits(net, fit(net, callbacks=[keep])) == wanted
    found = generations(os.fspath(tmp_path))
    assert [n for n, _ in found][-1] == STEPS
    if "every_steps" in every:
        assert [n for n, _ in found] == [*range(3, STEPS, 3), STEPS]
    for _, path in found:
        net = network()
        assert bits(net, fit(net, resume_from=path)) == wanted


def test_a_number_of_epochs_may_be_added(tmp_path):
    expected = network()
    wanted = bits(expected, fit(expected, epochs=6))
    fit(network(), callbacks=[dnn.Checkpoint(tmp_path)], epochs=2)
    net = network()
    assert bits(net, fit(net, resume_from=tmp_path, epochs=6)) == wanted


def test_training_that_had_trained_before(tmp_path):
    def begun():
        net = network()
        fit(net, epochs=1)
        net.train_step(*examples()[:2])
        return net

    expected = begun()
    wanted = bits(expected, fit(expected))
    with pytest.raises(KeyboardInterrupt):
        fit(begun(), callbacks=[Stop(10), dnn.Checkpoint(tmp_path)])
    net = network()  # a new one: all comes from the file
    assert bits(net, fit(net, resume_from=tmp_path)) == wanted


class Steer(dnn.Callback):
    """Changes training by what it has seen."""

    def __init__(self):
        self.total, self.calls = np.zeros(2), []

    def on_epoch_begin(self, network, epoch):
        self.calls.append(f"epoch {epoch}")

    def on_batch_end(self, network, epoch, batch, loss):
        self.total = self.total + [1, loss]
        network.learning_rate_scale = 1 / (1 + self.total[1] / self.total[0])
        self.calls.append(f"batch {batch}")

    def get_state(self):
        return {"total": self.total, "calls": list(self.calls)}

    def set_state(self, network, state):
        self.total, self.calls = state["total"], state["calls"]


def steered(net, folder=None, more=(), **options):
    steer, stop = Steer(), dnn.EarlyStopping(patience=3, min_delta=0.01)
    plateau = dnn.ReduceLROnPlateau("loss", patience=1, factor=0.5)
    keep = [] if folder is None else [dnn.Checkpoint(folder)]
    try:
        history = fit(
            net, "rmsprop", [steer, stop, plateau, *more, *keep], epochs=30,
            validation_every_steps=4, **options
        )  # fmt: skip
    except KeyboardInterrupt:
        return None
    return bits(net, history), steer.calls, stop.best, stop.best_epoch, stop.stopped_epoch


def test_callbacks_go_on_where_they_were(tmp_path):
    wanted = steered(network())
    assert wanted[-1] is not None  # it was ended early
    for after in (1, 3, 7, 8, 12, 20):
        assert steered(network(), tmp_path / str(after), [Stop(after)]) is None
        folder = tmp_path / str(after)
        assert steered(network(), folder, resume_from=folder) == wanted
        # Ended training stays ended, with the best parameters.
        assert steered(network(), folder, resume_from=folder) == wanted


def test_interrupted_before_any_line_of_the_loop(tmp_path, interrupt_before):
    """Ctrl-C may come between any two lines: nothing that is put down may contradict itself."""
    expected = network()
    options = {"epochs": 3, "batch_size": 25}

    def run(net, folder=None, **more):
        keep = [] if folder is None else [dnn.Checkpoint(folder)]
        return fit(net, callbacks=[dnn.EarlyStopping(patience=9), *keep], **options, **more)

    wanted = bits(expected, run(expected))
    n, interrupted = 1, 0
    while True:
        folder = tmp_path / str(n)
        tracer = interrupt_before(n)
        try:
            with tracer:
                run(network(), folder)
        except KeyboardInterrupt:
            interrupted += 1
        if tracer.n > 0:
            break
        net = network()
        assert bits(net, run(net, folder, resume_from=folder)) == wanted, n
        n += 5
    assert interrupted > 40


# Another process

SCRIPT = """
import sys, numpy as np, dnncore as dnn
rng = np.random.default_rng(0)
X, y = rng.standard_normal((4000, 40)), rng.integers(5, size=4000)
layers = [dnn.Dense(64), dnn.BatchNorm(), dnn.Activation("relu"), dnn.Dropout(0.2), dnn.Dense(5)]
net = dnn.Network(40, layers, seed=1)
class Say(dnn.Callback):
    def on_progress(self, network, epoch, done, loss): print(epoch, flush=True)
keep = [dnn.Checkpoint(sys.argv[1], every_steps=20), Say()] if len(sys.argv) > 1 else []
history = net.fit(X, y, epochs=40, batch_size=20, validation_split=0.1, metrics=["f1", "log_loss"],
                  callbacks=[*keep, dnn.EarlyStopping("val_f1", patience=50)],
                  resume_from=sys.argv[1] if len(sys.argv) > 1 else None)
import hashlib
h = hashlib.sha256(net.params.tobytes() + repr(history.history["val_f1"]).encode())
print("end", h.hexdigest())
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_killed_again_and_again(tmp_path, run_python):
    wanted = run_python(SCRIPT).splitlines()[-1]
    rng = np.random.default_rng(5)
    kills = 0
    for attempt in range(60):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        try:
            line = process.stdout.readline()
            if attempt < 6 and not line.startswith("end"):
                time.sleep(rng.uniform(0, 0.15))
                process.send_signal(signal.SIGKILL if attempt % 2 else signal.SIGINT)
            rest = process.communicate(timeout=100)[0]
        finally:
            process.kill()
        kills += process.returncode != 0
        if process.returncode == 0:
            break
    assert (line + rest).splitlines()[-1] == wanted
    assert kills >= 2
    assert len(generations(os.fspath(tmp_path))) <= 2


# Files


def test_two_files_are_kept_and_the_older_one_stands_in(tmp_path):
    expected = network()
    wanted = bits(expected, fit(expected))
    fit(network(), callbacks=[dnn.Checkpoint(tmp_path)], epochs=3)
    found = generations(os.fspath(tmp_path))
    assert [n for n, _ in found] == [14, 21]
    content = found[1][1] and (tmp_path / os.path.basename(found[1][1])).read_bytes()
    for damage in (b"", content[:-1], content[:100] + b"?" + content[101:], content + b" "):
        (tmp_path / os.path.basename(found[1][1])).write_bytes(damage)
        net, keep = network(), dnn.Checkpoint(tmp_path)
        if damage == b"":
            with pytest.warns(RuntimeWarning, match=r"Going on from the older checkpoint-0+14"):
                assert find(tmp_path).path == found[0][1]
        with pytest.warns(RuntimeWarning, match="Going on from the older"):
            history = fit(net, resume_from=tmp_path)
        assert bits(net, history) == wanted
    with pytest.warns(RuntimeWarning, match="Going on from the older"):
        fit(network(), callbacks=[keep], resume_from=tmp_path)
    assert [n for n, _ in generations(os.fspath(tmp_path))] == [21, 28]
    for _, path in generations(os.fspath(tmp_path)):
        with open(path, "wb") as file:
            file.write(b"not a checkpoint")
    with pytest.raises(ModelFormatError, match="Cannot load .*000028"):
        fit(network(), resume_from=tmp_path)


def test_a_folder_without_checkpoints_is_a_beginning(tmp_path):
    expected, net, other = network(), network(), network()
    wanted = bits(expected, fit(expected))
    assert bits(net, fit(net, resume_from=tmp_path)) == wanted
    assert bits(other, fit(other, resume_from=tmp_path / "missing")) == wanted


def test_checkpoints_of_another_training_are_not_overwritten(tmp_path):
    fit(network(), callbacks=[dnn.Checkpoint(tmp_path)])
    with pytest.raises(ValueError, match="holds checkpoints of an earlier training"):
        fit(network(), callbacks=[dnn.Checkpoint(tmp_path)])
    with pytest.raises(ValueError, match="holds checkpoints of an earlier training"):
        fit(network(), callbacks=[dnn.Checkpoint(tmp_path)], resume_from=tmp_path / "no")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 9}, "batch_size must be what it was; it was 8 and is now 9"),
        ({"optimizer": dnn.Adam(0.5)}, "the optimizer must be what it was"),
        ({"shuffle": False}, "shuffle must be what it was"),
        ({"sample_weight": None}, "the data must be what they were"),
        ({"callbacks": [dnn.EarlyStopping()]}, "callbacks with a state must be what they were"),
        ({"net": network(seed=4)}, "its network has seed=3, this one 4"),
        ({"net": dnn.Network(3, [dnn.Dense(2)], loss="mse", seed=3)}, "its network has layers="),
    ],
)
def test_another_training_is_refused(change, message, tmp_path):
    fit(network(), callbacks=[dnn.Checkpoint(tmp_path)])
    options = {"net": network(), "resume_from": tmp_path} | change
    before = options["net"].params.copy()
    with pytest.raises(ValueError, match=message):
        fit(**options)
    np.testing.assert_array_equal(options["net"].params, before)


def rewrite(path, change):
    """Change what a checkpoint says, with a checksum that fits."""
    tensors, metadata = read_tensors(path, allow_nonfinite=True)
    training = json.loads(metadata["training"])
    change(training, tensors)
    metadata["training"] = json.dumps(training)
    write_tensors(path, tensors, metadata, allow_nonfinite=True)


def put(*keys_and_value):
    *keys, last, value = keys_and_value

    def change(training, tensors):
        for key in keys:
            training = training[key]
        training[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        put("optimizer", "newton"),
        put("optimizer", "sgd"),
        put("optimizer", 3),
        put("position", [1, 2, 3]),
        put("position", [1, 2, -3, 0.0, 0.0]),
        put("position", 0, "one"),
        put("forward_step", None),
        put("run", []),
        put("run", "stage", "rest"),
        put("run", "first_epoch", "0"),
        put("run", "epochs", [["loss", 3]]),
        put("run", "loss_before", [1]),
        put("run", "callbacks", [["EarlyStopping"]]),
        put("run", "callbacks", [["EarlyStopping", 3]]),
        lambda training, tensors: training.pop("position"),
        lambda training, tensors: training["run"].pop("seconds"),
        lambda training, tensors: tensors.pop("optimizer.moment1"),
        lambda training, tensors: tensors.update(more=np.ones(3)),
        lambda training, tensors: tensors["optimizer.moment2"].fill(np.nan),
        lambda training, tensors: tensors["layers.0.weight"].fill(np.inf),
    ],
)
def test_checkpoints_that_contradict_themselves(change, tmp_path):
    fit(network(), callbacks=[dnn.Checkpoint(tmp_path)], epochs=1)
    ((_, path),) = generations(os.fspath(tmp_path))
    rewrite(path, change)
    with pytest.raises(ModelFormatError, match="Cannot load"):
        fit(network(), resume_from=path)


@pytest.mark.parametrize("start", [50, 51, 10**12])
def test_a_place_outside_the_data_is_refused(start, tmp_path):
    fit(network(), callbacks=[dnn.Checkpoint(tmp_path)], epochs=1)
    ((_, path),) = generations(os.fspath(tmp_path))
    rewrite(path, put("position", 2, start))
    with pytest.raises(ValueError, match="is not within the data"):
        fit(network(), resume_from=path)


def test_divergence_leaves_no_checkpoint_of_its_own(tmp_path):
    keep = dnn.Checkpoint(tmp_path, every_epochs=None)
    with pytest.raises(dnn.DivergenceError):
        fit(network(), dnn.SGD(1e20), [keep])
    assert not generations(os.fspath(tmp_path))


# Loops of one's own


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_network_in_the_middle_of_ones_own_loop(optimizer, tmp_path):
    X, y, _ = examples()
    path, net = tmp_path / "state.safetensors", network()
    for _ in range(3):
        net.train_step(X, y, optimizer)
        net.forward(X)
    dnn.save_checkpoint(net, path)
    again = dnn.load_checkpoint(path)
    for one in (net, again):
        one.train_step(X, y, optimizer)
        one.backward(one.forward(X))
        one.step(optimizer)
    np.testing.assert_array_equal(again.params, net.params)
    assert again.seed == net.seed and again._position.step == 5
    with pytest.raises(ValueError, match="was not written during fit"):
        fit(network(), resume_from=path)
    with pytest.raises(ModelFormatError, match="not a dnncore model; read it with dnncore.load_ch"):
        dnn.load(path)
    net.save(path)
    with pytest.raises(ModelFormatError, match="not a checkpoint of dnncore"):
        dnn.load_checkpoint(path)
    with pytest.raises(ModelFormatError, match="There is no checkpoint"):
        dnn.load_checkpoint(tmp_path / "missing")
