# Layers beside the linear one: normalisation, parametric activations, masks and noise.

cdef object written_to(object out, tuple shape, object like):
    return np.empty(shape, like.dtype) if out is None else out


cdef _Buffer parameter(object array, str name, Py_ssize_t columns, Py_ssize_t size):
    """A number for each column, or nothing."""
    return None if array is None else vector(array, name, columns, size)


def layer_norm(x, gamma=None, beta=None, *, double eps=1e-5, bint centred=True,
               out=None, kept_out=None):
    """Normalise each row: ``kept = (x - mean) * factor``, ``out = kept * gamma + beta``.

    ``factor = 1 / sqrt(mean((x - mean) ** 2) + eps)``, means over the row. Without `centred` the
    mean is taken for 0: RMS normalisation. Ba, Kiros and Hinton 2016, "Layer normalization";
    Zhang and Sennrich 2019, "Root mean square layer normalization".

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (rows, columns)
        C-contiguous and aligned.
    gamma, beta : ndarray of the dtype of `x`, shape (columns,), optional
        Ones and zeros by default.
    eps : float
        At least 0.
    centred : bool
        Whether the row's mean is taken off.
    out, kept_out : ndarray of the shape and dtype of `x`, optional
        Where to write.

    Returns
    -------
    out, kept : ndarray of shape (rows, columns)
    factor : ndarray of shape (rows,)
        What :func:`layer_norm_backward` needs.

    Raises
    ------
    TypeError
        If an argument is not a float32 or float64 array, or the dtypes differ.
    ValueError
        For wrong shapes or a negative `eps`; if an array is strided or misaligned, or one that is
        written is read-only or shares memory with another.
    """
    check_range(eps, "eps", 0, float("inf"))
    cdef _Buffer bx = matrix(x, "x", -1, -1)
    cdef Py_ssize_t rows = bx.view.shape[0], columns = bx.view.shape[1], size = bx.view.itemsize
    cdef _Buffer bg = parameter(gamma, "gamma", columns, size)
    cdef _Buffer bb = parameter(beta, "beta", columns, size)
    out, kept_out = written_to(out, x.shape, x), written_to(kept_out, x.shape, x)
    factor = np.empty(rows, x.dtype)
    cdef _Buffer bo = same_shape(out, "out", x, size, True)
    cdef _Buffer bk = same_shape(kept_out, "kept_out", x, size, True)
    cdef _Buffer bf = vector(factor, "factor", rows, size, True)
    apart(bo, (bx, bg, bb, bk))
    apart(bk, (bx, bg, bb))
    cdef void* p_gamma = source(bg)
    cdef void* p_beta = source(bb)
    cdef const KernelTable* table = kernel_table(size)
    if columns:
        with nogil:
            table.row_norm_forward(centred, rows, columns, bx.view.buf, eps, p_gamma, p_beta,
                                   bk.view.buf, bf.view.buf, bo.view.buf)
    return out, kept_out, factor


cdef int apart(_Buffer written, tuple others) except -1:
    cdef _Buffer other
    for other in others:
        keep_apart(written, other)
    return 0


def layer_norm_backward(d, kept, factor, gamma=None, *, bint centred=True, out=None):
    """Return the gradient by the input of :func:`layer_norm`.

    With ``g = d * gamma``: ``factor * (g - mean(g) - kept * mean(g * kept))``, means over the
    row, the first of them only if `centred`.

    Parameters
    ----------
    d : ndarray of float32 or float64, shape (rows, columns)
        Gradient by the output.
    kept, factor : ndarray
        From :func:`layer_norm`.
    gamma, centred
        As there.
    out : ndarray of the shape and dtype of `d`, optional
        Where to write.

    Returns
    -------
    ndarray of shape (rows, columns)

    Raises
    ------
    TypeError, ValueError
        As for :func:`layer_norm`.
    """
    cdef _Buffer bd = matrix(d, "d", -1, -1)
    cdef Py_ssize_t rows = bd.view.shape[0], columns = bd.view.shape[1], size = bd.view.itemsize
    cdef _Buffer bk = same_shape(kept, "kept", d, size)
    cdef _Buffer bf = vector(factor, "factor", rows, size)
    cdef _Buffer bg = parameter(gamma, "gamma", columns, size)
    out = written_to(out, d.shape, d)
    cdef _Buffer bo = same_shape(out, "out", d, size, True)
    apart(bo, (bd, bk, bf, bg))
    cdef void* p_gamma = source(bg)
    cdef const KernelTable* table = kernel_table(size)
    if columns:
        with nogil:
            table.row_norm_backward(centred, rows, columns, bd.view.buf, p_gamma, bk.view.buf,
                                    bf.view.buf, bo.view.buf)
    return out


def batch_moments(x):
    """Return mean and variance (over n) of each column, by two passes.

    Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance".

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (rows, columns)
        C-contiguous and aligned; at least one row.

    Returns
    -------
    mean, variance : ndarray of shape (columns,)

    Raises
    ------
    TypeError, ValueError
        As for :func:`layer_norm`.
    """
    cdef _Buffer bx = matrix(x, "x", -1, -1)
    cdef Py_ssize_t rows = bx.view.shape[0], columns = bx.view.shape[1], size = bx.view.itemsize
    if rows == 0:
        raise ValueError(f"x must have at least one row; got shape {x.shape}.")
    mean, variance = np.empty((2, columns), x.dtype)
    cdef _Buffer bm = vector(mean, "mean", columns, size, True)
    cdef _Buffer bv = vector(variance, "variance", columns, size, True)
    cdef const KernelTable* table = kernel_table(size)
    with nogil:
        table.column_moments(rows, columns, bx.view.buf, bm.view.buf, bv.view.buf)
    variance /= rows
    return mean, variance


def column_sums(x):
    """Return the sum of each column: the gradient by what is added to all rows.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (rows, columns)
        C-contiguous and aligned.

    Returns
    -------
    ndarray of shape (columns,)

    Raises
    ------
    TypeError, ValueError
        As for :func:`layer_norm`.
    """
    cdef _Buffer bx = matrix(x, "x", -1, -1)
    cdef Py_ssize_t rows = bx.view.shape[0], columns = bx.view.shape[1], size = bx.view.itemsize
    out = np.empty(columns, x.dtype)
    cdef _Buffer bo = vector(out, "out", columns, size, True)
    cdef const KernelTable* table = kernel_table(size)
    with nogil:
        table.column_sums(rows, columns, bx.view.buf, columns, bo.view.buf)
    return out


def column_dots(x, y):
    """Return ``sum(x * y)`` over the rows: the gradient by what multiplies each column.

    Parameters
    ----------
    x, y : ndarray of float32 or float64, shape (rows, columns)
        C-contiguous and aligned.

    Returns
    -------
    ndarray of shape (columns,)

    Raises
    ------
    TypeError, ValueError
        As for :func:`layer_norm`.
    """
    cdef _Buffer bx = matrix(x, "x", -1, -1)
    cdef Py_ssize_t rows = bx.view.shape[0], columns = bx.view.shape[1], size = bx.view.itemsize
    cdef _Buffer by = same_shape(y, "y", x, size)
    out = np.empty(columns, x.dtype)
    cdef _Buffer bo = vector(out, "out", columns, size, True)
    cdef const KernelTable* table = kernel_table(size)
    with nogil:
        table.column_dots(rows, columns, bx.view.buf, by.view.buf, bo.view.buf)
    return out


def batch_norm(x, mean, variance, gamma=None, beta=None, *, double eps=1e-5,
               out=None, kept_out=None):
    """Normalise each column: ``kept = (x - mean) / sqrt(variance + eps)``.

    The result is ``kept * gamma + beta``. Ioffe and Szegedy 2015, "Batch normalization".

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (rows, columns)
        C-contiguous and aligned.
    mean, variance : ndarray of the dtype of `x`, shape (columns,)
        From :func:`batch_moments`, or running averages.
    gamma, beta : ndarray of the dtype of `x`, shape (columns,), optional
        Ones and zeros by default.
    eps : float
        At least 0.
    out, kept_out : ndarray of the shape and dtype of `x`, optional
        Where to write.

    Returns
    -------
    out, kept : ndarray of shape (rows, columns)

    Raises
    ------
    TypeError, ValueError
        As for :func:`layer_norm`.
    """
    check_range(eps, "eps", 0, float("inf"))
    cdef _Buffer bx = matrix(x, "x", -1, -1)
    cdef Py_ssize_t rows = bx.view.shape[0], columns = bx.view.shape[1], size = bx.view.itemsize
    cdef _Buffer bm = vector(mean, "mean", columns, size)
    cdef _Buffer bv = vector(variance, "variance", columns, size)
    cdef _Buffer bg = parameter(gamma, "gamma", columns, size)
    cdef _Buffer bb = parameter(beta, "beta", columns, size)
    out, kept_out = written_to(out, x.shape, x), written_to(kept_out, x.shape, x)
    cdef _Buffer bo = same_shape(out, "out", x, size, True)
    cdef _Buffer bk = same_shape(kept_out, "kept_out", x, size, True)
    apart(bo, (bx, bm, bv, bg, bb, bk))
    apart(bk, (bx, bm, bv, bg, bb))
    cdef void* p_gamma = source(bg)
    cdef void* p_beta = source(bb)
    cdef const KernelTable* table = kernel_table(size)
    with nogil:
        table.column_norm_forward(rows, columns, bx.view.buf, bm.view.buf, bv.view.buf, eps,
                                  p_gamma, p_beta, bk.view.buf, bo.view.buf)
    return out, kept_out


def batch_norm_backward(d, kept, variance, gamma=None, *, double eps=1e-5, out=None):
    """Return the gradients of :func:`batch_norm` where mean and variance are the batch's own.

    ``dbeta = sum(d)``, ``dgamma = sum(d * kept)`` over the rows, and ``dx = gamma /
    sqrt(variance + eps) * (d - dbeta / rows - kept * dgamma / rows)``.

    Parameters
    ----------
    d : ndarray of float32 or float64, shape (rows, columns)
        Gradient by the output; at least one row.
    kept, variance, gamma, eps
        As for :func:`batch_norm`.
    out : ndarray of the shape and dtype of `d`, optional
        Where to write ``dx``.

    Returns
    -------
    dx : ndarray of shape (rows, columns)
    dgamma, dbeta : ndarray of shape (columns,)

    Raises
    ------
    TypeError, ValueError
        As for :func:`layer_norm`.
    """
    check_range(eps, "eps", 0, float("inf"))
    cdef _Buffer bd = matrix(d, "d", -1, -1)
    cdef Py_ssize_t rows = bd.view.shape[0], columns = bd.view.shape[1], size = bd.view.itemsize
    if rows == 0:
        raise ValueError(f"d must have at least one row; got shape {d.shape}.")
    cdef _Buffer bk = same_shape(kept, "kept", d, size)
    cdef _Buffer bv = vector(variance, "variance", columns, size)
    cdef _Buffer bg = parameter(gamma, "gamma", columns, size)
    out = written_to(out, d.shape, d)
    cdef _Buffer bo = same_shape(out, "out", d, size, True)
    apart(bo, (bd, bk, bv, bg))
    d_gamma, d_beta = np.empty((2, columns), d.dtype)
    cdef _Buffer b_dgamma = vector(d_gamma, "dgamma", columns, size, True)
    cdef _Buffer b_dbeta = vector(d_beta, "dbeta", columns, size, True)
    cdef void* p_gamma = source(bg)
    cdef const KernelTable* table = kernel_table(size)
    table.column_sums(rows, columns, bd.view.buf, columns, b_dbeta.view.buf)
    table.column_dots(rows, columns, bd.view.buf, bk.view.buf, b_dgamma.view.buf)
    means, dots = d_beta / d.dtype.type(rows), d_gamma / d.dtype.type(rows)
    cdef _Buffer b_mean = vector(means, "mean", columns, size)
    cdef _Buffer b_dot = vector(dots, "dot", columns, size)
    with nogil:
        table.column_norm_backward(rows, columns, bd.view.buf, bk.view.buf, bv.view.buf, eps,
                                   p_gamma, b_mean.view.buf, b_dot.view.buf, bo.view.buf)
    return out, d_gamma, d_beta


def prelu(x, slope, out=None):
    """Return ``x`` where it is positive, else ``slope * x``, with a slope for each column.

    He et al. 2015, "Delving deep into rectifiers".

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (rows, columns)
        C-contiguous and aligned.
    slope : ndarray of the dtype of `x`, shape (columns,)
        Of each column.
    out : ndarray of the shape and dtype of `x`, optional
        Where to write.

    Returns
    -------
    ndarray of shape (rows, columns)

    Raises
    ------
    TypeError, ValueError
        As for :func:`layer_norm`.
    """
    cdef _Buffer bx = matrix(x, "x", -1, -1)
    cdef Py_ssize_t rows = bx.view.shape[0], columns = bx.view.shape[1], size = bx.view.itemsize
    cdef _Buffer bs = vector(slope, "slope", columns, size)
    out = written_to(out, x.shape, x)
    cdef _Buffer bo = same_shape(out, "out", x, size, True)
    apart(bo, (bx, bs))
    cdef const KernelTable* table = kernel_table(size)
    with nogil:
        table.prelu_forward(rows, columns, bx.view.buf, bs.view.buf, NULL, bo.view.buf)
    return out


def prelu_backward(d, x, slope, out=None):
    """Return ``d`` where ``x`` is positive, else ``slope * d``: the gradient by the input.

    Parameters
    ----------
    d : ndarray of float32 or float64, shape (rows, columns)
        Gradient by the output.
    x, slope
        As for :func:`prelu`.
    out : ndarray of the shape and dtype of `d`, optional
        Where to write.

    Returns
    -------
    ndarray of shape (rows, columns)

    Raises
    ------
    TypeError, ValueError
        As for :func:`layer_norm`.
    """
    cdef _Buffer bd = matrix(d, "d", -1, -1)
    cdef Py_ssize_t rows = bd.view.shape[0], columns = bd.view.shape[1], size = bd.view.itemsize
    cdef _Buffer bx = same_shape(x, "x", d, size)
    cdef _Buffer bs = vector(slope, "slope", columns, size)
    out = written_to(out, d.shape, d)
    cdef _Buffer bo = same_shape(out, "out", d, size, True)
    apart(bo, (bd, bx, bs))
    cdef const KernelTable* table = kernel_table(size)
    with nogil:
        table.prelu_backward(rows, columns, bd.view.buf, bx.view.buf, bs.view.buf, bo.view.buf)
    return out


def blend(x, f, weight, out=None):
    """Return ``x + (f - x) * weight``, with a weight for each column.

    Parameters
    ----------
    x, f : ndarray of float32 or float64, shape (rows, columns)
        Two matrices, such as an input and an activation of it.
    weight : ndarray of the dtype of `x`, shape (columns,)
        Share of ``f``.
    out : ndarray of the shape and dtype of `x`, optional
        Where to write.

    Returns
    -------
    ndarray of shape (rows, columns)

    Raises
    ------
    TypeError, ValueError
        As for :func:`layer_norm`.
    """
    cdef _Buffer bx = matrix(x, "x", -1, -1)
    cdef Py_ssize_t rows = bx.view.shape[0], columns = bx.view.shape[1], size = bx.view.itemsize
    cdef _Buffer bf = same_shape(f, "f", x, size)
    cdef _Buffer bw = vector(weight, "weight", columns, size)
    out = written_to(out, x.shape, x)
    cdef _Buffer bo = same_shape(out, "out", x, size, True)
    apart(bo, (bx, bf, bw))
    cdef const KernelTable* table = kernel_table(size)
    with nogil:
        table.blend(rows, columns, bx.view.buf, bf.view.buf, bw.view.buf, NULL, bo.view.buf)
    return out


cdef object noisy(int which, object x, double amount, object key, bint backward, object out):
    cdef unsigned long long number = word(key, "key")
    cdef _Buffer bx = _Buffer(x, "x")
    out = written_to(out, x.shape, x)
    cdef _Buffer bo = same_shape(out, "out", x, bx.view.itemsize, True)
    keep_apart(bo, bx, True)
    cdef const KernelTable* table = kernel_table(bx.view.itemsize)
    cdef unsigned int low = <unsigned int>number
    cdef Py_ssize_t n = bx.size()
    with nogil:
        if which == 0:
            table.dropout(n, low, 0, amount, bx.view.buf, bo.view.buf)
        elif which == 1:
            table.alpha_dropout(n, low, 0, amount, backward, bx.view.buf, bo.view.buf)
        else:
            table.gaussian_noise(n, number, 0, amount, bx.view.buf, bo.view.buf)
    return out


def dropout(x, double rate, key, out=None):
    """Set a share of the elements to 0 and divide the others by ``1 - rate``.

    Which ones is a function of `key` and the element's place: the same call is its own backward
    pass. Srivastava et al. 2014, "Dropout".

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
        C-contiguous and aligned; inputs, or the gradient by the outputs.
    rate : float
        Share, from 0 to below 1.
    key : int
        Its low 32 bits choose the mask.
    out : ndarray of the shape and dtype of `x`, optional
        Where to write; may be `x` itself.

    Returns
    -------
    ndarray
        `out`, or a new array.

    Raises
    ------
    TypeError
        If an argument is not a float32 or float64 array, the dtypes differ, or `key` is no integer.
    ValueError
        For a `rate` out of range; if an array is strided or misaligned, or `out` is read-only, of
        another shape, or shares part of its memory with `x`.
    """
    check_range(rate, "rate", 0, 1)
    return noisy(0, x, rate, key, False, out)


def alpha_dropout(x, double rate, key, *, bint backward=False, out=None):
    """Drop to selu's lower limit, then scale and shift so that mean 0 and variance 1 stay.

    Klambauer et al. 2017, "Self-normalizing neural networks".

    Parameters
    ----------
    x, rate, key, out
        As for :func:`dropout`.
    backward : bool
        Whether `x` is the gradient by the outputs, and that by the inputs is wanted.

    Returns
    -------
    ndarray
        `out`, or a new array.

    Raises
    ------
    TypeError, ValueError
        As for :func:`dropout`.
    """
    check_range(rate, "rate", 0, 1)
    return noisy(1, x, rate, key, backward, out)


def gaussian_noise(x, double deviation, key, out=None):
    """Add normal noise of mean 0, a function of `key` and the element's place.

    Box and Muller 1958, "A note on the generation of random normal deviates".

    Parameters
    ----------
    x, key, out
        As for :func:`dropout`; all 64 bits of the key count.
    deviation : float
        Standard deviation, at least 0.

    Returns
    -------
    ndarray
        `out`, or a new array.

    Raises
    ------
    TypeError, ValueError
        As for :func:`dropout`.
    """
    check_range(deviation, "deviation", 0, float("inf"))
    return noisy(2, x, deviation, key, False, out)
