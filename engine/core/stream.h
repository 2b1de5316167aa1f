/* A stream: threads, scratch and the first error of a chain of kernels. Kernels return nothing;
 * the pipeline asks for the error once a step. One job = one stream = one thread at a time. */
#ifndef PRXI_STREAM_H
#define PRXI_STREAM_H

#include "ctx.h"

typedef struct prxi_stream {
    prxi_ctx *ctx;          /* errors land here; the first one is kept (sticky) */
    int n_threads;          /* >= 1 */
    atomic_int failed;      /* 0 or the status code of the first error */
    const atomic_int *cancel;   /* may be NULL; non-zero asks long kernels and loops to stop */
    struct prxi_pool *pool;     /* worker threads, started by the first loop that wants them; NULL before */
    struct prxi_device *device; /* where the kernels of this stream run; NULL: here */
} prxi_stream;

void prxi_stream_init(prxi_stream *s, prxi_ctx *c, int n_threads);
/* Ends the worker threads. */
void prxi_stream_close(prxi_stream *s);
/* First error wins; safe from worker threads. op names the kernel. */
void prxi_stream_fail(prxi_stream *s, int code, const char *op, const char *why);
static inline int prxi_stream_error(const prxi_stream *s) { return atomic_load(&s->failed); }

/* Calls fn(cookie, i, thread) for i in [0, n), each once, on up to n_threads threads; returns when all are done. A
 * worker that the system has not scheduled yet is not waited for. Which thread takes which item is not fixed, so an
 * item's result must not depend on `thread` (an index below n_threads, for per-thread scratch). Items are handed out in
 * order. Does not nest: a call from inside a worker runs its items in that worker, with thread 0. fn reports errors
 * through prxi_stream_fail. */
typedef void (*prxi_task_fn)(void *cookie, int64_t i, int thread);
void prxi_parallel_for(prxi_stream *s, int64_t n, prxi_task_fn fn, void *cookie);

#endif
