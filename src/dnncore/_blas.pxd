"""Row-major matrix product over ``scipy.linalg.cython_blas``.

The only file that knows that BLAS is column-major, takes 32-bit sizes and forgets ``const``.
"""

from scipy.linalg.cython_blas cimport dgemm, sgemm

include "_blas_int.pxi"

from dnncore._table cimport Product

cdef extern from "limits.h":
    const Py_ssize_t INT_MAX


cdef inline bint blas_can(const Product* p) noexcept nogil:
    """Whether sizes and strides are such that ``gemm`` can take the product."""
    cdef Py_ssize_t lda = p.a_row if p.a_step == 1 else p.a_step
    cdef Py_ssize_t ldb = p.b_step if p.b_column == 1 else p.b_column
    return (
        p.rows <= INT_MAX and p.columns <= INT_MAX and p.depth <= INT_MAX
        and lda <= INT_MAX and ldb <= INT_MAX and p.c_row <= INT_MAX
        and (p.a_step == 1 or p.a_row == 1) and (p.b_column == 1 or p.b_step == 1)
        # gemm wants leading dimensions no shorter than the rows they separate
        and lda >= (p.depth if p.a_step == 1 else p.rows)
        and ldb >= (p.columns if p.b_column == 1 else p.depth)
        and p.rows > 0 and p.columns > 0 and p.depth > 0
    )


cdef inline void gemm(const Product* p, Py_ssize_t itemsize, bint accumulate) noexcept nogil:
    """C = A @ B (+ C), row-major; call only if ``blas_can``.

    Row-major C = A B is column-major C' = B' A': operands change places, and each is
    transposed if its *columns* are what is contiguous in memory.
    """
    cdef blas_int m = <blas_int>p.columns, n = <blas_int>p.rows, k = <blas_int>p.depth
    cdef char b_transposed = b'N' if p.b_column == 1 else b'T'
    cdef char a_transposed = b'N' if p.a_step == 1 else b'T'
    cdef blas_int ldb = <blas_int>(p.b_step if p.b_column == 1 else p.b_column)
    cdef blas_int lda = <blas_int>(p.a_row if p.a_step == 1 else p.a_step)
    cdef blas_int ldc = <blas_int>p.c_row
    cdef float alpha_f = 1, beta_f = 1 if accumulate else 0
    cdef double alpha_d = 1, beta_d = 1 if accumulate else 0
    if itemsize == sizeof(float):
        sgemm(&b_transposed, &a_transposed, &m, &n, &k, &alpha_f, <float*>p.b, &ldb,
              <float*>p.a, &lda, &beta_f, <float*>p.c, &ldc)
    else:
        dgemm(&b_transposed, &a_transposed, &m, &n, &k, &alpha_d, <double*>p.b, &ldb,
              <double*>p.a, &lda, &beta_d, <double*>p.c, &ldc)
