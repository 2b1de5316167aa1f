/* Convolution benchmark behind `praxino bench conv`: rows {"op", "shape", "dtype", "seconds_median", "gflops", "share"}; share is of
 * the rate of oneDNN's matrix product in the same type, measured turn by turn with it on the same threads. */
#ifndef PRXI_BENCH_VAE_H
#define PRXI_BENCH_VAE_H

#include <cjson/cJSON.h>

#include "engine/core/stream.h"

/* The 3x3x3 convolutions of the Wan 2.1 decoder at 256 x 256. */
int prxi_bench_conv(prxi_ctx *c, prxi_stream *s, uint32_t isa, cJSON *rows);

#endif
