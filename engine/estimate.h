/* What a denoising step will take on this machine: its operations counted, their rates measured at the job's shapes. */
#ifndef PRXI_ESTIMATE_H
#define PRXI_ESTIMATE_H

#include <cjson/cJSON.h>

#include "engine/model/dit.h"

typedef struct prxi_estimate_env {
    const prxi_kernels *kernels;
    const prxi_dit_config *dit;
    prxi_dtype dtype;
    int64_t tokens;
    int branches;
    const prxi_attn_plan *attn;     /* which calls are sparse, and how much */
} prxi_estimate_env;

typedef struct prxi_estimate {
    double linear_flop, attention_flop;             /* of a dense step */
    double density;                                 /* of a sparse call: planned, or assumed where content decides */
    double dense_step, sparse_step;                 /* seconds, before and after the warm-up */
    double density_slope;                           /* of sparse_step: seconds of a sparse layer at density 1 over those at 0 */
    double spent;                                   /* seconds of measuring */
} prxi_estimate;

/* Takes a quarter of a second or so: some rows of each linear layer, some queries against all keys; scratch is freed again. */
int prxi_estimate_run(prxi_ctx *c, prxi_stream *s, const prxi_estimate_env *env, prxi_estimate *out);
/* For the plan: steps in all, how many of them the cache computes (-1: unknown, all are counted). */
cJSON *prxi_estimate_json(const prxi_estimate *e, const prxi_attn_plan *attn, int layers, int steps, int computed);

#endif
