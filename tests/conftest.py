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
