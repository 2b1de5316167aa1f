/* A model of a published shape with random weights, written as a directory: what the step and decode benchmarks load, by
 * the same code that loads a real one. */
#ifndef PRXI_BENCH_MODEL_H
#define PRXI_BENCH_MODEL_H

#include "engine/core/ctx.h"
#include "engine/model/dit.h"

struct prx_engine;

/* Writes DIR/transformer (bf16) of this shape. Only heads, head_dim, layers, ffn_dim, text_dim, channels are read. */
int prxi_bench_write_dit(prxi_ctx *c, const char *dir, const prxi_dit_config *cfg);
/* Writes DIR/vae: the decoder of Wan 2.1 with this base_dim (96 as published), f32. */
int prxi_bench_write_vae(prxi_ctx *c, const char *dir, int base_dim);
/* Opens such a transformer in the engine for a clip of this latent size, two branches with text_rows rows each, and calls fn. dir as
 * above: fn may leave files there under names of its own and removes them. */
typedef struct prxi_bench_clip {
    int frames, height, width, text_rows;
} prxi_bench_clip;
typedef int (*prxi_bench_fn)(void *cookie, prxi_stream *s, prxi_dit_run *run);
int prxi_bench_with_dit(struct prx_engine *e, prxi_stream *s, const char *dir, const prxi_dit_config *cfg, const prxi_bench_clip *clip,
                        prxi_bench_fn fn, void *cookie);
/* Removes what the two wrote, and dir. */
void prxi_bench_remove(const char *dir);

#endif
