/* Memory that kernels work on: the host's (device NULL), or that of an accelerator behind these few functions. Work is queued in order;
 * only get waits for it. */
#ifndef PRXI_DEVICE_H
#define PRXI_DEVICE_H

#include "stream.h"

/* y[m, n] = epilogue(x[m, k] w[n, k]^T + bias[n]); types are prxi_dtype, bias is of type out. Contract: engine/ops/gemm.h. */
typedef struct prxi_device_linear {
    int64_t m, n, k;
    int compute, out, epilogue;
    const void *x, *w, *bias;
    int64_t ldx, ldy;
    void *y;
} prxi_device_linear;

typedef struct prxi_device prxi_device;
struct prxi_device {
    const char *name;                                   /* "cuda" */
    void *(*alloc)(prxi_device *d, size_t bytes);       /* NULL: refused */
    void (*release)(prxi_device *d, void *p);
    /* PRX_OK or a negative code; error says why. */
    int (*put)(prxi_device *d, void *to, const void *host, size_t bytes);
    int (*get)(prxi_device *d, void *host, const void *from, size_t bytes);
    int (*copy)(prxi_device *d, void *to, const void *from, size_t bytes);
    int (*linear)(prxi_device *d, const prxi_device_linear *a);
    const char *(*error)(prxi_device *d);
};

/* Each of these is plain memory work when d is NULL. */
void *prxi_device_alloc(prxi_ctx *c, prxi_device *d, prxi_mem_tag tag, size_t bytes);
void prxi_device_free(prxi_ctx *c, prxi_device *d, void *p);
int  prxi_device_put(prxi_ctx *c, prxi_device *d, void *to, const void *host, size_t bytes);
/* Between kernels, on the device of the stream; errors go to the stream. */
void prxi_stream_put(prxi_stream *s, void *to, const void *host, size_t bytes);
void prxi_stream_get(prxi_stream *s, void *host, const void *from, size_t bytes);
void prxi_stream_copy(prxi_stream *s, void *to, const void *from, size_t bytes);

#endif
