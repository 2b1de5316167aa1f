/* Step caches on the device: measures, ladders and residuals of tensors that never leave it. */
#include "caching/ops.h"
#include "call.h"

#include <math.h>

static prxi_cu_drift drift_of(const prxi_drift *d, int store)
{
    double *total = d->scratch + PRXI_DRIFT_SCRATCH(d->rows) - 2;
    return (prxi_cu_drift) { d->elem, d->probe_elem, d->stride, store, d->rows, d->dim, d->x, d->base, d->probe, d->important,
                             store ? NULL : d->scratch, store ? NULL : total };
}

static double measure(prxi_stream *s, const prxi_drift *d)
{
    const prxi_cu_drift a = drift_of(d, 0);
    double total[2] = { NAN, NAN };
    prxi_cuda *u = ready(s);
    if (u)
        done(s, u->module->drift(u->dev, &a));
    prxi_stream_get(s, total, a.total, sizeof total);
    return total[0] / total[1];
}

static void store(prxi_stream *s, const prxi_drift *d)
{
    const prxi_cu_drift a = drift_of(d, 1);
    prxi_cuda *u = ready(s);
    if (u)
        done(s, u->module->drift(u->dev, &a));
}

static void update(prxi_stream *s, const prxi_forecast_update_args *u)
{
    prxi_cu_forecast a = { .n = u->n, .type = u->t, .elem = u->elem, .terms = u->terms, .after = u->after, .before = u->before };
    for (int i = 0; i < u->terms; i++) {
        a.d[i] = u->d[i];
        if (i + 1 < u->terms) {
            a.old[i] = u->old[i];
            a.window[i] = u->window[i];
        }
    }
    prxi_cuda *cuda = ready(s);
    if (cuda)
        done(s, cuda->module->forecast_update(cuda->dev, &a));
}

static void apply(prxi_stream *s, const prxi_forecast_apply_args *p)
{
    prxi_cu_forecast a = { .n = p->n, .type = p->t, .elem = p->elem, .terms = p->terms, .add = p->add, .y = p->y };
    for (int i = 0; i < p->terms; i++) {
        a.d[i] = p->d[i];
        a.weight[i] = p->weight[i];
    }
    prxi_cuda *cuda = ready(s);
    if (cuda)
        done(s, cuda->module->forecast_apply(cuda->dev, &a));
}

static double distance(prxi_stream *s, int64_t n, const float *a, const float *b)
{
    double out[2] = { NAN, NAN };
    prxi_cuda *u = ready(s);
    if (u)
        done(s, prxi_cuda_reduce(u, n, a, b, out));
    return out[0];
}

const prxi_cache_ops prxi_cuda_cache_ops = { measure, store, update, apply, distance };
