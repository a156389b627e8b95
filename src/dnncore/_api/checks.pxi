# What the Python functions ask of their arguments, before any kernel sees a pointer.

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_FORMAT,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from libc.stdint cimport uintptr_t

import operator

cdef type ndarray = np.ndarray


@cython.final
cdef class _Buffer:
    """A caller's array: C-contiguous, aligned, native float32 or float64, writable if asked."""

    cdef Py_buffer view
    cdef bint held
    cdef str name

    def __cinit__(self, object array, str name, Py_ssize_t itemsize=0, bint writable=False):
        cdef int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT
        self.name = name
        if not isinstance(array, ndarray):
            raise TypeError(f"{name} must be a NumPy array; got {type(array).__name__}.")
        try:
            PyObject_GetBuffer(array, &self.view, flags | (PyBUF_WRITABLE if writable else 0))
            self.held = True
        except (BufferError, ValueError):
            raise complaint(array, name, itemsize, writable) from None
        if not self.is_real() or (itemsize and self.view.itemsize != itemsize):
            raise complaint(array, name, itemsize, writable)

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)

    cdef bint is_real(self) noexcept:
        # A format of one letter: a prefix would mean foreign byte order or alignment.
        cdef char* code = self.view.format
        cdef uintptr_t address = <uintptr_t>self.view.buf
        return (
            (code[0] == b"f" or code[0] == b"d") and code[1] == 0
            and (self.view.len == 0 or address % <uintptr_t>self.view.itemsize == 0)
        )

    cdef Py_ssize_t size(self) noexcept:
        return self.view.len // self.view.itemsize

    cdef bint has_shape(self, Py_ssize_t rows, Py_ssize_t columns) noexcept:
        """Whether it is that matrix; -1 is any size."""
        return (
            self.view.ndim == 2
            and (rows < 0 or self.view.shape[0] == rows)
            and (columns < 0 or self.view.shape[1] == columns)
        )


cdef object complaint(object array, str name, Py_ssize_t itemsize, bint writable):
    """The exception that says what is wrong with an array that _Buffer refused."""
    dtype = array.dtype
    if (dtype.kind != "f" or dtype.itemsize not in (4, 8)) or not dtype.isnative:
        order = "" if dtype.isnative else " in foreign byte order"
        return TypeError(f"{name} must be float32 or float64; got {dtype}{order}.")
    if itemsize and dtype.itemsize != itemsize:
        return TypeError(
            f"{name} must be {'float32' if itemsize == 4 else 'float64'}, the dtype of the "
            f"first array; got {dtype}.")
    if writable and not array.flags.writeable:
        return ValueError(f"{name} is read-only; results cannot be written to it.")
    return ValueError(
        f"{name} must be C-contiguous and aligned; got shape {array.shape}, strides "
        f"{array.strides}. Kernels never copy: pass np.require({name}, requirements=['C', 'A']).")


cdef _Buffer matrix(
    object array, str name, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t itemsize=0,
    bint writable=False
):
    """A 2-D buffer; a size of -1 is free."""
    cdef _Buffer b = _Buffer(array, name, itemsize, writable)
    if not b.has_shape(rows, columns):
        raise ValueError(
            f"{name} must have shape ({'rows' if rows < 0 else rows}, "
            f"{'columns' if columns < 0 else columns}); got {array.shape}.")
    return b


cdef _Buffer vector(
    object array, str name, Py_ssize_t size, Py_ssize_t itemsize, bint writable=False
):
    cdef _Buffer b = _Buffer(array, name, itemsize, writable)
    if b.view.ndim != 1 or b.view.shape[0] != size:
        raise ValueError(f"{name} must have shape ({size},); got {array.shape}.")
    return b


cdef _Buffer same_shape(
    object array, str name, object like, Py_ssize_t itemsize, bint writable=False
):
    cdef _Buffer b = _Buffer(array, name, itemsize, writable)
    if array.shape != like.shape:
        raise ValueError(f"{name} must have shape {like.shape}; got {array.shape}.")
    return b


cdef int keep_apart(_Buffer out, _Buffer other, bint in_place=False) except -1:
    """Refuse an output that overlaps another array; `in_place` lets it be that very array."""
    if out is None or other is None or out.view.len == 0 or other.view.len == 0:
        return 0
    cdef char* p = <char*>out.view.buf
    cdef char* q = <char*>other.view.buf
    if p + out.view.len <= q or q + other.view.len <= p:
        return 0
    if in_place and p == q and out.view.len == other.view.len:
        return 0
    raise ValueError(
        f"{out.name} shares memory with {other.name}, which is read or written as well; pass "
        f"{'that array itself or ' if in_place else ''}an array of its own.")


@cython.final
cdef class _Scratch:
    """Memory for what a matrix product packs, on a 64-byte boundary."""

    cdef void* base
    cdef void* panel

    def __cinit__(self, Py_ssize_t itemsize, Py_ssize_t elements):
        self.base = malloc(elements * itemsize + 63)
        if self.base == NULL:
            raise MemoryError("no memory for the scratch of a matrix product")
        self.panel = <void*>((<uintptr_t>self.base + 63) & ~<uintptr_t>63)

    def __dealloc__(self):
        free(self.base)


cdef object integer(object value, str name):
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer; got {value!r}.") from None


cdef int check_range(double value, str name, double minimum, double limit) except -1:
    """Refuse what is not in [minimum, limit); NaN is in no range."""
    if not (minimum <= value < limit):
        below = "finite" if limit == float("inf") else f"below {limit:g}"
        raise ValueError(f"{name} must be at least {minimum:g} and {below}; got {value:g}.")
    return 0


cdef object entry(dict table, object name, str what):
    """The row of a table of names."""
    try:
        return table[name]
    except (KeyError, TypeError):
        raise ValueError(
            f"{what} must be one of {', '.join(map(repr, table))}; got {name!r}.") from None
