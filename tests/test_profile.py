"""A profile adds up, names what was done, and changes nothing."""

import json
import math

import numpy as np
import pytest

import dnncore as dnn
from dnncore import profiling
from dnncore._engine import CLOCK_CELLS, CLOCK_PARTS, Clock
from dnncore.cli import main

LAYERS = [dnn.Dense(48, "relu"), dnn.Dropout(0.2), dnn.Dense(32, "gelu"), dnn.Dense(3)]


def data(rows=500, n_in=20):
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, n_in)), rng.integers(0, 3, rows)


def look(layers=LAYERS, *, loss="softmax_cross_entropy", dtype="float32", **options):
    X, y = data()
    net = dnn.Network(20, layers, loss=loss, dtype=dtype)
    before = net.params.copy()
    found = net.profile(X, y, seconds=0.05, batch_size=50, **options)
    np.testing.assert_array_equal(net.params, before)
    assert net._program.clock is None and net.classes_ is None and net._position.step == 0
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_rows_add_up_to_the_step(n_threads, dtype):
    found = look(n_threads=n_threads, dtype=dtype)
    assert found.threads == n_threads and found.batch_size == 50 and found.steps > 0
    assert math.isclose(sum(row.us for row in found.rows), found.us, rel_tol=1e-6)
    assert math.isclose(sum(row.share for row in found.rows), 1, rel_tol=1e-6)
    assert 0 < found.gflops < found.ceiling and found.outside_us > 0


def test_rows_follow_a_step():
    rows = look(n_threads=1).rows
    assert [(row.operation, row.name, row.part) for row in rows] == [
        (None, "gather", ""),
        (0, "dense 20-48 relu", "forward"),
        (1, "dropout 48", "forward"),
        (2, "dense 48-32 gelu", "forward"),
        (2, "dense 48-32 gelu", "activation"),
        (3, "dense 32-3", "forward"),
        (None, "loss", ""),
        *((3, "dense 32-3", part) for part in ("slope", "dx", "dw", "update")),
        *((2, "dense 48-32 gelu", part) for part in ("slope", "dx", "dw", "update")),
        (1, "dropout 48", "slope"),
        *((0, "dense 20-48 relu", part) for part in ("slope", "dw", "update")),
        (None, "next", ""),
    ]
    for row in rows:
        product = row.part in ("forward", "dx", "dw") and row.name.startswith("dense")
        assert (row.gflops is not None) is product is (row.of_ceiling is not None)
        assert row.path == ("own" if product else "")
        assert row.us > 0 and 0 < row.share < 1


def test_waiting_is_shown_with_several_threads():
    # One tile of rows: all but one thread wait for it.
    assert "wait" in {row.name for row in look(n_threads=2).rows}


@pytest.mark.parametrize(
    "options",
    [
        {"shuffle": False},
        {"optimizer": dnn.SGD(0.01), "sample_weight": np.ones(500)},
        {"class_weight": "balanced"},
        {"accumulate": 3},
        {"optimizer": dnn.Adam(dnn.schedules.Cosine(1e-3))},
    ],
    ids=str,
)
def test_whatever_can_be_trained_on(options):
    rows = {(row.name, row.part): row for row in look(**options).rows}
    assert ("dense 20-48 relu", "dw") in rows and ("loss", "") in rows


def test_a_loss_in_python():
    def squares(outputs, targets):
        return np.mean((outputs - targets) ** 2), 2 * (outputs - targets) / outputs.size

    X, y = data()
    net = dnn.Network(20, [dnn.Dense(8, "tanh"), dnn.Dense(1)], loss=squares)
    found = net.profile(X, y.astype(float), seconds=0.05)
    assert {"forward", "dx", "dw"} <= {row.part for row in found.rows}


def test_blas_is_named(monkeypatch):
    from dnncore import _kernels

    _kernels._force_matmul_path("blas")
    try:
        rows = look(n_threads=1).rows
    finally:
        _kernels._force_matmul_path(None)
    assert {row.path for row in rows if row.part in ("forward", "dx") and row.path} == {"blas"}


def test_plain_values_frame_and_text():
    found = look(n_threads=1)
    values = json.loads(json.dumps(found.to_dict()))
    assert values["us"] == found.us and len(values["rows"]) == len(found.rows)
    text = str(found).splitlines()
    assert text[0].startswith(
        "20-48-48-32-3 float32 softmax_cross_entropy, batches of 50, 1 thread:"
    )
    assert len(text) == len(found.rows) + 2
    assert "dense 32-3" in str(found) and str(found).count("dense 48-32 gelu") == 2
    pandas = pytest.importorskip("pandas")
    frame = found.to_frame()
    assert isinstance(frame, pandas.DataFrame) and math.isclose(frame.share.sum(), 1)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_a_clock_changes_no_bit(n_threads):
    X, y = data()
    plain, timed = (dnn.Network(20, LAYERS, seed=1) for _ in range(2))
    timed._program.clock = clock = Clock(len(LAYERS), n_threads)
    for net in (plain, timed):
        net.fit(X, y, epochs=2, batch_size=50, n_threads=n_threads)
    np.testing.assert_array_equal(plain.params, timed.params)
    seconds, calls = clock.read()
    assert (
        seconds.shape
        == calls.shape
        == (
            n_threads,
            len(CLOCK_CELLS) + len(LAYERS) * len(CLOCK_PARTS),
        )
    )
    assert calls[:, CLOCK_CELLS.index("loss")].sum() == 20
    assert (seconds >= 0).all() and seconds[0].sum() > 0


def test_a_clock_too_small_is_left_alone():
    X, y = data()
    net = dnn.Network(20, LAYERS)
    net._program.clock = clock = Clock(len(LAYERS), 1)
    net.fit(X, y, epochs=1, n_threads=2)
    assert not clock.read()[1].any()


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"seconds": 0}, ValueError, "seconds"),
        ({"seconds": "1"}, TypeError, "seconds"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"n_threads": 0}, ValueError, "n_threads"),
        ({"optimizer": "none"}, ValueError, "optimizer"),
    ],
)
def test_what_cannot_be_is_refused(options, error, match):
    X, y = data()
    with pytest.raises(error, match=match):
        dnn.Network(20, LAYERS).profile(X, y, **options)
    with pytest.raises(ValueError, match="X"):
        dnn.Network(20, LAYERS).profile(X[:, :3], y)
    with pytest.raises(dnn.DivergenceError):
        dnn.Network(20, LAYERS).profile(X, y, optimizer=dnn.SGD(1e30))


def test_ceiling():
    one, two = profiling.ceiling("float64", 1, 0.05), profiling.ceiling("float32", 2, 0.05)
    assert one > 0.1 and two > 0.1
    with pytest.raises(ValueError, match="threads"):
        profiling.ceiling("float32", 0)


def bench(*arguments):
    return main(["bench", *arguments, "--seconds", "0.02"])


def test_bench_of_generated_data(capsys, tmp_path):
    out = tmp_path / "profile.json"
    assert bench("--layers", "12-8-1", "--batch", "16", "--json", str(out)) == 0
    assert capsys.readouterr().out.startswith("12-8-1 float32 mse, batches of 16, 1 thread:")
    assert json.loads(out.read_text())["rows"]


def test_bench_of_a_model(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = ["a,b,kind"] + [f"{i},{i % 7},{'xyz'[i % 3]}" for i in range(60)]
    (tmp_path / "data.csv").write_text("\n".join(rows) + "\n")
    train = ["train", "data.csv", "--hidden", "8", "--epochs", "1", "--no-plot", "--quiet"]
    assert main(train) == 0
    capsys.readouterr()
    assert bench("model.safetensors", "data.csv", "--target", "kind") == 0
    assert "dense 2-8 relu" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ([], "--layers"),
        (["--layers", "12"], "--layers"),
        (["--layers", "12-x"], "--layers"),
        (["model.safetensors"], "data"),
        (["model.safetensors", "data.csv", "--layers", "3-2"], "--layers"),
    ],
)
def test_bench_says_what_is_missing(arguments, match, capsys):
    assert bench(*arguments) == 2
    assert match in capsys.readouterr().err


def test_picture():
    pytest.importorskip("matplotlib")
    from dnncore.plotting import plot_profile

    found = look(n_threads=1)
    ax = plot_profile(found)
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "gather",
        *dict.fromkeys(row.name for row in found.rows if row.operation is not None),
        "loss",
        "next",
    ]
    assert math.isclose(sum(bar.get_width() for bar in ax.patches), found.us, rel_tol=1e-6)
    assert ax.get_legend() is not None
