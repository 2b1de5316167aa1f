/* Sticky errors. The loops are in pool.c. */
#include "stream.h"

void prxi_stream_init(prxi_stream *s, prxi_ctx *c, int n_threads)
{
    s->ctx = c;
    s->n_threads = n_threads > 0 ? n_threads : 1;
    atomic_init(&s->failed, PRX_OK);
    s->cancel = NULL;
    s->pool = NULL;
    s->device = NULL;
}

void prxi_stream_fail(prxi_stream *s, int code, const char *op, const char *why)
{
    int none = PRX_OK;
    if (atomic_compare_exchange_strong(&s->failed, &none, code))
        prxi_fail(s->ctx, code, "%s: %s", op, why);
}
