"""What the command line says when something is wrong: one line, no traceback, no file."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn import datasets as bundled

from dnncore import _cli_report, _cli_train
from dnncore.cli import main
from dnncore.serialization import load_network, save_network

COMMAND = [sys.executable, "-m", "dnncore"]
SMALL = ["--hidden", "8", "--epochs", "2", "--no-plot", "--quiet"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fail(capsys):
    """Run a command that fails with one line, and return that line."""

    def fail(*arguments):
        assert main([str(a) for a in arguments]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("dnncore: error: ") and err.count("\n") == 1, err
        return err

    return fail


def write_wine(path, target=True):
    """Write the wines: two columns without use, 13 numbers, a text target."""
    data = bundled.load_wine(as_frame=True).frame
    sort = data.pop("target").map({0: "Barolo", 1: "Grignolino", 2: "Barbera"})
    data.insert(0, "bottle", [f"no. {i}" for i in range(len(data))])
    data.insert(0, "cellar", "Asti")
    (data.assign(sort=sort) if target else data).to_csv(path, index=False)


BAD_USE = [
    ([], "COMMAND"),
    (["dance"], "invalid choice: 'dance'"),
    (["train"], "DATA"),
    (["train", "nosuch.csv"], "no file or directory nosuch.csv; sets known by name: digits"),
    (["train", "digits", "--epochs", "0"], "--epochs: expected a number from 1 on, got '0'"),
    (["train", "digits", "--hidden", "12,x"], "--hidden must be sizes such as 256,128"),
    (["train", "digits", "--hidden", "0"], "--hidden"),
    (["train", "digits", "--hidden", "1000000,1000000"], "parameters"),
    (["train", "digits", "--activation", "step"], "invalid choice: 'step'"),
    (["train", "digits", "--dropout", "1"], "--dropout: rate must be less than 1"),
    (["train", "digits", "--learning-rate", "nan"], "learning_rate must be finite"),
    (["train", "digits", "--learning-rate", "1e12"], "diverged in epoch 1, step"),
    (["train", "digits", "--optimizer", "sgd", "--weight-decay", "1"], "--optimizer adamw"),
    (["train", "digits", "--test-fraction", "1"], "--test-fraction must be less than 1"),
    (["train", "digits", "--seed", "-1"], "--seed must be at least 0"),
    (["train", "digits", "--target", "y"], "--target"),
    (["train", "digits", "--data", "."], "--data"),
    (["train", "mnist"], "mnist needs --data DIR"),
    (["train", "mnist", "--data", "."], "train-images-idx3-ubyte"),
    (["train", "."], "train-images-idx3-ubyte"),
    (["train", "wine.csv", "--target", "nose"], "no column 'nose'; it has 'cellar', 'bottle'"),
    (["train", "wine.csv", "--drop", "nose"], "no column 'nose'"),
    (["train", "wine.csv", "--drop", "sort", "--target", "sort"], "cannot be left out"),
    (["train", "wine.csv", "--target", "bottle"], "178 different values in 178 rows"),
    (["train", "wine.csv", "--target", "cellar"], "is Asti in every row"),
    (["train", "wine.csv", "--task", "regression"], "regression needs numbers"),
    (["train", "wine.csv", "--out", "nosuch/m"], "there is no directory nosuch"),
    (["train", "wine.csv", "--out", "."], "is a directory"),
    (["train", "wine.csv", "--out", "wine.csv"], "would overwrite wine.csv"),
    (["train", "wine.csv", "--plot", "p.gif"], "--plot must end in .png"),
    (["predict", "nosuch", "digits"], "nosuch"),
    (["predict", "wine.csv", "digits"], "Cannot load 'wine.csv'"),
    (["predict", "model", "digits"], "trained on a table"),
    (["predict", "model", "other.csv"], "lacks 13 column(s)"),
    (["predict", "model", "wine.csv", "--out", "model"], "would overwrite model"),
    (["evaluate", "model", "wine.csv", "--target", "nose"], "no column 'nose'"),
    (["evaluate", "model", "unlabelled.csv"], "no column 'sort'"),
    (["predict", "numbers", "wine.csv", "--proba"], "--proba"),
    (["predict", "pixels", "numbers.csv"], "pixels from 0 to 1"),
    (["info", "nosuch"], "nosuch"),
]  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    write_wine(folder / "wine.csv")
    write_wine(folder / "unlabelled.csv", target=False)
    bundled.load_diabetes(as_frame=True).frame.to_csv(folder / "other.csv", index=False)
    np.savetxt(folder / "numbers.csv", np.full((3, 64), 9.0), delimiter=",")
    wine_csv = str(folder / "wine.csv")
    assert main(["train", wine_csv, *SMALL, "--out", str(folder / "model")]) == 0
    hue = ["--target", "hue", "--out", str(folder / "numbers")]
    assert main(["train", wine_csv, *SMALL, *hue]) == 0
    assert main(["train", "digits", *SMALL, "--out", str(folder / "pixels")]) == 0
    return folder


@pytest.mark.parametrize(("arguments", "message"), BAD_USE, ids=lambda v: " ".join(v)[:60])
def test_bad_use(prepared, monkeypatch, fail, arguments, message):
    monkeypatch.chdir(prepared)
    before = {p: p.read_bytes() for p in prepared.iterdir()}
    quiet = ["--quiet"] if arguments[:1] == ["train"] else []
    assert message in fail(*arguments, *quiet)
    assert {p: p.read_bytes() for p in prepared.iterdir()} == before


def damaged(kind):
    """Return name and content of files that are no data."""
    noise = np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8).tobytes()
    return {"empty": b"", "noise": noise, "zeros": bytes(5000), "one line": b"a,b,c\n"}[kind]


@pytest.mark.parametrize("kind", ["empty", "noise", "zeros", "one line"])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".parquet", ".npz", ".xlsx", ""])
def test_files_that_are_no_data(prepared, folder, fail, suffix, kind):
    path = folder / f"data{suffix}"
    path.write_bytes(damaged(kind))
    for command in (["train", path], ["predict", prepared / "model", path], ["info", path]):
        assert str(path) in fail(*command)
    assert list(folder.iterdir()) == [path]


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_damaged_directory_of_images(folder, fail, name):
    for part in ("train", "t10k"):
        for what in ("images-idx3", "labels-idx1"):
            (folder / f"{part}-{what}-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x09123")
    assert "truncated" in fail("train", folder)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.ones((9, 2))}, "no targets"),
        ({"X": np.ones((9, 2)), "y": np.ones(8)}, "as many targets as rows"),
        ({"X": np.ones((9, 2)), "y": np.ones((9, 1, 1))}, "targets must have shape"),
        ({"X": 1.0, "y": 1}, "as many targets as rows"),
        ({"X": np.full((9, 2), np.nan), "y": np.arange(9) % 2}, "No column is of use"),
        ({"X": np.ones((9, 2)), "y": np.full(9, np.nan)}, "has no values"),
        ({"X": np.arange(9.0)[:, None], "y": np.arange(9) * 1j}, "dtype complex128"),
        ({"X": np.ones((9, 2)), "y": np.full(9, np.datetime64("2020"))}, "dates"),
        ({"X": np.array([[{}]]), "y": np.ones(1)}, "Python objects"),
        ({"X": np.arange(9.0)[:, None], "y": [*range(8), np.inf]}, "infinity"),
        ({"X": np.ones((9, 2)), "y": np.arange(9), "X_test": np.ones((2, 3))}, "y_test"),
    ],
)  # fmt: skip
def test_arrays_that_are_no_data(folder, fail, arrays, message):
    np.savez(folder / "a.npz", **arrays)
    assert message in fail("train", "a.npz", *SMALL, "--task", "auto")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from(["", "0", "1", "-2.5", "1e400", "nan", "x", "é", '"',
                                          "2020-01-01", "True", "a,b", " "]), min_size=2,
                         max_size=3), min_size=1, max_size=12))  # fmt: skip
def test_no_table_makes_it_stumble(folder, capsys, cells):
    (folder / "t.csv").write_text("\n".join(map(",".join, cells)), encoding="utf-8")
    code = main(["train", "t.csv", *SMALL])
    err = capsys.readouterr().err
    assert (code, err) == (0, "") or (code == 2 and err.count("\n") == 1), err


@pytest.mark.parametrize("damage", ["truncate", "flip"])
def test_damaged_models(prepared, folder, fail, damage):
    content = bytearray((prepared / "model").read_bytes())
    if damage == "truncate":
        del content[-100:]
    else:
        content[-100] ^= 1
    (folder / "m").write_bytes(content)
    for command in (["predict", "m", "digits"], ["evaluate", "m", "digits"], ["info", "m"]):
        assert "Cannot load 'm'" in fail(*command)


@pytest.mark.parametrize(
    "change",
    [
        {"target": 1},
        {"majority": []},
        {"encoder": {}},
        {"encoder": {"scaling": "none", "max_categories": 1, "columns": [], "report": []}},
        {"scaler": {"scaler": "standard", "center": [0.0], "scale": [1.0]}},
        {"held_out": {"rows": 178}},
        {"held_out": {"rows": 178, "fingerprint": 1, "fraction": 2.0, "seed": 0}},
        {"held_out": "none"},
    ],
    ids=json.dumps,
)
def test_models_with_another_preprocessing(prepared, folder, fail, change):
    net, preprocessing = load_network(prepared / "model")
    save_network(net, "m", preprocessing=preprocessing | change)
    assert "not what dnncore train writes" in fail("info", "m")


def test_models_of_another_program(prepared, folder, fail):
    net, _ = load_network(prepared / "model")
    save_network(net, "m", preprocessing={"mean": 3.0})
    assert "not what dnncore train writes" in fail("info", "m")


def test_a_full_disk_leaves_nothing_behind(folder, fail, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    (folder / "model.safetensors").write_bytes(b"what was there before")
    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr(_cli_train, "say", lambda text: None)
    assert "No space left on device" in fail("train", "digits", *SMALL)
    assert [p.name for p in folder.iterdir()] == ["model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == b"what was there before"


def test_files_that_may_not_be_written(prepared, folder, fail, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *args, **kwargs: False)  # root is never refused
    for command in (["train", "digits"], ["predict", prepared / "model", prepared / "wine.csv"]):
        assert "no permission" in fail(*command, "--out", "m")
    assert "not a regular file" in fail("train", "digits", "--out", os.devnull)


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("matplotlib", ["train", "digits", "--plot", "p.png"], "dnncore[plot]"),
        ("sklearn.datasets", ["train", "digits"], "dnncore[sklearn]"),
        ("pyarrow", ["train", "t.parquet"], "dnncore[data]"),
    ],
)
def test_packages_that_are_not_installed(folder, fail, monkeypatch, missing, arguments, extra):
    (folder / "t.parquet").touch()
    monkeypatch.setitem(sys.modules, missing, None)
    assert extra in fail(*arguments)


def test_training_without_matplotlib(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["train", "digits", "--hidden", "8", "--epochs", "1", "--quiet"]) == 0
    assert capsys.readouterr().err.startswith("dnncore: no picture without matplotlib")
    assert [p.name for p in folder.iterdir()] == ["model.safetensors"]


def test_too_little_memory(fail, monkeypatch):
    def allocate(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(_cli_train, "load_data", allocate)
    assert "Not enough memory" in fail("train", "digits")


def test_interrupted(folder, capsys, monkeypatch):
    def interrupt(self, network, epoch, logs):
        raise KeyboardInterrupt

    monkeypatch.setattr(_cli_report.EpochLines, "on_epoch_end", interrupt)
    assert main(["train", "digits", "--hidden", "8"]) == 130
    assert capsys.readouterr().err == "dnncore: interrupted\n"
    assert list(folder.iterdir()) == []


def test_ctrl_c(folder):
    training = subprocess.Popen(
        [*COMMAND, "train", "digits", "--epochs", "1000000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        for line in training.stdout:
            if line.startswith("training:"):
                break
        training.send_signal(signal.SIGINT)
        _, err = training.communicate(timeout=60)
    finally:
        training.kill()
    assert (training.returncode, err) == (130, "dnncore: interrupted\n")
    assert list(folder.iterdir()) == []


def test_a_reader_that_goes_away(prepared):
    predict = subprocess.Popen(
        [*COMMAND, "predict", prepared / "pixels", "digits", "--proba"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    predict.stdout.readline()
    predict.stdout.close()
    assert (predict.stderr.read(), predict.wait(60)) == (b"", 0)
    predict.stderr.close()


def test_a_bar_in_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(_cli_train, "is_terminal", lambda: True)
    assert main(["train", "digits", "--hidden", "8", "--epochs", "2", "--no-plot"]) == 0
    assert "2.0/2" in capsys.readouterr().err
