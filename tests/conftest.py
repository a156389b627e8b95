"""What several test files share."""

import os
import signal
import subprocess
import sys

import hypothesis
import pytest

# A shell's background jobs, and all that they start, ignore SIGINT unless told otherwise.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile(
    "repeatable",
    derandomize=True,  # a run that fails, fails again
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def run_python():
    """Run code in a fresh interpreter; returns what it printed, and fails if it failed."""

    def run(code, *arguments, timeout=120, **environment):
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            env={**os.environ, **{name: str(value) for name, value in environment.items()}},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    return run


class _InterruptBefore:
    """Raises KeyboardInterrupt before the n-th line that Python executes in a training loop."""

    files = ("training.py", "lbfgs.py", "_quasi_newton.py", "_monitor.py", "history.py")

    def __init__(self, n):
        self.n = n

    def __call__(self, frame, event, argument):
        if not frame.f_code.co_filename.endswith(self.files):
            return None
        if event == "line":
            self.n -= 1
            if self.n == 0:
                raise KeyboardInterrupt
        return self

    def __enter__(self):
        sys.settrace(self)

    def __exit__(self, *error):
        sys.settrace(None)


@pytest.fixture(scope="session")
def interrupt_before():
    """A context in which Ctrl-C comes before the n-th line; its ``n`` is what is left of them."""
    return _InterruptBefore
