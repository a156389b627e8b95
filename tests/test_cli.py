"""The command line, from data to predictions."""

import csv
import gzip
import io
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets as bundled
from sklearn.metrics import r2_score

import dnncore as dnn
from dnncore.cli import main
from dnncore.preprocessing import Standardizer, train_test_split
from dnncore.serialization import load_network
from dnncore.tables import TableEncoder

COMMAND = [sys.executable, "-m", "dnncore"]
SMALL = ["--hidden", "8", "--epochs", "2", "--no-plot", "--quiet"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys):
    """Run a command that succeeds and return what it printed."""

    def run(*arguments):
        code = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert code == 0, err
        return out

    return run


def wine():
    """The wines with a text target, a text column, missing values and columns of no use."""
    data = bundled.load_wine(as_frame=True).frame
    rng = np.random.default_rng(0)
    data["magnesium"] = pd.cut(data["magnesium"], [0, 90, 105, 200], labels=["low", "mid", "high"])
    data["magnesium"] = data["magnesium"].astype(object)
    data.loc[rng.random(len(data)) < 0.1, "magnesium"] = None
    data.loc[rng.random(len(data)) < 0.1, "ash"] = np.nan
    data["sort"] = data.pop("target").map({0: "Barolo", 1: "Grignolino", 2: "Barbera"})
    data.insert(0, "bottle", [f"no. {i}" for i in range(len(data))])
    data.insert(0, "cellar", "Asti")
    return data


def diabetes():
    data = bundled.load_diabetes(as_frame=True, scaled=False).frame
    data["sex"] = data["sex"].map({1.0: "f", 2.0: "m"})
    return data


def digits_npz(path):
    X, y = bundled.load_digits(return_X_y=True)
    np.savez(path, X=X[:400], y=y[:400])


def write_idx(folder, pack=bytes):
    """Write images in the layout of MNIST; the brightest column tells the class."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 300), ("t10k", 50)):
        labels = np.arange(n) % 4
        images = rng.integers(0, 100, (n, 6, 4))
        images[np.arange(n), :, labels] += 120
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            data = pack(head + array.astype(np.uint8).tobytes())
            (folder / f"{part}-{name}-ubyte{'.gz' * (pack is not bytes)}").write_bytes(data)


def score(text, name="accuracy"):
    return float(re.search(rf"{name} (-?[\d.]+)", text)[1])


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_digits_end_to_end(folder):
    done = subprocess.run([*COMMAND, "train", "digits"], capture_output=True, text=True, check=True)
    assert "data: digits, 1438 rows to train on, 359 to test with" in done.stdout
    assert "network: 64-256-256-10, relu; 85,002 parameters" in done.stdout
    assert score(done.stdout) >= 0.97
    assert score(done.stdout, "always answering 1:") == pytest.approx(36 / 359, abs=1e-4)
    lines = done.stderr.splitlines()  # not a terminal: no bar, some lines
    assert len(lines) == 10 and re.match(r"epoch 40 of 40: loss 0\.\d+, test loss", lines[-1])
    assert {p.name for p in folder.iterdir()} == {"model.safetensors", "model.png"}
    assert (folder / "model.png").read_bytes().startswith(b"\x89PNG")


def test_digits_evaluated_on_the_rows_kept_apart(run):
    trained = run("train", "digits", *SMALL)
    assert trained.count("\n") == 1  # quiet: the score only
    again = run("evaluate", "model.safetensors", "digits")
    assert "on 359 rows" in again and score(again) == score(trained)
    digits = dnn.datasets.load_digits()
    _, X, _, y = train_test_split(*digits, test_fraction=0.2, seed=0)
    net = dnn.load("model.safetensors")
    assert score(again) == pytest.approx(net.evaluate(X, y)["accuracy"], abs=1e-4)
    predicted = [
        int(row["prediction"]) for row in table(run("predict", "model.safetensors", "digits"))
    ]
    np.testing.assert_array_equal(predicted, net.predict(digits[0]))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_with_text_and_missing_values(run, folder, suffix):
    data = wine()
    getattr(data, f"to_{suffix}")(f"wine.{suffix}", index=False)
    text = run("train", f"wine.{suffix}", "--no-plot")
    assert "target: sort, 3 classes (Barbera, Barolo, Grignolino)" in text
    for line in (
        r"magnesium: text with 3 categories; \d+ of 142 missing, a category of its own\.",
        r"ash: number; \d+ of 142 missing, set to the median [\d.]+ and marked in 'ash_missing'\.",
        r"bottle: dropped; 142 different texts in 142 rows, like an identifier\.",
        r"cellar: dropped; its only value is 'Asti'\.",
    ):
        assert re.search(line, text), line
    assert score(text) > 0.9 > 0.4 > score(text, "always answering Grignolino:")

    net, preprocessing = load_network("model.safetensors")
    X = TableEncoder.from_config(preprocessing["encoder"]).transform(data)
    rows = table(run("predict", "model.safetensors", f"wine.{suffix}", "--proba"))
    assert [row["prediction"] for row in rows] == net.predict(X).tolist()
    given = np.array([[float(row[f"probability_{c}"]) for c in net.classes_] for row in rows])
    np.testing.assert_array_equal(given.astype(np.float32), net.predict_proba(X))

    data.drop(columns="sort").to_csv("unlabelled.csv", index=False)
    assert table(run("predict", "model.safetensors", "unlabelled.csv", "--proba")) == rows
    assert "3 classes (Barbera, Barolo, Grignolino)" in run("info", "model.safetensors")


def test_regression(run):
    data = diabetes()
    data.to_csv("d.csv", index=False)
    text = run("train", "d.csv", "--plot", "d.svg", "--quiet")
    assert score(text, "R2") > 0.3
    assert Path("d.svg").read_text().count("<svg") == 1
    net, preprocessing = load_network("model.safetensors")
    X = TableEncoder.from_config(preprocessing["encoder"]).transform(data)
    scaler = Standardizer.from_config(preprocessing["scaler"])
    expected = scaler.inverse_transform(net.predict(X).astype(np.float64))[:, 0]
    assert run("predict", "model.safetensors", "d.csv", "--out", "p.csv").startswith("442 ")
    predicted = [float(row["prediction"]) for row in table(Path("p.csv").read_text())]
    np.testing.assert_array_equal(predicted, expected)

    other = data.iloc[:100]
    other.to_csv("other.csv", index=False)
    text = run("evaluate", "model.safetensors", "other.csv")
    assert score(text, "R2") == pytest.approx(r2_score(other.target, expected[:100]), abs=1e-4)
    error = np.sqrt(np.mean((other.target - scaler.center[0]) ** 2))
    assert float(re.findall(r"RMSE ([\d.]+)", text)[1]) == pytest.approx(error, rel=1e-3)


def test_several_targets(run):
    X = np.random.default_rng(0).normal(size=(200, 3))
    np.savez("two.npz", X=X, y=np.c_[X[:, 0], 100 * X[:, 1]])
    assert score(run("train", "two.npz", "--quiet"), "R2") > 0.9
    rows = table(run("predict", "model.safetensors", "two.npz"))
    assert np.corrcoef([float(row["prediction_1"]) for row in rows], X[:, 1])[0, 1] > 0.95


def test_npz_and_labels_of_any_type(run):
    digits_npz("d.npz")
    assert score(run("train", "d.npz", "--quiet", "--no-plot")) > 0.8
    labels = {row["prediction"] for row in table(run("predict", "model.safetensors", "d.npz"))}
    assert labels == set("0123456789")
    X, y = bundled.load_digits(return_X_y=True)
    np.savez("one_hot.npz", X=X[:400], y=np.eye(10)[y[:400]])
    first = run("evaluate", "model.safetensors", "d.npz")
    assert run("evaluate", "model.safetensors", "one_hot.npz") == first
    np.savez("text.npz", X=X[:40], y=[f"{label}.0" if label else "zero" for label in y[:40]])
    assert score(run("evaluate", "model.safetensors", "text.npz")) == 0  # other labels: no hit


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_images_with_their_own_test_part(run, folder, pack):
    write_idx(folder, pack)
    for data in ([folder], ["mnist", "--data", folder], ["fashion-mnist", "--data", folder]):
        text = run("train", *data, "--no-plot", "--epochs", "20")
        assert "300 rows to train on, 50 to test with" in text and score(text) > 0.9
        assert score(run("evaluate", "model.safetensors", *data)) == score(text)
        assert len(table(run("predict", "model.safetensors", *data))) == 50


def test_labels_that_only_the_test_part_has(run):
    X = np.eye(2)[np.arange(60) % 2]
    test = {"X_test": X[:4], "y_test": ["0", "1", "0", "new"]}
    np.savez("a.npz", X=X, y=np.arange(60) % 2, **test)
    assert score(run("train", "a.npz", "--quiet")) == 0.75
    assert score(run("evaluate", "model.safetensors", "a.npz")) == 0.75


def test_options_reach_the_network(run):
    options = ["--activation", "tanh", "--dropout", "0.5", "--optimizer", "sgd", "--seed", "7"]
    text = run(
        "train", "digits", "--hidden", "12,5", "--epochs", "3", "--batch-size", "100",
        "--learning-rate", "0.5", "--test-fraction", "0.5", "--no-plot", *options,
    )  # fmt: skip
    assert "network: 64-12-5-10, tanh, dropout 0.5" in text
    assert "3 epochs of 9 steps, sgd, learning rate 0.5" in text
    assert "898 rows to train on, 899 to test with" in text or "899 rows" in text
    net = dnn.load("model.safetensors")
    assert net.seed == 7
    assert list(map(type, net.layers)) == [
        dnn.Dense,
        dnn.Dropout,
        dnn.Dense,
        dnn.Dropout,
        dnn.Dense,
    ]
    run("train", "digits", "--hidden", "none", "--epochs", "1", "--no-plot")
    assert len(dnn.load("model.safetensors").layers) == 1


def test_the_same_seed_gives_the_same_model(run):
    for seed, out in ((1, "a"), (1, "b"), (2, "c")):
        run("train", "digits", *SMALL, "--seed", seed, "--out", out)
    a, b, c = (dnn.load(name).params for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_target_and_columns_to_leave_out(run):
    wine().assign(hue2=lambda d: d.hue).to_csv("w.csv", index=False)
    run("train", "w.csv", "--target", "hue", "--drop", "hue2", "--drop", "sort", *SMALL)
    _, preprocessing = load_network("model.safetensors")
    seen = {column for column, *_ in preprocessing["encoder"]["report"]}
    assert seen == set(wine().columns) - {"hue", "sort"}
    data = bundled.load_iris(as_frame=True).frame
    data[["target", *data.columns[:-1]]].to_csv("iris.csv", index=False)
    assert "target: target, 3 classes" in run("train", "iris.csv", *SMALL[:-1])  # by its name
    text = run("train", "iris.csv", "--task", "regression", *SMALL[:-1])
    assert "target: target, a number, mean 0.9917, standard deviation" in text


def test_rows_without_target_are_left_out(run):
    data = diabetes().astype({"target": float})
    data.loc[:41, "target"] = np.nan
    data.to_csv("d.csv", index=False)
    assert "320 rows to train on, 80 to test with, 42 without target" in run(
        "train", "d.csv", *SMALL[:-1]
    )
    assert "on 80 rows" in run("evaluate", "model.safetensors", "d.csv")


def test_a_class_with_a_single_row(run):
    wine().replace({"sort": {"Barolo": "Barbera"}}).assign(
        sort=lambda d: d.sort.where(d.index > 0, "Nebbiolo")
    ).to_csv("w.csv", index=False)
    assert "3 classes (Barbera, Grignolino, Nebbiolo)" in run("train", "w.csv", *SMALL[:-1])


def test_a_network_saved_by_python(run):
    X, y = bundled.load_iris(return_X_y=True)
    net = dnn.Network(4, [dnn.Dense(3)])
    net.fit(X, y)
    net.save("iris.safetensors")
    pd.DataFrame(X).to_csv("iris.csv", index=False, header=["a", "b", "c", "d"])
    rows = table(run("predict", "iris.safetensors", "iris.csv"))
    assert [int(row["prediction"]) for row in rows] == net.predict(X).tolist()
    np.savez("iris.npz", X=X, y=y)
    text = run("evaluate", "iris.safetensors", "iris.npz")
    assert score(text) == pytest.approx(net.evaluate(X, y)["accuracy"], abs=1e-4)
    assert "15 parameters" in run("info", "iris.safetensors")


def test_info_and_help(run, capsys):
    assert re.search(r"^numpy +\d", run("info"), re.M)
    for arguments in (["--help"], ["train", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0 and "dnncore" in capsys.readouterr().out
