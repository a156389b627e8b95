"""The benchmarks other than ``versus.py``: they run, say where, and their charts can be drawn."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCH / script), *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def smoke(script: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run a script in miniature and return its JSON, after drawing it."""
    out = folder / f"{script}.json"
    done = run(f"{script}.py", "--smoke", "--json", str(out), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    text = out.read_text()
    assert str(BENCH.parent) not in text and str(Path(sys.executable).parent) not in text
    content: dict[str, Any] = json.loads(text)
    assert content["smoke"] is True and content["rows"]
    assert {"cpu", "packages", "peak_gflops"} <= content["machine"].keys()
    assert content["settings"]["threads"]
    if script != "predict":
        assert content["script"] == script
        assert {"dnncore", "numpy", "scipy", "simd level"} <= content["dnncore"].keys()
    drawn = run("plot.py", str(out))
    if script in ("sharing", "memory", "features", "sklearn_dropin"):
        assert drawn.returncode == 2 and f"no chart is made of {script}.py" in drawn.stderr
    else:
        assert drawn.returncode == 0, drawn.stderr
        for line in drawn.stdout.split():
            assert Path(line).read_bytes().startswith(b"\x89PNG")
    return content


def test_kernels(tmp_path: Path) -> None:
    content = smoke("kernels", tmp_path)
    from dnncore import kernels

    rows = content["rows"]
    for group, names in (
        ("products", ["x w", "dz w'", "x' dz"]),
        ("forward", kernels.ACTIVATIONS),
        ("backward", kernels.ACTIVATIONS),
        ("losses", kernels.LOSSES),
        ("optimizers", kernels.OPTIMIZERS),
    ):
        for dtype in ("float32", "float64"):
            found = [r["kernel"] for r in rows if r["group"] == group and r["dtype"] == dtype]
            assert found == list(names)
    for row in rows:
        assert row["dnncore"]["us"] > 0 and row["numpy"]["us"] > 0 and row["ceiling"] > 0
    assert (tmp_path / "kernels-loops.png").exists()


def test_scaling(tmp_path: Path) -> None:
    rows = smoke("scaling", tmp_path)["rows"]
    assert {row["curve"] for row in rows} == {"batch", "width", "depth", "examples"}
    for row in rows:
        assert row["threads 1"]["gflops"] > 0
        assert row["steps"] == -(-row["examples"] // row["batch"])


def test_sharing(tmp_path: Path) -> None:
    for row in smoke("sharing", tmp_path)["rows"]:
        assert row["default_threads"] == 1 and row["of_one"] == 1.0 and row["speedup"] > 0


def test_predict(tmp_path: Path) -> None:
    rows = smoke(
        "predict", tmp_path, "--contenders", "dnncore,numpy_loop", "--threads", "1",
        "--workloads", "small x 1,small x 16",
    )["rows"]  # fmt: skip
    assert [row["workload"]["batch"] for row in rows] == [1, 8]
    for row in rows:
        assert all(result["us_per_step"] > 0 for result in row["results"])


def test_wrong_probabilities_of_any_row_are_caught(tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "bench"
    shutil.copytree(BENCH, copy, ignore=shutil.ignore_patterns("__pycache__", "results"))
    (copy / "peers" / "last.py").write_text(
        "from peers import numpy_loop\n"
        "class Contender(numpy_loop.Contender):\n"
        "    def predict(self, x):\n"
        "        p = super().predict(x)\n"
        "        p[-1] = p[-1, ::-1]\n"
        "        return p\n"
    )
    done = subprocess.run(
        [sys.executable, str(copy / "predict.py"), "--smoke", "--threads", "1",
         "--workloads", "small x 16", "--contenders", "last,numpy_loop"],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "last x1: wrong probabilities" in done.stdout


def test_sweep(tmp_path: Path) -> None:
    for row in smoke("sweep", tmp_path)["rows"]:
        assert row["same_bits"]
        assert set(row["networks_per_second"]) == {
            *("one by one, 1 thread", "one by one, default", "fit_many"),
        }


@pytest.mark.skipif(sys.platform != "linux", reason="ties processes to CPUs")
def test_busy(tmp_path: Path) -> None:
    rows = smoke("busy", tmp_path)["rows"]
    assert len(rows) == 9 and all(row["slowdown"] > 0 for row in rows)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_a_fit_is_what_summary_predicts(tmp_path: Path) -> None:
    smoke("memory", tmp_path)
    out = tmp_path / "memory.json"
    done = run("memory.py", "--workloads", "mnist-m,mnist-m-f64", "--json", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    for row in json.loads(out.read_text())["rows"]:
        assert 0.9 < row["ratio"] < 1.1


def test_features(tmp_path: Path) -> None:
    import dnncore as dnn
    from dnncore import kernels

    rows = smoke("features", tmp_path)["rows"]
    names = {row["feature"] for row in rows}
    assert names >= set(kernels.ACTIVATIONS) - {"identity", "softmax"}
    assert names >= {"Dropout", "Adam", "Lion", "label smoothing", "validation F1"}
    assert names >= set(dnn.layers.LAYERS) - {"Dense", "Activation"}
    assert names >= set(kernels.LOSSES) - {"mse"}
    for row in rows:
        assert row["alone"]["us"] > 0  # in miniature the others drown in what fit does once


def test_tables_of_the_readme() -> None:
    done = run("readme.py", str(next((BENCH / "results").glob("versus*.json"))))
    assert done.returncode == 0, done.stderr
    assert "| mnist-m " in done.stdout and " 784-512-512-10, 128 |" in done.stdout
    assert "First call" in done.stdout and "Geometric mean" in done.stdout


def test_fits_through_scikit_learn(tmp_path: Path) -> None:
    smoke("sklearn_dropin", tmp_path, "--workloads", "sparse text")
    chosen = ("--append", "--workloads", "iris,oversubscription")
    content = smoke("sklearn_dropin", tmp_path, *chosen)
    assert list(content["oversubscription"]) == ["1 job", "2 processes", "2 threads"]
    assert [row["workload"] for row in content["rows"]] == ["iris"] * 6 + ["sparse text"] * 6
    for row in content["rows"]:
        assert row["agrees"] and row["ratio"] > 0
        assert len(row["scores"]["sklearn"]) == len(row["scores"]["dnncore"]) == 2
    assert content["least_ratio"] <= content["mean_ratio"]


def test_profile(tmp_path: Path) -> None:
    for row in smoke("profile", tmp_path, "--workloads", "tiny,digits")["rows"]:
        assert row["profile"]["us"] > 0 and row["profile"]["rows"]
    # A script of this name must not stand in the way of the library's module.
    code = f"import sys; sys.path.insert(0, {str(BENCH)!r}); import cProfile; cProfile.Profile()"
    subprocess.run([sys.executable, "-c", code], check=True)
