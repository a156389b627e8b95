/* Element type, vector type and register blocking of one build tier.
 *
 * Every file in this folder is compiled once per element type (DNN_FLOAT64 or not) and once per
 * instruction set (compiler flags decide), so this header is the only place that asks what the
 * compiler can do. With the GNU vector extensions a `dnn_vec` is one register; without them it
 * is one element and the same source compiles to plain loops.
 */
#ifndef DNNCORE_SIMD_H
#define DNNCORE_SIMD_H

#include <stdint.h>
#include <string.h>

#ifdef DNN_FLOAT64
typedef double dnn_real;
typedef int64_t dnn_int;
#else
typedef float dnn_real;
typedef int32_t dnn_int;
#endif

#if defined(__GNUC__) && !defined(DNN_NO_VECTORS)
#if defined(__AVX512F__)
#define DNN_VECTOR_BYTES 64
#define DNN_TILE_ROWS 12 /* 12 x 2 accumulators + 2 of B + 1 of A: 27 of 32 registers */
#elif defined(__AVX__)
#define DNN_VECTOR_BYTES 32
#define DNN_TILE_ROWS 6 /* 6 x 2 accumulators + 2 of B + 1 of A: 15 of 16 registers */
#elif defined(__aarch64__)
#define DNN_VECTOR_BYTES 16
#define DNN_TILE_ROWS 12 /* 27 of 32 registers */
#else
#define DNN_VECTOR_BYTES 16
#define DNN_TILE_ROWS 6
#endif
typedef dnn_real dnn_vec __attribute__((vector_size(DNN_VECTOR_BYTES)));
typedef dnn_int dnn_mask __attribute__((vector_size(DNN_VECTOR_BYTES)));
/* The same vector in memory: any alignment an element has, any type it is seen through. */
typedef dnn_real dnn_vec_in_memory
    __attribute__((vector_size(DNN_VECTOR_BYTES), aligned(sizeof(dnn_real)), may_alias));
#define DNN_LOAD(p) ((dnn_vec)(*(const dnn_vec_in_memory *)(p)))
#define DNN_STORE(p, v) (*(dnn_vec_in_memory *)(p) = (v))
/* x - 0 is x for every x, so compilers drop the subtraction; x + 0 is not (x = -0). */
#define DNN_BROADCAST(x) ((dnn_real)(x) - (dnn_vec){0})
#define DNN_PREFETCH(p) __builtin_prefetch(p, 1)
#define DNN_PREFETCH_FAR(p) __builtin_prefetch(p, 0, 2)
#ifndef __AVX__ /* see below */
#define DNN_MAX(a, b) \
    ((dnn_vec)((((a) > (b)) & (dnn_mask)(a)) | (~((a) > (b)) & (dnn_mask)(b))))
#endif
#define DNN_GATE(v, g) ((dnn_vec)(((g) > DNN_BROADCAST(0)) & (dnn_mask)(v)))
#if DNN_VECTOR_BYTES == 64 && !defined(DNN_FLOAT64)
#define DNN_LOG2_LANES 4
#elif DNN_VECTOR_BYTES == 64 || (DNN_VECTOR_BYTES == 32 && !defined(DNN_FLOAT64))
#define DNN_LOG2_LANES 3
#elif DNN_VECTOR_BYTES == 32 || !defined(DNN_FLOAT64)
#define DNN_LOG2_LANES 2
#else
#define DNN_LOG2_LANES 1
#endif
#ifdef __clang__
#define DNN_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define DNN_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (dnn_mask){__VA_ARGS__})
#endif
/* Elements of a and b in turn: of their lower halves (of each piece, see below), of their upper ones; */
#define DNN_INTERLEAVE_LOW(a, b) DNN_SHUFFLE(a, b, DNN_INNER_LOW_ORDER)
#define DNN_INTERLEAVE_HIGH(a, b) DNN_SHUFFLE(a, b, DNN_INNER_HIGH_ORDER)
/* ... in the stage before the last, if DNN_QUARTERS, ... */
#define DNN_MIDDLE_LOW(a, b) DNN_SHUFFLE(a, b, DNN_PAIRS_LOW_ORDER)
#define DNN_MIDDLE_HIGH(a, b) DNN_SHUFFLE(a, b, DNN_PAIRS_HIGH_ORDER)
/* ... and in the last stage */
#define DNN_LAST_LOW(a, b) DNN_SHUFFLE(a, b, DNN_HALVES_LOW_ORDER)
#define DNN_LAST_HIGH(a, b) DNN_SHUFFLE(a, b, DNN_HALVES_HIGH_ORDER)
/* One instruction interleaves within pieces of 16 bytes, of which AVX2 has two and AVX-512 four. If
 * rows come in the order of DNN_LINE, and the last stages exchange whole pieces, a network of
 * interleavings needs nothing slower: 16 x 16 elements take 50 cycles in place of 83 (Zen 4). */
#if DNN_VECTOR_BYTES == 64
#ifdef DNN_FLOAT64
#define DNN_INNER_LOW_ORDER 0, 8, 2, 10, 4, 12, 6, 14
#define DNN_INNER_HIGH_ORDER 1, 9, 3, 11, 5, 13, 7, 15
#define DNN_PAIRS_LOW_ORDER 0, 1, 2, 3, 8, 9, 10, 11
#define DNN_PAIRS_HIGH_ORDER 4, 5, 6, 7, 12, 13, 14, 15
#define DNN_HALVES_LOW_ORDER 0, 1, 4, 5, 8, 9, 12, 13
#define DNN_HALVES_HIGH_ORDER 2, 3, 6, 7, 10, 11, 14, 15
#else
#define DNN_INNER_LOW_ORDER 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29
#define DNN_INNER_HIGH_ORDER 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31
#define DNN_PAIRS_LOW_ORDER 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define DNN_PAIRS_HIGH_ORDER 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31
#define DNN_HALVES_LOW_ORDER 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27
#define DNN_HALVES_HIGH_ORDER 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31
#endif
#define DNN_QUARTERS 1
#define DNN_LINE(i) ((i) % 2 * (DNN_LANES / 2) + (i) / 2 % 2 * (DNN_LANES / 4) + (i) / 4)
#define DNN_PLACE(i, high) ((i) % 2 * (DNN_LANES / 2) + (high) * (DNN_LANES / 4) + (i) / 2)
#elif DNN_VECTOR_BYTES == 32
#ifdef DNN_FLOAT64
#define DNN_INNER_LOW_ORDER 0, 4, 2, 6
#define DNN_INNER_HIGH_ORDER 1, 5, 3, 7
#define DNN_HALVES_LOW_ORDER 0, 1, 4, 5
#define DNN_HALVES_HIGH_ORDER 2, 3, 6, 7
#else
#define DNN_INNER_LOW_ORDER 0, 8, 1, 9, 4, 12, 5, 13
#define DNN_INNER_HIGH_ORDER 2, 10, 3, 11, 6, 14, 7, 15
#define DNN_HALVES_LOW_ORDER 0, 1, 2, 3, 8, 9, 10, 11
#define DNN_HALVES_HIGH_ORDER 4, 5, 6, 7, 12, 13, 14, 15
#endif
#define DNN_LINE(i) ((i) % 2 * (DNN_LANES / 2) + (i) / 2)
#define DNN_PLACE(i, high) ((i) + (high) * (DNN_LANES / 2))
#else
#ifdef DNN_FLOAT64
#define DNN_INNER_LOW_ORDER 0, 2
#define DNN_INNER_HIGH_ORDER 1, 3
#else
#define DNN_INNER_LOW_ORDER 0, 4, 1, 5
#define DNN_INNER_HIGH_ORDER 2, 6, 3, 7
#endif
#define DNN_HALVES_LOW_ORDER DNN_INNER_LOW_ORDER
#define DNN_HALVES_HIGH_ORDER DNN_INNER_HIGH_ORDER
#define DNN_LINE(i) (i)
#define DNN_PLACE(i, high) (2 * (i) + (high))
#endif
#ifndef DNN_QUARTERS
#define DNN_QUARTERS 0
#define DNN_PAIRS_LOW_ORDER DNN_INNER_LOW_ORDER
#define DNN_PAIRS_HIGH_ORDER DNN_INNER_HIGH_ORDER
#endif
#define DNN_ALWAYS_INLINE __attribute__((always_inline)) void
#else
#ifdef DNN_FLOAT64
#define DNN_VECTOR_BYTES 8 /* a number: #if cannot evaluate sizeof */
#else
#define DNN_VECTOR_BYTES 4
#endif
#define DNN_TILE_ROWS 6
typedef dnn_real dnn_vec;
#define DNN_LOAD(p) (*(p))
#define DNN_STORE(p, v) (*(p) = (v))
#define DNN_BROADCAST(x) (x)
#define DNN_PREFETCH(p) ((void)0)
#define DNN_PREFETCH_FAR(p) ((void)0)
#define DNN_MAX(a, b) ((a) > (b) ? (a) : (b))
#define DNN_GATE(v, g) ((g) > 0 ? (v) : 0)
#define DNN_LOG2_LANES 0
#define DNN_INTERLEAVE_LOW(a, b) (a)
#define DNN_INTERLEAVE_HIGH(a, b) (b)
#define DNN_QUARTERS 0
#define DNN_MIDDLE_LOW(a, b) (a)
#define DNN_MIDDLE_HIGH(a, b) (b)
#define DNN_LAST_LOW(a, b) (a)
#define DNN_LAST_HIGH(a, b) (b)
#define DNN_LINE(i) (i)
#define DNN_PLACE(i, high) (2 * (i) + (high))
#define DNN_ALWAYS_INLINE void
#endif

/* Makes the cache line this core's own. Before a core writes to a line that others have read, they
 * must all give it up, and stores wait for that one by one; asked for early enough, nobody waits.
 * No prefetch does it (tried on Zen 4): only writing. On Zen 3, which has half the second-level
 * cache and no AVX-512, what was claimed is gone again by the time it is written to. */
#if DNN_VECTOR_BYTES == 64
#define DNN_CLAIM(p) (*(volatile dnn_real *)(p) = *(const volatile dnn_real *)(p))
#else
#define DNN_CLAIM(p) ((void)0)
#endif

#if defined(__AVX__) && !defined(DNN_NO_VECTORS) && defined(__GNUC__)
#include <immintrin.h>
#if defined(__AVX512F__) && defined(DNN_FLOAT64)
#define DNN_MAX(a, b) ((dnn_vec)_mm512_max_pd((__m512d)(a), (__m512d)(b)))
#elif defined(__AVX512F__)
#define DNN_MAX(a, b) ((dnn_vec)_mm512_max_ps((__m512)(a), (__m512)(b)))
#elif defined(DNN_FLOAT64)
#define DNN_MAX(a, b) ((dnn_vec)_mm256_max_pd((__m256d)(a), (__m256d)(b)))
#else
#define DNN_MAX(a, b) ((dnn_vec)_mm256_max_ps((__m256)(a), (__m256)(b)))
#endif
/* The first n elements of a vector in memory: the others are 0 when loaded, and not stored. */
#ifdef __AVX512F__
#define DNN_PART(n) ((1u << (n)) - 1)
#ifdef DNN_FLOAT64
#define DNN_LOAD_PART(p, n) ((dnn_vec)_mm512_maskz_loadu_pd((__mmask8)DNN_PART(n), p))
#define DNN_STORE_PART(p, v, n) _mm512_mask_storeu_pd(p, (__mmask8)DNN_PART(n), (__m512d)(v))
#else
#define DNN_LOAD_PART(p, n) ((dnn_vec)_mm512_maskz_loadu_ps((__mmask16)DNN_PART(n), p))
#define DNN_STORE_PART(p, v, n) _mm512_mask_storeu_ps(p, (__mmask16)DNN_PART(n), (__m512)(v))
#endif
#elif defined(DNN_FLOAT64)
#define DNN_PART(n) ((__m256i)((dnn_mask){0, 1, 2, 3} < ((dnn_int)(n) - (dnn_mask){0})))
#define DNN_LOAD_PART(p, n) ((dnn_vec)_mm256_maskload_pd(p, DNN_PART(n)))
static inline void dnn_store_part(double *p, dnn_vec v, int n) {
    __m128d piece = _mm256_castpd256_pd128((__m256d)v);
    if (n == 4) {
        DNN_STORE(p, v);
        return;
    }
    if (n & 2) {
        _mm_storeu_pd(p, piece);
        p += 2;
        piece = _mm256_extractf128_pd((__m256d)v, 1);
    }
    if (n & 1) _mm_store_sd(p, piece);
}
#else
#define DNN_PART(n) \
    ((__m256i)((dnn_mask){0, 1, 2, 3, 4, 5, 6, 7} < ((dnn_int)(n) - (dnn_mask){0})))
#define DNN_LOAD_PART(p, n) ((dnn_vec)_mm256_maskload_ps(p, DNN_PART(n)))
static inline void dnn_store_part(float *p, dnn_vec v, int n) {
    __m128 piece = _mm256_castps256_ps128((__m256)v);
    if (n == 8) {
        DNN_STORE(p, v);
        return;
    }
    if (n & 4) {
        _mm_storeu_ps(p, piece);
        p += 4;
        piece = _mm256_extractf128_ps((__m256)v, 1);
    }
    if (n & 2) {
        _mm_storel_pi((__m64 *)p, piece);
        p += 2;
        piece = _mm_movehl_ps(piece, piece);
    }
    if (n & 1) _mm_store_ss(p, piece);
}
#endif
#ifndef __AVX512F__ /* AVX2's masked stores are microcode on AMD, some 20 cycles each: Zen 3 */
#define DNN_STORE_PART(p, v, n) dnn_store_part(p, v, n)
#endif
#else
static inline dnn_vec dnn_load_part(const dnn_real *p, int n) {
    dnn_real whole[DNN_VECTOR_BYTES / sizeof(dnn_real)] = {0};
    memcpy(whole, p, n * sizeof(dnn_real));
    return DNN_LOAD(whole);
}
static inline void dnn_store_part(dnn_real *p, dnn_vec v, int n) {
    dnn_real whole[DNN_VECTOR_BYTES / sizeof(dnn_real)];
    DNN_STORE(whole, v);
    memcpy(p, whole, n * sizeof(dnn_real));
}
#define DNN_LOAD_PART(p, n) dnn_load_part(p, n)
#define DNN_STORE_PART(p, v, n) dnn_store_part(p, v, n)
#endif

/* Half a vector, where a machine has an instruction for it that costs less. */
#if DNN_VECTOR_BYTES == 64
#define DNN_HALVES 1
typedef dnn_real dnn_half __attribute__((vector_size(32)));
typedef dnn_real dnn_half_in_memory
    __attribute__((vector_size(32), aligned(sizeof(dnn_real)), may_alias));
#define DNN_LOAD_HALF(p) ((dnn_half)(*(const dnn_half_in_memory *)(p)))
#ifdef DNN_FLOAT64
#define DNN_LOWER(v) ((dnn_half)_mm512_castpd512_pd256((__m512d)(v)))
#define DNN_WIDEN(v) ((dnn_vec)_mm512_zextpd256_pd512((__m256d)(v)))
#else
#define DNN_LOWER(v) ((dnn_half)_mm512_castps512_ps256((__m512)(v)))
#define DNN_WIDEN(v) ((dnn_vec)_mm512_zextps256_ps512((__m256)(v)))
#endif
#else
#define DNN_HALVES 0
#endif

/* max(a, b) is b unless a > b: in relu NaN stays, and so does -0. */
#define DNN_RELU(v) DNN_MAX(DNN_BROADCAST(0), v)

enum { DNN_LANES = DNN_VECTOR_BYTES / (int)sizeof(dnn_real), DNN_MR = DNN_TILE_ROWS };

#endif
