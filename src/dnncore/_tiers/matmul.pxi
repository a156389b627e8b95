# Matrix product with fused bias, activation and derivative.
#
# C is cut into panels of 2 vectors of columns, a panel into blocks of MR rows. A block lives in
# registers while the whole depth runs by: per step one row piece of B (2 vectors) and MR
# elements of A, each broadcast.
#
# Operands are read in place through their strides while that is cheap. A panel of B is packed
# (and padded with zeros) if its columns are not contiguous, if it is not full, or if many rows
# will use it: then by the first block of rows, behind its arithmetic. A is packed, in blocks of MR
# rows, if many columns will use it. Fewer rows or columns are enough where a stride of whole pages
# keeps an operand out of the first-level cache.
#
# Every element of C is the sum over depth in ascending order, whatever the tile it falls into:
# results do not depend on how rows and columns are cut (how depth is cut, depends on it alone).
# Few rows, little depth, and one column, whose order of sums is its own: matmul_narrow.pxi.
# Operands with many zeros: matmul_zeros.pxi.

cdef struct Panel:
    # What the blocks of a panel share; a, c and gate begin at the first row.
    Py_ssize_t depth
    const real* a
    Py_ssize_t a_row
    Py_ssize_t a_step
    const real* b
    Py_ssize_t b_step
    real* copy             # where the first block packs B
    const real* next       # the panel that will be packed next, or NULL
    Py_ssize_t next_step
    real* c
    Py_ssize_t c_row
    int columns            # up to PANEL; those beyond are computed and dropped
    const real* bias
    bint accumulate
    int epilogue
    const real* gate
    Py_ssize_t gate_row
    Py_ssize_t claimed     # elements from C to what is claimed; 0: nothing is


ctypedef void (*BlockKernel)(
    const Panel*, const real* a, real* c, const real* gate) noexcept nogil


cdef inline inlined block(
    const int rows, const int vectors, const bint packs, const Panel* g, const real* a,
    Py_ssize_t a_row, Py_ssize_t a_step, Py_ssize_t b_step, real* c, const real* gate
) noexcept nogil:
    cdef Py_ssize_t c_row = g.c_row
    cdef vec acc[MR][2]
    cdef vec start[2]
    cdef int whole = vectors if vectors > 0 else 1  # 0: half a vector
    cdef int rest = g.columns - (whole - 1) * LANES  # of the last vector
    cdef int i, j
    if g.claimed != 0:
        for i in range(rows):
            claim(c + g.claimed + i * c_row)
            claim(c + g.claimed + i * c_row + g.columns // 2)
            claim(c + g.claimed + i * c_row + g.columns - 1)
    for j in range(whole):
        start[j] = broadcast(0)
    if g.accumulate:
        # Added at the end: what C holds has the time of the whole loop to arrive.
        for i in range(rows):
            prefetch(c + i * c_row)
            prefetch(c + i * c_row + g.columns - 1)
    elif g.bias != NULL:
        for j in range(whole):
            start[j] = vload_part(g.bias + j * LANES, LANES if j < whole - 1 else rest)
    begin(rows, whole, acc, start)
    steps(rows, vectors, packs, acc, g.depth, a, a_row, a_step, g.b, b_step, g.copy)
    if rest == LANES:
        finish(True, rows, whole, acc, LANES, c, c_row, g.accumulate, g.epilogue == EPI_RELU,
               gate, g.gate_row)
    else:
        finish(False, rows, whole, acc, rest, c, c_row, g.accumulate, g.epilogue == EPI_RELU,
               gate, g.gate_row)


# Blocks of full height and width, one for each way in which A and B lie: strides that are known
# save instructions. Each is a function of its own, for gcc keeps the accumulators of a small one in
# registers.

cdef void packed_on_packed(
    const Panel* g, const real* a, real* c, const real* gate
) noexcept nogil:
    block(MR, 2, False, g, a, 1, MR, PANEL, c, gate)


cdef void across_on_packed(
    const Panel* g, const real* a, real* c, const real* gate
) noexcept nogil:
    block(MR, 2, False, g, a, 1, g.a_step, PANEL, c, gate)


cdef void along_on_packed(
    const Panel* g, const real* a, real* c, const real* gate
) noexcept nogil:
    block(MR, 2, False, g, a, g.a_row, 1, PANEL, c, gate)


cdef void packed_in_place(
    const Panel* g, const real* a, real* c, const real* gate
) noexcept nogil:
    block(MR, 2, False, g, a, 1, MR, g.b_step, c, gate)


cdef void across_in_place(
    const Panel* g, const real* a, real* c, const real* gate
) noexcept nogil:
    block(MR, 2, False, g, a, 1, g.a_step, g.b_step, c, gate)


cdef void along_in_place(
    const Panel* g, const real* a, real* c, const real* gate
) noexcept nogil:
    block(MR, 2, False, g, a, g.a_row, 1, g.b_step, c, gate)


cdef void packed_packing(
    const Panel* g, const real* a, real* c, const real* gate
) noexcept nogil:
    block(MR, 2, True, g, a, 1, MR, g.b_step, c, gate)


cdef void across_packing(
    const Panel* g, const real* a, real* c, const real* gate
) noexcept nogil:
    block(MR, 2, True, g, a, 1, g.a_step, g.b_step, c, gate)


cdef void along_packing(
    const Panel* g, const real* a, real* c, const real* gate
) noexcept nogil:
    block(MR, 2, True, g, a, g.a_row, 1, g.b_step, c, gate)


cdef inline int block_height(Py_ssize_t rows) noexcept nogil:
    """Rows of the next block: MR, or for a rest the largest smaller height that is compiled."""
    if MR == 6 and rows == 8:
        return 4  # and 4, not 6 and 2: two rows would wait for their sums as long as four
    if rows >= MR:
        return MR
    if MR > 8 and rows >= 8:
        return 8
    return 4 if rows >= 4 else (2 if rows >= 2 else 1)


cdef inline void fetch(const real* b, Py_ssize_t b_step, Py_ssize_t rows) noexcept nogil:
    cdef Py_ssize_t p
    for p in range(rows):
        prefetch_far(b)
        if PANEL * sizeof(real) > 64:
            prefetch_far(b + PANEL // 2)
        prefetch_far(b + PANEL - 1)
        b = b + b_step


cdef inline inlined panel(
    const int vectors, const bint packed, const Panel* g, Py_ssize_t rows, BlockKernel whole
) noexcept nogil:
    cdef Py_ssize_t a_row = 1 if packed else g.a_row
    cdef Py_ssize_t b_step = g.b_step
    cdef const real* a = g.a
    cdef const real* gate = g.gate
    cdef real* c = g.c
    cdef Py_ssize_t p = 0, share = 0
    cdef int n
    if vectors == 2 and g.next != NULL and rows > 0:
        share = (g.depth * MR + rows - 1) // rows
    while rows > 0:
        n = block_height(rows)
        if vectors == 2 and g.next != NULL:
            # Each row of the next panel lies on a page of its own: it has a whole panel's time.
            fetch(g.next + p * g.next_step, g.next_step, min(share, g.depth - p))
            p = min(p + share, g.depth)
        if n == MR and vectors == 2:
            whole(g, a, c, gate)
        elif n == MR:
            block(MR, vectors, False, g, a, a_row, MR if packed else g.a_step, b_step, c, gate)
        elif MR > 8 and n == 8:
            block(8 if MR > 8 else 1, vectors, False, g, a, a_row, 8 if packed else g.a_step,
                  b_step, c, gate)
        elif n == 4:
            block(4, vectors, False, g, a, a_row, 4 if packed else g.a_step, b_step, c, gate)
        elif n == 2:
            block(2, vectors, False, g, a, a_row, 2 if packed else g.a_step, b_step, c, gate)
        else:
            block(1, vectors, False, g, a, a_row, 1 if packed else g.a_step, b_step, c, gate)
        rows -= n
        a += n * (g.depth if packed else g.a_row)
        c += n * g.c_row
        if gate != NULL:
            gate += n * g.gate_row


cdef void panel_of(bint packed, const Panel* g, Py_ssize_t rows) noexcept nogil:
    if HALVES and g.columns <= LANES // 2:
        if packed:
            panel(0, True, g, rows, NULL)
        else:
            panel(0, False, g, rows, NULL)
    elif g.columns <= LANES:
        if packed:
            panel(1, True, g, rows, NULL)
        else:
            panel(1, False, g, rows, NULL)
    elif packed:
        panel(2, True, g, rows, packed_on_packed if g.b_step == PANEL else packed_in_place)
    elif g.a_row == 1:
        panel(2, False, g, rows, across_on_packed if g.b_step == PANEL else across_in_place)
    else:
        panel(2, False, g, rows, along_on_packed if g.b_step == PANEL else along_in_place)


cdef void pack_rows(
    Py_ssize_t depth, int columns, const real* b, Py_ssize_t b_step, real* out
) noexcept nogil:
    # A panel that is not full, its columns contiguous in memory.
    cdef Py_ssize_t p
    if columns <= LANES:
        for p in range(depth):
            vstore(out, vload_part(b, columns))
            b += b_step
            out += LANES
    else:
        for p in range(depth):
            vstore(out, vload(b))
            vstore(out + LANES, vload_part(b + LANES, columns - LANES))
            b += b_step
            out += 2 * LANES


cdef inline inlined interleave(const bint middle, vec* r) noexcept nogil:
    """A stage of the network before its last one."""
    cdef vec t[LANES]
    cdef int i
    for i in range(LANES // 2):
        if middle:
            t[2 * i] = middle_low(r[i], r[i + LANES // 2])
            t[2 * i + 1] = middle_high(r[i], r[i + LANES // 2])
        else:
            t[2 * i] = interleave_low(r[i], r[i + LANES // 2])
            t[2 * i + 1] = interleave_high(r[i], r[i + LANES // 2])
    for i in range(2 * (LANES // 2)):
        r[i] = t[i]


cdef inline inlined transpose(vec* r) noexcept nogil:
    """LANES vectors of LANES elements, transposed by a network of log2(LANES) interleavings.

    Vector i is line `line_of(i)`.
    """
    cdef vec t[LANES]
    cdef int stage, i
    for stage in range(LOG2_LANES - 1 - QUARTERS):
        interleave(False, r)
    if QUARTERS:
        interleave(True, r)
    for i in range(LANES // 2):
        t[place(i, 0)] = last_low(r[i], r[i + LANES // 2])
        t[place(i, 1)] = last_high(r[i], r[i + LANES // 2])
    for i in range(2 * (LANES // 2)):
        r[i] = t[i]


cdef inline inlined transpose_lines(
    Py_ssize_t depth, int lines, const real* source, Py_ssize_t line, real* out, int width
) noexcept nogil:
    """Up to LANES lines of `depth` elements into columns of `out`, whose rows are `width` long.

    Stores whole vectors: what lies beyond the last column is overwritten by the next row, so
    rows must be written in order, and `out` needs room for one more vector.
    """
    cdef vec r[LANES]
    cdef Py_ssize_t p = 0
    cdef int i, rest
    while p + LANES <= depth:
        for i in range(LANES):
            r[i] = vload(source + (line_of(i) if line_of(i) < lines else 0) * line + p)
        transpose(r)
        for i in range(LANES):
            vstore(out + (p + i) * width, r[i])
        p += LANES
    rest = <int>(depth - p)
    if rest > 0:
        for i in range(LANES):
            r[i] = vload_part(
                source + (line_of(i) if line_of(i) < lines else 0) * line + p, rest)
        transpose(r)
        for i in range(rest):
            vstore(out + (p + i) * width, r[i])


cdef void pack_transposed(
    Py_ssize_t depth, int columns, const real* b, Py_ssize_t b_column, real* out
) noexcept nogil:
    # A panel of the transpose: each of its columns is a contiguous run of `depth` elements. The
    # second vectors first: the last of them spills nothing, those before are overwritten.
    if columns == 2 * LANES:
        transpose_lines(depth, LANES, b + LANES * b_column, b_column, out + LANES, 2 * LANES)
        transpose_lines(depth, LANES, b, b_column, out, 2 * LANES)
    elif columns > LANES:
        transpose_lines(
            depth, columns - LANES, b + LANES * b_column, b_column, out + LANES, 2 * LANES)
        transpose_lines(depth, LANES, b, b_column, out, 2 * LANES)
    elif columns == LANES:
        transpose_lines(depth, LANES, b, b_column, out, LANES)
    else:
        transpose_lines(depth, columns, b, b_column, out, LANES)


cdef inline void pack_columns(
    Py_ssize_t rows, Py_ssize_t depth, Py_ssize_t first, Py_ssize_t stop, const real* a,
    Py_ssize_t a_step, real* out
) noexcept nogil:
    cdef Py_ssize_t p, at = 0
    cdef int i
    while at < rows:
        for p in range(first, stop):
            for i in range(MR):
                out[at * depth + p * MR + i] = a[p * a_step + at + i]
        at += MR


cdef void pack_blocks(
    Py_ssize_t rows, Py_ssize_t depth, const real* a, Py_ssize_t a_row, Py_ssize_t a_step,
    real* out
) noexcept nogil:
    # A in blocks of rows as `panel` takes them: per block `depth` times its rows' elements.
    cdef Py_ssize_t p, at, stop
    cdef int i, n
    if a_row == 1:
        # A's transpose as it lies in memory, some of its rows at a time through all full blocks.
        at = rows // MR * MR
        if MR == 6 and rows - at == 2 and at > 0:
            at -= MR  # `block_height` ends with 4 and 4
        p = 0
        while p < depth:
            stop = min(p + 8, depth)
            pack_columns(at, depth, p, stop, a, a_step, out)
            p = stop
        a += at
        out += at * depth
        rows -= at
    while rows > 0:
        n = block_height(rows)
        if a_step == 1 and n == MR:
            i = (MR - 1) // LANES * LANES
            while i >= 0:  # the last columns first: what their stores spill is written next
                transpose_lines(depth, LANES if MR - i > LANES else MR - i, a + i * a_row, a_row,
                                out + i, MR)
                i -= LANES
        else:
            for p in range(depth):
                for i in range(n):
                    out[p * n + i] = a[i * a_row + p * a_step]
        rows -= n
        a += n * a_row
        out += n * depth


cdef inline Py_ssize_t depth_cut(Py_ssize_t depth) noexcept nogil:
    """Depth in one go: equal parts, for a short rest would read and write C for little work."""
    cdef Py_ssize_t parts = (depth + DEPTH_BLOCK - 1) // DEPTH_BLOCK
    if parts <= 1:
        return depth
    return ((depth + parts - 1) // parts + 7) // 8 * 8


cdef inline bint packs_a(Py_ssize_t rows, Py_ssize_t columns, bint crowded) noexcept nogil:
    return columns >= (PACK_CROWDED_A_MIN_COLUMNS if crowded else PACK_A_MIN_COLUMNS) and rows >= MR


cdef inline bint is_crowded(Py_ssize_t step) noexcept nogil:
    """Whether lines so far apart share a set of the first-level cache, which holds few of them."""
    return step * <Py_ssize_t>sizeof(real) % CROWDED_BYTES == 0


cdef Py_ssize_t product_scratch(
    Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t depth, bint across
) noexcept nogil:
    """Elements of scratch that suffice for a product of this size and for all smaller ones."""
    cdef Py_ssize_t others = max(
        skipping_scratch(rows, columns, depth, across), tall_scratch(rows, depth, across))
    depth = min(depth, <Py_ssize_t>DEPTH_BLOCK)
    if packs_a(rows, columns, True):  # and room for the last whole vector stored into A
        return max(others, depth * (PANEL + min(rows, <Py_ssize_t>ROW_BLOCK)) + LANES)
    return max(others, depth * PANEL)


cdef inline Py_ssize_t claimed_from_c(const Product* g) noexcept nogil:
    if g.claimed == NULL:
        return 0
    return (<Py_ssize_t>g.claimed - <Py_ssize_t>g.c) // <Py_ssize_t>sizeof(real)


cdef void product(const Product* g) noexcept nogil:
    cdef Panel part
    cdef const real* a = <const real*>g.a
    cdef const real* b = <const real*>g.b
    cdef Py_ssize_t start = 0, first, rows
    cdef Py_ssize_t cut = depth_cut(g.depth)
    cdef real* a_scratch = <real*>g.scratch + cut * PANEL
    cdef bint crowded = g.a_row == 1 and is_crowded(g.a_step)
    cdef bint last, pack_a
    if takes_dots(g):
        dots(g)
        return
    if is_tall(g):
        tall(g)
        return
    if (may_skip(g.rows, g.columns, g.depth) or may_skip(g.columns, g.rows, g.depth)) and (
            skips_zeros(g)):
        return
    pack_a = packs_a(g.rows, g.columns, crowded) and not goes_by_row(g)
    part.a_row, part.a_step, part.c_row, part.gate_row = g.a_row, g.a_step, g.c_row, g.gate_row
    while start < g.depth or start == 0:
        part.depth = min(cut, g.depth - start)
        part.accumulate = g.accumulate or start > 0
        last = start + part.depth == g.depth
        part.epilogue = g.epilogue if last else EPI_NONE
        part.claimed = claimed_from_c(g) if last else 0
        first = 0
        while first < g.rows:
            rows = min(g.rows - first, <Py_ssize_t>ROW_BLOCK) if pack_a else g.rows
            part.a = a + first * g.a_row
            if pack_a:
                pack_blocks(rows, part.depth, part.a, g.a_row, g.a_step, a_scratch)
                part.a = a_scratch
            product_part(g, pack_a, &part, b, first, rows)
            first += rows
        if last:
            break
        start += part.depth
        a += part.depth * g.a_step
        b += part.depth * g.b_step


cdef void product_part(
    const Product* g, bint packed_a, Panel* part, const real* b, Py_ssize_t first,
    Py_ssize_t rows
) noexcept nogil:
    """Rows first... of C, to which a part of the depth is added, panel by panel."""
    cdef real* packed = <real*>g.scratch
    cdef real* c = <real*>g.c + first * g.c_row
    cdef const real* a = part.a
    cdef const real* gate = (
        <const real*>g.gate + first * g.gate_row if part.epilogue == EPI_GATE else NULL)
    cdef BlockKernel first_block = (
        packed_packing if packed_a else (across_packing if g.a_row == 1 else along_packing))
    cdef Py_ssize_t j = 0, depth = part.depth, left
    cdef bint slow_b = (is_crowded(g.b_step)
                        or g.depth * g.b_step * <Py_ssize_t>sizeof(real) > FAR_B_BYTES)
    cdef int columns, width
    if goes_by_row(g):
        j = row_strips(g, part, b, gate)
    while j < g.columns:
        columns = PANEL if g.columns - j >= PANEL else <int>(g.columns - j)
        if HALVES and LANES < columns <= LANES + LANES // 2:
            columns = LANES
        width = LANES if columns <= LANES else 2 * LANES
        part.columns = columns
        part.a = a
        part.b, part.b_step = packed, width
        part.c = c + j
        part.bias = <const real*>g.bias + j if g.bias != NULL else NULL
        part.gate = gate + j if gate != NULL else NULL
        part.next = NULL
        left = rows
        if g.b_column != 1:
            pack_transposed(depth, columns, b + j * g.b_column, g.b_column, packed)
        elif columns != width:
            pack_rows(depth, columns, b + j, g.b_step, packed)
        elif width == PANEL and (
            (rows >= PACK_B_MIN_ROWS and depth * g.b_step >= PACK_B_MIN_ELEMENTS)
            or (rows >= PACK_SLOW_B_MIN_ROWS and slow_b)
        ):
            part.b, part.b_step, part.copy = b + j, g.b_step, packed
            first_block(part, a, part.c, part.gate)
            left -= MR
            if j + 2 * PANEL <= g.columns:
                part.next, part.next_step = b + j + PANEL, g.b_step
            part.a = a + MR * (depth if packed_a else g.a_row)
            part.b, part.b_step = packed, width
            part.c += MR * g.c_row
            if gate != NULL:
                part.gate += MR * g.gate_row
        else:
            part.b, part.b_step = b + j, g.b_step
        panel_of(packed_a, part, left)
        j += columns


cdef void column_sums(
    Py_ssize_t rows, Py_ssize_t columns, const void* x_, Py_ssize_t x_row, void* out_
) noexcept nogil:
    # out[j] = sum over rows of x[., j]: rows 0, 4, 8, ... and so on in four partial sums. A
    # whole vector of columns runs down all rows in registers.
    cdef const real* x = <const real*>x_
    cdef const real* p
    cdef real* out = <real*>out_
    cdef Py_ssize_t i, j = 0
    cdef vec v0, v1, v2, v3
    cdef real s0, s1, s2, s3
    while j + LANES <= columns:
        p = x + j
        v0 = v1 = v2 = v3 = broadcast(0)
        i = 0
        while i + 4 <= rows:
            v0 = v0 + vload(p)
            v1 = v1 + vload(p + x_row)
            v2 = v2 + vload(p + 2 * x_row)
            v3 = v3 + vload(p + 3 * x_row)
            p += 4 * x_row
            i += 4
        while i < rows:
            v0 = v0 + vload(p)
            p += x_row
            i += 1
        vstore(out + j, (v0 + v1) + (v2 + v3))
        j += LANES
    while j < columns:
        p = x + j
        s0 = s1 = s2 = s3 = 0
        i = 0
        while i + 4 <= rows:
            s0 += p[0]
            s1 += p[x_row]
            s2 += p[2 * x_row]
            s3 += p[3 * x_row]
            p += 4 * x_row
            i += 4
        while i < rows:
            s0 += p[0]
            p += x_row
            i += 1
        out[j] = (s0 + s1) + (s2 + s3)
        j += 1
