/* What the engine needs from the machine: a clock, prefetching, and denormals flushed to
 * zero per thread. */
#ifndef DNNCORE_PLATFORM_H
#define DNNCORE_PLATFORM_H

#include <stdint.h>
#include <time.h>

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

#ifdef __GNUC__
#define DNN_PREFETCH_LINE(p) __builtin_prefetch(p, 0, 2)
#else
#define DNN_PREFETCH_LINE(p) ((void)0)
#endif

static inline uint64_t dnn_float_mode(void) {
#if defined(__x86_64__) || defined(_M_X64)
    return _mm_getcsr();
#elif defined(__aarch64__) && defined(__GNUC__)
    uint64_t mode;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(mode));
    return mode;
#else
    return 0;
#endif
}

static inline void dnn_set_float_mode(uint64_t mode) {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_setcsr((unsigned int)mode);
#elif defined(__aarch64__) && defined(__GNUC__)
    __asm__ __volatile__("msr fpcr, %0" : : "r"(mode));
#else
    (void)mode;
#endif
}

/* Numbers near zero take a hundred times longer to compute with. The old mode is returned and
 * must be put back before the thread runs code that is not ours. */
static inline uint64_t dnn_flush_denormals(void) {
    uint64_t mode = dnn_float_mode();
#if defined(__x86_64__) || defined(_M_X64)
    dnn_set_float_mode(mode | 0x8040); /* flush to zero, denormals are zero */
#elif defined(__aarch64__) && defined(__GNUC__)
    dnn_set_float_mode(mode | (UINT64_C(1) << 24));
#endif
    return mode;
}

static inline double dnn_seconds(void) {
    struct timespec now;
#if defined(_WIN32)
    timespec_get(&now, TIME_UTC);
#else
    clock_gettime(CLOCK_MONOTONIC, &now);
#endif
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#endif
