/* What a product that skips zeros does besides moving memory: it finds which elements of A are not
 * zero, and adds up rows of B, each times one of them. In C for the sake of instructions that have no
 * name in Cython, and of the pragmas that keep accumulators in registers (steps.h).
 */
#ifndef DNNCORE_ZEROS_H
#define DNNCORE_ZEROS_H

#include "steps.h"

enum {
    DNN_STRIPE = 8, /* vectors of a row of C that are in registers at a time */
    DNN_PAIR = DNN_VECTOR_BYTES == 64 ? 2 : 1, /* rows of them; AVX2 has 16 registers */
    /* Lines whose sums stay in the second-level cache. */
    DNN_SUMMED_LINES = DNN_VECTOR_BYTES == 64 ? 512 : 96
};

/* Bit i is set if element i of v is not 0; NaN is not. */
#if DNN_VECTOR_BYTES == 64 && defined(DNN_FLOAT64)
#define DNN_NONZERO(v) \
    ((uint64_t)_mm512_cmp_pd_mask((__m512d)(v), _mm512_setzero_pd(), _CMP_NEQ_UQ))
#elif DNN_VECTOR_BYTES == 64
#define DNN_NONZERO(v) ((uint64_t)_mm512_cmp_ps_mask((__m512)(v), _mm512_setzero_ps(), _CMP_NEQ_UQ))
#elif defined(__AVX__) && DNN_VECTOR_BYTES == 32 && defined(DNN_FLOAT64)
#define DNN_NONZERO(v) \
    ((uint64_t)_mm256_movemask_pd(_mm256_cmp_pd((__m256d)(v), _mm256_setzero_pd(), _CMP_NEQ_UQ)))
#elif defined(__AVX__) && DNN_VECTOR_BYTES == 32
#define DNN_NONZERO(v) \
    ((uint64_t)_mm256_movemask_ps(_mm256_cmp_ps((__m256)(v), _mm256_setzero_ps(), _CMP_NEQ_UQ)))
#else
static inline uint64_t dnn_nonzero(dnn_vec v) {
    dnn_real lanes[DNN_VECTOR_BYTES / sizeof(dnn_real)];
    uint64_t bits = 0;
    DNN_STORE(lanes, v);
    for (int i = 0; i < DNN_LANES; i++) bits |= (uint64_t)(lanes[i] != 0) << i;
    return bits;
}
#define DNN_NONZERO(v) dnn_nonzero(v)
#endif
#define DNN_COUNT_BITS(bits) __builtin_popcountll(bits)

/* An element in all places of a vector, by way of a general register: vectors are what a step loads
 * most of, and such a load is not in their way. Compilers would make it the load of a vector. */
#if defined(__x86_64__) && DNN_VECTOR_BYTES > 8
static inline dnn_vec dnn_spread(const dnn_real *p) {
    dnn_int x;
    memcpy(&x, p, sizeof x);
    __asm__("" : "+r"(x));
    return (dnn_vec)(x - (dnn_mask){0});
}
#define DNN_SPREAD(p) dnn_spread(p)
#else
#define DNN_SPREAD(p) DNN_BROADCAST(*(p))
#endif

/* A row of C on its way: `vectors` vectors in registers. */
static inline DNN_ALWAYS_INLINE dnn_row_begin(const int vectors, dnn_vec *acc,
                                              const dnn_real *start) {
    DNN_UNROLL_ROWS
    for (int j = 0; j < vectors; j++) acc[j] = DNN_LOAD(start + j * DNN_LANES);
}

/* Adds, for the first bit p that is set, values[p] times row p of B, and clears it. */
static inline DNN_ALWAYS_INLINE dnn_row_add(const int vectors, dnn_vec *acc, uint64_t *bits,
                                            const dnn_real *values, const dnn_real *b,
                                            ptrdiff_t b_step) {
    const int p = __builtin_ctzll(*bits);
    const dnn_real *row = b + p * b_step;
    const dnn_vec x = DNN_SPREAD(values + p);
    DNN_UNROLL_ROWS
    for (int j = 0; j < vectors; j++) acc[j] += x * DNN_LOAD(row + j * DNN_LANES);
    *bits &= *bits - 1;
}

/* It goes to `sums`, or if that is NULL to C (the last vector with `rest` elements) after what a
 * product does at its end. */
static inline DNN_ALWAYS_INLINE dnn_row_end(const int vectors, dnn_vec *acc, dnn_real *sums,
                                            int rest, dnn_real *c, int accumulate, int relu,
                                            const dnn_real *gate) {
    const int last = vectors - 1;
    if (sums) {
        DNN_UNROLL_ROWS
        for (int j = 0; j < vectors; j++) DNN_STORE(sums + j * DNN_LANES, acc[j]);
        return;
    }
    if (accumulate) {
        DNN_UNROLL_ROWS
        for (int j = 0; j < last; j++) acc[j] += DNN_LOAD(c + j * DNN_LANES);
        acc[last] += DNN_LOAD_PART(c + last * DNN_LANES, rest);
    }
    if (relu) {
        DNN_UNROLL_ROWS
        for (int j = 0; j < vectors; j++) acc[j] = DNN_RELU(acc[j]);
    } else if (gate) {
        DNN_UNROLL_ROWS
        for (int j = 0; j < last; j++) acc[j] = DNN_GATE(acc[j], DNN_LOAD(gate + j * DNN_LANES));
        acc[last] = DNN_GATE(acc[last], DNN_LOAD_PART(gate + last * DNN_LANES, rest));
    }
    DNN_UNROLL_ROWS
    for (int j = 0; j < last; j++) DNN_STORE(c + j * DNN_LANES, acc[j]);
    DNN_STORE_PART(c + last * DNN_LANES, acc[last], rest);
}

/* One or two rows of C: of two neither waits for its own last multiply-adds, nor for its end. */
static inline DNN_ALWAYS_INLINE dnn_stripe(const int vectors, const int lines, const uint64_t *bits,
                                           const dnn_real *values, ptrdiff_t values_line,
                                           const dnn_real *b, ptrdiff_t b_step,
                                           const dnn_real *start, ptrdiff_t start_line,
                                           dnn_real *sums, int rest, dnn_real *c, ptrdiff_t c_row,
                                           int accumulate, int relu, const dnn_real *gate,
                                           ptrdiff_t gate_row) {
    dnn_vec acc[DNN_STRIPE], second[DNN_STRIPE];
    uint64_t left = bits[0], others = lines > 1 ? bits[1] : 0;
    dnn_row_begin(vectors, acc, start);
    if (lines > 1) {
        dnn_row_begin(vectors, second, start + start_line);
        while (left && others) {
            dnn_row_add(vectors, acc, &left, values, b, b_step);
            dnn_row_add(vectors, second, &others, values + values_line, b, b_step);
        }
        while (others)
            dnn_row_add(vectors, second, &others, values + values_line, b, b_step);
    }
    while (left) dnn_row_add(vectors, acc, &left, values, b, b_step);
    dnn_row_end(vectors, acc, sums, rest, c, accumulate, relu, gate);
    if (lines > 1)
        dnn_row_end(vectors, second, sums ? sums + DNN_STRIPE * DNN_LANES : sums, rest, c + c_row,
                    accumulate, relu, gate ? gate + gate_row : gate);
}

#endif
