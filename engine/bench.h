/* Benchmarks behind `praxino bench`. Each adds rows {"op", "shape", "dtype", "seconds_median", "gflops" or "gbytes", "share"} to an
 * array; share is of what the machine can do in that op, measured in the same run, turn by turn. */
#ifndef PRXI_BENCH_H
#define PRXI_BENCH_H

#include <cjson/cJSON.h>

#include "engine/core/stream.h"

struct prx_engine;

/* Linear layers of a 1.3 B Wan at 256 x 256 x 17 with guidance, and of the built-in model. share: rate over that of oneDNN's plain
 * matmul on the same threads ("onednn_gflops"). */
int prxi_bench_gemm(prxi_ctx *c, prxi_stream *s, uint32_t isa, cJSON *rows);
/* Norms, activations, conversions. share: bytes per second over those of a copy on the same threads. */
int prxi_bench_norm(prxi_ctx *c, prxi_stream *s, uint32_t isa, cJSON *rows);
/* A denoising step with guidance, or a decode, of a 1.3 B Wan with random weights; options "key=value,..." change the shape. share: rate
 * over that of the best linear layer in this run (CPU). With linear_rate and attention_rate a step's row has "floor_seconds", the time
 * at those rates, and "over_floor". On a device a decode ends with planes of the frames on the host. */
int prxi_bench_step(struct prx_engine *e, prxi_stream *s, const char *options, cJSON *rows);
int prxi_bench_decode(struct prx_engine *e, prxi_stream *s, const char *options, cJSON *rows);
/* What a cached step of every cache costs beside a computed one, on a Wan-like model with random weights; options as above. Rows {"cache",
 * "shape", "dtype", "step_seconds", "cached_seconds", "share" (cached over computed), "bound" (what it may be), "computed_share" (a
 * computed step under the cache over one without)}; seconds are those of the fastest. The row "dbcache gate F1" has the gate's own time
 * (copying, comparing and keeping the probe) in the place of a cached step's. */
int prxi_bench_cache(struct prx_engine *e, prxi_stream *s, const char *options, cJSON *rows);
/* Dense attention of the q, k and v of a file; options: file, output (where the result goes; none: nowhere), repeats. */
int prxi_bench_qkv(struct prx_engine *e, prxi_stream *s, const char *options, cJSON *rows);

#endif
