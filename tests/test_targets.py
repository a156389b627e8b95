"""Targets of any kind, into the engine's form and back."""

import numpy as np
import pytest
import scipy.sparse

import dnncore as dnn
from dnncore.losses import as_loss
from dnncore.targets import Targets

F4 = np.dtype(np.float32)
SOFTMAX, BINARY = "softmax_cross_entropy", "binary_cross_entropy"


def targets(loss=SOFTMAX, n_out=3):
    return Targets(as_loss(loss), n_out, F4)


def objects(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


LABELS = {  # name: three different labels, in order
    "str": np.array(["apple", "fig", "pear"]),
    "bytes": np.array([b"apple", b"fig", b"\xff"]),
    "int8": np.array([-128, 0, 127], "i1"),
    "int64": np.array([-5, 7, 2**62]),
    "uint8": np.array([0, 1, 2], "u1"),
    "uint64": np.array([1, 2**63, 2**64 - 1], "u8"),
    "float16": np.array([0.5, 1.5, 2.5], "f2"),
    "float32": np.array([-0.1, 0.1, 3e38], "f4"),
    "float64": np.array([-1e300, 0.1, 1e300]),
    "big-endian": np.array([3, 5, 9], ">i4"),
}
CONVERTED = {  # name: three labels, their form afterwards
    "objects of text": (objects("apple", "fig", "pear"), np.array(["apple", "fig", "pear"])),
    "objects of integers": (objects(3, 5, 9), np.array([3, 5, 9])),
    "objects of floats": (objects(0.5, 1.5, 9.0), np.array([0.5, 1.5, 9.0])),
    "objects of bytes": (objects(b"a", b"b", b"c"), np.array([b"a", b"b", b"c"])),
    "long double": (np.array([0.5, 1.5, 9], np.longdouble), np.array([0.5, 1.5, 9.0])),
    "list of text": (["apple", "fig", "pear"], np.array(["apple", "fig", "pear"])),
}
if hasattr(np.dtypes, "StringDType"):
    CONVERTED["StringDType"] = (
        np.array(["apple", "fig", "pear"], np.dtypes.StringDType()),
        np.array(["apple", "fig", "pear"]),
    )
ALL = {name: (labels, labels) for name, labels in LABELS.items()} | CONVERTED
ORDER = [2, 0, 1, 1, 2, 0]


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize(("given", "kept"), ALL.values(), ids=ALL)
def test_labels_are_numbered_and_come_back(given, kept, column):
    y = np.asarray(given)[ORDER]
    known = targets().learn(y[:, np.newaxis] if column else y)
    codes, matrix = known.encode(y[:, np.newaxis] if column else y)
    assert matrix is None
    assert codes.dtype == np.int32 and codes.tolist() == ORDER
    back = known.decode(np.eye(3, dtype=np.float32)[ORDER])
    np.testing.assert_array_equal(back, kept[ORDER])
    assert back.dtype == kept.dtype


@pytest.mark.parametrize(("given", "kept"), ALL.values(), ids=ALL)
@pytest.mark.parametrize("n_out", [3, 1])
def test_networks_learn_and_save_labels(given, kept, n_out, tmp_path):
    rng = np.random.default_rng(0)
    classes = np.asarray(given)[: 3 if n_out == 3 else 2]
    loss = SOFTMAX if n_out == 3 else BINARY
    codes = np.arange(60) % len(classes)
    X = np.eye(len(classes))[codes] + 0.1 * rng.standard_normal((60, len(classes)))
    net = dnn.Network(len(classes), [dnn.Dense(n_out)], loss=loss)
    net.fit(X, classes[codes], epochs=30, optimizer=dnn.Adam(0.3))
    expected = kept[codes]
    net.save(tmp_path / "model.safetensors")
    for one in (net, dnn.load(tmp_path / "model.safetensors"), net.copy()):
        predicted = one.predict(X)
        np.testing.assert_array_equal(predicted, expected)
        assert predicted.dtype.kind == kept.dtype.kind
        np.testing.assert_array_equal(one.classes_, np.unique(expected))
        assert one.evaluate(X, classes[codes])["accuracy"] == 1.0
        assert one.predict_proba(X).shape == (60, len(classes))


def test_booleans():
    for y in (np.array([True, False, True]), [True, False, True], objects(True, False, True)):
        known = targets(BINARY, 1).learn(y)
        assert known.classes.tolist() == [False, True]
        assert known.encode(y)[1].ravel().tolist() == [1, 0, 1]
        assert known.decode(np.array([[0.9], [0.1]])).tolist() == [True, False]
    assert targets(n_out=2).learn(np.array([True])).classes.tolist() == [False, True]


def test_classes_that_are_missing():
    # Numbers of outputs keep their meaning, though not all of them occur ...
    assert targets(n_out=4).learn(np.array([3, 1], "i1")).classes.tolist() == [0, 1, 2, 3]
    assert targets(n_out=4).learn(np.array([3.0, 1.0])).classes.dtype == np.float64
    assert targets(BINARY, 1).learn([1, 1]).classes.tolist() == [0, 1]
    # ... also if their dtype has no room for all of them.
    many = targets(n_out=300).learn(np.array([5, 127], "i1")).classes
    np.testing.assert_array_equal(many, np.arange(300))
    # Other labels must all be there.
    for y in (["a", "b"], [1, 2, 9, 11], [-1, 0], [0.5, 1.0]):
        with pytest.raises(ValueError, match=r"classes \(.*outputs for 3; make the last layer"):
            targets().learn(y)
    with pytest.raises(ValueError, match=r"100 classes \(0\.0, .* \(100 in all\)\)"):
        targets().learn(np.linspace(0, 1, 100))


@pytest.mark.parametrize(
    ("first", "later", "unseen"),
    [
        (["a", "b", "c"], ["b", "z"], "'z'"),
        ([1, 5, 9], [1, 6, 7], "6, 7"),
        ([1, 5, 9], [1.5], "1.5"),
        ([0, 1, 2], [-1, 3], "-1, 3"),
        ([0.5, 1, 2], [3], "3"),
    ],
)
def test_labels_not_seen_in_training(first, later, unseen):
    known = targets().learn(first)
    assert known.learn(later).classes is known.classes
    with pytest.raises(ValueError, match=f"outside the classes: {unseen}; the network knows"):
        known.encode(later)


@pytest.mark.parametrize(
    ("first", "later"),
    [(["a", "b", "c"], [1]), ([1, 2, 3], ["1"]), (["a", "b", "c"], [b"a"]), ([0, 1, 2], [b"0"])],
)
def test_labels_of_another_kind_than_in_training(first, later):
    with pytest.raises(TypeError, match="y has dtype .*, but the classes are"):
        targets().learn(first).encode(later)


def test_equal_labels_of_another_dtype():
    assert targets().learn(np.array([0, 1, 2], "i1")).encode([2.0, 0.0])[0].tolist() == [2, 0]
    assert targets().learn(["a", "b", "c"]).encode(["c"])[0].tolist() == [2]
    assert targets(BINARY, 1).learn([False, True]).encode([0, 1])[1].ravel().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("first", "later", "codes"),
    [
        ([0.0, 0.5, 2.0], [2, 0], [2, 0]),
        ([0.0, 1.0, 2.0], [2, 1], [2, 1]),
        ([0, 2, 5], [5, 2], [2, 1]),
        ([-1, 0, 2], [2, -1], [2, 0]),
    ],
)
def test_whole_numbers_among_classes_with_gaps_and_fractions(first, later, codes):
    known = targets().learn(first)
    labels, _ = known.learn(later).encode(later)
    assert labels.tolist() == codes


REFUSED = {  # name: (y, type of error, message)
    "dates": (np.zeros(3, "M8[D]"), TypeError, "labels of one kind.*datetime64"),
    "complex": (np.zeros(3, "c8"), TypeError, "labels of one kind.*complex64"),
    "text and numbers": (objects("a", 1, 2), TypeError, "labels of one kind.*object"),
    "None": (objects("a", None, "b"), TypeError, "None cannot be put in order"),
    "tuples": (objects((1, 2), (3, 4), (5, 6)), TypeError, "labels of one kind"),
    "NaN": ([0.0, 1.0, np.nan], ValueError, r"y contains NaN \(first at index \(2,\)"),
    "NaN as object": (objects(0.0, 1.0, np.nan), ValueError, "y contains NaN"),
    "infinity": ([0.0, 1.0, np.inf], ValueError, "y contains infinity"),
    "0-D": (1, ValueError, r"1-D or 2-D; got shape \(\)"),
    "3-D": (np.zeros((3, 1, 1)), ValueError, r"1-D or 2-D; got shape \(3, 1, 1\)"),
    "nothing": ([], ValueError, r"at least one row; got shape \(0,\)"),
    "no rows": (np.zeros((0, 3)), ValueError, r"at least one row; got shape \(0, 3\)"),
    "columns": (np.zeros((3, 2)), ValueError, "y must have 3 columns; got .*columns=2"),
    "text matrix": (np.full((3, 3), "a"), TypeError, "y must hold real numbers"),
    "not one-hot": (np.ones((3, 3)), ValueError, "row 0 sums to 3.*binary_cross_entropy"),
    "no class": (np.eye(3)[[0, 1, 1]] * [1, 0, 1], ValueError, "row 1 sums to 0"),
    "over 1": (np.eye(3) * 2, ValueError, r"probabilities in \[0, 1\].*from 0 to 2"),
    "below 0": (-np.eye(3), ValueError, r"probabilities in \[0, 1\].*from -1 to"),
    "ragged": ([[1, 2], [3]], ValueError, "rows of equal length"),
    "sparse": (scipy.sparse.eye_array(3, format="csr"), TypeError, r"y\.toarray\(\)"),
    "masked": (np.ma.masked_array([0, 1, 2], [0, 0, 1]), ValueError, "y has masked values"),
}


@pytest.mark.parametrize(("y", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_label(y, error, message):
    empty = targets()
    with pytest.raises(error, match=message):
        empty.learn(y).encode(y)
    assert empty.classes is None


def test_one_hot_and_soft_labels():
    soft = np.array([[0.5, 0.25, 0.25], [0, 0, 1]])
    labels, matrix = targets().learn(soft).encode(soft)
    assert labels is None and matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, soft)
    assert targets().learn(soft).decode(soft).tolist() == [0, 2]
    known = targets().learn(["a", "b", "c"])
    assert known.decode(soft).tolist() == ["a", "c"]
    known.encode(np.float16([[0.3333, 0.3333, 0.3334]]))  # float16's rounding is allowed for


def test_soft_labels_of_a_single_output():
    empty = targets(BINARY, 1)
    for y in ([0.0, 0.25, 1.0], [[0.0], [0.25], [1.0]]):
        assert empty.learn(y).classes is None
        assert empty.learn(y).encode(y)[1].tolist() == [[0.0], [0.25], [1.0]]
    known = empty.learn([0, 1])  # classes that are themselves probabilities
    assert known.encode([0.25])[1].tolist() == [[0.25]]
    with pytest.raises(ValueError, match="outside the classes: 0.25"):
        empty.learn([3, 4]).encode([0.25])
    with pytest.raises(ValueError, match="3 classes"):
        empty.learn([0.0, 0.25, 2.0])


def test_several_binary_outputs():
    y = np.array([[1, 0, 1], [0, 0, 0]])
    known = targets(BINARY, 3).learn(y)
    assert known.classes is None
    np.testing.assert_array_equal(known.encode(y)[1], y)
    np.testing.assert_array_equal(known.decode(np.array([[0.9, 0.2, 0.6]])), [[1, 0, 1]])
    with pytest.raises(ValueError, match=r"shape \(rows, 3\).*got \(2,\)"):
        known.learn([0, 1])


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "poisson"])
def test_values(loss):
    vector, column, matrix = np.arange(4.0), np.arange(4.0)[:, None], np.arange(8.0).reshape(4, 2)
    one, two = targets(loss, 1), targets(loss, 2)
    for y in (vector, column):
        labels, encoded = one.learn(y).encode(y)
        assert labels is None and encoded.dtype == np.float32
        np.testing.assert_array_equal(encoded, column)
        np.testing.assert_array_equal(one.learn(y).decode(encoded), y)
    np.testing.assert_array_equal(two.learn(matrix).decode(two.encode(matrix)[1]), matrix)
    with pytest.raises(ValueError, match=r"shape \(rows, 2\), one column per output"):
        two.learn(vector)
    with pytest.raises(ValueError, match="y must have 1 column;"):
        one.encode(matrix)
    with pytest.raises(TypeError, match="y must hold real numbers"):
        one.encode(["a", "b"])
    with pytest.raises(ValueError, match="y contains NaN"):
        one.encode([1.0, np.nan])
    if loss == "poisson":
        with pytest.raises(ValueError, match="poisson needs y >= 0; got -1"):
            one.encode([0.0, -1.0])
    else:
        one.encode([0.0, -1.0])


def test_losses_that_need_outputs():
    with pytest.raises(ValueError, match="at least two outputs.*binary_cross_entropy"):
        targets(SOFTMAX, 1)
    with pytest.raises(ValueError, match="not seen labels yet; call fit first"):
        targets().encode([0, 1])


def test_configuration_that_makes_no_sense():
    good = targets().learn(["a", "b", "c"]).get_config()
    targets().set_config(good)
    for bad in (
        {"classes": ["a", "b"]},
        {"classes": ["a", "c", "b"]},
        {"classes": ["a", "a", "b"]},
        {"classes": [["a"], ["b"], ["c"]]},
        {"classes": "abc"},
        {"classes_dtype": "object"},
        {"classes_dtype": "datetime64"},
        {"classes_dtype": "int8"},
        {"classes_dtype": None},
        {"vector": 1},
    ):
        with pytest.raises((TypeError, ValueError)):
            targets().set_config(good | bad)
    with pytest.raises(ValueError):
        targets("mse", 3).set_config(good)
    with pytest.raises(KeyError):
        targets().set_config({})


def test_classes_to_stratify_by():
    assert targets().strata(np.array([2, 0], np.int32), None).tolist() == [2, 0]
    assert targets().strata(None, np.eye(3)[[2, 0]]).tolist() == [2, 0]
    assert targets(BINARY, 1).strata(None, np.array([[1.0], [0.0]])).tolist() == [1, 0]
    assert targets(BINARY, 1).strata(None, np.array([[1.0], [0.5]])) is None
    assert targets(BINARY, 2).strata(None, np.eye(2)) is None
    assert targets("mse", 1).strata(None, np.eye(1)) is None


def test_labels_are_copied():
    # The kernels trust them: what the caller writes to y later must not reach them.
    net = dnn.Network(2, [dnn.Dense(3)], loss="softmax_cross_entropy")
    y = np.array([0, 1, 2, 1], np.int32)
    labels, _ = net._targets.learn(y).encode(y)
    assert not np.shares_memory(labels, y)
    shifted = np.frombuffer(b"\0" + y.tobytes(), np.int32, 4, 1)
    labels, _ = net._targets.learn(y).encode(shifted)
    assert labels.flags.aligned and labels.tolist() == y.tolist()
