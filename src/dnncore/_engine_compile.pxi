# From the description of a network to the structs that the work is done from.

cdef dict KINDS = {
    "dense": DENSE,
    "dropout": DROPOUT,
    "alpha_dropout": ALPHA_DROPOUT,
    "noise": NOISE,
    "activation": ACTIVATION,
    "layer_norm": LAYER_NORM,
    "rms_norm": RMS_NORM,
    "batch_norm": BATCH_NORM,
    "prelu": PRELU,
    "blend": BLEND,
    "fork": FORK,
    "add": ADD,
}


cdef int read_operations(Net* net, list operations) except -1:
    """Fill in the operations, and what they need of a workspace."""
    cdef Operation* op
    cdef Operation* below
    cdef Py_ssize_t i, widest = 0
    net.gradient_elements, net.work_per_row, net.statistics_elements = 1, 0, 0
    net.first_trainable = net.n_operations
    for fields in operations:
        if fields["kind"] == "dense":
            net.work_per_row += net.widths[fields["source"]] * net.widths[fields["target"]]
    for i, fields in enumerate(operations):
        op = &net.operations[i]
        if fields["kind"] not in KINDS:
            raise ValueError(f"unknown operation {fields['kind']!r}")
        op.kind = KINDS[fields["kind"]]
        op.source, op.target = fields["source"], fields["target"]
        op.skip = fields.get("skip", 0)
        op.n_in, op.n_out = net.widths[op.source], net.widths[op.target]
        op.activation = fields.get("activation", ACT_IDENTITY)
        op.weight, op.bias = fields.get("weight", -1), fields.get("bias", -1)
        op.running = fields.get("running", -1)
        op.rate, op.stream = fields.get("rate", 0.0), fields.get("stream", 0)
        op.momentum = fields.get("momentum", 0.0)
        op.trainable = fields.get("trainable", False)
        op.l1, op.l2 = fields.get("l1", 0.0), fields.get("l2", 0.0)
        op.rate_factor = fields.get("learning_rate_factor", 1.0)
        op.special = op.l1 != 0 or op.l2 != 0 or op.rate_factor != 1
        if op.trainable:
            op.max_norm = fields.get("max_norm", 0.0)
        if op.kind == DENSE:
            op.tile = weight_tile_rows(op.n_in, op.n_out, net.work_per_row)
            net.gradient_elements = max(
                net.gradient_elements, round_up(op.tile * op.n_out, 16) + op.n_out)
        else:
            op.tile = op.n_in  # one tile
            net.gradient_elements = max(net.gradient_elements, 2 * round_up(op.n_out, 16))
        if op.kind == BATCH_NORM:
            op.statistics = net.statistics_elements
            net.statistics_elements += STATISTICS * op.n_out
            widest = max(widest, op.n_out)
        if op.kind == BLEND:
            net.kept_elements[op.target] = op.n_out
        elif op.kind == LAYER_NORM or op.kind == RMS_NORM:
            net.kept_elements[op.target] = 1
        if op.kind == DENSE or op.kind == ACTIVATION:
            net.keeps_pre[op.target] = needs_input(op.activation)
        elif op.kind in (LAYER_NORM, RMS_NORM, BATCH_NORM, PRELU, BLEND):
            net.keeps_pre[op.target] = True
        if op.trainable and net.first_trainable == net.n_operations:
            net.first_trainable = <int>i
        if i > 0:
            below = &net.operations[i - 1]
            if (op.kind == DENSE and below.kind == DENSE and below.target == op.source
                    and below.activation == ACT_RELU):
                op.gates_source = True
                below.gated = True
            below.below_narrow = (op.kind == DENSE and below.kind == DENSE
                                  and below.target == op.source and op.n_out <= NARROW)
    net.gradient_elements = round_up(net.gradient_elements, 16)
    net.parts_elements = 2 * widest
    return 0


cdef inline bint needs_batch(const Operation* op) noexcept nogil:
    """Whether an operation needs statistics of the whole batch."""
    return op.kind == BATCH_NORM and op.trainable


cdef int cut_stages(Net* net) except -1:
    """Cut the rows' way forward and backward wherever statistics of the batch are needed."""
    cdef int i, n = 0
    cdef Stage* s
    for i in range(net.n_operations):
        n += needs_batch(&net.operations[i])
    net.loss_stage, net.n_stages = n, 2 * n + 1
    net.stages = <Stage*>malloc(net.n_stages * sizeof(Stage))
    if net.stages == NULL:
        raise MemoryError("no memory for the program")
    memset(net.stages, 0, net.n_stages * sizeof(Stage))
    s = &net.stages[0]
    s.begin = 0
    for i in range(net.n_operations):
        if needs_batch(&net.operations[i]):
            s.end, s.forward_sums = i, i
            s.backward_sums = -1
            s += 1
            s.begin = i
    s.end, s.forward_sums, s.loss = net.n_operations, -1, True
    s.top = net.n_operations
    for i in range(net.n_operations - 1, -1, -1):
        if needs_batch(&net.operations[i]):
            s.bottom, s.backward_sums = i + 1, i
            s += 1
            s.forward_sums = -1
            s.top = i + 1
    s.bottom, s.backward_sums = 0, -1
    return 0


cdef int cut_weights(Net* net) except -1:
    """Cut the parameters into tiles, and put the heaviest at both ends.

    Threads draw tiles from the ends: two of them come back to the same large ones in every step,
    and the smallest are left to even out what remains.
    """
    cdef Operation* op
    cdef Py_ssize_t i, at
    tiles = []
    for i in range(net.n_operations - 1, -1, -1):
        op = &net.operations[i]
        if op.trainable:
            for at in range(0, op.n_in, op.tile):
                tiles.append((min(op.tile, op.n_in - at) * op.n_out, i, at))
    tiles.sort(key=lambda tile: -tile[0])
    tiles = tiles[::2] + tiles[1::2][::-1]
    net.n_weight_tiles = len(tiles)
    net.weight_tiles = <WeightTile*>malloc((net.n_weight_tiles + 1) * sizeof(WeightTile))
    if net.weight_tiles == NULL:
        raise MemoryError("no memory for the program")
    for i in range(net.n_weight_tiles):
        _, net.weight_tiles[i].operation, net.weight_tiles[i].first = tiles[i]
    return 0
