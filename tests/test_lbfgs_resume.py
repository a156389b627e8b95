"""L-BFGS that is stopped anywhere, and goes on, ends with the same bits."""

import json

import numpy as np
import pytest

import dnncore as dnn
from dnncore._safefile import read_tensors, write_tensors
from dnncore.checkpoints import generations
from dnncore.exceptions import ModelFormatError

ITERATIONS = 9


def examples():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3))
    return X, np.stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]], axis=1), rng.uniform(0.5, 2, 60)


def network(dtype="float32"):
    layers = [
        dnn.Dense(6, trainable=False), dnn.BatchNorm(), dnn.Activation("tanh"),
        dnn.Residual([dnn.LayerNorm(), dnn.Dense(6, "relu")]), dnn.RMSNorm(), dnn.Dense(2),
    ]  # fmt: skip
    return dnn.Network(3, layers, loss="mse", dtype=dtype, seed=1)


def fit(net, callbacks=(), *, max_iter=ITERATIONS, settings=None, **options):
    X, y, weight = examples()
    optimizer = dnn.LBFGS(max_iter=max_iter, **(settings or {"l2": 1e-3, "history": 4}))
    watch = [dnn.EarlyStopping(patience=7), *callbacks]
    return net.fit(
        X, y, optimizer=optimizer, sample_weight=weight, validation_data=(X[:20], y[:20]),
        callbacks=watch, **options,
    )  # fmt: skip


def result(net, history):
    columns = {k: np.array(v).tobytes() for k, v in history.history.items() if k != "time"}
    return net.params.tobytes(), columns, net._position.__reduce__()[1]


class Stop(dnn.Callback):
    def __init__(self, after, hook):
        self.after, self.hook = after, hook

    def on_epoch_begin(self, network, epoch):
        self.look("begin", epoch)

    def on_batch_end(self, network, epoch, batch, loss):
        self.look("batch", epoch)

    def on_epoch_end(self, network, epoch, logs):
        self.look("end", epoch)

    def look(self, hook, epoch):
        if hook == self.hook and epoch == self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hook", ["begin", "batch", "end"])
def test_stopped_at_every_iteration(hook, dtype, tmp_path):
    expected = network(dtype)
    wanted = result(expected, fit(expected))
    assert len(set(wanted[1]["loss"])) > 5
    for after in range(0, ITERATIONS, 2):
        folder = tmp_path / str(after)
        with pytest.raises(KeyboardInterrupt):
            fit(network(dtype), [Stop(after, hook), dnn.Checkpoint(folder)])
        net = network(dtype)
        assert result(net, fit(net, [dnn.Checkpoint(folder)], resume_from=folder)) == wanted, after


def test_interrupted_before_any_line(tmp_path, interrupt_before):
    expected = network()
    wanted = result(expected, fit(expected, max_iter=2))

    n, interrupted = 1, 0
    while True:
        folder, tracer = tmp_path / str(n), interrupt_before(n)
        try:
            with tracer:
                fit(network(), [dnn.Checkpoint(folder)], max_iter=2)
        except KeyboardInterrupt:
            interrupted += 1
        if tracer.n > 0:
            break
        net = network()
        history = fit(net, [dnn.Checkpoint(folder)], max_iter=2, resume_from=folder)
        assert result(net, history) == wanted, n
        n += 7
    assert interrupted > 40


def test_more_iterations_and_an_end_that_stays(tmp_path):
    longer = network()
    wanted = result(longer, fit(longer, max_iter=20))
    fit(network(), [dnn.Checkpoint(tmp_path / "a")], max_iter=8)
    net = network()
    assert result(net, fit(net, max_iter=20, resume_from=tmp_path / "a")) == wanted

    settings = {"rtol": 0.01}
    ended = network()
    history = fit(ended, [dnn.Checkpoint(tmp_path / "b")], max_iter=100, settings=settings)
    assert 3 < len(history.history["loss"]) < 50
    again = network()
    more = fit(again, max_iter=200, settings=settings, resume_from=tmp_path / "b")
    assert result(again, more) == result(ended, history)


def test_a_network_that_had_trained_before(tmp_path):
    def begun():
        X, y, _ = examples()
        net = network()
        net.fit(X, y, epochs=2, batch_size=20)
        return net

    expected = begun()
    wanted = result(expected, fit(expected))
    with pytest.raises(KeyboardInterrupt):
        fit(begun(), [Stop(4, "batch"), dnn.Checkpoint(tmp_path)])
    net = network()  # a new one: all comes from the file
    assert result(net, fit(net, resume_from=tmp_path)) == wanted


def test_another_training_is_refused(tmp_path):
    fit(network(), [dnn.Checkpoint(tmp_path)])
    net = network()
    before = net.params.copy()
    with pytest.raises(ValueError, match="the optimizer must be what it was"):
        fit(net, settings={"history": 5}, resume_from=tmp_path)
    X, y, weight = examples()
    with pytest.raises(ValueError, match="the optimizer must be what it was"):
        net.fit(
            X, y, optimizer=dnn.SGD(l2=1e-3), batch_size=None, sample_weight=weight,
            callbacks=[dnn.EarlyStopping()], validation_data=(X, y), resume_from=tmp_path,
        )  # fmt: skip
    np.testing.assert_array_equal(net.params, before)


@pytest.mark.parametrize(
    "change",
    [
        lambda state, arrays: state.update(value="low"),
        lambda state, arrays: state.update(arrays=[1, 2]),
        lambda state, arrays: state.update(iterations=True),
        lambda state, arrays: state.pop("ended"),
        lambda state, arrays: arrays[0].fill(np.nan),
        lambda state, arrays: arrays[2].fill(0),
    ],
)
def test_checkpoints_that_contradict_themselves(change, tmp_path):
    fit(network(), [dnn.Checkpoint(tmp_path)], max_iter=2)
    path = generations(str(tmp_path))[-1][1]
    tensors, metadata = read_tensors(path, allow_nonfinite=True)
    training = json.loads(metadata["training"])
    state = training["run"]["lbfgs"]
    change(state, {n: tensors[entry["__ndarray__"]] for n, entry in enumerate(state["arrays"])})
    metadata["training"] = json.dumps(training)
    write_tensors(path, tensors, metadata, allow_nonfinite=True)
    net = network()
    before = net.params.copy()
    with pytest.raises(ModelFormatError, match="Cannot load"):
        fit(net, resume_from=path)
    np.testing.assert_array_equal(net.params, before)
