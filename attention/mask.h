/* Block masks as data: which (query block, key block) pairs a static rule keeps, for the policies, the tests and
 * `praxino mask`. */
#ifndef PRXI_ATTENTION_MASK_H
#define PRXI_ATTENTION_MASK_H

#include "attention/attention.h"

typedef struct prxi_block_mask {
    int n;                  /* block rows and columns: a partial last block counts */
    int block;              /* tokens of a block */
    int64_t tokens;         /* video and text */
    size_t words;           /* 64-bit words of a row */
    uint64_t *bits;         /* [n][words], column c is bit c % 64 of word c / 64 */
    int filled;             /* rows that the rule left empty and that were filled */
    int64_t kept;           /* blocks */
    double density;         /* kept / n^2 */
    double pair_density;    /* share of query-key pairs: a partial block counts what it holds */
} prxi_block_mask;

/* The rule of Radial Attention as its code has it (arXiv 2506.19852, repository of 2025-11-11; `half` is the rule
 * before that day for wan, and hunyuan never had it). Frame-major video tokens, text at the tail. */
typedef struct prxi_radial {
    int frames;
    int64_t tokens_per_frame;
    int64_t text_tokens;
    int block;              /* 64 or 128 */
    double decay;
    int hunyuan;            /* else wan */
    int half;               /* wan: neighbouring frames within half a frame only */
    int sink;               /* every frame sees the whole first frame */
} prxi_radial;

static inline int prxi_mask_get(const prxi_block_mask *m, int row, int col)
{
    return (int)(m->bits[(size_t)row * m->words + (size_t)(col / 64)] >> (col % 64) & 1u);
}

/* Half width of the band at a frame distance, in tokens (attention.md 2.2); 0 and *kept = 0 when the pair is skipped. */
double prxi_radial_width(const prxi_radial *r, int64_t distance, int *kept);
/* PRX_EINVAL names the field. The mask is freed with prxi_mask_close, which takes a half-built or empty one too. */
int prxi_radial_check(prxi_ctx *c, const prxi_radial *r);
int prxi_radial_mask(prxi_ctx *c, const prxi_radial *r, prxi_block_mask *m);
void prxi_mask_close(prxi_ctx *c, prxi_block_mask *m);

/* Row-compressed form, the same for every head; one allocation, freed with prxi_free(list->q_start). */
int prxi_mask_list(prxi_ctx *c, const prxi_block_mask *m, prxi_block_list *list);
/* A row of the mask on a grid of q_tile x k_tile tokens, the grid of the kernels that read it elsewhere (64 x 128 and 128 x 64 in
 * SageAttention): a tile is kept when it touches a kept block. text: a digit a tile and a NUL. Returns the kept tiles. */
int64_t prxi_mask_tile_row(const prxi_block_mask *m, int q_tile, int k_tile, int row, char *text);
/* JSON of the file formats page, section 6: rows, cols, density, kept, mask. From prxi_alloc, *text_len without the NUL. */
int prxi_mask_json(prxi_ctx *c, const prxi_block_mask *m, int q_tile, int k_tile, char **text, size_t *text_len);

/* The same for one head of any block list, with "q_sizes" and "k_sizes", the tokens of its blocks. */
int prxi_list_json(prxi_ctx *c, const prxi_block_list *b, int head, char **text, size_t *text_len);

/* One head of any block list, weights by tokens: share of the query-key pairs that the list keeps. */
double prxi_list_density(const prxi_block_list *b, int head);

#endif
