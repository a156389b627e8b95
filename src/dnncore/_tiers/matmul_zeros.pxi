# Products one of whose operands has many zeros: activations behind relu or dropout, deltas behind
# relu', pixels.
#
# Of each line of the operand with zeros (a row of A, or a column of B) the elements that are not
# zero are noted, a bit for each. For each line, STRIPE vectors of C stay in registers while the
# rows of the other operand whose bits are set are added to them, each times its element. These rows
# are packed, CHUNK of them at a time, so that they are in the first-level cache: one is read for
# each multiply-add.
#
# An element is the sum over the same parts of the depth in the same order as everywhere in
# matmul.pxi: leaving out zeros changes no bits, so it may depend on the data. (0 x infinity is left
# out, too.) If the lines are columns of B, C is computed transposed, and turned as it is stored.

cdef struct Skipping:
    # c[line, j] += sum over p of s[line, p] d[p, j]
    Py_ssize_t lines, width
    const real* s              # the operand with zeros; one of its strides is 1
    Py_ssize_t s_line, s_step
    const real* d              # the other one; so is one of its
    Py_ssize_t d_step, d_column
    bint in_place              # it is small enough not to be packed
    Py_ssize_t row             # elements from one of its rows in the cache to the next
    bint turned                # c[j, line] is what is stored
    # Scratch
    real* values               # CHUNK elements of each line of each chunk, if they are not so in s
    real* packed               # CHUNK rows of a stripe
    real* sums                 # of a stripe of each line
    real* bias                 # of a stripe, or zeros
    uint64_t bits[SUMMED_LINES * MAX_CHUNKS]  # of each line of each chunk


cdef inline int chunk_rows(Py_ssize_t depth) noexcept nogil:
    """Rows of the other operand in a chunk: equal parts of the depth."""
    cdef Py_ssize_t parts = (depth + CHUNK - 1) // CHUNK
    return <int>((depth + parts - 1) // parts)


cdef inline bint may_skip(Py_ssize_t lines, Py_ssize_t width, Py_ssize_t depth) noexcept nogil:
    """Whether to look for zeros: each element makes `width` multiply-adds."""
    return (lines >= SKIP_MIN_LINES and width >= SKIP_MIN_WIDTH and depth >= SKIP_MIN_DEPTH)


cdef Py_ssize_t skipping_scratch(
    Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t depth, bint across
) noexcept nogil:
    cdef Py_ssize_t lines = rows if may_skip(rows, columns, depth) else 0
    if across and may_skip(columns, rows, depth):
        lines = max(lines, columns)
    if lines == 0:
        return 0
    lines = min(lines, <Py_ssize_t>SUMMED_LINES)
    depth = min(depth, <Py_ssize_t>DEPTH_BLOCK)
    return ((CHUNK + lines + 1) * STRIPE * LANES
            + (lines * ((depth + CHUNK - 1) // CHUNK * CHUNK) if across else 0))


cdef inline double share_kept(
    Py_ssize_t lines, Py_ssize_t depth, const real* s, Py_ssize_t s_line, Py_ssize_t s_step
) noexcept nogil:
    """Of a sample, the share that is not zero. Operands without any are known by the first few."""
    cdef Py_ssize_t along = depth if s_step == 1 else lines
    cdef Py_ssize_t across = lines if s_step == 1 else depth
    cdef Py_ssize_t step = s_line if s_step == 1 else s_step
    cdef int i, kept = 0
    for i in range(SAMPLES):
        kept += count_bits(nonzero(
            vload(s + across * i // SAMPLES * step + (along - LANES) * (7 * i % 16) // 15)))
        if i == 3 and kept == 4 * LANES:
            return 1
    return <double>kept / (SAMPLES * LANES)


cdef inline double cost_of_skipping(
    double kept, Py_ssize_t width, Py_ssize_t depth, bint across, bint turned
) noexcept nogil:
    """Time beside that with zeros multiplied, in multiply-adds of a vector for each element.

    To look at an element takes as long as 0.3 of them, or 0.6 if lines lie across; to keep it, a
    little more than one for each vector of C. Fitted to what was measured.
    """
    cdef double vectors = (width + LANES - 1) // LANES
    return (kept * (1.25 * vectors + 0.4) + (0.6 if across else 0.3)
            + (6 * vectors / depth if turned else 0)) * LANES / (1.05 * width)


cdef bint skips_zeros(const Product* g) noexcept nogil:
    """Compute the product without the zeros of an operand, if that pays; says whether."""
    cdef Skipping k
    cdef double kept, cost_a, cost = 0.97
    k.s = NULL
    if may_skip(g.rows, g.columns, g.depth) and (g.a_row == 1 or g.a_step == 1):
        kept = share_kept(g.rows, g.depth, <const real*>g.a, g.a_row, g.a_step)
        cost_a = cost_of_skipping(kept, g.columns, g.depth, g.a_step != 1, False)
        if cost_a < cost:
            cost = cost_a
            k.lines, k.width, k.turned = g.rows, g.columns, False
            k.s, k.s_line, k.s_step = <const real*>g.a, g.a_row, g.a_step
            k.d, k.d_step, k.d_column = <const real*>g.b, g.b_step, g.b_column
    if (may_skip(g.columns, g.rows, g.depth) and g.a_row == 1 and g.b_column == 1
            and g.bias == NULL and g.epilogue == EPI_NONE):
        kept = share_kept(g.columns, g.depth, <const real*>g.b, 1, g.b_step)
        if cost_of_skipping(kept, g.rows, g.depth, True, True) < cost:
            k.lines, k.width, k.turned = g.columns, g.rows, True
            k.s, k.s_line, k.s_step = <const real*>g.b, 1, g.b_step
            k.d, k.d_step, k.d_column = <const real*>g.a, g.a_step, 1
    if k.s == NULL:
        return False
    skip_zeros(g, &k)
    return True


cdef inline Py_ssize_t summed_lines(Py_ssize_t lines) noexcept nogil:
    """Lines in one go: equal parts."""
    cdef Py_ssize_t parts = (lines + SUMMED_LINES - 1) // SUMMED_LINES
    return min(lines, ((lines + parts - 1) // parts + LANES - 1) // LANES * LANES)


cdef void skip_zeros(const Product* g, Skipping* k) noexcept nogil:
    cdef Py_ssize_t cut = depth_cut(g.depth), start = 0, depth, first, lines
    cdef Py_ssize_t most = summed_lines(k.lines)
    k.in_place = (
        k.d_column == 1 and k.width % LANES == 0 and <uintptr_t>k.d % 64 == 0
        and k.d_step * <Py_ssize_t>sizeof(real) % 64 == 0 and k.d_step <= STRIPE * LANES)
    k.row = k.d_step if k.in_place else STRIPE * LANES
    k.packed = <real*>g.scratch
    k.sums = k.packed + CHUNK * STRIPE * LANES
    k.bias = k.sums + most * STRIPE * LANES
    k.values = k.bias + STRIPE * LANES
    while start < g.depth:
        depth = min(cut, g.depth - start)
        first = 0
        while first < k.lines:
            lines = min(most, k.lines - first)
            note_lines(k, first, lines, start, depth)
            skipping_part(g, k, first, lines, start, depth)
            first += lines
        start += depth


cdef void note_lines(
    Skipping* k, Py_ssize_t first, Py_ssize_t lines, Py_ssize_t start, Py_ssize_t depth
) noexcept nogil:
    """Bits of lines first..., for each chunk of a part of the depth."""
    cdef int rows = chunk_rows(depth)
    cdef Py_ssize_t at = 0
    cdef uint64_t* bits = k.bits
    cdef real* values = k.values
    cdef const real* s
    while at < depth:
        rows = <int>min(<Py_ssize_t>rows, depth - at)
        s = k.s + first * k.s_line + (start + at) * k.s_step
        if k.s_step == 1:
            note_along(lines, rows, s, k.s_line, bits)
        else:
            note_across(lines, rows, s, k.s_step, bits, values)
        at += rows
        bits += lines
        values += lines * CHUNK


cdef void note_along(
    Py_ssize_t lines, int rows, const real* s, Py_ssize_t s_line, uint64_t* bits
) noexcept nogil:
    cdef Py_ssize_t line
    cdef uint64_t found
    cdef int p
    for line in range(lines):
        found = 0
        p = 0
        while p + LANES <= rows:
            found |= nonzero(vload(s + p)) << p
            p += LANES
        if p < rows:
            found |= nonzero(vload_part(s + p, rows - p)) << p
        bits[line] = found
        s += s_line


cdef void note_across(
    Py_ssize_t lines, int rows, const real* s, Py_ssize_t s_step, uint64_t* bits, real* values
) noexcept nogil:
    # A square of LANES lines and LANES steps at a time, transposed in registers.
    cdef vec r[LANES]
    cdef uint64_t found[LANES]
    cdef Py_ssize_t line = 0
    cdef int p, i, m
    while line < lines:
        m = <int>min(<Py_ssize_t>LANES, lines - line)
        for i in range(LANES):
            found[i] = 0
        p = 0
        while p < rows:
            for i in range(LANES):
                r[i] = broadcast(0)
                if p + line_of(i) < rows:
                    r[i] = vload_part(s + (p + line_of(i)) * s_step + line, m)
                    prefetch_far(s + (p + line_of(i)) * s_step + line + LANES)
            transpose(r)
            for i in range(m):
                vstore(values + (line + i) * CHUNK + p, r[i])
                found[i] |= nonzero(r[i]) << p
            p += LANES
        for i in range(m):
            bits[line + i] = found[i]
        line += m


cdef void pack_stripe(
    const Skipping* k, int vectors, int rest, Py_ssize_t start, int rows, Py_ssize_t j
) noexcept nogil:
    cdef const real* d = k.d + start * k.d_step + j * k.d_column
    cdef real* out = k.packed
    cdef int p, i
    if k.d_column != 1:
        i = vectors - 1
        transpose_lines(
            rows, rest, d + i * LANES * k.d_column, k.d_column, out + i * LANES, STRIPE * LANES)
        for i in range(vectors - 1):
            transpose_lines(rows, LANES, d + i * LANES * k.d_column, k.d_column, out + i * LANES,
                            STRIPE * LANES)
        return
    for p in range(rows):
        for i in range(vectors - 1):
            vstore(out + i * LANES, vload(d + i * LANES))
            prefetch_far(d + rows * k.d_step + i * LANES)
        vstore(out + (vectors - 1) * LANES, vload_part(d + (vectors - 1) * LANES, rest))
        prefetch_far(d + rows * k.d_step + (vectors - 1) * LANES)
        prefetch_far(d + rows * k.d_step + (vectors - 1) * LANES + rest - 1)
        d += k.d_step
        out += STRIPE * LANES


cdef struct Stripe:
    # A chunk's rows, to be added to some vectors of C in each line
    Py_ssize_t lines
    const uint64_t* bits
    const real* values
    Py_ssize_t values_line
    const real* packed
    Py_ssize_t row
    const real* bias           # what sums begin with, or NULL if they go on
    real* sums
    bint keeps                 # they go on, or C is turned
    int rest                   # of the last vector
    real* c
    Py_ssize_t c_row
    bint fetches               # C is asked for: it is too large to be near
    bint adds, relu
    const real* gate
    Py_ssize_t gate_row
    const real* claimed        # laid out as C, or NULL
    Py_ssize_t claimed_rows, claimed_columns, claimed_row


ctypedef void (*StripeKernel)(const Stripe*) noexcept nogil


cdef inline inlined fetch_line(const int vectors, int rest, const real* c) noexcept nogil:
    cdef int i
    for i in range(vectors):
        prefetch(c + i * LANES)
    prefetch(c + (vectors - 1) * LANES + rest - 1)


cdef inline inlined stripe(const int vectors, const Stripe* t) noexcept nogil:
    cdef const real* values = t.values
    cdef const real* start = t.bias if t.bias != NULL else t.sums
    cdef const real* gate = t.gate
    cdef real* sums = t.sums if t.keeps else NULL
    cdef real* c = t.c
    cdef Py_ssize_t start_line = 0 if t.bias != NULL else STRIPE * LANES
    cdef Py_ssize_t line = 0, n
    while line < t.lines:
        n = PAIR if line + PAIR <= t.lines else 1
        if t.fetches:
            fetch_line(vectors, t.rest, c)
            if n == 2:
                fetch_line(vectors, t.rest, c + t.c_row)
        if t.claimed != NULL:
            claim_share(t, line)
            if n == 2:
                claim_share(t, line + 1)
        if n == PAIR:
            stripe_rows(vectors, PAIR, t.bits + line, values, t.values_line, t.packed, t.row,
                        start, start_line, sums, t.rest, c, t.c_row, t.adds, t.relu, gate,
                        t.gate_row)
        else:
            stripe_rows(vectors, 1, t.bits + line, values, t.values_line, t.packed, t.row, start,
                        start_line, sums, t.rest, c, t.c_row, t.adds, t.relu, gate, t.gate_row)
        line += n
        values += n * t.values_line
        start += n * start_line
        if sums != NULL:
            sums += n * STRIPE * LANES
        c += n * t.c_row
        if gate != NULL:
            gate += n * t.gate_row


# One function for each width: gcc keeps accumulators and pointers of a small one in registers.

cdef void stripe_1(const Stripe* t) noexcept nogil:
    stripe(1, t)


cdef void stripe_2(const Stripe* t) noexcept nogil:
    stripe(2, t)


cdef void stripe_3(const Stripe* t) noexcept nogil:
    stripe(3, t)


cdef void stripe_4(const Stripe* t) noexcept nogil:
    stripe(4, t)


cdef void stripe_5(const Stripe* t) noexcept nogil:
    stripe(5, t)


cdef void stripe_6(const Stripe* t) noexcept nogil:
    stripe(6, t)


cdef void stripe_7(const Stripe* t) noexcept nogil:
    stripe(7, t)


cdef void stripe_8(const Stripe* t) noexcept nogil:
    stripe(8, t)


cdef StripeKernel stripe_kernels[STRIPE]
stripe_kernels[0], stripe_kernels[1], stripe_kernels[2] = stripe_1, stripe_2, stripe_3
stripe_kernels[3], stripe_kernels[4], stripe_kernels[5] = stripe_4, stripe_5, stripe_6
stripe_kernels[6], stripe_kernels[7] = stripe_7, stripe_8


cdef void claim_share(const Stripe* t, Py_ssize_t line) noexcept nogil:
    """A line's share: all of them at once would have to wait."""
    while line < t.claimed_rows:
        claim_run(t.claimed + line * t.claimed_row, t.claimed_columns)
        line += t.lines


cdef void skipping_part(
    const Product* g, const Skipping* k, Py_ssize_t first, Py_ssize_t lines, Py_ssize_t start,
    Py_ssize_t depth
) noexcept nogil:
    """Lines first... of C, to which a part of the depth is added, stripe by stripe."""
    cdef Py_ssize_t left = (k.width + LANES - 1) // LANES, j = 0, at, chunk
    cdef Py_ssize_t stripes = (left + STRIPE - 1) // STRIPE, width, row, column
    cdef int vectors, rows, i
    cdef bint last = start + depth == g.depth
    cdef Stripe t
    t.lines, t.packed, t.row, t.sums = lines, k.packed, k.row, k.sums
    t.values_line = k.s_line if k.s_step == 1 else CHUNK
    t.c_row = 0 if k.turned else g.c_row
    t.adds = g.accumulate or start > 0
    t.relu = last and g.epilogue == EPI_RELU
    t.gate_row, t.claimed_row = g.gate_row, g.c_row
    while j < k.width:
        vectors = <int>((left + stripes - 1) // stripes)
        width = min(<Py_ssize_t>vectors * LANES, k.width - j)
        t.rest = <int>(width - (vectors - 1) * LANES)
        for i in range(vectors):
            vstore(k.bias + i * LANES, broadcast(0))
        if g.bias != NULL and not t.adds:
            for i in range(vectors):
                vstore(k.bias + i * LANES, vload_part(
                    <const real*>g.bias + j + i * LANES, LANES if i < vectors - 1 else t.rest))
        row, column = (j, first) if k.turned else (first, j)
        t.c = <real*>g.c + row * g.c_row + column
        at = chunk = 0
        rows = chunk_rows(depth)
        while at < depth:
            rows = <int>min(<Py_ssize_t>rows, depth - at)
            if k.in_place:
                t.packed = k.d + (start + at) * k.d_step + j
            else:
                pack_stripe(k, vectors, t.rest, start + at, rows, j)
            t.bits = k.bits + chunk * lines
            t.values = (k.s + first * k.s_line + start + at if k.s_step == 1
                        else k.values + chunk * lines * CHUNK)
            t.bias = k.bias if chunk == 0 else NULL
            at += rows
            t.keeps = k.turned or at < depth
            t.fetches = not t.keeps and lines * g.c_row >= FAR_C_ELEMENTS
            t.gate = t.claimed = NULL
            if last and g.epilogue == EPI_GATE:
                t.gate = <const real*>g.gate + row * g.gate_row + column
            if last and g.claimed != NULL and chunk == 0:
                t.claimed = <const real*>g.claimed + row * g.c_row + column
                t.claimed_rows, t.claimed_columns = (width, lines) if k.turned else (lines, width)
            stripe_kernels[vectors - 1](&t)
            chunk += 1
        if k.turned:
            store_turned(lines, width, k.sums, STRIPE * LANES, t.c, g.c_row, t.adds)
        j += vectors * LANES
        left -= vectors
        stripes -= 1


cdef void store_turned(
    Py_ssize_t lines, Py_ssize_t width, const real* sums, Py_ssize_t sums_row, real* c,
    Py_ssize_t c_row, bint adds
) noexcept nogil:
    # A few rows of C at a time, along their whole length: each of their lines once.
    cdef vec r[LANES]
    cdef Py_ssize_t j = 0, line
    cdef real* to
    cdef int i, n, m
    while j < width:
        m = <int>min(<Py_ssize_t>LANES, width - j)
        line = 0
        while line < lines:
            n = <int>min(<Py_ssize_t>LANES, lines - line)
            for i in range(LANES):
                r[i] = vload(
                    sums + (line + (line_of(i) if line_of(i) < n else 0)) * sums_row + j)
            transpose(r)
            to = c + j * c_row + line
            for i in range(m):
                if adds:
                    r[i] = r[i] + vload_part(to, n)
                vstore_part(to, r[i], n)
                to += c_row
            line += LANES
        j += LANES
