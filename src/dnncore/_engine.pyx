"""The engine: a network as a flat program over one parameter buffer.

A ``Program`` is a list of operations between *slots*. A slot holds one layer's output for every
row of the batch (``value``), the activation's derivative if the output does not tell it (``pre``),
and the gradient of the loss by that output (``delta``). A training step has two phases:

1. rows: the batch is cut into tiles of rows; a tile is gathered, sent through every operation,
   through the loss and back to the first layer while it is in cache. Only batch normalisation,
   which needs sums over the whole batch, cuts this way into stages;
2. weights: each layer's weights are cut into tiles of rows; a tile's gradient is summed over the
   whole batch and its parameters are updated at once, while both are in cache.

A batch that is large for its network is worked on in groups of rows instead, which sum a gradient
each (``_engine_groups.pxi``). What else a step may have to do, and when, is in
``_engine_update.pxi``.

Tiles are cut by shape, never by the number of threads, and within a phase they touch disjoint
memory: whoever computes a tile, in whatever order, the result has the same bits.

Nothing is allocated and no Python object is touched while steps run. Callers validate.
``_engine_tiles.pxi`` and ``_engine_layers.pxi`` hold the work, ``_engine_compile.pxi`` cuts it,
``_engine_phases.pxi`` puts it in order, that of predictions ``_engine_predict.pxi``; ``_team.h``
brings the threads, ``_engine_space.pxi`` the memory, ``_engine_data.pxi`` the examples.
"""

import numpy as np

from dnncore._memory import aligned_bytes

cimport cython
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_FORMAT,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from libc.math cimport isfinite, sqrt
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from dnncore._kernels cimport (
    kernel_table,
    matmul,
    may_use_blas,
    mix64,
    needs_input,
    shuffle_indices,
    stream_key,
    uses_blas,
)
from dnncore._table cimport (
    ACT_IDENTITY,
    ACT_RELU,
    ACT_SOFTMAX,
    EPI_GATE,
    EPI_NONE,
    EPI_RELU,
    KernelTable,
    OptimizerSettings,
    Product,
    SparseRows,
)


cdef extern from "_clock.h" nogil:
    ctypedef unsigned long long uint64_t
    ctypedef struct ClockCells "dnn_clock":
        uint64_t* workers
        size_t stride
    enum:
        CELL_GATHER "DNN_CELL_GATHER"
        CELL_LOSS "DNN_CELL_LOSS"
        CELL_UPDATE "DNN_CELL_UPDATE"
        CELLS "DNN_CELLS"
        CLOCK_HEAD "DNN_CLOCK_HEAD"
    uint64_t ticks_now "dnn_ticks"() noexcept
    # From now on the worker's time goes to this cell.
    void begin "dnn_begin"(const ClockCells* clock, int worker, int cell) noexcept


cdef extern from "_team.h" nogil:
    uint64_t flush_denormals "dnn_flush_denormals"() noexcept
    void restore_denormals "dnn_set_float_mode"(uint64_t mode) noexcept
    double seconds_now "dnn_seconds"() noexcept
    void prefetch_line "DNN_PREFETCH_LINE"(const char* p) noexcept
    ctypedef void (*dnn_tile)(void* job, int worker, uint64_t tile) noexcept
    ctypedef uint64_t (*dnn_next)(void* job) noexcept
    void run_phases "dnn_run_phases"(
        int threads, uint64_t tiles, dnn_tile tile, dnn_next next, void* job,
        const ClockCells* clock) noexcept
    const int TEAM "DNN_HAVE_TEAM"
    const Py_ssize_t MAX_TILES "DNN_MAX_TILES"


cdef inline Py_ssize_t round_up(Py_ssize_t n, Py_ssize_t multiple) noexcept nogil:
    return (n + multiple - 1) // multiple * multiple


include "_engine_clock.pxi"
include "_engine_tiles.pxi"
include "_engine_compile.pxi"
include "_engine_layers.pxi"
include "_engine_phases.pxi"
include "_engine_groups.pxi"
include "_engine_predict.pxi"
include "_engine_update.pxi"

MAX_THREADS = 64 if TEAM else 1

cdef object np_ndarray = np.ndarray
cdef object np_empty = np.empty
cdef Py_ssize_t FEW_ROWS = 256
cdef Py_ssize_t FEW_WORK = 2500000   # multiply-adds: some tens of microseconds
cdef Py_ssize_t FEW_WORK_OF_BLAS = 100000  # which has no threads for so little


include "_engine_space.pxi"
include "_engine_data.pxi"


@cython.final
cdef class Program:
    """A network compiled to operations over one flat parameter buffer.

    Built by ``Network``; ``program.py`` is the one place where layers become operations.

    Parameters
    ----------
    params : ndarray of shape (n_params,)
        The parameter buffer, float32 or float64; the program keeps it and writes to it.
    widths : list of int
        Width of each slot; slot 0 is the network's input.
    operations : list of dict
        ``kind`` (a key of ``KINDS``), ``source``, ``target`` and the kind's fields.
    loss : int
        Id of the loss.
    loss_parameters : sequence of float
        What `_kernels.LOSS_PARAMETERS` lists; several for several quantiles.
    seed : int
        Seed of shuffles and masks.
    """

    cdef Net net
    cdef readonly object params
    cdef unsigned long long seed
    cdef object dtype
    cdef Workspace training_space
    cdef Workspace few_space           # used only while the GIL is held
    cdef Py_ssize_t forward_rows_kept  # rows of the last `forward`, for `backward`
    cdef object whole, squares         # of steps that need the whole gradient
    cdef Py_ssize_t forward_rows_new   # ... if no `step` has used its statistics yet
    cdef bint busy
    cdef public Clock clock            # told where the time of training goes, or None

    def __cinit__(self, params, list widths, list operations, int loss, loss_parameters,
                  unsigned long long seed):
        cdef Net* net = &self.net
        cdef Py_ssize_t i
        self.params = params
        self.dtype = params.dtype
        self.seed = seed
        net.w = address(params)
        net.n_params = params.size
        net.table = kernel_table(params.itemsize)
        net.loss, net.n_loss_parameters = loss, len(loss_parameters)
        net.n_slots, net.n_operations = len(widths), len(operations)
        net.widths = <Py_ssize_t*>malloc(net.n_slots * sizeof(Py_ssize_t))
        net.keeps_pre = <bint*>malloc(net.n_slots * sizeof(bint))
        net.kept_elements = <Py_ssize_t*>malloc(net.n_slots * sizeof(Py_ssize_t))
        net.operations = <Operation*>malloc((net.n_operations + 1) * sizeof(Operation))
        net.loss_parameters = <double*>malloc((net.n_loss_parameters + 1) * sizeof(double))
        if (net.widths == NULL or net.keeps_pre == NULL or net.kept_elements == NULL
                or net.operations == NULL or net.loss_parameters == NULL):
            raise MemoryError("no memory for the program")
        for i in range(net.n_loss_parameters):
            net.loss_parameters[i] = loss_parameters[i]
        memset(net.operations, 0, (net.n_operations + 1) * sizeof(Operation))
        for i in range(net.n_slots):
            net.widths[i] = widths[i]
            net.keeps_pre[i] = False
            net.kept_elements[i] = 0
        read_operations(net, operations)
        cut_stages(net)
        cut_weights(net)
        cut_columns(net)
        plan_groups(net)

    def __dealloc__(self):
        free(self.net.operations)
        free(self.net.widths)
        free(self.net.keeps_pre)
        free(self.net.kept_elements)
        free(self.net.stages)
        free(self.net.loss_parameters)
        free(self.net.weight_tiles)
        free(self.net.column_tiles)

    cdef Workspace _enter_training(self, Py_ssize_t rows, int threads, bint sparse):
        """As `_enter`, for steps with batches of up to so many rows."""
        if sparse:
            return self._enter(rows, threads, True)
        return self._enter(
            slot_rows(&self.net, rows, threads), threads, False, row_groups(&self.net, rows))

    cdef Workspace _enter(self, Py_ssize_t rows, int threads, bint sparse=False,
                          Py_ssize_t groups=0):
        """The training workspace, for one caller at a time; set `busy` False when done."""
        cdef Workspace space = self.training_space
        if sparse:
            self._check_sparse()
        if self.busy:
            raise RuntimeError(
                "this network is being trained by another thread; train one network from one "
                "thread at a time")
        if (space is None or space.space.rows < rows or space.workers < threads
                or space.space.groups < groups or space.sparse != sparse):
            self.training_space = None  # release the old one first
            self.forward_rows_kept = self.forward_rows_new = 0
            space = Workspace(
                self, rows, threads, True, max(row_tiles(&self.net, rows), groups), sparse,
                groups)
            self.training_space = space
        self.busy = True
        space.space.shared = threads > 1
        space.space.clock = NULL
        if self.clock is not None and threads <= self.clock.workers:
            space.space.clock = &self.clock.cells
        return space

    cdef int _check_sparse(self) except -1:
        if self.net.n_operations == 0 or self.net.operations[0].kind != DENSE:
            raise ValueError(
                "a sparse input needs a network that starts with a Dense layer; make it dense "
                "with X.toarray()")
        return 0

    def run(self, Data data, order, Position position, Py_ssize_t batch_size, double seconds,
            long long max_steps, tuple optimizer, s1, s2, int threads, tuple objective=None,
            Py_ssize_t part_rows=0, Average average=None, double[:, ::1] ended=None):
        """Train on mini-batches until the epoch, the time or the number of steps is over.

        With `ended` it goes on with the next epoch instead, so many times.

        Parameters
        ----------
        data : Data
            The examples.
        order : ndarray of int64 or None
            The epoch's order of rows; None takes them as they lie. For a further epoch it is
            drawn anew.
        position : Position
            Where to go on from; written to.
        batch_size : int
            Rows a step; the last one may have fewer.
        seconds : float
            Stop after the step that ends later than this.
        max_steps : int
            Stop after as many steps; 0 sets no limit.
        optimizer : tuple of int and ndarray of shape (steps, 8)
            Id, and ``(lr, l2, decay, beta1, beta2, eps, clip_value, clip_norm)`` of each step: at
            most as many are made.
            A single row is good for any number of steps.
        s1, s2 : ndarray or None
            Moments, laid out as the parameters.
        threads : int
            Threads to use, this one included.
        objective : tuple, optional
            ``(loss_factor, gradient_factor, penalty)``: minimise on every batch, whose weights
            have the sum s, ``loss_factor * mean loss + penalty / (2 s) * sum(W**2)``, given
            that its gradient by the outputs is ``gradient_factor`` times the loss's. It is
            averaged over the rows, whatever their weights. Steps go on when it is not finite,
            and Adam adds eps before its bias correction.
        part_rows : int
            If not 0, a step's gradient is added up over mini-batches of so many rows.
        average : Average, optional
            What keeps an average of the parameters.
        ended : ndarray of shape (epochs, 2), optional
            Filled with loss and seconds of each epoch that the run goes beyond;
            ``position.epoch`` counts them.
        """
        cdef Training t
        cdef Objective aim
        cdef long long[::1] order_view
        cdef uint64_t mode
        memset(&t, 0, sizeof(Training))
        data.fill(&t.batch)
        t.n = data.rows
        t.is_sparse = data.sparse is not None
        if objective is not None:
            aim.loss_factor, aim.gradient_factor, aim.penalty = objective
            t.objective = &aim
            t.settings.eps_hat = True
        if order is not None:
            order_view = order
            t.order = &order_view[0]
            t.batch.order = t.order
            t.n = order_view.shape[0]
        t.batch.start = position.start
        t.batch_size = batch_size
        cdef const double[:, ::1] settings = optimizer[1]
        t.optimizer = optimizer[0]
        take_settings(&t.settings, &settings[0, 0])
        t.s1, t.s2 = self._buffer(s1), self._buffer(s2)
        t.step, t.seed = position.step, self.seed
        t.max_step = t.step + max_steps if max_steps > 0 else -1
        if settings.shape[0] > 1:
            t.schedule, t.first_step = &settings[0, 0], t.step
            if t.max_step < 0 or t.max_step > t.step + settings.shape[0]:
                t.max_step = t.step + settings.shape[0]
        t.loss_sum, t.weight_total = position.loss_sum, position.weight_sum
        t.finite = True
        t.epoch = position.epoch
        if ended is not None and ended.shape[0] > 0:
            t.ended, t.more_epochs = &ended[0, 0], ended.shape[0]
        if average is not None:
            t.average = &average.c
        if part_rows > 0 and part_rows < min(batch_size, t.n):
            t.part_rows = part_rows
        if t.part_rows > 0 or clips_norm(settings):
            self._make_squares()
            if self.whole is None:
                self.whole = np.zeros_like(self.params)
            t.whole, t.squares = address(self.whole), <double*>address(self.squares)
        t.has_late = t.whole != NULL or t.average != NULL or self.net.n_column_tiles > 0
        cdef Workspace space = self._enter_training(
            t.part_rows if t.part_rows > 0 else min(batch_size, t.n), threads, t.is_sparse)
        self.forward_rows_kept = self.forward_rows_new = 0
        t.net, t.space = &self.net, &space.space
        space.space.tile_squares = (
            space.squares if t.objective != NULL and aim.penalty > 0 else NULL)
        with nogil:
            mode = flush_denormals()
            t.epoch_began = seconds_now()
            t.end = t.epoch_began + seconds
            run_phases(threads, begin_batch(&t), training_tile, training_next, &t,
                       space.space.clock)
            restore_denormals(mode)
        # No Python code runs in between, and so no handler of a signal.
        position.start, position.step, position.epoch = t.batch.start, t.step, t.epoch
        position.loss_sum, position.weight_sum = t.loss_sum, t.weight_total
        position.finite = t.finite
        self.busy = False

    cdef _make_squares(self):
        if self.squares is None:
            self.squares = np.zeros(max(self.net.n_weight_tiles, 1))

    def loss_gradient(self, Data data, grads, int threads, double gradient_factor=1.0):
        """Loss over all rows, and its gradient by the parameters.

        Parameters
        ----------
        data : Data
            The examples, one batch.
        grads : ndarray of shape (n_params,)
            Filled with `gradient_factor` times the gradient of the mean loss; places that
            belong to no trainable parameter are left alone.
        threads : int
            Threads to use, this one included.
        gradient_factor : float
            See above.

        Returns
        -------
        loss, weight : float
            Sums over the rows: of weight times loss, and of the weights.
        """
        cdef Training t
        cdef Objective aim
        cdef uint64_t mode
        memset(&t, 0, sizeof(Training))
        data.fill(&t.batch)
        t.n = t.batch_size = data.rows
        t.is_sparse = data.sparse is not None
        aim.loss_factor, aim.gradient_factor, aim.penalty = 1.0, gradient_factor, 0.0
        t.objective = &aim
        t.grads = self._buffer(grads)
        t.seed = self.seed
        cdef Workspace space = self._enter_training(t.n, threads, t.is_sparse)
        self.forward_rows_kept = self.forward_rows_new = 0
        t.net, t.space = &self.net, &space.space
        space.space.tile_squares = NULL
        try:
            with nogil:
                mode = flush_denormals()
                run_phases(threads, begin_batch(&t), training_tile, training_next, &t,
                           space.space.clock)
                restore_denormals(mode)
        finally:
            self.busy = False
        return t.loss_sum / t.n * t.batch_weight, t.batch_weight

    def forward(self, x, unsigned long long step, int threads):
        """Forward in training mode, keeping what `backward` needs; returns the last output."""
        cdef const char* x_address = read_address(x)
        cdef Py_ssize_t rows = x.shape[0], size = self.net.table.itemsize
        cdef Py_ssize_t width = self.net.widths[self.net.n_slots - 1]
        cdef uint64_t mode
        cdef Pass t
        cdef Workspace space = self._enter(rows, threads)
        try:
            out = np.empty((rows, width), self.params.dtype)
            out_address = address(out)
            memset(&t, 0, sizeof(Pass))
            t.net, t.space, t.rows = &self.net, &space.space, rows
            t.key = stream_key(self.seed, 1, step)
            t.n_tiles = row_tiles(t.net, rows)
            with nogil:
                mode = flush_denormals()
                memcpy(t.space.slots[0].value, x_address, rows * self.net.widths[0] * size)
                run_phases(threads, <uint64_t>t.n_tiles, forward_tile, forward_next, &t,
                           t.space.clock)
                memcpy(out_address, t.space.slots[self.net.n_slots - 1].value,
                       rows * width * size)
                restore_denormals(mode)
        finally:
            self.busy = False
        self.forward_rows_kept = self.forward_rows_new = rows
        return out

    def backward(self, d_out, grads, unsigned long long step, int threads):
        """Gradients of a loss whose gradient by the last output is `d_out`.

        Fills `grads` and returns the gradient by the input of the last `forward`.
        """
        cdef const char* d_address = read_address(d_out)
        cdef Py_ssize_t rows = self.forward_rows_kept, size = self.net.table.itemsize
        cdef Py_ssize_t width = self.net.widths[self.net.n_slots - 1]
        cdef uint64_t mode
        cdef Pass t
        if threads > self.training_space.workers:
            threads = self.training_space.workers  # a larger workspace would lose the forward
        cdef Workspace space = self._enter(rows, threads)
        try:
            dx = np.empty((rows, self.net.widths[0]), self.params.dtype)
            dx_address = address(dx)
            memset(&t, 0, sizeof(Pass))
            t.net, t.space, t.rows = &self.net, &space.space, rows
            t.key = stream_key(self.seed, 1, step)
            t.n_tiles = row_tiles(t.net, rows)
            t.grads = self._buffer(grads)
            t.stage = self.net.loss_stage
            with nogil:
                mode = flush_denormals()
                memcpy(t.space.slots[self.net.n_slots - 1].delta, d_address,
                       rows * width * size)
                run_phases(threads, <uint64_t>t.n_tiles, backward_tile, backward_next, &t,
                           t.space.clock)
                memcpy(dx_address, t.space.slots[0].delta, rows * self.net.widths[0] * size)
                restore_denormals(mode)
        finally:
            self.busy = False
        return dx

    @property
    def rows_kept(self):
        """Rows of the last `forward`; 0 if there is none to go back from."""
        return self.forward_rows_kept

    def kept(self, int slot):
        """Copy of what the last `forward` put into a slot; slot 0 is the input."""
        cdef Py_ssize_t rows = self.forward_rows_kept
        if rows == 0 or not 0 <= slot < self.net.n_slots:
            raise IndexError(f"nothing is kept in slot {slot}")
        cdef Py_ssize_t width = self.net.widths[slot]
        out = np.empty((rows, width), self.dtype)
        memcpy(address(out), self.training_space.space.slots[slot].value,
               rows * width * self.net.table.itemsize)
        return out

    def step(self, grads, Position position, tuple optimizer, s1, s2, Average average=None):
        """One update of all parameters from `grads`; see `run`."""
        cdef const char* g = self._buffer(grads)
        cdef char* m1 = self._buffer(s1)
        cdef char* m2 = self._buffer(s2)
        cdef OptimizerSettings h
        cdef Averaging* kept = &average.c if average is not None else NULL
        cdef const Operation* op
        cdef int i, kind = optimizer[0]
        cdef uint64_t mode
        cdef const double[:, ::1] settings = optimizer[1]
        memset(&h, 0, sizeof(OptimizerSettings))
        take_settings(&h, &settings[0, 0])
        self._make_squares()
        cdef double* squares = <double*>address(self.squares)
        position.step += 1
        self.net.table.optimizer_terms(kind, position.step, &h)
        with nogil:
            mode = flush_denormals()
            update_all(&self.net, g, squares, kind, m1, m2, &h, kept, position.step)
            for i in range(self.net.n_operations):
                op = &self.net.operations[i]
                if needs_batch(op) and self.forward_rows_new > 0:
                    update_running(&self.net, &self.training_space.space, op,
                                   self.forward_rows_new, op.momentum)
            restore_denormals(mode)
        self.forward_rows_new = 0

    def settle(self, Py_ssize_t rows):
        """Let running statistics be those of the last batch, whose rows are all there are."""
        cdef int i
        for i in range(self.net.n_operations):
            if needs_batch(&self.net.operations[i]):
                update_running(&self.net, &self.training_space.space, &self.net.operations[i],
                               rows, 1.0)

    def infer(self, x, int link, out, int threads):
        """Outputs for all rows, after the activation with id `link`."""
        cdef Inference t
        if x.shape[0] == 0:
            return out
        memset(&t, 0, sizeof(Inference))
        t.batch.x = read_address(x)
        t.rows, t.link, t.out = x.shape[0], link, address(out)
        self._infer(&t, threads)
        return out

    def infer_sparse(self, Data data, int link, out, int threads):
        """The same for the sparse inputs of `data`."""
        cdef Inference t
        memset(&t, 0, sizeof(Inference))
        data.fill(&t.batch)
        t.rows, t.link, t.out = data.rows, link, address(out)
        if t.rows:
            self._infer(&t, threads)
        return out

    def infer_few(self, x, int link):
        """Outputs for a handful of rows, quickly; None if `x` needs the checks of `infer`.

        Takes only what is beyond doubt: a C-contiguous, aligned, finite array of the network's
        dtype and width, little enough that threads, BLAS and releasing the GIL are no matter.
        """
        cdef Net* net = &self.net
        cdef Py_ssize_t size = net.table.itemsize, rows
        cdef Py_ssize_t width = net.widths[net.n_slots - 1]
        cdef Py_buffer given, result
        cdef uint64_t mode
        cdef bint fit
        if type(x) is not np_ndarray:
            return None
        try:
            PyObject_GetBuffer(x, &given, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        except (ValueError, BufferError):
            return None
        rows = given.shape[0] if given.ndim == 2 else 0
        fit = (
            1 <= rows <= FEW_ROWS and given.shape[1] == net.widths[0]
            and rows * net.work_per_row <= FEW_WORK
            and not (may_use_blas(net.table) and rows * net.work_per_row > FEW_WORK_OF_BLAS)
            and given.itemsize == size and <size_t>given.buf % size == 0
            and given.format[0] == (c'f' if size == sizeof(float) else c'd')
            and given.format[1] == 0
            and net.table.all_finite(rows * net.widths[0], given.buf)
        )
        if not fit:
            PyBuffer_Release(&given)
            return None
        try:
            if self.few_space is None:
                self.few_space = Workspace(
                    self, min(FEW_ROWS, FEW_WORK // max(<Py_ssize_t>1, net.work_per_row)), 1,
                    False, 0)
            out = np_empty((rows, width), self.dtype)
            PyObject_GetBuffer(out, &result, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
        except BaseException:
            PyBuffer_Release(&given)
            raise
        mode = flush_denormals()
        forward_rows(net, &self.few_space.space, <const char*>given.buf, NULL, 0, 0, rows, 0, False,
                     0, net.n_operations, 0)
        net.table.activation_forward(
            link, rows, width, self.few_space.space.slots[net.n_slots - 1].value, result.buf)
        restore_denormals(mode)
        PyBuffer_Release(&given)
        PyBuffer_Release(&result)
        return out

    def evaluate(self, Data data, int threads, int link=0, out=None):
        """Sums over the rows: of weight times loss, and of the weights; `out`: see `infer`."""
        cdef Inference t
        cdef Workspace space
        cdef double loss = 0, weight
        cdef Py_ssize_t i
        memset(&t, 0, sizeof(Inference))
        data.fill(&t.batch)
        t.rows = t.batch.rows = data.rows
        t.batch.scale = 1.0
        if out is not None:
            t.link, t.out = link, address(out)
        t.wants_loss = True
        weight = weight_sum(&self.net, &t.batch)
        space = self._infer(&t, threads)
        for i in range((t.rows + t.chunk - 1) // t.chunk):
            loss += space.space.tile_loss[i]
        return loss, weight

    cdef char* _buffer(self, object array) except? NULL:
        """Address of an array that is laid out as the parameters; NULL for None."""
        if array is not None and (array.size != self.params.size or array.dtype != self.dtype):
            raise ValueError(
                f"Gradients and moments must be {self.params.size} numbers of {self.dtype}, as the "
                f"parameters are; got {array.size} of {array.dtype}.")
        return address(array)

    cdef Workspace _infer(self, Inference* t, int threads):
        cdef Py_ssize_t chunks
        cdef uint64_t mode
        if t.batch.x == NULL:
            self._check_sparse()
        cut_inference(&self.net, t)
        chunks = (t.rows + t.chunk - 1) // t.chunk
        if not t.by_columns:
            threads = <int>min(threads, chunks)
        cdef Workspace space = Workspace(
            self, t.chunk if t.by_columns else t.chunk * threads, threads, False,
            chunks if t.wants_loss else 0)
        t.net, t.space = &self.net, &space.space
        with nogil:
            mode = flush_denormals()
            run_phases(threads, inference_tiles(t), inference_tile, inference_next, t, NULL)
            restore_denormals(mode)
        return space

    # ------------------------------------------------------------------ what others may ask

    @property
    def may_use_blas(self):
        """Whether any product, however large, would be left to BLAS."""
        return bool(may_use_blas(self.net.table))

    @property
    def work_per_row(self):
        """Multiply-adds of one forward pass of one row."""
        return self.net.work_per_row

    def workspace_bytes(self, Py_ssize_t rows, int threads, bint by_hand=False):
        """Bytes of the workspace that training with batches of `rows` needs.

        With `by_hand`, that of ``forward`` and ``backward``.
        """
        cdef Workspace space = (
            self._enter(rows, threads) if by_hand else self._enter_training(rows, threads, False))
        self.busy = False
        return space.nbytes

    def groups(self, Py_ssize_t rows):
        """Groups that a batch of `rows` is worked on in; 0: in none."""
        return row_groups(&self.net, rows)

    def paths(self, Py_ssize_t rows, bint weights=False):
        """For each dense operation, the path of its product: ``"own"`` or ``"blas"``.

        That of forward, which is also that of the gradient by the input; with `weights` that of
        the gradient by the weights.
        """
        cdef Product p
        cdef const Operation* op
        cdef Py_ssize_t groups = row_groups(&self.net, rows)
        cdef Py_ssize_t height = tile_height(
            rows, groups if groups > 0 else row_tiles(&self.net, rows), 0)
        cdef Py_ssize_t summed = rows  # by one product of a gradient
        cdef int i
        if groups > 0:
            height = summed = min(height, self.net.piece)
        result = []
        for i in range(self.net.n_operations):
            op = &self.net.operations[i]
            if op.kind != DENSE:
                continue
            p.rows, p.columns, p.depth = height, op.n_out, op.n_in
            p.a_row, p.a_step, p.b_step, p.b_column, p.c_row = op.n_in, 1, op.n_out, 1, op.n_out
            if weights:
                p.rows = op.n_in if groups > 0 else op.tile
                p.depth, p.a_row, p.a_step = summed, 1, op.n_in
            result.append("blas" if uses_blas(self.net.table, &p) else "own")
        return result

    def shuffled(self, Py_ssize_t n, unsigned long long epoch, long long[::1] out):
        """Fill `out` with the order of rows of an epoch."""
        cdef unsigned long long key = order_key(self.seed, epoch)
        if n:
            with nogil:
                shuffle_indices(n, key, &out[0])
