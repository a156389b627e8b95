"""Compiled kernels: activations, fused linear layers, losses, optimizers.

The loops themselves live in ``_tiers/`` (typed Cython, built once per element type and
instruction set). This module picks the build that the processor can run, decides for each
matrix product between those loops and BLAS, and offers both a C level (``_kernels.pxd``) and
the Python functions that ``dnncore.kernels`` re-exports.

The C level is unchecked: callers validate. The Python functions check dtype, shape, order,
alignment and writability, and never copy.
"""

import importlib
import os

import numpy as np

cimport cython
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from dnncore._blas cimport blas_can, gemm
from dnncore._table cimport (
    ACT_ELU,
    ACT_GELU,
    ACT_GELU_TANH,
    ACT_HARD_SWISH,
    ACT_HARDTANH,
    ACT_IDENTITY,
    ACT_LEAKY_RELU,
    ACT_MISH,
    ACT_RELU,
    ACT_SELU,
    ACT_SIGMOID,
    ACT_SILU,
    ACT_SOFTMAX,
    ACT_SOFTPLUS,
    ACT_SOFTSIGN,
    ACT_TANH,
    EPI_GATE,
    EPI_NONE,
    EPI_RELU,
    LOSS_BINARY_CLIPPED,
    LOSS_BINARY_CROSS_ENTROPY,
    LOSS_BINARY_FOCAL,
    LOSS_GAMMA,
    LOSS_HINGE,
    LOSS_HUBER,
    LOSS_LOG_COSH,
    LOSS_MAE,
    LOSS_MSE,
    LOSS_POISSON,
    LOSS_QUANTILE,
    LOSS_SOFTMAX_CLIPPED,
    LOSS_SOFTMAX_CROSS_ENTROPY,
    LOSS_SOFTMAX_FOCAL,
    LOSS_SQUARED_HINGE,
    LOSS_TWEEDIE,
    MATH_ERF,
    MATH_EXP,
    MATH_SIGMOID,
    MATH_SOFTPLUS,
    MATH_TANH,
    OPT_ADADELTA,
    OPT_ADAGRAD,
    OPT_ADAM,
    OPT_LION,
    OPT_MOMENTUM,
    OPT_NADAM,
    OPT_NESTEROV,
    OPT_RADAM,
    OPT_RMSPROP,
    OPT_SGD,
    KernelTable,
    OptimizerSettings,
    Product,
    SparseRows,
)

cdef extern from *:
    """
    static int dnn_x86_64_level(void) {
    #if defined(__GNUC__) && defined(__x86_64__)
        __builtin_cpu_init();
        if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
              && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"))) return 1;
        if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
              && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
              && __builtin_cpu_supports("avx512vl"))) return 3;
        return 4;
    #else
        return 1;
    #endif
    }
    """
    int x86_64_level "dnn_x86_64_level"() noexcept nogil

# ----------------------------------------------------------------------------------------
# Names and ids

ACTIVATIONS = {
    "identity": ACT_IDENTITY,
    "relu": ACT_RELU,
    "leaky_relu": ACT_LEAKY_RELU,
    "sigmoid": ACT_SIGMOID,
    "tanh": ACT_TANH,
    "elu": ACT_ELU,
    "selu": ACT_SELU,
    "gelu": ACT_GELU,
    "gelu_tanh": ACT_GELU_TANH,
    "silu": ACT_SILU,
    "mish": ACT_MISH,
    "softplus": ACT_SOFTPLUS,
    "softsign": ACT_SOFTSIGN,
    "hardtanh": ACT_HARDTANH,
    "hard_swish": ACT_HARD_SWISH,
    "softmax": ACT_SOFTMAX,
}
LOSSES = {
    "softmax_cross_entropy": LOSS_SOFTMAX_CROSS_ENTROPY,
    "binary_cross_entropy": LOSS_BINARY_CROSS_ENTROPY,
    "mse": LOSS_MSE,
    "mae": LOSS_MAE,
    "huber": LOSS_HUBER,
    "poisson": LOSS_POISSON,
    "log_cosh": LOSS_LOG_COSH,
    "quantile": LOSS_QUANTILE,
    "gamma": LOSS_GAMMA,
    "tweedie": LOSS_TWEEDIE,
    "hinge": LOSS_HINGE,
    "squared_hinge": LOSS_SQUARED_HINGE,
    "binary_focal": LOSS_BINARY_FOCAL,
    "softmax_focal": LOSS_SOFTMAX_FOCAL,
}
# name: (its parameter, default, least, greatest, whether it may be the least)
LOSS_PARAMETERS = {
    "softmax_cross_entropy": ("label_smoothing", 0.0, 0.0, 1.0, True),
    "binary_cross_entropy": ("label_smoothing", 0.0, 0.0, 1.0, True),
    "huber": ("delta", 1.0, 0.0, float("inf"), False),
    "quantile": ("quantiles", 0.5, 0.0, 1.0, False),
    "tweedie": ("power", 1.5, 1.0, 2.0, False),
    "binary_focal": ("gamma", 2.0, 0.0, float("inf"), True),
    "softmax_focal": ("gamma", 2.0, 0.0, float("inf"), True),
}
# ... and those that only the engine offers
LOSS_IDS = LOSSES | {
    "softmax_clipped": LOSS_SOFTMAX_CLIPPED,
    "binary_clipped": LOSS_BINARY_CLIPPED,
}
# name: (id, moments in the kernel's order); AdamW is Adam with `weight_decay`
OPTIMIZERS = {
    "sgd": (OPT_SGD, ()),
    "momentum": (OPT_MOMENTUM, ("v",)),
    "nesterov": (OPT_NESTEROV, ("v",)),
    "rmsprop": (OPT_RMSPROP, ("v",)),
    "adam": (OPT_ADAM, ("m", "v")),
    "adamw": (OPT_ADAM, ("m", "v")),
    "nadam": (OPT_NADAM, ("m", "v")),
    "radam": (OPT_RADAM, ("m", "v")),
    "adagrad": (OPT_ADAGRAD, ("v",)),
    "adadelta": (OPT_ADADELTA, ("v", "u")),
    "lion": (OPT_LION, ("m",)),
}


cdef bint needs_input(int activation) noexcept nogil:
    """Whether the derivative needs the layer's input z as well as its output."""
    return (activation == ACT_GELU or activation == ACT_GELU_TANH or activation == ACT_SILU
            or activation == ACT_MISH or activation == ACT_HARD_SWISH)


# ----------------------------------------------------------------------------------------
# Choice of the build tier

cdef const KernelTable* _float32 = NULL
cdef const KernelTable* _float64 = NULL
_LEVELS = {"base": 1, "v3": 3, "v4": 4}


def simd_levels():
    """Build tiers that are installed and that this processor can run, best first."""
    import importlib.util

    level = x86_64_level()
    return tuple(
        name
        for name in ("v4", "v3", "base")
        if _LEVELS[name] <= level
        and importlib.util.find_spec(f"dnncore._tiers.f32_{name}") is not None
    )


cdef const KernelTable* _open(str dtype, str tier) except NULL:
    module = importlib.import_module(f"dnncore._tiers.{dtype}_{tier}")
    return <const KernelTable*>PyCapsule_GetPointer(module.table, "dnncore.KernelTable")


def _choose_tier():
    available = simd_levels()
    wanted = os.environ.get("DNNCORE_SIMD")
    if not wanted:
        return available[0]
    if wanted not in available:
        raise ImportError(
            f"DNNCORE_SIMD={wanted!r} is not one of the levels this build and processor "
            f"offer: {', '.join(available)}.")
    return wanted


SIMD_LEVEL = _choose_tier()
_float32 = _open("f32", SIMD_LEVEL)
_float64 = _open("f64", SIMD_LEVEL)


cdef const KernelTable* kernel_table(Py_ssize_t itemsize) noexcept nogil:
    return _float32 if itemsize == sizeof(float) else _float64


cdef Py_ssize_t scratch_elements(Py_ssize_t itemsize) noexcept nogil:
    """Elements of scratch that suffice for any product."""
    cdef Py_ssize_t any_size = PY_SSIZE_T_MAX
    return kernel_table(itemsize).product_scratch(any_size, any_size, any_size, True)


# ----------------------------------------------------------------------------------------
# Matrix product: own kernels or BLAS

# BLAS wins in very large products, and early on where this module was built without vector
# instructions that BLAS finds at run time. A thin product is never worth its overhead.
cdef Py_ssize_t BLAS_MIN_SIDE = 16
cdef int _forced_path = 0  # tests and benchmarks: 1 own, 2 BLAS


cdef bint may_use_blas(const KernelTable* table) noexcept nogil:
    """Whether BLAS takes any product at all."""
    return _forced_path != 1 and (_forced_path == 2 or table.blas_min_work < 1e300)


cdef bint uses_blas(const KernelTable* table, const Product* p) noexcept nogil:
    if _forced_path == 1:
        return False
    if _forced_path == 0 and (
            <double>p.rows * p.columns * p.depth < table.blas_min_work
            or p.rows < BLAS_MIN_SIDE or p.columns < BLAS_MIN_SIDE or p.depth < BLAS_MIN_SIDE):
        return False
    return blas_can(p)


cdef void matmul(const KernelTable* table, const Product* p) noexcept nogil:
    """C = A @ B with bias and epilogue, on the faster path for its shape."""
    cdef Py_ssize_t i, size = table.itemsize
    cdef char* c = <char*>p.c
    if not uses_blas(table, p):
        table.product(p)
        return
    if p.bias != NULL and not p.accumulate:
        for i in range(p.rows):
            memcpy(c + i * p.c_row * size, p.bias, p.columns * size)
    gemm(p, size, p.accumulate or p.bias != NULL)
    if p.epilogue == EPI_NONE:
        return
    for i in range(p.rows):
        if p.epilogue == EPI_RELU:
            table.activation_forward(
                ACT_RELU, 1, p.columns, c + i * p.c_row * size, c + i * p.c_row * size)
        else:
            table.activation_backward(
                ACT_RELU, 1, p.columns, c + i * p.c_row * size, NULL,
                <const char*>p.gate + i * p.gate_row * size, c + i * p.c_row * size)


def describe_paths():
    """The rule that sends a matrix product to own kernels or to BLAS, in words."""
    starts = ", ".join(
        f"{work:.3g} multiply-adds in {name}"
        for name, work in (
            ("float32", _float32.blas_min_work), ("float64", _float64.blas_min_work))
        if work < 1e300)
    return f"own kernels; BLAS from {starts}" if starts else "own kernels"


def _multiply_adds(int itemsize, Py_ssize_t rounds):
    """Do so many rounds of multiply-adds in registers; returns the floating-point operations."""
    cdef const KernelTable* table = kernel_table(itemsize)
    with nogil:
        table.multiply_adds(rounds)
    return 24 * rounds * table.lanes


def _force_matmul_path(path):
    """Send every product to ``"own"`` kernels or to ``"blas"``; None restores the choice."""
    global _forced_path
    _forced_path = {None: 0, "own": 1, "blas": 2}[path]


# ----------------------------------------------------------------------------------------
# Fused linear layers

cdef void _linear_forward(
    const KernelTable* table, int activation, Py_ssize_t rows, Py_ssize_t n_in,
    Py_ssize_t n_out, const void* x, const void* w, const void* b, void* z, void* a,
    void* scratch
) noexcept nogil:
    cdef Product p
    p.rows, p.columns, p.depth = rows, n_out, n_in
    p.a, p.a_row, p.a_step = x, n_in, 1
    p.b, p.b_step, p.b_column = w, n_out, 1
    p.c, p.c_row = z, n_out
    p.bias = b
    p.accumulate = False
    p.epilogue = EPI_RELU if activation == ACT_RELU and z == a else EPI_NONE
    p.gate, p.gate_row, p.claimed = NULL, 0, NULL
    p.scratch = scratch
    matmul(table, &p)
    if p.epilogue == EPI_NONE and (activation != ACT_IDENTITY or z != a):
        table.activation_forward(activation, rows, n_out, z, a)


cdef void _linear_backward(
    const KernelTable* table, int activation, Py_ssize_t rows, Py_ssize_t n_in,
    Py_ssize_t n_out, const void* da, const void* x, const void* w, const void* z,
    const void* a, void* dz, void* dx, void* dw, void* db, void* scratch
) noexcept nogil:
    cdef Product p
    table.activation_backward(activation, rows, n_out, da, z, a, dz)
    p.bias, p.gate, p.gate_row, p.claimed = NULL, NULL, 0, NULL
    p.accumulate, p.epilogue, p.scratch = False, EPI_NONE, scratch
    if db != NULL:
        table.column_sums(rows, n_out, dz, n_out, db)
    # dW = X' dZ
    p.rows, p.columns, p.depth = n_in, n_out, rows
    p.a, p.a_row, p.a_step = x, 1, n_in
    p.b, p.b_step, p.b_column = dz, n_out, 1
    p.c, p.c_row = dw, n_out
    matmul(table, &p)
    if dx == NULL:
        return
    # dX = dZ W'
    p.rows, p.columns, p.depth = rows, n_in, n_out
    p.a, p.a_row, p.a_step = dz, n_out, 1
    p.b, p.b_step, p.b_column = w, 1, n_out
    p.c, p.c_row = dx, n_in
    matmul(table, &p)


cdef void linear_forward(
    int activation, Py_ssize_t rows, Py_ssize_t n_in, Py_ssize_t n_out,
    const real* x, const real* w, const real* b, real* z, real* a, real* scratch
) noexcept nogil:
    """a = activation(x @ w + b); z may be a, unless its activation needs_input."""
    _linear_forward(kernel_table(sizeof(real)), activation, rows, n_in, n_out,
                    x, w, b, z, a, scratch)


cdef void linear_backward(
    int activation, Py_ssize_t rows, Py_ssize_t n_in, Py_ssize_t n_out,
    const real* da, const real* x, const real* w, const real* z, const real* a,
    real* dz, real* dx, real* dw, real* db, real* scratch
) noexcept nogil:
    """dz = da * activation'; dw = x' dz; db = column sums of dz; dx = dz w' unless NULL."""
    _linear_backward(kernel_table(sizeof(real)), activation, rows, n_in, n_out,
                     da, x, w, z, a, dz, dx, dw, db, scratch)


# ----------------------------------------------------------------------------------------
# Counter-based random numbers (SplitMix64: Steele, Lea and Flood 2014, "Fast splittable
# pseudorandom number generators"). Word i of a stream needs no state but its key and i.

cdef extern from *:
    """
    #define DNN_GOLDEN 0x9E3779B97F4A7C15ULL
    static inline unsigned long long dnn_high_product(unsigned long long a,
                                                      unsigned long long b) {
    #ifdef __SIZEOF_INT128__
        return (unsigned long long)(((unsigned __int128)a * b) >> 64);
    #else
        unsigned long long al = a & 0xFFFFFFFFULL, ah = a >> 32;
        unsigned long long bl = b & 0xFFFFFFFFULL, bh = b >> 32;
        unsigned long long m = ah * bl + ((al * bl) >> 32);
        unsigned long long l = al * bh + (m & 0xFFFFFFFFULL);
        return ah * bh + (m >> 32) + (l >> 32);
    #endif
    }
    """
    const unsigned long long GOLDEN "DNN_GOLDEN"
    unsigned long long high_product "dnn_high_product"(
        unsigned long long a, unsigned long long b) noexcept nogil


cdef unsigned long long mix64(unsigned long long x) noexcept nogil:
    x = (x ^ (x >> 30)) * <unsigned long long>0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * <unsigned long long>0x94D049BB133111EB
    return x ^ (x >> 31)


cdef unsigned long long stream_key(
    unsigned long long seed, unsigned long long stream, unsigned long long epoch
) noexcept nogil:
    return mix64(mix64(mix64(seed + GOLDEN) + stream + GOLDEN) + epoch + GOLDEN)


cdef void shuffle_indices(
    Py_ssize_t n, unsigned long long key, long long* order
) noexcept nogil:
    # Fisher-Yates from the top; the high half of word * (i + 1) is a number in 0..i.
    cdef Py_ssize_t i, j
    cdef long long held
    for i in range(n):
        order[i] = i
    i = n - 1
    while i > 0:
        j = <Py_ssize_t>high_product(
            mix64(key + (<unsigned long long>i + 1) * GOLDEN), <unsigned long long>i + 1)
        held = order[i]
        order[i] = order[j]
        order[j] = held
        i -= 1


# ----------------------------------------------------------------------------------------
# Python functions

include "_api/checks.pxi"
include "_api/elementwise.pxi"
include "_api/linear.pxi"
include "_api/training.pxi"
include "_api/layers.pxi"
include "_api/updates.pxi"
