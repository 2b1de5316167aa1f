/* EasyCache (caching.md section 4): the network's rate of change, output over input, is taken from the last two computed steps; with it
 * the movement of the latents adds up to an estimate of the output's. Below the threshold nothing of the network runs: the output
 * is the latents plus what separated the two at the last computed step. The prompt's branch decides for both. Options have the names of the
 * authors' easycache_generate.py for Wan (thresh; ret_steps, which the script for Wan 2.1 fixes at 10 and that for 2.2 sets to 7). */
#include "drift.h"
#include "engine/core/device.h"
#include "registry.h"
#include "stack.h"

#include <math.h>
#include <stdio.h>

typedef struct easycache {
    double threshold;
    int64_t first;
    prxi_cache_env env;
    float *x_last;                    /* latents of the last step */
    float *x_computed, *v_computed;   /* latents and the prompt's velocity of the last computed step */
    float *offset;                    /* guided velocity less latents, of it */
    double rate, size, sum;           /* rate NaN: unknown; size: mean|v_computed| */
    int expert, computed;             /* computed: steps of this expert */
} easycache;

#define AT(field) offsetof(easycache, field)

static const prxi_option options[] = {
    { "thresh", PRXI_OPT_DOUBLE, AT(threshold), 0, 1e6, NULL, "0.05", "reuse while the estimated change adds up to less" },
    { "ret_steps", PRXI_OPT_INT, AT(first), 1, 1000, NULL, "10", "first steps (of each expert), computed; so is the last" },
    { NULL, PRXI_OPT_INT, 0, 0, 0, NULL, NULL, NULL },
};

static int plan(void *priv, prxi_ctx *c, const prxi_cache_env *env, prxi_cache_plan *out)
{
    easycache *e = priv;
    const size_t bytes = prxi_mul((size_t)env->latent_elems, sizeof(float));
    float **const all[] = { &e->x_last, &e->x_computed, &e->v_computed, &e->offset };
    e->env = *env;
    e->expert = -1;
    out->bytes = 4 * bytes;
    out->computed_steps = -1;
    snprintf(out->note, sizeof out->note, "a cached step runs nothing of the network");
    for (int i = 0; i < 4; i++)
        if (!(*all[i] = prxi_device_alloc(c, env->device, PRXI_MEM_CACHE, bytes)))
            return prxi_fail_nomem(c, "cache buffers", bytes);
    return PRX_OK;
}

static void close(void *priv, prxi_ctx *c)
{
    easycache *e = priv;
    prxi_device_free(c, e->env.device, e->x_last);
    prxi_device_free(c, e->env.device, e->x_computed);
    prxi_device_free(c, e->env.device, e->v_computed);
    prxi_device_free(c, e->env.device, e->offset);
}

static double mean_distance(prxi_stream *s, const float *a, const float *b, int64_t n)
{
    return prxi_latent_distance(s, n, a, b) / (double)n;
}

/* Adds this step's share to the sum. Returns the reason; the step is cached when it is "acc_lt". */
static const char *decide(easycache *e, prxi_stream *s, const prxi_step *step, int *cached)
{
    *cached = 0;
    if (step->expert != e->expert) {
        e->expert = step->expert;
        e->computed = 0;
        e->rate = NAN;
    }
    if (step->expert_index < e->first || step->index == step->steps - 1)
        return "forced";
    if (e->computed < 2 || !isfinite(e->rate))
        return "no_rate";
    e->sum += e->rate * mean_distance(s, step->latents, e->x_last, e->env.latent_elems) / e->size;
    *cached = e->sum < e->threshold;
    return *cached ? "acc_lt" : "acc_ge";
}

static int begin_step(void *priv, prxi_stream *s, const prxi_step *step, float *v, prxi_cache_report *reports)
{
    easycache *e = priv;
    int cached;
    const char *reason = decide(e, s, step, &cached);
    const int tested = strncmp(reason, "acc", 3) == 0;
    for (int b = 0; b < e->env.branches; b++) {
        reports[b].cached = cached;
        reports[b].reason = reason;
        reports[b].diff = tested ? e->sum : NAN;
    }
    const size_t bytes = (size_t)e->env.latent_elems * sizeof *e->x_last;
    prxi_stream_copy(s, e->x_last, step->latents, bytes);
    if (cached) {
        prxi_stream_copy(s, v, step->latents, bytes);
        prxi_residual_add(s, PRXI_F32, e->env.latent_elems, e->offset, v);
    }
    if (!cached)
        e->sum = 0;
    return cached;
}

static void at_output(void *priv, prxi_stream *s, const prxi_step *step, float *const v[PRXI_BRANCHES])
{
    easycache *e = priv;
    const int64_t n = e->env.latent_elems;
    const float *cond = v[PRXI_BRANCH_COND];
    if (e->computed > 0)
        e->rate = mean_distance(s, cond, e->v_computed, n) / mean_distance(s, step->latents, e->x_computed, n);
    e->size = mean_distance(s, cond, NULL, n);
    prxi_stream_copy(s, e->v_computed, cond, (size_t)n * sizeof *cond);
    prxi_stream_copy(s, e->x_computed, step->latents, (size_t)n * sizeof *cond);
    e->computed++;
}

static void end_step(void *priv, prxi_stream *s, const prxi_step *step, const float *v)
{
    easycache *e = priv;
    prxi_residual_take(s, PRXI_F32, e->env.latent_elems, v, step->latents, e->offset);
}

static const prxi_cache_advice advice[] = {
    { "forced", "fewer cache.ret_steps, or more steps" },
    { "no_rate", "more steps" },
    { "acc_ge", "a larger cache.thresh" },
    { NULL, NULL },
};

const prxi_cache_policy prxi_cache_easycache = {
    .name = "easycache",
    .help = "skip the network while the latents have barely moved, at the rate it last showed",
    .priv_size = sizeof(easycache),
    .options = options,
    .advice = advice,
    .plan = plan,
    .begin_step = begin_step,
    .at_output = at_output,
    .end_step = end_step,
    .close = close,
};
