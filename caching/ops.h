/* What a device does to tensors for step caches. The CPU's are the functions of drift.h, forecast.h and stack.h, which come here when
 * their stream has a device. */
#ifndef PRXI_CACHE_OPS_H
#define PRXI_CACHE_OPS_H

#include "drift.h"
#include "forecast.h"

typedef struct prxi_cache_ops {
    double (*measure)(prxi_stream *s, const prxi_drift *d);            /* waits: two numbers come back */
    void (*store)(prxi_stream *s, const prxi_drift *d);
    void (*update)(prxi_stream *s, const prxi_forecast_update_args *a);
    void (*apply)(prxi_stream *s, const prxi_forecast_apply_args *a);
    double (*distance)(prxi_stream *s, int64_t n, const float *a, const float *b);     /* waits */
} prxi_cache_ops;

#endif
