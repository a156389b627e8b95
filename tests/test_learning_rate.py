"""The learning-rate finder."""

import numpy as np
import pytest

import dnncore as dnn


def examples():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 5))
    return X, X @ rng.standard_normal(5) + 0.1 * rng.standard_normal(300)


def network(**options):
    return dnn.Network(5, [dnn.Dense(16, "tanh"), dnn.Dense(1)], loss="mse", **options)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", dnn.SGD(momentum=0.9), dnn.Adam(clip_norm=1)])
def test_training_with_the_suggestion_works(optimizer):
    X, y = examples()
    sweep = dnn.find_learning_rate(network(), X, y, optimizer=optimizer, batch_size=30)
    n = len(sweep.learning_rates)
    assert len(sweep.losses) == len(sweep.smoothed) == n <= 200
    np.testing.assert_allclose(np.diff(np.log(sweep.learning_rates)), np.log(1e7) / 199, rtol=1e-9)
    assert 1e-5 < sweep.suggestion <= sweep.at_minimum
    chosen = dnn.optimizers.as_optimizer(optimizer)
    config = chosen.get_config() | {"learning_rate": sweep.suggestion}
    net = network()
    history = net.fit(
        X, y, epochs=20, batch_size=30, optimizer=dnn.optimizers.optimizer_from_config(config)
    )
    assert history.history["loss"][-1] < 0.2 * np.var(y)


def test_steps_are_those_of_training_with_that_schedule():
    X, y = examples()
    sweep = dnn.find_learning_rate(
        network(), X, y, smallest=1e-4, largest=1e-2, steps=12, batch_size=100, smoothing=0.5
    )
    seen = []
    twin = network()
    twin.fit(
        X, y, epochs=4, batch_size=100,
        optimizer=dnn.Adam(dnn.schedules.Exponential(1e-4, 100 ** (1 / 11))),
        callbacks=[dnn.LambdaCallback(on_batch_end=lambda *told: seen.append(told[-1]))],
    )  # fmt: skip
    np.testing.assert_allclose(sweep.losses, seen, rtol=1e-12)
    mean, smoothed = 0.0, []
    for n, loss in enumerate(seen, start=1):
        mean = 0.5 * mean + 0.5 * loss
        smoothed.append(mean / (1 - 0.5**n))
    np.testing.assert_allclose(sweep.smoothed, smoothed, rtol=1e-12)


def test_the_network_stays_as_it_is():
    X, y = examples()
    net = network()
    net.fit(X, y, epochs=1)
    params, moments = net.params.copy(), [m.copy() for m in net._state.moments]
    place = net._position.__reduce__()[1]
    dnn.find_learning_rate(net, X, y, steps=20)
    np.testing.assert_array_equal(net.params, params)
    assert net._position.__reduce__()[1] == place
    for now, before in zip(net._state.moments, moments, strict=True):
        np.testing.assert_array_equal(now, before)


def test_plot():
    plt = pytest.importorskip("matplotlib.pyplot")
    X, y = examples()
    sweep = dnn.find_learning_rate(network(), X, y)
    figure, axes = plt.subplots()
    assert sweep.plot(axes) is axes
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "learning rate"
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), sweep.smoothed)
    plt.close(figure)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"smallest": 0}, ValueError, "smallest"),
        ({"smallest": 1.0, "largest": 0.1}, ValueError, "largest"),
        ({"steps": 3}, ValueError, "steps"),
        ({"smoothing": 1.0}, ValueError, "smoothing"),
        ({"epochs": 3}, TypeError, "epochs"),
        ({"optimizer": dnn.LBFGS()}, TypeError, "LBFGS"),
        ({"smallest": 1e30, "largest": 1e38, "optimizer": "sgd"}, ValueError, "smaller"),
    ],
)
def test_bad_settings(settings, error, words):
    X, y = examples()
    with pytest.raises(error, match=words):
        dnn.find_learning_rate(network(), X, y, **settings)
