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
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_FORMAT,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport pow, sqrt
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
    LOSS_BINARY_CROSS_ENTROPY,
    LOSS_HUBER,
    LOSS_MAE,
    LOSS_MSE,
    LOSS_POISSON,
    LOSS_SOFTMAX_CROSS_ENTROPY,
    MATH_ERF,
    MATH_EXP,
    MATH_SIGMOID,
    MATH_SOFTPLUS,
    MATH_TANH,
    OPT_ADAM,
    OPT_MOMENTUM,
    OPT_NESTEROV,
    OPT_RMSPROP,
    OPT_SGD,
    KernelTable,
    OptimizerSettings,
    Product,
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
}
# name: (id, number of moments); AdamW is Adam with `weight_decay`
OPTIMIZERS = {
    "sgd": (OPT_SGD, 0),
    "momentum": (OPT_MOMENTUM, 1),
    "nesterov": (OPT_NESTEROV, 1),
    "rmsprop": (OPT_RMSPROP, 1),
    "adam": (OPT_ADAM, 2),
    "adamw": (OPT_ADAM, 2),
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
    return kernel_table(itemsize).panel_elements


# ----------------------------------------------------------------------------------------
# Matrix product: own kernels or BLAS

# BLAS packs both operands, which pays off in large products only. Measured crossovers, in
# multiply-adds; docs/decisions/0004-matmul-crossover.md has the figures.
cdef Py_ssize_t BLAS_MIN_WORK = 1 << 27
cdef Py_ssize_t BLAS_MIN_SIDE = 96
cdef int _forced_path = 0  # tests and benchmarks: 1 own, 2 BLAS


cdef bint uses_blas(const KernelTable* table, const Product* p) noexcept nogil:
    if _forced_path == 1 or not blas_can(p):
        return False
    if _forced_path == 2:
        return True
    return (p.rows >= BLAS_MIN_SIDE and p.columns >= BLAS_MIN_SIDE and p.depth >= BLAS_MIN_SIDE
            and p.rows * p.columns >= BLAS_MIN_WORK // p.depth)


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
    return (f"own kernels; BLAS from {BLAS_MIN_WORK} multiply-adds with all sides >= "
            f"{BLAS_MIN_SIDE}")


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
    p.gate, p.gate_row = NULL, 0
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
    p.bias, p.gate, p.gate_row = NULL, NULL, 0
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

@cython.final
cdef class _Buffer:
    """A checked view of a caller's array: C-contiguous, aligned, float32 or float64."""

    cdef Py_buffer view
    cdef bint held

    def __cinit__(self, object array, str name, Py_ssize_t itemsize=0, bint writable=False):
        cdef int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name} must be a numpy array; got {type(array).__name__}.")
        if writable and not array.flags.writeable:
            raise ValueError(f"{name} is read-only; results cannot be written to it.")
        if not array.flags.c_contiguous or not array.flags.aligned:
            raise ValueError(
                f"{name} must be C-contiguous and aligned; "
                f"pass numpy.require({name}, requirements=['C', 'A']).")
        if array.dtype != np.float32 and array.dtype != np.float64 or not array.dtype.isnative:
            raise TypeError(
                f"{name} must be float32 or float64 in native byte order; got {array.dtype}.")
        if itemsize and array.dtype.itemsize != itemsize:
            raise TypeError(
                f"{name} must have the dtype of the first array, "
                f"{'float32' if itemsize == 4 else 'float64'}; got {array.dtype}.")
        PyObject_GetBuffer(array, &self.view, flags | (PyBUF_WRITABLE if writable else 0))
        self.held = True

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)

    cdef Py_ssize_t size(self):
        return self.view.len // self.view.itemsize


cdef _Buffer _matrix(object array, str name, Py_ssize_t rows, Py_ssize_t columns,
                     Py_ssize_t itemsize=0, bint writable=False):
    """A 2-D buffer; a size of -1 is free."""
    cdef _Buffer b = _Buffer(array, name, itemsize, writable)
    if b.view.ndim != 2 or (rows >= 0 and b.view.shape[0] != rows) or (
            columns >= 0 and b.view.shape[1] != columns):
        raise ValueError(
            f"{name} must have shape ({'rows' if rows < 0 else rows}, "
            f"{'columns' if columns < 0 else columns}); got {array.shape}.")
    return b


cdef _Buffer _same_shape(object array, str name, object like, Py_ssize_t itemsize,
                         bint writable=False):
    cdef _Buffer b = _Buffer(array, name, itemsize, writable)
    if array.shape != like.shape:
        raise ValueError(f"{name} must have shape {like.shape}; got {array.shape}.")
    return b


cdef void* _scratch(Py_ssize_t itemsize) except NULL:
    cdef void* p = malloc(scratch_elements(itemsize) * itemsize)
    if p == NULL:
        raise MemoryError("no memory for the scratch panel of a matrix product")
    return p


def _id(table, name, what):
    try:
        return table[name]
    except (KeyError, TypeError):
        raise ValueError(
            f"{what} must be one of {', '.join(map(repr, table))}; got {name!r}.") from None


def _math(int which, object x, object out):
    cdef _Buffer bx = _Buffer(x, "x")
    if out is None:
        out = np.empty_like(x)
    cdef _Buffer bo = _same_shape(out, "out", x, bx.view.itemsize, True)
    cdef const KernelTable* table = kernel_table(bx.view.itemsize)
    cdef Py_ssize_t n = bx.size()
    with nogil:
        table.math(which, n, bx.view.buf, bo.view.buf)
    return out


def exp(x, out=None):
    return _math(MATH_EXP, x, out)


def tanh(x, out=None):
    return _math(MATH_TANH, x, out)


def erf(x, out=None):
    return _math(MATH_ERF, x, out)


def sigmoid(x, out=None):
    return _math(MATH_SIGMOID, x, out)


def softplus(x, out=None):
    return _math(MATH_SOFTPLUS, x, out)


cdef tuple _rows_and_columns(object array):
    """The last axis as columns, all others as rows; a 0-d array is one by one."""
    columns = array.shape[-1] if array.ndim else 1
    return (array.size // columns if columns else 0), columns


def activation_forward(str name, z, out=None):
    cdef int kind = _id(ACTIVATIONS, name, "activation")
    cdef _Buffer bz = _Buffer(z, "z")
    if out is None:
        out = np.empty_like(z)
    cdef _Buffer bo = _same_shape(out, "out", z, bz.view.itemsize, True)
    cdef const KernelTable* table = kernel_table(bz.view.itemsize)
    cdef Py_ssize_t rows, columns
    rows, columns = _rows_and_columns(z)
    with nogil:
        table.activation_forward(kind, rows, columns, bz.view.buf, bo.view.buf)
    return out


def activation_backward(str name, da, z, a, out=None):
    cdef int kind = _id(ACTIVATIONS, name, "activation")
    cdef _Buffer bd = _Buffer(da, "da")
    cdef _Buffer bz = _same_shape(z, "z", da, bd.view.itemsize)
    cdef _Buffer ba = _same_shape(a, "a", da, bd.view.itemsize)
    if out is None:
        out = np.empty_like(da)
    cdef _Buffer bo = _same_shape(out, "out", da, bd.view.itemsize, True)
    cdef const KernelTable* table = kernel_table(bd.view.itemsize)
    cdef Py_ssize_t rows, columns
    rows, columns = _rows_and_columns(da)
    with nogil:
        table.activation_backward(
            kind, rows, columns, bd.view.buf, bz.view.buf, ba.view.buf, bo.view.buf)
    return out


def product(a, b, *, bint transpose_a=False, bint transpose_b=False, bias=None, out=None,
            bint accumulate=False, bint relu=False, gate=None):
    cdef _Buffer ba = _matrix(a, "a", -1, -1)
    cdef Py_ssize_t size = ba.view.itemsize
    cdef _Buffer bb = _matrix(b, "b", -1, -1, size)
    cdef _Buffer bbias = None, bgate = None
    cdef Product p
    p.rows = ba.view.shape[1 if transpose_a else 0]
    p.depth = ba.view.shape[0 if transpose_a else 1]
    p.columns = bb.view.shape[0 if transpose_b else 1]
    if bb.view.shape[1 if transpose_b else 0] != p.depth:
        raise ValueError(
            f"inner dimensions differ: a has shape {a.shape}{' transposed' * transpose_a}, "
            f"b {b.shape}{' transposed' * transpose_b}.")
    if accumulate and (out is None or bias is not None):
        raise ValueError("accumulate adds to out: pass out, and no bias.")
    if relu and gate is not None:
        raise ValueError("relu and gate exclude each other.")
    if out is None:
        out = np.empty((p.rows, p.columns), a.dtype)
    cdef _Buffer bo = _matrix(out, "out", p.rows, p.columns, size, True)
    p.a, p.b, p.c = ba.view.buf, bb.view.buf, bo.view.buf
    p.a_row, p.a_step = p.depth, 1
    p.b_step, p.b_column = p.columns, 1
    if transpose_a:
        p.a_row, p.a_step = 1, p.rows
    if transpose_b:
        p.b_step, p.b_column = 1, p.depth
    p.c_row = p.columns
    p.bias, p.gate, p.gate_row = NULL, NULL, p.columns
    if bias is not None:
        bbias = _Buffer(bias, "bias", size)
        if bias.shape != (p.columns,):
            raise ValueError(f"bias must have shape ({p.columns},); got {bias.shape}.")
        p.bias = bbias.view.buf
    p.accumulate = accumulate
    p.epilogue = EPI_RELU if relu else EPI_NONE
    if gate is not None:
        bgate = _matrix(gate, "gate", p.rows, p.columns, size)
        p.gate = bgate.view.buf
        p.epilogue = EPI_GATE
    cdef const KernelTable* table = kernel_table(size)
    p.scratch = _scratch(size)
    with nogil:
        matmul(table, &p)
        free(p.scratch)
    return out


def product_path(Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t depth):
    cdef Product p
    p.rows, p.columns, p.depth = rows, columns, depth
    p.a_row, p.a_step, p.b_step, p.b_column, p.c_row = depth, 1, columns, 1, columns
    return "blas" if uses_blas(_float32, &p) else "own"


def dense_forward(x, w, b, str activation="identity", out=None, z_out=None):
    cdef int kind = _id(ACTIVATIONS, activation, "activation")
    cdef _Buffer bx = _matrix(x, "x", -1, -1)
    cdef Py_ssize_t rows = bx.view.shape[0], n_in = bx.view.shape[1], size = bx.view.itemsize
    cdef _Buffer bw = _matrix(w, "w", n_in, -1, size)
    cdef Py_ssize_t n_out = bw.view.shape[1]
    cdef _Buffer bb = _Buffer(b, "b", size)
    if b.shape != (n_out,):
        raise ValueError(f"b must have shape ({n_out},); got {b.shape}.")
    if out is None:
        out = np.empty((rows, n_out), x.dtype)
    if z_out is None:
        z_out = np.empty((rows, n_out), x.dtype)
    cdef _Buffer bo = _matrix(out, "out", rows, n_out, size, True)
    cdef _Buffer bz = _matrix(z_out, "z_out", rows, n_out, size, True)
    cdef const KernelTable* table = kernel_table(size)
    cdef void* scratch = _scratch(size)
    with nogil:
        _linear_forward(table, kind, rows, n_in, n_out, bx.view.buf, bw.view.buf, bb.view.buf,
                        bz.view.buf, bo.view.buf, scratch)
        free(scratch)
    return out, z_out


def dense_backward(da, x, w, z, a, str activation="identity", *, bint need_dx=True,
                   dx_out=None, dw_out=None, db_out=None, dz_out=None):
    cdef int kind = _id(ACTIVATIONS, activation, "activation")
    cdef _Buffer bx = _matrix(x, "x", -1, -1)
    cdef Py_ssize_t rows = bx.view.shape[0], n_in = bx.view.shape[1], size = bx.view.itemsize
    cdef _Buffer bw = _matrix(w, "w", n_in, -1, size)
    cdef Py_ssize_t n_out = bw.view.shape[1]
    cdef _Buffer bd = _matrix(da, "da", rows, n_out, size)
    cdef _Buffer bz = _matrix(z, "z", rows, n_out, size)
    cdef _Buffer ba = _matrix(a, "a", rows, n_out, size)
    cdef _Buffer bdx = None
    if need_dx and dx_out is None:
        dx_out = np.empty((rows, n_in), x.dtype)
    if dw_out is None:
        dw_out = np.empty((n_in, n_out), x.dtype)
    if db_out is None:
        db_out = np.empty(n_out, x.dtype)
    if dz_out is None:
        dz_out = np.empty((rows, n_out), x.dtype)
    if need_dx:
        bdx = _matrix(dx_out, "dx_out", rows, n_in, size, True)
    cdef _Buffer bdw = _matrix(dw_out, "dw_out", n_in, n_out, size, True)
    cdef _Buffer bdb = _Buffer(db_out, "db_out", size, True)
    cdef _Buffer bdz = _matrix(dz_out, "dz_out", rows, n_out, size, True)
    if db_out.shape != (n_out,):
        raise ValueError(f"db_out must have shape ({n_out},); got {db_out.shape}.")
    cdef const KernelTable* table = kernel_table(size)
    cdef void* dx = bdx.view.buf if need_dx else NULL
    cdef void* scratch = _scratch(size)
    with nogil:
        _linear_backward(table, kind, rows, n_in, n_out, bd.view.buf, bx.view.buf, bw.view.buf,
                         bz.view.buf, ba.view.buf, bdz.view.buf, dx, bdw.view.buf, bdb.view.buf,
                         scratch)
        free(scratch)
    return (dx_out if need_dx else None), dw_out, db_out


def loss(str name, logits, target, sample_weight=None, *, double parameter=1.0, grad_out=None):
    cdef int kind = _id(LOSSES, name, "loss")
    cdef _Buffer bz = _matrix(logits, "logits", -1, -1)
    cdef Py_ssize_t rows = bz.view.shape[0], columns = bz.view.shape[1], size = bz.view.itemsize
    cdef _Buffer bt = None, bs = None
    cdef const int[::1] labels
    cdef const int* p_labels = NULL
    cdef const void* p_target = NULL
    cdef const void* p_weight = NULL
    cdef double scale, value
    if rows == 0 or columns == 0:
        raise ValueError(f"logits must not be empty; got shape {logits.shape}.")
    if isinstance(target, np.ndarray) and target.dtype.kind in "iu":
        if kind != LOSS_SOFTMAX_CROSS_ENTROPY:
            raise TypeError(f"target of {name!r} must have the dtype of the logits.")
        if target.shape != (rows,):
            raise ValueError(f"target must have shape ({rows},); got {target.shape}.")
        if target.min() < 0 or target.max() >= columns:
            raise ValueError(
                f"target must hold labels 0..{columns - 1}; "
                f"got {target.min()}..{target.max()}.")
        labels = np.require(target, np.intc, ["C", "A"])
        p_labels = &labels[0]
    else:
        bt = _matrix(target, "target", rows, columns, size)
        p_target = bt.view.buf
    scale = 1.0 / rows
    if sample_weight is not None:
        bs = _Buffer(sample_weight, "sample_weight", size)
        if sample_weight.shape != (rows,):
            raise ValueError(
                f"sample_weight must have shape ({rows},); got {sample_weight.shape}.")
        total = float(sample_weight.sum(dtype=np.float64))
        if not total > 0:
            raise ValueError(f"sample_weight must have a positive sum; got {total}.")
        scale = 1.0 / total
        p_weight = bs.view.buf
    if grad_out is None:
        grad_out = np.empty_like(logits)
    cdef _Buffer bg = _same_shape(grad_out, "grad_out", logits, size, True)
    cdef const KernelTable* table = kernel_table(size)
    with nogil:
        value = table.loss(kind, rows, columns, bz.view.buf, p_labels, p_target, p_weight,
                           scale, parameter, bg.view.buf)
    return value * scale, grad_out


def optimizer_update(str name, w, g, dict state, long long step, *, double lr,
                     double l2=0.0, double weight_decay=0.0, double momentum=0.9,
                     double rho=0.9, double beta1=0.9, double beta2=0.999, double eps=1e-8):
    cdef int kind
    kind, moments = _id(OPTIMIZERS, name, "optimizer")
    if step < 1:
        raise ValueError(f"step counts from 1; got {step}.")
    cdef _Buffer bw = _Buffer(w, "w", 0, True)
    cdef Py_ssize_t size = bw.view.itemsize, n = bw.size()
    cdef _Buffer bg = _same_shape(g, "g", w, size)
    cdef _Buffer bm = None, bv = None
    cdef void* s1 = NULL
    cdef void* s2 = NULL
    if moments > 0:
        key = "v" if kind == OPT_RMSPROP or moments == 1 else "m"
        if key not in state and "m" in state:
            key = "m"
        bm = _same_shape(state[key], f"state[{key!r}]", w, size, True)
        s1 = bm.view.buf
    if moments > 1:
        bv = _same_shape(state["v"], "state['v']", w, size, True)
        s2 = bv.view.buf
    cdef OptimizerSettings h
    h.lr, h.l2 = lr, l2
    h.decay = weight_decay if name == "adamw" else 0.0
    h.beta1 = rho if kind == OPT_RMSPROP else (
        momentum if kind in (OPT_MOMENTUM, OPT_NESTEROV) else beta1)
    h.beta2, h.eps = beta2, eps
    h.step_scale = lr / (1.0 - pow(beta1, step))
    h.root_scale = 1.0 / sqrt(1.0 - pow(beta2, step))
    cdef const KernelTable* table = kernel_table(size)
    with nogil:
        table.optimizer(kind, n, bw.view.buf, bg.view.buf, s1, s2, &h)


def shuffle(Py_ssize_t n, unsigned long long seed, unsigned long long stream=0,
            unsigned long long epoch=0, out=None):
    if n < 0:
        raise ValueError(f"n must be at least 0; got {n}.")
    if out is None:
        out = np.empty(n, np.int64)
    cdef long long[::1] view = out
    if view.shape[0] != n:
        raise ValueError(f"out must have {n} elements; got {view.shape[0]}.")
    cdef unsigned long long key = stream_key(seed, stream, epoch)
    if n:
        with nogil:
            shuffle_indices(n, key, &view[0])
    return out


def all_finite(x):
    cdef _Buffer b = _Buffer(x, "x")
    cdef const KernelTable* table = kernel_table(b.view.itemsize)
    cdef Py_ssize_t n = b.size()
    cdef bint result
    with nogil:
        result = table.all_finite(n, b.view.buf)
    return result
