"""The engine: a network as a flat program over one parameter buffer.

A ``Program`` is a list of operations between *slots*. A slot holds one layer's output for every
row of the batch (``value``), the input of its activation if the derivative needs it (``pre``),
and the gradient of the loss by that output (``delta``). A training step has two phases:

1. rows: the batch is cut into tiles of rows; a tile is gathered, sent through every operation,
   through the loss and back to the first layer while it is in cache;
2. weights: each layer's weights are cut into tiles of rows; a tile's gradient is summed over the
   whole batch and its parameters are updated at once, while both are in cache.

Tiles are cut by shape, never by the number of threads, and within a phase they touch disjoint
memory: whoever computes a tile, in whatever order, the result has the same bits.

Nothing is allocated and no Python object is touched while steps run. Callers validate.
"""

import numpy as np

cimport cython
from libc.math cimport isfinite, pow, sqrt
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from dnncore._kernels cimport (
    kernel_table,
    matmul,
    mix64,
    needs_input,
    shuffle_indices,
    stream_key,
    uses_blas,
)
from dnncore._table cimport (
    ACT_IDENTITY,
    ACT_RELU,
    EPI_GATE,
    EPI_NONE,
    EPI_RELU,
    KernelTable,
    OptimizerSettings,
    Product,
)


cdef extern from "_platform.h" nogil:
    ctypedef unsigned long long uint64_t
    uint64_t flush_denormals "dnn_flush_denormals"() noexcept
    void restore_denormals "dnn_restore_denormals"(uint64_t mode) noexcept
    double seconds_now "dnn_seconds"() noexcept

cdef enum Kind:
    DENSE
    DROPOUT

cdef struct Operation:
    int kind
    int source, target         # slots
    int activation             # DENSE
    bint trainable
    bint gates_source          # its backward product also applies relu' of the source's layer
    bint gated                 # its own relu' was applied by the operation above
    Py_ssize_t n_in, n_out
    Py_ssize_t weight, bias    # places in the parameter buffer, in elements; bias -1: none
    double rate                # DROPOUT
    unsigned long long stream

cdef struct Slot:
    Py_ssize_t width
    char* value
    char* pre
    char* delta

cdef struct Batch:
    # Rows start..start + rows of the epoch's order (or of the arrays, if order is NULL)
    const char* x
    const int* labels          # class numbers, or
    const char* target         # `target_width` numbers a row
    Py_ssize_t target_width
    const char* weight         # one a row, or NULL
    const long long* order
    Py_ssize_t start, rows
    double scale               # 1 / sum of the weights
    unsigned long long key     # of this step's random masks

# Rows of a tile in the two phases. Small tiles keep activations in the second-level cache, large
# ones use each weight more often once it is there: docs/decisions/0002-engine.md has the figures.
cdef Py_ssize_t ONE_TILE_WORK = 4000000       # multiply-adds of a step not worth cutting
cdef Py_ssize_t WEIGHT_TILE_ELEMENTS = 65536
cdef Py_ssize_t INFERENCE_ROWS = 256
cdef double SLICE_CLOCK_WORK = 2e5            # multiply-adds between two looks at the clock


cdef inline Py_ssize_t round_up(Py_ssize_t n, Py_ssize_t multiple) noexcept nogil:
    return (n + multiple - 1) // multiple * multiple


@cython.final
cdef class Workspace:
    """Buffers for a program with a given number of rows."""

    cdef char* arena
    cdef Slot* slots
    cdef readonly Py_ssize_t rows
    cdef readonly Py_ssize_t nbytes
    cdef bint training
    cdef int* labels
    cdef char* target
    cdef char* weight
    cdef double* tile_loss
    cdef char* scratch           # panel of a matrix product
    cdef char* gradient          # gradient of a tile of weights
    cdef char* own_input         # slot 0's buffer, while `value` may point at the caller's rows

    def __cinit__(self, Program program, Py_ssize_t rows, bint training):
        cdef Py_ssize_t size = program.table.itemsize
        cdef Py_ssize_t i, total
        cdef char* base
        cdef int sweep
        self.rows = rows
        self.training = training
        self.slots = <Slot*>malloc(program.n_slots * sizeof(Slot))
        if self.slots == NULL:
            raise MemoryError("no memory for the workspace")
        # Two sweeps over the same list of buffers: one adds up their sizes, one places them.
        base = NULL
        for sweep in range(2):
            total = 0
            for i in range(program.n_slots):
                self.slots[i].width = program.widths[i]
                self.slots[i].value = self._place(base, &total, rows * program.widths[i] * size)
                self.slots[i].pre = NULL
                if program.keeps_pre[i]:
                    self.slots[i].pre = self._place(
                        base, &total, rows * program.widths[i] * size)
                self.slots[i].delta = NULL
                if training or i == program.n_slots - 1:
                    self.slots[i].delta = self._place(
                        base, &total, rows * program.widths[i] * size)
            self.labels = <int*>self._place(base, &total, rows * sizeof(int))
            self.target = self._place(
                base, &total, rows * program.widths[program.n_slots - 1] * size)
            self.weight = self._place(base, &total, rows * size)
            self.tile_loss = <double*>self._place(base, &total, rows * sizeof(double))
            self.scratch = self._place(base, &total, program.table.panel_elements * size)
            self.gradient = NULL
            if training:
                self.gradient = self._place(base, &total, program.gradient_elements * size)
            if sweep == 0:
                self.arena = <char*>malloc(total + 64)
                if self.arena == NULL:
                    raise MemoryError(
                        f"no memory for a workspace of {total} bytes ({rows} rows); "
                        "use a smaller batch_size")
                # From the first touch on, pages are there and hold no stray NaN or denormal.
                memset(self.arena, 0, total + 64 if training else 0)
                base = self.arena + (64 - <size_t>self.arena % 64)
        self.own_input = self.slots[0].value
        self.nbytes = total

    cdef char* _place(self, char* base, Py_ssize_t* total, Py_ssize_t nbytes) noexcept:
        cdef Py_ssize_t at = total[0]
        total[0] = at + round_up(nbytes, 64)
        return base + at if base != NULL else NULL

    def __dealloc__(self):
        free(self.arena)
        free(self.slots)


@cython.final
cdef class Program:
    """A network compiled to operations over one flat parameter buffer.

    Built by ``Network``; see ``network.py`` for the one place where layers become operations.

    Parameters
    ----------
    params : ndarray of shape (n_params,)
        The parameter buffer, float32 or float64; the program keeps it and writes to it.
    widths : list of int
        Width of each slot; slot 0 is the network's input.
    operations : list of dict
        ``kind`` (``"dense"`` or ``"dropout"``), ``source``, ``target`` and the kind's fields.
    loss : int
        Id of the loss.
    loss_parameter : float
        Huber's threshold; unused by the others.
    seed : int
        Seed of shuffles and masks.
    """

    cdef const KernelTable* table
    cdef Operation* operations
    cdef int n_operations
    cdef Py_ssize_t* widths
    cdef bint* keeps_pre
    cdef Py_ssize_t n_slots
    cdef Py_ssize_t gradient_elements
    cdef Py_ssize_t work_per_row       # multiply-adds of one forward pass
    cdef readonly object params
    cdef object params_view
    cdef char* w
    cdef int loss
    cdef double loss_parameter
    cdef unsigned long long seed
    cdef Workspace training_space
    cdef Py_ssize_t forward_rows_kept  # rows of the last `forward`, for `backward`
    cdef bint busy

    def __cinit__(self, params, list widths, list operations, int loss, double loss_parameter,
                  unsigned long long seed):
        cdef Py_ssize_t i, block
        cdef Operation* op
        cdef unsigned char[::1] view = params.view(np.uint8)
        self.params = params
        self.params_view = view
        self.w = <char*>&view[0] if view.shape[0] else NULL
        self.table = kernel_table(params.itemsize)
        self.loss = loss
        self.loss_parameter = loss_parameter
        self.seed = seed
        self.n_slots = len(widths)
        self.n_operations = len(operations)
        self.widths = <Py_ssize_t*>malloc(self.n_slots * sizeof(Py_ssize_t))
        self.keeps_pre = <bint*>malloc(self.n_slots * sizeof(bint))
        self.operations = <Operation*>malloc((self.n_operations + 1) * sizeof(Operation))
        if self.widths == NULL or self.keeps_pre == NULL or self.operations == NULL:
            raise MemoryError("no memory for the program")
        memset(self.operations, 0, (self.n_operations + 1) * sizeof(Operation))
        for i in range(self.n_slots):
            self.widths[i] = widths[i]
            self.keeps_pre[i] = False
        self.gradient_elements = 1
        self.work_per_row = 0
        for i, fields in enumerate(operations):
            op = &self.operations[i]
            op.source, op.target = fields["source"], fields["target"]
            op.n_in, op.n_out = self.widths[op.source], self.widths[op.target]
            op.weight, op.bias = -1, -1
            if fields["kind"] == "dense":
                op.kind = DENSE
                op.activation = fields["activation"]
                op.trainable = fields["trainable"]
                op.weight, op.bias = fields["weight"], fields["bias"]
                self.keeps_pre[op.target] = needs_input(op.activation)
                block = self._weight_tile(op)
                self.gradient_elements = max(
                    self.gradient_elements, block * op.n_out + round_up(op.n_out, 16) + 16)
                self.work_per_row += op.n_in * op.n_out
            elif fields["kind"] == "dropout":
                op.kind = DROPOUT
                op.rate, op.stream = fields["rate"], fields["stream"]
            else:
                raise ValueError(f"unknown operation {fields['kind']!r}")
            if i > 0 and op.kind == DENSE and self.operations[i - 1].kind == DENSE \
                    and self.operations[i - 1].activation == ACT_RELU \
                    and self.operations[i - 1].target == op.source:
                op.gates_source = True
                self.operations[i - 1].gated = True

    def __dealloc__(self):
        free(self.operations)
        free(self.widths)
        free(self.keeps_pre)

    # ------------------------------------------------------------------ how work is cut

    cdef Py_ssize_t _weight_tile(self, const Operation* op) noexcept nogil:
        """Weight rows in a tile: a multiple of every block height, within a fixed budget."""
        cdef Py_ssize_t rows = WEIGHT_TILE_ELEMENTS // op.n_out // 24 * 24
        rows = 48 if rows < 48 else rows
        return op.n_in if op.n_in < rows else rows

    cdef Py_ssize_t _row_tile(self, Py_ssize_t rows) noexcept nogil:
        """Rows in a tile: an even number of tiles of about equal height."""
        cdef Py_ssize_t height, pairs
        if rows * self.work_per_row < ONE_TILE_WORK and rows <= INFERENCE_ROWS:
            return rows
        height = 64 if self.work_per_row < (1 << 18) else (
            128 if self.work_per_row < (1 << 21) else 256)
        pairs = (rows + 2 * height - 1) // (2 * height)
        return (rows + 2 * pairs - 1) // (2 * pairs)

    # ------------------------------------------------------------------ one tile of rows

    cdef void _gather(self, Workspace space, const Batch* batch, Py_ssize_t first,
                      Py_ssize_t rows) noexcept nogil:
        cdef Py_ssize_t size = self.table.itemsize, i, at
        cdef Py_ssize_t n = self.widths[0] * size, k = batch.target_width * size
        if batch.order == NULL:
            return  # the batch is read where it lies
        for i in range(first, first + rows):
            at = <Py_ssize_t>batch.order[batch.start + i]
            memcpy(space.slots[0].value + i * n, batch.x + at * n, n)
            if batch.labels != NULL:
                space.labels[i] = batch.labels[at]
            else:
                memcpy(space.target + i * k, batch.target + at * k, k)
            if batch.weight != NULL:
                memcpy(space.weight + i * size, batch.weight + at * size, size)

    cdef void _forward_rows(self, Workspace space, const Batch* batch, Py_ssize_t first,
                            Py_ssize_t rows, bint training) noexcept nogil:
        cdef Py_ssize_t size = self.table.itemsize
        cdef Operation* op
        cdef Slot* source
        cdef Slot* target
        cdef Product p
        cdef char* z
        cdef char* a
        cdef int i
        for i in range(self.n_operations):
            op = &self.operations[i]
            source = &space.slots[op.source]
            target = &space.slots[op.target]
            a = target.value + first * op.n_out * size
            if op.kind == DROPOUT:
                if training:
                    self.table.dropout(
                        rows * op.n_out, <unsigned int>mix64(batch.key + op.stream),
                        <unsigned int>(first * op.n_out), op.rate,
                        source.value + first * op.n_in * size, a)
                else:
                    memcpy(a, source.value + first * op.n_in * size, rows * op.n_out * size)
                continue
            z = a if target.pre == NULL else target.pre + first * op.n_out * size
            p.rows, p.columns, p.depth = rows, op.n_out, op.n_in
            p.a = source.value + first * op.n_in * size
            p.a_row, p.a_step = op.n_in, 1
            p.b = self.w + op.weight * size
            p.b_step, p.b_column = op.n_out, 1
            p.c, p.c_row = z, op.n_out
            p.bias = self.w + op.bias * size if op.bias >= 0 else NULL
            p.accumulate = False
            p.epilogue = EPI_RELU if op.activation == ACT_RELU else EPI_NONE
            p.gate, p.gate_row = NULL, 0
            p.scratch = space.scratch
            matmul(self.table, &p)
            if op.activation != ACT_RELU and op.activation != ACT_IDENTITY:
                self.table.activation_forward(op.activation, rows, op.n_out, z, a)

    cdef double _loss_rows(self, Workspace space, const Batch* batch, Py_ssize_t first,
                           Py_ssize_t rows) noexcept nogil:
        """Weighted loss of the rows, not yet scaled; the last slot's delta is its gradient."""
        cdef Py_ssize_t size = self.table.itemsize
        cdef Slot* last = &space.slots[self.n_slots - 1]
        cdef Py_ssize_t at = first * last.width * size
        cdef const int* labels = NULL
        cdef const char* target = NULL
        cdef const char* weight = NULL
        if batch.order == NULL:
            if batch.labels != NULL:
                labels = batch.labels + batch.start + first
            else:
                target = batch.target + (batch.start + first) * batch.target_width * size
            if batch.weight != NULL:
                weight = batch.weight + (batch.start + first) * size
        else:
            if batch.labels != NULL:
                labels = space.labels + first
            else:
                target = space.target + first * batch.target_width * size
            if batch.weight != NULL:
                weight = space.weight + first * size
        return self.table.loss(
            self.loss, rows, last.width, last.value + at, labels, target, weight,
            batch.scale, self.loss_parameter, last.delta + at)

    cdef void _backward_rows(self, Workspace space, const Batch* batch, Py_ssize_t first,
                             Py_ssize_t rows, bint need_dx) noexcept nogil:
        """From the gradient by the last output to that by every layer's linear part."""
        cdef Py_ssize_t size = self.table.itemsize
        cdef Operation* op
        cdef Slot* source
        cdef Slot* target
        cdef Product p
        cdef char* d
        cdef int i = self.n_operations
        while i > 0:
            i -= 1
            op = &self.operations[i]
            source = &space.slots[op.source]
            target = &space.slots[op.target]
            d = target.delta + first * op.n_out * size
            if op.kind == DROPOUT:
                self.table.dropout(
                    rows * op.n_out, <unsigned int>mix64(batch.key + op.stream),
                    <unsigned int>(first * op.n_out), op.rate,
                    d, source.delta + first * op.n_in * size)
                continue
            if op.activation != ACT_IDENTITY and not op.gated:
                self.table.activation_backward(
                    op.activation, rows, op.n_out, d,
                    NULL if target.pre == NULL else target.pre + first * op.n_out * size,
                    target.value + first * op.n_out * size, d)
            if op.source == 0 and not need_dx:
                continue
            p.rows, p.columns, p.depth = rows, op.n_in, op.n_out
            p.a, p.a_row, p.a_step = d, op.n_out, 1
            p.b, p.b_step, p.b_column = self.w + op.weight * size, 1, op.n_out
            p.c, p.c_row = source.delta + first * op.n_in * size, op.n_in
            p.bias = NULL
            p.accumulate = False
            p.epilogue = EPI_GATE if op.gates_source else EPI_NONE
            p.gate, p.gate_row = source.value + first * op.n_in * size, op.n_in
            p.scratch = space.scratch
            matmul(self.table, &p)

    # ------------------------------------------------------------------ one tile of weights

    cdef void _weight_rows(self, Workspace space, const Operation* op, Py_ssize_t batch_rows,
                           Py_ssize_t first, Py_ssize_t rows, char* grads,
                           int optimizer, char* s1, char* s2,
                           const OptimizerSettings* settings) noexcept nogil:
        """Gradient of weight rows first..first + rows (and of the bias with the first tile).

        It goes to `grads`, laid out as the parameters, or if that is NULL to scratch; with
        `settings` the parameters are updated at once.
        """
        cdef Py_ssize_t size = self.table.itemsize
        cdef Slot* source = &space.slots[op.source]
        cdef Slot* target = &space.slots[op.target]
        cdef Py_ssize_t at = (op.weight + first * op.n_out) * size
        cdef char* g = grads + at if grads != NULL else space.gradient
        cdef char* g_bias
        cdef OptimizerSettings plain
        cdef Product p
        p.bias = NULL
        p.accumulate = False
        p.epilogue = EPI_NONE
        p.gate, p.gate_row = NULL, 0
        p.scratch = space.scratch
        p.c = g
        if op.n_out == 1:
            # A column of weights is a row in memory: compute dW' = dZ' X along it.
            p.rows, p.columns, p.depth = 1, rows, batch_rows
            p.a, p.a_row, p.a_step = target.delta, 1, 1
            p.b, p.b_step, p.b_column = source.value + first * size, op.n_in, 1
            p.c_row = rows
        else:
            p.rows, p.columns, p.depth = rows, op.n_out, batch_rows
            p.a, p.a_row, p.a_step = source.value + first * size, 1, op.n_in
            p.b, p.b_step, p.b_column = target.delta, op.n_out, 1
            p.c_row = op.n_out
        matmul(self.table, &p)
        if settings != NULL:
            self.table.optimizer(
                optimizer, rows * op.n_out, self.w + at, g,
                s1 + at if s1 != NULL else NULL, s2 + at if s2 != NULL else NULL, settings)
        if first > 0 or op.bias < 0:
            return
        at = op.bias * size
        g_bias = grads + at if grads != NULL else \
            space.gradient + round_up(rows * op.n_out, 16) * size
        self.table.column_sums(batch_rows, op.n_out, target.delta, op.n_out, g_bias)
        if settings != NULL:
            plain = settings[0]  # biases are not decayed
            plain.l2 = 0
            plain.decay = 0
            self.table.optimizer(
                optimizer, op.n_out, self.w + at, g_bias,
                s1 + at if s1 != NULL else NULL, s2 + at if s2 != NULL else NULL, &plain)

    cdef void _weights(self, Workspace space, Py_ssize_t batch_rows, char* grads,
                       int optimizer, char* s1, char* s2,
                       const OptimizerSettings* settings) noexcept nogil:
        cdef Operation* op
        cdef Py_ssize_t first, tile
        cdef int i = self.n_operations
        while i > 0:
            i -= 1
            op = &self.operations[i]
            if op.kind != DENSE or not op.trainable:
                continue
            tile = self._weight_tile(op)
            first = 0
            while first < op.n_in:
                self._weight_rows(space, op, batch_rows, first, min(tile, op.n_in - first),
                                  grads, optimizer, s1, s2, settings)
                first += tile

    # ------------------------------------------------------------------ steps

    cdef double _rows_phase(self, Workspace space, const Batch* batch) noexcept nogil:
        """Forward, loss and backward of a batch; returns the weighted, unscaled loss."""
        cdef Py_ssize_t tile = self._row_tile(batch.rows), first = 0, rows, n = 0, i
        cdef double total = 0
        while first < batch.rows:
            rows = min(tile, batch.rows - first)
            self._gather(space, batch, first, rows)
            self._forward_rows(space, batch, first, rows, True)
            space.tile_loss[n] = self._loss_rows(space, batch, first, rows)
            self._backward_rows(space, batch, first, rows, False)
            first += rows
            n += 1
        for i in range(n):
            total += space.tile_loss[i]
        return total

    cdef double _weight_sum(self, const Batch* batch) noexcept nogil:
        cdef double total = 0
        cdef Py_ssize_t i, at
        if batch.weight == NULL:
            return <double>batch.rows
        for i in range(batch.start, batch.start + batch.rows):
            at = <Py_ssize_t>batch.order[i] if batch.order != NULL else i
            if self.table.itemsize == sizeof(float):
                total += (<const float*>batch.weight)[at]
            else:
                total += (<const double*>batch.weight)[at]
        return total

    cdef Workspace _space(self, Py_ssize_t rows):
        if self.training_space is None or self.training_space.rows < rows:
            self.training_space = None  # release the old one first
            self.training_space = Workspace(self, rows, True)
        return self.training_space

    def run(self, Data data, order, Py_ssize_t start, Py_ssize_t batch_size,
            long long step, double seconds, tuple optimizer, s1, s2):
        """Train on mini-batches until the epoch or the time is over.

        Parameters
        ----------
        data : Data
            The examples.
        order : ndarray of int64 or None
            The epoch's order of rows; None takes them as they lie.
        start : int
            Place in the order to go on from.
        batch_size : int
            Rows a step; the last one may have fewer.
        step : int
            Steps the optimizer has made so far.
        seconds : float
            Stop after the step that ends later than this.
        optimizer : tuple
            ``(id, lr, l2, decay, beta1, beta2, eps)``.
        s1, s2 : ndarray or None
            Moments, laid out as the parameters.

        Returns
        -------
        start : int
            Place in the order to go on from.
        step : int
            Steps made so far.
        loss, weight : float
            Sums over the rows seen: of weight times loss, and of the weights.
        finite : bool
            False if a batch's loss was not finite: it was not applied and `start` points at it.
        """
        cdef Batch batch
        cdef OptimizerSettings h
        cdef int kind = optimizer[0]
        cdef const long long[::1] order_view
        cdef unsigned char[::1] s1_view, s2_view
        cdef char* m1 = NULL
        cdef char* m2 = NULL
        cdef Py_ssize_t n = data.rows, looked = 0, size = self.table.itemsize
        cdef double loss_sum = 0, weight_total = 0, loss, weight, end
        cdef bint finite = True
        cdef uint64_t mode
        cdef double beta1, beta2
        h.lr, h.l2, h.decay, h.beta1, h.beta2, h.eps = optimizer[1:7]
        beta1, beta2 = h.beta1, h.beta2
        if s1 is not None:
            s1_view = s1.view(np.uint8)
            m1 = <char*>&s1_view[0]
        if s2 is not None:
            s2_view = s2.view(np.uint8)
            m2 = <char*>&s2_view[0]
        data.fill(&batch)
        if order is not None:
            order_view = order
            batch.order = &order_view[0]
            n = order_view.shape[0]
        cdef Workspace space = self._enter(min(batch_size, n))
        self.forward_rows_kept = 0
        try:
            with nogil:
                mode = flush_denormals()
                end = seconds_now() + seconds
                while start < n:
                    batch.start = start
                    batch.rows = min(batch_size, n - start)
                    batch.key = stream_key(self.seed, 1, <unsigned long long>step)
                    weight = self._weight_sum(&batch)
                    batch.scale = 1.0 / weight if weight > 0 else 0.0
                    if batch.order == NULL:
                        space.slots[0].value = (
                            <char*>batch.x + start * self.widths[0] * size)
                    loss = self._rows_phase(space, &batch)
                    if not isfinite(loss):
                        finite = False
                        break
                    step += 1
                    h.step_scale = h.lr / (1.0 - pow(beta1, <double>step))
                    h.root_scale = 1.0 / sqrt(1.0 - pow(beta2, <double>step))
                    self._weights(space, batch.rows, NULL, kind, m1, m2, &h)
                    loss_sum += loss
                    weight_total += weight
                    start += batch.rows
                    looked += batch.rows * self.work_per_row
                    if looked > SLICE_CLOCK_WORK:
                        looked = 0
                        if seconds_now() > end:
                            break
                restore_denormals(mode)
        finally:
            space.slots[0].value = space.own_input
            self.busy = False
        return start, step, loss_sum, weight_total, finite

    cdef Workspace _enter(self, Py_ssize_t rows):
        if self.busy:
            raise RuntimeError(
                "this network is being trained by another thread; train one network from one "
                "thread at a time")
        cdef Workspace space = self._space(rows)
        self.busy = True
        return space

    def forward(self, x, unsigned long long step):
        """Forward in training mode, keeping what `backward` needs; returns the last output."""
        cdef const unsigned char[:, ::1] x_view = x.view(np.uint8)
        cdef Py_ssize_t rows = x.shape[0], size = self.table.itemsize, first = 0, tile
        cdef Slot* last
        cdef Batch batch
        cdef uint64_t mode
        cdef unsigned char[:, ::1] out_view
        memset(&batch, 0, sizeof(Batch))
        batch.rows = rows
        batch.key = stream_key(self.seed, 1, step)
        cdef Workspace space = self._enter(rows)
        last = &space.slots[self.n_slots - 1]
        out = np.empty((rows, last.width), self.params.dtype)
        out_view = out.view(np.uint8)
        try:
            with nogil:
                mode = flush_denormals()
                memcpy(space.slots[0].value, &x_view[0, 0], rows * self.widths[0] * size)
                tile = self._row_tile(rows)
                while first < rows:
                    self._forward_rows(space, &batch, first, min(tile, rows - first), True)
                    first += tile
                memcpy(&out_view[0, 0], last.value, rows * last.width * size)
                restore_denormals(mode)
        finally:
            self.busy = False
        self.forward_rows_kept = rows
        return out

    def backward(self, d_out, grads, unsigned long long step):
        """Gradients of a loss whose gradient by the last output is `d_out`.

        Fills `grads` and returns the gradient by the input of the last `forward`.
        """
        cdef const unsigned char[:, ::1] d_view = d_out.view(np.uint8)
        cdef unsigned char[::1] g_view = grads.view(np.uint8)
        cdef unsigned char[:, ::1] dx_view
        cdef Py_ssize_t rows = self.forward_rows_kept, size = self.table.itemsize
        cdef Py_ssize_t first = 0, tile
        cdef Slot* last
        cdef Batch batch
        cdef uint64_t mode
        memset(&batch, 0, sizeof(Batch))
        batch.rows = rows
        batch.key = stream_key(self.seed, 1, step)
        cdef Workspace space = self._enter(rows)
        dx = np.empty((rows, self.widths[0]), self.params.dtype)
        dx_view = dx.view(np.uint8)
        last = &space.slots[self.n_slots - 1]
        try:
            with nogil:
                mode = flush_denormals()
                memcpy(last.delta, &d_view[0, 0], rows * last.width * size)
                tile = self._row_tile(rows)
                while first < rows:
                    self._backward_rows(space, &batch, first, min(tile, rows - first), True)
                    first += tile
                self._weights(space, rows, <char*>&g_view[0], 0, NULL, NULL, NULL)
                memcpy(&dx_view[0, 0], space.slots[0].delta, rows * self.widths[0] * size)
                restore_denormals(mode)
        finally:
            self.busy = False
        return dx

    @property
    def rows_kept(self):
        """Rows of the last `forward`; 0 if there is none to go back from."""
        return self.forward_rows_kept

    def step(self, grads, long long step, tuple optimizer, s1, s2):
        """One update of all parameters from `grads`; `step` counts from 1."""
        cdef const unsigned char[::1] g_view = grads.view(np.uint8)
        cdef unsigned char[::1] s1_view, s2_view
        cdef char* m1 = NULL
        cdef char* m2 = NULL
        cdef OptimizerSettings h, plain
        cdef Operation* op
        cdef Py_ssize_t size = self.table.itemsize, at
        cdef int i, part, kind = optimizer[0]
        cdef uint64_t mode
        h.lr, h.l2, h.decay, h.beta1, h.beta2, h.eps = optimizer[1:7]
        h.step_scale = h.lr / (1.0 - pow(h.beta1, <double>step))
        h.root_scale = 1.0 / sqrt(1.0 - pow(h.beta2, <double>step))
        plain = h
        plain.l2, plain.decay = 0, 0
        if s1 is not None:
            s1_view = s1.view(np.uint8)
            m1 = <char*>&s1_view[0]
        if s2 is not None:
            s2_view = s2.view(np.uint8)
            m2 = <char*>&s2_view[0]
        with nogil:
            mode = flush_denormals()
            for i in range(self.n_operations):
                op = &self.operations[i]
                if op.kind != DENSE or not op.trainable:
                    continue
                for part in range(2):
                    if part == 1 and op.bias < 0:
                        break
                    at = (op.weight if part == 0 else op.bias) * size
                    self.table.optimizer(
                        kind, op.n_in * op.n_out if part == 0 else op.n_out,
                        self.w + at, &g_view[at],
                        m1 + at if m1 != NULL else NULL, m2 + at if m2 != NULL else NULL,
                        &h if part == 0 else &plain)
            restore_denormals(mode)

    def infer(self, x, int link, out):
        """Inference in chunks of rows through all layers; `link` is an activation id."""
        cdef Py_ssize_t rows = x.shape[0], size = self.table.itemsize
        cdef Py_ssize_t first = 0, n, width = self.widths[self.n_slots - 1]
        if rows == 0:
            return out
        cdef const unsigned char[:, ::1] x_view = x.view(np.uint8)
        cdef unsigned char[:, ::1] out_view = out.view(np.uint8)
        cdef char* to = <char*>&out_view[0, 0]
        cdef Workspace space = Workspace(self, min(rows, INFERENCE_ROWS), False)
        cdef Batch batch
        cdef uint64_t mode
        memset(&batch, 0, sizeof(Batch))
        with nogil:
            mode = flush_denormals()
            while first < rows:
                n = min(INFERENCE_ROWS, rows - first)
                space.slots[0].value = <char*>&x_view[0, 0] + first * self.widths[0] * size
                self._forward_rows(space, &batch, 0, n, False)
                self.table.activation_forward(
                    link, n, width, space.slots[self.n_slots - 1].value,
                    to + first * width * size)
                first += n
            restore_denormals(mode)
        return out

    def evaluate(self, Data data):
        """Sums over the rows: of weight times loss, and of the weights."""
        cdef Py_ssize_t size = self.table.itemsize, n = data.rows, first = 0
        cdef Workspace space = Workspace(self, min(n, INFERENCE_ROWS), False)
        cdef Batch batch
        cdef double loss = 0, weight
        cdef uint64_t mode
        data.fill(&batch)
        batch.start, batch.rows, batch.scale = 0, n, 1.0
        with nogil:
            mode = flush_denormals()
            weight = self._weight_sum(&batch)
            while first < n:
                batch.start = first
                batch.rows = min(INFERENCE_ROWS, n - first)
                space.slots[0].value = <char*>batch.x + first * self.widths[0] * size
                self._forward_rows(space, &batch, 0, batch.rows, False)
                loss += self._loss_rows(space, &batch, 0, batch.rows)
                first += batch.rows
            restore_denormals(mode)
        return loss, weight

    # ------------------------------------------------------------------ what others may ask

    def workspace_bytes(self, Py_ssize_t rows):
        """Bytes of the workspace that training with batches of `rows` needs."""
        return self._space(rows).nbytes

    def paths(self, Py_ssize_t rows):
        """For each dense operation, the path of its forward product: ``"own"`` or ``"blas"``."""
        cdef Product p
        cdef Operation* op
        cdef int i
        result = []
        for i in range(self.n_operations):
            op = &self.operations[i]
            if op.kind != DENSE:
                continue
            p.rows, p.columns, p.depth = self._row_tile(rows), op.n_out, op.n_in
            p.a_row, p.a_step, p.b_step, p.b_column, p.c_row = op.n_in, 1, op.n_out, 1, op.n_out
            result.append("blas" if uses_blas(self.table, &p) else "own")
        return result

    def shuffled(self, Py_ssize_t n, unsigned long long epoch, long long[::1] out):
        """Fill `out` with the order of rows of an epoch."""
        cdef unsigned long long key = stream_key(self.seed, 0, epoch)
        if n:
            with nogil:
                shuffle_indices(n, key, &out[0])


@cython.final
cdef class Data:
    """Validated examples as the engine reads them; keeps the arrays alive.

    Parameters
    ----------
    x : ndarray of shape (rows, n_in)
        Inputs, in the network's dtype.
    labels : ndarray of int32 of shape (rows,) or None
        Class numbers, or
    target : ndarray of shape (rows, n_out) or None
        targets in the network's dtype.
    weight : ndarray of shape (rows,) or None
        Weight of each row.
    """

    cdef readonly Py_ssize_t rows
    cdef readonly object x, labels, target, weight
    cdef const unsigned char[:, ::1] x_view
    cdef const int[::1] labels_view
    cdef const unsigned char[:, ::1] target_view
    cdef const unsigned char[::1] weight_view

    def __init__(self, x, labels, target, weight):
        self.x, self.labels, self.target, self.weight = x, labels, target, weight
        self.rows = x.shape[0]
        self.x_view = x.view(np.uint8)
        if labels is not None:
            self.labels_view = labels
        else:
            self.target_view = target.view(np.uint8)
        if weight is not None:
            self.weight_view = weight.view(np.uint8)

    cdef void fill(self, Batch* batch):
        memset(batch, 0, sizeof(Batch))
        batch.x = <const char*>&self.x_view[0, 0]
        if self.labels is not None:
            batch.labels = &self.labels_view[0]
        else:
            batch.target = <const char*>&self.target_view[0, 0]
            batch.target_width = self.target.shape[1]
        if self.weight is not None:
            batch.weight = <const char*>&self.weight_view[0]
