/* Text: prompt cleaning, SentencePiece tokens, UMT5 encoder (models.md section 3). */
#ifndef PRXI_TEXT_H
#define PRXI_TEXT_H

#include "engine/core/stream.h"
#include "engine/kernels.h"

/* Longest prompt, in bytes: far beyond what 512 tokens can take. */
#define PRXI_MAX_PROMPT 65536

typedef struct prxi_tokenizer prxi_tokenizer;
int  prxi_tokenizer_open(prxi_ctx *c, prxi_tokenizer **out, const char *dir);      /* MODEL/tokenizer */
void prxi_tokenizer_close(prxi_ctx *c, prxi_tokenizer **t);
/* Cleans (models.md 3.4) and tokenises; ids end with eos; more than max - 1 pieces are cut, eos kept. *n = count.
 * Invalid UTF-8 or more than PRXI_MAX_PROMPT bytes: PRX_EINVAL. ids has room for max >= 1. */
int  prxi_tokenizer_encode(prxi_ctx *c, const prxi_tokenizer *t, const char *prompt, int max, int32_t *ids, int *n);

typedef struct prxi_text prxi_text;
/* DIR/text_encoder: config.json + model*.safetensors. */
int  prxi_text_open(prxi_ctx *c, prxi_text **out, const char *dir, const prxi_kernels *k, prxi_dtype dtype);
void prxi_text_close(prxi_ctx *c, prxi_text **t);
int  prxi_text_dim(const prxi_text *t);
/* out: [n, dim] f32, the valid rows only (the caller pads with zero rows). */
int  prxi_text_encode(prxi_ctx *c, prxi_stream *s, const prxi_text *t, const int32_t *ids, int n, float *out);

#endif
