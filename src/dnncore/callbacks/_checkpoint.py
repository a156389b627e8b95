"""The callback that writes checkpoints."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

from dnncore._validation import check_int, check_real
from dnncore.callbacks._base import Callback

if TYPE_CHECKING:
    from dnncore.training import Run

__all__ = ["Checkpoint"]

_log = logging.getLogger("dnncore")


class Checkpoint(Callback):
    """Keeps all of training in files of a folder, so that it can go on with the same bits.

    Give ``fit(resume_from=folder)`` the same folder, the same data and the same options: in a new
    process training then goes on, after a crash, a power cut or Ctrl-C, and ends with the bits
    of training that was never stopped.

    A file is complete and on the disk before an older one is deleted. Beside the times below,
    one is written at the end and after Ctrl-C.

    Parameters
    ----------
    folder : path-like
        Made if it is missing.
    every_epochs : int or None
        Write after every so many epochs.
    every_steps : int, optional
        Write after every so many steps, also within an epoch.
    every_seconds : float, optional
        Write when the last file is older than this, also within an epoch.
    keep : int
        How many files to keep, newest first; from 2 on, damage to one leaves another.

    Raises
    ------
    TypeError, ValueError
        For settings out of range.

    Examples
    --------
    >>> keep = Checkpoint("run", every_epochs=5)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every_epochs: int | None = 1,
        every_steps: int | None = None,
        every_seconds: float | None = None,
        keep: int = 2,
    ) -> None:
        self.folder = os.fsdecode(folder)
        self.every_epochs = _optional(every_epochs, "every_epochs")
        self.save_steps = _optional(every_steps, "every_steps")
        if every_seconds is not None:
            check_real(every_seconds, "every_seconds", minimum=0.0)
        self.every_seconds = every_seconds
        self.keep = check_int(keep, "keep")
        self._saved: int | None = None
        self._time = 0.0

    def begin(self, run: Run) -> None:
        """Look at the folder before anything is trained.

        Raises
        ------
        ValueError
            If it holds checkpoints of another training.
        OSError
            If it cannot be made.
        """
        from dnncore.checkpoints import generations

        os.makedirs(self.folder, exist_ok=True)
        self._saved, self._time = None, time.perf_counter()
        resumed = run.resumed
        if resumed is not None and _same_folder(os.path.dirname(resumed), self.folder):
            self._saved = run.steps
        elif generations(self.folder):
            raise ValueError(
                f"The folder {self.folder!r} holds checkpoints of an earlier training. Go on from "
                f"them with fit(..., resume_from={self.folder!r}), or give an empty folder."
            )

    def look(self, run: Run, *, epoch_ended: bool) -> None:
        """Write a file if it is time for one."""
        steps, epochs = run.steps, run.epoch
        late = self.every_seconds
        if (
            (self.save_steps is not None and steps % self.save_steps == 0)
            or (epoch_ended and self.every_epochs is not None and epochs % self.every_epochs == 0)
            or (late is not None and time.perf_counter() - self._time >= late)
        ):
            self.save(run)

    def save(self, run: Run) -> None:
        """Write a file, unless this place has one, and delete those that are no longer kept."""
        from dnncore.checkpoints import file_name, generations, save_checkpoint

        state = run.state()
        if state is None or state["steps"] == self._saved:
            return
        number: int = state["steps"]
        path = os.path.join(self.folder, file_name(number))
        save_checkpoint(run.network, path, run=state)
        self._saved, self._time = number, time.perf_counter()
        _log.info("checkpoint %s", path)
        # What is newer than this one could not be read when training went on from an older one.
        old = [name for n, name in generations(self.folder) if n < number][: -self.keep + 1 or None]
        for name in old + [name for n, name in generations(self.folder) if n > number]:
            os.unlink(name)


def _optional(value: int | None, name: str) -> int | None:
    return None if value is None else check_int(value, name)


def _same_folder(first: str, second: str) -> bool:
    return os.path.realpath(first) == os.path.realpath(second)
