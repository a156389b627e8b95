"""What callbacks watch is looked up before training, where it can be known."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import dnncore as dnn

X = np.random.default_rng(0).standard_normal((32, 3))
Y = X @ [1.0, -2.0, 0.5]


def network():
    return dnn.Network(3, [dnn.Dense(4, "tanh"), dnn.Dense(1)], loss="mse")


def fit(net, callbacks, **options):
    return net.fit(X, Y, epochs=8, validation_data=(X, Y), callbacks=callbacks, **options)


def model_checkpoint(monitor="val_loss", **options):
    return dnn.ModelCheckpoint("never-written", monitor, **options)


@pytest.mark.parametrize("kind", [dnn.EarlyStopping, dnn.ReduceLROnPlateau, model_checkpoint])
def test_what_is_watched_is_known_before_training(kind):
    net, begun = network(), []
    before = net.params.copy()
    watch = dnn.LambdaCallback(on_train_begin=lambda net, epochs: begun.append(epochs))
    for name in ("val_f1", "accuracy", "Loss"):
        message = f"watches '{name}', which is not recorded; there are loss, val_loss, val_r2, time"
        with pytest.raises(ValueError, match=message):
            fit(net, [watch, kind(name)], metrics=["r2"])
    assert not begun
    np.testing.assert_array_equal(net.params, before)
    plateau = dnn.ReduceLROnPlateau("loss")
    fit(net, [plateau, dnn.EarlyStopping("learning_rate_scale"), dnn.EarlyStopping("time")])


def test_what_callbacks_of_the_users_own_record_can_be_watched():
    class Own(dnn.Callback):
        def on_epoch_end(self, net, epoch, logs):
            logs["own"] = abs(epoch - 3.0)

    function = dnn.LambdaCallback(on_epoch_end=Own().on_epoch_end)
    for own in (Own(), function):
        stop = dnn.EarlyStopping("own", patience=2)
        fit(network(), [own, stop])
        assert stop.best_epoch == 3
        with pytest.raises(ValueError, match="watches 'other', which is not .* own"):
            fit(network(), [own, dnn.EarlyStopping("other")])


def test_the_estimators_know_what_they_record():
    from dnncore.sklearn import MLPRegressor

    model = MLPRegressor(hidden_layer_sizes=(4,), max_iter=4, callbacks=[dnn.EarlyStopping()])
    with pytest.raises(ValueError, match="watches 'val_loss', .* there are loss, time"):
        model.fit(X, Y)
    model.set_params(early_stopping=True, validation_fraction=0.5, callbacks=[dnn.EarlyStopping()])
    with pytest.warns(ConvergenceWarning):
        model.fit(X, Y)
    assert model.callbacks[0].best is not None
