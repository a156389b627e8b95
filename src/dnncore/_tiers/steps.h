/* What happens to a block of a matrix product while it is in registers: it begins, takes the steps of
 * the whole depth, and is finished. In C for the sake of pragmas that Cython cannot place.
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
#define DNN_UNROLL_ROWS _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define DNN_UNROLL_BY_4 _Pragma("GCC unroll 4")
#define DNN_UNROLL_ROWS _Pragma("GCC unroll 12")
#else
#define DNN_UNROLL_BY_4
#define DNN_UNROLL_ROWS
#endif

/* A block has `rows` x `vectors` accumulators, vectors 1 or 2. They stay in registers only if no
 * index of theirs is a variable by the time gcc looks which arrays can: all loops over rows must be
 * unrolled early, for which it needs the pragma, and must not have another loop inside. */

static inline DNN_ALWAYS_INLINE dnn_begin(const int rows, const int vectors, dnn_vec (*acc)[2],
                                          const dnn_vec *start) {
    DNN_UNROLL_ROWS
    for (int i = 0; i < rows; i++) {
        acc[i][0] = start[0];
        acc[i][vectors - 1] = start[vectors - 1];
    }
}

/* acc[i][j] += a[i] * b[j] for `rows` elements of A and `vectors` vectors of B, along depth. The
 * vectors of B are stored to `copy` as well if the loop `packs`. */
static inline DNN_ALWAYS_INLINE dnn_step(const int rows, const int vectors, const int packs,
                                         dnn_vec (*acc)[2], const dnn_real *a, ptrdiff_t a_row,
                                         const dnn_real *b, ptrdiff_t b_step, dnn_real *copy) {
    dnn_vec piece[2];
    for (int j = 0; j < vectors; j++) piece[j] = DNN_LOAD(b + j * DNN_LANES);
    if (packs) {
        for (int j = 0; j < vectors; j++) {
            DNN_PREFETCH_FAR(b + DNN_PACK_AHEAD * b_step + j * DNN_LANES);
            DNN_STORE(copy + j * DNN_LANES, piece[j]);
        }
        DNN_PREFETCH_FAR(b + DNN_PACK_AHEAD * b_step + vectors * DNN_LANES - 1);
    }
    DNN_UNROLL_ROWS
    for (int i = 0; i < rows; i++) {
        dnn_vec x = DNN_BROADCAST(a[i * a_row]);
        acc[i][0] += x * piece[0];
        if (vectors > 1) acc[i][1] += x * piece[1];
    }
}

/* The same for a single vector of B of which half is enough: where a whole one takes two turns of the
 * unit that multiplies (Zen 4), half takes one. */
#if DNN_HALVES
static inline DNN_ALWAYS_INLINE dnn_half_steps(const int rows, dnn_vec (*acc)[2], ptrdiff_t depth,
                                               const dnn_real *a, ptrdiff_t a_row, ptrdiff_t a_step,
                                               const dnn_real *b, ptrdiff_t b_step) {
    dnn_half part[DNN_MR];
    DNN_UNROLL_ROWS
    for (int i = 0; i < rows; i++) part[i] = DNN_LOWER(acc[i][0]);
    for (ptrdiff_t p = 0; p < depth; p++) {
        dnn_half piece = DNN_LOAD_HALF(b);
        DNN_UNROLL_ROWS
        for (int i = 0; i < rows; i++) part[i] += (a[i * a_row] - (dnn_half){0}) * piece;
        a += a_step;
        b += b_step;
    }
    DNN_UNROLL_ROWS
    for (int i = 0; i < rows; i++) acc[i][0] = DNN_WIDEN(part[i]);
}
#else
#define dnn_half_steps(...) ((void)0)
#endif

/* `vectors` is 1 or 2, or 0 if half of one is enough. */
static inline DNN_ALWAYS_INLINE dnn_steps(const int rows, const int vectors, const int packs,
                                          dnn_vec (*acc)[2], ptrdiff_t depth, const dnn_real *a,
                                          ptrdiff_t a_row, ptrdiff_t a_step, const dnn_real *b,
                                          ptrdiff_t b_step, dnn_real *copy) {
    if (vectors == 0) {
        dnn_half_steps(rows, acc, depth, a, a_row, a_step, b, b_step);
        return;
    }
    if (3 * rows < 2 * DNN_MR || vectors < 2) { /* the low rests of a product: not worth their code */
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

/* A block on its way from the registers to memory; of its last vectors `rest` elements, unless they
 * are `whole`. Row by row: otherwise the addresses of all rows are computed before the block, and
 * spilled to the stack. */
static inline DNN_ALWAYS_INLINE dnn_finish(const int whole, const int rows, const int vectors,
                                           dnn_vec (*acc)[2], int rest, dnn_real *c,
                                           ptrdiff_t c_row, int accumulate, int relu,
                                           const dnn_real *gate, ptrdiff_t gate_row) {
    const int last = vectors - 1, at = last * DNN_LANES;
    const dnn_real *row = c;
    if (accumulate) {
        DNN_UNROLL_ROWS
        for (int i = 0; i < rows; i++) {
            if (last) acc[i][0] += DNN_LOAD(row);
            acc[i][last] += whole ? DNN_LOAD(row + at) : DNN_LOAD_PART(row + at, rest);
            row += c_row;
        }
    }
    if (relu) {
        DNN_UNROLL_ROWS
        for (int i = 0; i < rows; i++) {
            if (last) acc[i][0] = DNN_RELU(acc[i][0]);
            acc[i][last] = DNN_RELU(acc[i][last]);
        }
    } else if (gate) {
        DNN_UNROLL_ROWS
        for (int i = 0; i < rows; i++) {
            if (last) acc[i][0] = DNN_GATE(acc[i][0], DNN_LOAD(gate));
            acc[i][last] = DNN_GATE(acc[i][last],
                                    whole ? DNN_LOAD(gate + at) : DNN_LOAD_PART(gate + at, rest));
            gate += gate_row;
        }
    }
    DNN_UNROLL_ROWS
    for (int i = 0; i < rows; i++) {
        if (last) DNN_STORE(c, acc[i][0]);
        if (whole)
            DNN_STORE(c + at, acc[i][last]);
        else
            DNN_STORE_PART(c + at, acc[i][last], rest);
        c += c_row;
    }
}

#endif
