# Products with a single column or few, with very few rows or of hardly any depth, as a network with
# few outputs or with two inputs and a prediction of a row or two have them.
#
# One column, `dots`: vectors run along depth, one accumulator per row, for as many rows as a vector
# has elements; in the end the accumulators are added up across, all of them at once. An element is
# the sum of LANES partial sums, of every LANES-th product each: its order depends on depth alone.
#
# Few columns and many rows, `tall`, as the gradient of a head's weights has them: the transpose,
# whose vectors are full, as any other product, turned when it is stored. An element is the same
# sum.
#
# Few rows, `row_strips`: eight vectors of a row at a time, in the order of every other product.
# Two vectors at a time, as blocks have them, would wait for their sums, take a line from each row
# of B where this takes some in a row, and write a line to each row of C.

cdef inline bint takes_dots(const Product* g) noexcept nogil:
    # a_row is 1 in a transpose, and a transpose of a single row must not be told from others.
    return (g.columns == 1 and g.a_row != 1 and g.a_step == 1 and g.b_step == 1 and g.c_row == 1
            and (g.epilogue != EPI_GATE or g.gate_row == 1))


cdef inline bint goes_by_row(const Product* g) noexcept nogil:
    return ((g.rows <= FEW_ROWS or g.depth <= SHALLOW) and g.rows > 0 and g.b_column == 1
            and g.columns >= 4 * PANEL)


cdef inline bint is_tall(const Product* g) noexcept nogil:
    # What C holds is added to each part of the depth's sum, not to the sum of all of them.
    return (1 < g.columns <= TALL_COLUMNS and g.rows >= TALL_MIN_ROWS and g.depth >= TALL_MIN_DEPTH
            and g.a_row == 1 and g.b_column == 1 and g.c_row == g.columns and g.bias == NULL
            and g.epilogue == EPI_NONE and not (g.accumulate and g.depth > DEPTH_BLOCK))


cdef inline Py_ssize_t tall_scratch(
    Py_ssize_t rows, Py_ssize_t depth, bint across
) noexcept nogil:
    if not across or rows < TALL_MIN_ROWS or depth < TALL_MIN_DEPTH:
        return 0
    return (TALL_COLUMNS * TALL_ROWS + LANES
            + min(depth, <Py_ssize_t>DEPTH_BLOCK) * (PANEL + TALL_COLUMNS))


cdef inline void claim_run(const real* w, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i < n:
        claim(w + i)
        i += 64 // <Py_ssize_t>sizeof(real)
    claim(w + n - 1)


cdef void tall(const Product* g) noexcept nogil:
    """C by the rows of its transpose, whose vectors are full."""
    cdef Product t
    cdef Py_ssize_t first = 0
    t.rows, t.depth = g.columns, g.depth
    t.a, t.a_row, t.a_step = g.b, 1, g.b_step
    t.b_step, t.b_column = g.a_step, 1
    t.c, t.c_row = g.scratch, TALL_ROWS
    t.bias, t.gate, t.gate_row, t.claimed = NULL, NULL, 0, NULL
    t.accumulate, t.epilogue = False, EPI_NONE
    t.scratch = <real*>g.scratch + TALL_COLUMNS * TALL_ROWS
    while first < g.rows:
        t.columns = min(g.rows - first, <Py_ssize_t>TALL_ROWS)
        t.b = <const real*>g.a + first
        if g.claimed != NULL:  # what lies beside these rows of C
            claim_run(<const real*>g.claimed + first * g.columns, t.columns * g.columns)
        product(&t)
        store_turned(t.rows, t.columns, <const real*>g.scratch, TALL_ROWS,
                     <real*>g.c + first * g.c_row, g.c_row, g.accumulate)
        first += t.columns


cdef inline inlined fold(const int n, vec* r) noexcept nogil:
    cdef int i
    for i in range(n):
        if QUARTERS and n == 2:
            r[i] = middle_low(r[i], r[i + n]) + middle_high(r[i], r[i + n])
        else:
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


cdef void strip(
    bint first, const Product* g, const Panel* part, const real* a, const real* b,
    const real* bias, real* c, const real* gate
) noexcept nogil:
    """Eight vectors of a row of C. The first row to need these columns of B asks for them."""
    cdef vec acc[4][2]  # as `finish` takes them: four pieces of a row, a panel wide
    cdef vec x
    cdef Py_ssize_t p
    cdef int i
    for i in range(4):
        acc[i][0] = acc[i][1] = broadcast(0)
        if bias != NULL and not part.accumulate:
            acc[i][0] = vload(bias + i * PANEL)
            acc[i][1] = vload(bias + i * PANEL + LANES)
    for p in range(part.depth):
        if first:  # the others find them nearby
            i = 0
            while i < 4 * PANEL:
                prefetch_far(b + 8 * g.b_step + i)
                i += 64 // <int>sizeof(real)
        x = broadcast(a[p * g.a_step])
        for i in range(4):
            acc[i][0] = acc[i][0] + x * vload(b + i * PANEL)
            acc[i][1] = acc[i][1] + x * vload(b + i * PANEL + LANES)
        b = b + g.b_step
    finish(True, 4, 2, acc, LANES, c, PANEL, part.accumulate, part.epilogue == EPI_RELU, gate,
           PANEL)


cdef Py_ssize_t row_strips(
    const Product* g, const Panel* part, const real* b, const real* gate
) noexcept nogil:
    """C by rows, eight vectors at a time; returns the columns that are done."""
    cdef const real* bias = <const real*>g.bias
    cdef Py_ssize_t columns = g.columns // (4 * PANEL) * (4 * PANEL), i = 0, j = 0
    while i < g.rows and j < columns:
        strip(i == 0 and g.depth > SHALLOW, g, part, part.a + i * g.a_row, b + j,
              bias + j if bias != NULL else NULL, <real*>g.c + i * g.c_row + j,
              gate + i * g.gate_row + j if gate != NULL else NULL)
        if g.depth > SHALLOW:  # all rows while these columns of B are near
            i += 1
            if i == g.rows:
                i, j = 0, j + 4 * PANEL
        else:
            j += 4 * PANEL
            if j == columns:
                i, j = i + 1, 0
    return columns
