/* Unigram segmentation as Hugging Face's fast tokenizers do it: the best path over all pieces of the vocabulary, scores summed
 * in double, one word at a time, runs of unknown characters joined (models.md 3.4). */
#ifndef PRXI_UNIGRAM_H
#define PRXI_UNIGRAM_H

#include "engine/core/ctx.h"
#include "spm.h"

typedef struct prxi_piece {
    const char *text;           /* borrowed from the model */
    uint32_t len;
    int32_t id;
    double score;
} prxi_piece;

typedef struct prxi_unigram {
    prxi_piece *piece;          /* sorted by text */
    int count;
    int first[257];             /* range of the pieces that begin with a byte */
    double unk_score;
    int32_t unk_id;
    int byte_fallback;
    int32_t byte_id[256];       /* of "<0xNN>", -1 when absent */
} prxi_unigram;

int prxi_unigram_open(prxi_ctx *c, prxi_unigram *u, const prxi_spm *spm, int unk_id, int byte_fallback);
void prxi_unigram_close(prxi_ctx *c, prxi_unigram *u);
/* Id of a piece, or -1. */
int32_t prxi_unigram_find(const prxi_unigram *u, const char *text, size_t n);

/* A cell of the search, for each byte position of a word: scratch of prxi_unigram_word, [n + 1]. */
typedef struct prxi_unigram_cell {
    double score;
    int32_t start, id;          /* the piece that ends here; start -1: unreached */
} prxi_unigram_cell;

/* Ids of one word into ids[*n..max); what does not fit is left out. */
void prxi_unigram_word(const prxi_unigram *u, const char *word, size_t n, prxi_unigram_cell *cell, int max, int32_t *ids,
                       int *count);

#endif
