# The work itself: what is done to one tile of rows, or to one tile of weights.
#
# Plain functions over plain structs, so that any thread of the team can call them without
# Python. Within a phase, tiles write to disjoint memory.

cdef enum Kind:
    DENSE
    DROPOUT
    ALPHA_DROPOUT
    NOISE
    ACTIVATION
    LAYER_NORM
    RMS_NORM
    BATCH_NORM
    PRELU
    BLEND
    FORK                       # a residual block begins: backward adds the sum's delta
    ADD                        # ... and ends: target = skip + source

cdef enum Statistic:
    # Of a batch normalisation, over the batch: of its inputs, and of its deltas (d)
    MEAN
    VARIANCE
    SUM_DELTA
    SUM_DOT                    # of d x normalised input
    MEAN_DELTA
    MEAN_DOT
    STATISTICS

cdef struct Operation:
    int kind
    int source, target         # slots; FORK: those of the block's input and of its sum
    int skip                   # ADD: slot of the other summand
    int activation             # DENSE, ACTIVATION, BLEND
    bint trainable
    bint gates_source          # its backward product also applies relu' of the source's layer
    bint below_narrow          # the operation above it is dense and has few outputs
    bint gated                 # its own relu' is applied by the operation above
    Py_ssize_t n_in, n_out
    # Places in the parameter buffer, in elements, or -1: what multiplies, what is added, and
    # BATCH_NORM's running means, followed by its running variances.
    Py_ssize_t weight, bias, running
    Py_ssize_t tile            # weight rows in a tile
    bint special               # the next four are not 0, 0, 1 and 0
    double l1, l2              # penalties on the weights
    double rate_factor         # of the learning rate
    double max_norm            # of each unit's weights; 0: no limit
    Py_ssize_t statistics      # place in the workspace's statistics
    double rate                # share dropped, deviation of noise, or eps of a normalisation
    double momentum
    unsigned long long stream

cdef struct WeightTile:
    int operation
    Py_ssize_t first           # weight row

cdef struct Stage:
    # What is done to all rows before anything that needs sums over the whole batch
    int begin, end             # operations forward: begin..end - 1
    bint loss                  # ... then the loss
    int top, bottom            # ... then operations backward: top - 1 down to bottom
    int forward_sums           # the batch normalisation whose sums end the stage, or -1
    int backward_sums

cdef struct Net:
    const KernelTable* table
    Operation* operations
    int n_operations
    int n_slots
    Py_ssize_t* widths         # of the slots
    bint* keeps_pre            # slots with a `pre`
    Py_ssize_t* kept_elements  # elements a row of a slot's `kept`
    Stage* stages
    int n_stages, loss_stage
    int first_trainable        # operation below which no gradient is needed
    Py_ssize_t statistics_elements
    Py_ssize_t parts_elements  # of a tile's sums
    WeightTile* weight_tiles
    Py_ssize_t n_weight_tiles
    ColumnTile* column_tiles
    Py_ssize_t n_column_tiles
    Py_ssize_t n_params
    Py_ssize_t gradient_elements   # scratch for a weight tile's gradient
    Py_ssize_t work_per_row        # multiply-adds of one forward pass
    char* w                        # the parameter buffer
    int loss
    double* loss_parameters
    Py_ssize_t n_loss_parameters
    # Of batches that are worked on in groups of rows (_engine_groups.pxi)
    Py_ssize_t row_elements    # activations and deltas of a row
    Py_ssize_t piece           # rows that go through the network at a time
    Py_ssize_t grouped_from    # rows of the smallest one; 0: there is none

cdef struct Slot:
    char* value
    # Input of the activation, in training soon its derivative; of a layer with a parameter a
    # column the derivative by it
    char* pre
    char* kept                 # what else backward needs
    char* delta
    int owner                  # of `delta`

cdef struct Space:
    Slot* slots
    Py_ssize_t rows
    int* labels                # gathered targets
    char* target
    char* weight
    double* tile_loss
    double* tile_squares       # of each weight tile, before its update
    char* scratch              # what a matrix product packs, `scratch_bytes` per worker
    Py_ssize_t scratch_bytes
    char* gradient             # one weight tile's gradient per worker
    char* statistics           # of all batch normalisations
    char* parts                # sums of each tile of rows
    char* group_gradients      # of each group of rows, one after the other
    Py_ssize_t groups          # as many as there is room for
    const ClockCells* clock    # NULL unless the run is profiled
    bint shared                # several threads work on it
    Py_ssize_t batch_row       # row of the batch that the slots' first row is

cdef struct Batch:
    # Rows start..start + rows of the epoch's order, or of the arrays if order is NULL
    const char* x              # in rows, unless `sparse.indptr` is set
    SparseRows sparse
    const int* labels          # class numbers, or
    const char* target         # numbers, as many a row as outputs
    const char* weight         # one a row, or NULL
    const long long* order
    Py_ssize_t start, rows
    double scale               # 1 / sum of the weights
    unsigned long long key     # of this step's random masks

# How work is cut: docs/decisions/0002-engine.md has the measurements.
cdef Py_ssize_t ONE_TILE_WORK = 256000        # multiply-adds of a pass that `_threads.py` shares
cdef Py_ssize_t MANY_ROWS = 256               # more than these are cut whatever the work
cdef Py_ssize_t WEIGHT_TILE_ELEMENTS = 524288
cdef Py_ssize_t WEIGHT_TILES = 18             # of a network, for threads to share
cdef Py_ssize_t PACKING_ROWS = 48             # from which on a product packs its other operand
cdef Py_ssize_t BROAD = 256                   # outputs for which that pays
cdef Py_ssize_t CUT_ELEMENTS = 4096           # of a layer worth cutting
cdef Py_ssize_t LOW_CUT_ELEMENTS = 16384      # ... if it has fewer than PACKING_ROWS inputs
cdef Py_ssize_t NARROW = 32                   # outputs; the product with W' is that deep
cdef Py_ssize_t FETCHED = 4096                # bytes of rows to come, asked for while one is copied


cdef inline Py_ssize_t equal_parts(Py_ssize_t rows, Py_ssize_t tiles) noexcept nogil:
    """Rows of each tile: a multiple of every height of a block."""
    return round_up((rows + tiles - 1) // tiles, 12)


cdef Py_ssize_t weight_tile_rows(
    Py_ssize_t n_in, Py_ssize_t n_out, Py_ssize_t all_work
) noexcept nogil:
    """Weight rows in a tile: about equal tiles within a budget.

    A layer that is not tiny has as many more, up to four, as its share of `all_work` asks for:
    one of many layers would be cut for nothing, and read by several threads. A broad one has
    no tile too low for the product to pack the gradient that all tiles read, unless it is too low
    itself.
    """
    cdef Py_ssize_t budget = max(
        PACKING_ROWS, WEIGHT_TILE_ELEMENTS // n_out, n_in // (MAX_TILES // 64) + 1)
    cdef Py_ssize_t tiles = (n_in + budget - 1) // budget
    cdef bint low = n_in < PACKING_ROWS
    if n_in > 12 and n_in * n_out >= (LOW_CUT_ELEMENTS if low else CUT_ELEMENTS):
        tiles = max(tiles, min(<Py_ssize_t>4, WEIGHT_TILES * n_in * n_out // all_work + 1))
    while (not low and n_out >= BROAD and tiles > 1
           and n_in - (tiles - 1) * equal_parts(n_in, tiles) < PACKING_ROWS):
        tiles -= 1
    return min(n_in, equal_parts(n_in, tiles))


cdef Py_ssize_t row_tiles(const Net* net, Py_ssize_t rows) noexcept nogil:
    """Tiles that a batch is cut into, never fewer than a smaller one: an even number, or one."""
    cdef Py_ssize_t height
    if rows < 8 or (rows * net.work_per_row < ONE_TILE_WORK and rows <= MANY_ROWS):
        return 1
    height = 64 if net.work_per_row < (1 << 18) else (
        128 if net.work_per_row < (1 << 20) else (256 if net.work_per_row < (1 << 22) else 512))
    return min(2 * ((rows + 2 * height - 1) // (2 * height)), <Py_ssize_t>MAX_TILES)


cdef inline Py_ssize_t tile_start(
    Py_ssize_t rows, Py_ssize_t tiles, Py_ssize_t number
) noexcept nogil:
    """First row of a tile: a multiple of four, and tiles as even as these can be."""
    return rows if number == tiles else rows * number // tiles // 4 * 4


cdef inline Py_ssize_t tile_height(
    Py_ssize_t rows, Py_ssize_t tiles, Py_ssize_t number
) noexcept nogil:
    return tile_start(rows, tiles, number + 1) - tile_start(rows, tiles, number)


# ---------------------------------------------------------------------------------- rows

cdef inline void fetch_row(const char* row, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i < n:
        prefetch_line(row + i)
        i += 64


cdef void copy_rows(
    Py_ssize_t n, const char* source, const long long* order, Py_ssize_t rows, char* to
) noexcept nogil:
    """Rows order[0]... of `n` bytes; short ones by one or two instructions instead of a call."""
    cdef Py_ssize_t i, ahead = 1 + FETCHED // n
    if n == 4:
        for i in range(rows):
            memcpy(to + i * 4, source + order[i] * 4, 4)
    elif n == 8:
        for i in range(rows):
            memcpy(to + i * 8, source + order[i] * 8, 8)
    elif n == 16:
        for i in range(rows):
            memcpy(to + i * 16, source + order[i] * 16, 16)
    else:
        for i in range(rows):
            if i + ahead < rows:
                fetch_row(source + order[i + ahead] * n, n)
            memcpy(to + i * n, source + order[i] * n, n)


cdef void gather_rows(
    const Net* net, const Space* space, const Batch* batch, Py_ssize_t first, Py_ssize_t slot,
    Py_ssize_t rows
) noexcept nogil:
    """Rows first... of the batch into rows slot... of the workspace."""
    cdef Py_ssize_t size = net.table.itemsize
    cdef Py_ssize_t n = net.widths[0] * size, k = net.widths[net.n_slots - 1] * size
    cdef const long long* order
    if batch.order == NULL:
        return  # the batch is read where it lies
    order = batch.order + batch.start + first
    if batch.x != NULL:
        copy_rows(n, batch.x, order, rows, space.slots[0].value + slot * n)
    if batch.labels != NULL:
        copy_rows(sizeof(int), <const char*>batch.labels, order, rows,
                  <char*>(space.labels + slot))
    else:
        copy_rows(k, batch.target, order, rows, space.target + slot * k)
    if batch.weight != NULL:
        copy_rows(size, batch.weight, order, rows, space.weight + slot * size)


cdef inline void dense_product(
    const Net* net, const Space* space, const Operation* op, const char* source,
    Py_ssize_t rows, Py_ssize_t first, Py_ssize_t columns, char* z, const char* claimed, int worker
) noexcept nogil:
    """A dense operation's columns first... for rows at `source`, with bias and relu, into `z`."""
    cdef Py_ssize_t size = net.table.itemsize
    cdef Product p
    p.rows, p.columns, p.depth = rows, columns, op.n_in
    p.a, p.a_row, p.a_step = source, op.n_in, 1
    p.b, p.b_step, p.b_column = net.w + (op.weight + first) * size, op.n_out, 1
    p.c, p.c_row = z, op.n_out
    p.bias = net.w + (op.bias + first) * size if op.bias >= 0 else NULL
    p.accumulate = False
    p.epilogue = EPI_RELU if op.activation == ACT_RELU else EPI_NONE
    p.gate, p.gate_row, p.claimed = NULL, 0, claimed
    p.scratch = space.scratch + worker * space.scratch_bytes
    matmul(net.table, &p)


cdef void forward_rows(
    const Net* net, const Space* space, const char* x, const SparseRows* sparse,
    Py_ssize_t sparse_first, Py_ssize_t first, Py_ssize_t rows, unsigned long long key,
    bint training, int start, int stop, int worker
) noexcept nogil:
    """Send rows at `x` through operations start... into rows first... of the slots.

    With `sparse`, which is NULL otherwise, they are its rows sparse_first...
    """
    cdef Py_ssize_t size = net.table.itemsize
    cdef const Operation* op
    cdef const Slot* target
    cdef const char* source
    cdef const char* claimed
    cdef char* z
    cdef char* a
    cdef int i
    for i in range(start, stop):
        begin(space.clock, worker, cell_of(i, PART_FORWARD))
        op = &net.operations[i]
        target = &space.slots[op.target]
        source = x
        if op.source != 0:
            source = space.slots[op.source].value + first * op.n_in * size
        if op.kind != DENSE:
            layer_forward(net, space, op, x, source, first, rows, key, training)
            continue
        a = target.value + first * op.n_out * size
        z = a if target.pre == NULL else target.pre + first * op.n_out * size  # NULL in inference
        if op.source == 0 and sparse != NULL:
            net.table.sparse_forward(
                sparse, sparse_first, rows, op.n_out, net.w + op.weight * size,
                net.w + op.bias * size if op.bias >= 0 else NULL, z)
            if target.pre != NULL:
                net.table.activation_forward_with_slope(op.activation, rows * op.n_out, z, a)
            elif op.activation != ACT_IDENTITY:
                net.table.activation_forward(op.activation, rows, op.n_out, z, a)
            continue
        # What a narrow layer gives back is written too fast to wait for its cache lines then.
        claimed = NULL
        if training and space.shared and op.below_narrow:
            claimed = target.delta + first * op.n_out * size
        dense_product(net, space, op, source, rows, 0, op.n_out, z, claimed, worker)
        if op.activation != ACT_RELU and op.activation != ACT_IDENTITY:
            begin(space.clock, worker, cell_of(i, PART_ACTIVATION))
        if target.pre != NULL:
            net.table.activation_forward_with_slope(op.activation, rows * op.n_out, z, a)
        elif op.activation != ACT_RELU and op.activation != ACT_IDENTITY:
            net.table.activation_forward(op.activation, rows, op.n_out, z, a)


cdef double loss_rows(
    const Net* net, const Space* space, const Batch* batch, Py_ssize_t first, Py_ssize_t slot,
    Py_ssize_t rows
) noexcept nogil:
    """Weighted loss, not yet scaled, of rows first... of the batch, in rows slot... of the slots.

    The last slot's delta becomes its scaled gradient.
    """
    cdef Py_ssize_t size = net.table.itemsize, n = net.widths[net.n_slots - 1]
    cdef const Slot* last = &space.slots[net.n_slots - 1]
    cdef const int* labels = NULL
    cdef const char* target = NULL
    cdef const char* weight = NULL
    cdef Py_ssize_t at = first if batch.order != NULL else batch.start + first
    if batch.labels != NULL:
        labels = (space.labels if batch.order != NULL else batch.labels) + at
    else:
        target = (space.target if batch.order != NULL else batch.target) + at * n * size
    if batch.weight != NULL:
        weight = (space.weight if batch.order != NULL else batch.weight) + at * size
    return net.table.loss(
        net.loss, rows, n, last.value + slot * n * size, labels, target, weight,
        batch.scale, net.loss_parameters, net.n_loss_parameters, last.delta + slot * n * size)


cdef void backward_rows(
    const Net* net, const Space* space, Py_ssize_t first, Py_ssize_t rows,
    unsigned long long key, bint need_dx, int top, int bottom, int worker
) noexcept nogil:
    """Operations top - 1 down to bottom: from the gradient by the output to that by the input.

    What no trainable layer needs is left out, unless the gradient by the input is asked for.
    """
    cdef Py_ssize_t size = net.table.itemsize
    cdef const Operation* op
    cdef const Slot* source
    cdef const Slot* target
    cdef Product p
    cdef char* d
    cdef int i = top
    while i > bottom:
        i -= 1
        if i < net.first_trainable and not need_dx:
            return
        begin(space.clock, worker, cell_of(i, PART_SLOPE))
        op = &net.operations[i]
        if op.kind != DENSE:
            if i > net.first_trainable or need_dx:
                layer_backward(net, space, op, first, rows, key)
            continue
        source = &space.slots[op.source]
        target = &space.slots[op.target]
        d = target.delta + first * op.n_out * size
        if target.pre != NULL:
            net.table.multiply(rows * op.n_out, d, target.pre + first * op.n_out * size)
        elif op.activation != ACT_IDENTITY and not op.gated:
            net.table.activation_backward(
                op.activation, rows, op.n_out, d, NULL,
                target.value + first * op.n_out * size, d)
        if i == net.first_trainable and not need_dx:
            return
        begin(space.clock, worker, cell_of(i, PART_DX))
        p.rows, p.columns, p.depth = rows, op.n_in, op.n_out
        p.a, p.a_row, p.a_step = d, op.n_out, 1
        p.b, p.b_step, p.b_column = net.w + op.weight * size, 1, op.n_out
        p.c, p.c_row = source.delta + first * op.n_in * size, op.n_in
        p.bias = NULL
        p.accumulate = False
        p.claimed = NULL
        p.epilogue = EPI_GATE if op.gates_source else EPI_NONE
        p.gate, p.gate_row = source.value + first * op.n_in * size, op.n_in
        p.scratch = space.scratch + worker * space.scratch_bytes
        matmul(net.table, &p)


# ---------------------------------------------------------------------------------- weights

cdef inline void dense_gradient(
    const Net* net, const Space* space, const Operation* op, Py_ssize_t first, Py_ssize_t rows,
    const char* x, const SparseRows* sparse, Py_ssize_t first_row, Py_ssize_t batch_rows, bint adds,
    const char* claimed, char* g, int worker
) noexcept nogil:
    """Gradient of rows first... of a dense layer's weights, summed over a batch's.

    These are rows first_row... of the slots. The first of them has its input at `x`, unless
    `sparse` holds all. With `adds` it is added to what `g` holds.
    """
    cdef Py_ssize_t size = net.table.itemsize
    cdef const char* source = x
    cdef const char* delta = space.slots[op.target].delta + first_row * op.n_out * size
    cdef Product p
    if op.source == 0 and sparse != NULL:
        net.table.sparse_gradient(sparse, batch_rows, first, rows, op.n_out, delta, g)
        return
    if op.source != 0:
        source = space.slots[op.source].value + first_row * op.n_in * size
    source += first * size
    p.bias = NULL
    p.accumulate = adds
    p.epilogue = EPI_NONE
    p.gate, p.gate_row = NULL, 0
    p.claimed = claimed
    p.scratch = space.scratch + worker * space.scratch_bytes
    p.c = g
    if op.n_out == 1:
        # A column of weights is a row in memory: compute dW' = dZ' X along it.
        p.rows, p.columns, p.depth = 1, rows, batch_rows
        p.a, p.a_row, p.a_step = delta, 1, 1
        p.b, p.b_step, p.b_column = source, op.n_in, 1
        p.c_row = rows
    else:
        p.rows, p.columns, p.depth = rows, op.n_out, batch_rows
        p.a, p.a_row, p.a_step = source, 1, op.n_in
        p.b, p.b_step, p.b_column = delta, op.n_out, 1
        p.c_row = op.n_out
    matmul(net.table, &p)


cdef void weight_rows(
    const Net* net, const Space* space, const char* x, const SparseRows* sparse,
    Py_ssize_t batch_rows, Py_ssize_t groups, Py_ssize_t number, char* grads, int optimizer,
    char* s1, char* s2, const OptimizerSettings* settings, int worker
) noexcept nogil:
    """Gradient of a tile of weights, and of the layer's bias with the first tile.

    `x` is the batch's input, unless `sparse` holds it; if the batch was worked on in `groups`,
    their gradients are added up instead. The gradient goes to `grads`, laid out as the
    parameters, or if that is NULL to scratch; with `settings` the parameters are updated at
    once.
    """
    cdef const WeightTile* tile = &net.weight_tiles[number]
    cdef const Operation* op = &net.operations[tile.operation]
    cdef Py_ssize_t size = net.table.itemsize, first = tile.first
    cdef Py_ssize_t rows = min(op.tile, op.n_in - first)
    cdef Py_ssize_t at = op.weight + first * op.n_out
    cdef char* own = space.gradient + worker * net.gradient_elements * size
    cdef char* g = grads + at * size if grads != NULL else own
    cdef char* g_bias
    cdef bint as_one
    begin(space.clock, worker, cell_of(tile.operation, PART_DW))
    if op.kind != DENSE:
        if space.tile_squares != NULL:
            space.tile_squares[number] = 0
        vector_rows(net, space, op, batch_rows, groups, grads, optimizer, s1, s2, settings,
                    tile.operation, worker)
        return
    if settings != NULL and space.tile_squares != NULL:
        space.tile_squares[number] = net.table.sum_squares(rows * op.n_out, net.w + at * size)
    if groups > 0:
        add_groups(net, space, groups, at, rows * op.n_out, settings != NULL, g)
    else:
        dense_gradient(
            net, space, op, first, rows, x, sparse, 0, batch_rows, False,
            net.w + at * size if settings != NULL and space.shared and op.n_out > 1 else NULL,
            g, worker)
    if first > 0 or op.bias < 0:
        if settings != NULL:
            begin(space.clock, worker, cell_of(tile.operation, PART_UPDATE))
            update_run(net, op, False, at, rows * op.n_out, g, optimizer, s1, s2, settings)
        return
    # Of a layer in one tile, whose bias lies behind its weights, both are updated as one run.
    as_one = (settings != NULL and op.bias == op.weight + rows * op.n_out
              and not op.special and settings.l2 == 0 and settings.decay == 0)
    g_bias = own + (rows * op.n_out if as_one else round_up(rows * op.n_out, 16)) * size
    if grads != NULL:
        g_bias = grads + op.bias * size
    if groups > 0:
        add_groups(net, space, groups, op.bias, op.n_out, settings != NULL, g_bias)
    else:
        net.table.column_sums(
            batch_rows, op.n_out, space.slots[op.target].delta, op.n_out, g_bias)
    if settings != NULL:
        begin(space.clock, worker, cell_of(tile.operation, PART_UPDATE))
        update_run(net, op, as_one, at, (rows + as_one) * op.n_out, g, optimizer, s1, s2,
                   settings)
        if not as_one:
            update_run(net, op, True, op.bias, op.n_out, g_bias, optimizer, s1, s2, settings)


cdef inline OptimizerSettings undecayed(const OptimizerSettings* settings) noexcept nogil:
    """Settings for a bias, which is never decayed."""
    cdef OptimizerSettings plain = settings[0]
    plain.l2 = 0
    plain.decay = 0
    return plain


cdef double weight_sum(const Net* net, const Batch* batch) noexcept nogil:
    """Sum of the weights of the batch's rows; their number if there are none."""
    cdef double total = 0
    cdef Py_ssize_t i, at
    if batch.weight == NULL:
        return <double>batch.rows
    for i in range(batch.start, batch.start + batch.rows):
        at = <Py_ssize_t>batch.order[i] if batch.order != NULL else i
        if net.table.itemsize == sizeof(float):
            total += (<const float*>batch.weight)[at]
        else:
            total += (<const double*>batch.weight)[at]
    return total
