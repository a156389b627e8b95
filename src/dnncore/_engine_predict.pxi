# Predictions: forward only, in slots that hold no more rows than are on their way.
#
# Many rows are cut into chunks, which go through all layers one after the other: one phase. Few
# rows of a network with large layers go through it layer by layer, a phase each, and what is cut is
# the columns: then no two threads read the same weights, and it is their way from memory that such
# a prediction waits for. The sum of an element is the same, however columns are cut.

cdef Py_ssize_t INFERENCE_ROWS = 128
cdef Py_ssize_t HALF_ROWS = 24            # fewer make no chunk of their own
# docs/decisions/0010-predictions.md has the measurements.
cdef Py_ssize_t COLUMNS_MAX_ROWS = 64
cdef Py_ssize_t COLUMNS_MIN_WEIGHTS = 65536   # in the largest layer, to cut columns at all
cdef Py_ssize_t COLUMNS_WEIGHTS_A_ROW = 8192  # ... for each row, where rows could be cut as well
cdef Py_ssize_t COLUMN_PARTS = 4              # of a layer, or more
cdef Py_ssize_t PART_MAX_COLUMNS = 256

cdef struct Inference:
    # The result is the rows' loss, the outputs after the link, or both.
    const Net* net
    const Space* space
    Batch batch                  # x, and for a loss the targets and weights
    Py_ssize_t rows
    Py_ssize_t chunk             # rows in a tile; each worker has slots for so many
    bint by_columns              # instead: all workers share the slots of all rows
    int operation                # ... and this is the phase
    bint wants_loss
    int link
    char* out


cdef Py_ssize_t part_columns(const Net* net, const Operation* op, Py_ssize_t rows) noexcept nogil:
    """Columns in a tile of an operation: all of them unless it is dense, large and not BLAS's."""
    cdef Product p
    if (op.kind != DENSE or op.n_in * op.n_out < COLUMNS_MIN_WEIGHTS // 4
            or op.activation == ACT_SOFTMAX):
        return op.n_out
    p.rows, p.columns, p.depth = rows, op.n_out, op.n_in
    p.a_row, p.a_step, p.b_step, p.b_column, p.c_row = op.n_in, 1, op.n_out, 1, op.n_out
    if uses_blas(net.table, &p):
        return op.n_out
    return min(op.n_out, PART_MAX_COLUMNS,
               round_up((op.n_out + COLUMN_PARTS - 1) // COLUMN_PARTS, 64))


cdef bint cuts_columns(const Net* net, const Inference* t) noexcept nogil:
    """Whether the rows are so few, and a layer so large, that its columns are cut."""
    cdef const Operation* op
    cdef Py_ssize_t least = COLUMNS_MIN_WEIGHTS
    cdef int i
    if t.batch.x == NULL or t.rows > COLUMNS_MAX_ROWS:
        return False
    if t.rows > HALF_ROWS:
        least = COLUMNS_WEIGHTS_A_ROW * t.rows
    for i in range(net.n_operations):
        op = &net.operations[i]
        if op.n_in * op.n_out >= least and part_columns(net, op, t.rows) < op.n_out:
            return True
    return False


cdef void cut_inference(const Net* net, Inference* t) noexcept nogil:
    """Choose what is cut, and how high a chunk is."""
    t.by_columns = cuts_columns(net, t)
    t.chunk = max(INFERENCE_ROWS, t.rows // MAX_TILES + 1)
    if t.by_columns:
        t.chunk = t.rows
    elif t.rows < 2 * t.chunk:  # two halves, unless they would be too low
        t.chunk = min(t.rows, max(HALF_ROWS, round_up((t.rows + 1) // 2, 4)))


cdef uint64_t inference_tiles(const Inference* t) noexcept nogil:
    """Tiles of the phase."""
    cdef const Operation* op
    cdef Py_ssize_t columns
    if not t.by_columns:
        return <uint64_t>((t.rows + t.chunk - 1) // t.chunk)
    op = &t.net.operations[t.operation]
    columns = part_columns(t.net, op, t.rows)
    return <uint64_t>((op.n_out + columns - 1) // columns)


cdef void inference_tile(void* job, int worker, uint64_t tile) noexcept nogil:
    cdef Inference* t = <Inference*>job
    cdef Py_ssize_t first = <Py_ssize_t>tile * t.chunk, slot = worker * t.chunk
    cdef Py_ssize_t rows = min(t.chunk, t.rows - first)
    if t.by_columns:
        columns_tile(t, worker, <Py_ssize_t>tile)
        return
    if t.batch.x == NULL:
        forward_rows(t.net, t.space, NULL, &t.batch.sparse, first, slot, rows, 0, False, 0,
                     t.net.n_operations, worker)
    else:
        forward_rows(
            t.net, t.space, t.batch.x + first * t.net.widths[0] * t.net.table.itemsize, NULL, 0,
            slot, rows, 0, False, 0, t.net.n_operations, worker)
    end_of_chunk(t, tile, first, slot, rows)


cdef uint64_t inference_next(void* job) noexcept nogil:
    cdef Inference* t = <Inference*>job
    if not t.by_columns:
        return 0
    t.operation += 1
    if t.operation < t.net.n_operations:
        return inference_tiles(t)
    end_of_chunk(t, 0, 0, 0, t.rows)
    return 0


cdef void columns_tile(const Inference* t, int worker, Py_ssize_t tile) noexcept nogil:
    """What `forward_rows` does, for some columns of an operation."""
    cdef const Net* net = t.net
    cdef const Operation* op = &net.operations[t.operation]
    cdef Py_ssize_t size = net.table.itemsize, i
    cdef Py_ssize_t columns = part_columns(net, op, t.rows), first = tile * columns
    cdef char* c
    if columns == op.n_out:
        forward_rows(net, t.space, t.batch.x, NULL, 0, 0, t.rows, 0, False, t.operation,
                     t.operation + 1, worker)
        return
    columns = min(columns, op.n_out - first)
    c = t.space.slots[op.target].value + first * size
    dense_product(net, t.space, op,
                  t.batch.x if op.source == 0 else t.space.slots[op.source].value, t.rows, first,
                  columns, c, NULL, worker)
    if op.activation != ACT_RELU and op.activation != ACT_IDENTITY:
        for i in range(t.rows):
            net.table.activation_forward(op.activation, 1, columns, c, c)
            c += op.n_out * size


cdef void end_of_chunk(
    const Inference* t, uint64_t tile, Py_ssize_t first, Py_ssize_t slot, Py_ssize_t rows
) noexcept nogil:
    """What is wanted of rows first..., which have arrived in rows slot... of the last slot."""
    cdef Py_ssize_t size = t.net.table.itemsize, width = t.net.widths[t.net.n_slots - 1]
    if t.wants_loss:
        t.space.tile_loss[tile] = loss_rows(t.net, t.space, &t.batch, first, slot, rows)
    if t.out != NULL:
        t.net.table.activation_forward(
            t.link, rows, width, t.space.slots[t.net.n_slots - 1].value + slot * width * size,
            t.out + first * width * size)
