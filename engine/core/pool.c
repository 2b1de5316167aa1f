/* The parallel loop: the caller and some workers take items from one counter. The caller waits for items, never for threads: a
 * worker that wakes up late finds the loop closed and goes back to sleep. So a busy machine costs its share and no more, where a
 * barrier would wait a time slice for every loop. */
#include <pthread.h>
#include <string.h>

#include "stream.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define relax() _mm_pause()
#else
#define relax() ((void)0)
#endif

enum { MAX_WORKERS = 1023, SPINS = 2000 };     /* a few tens of microseconds: the next loop of a network comes sooner */

typedef struct loop {
    prxi_task_fn fn;
    void *cookie;
    int64_t n;
} loop;

typedef struct prxi_pool prxi_pool;

typedef struct worker {
    prxi_pool *pool;
    pthread_t thread;
    int index;                      /* 1, 2, ... */
} worker;

struct prxi_pool {
    prxi_mem *mem;
    pthread_mutex_t lock;
    pthread_cond_t begin, end;
    loop current;                   /* under lock */
    int open, wanted, active;       /* loop takes workers; with an index up to this; that work on it: under lock */
    int stop;
    unsigned generation;            /* of loops: under lock */
    /* What threads watch without the lock. Written after the lock is free again: who sees the change takes it at once, and would be
     * put to sleep if it were held. */
    atomic_uint begun;              /* generation */
    atomic_int busy;                /* active */
    atomic_llong next;              /* item */
    int n_workers;
    worker workers[MAX_WORKERS];
};

/* Loops do not nest: inside a task they run where they are. */
static _Thread_local int inside_task;

static void run_items(prxi_pool *p, const loop *l, int thread)
{
    inside_task = 1;
    for (int64_t i; (i = atomic_fetch_add(&p->next, 1)) < l->n;)
        l->fn(l->cookie, i, thread);
    inside_task = 0;
}

static void run_serial(int64_t n, prxi_task_fn fn, void *cookie)
{
    for (int64_t i = 0; i < n; i++)
        fn(cookie, i, 0);
}

/* Returns, with the lock held, when there may be a loop newer than `seen`: spins a little, then sleeps. */
static void wait_for_loop(prxi_pool *p, unsigned seen)
{
    for (int i = 0; i < SPINS && (int)(atomic_load_explicit(&p->begun, memory_order_relaxed) - seen) <= 0; i++)
        relax();
    pthread_mutex_lock(&p->lock);
    while (!p->stop && p->generation == seen)
        pthread_cond_wait(&p->begin, &p->lock);
}

static void leave_loop(prxi_pool *p)
{
    pthread_mutex_lock(&p->lock);
    if (--p->active == 0)
        pthread_cond_signal(&p->end);
    pthread_mutex_unlock(&p->lock);
    atomic_fetch_sub(&p->busy, 1);
}

static void *work(void *arg)
{
    const worker *w = arg;
    prxi_pool *p = w->pool;
    for (unsigned seen = 0;;) {
        wait_for_loop(p, seen);
        const int stop = p->stop, joins = !stop && p->open && w->index <= p->wanted;
        const loop l = p->current;
        seen = p->generation;
        if (joins) {
            p->active++;
            atomic_fetch_add(&p->busy, 1);
        }
        pthread_mutex_unlock(&p->lock);
        if (stop)
            return NULL;
        if (joins) {
            run_items(p, &l, w->index);
            leave_loop(p);
        }
    }
}

static prxi_pool *open_pool(prxi_stream *s)
{
    prxi_pool *p = prxi_calloc(s->ctx->mem, PRXI_MEM_MISC, 1, sizeof *p);
    if (!p)
        return NULL;
    p->mem = s->ctx->mem;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->begin, NULL);
    pthread_cond_init(&p->end, NULL);
    return p;
}

/* Fewer threads than asked for are no error: the result does not depend on their number. */
static void add_workers(prxi_pool *p, int wanted)
{
    while (p->n_workers < wanted && p->n_workers < MAX_WORKERS) {
        worker *w = &p->workers[p->n_workers];
        w->pool = p;
        w->index = p->n_workers + 1;
        if (pthread_create(&w->thread, NULL, work, w) != 0)
            return;
        p->n_workers++;
    }
}

static void run_parallel(prxi_pool *p, const loop *l, int workers)
{
    pthread_mutex_lock(&p->lock);
    p->current = *l;
    p->open = 1;
    p->wanted = workers;
    atomic_store(&p->next, 0);
    const unsigned generation = ++p->generation;
    pthread_cond_broadcast(&p->begin);
    pthread_mutex_unlock(&p->lock);
    atomic_store(&p->begun, generation);
    run_items(p, l, 0);
    for (int i = 0; i < SPINS && atomic_load_explicit(&p->busy, memory_order_relaxed); i++)
        relax();
    pthread_mutex_lock(&p->lock);
    p->open = 0;
    while (p->active)
        pthread_cond_wait(&p->end, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

void prxi_parallel_for(prxi_stream *s, int64_t n, prxi_task_fn fn, void *cookie)
{
    const int threads = n < s->n_threads ? (int)n : s->n_threads;
    if (threads > 1 && !inside_task && !s->pool)
        s->pool = open_pool(s);
    if (threads <= 1 || inside_task || !s->pool) {
        run_serial(n, fn, cookie);
        return;
    }
    add_workers(s->pool, threads - 1);
    const loop l = { fn, cookie, n };
    run_parallel(s->pool, &l, threads - 1);
}

void prxi_stream_close(prxi_stream *s)
{
    prxi_pool *p = s->pool;
    s->pool = NULL;
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = 1;
    const unsigned generation = ++p->generation;
    pthread_cond_broadcast(&p->begin);
    pthread_mutex_unlock(&p->lock);
    atomic_store(&p->begun, generation);
    for (int i = 0; i < p->n_workers; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->end);
    pthread_cond_destroy(&p->begin);
    pthread_mutex_destroy(&p->lock);
    prxi_free(p->mem, p);
}
