"""The benchmarks run, measure what they say, and notice contenders that fail or cheat."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
ROWS = "tiny,gelu,digits-f64,digits-sgd,digits-calls,predict-1"


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the JSON and the printed tables of one small run."""
    out = tmp_path_factory.mktemp("bench") / "new" / "smoke.json"
    done = run(
        BENCH / "versus.py",
        *("--smoke", "--contenders", "dnncore,numpy_loop", "--threads", "1"),
        *("--workloads", ROWS, "--epochs", "2", "--json", str(out)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that imports a module of the benchmarks for the length of a test."""
    monkeypatch.syspath_prepend(str(BENCH))
    before = set(sys.modules)

    def load_module(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load_module
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(BENCH) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


@pytest.fixture
def own_bench(tmp_path: Path) -> Path:
    """Return a copy of the benchmarks to which a test may add contenders."""
    copy = tmp_path / "bench"
    shutil.copytree(BENCH, copy, ignore=shutil.ignore_patterns("__pycache__", "results"))
    return copy


def test_json_has_every_field(smoke: tuple[Path, str]) -> None:
    document = json.loads(smoke[0].read_text())
    assert document["schema"] == 1 and document["smoke"] is True
    assert document["machine"].keys() >= {
        *("cpu", "cpus_usable", "cores_physical", "simd", "caches", "memory_gib", "system"),
        *("python", "compiler", "packages", "environment", "load_average"),
        *("peak_method", "peak_gflops"),
    }
    assert document["machine"]["peak_gflops"]["float32"]["1"] > 0
    assert document["settings"]["contenders"] == ["dnncore", "numpy_loop"]
    assert document["summary"]["geometric_mean_ratio"] > 0
    assert [row["workload"]["name"] for row in document["rows"]] == ROWS.split(",")
    for row in document["rows"]:
        assert row.keys() >= {
            *("workload", "flops_per_step", "steps_per_epoch", "epochs_per_turn"),
            *("loss_initial", "rounds", "control_gflops", "results", "summary"),
        }
        assert row["summary"]["ratio"] > 0 and row["summary"]["best_peer"] is not None
        assert row["summary"]["ratio_by_threads"].keys() == {"1"}
        assert [result["contender"] for result in row["results"]] == ["dnncore", "numpy_loop"]
        for result in row["results"]:
            assert result["error"] is None and result["threads"] == 1
            turns = result["us_per_step_turns"]
            assert len(turns) == 2
            assert result["us_per_step"] == pytest.approx(min(turns), abs=1e-3)
            # The turns are rounded to a nanosecond, and may be equal then.
            assert min(turns) - 1e-3 <= result["us_per_step_median"] <= max(turns) + 1e-3
            first = result["first_call_seconds"]
            parts = first["import"] + first["build"] + first["first"]
            assert first["total"] == pytest.approx(parts, abs=1e-3)
            assert result["versions"] and isinstance(result["pools"], list)


def test_losses_agree(smoke: tuple[Path, str]) -> None:
    rows = json.loads(smoke[0].read_text())["rows"]
    training = [row for row in rows if row["workload"]["kind"] == "train"]
    assert len(training) == 5
    for row in training:
        one, other = (result["loss_first_epoch"] for result in row["results"])
        rounding = 1e-9 if row["workload"]["dtype"] == "float64" else 1e-4
        assert one == pytest.approx(other, rel=rounding)
        assert row["agreement"]["loss_first_epoch"]["agree"]
        assert row["agreement"]["loss_final"]["agree"]
        assert row["agreement"]["loss_final"]["median"] < row["loss_initial"]


def test_tables_can_be_printed_again(smoke: tuple[Path, str]) -> None:
    done = run(BENCH / "report.py", str(smoke[0]))
    assert done.returncode == 0, done.stderr
    assert done.stdout == smoke[1]
    for text in ("SMOKE RUN", "| digits-f64 ", "first call, seconds", "agree"):
        assert text in done.stdout


def test_results_name_no_machine_paths(smoke: tuple[Path, str]) -> None:
    text = smoke[0].read_text()
    assert str(BENCH.parent) not in text
    assert str(Path(sys.executable).parent) not in text


def test_chart_is_drawn(smoke: tuple[Path, str], tmp_path: Path) -> None:
    out = tmp_path / "chart.png"
    done = run(BENCH / "plot.py", str(smoke[0]), str(out))
    assert done.returncode == 0, done.stderr
    assert out.read_bytes().startswith(b"\x89PNG")
    refused = run(BENCH / "plot.py", str(smoke[0]), str(out), "--baseline", "nobody")
    assert refused.returncode == 2 and "nobody" in refused.stderr


FAULTY = {
    "missing": "import a_package_that_nobody_has\n",
    "raises": "def Contender(*_):\n    raise RuntimeError('no luck')\n",
    "dies": "import os\nos._exit(7)\n",
    "talks": (
        "from peers import numpy_loop\nprint('hello from the import')\n"
        "class Contender(numpy_loop.Contender):\n    pass\n"
    ),
}


def test_failures_are_reported_not_dropped(own_bench: Path, tmp_path: Path) -> None:
    for name, source in FAULTY.items():
        (own_bench / "peers" / f"{name}.py").write_text(source)
    out = tmp_path / "out.json"
    done = run(
        own_bench / "versus.py",
        *("--smoke", "--workloads", "digits", "--threads", "1"),
        *("--contenders", ",".join([*FAULTY, "numpy_loop"]), "--json", str(out)),
    )
    assert done.returncode == 1, done.stdout + done.stderr
    results = {r["contender"]: r for r in json.loads(out.read_text())["rows"][0]["results"]}
    assert results.keys() == {*FAULTY, "numpy_loop"}
    assert results["missing"]["missing"] and "a_package_that" in results["missing"]["error"]
    assert results["raises"]["error"] == "RuntimeError: no luck"
    assert "status 7" in results["dies"]["error"]
    assert all(results[n]["us_per_step"] is None for n in ("missing", "raises", "dies"))
    # What a library prints does not disturb the protocol.
    assert results["talks"]["error"] is None and results["numpy_loop"]["error"] is None
    assert "failed" in done.stdout and "not installed" in done.stdout
    assert "RuntimeError: no luck" in done.stdout


def test_silent_contender_is_given_up(own_bench: Path) -> None:
    (own_bench / "peers" / "silent.py").write_text("import time\ntime.sleep(600)\n")
    done = run(
        own_bench / "versus.py",
        *("--smoke", "--workloads", "digits", "--threads", "1"),
        *("--contenders", "silent", "--timeout", "1"),
    )
    assert done.returncode == 1
    assert "silent x1: no answer to 'setup' within 1 s" in done.stdout


def test_rounds_put_their_turns_together(own_bench: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = run(
        own_bench / "versus.py",
        *("--smoke", "--workloads", "digits,tiny", "--threads", "1", "--epochs", "2"),
        *("--contenders", "numpy_loop", "--rounds", "2", "--json", str(out)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert [row["workload"]["name"] for row in rows] == ["digits", "tiny"]
    for row in rows:
        assert len(row["rounds"]) == 2
        controls = [one["control_gflops"]["1"] for one in row["rounds"]]
        assert row["control_gflops"]["1"] == max(controls)
        result = row["results"][0]
        turns = result["us_per_step_turns"]
        assert len(turns) == 4
        assert result["us_per_step"] == pytest.approx(min(turns), abs=1e-3)
        assert result["us_per_step_median"] == pytest.approx(np.median(turns))
    # All of a round come before the next one.
    started = [[one["started"] for one in row["rounds"]] for row in rows]
    assert started[0][0] <= started[1][0] <= started[0][1] <= started[1][1]


def test_what_fails_in_one_round_has_failed(load: Any) -> None:
    rounds = load("rounds")

    def row(micro: float, error: str | None, agree: bool) -> dict[str, Any]:
        result = {"contender": "any", "threads": 1, "us_per_step": None, "error": error}
        return {
            "flops_per_step": 1000,
            "rounds": [{"control_gflops": {"1": 100 + micro}}],
            "control_gflops": {"1": 100 + micro},
            "results": [result if error else result | rounds.timed([micro, 9.0], 1000)],
            "agreement": {"loss_final": {"agree": agree, "median": micro}},
        }

    good, better, failed = row(2, None, True), row(1, None, False), row(3, "no luck", True)
    joined = rounds.join(good, better)
    assert joined["results"][0]["us_per_step"] == 1
    assert joined["results"][0]["us_per_step_turns"] == [2, 9, 1, 9]
    assert joined["results"][0]["gflops"] == 1
    assert joined["control_gflops"] == {"1": 102}
    for pair in ((good, better), (better, good)):
        assert rounds.join(*pair)["agreement"]["loss_final"]["agree"] is False
    for pair in ((good, failed), (failed, good)):
        assert rounds.join(*pair)["results"][0]["error"] == "no luck"
        assert rounds.join(*pair)["results"][0]["us_per_step"] is None


LESS_WORK = """
from peers import numpy_loop

class Contender(numpy_loop.Contender):
    def _adam(self):
        if self.step_count % 2 == 0:
            super()._adam()
        else:
            self.step_count += 1
"""

WRONG_PROBABILITIES = """
from peers import numpy_loop

class Contender(numpy_loop.Contender):
    def predict(self, x):
        return 1.01 * super().predict(x)
"""


def test_contender_that_learns_less_is_caught(own_bench: Path) -> None:
    (own_bench / "peers" / "lazy.py").write_text(LESS_WORK)
    done = run(
        own_bench / "versus.py",
        *("--smoke", "--workloads", "digits,tiny", "--threads", "1"),
        *("--contenders", "lazy,numpy_loop"),
    )
    assert done.returncode == 1
    assert "DIFFER" in done.stdout and "lazy x1" in done.stdout


def test_wrong_probabilities_are_caught(own_bench: Path) -> None:
    (own_bench / "peers" / "wrong.py").write_text(WRONG_PROBABILITIES)
    done = run(
        own_bench / "versus.py",
        *("--smoke", "--workloads", "predict-1", "--threads", "1"),
        *("--contenders", "wrong,numpy_loop"),
    )
    assert done.returncode == 1
    assert "wrong x1: wrong probabilities" in done.stdout
    assert "numpy_loop x1: wrong" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--workloads", "enormous"], "unknown workload 'enormous'"),
        (["--contenders", "nobody"], "unknown contender 'nobody'"),
        (["--threads", "0"], "threads must lie between 1"),
        (["--rounds", "0"], "rounds must be at least 1"),
    ],
)
def test_bad_arguments_are_refused(arguments: list[str], complaint: str) -> None:
    done = run(BENCH / "versus.py", *arguments)
    assert done.returncode == 2 and complaint in done.stderr


def test_flops_leave_out_the_first_layers_input_gradient(load: Any) -> None:
    workloads = load("workloads")
    work = workloads.Workload("any", (3, 4, 5), "relu", "softmax_cross_entropy", 10, 20)
    assert work.flops_per_step == 10 * (4 * 12 + 6 * 20)
    assert work.steps_per_epoch == 2
    assert workloads.WORKLOADS["wide"].flops_per_step == 1024 * (
        4 * 1024 * 2048 + 6 * (2048 * 2048 + 2048 * 10)
    )


def test_variants_share_data_and_first_parameters(load: Any) -> None:
    workloads = load("workloads")
    assert len(workloads.GROUPS["table"]) == 9
    plain, double = workloads.WORKLOADS["digits"], workloads.WORKLOADS["digits-f64"]
    by_call = workloads.WORKLOADS["digits-calls"]
    np.testing.assert_array_equal(workloads.make_data(by_call)[0], workloads.make_data(plain)[0])
    x32, y32 = workloads.make_data(plain)
    x64, y64 = workloads.make_data(double)
    assert x32.dtype == np.float32 and x64.dtype == np.float64
    np.testing.assert_array_equal(x32, x64)
    np.testing.assert_array_equal(y32, y64)
    for (w32, _), (w64, _) in zip(
        workloads.make_parameters(plain), workloads.make_parameters(double), strict=True
    ):
        np.testing.assert_array_equal(w32, w64)


@pytest.mark.parametrize("name", ["tiny", "digits", "gelu"])
def test_reference_loss_is_that_of_the_definition(load: Any, name: str) -> None:
    workloads = load("workloads")
    work = workloads.shrink(workloads.WORKLOADS[name])
    x, y = workloads.make_data(work)
    parameters = workloads.make_parameters(work)
    z = workloads.logits(work, parameters, x)
    if work.loss == "softmax_cross_entropy":
        p = workloads.probabilities(work, parameters, x)
        expected = -np.mean(np.log(p[np.arange(len(y)), y]))
    elif work.loss == "binary_cross_entropy":
        p = 1.0 / (1.0 + np.exp(-z[:, 0]))
        expected = -np.mean(np.where(y == 1, np.log(p), np.log(1.0 - p)))
    else:
        expected = np.mean((z[:, 0] - y) ** 2)
    assert workloads.reference_loss(work, parameters, x, y) == pytest.approx(expected, rel=1e-12)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no affinity")
def test_one_thread_gets_one_cpu(load: Any) -> None:
    machine = load("machine")
    allowed = os.sched_getaffinity(0)
    assert machine.pick_cpus(len(allowed)) is None
    if len(allowed) > 1:
        (cpu,) = machine.pick_cpus(1)
        assert cpu in allowed


def test_ratio_takes_the_fastest_peer_at_its_better_thread_count(load: Any) -> None:
    report = load("report")
    times = [("dnncore", 1, 10.0), ("dnncore", 2, 8.0), ("a", 1, 40.0), ("a", 2, 20.0)]
    results = [
        {"contender": c, "threads": t, "us_per_step": us, "gflops": 1.0, "error": None}
        for c, t, us in times
    ]
    results.append({"contender": "b", "threads": 2, "us_per_step": None, "error": "failed"})
    row = {
        "workload": {"name": "x", "kind": "train", "dtype": "float32"},
        "control_gflops": {"1": 5.0, "2": 4.0},
        "results": results,
    }
    document = {
        "machine": {"peak_gflops": {"float32": {"1": 4.0, "2": 8.0}}},
        "settings": {"threads": [1, 2]},
        "rows": [row],
    }
    report.summarise(document)
    summary = document["rows"][0]["summary"]  # type: ignore[index]
    assert summary["ratio"] == 2.5
    assert summary["ratio_by_threads"] == {"1": 4.0, "2": 2.5}
    assert summary["best_peer"]["contender"] == "a" and summary["best_peer"]["threads"] == 2
    # The highest ceiling seen counts: 5 at one thread, 8 at two.
    assert summary["peak_fraction"] == {"1": 0.2, "2": 0.125}


def test_pieces_are_merged_if_they_belong_together(
    smoke: tuple[Path, str], tmp_path: Path, load: Any
) -> None:
    whole = json.loads(smoke[0].read_text())
    first, second = ({**whole, "rows": part} for part in (whole["rows"][2:], whole["rows"][:2]))
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, piece in zip(paths, (first, second), strict=True):
        path.write_text(json.dumps(piece))
    out = tmp_path / "out.json"
    done = run(BENCH / "merge.py", str(out), *map(str, paths))
    assert done.returncode == 0 and "Run in 2 pieces" in done.stdout, done.stderr
    merged = json.loads(out.read_text())
    assert [row["workload"]["name"] for row in merged["rows"]] == ROWS.split(",")
    assert merged["summary"] == whole["summary"]
    assert [piece["rows"] for piece in merged["pieces"]] == [ROWS.split(",")[2:], ["tiny", "gelu"]]
    merge = load("merge").merge
    with pytest.raises(ValueError, match="'tiny' is in more than one piece"):
        merge([whole, second])
    with pytest.raises(ValueError, match="differ in settings"):
        merge([first, {**second, "settings": {**whole["settings"], "turns": 9}}])
    with pytest.raises(ValueError, match="differ in machine: cpu"):
        merge([first, {**second, "machine": {**whole["machine"], "cpu": "another"}}])
