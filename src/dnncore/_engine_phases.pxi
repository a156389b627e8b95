# Phases: which tiles make up a training step, a pass or a prediction, and what follows what.
#
# Each job below is a struct, a function that does one tile, and one that prepares the next
# phase; `run_phases` (_team.h) brings them and the threads together.

cdef double CLOCK_WORK = 2e5    # multiply-adds between two looks at the clock

cdef enum:
    SETTINGS = 8                # numbers in a row of a schedule

cdef struct Objective:
    # Of a batch with weights of sum s: loss_factor x mean loss + penalty / (2 s) x sum W^2.
    # The mean over an epoch counts a batch by its rows, and a non-finite loss stops nothing.
    double loss_factor
    double gradient_factor
    double penalty


cdef struct Training:
    const Net* net
    const Space* space
    Batch batch
    Py_ssize_t n, batch_size         # rows in the epoch, rows in a step
    int optimizer
    char* s1
    char* s2
    OptimizerSettings settings
    const double* schedule           # settings of each step from first_step on, or NULL
    long long first_step
    char* grads                      # if not NULL the gradient goes there, without an update
    const Objective* objective       # NULL: the mean loss
    SparseRows sparse                # the batch's rows, if `is_sparse`
    bint is_sparse
    int stage                        # of the rows
    bint in_weights                  # the phase: rows first, then weights
    # Beside the plain update (_engine_update.pxi)
    bint has_late                    # whether any of it is asked for
    int late                         # the phase after the weights
    char* whole                      # the whole gradient, if it is needed before the update
    double* squares                  # of its tiles
    Averaging* average
    Py_ssize_t part_rows             # rows of a mini-batch, if several make up a step, else 0
    Py_ssize_t part, left            # number of the mini-batch; rows after it in the step
    Py_ssize_t step_start
    double loss_before
    const char* input                # the batch's rows, gathered or where they lie
    Py_ssize_t n_tiles               # of the batch's rows
    Py_ssize_t groups                # of these, if each sums a gradient of its own, else 0
    long long step, max_step         # the step to stop after, or -1
    unsigned long long seed
    double batch_weight, loss_sum, weight_total
    double end, since_clock
    bint finite
    # Whole epochs without Python in between
    Py_ssize_t more_epochs           # to begin in this run
    double* ended                    # where the next one that ends puts its loss and its seconds
    double epoch_began
    unsigned long long epoch
    long long* order                 # drawn anew for each epoch, or NULL


cdef uint64_t begin_batch(Training* t) noexcept nogil:
    """Prepare the step that starts at batch.start; returns its number of row tiles."""
    t.batch.rows = min(t.batch_size, t.n - t.batch.start)
    t.batch.key = stream_key(t.seed, 1, <unsigned long long>t.step)
    t.batch_weight = weight_sum(t.net, &t.batch)
    t.batch.scale = 1.0 / t.batch_weight if t.batch_weight > 0 else 0.0
    if t.schedule != NULL:
        take_settings(&t.settings, t.schedule + SETTINGS * (t.step - t.first_step))
    if t.objective != NULL:
        t.settings.l2 = t.objective.penalty * t.batch.scale
        t.batch.scale *= t.objective.gradient_factor
    if t.part_rows > 0:
        begin_parts(t)
    return begin_rows(t)


cdef uint64_t begin_rows(Training* t) noexcept nogil:
    """Prepare the phase of the batch's rows."""
    cdef Py_ssize_t size = t.net.table.itemsize
    if t.is_sparse:
        t.sparse = sparse_rows(&t.batch)
    t.input = t.space.slots[0].value
    if t.batch.order == NULL:
        t.input = t.batch.x + t.batch.start * t.net.widths[0] * size
    t.groups = 0 if t.is_sparse else row_groups(t.net, t.batch.rows)
    t.n_tiles = t.groups if t.groups > 0 else row_tiles(t.net, t.batch.rows)
    t.stage = 0
    t.in_weights = False
    return <uint64_t>t.n_tiles


cdef void forward_stage(
    const Net* net, const Space* space, int number, const char* x, const SparseRows* sparse,
    Py_ssize_t tile, Py_ssize_t first, Py_ssize_t rows, unsigned long long key, int worker
) noexcept nogil:
    """The forward part of a stage, for a tile of rows that are at `x` or in `sparse`."""
    cdef const Stage* stage = &net.stages[number]
    cdef const Operation* op
    forward_rows(net, space, x, sparse, first, first, rows, key, True, stage.begin, stage.end,
                 worker)
    if stage.forward_sums >= 0:
        op = &net.operations[stage.forward_sums]
        if op.source != 0:
            x = space.slots[op.source].value + first * op.n_in * net.table.itemsize
        batch_sums(net, space, op, x, False, tile, first, rows)


cdef void backward_stage(
    const Net* net, const Space* space, int number, Py_ssize_t tile, Py_ssize_t first,
    Py_ssize_t rows, unsigned long long key, bint need_dx, int worker
) noexcept nogil:
    cdef const Stage* stage = &net.stages[number]
    backward_rows(net, space, first, rows, key, need_dx, stage.top, stage.bottom, worker)
    if stage.backward_sums >= 0:
        batch_sums(net, space, &net.operations[stage.backward_sums], NULL, True, tile, first,
                   rows)


cdef bint end_stage(
    const Net* net, const Space* space, int* number, Py_ssize_t tiles, Py_ssize_t rows
) noexcept nogil:
    """Go to the next stage, with the sums that it needs; says whether there is one."""
    cdef const Stage* stage = &net.stages[number[0]]
    if stage.forward_sums >= 0:
        combine_sums(net, space, &net.operations[stage.forward_sums], False, tiles, rows)
    if stage.backward_sums >= 0:
        combine_sums(net, space, &net.operations[stage.backward_sums], True, tiles, rows)
    number[0] += 1
    return number[0] < net.n_stages


cdef void training_tile(void* job, int worker, uint64_t tile) noexcept nogil:
    cdef Training* t = <Training*>job
    cdef Py_ssize_t first, rows, size = t.net.table.itemsize
    if t.late != NOT_LATE:
        begin(t.space.clock, worker, CELL_UPDATE)
        late_tile(t, <Py_ssize_t>tile)
        return
    if t.in_weights:
        if t.whole != NULL:
            gradient_tile(t, worker, <Py_ssize_t>tile)
            return
        weight_rows(t.net, t.space, t.input, &t.sparse if t.is_sparse else NULL, t.batch.rows,
                    t.groups, tile, t.grads, t.optimizer, t.s1, t.s2,
                    &t.settings if t.grads == NULL else NULL, worker)
        return
    if t.groups > 0:
        group_tile(t, worker, <Py_ssize_t>tile)
        return
    first = tile_start(t.batch.rows, t.n_tiles, tile)
    rows = tile_height(t.batch.rows, t.n_tiles, tile)
    if t.stage == 0:
        begin(t.space.clock, worker, CELL_GATHER)
        gather_rows(t.net, t.space, &t.batch, first, first, rows)
    forward_stage(t.net, t.space, t.stage, t.input + first * t.net.widths[0] * size,
                  &t.sparse if t.is_sparse else NULL, tile, first, rows, t.batch.key, worker)
    if t.stage == t.net.loss_stage:
        begin(t.space.clock, worker, CELL_LOSS)
        t.space.tile_loss[tile] = loss_rows(t.net, t.space, &t.batch, first, first, rows)
    if t.stage >= t.net.loss_stage:
        backward_stage(t.net, t.space, t.stage, tile, first, rows, t.batch.key, False, worker)


cdef uint64_t training_next(void* job) noexcept nogil:
    cdef Training* t = <Training*>job
    cdef double loss = 0, squares = 0
    cdef uint64_t tiles
    cdef Py_ssize_t i
    if not t.in_weights:
        if end_stage(t.net, t.space, &t.stage, t.n_tiles, t.batch.rows):
            return <uint64_t>t.n_tiles
        for i in range(t.n_tiles):
            loss += t.space.tile_loss[i]
        if not isfinite(loss):
            t.finite = False
            if t.objective == NULL:
                if t.part_rows > 0:  # the step was not made
                    t.batch.start, t.loss_sum = t.step_start, t.loss_before
                return 0
        if t.objective != NULL:
            if t.batch_weight > 0:
                t.loss_sum += t.batch.rows * (t.objective.loss_factor * loss / t.batch_weight)
            t.weight_total += t.batch.rows
        else:
            t.loss_sum += loss
            if t.left == 0:
                t.weight_total += t.batch_weight
        if t.left == 0:
            t.step += 1
            t.net.table.optimizer_terms(t.optimizer, t.step, &t.settings)
        t.in_weights = True
        if t.net.n_weight_tiles > 0:
            return <uint64_t>t.net.n_weight_tiles
    if t.has_late:
        tiles = next_late(t)
        if tiles > 0:
            return tiles
    if t.space.tile_squares != NULL and t.grads == NULL and t.batch_weight > 0:
        for i in range(t.net.n_weight_tiles):
            squares += t.space.tile_squares[i]
        t.loss_sum += t.batch.rows * (0.5 * t.objective.penalty * squares / t.batch_weight)
    t.batch.start += t.batch.rows
    if t.step == t.max_step or (t.batch.start >= t.n and t.more_epochs == 0):
        return 0
    t.since_clock += <double>t.batch.rows * t.net.work_per_row
    if t.since_clock > CLOCK_WORK:
        t.since_clock = 0
        if seconds_now() > t.end:
            return 0
    if t.batch.start >= t.n:
        next_epoch(t)
    return begin_batch(t)


cdef void next_epoch(Training* t) noexcept nogil:
    """Put down what the epoch came to, and go to the start of the next one."""
    cdef double now = seconds_now()
    t.ended[0] = mean_loss(t.loss_sum, t.weight_total)
    t.ended[1] = now - t.epoch_began
    t.ended += 2
    t.more_epochs -= 1
    t.epoch_began = now
    t.epoch += 1
    t.batch.start = 0
    t.loss_sum = t.weight_total = 0
    if t.order != NULL:
        shuffle_indices(t.n, order_key(t.seed, t.epoch), t.order)


cdef inline double mean_loss(double loss_sum, double weight_sum) noexcept nogil:
    return loss_sum / weight_sum if weight_sum > 0 else 0.0


cdef inline unsigned long long order_key(
    unsigned long long seed, unsigned long long epoch
) noexcept nogil:
    return stream_key(seed, 0, epoch)


cdef inline SparseRows sparse_rows(const Batch* batch) noexcept nogil:
    """The batch's rows of a sparse input, counted from 0."""
    cdef SparseRows sparse = batch.sparse
    if batch.order != NULL:
        sparse.order = batch.order + batch.start
    else:
        sparse.indptr += batch.start
    return sparse


cdef inline void take_settings(OptimizerSettings* h, const double* values) noexcept nogil:
    h.lr, h.l2, h.decay = values[0], values[1], values[2]
    h.beta1, h.beta2, h.eps = values[3], values[4], values[5]
    h.clip_value, h.clip_norm, h.gradient_scale = values[6], values[7], 1


cdef struct Pass:
    # One forward, or one backward, for callers who own the loop
    const Net* net
    const Space* space
    Py_ssize_t rows, n_tiles
    unsigned long long key
    int stage
    bint in_weights
    char* grads


cdef void forward_tile(void* job, int worker, uint64_t tile) noexcept nogil:
    cdef Pass* t = <Pass*>job
    cdef Py_ssize_t first = tile_start(t.rows, t.n_tiles, tile)
    forward_stage(
        t.net, t.space, t.stage,
        t.space.slots[0].value + first * t.net.widths[0] * t.net.table.itemsize, NULL, tile,
        first, tile_height(t.rows, t.n_tiles, tile), t.key, worker)


cdef uint64_t forward_next(void* job) noexcept nogil:
    cdef Pass* t = <Pass*>job
    if t.stage == t.net.loss_stage:
        return 0
    end_stage(t.net, t.space, &t.stage, t.n_tiles, t.rows)
    return <uint64_t>t.n_tiles


cdef void backward_tile(void* job, int worker, uint64_t tile) noexcept nogil:
    cdef Pass* t = <Pass*>job
    cdef Py_ssize_t first
    if t.in_weights:
        weight_rows(t.net, t.space, t.space.slots[0].value, NULL, t.rows, 0, tile, t.grads, 0,
                    NULL, NULL, NULL, worker)
    else:
        first = tile_start(t.rows, t.n_tiles, tile)
        backward_stage(t.net, t.space, t.stage, tile, first,
                       tile_height(t.rows, t.n_tiles, tile), t.key, True, worker)


cdef uint64_t backward_next(void* job) noexcept nogil:
    cdef Pass* t = <Pass*>job
    if t.in_weights:
        return 0
    if end_stage(t.net, t.space, &t.stage, t.n_tiles, t.rows):
        return <uint64_t>t.n_tiles
    t.in_weights = True
    return <uint64_t>t.net.n_weight_tiles
