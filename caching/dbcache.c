/* DBCache (CacheDiT; caching.md section 1): the first Fn blocks are the probe, the middle blocks are reused as a residual, the last Bn
 * blocks correct. One decision per step and branch; the branch comes from the caller, and every job starts fresh. */
#include "drift.h"
#include "engine/core/device.h"
#include "forecast.h"
#include "gate.h"
#include "masks.h"
#include "registry.h"

#include <math.h>
#include <stdio.h>

enum { MAX_STEPS = 1000, EXPERTS = 2 };

typedef struct branch_state {
    prxi_gate gate;
    prxi_forecast middle;
    void *hold;                 /* state at block 0, then at Fn, of the step that runs */
    void *probe;
    double diff;                /* of this step; NaN when not measured */
    int diff_step, probe_step;
} branch_state;

typedef struct dbcache {
    /* options, under the names of caching.md 1.1 */
    int64_t fn, bn, warmup, interval, max_cached, max_continuous, steps_given, refresh_hint, downsample, order, gap_cap,
        warmup_2, max_cached_2;
    double threshold, accumulated, l1_threshold, important;
    int separate_cfg, cfg_first, diff_separate, policy, refresh_repeat, compat, calibrator;
    char mask_text[PRXI_OPT_STRING_MAX];
    /* plan */
    prxi_cache_env env;
    prxi_dtype elem;
    uint8_t mask[MAX_STEPS];
    prxi_gate_config gates[EXPERTS];
    double *scratch;
    branch_state b[PRXI_BRANCHES];
    int expert, since;          /* of the running step; steps since the last restart */
} dbcache;

#define AT(field) offsetof(dbcache, field)

static const prxi_option options[] = {
    { "Fn_compute_blocks", PRXI_OPT_INT, AT(fn), 1, 1024, NULL, "1", "leading blocks that always run; their residual is the probe" },
    { "Bn_compute_blocks", PRXI_OPT_INT, AT(bn), 0, 1024, NULL, "0", "trailing blocks that always run" },
    { "residual_diff_threshold", PRXI_OPT_DOUBLE, AT(threshold), 0, 1e6, NULL, "0.08",
      "cache below this relative L1; 1 or more: always" },
    { "max_accumulated_residual_diff_threshold", PRXI_OPT_DOUBLE, AT(accumulated), 0, 1e6, NULL, "0",
      "stop caching once the tested diffs sum to it; 0: off" },
    { "max_warmup_steps", PRXI_OPT_INT, AT(warmup), 0, MAX_STEPS, NULL, "4", "first steps, computed" },
    { "warmup_interval", PRXI_OPT_INT, AT(interval), 1, MAX_STEPS, NULL, "1", "of the warm-up, every n-th step is computed" },
    { "max_cached_steps", PRXI_OPT_INT, AT(max_cached), -1, MAX_STEPS, NULL, "-1", "cached steps of a run and branch; -1: off" },
    { "max_continuous_cached_steps", PRXI_OPT_INT, AT(max_continuous), -1, MAX_STEPS, NULL, "3", "longest run of cached steps; -1: off" },
    { "max_warmup_steps_2", PRXI_OPT_INT, AT(warmup_2), -1, MAX_STEPS, NULL, "-1", "of the low-noise expert; -1: as the other" },
    { "max_cached_steps_2", PRXI_OPT_INT, AT(max_cached_2), -2, MAX_STEPS, NULL, "-2", "of the low-noise expert; -2: as the other" },
    { "enable_separate_cfg", PRXI_OPT_BOOL, AT(separate_cfg), 1, 1, NULL, "true", "branches have histories of their own: always" },
    { "cfg_compute_first", PRXI_OPT_BOOL, AT(cfg_first), 0, 0, NULL, "false", "the order of branches is the engine's: cond first" },
    { "cfg_diff_compute_separate", PRXI_OPT_BOOL, AT(diff_separate), 0, 1, NULL, "true",
      "false: uncond takes the diff that cond measured in the step" },
    { "num_inference_steps", PRXI_OPT_INT, AT(steps_given), 0, MAX_STEPS, NULL, "0", "0, or the steps of the job" },
    { "steps_computation_mask", PRXI_OPT_STRING, AT(mask_text), 0, 0, NULL, "", "11010..., bins 6,1,3,..., slow, medium, fast or ultra" },
    { "steps_computation_policy", PRXI_OPT_CHOICE, AT(policy), 0, 0, "dynamic|static", "dynamic",
      "steps with 0: tested, or cached untested" },
    { "force_refresh_step_hint", PRXI_OPT_INT, AT(refresh_hint), 0, MAX_STEPS, NULL, "0", "start afresh at this step; 0: never" },
    { "force_refresh_step_policy", PRXI_OPT_CHOICE, AT(refresh_repeat), 0, 0, "once|repeat", "once", "or every so many steps" },
    { "l1_hidden_states_diff_threshold", PRXI_OPT_DOUBLE, AT(l1_threshold), 0, 1e6, NULL, "0",
      "compare states instead of residuals, with this threshold; 0: off" },
    { "important_condition_threshold", PRXI_OPT_DOUBLE, AT(important), 0, 1e6, NULL, "0",
      "only tokens that moved by more than this share count" },
    { "downsample_factor", PRXI_OPT_INT, AT(downsample), 1, 1024, NULL, "1", "keep every k-th channel of the probe" },
    { "compat", PRXI_OPT_BOOL, AT(compat), 0, 1, NULL, "false", "run-length counter and named masks as published" },
    { "calibrator", PRXI_OPT_CHOICE, AT(calibrator), 0, 0, "none|taylor|newton", "none", "how the residual is extrapolated" },
    { "order", PRXI_OPT_INT, AT(order), 1, PRXI_FORECAST_MAX, NULL, "1", "of the calibrator" },
    { "newton_gap", PRXI_OPT_INT, AT(gap_cap), 0, MAX_STEPS, NULL, "4",
      "beyond this many steps since a computed one newton has order 1 at most; 0: never" },
    { NULL, PRXI_OPT_INT, 0, 0, 0, NULL, NULL, NULL },
};

/* ---- plan ---- */

/* Settings that would change nothing in this job: whoever gives them expects something. */
static int check_no_effect(const dbcache *d, prxi_ctx *c, const prxi_cache_env *env)
{
    if (d->order > 1 && d->calibrator == PRXI_FORECAST_NONE)
        return prxi_fail(c, PRX_EINVAL, "cache.order: %lld: needs cache.calibrator=taylor or newton", (long long)d->order);
    if (d->refresh_repeat && !d->refresh_hint)
        return prxi_fail(c, PRX_EINVAL, "cache.force_refresh_step_policy: repeat needs cache.force_refresh_step_hint");
    if (d->refresh_hint >= env->steps)
        return prxi_fail(c, PRX_EINVAL, "cache.force_refresh_step_hint: %lld: below the %d steps of the job expected",
                         (long long)d->refresh_hint, env->steps);
    if (env->experts < EXPERTS && (d->warmup_2 >= 0 || d->max_cached_2 >= -1))
        return prxi_fail(c, PRX_EINVAL, "cache.%s: the model has no second expert",
                         d->warmup_2 >= 0 ? "max_warmup_steps_2" : "max_cached_steps_2");
    return PRX_OK;
}

static int check_options(const dbcache *d, prxi_ctx *c, const prxi_cache_env *env)
{
    if (d->fn + d->bn >= env->blocks)
        return prxi_fail(c, PRX_EINVAL,
            "cache.Fn_compute_blocks + cache.Bn_compute_blocks = %lld + %lld: at most %d expected: the model has %d "
                                        "blocks and at least one must be left to cache",
                         (long long)d->fn, (long long)d->bn, env->blocks - 1, env->blocks);
    if (!d->separate_cfg || d->cfg_first)
        return prxi_fail(c, PRX_EINVAL, "cache.%s: only %s: this engine names the branch of every call, cond first",
                         d->cfg_first ? "cfg_compute_first" : "enable_separate_cfg", d->cfg_first ? "false" : "true");
    if (d->steps_given && d->steps_given != env->steps)
        return prxi_fail(c, PRX_EINVAL, "cache.num_inference_steps: %lld; the job has %d steps", (long long)d->steps_given,
                         env->steps);
    if (env->steps > MAX_STEPS)
        return prxi_fail(c, PRX_EINVAL, "steps: %d; at most %d with this cache", env->steps, MAX_STEPS);
    if (d->policy && !*d->mask_text)
        return prxi_fail(c, PRX_EINVAL, "cache.steps_computation_policy: static needs cache.steps_computation_mask");
    return check_no_effect(d, c, env);
}

static void set_gates(dbcache *d, const prxi_cache_env *env)
{
    for (int e = 0; e < EXPERTS; e++)
        d->gates[e] = (prxi_gate_config) {
            .threshold = d->l1_threshold > 0 ? d->l1_threshold : d->threshold, .max_accumulated = d->accumulated,
            .warmup = e && d->warmup_2 >= 0 ? d->warmup_2 : d->warmup, .interval = d->interval,
            .max_cached = e && d->max_cached_2 >= -1 ? d->max_cached_2 : d->max_cached,
            .max_continuous = d->max_continuous, .mask = *d->mask_text ? d->mask : NULL, .mask_len = env->steps,
            .mask_static = d->policy, .compat = d->compat,
        };
}

/* Newton's differences of neighbours need more digits than bf16 has; the others keep the dtype of the states. */
static prxi_dtype ladder_elem(const dbcache *d)
{
    return d->calibrator == PRXI_FORECAST_NEWTON && d->elem == PRXI_BF16 ? PRXI_F32 : d->elem;
}

static int open_buffers(dbcache *d, prxi_ctx *c)
{
    const int64_t n = d->env.tokens * d->env.dim;
    const size_t hold = prxi_mul((size_t)n, prxi_dtype_size(d->elem));
    const size_t probe = (size_t)(d->env.tokens * prxi_drift_width(d->env.dim, (int)d->downsample)) * prxi_dtype_size(d->elem);
    prxi_device *device = d->env.device;
    const size_t scratch = prxi_mul(PRXI_DRIFT_SCRATCH(d->env.tokens), sizeof *d->scratch);
    d->scratch = prxi_device_alloc(c, device, PRXI_MEM_CACHE, scratch);
    for (int i = 0; i < d->env.branches && d->scratch; i++) {
        branch_state *b = &d->b[i];
        b->hold = prxi_device_alloc(c, device, PRXI_MEM_CACHE, hold);
        b->probe = prxi_device_alloc(c, device, PRXI_MEM_CACHE, probe);
        const int err = prxi_forecast_open_on(c, &b->middle, (prxi_forecast_kind)d->calibrator, (int)d->order, ladder_elem(d), n, device);
        if (err < 0)
            return err;
        b->middle.gap_cap = (int)d->gap_cap;
        if (!b->hold || !b->probe)
            return prxi_fail_nomem(c, "cache buffers", hold + probe);
    }
    return d->scratch ? PRX_OK : prxi_fail_nomem(c, "cache buffers", scratch);
}

static void restart(dbcache *d)
{
    for (int i = 0; i < d->env.branches; i++) {
        prxi_gate_reset(&d->b[i].gate);
        prxi_forecast_reset(&d->b[i].middle);
        d->b[i].diff_step = -1;
    }
    d->since = 0;
}

static int plan(void *priv, prxi_ctx *c, const prxi_cache_env *env, prxi_cache_plan *out)
{
    dbcache *d = priv;
    int err = check_options(d, c, env);
    if (err < 0 || (*d->mask_text && (err = prxi_mask_parse(c, d->mask_text, env->steps, d->compat, d->mask)) < 0))
        return err;
    d->env = *env;
    d->elem = env->dtype;
    d->expert = -1;
    set_gates(d, env);
    const int64_t n = env->tokens * env->dim;
    const size_t el = prxi_dtype_size(d->elem);
    out->bytes = (size_t)env->branches * ((size_t)n * el + (size_t)(env->tokens * prxi_drift_width(env->dim, (int)d->downsample)) * el +
                                          prxi_forecast_bytes((prxi_forecast_kind)d->calibrator, (int)d->order, ladder_elem(d), n)) +
                 PRXI_DRIFT_SCRATCH(env->tokens) * sizeof *d->scratch;
    out->computed_steps = -1;
    snprintf(out->note, sizeof out->note, "a cached step runs %lld of %d blocks", (long long)(d->fn + d->bn), env->blocks);
    if ((err = open_buffers(d, c)) < 0)
        return err;
    restart(d);
    return PRX_OK;
}

static void close(void *priv, prxi_ctx *c)
{
    dbcache *d = priv;
    for (int i = 0; i < PRXI_BRANCHES; i++) {
        prxi_device_free(c, d->env.device, d->b[i].hold);
        prxi_device_free(c, d->env.device, d->b[i].probe);
        prxi_forecast_close(c, &d->b[i].middle);
    }
    prxi_device_free(c, d->env.device, d->scratch);
}

/* ---- run ---- */

/* Another expert is another network: nothing carries over. So is a forced refresh. */
static int begin_step(void *priv, prxi_stream *s, const prxi_step *step, float *v, prxi_cache_report *reports)
{
    dbcache *d = priv;
    (void)s, (void)v, (void)reports;
    const int due = d->refresh_hint > 0 && (d->refresh_repeat ? step->index > 0 && step->index % d->refresh_hint == 0
                                                              : step->index == d->refresh_hint);
    if (due || step->expert != d->expert)
        restart(d);
    d->expert = step->expert;
    return 0;
}

static void end_step(void *priv, prxi_stream *s, const prxi_step *step, const float *v)
{
    (void)s, (void)step, (void)v;
    ((dbcache *)priv)->since++;
}

static prxi_drift drift_of(dbcache *d, branch_state *b, const void *x)
{
    return (prxi_drift) { d->elem, d->env.tokens, d->env.dim, x, d->l1_threshold > 0 ? NULL : b->hold, d->elem, b->probe,
                          (int)d->downsample, d->important, d->scratch };
}

static double measure(dbcache *d, prxi_stream *s, int branch, int step, const void *x)
{
    branch_state *b = &d->b[branch];
    const branch_state *cond = &d->b[PRXI_BRANCH_COND];
    if (branch != PRXI_BRANCH_COND && !d->diff_separate && cond->diff_step == step)
        return cond->diff;
    const prxi_drift drift = drift_of(d, b, x);
    const prxi_cache_env *env = &d->env;
    b->diff = env->known_diff ? env->known_diff(env->known_cookie, branch, step, b->probe_step) : NAN;
    if (isnan(b->diff))
        b->diff = prxi_drift_measure(s, &drift);
    b->diff_step = step;
    return b->diff;
}

/* After the probe: cache and jump to the corrector, or note the probe and go on. The mask counts the steps of the job, the limits
 * those since the last restart. */
static int decide(dbcache *d, prxi_stream *s, const prxi_cache_call *call, void *x)
{
    branch_state *b = &d->b[call->branch];
    const prxi_gate_config *g = &d->gates[d->expert != 0];
    const int64_t step = g->mask ? call->step->index : d->since;
    prxi_gate_reason r = prxi_gate_ask(g, &b->gate, step);
    if (r == PRXI_GATE_TEST) {
        const double diff = measure(d, s, call->branch, call->step->index, x);
        call->report->diff = diff;
        r = prxi_gate_test(g, &b->gate, step, diff);
    }
    call->report->reason = prxi_gate_reason_name(r);
    call->report->cached = prxi_gate_caches(r);
    if (call->report->cached) {
        prxi_forecast_apply(s, &b->middle, call->step->index, call->step->sigma, d->elem, x, 1);
        return 1;
    }
    const prxi_drift drift = drift_of(d, b, x);
    prxi_drift_store(s, &drift);
    b->probe_step = call->step->index;
    b->gate.has_probe = 1;
    return 0;
}

static int at_block(void *priv, prxi_stream *s, const prxi_cache_call *call, int block, void *x)
{
    dbcache *d = priv;
    branch_state *b = &d->b[call->branch];
    const size_t bytes = (size_t)(d->env.tokens * d->env.dim) * prxi_dtype_size(d->elem);
    const int last = d->env.blocks - (int)d->bn;
    if (block == 0) {
        prxi_stream_copy(s, b->hold, x, bytes);
    } else if (block == d->fn) {
        if (decide(d, s, call, x))
            return last;
        prxi_stream_copy(s, b->hold, x, bytes);
    } else if (block == last && !call->report->cached) {
        prxi_forecast_update(s, &b->middle, call->step->index, call->step->sigma, d->elem, x, b->hold);
    }
    return block;
}

const prxi_cache_policy prxi_cache_dbcache = {
    .name = "dbcache",
    .help = "reuse the middle blocks' residual while the first blocks' barely changes",
    .priv_size = sizeof(dbcache),
    .options = options,
    .advice = prxi_gate_advice,
    .plan = plan,
    .begin_step = begin_step,
    .end_step = end_step,
    .at_block = at_block,
    .close = close,
};
