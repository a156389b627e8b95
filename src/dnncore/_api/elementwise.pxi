# Elementwise functions, the check for finite numbers, activations with their derivatives.

cdef object elementwise(int which, object x, object out):
    cdef _Buffer bx = _Buffer(x, "x")
    if out is None:
        out = np.empty(x.shape, x.dtype)
    cdef _Buffer bo = same_shape(out, "out", x, bx.view.itemsize, True)
    keep_apart(bo, bx, True)
    cdef const KernelTable* table = kernel_table(bx.view.itemsize)
    cdef Py_ssize_t n = bx.size()
    with nogil:
        table.math(which, n, bx.view.buf, bo.view.buf)
    return out


def exp(x, out=None):
    """Return ``e ** x``, elementwise.

    At most 4 ULP off, over the whole range. Too small for the dtype becomes 0, too large
    infinity; NaN stays NaN, here and in the four functions below.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
        C-contiguous and aligned.
    out : ndarray of the shape and dtype of `x`, optional
        Where to write; may be `x` itself.

    Returns
    -------
    ndarray
        `out`, or a new array.

    Raises
    ------
    TypeError
        If an argument is not a float32 or float64 array, or the dtypes differ.
    ValueError
        If an array is strided or misaligned, or `out` is read-only, has another shape, or
        shares part of its memory with `x`.
    """
    return elementwise(MATH_EXP, x, out)


def tanh(x, out=None):
    """Return ``(exp(x) - exp(-x)) / (exp(x) + exp(-x))``, elementwise; at most 4 ULP off.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
        C-contiguous and aligned.
    out : ndarray of the shape and dtype of `x`, optional
        Where to write; may be `x` itself.

    Returns
    -------
    ndarray
        `out`, or a new array.

    Raises
    ------
    TypeError, ValueError
        As for :func:`exp`.
    """
    return elementwise(MATH_TANH, x, out)


def erf(x, out=None):
    """Return ``2 / sqrt(pi)`` times the integral of ``exp(-t ** 2)`` from 0 to ``x``.

    Elementwise; at most 4 ULP off.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
        C-contiguous and aligned.
    out : ndarray of the shape and dtype of `x`, optional
        Where to write; may be `x` itself.

    Returns
    -------
    ndarray
        `out`, or a new array.

    Raises
    ------
    TypeError, ValueError
        As for :func:`exp`.
    """
    return elementwise(MATH_ERF, x, out)


def sigmoid(x, out=None):
    """Return ``1 / (1 + exp(-x))``, elementwise; at most 4 ULP off, in the tails as well.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
        C-contiguous and aligned.
    out : ndarray of the shape and dtype of `x`, optional
        Where to write; may be `x` itself.

    Returns
    -------
    ndarray
        `out`, or a new array.

    Raises
    ------
    TypeError, ValueError
        As for :func:`exp`.
    """
    return elementwise(MATH_SIGMOID, x, out)


def softplus(x, out=None):
    """Return ``log(1 + exp(x))``, elementwise; at most 4 ULP off, never overflowing.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
        C-contiguous and aligned.
    out : ndarray of the shape and dtype of `x`, optional
        Where to write; may be `x` itself.

    Returns
    -------
    ndarray
        `out`, or a new array.

    Raises
    ------
    TypeError, ValueError
        As for :func:`exp`.
    """
    return elementwise(MATH_SOFTPLUS, x, out)


def all_finite(x):
    """Return whether no element is NaN or infinite.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
        C-contiguous and aligned.

    Returns
    -------
    bool
        ``True`` for an empty array.

    Raises
    ------
    TypeError
        If `x` is not a float32 or float64 array.
    ValueError
        If `x` is strided or misaligned.
    """
    cdef _Buffer b = _Buffer(x, "x")
    cdef const KernelTable* table = kernel_table(b.view.itemsize)
    cdef Py_ssize_t n = b.size()
    cdef bint result
    with nogil:
        result = table.all_finite(n, b.view.buf)
    return result


cdef (Py_ssize_t, Py_ssize_t) rows_and_columns(_Buffer b) noexcept:
    """The last axis as columns, all others as rows; a 0-d array is one by one."""
    cdef Py_ssize_t columns = b.view.shape[b.view.ndim - 1] if b.view.ndim > 0 else 1
    return (b.size() // columns if columns else 0), columns


def activation_forward(name, z, out=None):
    """Return ``a = f(z)`` for an activation ``f``.

    Formulas and papers stand beside each activation in :mod:`dnncore.reference.activations`.
    All are elementwise but ``"softmax"``, which works along the last axis.

    Parameters
    ----------
    name : str
        One of :data:`dnncore.kernels.ACTIVATIONS`.
    z : ndarray of float32 or float64, shape (..., n)
        Pre-activations, C-contiguous and aligned.
    out : ndarray of the shape and dtype of `z`, optional
        Where to write; may be `z` itself.

    Returns
    -------
    ndarray of shape (..., n)
        `out`, or a new array.

    Raises
    ------
    TypeError
        If an argument is not a float32 or float64 array, or the dtypes differ.
    ValueError
        For an unknown name; if an array is strided or misaligned, or `out` is read-only, has
        another shape, or shares part of its memory with `z`.
    """
    cdef int kind = entry(ACTIVATIONS, name, "activation")
    cdef _Buffer bz = _Buffer(z, "z")
    if out is None:
        out = np.empty(z.shape, z.dtype)
    cdef _Buffer bo = same_shape(out, "out", z, bz.view.itemsize, True)
    keep_apart(bo, bz, True)
    cdef const KernelTable* table = kernel_table(bz.view.itemsize)
    cdef Py_ssize_t rows, columns
    rows, columns = rows_and_columns(bz)
    with nogil:
        table.activation_forward(kind, rows, columns, bz.view.buf, bo.view.buf)
    return out


cdef void* source(_Buffer b) noexcept:
    return NULL if b is None else b.view.buf


cdef int check_sources(int kind, str activation, object z, object a) except -1:
    """Refuse to go backward without what the derivative is computed from."""
    if needs_input(kind):
        if z is None:
            raise ValueError(f"z is None, but the derivative of {activation!r} is taken from z.")
    elif a is None and kind != ACT_IDENTITY:
        raise ValueError(f"a is None, but the derivative of {activation!r} is taken from a.")
    return 0


def activation_backward(name, da, z, a, out=None):
    """Return ``dz``, the gradient by ``z``, from ``da``, the gradient by ``a = f(z)``.

    For an elementwise activation ``dz = da * f'(z)``; for softmax ``dz = a * (da - sum(da * a))``
    along the last axis. ``"gelu"``, ``"gelu_tanh"``, ``"silu"``, ``"mish"`` and ``"hard_swish"``
    take the derivative from `z`, all others from `a`; what is not needed may be ``None``.

    At a kink the derivative is that of the piece on the left, for hardtanh and hard_swish of the
    piece outside. Piecewise linear activations pass a NaN on in the value only: their
    derivative at NaN is that of a piece.

    Parameters
    ----------
    name : str
        One of :data:`dnncore.kernels.ACTIVATIONS`.
    da : ndarray of float32 or float64, shape (..., n)
        Gradient by the activations, C-contiguous and aligned.
    z, a : ndarray of the shape and dtype of `da`, or None
        What :func:`activation_forward` read and wrote.
    out : ndarray of the shape and dtype of `da`, optional
        Where to write; may be `da`, `z` or `a` itself.

    Returns
    -------
    ndarray of shape (..., n)
        `out`, or a new array.

    Raises
    ------
    TypeError
        If an argument is not a float32 or float64 array, or the dtypes differ.
    ValueError
        For an unknown name, or ``None`` for the one of `z` and `a` that is needed; if an array is
        strided or misaligned or shapes differ, or `out` is read-only or shares part of its memory
        with another array.
    """
    cdef int kind = entry(ACTIVATIONS, name, "activation")
    check_sources(kind, str(name), z, a)
    cdef _Buffer bd = _Buffer(da, "da")
    cdef Py_ssize_t size = bd.view.itemsize, rows, columns
    cdef _Buffer bz = None if z is None else same_shape(z, "z", da, size)
    cdef _Buffer ba = None if a is None else same_shape(a, "a", da, size)
    if out is None:
        out = np.empty(da.shape, da.dtype)
    cdef _Buffer bo = same_shape(out, "out", da, size, True)
    keep_apart(bo, bd, True)
    keep_apart(bo, bz, True)
    keep_apart(bo, ba, True)
    cdef const KernelTable* table = kernel_table(size)
    cdef void* p_z = source(bz)
    cdef void* p_a = source(ba)
    rows, columns = rows_and_columns(bd)
    with nogil:
        table.activation_backward(
            kind, rows, columns, bd.view.buf, p_z, p_a, bo.view.buf)
    return out
