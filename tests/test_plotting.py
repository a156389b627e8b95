"""What the pictures show, read back from the axes."""

import io
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

import dnncore as dnn
from dnncore.datasets import make_blobs
from dnncore.plotting import plot_confusion_matrix, plot_history, plot_predictions

RECORDED = {
    "loss": [1.0, 0.6, 0.5],
    "val_loss": [1.1, 0.8, 0.7],
    "val_accuracy": [0.3, 0.6, 0.7],
    "time": [0.1, 0.1, 0.1],
}


@pytest.fixture
def ax():
    return Figure().subplots()


def lines(ax):
    return {line.get_label(): line.get_ydata().tolist() for line in ax.get_lines()}


def cells(ax):
    """Return the numbers written into a matrix, by (row, column)."""
    written = {}
    for text in ax.texts:
        column, row = text.get_position()
        written[int(row), int(column)] = int(text.get_text())
    return written


def rendered(ax):
    content = io.BytesIO()
    ax.figure.savefig(content, format="png")
    return content.getvalue()


def test_losses_by_epoch(ax):
    assert plot_history(RECORDED, ax) is ax
    assert lines(ax) == {"training loss": [1.0, 0.6, 0.5], "validation loss": [1.1, 0.8, 0.7]}
    assert ax.get_lines()[0].get_xdata().tolist() == [1, 2, 3]
    assert ax.get_xlabel() == "epoch" and ax.get_ylabel() == "loss"
    assert [t.get_text() for t in ax.get_legend().get_texts()] == list(lines(ax))


def test_chosen_curves(ax):
    plot_history(RECORDED, ax, names=["val_accuracy"])
    assert lines(ax) == {"validation accuracy": [0.3, 0.6, 0.7]}
    assert ax.get_ylabel() == "validation accuracy"


def test_history_of_a_fit(ax):
    X, y = make_blobs(60)
    net = dnn.Network(2, [dnn.Dense(3)])
    history = net.fit(X, y, epochs=2, validation_split=0.2)
    plot_history(history, ax)
    assert lines(ax)["validation loss"] == history.history["val_loss"]


def test_one_epoch_is_visible(ax):
    plot_history({"loss": [0.5]}, ax)
    assert ax.get_lines()[0].get_marker() == "o"


@pytest.mark.parametrize(
    ("history", "names"),
    [({}, None), ({"loss": []}, None), ({"loss": [1.0]}, ["val_loss"]), ({"loss": [1.0]}, [])],
)
def test_no_such_curve(ax, history, names):
    with pytest.raises(ValueError, match="history must hold"):
        plot_history(history, ax, names=names)


@pytest.mark.parametrize("labels", [np.arange(4), np.array(["a", "b", "c", "d"]), [0, 7, 20, 21]])
def test_counts_are_those_of_scikit_learn(ax, labels):
    rng = np.random.default_rng(0)
    true, pred = np.asarray(labels)[rng.integers(0, 4, (2, 200))]
    expected = confusion_matrix(true, pred)
    assert (expected > 0).all()
    plot_confusion_matrix(true, pred, ax)
    assert cells(ax) == {(i, j): expected[i, j] for i in range(4) for j in range(4)}
    shares = expected / expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(ax.images[0].get_array(), shares)
    right = np.trace(expected)
    assert ax.get_title() == f"{right} of 200 right ({right / 200:.2%})"
    assert [t.get_text() for t in ax.get_xticklabels()] == [str(label) for label in labels]


def test_classes_in_the_given_order_and_without_rows(ax):
    plot_confusion_matrix(["b", "a", "b"], ["b", "b", "b"], ax, classes=["c", "b", "a"])
    assert cells(ax) == {(1, 1): 2, (2, 1): 1}
    assert [t.get_text() for t in ax.get_yticklabels()] == ["c", "b", "a"]


def test_counts_can_be_read_on_their_cells(ax):
    plot_confusion_matrix([0] * 97 + [1] * 50, [0] * 95 + [1] * 2 + [1] * 50, ax)
    colours = {text.get_position(): text.get_color() for text in ax.texts}
    assert colours == {(0, 0): "white", (1, 0): "black", (1, 1): "white"}


@pytest.mark.parametrize(("classes", "written"), [(20, 20), (21, 0)])
def test_many_classes_are_colours_only(ax, classes, written):
    y = np.arange(classes)
    plot_confusion_matrix(y, y, ax)
    assert len(ax.texts) == written
    assert len(ax.get_xticks()) <= 20


def test_labels_are_shown_as_they_are(ax):
    labels = ["$5", "$\\frac{", "a class whose name is as long as a sentence"]
    plot_confusion_matrix(labels, labels, ax)
    assert rendered(ax)[:4] == b"\x89PNG"
    shown = [t.get_text() for t in ax.get_xticklabels()]
    assert shown[0] in labels and max(map(len, shown)) == 20


@pytest.mark.parametrize(
    ("true", "pred", "classes", "error"),
    [
        ([0, 1], [0], None, ValueError),
        ([], [], None, ValueError),
        ([[0, 1]], [[0, 1]], None, ValueError),
        ([0, 1], ["0", "1"], None, TypeError),
        ([0, 2], [0, 0], [0, 1], ValueError),
        ([0, 1], [0, 0], [], ValueError),
        ([0, 1], [0, 0], ["0", "1"], TypeError),
    ],
)
def test_labels_that_do_not_match(ax, true, pred, classes, error):
    with pytest.raises(error):
        plot_confusion_matrix(true, pred, ax, classes=classes)


@pytest.mark.parametrize("n", [50, 5000])
def test_predictions_against_the_truth(ax, n):
    rng = np.random.default_rng(0)
    true, pred = rng.normal(size=(2, n))
    plot_predictions(true, pred, ax)
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), np.c_[true, pred])
    (diagonal,) = ax.get_lines()
    low, high = min(true.min(), pred.min()), max(true.max(), pred.max())
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [low, high]
    assert ax.get_aspect() == 1 and ax.get_xlabel() == "true" and ax.get_ylabel() == "predicted"


def test_each_output_has_its_points(ax):
    y = np.random.default_rng(0).normal(size=(20, 3))
    plot_predictions(y, y + 1, ax)
    for j, points in enumerate(ax.collections):
        np.testing.assert_array_equal(points.get_offsets(), np.c_[y[:, j], y[:, j] + 1])
    assert len(ax.get_legend().get_texts()) == len(ax.collections) == 3


@pytest.mark.parametrize("pred", [[1.0], [1.0, np.nan], ["a", "b"]])
def test_values_that_do_not_match(ax, pred):
    with pytest.raises((TypeError, ValueError)):
        plot_predictions([1.0, 2.0], pred, ax)


def test_a_new_figure_if_there_are_no_axes():
    import matplotlib.pyplot as plt

    with mpl.rc_context({"backend": "Agg"}):
        made = [
            plot_history(RECORDED),
            plot_confusion_matrix([0, 1], [0, 1]),
            plot_predictions([0, 1], [0, 1]),
        ]
        assert len({ax.figure for ax in made}) == 3
        plt.close("all")


@pytest.mark.parametrize(
    "plot",
    [
        lambda: plot_history(RECORDED),
        lambda: plot_confusion_matrix([0, 1], [0, 1]),
        lambda: plot_predictions([0, 1], [0, 1]),
    ],
)
def test_without_matplotlib(monkeypatch, plot):
    for module in ("matplotlib", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'dnncore\[plot\]'"):
        plot()
