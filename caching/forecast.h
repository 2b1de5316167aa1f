/* Calibrators: what a cached step adds in place of the middle blocks (caching.md 1.6). A value Y is known at computed steps and
 * predicted at cached ones.
 *   none    the last value
 *   taylor  TaylorSeer of order n as published: finite differences over the last window, kept in the dtype of the states
 *   newton  divided differences over the true abscissae (sigma), f32, exact for polynomials up to the order */
#ifndef PRXI_FORECAST_H
#define PRXI_FORECAST_H

#include "elem.h"
#include "engine/core/stream.h"

enum { PRXI_FORECAST_MAX = 4 };       /* highest order */

typedef enum prxi_forecast_kind { PRXI_FORECAST_NONE, PRXI_FORECAST_TAYLOR, PRXI_FORECAST_NEWTON } prxi_forecast_kind;

typedef struct prxi_forecast {
    prxi_forecast_kind kind;
    int order, gap_cap;               /* newton: beyond this many steps since the last value the order is 1 at most; 0: never */
    prxi_dtype elem;                   /* of the ladder */
    int64_t n;
    void *d[PRXI_FORECAST_MAX + 1];   /* the ladder */
    void *old[PRXI_FORECAST_MAX + 1]; /* taylor: the ladder before the last update */
    double at[PRXI_FORECAST_MAX + 1]; /* newton: abscissae, newest first */
    struct prxi_device *device;       /* where the ladder is */
    int have;                         /* terms that exist */
    int64_t step, first;              /* of the last and the first value */
} prxi_forecast;

/* The arithmetic of an update: d[0] = after - before (before NULL: after), d[i + 1] = (d[i] - old[i]) / window[i], old[i] being the
 * ladder's value before; and of a prediction: y = (add ? y : 0) + sum of weight[i] d[i]. */
typedef struct prxi_forecast_update_args {
    int64_t n;
    prxi_dtype t, elem;               /* of after and before; of the ladder */
    int terms;
    const void *after, *before;
    void *const *d, *const *old;
    const double *window;
} prxi_forecast_update_args;

typedef struct prxi_forecast_apply_args {
    int64_t n;
    prxi_dtype t, elem;               /* of y; of the ladder */
    int terms, add;
    void *const *d;
    void *y;
    const double *weight;
} prxi_forecast_apply_args;

/* Bytes that open takes. */
size_t prxi_forecast_bytes(prxi_forecast_kind kind, int order, prxi_dtype elem, int64_t n);
int  prxi_forecast_open(prxi_ctx *c, prxi_forecast *f, prxi_forecast_kind kind, int order, prxi_dtype elem, int64_t n);
/* The same with the ladder on a device; NULL: here. */
int  prxi_forecast_open_on(prxi_ctx *c, prxi_forecast *f, prxi_forecast_kind kind, int order, prxi_dtype elem, int64_t n,
                           struct prxi_device *device);
void prxi_forecast_close(prxi_ctx *c, prxi_forecast *f);
void prxi_forecast_reset(prxi_forecast *f);
/* Y = after - before (before NULL: after), of n elements of type t, at this step and abscissa. */
void prxi_forecast_update(prxi_stream *s, prxi_forecast *f, int64_t step, double at, prxi_dtype t, const void *after,
                          const void *before);
/* y = y + prediction (add) or prediction, elements of type t. Nothing known yet: unchanged. */
void prxi_forecast_apply(prxi_stream *s, const prxi_forecast *f, int64_t step, double at, prxi_dtype t, void *y, int add);
/* Terms that a prediction at this step uses. */
int  prxi_forecast_terms(const prxi_forecast *f, int64_t step);

#endif
