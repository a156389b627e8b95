"""C level of the kernels, for ``cimport``: see ``docs/cimport.md``.

Unchecked: callers validate. All arrays are C-contiguous; ``scratch`` holds
``scratch_elements(sizeof(real))`` elements and belongs to one thread at a time. Ids of
activations, losses and optimizers are enums of ``dnncore._table``.
"""

from dnncore._table cimport KernelTable, Product

ctypedef fused real:
    float
    double

cdef const KernelTable* kernel_table(Py_ssize_t itemsize) noexcept nogil
cdef Py_ssize_t scratch_elements(Py_ssize_t itemsize) noexcept nogil
cdef bint may_use_blas(const KernelTable* table) noexcept nogil
cdef bint uses_blas(const KernelTable* table, const Product* p) noexcept nogil
cdef void matmul(const KernelTable* table, const Product* p) noexcept nogil
cdef bint needs_input(int activation) noexcept nogil

cdef void linear_forward(
    int activation, Py_ssize_t rows, Py_ssize_t n_in, Py_ssize_t n_out,
    const real* x, const real* w, const real* b, real* z, real* a, real* scratch) noexcept nogil
cdef void linear_backward(
    int activation, Py_ssize_t rows, Py_ssize_t n_in, Py_ssize_t n_out,
    const real* da, const real* x, const real* w, const real* z, const real* a,
    real* dz, real* dx, real* dw, real* db, real* scratch) noexcept nogil

cdef unsigned long long mix64(unsigned long long x) noexcept nogil
cdef unsigned long long stream_key(
    unsigned long long seed, unsigned long long stream, unsigned long long epoch) noexcept nogil
cdef void shuffle_indices(
    Py_ssize_t n, unsigned long long key, long long* order) noexcept nogil
