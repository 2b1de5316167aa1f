/* Attention beside the transformer, in f32: of the text encoder, whose scores have a bias by distance, and of the VAE, whose one head
 * is as wide as its channels. One table a device. */
#ifndef PRXI_PLAIN_ATTN_H
#define PRXI_PLAIN_ATTN_H

#include "act.h"

/* Per head: softmax(q k^T + bias) v, unscaled; out is the head's columns of [n][ldo]. bias of query i and key j is
 * table[bucket[j - i + n - 1]][head]. */
typedef struct prxi_text_attn {
    int64_t n, ld, ldo;                     /* tokens; floats between tokens of q, k, v; of out */
    int heads, head_dim;
    const float *q, *k, *v;
    float *out;
    const float *table;                     /* [buckets][heads] */
    const int32_t *bucket;                  /* [2 n - 1] */
    float *scores;                          /* the CPU's: [threads][n][n] */
    const prxi_act_ops *act;                /* the same: whose softmax, and for which processor */
    uint32_t isa;
} prxi_text_attn;

/* out[i] = softmax(q_i k^T / sqrt(channels)) v; q, k and v lie side by side in qkv [n][ld]. A tile of queries at a time. */
typedef struct prxi_wide_attn {
    int64_t n, channels, ld;
    const float *qkv;
    float *scores, *sums;                   /* [tile][n], [..][channels] */
    prxi_dtype type;
    void *out;                              /* [n][pitch], the channels after the last are zero */
    int64_t pitch;
    const prxi_act_ops *act;
    uint32_t isa;
} prxi_wide_attn;

/* Queries of a tile on the CPU and on a device. */
enum { PRXI_WIDE_TILE = 128, PRXI_WIDE_TILE_DEVICE = 1024 };

typedef struct prxi_plain_attn_ops {
    void (*text)(prxi_stream *s, const prxi_text_attn *a);
    void (*wide)(prxi_stream *s, const prxi_wide_attn *a);
} prxi_plain_attn_ops;

void prxi_plain_attn_init(prxi_plain_attn_ops *t);      /* the CPU's */

#endif
