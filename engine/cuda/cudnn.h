/* Attention, dense or over pages of keys, and 3-D convolution by cuDNN: graphs of one or two operations, planned once per shape. A plan
 * needs no device: with a profile (JSON as cuDNN writes it) everything up to execution happens without one. */
#ifndef PRXI_CUDNN_H
#define PRXI_CUDNN_H

#include "cudnn_api.h"
#include "engine/core/device.h"

/* softmax(scale q k^T) v per head, bf16; layout and lse as in attention/attention.h: [tokens, heads, head_dim], ld elements a token. */
typedef struct prxi_cudnn_attn {
    int heads, head_dim, lse;               /* lse: it is wanted */
    int64_t q_len, kv_len, ldq, ldk, ldv, ldo;
    /* Not 0: keys by pages, from 9.15 on. Entry i has queries [i rows, (i + 1) rows), and keys that lie in at most `pages` pages of the
     * table's row i; page j is tokens [j page, (j + 1) page). What lies past the last token, up to whole entries and pages, is touched.
     * With lse q_len is a multiple of rows. */
    int rows, page, pages;
} prxi_cudnn_attn;

/* Of the device, multiples of 16 bytes; the last three for pages: [entries][pages] in the order of the keys, then queries and keys of each
 * entry. */
typedef struct prxi_cudnn_operands {
    const void *q, *k, *v;
    void *o;
    float *lse;
    float scale;
    const int32_t *table, *q_rows, *kv_rows;
} prxi_cudnn_operands;

/* y[frames, height, width, out] = x * w + bias, bf16, channels last; w [out, kt, kh, kw, in], bias [out]: with one in f32, precompiled
 * engines fall away. x has kt - 1 frames more, in front: the history of a causal convolution, zeros at the start of a clip. Height and
 * width are padded by (k - 1) / 2 on both sides; kh and kw are odd. */
typedef struct prxi_cudnn_conv {
    int in, out, frames, height, width, kt, kh, kw;
    int64_t x_row, y_row;                   /* elements from a row to the next; pictures are `height` rows apart */
} prxi_cudnn_conv;

typedef struct prxi_cudnn_plan_info {
    int64_t engine;                         /* cuDNN's number of the engine that was chosen */
    int64_t workspace;                      /* bytes */
    int configs;                            /* how many the heuristics offered, as far as they were asked */
    int config;                             /* which of them it is */
} prxi_cudnn_plan_info;

/* Bytes: a configuration that wants more of a workspace is passed over; plans of memory count as much. */
enum { PRXI_CUDNN_WORKSPACE = 256 << 20 };

typedef struct prxi_cudnn prxi_cudnn;

/* Where to look: PRAXINO_CUDNN if set, else libcudnn.so.9. PRX_ENOTSUP with what is missing; *library goes to dlclose. */
int  prxi_cudnn_load(prxi_ctx *c, prxi_cudnn_api *api, void **library);
/* profile NULL: device 0, whose work goes to `stream` (of the CUDA runtime); device gives the workspace. Takes library over. */
int  prxi_cudnn_open(prxi_ctx *c, prxi_cudnn **out, const prxi_cudnn_api *api, void *library, const char *profile, prxi_device *device,
                     void *stream);
void prxi_cudnn_close(prxi_ctx *c, prxi_cudnn **u);
size_t prxi_cudnn_version(const prxi_cudnn *u);

/* Makes or finds the plan of a shape: the first configuration from number `from` on that can be planned. info may be NULL. PRX_ENOTSUP
 * with cuDNN's reason when it has none. */
int prxi_cudnn_plan_attn(prxi_ctx *c, prxi_cudnn *u, const prxi_cudnn_attn *s, int from, prxi_cudnn_plan_info *info);
int prxi_cudnn_plan_conv(prxi_ctx *c, prxi_cudnn *u, const prxi_cudnn_conv *s, int from, prxi_cudnn_plan_info *info);
/* Forgets that plan: it was only tried. */
void prxi_cudnn_drop_attn(prxi_cudnn *u, const prxi_cudnn_attn *s, int from);
void prxi_cudnn_drop_conv(prxi_cudnn *u, const prxi_cudnn_conv *s, int from);
/* Plans if need be, grows the workspace if need be, and queues the work. Pointers are of the device, multiples of 16 bytes. */
int prxi_cudnn_attention(prxi_ctx *c, prxi_cudnn *u, const prxi_cudnn_attn *s, int from, const prxi_cudnn_operands *x);
int prxi_cudnn_convolution(prxi_ctx *c, prxi_cudnn *u, const prxi_cudnn_conv *s, int from, const void *x, const void *w, const void *bias,
                           void *y);

/* ---- between cudnn_graph.c and cudnn.c ---- */

enum { PRXI_CUDNN_PARTS = 96 };

/* Everything that belongs to one plan: dropped together. The first failure stays, later calls do nothing. */
typedef struct prxi_cudnn_build {
    const prxi_cudnn_api *api;
    void *part[PRXI_CUDNN_PARTS];
    int n, failed;
    char why[320];
    void *plan;
    prxi_cudnn_plan_info info;
} prxi_cudnn_build;

void *prxi_cudnn_make(prxi_cudnn_build *b, int kind);
void prxi_cudnn_set(prxi_cudnn_build *b, void *d, int name, int type, int64_t n, const void *values);
void prxi_cudnn_finish(prxi_cudnn_build *b, void *d);
void prxi_cudnn_drop(prxi_cudnn_build *b);
/* The graph of a shape, and the first of the heuristics' configurations from number `from` on that can be planned on the device: b->plan,
 * b->info. */
void *prxi_cudnn_graph_attn(prxi_cudnn_build *b, const prxi_cudnn_attn *s);
void *prxi_cudnn_graph_conv(prxi_cudnn_build *b, const prxi_cudnn_conv *s);
void prxi_cudnn_plan(prxi_cudnn_build *b, void *graph, void *device, int from);

/* Names of the tensors of a graph. */
enum { DNN_Q = 1, DNN_K, DNN_V, DNN_O, DNN_SCALE, DNN_STATS, DNN_TABLE, DNN_ROWS_Q, DNN_ROWS_KV };
enum { DNN_X = 1, DNN_W, DNN_BIAS, DNN_Y, DNN_INNER };

#endif
