/* What a product that skips zeros does besides moving memory: it lists the elements of A that are not
 * zero, and adds up rows of B, each times one of them. In C for the sake of instructions that have no
 * name in Cython, and of the pragmas that keep accumulators in registers (steps.h).
 */
#ifndef DNNCORE_ZEROS_H
#define DNNCORE_ZEROS_H

#include "steps.h"

/* Vectors of a row of C that are in registers at a time, with one for the element of A; and lines that
 * are listed at a time: the lists stay in the second-level cache. Longer rows of a packed chunk would
 * leave the first. */
#if DNN_VECTOR_BYTES == 64
enum { DNN_STRIPE = 8, DNN_LISTED_LINES = 192 };
#else
enum { DNN_STRIPE = 12, DNN_LISTED_LINES = 96 };
#endif

/* The elements of v that are not 0 (NaN is not), to `values` in their order, and to `places` what
 * element i is listed as, first + i * step. Returns how many; whole vectors are written. */
#if defined(__AVX512VL__) && DNN_VECTOR_BYTES == 64 && !defined(DNN_FLOAT64)
static inline int dnn_list(dnn_vec v, int first, int step, dnn_real *values, int *places) {
    const __m512i count = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __mmask16 kept = _mm512_cmp_ps_mask((__m512)v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
    __m512i all = _mm512_add_epi32(_mm512_set1_epi32(first),
                                   _mm512_mullo_epi32(count, _mm512_set1_epi32(step)));
    _mm512_storeu_ps(values, _mm512_maskz_compress_ps(kept, (__m512)v));
    _mm512_storeu_si512(places, _mm512_maskz_compress_epi32(kept, all));
    return __builtin_popcount(kept);
}
#elif defined(__AVX512VL__) && DNN_VECTOR_BYTES == 64
static inline int dnn_list(dnn_vec v, int first, int step, dnn_real *values, int *places) {
    const __m256i count = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __mmask8 kept = _mm512_cmp_pd_mask((__m512d)v, _mm512_setzero_pd(), _CMP_NEQ_UQ);
    __m256i all = _mm256_add_epi32(_mm256_set1_epi32(first),
                                   _mm256_mullo_epi32(count, _mm256_set1_epi32(step)));
    _mm512_storeu_pd(values, _mm512_maskz_compress_pd(kept, (__m512d)v));
    _mm256_storeu_si256((__m256i *)places, _mm256_maskz_compress_epi32(kept, all));
    return __builtin_popcount(kept);
}
#elif defined(__AVX2__) && DNN_VECTOR_BYTES == 32
/* Byte k of entry m is the number of the k-th bit that is set in m. */
static uint64_t dnn_set_bits[256];
#define DNN_LIST_TABLE
static void dnn_prepare_list(void) {
    for (int m = 0; m < 256; m++) {
        int n = 0;
        for (int bit = 0; bit < 8; bit++)
            if (m >> bit & 1) dnn_set_bits[m] |= (uint64_t)bit << 8 * n++;
    }
}
static inline int dnn_list(dnn_vec v, int first, int step, dnn_real *values, int *places) {
#ifdef DNN_FLOAT64
    int kept = _mm256_movemask_pd(_mm256_cmp_pd((__m256d)v, _mm256_setzero_pd(), _CMP_NEQ_UQ));
    __m128i bits = _mm_loadl_epi64((const __m128i *)&dnn_set_bits[kept]);
    __m256i halves = _mm256_slli_epi64(_mm256_cvtepu8_epi64(bits), 1); /* of element i: 2 i, 2 i + 1 */
    halves = _mm256_or_si256(halves, _mm256_slli_epi64(_mm256_add_epi64(halves, _mm256_set1_epi64x(1)), 32));
    _mm256_storeu_pd(values, (__m256d)_mm256_permutevar8x32_ps((__m256)v, halves));
    __m128i all = _mm_mullo_epi32(_mm_cvtepu8_epi32(bits), _mm_set1_epi32(step));
    _mm_storeu_si128((__m128i *)places, _mm_add_epi32(all, _mm_set1_epi32(first)));
#else
    int kept = _mm256_movemask_ps(_mm256_cmp_ps((__m256)v, _mm256_setzero_ps(), _CMP_NEQ_UQ));
    __m128i bits = _mm_loadl_epi64((const __m128i *)&dnn_set_bits[kept]);
    __m256i order = _mm256_cvtepu8_epi32(bits);
    _mm256_storeu_ps(values, _mm256_permutevar8x32_ps((__m256)v, order));
    __m256i all = _mm256_mullo_epi32(order, _mm256_set1_epi32(step));
    _mm256_storeu_si256((__m256i *)places, _mm256_add_epi32(all, _mm256_set1_epi32(first)));
#endif
    return __builtin_popcount(kept);
}
#else
static inline int dnn_list(dnn_vec v, int first, int step, dnn_real *values, int *places) {
    dnn_real lanes[DNN_VECTOR_BYTES / sizeof(dnn_real)];
    int n = 0;
    DNN_STORE(lanes, v);
    for (int i = 0; i < DNN_LANES; i++) {
        values[n] = lanes[i];
        places[n] = first + i * step;
        n += lanes[i] != 0;
    }
    return n;
}
#endif
#ifndef DNN_LIST_TABLE
static inline void dnn_prepare_list(void) {}
#endif

/* `vectors` vectors of one row of C: `start` and, for each of n elements of A, its row of B. They end
 * in `sums`, or if that is NULL in C (the last of them with `rest` elements) after what a product does
 * at its end. */
static inline DNN_ALWAYS_INLINE dnn_stripe(const int vectors, int n, const dnn_real *values,
                                           const int *places, const dnn_real *b,
                                           const dnn_real *start, dnn_real *sums, int rest,
                                           dnn_real *c, int accumulate, int relu,
                                           const dnn_real *gate) {
    const int last = vectors - 1;
    dnn_vec acc[12];
    DNN_UNROLL_ROWS
    for (int j = 0; j < vectors; j++) acc[j] = DNN_LOAD(start + j * DNN_LANES);
    for (int p = 0; p < n; p++) {
        const dnn_real *row = b + places[p];
        dnn_vec x = DNN_BROADCAST(values[p]);
        DNN_UNROLL_ROWS
        for (int j = 0; j < vectors; j++) acc[j] += x * DNN_LOAD(row + j * DNN_LANES);
    }
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

#endif
