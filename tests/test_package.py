"""What importing the package does and does not do, and what an installation holds."""

import pkgutil
import tomllib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import dnncore
from dnncore import _build_info, _kernels

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]
HOME = Path(dnncore.__file__).parent
EXTRAS = ("sklearn", "pandas", "pyarrow", "matplotlib", "torch", "jax", "mpi4py", "onnx")

SUBNORMALS = """
import threading
import numpy as np

def kept():
    # 1e-38 / 1000 is a subnormal float32; flushed to zero if the mode of this thread was changed.
    found = [np.float32(1e-38) * np.float32(1e-3) > 0, np.float64(1e-308) * 1e-3 > 0]
    other = threading.Thread(target=lambda: found.append(np.float32(1e-38) / np.float32(1e3) > 0))
    other.start()
    other.join()
    return all(found)

assert kept(), "lost before the import"
import dnncore as dnn
assert kept(), "lost by the import"
X = np.random.default_rng(0).normal(size=(500, 40))
y = (X[:, 0] > 0).astype(int)
net = dnn.Network(40, [dnn.Dense(64, "tanh"), dnn.Dense(2)], loss="softmax_cross_entropy")
for threads in (1, 2):
    net.fit(X, y, epochs=2, batch_size=100, n_threads=threads)
    net.predict(X)
    assert kept(), f"lost by training on {threads}"
print(np.finfo(np.float32).smallest_subnormal > 0, np.finfo(np.float64).smallest_subnormal > 0)
"""


def test_floating_point_mode_of_the_process_stays(run_python):
    assert run_python(SUBNORMALS) == "True True"


def test_import_takes_no_extra_along(run_python):
    loaded = run_python("import sys, dnncore; print(*sys.modules)").split()
    assert "dnncore._engine" in loaded
    assert [name for name in EXTRAS if name in loaded] == []


def test_import_leaves_the_random_state_and_the_warning_filters(run_python):
    code = """
import warnings
import numpy as np
import scipy.linalg
np.random.seed(7)
before = np.random.get_state()[1].tobytes(), list(warnings.filters)
import dnncore
print((np.random.get_state()[1].tobytes(), list(warnings.filters)) == before)
"""
    assert run_python(code) == "True"


def test_version_is_the_one_of_the_project():
    assert dnncore.__version__ == PROJECT["version"]


def test_every_public_name_is_there_and_documented():
    for name in dnncore.__all__:
        thing = getattr(dnncore, name)
        assert isinstance(thing, str) or thing.__doc__, name
    assert set(dnncore.__all__) <= set(dir(dnncore))


@pytest.mark.parametrize("name", sorted(set(dir(dnncore)) - set(dnncore.__all__)))
def test_modules_that_load_on_demand_do_load(name):
    assert getattr(dnncore, name).__name__ == f"dnncore.{name}"


def test_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Perceptron'"):
        dnncore.Perceptron  # noqa: B018


def test_command_exists():
    for target in PROJECT["scripts"].values():
        assert callable(pkgutil.resolve_name(target))


def test_installation_serves_type_checkers_and_cimport():
    for name in ("py.typed", "_kernels.pyi", "_engine.pyi", "_kernels.pxd", "_table.pxd"):
        assert (HOME / name).is_file(), name


def test_build_info_describes_the_modules_that_are_there():
    suffix = EXTENSION_SUFFIXES[0]
    found = {p.name.removesuffix(suffix) for p in (HOME / "_tiers").glob(f"*{suffix}")}
    assert found == {f"{dtype}_{tier}" for dtype in ("f32", "f64") for tier in _build_info.TIERS}
    assert set(_kernels.simd_levels()) <= set(_build_info.TIERS)
    assert "fast" not in _build_info.FLAGS


def test_show_versions_tells_how_it_was_built_and_what_runs(capsys):
    dnncore.show_versions()
    shown = capsys.readouterr().out
    for text in (_build_info.CYTHON, _build_info.COMPILER, _kernels.SIMD_LEVEL, "threads"):
        assert text in shown
