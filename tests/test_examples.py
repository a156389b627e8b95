"""Every example runs, without a warning, and does what it says."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name):
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def number(pattern, text):
    (found,) = re.findall(pattern.replace("N", r"(-?[0-9.]+)"), text)
    return float(found)


def test_they_are_short_and_all_of_them_are_tested():
    names = sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert names == [
        "01_quickstart.py",
        "02_own_loss.py",
        "03_policy_gradient.py",
        "04_sine_regression.py",
    ]
    for name in names:
        assert len((EXAMPLES / name).read_text().splitlines()) <= 60


def test_quickstart():
    text = run("01_quickstart.py")
    assert number("test accuracy: N", text) > 0.95
    assert "the same after loading: True" in text
    assert "9,610 parameters" in text


def test_own_loss():
    text = run("02_own_loss.py")
    losses = [float(found) for found in re.findall(r"loss ([0-9.]+)", text)]
    assert losses[-1] < losses[0]
    for quantile in (10, 50, 90):
        assert abs(number(rf"below the {quantile}% quantile: N%", text) - quantile) < 3


def test_policy_gradient():
    steps = [
        float(found)
        for found in re.findall(r"stands for ([0-9.]+) steps", run("03_policy_gradient.py"))
    ]
    assert steps[0] < 40  # a pole nobody balances falls soon
    assert steps[-1] > 150  # the longest episode has 200 steps


def test_sine_regression():
    text = run("04_sine_regression.py")
    assert number("largest error: N", text) < 0.15
    assert number("best was epoch N:", text) == number("stopped after N epochs", text) - 50
