# Matrix product with fused bias, activation and derivative.
#
# C is cut into panels of 2 vectors of columns, a panel into blocks of MR rows. A block lives in
# registers while the whole depth runs by: per step one row piece of B (2 vectors) and MR
# elements of A, each broadcast. A is read in place through two strides, so X, and X transposed
# for the weight gradient, need no copy. A panel of B is read in place if its columns are
# contiguous and it is full; else it is packed into scratch first, padded with zeros.
#
# Every element of C is the sum over depth in ascending order, whatever the tile it falls into:
# results do not depend on how rows and columns are cut (depth is cut at DEPTH_BLOCK, a constant).

cdef inline inlined block(
    const int rows, const int vectors, Py_ssize_t depth,
    const real* a, Py_ssize_t a_row, Py_ssize_t a_step,
    const real* b, Py_ssize_t b_step,
    real* c, Py_ssize_t c_row, int columns,
    const real* bias, bint accumulate, int epilogue, const real* gate, Py_ssize_t gate_row
) noexcept nogil:
    # `columns` <= vectors * LANES of the block are real; the others are computed and dropped.
    cdef vec acc[MR][2]
    cdef vec b_piece[2]
    cdef vec x
    cdef real edge[MR * 2 * LANES]
    cdef bint whole = columns == vectors * LANES
    cdef Py_ssize_t p
    cdef int i, j
    if accumulate:
        for i in range(rows):
            if whole:
                for j in range(vectors):
                    acc[i][j] = vload(c + i * c_row + j * LANES)
            else:
                for j in range(vectors * LANES):
                    edge[j] = c[i * c_row + j] if j < columns else 0
                for j in range(vectors):
                    acc[i][j] = vload(edge + j * LANES)
    elif bias != NULL:
        if not whole:
            for j in range(vectors * LANES):
                edge[j] = bias[j] if j < columns else 0
            bias = edge
        for i in range(rows):
            for j in range(vectors):
                acc[i][j] = vload(bias + j * LANES)
    else:
        for i in range(rows):
            for j in range(vectors):
                acc[i][j] = broadcast(0)
    for p in range(depth):
        for j in range(vectors):
            b_piece[j] = vload(b + j * LANES)
        for i in range(rows):
            x = broadcast(a[i * a_row])
            for j in range(vectors):
                acc[i][j] = acc[i][j] + x * b_piece[j]
        a = a + a_step
        b = b + b_step
    if epilogue == EPI_RELU:
        for i in range(rows):
            for j in range(vectors):
                acc[i][j] = vrelu(acc[i][j])
    if whole:
        if epilogue == EPI_GATE:
            for i in range(rows):
                for j in range(vectors):
                    acc[i][j] = vgate(acc[i][j], vload(gate + i * gate_row + j * LANES))
        for i in range(rows):
            for j in range(vectors):
                vstore(c + i * c_row + j * LANES, acc[i][j])
    else:
        for i in range(rows):
            for j in range(vectors):
                vstore(edge + j * LANES, acc[i][j])
            if epilogue == EPI_GATE:
                for j in range(columns):
                    c[i * c_row + j] = edge[j] if gate[i * gate_row + j] > 0 else 0
            else:
                for j in range(columns):
                    c[i * c_row + j] = edge[j]


cdef inline inlined panel(
    const int vectors, Py_ssize_t rows, Py_ssize_t depth,
    const real* a, Py_ssize_t a_row, Py_ssize_t a_step,
    const real* b, Py_ssize_t b_step,
    real* c, Py_ssize_t c_row, int columns,
    const real* bias, bint accumulate, int epilogue, const real* gate, Py_ssize_t gate_row
) noexcept nogil:
    cdef Py_ssize_t left = rows
    cdef int n
    while left > 0:
        # Heights for which a block is compiled; a rest is made up of the smaller ones.
        if left >= MR:
            n = MR
            block(MR, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, columns,
                  bias, accumulate, epilogue, gate, gate_row)
        elif MR > 8 and left >= 8:
            n = 8
            block(8 if MR > 8 else 1, vectors, depth, a, a_row, a_step, b, b_step, c, c_row,
                  columns, bias, accumulate, epilogue, gate, gate_row)
        elif left >= 4:
            n = 4
            block(4, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, columns,
                  bias, accumulate, epilogue, gate, gate_row)
        elif left >= 2:
            n = 2
            block(2, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, columns,
                  bias, accumulate, epilogue, gate, gate_row)
        else:
            n = 1
            block(1, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, columns,
                  bias, accumulate, epilogue, gate, gate_row)
        left -= n
        a += n * a_row
        c += n * c_row
        if epilogue == EPI_GATE:
            gate += n * gate_row


cdef void panel_1(
    Py_ssize_t rows, Py_ssize_t depth, const real* a, Py_ssize_t a_row, Py_ssize_t a_step,
    const real* b, Py_ssize_t b_step, real* c, Py_ssize_t c_row, int columns,
    const real* bias, bint accumulate, int epilogue, const real* gate, Py_ssize_t gate_row
) noexcept nogil:
    panel(1, rows, depth, a, a_row, a_step, b, b_step, c, c_row, columns,
          bias, accumulate, epilogue, gate, gate_row)


cdef void panel_2(
    Py_ssize_t rows, Py_ssize_t depth, const real* a, Py_ssize_t a_row, Py_ssize_t a_step,
    const real* b, Py_ssize_t b_step, real* c, Py_ssize_t c_row, int columns,
    const real* bias, bint accumulate, int epilogue, const real* gate, Py_ssize_t gate_row
) noexcept nogil:
    panel(2, rows, depth, a, a_row, a_step, b, b_step, c, c_row, columns,
          bias, accumulate, epilogue, gate, gate_row)


cdef void pack_rows(
    Py_ssize_t depth, int columns, int width, const real* b, Py_ssize_t b_step, real* out
) noexcept nogil:
    # A panel whose columns are contiguous in memory.
    cdef Py_ssize_t p
    cdef int j
    for p in range(depth):
        for j in range(columns):
            out[j] = b[j]
        for j in range(columns, width):
            out[j] = 0
        b += b_step
        out += width


cdef void pack_transposed(
    Py_ssize_t depth, int columns, int width, const real* b, Py_ssize_t b_column, real* out
) noexcept nogil:
    # A panel of the transpose: each of its columns is a contiguous run of `depth` elements.
    # Four steps of depth at a time, so that a cache line of the source is used while it is here.
    cdef Py_ssize_t p = 0
    cdef int j
    cdef const real* s
    while p + 4 <= depth:
        for j in range(columns):
            s = b + j * b_column + p
            out[j] = s[0]
            out[j + width] = s[1]
            out[j + 2 * width] = s[2]
            out[j + 3 * width] = s[3]
        for j in range(columns, width):
            out[j] = 0
            out[j + width] = 0
            out[j + 2 * width] = 0
            out[j + 3 * width] = 0
        out += 4 * width
        p += 4
    while p < depth:
        for j in range(columns):
            out[j] = b[j * b_column + p]
        for j in range(columns, width):
            out[j] = 0
        out += width
        p += 1


cdef void product(const Product* g) noexcept nogil:
    cdef const real* a = <const real*>g.a
    cdef const real* b = <const real*>g.b
    cdef real* c = <real*>g.c
    cdef const real* bias = <const real*>g.bias
    cdef const real* gate = <const real*>g.gate
    cdef real* scratch = <real*>g.scratch
    cdef const real* b_panel
    cdef Py_ssize_t start = 0, depth, j, b_step
    cdef int columns, width, epilogue
    cdef bint last, accumulate
    while start < g.depth or start == 0:
        depth = g.depth - start
        last = depth <= DEPTH_BLOCK
        if not last:
            depth = DEPTH_BLOCK
        accumulate = g.accumulate or start > 0
        epilogue = g.epilogue if last else EPI_NONE
        j = 0
        while j < g.columns:
            columns = PANEL if g.columns - j >= PANEL else <int>(g.columns - j)
            width = LANES if columns <= LANES else 2 * LANES
            if g.b_column != 1:
                pack_transposed(depth, columns, width, b + j * g.b_column, g.b_column, scratch)
                b_panel = scratch
                b_step = width
            elif columns != width or (
                g.rows >= PACK_MIN_ROWS and depth * g.b_step >= PACK_MIN_ELEMENTS
            ):
                pack_rows(depth, columns, width, b + j, g.b_step, scratch)
                b_panel = scratch
                b_step = width
            else:
                b_panel = b + j
                b_step = g.b_step
            if width == LANES:
                panel_1(g.rows, depth, a, g.a_row, g.a_step, b_panel, b_step, c + j, g.c_row,
                        columns, bias + j if bias != NULL else NULL, accumulate, epilogue,
                        gate + j if epilogue == EPI_GATE else NULL, g.gate_row)
            else:
                panel_2(g.rows, depth, a, g.a_row, g.a_step, b_panel, b_step, c + j, g.c_row,
                        columns, bias + j if bias != NULL else NULL, accumulate, epilogue,
                        gate + j if epilogue == EPI_GATE else NULL, g.gate_row)
            j += columns
        if last:
            break
        start += depth
        a += depth * g.a_step
        b += depth * g.b_step


cdef void column_sums(
    Py_ssize_t rows, Py_ssize_t columns, const void* x_, Py_ssize_t x_row, void* out_
) noexcept nogil:
    # out[j] = sum over rows of x[., j], in ascending order
    cdef const real* x = <const real*>x_
    cdef real* out = <real*>out_
    cdef Py_ssize_t i, j
    for j in range(columns):
        out[j] = 0
    for i in range(rows):
        for j in range(columns):
            out[j] = out[j] + x[j]
        x += x_row
