"""Another project builds against the C level of the kernels, as docs/cimport.md says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import dnncore
from dnncore import _kernels

HERE = Path(__file__).parent
GUIDE = HERE.parent / "docs" / "cimport.md"


def test_a_package_that_cimports_the_kernels_builds_and_runs(tmp_path, run_python):
    project = tmp_path / "project"
    shutil.copytree(HERE / "downstream", project)
    # A fresh interpreter has dnncore where this one has it.
    found = str(Path(dnncore.__file__).parents[1])
    build = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": found, "CFLAGS": "-O0"},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert build.returncode == 0, build.stdout + build.stderr
    code = """
import sys
sys.path[:0] = sys.argv[1:3]
import downstream
import numpy as np
rng = np.random.default_rng(0)
x, w, b = (rng.standard_normal(shape).astype(np.float32) for shape in [(9, 5), (5, 21), 21])
for array in (x, w, b):
    array.flags.writeable = False
got = downstream.hidden_layer(x, w, b)
np.testing.assert_allclose(got, np.maximum(x @ w + b, 0), rtol=1e-5, atol=1e-6)
assert downstream.keeps_z() == (False, True)
try:
    downstream.hidden_layer(x, w.copy().T.copy(), b)
except ValueError:
    print("built and run")
"""
    assert run_python(code, project, found) == "built and run"


def test_the_guide_shows_the_project_that_is_built():
    guide = GUIDE.read_text(encoding="utf-8")
    blocks = dict(re.findall(r"`([\w.]+)`:\n\n```\w+\n(.*?)```", guide, flags=re.DOTALL))
    assert set(blocks) == {"setup.py", "downstream.pyx"}
    for name, text in blocks.items():
        assert text == (HERE / "downstream" / name).read_text(encoding="utf-8"), name


def test_every_declaration_of_the_c_level_is_exported():
    declared = (Path(dnncore.__file__).parent / "_kernels.pxd").read_text(encoding="utf-8")
    names = re.findall(r"^cdef [^(]*?(\w+)\(", declared, flags=re.MULTILINE)
    assert len(names) >= 10
    exported = _kernels.__pyx_capi__
    for name in names:
        assert name in exported or f"__pyx_fuse_0{name}" in exported, name
