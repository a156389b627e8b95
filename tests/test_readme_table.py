"""The README's table of peers: what it says dnncore has is there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import dnncore
from dnncore import callbacks, kernels
from dnncore.cli import main

ROWS = [
    [cell.strip() for cell in line.strip("| \n").split(" | ")]
    for line in Path(__file__)
    .parents[1]
    .joinpath("README.md")
    .read_text(encoding="utf-8")
    .split("## Beside its peers")[1]
    .split("\n## ")[0]
    .splitlines()
    if line.startswith("| ") and not line.startswith("| |")
]
NAMES = [name for row in ROWS for name in re.findall(r"`(dnncore\.[\w.]+)`", row[1])]


def count(feature):
    return int(re.match(r"\d+", next(row[1] for row in ROWS if row[0].startswith(feature)))[0])


def test_rows_are_complete():
    assert len(ROWS) > 10 and all(len(row) == 6 for row in ROWS) and len(NAMES) > 5


@pytest.mark.parametrize("name", NAMES)
def test_names_exist(name):
    found = dnncore
    for part in name.split(".")[1:]:
        if not hasattr(found, part):
            found = importlib.import_module(f"{found.__name__}.{part}")
        else:
            found = getattr(found, part)


def test_numbers_are_right():
    # There may be more than the table says, not less.
    assert 10 <= count("activations") <= len(kernels.ACTIVATIONS)
    assert 10 <= count("losses") <= len(kernels.LOSSES)
    assert 10 <= count("optimizers") <= len(kernels.OPTIMIZERS)
    base = {"Callback", "Monitor"}
    made = [
        name
        for name, kind in vars(callbacks).items()
        if isinstance(kind, type) and issubclass(kind, callbacks.Callback) and name not in base
    ]
    hooks = [name for name in vars(callbacks.Callback) if name.startswith("on_")]
    row = next(row[1] for row in ROWS if row[0] == "callbacks")
    assert row.endswith(f", {len(hooks)} hooks")
    assert 5 <= count("callbacks") <= len(made)


def test_the_command_line_writes_reports(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "--report" in capsys.readouterr().out
