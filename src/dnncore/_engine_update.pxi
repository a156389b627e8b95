# What a step may do beside the plain update: its phases after those of rows and weights.
#
# A layer's own penalties and learning rate, and clipping by value, need no phase: `update_run`
# applies them to a tile at once. The others come in this order, each only if it is asked for:
#
# 3. update: once the whole gradient is known, to clip it by its norm, or because several
#    mini-batches have been added up. The weights phase then only fills `whole`.
# 4. columns: limit the norm of each unit's weights.
# 5. average: move the average of the parameters.

cdef enum Late:
    NOT_LATE
    UPDATE
    COLUMNS
    AVERAGE

cdef enum:
    SHAPED = 1024               # elements of a gradient that are shaped at a time
    COLUMNS_IN_TILE = 64
    PART_SHIFT = 40             # a step's number and a part's make up the key of random masks

cdef Py_ssize_t AVERAGE_TILE = 16384

cdef struct ColumnTile:
    int operation
    Py_ssize_t first, columns

cdef struct Averaging:
    char* w
    double decay                # 0: the mean of all
    bint warmup
    long long count             # of parameters averaged so far
    long long start, every      # after steps start + every, start + 2 every, ...

cdef struct Run:
    # Of parameters, which end with the same settings
    bint bias                   # or another parameter that is never decayed
    Py_ssize_t at, n


# ---------------------------------------------------------------------------------- cutting

cdef int cut_columns(Net* net) except -1:
    """List the tiles of the layers whose units' weights have a limit."""
    cdef const Operation* op
    cdef Py_ssize_t i, first, width, total = 0, n = 0
    for i in range(net.n_operations):
        if net.operations[i].max_norm > 0:
            total += net.operations[i].n_out
            n += 1
    width = COLUMNS_IN_TILE * (1 + total // (COLUMNS_IN_TILE * (MAX_TILES // 2)))
    net.column_tiles = <ColumnTile*>malloc((total // width + n + 1) * sizeof(ColumnTile))
    if net.column_tiles == NULL:
        raise MemoryError("no memory for the program")
    net.n_column_tiles = 0
    for i in range(net.n_operations):
        op = &net.operations[i]
        first = 0
        while op.max_norm > 0 and first < op.n_out:
            net.column_tiles[net.n_column_tiles].operation = <int>i
            net.column_tiles[net.n_column_tiles].first = first
            net.column_tiles[net.n_column_tiles].columns = min(width, op.n_out - first)
            net.n_column_tiles += 1
            first += width
    return 0


cdef int runs_of(const Net* net, Py_ssize_t number, Run* runs) noexcept nogil:
    """Runs of parameters that belong to a tile of weights; returns how many."""
    cdef const WeightTile* tile = &net.weight_tiles[number]
    cdef const Operation* op = &net.operations[tile.operation]
    cdef int n = 0
    if op.kind != DENSE:
        if op.weight >= 0:
            runs[n].bias, runs[n].at, runs[n].n = True, op.weight, op.n_out
            n += 1
        if op.bias >= 0:
            runs[n].bias, runs[n].at, runs[n].n = True, op.bias, op.n_out
            n += 1
        return n
    runs[0].bias = False
    runs[0].at = op.weight + tile.first * op.n_out
    runs[0].n = min(op.tile, op.n_in - tile.first) * op.n_out
    if tile.first > 0 or op.bias < 0:
        return 1
    runs[1].bias = True
    runs[1].at, runs[1].n = op.bias, op.n_out
    return 2


# ---------------------------------------------------------------------------------- parameters

cdef void update_run(
    const Net* net, const Operation* op, bint bias, Py_ssize_t at, Py_ssize_t n, const char* g,
    int optimizer, char* s1, char* s2, const OptimizerSettings* settings
) noexcept nogil:
    """Update n parameters from place `at` on by their gradient `g`.

    `s1` and `s2` are moments of all parameters.
    """
    cdef Py_ssize_t size = net.table.itemsize, i, m
    cdef double l1 = 0
    cdef OptimizerSettings own
    cdef double shaped[SHAPED]
    cdef char* w = net.w + at * size
    s1 = s1 + at * size if s1 != NULL else NULL
    s2 = s2 + at * size if s2 != NULL else NULL
    own = undecayed(settings) if bias else settings[0]
    if op.special:
        if not bias:
            own.l2 += op.l2
            l1 = op.l1
        own.lr *= op.rate_factor
        own.step_scale *= op.rate_factor
        own.slope_scale *= op.rate_factor
    if l1 == 0 and own.clip_value == 0 and own.gradient_scale == 1:
        net.table.optimizer(optimizer, n, w, g, s1, s2, &own)
        return
    i = 0
    while i < n:
        m = min(<Py_ssize_t>SHAPED, n - i)
        net.table.shape_gradient(m, g + i * size, w + i * size, own.gradient_scale,
                                 own.clip_value, l1, shaped)
        net.table.optimizer(optimizer, m, w + i * size, shaped,
                            s1 + i * size if s1 != NULL else NULL,
                            s2 + i * size if s2 != NULL else NULL, &own)
        i += m


cdef void update_tile(
    const Net* net, Py_ssize_t number, const char* grads, int optimizer, char* s1, char* s2,
    const OptimizerSettings* settings
) noexcept nogil:
    """Update a tile of weights, and the bias with the first one, by the whole gradient."""
    cdef Run runs[2]
    cdef int i
    for i in range(runs_of(net, number, runs)):
        update_run(
            net, &net.operations[net.weight_tiles[number].operation], runs[i].bias, runs[i].at,
            runs[i].n, grads + runs[i].at * net.table.itemsize, optimizer, s1, s2, settings)


cdef double tile_norm(const Net* net, Py_ssize_t number, const char* grads) noexcept nogil:
    """Sum of the squares of a tile's gradient."""
    cdef Run runs[2]
    cdef double total = 0
    cdef int i
    for i in range(runs_of(net, number, runs)):
        total += net.table.sum_squares(runs[i].n, grads + runs[i].at * net.table.itemsize)
    return total


cdef bint clips_norm(const double[:, ::1] settings) noexcept nogil:
    """Whether any step of a schedule does."""
    cdef Py_ssize_t i
    for i in range(settings.shape[0]):
        if settings[i, SETTINGS - 1] > 0:
            return True
    return False


cdef void clip_by_norm(const Net* net, const double* squares, OptimizerSettings* h) noexcept nogil:
    """Scale the gradient to `clip_norm` if its norm is greater; NaN and infinity show in it."""
    cdef double total = 0
    cdef Py_ssize_t i
    h.gradient_scale = 1
    if h.clip_norm == 0:
        return
    for i in range(net.n_weight_tiles):
        total += squares[i]
    if not total <= h.clip_norm * h.clip_norm:
        h.gradient_scale = h.clip_norm / sqrt(total)


cdef void limit_tile(const Net* net, Py_ssize_t number) noexcept nogil:
    cdef const ColumnTile* tile = &net.column_tiles[number]
    cdef const Operation* op = &net.operations[tile.operation]
    net.table.limit_columns(
        op.n_in, tile.columns, net.w + (op.weight + tile.first) * net.table.itemsize, op.n_out,
        op.max_norm)


cdef bint average_due(const Averaging* average, long long step) noexcept nogil:
    return (average != NULL and step > average.start
            and (step - average.start) % average.every == 0)


cdef double average_amount(const Averaging* average) noexcept nogil:
    cdef double n = average.count, decay = average.decay
    if average.count == 0:
        return 1
    if decay == 0:
        return 1 / (n + 1)
    return 1 - min(decay, (1 + n) / (10 + n)) if average.warmup else 1 - decay


cdef inline Py_ssize_t average_tile_size(const Net* net) noexcept nogil:
    return max(AVERAGE_TILE, round_up(net.n_params // (MAX_TILES // 2), 16))


cdef void average_tile(
    const Net* net, const Averaging* average, Py_ssize_t number
) noexcept nogil:
    cdef Py_ssize_t size = average_tile_size(net), first = number * size
    net.table.move_towards(
        min(size, net.n_params - first), average.w + first * net.table.itemsize,
        net.w + first * net.table.itemsize, average_amount(average))


# ---------------------------------------------------------------------------------- phases

cdef void begin_parts(Training* t) noexcept nogil:
    """Take the first of the mini-batches that make up the step."""
    t.step_start, t.loss_before = t.batch.start, t.loss_sum
    t.part = 0
    t.left = t.batch.rows
    t.batch.rows = min(t.part_rows, t.left)
    t.left -= t.batch.rows


cdef uint64_t next_part(Training* t) noexcept nogil:
    t.since_clock += <double>t.batch.rows * t.net.work_per_row
    t.part += 1
    t.batch.start += t.batch.rows
    t.batch.rows = min(t.part_rows, t.left)
    t.left -= t.batch.rows
    t.batch.key = stream_key(
        t.seed, 1, <unsigned long long>t.step + (<unsigned long long>t.part << PART_SHIFT))
    return begin_rows(t)


cdef void gradient_tile(Training* t, int worker, Py_ssize_t number) noexcept nogil:
    """Gradient of a tile into `whole`, or onto what earlier mini-batches have left there."""
    cdef Py_ssize_t size = t.net.table.itemsize
    cdef Run runs[2]
    cdef char* own = t.space.gradient + worker * t.net.gradient_elements * size
    cdef int i
    weight_rows(
        t.net, t.space, t.input, &t.sparse if t.is_sparse else NULL, t.batch.rows, t.groups, number,
        t.whole if t.part == 0 else NULL, 0, NULL, NULL, NULL, worker)
    if t.part > 0:
        for i in range(runs_of(t.net, number, runs)):
            t.net.table.accumulate(runs[i].n, t.whole + runs[i].at * size, own)
            own += round_up(runs[i].n, 16) * size
    if t.left == 0 and t.settings.clip_norm > 0:
        t.squares[number] = tile_norm(t.net, number, t.whole)


cdef void late_tile(Training* t, Py_ssize_t tile) noexcept nogil:
    cdef const Operation* op
    if t.late == UPDATE:
        if t.space.tile_squares != NULL:
            t.space.tile_squares[tile] = weights_norm(t.net, tile)
        update_tile(t.net, tile, t.whole, t.optimizer, t.s1, t.s2, &t.settings)
        op = &t.net.operations[t.net.weight_tiles[tile].operation]
        if op.kind == BATCH_NORM:
            update_running(t.net, t.space, op, t.batch.rows, op.momentum)
    elif t.late == COLUMNS:
        limit_tile(t.net, tile)
    else:
        average_tile(t.net, t.average, tile)


cdef double weights_norm(const Net* net, Py_ssize_t number) noexcept nogil:
    cdef Run runs[2]
    if runs_of(net, number, runs) == 0 or runs[0].bias:
        return 0
    return net.table.sum_squares(runs[0].n, net.w + runs[0].at * net.table.itemsize)


cdef uint64_t next_late(Training* t) noexcept nogil:
    """Prepare what follows the weights, or a phase after them; returns 0 if the step is over."""
    cdef int before = t.late
    cdef Py_ssize_t size
    t.late = NOT_LATE
    if before == NOT_LATE and t.left > 0:
        return next_part(t)
    if before == AVERAGE:
        t.average.count += 1
        return 0
    if before < UPDATE and t.whole != NULL and t.net.n_weight_tiles > 0:
        t.late = UPDATE
        clip_by_norm(t.net, t.squares, &t.settings)
        return <uint64_t>t.net.n_weight_tiles
    if before < COLUMNS and t.net.n_column_tiles > 0:
        t.late = COLUMNS
        return <uint64_t>t.net.n_column_tiles
    if average_due(t.average, t.step):
        t.late = AVERAGE
        size = average_tile_size(t.net)
        return <uint64_t>((t.net.n_params + size - 1) // size)
    return 0


# ---------------------------------------------------------------------------------- one update

cdef void update_all(
    const Net* net, const char* grads, double* squares, int optimizer, char* s1, char* s2,
    OptimizerSettings* settings, Averaging* average, long long step
) noexcept nogil:
    """One update of all parameters by the whole gradient, with all that a step does after it."""
    cdef Py_ssize_t i, size
    if settings.clip_norm > 0:
        for i in range(net.n_weight_tiles):
            squares[i] = tile_norm(net, i, grads)
        clip_by_norm(net, squares, settings)
    for i in range(net.n_weight_tiles):
        update_tile(net, i, grads, optimizer, s1, s2, settings)
    for i in range(net.n_column_tiles):
        limit_tile(net, i)
    if average_due(average, step):
        size = average_tile_size(net)
        for i in range((net.n_params + size - 1) // size):
            average_tile(net, average, i)
        average.count += 1


@cython.final
cdef class Average:
    """An average of the parameters over steps, which the engine keeps.

    Parameters
    ----------
    params : ndarray of shape (n_params,)
        Where it is kept, laid out as the parameters, in their dtype.
    decay : float
        Of an exponential average, or 0 for the mean of all.
    warmup : bool
        Whether the decay is at most ``(1 + n) / (10 + n)`` for the n-th average.
    count : int
        Parameters averaged so far; the first ones are copied.
    start, every : int
        It takes the parameters after steps ``start + every``, ``start + 2 * every``, ...
    """

    cdef Averaging c
    cdef readonly object params

    def __init__(self, params, double decay, bint warmup, long long count, long long start,
                 long long every):
        self.params = params
        self.c.w = address(params)
        self.c.decay, self.c.warmup, self.c.count = decay, warmup, count
        self.c.start, self.c.every = start, every

    @property
    def count(self):
        """Parameters averaged so far."""
        return self.c.count
