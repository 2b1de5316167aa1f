/* Device memory: who holds how much, for the peak that --stats and sweeps report. */
#include "cuda.h"

/* Room for one more. */
static int grow(prxi_cuda *u)
{
    if (u->n_held < u->most_held)
        return PRX_OK;
    const int most = u->most_held ? 2 * u->most_held : 256;
    prxi_cuda_block *more = prxi_alloc(u->own.mem, PRXI_MEM_MISC, (size_t)most * sizeof *more);
    if (!more)
        return PRX_ENOMEM;
    for (int i = 0; i < u->n_held; i++)
        more[i] = u->held[i];
    prxi_free(u->own.mem, u->held);
    u->held = more;
    u->most_held = most;
    return PRX_OK;
}

void *prxi_cuda_take(prxi_cuda *u, size_t bytes)
{
    void *p = grow(u) < 0 ? NULL : u->module->alloc(u->dev, bytes);
    if (!p)
        return NULL;
    u->held[u->n_held++] = (prxi_cuda_block) { p, bytes };
    u->bytes += bytes;
    if (u->bytes > u->peak)
        u->peak = u->bytes;
    return p;
}

void prxi_cuda_give(prxi_cuda *u, void *p)
{
    for (int i = u->n_held - 1; i >= 0; i--)        /* the youngest go first */
        if (u->held[i].p == p) {
            u->bytes -= u->held[i].bytes;
            u->held[i] = u->held[--u->n_held];
            break;
        }
    u->module->release(u->dev, p);
}
