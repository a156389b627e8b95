"""Parent side of the benchmarks: contenders in processes of their own.

A `Lane` is one contender at one thread count. It starts ``worker.py`` with the environment and
the CPUs that the thread count allows, speaks its line protocol, and turns everything that can go
wrong (an exception there, a crash, silence) into `ContenderError`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from machine import pick_cpus

BENCH = Path(__file__).resolve().parent

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""Set to the thread count, before the libraries that read them are loaded."""

DROPPED_VARIABLES = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "OPENBLAS_THREAD_TIMEOUT",
    "GOMP_CPU_AFFINITY",
    "OMP_PROC_BIND",
    "OMP_WAIT_POLICY",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    "MKL_DEBUG_CPU_TYPE",
    "XLA_FLAGS",
)
"""Left-over settings that would slow one contender or another."""


class ContenderError(Exception):
    """A contender failed; ``missing`` tells that a package it needs is not installed."""

    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


def available() -> list[str]:
    """Return the names of all contenders: the modules of ``peers``, dnncore first."""
    names = sorted(path.stem for path in (BENCH / "peers").glob("[a-z]*.py"))
    return sorted(names, key=lambda name: name != "dnncore")


def child_environment(threads: int, scratch: str) -> dict[str, str]:
    """Return the environment of a contender that may use ``threads`` threads."""
    env = {key: value for key, value in os.environ.items() if key not in DROPPED_VARIABLES}
    for name in THREAD_VARIABLES:
        env[name] = str(threads)
    if threads == 1:
        env["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    env["PYTHONUNBUFFERED"] = "1"
    # An empty cache, so that the first call pays for its compilation every time.
    env["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(scratch, "inductor")
    return env


class Lane:
    """One contender at one thread count, in its own process.

    Parameters
    ----------
    name : str
        Module of ``peers``.
    threads : int
        Threads, and CPUs, that it may use.
    timeout : float
        Seconds that one request may take before the process is ended.
    verbose : bool
        Let the process write to our standard error.
    """

    def __init__(
        self, name: str, threads: int, *, timeout: float = 900.0, verbose: bool = False
    ) -> None:
        self.name, self.threads, self.timeout = name, threads, timeout
        self._scratch = tempfile.TemporaryDirectory(prefix="bench-")
        self._errors = None if verbose else open(Path(self._scratch.name) / "stderr", "w+b")  # noqa: SIM115
        self._timed_out = False
        self._process = subprocess.Popen(
            [sys.executable, str(BENCH / "worker.py"), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env=child_environment(threads, self._scratch.name),
        )
        cpus = pick_cpus(threads)
        if cpus is not None:
            # Before the first request: the worker has imported nothing that counts CPUs yet.
            os.sched_setaffinity(self._process.pid, cpus)

    def ask(self, cmd: str, **fields: Any) -> dict[str, Any]:
        """Send one request and return its answer.

        Raises
        ------
        ContenderError
            If the contender answers with an error, ends, or does not answer in time.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        timer = threading.Timer(self.timeout, self._give_up)
        timer.start()
        try:
            stdin.write(json.dumps({"cmd": cmd, **fields}) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            raise ContenderError(self._last_words(cmd))
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ContenderError(answer["error"], missing=answer.get("missing", False))
        return answer

    def _give_up(self) -> None:
        self._timed_out = True
        self._process.kill()

    def _last_words(self, cmd: str) -> str:
        if self._timed_out:
            return f"no answer to {cmd!r} within {self.timeout:g} s"
        status = self._process.wait()
        words = ""
        if self._errors is not None:
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            words = f": {lines[-1]}" if lines else ""
        return f"process ended with status {status} at {cmd!r}{words}"

    def close(self) -> None:
        """End the process and wait for it."""
        process = self._process
        if process.stdin is not None:
            try:
                process.stdin.close()
            except BrokenPipeError:
                pass
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
        if self._errors is not None:
            self._errors.close()
        self._scratch.cleanup()

    def __enter__(self) -> Lane:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
