/* Sticky errors and the parallel loop (OpenMP; serial without it). */
#include "stream.h"

#if defined(_OPENMP)
#include <omp.h>
#endif

void prxi_stream_init(prxi_stream *s, prxi_ctx *c, int n_threads)
{
    s->ctx = c;
    s->n_threads = n_threads > 0 ? n_threads : 1;
    atomic_init(&s->failed, PRX_OK);
    s->cancel = NULL;
}

void prxi_stream_fail(prxi_stream *s, int code, const char *op, const char *why)
{
    int none = PRX_OK;
    if (atomic_compare_exchange_strong(&s->failed, &none, code))
        prxi_fail(s->ctx, code, "%s: %s", op, why);
}

void prxi_parallel_for(prxi_stream *s, int64_t n, prxi_task_fn fn, void *cookie)
{
#if defined(_OPENMP)
    const int threads = n < s->n_threads ? (int)n : s->n_threads;
    if (threads > 1 && !omp_in_parallel()) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
        for (int64_t i = 0; i < n; i++)
            fn(cookie, i, omp_get_thread_num());
        return;
    }
#else
    (void)s;
#endif
    for (int64_t i = 0; i < n; i++)
        fn(cookie, i, 0);
}
