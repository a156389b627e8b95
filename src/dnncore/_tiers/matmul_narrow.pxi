# Matrix times vector: a product with a single column, as of a network with one output.
#
# Vectors run along depth, one accumulator per row, for as many rows as a vector has elements; in
# the end the accumulators are added up across, all of them at once. An element is the sum of
# LANES partial sums, of every LANES-th product each: its order depends on depth alone.

cdef inline bint takes_dots(const Product* g) noexcept nogil:
    # a_row is 1 in a transpose, and a transpose of a single row must not be told from others.
    return (g.columns == 1 and g.a_row != 1 and g.a_step == 1 and g.b_step == 1 and g.c_row == 1
            and (g.epilogue != EPI_GATE or g.gate_row == 1))


cdef inline inlined fold(const int n, vec* r) noexcept nogil:
    cdef int i
    for i in range(n):
        r[i] = interleave_low(r[i], r[i + n]) + interleave_high(r[i], r[i + n])


cdef inline vec sums_of(vec* r) noexcept nogil:
    """Of each of LANES vectors the sum of its elements: interleaved in pairs, and pairs added.

    Vector i is that of row `line_of(i)`.
    """
    # One by one, of constant length: a loop of loops would send the vectors through memory.
    if LANES > 8:
        fold(8, r)
    if LANES > 4:
        fold(4, r)
    if LANES > 2:
        fold(2, r)
    if LANES > 1:
        r[0] = last_low(r[0], r[LANES > 1]) + last_high(r[0], r[LANES > 1])
    return r[0]


cdef void dots(const Product* g) noexcept nogil:
    cdef const real* a = <const real*>g.a
    cdef const real* b = <const real*>g.b
    cdef const real* lines[LANES]
    cdef real* c = <real*>g.c
    cdef vec acc[LANES]
    cdef vec x
    cdef vec start = broadcast(0)
    cdef Py_ssize_t first = 0, p
    cdef int i, n, rest
    if g.bias != NULL and not g.accumulate:
        start = broadcast((<const real*>g.bias)[0])
    while first < g.rows:
        n = <int>min(g.rows - first, <Py_ssize_t>LANES)
        for i in range(LANES):  # beyond the last row the first once more: its sum is dropped
            lines[i] = a + (first + (line_of(i) if line_of(i) < n else 0)) * g.a_row
            acc[i] = broadcast(0)
        p = 0
        while p + LANES <= g.depth:
            x = vload(b + p)
            for i in range(LANES):
                acc[i] = acc[i] + x * vload(lines[i] + p)
            p += LANES
        rest = <int>(g.depth - p)
        if rest > 0:
            x = vload_part(b + p, rest)
            for i in range(LANES):
                acc[i] = acc[i] + x * vload_part(lines[i] + p, rest)
        x = sums_of(acc) + (vload_part(c + first, n) if g.accumulate else start)
        if g.epilogue == EPI_RELU:
            x = vrelu(x)
        elif g.epilogue == EPI_GATE:
            x = vgate(x, vload_part(<const real*>g.gate + first, n))
        vstore_part(c + first, x, n)
        first += n
