"""What TableEncoder decides, that it does the same to new rows, and what it refuses."""

import doctest
import json
import logging
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import datasets as bundled

import dnncore.tables
from dnncore.exceptions import NotFittedError
from dnncore.tables import TableEncoder, infer_task, is_missing


def objects(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def encode(values, **options):
    """Encode one column, with one more that keeps the table from being empty."""
    table = {"c": values, "other": np.arange(len(values)) % 2}
    encoder = TableEncoder(scaling="none", **options).fit(table)
    width = len(encoder.feature_names) - 1
    return encoder, encoder.transform(table)[:, :width], encoder.report[0]


def new(encoder, *values):
    return encoder.transform({"c": objects(*values), "other": np.zeros(len(values))})[:, :-1]


def test_examples_in_the_docstrings():
    result = doctest.testmod(dnncore.tables)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("scaling", ["standard", "minmax", "robust", "none"])
def test_numbers_become_the_scaled_matrix(scaling):
    X, _ = bundled.load_wine(return_X_y=True)
    table = {f"c{j}": column for j, column in enumerate(X.T)}
    encoder = TableEncoder(scaling=scaling).fit(table)
    expected = X
    if scaling != "none":
        expected = dnncore.tables.SCALERS[scaling]().fit_transform(X)
    matrix = encoder.transform(table)
    assert matrix.dtype == np.float32 and matrix.flags.c_contiguous
    assert encoder.feature_names == encoder.columns == list(table)
    np.testing.assert_array_equal(matrix, expected.astype(np.float32))


@pytest.mark.parametrize(
    "values",
    [
        np.array([1, 0, 3], dtype=np.uint8),
        np.array([1, 0, 3], dtype=np.float16),
        np.array(["1", " 0.0", "3e0"]),
        np.array([b"1", b"0", b"3"]),
        objects(1, Decimal("0"), "3"),
        np.array([1, 0, 3], dtype="m8[s]"),
        pd.array([1, 0, 3], dtype="Int64"),
    ],
    ids=["uint8", "float16", "text", "bytes", "mixed", "timedelta", "pandas"],
)
def test_numbers_in_many_dresses(values):
    encoder, matrix, report = encode(values)
    assert report.action == "number" and encoder.text_columns == []
    assert matrix.tolist() == [[1.0], [0.0], [3.0]]


@pytest.mark.parametrize("text", ["1_0", "٣", "0x1", "1,5", "1e"])
def test_text_that_spells_no_plain_number(text):
    assert encode(np.array([text, "2"]))[2].action == "category"


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.0, np.nan, 3.0, 8.0]),
        objects(1, None, 3, 8),
        np.array(["1", "", "3", "8"]),
        pd.array([1, None, 3, 8], dtype="Int64"),
        np.ma.array([1, 555, 3, 8], mask=[0, 1, 0, 0]),
        np.array([1, "NaT", 3, 8], dtype="m8[s]"),
    ],
    ids=["nan", "none", "blank", "pandas", "masked", "nat"],
)
def test_missing_numbers_get_the_median_and_an_indicator(values):
    encoder, matrix, report = encode(values)
    assert encoder.feature_names[:2] == ["c", "c_missing"]
    assert matrix.tolist() == [[1, 0], [3, 1], [3, 0], [8, 0]]
    assert "1 of 4 missing, set to the median 3" in report.text
    assert new(encoder, None).tolist() == [[3, 1]]
    assert is_missing(values).tolist() == [False, True, False, False]


def test_numbers_missing_only_in_new_rows_get_the_median():
    encoder, _, _ = encode(np.array([1.0, 2.0, 9.0]))
    assert new(encoder, None, 4).tolist() == [[2.0], [4.0]]


def test_scaling_counts_what_is_there_and_leaves_indicators_alone():
    values = np.array([2.0, 4.0, np.nan, 6.0])
    encoder = TableEncoder().fit({"c": values})
    sd = np.sqrt(8 / 3)
    expected = np.array([[-2 / sd, 0], [0, 0], [0, 1], [2 / sd, 0]])
    np.testing.assert_allclose(encoder.transform({"c": values}), expected, rtol=1e-6)


def test_a_mark_that_is_there_or_not_becomes_an_indicator():
    encoder, matrix, report = encode(np.array([5.0, np.nan, 5.0]))
    assert matrix.tolist() == [[0], [1], [0]]
    assert "always 5" in report.text and encoder.feature_names[0] == "c_missing"


def test_categories():
    encoder, matrix, report = encode(objects("b", "a", None, "b"))
    assert encoder.feature_names[:3] == ["c=a", "c=b", "c_missing"]
    assert matrix.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert (report.action, report.features) == ("category", 3)
    assert encoder.text_columns == ["c"]
    # Without a bucket for rare categories an unseen one is none of the known ones.
    assert new(encoder, "z", "a").tolist() == [[0, 0, 0], [1, 0, 0]]


def test_rare_and_unseen_categories_share_a_feature():
    labels = ["a"] * 5 + ["b"] * 4 + ["c"] * 2 + ["d"]
    encoder, matrix, report = encode(np.array(labels), max_categories=2)
    assert encoder.feature_names[:3] == ["c=a", "c=b", "c=<other>"]
    assert matrix.sum(axis=0).tolist() == [5, 4, 3]
    assert "4 categories" in report.text and "(3 rows)" in report.text
    assert new(encoder, "z", None, "b").tolist() == [[0, 0, 1], [0, 0, 1], [0, 1, 0]]


def test_text_stays_text_when_new_rows_look_like_something_else():
    encoder, _, _ = encode(objects("007", "True", "7", "2020-01-01", "1.50", "007"))
    names = [name.removeprefix("c=") for name in encoder.feature_names[:-1]]
    for label in names:
        assert names[int(new(encoder, label)[0].argmax())] == label
    assert names[int(new(encoder, 7)[0].argmax())] == "7"
    assert names[int(new(encoder, 7.0)[0].argmax())] == "7"
    assert names[int(new(encoder, True)[0].argmax())] == "True"


def test_dates():
    moments = ["2020-01-06T00:00:00", "2021-01-05T06:00:00", "2021-07-03T12:00:00"]
    table = {"t": np.array(moments, dtype="datetime64[ns]")}
    encoder = TableEncoder(scaling="none").fit(table)
    matrix = encoder.transform(table)
    at = {name: matrix[:, j] for j, name in enumerate(encoder.feature_names)}
    assert at["t_year"].tolist() == [2020, 2021, 2021]
    np.testing.assert_allclose(at["t_time_sin"], [0, 1, 0], atol=1e-7)
    np.testing.assert_allclose(at["t_time_cos"], [1, 0, -1], atol=1e-7)
    monday_tuesday_saturday = 2 * np.pi * np.array([0, 1, 5]) / 7
    np.testing.assert_allclose(at["t_weekday_sin"], np.sin(monday_tuesday_saturday), atol=1e-6)
    days = np.array([5, 4.25, 183.5])
    np.testing.assert_allclose(at["t_yearday_cos"], np.cos(2 * np.pi * days / 365.2425), atol=1e-6)
    zone = timezone(timedelta(hours=2))
    others = [
        np.array(moments),
        objects(*(datetime.fromisoformat(moment) for moment in moments)),
        objects(*(datetime.fromisoformat(m + "+00:00").astimezone(zone) for m in moments)),
        np.array([moment.replace("T", " ") + "Z" for moment in moments]),
        pd.Series(pd.to_datetime(moments, utc=True)),
    ]
    for other in others:
        np.testing.assert_array_equal(encoder.transform({"t": other}), matrix)


def test_dates_drop_what_never_changes_and_fill_what_is_missing():
    encoder, matrix, report = encode(objects(date(2020, 1, 1), None, date(2020, 1, 15)))
    assert report.text.startswith("time, as yearday_sin, yearday_cos;")
    assert encoder.feature_names[:3] == ["c_yearday_sin", "c_yearday_cos", "c_missing"]
    np.testing.assert_allclose(matrix[1, :2], matrix[[0, 2], :2].mean(axis=0), rtol=1e-6)
    assert matrix[:, 2].tolist() == [0, 1, 0]
    np.testing.assert_array_equal(new(encoder, None), matrix[1:2])
    assert infer_task(["a", "b"]) == "classification"
    assert is_missing(objects(date(2020, 1, 1), None)).tolist() == [False, True]


def test_dropped_columns_are_reported_and_not_needed():
    n = 40
    table = {
        "id": np.array([f"person {i}" for i in range(n)]),
        "zip": np.array([f"z{i // 2}" for i in range(n)]),
        "empty": np.full(n, np.nan),
        "blank": np.array([""] * n),
        "one": np.full(n, 7),
        "word": np.array(["yes"] * n),
        "day": np.full(n, "2020-01-01", dtype="datetime64[D]"),
        "row": np.arange(n),
        "x": np.arange(n) % 3,
    }
    encoder = TableEncoder().fit(table)
    assert encoder.columns == ["zip", "row", "x"]
    said = {record.column: record.text for record in encoder.report}
    assert "40 different texts in 40 rows" in said["id"]
    assert said["empty"] == said["blank"] == "dropped; it has no values."
    assert said["one"] == "dropped; its only value is 7."
    assert said["word"] == "dropped; its only value is 'yes'."
    assert "2020-01-01" in said["day"]
    assert "only counts rows" in said["row"] and said["x"] == "number."
    assert sum(record.features for record in encoder.report) == len(encoder.feature_names)
    small = {name: table[name] for name in encoder.columns}
    np.testing.assert_array_equal(encoder.transform(small), encoder.transform(table))


def test_extra_columns_are_ignored_and_logged(caplog):
    encoder, matrix, _ = encode(np.array([1.0, 2.0]))
    table = {"z": ["?", "?"], "c": [1.0, 2.0], "other": [0, 1]}
    with caplog.at_level(logging.INFO, logger="dnncore"):
        assert encoder.transform(table).shape == (2, 2)
    assert "ignored: z" in caplog.text
    assert encoder.ignored_columns(table) == ["z"]


def test_pandas_frame_with_categories():
    frame = pd.DataFrame(
        {"k": pd.Categorical(["u", "v", None]), "s": pd.array(["a", None, "a"], "string"), "x": 1.5}
    )
    frame["x"] = [1.5, 2.5, 4.5]
    encoder = TableEncoder(scaling="none").fit(frame)
    assert encoder.feature_names == ["k=u", "k=v", "k_missing", "s=a", "s_missing", "x"]
    assert encoder.transform(frame)[1].tolist() == [0, 1, 0, 0, 1, 2.5]


@pytest.mark.parametrize(
    ("table", "error", "words"),
    [
        ({"other": [1]}, ValueError, r"lacks 1 column\(s\) that training had: 'c'.*has: 'other'"),
        ({"c": [1, 2], "other": [1]}, ValueError, "'c' has 2 rows, 'other' has 1"),
        ({"c": [], "other": []}, ValueError, "no rows"),
        ({"c": ["3", "low"], "other": [0, 0]}, ValueError, "'c' held numbers.*row 1.*'low'"),
        ({"c": ["2020-01-01"], "other": [0]}, ValueError, "'c' held numbers.*'2020-01-01'"),
        ({"c": [1.0, np.inf], "other": [0, 0]}, ValueError, "'c' holds infinity at row 1"),
        ({"c": [10**400], "other": [0]}, ValueError, "'c' holds infinity"),
        ({"c": [[1.0]], "other": [0]}, ValueError, "'c' must be 1-D"),
        ({"c": [1j], "other": [0]}, TypeError, "'c' has dtype complex"),
        ({"c": objects([1, 2]), "other": [0]}, TypeError, "'c' holds values"),
    ],
)
def test_transform_refuses(table, error, words):
    encoder, _, _ = encode(np.array([1.0, 2.0, 4.0]))
    with pytest.raises(error, match=words):
        encoder.transform(table)


def test_dates_refuse_what_is_not_a_date():
    encoder, _, _ = encode(np.array(["2020-01-01", "2021-06-01"]))
    for value in ("soon", 5, "2020-13-01"):
        with pytest.raises(ValueError, match=rf"'c' held dates.*row 0 now holds '{value}'"):
            new(encoder, value)


def test_fit_refuses():
    with pytest.raises(NotFittedError, match="fit"):
        TableEncoder().transform({"a": [1]})
    with pytest.raises(NotFittedError, match="fit"):
        TableEncoder().get_config()
    for table, words in (
        ({}, "no columns"),
        ({"a": []}, "no rows"),
        ({"a": [1, 1]}, "No column is of use. a: dropped; its only value is 1."),
        ({"a": [1.0, -np.inf]}, "'a' holds infinity at row 1"),
    ):
        with pytest.raises(ValueError, match=words):
            TableEncoder().fit(table)
    with pytest.raises(ValueError, match="scaling"):
        TableEncoder("log")
    with pytest.raises(ValueError, match="max_categories"):
        TableEncoder(max_categories=0)


@pytest.fixture(scope="module")
def mixed():
    rng = np.random.default_rng(5)
    n = 300
    return {
        "x": np.where(rng.random(n) < 0.2, np.nan, rng.normal(1e-3, 1 / 3, n)),
        "k": objects(*rng.choice(["a", "b", "ü", None], n)),
        "many": np.array([f"v{int(v)}" for v in rng.exponential(20, n)]),
        "t": np.datetime64("2019-03-01T05") + rng.integers(0, 9999, n).astype("m8[h]"),
        "flag": rng.random(n) < 0.3,
    }


@pytest.mark.parametrize("scaling", ["standard", "robust", "none"])
def test_config_survives_json_exactly(mixed, scaling):
    encoder = TableEncoder(scaling, max_categories=10).fit(mixed)
    again = TableEncoder.from_config(json.loads(json.dumps(encoder.get_config())))
    assert again.get_config() == encoder.get_config()
    assert again.report == encoder.report
    assert again.feature_names == encoder.feature_names
    matrix = encoder.transform(mixed)
    assert np.isfinite(matrix).all() and matrix.std() > 0
    np.testing.assert_array_equal(again.transform(mixed), matrix)


def places(value, path=()):
    """Every path into nested dicts and lists."""
    yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def test_damaged_config_is_refused_or_harmless(mixed):
    """Whatever single value of a configuration is replaced, the result is an error or works."""
    good = json.dumps(TableEncoder(max_categories=3).fit(mixed).get_config())
    refused = 0
    paths = [path for path in places(json.loads(good)) if path]
    for path in paths:
        for junk in (None, -1, 1e300, True, "x", [], [[]], {}, ["a", "a"]):
            config = json.loads(good)
            target = config
            for key in path[:-1]:
                target = target[key]
            target[path[-1]] = junk
            try:
                encoder = TableEncoder.from_config(config)
                encoder.transform({name: mixed.get(name, mixed["x"]) for name in encoder.columns})
            except ValueError:
                refused += 1
    assert refused > 7 * len(paths)
    for junk in (None, [], "x", {"scaling": "standard"}):
        with pytest.raises(ValueError, match="Damaged configuration"):
            TableEncoder.from_config(junk)


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(),
            st.text(max_size=6),
            st.datetimes(),
            st.dates(),
            st.binary(max_size=4),
            st.decimals(),
            st.complex_numbers(),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_any_objects_give_a_finite_matrix_or_a_clear_error(values):
    table = {"c": objects(*values), "x": np.arange(len(values) + 1)[1:] % 2 + 0.5}
    try:
        matrix = TableEncoder().fit(table).transform(table)
    except (ValueError, TypeError) as error:
        assert "'c'" in str(error) or "overflows" in str(error) or "No column" in str(error)
    else:
        assert matrix.dtype == np.float32 and len(matrix) == len(values)
        assert np.isfinite(matrix).all()
        assert matrix.shape[1] >= 1


@pytest.mark.parametrize(
    ("y", "task"),
    [
        (["a", "b"], "classification"),
        ([True, False], "classification"),
        (np.array([0, 1, 2, 0]), "classification"),
        (np.array([0.0, 1.0, np.nan, 0.0]), "classification"),
        (["0", "1", "1"], "classification"),
        ([3, 90, 3, 90, 90, 3], "classification"),
        (np.eye(3)[[0, 1, 2, 2]], "classification"),
        ([[0], [1], [1]], "classification"),
        (objects("a", None, 3), "classification"),
        ([0.5, 1.0, 1.0], "regression"),
        (["0.5", "1", "1"], "regression"),
        (np.arange(100), "regression"),
        ([10, 200, 3000], "regression"),
        (np.random.default_rng(0).normal(size=(5, 2)), "regression"),
        ([0.0, np.inf], "regression"),
    ],
)
def test_infer_task(y, task):
    assert infer_task(y) == task


def test_infer_task_on_the_bundled_sets():
    for load in (bundled.load_digits, bundled.load_iris, bundled.load_breast_cancer):
        assert infer_task(load().target) == "classification"
    linnerud = bundled.load_linnerud().target
    for y in (bundled.load_diabetes().target, linnerud, *linnerud.T):
        assert infer_task(y) == "regression"


def test_infer_task_refuses():
    with pytest.raises(TypeError, match="dates"):
        infer_task(np.array(["2020-01-01"], dtype="datetime64[D]"))
    with pytest.raises(ValueError, match="no value"):
        infer_task([np.nan, None])
    with pytest.raises(TypeError, match="must hold numbers"):
        infer_task([["a", "b"], ["c", "d"]])
    with pytest.raises(ValueError, match="1-D"):
        infer_task(np.zeros((2, 2, 2)))
