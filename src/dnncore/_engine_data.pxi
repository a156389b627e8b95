# What callers hand to the engine: examples, and how far training has come.

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
    indptr, indices : ndarray of int64 of shape (rows + 1,), of int32 of shape (nnz,), optional
        If given, the inputs are sparse, and `x` of shape (nnz,) holds their non-zeros row by
        row; in each row the indices ascend.
    """

    cdef readonly Py_ssize_t rows
    cdef readonly object x, labels, target, weight
    cdef const char* x_address
    cdef const long long* indptr
    cdef const int* indices
    cdef readonly object sparse
    cdef const int[::1] labels_view
    cdef const char* target_address
    cdef const char* weight_address

    def __init__(self, x, labels, target, weight, indptr=None, indices=None):
        self.x, self.labels, self.target, self.weight = x, labels, target, weight
        self.sparse = None if indptr is None else (indptr, indices)
        self.rows = x.shape[0] if indptr is None else indptr.shape[0] - 1
        self.x_address = read_address(x)
        if indptr is not None:
            self.indptr = <const long long*>read_address(indptr)
            self.indices = <const int*>read_address(indices)
        if labels is not None:
            self.labels_view = labels
        else:
            self.target_address = read_address(target)
        if weight is not None:
            self.weight_address = read_address(weight)

    cdef void fill(self, Batch* batch):
        memset(batch, 0, sizeof(Batch))
        if self.sparse is None:
            batch.x = self.x_address
        else:
            batch.sparse.indptr, batch.sparse.indices = self.indptr, self.indices
            batch.sparse.values = self.x_address
        if self.labels is not None:
            batch.labels = &self.labels_view[0]
        else:
            batch.target = self.target_address
        batch.weight = self.weight_address


@cython.final
cdef class Position:
    """How far training has come.

    The engine writes it before Python can look up, so Ctrl-C cannot lose a step: the parameters
    and the position always agree.

    Parameters
    ----------
    step : int
        Steps the optimizer has made.
    epoch : int
        Epochs that are over.
    start : int
        Rows of the running epoch that have been trained on.
    loss_sum, weight_sum : float
        Sums over these rows: of weight times loss, and of the weights.

    Attributes
    ----------
    finite : bool
        False if a batch's loss was not finite: it was not applied and `start` points at it.
    """

    cdef public long long step
    cdef public unsigned long long epoch
    cdef public Py_ssize_t start
    cdef public double loss_sum, weight_sum
    cdef public bint finite

    def __init__(self, long long step=0, unsigned long long epoch=0, Py_ssize_t start=0,
                 double loss_sum=0.0, double weight_sum=0.0):
        self.step, self.epoch, self.start = step, epoch, start
        self.loss_sum, self.weight_sum = loss_sum, weight_sum
        self.finite = True

    def __reduce__(self):
        return Position, (self.step, self.epoch, self.start, self.loss_sum, self.weight_sum)

    @property
    def loss(self):
        """Mean loss of the running epoch's rows so far."""
        return mean_loss(self.loss_sum, self.weight_sum)

    def next_epoch(self):
        """Close the running epoch."""
        self.epoch += 1
        self.rewind()

    cpdef rewind(self):
        """Go to the start of the running epoch."""
        self.start = 0
        self.loss_sum = self.weight_sum = 0


cdef char* address(object array) except? NULL:
    """Address of a C-contiguous, writable array of any dtype and dimension; NULL for None."""
    if array is None:
        return NULL
    return <char*>buffer_of(array, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)


cdef const char* read_address(object array) except? NULL:
    """Address of a C-contiguous array, read-only or not."""
    return <const char*>buffer_of(array, PyBUF_C_CONTIGUOUS)


cdef inline void* buffer_of(object array, int flags) except? NULL:
    # Five times as fast as a view of bytes, of which a step by itself needs half a dozen.
    cdef Py_buffer view
    cdef void* at
    PyObject_GetBuffer(array, &view, flags)
    at = view.buf if view.len > 0 else NULL
    PyBuffer_Release(&view)
    return at
