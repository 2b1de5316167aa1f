/* VAE benchmarks behind `praxino bench`: rows {"op", "shape", "dtype", "seconds_median", "gflops", "share"}; share is of the rate
 * of a bf16 (or f32) matrix product of oneDNN, measured turn by turn with it on the same threads. */
#ifndef PRXI_BENCH_VAE_H
#define PRXI_BENCH_VAE_H

#include <cjson/cJSON.h>

#include "engine/core/stream.h"
#include "engine/kernels.h"

/* The 3x3x3 convolutions of the Wan 2.1 decoder at 256 x 256. */
int prxi_bench_conv(prxi_ctx *c, prxi_stream *s, uint32_t isa, cJSON *rows);
/* Decode of a Wan 2.1 VAE with random weights, 256 x 256, `frames` latent frames (5: 17 frames, 9.57 TFLOP); the row has
 * "workspace_bytes" too. The model is written under TMPDIR and removed again. */
int prxi_bench_decode(prxi_ctx *c, prxi_stream *s, const prxi_kernels *k, int frames, cJSON *rows);

#endif
