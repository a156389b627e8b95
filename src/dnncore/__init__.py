"""Compiled training of fully connected deep networks on CPUs.

>>> import dnncore as dnn
>>> net = dnn.Network(64, [dnn.Dense(100, "relu"), dnn.Dense(10)],
...                   loss="softmax_cross_entropy")

=====================  ====================================================================
``network``            ``Network``: fit, predict, evaluate; forward, backward, step
``layers``             ``Dense``, normalisation, noise, residual blocks, activations
``losses``             losses by name, ``Huber``
``optimizers``         ``Adam``, ``AdamW``, ``SGD``, ``Lion`` and others
``schedules``          learning rates and other numbers that change from step to step
``initializers``       distributions of initial weights
``many``               ``fit_many``: ensembles, folds, sweeps, one network per thread
``callbacks``          ``EarlyStopping``, ``Checkpoint`` and others; ``Callback`` for yours
``metrics``            metrics by name
``history``            ``History``: lists, a data frame, a plot
``plotting``           curves, confusion, decision boundaries, weights
``checkpoints``        all of training in a file, to go on with the same bits
``preprocessing``      scaling, one-hot, splits, mini-batches
``datasets``           digits, IDX (MNIST), CSV, Parquet, NPZ; generated sets
``functional``         the L-layer network step by step, examples as columns
``sklearn``            scikit-learn's ``MLPClassifier`` and ``MLPRegressor``, on this engine
``kernels``            the compiled kernels as functions on arrays
``reference``          the same in NumPy: the executable specification
``gradcheck``          gradients against finite differences
=====================  ====================================================================
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# Before the compiled modules ask for it: from within them the same import takes 70 ms longer.
from scipy.linalg import cython_blas as _cython_blas  # noqa: F401

from dnncore._versions import show_versions
from dnncore.averaging import EMA, SWA
from dnncore.callbacks import (
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LayerStatistics,
    ModelCheckpoint,
    ProgressBar,
    ReduceLROnPlateau,
    TensorBoard,
    TimeLimit,
)
from dnncore.checkpoints import load_checkpoint, save_checkpoint
from dnncore.exceptions import DivergenceError, ModelFormatError, NotFittedError
from dnncore.history import History
from dnncore.layers import (
    Activation,
    AlphaDropout,
    BatchNorm,
    Blend,
    Dense,
    Dropout,
    GaussianNoise,
    Layer,
    LayerNorm,
    PReLU,
    Residual,
    RMSNorm,
)
from dnncore.lbfgs import LBFGS
from dnncore.learning_rate import find_learning_rate
from dnncore.losses import Huber, Loss
from dnncore.many import fit_many
from dnncore.metrics import Metric
from dnncore.network import Network
from dnncore.optimizers import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AdamW,
    Lion,
    Nadam,
    Optimizer,
    RAdam,
    RMSprop,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

__version__ = "0.1.0"

__all__ = [
    "Activation",
    "EMA",
    "LBFGS",
    "SWA",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "AlphaDropout",
    "BatchNorm",
    "Blend",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "Dense",
    "DivergenceError",
    "Dropout",
    "EarlyStopping",
    "GaussianNoise",
    "History",
    "Huber",
    "LambdaCallback",
    "Layer",
    "LayerNorm",
    "LayerStatistics",
    "Lion",
    "Loss",
    "Metric",
    "ModelCheckpoint",
    "ModelFormatError",
    "Nadam",
    "Network",
    "NotFittedError",
    "Optimizer",
    "PReLU",
    "ProgressBar",
    "RAdam",
    "RMSNorm",
    "RMSprop",
    "ReduceLROnPlateau",
    "Residual",
    "SGD",
    "TensorBoard",
    "TimeLimit",
    "__version__",
    "find_learning_rate",
    "fit_many",
    "load",
    "load_checkpoint",
    "save_checkpoint",
    "show_versions",
]

_ON_DEMAND = (
    "datasets", "functional", "gradcheck", "kernels", "plotting", "preprocessing", "reference",
    "schedules", "sklearn",
)  # fmt: skip


def load(path: str | os.PathLike[str], *, loss: Callable[..., Any] | None = None) -> Network:
    """Read a network from a file that ``Network.save`` wrote.

    Parameters
    ----------
    path : path-like
        The file.
    loss : callable, optional
        The function of a network whose loss is one of your own; files hold no code.

    Returns
    -------
    Network
        Ready to predict, and to train on.

    Raises
    ------
    ModelFormatError
        If the file is damaged, truncated, too large or something else; no code is ever run.
    OSError
        If it cannot be read.
    ValueError
        If a function is given for a network with another loss.
    """
    from dnncore.serialization import load_network

    net = load_network(path)[0]
    if loss is not None:
        net._take_loss(loss)
    return net


def __getattr__(name: str) -> Any:
    # Doors that not everyone opens are imported when first used: `import dnncore` stays quick.
    if name in _ON_DEMAND:
        return importlib.import_module(f"dnncore.{name}")
    raise AttributeError(f"module 'dnncore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_ON_DEMAND])
