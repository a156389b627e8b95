/* What a product that skips zeros does besides moving memory: it lists the elements of A that are not
 * zero, and adds up rows of B, each times one of them. In C for the sake of instructions that have no
 * name in Cython, and of the pragmas that keep accumulators in registers (steps.h).
 */
#ifndef DNNCORE_ZEROS_H
#define DNNCORE_ZEROS_H

#include "steps.h"

enum {
    DNN_STRIPE = 8, /* vectors of a row of C that are in registers at a time */
    /* Lines that are listed at a time: the lists stay in the second-level cache. */
    DNN_LISTED_LINES = DNN_VECTOR_BYTES == 64 ? 192 : 96
};

/* An element that is not zero, and where its row of B is. In single precision both are read at once:
 * loads are what a step has most of. */
#ifdef DNN_FLOAT64
typedef struct {
    double value;
    int64_t place;
} dnn_entry;
#else
typedef struct {
    float value;
    int32_t place;
} dnn_entry;
#if DNN_VECTOR_BYTES > 8 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define DNN_ONE_LOAD
#endif
#endif

/* Lists the elements of v that are not 0 (NaN is not) in their order, element i with the place
 * first + i * step. Returns how many; as many entries as a vector has elements are written. */
#if DNN_VECTOR_BYTES == 64
#ifdef DNN_FLOAT64
#define DNN_COUNT 0, 1, 2, 3, 4, 5, 6, 7
#define DNN_LOW_ORDER 0, 8, 1, 9, 2, 10, 3, 11
#define DNN_HIGH_ORDER 4, 12, 5, 13, 6, 14, 7, 15
#define DNN_KEPT(v) _mm512_cmp_pd_mask((__m512d)(v), _mm512_setzero_pd(), _CMP_NEQ_UQ)
#define DNN_COMPRESS(kept, v) ((dnn_mask)_mm512_maskz_compress_epi64(kept, (__m512i)(v)))
#else
#define DNN_COUNT 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#define DNN_LOW_ORDER 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define DNN_HIGH_ORDER 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define DNN_KEPT(v) _mm512_cmp_ps_mask((__m512)(v), _mm512_setzero_ps(), _CMP_NEQ_UQ)
#define DNN_COMPRESS(kept, v) ((dnn_mask)_mm512_maskz_compress_epi32(kept, (__m512i)(v)))
#endif
static inline int dnn_list(dnn_vec v, int first, int step, dnn_entry *list) {
    const dnn_mask count = {DNN_COUNT};
    const int kept = DNN_KEPT(v);
    dnn_mask values = DNN_COMPRESS(kept, v);
    dnn_mask places = DNN_COMPRESS(kept, (dnn_int)first + count * (dnn_int)step);
    _mm512_storeu_si512(list, (__m512i)DNN_SHUFFLE(values, places, DNN_LOW_ORDER));
    _mm512_storeu_si512(list + DNN_LANES / 2,
                        (__m512i)DNN_SHUFFLE(values, places, DNN_HIGH_ORDER));
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
static inline int dnn_list(dnn_vec v, int first, int step, dnn_entry *list) {
#ifdef DNN_FLOAT64
    int kept = _mm256_movemask_pd(_mm256_cmp_pd((__m256d)v, _mm256_setzero_pd(), _CMP_NEQ_UQ));
    __m256i bits = _mm256_cvtepu8_epi64(_mm_loadl_epi64((const __m128i *)&dnn_set_bits[kept]));
    __m256i halves = _mm256_slli_epi64(bits, 1); /* element i is made of those numbered 2 i, 2 i + 1 */
    __m256i upper = _mm256_slli_epi64(_mm256_add_epi64(halves, _mm256_set1_epi64x(1)), 32);
    __m256d values = (__m256d)_mm256_permutevar8x32_epi32((__m256i)v, _mm256_or_si256(halves, upper));
    __m256d places = (__m256d)_mm256_add_epi64(_mm256_mul_epu32(bits, _mm256_set1_epi64x(step)),
                                               _mm256_set1_epi64x(first));
    __m256d low = _mm256_unpacklo_pd(values, places), high = _mm256_unpackhi_pd(values, places);
    _mm256_storeu_pd((double *)list, _mm256_permute2f128_pd(low, high, 0x20));
    _mm256_storeu_pd((double *)(list + 2), _mm256_permute2f128_pd(low, high, 0x31));
#else
    int kept = _mm256_movemask_ps(_mm256_cmp_ps((__m256)v, _mm256_setzero_ps(), _CMP_NEQ_UQ));
    __m256i bits = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)&dnn_set_bits[kept]));
    __m256 values = _mm256_permutevar8x32_ps((__m256)v, bits);
    __m256 places = (__m256)_mm256_add_epi32(_mm256_mullo_epi32(bits, _mm256_set1_epi32(step)),
                                             _mm256_set1_epi32(first));
    __m256 low = _mm256_unpacklo_ps(values, places), high = _mm256_unpackhi_ps(values, places);
    _mm256_storeu_ps((float *)list, _mm256_permute2f128_ps(low, high, 0x20));
    _mm256_storeu_ps((float *)(list + 4), _mm256_permute2f128_ps(low, high, 0x31));
#endif
    return __builtin_popcount(kept);
}
#else
static inline int dnn_list(dnn_vec v, int first, int step, dnn_entry *list) {
    dnn_real lanes[DNN_VECTOR_BYTES / sizeof(dnn_real)];
    int n = 0;
    DNN_STORE(lanes, v);
    for (int i = 0; i < DNN_LANES; i++) {
        list[n].value = lanes[i];
        list[n].place = first + i * step;
        n += lanes[i] != 0;
    }
    return n;
}
#endif
#ifndef DNN_LIST_TABLE
static inline void dnn_prepare_list(void) {}
#endif

/* `vectors` vectors of one row of C: `start` and, for each of the n in the list, its row of B. They end
 * in `sums`, or if that is NULL in C (the last of them with `rest` elements) after what a product does
 * at its end. */
static inline DNN_ALWAYS_INLINE dnn_stripe(const int vectors, int n, const dnn_entry *list,
                                           const dnn_real *b, const dnn_real *start,
                                           dnn_real *sums, int rest, dnn_real *c, int accumulate,
                                           int relu, const dnn_real *gate) {
    const int last = vectors - 1;
    dnn_vec acc[DNN_STRIPE];
    DNN_UNROLL_ROWS
    for (int j = 0; j < vectors; j++) acc[j] = DNN_LOAD(start + j * DNN_LANES);
    for (const dnn_entry *end = list + n; list < end; list++) {
#ifdef DNN_ONE_LOAD
        uint64_t both;
        memcpy(&both, list, sizeof both);
        const dnn_real *row = b + (int32_t)(both >> 32);
        dnn_vec x = (dnn_vec)((int32_t)both - (dnn_mask){0});
#else
        const dnn_real *row = b + list->place;
        dnn_vec x = DNN_BROADCAST(list->value);
#endif
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
