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
    const float *w_scale;          /* not NULL: w is as `quantise` made it, and x is brought to the same type first */
    const float *x_scale;          /* not NULL, beside w_scale: x is so already, in adjacent rows */
} prxi_device_linear;

/* Contract: prxi_conv_args in engine/ops/conv.h. weights: [cout][the taps (t, row, column), each `pitch` channels, then `shortcut_pitch`
 * channels], of type in. Pixels beyond the picture count as zero without being read. */
typedef struct prxi_device_plane {
    unsigned char *base;
    int64_t pitch, rows, first;
} prxi_device_plane;

enum { PRXI_DEVICE_CONV_KT = 3 };

/* Who computes a convolution that both the device's own kernel and a library could: the faster one, measured beforehand, or one of them. */
typedef enum prxi_conv_by { PRXI_CONV_AUTO, PRXI_CONV_OURS, PRXI_CONV_LIBRARY } prxi_conv_by;

typedef struct prxi_device_conv {
    int in, out;                                        /* prxi_dtype */
    int kt, kh, kw, dy, dx, scale, oy, ox, add;
    int64_t cout, pitch, shortcut_pitch, out_pitch;     /* elements between pixels */
    int64_t height, width, begin, end;
    const void *weights;
    const float *bias;
    prxi_device_plane src[PRXI_DEVICE_CONV_KT], shortcut, to;
    prxi_conv_by by;
    /* Where prxi_device.conv_turns is set and the layer allows, else 0: kt copies of the weights, `turn_bytes` apart; in copy r the taps in
     * time are turned by r, for a ring of kt pictures whose oldest is in place r. And the bias in the type of the weights. */
    size_t turn_bytes;
    const void *round_bias;
} prxi_device_conv;

typedef struct prxi_device prxi_device;
struct prxi_device {
    const char *name;                                   /* "cuda" */
    void *(*alloc)(prxi_device *d, size_t bytes);       /* NULL: refused */
    void (*release)(prxi_device *d, void *p);
    /* PRX_OK or a negative code; error says why. */
    int (*put)(prxi_device *d, void *to, const void *host, size_t bytes);
    int (*get)(prxi_device *d, void *host, const void *from, size_t bytes);
    int (*copy)(prxi_device *d, void *to, const void *from, size_t bytes);
    int (*zero)(prxi_device *d, void *p, size_t bytes);
    /* Weights that come as they are needed: host memory that copies can begin from at any time, and two slots of device memory. fetch
     * begins to fill a slot, once the kernels before its last `leave` are done; kernels after `arrive` find it filled; `leave` says that
     * those so far were the last to read it. */
    void *(*alloc_host)(prxi_device *d, size_t bytes);
    void (*release_host)(prxi_device *d, void *p);
    int (*fetch)(prxi_device *d, int slot, void *to, const void *host, size_t bytes);
    int (*arrive)(prxi_device *d, int slot);
    int (*leave)(prxi_device *d, int slot);
    int (*linear)(prxi_device *d, const prxi_device_linear *a);
    /* Rows to 8 bits a value (e4m3) with a scale each; q [rows, k]. */
    int (*quantise)(prxi_device *d, int type, int64_t rows, int64_t k, const void *x, int64_t ldx, void *q, float *scale);
    int (*conv)(prxi_device *d, const prxi_device_conv *a);
    /* Decides who computes it, by time where that is open: writes what the convolution writes, and waits. */
    int (*conv_prepare)(prxi_device *d, const prxi_device_conv *a);
    int conv_turns;                                     /* a library for convolutions is there */
    /* Waits for what is queued; negative when the device does not work any more. */
    int (*check)(prxi_device *d);
    const char *(*error)(prxi_device *d);
    const struct prxi_cache_ops *cache;                 /* caching/ops.h: what step caches do to tensors there */
    const struct prxi_cluster_ops *cluster;             /* attention/attention.h: clustering, and lists that are built there */
};

/* Each of these is plain memory work when d is NULL. */
void *prxi_device_alloc(prxi_ctx *c, prxi_device *d, prxi_mem_tag tag, size_t bytes);
void prxi_device_free(prxi_ctx *c, prxi_device *d, void *p);
int  prxi_device_put(prxi_ctx *c, prxi_device *d, void *to, const void *host, size_t bytes);
int  prxi_device_zero(prxi_ctx *c, prxi_device *d, void *p, size_t bytes);
/* Takes p, n floats of the host: itself, or a copy of them on the device; NULL when p is NULL or *err < 0. */
float *prxi_device_floats(prxi_ctx *c, prxi_device *d, float *p, size_t n, int *err);
/* Between kernels, on the device of the stream; errors go to the stream. */
void prxi_stream_put(prxi_stream *s, void *to, const void *host, size_t bytes);
void prxi_stream_get(prxi_stream *s, void *host, const void *from, size_t bytes);
void prxi_stream_copy(prxi_stream *s, void *to, const void *from, size_t bytes);
/* Until all that was queued is done: for clocks. */
void prxi_stream_wait(prxi_stream *s);
/* Where code of the host can read p: p itself, or a copy in `room` when the stream has a device. */
const void *prxi_stream_here(prxi_stream *s, const void *p, size_t bytes, void *room);

#endif
