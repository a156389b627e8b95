# Losses, optimizers and the shuffle.

from libc.limits cimport INT_MAX


cdef object int_labels(object target, Py_ssize_t rows, Py_ssize_t columns):
    """Labels as C int, after a look at each."""
    if target.shape != (rows,):
        raise ValueError(
            f"target must have shape ({rows},), one integer label a row of logits; "
            f"got {target.shape}.")
    # Before they are narrowed: 2**32 would become label 0. A uint64 of 2**63 or more turns
    # negative here, and is refused as such.
    cdef const long long[::1] given = np.require(target, np.int64, ["C", "A"])
    labels = np.empty(rows, np.intc)
    cdef int[::1] result = labels
    cdef Py_ssize_t i, classes = min(columns, <Py_ssize_t>INT_MAX)
    cdef bint bad = False
    for i in range(rows):
        bad |= given[i] < 0 or given[i] >= classes
        result[i] = <int>given[i]
    if bad:
        raise ValueError(
            f"target must hold labels from 0 to {classes - 1}, one class a column of logits; "
            f"got {target.min()} to {target.max()}.")
    return labels


cdef double weight_sum(_Buffer weight) except? -1:
    cdef Py_ssize_t i, n = weight.size()
    cdef double total = 0
    if weight.view.itemsize == sizeof(float):
        for i in range(n):
            total += (<const float*>weight.view.buf)[i]
    else:
        for i in range(n):
            total += (<const double*>weight.view.buf)[i]
    if not 0 < total < float("inf"):
        raise ValueError(f"sample_weight must have a positive, finite sum; got {total:g}.")
    return total


cdef object loss_parameters(str name, object given, Py_ssize_t columns):
    """The parameters of a loss as numbers of C, after a look at each."""
    if name not in LOSS_PARAMETERS:
        if given is not None:
            raise ValueError(f"{name!r} has no parameter; got parameter={given!r}.")
        return np.empty(0)
    what, default, least, greatest, closed = LOSS_PARAMETERS[name]
    values = np.atleast_1d(np.array(default if given is None else given, np.float64))
    if values.ndim != 1 or (values.size != 1 and name != "quantile") or columns % values.size:
        raise ValueError(
            f"parameter, the {what} of {name!r}, must be one number"
            f"{', or as many as divide the columns' if name == 'quantile' else ''}; got {given!r}.")
    for value in values:
        if not (least < value < greatest or (closed and value == least)):
            raise ValueError(
                f"parameter, the {what} of {name!r}, must be {'at least' if closed else 'above'} "
                f"{least:g}{'' if greatest == float('inf') else f' and below {greatest:g}'}; "
                f"got {value:g}.")
    return values


def loss(name, logits, target, sample_weight=None, *, parameter=None, grad_out=None):
    """Return the weighted mean loss of a batch and its gradient by the logits, in one pass.

    With row losses ``l_i`` and weights ``w_i`` (all 1 by default) the value is
    ``sum(w_i * l_i) / sum(w_i)``. Over the k outputs of a row, with ``d = z - y``::

        softmax_cross_entropy  l = -sum(y * log(softmax(z)))
        binary_cross_entropy   l = mean(max(z, 0) - z * y + log(1 + exp(-|z|)))
        mse                    l = mean(d ** 2)
        mae                    l = mean(|d|)
        huber                  l = mean(d ** 2 / 2 if |d| <= delta else delta * (|d| - delta / 2))
        poisson                l = mean(exp(z) - y * z)
        log_cosh               l = mean(log(cosh(d)))
        quantile               l = mean(d * ((d > 0) - q))
        gamma                  l = mean(z + y * exp(-z))
        tweedie                l = mean(exp((2 - p) * z) / (2 - p)
                                        - y * exp((1 - p) * z) / (1 - p))
        hinge                  l = mean(max(0, 1 - (2 * y - 1) * z))
        squared_hinge          l = mean(max(0, 1 - (2 * y - 1) * z) ** 2)
        binary_focal           l = mean(binary cross-entropy * (1 - p of what is true) ** g)
        softmax_focal          l = -sum(y * (1 - softmax(z)) ** g * log(softmax(z)))

    Losses start from logits, so that no probability is rounded to 0 or 1 before its logarithm
    is taken (Bishop, *Pattern Recognition and Machine Learning*, 2006, section 4.3).

    Parameters
    ----------
    name : str
        One of :data:`dnncore.kernels.LOSSES`.
    logits : ndarray of float32 or float64, shape (batch, k)
        ``z``, C-contiguous and aligned; neither size may be 0.
    target : ndarray of the dtype of `logits`, shape (batch, k), or of integers, shape (batch,)
        ``y``. Integers are the labels 0 to k - 1 of a softmax loss. They are the one argument
        that may be copied (4 bytes a row): any integer dtype and order will do.
    sample_weight : ndarray of the dtype of `logits`, shape (batch,), optional
        ``w``; a weight of 2 counts as the row given twice.
    parameter : float or sequence of float, optional
        ``delta`` of huber, ``p`` of tweedie, gamma ``g`` of the focal losses; ``q`` of quantile,
        one for all columns or several that take turns; the label smoothing ``s`` of the
        cross-entropies, by which ``y`` becomes ``(1 - s) * y + s / k`` (binary: ``+ s / 2``).
    grad_out : ndarray of the shape and dtype of `logits`, optional
        Where to write the gradient; may be `logits` itself.

    Returns
    -------
    value : float
    gradient : ndarray of shape (batch, k)
        `grad_out`, or a new array.

    Raises
    ------
    TypeError
        If an argument is not a float32 or float64 array, or the dtypes differ, or labels are
        given to a loss that is no softmax loss.
    ValueError
        For an unknown name, an empty batch, wrong shapes, labels out of range, weights whose sum
        is not positive, or a bad `parameter`; if an array is strided or misaligned, or `grad_out`
        is read-only or shares memory with another array.
    """
    cdef int kind = entry(LOSSES, name, "loss")
    cdef _Buffer bz = matrix(logits, "logits", -1, -1)
    cdef Py_ssize_t rows = bz.view.shape[0], columns = bz.view.shape[1], size = bz.view.itemsize
    cdef _Buffer bt = None, bs = None
    cdef const int[::1] labels
    cdef const int* p_labels = NULL
    cdef double scale, value
    if rows == 0 or columns == 0:
        raise ValueError(
            f"logits must have at least one row and one column; got shape {logits.shape}.")
    cdef const double[::1] own = loss_parameters(name, parameter, columns)
    cdef const double* p_own = &own[0] if own.shape[0] else NULL
    if isinstance(target, ndarray) and target.dtype.kind in "iu":
        if kind != LOSS_SOFTMAX_CROSS_ENTROPY and kind != LOSS_SOFTMAX_FOCAL:
            raise TypeError(
                f"target of {name!r} must be {logits.dtype}, like the logits; "
                f"got {target.dtype}.")
        labels = int_labels(target, rows, columns)
        p_labels = &labels[0]
    else:
        bt = matrix(target, "target", rows, columns, size)
    scale = 1.0 / rows
    if sample_weight is not None:
        bs = vector(sample_weight, "sample_weight", rows, size)
        scale = 1.0 / weight_sum(bs)
    if grad_out is None:
        grad_out = np.empty((rows, columns), logits.dtype)
    cdef _Buffer bg = matrix(grad_out, "grad_out", rows, columns, size, True)
    keep_apart(bg, bz, True)
    keep_apart(bg, bt)
    keep_apart(bg, bs)
    cdef void* p_target = source(bt)
    cdef void* p_weight = source(bs)
    cdef const KernelTable* table = kernel_table(size)
    with nogil:
        value = table.loss(kind, rows, columns, bz.view.buf, p_labels, p_target, p_weight,
                           scale, p_own, own.shape[0], bg.view.buf)
    return value * scale, grad_out


cdef _Buffer moment(dict state, str key, object w, Py_ssize_t size):
    """One of the optimizer's own arrays; begun with zeros."""
    if key not in state:
        state[key] = np.zeros(w.shape, w.dtype)
    return same_shape(state[key], f"state[{key!r}]", w, size, True)


def optimizer_update(name, w, g, dict state not None, step, *, double lr,
                     double l2=0.0, double weight_decay=0.0, double momentum=0.9,
                     double rho=0.9, double beta1=0.9, double beta2=0.999, double eps=1e-8):
    """Update parameters in place, and the moments in `state`, in one pass.

    With ``g`` standing for ``g + l2 * w`` and ``c_i = 1 - beta_i ** step``::

        sgd       w -= lr * g
        momentum  v  = momentum * v - lr * g;            w += v
        nesterov  v  = momentum * v - lr * g;            w += momentum * v - lr * g
        rmsprop   v  = rho * v + (1 - rho) * g ** 2;     w -= lr * g / (sqrt(v) + eps)
        adam      m  = beta1 * m + (1 - beta1) * g
                  v  = beta2 * v + (1 - beta2) * g ** 2
                  w -= lr / c_1 * m / (sqrt(v) / sqrt(c_2) + eps)
        adamw     adam, and w -= lr * weight_decay * w
        nadam     adam, with m looking one step ahead
        radam     adam, without v while it is young, then damped as long as it is
        adagrad   v += g ** 2;                           w -= lr * g / (sqrt(v) + eps)
        adadelta  v  = rho * v + (1 - rho) * g ** 2
                  d  = g * sqrt(u + eps) / sqrt(v + eps)
                  u  = rho * u + (1 - rho) * d ** 2;     w -= lr * d
        lion      w -= lr * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * w)
                  m  = beta2 * m + (1 - beta2) * g

    Papers, and what is left out here: see :func:`dnncore.reference.optimizer_update`.

    Parameters
    ----------
    name : str
        One of :data:`dnncore.kernels.OPTIMIZERS`.
    w : ndarray of float32 or float64, any shape
        Parameters, C-contiguous, aligned, writable.
    g : ndarray of the shape and dtype of `w`
        Gradient of the loss by the parameters.
    state : dict of str to ndarray
        The moments named above, of the shape and dtype of `w`; those that the optimizer needs
        and does not find it makes, as zeros. Pass an empty dict to begin, then always the same.
    step : int
        Number of this update, counted from 1.
    lr : float
        Learning rate, at least 0.
    l2 : float
        Factor of the penalty ``l2 * sum(w ** 2) / 2``, at least 0.
    weight_decay : float
        Decoupled decay of adamw and lion, at least 0; the others have none.
    momentum, rho, beta1, beta2 : float
        From 0 to below 1.
    eps : float
        Greater than 0.

    Raises
    ------
    TypeError
        If an array is not float32 or float64, or the dtypes differ, or `step` is no integer.
    ValueError
        For an unknown name, a step below 1, a number out of its range, or `weight_decay` where
        there is none; if an array is strided, misaligned, read-only or of another shape, or two
        of them share memory.
    """
    cdef int kind
    cdef tuple moments
    kind, moments = entry(OPTIMIZERS, name, "optimizer")
    cdef long long count = integer(step, "step")
    if count < 1:
        raise ValueError(f"step counts updates from 1; got {step}.")
    cdef double inf = float("inf")
    check_range(lr, "lr", 0, inf)
    check_range(l2, "l2", 0, inf)
    check_range(weight_decay, "weight_decay", 0, inf)
    check_range(momentum, "momentum", 0, 1)
    check_range(rho, "rho", 0, 1)
    check_range(beta1, "beta1", 0, 1)
    check_range(beta2, "beta2", 0, 1)
    if not 0 < eps < inf:
        raise ValueError(f"eps must be positive and finite; got {eps:g}.")
    if weight_decay and name not in ("adamw", "lion"):
        raise ValueError(
            f"weight_decay is the decoupled decay of 'adamw' and 'lion'; {name!r} has none. "
            "Use l2.")
    cdef _Buffer bw = _Buffer(w, "w", 0, True)
    cdef Py_ssize_t size = bw.view.itemsize, n = bw.size()
    cdef _Buffer bg = same_shape(g, "g", w, size)
    cdef _Buffer b1 = moment(state, moments[0], w, size) if moments else None
    cdef _Buffer b2 = moment(state, moments[1], w, size) if len(moments) == 2 else None
    cdef _Buffer written, other
    for written in (bw, b1, b2):
        for other in (bw, bg, b1, b2):
            if written is not other:
                keep_apart(written, other)
    cdef OptimizerSettings h
    h.eps_hat = False
    h.lr, h.l2, h.decay, h.beta2, h.eps = lr, l2, weight_decay, beta2, eps
    h.beta1 = beta1
    if kind == OPT_RMSPROP or kind == OPT_ADADELTA:
        h.beta1 = rho
    elif kind == OPT_MOMENTUM or kind == OPT_NESTEROV:
        h.beta1 = momentum
    cdef void* s1 = source(b1)
    cdef void* s2 = source(b2)
    cdef const KernelTable* table = kernel_table(size)
    with nogil:
        table.optimizer_terms(kind, count, &h)
        table.optimizer(kind, n, bw.view.buf, bg.view.buf, s1, s2, &h)


cdef unsigned long long word(object value, str name) except? 0:
    return integer(value, name) & 0xFFFFFFFFFFFFFFFF


def shuffle(n, seed, stream=0, epoch=0, out=None):
    """Return a random permutation of ``0 .. n - 1``: a function of (seed, stream, epoch).

    Fisher-Yates from the top (Durstenfeld, Algorithm 235, 1964), fed by the words of a
    counter-based SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). There is no state to store: the
    same arguments give the same permutation in every process, version and machine.

    Parameters
    ----------
    n : int
        Number of items.
    seed, stream, epoch : int
        What the permutation depends on, each modulo 2**64.
    out : ndarray of int64, shape (n,), optional
        Where to write; C-contiguous and aligned.

    Returns
    -------
    ndarray of int64, shape (n,)
        `out`, or a new array.

    Raises
    ------
    TypeError
        If a number is not an integer, or `out` is not an int64 array.
    ValueError
        If `n` is negative, or `out` is read-only, strided, misaligned or of another shape.
    """
    cdef unsigned long long key = stream_key(
        word(seed, "seed"), word(stream, "stream"), word(epoch, "epoch"))
    n = integer(n, "n")
    if n < 0:
        raise ValueError(f"n must be at least 0; got {n}.")
    if out is None:
        out = np.empty(n, np.int64)
    elif not isinstance(out, ndarray) or out.dtype != np.int64:
        raise TypeError(
            f"out must be an int64 array in native byte order; "
            f"got {getattr(out, 'dtype', type(out).__name__)}.")
    elif out.shape != (n,):
        raise ValueError(f"out must have shape ({n},); got {out.shape}.")
    elif not (out.flags.carray):
        raise ValueError("out must be C-contiguous, aligned and writable.")
    cdef Py_ssize_t count = n
    cdef long long[::1] order = out
    if count:
        with nogil:
            shuffle_indices(count, key, &order[0])
    return out
