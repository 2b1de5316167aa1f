/* A model of a published shape with random weights, written as a directory: what the step and decode benchmarks load, by
 * the same code that loads a real one. */
#ifndef PRXI_BENCH_MODEL_H
#define PRXI_BENCH_MODEL_H

#include "engine/core/ctx.h"
#include "engine/model/dit.h"

/* Writes DIR/transformer (bf16) of this shape. Only heads, head_dim, layers, ffn_dim, text_dim, channels are read. */
int prxi_bench_write_dit(prxi_ctx *c, const char *dir, const prxi_dit_config *cfg);
/* Writes DIR/vae: the decoder of Wan 2.1 with this base_dim (96 as published), f32. */
int prxi_bench_write_vae(prxi_ctx *c, const char *dir, int base_dim);
/* Removes what the two wrote, and dir. */
void prxi_bench_remove(const char *dir);

#endif
