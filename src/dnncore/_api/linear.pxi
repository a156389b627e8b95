# Matrix products and linear layers.

def product(a, b, *, bint transpose_a=False, bint transpose_b=False, bias=None, out=None,
            bint accumulate=False, bint relu=False, gate=None):
    """Return ``a @ b`` with what comes before and after it in a network, in one pass.

    With ``op(x)`` for ``x`` or its transpose::

        c = op(a) @ op(b)                 plain
        c = op(a) @ op(b) + bias          bias
        c = op(a) @ op(b) + c             accumulate
        c = max(..., 0)                   relu
        c = ... where gate > 0, else 0    gate

    With AVX2 or AVX-512 all products run on the library's own kernels, otherwise large ones on
    SciPy's BLAS; see ``product_path``. The bits of a result depend on which, and on the SIMD
    level. The own kernels look whether an operand has many zeros, as behind a rectifier, and
    leave them out: faster, with the same bits, but zero times infinity may be 0 in place of NaN.

    Parameters
    ----------
    a : ndarray of float32 or float64, shape (m, k)
        C-contiguous and aligned; shape (k, m) if `transpose_a`.
    b : ndarray of the dtype of `a`, shape (k, n)
        The same; shape (n, k) if `transpose_b`.
    transpose_a, transpose_b : bool
        Multiply by the transpose; nothing is copied for it.
    bias : ndarray of shape (n,), optional
        Added to every row.
    out : ndarray of shape (m, n), optional
        Where to write; shares no memory with any other argument.
    accumulate : bool
        Add to what `out` holds, instead of overwriting it.
    relu : bool
        Rectify the result.
    gate : ndarray of shape (m, n), optional
        Output of a rectified layer: the result is its derivative applied to the product.

    Returns
    -------
    ndarray of shape (m, n)
        `out`, or a new array.

    Raises
    ------
    TypeError
        If an argument is not a float32 or float64 array, or the dtypes differ.
    ValueError
        If shapes do not fit; if an array is strided or misaligned, or `out` is read-only or
        shares memory with another; for `accumulate` without `out` or with `bias`, or `relu`
        with `gate`.
    """
    cdef _Buffer ba = matrix(a, "a", -1, -1)
    cdef Py_ssize_t size = ba.view.itemsize
    cdef _Buffer bb = matrix(b, "b", -1, -1, size)
    cdef _Buffer bbias = None, bgate = None
    cdef Product p
    p.rows = ba.view.shape[1 if transpose_a else 0]
    p.depth = ba.view.shape[0 if transpose_a else 1]
    p.columns = bb.view.shape[0 if transpose_b else 1]
    if bb.view.shape[1 if transpose_b else 0] != p.depth:
        raise ValueError(
            f"inner sizes must agree; got a {a.shape}{', transposed,' if transpose_a else ''} "
            f"and b {b.shape}{', transposed' if transpose_b else ''}.")
    if accumulate and (out is None or bias is not None):
        raise ValueError("accumulate adds to out: pass out, and no bias.")
    if relu and gate is not None:
        raise ValueError("relu and gate exclude each other; pass one of them.")
    if out is None:
        out = np.empty((p.rows, p.columns), a.dtype)
    cdef _Buffer bo = matrix(out, "out", p.rows, p.columns, size, True)
    if bias is not None:
        bbias = vector(bias, "bias", p.columns, size)
    if gate is not None:
        bgate = matrix(gate, "gate", p.rows, p.columns, size)
    keep_apart(bo, ba)
    keep_apart(bo, bb)
    keep_apart(bo, bbias)
    keep_apart(bo, bgate)
    p.a, p.b, p.c = ba.view.buf, bb.view.buf, bo.view.buf
    p.a_row = 1 if transpose_a else p.depth
    p.a_step = p.rows if transpose_a else 1
    p.b_step = 1 if transpose_b else p.columns
    p.b_column = p.depth if transpose_b else 1
    p.c_row = p.gate_row = p.columns
    p.bias, p.gate = source(bbias), source(bgate)
    p.claimed = NULL
    p.accumulate = accumulate
    p.epilogue = EPI_RELU if relu else (EPI_NONE if bgate is None else EPI_GATE)
    cdef const KernelTable* table = kernel_table(size)
    cdef _Scratch scratch = _Scratch(size, table.product_scratch(
        p.rows, p.columns, p.depth, transpose_a))
    p.scratch = scratch.panel
    with nogil:
        matmul(table, &p)
    return out


def product_path(rows, columns, depth):
    """Return which code multiplies matrices of these sizes: ``"own"`` or ``"blas"``.

    Parameters
    ----------
    rows, columns : int
        Shape of the result.
    depth : int
        The inner size.

    Returns
    -------
    str

    Raises
    ------
    TypeError
        If a size is not an integer.
    ValueError
        If it is negative.
    """
    cdef Product p
    p.rows = integer(rows, "rows")
    p.columns = integer(columns, "columns")
    p.depth = integer(depth, "depth")
    if p.rows < 0 or p.columns < 0 or p.depth < 0:
        raise ValueError(f"sizes must be at least 0; got {rows}, {columns} and {depth}.")
    p.a_row, p.a_step, p.b_step, p.b_column, p.c_row = p.depth, 1, p.columns, 1, p.columns
    return "blas" if uses_blas(_float32, &p) else "own"


def dense_forward(x, w, b, activation="identity", out=None, z_out=None):
    """Return ``a = f(z)`` and ``z = x @ w + b``: a linear layer with its activation.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (batch, n_in)
        Examples as rows; C-contiguous and aligned, like all arrays here.
    w : ndarray of the dtype of `x`, shape (n_in, n_out)
        Weights.
    b : ndarray of the dtype of `x`, shape (n_out,)
        Bias.
    activation : str
        ``f``, one of :data:`dnncore.kernels.ACTIVATIONS`.
    out : ndarray of the dtype of `x`, shape (batch, n_out), optional
        Where to write ``a``.
    z_out : ndarray of the dtype of `x`, shape (batch, n_out), optional
        Where to write ``z``. By default ``z`` is kept only if the derivative of the activation
        is computed from it. Pass `out` itself if ``z`` is not needed, as in prediction.

    Returns
    -------
    a : ndarray of shape (batch, n_out)
        `out`, or a new array.
    z : ndarray of shape (batch, n_out), or None
        `z_out`; without it a new array for gelu, gelu_tanh, silu, mish and hard_swish, and
        ``None`` for all others.

    Raises
    ------
    TypeError
        If an argument is not a float32 or float64 array, or the dtypes differ.
    ValueError
        For an unknown activation; if shapes do not fit or an array is strided or misaligned, or
        an output is read-only or shares memory with another array.
    """
    cdef int kind = entry(ACTIVATIONS, activation, "activation")
    cdef _Buffer bx = matrix(x, "x", -1, -1)
    cdef Py_ssize_t rows = bx.view.shape[0], n_in = bx.view.shape[1], size = bx.view.itemsize
    cdef _Buffer bw = matrix(w, "w", n_in, -1, size)
    cdef Py_ssize_t n_out = bw.view.shape[1]
    cdef _Buffer bb = vector(b, "b", n_out, size)
    if out is None:
        out = np.empty((rows, n_out), x.dtype)
    if z_out is None and needs_input(kind):
        z_out = np.empty((rows, n_out), x.dtype)
    cdef _Buffer bo = matrix(out, "out", rows, n_out, size, True)
    cdef _Buffer bz = None if z_out is None else matrix(z_out, "z_out", rows, n_out, size, True)
    cdef _Buffer other
    keep_apart(bz, bo, True)
    for other in (bx, bw, bb):
        keep_apart(bo, other)
        keep_apart(bz, other)
    cdef void* z = bo.view.buf if bz is None else bz.view.buf
    cdef const KernelTable* table = kernel_table(size)
    cdef _Scratch scratch = _Scratch(size, table.product_scratch(rows, n_out, n_in, False))
    with nogil:
        _linear_forward(table, kind, rows, n_in, n_out, bx.view.buf, bw.view.buf, bb.view.buf,
                        z, bo.view.buf, scratch.panel)
    return out, z_out


def dense_backward(da, x, w, z, a, activation="identity", *, bint need_dx=True,
                   dx_out=None, dw_out=None, db_out=None, dz_out=None):
    """Return the gradients by input, weights and bias of a linear layer with its activation.

    With ``dz`` from :func:`activation_backward`: ``dx = dz @ w.T``, ``dw = x.T @ dz`` and ``db``
    is the sum of ``dz`` over the batch (Rumelhart, Hinton and Williams, Nature 323, 1986).

    Parameters
    ----------
    da : ndarray of float32 or float64, shape (batch, n_out)
        Gradient by the layer's output ``a``; C-contiguous and aligned, like all arrays here.
    x : ndarray of the dtype of `da`, shape (batch, n_in)
        The layer's input.
    w : ndarray of the dtype of `da`, shape (n_in, n_out)
        Weights.
    z, a : ndarray of the dtype of `da`, shape (batch, n_out), or None
        What the forward pass returned. gelu, gelu_tanh, silu, mish and hard_swish need `z`, all
        others `a` (identity neither); the other one may be ``None``.
    activation : str
        One of :data:`dnncore.kernels.ACTIVATIONS`.
    need_dx : bool
        Whether ``dx`` is wanted; the first layer of a network does without.
    dx_out, dw_out, db_out : ndarray of the dtype of `da`, optional
        Where to write, in the shapes of `x`, `w` and the bias.
    dz_out : ndarray of the dtype of `da`, shape (batch, n_out), optional
        Where to write ``dz``; may be `da` itself. Without it, ``dz`` is held in a new array.

    Returns
    -------
    dx : ndarray of shape (batch, n_in), or None
    dw : ndarray of shape (n_in, n_out)
    db : ndarray of shape (n_out,)

    Raises
    ------
    TypeError
        If an argument is not a float32 or float64 array, or the dtypes differ.
    ValueError
        For an unknown activation, or ``None`` for the one of `z` and `a` that is needed; if
        shapes do not fit or an array is strided or misaligned, or an output is read-only or
        shares memory with another array; for `dx_out` without `need_dx`.
    """
    cdef int kind = entry(ACTIVATIONS, activation, "activation")
    check_sources(kind, str(activation), z, a)
    if dx_out is not None and not need_dx:
        raise ValueError("dx_out is given but need_dx is False; pass one or the other.")
    cdef _Buffer bd = matrix(da, "da", -1, -1)
    cdef Py_ssize_t rows = bd.view.shape[0], n_out = bd.view.shape[1], size = bd.view.itemsize
    cdef _Buffer bx = matrix(x, "x", rows, -1, size)
    cdef Py_ssize_t n_in = bx.view.shape[1]
    cdef _Buffer bw = matrix(w, "w", n_in, n_out, size)
    cdef _Buffer bz = None if z is None else matrix(z, "z", rows, n_out, size)
    cdef _Buffer ba = None if a is None else matrix(a, "a", rows, n_out, size)
    if need_dx and dx_out is None:
        dx_out = np.empty((rows, n_in), x.dtype)
    if dw_out is None:
        dw_out = np.empty((n_in, n_out), x.dtype)
    if db_out is None:
        db_out = np.empty(n_out, x.dtype)
    if dz_out is None:
        dz_out = np.empty((rows, n_out), x.dtype)
    cdef _Buffer bdx = matrix(dx_out, "dx_out", rows, n_in, size, True) if need_dx else None
    cdef _Buffer bdw = matrix(dw_out, "dw_out", n_in, n_out, size, True)
    cdef _Buffer bdb = vector(db_out, "db_out", n_out, size, True)
    cdef _Buffer bdz = matrix(dz_out, "dz_out", rows, n_out, size, True)
    cdef _Buffer out, other
    for out in (bdx, bdw, bdb):
        for other in (bd, bx, bw, bz, ba, bdz):
            keep_apart(out, other)
    keep_apart(bdx, bdw)
    keep_apart(bdx, bdb)
    keep_apart(bdw, bdb)
    for other in (bd, bz, ba):
        keep_apart(bdz, other, True)
    keep_apart(bdz, bx)
    keep_apart(bdz, bw)
    cdef void* p_z = source(bz)
    cdef void* p_a = source(ba)
    cdef void* p_dx = source(bdx)
    cdef const KernelTable* table = kernel_table(size)
    cdef _Scratch scratch = _Scratch(size, max(
        table.product_scratch(n_in, n_out, rows, True),
        table.product_scratch(rows, n_in, n_out, False)))
    with nogil:
        _linear_backward(table, kind, rows, n_in, n_out, bd.view.buf, bx.view.buf, bw.view.buf,
                         p_z, p_a, bdz.view.buf, p_dx, bdw.view.buf, bdb.view.buf,
                         scratch.panel)
    return dx_out, dw_out, db_out
