# Softmax over the rows of a matrix, and what it shares with its loss: sums and maxima of a row.

cdef inline real row_max(Py_ssize_t n, const real* x) noexcept nogil:
    """Of at least one element; if one of them is NaN, perhaps NaN."""
    cdef real lanes[LANES]
    cdef real top = x[0]
    cdef vec v
    cdef Py_ssize_t j = LANES
    if n < 2 * LANES:
        for j in range(1, n):
            top = x[j] if x[j] > top else top
        return top
    v = vload(x)
    while j + LANES <= n:
        v = vmax(vload(x + j), v)
        j += LANES
    vstore(lanes, vmax(vload(x + n - LANES), v))
    for j in range(LANES):
        top = lanes[j] if lanes[j] > top else top
    return top


cdef inline real sum_along(Py_ssize_t n, const real* x) noexcept nogil:
    cdef real s0 = 0, s1 = 0
    cdef Py_ssize_t j = 0
    if n >= 2 * LANES:
        return row_sum(n, x, 0, False)
    while j + 2 <= n:
        s0 += x[j]
        s1 += x[j + 1]
        j += 2
    if j < n:
        s0 += x[j]
    return s0 + s1


cdef inline Py_ssize_t softmax_rows(Py_ssize_t columns) noexcept nogil:
    """Rows that softmax takes at a time: short ones together, and no more than stay nearby."""
    return max(<Py_ssize_t>1, <Py_ssize_t>SOFTMAX_BLOCK // columns)


cdef void softmax_forward(
    Py_ssize_t rows, Py_ssize_t columns, const real* z, real* a
) noexcept nogil:
    cdef Py_ssize_t first = 0, size
    if columns == 0:
        return
    while first < rows:
        size = min(rows - first, softmax_rows(columns))
        softmax_block(size, columns, z + first * columns, a + first * columns)
        first += size


cdef void softmax_block(
    Py_ssize_t rows, Py_ssize_t columns, const real* z, real* a
) noexcept nogil:
    # Shift by the row's maximum; exp over all rows at once, since a row may be short; divide.
    cdef Py_ssize_t i, j
    cdef real top, factor
    cdef real* row = a
    for i in range(rows):
        top = row_max(columns, z)
        for j in range(columns):
            row[j] = z[j] - top
        z += columns
        row += columns
    for i in range(rows * columns):
        a[i] = exp_negative_(a[i])
    for i in range(rows):
        factor = <real>1 / sum_along(columns, a)
        for j in range(columns):
            a[j] = a[j] * factor
        a += columns


cdef void softmax_backward(
    Py_ssize_t rows, Py_ssize_t columns, const real* da, const real* a, real* dz
) noexcept nogil:
    # dz = a * (da - sum_j da_j a_j)
    cdef Py_ssize_t i, j
    cdef real dot
    for i in range(rows):
        dot = 0
        for j in range(columns):
            dot += da[j] * a[j]
        for j in range(columns):
            dz[j] = a[j] * (da[j] - dot)
        da += columns
        a += columns
        dz += columns
