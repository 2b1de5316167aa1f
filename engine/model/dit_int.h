/* Shared by the files of the DiT: the weights, and what a run holds. */
#ifndef PRXI_DIT_INT_H
#define PRXI_DIT_INT_H

#include "dit.h"

typedef struct prxi_dit_attn {
    prxi_linear *q, *k, *v, *out;
    float *norm_q, *norm_k;                 /* [dim] */
} prxi_dit_attn;

typedef struct prxi_dit_block {
    float *table;                           /* [6, dim]: shift, scale, gate of attention; the same of the FFN */
    prxi_dit_attn self, cross;
    float *norm2_weight, *norm2_bias;       /* [dim], NULL when the cross-attention norm is off */
    prxi_linear *ffn_in, *ffn_out;
} prxi_dit_block;

/* Blocks whose weights are on the host (dit_stream.c): two are on the device at a time, one in use, the next on its way. */
typedef struct prxi_dit_stream prxi_dit_stream;

/* What of a block's weights is needed: layers in 8 bits and biases; biases and layers in the model's type; keys and values of the text. */
typedef enum prxi_dit_use { PRXI_DIT_EIGHT, PRXI_DIT_WIDE, PRXI_DIT_TEXT, PRXI_DIT_USES } prxi_dit_use;

/* Bytes of a block's layers that are placed already, by part; `text` of both parts of those for the text. */
typedef struct prxi_dit_next {
    prxi_linear_parts parts;
    size_t text;
} prxi_dit_next;

struct prxi_dit {
    prxi_dit_stream *stream;                /* NULL: everything stays */
    prxi_dit_config cfg;
    const prxi_kernels *k;
    prxi_dtype dtype;
    prxi_quant quant;
    int64_t dim;
    prxi_linear *patch, *time_1, *time_2, *time_proj, *text_1, *text_2, *proj_out;
    float *table;                           /* [2, dim]: shift, scale of the head */
    prxi_dit_block *blocks;                 /* [layers] */
};

/* Keys and values of the text for one layer and branch. */
typedef struct prxi_dit_text_kv {
    void *k, *v;                            /* [rows, dim] */
} prxi_dit_text_kv;

struct prxi_dit_run {
    const prxi_dit *d;
    prxi_dit_clip clip;                     /* its text pointers are not kept */
    int grid_t, grid_h, grid_w;
    int64_t tokens;
    int batch;                              /* branches that go through the blocks together */
    int text_rows[PRXI_BRANCHES];           /* valid rows + 1 when zero rows follow */
    float text_tail[PRXI_BRANCHES];         /* ln(number of zero rows), 0 when none */
    prxi_dit_text_kv *text[PRXI_BRANCHES];  /* [layers] */
    prxi_arena arena;                       /* everything below lives here, on the device if there is one */
    float *rope;                            /* [tokens, head_dim / 2, 2] */
    float *temb, *tproj, *mod;              /* [dim], [6 dim], [layers, 6, dim] */
    float *time;                            /* [freq_dim + 2 dim] scratch of the time embedder */
    float *sinusoid;                        /* [freq_dim], on the host */
    float *head;                            /* [2, dim] */
    void *patches;                          /* [tokens, patch values] */
    float *out_rows;                        /* [tokens, patch values of the output] f32 */
    void *x, *n, *q, *k, *v;                /* [batch, tokens, dim] */
    void *ffn;                              /* [PRXI_DIT_FFN_ROWS at most, ffn_dim] */
    int wide;                               /* nothing is multiplied in 8 bits */
    float *look;                            /* dit_look.c: room to widen values in; NULL: nobody looks */
    char found[96];
};

/* Reads n values that an op has made (layer -1: outside of the blocks); nothing where nobody looks. */
void prxi_dit_look(prxi_stream *s, prxi_dit_run *r, int layer, const char *op, prxi_dtype t, const void *p, int64_t n);

/* How the layers of a block are kept. */
prxi_eight_bits prxi_dit_eight_bits(const prxi_dit *d, int block);
int  prxi_dit_stream_open(prxi_ctx *c, prxi_dit *d, const prxi_dit_fit *fit);
void prxi_dit_stream_close(prxi_ctx *c, prxi_dit *d);
/* Where the next layer of a block on the host goes; next begins as zeros for each block. */
prxi_linear_place prxi_dit_stream_place(const prxi_dit *d, int block, int text, int64_t n, int64_t k, prxi_dit_next *next);
/* Host memory of a block's weights; NULL: they stay on the device. */
unsigned char *prxi_dit_stream_host(const prxi_dit *d, int block);
/* One forward (or what else goes through the blocks) at a time: its blocks move, each time what this use of them needs. */
void prxi_dit_stream_begin(const prxi_dit *d, prxi_dit_use use);
void prxi_dit_stream_end(const prxi_dit *d);
/* Around the kernels of a block. */
void prxi_dit_stream_enter(prxi_stream *s, const prxi_dit *d, int block);
void prxi_dit_stream_leave(prxi_stream *s, const prxi_dit *d, int block);

/* Rows of the FFN that are in flight: bounds the widest activation. */
#define PRXI_DIT_FFN_ROWS 2048
/* Branches share a batch up to this many tokens each; beyond, one branch alone fills the kernels and memory counts more. */
#define PRXI_DIT_BATCH_TOKENS 8192

#endif
