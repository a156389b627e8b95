# Losses: value and gradient by the logits in one call, from the logits only.
#
# Row losses are means over the outputs (softmax cross-entropy: the row's cross-entropy). The
# caller passes scale = 1 / sum of the weights (1 / rows without weights); the value returned is
# the weighted sum, not yet scaled, so that sums over tiles add up. Sums run in element order
# over four partial sums in double.
#
# To add an elementwise loss: a case in `loss_element`, an id in `_table.pxd`, a row in
# `reference` and one in `_kernels.LOSSES`.

cdef inline inlined loss_block(
    int kind, Py_ssize_t n, const real* z, const real* y, const real* w,
    real scale, real parameter, real* value, real* dz
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real e, s, d
    if kind == LOSS_BINARY_CROSS_ENTROPY:
        # max(z, 0) - z y + log(1 + exp(-|z|)); gradient sigmoid(z) - y
        for i in range(n):
            e = exp_(-fabs_(z[i]))
            s = 1 / (1 + e)
            value[i] = w[i] * ((0 if z[i] < 0 else z[i]) - z[i] * y[i] + log1p_unit_(e))
            dz[i] = w[i] * scale * ((e * s if z[i] < 0 else s) - y[i])
    elif kind == LOSS_BINARY_CLIPPED:
        # softplus of the margin, y 0 or 1; clipping p to [eps, 1 - eps] bounds it on both sides.
        # Where p is rounded near 1, -log(1 - p) is scikit-learn's, rounding included.
        for i in range(n):
            e = exp_(-fabs_(z[i]))
            s = 1 / (1 + e)
            d = z[i] * (1 - 2 * y[i])
            value[i] = (0 if d < 0 else d) + log1p_unit_(e)
            dz[i] = (e * s if z[i] < 0 else s) - y[i]
        for i in range(n):
            if value[i] > 5 and dz[i] > 0:
                value[i] = <real>-log(<double>(1 - dz[i]))
        for i in range(n):
            d = EPSILON if value[i] < EPSILON else value[i]
            value[i] = w[i] * (LOG_EPSILON if d > LOG_EPSILON else d)
            dz[i] = w[i] * scale * dz[i]
    elif kind == LOSS_MSE:
        for i in range(n):
            d = z[i] - y[i]
            value[i] = w[i] * d * d
            dz[i] = w[i] * scale * 2 * d
    elif kind == LOSS_MAE:
        for i in range(n):
            d = z[i] - y[i]
            value[i] = w[i] * fabs_(d)
            dz[i] = w[i] * scale * (1 if d > 0 else (-1 if d < 0 else d))
    elif kind == LOSS_HUBER:
        # d^2 / 2 inside the threshold, a line of slope `parameter` outside
        for i in range(n):
            d = z[i] - y[i]
            e = -parameter if d < -parameter else (parameter if d > parameter else d)
            value[i] = w[i] * e * (d - <real>0.5 * e)
            dz[i] = w[i] * scale * e
    else:  # LOSS_POISSON, log link
        for i in range(n):
            e = exp_(z[i])
            value[i] = w[i] * (e - y[i] * z[i])
            dz[i] = w[i] * scale * (e - y[i])


cdef inline double block_sum(Py_ssize_t n, const real* value) noexcept nogil:
    cdef double s0 = 0, s1 = 0, s2 = 0, s3 = 0
    cdef Py_ssize_t i = 0
    while i + 4 <= n:
        s0 += value[i]
        s1 += value[i + 1]
        s2 += value[i + 2]
        s3 += value[i + 3]
        i += 4
    while i < n:
        s0 += value[i]
        i += 1
    return (s0 + s1) + (s2 + s3)


cdef double elementwise_loss(
    int kind, Py_ssize_t rows, Py_ssize_t columns, const real* z, const real* target,
    const real* weight, double scale, double parameter, real* dz
) noexcept nogil:
    cdef real value[LOSS_BLOCK]
    cdef real w[LOSS_BLOCK]
    cdef Py_ssize_t n = rows * columns, start = 0, size, i
    cdef Py_ssize_t row = 0, column = 0
    cdef double total = 0
    for i in range(LOSS_BLOCK):
        w[i] = 1
    while start < n:
        size = n - start if n - start < LOSS_BLOCK else LOSS_BLOCK
        if weight != NULL:
            for i in range(size):
                w[i] = weight[row]
                column += 1
                if column == columns:
                    column = 0
                    row += 1
        if z == dz:
            loss_block(kind, size, dz + start, target + start, w,
                       <real>(scale / columns), <real>parameter, value, dz + start)
        else:
            loss_block(kind, size, z + start, target + start, w,
                       <real>(scale / columns), <real>parameter, value, dz + start)
        total += block_sum(size, value)
        start += size
    return total / columns


cdef double softmax_cross_entropy(
    Py_ssize_t rows, Py_ssize_t columns, const real* z, const int* labels,
    const real* target, const real* weight, double scale, bint clipped, real* dz
) noexcept nogil:
    # Passes over all rows: shift by the maximum and note the logit's part of the loss before z
    # may be overwritten, then exp as one long loop, then normalise.
    cdef Py_ssize_t i, j, n = rows * columns
    cdef double total = 0, part, mass
    cdef real top, factor, s0, s1
    cdef real* d
    for i in range(rows):
        d = dz + i * columns
        top = z[i * columns]
        for j in range(1, columns):
            top = z[i * columns + j] if z[i * columns + j] > top else top
        for j in range(columns):
            d[j] = z[i * columns + j] - top
        if clipped:
            part = 0  # from the probability, below
        elif labels != NULL:
            part = -d[labels[i]]
        else:
            part = 0
            for j in range(columns):
                # A shifted logit can be -infinity only if its input was: 0 * inf stays NaN.
                part -= <double>target[i * columns + j] * d[j]
        total += part if weight == NULL else weight[i] * part
    for i in range(n):
        dz[i] = exp_(dz[i])
    for i in range(rows):
        d = dz + i * columns
        s0 = 0
        s1 = 0
        j = 0
        while j + 2 <= columns:
            s0 += d[j]
            s1 += d[j + 1]
            j += 2
        if j < columns:
            s0 += d[j]
        s0 += s1
        factor = <real>scale if weight == NULL else <real>(scale * weight[i])
        mass = 1
        if clipped:
            mass = 0
            s1 = d[labels[i]] / s0
            s1 = EPSILON if s1 < EPSILON else (1 - EPSILON if s1 > 1 - EPSILON else s1)
            total -= log(<double>s1) if weight == NULL else weight[i] * log(<double>s1)
        if labels == NULL:
            mass = 0
            for j in range(columns):
                mass += target[i * columns + j]
            for j in range(columns):
                d[j] = factor * (<real>mass * (d[j] / s0) - target[i * columns + j])
        else:
            s1 = factor / s0
            for j in range(columns):
                d[j] = d[j] * s1
            d[labels[i]] -= factor
        part = mass * log(<double>s0)
        total += part if weight == NULL else weight[i] * part
    return total


cdef double loss(
    int kind, Py_ssize_t rows, Py_ssize_t columns, const void* z, const int* labels,
    const void* target, const void* weight, double scale, double parameter, void* dz
) noexcept nogil:
    if kind == LOSS_SOFTMAX_CROSS_ENTROPY or kind == LOSS_SOFTMAX_CLIPPED:
        return softmax_cross_entropy(
            rows, columns, <const real*>z, labels, <const real*>target, <const real*>weight,
            scale, kind == LOSS_SOFTMAX_CLIPPED, <real*>dz)
    return elementwise_loss(
        kind, rows, columns, <const real*>z, <const real*>target, <const real*>weight,
        scale, parameter, <real*>dz)
