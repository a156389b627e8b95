# What layers other than dense ones do to a tile of rows, and to their own parameters.
#
# Every parameter of theirs belongs to one column, and its gradient is a sum down the batch: of
# delta x pre, where forward has left the derivative by the parameter in `pre`, or of delta.
# docs/decisions/0005-layers.md says how batch statistics and residual blocks work.

cdef inline const char* parameter(const Net* net, Py_ssize_t place) noexcept nogil:
    return net.w + place * net.table.itemsize if place >= 0 else NULL


cdef inline char* rows_of(char* values, Py_ssize_t elements, Py_ssize_t size) noexcept nogil:
    return values + elements * size if values != NULL else NULL


cdef inline char* statistic(
    const Net* net, const Space* space, const Operation* op, Statistic which
) noexcept nogil:
    """A vector of a batch normalisation's statistics, one element a column."""
    return space.statistics + (op.statistics + which * op.n_out) * net.table.itemsize


cdef void share_deltas(const Net* net, Slot* slots) noexcept nogil:
    """Find the slot whose delta is also that of each slot, its own at most.

    For a sum's operand the sum, unless a dense layer changes its own; for dropout, noise
    and activations of their own, which have no parameter, their source: nobody needs the gradient
    by their output once there is that by their input.
    """
    cdef const Operation* op
    cdef const Operation* maker
    cdef int i
    for i in range(net.n_slots):
        slots[i].owner = i
    for i in range(net.n_operations - 1, 0, -1):  # outer sums before inner ones
        op = &net.operations[i]
        maker = &net.operations[i - 1]
        if op.kind == ADD and maker.kind != FORK and (
            maker.kind != DENSE or maker.activation == ACT_IDENTITY
        ):
            slots[op.source].owner = slots[op.target].owner
    for i in range(net.n_operations):
        op = &net.operations[i]
        if op.kind in (DROPOUT, ALPHA_DROPOUT, NOISE, ACTIVATION) and (
            slots[op.target].owner == op.target
        ):
            slots[op.target].owner = slots[op.source].owner


cdef void layer_forward(
    const Net* net, const Space* space, const Operation* op, const char* x, const char* source,
    Py_ssize_t first, Py_ssize_t rows, unsigned long long key, bint training
) noexcept nogil:
    """Forward of an operation that is not dense; `x` are the network's inputs."""
    cdef const KernelTable* table = net.table
    cdef Py_ssize_t size = table.itemsize, n = rows * op.n_out, at = first * op.n_out
    cdef unsigned int place = <unsigned int>((space.batch_row + first) * op.n_out)
    cdef const Slot* slot = &space.slots[op.target]
    cdef char* a = slot.value + at * size
    cdef char* pre = rows_of(slot.pre, at, size)
    cdef char* kept = rows_of(slot.kept, first * net.kept_elements[op.target], size)
    cdef const char* gamma = parameter(net, op.weight)
    cdef const char* beta = parameter(net, op.bias)
    cdef const char* skip
    cdef unsigned long long mixed = mix64(key + op.stream)
    if op.kind == DROPOUT and training:
        table.dropout(n, <unsigned int>mixed, place, op.rate, source, a)
    elif op.kind == ALPHA_DROPOUT and training:
        table.alpha_dropout(n, <unsigned int>mixed, place, op.rate, False, source, a)
    elif op.kind == NOISE and training:
        table.gaussian_noise(n, mixed, place, op.rate, source, a)
    elif op.kind == ACTIVATION:
        if pre != NULL:
            memcpy(pre, source, n * size)
            table.activation_forward_with_slope(op.activation, n, pre, a)
        else:
            table.activation_forward(op.activation, rows, op.n_out, source, a)
    elif op.kind == LAYER_NORM or op.kind == RMS_NORM:
        table.row_norm_forward(op.kind == LAYER_NORM, rows, op.n_out, source, op.rate, gamma,
                               beta, pre, kept, a)
    elif op.kind == BATCH_NORM:
        if training and op.trainable:
            table.column_norm_forward(
                rows, op.n_out, source, statistic(net, space, op, MEAN),
                statistic(net, space, op, VARIANCE), op.rate, gamma, beta, pre, a)
        else:
            table.column_norm_forward(
                rows, op.n_out, source, parameter(net, op.running),
                parameter(net, op.running + op.n_out), op.rate, gamma, beta, pre, a)
    elif op.kind == PRELU:
        table.prelu_forward(rows, op.n_out, source, gamma, pre, a)
    elif op.kind == BLEND:
        if kept == NULL:
            table.activation_forward(op.activation, rows, op.n_out, source, a)
            table.blend(rows, op.n_out, source, a, gamma, NULL, a)
        elif needs_input(op.activation):
            memcpy(kept, source, n * size)
            table.activation_forward_with_slope(op.activation, n, kept, a)
            table.blend(rows, op.n_out, source, a, gamma, pre, a)
        else:
            table.activation_forward(op.activation, rows, op.n_out, source, kept)
            table.blend(rows, op.n_out, source, kept, gamma, pre, a)
    elif op.kind == ADD:
        skip = x if op.skip == 0 else space.slots[op.skip].value + at * size
        table.add(n, skip, source, a)
    elif op.kind != FORK:
        memcpy(a, source, n * size)


cdef void layer_backward(
    const Net* net, const Space* space, const Operation* op, Py_ssize_t first, Py_ssize_t rows,
    unsigned long long key
) noexcept nogil:
    """From the gradient by the output of an operation that is not dense to that by its input."""
    cdef const KernelTable* table = net.table
    cdef Py_ssize_t size = table.itemsize, n = rows * op.n_out, at = first * op.n_out
    cdef unsigned int place = <unsigned int>((space.batch_row + first) * op.n_out)
    cdef const Slot* slot = &space.slots[op.target]
    cdef char* d = slot.delta + at * size
    cdef char* dx = space.slots[op.source].delta + at * size
    cdef const char* pre = rows_of(slot.pre, at, size)
    cdef const char* kept = rows_of(slot.kept, first * net.kept_elements[op.target], size)
    cdef const char* gamma = parameter(net, op.weight)
    cdef unsigned long long mixed = mix64(key + op.stream)
    cdef const char* variance
    if op.kind == DROPOUT:
        table.dropout(n, <unsigned int>mixed, place, op.rate, d, dx)
    elif op.kind == ALPHA_DROPOUT:
        table.alpha_dropout(n, <unsigned int>mixed, place, op.rate, True, d, dx)
    elif op.kind == ACTIVATION:
        if pre != NULL:
            if d != dx:
                memcpy(dx, d, n * size)
            table.multiply(n, dx, pre)
        else:
            table.activation_backward(
                op.activation, rows, op.n_out, d, NULL, slot.value + at * size, dx)
    elif op.kind == LAYER_NORM or op.kind == RMS_NORM:
        table.row_norm_backward(
            op.kind == LAYER_NORM, rows, op.n_out, d, gamma, pre, kept, dx)
    elif op.kind == BATCH_NORM:
        variance = statistic(net, space, op, VARIANCE)
        if not op.trainable:
            variance = parameter(net, op.running + op.n_out)
        table.column_norm_backward(
            rows, op.n_out, d, pre, variance, op.rate, gamma,
            statistic(net, space, op, MEAN_DELTA), statistic(net, space, op, MEAN_DOT), dx)
    elif op.kind == PRELU:
        table.prelu_backward(
            rows, op.n_out, d, space.slots[op.source].value + at * size, gamma, dx)
    elif op.kind == BLEND:
        if needs_input(op.activation):
            memcpy(dx, d, n * size)
            table.multiply(n, dx, kept)
        else:
            table.activation_backward(op.activation, rows, op.n_out, d, NULL, kept, dx)
        table.blend(rows, op.n_out, d, dx, gamma, NULL, dx)
    elif op.kind == FORK:
        table.add(n, d, dx, dx)
    elif d != dx:  # NOISE, ADD: the other operand of a sum gets its share from FORK
        memcpy(dx, d, n * size)


# ------------------------------------------------------------------------------- the whole batch

cdef void batch_sums(
    const Net* net, const Space* space, const Operation* op, const char* source, bint backward,
    Py_ssize_t tile, Py_ssize_t first, Py_ssize_t rows
) noexcept nogil:
    """A tile's part of what a batch normalisation needs of the whole batch."""
    cdef Py_ssize_t size = net.table.itemsize, n = op.n_out
    cdef char* part = space.parts + tile * 2 * n * size
    cdef const char* d
    if backward:
        d = space.slots[op.target].delta + first * n * size
        net.table.column_sums(rows, n, d, n, part)
        net.table.column_dots(
            rows, n, d, space.slots[op.target].pre + first * n * size, part + n * size)
    else:
        net.table.column_moments(rows, n, source, part, part + n * size)


cdef void combine_sums(
    const Net* net, const Space* space, const Operation* op, bint backward, Py_ssize_t tiles,
    Py_ssize_t rows
) noexcept nogil:
    """The tiles' parts together, in their order."""
    if net.table.itemsize == sizeof(float):
        combine(net, space, op, backward, tiles, rows, <float>0)
    else:
        combine(net, space, op, backward, tiles, rows, <double>0)


ctypedef fused number:
    float
    double


cdef inline void combine(
    const Net* net, const Space* space, const Operation* op, bint backward, Py_ssize_t tiles,
    Py_ssize_t rows, number unused
) noexcept nogil:
    cdef const number* parts = <const number*>space.parts
    cdef const number* running = <const number*>parameter(net, op.running)
    cdef number* first = <number*>statistic(net, space, op, SUM_DELTA if backward else MEAN)
    cdef number* second = <number*>statistic(net, space, op, SUM_DOT if backward else VARIANCE)
    cdef number* means = <number*>statistic(net, space, op, MEAN_DELTA)
    cdef Py_ssize_t n = op.n_out, i, j, own
    cdef double total, squares, mean, d
    for j in range(n):
        if rows == 1 and not backward:
            # One row says nothing about deviations: it is normalised as in prediction.
            first[j], second[j] = running[j], running[n + j]
            continue
        total = squares = 0
        for i in range(tiles):
            own = tile_height(rows, tiles, i)
            total += parts[i * 2 * n + j] * (1.0 if backward else <double>own)
            squares += parts[(i * 2 + 1) * n + j]
        if backward:
            first[j], second[j] = <number>total, <number>squares
            means[j] = <number>(total / rows) if rows > 1 else 0
            means[n + j] = <number>(squares / rows) if rows > 1 else 0
            continue
        mean = total / rows
        # Deviations from the tiles' means, and those of the tiles' means from the batch's:
        # Chan, Golub and LeVeque 1983.
        for i in range(tiles):
            own = tile_height(rows, tiles, i)
            d = parts[i * 2 * n + j] - mean
            squares += own * d * d
        first[j], second[j] = <number>mean, <number>(squares / rows)


cdef void update_running(
    const Net* net, const Space* space, const Operation* op, Py_ssize_t rows, double m
) noexcept nogil:
    """running <- (1 - m) running + m x the batch's; its variance is unbiased."""
    cdef float* w4 = <float*>parameter(net, op.running)
    cdef double* w8 = <double*>w4
    cdef char* found = statistic(net, space, op, MEAN)  # followed by the variance
    cdef double unbiased = rows / (rows - 1.0) if rows > 1 else 1.0
    cdef double factor
    cdef Py_ssize_t j
    if rows == 1:
        return
    for j in range(2 * op.n_out):
        factor = m if j < op.n_out else m * unbiased
        if net.table.itemsize == sizeof(float):
            w4[j] = <float>((1 - m) * w4[j] + factor * (<float*>found)[j])
        else:
            w8[j] = (1 - m) * w8[j] + factor * (<double*>found)[j]


cdef void vector_gradient(
    const Net* net, const Space* space, const Operation* op, bint shift, Py_ssize_t first,
    Py_ssize_t rows, char* g
) noexcept nogil:
    """Gradient of an operation's parameter a column: of the shift, or of what multiplies."""
    cdef const Slot* slot = &space.slots[op.target]
    cdef Py_ssize_t at = first * op.n_out * net.table.itemsize
    if op.kind == BATCH_NORM:
        memcpy(g, statistic(net, space, op, SUM_DELTA if shift else SUM_DOT),
               op.n_out * net.table.itemsize)
    elif shift:
        net.table.column_sums(rows, op.n_out, slot.delta + at, op.n_out, g)
    else:
        net.table.column_dots(rows, op.n_out, slot.delta + at, slot.pre + at, g)


cdef void vector_rows(
    const Net* net, const Space* space, const Operation* op, Py_ssize_t rows, Py_ssize_t groups,
    char* grads, int optimizer, char* s1, char* s2, const OptimizerSettings* settings, int number,
    int worker
) noexcept nogil:
    """What `weight_rows` does, for the parameters of an operation that is not dense."""
    cdef Py_ssize_t size = net.table.itemsize, at
    cdef char* own = space.gradient + worker * net.gradient_elements * size
    cdef char* g
    cdef int part
    for part in range(2):
        at = op.weight if part == 0 else op.bias
        if at < 0:
            continue
        g = own
        if grads != NULL:
            g = grads + at * size
        own += round_up(op.n_out, 16) * size
        if groups > 0:
            add_groups(net, space, groups, at, op.n_out, settings != NULL, g)
        else:
            vector_gradient(net, space, op, part == 1, 0, rows, g)
        if settings != NULL:
            begin(space.clock, worker, cell_of(number, PART_UPDATE))
            update_run(net, op, True, at, op.n_out, g, optimizer, s1, s2, settings)
    if op.kind == BATCH_NORM and settings != NULL:
        update_running(net, space, op, rows, op.momentum)
