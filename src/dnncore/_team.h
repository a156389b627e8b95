/* A team of threads for work that comes in phases of independent tiles.
 *
 * Workers are created when first asked for, parked while idle, shared by all networks of the
 * process, and never touch Python. A phase is over when its tiles are done, not when all threads
 * have arrived: a worker that the system has put aside holds up nobody unless it holds a tile.
 * The thread that finishes the last tile of a phase prepares the next one.
 *
 * Without POSIX threads and GNU atomics there are no workers and the caller does all the work.
 */
#ifndef DNNCORE_TEAM_H
#define DNNCORE_TEAM_H

#include <stdint.h>
#include <string.h>

#include "_clock.h"
#include "_platform.h"

/* A phase has at most DNN_MAX_TILES tiles. */
enum { DNN_MAX_WORKERS = 63, DNN_MAX_TILES = 32768 };

/* Does tile `tile` of the current phase. */
typedef void (*dnn_tile)(void *job, int worker, uint64_t tile);
/* Prepares the next phase and returns its number of tiles, 0 for none. */
typedef uint64_t (*dnn_next)(void *job);

#if defined(__GNUC__) && !defined(_WIN32)
#define DNN_HAVE_TEAM 1
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#if defined(__x86_64__) || defined(__i386__)
#define dnn_pause() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define dnn_pause() __asm__ __volatile__("yield")
#else
#define dnn_pause() ((void)0)
#endif

/* Waiting: first watch the word (some 20 microseconds), then offer the processor to others
 * between two looks (some 100 if nobody wants it), then sleep. Waking a sleeper takes longer than
 * most phases, but a core spun on for longer is a core taken from somebody. If somebody did want
 * it, the offer costs a time slice, and a thread that sleeps gets its turn back sooner: then the
 * next waits of the run make no offer. */
#ifndef DNN_SPINS
#define DNN_SPINS 400
#define DNN_YIELDS 200
#endif
/* Seconds of looking for another run before a worker is parked: in a loop over predictions or single
 * steps, waking it would take longer than the run, and between two of them Python gathers a batch. */
#ifndef DNN_PARKING
#define DNN_PARKING 100e-6
#endif
#define DNN_TAKEN 200e-6 /* seconds: an offer that nobody takes is over in one microsecond */
enum { DNN_CROWDED_WAITS = 200 };

typedef struct {
    /* One word, so that it changes as one, of four times 16 bits: number of the phase, its tiles
     * (0 ends the run), tiles claimed from the front, tiles claimed from the back. A late thread
     * can never claim a tile of another phase than it believes. */
    uint64_t claim;
    char pad1[56];
    uint64_t done; /* tiles of this phase that are finished */
    char pad2[56];
    int crowded; /* waits that go to sleep without an offer */
    int sleepers;
    int helpers; /* workers that have not left yet */
    pthread_mutex_t lock;
    pthread_cond_t changed;
} dnn_phases;

typedef struct {
    dnn_phases phases;
    dnn_tile tile;
    dnn_next next;
    void *job;
    const dnn_clock *clock; /* or NULL */
    uint64_t mode;          /* the caller's floating-point mode: rounding, denormals */
} dnn_run;

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t called;
    int busy; /* under the pool's lock */
    int index;
    dnn_run *run;
} dnn_worker;

static struct {
    pthread_mutex_t lock;
    dnn_worker workers[DNN_MAX_WORKERS];
    int count;
} dnn_pool = {.lock = PTHREAD_MUTEX_INITIALIZER};

#define DNN_FIELD(word, i) (((word) >> (16 * (i))) & UINT64_C(0xFFFF))
#define DNN_PHASE(word) DNN_FIELD(word, 3)
/* What a waiting thread watches: also the tiles, so that it sees the end of a run even if just as
 * many phases have passed as the number can count. */
#define DNN_STATE(word) ((word) >> 32)
#define DNN_WORD(phase, tiles) (((uint64_t)(phase) << 48) | ((uint64_t)(tiles) << 32))

static void dnn_publish(dnn_phases *p, uint64_t phase, uint64_t tiles) {
    __atomic_store_n(&p->done, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&p->claim, DNN_WORD(phase, tiles), __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&p->sleepers, __ATOMIC_SEQ_CST)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->changed);
        pthread_mutex_unlock(&p->lock);
    }
}

static void dnn_wait_while(dnn_phases *p, uint64_t state) {
    int i;
    for (i = 0; i < DNN_SPINS; i++) {
        if (DNN_STATE(__atomic_load_n(&p->claim, __ATOMIC_ACQUIRE)) != state) return;
        dnn_pause();
    }
    if (__atomic_load_n(&p->crowded, __ATOMIC_RELAXED) > 0) {
        __atomic_sub_fetch(&p->crowded, 1, __ATOMIC_RELAXED);
    } else {
        double offered = dnn_seconds(), now;
        for (i = 0; i < DNN_YIELDS; i++) {
            if (DNN_STATE(__atomic_load_n(&p->claim, __ATOMIC_ACQUIRE)) != state) return;
            sched_yield();
            now = dnn_seconds();
            if (now - offered > DNN_TAKEN) {
                __atomic_store_n(&p->crowded, DNN_CROWDED_WAITS, __ATOMIC_RELAXED);
                break;
            }
            offered = now;
        }
    }
    pthread_mutex_lock(&p->lock);
    __atomic_add_fetch(&p->sleepers, 1, __ATOMIC_SEQ_CST);
    while (DNN_STATE(__atomic_load_n(&p->claim, __ATOMIC_SEQ_CST)) == state)
        pthread_cond_wait(&p->changed, &p->lock);
    __atomic_sub_fetch(&p->sleepers, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&p->lock);
}

/* Takes part in all phases until the last is over. Every other worker begins at the back, so
 * that two of them come back to the same tiles in every step, whose weights they have in cache. */
static void dnn_take_part(dnn_run *run, int worker) {
    dnn_phases *p = &run->phases;
    int backwards = worker & 1;
    for (;;) {
        uint64_t word = __atomic_fetch_add(&p->claim, backwards ? UINT64_C(1) << 16 : 1,
                                           __ATOMIC_ACQ_REL);
        uint64_t tiles = DNN_FIELD(word, 2), back = DNN_FIELD(word, 1), front = DNN_FIELD(word, 0);
        if (tiles == 0) return;
        if (front + back < tiles) {
            run->tile(run->job, worker, backwards ? tiles - 1 - back : front);
            if (__atomic_add_fetch(&p->done, 1, __ATOMIC_ACQ_REL) == tiles) {
                dnn_begin(run->clock, worker, DNN_CELL_NEXT);
                dnn_publish(p, DNN_PHASE(word) + 1, run->next(run->job));
            }
        } else {
            dnn_begin(run->clock, worker, DNN_CELL_WAIT);
            dnn_wait_while(p, DNN_STATE(word));
        }
    }
}

static void *dnn_worker_main(void *argument) {
    dnn_worker *self = (dnn_worker *)argument;
    for (;;) {
        dnn_run *run;
        int index, i;
        uint64_t mode;
        double until = dnn_seconds() + DNN_PARKING;
        while (__atomic_load_n(&self->run, __ATOMIC_RELAXED) == NULL && dnn_seconds() < until) {
            for (i = 0; i < 8; i++) dnn_pause();
        }
        pthread_mutex_lock(&self->lock);
        while (self->run == NULL) pthread_cond_wait(&self->called, &self->lock);
        run = self->run;
        index = self->index;
        __atomic_store_n(&self->run, NULL, __ATOMIC_RELAXED);
        pthread_mutex_unlock(&self->lock);
        mode = dnn_float_mode();
        dnn_set_float_mode(run->mode);
        dnn_take_part(run, index);
        dnn_begin(run->clock, index, DNN_CELL_OFF);
        dnn_set_float_mode(mode);
        /* Free for the next run before the caller knows, or it would call up another thread. */
        pthread_mutex_lock(&dnn_pool.lock);
        self->busy = 0;
        pthread_mutex_unlock(&dnn_pool.lock);
        pthread_mutex_lock(&run->phases.lock);
        __atomic_sub_fetch(&run->phases.helpers, 1, __ATOMIC_RELAXED);
        pthread_cond_broadcast(&run->phases.changed);
        pthread_mutex_unlock(&run->phases.lock);
    }
    return NULL;
}

static int dnn_start_worker(dnn_worker *fresh) {
    pthread_t thread;
    sigset_t all, old;
    int failed;
    memset(fresh, 0, sizeof *fresh);
    pthread_mutex_init(&fresh->lock, NULL);
    pthread_cond_init(&fresh->called, NULL);
    sigfillset(&all); /* signals are for the threads that run Python */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    failed = pthread_create(&thread, NULL, dnn_worker_main, fresh);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!failed) pthread_detach(thread);
    return !failed;
}

static pthread_once_t dnn_pool_once = PTHREAD_ONCE_INIT;

/* In the child of a fork: threads do not survive one, and their locks may be held for good. */
static void dnn_forget_workers(void) {
    pthread_mutex_init(&dnn_pool.lock, NULL);
    dnn_pool.count = 0;
}

static void dnn_watch_forks(void) { pthread_atfork(NULL, NULL, dnn_forget_workers); }

/* Calls up to `wanted` idle workers to the run. Fewer may come: results do not depend on it. */
static void dnn_call_workers(dnn_run *run, int wanted) {
    dnn_worker *called[DNN_MAX_WORKERS];
    int i, found = 0;
    pthread_once(&dnn_pool_once, dnn_watch_forks);
    if (wanted > DNN_MAX_WORKERS) wanted = DNN_MAX_WORKERS;
    pthread_mutex_lock(&dnn_pool.lock);
    for (i = 0; i < dnn_pool.count && found < wanted; i++) {
        if (!dnn_pool.workers[i].busy) called[found++] = &dnn_pool.workers[i];
    }
    while (found < wanted && dnn_pool.count < DNN_MAX_WORKERS
           && dnn_start_worker(&dnn_pool.workers[dnn_pool.count])) {
        called[found++] = &dnn_pool.workers[dnn_pool.count++];
    }
    for (i = 0; i < found; i++) called[i]->busy = 1;
    pthread_mutex_unlock(&dnn_pool.lock);
    run->phases.helpers = found;
    for (i = 0; i < found; i++) {
        pthread_mutex_lock(&called[i]->lock);
        __atomic_store_n(&called[i]->run, run, __ATOMIC_RELAXED);
        called[i]->index = i + 1;
        pthread_cond_signal(&called[i]->called);
        pthread_mutex_unlock(&called[i]->lock);
    }
}

#else
#define DNN_HAVE_TEAM 0
#endif

/* Runs phases until `next` returns 0; the first one has `tiles` tiles. The caller is worker 0
 * and has set its floating-point mode, which all work in. `clock`, if not NULL, has room for all threads. */
static void dnn_run_phases(int threads, uint64_t tiles, dnn_tile tile, dnn_next next, void *job,
                           const dnn_clock *clock) {
    dnn_begin(clock, 0, DNN_CELL_NEXT);
#if DNN_HAVE_TEAM
    if (threads > 1) {
        dnn_run run;
        int i;
        memset(&run, 0, sizeof run);
        run.phases.claim = DNN_WORD(0, tiles);
        run.tile = tile;
        run.next = next;
        run.job = job;
        run.clock = clock;
        run.mode = dnn_float_mode();
        pthread_mutex_init(&run.phases.lock, NULL);
        pthread_cond_init(&run.phases.changed, NULL);
        dnn_call_workers(&run, threads - 1);
        dnn_take_part(&run, 0);
        dnn_begin(clock, 0, DNN_CELL_WAIT);
        for (i = 0; i < DNN_SPINS && __atomic_load_n(&run.phases.helpers, __ATOMIC_RELAXED) > 0; i++)
            dnn_pause();
        pthread_mutex_lock(&run.phases.lock);
        while (run.phases.helpers > 0)
            pthread_cond_wait(&run.phases.changed, &run.phases.lock);
        pthread_mutex_unlock(&run.phases.lock);
        pthread_cond_destroy(&run.phases.changed);
        pthread_mutex_destroy(&run.phases.lock);
        dnn_begin(clock, 0, DNN_CELL_OFF);
        return;
    }
#else
    (void)threads;
#endif
    while (tiles > 0) {
        uint64_t at;
        for (at = 0; at < tiles; at++) tile(job, 0, at);
        dnn_begin(clock, 0, DNN_CELL_NEXT);
        tiles = next(job);
    }
    dnn_begin(clock, 0, DNN_CELL_OFF);
}

#endif
