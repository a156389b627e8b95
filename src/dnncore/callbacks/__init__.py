"""Callbacks: your code, or one of these, at the start and end of training, epochs and steps.

=====================  ====================================================================
``Callback``           base of all: override the hooks you need
``LambdaCallback``     hooks from functions
``EarlyStopping``      ends training that no longer gets better, and restores the best epoch
``ReduceLROnPlateau``  lowers the learning rate when nothing gets better
``TimeLimit``          ends training after some time
``ModelCheckpoint``    keeps the best model in a file
``Checkpoint``         keeps all of training in files, to go on with the same bits
``LayerStatistics``    dead units, saturation, gradients, by layer and in words
``CSVLogger``          a line an epoch in a CSV file
``TensorBoard``        curves for TensorBoard
``ProgressBar``        a tqdm bar
=====================  ====================================================================
"""

from __future__ import annotations

from dnncore.callbacks._base import Callback, LambdaCallback, as_callbacks
from dnncore.callbacks._checkpoint import Checkpoint
from dnncore.callbacks._logs import CSVLogger, TensorBoard
from dnncore.callbacks._monitor import EarlyStopping, ModelCheckpoint, ReduceLROnPlateau
from dnncore.callbacks._names import check_monitors
from dnncore.callbacks._progress import ProgressBar, TimeLimit, somebody_watches
from dnncore.callbacks._statistics import LayerStatistics

__all__ = [
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "LambdaCallback",
    "LayerStatistics",
    "ModelCheckpoint",
    "ProgressBar",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TimeLimit",
    "as_callbacks",
    "check_monitors",
    "somebody_watches",
]
