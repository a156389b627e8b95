"""Build of the compiled modules; everything else is in pyproject.toml.

Environment:
  DNNCORE_NATIVE=1  tune for the building machine (-march=native); the result may not run elsewhere
  DNNCORE_DEBUG=1   bounds, overflow and None checks in Cython code, no optimisation
CFLAGS and LDFLAGS are appended to the flags chosen here.
"""

from __future__ import annotations

import os
import platform
import tempfile
from pathlib import Path

import scipy
from Cython.Build import cythonize
from Cython.Compiler.Version import version as cython_version
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

PACKAGE = Path("src/dnncore")
NATIVE = os.environ.get("DNNCORE_NATIVE", "0") == "1"
DEBUG = os.environ.get("DNNCORE_DEBUG", "0") == "1"
X86 = platform.machine().lower() in ("x86_64", "amd64", "i686")

# Tried one by one on a small file; those that the compiler does not know are left out.
# None of them changes a computed value, and -ffast-math must never be among them: linking with
# it changes the floating-point mode of the whole process.
BASE_FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]
TIER_FLAGS = {
    "base": [],
    "v3": ["-march=x86-64-v3"],
    "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}
# The tiers unroll register blocks of up to 12 x 2 accumulators completely.
UNROLL_FLAGS = ["--param=max-completely-peeled-insns=400"]


def tiers() -> list[str]:
    """Instruction-set levels to build: the x86-64 ones where they apply."""
    return ["base", "v3", "v4"] if X86 and os.name == "posix" and not DEBUG else ["base"]


def write_blas_int() -> None:
    """SciPy 1.18 names the integer type of its BLAS; before that it is always int."""
    declared = Path(scipy.__file__).parent / "linalg" / "cython_blas.pxd"
    known = "blas_int" in declared.read_text(encoding="utf-8")
    text = (
        "from scipy.linalg.cython_blas cimport blas_int\n" if known else "ctypedef int blas_int\n"
    )
    target = PACKAGE / "_blas_int.pxi"
    if not target.exists() or target.read_text() != text:
        target.write_text(text)


def extensions() -> list[Extension]:
    headers = [str(p) for p in PACKAGE.glob("**/*.[hp]x[di]")] + [
        str(p) for p in PACKAGE.glob("**/*.h")
    ]
    result = [
        Extension(f"dnncore.{name}", [str(PACKAGE / f"{name}.pyx")], depends=headers)
        for name in ("_kernels", "_engine")
        if (PACKAGE / f"{name}.pyx").exists()
    ]
    for tier in tiers():
        for dtype in ("f32", "f64"):
            macros = [("DNN_FLOAT64", "1")] if dtype == "f64" else []
            source = str(PACKAGE / "_tiers" / f"{dtype}_{tier}.pyx")
            name = f"dnncore._tiers.{dtype}_{tier}"
            result.append(Extension(name, [source], depends=headers, define_macros=macros))
    return result


class Build(build_ext):
    """build_ext that asks the compiler which flags it takes."""

    def accepts(self, flags: list[str]) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "probe.c"
            source.write_text("int probe(int x) { return x; }\n")
            try:
                self.compiler.compile([str(source)], folder, extra_postargs=["-Werror", *flags])
            except CompileError:
                return False
        return True

    def build_extensions(self) -> None:
        if self.compiler.compiler_type == "msvc":
            common, unroll, levels = ["/O2"], [], {"base": []}
        else:
            common = [f for f in BASE_FLAGS if self.accepts([f])]
            unroll = [f for f in UNROLL_FLAGS if self.accepts([f])]
            levels = {tier: TIER_FLAGS[tier] for tier in tiers()}
            if NATIVE and self.accepts(["-march=native"]):
                common.append("-march=native")
                levels["base"] = ["-mprefer-vector-width=512"] if X86 else []
            if DEBUG:
                common = ["-O0", "-g"]
        own = os.environ.get("CFLAGS", "").split()
        kept = []
        for extension in self.extensions:
            _, _, tier = extension.name.partition("_tiers.")
            flags = list(common)
            if tier:
                level = tier.split("_")[1]
                if level not in levels or not self.accepts(levels[level]):
                    continue  # an older compiler: the library runs on the lower tiers
                flags += levels[level] + unroll
            extension.extra_compile_args = flags + own
            kept.append(extension)
        self.extensions = kept
        self.flags = common + own
        super().build_extensions()

    def run(self) -> None:
        super().run()
        self.write_build_info(PACKAGE if self.inplace else Path(self.build_lib) / "dnncore")

    def write_build_info(self, folder: Path) -> None:
        command = getattr(self.compiler, "compiler", [self.compiler.compiler_type])
        built = sorted({e.name.rsplit("_", 1)[1] for e in self.extensions if "_tiers" in e.name})
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "_build_info.py").write_text(
            '"""How the compiled modules were built; written by setup.py."""\n\n'
            f"CYTHON = {cython_version!r}\n"
            f"SCIPY = {scipy.__version__!r}\n"
            f"COMPILER = {' '.join(command[:1])!r}\n"
            f"FLAGS = {' '.join(self.flags)!r}\n"
            f"TIERS = {built!r}\n"
            f"NATIVE = {NATIVE!r}\n"
            f"DEBUG = {DEBUG!r}\n"
        )


write_blas_int()
setup(
    ext_modules=cythonize(
        extensions(),
        nthreads=0,
        annotate=os.environ.get("DNNCORE_ANNOTATE", "0") == "1",
        include_path=["src", str(PACKAGE / "_tiers")],
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "nonecheck": DEBUG,
            "overflowcheck": False,
            "cdivision": True,
            "embedsignature": True,
        },
    ),
    cmdclass={"build_ext": Build},
)
