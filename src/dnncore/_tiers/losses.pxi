# Losses: value and gradient by the logits in one call, from the logits only.
#
# Row losses are means over the outputs (softmax cross-entropy: the row's cross-entropy). The
# caller passes scale = 1 / sum of the weights (1 / rows without weights); the value returned is
# the weighted sum, not yet scaled, so that sums over tiles add up. Sums run in element order
# over four partial sums in double.
#
# To add an elementwise loss: a case in `loss_block`, an id in `_table.pxd`, a row in `reference`
# and one in `_kernels.LOSSES` (and `LOSS_PARAMETERS`, if it has one).

cdef inline inlined loss_block(
    int kind, Py_ssize_t n, const real* z, const real* y, const real* w,
    real scale, double parameter, const real* level, real* value, real* dz
) noexcept nogil:
    # `level` is the parameter by element, for the loss that has one for each output.
    cdef Py_ssize_t i
    cdef real e, s, d, u, v, t
    cdef real own = <real>parameter, rest = <real>(1 - parameter), half = <real>(parameter / 2)
    if kind == LOSS_BINARY_CROSS_ENTROPY:
        # max(z, 0) - z y + log(1 + exp(-|z|)); gradient sigmoid(z) - y; y drawn towards 1/2
        for i in range(n):
            e = exp_negative_(-fabs_(z[i]))
            s = <real>1 / (<real>1 + e)
            t = rest * y[i] + half
            value[i] = w[i] * ((0 if z[i] < 0 else z[i]) - z[i] * t + log1p_unit_(e))
            dz[i] = w[i] * scale * ((e * s if z[i] < 0 else s) - t)
    elif kind == LOSS_BINARY_FOCAL:
        # With p = sigmoid(z), q = 1 - p: q^g (-log p) where y is 1, p^g (-log q) where it is 0.
        # softplus gives both logarithms without rounding p; powers are exponentials of them.
        for i in range(n):
            e = exp_negative_(-fabs_(z[i]))
            s = <real>1 / (<real>1 + e)
            d = log1p_unit_(e)
            u = (0 if z[i] > 0 else -z[i]) + d    # -log p
            v = (0 if z[i] < 0 else z[i]) + d     # -log q
            e = e * s
            d = e if z[i] < 0 else s              # p
            e = s if z[i] < 0 else e              # q
            s = y[i] * exp_(-own * v)
            t = (<real>1 - y[i]) * exp_(-own * u)
            value[i] = w[i] * (s * u + t * v)
            dz[i] = w[i] * scale * (t * (own * e * v + d) - s * (own * d * u + e))
    elif kind == LOSS_BINARY_CLIPPED:
        # softplus of the margin, y 0 or 1; clipping p to [eps, 1 - eps] bounds it on both sides.
        # Where p is rounded near 1, -log(1 - p) is scikit-learn's, rounding included.
        for i in range(n):
            e = exp_negative_(-fabs_(z[i]))
            s = <real>1 / (<real>1 + e)
            d = z[i] * (<real>1 - <real>2 * y[i])
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
            dz[i] = w[i] * scale * <real>2 * d
    elif kind == LOSS_MAE:
        for i in range(n):
            d = z[i] - y[i]
            value[i] = w[i] * fabs_(d)
            dz[i] = w[i] * scale * (1 if d > 0 else (-1 if d < 0 else d))
    elif kind == LOSS_HUBER:
        # d^2 / 2 inside the threshold, a line of slope `own` outside
        for i in range(n):
            d = z[i] - y[i]
            e = -own if d < -own else (own if d > own else d)
            value[i] = w[i] * e * (d - <real>0.5 * e)
            dz[i] = w[i] * scale * e
    elif kind == LOSS_LOG_COSH:
        # With u = exp(-|d|) - 1: cosh d - 1 = u^2 / (2 (1 + u)), exact for small d; for large
        # ones log cosh d = |d| - log 2 + log(1 + exp(-2 |d|)).
        for i in range(n):
            d = z[i] - y[i]
            u = expm1_(-fabs_(d))
            v = <real>1 + u
            t = u * u / (<real>2 * v)
            e = fabs_(d) - <real>LOG_2 if t > 1 else 0
            value[i] = w[i] * (e + log1p_unit_(v * v if t > 1 else t))
            dz[i] = w[i] * scale * tanh_(d)
    elif kind == LOSS_QUANTILE:
        # d (level - [d < 0]) with d = y - z
        for i in range(n):
            d = y[i] - z[i]
            t = level[i] - <real>1
            value[i] = w[i] * (d * (level[i] if d > 0 else t))
            dz[i] = w[i] * scale * (-level[i] if d > 0 else (-t if d < 0 else d))
    elif kind == LOSS_GAMMA:
        # Half the deviance, log link, without terms in y alone
        for i in range(n):
            e = y[i] * exp_(-z[i])
            value[i] = w[i] * (z[i] + e)
            dz[i] = w[i] * scale * (<real>1 - e)
    elif kind == LOSS_TWEEDIE:
        # The same for powers between Poisson's 1 and gamma's 2
        u = <real>(1 / (parameter - 1))
        v = <real>(1 / (2 - parameter))
        t = <real>(2 - parameter)
        for i in range(n):
            d = y[i] * exp_(rest * z[i])
            e = exp_(t * z[i])
            value[i] = w[i] * (v * e + u * d)
            dz[i] = w[i] * scale * (e - d)
    elif kind == LOSS_HINGE:
        # max(0, 1 - s z) with s = 1 where y is 1, -1 where it is 0
        for i in range(n):
            s = <real>2 * y[i] - <real>1
            d = <real>1 - s * z[i]
            value[i] = w[i] * (0 if d < 0 else d)
            dz[i] = w[i] * scale * (-s if d > 0 else (0 if d <= 0 else d))
    elif kind == LOSS_SQUARED_HINGE:
        for i in range(n):
            s = <real>2 * y[i] - <real>1
            d = <real>1 - s * z[i]
            d = 0 if d < 0 else d
            value[i] = w[i] * d * d
            dz[i] = w[i] * scale * <real>-2 * s * d
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
    const real* weight, double scale, const double* parameters, Py_ssize_t n_parameters,
    real* dz
) noexcept nogil:
    cdef real value[LOSS_BLOCK]
    cdef real w[LOSS_BLOCK]
    cdef real level[LOSS_BLOCK]
    cdef double parameter = parameters[0] if n_parameters > 0 else 0
    cdef Py_ssize_t n = rows * columns, start = 0, size, i
    cdef Py_ssize_t row = 0, column = 0
    cdef double total = 0
    for i in range(min(n, <Py_ssize_t>LOSS_BLOCK)):
        w[i] = 1
        level[i] = <real>parameter
    while start < n:
        size = n - start if n - start < LOSS_BLOCK else LOSS_BLOCK
        if weight != NULL:
            for i in range(size):
                w[i] = weight[row]
                column += 1
                if column == columns:
                    column = 0
                    row += 1
        if n_parameters > 1:
            for i in range(size):
                level[i] = <real>parameters[(start + i) % n_parameters]
        if z == dz:
            loss_block(kind, size, dz + start, target + start, w,
                       <real>(scale / columns), parameter, level, value, dz + start)
        else:
            loss_block(kind, size, z + start, target + start, w,
                       <real>(scale / columns), parameter, level, value, dz + start)
        total += block_sum(size, value)
        start += size
    return total / columns


cdef double softmax_cross_entropy(
    Py_ssize_t rows, Py_ssize_t columns, const real* z, const int* labels,
    const real* target, const real* weight, double scale, double smoothing, bint clipped, real* dz
) noexcept nogil:
    cdef Py_ssize_t first = 0, size, most = min(softmax_rows(columns), <Py_ssize_t>LOSS_BLOCK)
    cdef double total = 0
    if (LANES >= 16 and 2 <= columns < 2 * LANES  # of 4 or 8 rows at once it is no faster
            and labels != NULL and smoothing == 0 and not clipped):
        return cross_entropy_across(rows, columns, z, labels, weight, scale, dz)
    while first < rows:
        size = min(rows - first, most)
        total += cross_entropy_rows(
            size, columns, z + first * columns, labels + first if labels != NULL else NULL,
            target + first * columns if labels == NULL else NULL,
            weight + first if weight != NULL else NULL, scale, smoothing, clipped,
            dz + first * columns)
        first += size
    return total


cdef double cross_entropy_across(
    Py_ssize_t rows, Py_ssize_t columns, const real* z, const int* labels, const real* weight,
    double scale, real* dz
) noexcept nogil:
    # Few classes: a row in each lane, so that what is done by row is done to LANES of them at once.
    cdef real t[2 * LANES * LANES]
    cdef real w[LANES]
    cdef real own[LANES]  # the logit of a row's label
    cdef real sums[LANES]
    cdef Py_ssize_t first = 0, j
    cdef double total = 0
    cdef vec top, mass
    cdef int i, n
    for i in range(LANES):
        w[i], own[i] = 1, 0
    while first < rows:
        n = <int>min(rows - first, <Py_ssize_t>LANES)
        transpose_lines(columns, n, z, columns, t, LANES)
        top = vload(t)
        for j in range(1, columns):
            top = vmax(vload(t + j * LANES), top)
        for j in range(columns):
            vstore(t + j * LANES, vload(t + j * LANES) - top)
        for i in range(n):
            own[i] = t[labels[i] * LANES + i]
        for j in range(columns * LANES):
            t[j] = exp_negative_(t[j])
        mass = vload(t)
        for j in range(1, columns):
            mass = mass + vload(t + j * LANES)
        vstore(sums, mass)
        if weight != NULL:
            for i in range(n):
                w[i] = weight[i]
        top = broadcast(<real>scale) * vload(w)
        mass = top / mass
        for j in range(columns):
            vstore(t + j * LANES, vload(t + j * LANES) * mass)
        for i in range(n):
            t[labels[i] * LANES + i] -= <real>scale * w[i]
        for i in range(LANES):  # at least 1, or not finite: then NaN, which log_ ignores
            sums[i] = w[i] * (log_(sums[i]) + (sums[i] - sums[i]) - own[i])
        total += block_sum(n, sums)
        store_turned(columns, n, t, LANES, dz, columns, False)
        first += n
        z += n * columns
        dz += n * columns
        labels += n
        if weight != NULL:
            weight += n
    return total


cdef double cross_entropy_rows(
    Py_ssize_t rows, Py_ssize_t columns, const real* z, const int* labels,
    const real* target, const real* weight, double scale, double smoothing, bint clipped, real* dz
) noexcept nogil:
    # Passes over all rows: shift by the maximum and note the logit's part of the loss before z
    # may be overwritten, then exp as one long loop, then normalise. Smoothing takes a share of
    # each target and spreads it over all classes.
    cdef Py_ssize_t i, j
    cdef double total = 0, part, mass, keep = 1 - smoothing, even = smoothing / columns
    cdef real top, factor, s, share
    cdef real sums[LOSS_BLOCK]
    cdef double masses[LOSS_BLOCK]
    cdef real* d = dz
    for i in range(rows):
        top = row_max(columns, z)
        for j in range(columns):
            d[j] = z[j] - top
        if clipped:
            part = 0  # from the probability, below
        elif labels != NULL:
            part = -keep * d[labels[i]]
            if smoothing > 0:
                part -= even * sum_along(columns, d)
        else:
            part = 0
            for j in range(columns):
                # A shifted logit can be -infinity only if its input was: 0 * inf stays NaN.
                part -= (keep * target[i * columns + j] + even) * d[j]
        total += part if weight == NULL else weight[i] * part
        z += columns
        d += columns
    for i in range(rows * columns):
        dz[i] = exp_negative_(dz[i])
    d = dz
    for i in range(rows):
        sums[i] = sum_along(columns, d)
        factor = <real>scale if weight == NULL else <real>(scale * weight[i])
        mass = 1
        if clipped:
            mass = 0
            s = d[labels[i]] / sums[i]
            s = EPSILON if s < EPSILON else (1 - EPSILON if s > 1 - EPSILON else s)
            total -= log(<double>s) if weight == NULL else weight[i] * log(<double>s)
        if labels == NULL:
            mass = 0
            for j in range(columns):
                mass += target[i * columns + j]
            mass = keep * mass + smoothing
            for j in range(columns):
                share = <real>keep * target[i * columns + j] + <real>even
                d[j] = factor * (<real>mass * (d[j] / sums[i]) - share)
        else:
            s = factor / sums[i]
            for j in range(columns):
                d[j] = d[j] * s
            if smoothing > 0:
                share = <real>(factor * even)
                for j in range(columns):
                    d[j] -= share
            d[labels[i]] -= <real>(factor * keep)
        masses[i] = mass if weight == NULL else weight[i] * mass
        d += columns
    for i in range(rows):  # a sum is at least 1, or not finite: then NaN, which log_ ignores
        sums[i] = log_(sums[i]) + (sums[i] - sums[i])
    for i in range(rows):
        total += masses[i] * sums[i]
    return total


cdef inline void focal_term(
    double log_p, double gamma, double* value, double* slope
) noexcept nogil:
    # -(1 - p)^gamma log p, and its derivative by log p
    cdef double miss = -expm1(log_p), power = pow(miss, gamma)
    cdef double ratio = log_p / miss if miss > 0 else -1
    value[0] = -power * log_p
    slope[0] = power * (gamma * exp(log_p) * ratio - 1)


cdef double softmax_focal(
    Py_ssize_t rows, Py_ssize_t columns, const real* z, const int* labels,
    const real* target, const real* weight, double scale, double gamma, real* dz
) noexcept nogil:
    # The sum of target x term over the classes; for labels that is one term a row.
    cdef Py_ssize_t i, j
    cdef double total = 0, part, value, slope, slopes, mass, log_mass, w
    cdef real top, factor
    cdef real* d
    for i in range(rows):
        d = dz + i * columns
        w = 1 if weight == NULL else weight[i]
        top = row_max(columns, z + i * columns)
        for j in range(columns):
            d[j] = z[i * columns + j] - top
        mass = 0
        for j in range(columns):
            mass += exp_negative_(d[j])
        log_mass = log(mass)
        if labels != NULL:
            focal_term(min(d[labels[i]] - log_mass, 0.0), gamma, &part, &slopes)
        else:
            part = slopes = 0
            for j in range(columns):
                focal_term(min(d[j] - log_mass, 0.0), gamma, &value, &slope)
                part += target[i * columns + j] * value
                slopes += target[i * columns + j] * slope
        factor = <real>(-scale * w * slopes / mass)
        for j in range(columns):
            value = 0
            if labels == NULL:
                focal_term(min(d[j] - log_mass, 0.0), gamma, &value, &slope)
                value = scale * w * target[i * columns + j] * slope
            d[j] = factor * exp_negative_(d[j]) + <real>value
        if labels != NULL:
            d[labels[i]] += <real>(scale * w * slopes)
        total += w * part
    return total


cdef double loss(
    int kind, Py_ssize_t rows, Py_ssize_t columns, const void* z, const int* labels,
    const void* target, const void* weight, double scale, const double* parameters,
    Py_ssize_t n_parameters, void* dz
) noexcept nogil:
    cdef double parameter = parameters[0] if n_parameters > 0 else 0
    if kind == LOSS_SOFTMAX_CROSS_ENTROPY or kind == LOSS_SOFTMAX_CLIPPED:
        return softmax_cross_entropy(
            rows, columns, <const real*>z, labels, <const real*>target, <const real*>weight,
            scale, parameter if kind == LOSS_SOFTMAX_CROSS_ENTROPY else 0,
            kind == LOSS_SOFTMAX_CLIPPED, <real*>dz)
    if kind == LOSS_SOFTMAX_FOCAL:
        return softmax_focal(
            rows, columns, <const real*>z, labels, <const real*>target, <const real*>weight,
            scale, parameter, <real*>dz)
    return elementwise_loss(
        kind, rows, columns, <const real*>z, <const real*>target, <const real*>weight,
        scale, parameters, n_parameters, <real*>dz)
