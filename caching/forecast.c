/* Calibrators over runs of elements: one pass per update, one per prediction. */
#include "forecast.h"

#include "engine/core/device.h"
#include "ops.h"

static size_t ladder_tensors(prxi_forecast_kind kind, int order)
{
    return kind == PRXI_FORECAST_NONE ? 1 : kind == PRXI_FORECAST_TAYLOR ? 2 * ((size_t)order + 1) : (size_t)order + 1;
}

size_t prxi_forecast_bytes(prxi_forecast_kind kind, int order, prxi_dtype elem, int64_t n)
{
    return ladder_tensors(kind, order) * prxi_mul((size_t)n, prxi_dtype_size(elem));
}

int prxi_forecast_open(prxi_ctx *c, prxi_forecast *f, prxi_forecast_kind kind, int order, prxi_dtype elem, int64_t n)
{
    return prxi_forecast_open_on(c, f, kind, order, elem, n, NULL);
}

int prxi_forecast_open_on(prxi_ctx *c, prxi_forecast *f, prxi_forecast_kind kind, int order, prxi_dtype elem, int64_t n,
                          prxi_device *device)
{
    *f = (prxi_forecast) { .kind = kind, .order = kind == PRXI_FORECAST_NONE ? 0 : order, .elem = elem, .n = n, .device = device };
    const size_t bytes = prxi_mul((size_t)n, prxi_dtype_size(elem));
    for (int i = 0; i <= f->order; i++) {
        f->d[i] = prxi_device_alloc(c, device, PRXI_MEM_CACHE, bytes);
        f->old[i] = kind == PRXI_FORECAST_TAYLOR ? prxi_device_alloc(c, device, PRXI_MEM_CACHE, bytes) : NULL;
        if (!f->d[i] || (kind == PRXI_FORECAST_TAYLOR && !f->old[i])) {
            prxi_forecast_close(c, f);
            return prxi_fail_nomem(c, "cache buffers", bytes);
        }
    }
    prxi_forecast_reset(f);
    return PRX_OK;
}

void prxi_forecast_close(prxi_ctx *c, prxi_forecast *f)
{
    for (int i = 0; i <= PRXI_FORECAST_MAX; i++) {
        prxi_device_free(c, f->device, f->d[i]);
        prxi_device_free(c, f->device, f->old[i]);
        f->d[i] = f->old[i] = NULL;
    }
}

void prxi_forecast_reset(prxi_forecast *f)
{
    f->have = 0;
    f->step = f->first = -1;
}

/* ---- update ---- */

typedef struct update {
    prxi_forecast *f;
    prxi_dtype t;
    const void *after, *before;
    int terms;                       /* of the new ladder */
    double window[PRXI_FORECAST_MAX + 1];   /* divisor of term i + 1 */
} update;

static int run_length(int64_t n, int64_t i)
{
    const int64_t left = n - i * PRXI_ELEM_RUN;
    return left < PRXI_ELEM_RUN ? (int)left : PRXI_ELEM_RUN;
}

/* new[0] = Y, new[i + 1] = (new[i] - old[i]) / window[i]; in place from low to high order. */
static void update_run(void *cookie, int64_t index, int thread)
{
    (void)thread;
    const update *u = cookie;
    prxi_forecast *f = u->f;
    const size_t at = (size_t)index * PRXI_ELEM_RUN;
    const int n = run_length(f->n, index);
    double y[PRXI_ELEM_RUN], old[PRXI_ELEM_RUN];
    prxi_elem_load(u->t, u->after, at, n, y);
    if (u->before) {
        prxi_elem_load(u->t, u->before, at, n, old);
        for (int i = 0; i < n; i++)
            y[i] -= old[i];
    }
    for (int k = 0; k < u->terms; k++) {
        const int more = k + 1 < u->terms;
        if (more)
            prxi_elem_load(f->elem, f->kind == PRXI_FORECAST_TAYLOR ? f->old[k] : f->d[k], at, n, old);
        prxi_elem_store(f->elem, f->d[k], at, n, y);
        for (int i = 0; more && i < n; i++)
            y[i] = (y[i] - old[i]) / u->window[k];
    }
}

/* The published rule: the ladders change places, one window for all orders, and no differences within two steps of the first
 * value, where its counter starts at -1 (differences need it above 1). */
static void plan_taylor(prxi_forecast *f, update *u, int64_t step)
{
    for (int i = 0; i <= f->order; i++) {
        void *swap = f->d[i];
        f->d[i] = f->old[i];
        f->old[i] = swap;
    }
    u->terms = 1;
    if (f->have == 0)
        f->first = step;
    if (step - f->first > 2)
        u->terms = f->have + 1 < f->order + 1 ? f->have + 1 : f->order + 1;
    for (int i = 0; i <= f->order; i++)
        u->window[i] = (double)(step - f->step);
}

static void plan_newton(prxi_forecast *f, update *u, double at)
{
    u->terms = f->have + 1 < f->order + 1 ? f->have + 1 : f->order + 1;
    for (int i = f->order; i > 0; i--)
        f->at[i] = f->at[i - 1];
    f->at[0] = at;
    for (int i = 0; i + 1 < u->terms; i++)
        u->window[i] = at - f->at[i + 1];
}

void prxi_forecast_update(prxi_stream *s, prxi_forecast *f, int64_t step, double at, prxi_dtype t, const void *after,
                          const void *before)
{
    update u = { .f = f, .t = t, .after = after, .before = before, .terms = 1 };
    if (f->kind == PRXI_FORECAST_TAYLOR)
        plan_taylor(f, &u, step);
    else if (f->kind == PRXI_FORECAST_NEWTON)
        plan_newton(f, &u, at);
    const prxi_forecast_update_args a = { f->n, t, f->elem, u.terms, after, before, f->d, f->kind == PRXI_FORECAST_TAYLOR ? f->old : f->d,
                                          u.window };
    if (s->device)
        s->device->cache->update(s, &a);
    else
        prxi_parallel_for(s, (f->n + PRXI_ELEM_RUN - 1) / PRXI_ELEM_RUN, update_run, &u);
    f->have = u.terms;
    f->step = step;
}

/* ---- prediction ---- */

typedef struct apply {
    const prxi_forecast *f;
    prxi_dtype t;
    void *y;
    int add, terms;
    double weight[PRXI_FORECAST_MAX + 1];
} apply;

static void apply_run(void *cookie, int64_t index, int thread)
{
    (void)thread;
    const apply *a = cookie;
    const size_t at = (size_t)index * PRXI_ELEM_RUN;
    const int n = run_length(a->f->n, index);
    double y[PRXI_ELEM_RUN] = { 0 }, d[PRXI_ELEM_RUN];
    if (a->add)
        prxi_elem_load(a->t, a->y, at, n, y);
    for (int k = 0; k < a->terms; k++) {
        prxi_elem_load(a->f->elem, a->f->d[k], at, n, d);
        for (int i = 0; i < n; i++)
            y[i] += a->weight[k] * d[i];
    }
    prxi_elem_store(a->t, a->y, at, n, y);
}

int prxi_forecast_terms(const prxi_forecast *f, int64_t step)
{
    if (f->kind == PRXI_FORECAST_NEWTON && f->gap_cap > 0 && step - f->step > f->gap_cap && f->have > 2)
        return 2;
    return f->have;
}

void prxi_forecast_apply(prxi_stream *s, const prxi_forecast *f, int64_t step, double at, prxi_dtype t, void *y, int add)
{
    apply a = { .f = f, .t = t, .y = y, .add = add, .terms = prxi_forecast_terms(f, step) };
    if (a.terms == 0)
        return;
    a.weight[0] = 1.0;
    for (int k = 1; k < a.terms; k++)      /* powers over factorials; products of distances to the nodes */
        a.weight[k] = a.weight[k - 1] *
                      (f->kind == PRXI_FORECAST_TAYLOR ? (double)(step - f->step) / k : at - f->at[k - 1]);
    const prxi_forecast_apply_args x = { f->n, t, f->elem, a.terms, add, f->d, y, a.weight };
    if (s->device)
        s->device->cache->apply(s, &x);
    else
        prxi_parallel_for(s, (f->n + PRXI_ELEM_RUN - 1) / PRXI_ELEM_RUN, apply_run, &a);
}
