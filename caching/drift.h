/* How far a probe has moved: relative L1 against that of the last computed step (caching.md 1.5). */
#ifndef PRXI_DRIFT_H
#define PRXI_DRIFT_H

#include "elem.h"
#include "engine/core/stream.h"

typedef struct prxi_drift {
    prxi_dtype elem;             /* of x and base */
    int64_t rows, dim;          /* tokens, channels */
    const void *x, *base;       /* the probe is x - base; base NULL: x */
    prxi_dtype probe_elem;
    void *probe;                /* [rows, ceil(dim / stride)]: the probe of the last computed step */
    int stride;                 /* every stride-th channel */
    double important;           /* > 0: only tokens that moved by more than this share count */
    double *scratch;            /* [2 * rows], on a device PRXI_DRIFT_SCRATCH(rows) */
} prxi_drift;

#define PRXI_DRIFT_SCRATCH(rows) (2 * (size_t)(rows) + 2)

/* mean|P - X| / mean|P|, sums in f64 in a fixed order: the same bits for any thread count. */
double prxi_drift_measure(prxi_stream *s, const prxi_drift *d);
/* probe = x - base (strided). */
void prxi_drift_store(prxi_stream *s, const prxi_drift *d);
/* sum |a - b|, b NULL: sum |a|, over n values of latents. */
double prxi_latent_distance(prxi_stream *s, int64_t n, const float *a, const float *b);
static inline int64_t prxi_drift_width(int64_t dim, int stride)
{
    return (dim + stride - 1) / stride;
}

#endif
