/* Between the files of the device's benchmarks. */
#ifndef PRXI_BENCH_CUDA_INT_H
#define PRXI_BENCH_CUDA_INT_H

#include "bench_cuda.h"
#include "engine.h"
#include "engine/core/race.h"
#include "engine/cuda/cuda.h"

typedef struct prxi_bench_cuda_settings {
    int64_t tokens, heads, head_dim, ffn, repeats;
} prxi_bench_cuda_settings;

typedef struct prxi_bench_cuda {
    prx_engine *e;
    prxi_ctx *c;
    prxi_stream *s;
    prxi_cuda *u;
    prxi_dtype t;
    prxi_bench_cuda_settings set;
    int64_t dim;                    /* heads * head_dim */
    cJSON *rows;
} prxi_bench_cuda;

cJSON *prxi_bench_cuda_row(const prxi_bench_cuda *b, const char *op, const char *shape, const prxi_contender *c);
/* By turns, as often as the settings say; the stream's error. */
int  prxi_bench_cuda_race(const prxi_bench_cuda *b, prxi_contender *c, int n);
/* Rows of SVG2 on q and k that have clusters to find (bench_cuda_svg2.c). */
int  prxi_bench_cuda_svg2(const prxi_bench_cuda *b);

#endif
