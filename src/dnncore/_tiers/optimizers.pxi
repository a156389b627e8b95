# Optimizers: one pass over a run of parameters, their gradients and their moments.
#
# `w` parameters, `g` gradients, `s1` and `s2` moments (unused ones NULL), all contiguous.
# Terms that depend on the step only are computed once a step, in double: `optimizer_terms`.
#
# To add an optimizer: a loop here, an id in `_table.pxd`, a row in `_kernels.OPTIMIZERS` and in
# `reference`, and one class in `optimizers.py`.

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
    real step_scale, real slope_scale, real root_scale, real root_offset, bint ahead
) noexcept nogil:
    # m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
    # w <- w - (decay w + step_scale m / (sqrt(v) root_scale + root_offset))
    # and looking ahead (Nadam) slope_scale g beside step_scale m.
    # c1 and c2 are 1 - b1 and 1 - b2, formed in double as above. (1 - decay) w would not do
    # either: in float32 1 - 1e-7 is off by a fifth of the decay, the same way at every step.
    cdef Py_ssize_t i
    cdef real d, mean, square, move
    for i in range(n):
        d = g[i] + l2 * w[i]
        mean = b1 * m[i] + c1 * d
        square = b2 * v[i] + c2 * (d * d)
        m[i] = mean
        v[i] = square
        move = step_scale * mean + slope_scale * d if ahead else step_scale * mean
        w[i] = w[i] - (decay * w[i] + move / (sqrt_(square) * root_scale + root_offset))


cdef inline inlined adagrad(
    Py_ssize_t n, real* w, const real* g, real* s, real lr, real l2, real eps
) noexcept nogil:
    # s <- s + g^2;  w <- w - lr g / (sqrt(s) + eps)
    cdef Py_ssize_t i
    cdef real d, square
    for i in range(n):
        d = g[i] + l2 * w[i]
        square = s[i] + d * d
        s[i] = square
        w[i] = w[i] - lr * d / (sqrt_(square) + eps)


cdef inline inlined adadelta(
    Py_ssize_t n, real* w, const real* g, real* v, real* u,
    real lr, real l2, real rho, real c, real eps
) noexcept nogil:
    # v <- rho v + (1 - rho) g^2;  d = g sqrt(u + eps) / sqrt(v + eps)
    # u <- rho u + (1 - rho) d^2;  w <- w - lr d
    cdef Py_ssize_t i
    cdef real d, square
    for i in range(n):
        d = g[i] + l2 * w[i]
        square = rho * v[i] + c * (d * d)
        v[i] = square
        d = d * (sqrt_(u[i] + eps) / sqrt_(square + eps))
        u[i] = rho * u[i] + c * (d * d)
        w[i] = w[i] - lr * d


cdef inline inlined lion(
    Py_ssize_t n, real* w, const real* g, real* m,
    real lr, real l2, real decay, real b1, real c1, real b2, real c2
) noexcept nogil:
    # w <- w - (decay w + lr sign(b1 m + (1 - b1) g));  m <- b2 m + (1 - b2) g
    cdef Py_ssize_t i
    cdef real d, s
    for i in range(n):
        d = g[i] + l2 * w[i]
        s = b1 * m[i] + c1 * d
        m[i] = b2 * m[i] + c2 * d
        s = 1 if s > 0 else (-1 if s < 0 else s)  # NaN stays
        w[i] = w[i] - (decay * w[i] + lr * s)


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
    int kind, Py_ssize_t n, void* w_, const void* g_, void* s1_, void* s2_,
    const OptimizerSettings* h
) noexcept nogil:
    cdef real* w = <real*>w_
    cdef const real* g = <const real*>g_
    cdef real* s1 = <real*>s1_
    cdef real* s2 = <real*>s2_
    cdef real lr = <real>h.lr, l2 = <real>h.l2, decay = <real>(h.lr * h.decay)
    cdef real b1 = <real>h.beta1, c1 = <real>(1 - h.beta1), eps = <real>h.eps
    cdef real b2 = <real>h.beta2, c2 = <real>(1 - h.beta2)
    cdef real step_scale = <real>h.step_scale, slope_scale = <real>h.slope_scale
    cdef real root_scale = <real>h.root_scale, root_offset = <real>h.root_offset
    if kind == OPT_SGD:
        sgd(n, w, g, lr, l2)
    elif kind == OPT_MOMENTUM:
        momentum(n, w, g, s1, lr, l2, b1, False)
    elif kind == OPT_NESTEROV:
        momentum(n, w, g, s1, lr, l2, b1, True)
    elif kind == OPT_RMSPROP:
        rmsprop(n, w, g, s1, lr, l2, b1, c1, eps)
    elif kind == OPT_ADAM or kind == OPT_RADAM:
        adam(n, w, g, s1, s2, l2, decay, b1, c1, b2, c2, step_scale, 0, root_scale,
             root_offset, False)
    elif kind == OPT_NADAM:
        adam(n, w, g, s1, s2, l2, decay, b1, c1, b2, c2, step_scale, slope_scale, root_scale,
             root_offset, True)
    elif kind == OPT_ADAGRAD:
        adagrad(n, w, g, s1, lr, l2, eps)
    elif kind == OPT_ADADELTA:
        adadelta(n, w, g, s1, s2, lr, l2, b1, c1, eps)
    else:
        lion(n, w, g, s1, lr, l2, decay, b1, c1, b2, c2)


cdef inline double power(double b, long long step) noexcept nogil:
    """b ** step, or 0 where it is nothing beside 1: b <= exp(b - 1)."""
    return pow(b, <double>step) if step * (1 - b) < 40 else 0


cdef void optimizer_terms(int kind, long long step, OptimizerSettings* h) noexcept nogil:
    cdef double b1 = h.beta1, b2 = h.beta2, second
    if kind != OPT_ADAM and kind != OPT_NADAM and kind != OPT_RADAM:
        return
    second = 1.0 - power(b2, step)
    h.step_scale = h.lr / (1.0 - power(b1, step))
    h.root_scale = 1.0 / sqrt(second)
    h.root_offset = h.eps
    if h.eps_hat:
        h.step_scale /= h.root_scale
        h.root_scale = 1.0
    if kind == OPT_NADAM:
        nadam_terms(step, h)
    elif kind == OPT_RADAM:
        radam_terms(step, second, h)


cdef void nadam_terms(long long step, OptimizerSettings* h) noexcept nogil:
    # mu_t = b1 (1 - 0.96^(t / 250) / 2); the first moment is corrected by the product of all mu
    # so far, which halves at each step and is nothing beside 1 after some sixty.
    cdef double base = pow(0.96, 0.004), power = 1, product = 1, now, next
    cdef long long i = 0
    while i < step and product > 1e-20:
        power *= base
        product *= h.beta1 * (1 - 0.5 * power)
        i += 1
    now = h.beta1 * (1 - 0.5 * pow(0.96, 0.004 * step))
    next = h.beta1 * (1 - 0.5 * pow(0.96, 0.004 * (step + 1)))
    h.step_scale = h.lr * next / (1 - product * next)
    h.slope_scale = h.lr * (1 - now) / (1 - product)


cdef void radam_terms(long long step, double second, OptimizerSettings* h) noexcept nogil:
    # rho: the length of the average that v is. While it is short, v says too little about the
    # variance of the gradient, and the step is taken without it.
    cdef double longest = 2 / (1 - h.beta2) - 1
    cdef double rho = longest - 2 * step * (1 - second) / second
    if rho > 5:
        h.step_scale *= sqrt(
            second * (rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho))
        h.root_scale = 1
    else:
        h.root_scale = 0
        h.root_offset = 1
