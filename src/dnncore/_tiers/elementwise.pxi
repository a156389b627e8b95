# Activations and their derivatives, one element at a time.
#
# A derivative is taken from the output `a` where the mathematics allows it, else from the input
# `z` (then the engine keeps `z`: see NEEDS_INPUT in _kernels.pyx). To add an activation: its
# functions here, a line in `forward_loop` and one in `backward_loop`, an id in `_table.pxd`,
# a row in `reference` and one in `_kernels.ACTIVATIONS`; the tests find it by themselves.

cdef inline real identity(real z) noexcept nogil:
    return z

cdef inline real sigmoid(real z) noexcept nogil:
    return sigmoid_(z)

cdef inline real sigmoid_slope(real z, real a) noexcept nogil:
    return a * (<real>1 - a)

cdef inline real tanh(real z) noexcept nogil:
    return tanh_(z)

cdef inline real tanh_slope(real z, real a) noexcept nogil:
    return <real>1 - a * a

cdef inline real relu(real z) noexcept nogil:
    return 0 if z < 0 else z  # in this order NaN stays NaN

cdef inline real relu_gate(real da, real a) noexcept nogil:
    return da if a > 0 else 0  # a choice, not a product: 0 * infinity would be NaN

cdef inline real leaky_relu(real z) noexcept nogil:
    return z * <real>0.01 if z < 0 else z

cdef inline real leaky_relu_slope(real z, real a) noexcept nogil:
    return 1 if a > 0 else <real>0.01

cdef inline real elu(real z) noexcept nogil:
    return expm1_(z if z < 0 else 0) if z < 0 else z

cdef inline real elu_slope(real z, real a) noexcept nogil:
    return 1 if a > 0 else a + <real>1

cdef inline real selu(real z) noexcept nogil:
    return <real>SELU_SCALE * (<real>SELU_ALPHA * expm1_(z if z < 0 else 0) if z < 0 else z)

cdef inline real selu_slope(real z, real a) noexcept nogil:
    return <real>SELU_SCALE if a > 0 else a + <real>(SELU_SCALE * SELU_ALPHA)

# These take the derivative from `z` and share exponentials with it: one function gives both, and
# what a loop does not ask for is never computed, since compilers inline it.

cdef inline real gelu(real z, real* slope) noexcept nogil:
    cdef real density, tail = normal_tail_(z, &density)
    cdef real p = <real>1 - tail if z > 0 else tail
    slope[0] = p + z * density
    return z * p

cdef inline real gelu_tanh(real z, real* slope) noexcept nogil:
    # (1 + tanh u) / 2 is sigmoid(2 u). The limits keep z * z * s * (1 - s) from being infinity
    # times zero; s is 0 or 1 long before them.
    cdef real low = -100 if z < -100 else z
    cdef real c = 100 if low > 100 else low
    cdef real s = sigmoid_(<real>(2 * SQRT_2_OVER_PI) * c * (<real>1 + <real>0.044715 * c * c))
    cdef real du = <real>(2 * SQRT_2_OVER_PI) * (<real>1 + <real>(3 * 0.044715) * c * c)
    slope[0] = s + c * s * (<real>1 - s) * du
    return z * s

cdef inline real silu(real z, real* slope) noexcept nogil:
    cdef real s = sigmoid_(z)
    slope[0] = s * (<real>1 + z * (<real>1 - s))
    return z * s

cdef inline real mish(real z, real* slope) noexcept nogil:
    # tanh(log(1 + e)) = (e^2 + 2e) / (e^2 + 2e + 2); it is 1 to the last bit from z = 20 on.
    cdef real e = exp_(20 if z > 20 else z)
    cdef real q = e * (e + <real>2)
    cdef real t = q / (q + <real>2)
    slope[0] = t + z * (<real>1 - t * t) * (e / (<real>1 + e))
    return z * t

cdef inline real hard_swish(real z, real* slope) noexcept nogil:
    cdef real t = z + <real>3
    slope[0] = 0 if z <= -3 else (1 if z >= 3 else (<real>2 * z + <real>3) * <real>(1.0 / 6))
    return z * (0 if t < 0 else (6 if t > 6 else t)) * <real>(1.0 / 6)

cdef inline real softplus(real z) noexcept nogil:
    return softplus_(z)

cdef inline real softplus_slope(real z, real a) noexcept nogil:
    return -expm1_(-a)

cdef inline real softsign(real z) noexcept nogil:
    return z / (<real>1 + fabs_(z))

cdef inline real softsign_slope(real z, real a) noexcept nogil:
    cdef real s = <real>1 - fabs_(a)
    return s * s

cdef inline real hardtanh(real z) noexcept nogil:
    return -1 if z < -1 else (1 if z > 1 else z)

cdef inline real hardtanh_slope(real z, real a) noexcept nogil:
    return 1 if fabs_(a) < 1 else 0


cdef inline inlined forward_loop(
    int kind, Py_ssize_t n, const real* z, real* a
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real slope
    if kind == ACT_RELU:
        for i in range(n):
            a[i] = relu(z[i])
    elif kind == ACT_LEAKY_RELU:
        for i in range(n):
            a[i] = leaky_relu(z[i])
    elif kind == ACT_SIGMOID:
        for i in range(n):
            a[i] = sigmoid(z[i])
    elif kind == ACT_TANH:
        for i in range(n):
            a[i] = tanh(z[i])
    elif kind == ACT_ELU:
        for i in range(n):
            a[i] = elu(z[i])
    elif kind == ACT_SELU:
        for i in range(n):
            a[i] = selu(z[i])
    elif kind == ACT_GELU:
        for i in range(n):
            a[i] = gelu(z[i], &slope)
    elif kind == ACT_GELU_TANH:
        for i in range(n):
            a[i] = gelu_tanh(z[i], &slope)
    elif kind == ACT_SILU:
        for i in range(n):
            a[i] = silu(z[i], &slope)
    elif kind == ACT_MISH:
        for i in range(n):
            a[i] = mish(z[i], &slope)
    elif kind == ACT_SOFTPLUS:
        for i in range(n):
            a[i] = softplus(z[i])
    elif kind == ACT_SOFTSIGN:
        for i in range(n):
            a[i] = softsign(z[i])
    elif kind == ACT_HARDTANH:
        for i in range(n):
            a[i] = hardtanh(z[i])
    elif kind == ACT_HARD_SWISH:
        for i in range(n):
            a[i] = hard_swish(z[i], &slope)
    else:
        for i in range(n):
            a[i] = identity(z[i])


cdef inline inlined backward_loop(
    int kind, Py_ssize_t n, const real* da, const real* z, const real* a, real* dz
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real slope
    if kind == ACT_RELU:
        for i in range(n):
            dz[i] = relu_gate(da[i], a[i])
    elif kind == ACT_LEAKY_RELU:
        for i in range(n):
            dz[i] = da[i] * leaky_relu_slope(0, a[i])
    elif kind == ACT_SIGMOID:
        for i in range(n):
            dz[i] = da[i] * sigmoid_slope(0, a[i])
    elif kind == ACT_TANH:
        for i in range(n):
            dz[i] = da[i] * tanh_slope(0, a[i])
    elif kind == ACT_ELU:
        for i in range(n):
            dz[i] = da[i] * elu_slope(0, a[i])
    elif kind == ACT_SELU:
        for i in range(n):
            dz[i] = da[i] * selu_slope(0, a[i])
    elif kind == ACT_GELU:
        for i in range(n):
            gelu(z[i], &slope)
            dz[i] = da[i] * slope
    elif kind == ACT_GELU_TANH:
        for i in range(n):
            gelu_tanh(z[i], &slope)
            dz[i] = da[i] * slope
    elif kind == ACT_SILU:
        for i in range(n):
            silu(z[i], &slope)
            dz[i] = da[i] * slope
    elif kind == ACT_MISH:
        for i in range(n):
            mish(z[i], &slope)
            dz[i] = da[i] * slope
    elif kind == ACT_SOFTPLUS:
        for i in range(n):
            dz[i] = da[i] * softplus_slope(0, a[i])
    elif kind == ACT_SOFTSIGN:
        for i in range(n):
            dz[i] = da[i] * softsign_slope(0, a[i])
    elif kind == ACT_HARDTANH:
        for i in range(n):
            dz[i] = da[i] * hardtanh_slope(0, a[i])
    elif kind == ACT_HARD_SWISH:
        for i in range(n):
            hard_swish(z[i], &slope)
            dz[i] = da[i] * slope
    else:
        for i in range(n):
            dz[i] = da[i]


cdef inline inlined forward_with_slope_loop(
    int kind, Py_ssize_t n, real* z, real* a
) noexcept nogil:
    # For the activations that need their input: a from z, and z replaced by the derivative.
    cdef Py_ssize_t i
    cdef real slope
    if kind == ACT_GELU:
        for i in range(n):
            a[i] = gelu(z[i], &slope)
            z[i] = slope
    elif kind == ACT_GELU_TANH:
        for i in range(n):
            a[i] = gelu_tanh(z[i], &slope)
            z[i] = slope
    elif kind == ACT_SILU:
        for i in range(n):
            a[i] = silu(z[i], &slope)
            z[i] = slope
    elif kind == ACT_MISH:
        for i in range(n):
            a[i] = mish(z[i], &slope)
            z[i] = slope
    else:  # ACT_HARD_SWISH
        for i in range(n):
            a[i] = hard_swish(z[i], &slope)
            z[i] = slope


cdef void activation_forward_with_slope(
    int kind, Py_ssize_t n, void* z, void* a
) noexcept nogil:
    forward_with_slope_loop(kind, n, <real*>z, <real*>a)


cdef void multiply(Py_ssize_t n, void* x_, const void* y_) noexcept nogil:
    cdef real* x = <real*>x_
    cdef const real* y = <const real*>y_
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = x[i] * y[i]


cdef void activation_forward(
    int kind, Py_ssize_t rows, Py_ssize_t columns, const void* z, void* a
) noexcept nogil:
    cdef Py_ssize_t n = rows * columns
    if kind == ACT_SOFTMAX:
        softmax_forward(rows, columns, <const real*>z, <real*>a)
    elif z == a:  # told apart so that in place, too, the compiler sees no overlap and vectorises
        forward_loop(kind, n, <const real*>a, <real*>a)
    else:
        forward_loop(kind, n, <const real*>z, <real*>a)


cdef void activation_backward(
    int kind, Py_ssize_t rows, Py_ssize_t columns,
    const void* da, const void* z, const void* a, void* dz
) noexcept nogil:
    cdef Py_ssize_t n = rows * columns
    if kind == ACT_SOFTMAX:
        softmax_backward(rows, columns, <const real*>da, <const real*>a, <real*>dz)
    elif da == dz:
        backward_loop(kind, n, <const real*>dz, <const real*>z, <const real*>a, <real*>dz)
    else:
        backward_loop(kind, n, <const real*>da, <const real*>z, <const real*>a, <real*>dz)


cdef inline inlined math_loop(int which, Py_ssize_t n, const real* x, real* out) noexcept nogil:
    cdef Py_ssize_t i
    if which == MATH_EXP:
        for i in range(n):
            out[i] = exp_(x[i])
    elif which == MATH_TANH:
        for i in range(n):
            out[i] = tanh_(x[i])
    elif which == MATH_ERF:
        for i in range(n):
            out[i] = erf_(x[i])
    elif which == MATH_SIGMOID:
        for i in range(n):
            out[i] = sigmoid_(x[i])
    else:
        for i in range(n):
            out[i] = softplus_(x[i])


cdef void math(int which, Py_ssize_t n, const void* x, void* out) noexcept nogil:
    if x == out:
        math_loop(which, n, <const real*>out, <real*>out)
    else:
        math_loop(which, n, <const real*>x, <real*>out)


cdef int all_finite(Py_ssize_t n, const void* x_) noexcept nogil:
    cdef const real* x = <const real*>x_
    cdef Py_ssize_t i
    cdef int bad = 0
    for i in range(n):
        # NaN fails every comparison, so it counts as outside the range.
        bad |= not (fabs_(x[i]) <= REAL_MAX)
    return not bad
