/* The team of threads under stress: several runs at once, delays wherever threads meet.
 *
 * Every tile reads what all tiles of the phase before wrote, and writes a place of its own, both
 * without atomics: any order that the team does not enforce is a data race for ThreadSanitizer,
 * and a wrong sum without it. Usage: team_stress SEED RUNS PHASES THREADS.
 */
#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static __thread uint64_t chance;

static uint64_t draw(void) {
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return chance;
}

/* Now and then another thread gets its turn, or this one takes its time. */
static void delay(void) {
    uint64_t n;
    if (chance == 0) chance = (uint64_t)(uintptr_t)&chance * UINT64_C(0x9E3779B97F4A7C15) | 1;
    n = draw() & 255;
    if (n < 16) sched_yield();
    if (n >= 250)
        for (n = draw() & 4095; n > 0; n--) __asm__ __volatile__("");
}

#ifndef NO_DELAYS
#define __atomic_fetch_add(...) (delay(), __atomic_fetch_add(__VA_ARGS__))
#define __atomic_add_fetch(...) (delay(), __atomic_add_fetch(__VA_ARGS__))
#define __atomic_load_n(...) (delay(), __atomic_load_n(__VA_ARGS__))
#define __atomic_store_n(...) (delay(), __atomic_store_n(__VA_ARGS__))
#define DNN_SPINS 3 /* all three ways of waiting are taken */
#define DNN_YIELDS 3
#endif
#include "_team.h"

enum { MOST = 40, CALLERS = 3 };
#define ROUNDING UINT64_C(0xC06000) /* in the mode word of x86 and of ARM */

typedef struct {
    uint64_t cells[2][MOST];
    uint64_t tiles[2], phase, phases, seed, errors;
    uint64_t rounding;
    int calls[MOST];
    double scratch[DNN_MAX_WORKERS + 1]; /* one a worker, as the engine's */
} work;

static uint64_t mix(uint64_t x) {
    x ^= x >> 31;
    x *= UINT64_C(0x9E3779B97F4A7C15);
    return x ^ (x >> 29);
}

static uint64_t tiles_of(const work *w, uint64_t phase) {
    uint64_t n = mix(w->seed + phase);
    return n % 4 == 0 ? 1 : n % 4 == 1 ? 2 : 1 + (n >> 8) % MOST;
}

static void tile(void *job, int worker, uint64_t at) {
    work *w = (work *)job;
    uint64_t now = w->phase & 1, sum = 0, i;
    if ((dnn_float_mode() & ROUNDING) != w->rounding) __atomic_add_fetch(&w->errors, 1, __ATOMIC_RELAXED);
    w->scratch[worker] = (double)at;
    for (i = 0; i < w->tiles[1 - now]; i++) sum += mix(w->cells[1 - now][i] + i);
    w->cells[now][at] = mix(sum + at + w->phase);
    w->calls[at]++;
    if (w->scratch[worker] != (double)at) __atomic_add_fetch(&w->errors, 1, __ATOMIC_RELAXED);
}

static uint64_t next(void *job) {
    work *w = (work *)job;
    uint64_t i, tiles = w->tiles[w->phase & 1];
    for (i = 0; i < tiles; i++) {
        if (w->calls[i] != 1) w->errors++;
        w->calls[i] = 0;
    }
    if (++w->phase == w->phases) return 0;
    return w->tiles[w->phase & 1] = tiles_of(w, w->phase);
}

static uint64_t result(uint64_t seed, uint64_t phases, int threads, uint64_t *errors) {
    work w;
    uint64_t i, sum = 0;
    memset(&w, 0, sizeof w);
    w.seed = seed;
    w.phases = phases;
    fesetround(seed & 1 ? FE_TOWARDZERO : FE_TONEAREST);
    w.rounding = dnn_float_mode() & ROUNDING; /* all work in the caller's mode */
    w.tiles[0] = tiles_of(&w, 0);
    dnn_run_phases(threads, w.tiles[0], tile, next, &w, NULL);
    fesetround(FE_TONEAREST);
    for (i = 0; i < MOST; i++) sum += mix(w.cells[0][i] + 3 * w.cells[1][i]);
    *errors += w.errors + (w.phase != phases);
    return sum;
}

static uint64_t seed, runs, phases, threads;

static void *caller(void *number) {
    uint64_t errors = 0, i;
    for (i = 0; i < runs; i++) {
        uint64_t own = mix(seed + 1000 * i + (uint64_t)(uintptr_t)number);
        uint64_t alone = result(own, phases, 1, &errors);
        if (result(own, phases, (int)threads, &errors) != alone) errors++;
    }
    return (void *)(uintptr_t)errors;
}

int main(int argc, char **argv) {
    pthread_t callers[CALLERS];
    uintptr_t i, errors = 0;
    if (argc != 5) return 2;
    seed = strtoull(argv[1], NULL, 10);
    runs = strtoull(argv[2], NULL, 10);
    phases = strtoull(argv[3], NULL, 10);
    threads = strtoull(argv[4], NULL, 10);
    for (i = 0; i < CALLERS; i++) pthread_create(&callers[i], NULL, caller, (void *)i);
    for (i = 0; i < CALLERS; i++) {
        void *found;
        pthread_join(callers[i], &found);
        errors += (uintptr_t)found;
    }
    printf("%llu errors\n", (unsigned long long)errors);
    return errors != 0;
}
