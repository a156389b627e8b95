# What surrounds an optimizer's step, and products with sparse matrices.


def sum_squares(x):
    """Return the sum of the squares of all elements, formed in double.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
        C-contiguous and aligned.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If `x` is not a float32 or float64 array.
    ValueError
        If it is strided or misaligned.
    """
    cdef _Buffer bx = _Buffer(x, "x")
    cdef const KernelTable* table = kernel_table(bx.view.itemsize)
    cdef Py_ssize_t n = bx.size()
    cdef double total
    with nogil:
        total = table.sum_squares(n, bx.view.buf)
    return total


def accumulate(x, y):
    """Add ``y`` to ``x``, in place.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
        C-contiguous, aligned, writable.
    y : ndarray of the shape and dtype of `x`
        May not share memory with it.

    Raises
    ------
    TypeError
        If an argument is not a float32 or float64 array, or the dtypes differ.
    ValueError
        For another shape; if an array is strided or misaligned, or `x` is read-only or shares
        memory with `y`.
    """
    cdef _Buffer bx = _Buffer(x, "x", 0, True)
    cdef _Buffer by = same_shape(y, "y", x, bx.view.itemsize)
    keep_apart(bx, by)
    cdef const KernelTable* table = kernel_table(bx.view.itemsize)
    cdef Py_ssize_t n = bx.size()
    with nogil:
        table.accumulate(n, bx.view.buf, by.view.buf)


def shape_gradient(g, w, *, double scale=1.0, double limit=0.0, double l1=0.0, out=None):
    """Return ``clip(g * scale, -limit, limit) + l1 * sign(w)``.

    Parameters
    ----------
    g, w : ndarray of float32 or float64, any one shape
        Gradient and parameters; C-contiguous and aligned.
    scale : float
        Such as makes a norm no greater than its limit; at least 0.
    limit : float
        Greatest absolute value; 0 is none.
    l1 : float
        Factor of the penalty ``l1 * sum(abs(w))``.
    out : ndarray of the shape and dtype of `g`, optional
        Where to write.

    Returns
    -------
    ndarray
        `out`, or a new array.

    Raises
    ------
    TypeError
        If an argument is not a float32 or float64 array, or the dtypes differ.
    ValueError
        For wrong shapes or a negative number; if an array is strided or misaligned, or `out` is
        read-only or shares memory with another array.
    """
    cdef double inf = float("inf")
    check_range(scale, "scale", 0, inf)
    check_range(limit, "limit", 0, inf)
    check_range(l1, "l1", 0, inf)
    cdef _Buffer bg = _Buffer(g, "g")
    cdef Py_ssize_t size = bg.view.itemsize, n = bg.size()
    cdef _Buffer bw = same_shape(w, "w", g, size)
    out = written_to(out, g.shape, g)
    cdef _Buffer bo = same_shape(out, "out", g, size, True)
    apart(bo, (bg, bw))
    cdef const KernelTable* table = kernel_table(size)
    with nogil:
        table.shape_gradient(n, bg.view.buf, bw.view.buf, scale, limit, l1, bo.view.buf)
    return out


def move_towards(average, w, double amount):
    """Let ``average += amount * (w - average)``, in place; 1 copies ``w``.

    Parameters
    ----------
    average : ndarray of float32 or float64, any shape
        C-contiguous, aligned, writable.
    w : ndarray of the shape and dtype of `average`
        May not share memory with it.
    amount : float
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        As for :func:`accumulate`, or for an `amount` out of range.
    """
    if not 0 <= amount <= 1:
        raise ValueError(f"amount must be from 0 to 1; got {amount:g}.")
    cdef _Buffer ba = _Buffer(average, "average", 0, True)
    cdef _Buffer bw = same_shape(w, "w", average, ba.view.itemsize)
    keep_apart(ba, bw)
    cdef const KernelTable* table = kernel_table(ba.view.itemsize)
    cdef Py_ssize_t n = ba.size()
    with nogil:
        table.move_towards(n, ba.view.buf, bw.view.buf, amount)


def limit_columns(w, double limit):
    """Scale columns whose Euclidean norm is greater than `limit` down to it, in place.

    Srivastava et al. 2014, "Dropout", section 5.1.

    Parameters
    ----------
    w : ndarray of float32 or float64, shape (n_in, n_out)
        C-contiguous, aligned, writable.
    limit : float
        Greater than 0.

    Raises
    ------
    TypeError
        If `w` is not a float32 or float64 array.
    ValueError
        For another shape or a bad `limit`; if `w` is strided, misaligned or read-only.
    """
    if not 0 < limit < float("inf"):
        raise ValueError(f"limit must be positive and finite; got {limit:g}.")
    cdef _Buffer bw = _Buffer(w, "w", 0, True)
    if bw.view.ndim != 2:
        raise ValueError(f"w must have shape (rows, columns); got {w.shape}.")
    cdef const KernelTable* table = kernel_table(bw.view.itemsize)
    cdef Py_ssize_t rows = bw.view.shape[0], columns = bw.view.shape[1]
    with nogil:
        table.limit_columns(rows, columns, bw.view.buf, columns, limit)


@cython.final
cdef class _Sparse:
    """A caller's CSR matrix, looked at once."""

    cdef SparseRows rows
    cdef _Buffer values
    cdef const long long[::1] indptr
    cdef const int[::1] indices
    cdef Py_ssize_t n

    def __cinit__(self, object indptr, object indices, object values, Py_ssize_t columns):
        cdef Py_ssize_t i, k, stored
        for array, name, dtype in ((indptr, "indptr", np.int64), (indices, "indices", np.int32)):
            if not isinstance(array, ndarray) or array.dtype != dtype:
                raise TypeError(
                    f"{name} must be an {np.dtype(dtype).name} array; "
                    f"got {getattr(array, 'dtype', type(array).__name__)}.")
            if array.ndim != 1 or not (array.flags.c_contiguous and array.flags.aligned):
                raise ValueError(f"{name} must be 1-D, contiguous and aligned.")
        self.indptr, self.indices = indptr, indices
        self.values = _Buffer(values, "values")
        self.n = self.indptr.shape[0] - 1
        stored = self.indices.shape[0]
        if self.values.view.ndim != 1 or self.values.view.shape[0] != stored:
            raise ValueError(f"values must have shape ({stored},); got {values.shape}.")
        if self.n < 0 or self.indptr[0] != 0 or self.indptr[self.n] != stored:
            raise ValueError("indptr must go from 0 to the number of values.")
        for i in range(self.n):
            if self.indptr[i + 1] < self.indptr[i] or self.indptr[i + 1] > stored:
                raise ValueError("indptr must not fall.")
            for k in range(self.indptr[i], self.indptr[i + 1]):
                if not 0 <= self.indices[k] < columns or (
                    k > self.indptr[i] and self.indices[k] <= self.indices[k - 1]
                ):
                    raise ValueError(
                        f"indices must ascend within a row, from 0 to {columns - 1}; row {i} is "
                        "not so.")
        self.rows.indptr = &self.indptr[0]
        self.rows.indices = &self.indices[0] if stored else NULL
        self.rows.values, self.rows.order = self.values.view.buf, NULL


def sparse_forward(indptr, indices, values, w, bias=None, out=None):
    """Return ``X @ w + bias``, where ``X`` is sparse and given by rows; the cost follows it.

    Parameters
    ----------
    indptr : ndarray of int64, shape (rows + 1,)
        Where each row begins and ends.
    indices : ndarray of int32
        Columns of the values, ascending in each row.
    values : ndarray of float32 or float64
        What is not zero.
    w : ndarray of the dtype of `values`, shape (n_in, n_out)
        C-contiguous and aligned.
    bias : ndarray of the dtype of `values`, shape (n_out,), optional
        Added to every row.
    out : ndarray of the dtype of `values`, shape (rows, n_out), optional
        Where to write.

    Returns
    -------
    ndarray of shape (rows, n_out)

    Raises
    ------
    TypeError
        For another dtype.
    ValueError
        If the three arrays are no CSR matrix of `n_in` columns with ascending indices; for wrong
        shapes; if an array is strided or misaligned, or `out` is read-only or shares memory.
    """
    cdef _Buffer bw = matrix(w, "w", -1, -1)
    cdef Py_ssize_t size = bw.view.itemsize, columns = bw.view.shape[1]
    cdef _Sparse x = _Sparse(indptr, indices, values, bw.view.shape[0])
    cdef Py_ssize_t n = x.n
    if x.values.view.itemsize != size:
        raise complaint(values, "values", size, False)
    cdef _Buffer bb = parameter(bias, "bias", columns, size)
    out = written_to(out, (n, columns), w)
    cdef _Buffer bo = matrix(out, "out", n, columns, size, True)
    apart(bo, (bw, bb, x.values))
    cdef void* p_bias = source(bb)
    cdef const KernelTable* table = kernel_table(size)
    with nogil:
        table.sparse_forward(&x.rows, 0, n, columns, bw.view.buf, p_bias, bo.view.buf)
    return out


def sparse_gradient(indptr, indices, values, dz, n_in, out=None):
    """Return ``X.T @ dz``, where ``X`` is sparse and given by rows; the cost follows it.

    Parameters
    ----------
    indptr, indices, values
        As for :func:`sparse_forward`.
    dz : ndarray of the dtype of `values`, shape (rows, n_out)
        C-contiguous and aligned.
    n_in : int
        Columns of ``X``.
    out : ndarray of the dtype of `values`, shape (n_in, n_out), optional
        Where to write.

    Returns
    -------
    ndarray of shape (n_in, n_out)

    Raises
    ------
    TypeError, ValueError
        As for :func:`sparse_forward`.
    """
    cdef Py_ssize_t depth = integer(n_in, "n_in")
    if depth < 0:
        raise ValueError(f"n_in must be at least 0; got {n_in}.")
    cdef _Sparse x = _Sparse(indptr, indices, values, depth)
    cdef Py_ssize_t n = x.n, size = x.values.view.itemsize
    cdef _Buffer bd = matrix(dz, "dz", n, -1, size)
    cdef Py_ssize_t columns = bd.view.shape[1]
    out = written_to(out, (depth, columns), dz)
    cdef _Buffer bo = matrix(out, "out", depth, columns, size, True)
    apart(bo, (bd, x.values))
    cdef const KernelTable* table = kernel_table(size)
    with nogil:
        table.sparse_gradient(&x.rows, n, 0, depth, columns, bd.view.buf, bo.view.buf)
    return out
