# The ceiling that products are held to: independent multiply-adds that never leave the registers.


cdef double multiply_adds(Py_ssize_t rounds) noexcept nogil:
    """Do 12 vectors of multiply-adds a round; the result only keeps them from being left out."""
    cdef real store[LANES]
    cdef vec s = broadcast(<real>0.999), t = broadcast(<real>0.001)
    # Each starts elsewhere, and none at 1, which s and t leave as it is: compilers make one of two
    # chains that are equal, and none of one that does not change.
    cdef vec a = t, b = a + t, c = b + t, d = c + t, e = d + t, f = e + t
    cdef vec g = f + t, h = g + t, i = h + t, j = i + t, k = j + t, m = k + t
    cdef Py_ssize_t r
    cdef double total = 0
    for r in range(rounds):
        a = a * s + t
        b = b * s + t
        c = c * s + t
        d = d * s + t
        e = e * s + t
        f = f * s + t
        g = g * s + t
        h = h * s + t
        i = i * s + t
        j = j * s + t
        k = k * s + t
        m = m * s + t
    vstore(store, a + b + c + d + e + f + g + h + i + j + k + m)
    for r in range(LANES):
        total += store[r]
    return total
