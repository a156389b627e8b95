# A batch that is large for its network is worked on in groups of rows, each of which sums a
# gradient of its own: docs/decisions/0013-groups.md.
#
# Otherwise activations and deltas of the whole batch wait for the weights phase, where each thread
# reads those that the others have written. A group goes through the network piece by piece
# instead, in buffers that stay in the cache of the thread that works on it, and the weights phase
# adds up the gradients of the groups, in their order. Groups and pieces are cut by the shape of
# network and batch, whatever the number of threads.

cdef Py_ssize_t PIECE_BYTES = 1048576  # of activations and deltas
cdef Py_ssize_t MIN_PIECE = 256        # rows
cdef Py_ssize_t MAX_PIECE = 512
cdef Py_ssize_t MIN_GROUP = 96
cdef Py_ssize_t MIN_PAIR = 144
cdef Py_ssize_t MAX_GROUPS = 32
cdef double GROUP_SHARE = 3.5          # activations and deltas of a group for each parameter
cdef double PAIR_SHARE = 1.2           # ... if there are two, with small gradients
cdef Py_ssize_t PAIR_BYTES = 4194304   # of such a gradient
cdef Py_ssize_t ADDED = 512            # elements that are added up at a time


cdef void plan_groups(Net* net) noexcept nogil:
    """Set from how many rows on a batch is worked on in groups, and in what pieces."""
    cdef Py_ssize_t i
    cdef double share = GROUP_SHARE
    net.row_elements = net.widths[0]
    for i in range(1, net.n_slots):
        net.row_elements += (2 + net.keeps_pre[i]) * net.widths[i]
    net.piece = max(MIN_PIECE, PIECE_BYTES // (net.row_elements * net.table.itemsize))
    net.piece = min(net.piece // 16 * 16, MAX_PIECE)
    net.grouped_from = 0
    if net.n_stages > 1:
        return  # statistics of the whole batch are needed
    if net.work_per_row == 0 or net.n_weight_tiles == 0:
        return
    if net.n_params * net.table.itemsize <= PAIR_BYTES:
        share = PAIR_SHARE
    net.grouped_from = max(
        MIN_PAIR,
        min(MANY_ROWS, ONE_TILE_WORK // net.work_per_row) + 1,
        <Py_ssize_t>(2 * share * net.n_params / net.row_elements) + 1)


cdef Py_ssize_t row_groups(const Net* net, Py_ssize_t rows) noexcept nogil:
    """Groups that a batch is worked on in, never fewer than a smaller one: an even number, or 0."""
    if net.grouped_from == 0 or rows < net.grouped_from:
        return 0
    return min(MAX_GROUPS, max(2, min(
        rows // MIN_GROUP,
        <Py_ssize_t>(rows * net.row_elements / (GROUP_SHARE * net.n_params))) // 2 * 2))


cdef inline Py_ssize_t piece_room(const Net* net, Py_ssize_t rows) noexcept nogil:
    """Rows that each thread has room for if a batch of so many is worked on in groups."""
    return round_up(min(net.piece, (rows + 1) // 2) + 4, 16)


cdef Py_ssize_t slot_rows(const Net* net, Py_ssize_t rows, int threads) noexcept nogil:
    """Rows of a workspace for batches of up to so many: the last of an epoch may have fewer."""
    if row_groups(net, rows) == 0:
        return rows
    return max(net.grouped_from, threads * piece_room(net, rows))


cdef inline Py_ssize_t group_stride(const Net* net) noexcept nogil:
    return round_up(net.n_params, 16)


cdef void group_tile(Training* t, int worker, Py_ssize_t number) noexcept nogil:
    """Loss and gradient of a group of rows."""
    cdef const Net* net = t.net
    cdef Space space = t.space[0]
    cdef Py_ssize_t size = net.table.itemsize
    cdef Py_ssize_t first = tile_start(t.batch.rows, t.n_tiles, number)
    cdef Py_ssize_t height = tile_height(t.batch.rows, t.n_tiles, number)
    cdef Py_ssize_t pieces = (height + net.piece - 1) // net.piece
    cdef Py_ssize_t slot = worker * piece_room(net, t.batch.rows)
    cdef Py_ssize_t i, at, rows
    cdef char* gradient = space.group_gradients + number * group_stride(net) * size
    cdef bint gathers = t.batch.order != NULL
    cdef const char* x
    cdef double loss = 0
    space.shared = False  # no other thread reads what this one writes
    for i in range(pieces):
        at = first + tile_start(height, pieces, i)
        rows = tile_height(height, pieces, i)
        space.batch_row = at - slot
        begin(space.clock, worker, CELL_GATHER)
        gather_rows(net, &space, &t.batch, at, slot, rows)
        x = t.input + (slot if gathers else at) * net.widths[0] * size
        forward_rows(net, &space, x, NULL, 0, slot, rows, t.batch.key, True, 0, net.n_operations,
                     worker)
        begin(space.clock, worker, CELL_LOSS)
        loss += loss_rows(net, &space, &t.batch, slot if gathers else at, slot, rows)
        backward_rows(net, &space, slot, rows, t.batch.key, False, net.n_operations, 0, worker)
        piece_gradient(net, &space, x, slot, rows, i > 0, gradient, worker)
    t.space.tile_loss[number] = loss


cdef void piece_gradient(
    const Net* net, const Space* space, const char* x, Py_ssize_t slot, Py_ssize_t rows,
    bint adds, char* gradient, int worker
) noexcept nogil:
    """Gradient summed over rows slot... of the workspace, or added to what there is of it."""
    cdef Py_ssize_t size = net.table.itemsize, number
    cdef const Operation* op
    cdef int i
    for number in range(net.n_weight_tiles):
        if net.weight_tiles[number].first > 0:
            continue  # tiles are for threads to share: here one has the whole layer
        i = net.weight_tiles[number].operation
        op = &net.operations[i]
        begin(space.clock, worker, cell_of(i, PART_DW))
        if op.kind == DENSE:
            dense_gradient(net, space, op, 0, op.n_in, x, NULL, slot, rows, adds, NULL,
                           gradient + op.weight * size, worker)
        elif op.weight >= 0:
            piece_vector(net, space, op, False, slot, rows, adds, gradient + op.weight * size,
                         worker)
        if op.bias >= 0:
            piece_vector(net, space, op, True, slot, rows, adds, gradient + op.bias * size, worker)


cdef void piece_vector(
    const Net* net, const Space* space, const Operation* op, bint shift, Py_ssize_t slot,
    Py_ssize_t rows, bint adds, char* gradient, int worker
) noexcept nogil:
    """As `piece_gradient`, by a parameter a column."""
    cdef char* own = space.gradient + worker * net.gradient_elements * net.table.itemsize
    vector_gradient(net, space, op, shift, slot, rows, own if adds else gradient)
    if adds:
        net.table.accumulate(op.n_out, gradient, own)


cdef inline void fetch_groups(
    const Net* net, const Space* space, Py_ssize_t groups, Py_ssize_t at, Py_ssize_t n, bint updates
) noexcept nogil:
    """Ask for what `add_groups` adds up next, and for the parameters that it is good for."""
    cdef Py_ssize_t size = net.table.itemsize, k
    for k in range(groups):
        fetch_row(space.group_gradients + (k * group_stride(net) + at) * size, n * size)
    if updates:
        net.table.claim(n, net.w + at * size)


cdef void add_groups(
    const Net* net, const Space* space, Py_ssize_t groups, Py_ssize_t at, Py_ssize_t n,
    bint updates, char* out
) noexcept nogil:
    """Gradient by n parameters from place `at` on: the sum of those of the groups."""
    cdef Py_ssize_t size = net.table.itemsize, i = 0
    updates = updates and space.shared
    fetch_groups(net, space, groups, at, min(n, ADDED), updates)
    while i < n:
        if i + ADDED < n:
            fetch_groups(net, space, groups, at + i + ADDED, min(n - i - ADDED, ADDED), updates)
        net.table.column_sums(
            groups, min(n - i, ADDED), space.group_gradients + (at + i) * size, group_stride(net),
            out + i * size)
        i += ADDED
