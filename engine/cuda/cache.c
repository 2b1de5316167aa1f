/* Step caches on the device: measures, ladders and residuals of tensors that never leave it. */
#include "caching/ops.h"
#include "cuda.h"

#include <math.h>

static prxi_cuda *of(const prxi_stream *s)
{
    return (prxi_cuda *)s->device;
}

/* Begins a call: 0 after an error. */
static int ready(prxi_stream *s)
{
    if (prxi_stream_error(s))
        return 0;
    pthread_mutex_lock(&of(s)->lock);
    return 1;
}

static void done(prxi_stream *s, int err)
{
    if (err == PRX_OK && of(s)->wait)
        err = of(s)->module->sync(of(s)->dev);
    if (err < 0)
        prxi_stream_fail(s, err, s->device->name, s->device->error(s->device));
    pthread_mutex_unlock(&of(s)->lock);
}

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
    if (ready(s))
        done(s, of(s)->module->drift(of(s)->dev, &a));
    if (!prxi_stream_error(s)) {
        const int err = s->device->get(s->device, total, a.total, sizeof total);
        if (err < 0)
            prxi_stream_fail(s, err, s->device->name, s->device->error(s->device));
    }
    return total[0] / total[1];
}

static void store(prxi_stream *s, const prxi_drift *d)
{
    const prxi_cu_drift a = drift_of(d, 1);
    if (ready(s))
        done(s, of(s)->module->drift(of(s)->dev, &a));
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
    if (ready(s))
        done(s, of(s)->module->forecast_update(of(s)->dev, &a));
}

static void apply(prxi_stream *s, const prxi_forecast_apply_args *p)
{
    prxi_cu_forecast a = { .n = p->n, .type = p->t, .elem = p->elem, .terms = p->terms, .add = p->add, .y = p->y };
    for (int i = 0; i < p->terms; i++) {
        a.d[i] = p->d[i];
        a.weight[i] = p->weight[i];
    }
    if (ready(s))
        done(s, of(s)->module->forecast_apply(of(s)->dev, &a));
}

static double distance(prxi_stream *s, int64_t n, const float *a, const float *b)
{
    double out[2] = { NAN, NAN };
    if (ready(s))
        done(s, prxi_cuda_reduce(of(s), n, a, b, out));
    return out[0];
}

const prxi_cache_ops prxi_cuda_cache_ops = { measure, store, update, apply, distance };
