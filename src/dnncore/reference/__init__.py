"""The NumPy twin of every compiled kernel: what each computes, written to be read.

Nothing here is used in training. Tests compare the kernels with these functions, and readers
find in them the formula, the convention at each corner, and the paper it comes from.

Conventions: examples are rows, ``X`` is ``(batch, n_in)``, ``W`` is ``(n_in, n_out)`` and
``Z = X @ W + b``. Functions leave their arguments alone unless they say otherwise and work in
the dtype of their floating-point inputs, ``float32`` or ``float64``.

============== =====================================================================
module         what is in it
============== =====================================================================
activations    each activation beside its derivative
layers         normalisation, parametric activations, masks and noise
losses         value and gradient of each loss, from logits
optimizers     one update of one parameter array
shuffling      the counter-based shuffle, a function of (seed, stream, epoch)
sparse         products with a sparse matrix
updates        clipping, penalties, limits of norms, averages: around a step
network        linear layer, forward pass, training loop
============== =====================================================================
"""

from .activations import ACTIVATIONS, Activation, activation_backward, activation_forward
from .layers import (
    alpha_dropout,
    batch_norm,
    blend,
    dropout,
    gaussian_noise,
    layer_norm,
    noise_key,
    norm_backward,
    prelu,
    running_update,
)
from .losses import LOSSES, loss
from .network import Layer, forward, linear_backward, linear_forward, train
from .optimizers import OPTIMIZERS, optimizer_update
from .shuffling import mix64, random_words, shuffle, shuffle_key
from .sparse import sparse_forward, sparse_gradient
from .updates import average, clip_norm, clip_value, limit_columns, penalty_gradient

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "OPTIMIZERS",
    "Activation",
    "Layer",
    "activation_backward",
    "activation_forward",
    "average",
    "clip_norm",
    "clip_value",
    "forward",
    "limit_columns",
    "alpha_dropout",
    "batch_norm",
    "blend",
    "dropout",
    "forward",
    "gaussian_noise",
    "layer_norm",
    "linear_backward",
    "linear_forward",
    "loss",
    "mix64",
    "noise_key",
    "norm_backward",
    "optimizer_update",
    "penalty_gradient",
    "prelu",
    "random_words",
    "running_update",
    "shuffle",
    "shuffle_key",
    "sparse_forward",
    "sparse_gradient",
    "train",
]
