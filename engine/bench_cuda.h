/* Benchmarks on the CUDA device, behind `praxino bench --device cuda`: rows as in bench.h. On an emulated device they run, and their
 * times mean nothing. Options "key=value,...": tokens, heads, head_dim, ffn, repeats. */
#ifndef PRXI_BENCH_CUDA_H
#define PRXI_BENCH_CUDA_H

#include <cjson/cJSON.h>

#include "engine/core/stream.h"

struct prx_engine;

/* Linear layers of a block by cuBLASLt. */
int prxi_bench_cuda_gemm(struct prx_engine *e, prxi_stream *s, const char *options, cJSON *rows);
/* Norms and elementwise ops. share: bytes per second over those of a copy on the device. */
int prxi_bench_cuda_norm(struct prx_engine *e, prxi_stream *s, const char *options, cJSON *rows);
/* Dense attention, lists of blocks of 128 queries and 128, 64 and 16 keys at densities up to 1, and lists of ragged clusters, by every
 * kernel that can run here, turn by turn (cuDNN's pages: where it plans them). share: executed FLOP rate over the best dense one of this
 * run. error: root mean square distance from the plain kernel on the first queries, over the root mean square of its output. Then svg2 on
 * tokens with clusters to find: its lists as above, permutation included; overhead: seconds of clustering and selection over those of
 * dense attention. */
int prxi_bench_cuda_attention(struct prx_engine *e, prxi_stream *s, const char *options, cJSON *rows);

#endif
