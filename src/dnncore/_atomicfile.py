"""Replace a file in one step that neither a crash nor a full disk can spoil.

The new content goes to a temporary file in the same folder, is flushed to the disk, read back
and checked, and only then renamed over the target. Whoever opens the target sees the old file
or the new one, whole. The folder is flushed last: without that a power cut can undo the rename.

A process killed outright (SIGKILL, power) can leave its temporary file behind; it starts with a
dot, ends in ``.tmp`` and is never mistaken for the target.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

__all__ = ["replace_file"]

_CHUNK = 1 << 23  # 8 MiB: small enough for Ctrl-C to act at once


def replace_file(
    path: str, parts: Sequence[bytes | memoryview], check: Callable[[str], None]
) -> None:
    """Make the concatenated ``parts`` the content of the file ``path``, or change nothing.

    Parameters
    ----------
    path : str
        The target. A symbolic link is followed, so the link stays and its target is replaced.
        An existing file keeps its permissions; a new one gets those the umask gives.
    parts : sequence of bytes or memoryview
        The content.
    check : callable
        Called with the name of the temporary file once it is on the disk; it raises if the
        content read back is wrong, and the target then stays as it was.

    Raises
    ------
    OSError
        If the file cannot be written. The old file is untouched, except when only the last
        step failed, flushing the folder: then the new file is in place, whole, but a power cut
        could still bring the old one back.
    """
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    mode = _mode_to_keep(target, path)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "The folder to save in does not exist", folder)
    # A shortened name keeps within the file system's limit whatever the target is called.
    temporary = os.path.join(folder, f".{name[:50]}.{os.getpid()}.{os.urandom(8).hex()}.tmp")
    try:
        _write_new_file(temporary, parts, mode)
        check(temporary)
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            _explain(error, path, folder, sum(len(part) for part in parts))
        raise
    _sync_folder(folder)


def _mode_to_keep(target: str, path: str) -> int | None:
    """Return the permissions of the file to be replaced, None if there is none."""
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "Cannot save to a folder; give a file name", path)
    if not stat.S_ISREG(status.st_mode):
        raise FileExistsError(errno.EEXIST, "Cannot replace what is not a regular file", path)
    # A rename needs no right to the file itself, but read-only means: do not overwrite.
    effective = os.access in os.supports_effective_ids
    if not os.access(target, os.W_OK, effective_ids=effective):
        raise PermissionError(errno.EACCES, "Cannot replace a read-only file", path)
    return stat.S_IMODE(status.st_mode) & 0o777


def _write_new_file(name: str, parts: Sequence[bytes | memoryview], mode: int | None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    for optional in ("O_CLOEXEC", "O_NOFOLLOW", "O_BINARY"):
        flags |= getattr(os, optional, 0)
    descriptor = os.open(name, flags, 0o666 if mode is None else mode)
    try:
        for part in parts:
            rest = memoryview(part)
            while rest:
                rest = rest[os.write(descriptor, rest[:_CHUNK]) :]
        if mode is not None:
            os.chmod(name, mode)  # the umask may have removed bits that the old file had
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        # fsync stops at the drive's cache there; file systems without the stronger call fall back.
        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def _sync_folder(folder: str) -> None:
    if os.name == "nt":  # no such call; the file system journals the rename itself
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot flush folders
            raise
    finally:
        os.close(descriptor)


def _explain(error: OSError, path: str, folder: str, needed: int) -> None:
    """Let the error name the caller's file, and say how much room is missing."""
    if error.errno is None:
        return
    error.filename = path
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        import shutil

        with suppress(OSError):
            free = shutil.disk_usage(folder).free
            error.strerror = f"{error.strerror} ({needed} bytes needed, {free} free)"
