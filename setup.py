"""Build of the compiled modules; everything else is in pyproject.toml.

Environment:
  DNNCORE_NATIVE=1    tune for the building machine (-march=native): may not run on another
  DNNCORE_DEBUG=1     bounds, initialisation and None checks in Cython code
  DNNCORE_ANNOTATE=1  Cython's HTML: which lines became plain C, and which call Python
CFLAGS and LDFLAGS are appended to the flags chosen here.
"""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from pathlib import Path

import scipy
from Cython.Build import cythonize
from Cython.Compiler.Version import version as cython_version
from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

PACKAGE = Path("src/dnncore")
NATIVE = os.environ.get("DNNCORE_NATIVE", "0") == "1"
DEBUG = os.environ.get("DNNCORE_DEBUG", "0") == "1"
ANNOTATE = os.environ.get("DNNCORE_ANNOTATE", "0") == "1"

# Tried one by one on a small file; those that the compiler does not know are left out.
# None of them changes a computed value, and -ffast-math must never be among them: linking with
# it changes the floating-point mode of the whole process.
BASE_FLAGS = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]
TIER_FLAGS = {
    "base": [],
    "v3": ["-march=x86-64-v3"],
    "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}
NATIVE_FLAGS = ["-march=native", "-mprefer-vector-width=512"]
LOOP_FLAGS = [
    # The tiers unroll register blocks of up to 12 x 2 accumulators completely.
    "--param=max-completely-peeled-insns=400",
    # Newer gcc, tuned for AVX2, makes FMAs of some sums of products and not of others, as the
    # shape of a block has it: an element would have other bits in another block.
    "--param=avoid-fma-max-bits=0",
]
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "nonecheck": DEBUG,
    "cdivision": True,
    "embedsignature": False,
}


def tiers() -> list[str]:
    """Instruction-set levels to build: the x86-64 ones where they apply."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    if x86 and os.name == "posix" and not NATIVE and not DEBUG:
        return ["base", "v3", "v4"]
    return ["base"]


def blas_int_source(cython_blas: str) -> str:
    """SciPy 1.18 names the integer type of its BLAS; before that it is always int."""
    if "blas_int" in cython_blas:
        return "from scipy.linalg.cython_blas cimport blas_int\n"
    return "ctypedef int blas_int\n"


def write_blas_int() -> None:
    declared = Path(scipy.__file__).parent / "linalg" / "cython_blas.pxd"
    text = blas_int_source(declared.read_text(encoding="utf-8"))
    target = PACKAGE / "_blas_int.pxi"
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")


def extensions() -> list[Extension]:
    # Cython follows .pxd and .pxi by itself, but not headers that headers include.
    depends = sorted(str(p) for p in PACKAGE.glob("**/*.h"))
    folders = [str(PACKAGE), str(PACKAGE / "_tiers")]
    result = [
        Extension(
            f"dnncore.{name}", [str(PACKAGE / f"{name}.pyx")], depends=depends, include_dirs=folders
        )
        for name in ("_kernels", "_engine")
    ]
    for tier in tiers():
        for dtype in ("f32", "f64"):
            result.append(
                Extension(
                    f"dnncore._tiers.{dtype}_{tier}",
                    [str(PACKAGE / "_tiers" / f"{dtype}_{tier}.pyx")],
                    depends=depends,
                    include_dirs=folders,
                    define_macros=[("DNN_FLOAT64", "1")] if dtype == "f64" else [],
                )
            )
    return result


class Build(build_ext):
    """build_ext that asks the compiler which flags it takes, and notices changed settings."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count()
        if self.editable_mode:  # builds in temporary folders; the next build should find its work
            usual = build(self.distribution)
            usual.finalize_options()
            self.build_lib, self.build_temp = usual.build_lib, usual.build_temp

    def accepts(self, flags: list[str]) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "probe.c"
            source.write_text("int probe(int x) { return x; }\n", encoding="utf-8")
            try:
                self.compiler.compile([str(source)], folder, extra_postargs=["-Werror", *flags])
            except CompileError:
                return False
        return True

    def choose_flags(self) -> list[str]:
        """Set the flags of every extension, drop tiers the compiler cannot build."""
        own = os.environ.get("CFLAGS", "").split()
        msvc = self.compiler.compiler_type == "msvc"
        if msvc:
            common, loops = ["/O2"], []
        elif DEBUG:
            common, loops = ["-O1", "-g"], []
        else:
            common = [f for f in BASE_FLAGS if self.accepts([f])]
            common += [f for f in NATIVE_FLAGS if NATIVE and self.accepts([f])]
            loops = [f for f in LOOP_FLAGS if self.accepts([f])]
        kept = []
        for extension in self.extensions:
            flags = list(common)
            if "._tiers." in extension.name:
                level = TIER_FLAGS[extension.name.rsplit("_", 1)[1]]
                if level and not self.accepts(level):
                    continue  # an older compiler: the library runs on the lower tiers
                flags += level + loops
            extension.extra_compile_args = flags + own
            kept.append(extension)
        self.extensions = kept
        return common + own

    def compiler_name(self) -> str:
        command = getattr(self.compiler, "compiler", None)
        if not command:
            return self.compiler.compiler_type
        caches = len(command) > 1 and Path(command[0]).stem in ("ccache", "sccache")
        name = command[caches]
        try:
            said = subprocess.run([name, "--version"], capture_output=True, text=True)
        except OSError:
            return name
        return (said.stdout.splitlines() or [name])[0]

    def build_extensions(self) -> None:
        flags = self.choose_flags()
        self.build_info = (
            '"""How the compiled modules were built; written by setup.py."""\n\n'
            f"CYTHON = {cython_version!r}\n"
            f"SCIPY = {scipy.__version__!r}\n"
            f"COMPILER = {self.compiler_name()!r}\n"
            f"FLAGS = {' '.join(flags)!r}\n"
            f"TIERS = {sorted({e.name.rsplit('_', 1)[1] for e in self.extensions[2:]})!r}\n"
            f"NATIVE = {NATIVE!r}\n"
            f"DEBUG = {DEBUG!r}\n"
        )
        # File times say nothing about flags: other settings than last time build everything anew.
        last = Path(self.build_temp) / "build_info.txt"
        settings = self.build_info + "".join(
            f"# {e.name}: {' '.join(e.extra_compile_args)}\n" for e in self.extensions
        )
        if not last.exists() or last.read_text(encoding="utf-8") != settings:
            self.force = True
        # Cython writes C per version and directives, away from the sources.
        folder = f"build/cython-{cython_version}{'-debug' if DEBUG else ''}"
        generated = cythonize(
            self.extensions,
            build_dir=folder,
            annotate=ANNOTATE,
            force=ANNOTATE,
            include_path=["src", str(PACKAGE / "_tiers")],
            compiler_directives=DIRECTIVES,
        )
        sources = {extension.name: extension.sources for extension in generated}
        for extension in self.extensions:
            extension.sources = sources[extension.name]
        super().build_extensions()
        last.parent.mkdir(parents=True, exist_ok=True)
        last.write_text(settings, encoding="utf-8")

    def run(self) -> None:
        write_blas_int()
        super().run()
        self.finish(Path(self.build_lib) / "dnncore")
        if self.inplace:
            self.finish(PACKAGE)

    def finish(self, folder: Path) -> None:
        """Write how it was built, and remove the modules that other settings left behind."""
        (folder / "_build_info.py").write_text(self.build_info, encoding="utf-8")
        current = {Path(self.get_ext_filename(e.name)).name for e in self.extensions}
        ending = self.get_ext_filename("x")[1:]
        for module in folder.glob(f"**/*{ending}"):
            if module.name not in current:
                module.unlink()


if __name__ == "__main__":
    setup(ext_modules=extensions(), cmdclass={"build_ext": Build})
