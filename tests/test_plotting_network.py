"""Pictures of networks, and what is said of their layers."""

import io
import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression

import dnncore as dnn
from dnncore.plotting import plot_decision_boundary, plot_layer_statistics, plot_weights


@pytest.fixture
def ax():
    return Figure().subplots()


def rendered(ax):
    content = io.BytesIO()
    ax.figure.savefig(content, format="png")
    return content.getvalue()


def halves(n_out=2, rows=200):
    """A network that tells left from right, with the data."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 3, (rows, 2))
    y = np.where(X[:, 0] > 1, "right", "left")
    loss = "softmax_cross_entropy" if n_out > 1 else "binary_cross_entropy"
    net = dnn.Network(2, [dnn.Dense(n_out)], loss=loss)
    net.fit(X, y, epochs=1, optimizer=dnn.SGD(0.0))  # learns the labels
    net.weights[0][:] = [[5], [0]] if n_out == 1 else [[-2.5, 2.5], [0, 0]]
    net.biases[0][:] = -5 if n_out == 1 else [2.5, -2.5]
    return net, X, y


# Decision boundaries


@pytest.mark.parametrize("n_out", [1, 2])
def test_boundary_runs_where_the_answer_changes(ax, n_out):
    net, X, y = halves(n_out)
    assert plot_decision_boundary(net, X, y, ax, resolution=60) is ax
    (image,) = ax.images
    left, right, bottom, top = image.get_extent()
    assert left < X[:, 0].min() and right > X[:, 0].max() and bottom < top
    pixels = np.asarray(image.get_array())
    blue, orange = np.array(to_rgb("tab:blue")), np.array(to_rgb("tab:orange"))
    for column, color in ((1, blue), (-2, orange)):
        np.testing.assert_allclose(pixels[30, column], 1 - 0.55 * (1 - color), atol=0.03)
    path = ax.collections[0].get_paths()[0].vertices
    assert len(path) > 10 and np.abs(path[:, 0] - 1).max() < 0.01
    drawn = {c.get_label(): c.get_offsets().data for c in ax.collections[1:]}
    np.testing.assert_array_equal(drawn["left"], X[y == "left"])
    np.testing.assert_array_equal(drawn["right"], X[y == "right"])
    assert rendered(ax).startswith(b"\x89PNG")


def test_boundary_of_several_classes_and_of_another_library(ax):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((150, 2)) + 4 * np.repeat([[0, 0], [1, 0], [0, 1]], 50, axis=0)
    y = np.repeat([3, 5, 9], 50)
    model = LogisticRegression().fit(X, y)
    plot_decision_boundary(model, X, y, ax, resolution=50)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["3", "5", "9"]
    assert len(ax.collections) == 3 + 3  # a line around each class, and its points
    other = Figure().subplots()
    plot_decision_boundary(model, X, ax=other, resolution=50)
    assert other.get_legend() is None


def test_surface_of_a_regression(ax):
    X = np.random.default_rng(0).uniform(0, 1, (100, 2))
    y = X @ [2.0, 0.0]
    net = dnn.Network(2, [dnn.Dense(1)], loss="mse")
    net.params[:] = [2, 0, 0]
    plot_decision_boundary(net, X, y, ax, resolution=11)
    heights = np.asarray(ax.images[0].get_array())
    left, right = ax.images[0].get_extent()[:2]
    np.testing.assert_allclose(heights[4], 2 * np.linspace(left, right, 11), atol=1e-6)
    points = ax.collections[0]
    np.testing.assert_array_equal(points.get_array(), y)
    assert points.get_clim() == ax.images[0].get_clim()
    assert ax.figure.axes[1].get_ylabel() == "predicted, true"


def test_boundaries_that_cannot_be_drawn(ax):
    net, X, y = halves()
    with pytest.raises(ValueError, match="X must have 2 columns"):
        plot_decision_boundary(net, np.ones((3, 3)), ax=ax)
    with pytest.raises(ValueError, match="same number of rows"):
        plot_decision_boundary(net, X, y[1:], ax)
    many = dnn.Network(2, [dnn.Dense(21)])
    with pytest.raises(ValueError, match="up to 20 classes; got 21"):
        plot_decision_boundary(many, X, ax=ax)
    two = dnn.Network(2, [dnn.Dense(2)], loss="mse")
    with pytest.raises(ValueError, match="must have one output; it has 2"):
        plot_decision_boundary(two, X, ax=ax)


# Weights


def test_weights_as_pictures(ax):
    net = dnn.Network(9, [dnn.Dense(5, "relu"), dnn.Dense(2)])
    net.weights[0][:] = np.arange(45).reshape(9, 5) * [1, 10, 100, 0, -5]
    assert plot_weights(net, 0, ax, units=4) is ax
    mosaic = np.ma.filled(ax.images[0].get_array(), np.nan)
    assert mosaic.shape == (7, 7) and ax.images[0].get_clim() == (-1, 1)
    for at, unit in (((0, 0), 2), ((0, 4), 1), ((4, 0), 4), ((4, 4), 0)):  # largest first
        picture = net.weights[0][:, unit].reshape(3, 3)
        found = mosaic[at[0] : at[0] + 3, at[1] : at[1] + 3]
        np.testing.assert_allclose(found, picture / np.abs(picture).max(), rtol=1e-6)
    assert np.isnan(mosaic[3]).all() and np.isnan(mosaic[:, 3]).all()
    assert ax.get_title() == "weights of dense layer 0, 4 of 5 units"
    assert rendered(ax).startswith(b"\x89PNG")


def test_weights_as_a_matrix(ax):
    net = dnn.Network(6, [dnn.Dense(4), dnn.Dense(9), dnn.Dense(2)])
    for layer in range(3):
        fresh = Figure().subplots()
        plot_weights(net, layer, fresh)
        np.testing.assert_allclose(np.asarray(fresh.images[0].get_array()), net.weights[layer])
    plot_weights(net, 0, ax, shape=(2, 3))
    assert ax.images[0].get_array().shape == (2 * 2 + 1, 3 * 2 + 1)
    with pytest.raises(ValueError, match=r"shape \(2, 2\) does not hold the layer's 6 inputs"):
        plot_weights(net, 0, ax, shape=(2, 2))
    with pytest.raises(ValueError, match="layer must be from 0 to 2; got 3"):
        plot_weights(net, 3, ax)


# Statistics of layers


def watched(layers, X, y=None, loss="mse", epochs=1, change=None, **options):
    y = X[:, 0] if y is None else y
    net = dnn.Network(X.shape[1], layers, loss=loss, dtype="float64")
    if change is not None:
        change(net)
    watch = dnn.LayerStatistics(X, y)
    net.fit(X, y, epochs=epochs, callbacks=[watch], **options)
    return net, watch


X = np.random.default_rng(0).standard_normal((80, 5))


def test_statistics_are_those_of_numpy():
    layers = [dnn.Dense(12, "tanh"), dnn.Dropout(0.0), dnn.Dense(7, "sigmoid"), dnn.Dense(1)]
    net, watch = watched(layers, X, optimizer=dnn.SGD(0.0))
    (w1, w2, w3), (b1, b2, b3) = net.weights, net.biases
    a1 = np.tanh(X @ w1 + b1)
    a2 = 1 / (1 + np.exp(-(a1 @ w2 + b2)))
    d3 = 2 * (a2 @ w3 + b3 - X[:, :1]) / 80
    d2 = d3 @ w3.T * a2 * (1 - a2)
    d1 = d2 @ w2.T * (1 - a1**2)
    assert watch.epochs == [0, 1] and [r.index for r in watch.layers] == [0, 2, 3]
    for record, out, weight, gradient in zip(
        watch.layers,
        (a1, a2, a2 @ w3 + b3),
        (w1, w2, w3),
        (X.T @ d1, a1.T @ d2, a2.T @ d3),
        strict=True,
    ):
        last = {name: values[-1] for name, values in record.values.items()}
        assert last == pytest.approx({
            "dead": 0.0,
            "saturated": {12: np.mean(abs(a1) > 0.98), 7: 0.0, 1: 0.0}[out.shape[1]],
            "activation_mean": out.mean(),
            "activation_std": out.std(),
            "gradient": np.sqrt(np.mean(gradient**2)),
            "weight": np.sqrt(np.mean(weight**2)),
        })  # fmt: skip
    assert watch.describe().startswith("All layers look healthy")


def test_watching_changes_nothing():
    layers = [dnn.Dense(6, "relu"), dnn.Dropout(0.3), dnn.Dense(1)]
    net, _ = watched(layers, X, epochs=3, batch_size=16)
    twin = dnn.Network(5, layers, loss="mse", dtype="float64")
    twin.fit(X, X[:, 0], epochs=3, batch_size=16)
    np.testing.assert_array_equal(net.params, twin.params)
    np.testing.assert_array_equal(net.forward(X), twin.forward(X))


def kill(net):
    net.biases[0][:3] = -1e3


def steep(net):
    net.weights[0][:] *= 100


def shrink(net):
    for weights in net.weights[1:]:
        weights[:] *= 1e-3


@pytest.mark.parametrize(
    ("layers", "change", "words"),
    [
        ([dnn.Dense(8, "relu"), dnn.Dense(1)], kill,
         ["layer 0: 8 relu: 38 % of its units are dead", "leaky_relu"]),
        ([dnn.Dense(8, "tanh"), dnn.Dense(1)], steep,
         ["layer 0: 8 tanh: 9. % of its outputs are saturated, where tanh is flat"]),
        ([dnn.Dense(8, "sigmoid"), dnn.Dense(8, "sigmoid"), dnn.Dense(1)], shrink,
         ["layer 0: 8 sigmoid: its gradients vanish"]),
    ],
)  # fmt: skip
def test_words(layers, change, words):
    _, watch = watched(layers, X, change=change, optimizer=dnn.SGD(1e-9))
    (line,) = watch.describe().splitlines()
    for text in words:
        assert re.search(text, line), line


def test_exploding_gradients_are_named():
    layers = [dnn.Dense(8, "relu"), dnn.Dense(8, "relu"), dnn.Dense(1)]

    def grow(net, epoch, logs):
        net.params[:] *= 30

    net, watch = dnn.Network(5, layers, loss="mse"), dnn.LayerStatistics(X, X[:, 0])
    grower = dnn.LambdaCallback(on_epoch_end=grow)
    net.fit(X, X[:, 0], epochs=3, optimizer=dnn.SGD(0.0), callbacks=[grower, watch])
    assert watch.describe().count("its gradients explode") == 3


def test_statistics_of_labels_and_pictures(ax):
    y = np.where(X[:, 0] > 0, "a", "b")
    layers = [dnn.Dense(8, "relu"), dnn.Dense(6, "tanh"), dnn.Dense(2)]
    watch = dnn.LayerStatistics(X, y, every_epochs=2)
    with pytest.raises(ValueError, match="has recorded nothing"):
        plot_layer_statistics(watch, ax=ax)
    dnn.Network(5, layers).fit(X, y, epochs=5, callbacks=[watch])
    assert watch.epochs == [0, 2, 4]
    assert watch.plot("gradient", ax) is ax
    assert ax.get_yscale() == "log" and ax.get_xlabel() == "epoch"
    for line, record in zip(ax.get_lines(), watch.layers, strict=True):
        assert line.get_ydata().tolist() == record.values["gradient"]
        assert line.get_xdata().tolist() == [0, 2, 4]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "layer 0: 8 relu", "layer 1: 6 tanh", "layer 2: 2"
    ]  # fmt: skip
    with pytest.raises(ValueError, match="name must be one of 'dead'"):
        watch.plot("alive")


def test_statistics_go_on_after_a_resume(tmp_path):
    def run(epochs, **options):
        watch = dnn.LayerStatistics(X, X[:, 0])
        net = dnn.Network(5, [dnn.Dense(6, "relu"), dnn.Dense(1)], loss="mse")
        keep = dnn.Checkpoint(tmp_path)
        net.fit(X, X[:, 0], epochs=epochs, callbacks=[watch, keep], **options)
        return watch

    run(2)
    watch = run(4, resume_from=tmp_path)
    whole = dnn.LayerStatistics(X, X[:, 0])
    net = dnn.Network(5, [dnn.Dense(6, "relu"), dnn.Dense(1)], loss="mse")
    net.fit(X, X[:, 0], epochs=4, callbacks=[whole])
    assert watch.epochs == whole.epochs and watch.layers == whole.layers
