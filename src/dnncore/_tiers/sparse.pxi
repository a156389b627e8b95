# Products with a sparse matrix X, given by rows (`SparseRows`), whose cost follows its non-zeros.
#
# Every element is one sum in the order of the non-zeros (forward) or of the rows (gradient), so
# neither depends on how rows and weights are cut into tiles.

cdef inline inlined add_row(Py_ssize_t n, real factor, const real* x, real* out) noexcept nogil:
    cdef Py_ssize_t j = 0
    cdef vec f = broadcast(factor)
    while j + LANES <= n:
        vstore(out + j, vload(out + j) + f * vload(x + j))
        j += LANES
    while j < n:
        out[j] += factor * x[j]
        j += 1


cdef inline inlined weigh_rows(
    const int vectors, long long start, long long end, const int* indices, const real* values,
    const real* w, Py_ssize_t w_row, real* z
) noexcept nogil:
    # z += sum of values[k] w[indices[k]], some columns of it, which stay in registers.
    cdef vec acc[4]
    cdef vec f
    cdef const real* row
    cdef long long k
    cdef int j
    for j in range(vectors):
        acc[j] = vload(z + j * LANES)
    for k in range(start, end):
        f = broadcast(values[k])
        row = w + indices[k] * w_row
        for j in range(vectors):
            acc[j] = acc[j] + f * vload(row + j * LANES)
    for j in range(vectors):
        vstore(z + j * LANES, acc[j])


cdef void sparse_forward(
    const SparseRows* x, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t columns,
    const void* w_, const void* bias, void* z_
) noexcept nogil:
    """z (rows, columns) = rows first... of x @ w, plus bias unless it is NULL."""
    cdef const real* w = <const real*>w_
    cdef const real* values = <const real*>x.values
    cdef real* z = <real*>z_
    cdef Py_ssize_t i, j
    cdef long long at, k, start, end
    for i in range(rows):
        at = x.order[first + i] if x.order != NULL else first + i
        if bias != NULL:
            memcpy(z, bias, columns * sizeof(real))
        else:
            memset(z, 0, columns * sizeof(real))
        start, end, j = x.indptr[at], x.indptr[at + 1], 0
        while j + 4 * LANES <= columns:
            weigh_rows(4, start, end, x.indices, values, w + j, columns, z + j)
            j += 4 * LANES
        while j + LANES <= columns:
            weigh_rows(1, start, end, x.indices, values, w + j, columns, z + j)
            j += LANES
        if j < columns:
            for k in range(start, end):
                add_row(columns - j, values[k], w + x.indices[k] * columns + j, z + j)
        z += columns


cdef inline long long lower_bound(
    const int* indices, long long low, long long high, Py_ssize_t value
) noexcept nogil:
    """First place in low...high whose index is not below value."""
    cdef long long middle
    while low < high:
        middle = (low + high) // 2
        if indices[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


cdef void sparse_gradient(
    const SparseRows* x, Py_ssize_t rows, Py_ssize_t first, Py_ssize_t depth,
    Py_ssize_t columns, const void* dz_, void* dw_
) noexcept nogil:
    """dw (depth, columns) = columns first...first + depth of x, transposed, @ dz."""
    cdef const real* values = <const real*>x.values
    cdef const real* dz = <const real*>dz_
    cdef real* dw = <real*>dw_
    cdef Py_ssize_t i
    cdef long long at, k, end
    memset(dw, 0, depth * columns * sizeof(real))
    for i in range(rows):
        at = x.order[i] if x.order != NULL else i
        end = x.indptr[at + 1]
        k = lower_bound(x.indices, x.indptr[at], end, first) if first > 0 else x.indptr[at]
        while k < end and x.indices[k] < first + depth:
            add_row(columns, values[k], dz, dw + (x.indices[k] - first) * columns)
            k += 1
        dz += columns
