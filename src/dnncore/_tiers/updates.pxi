# What happens to a gradient before, and to parameters after, an optimizer's step.

cdef void accumulate(Py_ssize_t n, void* x_, const void* y_) noexcept nogil:
    """x += y"""
    cdef real* x = <real*>x_
    cdef const real* y = <const real*>y_
    cdef Py_ssize_t i
    for i in range(n):
        x[i] += y[i]


cdef void claim_elements(Py_ssize_t n, const void* x) noexcept nogil:
    claim_run(<const real*>x, n)


cdef void shape_gradient(
    Py_ssize_t n, const void* g_, const void* w_, double scale_, double limit_, double l1_,
    void* out_
) noexcept nogil:
    """out = clip(g * scale, -limit, limit) + l1 sign(w); a limit of 0 is none."""
    cdef const real* g = <const real*>g_
    cdef const real* w = <const real*>w_
    cdef real* out = <real*>out_
    cdef real scale = <real>scale_, limit = <real>limit_, l1 = <real>l1_
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = g[i] * scale
    if limit > 0:
        for i in range(n):  # NaN stays
            out[i] = limit if out[i] > limit else (-limit if out[i] < -limit else out[i])
    if l1 > 0:
        for i in range(n):
            out[i] += l1 if w[i] > 0 else (-l1 if w[i] < 0 else <real>0)


cdef void move_towards(Py_ssize_t n, void* average_, const void* w_, double amount_) noexcept nogil:
    """average += amount (w - average)"""
    cdef real* average = <real*>average_
    cdef const real* w = <const real*>w_
    cdef real amount = <real>amount_
    cdef Py_ssize_t i
    if amount_ == 1:
        memcpy(average, w, n * sizeof(real))
        return
    for i in range(n):
        average[i] += amount * (w[i] - average[i])


cdef void limit_columns(
    Py_ssize_t rows, Py_ssize_t columns, void* w_, Py_ssize_t w_row, double limit
) noexcept nogil:
    """Shrink columns of w (rows, columns) whose Euclidean norm is greater than limit to it."""
    cdef real* w = <real*>w_
    cdef double squares[64]
    cdef real factors[64]
    cdef Py_ssize_t first, width, i, j
    cdef bint any_longer
    for first in range(0, columns, 64):
        width = min(<Py_ssize_t>64, columns - first)
        for j in range(width):
            squares[j] = 0
        for i in range(rows):
            for j in range(width):
                squares[j] += <double>w[i * w_row + first + j] * w[i * w_row + first + j]
        any_longer = False
        for j in range(width):
            factors[j] = 1
            if squares[j] > limit * limit:
                factors[j] = <real>(limit / sqrt(squares[j]))
                any_longer = True
        if any_longer:
            for i in range(rows):
                for j in range(width):
                    w[i * w_row + first + j] *= factors[j]
