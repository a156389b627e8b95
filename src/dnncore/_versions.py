"""``show_versions``: what to paste into a bug report."""

from __future__ import annotations

import platform
import sys

from dnncore import _build_info, _kernels
from dnncore._blas_threads import blas_info

__all__ = ["show_versions", "versions"]


def versions() -> dict[str, str]:
    """Versions, build flags, SIMD level and BLAS as text by name."""
    from importlib import metadata  # slow to import, and seldom needed

    found = {"python": sys.version.split()[0], "platform": platform.platform()}
    for package in ("dnncore", "numpy", "scipy", "threadpoolctl", "safetensors", "tqdm"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    found["cython (build)"] = _build_info.CYTHON
    found["compiler"] = f"{_build_info.COMPILER} {_build_info.FLAGS}"
    found["native build"] = str(_build_info.NATIVE)
    found["debug build"] = str(_build_info.DEBUG)
    found["simd level"] = f"{_kernels.SIMD_LEVEL} (of {', '.join(_kernels.simd_levels())})"
    found["matrix products"] = _kernels.describe_paths()
    for lib in blas_info():
        found[f"blas ({lib['prefix']})"] = (
            f"{lib['internal_api']} {lib['version']}, {lib['num_threads']} threads, "
            f"{lib.get('architecture', 'unknown')}"
        )
    found["extension"] = _kernels.__file__
    return found


def show_versions() -> None:
    """Print versions, build flags, the SIMD level in use, and BLAS with its threads."""
    found = versions()
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:<{width}}  {value}")
