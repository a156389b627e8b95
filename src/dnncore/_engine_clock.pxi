# The clock of a profile: which cell stands for which part of which operation (`_clock.h`).

cdef enum Part:
    PART_FORWARD       # of any operation; for a dense one the product, bias and relu
    PART_ACTIVATION
    PART_SLOPE         # gradient by the linear part; of other operations all of backward
    PART_DX
    PART_DW
    PART_UPDATE
    PARTS

CLOCK_CELLS = ("off", "wait", "next", "gather", "loss", "update")
CLOCK_PARTS = ("forward", "activation", "slope", "dx", "dw", "update")


cdef inline int cell_of(int operation, int part) noexcept nogil:
    return CELLS + operation * PARTS + part


@cython.final
cdef class Clock:
    """Time of each worker by what it was doing, for a program whose attribute it becomes.

    Parameters
    ----------
    operations : int
        Operations of the program.
    workers : int
        Threads; runs with more are not timed.
    """

    cdef ClockCells cells
    cdef readonly int workers
    cdef Py_ssize_t n_cells
    cdef object memory
    cdef uint64_t first_tick
    cdef double first_second

    def __cinit__(self, int operations, int workers):
        self.workers = workers
        self.n_cells = CELLS + operations * PARTS
        self.cells.stride = round_up(CLOCK_HEAD + 2 * self.n_cells, 8)
        self.memory = np.zeros((workers + 1) * self.cells.stride, np.uint64)
        cdef size_t start = <size_t>address(self.memory)
        self.cells.workers = <uint64_t*>(start + (64 - start % 64))
        self.first_tick, self.first_second = ticks_now(), seconds_now()

    def read(self):
        """What has been counted so far.

        Returns
        -------
        seconds : ndarray of float64 of shape (workers, cells)
            Cells are those of `CLOCK_CELLS`, then for each operation those of `CLOCK_PARTS`.
        calls : ndarray of int64 of shape (workers, cells)
            How often each was begun.
        """
        cdef uint64_t tick = ticks_now()
        cdef double second = seconds_now()
        cdef Py_ssize_t worker, cell
        cdef const uint64_t* at
        each = (second - self.first_second) / <double>max(tick - self.first_tick, <uint64_t>1)
        seconds = np.zeros((self.workers, self.n_cells))
        calls = np.zeros((self.workers, self.n_cells), np.int64)
        for worker in range(self.workers):
            at = self.cells.workers + worker * self.cells.stride + CLOCK_HEAD
            for cell in range(self.n_cells):
                seconds[worker, cell] = each * <double>at[2 * cell]
                calls[worker, cell] = at[2 * cell + 1]
        seconds[:, 0] = 0.0
        return seconds, calls
