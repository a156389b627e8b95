# Normalisation by row (layer, RMS) and by column (batch), and layers with a parameter a column.
#
# x (rows, columns) is contiguous. `gamma` and `beta` (columns,) scale and shift the result; NULL
# stands for ones and zeros. `kept` receives the normalised values, which backward needs; NULL in
# inference. Sums over a row run in four vectors of partial sums, then over their elements in
# order; sums over a column run down the rows, one after the other.

cdef inline real row_sum(
    Py_ssize_t n, const real* x, real shift, const bint squares
) noexcept nogil:
    # Sum of x - shift, or of its square.
    cdef vec v[4]
    cdef vec s, t
    cdef real lanes[LANES]
    cdef real total = 0, d
    cdef Py_ssize_t j = 0
    cdef int k
    s = broadcast(shift)
    for k in range(4):
        v[k] = broadcast(0)
    while j + 4 * LANES <= n:
        for k in range(4):
            t = vload(x + j + k * LANES) - s
            v[k] = v[k] + (t * t if squares else t)
        j += 4 * LANES
    while j + LANES <= n:
        t = vload(x + j) - s
        v[0] = v[0] + (t * t if squares else t)
        j += LANES
    vstore(lanes, (v[0] + v[1]) + (v[2] + v[3]))
    while j < n:
        d = x[j] - shift
        total += d * d if squares else d
        j += 1
    for k in range(LANES):
        total += lanes[k]
    return total


cdef inline void row_dots(
    Py_ssize_t n, const real* d, const real* gamma, const real* x, real* sum_, real* dot
) noexcept nogil:
    # Sums of d gamma and of d gamma x.
    cdef vec s, p, t
    cdef real lanes[LANES]
    cdef real u
    cdef Py_ssize_t j = 0
    cdef int k
    s = broadcast(0)
    p = broadcast(0)
    while j + LANES <= n:
        t = vload(d + j)
        if gamma != NULL:
            t = t * vload(gamma + j)
        s = s + t
        p = p + t * vload(x + j)
        j += LANES
    sum_[0] = dot[0] = 0
    while j < n:
        u = d[j] * gamma[j] if gamma != NULL else d[j]
        sum_[0] += u
        dot[0] += u * x[j]
        j += 1
    vstore(lanes, s)
    for k in range(LANES):
        sum_[0] += lanes[k]
    vstore(lanes, p)
    for k in range(LANES):
        dot[0] += lanes[k]


cdef void row_norm_forward(
    bint centred, Py_ssize_t rows, Py_ssize_t columns, const void* x_, double eps,
    const void* gamma_, const void* beta_, void* kept_, void* factor_, void* out_
) noexcept nogil:
    """Layer normalisation, or unless `centred` RMS; `factor` (rows,) receives 1 / deviation."""
    cdef const real* x = <const real*>x_
    cdef const real* gamma = <const real*>gamma_
    cdef const real* beta = <const real*>beta_
    cdef real* kept = <real*>kept_
    cdef real* factor = <real*>factor_
    cdef real* out = <real*>out_
    cdef real* y
    cdef real mean, f, part = <real>(1.0 / columns)
    cdef Py_ssize_t i, j
    for i in range(rows):
        mean = row_sum(columns, x, 0, False) * part if centred else 0
        f = <real>1 / sqrt_(row_sum(columns, x, mean, True) * part + <real>eps)
        y = kept if kept != NULL else out
        for j in range(columns):
            y[j] = (x[j] - mean) * f
        scale_and_shift(columns, y, gamma, beta, out)
        if kept != NULL:
            factor[i] = f
            kept += columns
        x += columns
        out += columns


cdef inline void scale_and_shift(
    Py_ssize_t n, const real* y, const real* gamma, const real* beta, real* out
) noexcept nogil:
    cdef Py_ssize_t j
    if gamma != NULL and beta != NULL:
        for j in range(n):
            out[j] = y[j] * gamma[j] + beta[j]
    elif gamma != NULL:
        for j in range(n):
            out[j] = y[j] * gamma[j]
    elif beta != NULL:
        for j in range(n):
            out[j] = y[j] + beta[j]
    elif y != out:
        memcpy(out, y, n * sizeof(real))


cdef void row_norm_backward(
    bint centred, Py_ssize_t rows, Py_ssize_t columns, const void* d_, const void* gamma_,
    const void* kept_, const void* factor_, void* dx_
) noexcept nogil:
    # With g = d gamma: dx = factor (g - mean(g) - kept mean(g kept)), means over the row; the
    # first of them only if x was centred.
    cdef const real* d = <const real*>d_
    cdef const real* gamma = <const real*>gamma_
    cdef const real* kept = <const real*>kept_
    cdef const real* factor = <const real*>factor_
    cdef real* dx = <real*>dx_
    cdef real mean, dot, f, part = <real>(1.0 / columns)
    cdef Py_ssize_t i, j
    for i in range(rows):
        row_dots(columns, d, gamma, kept, &mean, &dot)
        mean = mean * part if centred else 0
        dot = dot * part
        f = factor[i]
        if gamma != NULL:
            for j in range(columns):
                dx[j] = f * (d[j] * gamma[j] - mean - kept[j] * dot)
        else:
            for j in range(columns):
                dx[j] = f * (d[j] - mean - kept[j] * dot)
        d += columns
        kept += columns
        dx += columns


# ------------------------------------------------------------------------------------ columns

cdef void column_dots(
    Py_ssize_t rows, Py_ssize_t columns, const void* x_, const void* y_, void* out_
) noexcept nogil:
    """out[j] = sum over rows of x[., j] y[., j], the rows in two partial sums."""
    cdef const real* x = <const real*>x_
    cdef const real* y = <const real*>y_
    cdef const real* p
    cdef const real* q
    cdef real* out = <real*>out_
    cdef Py_ssize_t i, j = 0
    cdef vec v0, v1
    cdef real s0, s1
    while j + LANES <= columns:
        p, q = x + j, y + j
        v0 = v1 = broadcast(0)
        i = 0
        while i + 2 <= rows:
            v0 = v0 + vload(p) * vload(q)
            v1 = v1 + vload(p + columns) * vload(q + columns)
            p += 2 * columns
            q += 2 * columns
            i += 2
        if i < rows:
            v0 = v0 + vload(p) * vload(q)
        vstore(out + j, v0 + v1)
        j += LANES
    while j < columns:
        p, q = x + j, y + j
        s0 = s1 = 0
        i = 0
        while i + 2 <= rows:
            s0 += p[0] * q[0]
            s1 += p[columns] * q[columns]
            p += 2 * columns
            q += 2 * columns
            i += 2
        if i < rows:
            s0 += p[0] * q[0]
        out[j] = s0 + s1
        j += 1


cdef void column_moments(
    Py_ssize_t rows, Py_ssize_t columns, const void* x_, void* mean_, void* squares_
) noexcept nogil:
    """Mean of each column, and the sum of squared deviations from it.

    Two passes, and what rounding left of the mean is put right (Chan, Golub and LeVeque 1983,
    "Algorithms for computing the sample variance", the corrected two-pass algorithm).
    """
    cdef const real* x = <const real*>x_
    cdef const real* p
    cdef real* mean = <real*>mean_
    cdef real* squares = <real*>squares_
    cdef real part = <real>(1.0 / rows), m, s, q, d
    cdef vec v_mean, v_sum, v_squares, v
    cdef Py_ssize_t i, j = 0
    column_sums(rows, columns, x, columns, mean)
    for j in range(columns):
        mean[j] = mean[j] * part
    j = 0
    while j + LANES <= columns:
        p = x + j
        v_mean = vload(mean + j)
        v_sum = v_squares = broadcast(0)
        for i in range(rows):
            v = vload(p) - v_mean
            v_sum = v_sum + v
            v_squares = v_squares + v * v
            p += columns
        vstore(mean + j, v_mean + v_sum * broadcast(part))
        vstore(squares + j, v_squares - v_sum * v_sum * broadcast(part))
        j += LANES
    while j < columns:
        p = x + j
        m = mean[j]
        s = q = 0
        for i in range(rows):
            d = p[0] - m
            s += d
            q += d * d
            p += columns
        mean[j] = m + s * part
        squares[j] = q - s * s * part
        j += 1
    for j in range(columns):
        squares[j] = 0 if squares[j] < 0 else squares[j]


cdef void column_norm_forward(
    Py_ssize_t rows, Py_ssize_t columns, const void* x_, const void* mean_, const void* variance_,
    double eps, const void* gamma_, const void* beta_, void* kept_, void* out_
) noexcept nogil:
    """kept = (x - mean) / sqrt(variance + eps), out = kept gamma + beta."""
    cdef const real* mean = <const real*>mean_
    cdef const real* variance = <const real*>variance_
    cdef const real* gamma = <const real*>gamma_
    cdef const real* beta = <const real*>beta_
    cdef const real* x
    cdef real* y
    cdef real* out
    cdef real factor[COLUMN_BLOCK]
    cdef Py_ssize_t i, j, n, at = 0
    while at < columns:
        n = min(<Py_ssize_t>COLUMN_BLOCK, columns - at)
        for j in range(n):
            factor[j] = <real>1 / sqrt_(variance[at + j] + <real>eps)
        for i in range(rows):
            x = <const real*>x_ + i * columns + at
            out = <real*>out_ + i * columns + at
            y = <real*>kept_ + i * columns + at if kept_ != NULL else out
            for j in range(n):
                y[j] = (x[j] - mean[at + j]) * factor[j]
            scale_and_shift(n, y, gamma + at if gamma != NULL else NULL,
                            beta + at if beta != NULL else NULL, out)
        at += n


cdef void column_norm_backward(
    Py_ssize_t rows, Py_ssize_t columns, const void* d_, const void* kept_, const void* variance_,
    double eps, const void* gamma_, const void* mean_, const void* dot_, void* dx_
) noexcept nogil:
    """dx = gamma / sqrt(variance + eps) (d - mean - kept dot).

    `mean` and `dot` are the means over the batch of d and of d kept.
    """
    cdef const real* variance = <const real*>variance_
    cdef const real* gamma = <const real*>gamma_
    cdef const real* mean = <const real*>mean_
    cdef const real* dot = <const real*>dot_
    cdef const real* d
    cdef const real* kept
    cdef real* dx
    cdef real factor[COLUMN_BLOCK]
    cdef Py_ssize_t i, j, n, at = 0
    while at < columns:
        n = min(<Py_ssize_t>COLUMN_BLOCK, columns - at)
        for j in range(n):
            factor[j] = <real>1 / sqrt_(variance[at + j] + <real>eps)
        if gamma != NULL:
            for j in range(n):
                factor[j] = factor[j] * gamma[at + j]
        for i in range(rows):
            d = <const real*>d_ + i * columns + at
            kept = <const real*>kept_ + i * columns + at
            dx = <real*>dx_ + i * columns + at
            for j in range(n):
                dx[j] = factor[j] * (d[j] - mean[at + j] - kept[j] * dot[at + j])
        at += n


# ---------------------------------------------------------------------- parametric activations

cdef void prelu_forward(
    Py_ssize_t rows, Py_ssize_t columns, const void* x_, const void* slope_, void* kept_,
    void* out_
) noexcept nogil:
    """out = x where x > 0, else slope x; kept = min(x, 0), the derivative by the slope."""
    cdef const real* x = <const real*>x_
    cdef const real* slope = <const real*>slope_
    cdef real* kept = <real*>kept_
    cdef real* out = <real*>out_
    cdef Py_ssize_t i, j
    for i in range(rows):
        for j in range(columns):
            out[j] = x[j] * slope[j] if x[j] <= 0 else x[j]
        if kept != NULL:
            for j in range(columns):
                kept[j] = x[j] if x[j] <= 0 else 0
            kept += columns
        x += columns
        out += columns


cdef void prelu_backward(
    Py_ssize_t rows, Py_ssize_t columns, const void* d_, const void* x_, const void* slope_,
    void* dx_
) noexcept nogil:
    cdef const real* d = <const real*>d_
    cdef const real* x = <const real*>x_
    cdef const real* slope = <const real*>slope_
    cdef real* dx = <real*>dx_
    cdef Py_ssize_t i, j
    for i in range(rows):
        for j in range(columns):
            dx[j] = d[j] * (slope[j] if x[j] <= 0 else 1)
        d += columns
        x += columns
        dx += columns


cdef void blend(
    Py_ssize_t rows, Py_ssize_t columns, const void* x_, const void* f_, const void* weight_,
    void* kept_, void* out_
) noexcept nogil:
    """out = x + (f - x) weight; kept = f - x, the derivative by the weight. `f` may be `out`."""
    cdef const real* x = <const real*>x_
    cdef const real* f = <const real*>f_
    cdef const real* weight = <const real*>weight_
    cdef real* kept = <real*>kept_
    cdef real* out = <real*>out_
    cdef Py_ssize_t i, j
    for i in range(rows):
        if kept != NULL:
            for j in range(columns):
                kept[j] = f[j] - x[j]
            for j in range(columns):
                out[j] = x[j] + kept[j] * weight[j]
            kept += columns
        else:
            for j in range(columns):
                out[j] = x[j] + (f[j] - x[j]) * weight[j]
        x += columns
        f += columns
        out += columns


cdef void add(Py_ssize_t n, const void* x_, const void* y_, void* out_) noexcept nogil:
    cdef const real* x = <const real*>x_
    cdef const real* y = <const real*>y_
    cdef real* out = <real*>out_
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = x[i] + y[i]
