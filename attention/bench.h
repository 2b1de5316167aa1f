/* Attention benchmarks behind `praxino bench attention`: rows as in engine/bench.h. */
#ifndef PRXI_ATTENTION_BENCH_H
#define PRXI_ATTENTION_BENCH_H

#include <cjson/cJSON.h>

#include "engine/core/stream.h"

/* Dense: share = rate over that of oneDNN's matmul of the same type ("gemm_gflops"). radial and svg2: "density", and share =
 * density * dense seconds / seconds, so that 1 means time falls with density; svg2 also "overhead": seconds of clustering,
 * selection and permutation over dense seconds. options: "key=value,..." of
 * only (all, dense, radial, svg2), tokens and head_dim (0: 4096 to 32768, 64 and 128), heads (0: 2, 1 for 32768),
 * repeats; NULL or "" runs everything, about a minute. */
int prxi_bench_attention(prxi_ctx *c, prxi_stream *s, uint32_t isa, const char *options, cJSON *rows);

#endif
