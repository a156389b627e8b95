# The memory of a program at work: one arena, cut into the buffers of `Space`.

@cython.final
cdef class Workspace:
    """Buffers of a program for a number of rows and of workers."""

    cdef Space space
    cdef double* squares             # where `tile_squares` go, if they are wanted
    cdef object arena
    cdef readonly int workers
    cdef bint sparse                 # without room for the gathered input
    cdef readonly Py_ssize_t nbytes

    def __cinit__(self, Program program, Py_ssize_t rows, int workers, bint training,
                  Py_ssize_t losses, bint sparse=False, Py_ssize_t groups=0):
        cdef Net* net = &program.net
        cdef Space* s = &self.space
        cdef Py_ssize_t size = net.table.itemsize, wide, i
        cdef Py_ssize_t total = 0
        cdef char* base = NULL
        cdef int sweep
        self.workers = workers
        self.sparse = sparse
        s.rows, s.groups, s.shared, s.batch_row = rows, groups, False, 0
        s.scratch_bytes = round_up(scratch_elements(net, rows, training, groups > 0) * size, 64)
        s.slots = <Slot*>malloc(net.n_slots * sizeof(Slot))
        if s.slots == NULL:
            raise MemoryError("no memory for the workspace")
        share_deltas(net, s.slots)
        # Two sweeps over the same list of buffers: one adds up their sizes, one places them.
        for sweep in range(2):
            total = 0
            for i in range(net.n_slots):
                wide = rows * net.widths[i] * size
                if i == 0 and sparse:
                    wide = 0
                # Slot 0 is the gathered input; inference reads the caller's rows instead.
                s.slots[i].value = place(base, &total, wide if training or i > 0 else 0)
                s.slots[i].pre = NULL
                if training and net.keeps_pre[i]:
                    s.slots[i].pre = place(base, &total, wide)
                s.slots[i].kept = NULL
                if training and net.kept_elements[i] > 0:
                    s.slots[i].kept = place(base, &total, rows * net.kept_elements[i] * size)
                s.slots[i].delta = NULL
                if s.slots[i].owner == i and (
                    training or i == s.slots[net.n_slots - 1].owner
                ):
                    s.slots[i].delta = place(base, &total, wide)
            s.labels = <int*>place(base, &total, rows * sizeof(int) if training else 0)
            s.target = place(
                base, &total, rows * net.widths[net.n_slots - 1] * size if training else 0)
            s.weight = place(base, &total, rows * size if training else 0)
            s.tile_loss = <double*>place(base, &total, losses * sizeof(double))
            self.squares = <double*>place(
                base, &total, net.n_weight_tiles * sizeof(double) if training else 0)
            s.tile_squares = NULL
            s.scratch = place(base, &total, workers * s.scratch_bytes)
            s.gradient = place(
                base, &total, workers * net.gradient_elements * size if training else 0)
            s.statistics = place(
                base, &total, net.statistics_elements * size if training else 0)
            s.parts = place(
                base, &total, losses * net.parts_elements * size if training else 0)
            s.group_gradients = place(base, &total, groups * group_stride(net) * size)
            if sweep == 0:
                try:
                    # A prediction's is soon given back, and malloc has it at hand for the next.
                    self.arena = (
                        aligned_bytes(total) if training else np_empty(total + 64, np.uint8))
                except MemoryError:
                    raise MemoryError(
                        f"no memory for a workspace of {total} bytes ({rows} rows); "
                        "use a smaller batch_size") from None
                base = address(self.arena)
                base += -<size_t>base % 64
        for i in range(net.n_slots):
            s.slots[i].delta = s.slots[s.slots[i].owner].delta
        if training:
            memset(s.statistics, 0, net.statistics_elements * size)
        self.nbytes = total

    def __dealloc__(self):
        free(self.space.slots)


cdef Py_ssize_t scratch_elements(
    const Net* net, Py_ssize_t rows, bint training, bint grouped
) noexcept nogil:
    """What the greatest product needs that a worker makes of up to so many rows."""
    cdef const Operation* op
    cdef Py_ssize_t found = 0, weight_rows
    cdef int i
    for i in range(net.n_operations):
        op = &net.operations[i]
        if op.kind != DENSE:
            continue
        found = max(found, net.table.product_scratch(rows, op.n_out, op.n_in, False))
        if training:
            found = max(found, net.table.product_scratch(rows, op.n_in, op.n_out, False))
            weight_rows = op.n_in if grouped else op.tile
            found = max(found, (
                net.table.product_scratch(weight_rows, op.n_out, rows, True) if op.n_out > 1
                else net.table.product_scratch(1, weight_rows, rows, True)))
    return found


cdef char* place(char* base, Py_ssize_t* total, Py_ssize_t nbytes) noexcept:
    """Next piece of an arena, on its own cache lines; NULL while only sizes are added up."""
    cdef Py_ssize_t at = total[0]
    total[0] = at + round_up(nbytes, 64)
    return base + at if base != NULL else NULL
