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
/* Tokens of a clip of this many pixels and frames, and the clip itself. */
static inline int64_t prxi_bench_tokens(int64_t width, int64_t height, int64_t frames)
{
    return ((frames - 1) / 4 + 1) * (height / 16) * (width / 16);
}

static inline prxi_bench_clip prxi_bench_clip_of(int64_t width, int64_t height, int64_t frames, int64_t text_rows)
{
    return (prxi_bench_clip) { (int)((frames - 1) / 4 + 1), (int)height / 8, (int)width / 8, (int)text_rows };
}

static inline size_t prxi_bench_latents(const prxi_bench_clip *clip)
{
    return 16 * (size_t)clip->frames * (size_t)clip->height * (size_t)clip->width;
}

/* The transformer of a Wan of this shape. */
static inline prxi_dit_config prxi_bench_dit(int64_t heads, int64_t layers, int64_t ffn)
{
    return (prxi_dit_config) { .heads = (int)heads, .head_dim = 128, .layers = (int)layers, .ffn_dim = ffn, .text_dim = 4096,
                               .in_channels = 16, .out_channels = 16 };
}

/* Removes what the two wrote, and dir. */
void prxi_bench_remove(const char *dir);

#endif
