# Optimizers: one pass over a run of parameters, their gradients and their moments.
#
# `w` parameters, `g` gradients, `s1` and `s2` moments (unused ones NULL), all contiguous.
# Terms that depend on the step only are computed by the caller (OptimizerSettings).
#
# To add an optimizer: a loop here, an id in `_table.pxd`, a row in `reference` and one class
# in `optimizers.py`.

cdef inline inlined sgd(Py_ssize_t n, real* w, const real* g, real lr, real l2) noexcept nogil:
    # w <- w - lr (g + l2 w)
    cdef Py_ssize_t i
    for i in range(n):
        w[i] = w[i] - lr * (g[i] + l2 * w[i])


cdef inline inlined momentum(
    Py_ssize_t n, real* w, const real* g, real* v, real lr, real l2, real mu, bint nesterov
) noexcept nogil:
    # v <- mu v - lr (g + l2 w);  w <- w + v, or with Nesterov w + mu v - lr (g + l2 w)
    cdef Py_ssize_t i
    cdef real step, velocity
    for i in range(n):
        step = lr * (g[i] + l2 * w[i])
        velocity = mu * v[i] - step
        v[i] = velocity
        w[i] = w[i] + (mu * velocity - step if nesterov else velocity)


cdef inline inlined rmsprop(
    Py_ssize_t n, real* w, const real* g, real* s,
    real lr, real l2, real rho, real c, real eps
) noexcept nogil:
    # s <- rho s + (1 - rho) g^2;  w <- w - lr g / (sqrt(s) + eps)
    # c is 1 - rho, formed in double: in float32 1 - 0.999 is off by 1e-5.
    cdef Py_ssize_t i
    cdef real d, square
    for i in range(n):
        d = g[i] + l2 * w[i]
        square = rho * s[i] + c * (d * d)
        s[i] = square
        w[i] = w[i] - lr * d / (sqrt_(square) + eps)


cdef inline inlined adam(
    Py_ssize_t n, real* w, const real* g, real* m, real* v,
    real l2, real decay, real b1, real c1, real b2, real c2,
    real eps, real step_scale, real root_scale
) noexcept nogil:
    # m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
    # w <- w - (decay w + step_scale m / (sqrt(v) root_scale + eps))
    # c1 and c2 are 1 - b1 and 1 - b2, formed in double as above. (1 - decay) w would not do
    # either: in float32 1 - 1e-7 is off by a fifth of the decay, the same way at every step.
    cdef Py_ssize_t i
    cdef real d, mean, square
    for i in range(n):
        d = g[i] + l2 * w[i]
        mean = b1 * m[i] + c1 * d
        square = b2 * v[i] + c2 * (d * d)
        m[i] = mean
        v[i] = square
        w[i] = w[i] - (decay * w[i] + step_scale * mean / (sqrt_(square) * root_scale + eps))


cdef double sum_squares(Py_ssize_t n, const void* x_) noexcept nogil:
    # In double, over eight partial sums in element order.
    cdef const real* x = <const real*>x_
    cdef double s[8]
    cdef double rest = 0
    cdef Py_ssize_t i = 0
    cdef int j
    for j in range(8):
        s[j] = 0
    while i + 8 <= n:
        for j in range(8):
            s[j] += <double>x[i + j] * x[i + j]
        i += 8
    while i < n:
        rest += <double>x[i] * x[i]
        i += 1
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7])) + rest


cdef void optimizer(
    int kind, Py_ssize_t n, void* w_, const void* g_, void* s1, void* s2,
    const OptimizerSettings* h
) noexcept nogil:
    cdef real* w = <real*>w_
    cdef const real* g = <const real*>g_
    cdef real lr = <real>h.lr, l2 = <real>h.l2
    if kind == OPT_SGD:
        sgd(n, w, g, lr, l2)
    elif kind == OPT_MOMENTUM:
        momentum(n, w, g, <real*>s1, lr, l2, <real>h.beta1, False)
    elif kind == OPT_NESTEROV:
        momentum(n, w, g, <real*>s1, lr, l2, <real>h.beta1, True)
    elif kind == OPT_RMSPROP:
        rmsprop(n, w, g, <real*>s1, lr, l2, <real>h.beta1, <real>(1 - h.beta1), <real>h.eps)
    else:
        adam(n, w, g, <real*>s1, <real*>s2, l2, <real>(h.lr * h.decay),
             <real>h.beta1, <real>(1 - h.beta1), <real>h.beta2, <real>(1 - h.beta2),
             <real>h.eps, <real>h.step_scale, <real>h.root_scale)
