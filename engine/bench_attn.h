/* An attention policy in a benchmark of steps: planned as a job plans it, timed in its turn, its time beside what the plan expected. */
#ifndef PRXI_BENCH_ATTN_H
#define PRXI_BENCH_ATTN_H

#include <cjson/cJSON.h>

#include "bench_model.h"
#include "engine/estimate.h"

enum { PRXI_BENCH_TURNS = 100 };

typedef struct prxi_bench_attn {
    const prxi_attn_policy *policy;
    void *priv;
    prxi_attn_plan plan;
    prxi_estimate expected;                 /* nothing on a device: its plans have no times */
    double *density;                        /* [branches][layers] of the last step */
    double seconds[PRXI_BENCH_TURNS];
} prxi_bench_attn;

/* The pairs of "key=value,..." whose keys begin with "attention.", without that, go to policy, all others to own; both hold n. */
int prxi_bench_split(prxi_ctx *c, const char *text, char *own, char *policy, size_t n);
/* a starts zeroed. Unknown names, settings that cannot run, refused memory: an error, and a is to be closed all the same. */
int prxi_bench_attn_open(struct prx_engine *e, prxi_stream *s, const prxi_dit_config *cfg, const prxi_bench_clip *clip, const char *name,
                         const char *settings, prxi_bench_attn *a);
void prxi_bench_attn_close(prxi_ctx *c, prxi_bench_attn *a);
/* One step past the warm-up, the i-th; -1 is the one before those that count, in which what starts cold does. Its seconds. */
double prxi_bench_attn_step(prxi_stream *s, prxi_dit_run *run, prxi_bench_attn *a, int i, const float *x, float *const v[PRXI_BRANCHES]);
/* Of the last step: kept share of pairs, mean over all calls past the dense layers. */
double prxi_bench_attn_density(const prxi_bench_attn *a, const prxi_dit_config *cfg);
/* What the plan says of such a step, its density given: content decides some, and the plan assumes one. */
double prxi_bench_attn_expected(const prxi_bench_attn *a, const prxi_dit_config *cfg, double density);

#endif
