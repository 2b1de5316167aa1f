/* Relative L1 of the probe, row by row. */
#include "drift.h"

#include <math.h>

#include "engine/core/device.h"
#include "ops.h"

/* Rows of one task: enough elements to be worth a hand-out. */
enum { ROWS = 8 };

typedef struct pass {
    const prxi_drift *d;
    int store;
} pass;

/* Probe values of columns [at, at + n) of a row, n counted in strided columns. */
static void load_probe(const prxi_drift *d, int64_t row, int64_t at, int n, double *out)
{
    double x[PRXI_ELEM_RUN], base[PRXI_ELEM_RUN];
    const size_t first = (size_t)(row * d->dim);
    if (d->stride == 1) {
        prxi_elem_load(d->elem, d->x, first + (size_t)at, n, x);
        if (d->base)
            prxi_elem_load(d->elem, d->base, first + (size_t)at, n, base);
    } else {
        for (int i = 0; i < n; i++) {
            const size_t k = first + (size_t)((at + i) * d->stride);
            prxi_elem_load(d->elem, d->x, k, 1, x + i);
            if (d->base)
                prxi_elem_load(d->elem, d->base, k, 1, base + i);
        }
    }
    for (int i = 0; i < n; i++)
        out[i] = d->base ? x[i] - base[i] : x[i];
}

static void one_row(const pass *p, int64_t row)
{
    const prxi_drift *d = p->d;
    const int64_t width = prxi_drift_width(d->dim, d->stride);
    double moved = 0, size = 0, now[PRXI_ELEM_RUN], then[PRXI_ELEM_RUN];
    for (int64_t at = 0; at < width; at += PRXI_ELEM_RUN) {
        const int n = width - at < PRXI_ELEM_RUN ? (int)(width - at) : PRXI_ELEM_RUN;
        const size_t k = (size_t)(row * width + at);
        load_probe(d, row, at, n, now);
        if (p->store) {
            prxi_elem_store(d->probe_elem, d->probe, k, n, now);
            continue;
        }
        prxi_elem_load(d->probe_elem, d->probe, k, n, then);
        for (int i = 0; i < n; i++) {
            moved += fabs(then[i] - now[i]);
            size += fabs(then[i]);
        }
    }
    if (!p->store) {
        d->scratch[2 * row] = moved;
        d->scratch[2 * row + 1] = size;
    }
}

static void some_rows(void *cookie, int64_t i, int thread)
{
    (void)thread;
    const pass *p = cookie;
    for (int64_t row = i * ROWS; row < (i + 1) * ROWS && row < p->d->rows; row++)
        one_row(p, row);
}

void prxi_drift_store(prxi_stream *s, const prxi_drift *d)
{
    if (s->device) {
        s->device->cache->store(s, d);
        return;
    }
    pass p = { d, 1 };
    prxi_parallel_for(s, (d->rows + ROWS - 1) / ROWS, some_rows, &p);
}

double prxi_latent_distance(prxi_stream *s, int64_t n, const float *a, const float *b)
{
    if (s->device)
        return s->device->cache->distance(s, n, a, b);
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += fabs((double)a[i] - (b ? b[i] : 0));
    return sum;
}

double prxi_drift_measure(prxi_stream *s, const prxi_drift *d)
{
    if (s->device)
        return s->device->cache->measure(s, d);
    pass p = { d, 0 };
    double moved = 0, size = 0, all_moved = 0, all_size = 0;
    prxi_parallel_for(s, (d->rows + ROWS - 1) / ROWS, some_rows, &p);
    for (int64_t row = 0; row < d->rows; row++) {
        const double m = d->scratch[2 * row], n = d->scratch[2 * row + 1];
        all_moved += m;
        all_size += n;
        if (d->important > 0 && m / n > d->important) {
            moved += m;
            size += n;
        }
    }
    return size > 0 ? moved / size : all_moved / all_size;
}
