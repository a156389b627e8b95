"""Reading CSV files: what cells become, and which files are refused."""

import csv
import gzip
import re
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnncore.datasets import read_csv


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def test_csv_cells(tmp_path):
    text = (
        "\ufeffn,x,flag,maybe,word,?,day,big,odd\r\n"
        '1, 2.5,True,true,"a,b",5,2020-01-01,9007199254740993,1_0\r\n'
        "\r\n"
        '-2,1e3,FALSE,,"say ""hi""\nthere",NA,2020-01-02,1,2\r\n'
        "+3,nan,True,False, null ,n/a,?,2,3\r\n"
    )
    columns = read_csv(write(tmp_path / "t.csv", text))
    assert list(columns) == ["n", "x", "flag", "maybe", "word", "?", "day", "big", "odd"]
    assert columns["n"].tolist() == [1, -2, 3] and columns["n"].dtype == np.int64
    np.testing.assert_array_equal(columns["x"], [2.5, 1000.0, np.nan])
    assert columns["flag"].tolist() == [True, False, True] and columns["flag"].dtype == bool
    assert columns["maybe"].tolist() == [True, None, False]
    assert columns["word"].tolist() == ["a,b", 'say "hi"\nthere', None]
    np.testing.assert_array_equal(columns["?"], [5, np.nan, np.nan])
    assert columns["day"].tolist() == ["2020-01-01", "2020-01-02", None]
    assert columns["big"].dtype == np.float64  # beyond 2**53 int64 and float64 would differ
    assert columns["odd"].tolist() == ["1_0", "2", "3"]
    kept = read_csv(tmp_path / "t.csv", text_columns=["n", "flag", "x"])
    assert kept["n"].tolist() == ["1", "-2", "+3"] and kept["x"].tolist() == ["2.5", "1e3", None]
    assert kept["flag"].tolist() == ["True", "FALSE", "True"]


def test_csv_without_names_and_other_delimiters(tmp_path):
    comma = read_csv(write(tmp_path / "a.csv", "x;y\n1;2,5\n"))
    assert comma["x"].tolist() == [1] and comma["y"].tolist() == ["2,5"]
    numbers = read_csv(write(tmp_path / "b.csv", "1|2.5\n3|4.5"))
    assert {name: column.tolist() for name, column in numbers.items()} == {
        "col0": [1, 3],
        "col1": [2.5, 4.5],
    }
    index = read_csv(write(tmp_path / "c.csv", ",x\n0,a\n1,b\n"))
    assert list(index) == ["col0", "x"]
    assert list(read_csv(write(tmp_path / "d.csv", "a b,c;d;e\n1,2\n"), delimiter=",")) == [
        "a b",
        "c;d;e",
    ]


def test_csv_that_changes_its_mind_after_many_rows(tmp_path):
    n = 200_000
    lines = [f"{i},{i},{i % 3}" for i in range(n)] + ["x,,", "1,2,3"]
    columns = read_csv(write(tmp_path / "late.csv", "a,b,c\n" + "\n".join(lines)))
    assert columns["a"].dtype == object and columns["a"][[0, 5, n, n + 1]].tolist() == [
        "0",
        "5",
        "x",
        "1",
    ]
    assert columns["b"].dtype == np.float64 and np.isnan(columns["b"][n])
    np.testing.assert_array_equal(columns["b"][:n], np.arange(n))


NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?inf", re.IGNORECASE)
MISSING = {"", "na", "n/a", "nan", "null", "?"}
cells = st.one_of(
    st.text(string.ascii_letters + ' ,;"\n\t|é?.-', max_size=5),
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=False).map(repr),
    st.sampled_from(["", "NA", "nan", "True", "false", "1_0", "٣", "0x1", "1e5", "inf"]),
)


@given(
    st.integers(1, 4).flatmap(
        lambda width: st.lists(
            st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=6
        )
    )
)
def test_csv_any_table_round_trip(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    names = [f"n{j}" for j in range(len(rows[0]))]
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *rows])
    columns = read_csv(path)
    assert list(columns) == names
    for j, column in enumerate(columns.values()):
        expected = [row[j].strip() for row in rows]
        expected = [None if text.lower() in MISSING else text for text in expected]
        if {str(text).lower() for text in expected} <= {"true", "false", "none"}:
            expected = [text and text.lower() == "true" for text in expected]
        if column.dtype.kind in "if":
            expected = [np.nan if text is None else float(text) for text in expected]
            np.testing.assert_array_equal(column, expected)
        else:
            assert column.tolist() == expected
            assert not all(text is None or NUMBER.fullmatch(str(text)) for text in expected)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"a,b\n", "no rows of values"),
        (b"a,b\n1,2\n3\n", "line 3: expected 2 cells as in the first row, got 1"),
        (b"a,b\n1,2,3\n", "line 2: expected 2 cells.*got 3"),
        (b"a,b\nx,y\n1,2,3\n", "line 3: expected 2"),
        (b"a,a,b\n1,2,3\n", "repeated column names: 'a'"),
        (b'a,b\n1,"2\n', "line"),
        (b'a,b\n1,"2"3\n', "line 2"),
        (b"a,b\n\xff\xfe,2\n", "not UTF-8 text.*0xff"),
        (b"a,b\n1,2\n" * 20_000 + b"\xff", "not UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "not UTF-8"),
        (b"PAR1\0\0\0", "NUL"),
        (b"a,b\nx," + b"y" * 200_000, "line 2: field larger"),
    ],
)
def test_csv_damage(tmp_path, data, words):
    with pytest.raises(ValueError, match=words) as caught:
        read_csv(write(tmp_path / "bad.csv", data))
    assert "bad.csv" in str(caught.value)


def test_csv_truncated_gzip(tmp_path):
    whole = gzip.compress(b"a,b\n" + b"1,2\n" * 1000)
    for length in (0, 5, 15, len(whole) - 4):
        with pytest.raises(ValueError, match=r"bad\.csv\.gz"):
            read_csv(write(tmp_path / "bad.csv.gz", whole[:length]))
