"""The compiled kernels, for use as a library: the loops that training is made of.

=================================================== ==============================================
function                                            what it computes
=================================================== ==============================================
:func:`exp` :func:`tanh` :func:`erf`                elementwise functions, at most 4 ULP off
:func:`sigmoid` :func:`softplus`
:func:`activation_forward`                          ``a = f(z)``, for every name in
                                                    :data:`ACTIVATIONS`
:func:`activation_backward`                         its derivative, applied to a gradient
:func:`matmul`                                      ``a @ b`` with transposes, bias, rectifier or
                                                    its derivative, or added to what is there
:func:`matmul_path`                                 whether that runs on BLAS
:func:`linear_forward` :func:`linear_backward`      a layer: product, bias and activation; its
                                                    three gradients
:func:`loss`                                        value and gradient from logits, for every name
                                                    in :data:`LOSSES`
:func:`optimizer_update`                            one step, for every name in :data:`OPTIMIZERS`
:func:`layer_norm` :func:`layer_norm_backward`      normalisation by row, and its gradient; also
                                                    RMS normalisation
:func:`batch_moments` :func:`batch_norm`            normalisation by column, and its gradient
:func:`batch_norm_backward`
:func:`prelu` :func:`prelu_backward` :func:`blend`  layers with a parameter a column
:func:`column_sums` :func:`column_dots`             gradients by these parameters
:func:`dropout` :func:`alpha_dropout`               masks and noise, functions of a key
:func:`gaussian_noise`
:func:`sparse_forward` :func:`sparse_gradient`      products with a CSR matrix
:func:`sum_squares` :func:`shape_gradient`          clipping and penalties of gradients
:func:`accumulate` :func:`move_towards`             sums and averages of arrays
:func:`limit_columns`                               a limit of the norm of each unit's weights
:func:`shuffle`                                     a permutation, from (seed, stream, epoch)
:func:`all_finite`                                  whether NaN and infinity are absent
:data:`SIMD_LEVEL` :func:`simd_levels`              instruction set in use; those that could be
=================================================== ==============================================

Arrays are C-contiguous, aligned, of native byte order and of one dtype, ``float32`` or
``float64``; examples are rows. Nothing is copied or converted behind your back: an array that
does not fit raises ``TypeError`` or ``ValueError``. Functions with an ``out`` argument (or
several) write there and allocate no result. An output may be one of the inputs where the
function says so, and never overlaps another array otherwise. Values are not checked: NaN and
infinity go through the arithmetic.

All functions release the GIL while they compute and may be called from many threads at once, as
long as no thread writes to an array that another one uses.

``DNNCORE_SIMD`` in the environment (``base``, ``v3`` or ``v4``) overrides the choice of the
instruction set at import. :mod:`dnncore.reference` has the same functions in plain NumPy;
``docs/cimport.md`` shows the C level.

Examples
--------
>>> import numpy as np
>>> from dnncore import kernels
>>> x = np.array([[1.0, 2.0], [3.0, 4.0]])
>>> w = np.array([[1.0, -1.0], [0.5, 0.5]])
>>> a, _ = kernels.linear_forward(x, w, np.zeros(2), "relu")
>>> a
array([[2., 0.],
       [5., 0.]])
>>> value, d_logits = kernels.loss("softmax_cross_entropy", a, np.array([0, 0]))
>>> dx, dw, db = kernels.linear_backward(d_logits, x, w, None, a, "relu")
>>> kernels.optimizer_update("sgd", w, dw, {}, step=1, lr=0.1)
"""

from __future__ import annotations

from . import _kernels
from ._kernels import (
    SIMD_LEVEL,
    accumulate,
    activation_backward,
    activation_forward,
    all_finite,
    alpha_dropout,
    batch_moments,
    batch_norm,
    batch_norm_backward,
    blend,
    column_dots,
    column_sums,
    dropout,
    erf,
    exp,
    gaussian_noise,
    layer_norm,
    layer_norm_backward,
    limit_columns,
    loss,
    move_towards,
    optimizer_update,
    prelu,
    prelu_backward,
    shape_gradient,
    shuffle,
    sigmoid,
    simd_levels,
    softplus,
    sparse_forward,
    sparse_gradient,
    sum_squares,
    tanh,
)
from ._kernels import dense_backward as linear_backward
from ._kernels import dense_forward as linear_forward
from ._kernels import product as matmul
from ._kernels import product_path as matmul_path

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "OPTIMIZERS",
    "SIMD_LEVEL",
    "accumulate",
    "activation_backward",
    "activation_forward",
    "all_finite",
    "alpha_dropout",
    "batch_moments",
    "batch_norm",
    "batch_norm_backward",
    "blend",
    "column_dots",
    "column_sums",
    "dropout",
    "erf",
    "exp",
    "gaussian_noise",
    "layer_norm",
    "layer_norm_backward",
    "limit_columns",
    "linear_backward",
    "linear_forward",
    "loss",
    "matmul",
    "matmul_path",
    "move_towards",
    "optimizer_update",
    "prelu",
    "prelu_backward",
    "shape_gradient",
    "shuffle",
    "sigmoid",
    "simd_levels",
    "softplus",
    "sparse_forward",
    "sparse_gradient",
    "sum_squares",
    "tanh",
]

ACTIVATIONS: tuple[str, ...] = tuple(_kernels.ACTIVATIONS)
"""Names of the activations."""

LOSSES: tuple[str, ...] = tuple(_kernels.LOSSES)
"""Names of the losses."""

OPTIMIZERS: dict[str, tuple[str, ...]] = {
    name: moments for name, (_, moments) in _kernels.OPTIMIZERS.items()
}
"""Names of the optimizers, with the arrays that each keeps between updates."""

for _name in __all__:
    _member = globals()[_name]
    if callable(_member):  # seen, documented and pickled under its public name
        _member.__module__, _member.__name__, _member.__qualname__ = __name__, _name, _name
