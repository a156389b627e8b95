"""Names the machine that a benchmark ran on, and measures what it can do at best.

Run it alone to see the report: ``python bench/machine.py`` (``--json`` for JSON).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from peak import PeakProbe

SIMD_FLAGS = (
    "sse4_2 avx f16c fma avx2 avx_vnni avx512f avx512dq avx512bw avx512vl avx512_bf16 "
    "avx512_fp16 amx_tile asimd asimdhp sve sve2"
).split()
ENVIRONMENT_PREFIXES = ("OMP_", "OPENBLAS_", "MKL_", "GOMP_", "KMP_", "BLIS_", "XLA_", "DNNCORE_")


def pick_cpus(count: int) -> set[int] | None:
    """Return ``count`` of the CPUs we may use, one per physical core while there are enough.

    None where the system has no affinity, or when ``count`` CPUs are all or more than all.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0), reverse=True)  # CPU 0 tends to take interrupts
    if count >= len(allowed):
        return None
    first: list[int] = []
    siblings: list[int] = []
    seen: set[str] = set()
    for cpu in allowed:
        core = _read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        (siblings if core and core in seen else first).append(cpu)
        seen.add(core)
    return set((first + siblings)[:count])


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe(threads: tuple[int, ...] = (1,), seconds: float = 0.3) -> dict[str, Any]:
    """Return what a reader needs to judge the numbers, as plain JSON types."""
    probe = PeakProbe()
    return {
        "cpu": cpu_name(),
        "cpus_usable": usable_cpus(),
        "cores_physical": _physical_cores(),
        "simd": simd_flags(),
        "caches": _caches(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "compiler": _compiler(),
        "packages": package_versions("numpy", "scipy", "threadpoolctl"),
        "environment": {
            key: value
            for key, value in sorted(os.environ.items())
            if key.startswith(ENVIRONMENT_PREFIXES)
        },
        "load_average": load_average(),
        "peak_method": probe.method,
        "peak_gflops": {
            dtype: {str(t): round(probe.measure(t, dtype, seconds), 1) for t in threads}
            for dtype in ("float32", "float64")
        },
    }


def package_versions(*names: str) -> dict[str, str]:
    """Return the versions of those of the named distributions that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def load_average() -> float | None:
    """Return the one-minute load average, None where the system has none."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def cpu_name() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def simd_flags() -> list[str]:
    """Return the CPU's instruction sets that matter here, by the kernel's names for them."""
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith(("flags", "Features")):
            present = set(line.split(":", 1)[1].split())
            return [flag for flag in SIMD_FLAGS if flag in present]
    return []


def _physical_cores() -> int | None:
    folders = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list")
    cores = {_read(str(path)) for path in folders}
    return len(cores) or None


def _caches() -> dict[str, str]:
    caches = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind = _read(str(folder / "type"))
        if kind != "Instruction":
            suffix = "d" if kind == "Data" else ""
            caches[f"L{_read(str(folder / 'level'))}{suffix}"] = _read(str(folder / "size"))
    return caches


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _compiler() -> str:
    path = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if path is None:
        return "none"
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return (done.stdout.splitlines() or ["unknown"])[0]


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def main() -> None:
    parser = argparse.ArgumentParser(description="Describe this machine and measure its ceiling.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    report = describe(tuple(sorted({1, usable_cpus()})))
    if arguments.json:
        json.dump(report, sys.stdout, indent=2)
        print()
        return
    width = max(map(len, report))
    for key, value in report.items():
        if isinstance(value, list):
            value = " ".join(value)
        elif isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        print(f"{key:<{width}}  {value}")


if __name__ == "__main__":
    main()
