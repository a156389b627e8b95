"""Callbacks that write down an epoch's numbers for other programs."""

from __future__ import annotations

import csv
import importlib
import io
import os
import time
from typing import TYPE_CHECKING, Any, TextIO

from dnncore.callbacks._base import Callback

if TYPE_CHECKING:
    from dnncore.network import Network

__all__ = ["CSVLogger", "TensorBoard"]


class CSVLogger(Callback):
    """Writes a line an epoch into a CSV file: the epoch's number from 1, then its numbers.

    The columns are those of the first epoch. Each line is in the file when its epoch ends.
    Training that goes on from a checkpoint goes on with the file; lines of epochs that are
    trained again are cut off.

    Parameters
    ----------
    path : path-like
        The file; an existing one is overwritten.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._file: TextIO | None = None
        self._names: list[str] | None = None
        self._length = 0

    def on_train_begin(self, network: Network, epochs: int) -> None:
        """Forget an earlier training."""
        self._file, self._names, self._length = None, None, 0

    def on_epoch_end(self, network: Network, epoch: int, logs: dict[str, float]) -> None:
        """Write a line."""
        line = io.StringIO()
        writer = csv.writer(line, lineterminator="\n")
        if self._names is None:
            self._names = list(logs)
            writer.writerow(["epoch", *self._names])
        writer.writerow([epoch + 1, *(repr(logs.get(name, "")) for name in self._names)])
        if self._file is None:
            self._file = open(
                self.path, "r+" if self._length else "w", encoding="utf-8", newline=""
            )
            self._file.truncate(self._length)
            self._file.seek(0, io.SEEK_END)
        self._file.write(line.getvalue())
        self._file.flush()
        self._length = self._file.tell()

    def on_train_end(self, network: Network) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def get_state(self) -> dict[str, Any]:
        """Keep columns and length of the file."""
        return {"names": self._names, "length": self._length}

    def set_state(self, network: Network, state: dict[str, Any]) -> None:
        """Go on with the file."""
        self._names, self._length = state["names"], state["length"]


class TensorBoard(Callback):
    """Writes each epoch's numbers for TensorBoard, which must be installed.

    Parameters
    ----------
    folder : path-like
        Where ``tensorboard --logdir`` looks; a new file is started there.

    Raises
    ------
    ImportError
        When training begins, if TensorBoard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = os.fspath(folder)
        self._writer: Any = None

    def on_train_begin(self, network: Network, epochs: int) -> None:
        """Open the file."""
        try:
            module = importlib.import_module("tensorboard.summary.writer.event_file_writer")
        except ImportError as error:
            raise ImportError(
                "TensorBoard needs the package of that name: pip install tensorboard."
            ) from error
        os.makedirs(self.folder, exist_ok=True)
        self._writer = module.EventFileWriter(self.folder)

    def on_epoch_end(self, network: Network, epoch: int, logs: dict[str, float]) -> None:
        """Write the numbers."""
        event_pb2 = importlib.import_module("tensorboard.compat.proto.event_pb2")
        summary_pb2 = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        values = [summary_pb2.Summary.Value(tag=k, simple_value=v) for k, v in logs.items()]
        summary = summary_pb2.Summary(value=values)
        event = event_pb2.Event(wall_time=time.time(), step=epoch + 1, summary=summary)
        self._writer.add_event(event)
        self._writer.flush()

    def on_train_end(self, network: Network) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
