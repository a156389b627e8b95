"""``dnncore train --report``: one page that stands alone, says the truth and escapes names."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from dnncore._report._html import Html, h, number, picture
from dnncore._report._results import interval
from dnncore.cli import main

EVIL = "<script>alert('x')</script>&\""
VOID = {"meta", "img"}
SECTIONS = {"results", "errors", "training", "data", "model"}


class Page(HTMLParser):
    """Checks that elements nest, and collects tags, attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.ids, self.links = [], [], [], set(), []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.open += [] if tag in VOID else [tag]
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "href"):
                self.links.append(value)
            if name == "id":
                self.ids.add(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return re.sub(r"\s+", " ", " ".join(self.text))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def report(capsys):
    """Train with a report, and return the page and what was printed."""

    def report(data, *options):
        small = ["--hidden", "16", "--epochs", "3", "--report", "report.html"]
        code = main(["train", str(data), *small, *options])
        out, err = capsys.readouterr()
        assert code == 0, err
        with open("report.html", encoding="utf-8") as file:
            text = file.read()
        page = Page(text)
        assert {"script", "link", "iframe", "object"}.isdisjoint(page.tags)
        for link in page.links:
            assert link.startswith(("data:image/png;base64,", "#")), link
        assert "://" not in text and "@import" not in text and "url(" not in text
        assert page.ids >= SECTIONS
        assert "nan" not in page.words.split()
        return page, out

    return report


def customers(n=300):
    rng = np.random.default_rng(0)
    age = rng.integers(18, 80, n).astype(float)
    frame = pd.DataFrame(
        {
            "age": np.where(rng.random(n) < 0.2, np.nan, age),
            f"income {EVIL}": rng.lognormal(10, 0.5, n).round(2),
            "city": rng.choice([f"Rome {EVIL}", "Oslo", ""], n),
            "joined": pd.date_range("2020-01-01", periods=n).strftime("%Y-%m-%d"),
            "id": [f"person {i}" for i in range(n)],
        }
    )
    frame[f"plan {EVIL}"] = np.where(age + rng.normal(0, 9, n) > 50, f"much {EVIL}", "little")
    return frame


def test_a_table_of_classes_with_hostile_names(report, folder):
    frame = customers()
    frame.loc[3, f"plan {EVIL}"] = None
    frame.to_csv("customers.csv", index=False)
    page, out = report("customers.csv", "--plot", "picture.png", "--out", "my.safetensors")
    assert f"income {EVIL}" in page.words and f"much {EVIL}" in page.words
    for words in ("239 rows to train on", "1 without a target", "age_missing",
                  "like an identifier", "Which columns matter", "taken for",
                  "my.safetensors", "layer 0: 16 relu"):  # fmt: skip
        assert words in page.words
    printed = float(re.search(r"accuracy ([0-9.]+)", out)[1])
    assert f"{100 * printed:.1f} %" in page.words
    assert (folder / "picture.png").stat().st_size > 5000
    assert (folder / "my.safetensors").exists() and "report in report.html" in out


def test_pictures_are_shown_as_pictures(report):
    page, _ = report("digits", "--no-plot")
    errors = page.words.split("The worst errors, one by one")[1]
    assert "taken for" in errors
    assert page.tags.count("img") > 80
    assert "8 by 8 pixels" in page.words and "What the first layer looks for" in page.words


def test_numbers(report):
    rng = np.random.default_rng(0)
    X = rng.random((200, 3))
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    frame["y"] = 10 * X[:, 0] + rng.normal(0, 0.1, 200)
    frame.to_csv("numbers.csv", index=False)
    page, out = report("numbers.csv", "--no-plot", "--epochs", "30", "--learning-rate", "0.01")
    assert "R²" in page.words and "median absolute error" in page.words
    important = page.words.split("Which columns matter")[1]
    assert re.search(r"neither seems to matter\. a ", important)
    assert float(re.search(r"R2 ([0-9.]+)", out)[1]) > 0.5


def test_several_outputs_no_hidden_layer_no_table(report):
    rng = np.random.default_rng(0)
    X = rng.random((60, 5)).astype(np.float32)
    np.savez("arrays.npz", X=X, y=np.column_stack([X[:, 0], X[:, 1]]))
    page, _ = report("arrays.npz", "--no-plot", "--hidden", "none")
    assert "true minus predicted" in page.words


def test_a_class_that_only_the_test_part_has(report):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 255, (40, 3, 4), dtype=np.uint8)
    y = np.arange(40) % 2
    np.savez("own.npz", x_train=X, y_train=y, x_test=X[:9], y_test=[0, 1, 0, 1, 0, 1, 0, 1, 7])
    page, _ = report("own.npz", "--no-plot")
    assert "1 test rows are of classes that training did not have" in page.words
    assert "9 of 9 test rows have inputs that are also among the training rows" in page.words


def test_everything_right(report):
    x = np.linspace(-1, 1, 200)
    pd.DataFrame({"x": x, "y": x > 0}).to_csv("easy.csv", index=False)
    page, _ = report("easy.csv", "--no-plot", "--epochs", "60", "--learning-rate", "0.05")
    assert "Every row of the test part is right." in page.words or "mistakes" in page.words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("report.txt", "--report must end in .html"),
        ("no/report.html", "--report no/report.html: there is no directory no"),
        (".", "is a directory"),
    ],
)
def test_reports_that_cannot_be_written_are_refused_before_training(name, words, capsys):
    assert main(["train", "digits", "--no-plot", "--report", name]) == 2
    assert words in capsys.readouterr().err


def test_what_is_not_markup_is_escaped():
    assert h("p", EVIL, cls=EVIL, data_x=None) == (
        '<p class="&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&amp;&quot;">'
        "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&amp;&quot;</p>"
    )
    assert h("p", Html("<b>1</b>"), 2) == "<p><b>1</b>2</p>"
    assert EVIL not in picture(np.zeros((2, 2)), EVIL)


def test_pictures_hold_their_pixels():
    plt = pytest.importorskip("matplotlib.pyplot")
    import base64
    import io

    for shape in ((3, 4), (3, 4, 3)):
        pixels = np.random.default_rng(0).random(shape)
        data = re.search(r'base64,([^"]+)"', picture(pixels, "x"))[1]
        read = plt.imread(io.BytesIO(base64.b64decode(data)), format="png")
        np.testing.assert_allclose(read[..., :3] if len(shape) == 3 else read, pixels, atol=0.003)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (12345, "12,345"), (0.12345, "0.1235"), (-2.5, "\N{MINUS SIGN}2.5"),
     (1e-7, "1.00e-07"), (123456.7, "123,457"), (float("nan"), "-")],
)  # fmt: skip
def test_numbers_in_few_digits(value, shown):
    assert number(value) == shown


def test_interval_of_a_share():
    # Newcombe (1998), table I: 81 of 263, and 15 of 148.
    np.testing.assert_allclose(interval(81, 263), (0.2553, 0.3662), atol=5e-5)
    np.testing.assert_allclose(interval(15, 148), (0.0624, 0.1605), atol=5e-5)
