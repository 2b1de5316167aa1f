/* DBPrune (CacheDiT; caching.md 1.11): DBCache's gate for each block alone. A block's probe is its own input when it was last computed;
 * while that has barely changed, the block's own residual is added in its place. Options have the names of its DBPruneConfig. */
#include "drift.h"
#include "engine/core/device.h"
#include "gate.h"
#include "registry.h"
#include "stack.h"

#include <math.h>
#include <stdio.h>

enum { MAX_BLOCKS = 256, FIRST_DIFFS = 5 };

typedef struct branch_state {
    prxi_gate gate, start;        /* start: as it was before this step */
    void *input[MAX_BLOCKS], *residual[MAX_BLOCKS];
    uint8_t known[MAX_BLOCKS];    /* both are there */
    double positive;              /* sum of the positive ones of the step's first diffs: makes the dynamic threshold */
    double all;                   /* of all tested blocks of the step */
    int tested, positives, booked, running;    /* running: the block whose residual is not yet taken; -1 none */
} branch_state;

typedef struct dbprune {
    int64_t fn, bn, warmup, interval, max_cached, max_continuous;
    double threshold, max_dynamic, relax;
    int dynamic, compat;
    char never_text[PRXI_OPT_STRING_MAX];
    prxi_cache_env env;
    uint8_t never[MAX_BLOCKS];
    double *scratch;
    int64_t n;
    branch_state b[PRXI_BRANCHES];
    int expert, since;            /* since: steps since the expert began */
} dbprune;

#define AT(field) offsetof(dbprune, field)

static const prxi_option options[] = {
    { "Fn_compute_blocks", PRXI_OPT_INT, AT(fn), 0, MAX_BLOCKS, NULL, "1", "leading blocks that always run" },
    { "Bn_compute_blocks", PRXI_OPT_INT, AT(bn), 0, MAX_BLOCKS, NULL, "0", "trailing blocks that always run" },
    { "non_prune_block_ids", PRXI_OPT_STRING, AT(never_text), 0, 0, NULL, "", "blocks that always run, as 12,13,20" },
    { "residual_diff_threshold", PRXI_OPT_DOUBLE, AT(threshold), 0, 1e6, NULL, "0.08",
      "reuse a block below this relative L1 of its input" },
    { "enable_dynamic_prune_threshold", PRXI_OPT_BOOL, AT(dynamic), 0, 1, NULL, "false",
      "raise the threshold with the mean of the step's first diffs" },
    { "max_dynamic_prune_threshold", PRXI_OPT_DOUBLE, AT(max_dynamic), 0, 1e6, NULL, "0", "not above this; 0: twice the threshold" },
    { "dynamic_prune_threshold_relax_ratio", PRXI_OPT_DOUBLE, AT(relax), 0, 1e6, NULL, "1.25", "factor on that mean" },
    { "max_warmup_steps", PRXI_OPT_INT, AT(warmup), 0, 1000, NULL, "4", "first steps (of each expert), computed" },
    { "warmup_interval", PRXI_OPT_INT, AT(interval), 1, 1000, NULL, "1", "of the warm-up, every n-th step is computed" },
    { "max_cached_steps", PRXI_OPT_INT, AT(max_cached), -1, 1000, NULL, "-1", "steps with reused blocks of a run and branch; -1: off" },
    { "max_continuous_cached_steps", PRXI_OPT_INT, AT(max_continuous), -1, 1000, NULL, "3", "longest run of such steps; -1: off" },
    { "compat", PRXI_OPT_BOOL, AT(compat), 0, 1, NULL, "false", "limits within a step as published: each block trips them alone" },
    { NULL, PRXI_OPT_INT, 0, 0, 0, NULL, NULL, NULL },
};

/* ---- plan ---- */

static int read_never(dbprune *d, prxi_ctx *c)
{
    char one[16];
    for (const char *at = d->never_text; *at;) {
        const size_t n = strcspn(at, ",");
        int64_t block = -1;
        if (n < sizeof one) {
            memcpy(one, at, n);
            one[n] = '\0';
        }
        if (n >= sizeof one || !prxi_parse_int(one, &block) || block < 0 || block >= d->env.blocks)
            return prxi_fail(c, PRX_EINVAL, "cache.non_prune_block_ids: '%s': numbers from 0 to %d with commas expected", d->never_text,
                             d->env.blocks - 1);
        d->never[block] = 1;
        at += n + (at[n] == ',');
    }
    return PRX_OK;
}

static int check_options(dbprune *d, prxi_ctx *c)
{
    if (d->env.blocks > MAX_BLOCKS)
        return prxi_fail(c, PRX_EINVAL, "cache dbprune: the model has %d blocks; at most %d expected", d->env.blocks, MAX_BLOCKS);
    if (d->fn + d->bn >= d->env.blocks)
        return prxi_fail(c, PRX_EINVAL,
                         "cache.Fn_compute_blocks + cache.Bn_compute_blocks = %lld + %lld: at most %d expected: the model has %d blocks "
                         "and at least one must be left to reuse",
                         (long long)d->fn, (long long)d->bn, d->env.blocks - 1, d->env.blocks);
    if (d->max_dynamic > 0 && !d->dynamic)
        return prxi_fail(c, PRX_EINVAL, "cache.max_dynamic_prune_threshold: needs cache.enable_dynamic_prune_threshold=true");
    if (d->max_dynamic > 0 && d->max_dynamic < d->threshold)
        return prxi_fail(c, PRX_EINVAL, "cache.max_dynamic_prune_threshold: %g is below cache.residual_diff_threshold %g", d->max_dynamic,
                         d->threshold);
    return read_never(d, c);
}

static int prunable(const dbprune *d, int block)
{
    return block >= d->fn && block < d->env.blocks - d->bn && !d->never[block];
}

static void restart(dbprune *d)
{
    for (int i = 0; i < d->env.branches; i++) {
        branch_state *b = &d->b[i];
        prxi_gate_reset(&b->gate);
        memset(b->known, 0, sizeof b->known);
        b->booked = b->running = -1;
    }
    d->since = 0;
}

static int plan(void *priv, prxi_ctx *c, const prxi_cache_env *env, prxi_cache_plan *out)
{
    dbprune *d = priv;
    int left = 0;
    d->env = *env;
    d->expert = -1;
    d->n = env->tokens * env->dim;
    const int err = check_options(d, c);
    if (err < 0)
        return err;
    const size_t one = prxi_mul((size_t)d->n, prxi_dtype_size(env->dtype)), rows = PRXI_DRIFT_SCRATCH(env->tokens) * sizeof *d->scratch;
    int bad = !(d->scratch = prxi_device_alloc(c, env->device, PRXI_MEM_CACHE, rows));
    for (int l = 0; l < env->blocks; l++) {
        left += prunable(d, l);
        for (int i = 0; i < env->branches && prunable(d, l) && !bad; i++)
            bad = !(d->b[i].input[l] = prxi_device_alloc(c, env->device, PRXI_MEM_CACHE, one)) ||
                  !(d->b[i].residual[l] = prxi_device_alloc(c, env->device, PRXI_MEM_CACHE, one));
    }
    out->bytes = rows + 2 * (size_t)(left * env->branches) * one;
    out->computed_steps = -1;
    snprintf(out->note, sizeof out->note, "%d of %d blocks may be reused, two tensors each and branch", left, env->blocks);
    restart(d);
    return bad ? prxi_fail_nomem(c, "cache buffers", out->bytes) : PRX_OK;
}

static void close(void *priv, prxi_ctx *c)
{
    dbprune *d = priv;
    for (int i = 0; i < PRXI_BRANCHES; i++)
        for (int l = 0; l < MAX_BLOCKS; l++) {
            prxi_device_free(c, d->env.device, d->b[i].input[l]);
            prxi_device_free(c, d->env.device, d->b[i].residual[l]);
        }
    prxi_device_free(c, d->env.device, d->scratch);
}

/* ---- run ---- */

static int begin_step(void *priv, prxi_stream *s, const prxi_step *step, float *v, prxi_cache_report *reports)
{
    dbprune *d = priv;
    (void)s, (void)v, (void)reports;
    if (step->expert != d->expert)
        restart(d);
    d->expert = step->expert;
    for (int i = 0; i < d->env.branches; i++) {
        branch_state *b = &d->b[i];
        if (!d->compat && b->booked != d->since - 1)
            b->gate.run = 0;             /* the step before reused nothing */
        b->start = b->gate;
        b->positive = b->all = 0;
        b->tested = b->positives = 0;
    }
    return 0;
}

static void end_step(void *priv, prxi_stream *s, const prxi_step *step, const float *v)
{
    (void)s, (void)step, (void)v;
    ((dbprune *)priv)->since++;
}

/* For the next block: from the positive ones among the first diffs of the step. */
static double threshold_now(const dbprune *d, const branch_state *b)
{
    const double limit = d->max_dynamic > 0 ? d->max_dynamic : 2 * d->threshold;
    if (!d->dynamic || b->positives == 0)
        return d->threshold;
    const double mean = d->relax * b->positive / b->positives;
    return mean < limit ? fmax(mean, d->threshold) : d->threshold;
}

static double measure(dbprune *d, prxi_stream *s, branch_state *b, int block, const void *x)
{
    const prxi_drift drift = { d->env.dtype, d->env.tokens, d->env.dim, x, NULL, d->env.dtype, b->input[block], 1, 0, d->scratch };
    const double diff = prxi_drift_measure(s, &drift);
    if (b->tested++ < FIRST_DIFFS && diff > 0) {
        b->positive += diff;
        b->positives++;
    }
    b->all += diff;
    return diff;
}

/* The gate's verdict on one block. The limits count steps: by default as they stood when the step began; as published, each block of
 * a step sees what the blocks before it have booked. The step is booked once, at its first reused block. */
static prxi_gate_reason ask(dbprune *d, prxi_stream *s, branch_state *b, int block, const void *x)
{
    prxi_gate_config g = { .threshold = d->threshold, .warmup = d->warmup, .interval = d->interval, .max_cached = d->max_cached,
                           .max_continuous = d->max_continuous, .compat = d->compat };
    prxi_gate trial = d->compat ? b->gate : b->start;
    trial.has_probe = b->known[block];
    prxi_gate_reason r = prxi_gate_ask(&g, &trial, d->since);
    if (r == PRXI_GATE_TEST) {
        g.threshold = threshold_now(d, b);
        r = prxi_gate_test(&g, &trial, d->since, measure(d, s, b, block, x));
    }
    if (prxi_gate_caches(r) && b->booked != d->since) {
        b->gate = trial;
        b->booked = d->since;
    } else if (d->compat && r == PRXI_GATE_MAX_CONTINUOUS) {
        b->gate.run = 0;
    }
    return r;
}

/* Of a step: that blocks were reused, or why the last one was not. */
static void report(const branch_state *b, prxi_gate_reason r, prxi_cache_report *out)
{
    if (prxi_gate_caches(r))
        out->cached = 1;
    out->reason = out->cached ? "pruned" : prxi_gate_reason_name(r);
    if (b->tested)
        out->diff = b->all / b->tested;
}

static int at_block(void *priv, prxi_stream *s, const prxi_cache_call *call, int block, void *x)
{
    dbprune *d = priv;
    branch_state *b = &d->b[call->branch];
    if (b->running >= 0) {
        prxi_residual_take(s, d->env.dtype, d->n, x, b->input[b->running], b->residual[b->running]);
        b->known[b->running] = 1;
        b->running = -1;
    }
    if (block == d->env.blocks || !prunable(d, block))
        return block;
    const prxi_gate_reason r = ask(d, s, b, block, x);
    report(b, r, call->report);
    if (prxi_gate_caches(r)) {
        prxi_residual_add(s, d->env.dtype, d->n, b->residual[block], x);
        return block + 1;
    }
    prxi_stream_copy(s, b->input[block], x, (size_t)d->n * prxi_dtype_size(d->env.dtype));
    b->running = block;
    return block;
}

const prxi_cache_policy prxi_cache_dbprune = {
    .name = "dbprune",
    .help = "reuse each block's residual while the block's input has barely changed",
    .priv_size = sizeof(dbprune),
    .options = options,
    .advice = prxi_gate_advice,
    .plan = plan,
    .begin_step = begin_step,
    .end_step = end_step,
    .at_block = at_block,
    .close = close,
};
