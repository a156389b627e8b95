"""Runs what the documentation shows.

Every ``python`` block of ``README.md`` and ``docs/*.md`` is executed in order, one namespace per
file, in an empty directory. A block under a line that is only a file's name and a colon holds that
file's contents; it is left to the tests of what it belongs to.

A ``text`` block right after a ``python`` block is what that block prints. Numbers are compared as
numbers; ``...`` stands for anything.
"""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("README.md"), *ROOT.glob("docs/*.md")])
FENCE = re.compile(
    r"^```python\n(?P<code>.*?)^```$(?:\n\s*^```text\n(?P<output>.*?)^```$)?", re.M | re.S
)
FILE_NAME = re.compile(r"^`[\w./-]+`:\n\s*\Z", re.M)
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.M | re.S)
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)\s#]+)")
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def name(path):
    return str(path.relative_to(ROOT))


def blocks(page):
    """Yield line number, code and expected output (or None) of each block."""
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        if FILE_NAME.search(text, 0, match.start()):
            continue
        yield text.count("\n", 0, match.start("code")) + 1, match["code"], match["output"]


def same_number(shown, printed):
    """Whether a printed number is the one shown, but for rounding on another machine."""
    if not any(sign in shown for sign in ".eE"):
        return shown == printed
    mantissa, _, exponent = shown.lower().partition("e")
    last_digit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    allowed = max(1.01 * last_digit, 5e-3 * abs(float(shown)))
    return abs(float(shown) - float(printed)) <= allowed


def same_line(shown, printed):
    pattern = re.escape(NUMBER.sub("\0", shown)).replace(r"\.\.\.", ".*")
    pattern = pattern.replace("\0", f"({NUMBER.pattern})")
    match = re.fullmatch(pattern, printed)
    numbers = NUMBER.findall(shown)
    return match is not None and all(map(same_number, numbers, match.groups()))


def same_output(shown, printed):
    shown = [line.rstrip() for line in shown.strip().splitlines()]
    printed = [line.rstrip() for line in printed.strip().splitlines()]
    return len(shown) == len(printed) and all(map(same_line, shown, printed))


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("cost 0.693", "cost 0.694", True),
        ("cost 0.693", "cost 0.698", False),
        ("accuracy 0.9748110", "accuracy 0.9773300", True),
        ("accuracy 0.9748110", "accuracy 0.9698000", False),
        ("(1400, 64)", "(1400, 64)", True),
        ("(1400, 64)", "(1401, 64)", False),
        ("step 100: 1.2e-05", "step 100: 1.3e-05", True),
        ("step 100: 1.2e-05", "step 100: 1.2e-06", False),
        ("-0.5", "0.5", False),
        ("took ... s, loss 0.1", "took 3.2 s, loss 0.1", True),
        ("True", "False", False),
        ("one\ntwo", "one", False),
    ],
)
def test_comparison_tells_rounding_from_change(shown, printed, same):
    assert same_output(shown, printed) is same


@pytest.fixture
def logger_put_back():
    yield
    logging.getLogger("dnncore").setLevel(logging.NOTSET)


@pytest.mark.usefixtures("logger_put_back")
@pytest.mark.parametrize("page", PAGES, ids=name)
def test_code_runs_and_prints_what_the_page_shows(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    namespace = {"__name__": "__main__"}
    for line, code, output in blocks(page):
        # Blank lines in front make tracebacks name the page's own lines.
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)
        printed = capsys.readouterr().out
        if output is not None:
            where = f"{page.name}, line {line}"
            assert same_output(output, printed), f"{where} shows\n{output}\nbut prints\n{printed}"


def test_the_tutorial_has_code_with_output():
    shown = [output for _, _, output in blocks(ROOT / "docs" / "tutorial.md")]
    assert len([output for output in shown if output]) >= 5


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files(page):
    missing = [
        link
        for link in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8")))
        if not (page.parent / link).exists()
    ]
    assert not missing


def test_script_makes_every_picture_of_the_tutorial(tmp_path):
    script = ROOT / "docs" / "make_tutorial_pictures.py"
    subprocess.run(
        [sys.executable, "-W", "error", str(script), "--out", str(tmp_path)],
        env={**os.environ, "MPLBACKEND": "Agg"},
        check=True,
        timeout=240,
    )
    tutorial = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"\(images/([^)]+)\)", tutorial))
    made = {path.name for path in tmp_path.glob("*.png") if path.stat().st_size > 5000}
    assert shown
    assert shown == made


def test_script_makes_every_picture_of_the_page_of_pictures(tmp_path):
    script = ROOT / "docs" / "make_pictures.py"
    subprocess.run(
        [sys.executable, "-W", "error", str(script), "--out", str(tmp_path)],
        check=True,
        timeout=240,
    )
    page = (ROOT / "docs" / "pictures.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"\(images/([^)]+)\)", page))
    assert shown == {path.name for path in tmp_path.glob("*.png") if path.stat().st_size > 5000}
    assert all((ROOT / "docs" / "images" / name).stat().st_size < 100_000 for name in shown)
