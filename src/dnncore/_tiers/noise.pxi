# Random masks and noise, from counters: element i is a function of (key, first + i), so that
# whoever computes it, in whatever order, it is the same.

cdef inline unsigned int hashed(unsigned int at, unsigned int key) noexcept nogil:
    # The 32-bit finaliser of MurmurHash3 (Appleby 2011).
    cdef unsigned int h = at * 0x9E3779B9U + key
    h = (h ^ (h >> 16)) * 0x85EBCA6BU
    h = (h ^ (h >> 13)) * 0xC2B2AE35U
    return h ^ (h >> 16)


cdef inline inlined dropout_loop(
    Py_ssize_t n, unsigned int key, unsigned int first, unsigned int threshold, real scale,
    const real* x, real* out
) noexcept nogil:
    # Element i is dropped if a hash of (key, first + i) falls below rate * 2^32: no state, so
    # the mask is the same whoever computes it, and backward recomputes it instead of storing
    # it.
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = x[i] * scale if hashed(first + <unsigned int>i, key) >= threshold else 0


cdef void dropout(
    Py_ssize_t n, unsigned int key, unsigned int first, double rate, const void* x, void* out
) noexcept nogil:
    cdef unsigned int threshold = <unsigned int>(rate * 4294967296.0)
    cdef real scale = <real>(1.0 / (1.0 - rate))
    if x == out:
        dropout_loop(n, key, first, threshold, scale, <const real*>out, <real*>out)
    else:
        dropout_loop(n, key, first, threshold, scale, <const real*>x, <real*>out)


cdef inline inlined alpha_dropout_loop(
    Py_ssize_t n, unsigned int key, unsigned int first, unsigned int threshold, real scale,
    real kept, real dropped, const real* x, real* out
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = (x[i] * scale + kept if hashed(first + <unsigned int>i, key) >= threshold
                  else dropped)


cdef void alpha_dropout(
    Py_ssize_t n, unsigned int key, unsigned int first, double rate, bint backward,
    const void* x, void* out
) noexcept nogil:
    # Dropped elements become selu's lower limit; then a x + b keeps mean 0 and variance 1.
    # Backward multiplies by a where nothing was dropped.
    cdef unsigned int threshold = <unsigned int>(rate * 4294967296.0)
    cdef double limit = -SELU_SCALE * SELU_ALPHA
    cdef double a = 1 / sqrt((1 - rate) * (1 + rate * limit * limit))
    cdef real scale = <real>a, kept = <real>(-a * rate * limit)
    cdef real dropped = <real>(a * limit - a * rate * limit)
    if backward:
        kept = dropped = 0
    if x == out:
        alpha_dropout_loop(n, key, first, threshold, scale, kept, dropped, <const real*>out,
                           <real*>out)
    else:
        alpha_dropout_loop(n, key, first, threshold, scale, kept, dropped, <const real*>x,
                           <real*>out)


cdef void gaussian_noise(
    Py_ssize_t n, unsigned long long key, unsigned int first, double deviation,
    const void* x_, void* out_
) noexcept nogil:
    # Box and Muller 1958, "A note on the generation of random normal deviates": the first of
    # each pair, radius and angle from two hashes. The largest possible is 6.66.
    cdef const real* x = <const real*>x_
    cdef real* out = <real*>out_
    cdef unsigned int low = <unsigned int>key, high = <unsigned int>(key >> 32)
    cdef real scale = <real>deviation, u, t
    cdef Py_ssize_t i
    for i in range(n):
        u = (<real>(<int>(hashed(first + <unsigned int>i, low) >> 1)) + <real>0.5) * <real>TWO_M31
        t = <real>(<int>hashed(first + <unsigned int>i, high)) * <real>TWO_M32
        out[i] = x[i] + scale * (sqrt_(<real>-2 * log_(u)) * cos_turns_(t))
