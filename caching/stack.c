/* Residuals of stretches of blocks, in runs of elements with one rounding each. */
#include "stack.h"

#include "elem.h"
#include "engine/core/device.h"
#include "ops.h"

typedef struct pass {
    prxi_dtype t;
    int64_t n;
    double sign;
    const void *a, *b;
    void *out;
} pass;

/* out = a + sign * b */
static void one_run(void *cookie, int64_t index, int thread)
{
    (void)thread;
    const pass *p = cookie;
    const int64_t at = index * PRXI_ELEM_RUN, left = p->n - at;
    const int n = left < PRXI_ELEM_RUN ? (int)left : PRXI_ELEM_RUN;
    double a[PRXI_ELEM_RUN], b[PRXI_ELEM_RUN];
    prxi_elem_load(p->t, p->a, (size_t)at, n, a);
    prxi_elem_load(p->t, p->b, (size_t)at, n, b);
    for (int i = 0; i < n; i++)
        a[i] += p->sign * b[i];
    prxi_elem_store(p->t, p->out, (size_t)at, n, a);
}

void prxi_residual_take(prxi_stream *s, prxi_dtype t, int64_t n, const void *after, const void *before, void *out)
{
    pass p = { t, n, -1, after, before, out };
    const prxi_forecast_update_args a = { n, t, t, 1, after, before, &out, &out, NULL };
    if (s->device) {
        s->device->cache->update(s, &a);
        return;
    }
    prxi_parallel_for(s, (n + PRXI_ELEM_RUN - 1) / PRXI_ELEM_RUN, one_run, &p);
}

void prxi_residual_add(prxi_stream *s, prxi_dtype t, int64_t n, const void *residual, void *x)
{
    pass p = { t, n, 1, x, residual, x };
    const double one = 1;
    void *d = (void *)(uintptr_t)residual;
    const prxi_forecast_apply_args a = { n, t, t, 1, 1, &d, x, &one };
    if (s->device) {
        s->device->cache->apply(s, &a);
        return;
    }
    prxi_parallel_for(s, (n + PRXI_ELEM_RUN - 1) / PRXI_ELEM_RUN, one_run, &p);
}

static size_t branch_bytes(const prxi_cache_env *env)
{
    return prxi_mul((size_t)(env->tokens * env->dim), prxi_dtype_size(env->dtype));
}

size_t prxi_stack_bytes(const prxi_cache_env *env)
{
    return prxi_mul((size_t)env->branches, branch_bytes(env));
}

int prxi_stack_open(prxi_ctx *c, prxi_stack *k, const prxi_cache_env *env)
{
    *k = (prxi_stack) { .elem = env->dtype, .blocks = env->blocks, .n = env->tokens * env->dim, .device = env->device };
    for (int i = 0; i < env->branches; i++)
        if (!(k->residual[i] = prxi_device_alloc(c, env->device, PRXI_MEM_CACHE, branch_bytes(env))))
            return prxi_fail_nomem(c, "cache buffers", branch_bytes(env));
    return PRX_OK;
}

void prxi_stack_close(prxi_ctx *c, prxi_stack *k)
{
    for (int i = 0; i < PRXI_BRANCHES; i++)
        prxi_device_free(c, k->device, k->residual[i]);
    *k = (prxi_stack) { 0 };
}

int prxi_stack_pass(prxi_stream *s, prxi_stack *k, const prxi_cache_call *call, int block, void *x)
{
    void *r = k->residual[call->branch];
    if (call->report->cached) {
        if (block == 0)
            prxi_residual_add(s, k->elem, k->n, r, x);
        return k->blocks;
    }
    if (block == 0)
        prxi_stream_copy(s, r, x, (size_t)k->n * prxi_dtype_size(k->elem));
    else if (block == k->blocks)
        prxi_residual_take(s, k->elem, k->n, x, r, r);
    return block;
}
