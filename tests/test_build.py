"""setup.py chooses flags and levels rightly, and leaves nothing of other settings behind."""

import importlib.util
import os
import platform
from pathlib import Path

import pytest
from setuptools import Distribution
from setuptools.errors import CompileError

SETUP = Path(__file__).parents[1] / "setup.py"


@pytest.fixture
def load_setup(monkeypatch):
    """Load setup.py as a module under given environment variables."""

    def load(machine="x86_64", **environment):
        for name in ("DNNCORE_NATIVE", "DNNCORE_DEBUG", "DNNCORE_ANNOTATE", "CFLAGS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(platform, "machine", lambda: machine)
        monkeypatch.chdir(SETUP.parent)
        spec = importlib.util.spec_from_file_location("setup_of_dnncore", SETUP)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


class FakeCompiler:
    """Refuses flags that hold one of the given words."""

    def __init__(self, refused=(), compiler_type="unix"):
        self.refused = refused
        self.compiler_type = compiler_type

    def compile(self, sources, output_dir, extra_postargs):
        if any(word in flag for word in self.refused for flag in extra_postargs):
            raise CompileError("unknown flag")


def chosen(module, compiler):
    """Flags by extension name, with a compiler of the given habits."""
    build = module.Build(Distribution({"name": "x", "ext_modules": module.extensions()}))
    build.extensions = module.extensions()
    build.compiler = compiler
    build.choose_flags()
    return {e.name.removeprefix("dnncore."): e.extra_compile_args for e in build.extensions}


def test_levels_on_x86(load_setup, monkeypatch):
    monkeypatch.setattr(os, "name", "posix")
    assert load_setup("x86_64").tiers() == ["base", "v3", "v4"]


@pytest.mark.parametrize("machine", ["arm64", "aarch64", "ppc64le", "riscv64", "i686"])
def test_one_level_elsewhere(load_setup, machine):
    assert load_setup(machine).tiers() == ["base"]


@pytest.mark.parametrize("setting", ["DNNCORE_NATIVE", "DNNCORE_DEBUG"])
def test_one_level_in_special_builds(load_setup, setting):
    assert load_setup(**{setting: "1"}).tiers() == ["base"]


def test_each_level_has_its_flags_and_nothing_below_has_them(load_setup):
    flags = chosen(load_setup(), FakeCompiler())
    for dtype in ("f32", "f64"):
        assert "-march=x86-64-v3" in flags[f"_tiers.{dtype}_v3"]
        assert "-march=x86-64-v4" in flags[f"_tiers.{dtype}_v4"]
    for name in ("_kernels", "_engine", "_tiers.f32_base", "_tiers.f64_base"):
        assert not [flag for flag in flags[name] if "-m" in flag[:2]], name


@pytest.mark.parametrize("setting", [{}, {"DNNCORE_NATIVE": "1"}, {"DNNCORE_DEBUG": "1"}])
def test_no_flag_changes_values_or_the_floating_point_mode(load_setup, setting):
    harmful = ("fast", "unsafe", "finite-math", "associative", "reciprocal")
    for flags in chosen(load_setup(**setting), FakeCompiler()).values():
        assert not [flag for flag in flags if any(word in flag for word in harmful)]


def test_native_is_asked_for_only_when_wanted(load_setup):
    assert "-march=native" in chosen(load_setup(DNNCORE_NATIVE="1"), FakeCompiler())["_kernels"]
    assert not [f for flags in chosen(load_setup(), FakeCompiler()).values() for f in flags
                if "native" in f]  # fmt: skip


def test_older_compiler_builds_the_lower_levels(load_setup):
    flags = chosen(load_setup(), FakeCompiler(refused=["x86-64-v4"]))
    assert "_tiers.f32_v3" in flags
    assert "_tiers.f32_v4" not in flags


@pytest.mark.parametrize("setting", [{}, {"DNNCORE_NATIVE": "1"}])
def test_sums_of_products_are_contracted_alike_in_every_block(load_setup, setting):
    for name, flags in chosen(load_setup(**setting), FakeCompiler()).items():
        assert ("--param=avoid-fma-max-bits=0" in flags) == ("_tiers" in name)


def test_unknown_flags_are_left_out(load_setup):
    flags = chosen(load_setup(), FakeCompiler(refused=["--param", "math-errno"]))["_tiers.f64_v3"]
    assert "-O3" in flags
    assert not [flag for flag in flags if "param" in flag or "errno" in flag]


def test_microsoft_compiler_gets_its_own_flags(load_setup):
    flags = chosen(load_setup("arm64"), FakeCompiler(compiler_type="msvc"))
    assert {tuple(f) for f in flags.values()} == {("/O2",)}


def test_flags_of_the_environment_come_last(load_setup):
    for flags in chosen(load_setup(CFLAGS="-O1 -g"), FakeCompiler()).values():
        assert flags[-2:] == ["-O1", "-g"]


def test_bounds_are_checked_in_debug_builds_only(load_setup):
    assert load_setup(DNNCORE_DEBUG="1").DIRECTIVES["boundscheck"] is True
    assert load_setup().DIRECTIVES["boundscheck"] is False


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (
            "ctypedef long long blas_int\ncdef void sgemm(char*, blas_int*) nogil",
            "cimport blas_int",
        ),
        ("cdef void sgemm(char *transa, int *m) noexcept nogil", "ctypedef int blas_int"),
    ],
)
def test_integers_of_blas_follow_scipy(load_setup, declared, expected):
    assert expected in load_setup().blas_int_source(declared)


def test_modules_of_other_settings_are_removed(load_setup, tmp_path):
    module = load_setup()
    build = module.Build(Distribution({"name": "x", "ext_modules": module.extensions()}))
    build.extensions = [e for e in module.extensions() if not e.name.endswith("_v4")]
    build.build_info = "TIERS = ['base', 'v3']\n"
    (tmp_path / "_tiers").mkdir()
    current, old, foreign = (
        tmp_path / build.get_ext_filename("_kernels"),
        tmp_path / "_tiers" / build.get_ext_filename("f32_v4"),
        tmp_path / "_tiers" / "f32_v4.cpython-399-elsewhere.so",
    )
    for path in (current, old, foreign):
        path.touch()
    build.finish(tmp_path)
    assert current.exists()
    assert foreign.exists()  # another Python's
    assert not old.exists()
    assert (tmp_path / "_build_info.py").read_text() == "TIERS = ['base', 'v3']\n"
