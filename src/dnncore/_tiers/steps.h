/* The innermost loop of a matrix product, in C for the sake of a pragma that Cython cannot place.
 *
 * Unrolled by four, a step has fewer instructions beside its multiply-adds, and those count as soon
 * as somebody else runs on the same core. gcc unrolls nothing by itself here, and source that
 * repeats the step makes it move accumulators to the stack and back.
 */
#ifndef DNNCORE_STEPS_H
#define DNNCORE_STEPS_H

#include <stddef.h>

#include "simd.h"

enum { DNN_PACK_AHEAD = 48 }; /* rows of B */

#if defined(__clang__)
#define DNN_UNROLL_BY_4 _Pragma("clang loop unroll_count(4)")
#elif defined(__GNUC__)
#define DNN_UNROLL_BY_4 _Pragma("GCC unroll 4")
#else
#define DNN_UNROLL_BY_4
#endif

/* acc[i][j] += a[i] * b[j] for `rows` elements of A and `vectors` vectors of B, along depth. The
 * vectors of B are stored to `copy` as well if the loop `packs`. */
static inline DNN_ALWAYS_INLINE dnn_step(const int rows, const int vectors, const int packs,
                                         dnn_vec (*acc)[2], const dnn_real *a, ptrdiff_t a_row,
                                         const dnn_real *b, ptrdiff_t b_step, dnn_real *copy) {
    dnn_vec piece[2];
    for (int j = 0; j < vectors; j++) piece[j] = DNN_LOAD(b + j * DNN_LANES);
    if (packs)
        for (int j = 0; j < vectors; j++) {
            DNN_PREFETCH_FAR(b + DNN_PACK_AHEAD * b_step + j * DNN_LANES);
            DNN_STORE(copy + j * DNN_LANES, piece[j]);
        }
    for (int i = 0; i < rows; i++) {
        dnn_vec x = DNN_BROADCAST(a[i * a_row]);
        for (int j = 0; j < vectors; j++) acc[i][j] += x * piece[j];
    }
}

static inline DNN_ALWAYS_INLINE dnn_steps(const int rows, const int vectors, const int packs,
                                          dnn_vec (*acc)[2], ptrdiff_t depth, const dnn_real *a,
                                          ptrdiff_t a_row, ptrdiff_t a_step, const dnn_real *b,
                                          ptrdiff_t b_step, dnn_real *copy) {
    if (rows < DNN_MR || vectors < 2) { /* the rests of a product: not worth their code */
        for (ptrdiff_t p = 0; p < depth; p++)
            dnn_step(rows, vectors, packs, acc, a + p * a_step, a_row, b + p * b_step, b_step, copy);
        return;
    }
    DNN_UNROLL_BY_4
    for (ptrdiff_t p = 0; p < depth; p++) {
        dnn_step(rows, vectors, packs, acc, a, a_row, b, b_step, copy);
        a += a_step;
        b += b_step;
        if (packs) copy += vectors * DNN_LANES;
    }
}

#endif
