"""Scalers against scikit-learn's, and the rules that splits and batches promise."""

import doctest
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import datasets as bundled
from sklearn import preprocessing as theirs

import dnncore._scalers
import dnncore.preprocessing
from dnncore.exceptions import NotFittedError
from dnncore.preprocessing import (
    SCALERS,
    MinMaxScaler,
    RobustScaler,
    Standardizer,
    flatten_images,
    mini_batches,
    one_hot,
    scaler_from_config,
    split_indices,
    train_test_split,
)

EVERY_SCALER = pytest.mark.parametrize("Scaler", SCALERS.values(), ids=list(SCALERS))


@pytest.fixture(scope="module")
def cancer():
    X = bundled.load_breast_cancer().data
    assert (X.std(axis=0) > 0).all()
    return X


@pytest.mark.parametrize("module", [dnncore.preprocessing, dnncore._scalers])
def test_examples_in_the_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("ours", "reference"),
    [
        (Standardizer(), theirs.StandardScaler()),
        (MinMaxScaler(), theirs.MinMaxScaler()),
        (RobustScaler(), theirs.RobustScaler()),
    ],
    ids=["standard", "minmax", "robust"],
)
def test_agrees_with_scikit_learn_on_new_data(ours, reference, cancer):
    # Both are left out where the inter-quartile range is 0, on which they differ on purpose.
    train, new = cancer[:400], cancer[400:]
    assert (np.ptp(np.quantile(train, [0.25, 0.75], axis=0), axis=0) > 0).all()
    reference.fit(train)
    np.testing.assert_allclose(
        ours.fit(train).transform(new), reference.transform(new), rtol=1e-12, atol=1e-12
    )


@EVERY_SCALER
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_inverse_and_input_kept(Scaler, dtype, cancer):
    X = cancer.astype(dtype)
    before = X.copy()
    X.flags.writeable = False
    scaler = Scaler().fit(X)
    Z = scaler.transform(X)
    back = scaler.inverse_transform(Z)
    assert Z.dtype == back.dtype == dtype
    spread = np.ptp(X, axis=0).astype(np.float64)
    assert (np.abs(back - X) <= 8 * np.finfo(dtype).eps * spread + np.spacing(np.abs(X))).all()
    np.testing.assert_array_equal(X, before)


@EVERY_SCALER
def test_statistics_of_float32_are_taken_in_float64(Scaler):
    # Near 1e6 float32 has steps of 1/16; a float32 mean of 1e5 values drifts by whole units.
    X = (1e6 + np.random.default_rng(0).integers(0, 64, (100_000, 1)) / 16).astype(np.float32)
    narrow, wide = Scaler().fit(X), Scaler().fit(X.astype(np.float64))
    np.testing.assert_allclose(narrow.center, wide.center, rtol=1e-13)
    np.testing.assert_allclose(narrow.scale, wide.scale, rtol=1e-10)
    # The subtraction is done in float64 as well: the result is the float64 one, rounded once.
    np.testing.assert_array_equal(
        narrow.transform(X), wide.transform(X.astype(np.float64)).astype(np.float32)
    )


@EVERY_SCALER
@pytest.mark.parametrize("order", ["C", "F"])
def test_blocks_do_not_show(Scaler, order):
    X = np.random.default_rng(1).normal(3, 2, (70_001, 5)).copy(order=order)
    scaler = Scaler().fit(X)
    np.testing.assert_array_equal(scaler.transform(X), (X - scaler.center) / scaler.scale)
    if Scaler is Standardizer:
        np.testing.assert_allclose(scaler.scale, X.std(axis=0), rtol=1e-12)


@EVERY_SCALER
def test_constant_columns_become_zero_and_come_back(Scaler):
    X = np.column_stack([np.full(7, 0.1), np.arange(7.0), np.full(7, -1e12)])
    scaler = Scaler().fit(X)
    Z = scaler.transform(X)
    assert (Z[:, [0, 2]] == 0).all()
    assert np.ptp(Z[:, 1]) > 0
    unseen = scaler.transform([[5.0, 3.0, 7.0]])
    assert unseen[0, 0] == unseen[0, 2] == 0
    np.testing.assert_array_equal(scaler.inverse_transform(Z), X)


def test_robust_scaler_falls_back_to_half_the_range():
    X = np.array([[0.0]] * 9 + [[4.0]])  # both quartiles are 0
    scaler = RobustScaler().fit(X)
    assert scaler.scale.tolist() == [2.0]
    assert scaler.transform([[4.0]]).tolist() == [[2.0]]
    assert RobustScaler().fit(X[:1]).transform(X[:2]).tolist() == [[0.0], [0.0]]


@EVERY_SCALER
def test_config_survives_json_exactly(Scaler, cancer):
    scaler = Scaler().fit(cancer / 3)
    again = scaler_from_config(json.loads(json.dumps(scaler.get_config())))
    assert type(again) is Scaler
    np.testing.assert_array_equal(again.transform(cancer), scaler.transform(cancer))
    assert again.get_config() == scaler.get_config()


GOOD = {"scaler": "standard", "center": [1.0, 2.0], "scale": [1.0, 0.0]}


@pytest.mark.parametrize(
    "damage",
    [
        {"scaler": "pickle"},
        {"scaler": ["standard"]},
        {"center": [1.0]},
        {"center": [], "scale": []},
        {"center": [1.0, float("nan")]},
        {"center": [1.0, "2.0"]},
        {"center": [True, False]},
        {"center": "12"},
        {"scale": [1.0, -1.0]},
        {"scale": [1.0, float("inf")]},
        {"scale": None},
        {"scale": [[1.0], [2.0]]},
    ],
)
def test_damaged_config_is_refused(damage):
    assert scaler_from_config(GOOD).center.tolist() == [1.0, 2.0]
    with pytest.raises((ValueError, TypeError)):
        scaler_from_config(GOOD | damage)


def test_a_config_belongs_to_its_class():
    with pytest.raises(ValueError, match="MinMaxScaler"):
        MinMaxScaler.from_config(GOOD)
    with pytest.raises(ValueError, match="Not the configuration"):
        scaler_from_config([])


@EVERY_SCALER
def test_scalers_refuse_what_they_cannot_scale(Scaler):
    scaler = Scaler()
    for call in (lambda: scaler.transform([[1.0]]), scaler.get_config):
        with pytest.raises(NotFittedError, match="fit"):
            call()
    for bad in ([[1.0], [np.nan]], [[np.inf]], [1.0, 2.0], np.empty((0, 2)), [["a"]]):
        with pytest.raises((ValueError, TypeError), match="X"):
            scaler.fit(bad)
    scaler.fit([[1.0, 2.0], [3.0, 5.0]])
    with pytest.raises(ValueError, match="2 columns"):
        scaler.transform([[1.0]])
    with pytest.raises(ValueError, match="overflow"):
        scaler.fit([[-1.7e308], [1.7e308]])
    tiny = Scaler().fit(np.array([[0.0], [1e-30], [2e-30]]))
    with pytest.raises(ValueError, match="overflows float32"):
        tiny.transform(np.array([[1e20]], dtype=np.float32))


@pytest.mark.parametrize("dtype", [np.int8, np.uint64, np.int32, bool])
def test_one_hot(dtype):
    labels = np.array([1, 0, 1], dtype=dtype)
    assert one_hot(labels).tolist() == [[0, 1], [1, 0], [0, 1]]
    wide = one_hot(labels, 4, dtype=np.float64)
    assert wide.shape == (3, 4) and wide.dtype == np.float64
    np.testing.assert_array_equal(wide.argmax(axis=1), labels)


@pytest.mark.parametrize(
    ("labels", "n_classes", "error", "words"),
    [
        ([0, 3], 3, ValueError, r"0\.\.2; got 3 at index 1"),
        ([0, -1], None, ValueError, "got -1 at index 1"),
        ([0.0, 1.0], None, TypeError, "np.unique"),
        (["a"], None, TypeError, "np.unique"),
        ([[0, 1]], None, ValueError, "1-D"),
        ([], None, ValueError, "not empty"),
    ],
)
def test_one_hot_refuses(labels, n_classes, error, words):
    with pytest.raises(error, match=words):
        one_hot(labels, n_classes)


def test_flatten_images():
    images = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3) * 3
    flat = flatten_images(images)
    assert flat.shape == (2, 36) and flat.dtype == np.float32
    np.testing.assert_array_equal(flat[1], images[1].ravel() / np.float32(255))
    assert flatten_images(np.full((1, 2, 2), 255, np.uint8)).tolist() == [[1.0] * 4]
    kept = flatten_images(images.astype(float), scale=False)
    np.testing.assert_array_equal(kept, images.reshape(2, -1))
    with pytest.raises(TypeError, match="uint8"):
        flatten_images(images / 255)
    with pytest.raises(TypeError, match="real numbers"):
        flatten_images(images.astype(str), scale=False)
    for shape in ((6, 6), (0, 2, 2)):
        with pytest.raises(ValueError, match="height, width"):
            flatten_images(np.zeros(shape, np.uint8))


sizes = st.lists(st.integers(2, 40), min_size=1, max_size=8)
fractions = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**64 - 1)


@given(sizes=sizes, fraction=fractions, seed=seeds)
def test_stratified_split_keeps_every_share_within_one_row(sizes, fraction, seed):
    y = np.random.default_rng(3).permutation(np.repeat(np.arange(len(sizes)), sizes))
    kept, held = split_indices(y, fraction, seed=seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), np.arange(len(y)))
    assert (np.diff(kept) > 0).all() and (np.diff(held) > 0).all()
    assert len(held) >= 1
    in_kept, in_held = (np.bincount(y[part], minlength=len(sizes)) for part in (kept, held))
    assert (in_kept >= 1).all()
    share = min(max(1, round(fraction * len(y))), len(y) - 1) / len(y)
    assert (np.abs(in_held - share * np.array(sizes)) <= 1 + 1e-9).all()


@given(n=st.integers(2, 300), fraction=fractions, seed=seeds)
def test_plain_split_has_the_size_asked_for(n, fraction, seed):
    kept, held = split_indices(n, fraction, stratify=False, seed=seed)
    assert len(kept) + len(held) == len({*kept, *held}) == n
    assert min(len(kept), len(held)) >= 1
    assert abs(len(held) - fraction * n) <= 1
    for again, part in zip(
        split_indices(np.zeros((n, 2)), fraction, stratify=False, seed=seed),
        (kept, held),
        strict=True,
    ):
        np.testing.assert_array_equal(again, part)


def test_seeds_matter_and_stay_the_same():
    draws = {tuple(split_indices(50, 0.2, stratify=False, seed=seed)[1]) for seed in range(20)}
    assert len(draws) == 20
    # Written down: a seed must mean the same rows in every version.
    assert split_indices(10, 0.3, stratify=False, seed=0)[1].tolist() == [3, 5, 7]
    counts = np.zeros(10)
    for seed in range(2000):
        counts[split_indices(10, 0.3, stratify=False, seed=seed)[1]] += 1
    assert (np.abs(counts - 600) < 100).all()  # every row is as likely: sd is 20


@pytest.mark.parametrize(
    "y",
    [
        np.array(["b", "a"] * 20),
        np.array([True, False] * 20),
        np.array(["b", "a"] * 20, dtype=object),
        np.array([-7.0, 900.0] * 20),
        np.eye(2)[[0, 1] * 20],
    ],
    ids=["str", "bool", "object", "gaps", "one-hot"],
)
def test_labels_of_any_type_can_be_stratified(y):
    _, held = split_indices(y, 0.25)
    assert len(held) == 10 and (held % 2 == 0).sum() == 5


@pytest.mark.parametrize(
    ("y", "options", "error", "words"),
    [
        (["a", "a", "b"], {}, ValueError, "1 of 2 classes have one: 'b'"),
        ([0.5, 1.0, 0.5, 1.0], {}, ValueError, "stratify=False for regression"),
        ([0.0, np.nan], {}, ValueError, "NaN"),
        (np.array([1, "a", 1, "a"], dtype=object), {}, TypeError, "strings"),
        (5, {}, ValueError, "needs the labels"),
        (1, {"stratify": False}, ValueError, "at least 2"),
        (5, {"stratify": False, "seed": -1}, ValueError, "seed"),
        (np.zeros((4, 2, 2)), {"stratify": False}, ValueError, "1-D or 2-D"),
        (4, {"stratify": False, "groups": [1, 1, 1, 1]}, ValueError, "two groups"),
        (4, {"stratify": False, "groups": [1, 1]}, ValueError, "groups must have shape"),
        ([0, 0, 1, 1], {"groups": [1, 1, 2, 2]}, ValueError, "stratify=False"),
    ],
)
def test_split_refuses(y, options, error, words):
    with pytest.raises(error, match=words):
        split_indices(y, 0.5, **options)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan"), "half", True])
def test_split_refuses_the_fraction(fraction):
    with pytest.raises((ValueError, TypeError), match="fraction"):
        split_indices(10, fraction, stratify=False)


@given(
    groups=st.lists(st.integers(0, 6), min_size=2, max_size=60).filter(lambda g: len({*g}) > 1),
    fraction=fractions,
)
def test_groups_stay_together(groups, fraction):
    groups = np.array(groups)
    kept, held = split_indices(len(groups), fraction, stratify=False, groups=groups)
    assert len(kept) and len(held) and len(kept) + len(held) == len(groups)
    assert not {*groups[kept]} & {*groups[held]}
    if len({*groups[kept]}) > 1:  # otherwise there were no more groups to hold out
        assert len(held) >= round(fraction * len(groups))


def test_train_test_split_on_digits():
    X, y = bundled.load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_fraction=0.25, seed=3)
    kept, held = split_indices(y, 0.25, seed=3)
    for part, expected in ((X_train, X[kept]), (X_test, X[held]), (y_train, y[kept])):
        np.testing.assert_array_equal(part, expected)
    assert len(y_test) == 449
    np.testing.assert_allclose(np.bincount(y_test), np.bincount(y) / 4, atol=1)
    with pytest.raises(ValueError, match="X: 1797, y: 5"):
        train_test_split(X, y[:5])


@given(n=st.integers(1, 200), batch_size=st.integers(1, 250), seed=seeds, epoch=st.integers(0, 99))
def test_mini_batches_hold_each_row_once(n, batch_size, seed, epoch):
    batches = list(mini_batches(n, batch_size, seed=seed, epoch=epoch))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert 1 <= len(batches[-1]) <= batch_size
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(n))


def test_mini_batch_order_depends_on_seed_and_epoch_only():
    def order(**key):
        return tuple(np.concatenate(list(mini_batches(64, 10, **key))).tolist())

    assert order(seed=1, epoch=2) == order(seed=1, epoch=2)
    different = {order(seed=s, epoch=e) for s in range(8) for e in range(8)}
    assert len(different) == 64
    assert order(shuffle=False) == tuple(range(64))
    assert [rows.tolist() for rows in mini_batches(4, 3, seed=0)] == [[2, 1, 3], [0]]
    np.testing.assert_array_equal(
        np.concatenate(list(mini_batches(64, 7, seed=1))), order(seed=1, epoch=0)
    )


@pytest.mark.parametrize(
    "arguments", [(0, 1), (5, 0), (5.0, 1), (5, True)], ids=["n", "size", "float", "bool"]
)
def test_mini_batches_refuse_at_the_call(arguments):
    with pytest.raises((ValueError, TypeError)):
        mini_batches(*arguments)
    with pytest.raises(ValueError, match="epoch"):
        mini_batches(5, 1, epoch=-1)
