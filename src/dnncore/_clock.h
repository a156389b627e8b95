/* Where the time of a run goes: each worker's ticks by what it was doing.
 *
 * A worker says what it is about to do, once for each piece of work; the time until it says so
 * again belongs to that. Each writes to cache lines of its own. Without a clock (NULL) all that
 * remains is the test for it.
 */
#ifndef DNNCORE_CLOCK_H
#define DNNCORE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "_platform.h"

/* Cells that belong to no operation. Time in the first counts for nothing. */
enum {
    DNN_CELL_OFF,
    DNN_CELL_WAIT,
    DNN_CELL_NEXT,
    DNN_CELL_GATHER,
    DNN_CELL_LOSS,
    DNN_CELL_UPDATE, /* of all parameters, in a phase of its own */
    DNN_CELLS
};

typedef struct {
    uint64_t *workers; /* per worker: last tick, cell, padding; then ticks and calls by cell */
    size_t stride;     /* in words, whole cache lines */
} dnn_clock;

enum { DNN_CLOCK_HEAD = 8 };

static inline uint64_t dnn_ticks(void) {
#if defined(__x86_64__) && defined(__GNUC__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__) && defined(__GNUC__)
    uint64_t now;
    __asm__ __volatile__("mrs %0, cntvct_el0" : "=r"(now));
    return now;
#else
    return (uint64_t)(1e9 * dnn_seconds());
#endif
}

static inline void dnn_tell(const dnn_clock *clock, int worker, int cell) {
    uint64_t *own = clock->workers + (size_t)worker * clock->stride;
    uint64_t now = dnn_ticks();
    own[DNN_CLOCK_HEAD + 2 * own[1]] += now - own[0];
    own[DNN_CLOCK_HEAD + 2 * cell + 1]++;
    own[0] = now;
    own[1] = (uint64_t)cell;
}

static inline void dnn_begin(const dnn_clock *clock, int worker, int cell) {
    if (clock != NULL) dnn_tell(clock, worker, cell);
}

#endif
