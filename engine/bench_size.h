/* What the benchmarks of whole steps and decodes share: the size of the model and of the clip, and their rows. */
#ifndef PRXI_BENCH_SIZE_H
#define PRXI_BENCH_SIZE_H

#include "bench_model.h"
#include "engine/core/dtype.h"
#include "engine/core/option.h"
#include "engine/core/stream.h"

typedef struct prxi_bench_size {
    int64_t width, height, frames, heads, layers, ffn, base, repeats, text;
    double linear_rate, attention_rate;     /* TFLOP/s; 0: no floor is reported */
    char attention[PRXI_OPT_STRING_MAX];
} prxi_bench_size;

int prxi_bench_size_parse(prxi_ctx *c, const char *text, prxi_bench_size *z);
/* GFLOP/s of the best linear layer of this run on the CPU in this dtype, ours or oneDNN's. */
double prxi_bench_gemm_rate(prxi_ctx *c, prxi_stream *s, uint32_t isa, prxi_dtype dtype);
/* A row: median and range of n times in seconds; gflops, and its share of `rate` where that is known. */
void prxi_bench_add_times(cJSON *rows, const char *op, const char *shape, prxi_dtype dtype, const double *t, int n, double gflop,
                          double rate);

#endif
