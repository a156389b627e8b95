"""Replacing a file: whatever fails, and whenever, the target is the old file or the new one."""

import contextlib
import errno
import os
import re
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from dnncore import _atomicfile
from dnncore._safefile import read_tensors, write_tensors

OLD, NEW = np.zeros(1000), np.ones(1000)
CALLS = ("open", "write", "chmod", "fsync", "close", "replace")


def save(path, array):
    write_tensors(path, {"a": array}, {})


def content(path):
    return None if not path.exists() else read_tensors(path)[0]["a"][0]


@pytest.fixture
def path(tmp_path):
    save(tmp_path / "model", OLD)
    return tmp_path / "model"


class Faults:
    """Let the k-th of the system calls that saving makes fail, all others succeed."""

    def __init__(self, monkeypatch, k, error):
        self.k, self.error = k, error
        self.seen = []
        monkeypatch.setattr(_atomicfile, "_CHUNK", 3000)  # several writes
        for name in CALLS:
            monkeypatch.setattr(os, name, self.wrap(name, getattr(os, name)))

    def wrap(self, name, call):
        def wrapped(*arguments, **options):
            self.seen.append(name)
            if len(self.seen) == self.k:
                if name == "close":  # a close that fails closes all the same
                    call(*arguments)
                raise self.error
            return call(*arguments, **options)

        return wrapped


ERRORS = [
    lambda: OSError(errno.EIO, "Input/output error"),
    lambda: OSError(errno.ENOSPC, "No space left on device"),
    KeyboardInterrupt,
    MemoryError,
    SystemExit,
]


@pytest.mark.parametrize("make_error", ERRORS)
@pytest.mark.parametrize("exists", [True, False])
def test_failure_at_every_system_call(path, monkeypatch, make_error, exists):
    before = 0.0 if exists else None
    for k in range(1, 100):
        if not exists:
            path.unlink(missing_ok=True)
        else:
            save(path, OLD)
        with monkeypatch.context() as patch:
            faults = Faults(patch, k, make_error())
            try:
                save(path, NEW)
            except BaseException as error:  # noqa: B036
                if len(faults.seen) < k:
                    raise
                assert type(error) is type(faults.error)
            else:
                assert len(faults.seen) < k, f"the failure of call {k} went unnoticed"
        after_replace = "replace" in faults.seen[: k - 1]
        assert content(path) == (1.0 if after_replace else before)
        assert os.listdir(path.parent) == ([path.name] if path.exists() else [])
        if len(faults.seen) < k:
            break
    assert faults.seen.count("write") == 4 and faults.seen.count("fsync") == 2
    assert faults.seen[-3:] == ["open", "fsync", "close"]  # the folder comes last


KILL = """
import os, signal, sys
import numpy as np
from dnncore import _atomicfile
from dnncore._safefile import read_tensors, write_tensors

_atomicfile._CHUNK = 3000
path = sys.argv[1]
for k in range(1, 100):
    write_tensors(path, {"a": np.zeros(1000)}, {})
    child = os.fork()
    if child == 0:
        count = 0
        def wrap(call):
            def wrapped(*arguments, **options):
                global count
                count += 1
                if count == k:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments, **options)
            return wrapped
        for name in ("open", "write", "chmod", "fsync", "close", "replace", "unlink"):
            setattr(os, name, wrap(getattr(os, name)))
        write_tensors(path, {"a": np.ones(1000)}, {})
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    print(status, read_tensors(path)[0]["a"].mean())
    if status == 0:
        break
"""


def test_killed_at_every_system_call(path):
    result = subprocess.run(
        [sys.executable, "-c", KILL, path],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    lines = result.stdout.split("\n")[:-1]
    killed = [line for line in lines if line.startswith("9 ")]
    assert len(killed) == len(lines) - 1 >= 12  # all but the last run, which completes
    assert [line.split()[1] for line in lines] == sorted(line.split()[1] for line in lines)
    assert lines[0] == "9 0.0" and lines[-1] == "0 1.0"
    # The strays of killed processes can be told apart and do not stand in the way.
    strays = [name for name in os.listdir(path.parent) if name != path.name]
    assert strays and all(re.fullmatch(r"\.model\.\d+\.[0-9a-f]{16}\.tmp", s) for s in strays)


def test_short_writes_are_completed(path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:501]))
    save(path, NEW)
    assert content(path) == 1.0


def test_full_disk_is_explained(path, monkeypatch):
    Faults(monkeypatch, 2, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match=r"No space left.*\d+ bytes needed, \d+ free\): '.*model'"):
        save(path, NEW)


@pytest.mark.parametrize("damage", ["flip", "drop"])
def test_bytes_that_do_not_arrive_are_noticed(path, monkeypatch, damage):
    write = os.write

    def faulty(descriptor, data):
        data = bytes(data)
        if damage == "drop":
            return write(descriptor, data[:-1]) + 1
        return write(descriptor, data[:-1] + bytes([data[-1] ^ 1]))

    monkeypatch.setattr(os, "write", faulty)
    with pytest.raises(OSError, match="does not read back.*nothing was saved"):
        save(path, NEW)
    assert content(path) == 0.0 and os.listdir(path.parent) == ["model"]


def test_wrong_arrays_from_the_package_are_noticed(path, monkeypatch):
    package_save = safetensors.numpy.save
    monkeypatch.setattr(
        safetensors.numpy, "save", lambda arrays, text: package_save({"a": arrays["a"] + 1}, text)
    )
    with pytest.raises(OSError, match="its arrays differ from those given"):
        save(path, NEW)
    assert content(path) == 0.0 and os.listdir(path.parent) == ["model"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_permissions_of_the_old_file_are_kept(path, mode):
    path.chmod(mode)
    save(path, NEW)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_permissions_of_a_new_file_follow_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        save(tmp_path / "new", NEW)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == mode


def test_private_content_is_never_visible_to_others(path, monkeypatch):
    path.chmod(0o600)
    modes = []
    write = os.write

    def spy(descriptor, data):
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", spy)
    save(path, NEW)
    assert modes and all(mode & 0o077 == 0 for mode in modes)


def test_link_stays_and_its_target_is_replaced(path):
    link = path.parent / "link"
    link.symlink_to(path.name)
    save(link, NEW)
    assert link.is_symlink() and content(path) == 1.0


def test_targets_that_cannot_be_replaced(path):
    folder = path.parent
    os.mkfifo(folder / "pipe")
    (folder / "sub").mkdir()
    (folder / "loop").symlink_to("loop")
    before = sorted(os.listdir(folder))
    with pytest.raises(FileExistsError, match="not a regular file: '.*pipe'"):
        save(folder / "pipe", NEW)
    with pytest.raises(IsADirectoryError, match="give a file name: '.*sub'"):
        save(folder / "sub", NEW)
    with pytest.raises(FileNotFoundError, match="folder to save in does not exist: '.*absent'"):
        save(folder / "absent" / "model", NEW)
    with pytest.raises(OSError, match="symbolic links"):
        save(folder / "loop", NEW)
    with pytest.raises(NotADirectoryError):
        save(path / "model", NEW)
    for name in ("a\0b", "\ud800"):
        with pytest.raises((ValueError, OSError)):
            save(name, NEW)
    assert sorted(os.listdir(folder)) == before and content(path) == 0.0


def test_longest_file_name(tmp_path):
    for name in ("x" * 255, "é" * 127):
        save(tmp_path / name, NEW)
        assert content(tmp_path / name) == 1.0


@contextlib.contextmanager
def unprivileged_folder():
    """Give a folder and, if the tests run as superuser, drop the right to ignore permissions."""
    privileged = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(folder / "model", OLD)
        folder.chmod(0o777)
        if privileged:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if privileged:
                os.seteuid(0)
            folder.chmod(0o700)


def test_read_only_file_is_not_replaced():
    with unprivileged_folder() as folder:
        if os.stat(folder / "model").st_uid == os.geteuid():
            (folder / "model").chmod(0o444)
        with pytest.raises(PermissionError, match="read-only file: '.*model'"):
            save(folder / "model", NEW)
        assert content(folder / "model") == 0.0


def test_folder_without_permission_names_the_target():
    with unprivileged_folder() as folder:
        if os.stat(folder).st_uid == os.geteuid():
            folder.chmod(0o555)
        else:
            os.seteuid(0)
            folder.chmod(0o755)
            os.seteuid(65534)
        with pytest.raises(PermissionError, match="'.*new'$"):
            save(folder / "new", NEW)


def test_many_writers_and_readers(path):
    errors, done = [], threading.Event()

    def write(value):
        try:
            for _ in range(10):
                save(path, np.full(5000, value))
        except BaseException as error:  # noqa: B036
            errors.append(error)

    def read():
        while not done.is_set():
            try:
                assert np.ptp(read_tensors(path)[0]["a"]) == 0
            except BaseException as error:  # noqa: B036
                errors.append(error)
                return

    writers = [threading.Thread(target=write, args=(float(i),)) for i in range(3)]
    reader = threading.Thread(target=read)
    for thread in [*writers, reader]:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert errors == [] and os.listdir(path.parent) == ["model"]
