"""Training that goes wrong says so, and leaves finite parameters."""

import pickle

import numpy as np
import pytest

import dnncore as dnn
from dnncore.losses import LOSSES


def small():
    return dnn.Network(8, [dnn.Dense(16, "relu"), dnn.Dense(2)], loss="mse")


def examples():
    rng = np.random.default_rng(0)
    return (
        rng.standard_normal((64, 8), dtype=np.float32),
        rng.standard_normal((64, 2), dtype=np.float32),
    )


CAUSES = {
    "learning rate": (1e30, 1.0, 1.0),
    "inputs": (1e-2, 1e30, 1.0),
    "targets": (1e-2, 1.0, 3e38),
}
OPTIMIZERS = {
    "sgd": dnn.SGD,
    "momentum": lambda lr: dnn.SGD(lr, momentum=0.9),
    "nesterov": lambda lr: dnn.SGD(lr, momentum=0.9, nesterov=True),
    "rmsprop": dnn.RMSprop,
    "adam": dnn.Adam,
    "adamw": dnn.AdamW,
    "nadam": dnn.Nadam,
    "radam": dnn.RAdam,
    "adagrad": dnn.Adagrad,
    "adadelta": dnn.Adadelta,
    "lion": dnn.Lion,
}


@pytest.mark.parametrize(
    ("optimizer", "loss", "cause"),
    [
        (optimizer, loss, cause)
        for optimizer in OPTIMIZERS
        for loss in LOSSES
        for cause in CAUSES
        if (cause != "targets" or LOSSES[loss].targets == "values")  # labels have no scale
        and (optimizer in ("sgd", "adam") or loss in ("mse", "softmax_cross_entropy"))
    ],
)
def test_parameters_stay_finite_whatever_happens(loss, optimizer, cause):
    rate, x_scale, y_scale = CAUSES[cause]
    X, y = examples()
    if LOSSES[loss].targets != "values":
        y = np.eye(2, dtype=np.float32)[(y[:, 0] > 0).astype(int)]
    elif LOSSES[loss].least is not None:
        y = np.abs(y) + np.float32(0.1)
    net = dnn.Network(8, [dnn.Dense(16, "relu"), dnn.Dense(2)], loss=loss)
    X, y = X * np.float32(x_scale), np.clip(y.astype(float) * y_scale, -3e38, 3e38)
    chosen, stopped = OPTIMIZERS[optimizer](rate), False
    try:
        net.fit(X, y, epochs=200, batch_size=16, optimizer=chosen)
    except dnn.DivergenceError as error:
        stopped = True
        assert error.epoch >= 1 and error.step >= 1
        assert f"epoch {error.epoch}, step {error.step}" in str(error)
        assert "learning_rate" in str(error)
    assert np.isfinite(net.params).all()
    if loss == "mse" or (cause == "learning rate" and optimizer in ("sgd", "momentum")):
        assert stopped
    if stopped:  # and a fresh start goes well
        X, y = examples()
        net = net.initialize()
        y = np.abs(y) / np.abs(y).sum(axis=1, keepdims=True)
        y = np.round(y) if "hinge" in loss else y
        net.fit(X, y, epochs=2, optimizer=OPTIMIZERS[optimizer](1e-3))
        assert np.isfinite(net.params).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_single_step_leaves_finite_parameters(optimizer):
    X, y = examples()
    net = small()
    before = net.params.copy()
    with pytest.raises(dnn.DivergenceError, match="step"):
        for _ in range(100):
            net.train_step(X, y, OPTIMIZERS[optimizer](3e38))
    assert np.isfinite(net.params).all()
    net.params[:] = before
    with pytest.raises(dnn.DivergenceError, match="step 1"):
        net.train_step(X * 1e30, y)
    np.testing.assert_array_equal(net.params, before)
    net.grads[3] = np.inf
    largest = f"largest parameter before: {np.abs(before).max():.3g}"
    with pytest.raises(dnn.DivergenceError, match=rf"step 1.*{largest}"):
        net.step()
    np.testing.assert_array_equal(net.params, before)
    net.grads[:] = 1e30
    with pytest.raises(dnn.DivergenceError, match="step 1"):
        net.step(dnn.SGD(1e30))
    np.testing.assert_array_equal(net.params, before)


def test_parameters_that_are_not_finite_are_not_trained_on():
    net, (X, y) = small(), examples()
    net.params[5] = np.nan
    for call in (lambda: net.fit(X, y), lambda: net.train_step(X, y), lambda: net.step()):
        with pytest.raises(ValueError, match=r"net\.params .*not finite"):
            call()


def test_divergence_error_survives_a_process_boundary():
    error = dnn.DivergenceError("lost", epoch=3, step=7)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.epoch, copy.step) == ("lost", 3, 7)
