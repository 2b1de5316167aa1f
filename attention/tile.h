/* The tiled kernel family: one driver (tile.c) walks block lists, an ISA file supplies five tile functions.
 * Scores are kept transposed, [key][query], so that a vector holds queries: the softmax needs no horizontal step,
 * keys are broadcast (any list of keys works without repacking), and a key is masked by its row. */
#ifndef PRXI_ATTENTION_TILE_H
#define PRXI_ATTENTION_TILE_H

#include "attention/attention.h"

enum {
    PRXI_TILE_PAIRS = 64,   /* key pairs of one tile; a multiple of PRXI_TILE_STEP */
    PRXI_TILE_STEP = 4,     /* score rows are computed 4 pairs at a time; lists are padded to it */
    PRXI_TILE_VECS = 3      /* most query vectors of one tile */
};

/* One tile: `vecs` vectors of queries against `pairs` pairs of keys. d is the head size padded to a multiple of 8 with
 * zeros. A pair is two consecutive packed keys, in the order that the tile functions want; pair i starts at element i * 2 * d of
 * k and of v. */
typedef struct prxi_tile {
    int vecs, d, pairs;
    float c;                /* scale * log2(e): exponentials are powers of two */
    const int32_t *pair;    /* [pairs] */
    const float *bias;      /* [2 * pairs] start value of a raw score; -inf masks the key */
    const void *q;          /* packed queries */
    const void *k, *v;      /* packed keys and values of this head */
    const int32_t *next;    /* [pairs] asked for meanwhile: keys by `scores`, values by `values`; `pair` where there is nothing to come */
    float *s;               /* [2 * pairs][vecs * lanes] */
    void *p;                /* exponentials, packed as `values` wants them */
    float *top;             /* [vecs * lanes] largest raw score of the tile */
    float *m, *l, *alpha;   /* [vecs * lanes] running maximum (times c), sum, rescale factor of this tile */
    float *o;               /* [d][vecs * lanes] running output */
} prxi_tile;

typedef struct prxi_tile_ops {
    int lanes;              /* queries of a vector */
    size_t elem;            /* bytes of a packed element */
    prxi_dtype dtype;       /* of the inputs and the output */
    /* k0, k1, v0, v1: rows of n elements or NULL for zeros; a key without a value is not supported. */
    void (*pack_pair)(void *k, void *v, const void *const rows[4], int n, int d);
    /* rows: vecs * lanes pointers to n elements, NULL for zeros. */
    void (*pack_q)(void *q, const void *const *rows, int vecs, int n, int d);
    void (*scores)(const prxi_tile *t);         /* s, top */
    void (*softmax)(const prxi_tile *t);        /* p, alpha, m, l */
    void (*values)(const prxi_tile *t);         /* o = alpha * o + p v */
    /* rows: vecs * lanes pointers to n elements, NULL to skip; writes o / l, zeros where l is 0. */
    void (*finish)(const prxi_tile *t, void *const *rows, int n);
    /* Column maxima of s so far and the rows that hold them, counted from `first`; the earliest row wins. */
    void (*argmax)(const prxi_tile *t, int32_t first, float *best, int32_t *arg);
    void (*add_row)(float *sum, const void *row, int n);
} prxi_tile_ops;

void prxi_attn_tiled_dense(prxi_stream *s, const prxi_attn_args *a, const prxi_tile_ops *ops);
void prxi_attn_tiled_blocks(prxi_stream *s, const prxi_attn_args *a, const prxi_block_list *b,
                            const prxi_tile_ops *ops);

void prxi_tiled_nearest(prxi_stream *s, const prxi_nearest_args *a, const prxi_tile_ops *ops);
void prxi_tiled_gather(prxi_stream *s, const prxi_nearest_args *a, const prxi_tile_ops *ops);

void prxi_attn_ref_dense_f32(prxi_stream *s, const prxi_attn_args *a);
void prxi_attn_ref_dense_bf16(prxi_stream *s, const prxi_attn_args *a);
void prxi_attn_ref_blocks_f32(prxi_stream *s, const prxi_attn_args *a, const prxi_block_list *b);
void prxi_attn_ref_blocks_bf16(prxi_stream *s, const prxi_attn_args *a, const prxi_block_list *b);

void prxi_attn_init_ref_nearest(prxi_attn_ops *t);
void prxi_attn_init_avx2(prxi_attn_ops *t);
void prxi_attn_init_avx512(prxi_attn_ops *t);
void prxi_attn_init_avx512bf16(prxi_attn_ops *t);

#endif
