"""Every SIMD level that this build and processor offer computes the same, within rounding."""

import os
import platform
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from dnncore import kernels

TESTS = Path(__file__).parent

PROGRAM = """
import sys
import numpy as np
from dnncore import kernels

results = {}
for dtype in ("float32", "float64"):
    rng = np.random.default_rng(0)
    def draw(*shape):
        return rng.standard_normal(shape).astype(dtype)
    def keep(name, *values):
        for i, value in enumerate(values):
            if value is not None:
                results[f"{dtype} {name} {i}"] = value
    x, da = 3 * draw(37, 53), draw(37, 53)
    for name in ("exp", "tanh", "erf", "sigmoid", "softplus"):
        keep(name, getattr(kernels, name)(x))
    for name in kernels.ACTIVATIONS:
        a = kernels.activation_forward(name, x)
        keep(name, a, kernels.activation_backward(name, da, x, a))
    w, b, d = draw(53, 41), draw(41), draw(37, 41)
    for name in ("identity", "relu", "gelu"):
        a, z = kernels.linear_forward(x, w, b, name)
        keep("layer " + name, a, *kernels.linear_backward(d, x, w, z, a, name))
    held = draw(37, 41)
    keep("matmul", kernels.matmul(x, w, out=held, accumulate=True, gate=d))
    y = np.abs(draw(37, 53))
    for name in kernels.LOSSES:
        keep(name, *kernels.loss(name, x, y, np.abs(draw(37))))
    keep("labels", *kernels.loss("softmax_cross_entropy", x, rng.integers(53, size=37)))
    for name in kernels.OPTIMIZERS:
        state = {}
        w = draw(999)
        for step in (1, 2, 3):
            kernels.optimizer_update(name, w, draw(999), state, step, lr=0.1, l2=0.1)
        keep(name, w, *state.values())
results["shuffle"] = kernels.shuffle(1000, 1, 2, 3)
np.savez(sys.argv[1], level=kernels.SIMD_LEVEL, **results)
"""


def results_at(level, run_python, folder):
    path = folder / f"{level}.npz"
    run_python(PROGRAM, path, DNNCORE_SIMD=level)
    with np.load(path) as file:
        found = dict(file)
    assert found.pop("level") == level
    return found


def test_levels_are_offered_best_first():
    offered = kernels.simd_levels()
    assert set(offered) <= {"v4", "v3", "base"}
    assert list(offered) == sorted(offered, key=["v4", "v3", "base"].index)
    assert offered[-1] == "base"
    assert os.environ.get("DNNCORE_SIMD", offered[0]) == kernels.SIMD_LEVEL


@pytest.mark.parametrize("level", [name for name in kernels.simd_levels() if name != "base"])
def test_every_level_agrees_with_the_base(level, run_python, tmp_path):
    base = results_at("base", run_python, tmp_path)
    other = results_at(level, run_python, tmp_path)
    assert base.keys() == other.keys()
    different = 0
    for name, want in base.items():
        rtol = {"float32": 1e-5, "float64": 1e-13}.get(name.split()[0], 0)
        scale = np.abs(want).max()
        np.testing.assert_allclose(
            other[name], want, rtol=rtol, atol=rtol * scale, err_msg=f"{level}: {name}"
        )
        different += not np.array_equal(want, other[name])
    np.testing.assert_array_equal(base["shuffle"], other["shuffle"])
    # A fused multiply-add rounds once: with all bits equal the same code would have run twice.
    assert different


@pytest.mark.parametrize(
    "level", [name for name in kernels.simd_levels() if name != kernels.SIMD_LEVEL]
)
def test_every_level_meets_the_bounds(level):
    """The levels not in use are held to the same tests as the one that is."""
    files = ["test_ulp.py", "test_kernels_matmul.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        + [str(TESTS / name) for name in files],
        env={**os.environ, "DNNCORE_SIMD": level},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.parametrize("wrong", ["v5", "avx2", "V3", " "])
def test_an_unknown_level_is_an_import_error_that_names_the_choices(wrong, run_python):
    message = run_python(
        "try:\n    import dnncore\nexcept ImportError as error:\n    print(error)",
        DNNCORE_SIMD=wrong,
    )
    assert f"DNNCORE_SIMD={wrong!r}" in message
    for level in kernels.simd_levels():
        assert level in message


def test_an_empty_choice_is_no_choice(run_python):
    code = "from dnncore import kernels; print(kernels.SIMD_LEVEL)"
    assert run_python(code, DNNCORE_SIMD="") == kernels.simd_levels()[0]


def test_the_floating_point_mode_is_left_alone(run_python):
    # Linked with -ffast-math, a library flushes subnormals to zero in the whole process.
    code = """
import numpy as np
from dnncore import kernels
x = np.full((40, 40), 1e-30, np.float32)
kernels.loss("mse", kernels.matmul(x, x), x)
kernels.optimizer_update("adam", x.copy(), x, {}, 1, lr=0.1)
for dtype in (np.float32, np.float64):
    limits = np.finfo(dtype)
    assert limits.smallest_subnormal > 0
    product = np.full(100, limits.tiny) * dtype(0.125)
    assert (product == limits.tiny / 8).all(), product[0]
    assert (product > 0).all()
    assert (kernels.matmul(product[:1, None], np.ones((1, 9), dtype)) == product[0]).all()
print("kept")
"""
    assert run_python(code) == "kept"


FALLBACK = """
#include <stdio.h>
#include "mathfuncs.h"
#if DNN_VECTOR_BYTES != 4
#error one element is a vector here
#endif
int main(void) {
    float x[2] = {-1.5f, 2.5f}, y[2];
    for (int i = 0; i < 2; i++) {
        dnn_vec v = DNN_LOAD(x + i);
        DNN_STORE(y + i, DNN_RELU(v) + DNN_GATE(DNN_BROADCAST(1), v));
    }
    printf("%d %g %g %.3f", DNN_LANES, y[0], y[1], dnn_tanh(x[0]));
    return 0;
}
"""


def test_compilers_without_vector_extensions_get_plain_loops(tmp_path):
    headers = TESTS.parent / "src" / "dnncore" / "_tiers"
    program = tmp_path / "fallback"
    (tmp_path / "fallback.c").write_text(FALLBACK)
    compiler = sysconfig.get_config_var("CC").split()
    flags = ["-DDNN_NO_VECTORS", f"-I{headers}", f"{program}.c", "-o", str(program), "-lm"]
    subprocess.run([*compiler, *flags], check=True, timeout=60)
    done = subprocess.run([program], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "1 0 3.5 -0.905"


BLOCK = """
#include "steps.h"
void block(ptrdiff_t depth, const dnn_real *a, const dnn_real *b, dnn_real *c, ptrdiff_t c_row,
           int accumulate, int relu, const dnn_real *gate, dnn_real *copy) {
    dnn_vec acc[DNN_MR][2];
    dnn_vec start[2] = {DNN_BROADCAST(0), DNN_BROADCAST(0)};
    dnn_begin(DNN_MR, 2, acc, start);
    dnn_steps(DNN_MR, 2, PACKS, acc, depth, a, 1, DNN_MR, b, 2 * DNN_LANES, copy);
    dnn_finish(1, DNN_MR, 2, acc, DNN_LANES, c, c_row, accumulate, relu, gate, c_row);
}
"""


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or "gcc" not in sysconfig.get_config_var("CC"),
    reason="reads the x86 machine code of gcc",
)
@pytest.mark.parametrize("packs", [0, 1])
@pytest.mark.parametrize("dtype", ["-DDNN_FLOAT32", "-DDNN_FLOAT64"])
@pytest.mark.parametrize("level", ["x86-64-v3", "x86-64-v4"])
def test_accumulators_stay_in_registers(tmp_path, level, dtype, packs):
    # A compiler that puts them on the stack makes every product a quarter slower, and nothing else
    # would tell.
    (tmp_path / "block.c").write_text(BLOCK)
    flags = ["-O3", f"-march={level}", dtype, f"-DPACKS={packs}", "-S", "-o", "-"]
    if level == "x86-64-v4":
        flags.append("-mprefer-vector-width=512")
    headers = TESTS.parent / "src" / "dnncore" / "_tiers"
    compiler = sysconfig.get_config_var("CC").split()
    done = subprocess.run(
        [*compiler, *flags, f"-I{headers}", str(tmp_path / "block.c")],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    code = done.stdout
    assert code.count("vfmadd") >= 24
    on_stack = re.findall(r".*(?:\(%r[sb]p\).*[xyz]mm|[xyz]mm.*\(%r[sb]p\)).*", code)
    assert len(on_stack) <= 4, "\n".join(on_stack)


def test_single_precision_loops_do_not_compute_in_double():
    # `1 - x` of a float is a double in C, several times slower: it must be `<real>1 - x`.
    folder = TESTS.parent / "src" / "dnncore" / "_tiers"
    source = (folder / "elementwise.pxi").read_text()
    losses = (folder / "losses.pxi").read_text()
    source += losses[losses.index("if kind == LOSS_") : losses.index("cdef inline double")]
    bare = r"(?<![\w.>\[-])\d+(?:\.\d+)? [-+*/] |(?<!i)(?<!j) [-+*/] -?\d"
    found = []
    for line in source.splitlines():
        code = re.sub(r"<real>\((?:[^()]|\([^()]*\))*\)|<double>.*", "", line.partition("#")[0])
        if re.search(bare, code):
            found.append(line)
    assert found == []
