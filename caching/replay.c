/* Replay of a static schedule (caching.md section 2.3): a cached step adds the residual of the whole block stack, per branch, or takes
 * the guided velocity, for which nothing of the network runs. */
#include "replay.h"

#include "engine/core/device.h"

int prxi_replay_open(prxi_ctx *c, prxi_replay *r, const prxi_cache_env *env, size_t *bytes)
{
    const int velocity = r->reuse == PRXI_REUSE_VELOCITY, count = velocity ? 1 : env->branches;
    const int64_t n = velocity ? env->latent_elems : env->tokens * env->dim;
    const prxi_dtype t = velocity || r->calibrator == PRXI_FORECAST_NEWTON ? PRXI_F32 : env->dtype;
    const size_t hold = velocity ? 0 : prxi_mul((size_t)n, prxi_dtype_size(env->dtype));
    r->env = *env;
    r->expert = -1;
    *bytes = (size_t)count * (prxi_forecast_bytes((prxi_forecast_kind)r->calibrator, (int)r->order, t, n) + hold);
    for (int i = 0; i < count; i++) {
        const int err = prxi_forecast_open_on(c, &r->value[i], (prxi_forecast_kind)r->calibrator, (int)r->order, t, n, env->device);
        if (err < 0)
            return err;
        r->value[i].gap_cap = (int)r->gap_cap;
        if (hold && !(r->hold[i] = prxi_device_alloc(c, env->device, PRXI_MEM_CACHE, hold)))
            return prxi_fail_nomem(c, "cache buffers", hold);
    }
    return PRX_OK;
}

void prxi_replay_reset(prxi_replay *r)
{
    for (int i = 0; i < PRXI_BRANCHES; i++)
        prxi_forecast_reset(&r->value[i]);
    r->expert = -1;
}

void prxi_replay_close(void *priv, prxi_ctx *c)
{
    prxi_replay *r = priv;
    for (int i = 0; i < PRXI_BRANCHES; i++) {
        prxi_forecast_close(c, &r->value[i]);
        prxi_device_free(c, r->env.device, r->hold[i]);
        r->hold[i] = NULL;
    }
}

static const char *reason(const prxi_replay *r, int step)
{
    if (r->computed[step])
        return "schedule";
    return r->reuse == PRXI_REUSE_VELOCITY ? "schedule: velocity reused" : "schedule: residual reused";
}

int prxi_replay_begin_step(void *priv, prxi_stream *s, const prxi_step *step, float *v, prxi_cache_report *reports)
{
    prxi_replay *r = priv;
    if (step->expert != r->expert)
        prxi_replay_reset(r);
    r->expert = step->expert;
    for (int b = 0; b < r->env.branches; b++) {
        reports[b].reason = reason(r, step->index);
        reports[b].cached = !r->computed[step->index];
    }
    if (r->reuse != PRXI_REUSE_VELOCITY || r->computed[step->index])
        return 0;
    prxi_forecast_apply(s, &r->value[0], step->index, step->sigma, PRXI_F32, v, 0);
    return 1;
}

void prxi_replay_end_step(void *priv, prxi_stream *s, const prxi_step *step, const float *v)
{
    prxi_replay *r = priv;
    if (r->reuse == PRXI_REUSE_VELOCITY)
        prxi_forecast_update(s, &r->value[0], step->index, step->sigma, PRXI_F32, v, NULL);
}

int prxi_replay_at_block(void *priv, prxi_stream *s, const prxi_cache_call *call, int block, void *x)
{
    prxi_replay *r = priv;
    const int b = call->branch, step = call->step->index;
    if (r->reuse == PRXI_REUSE_VELOCITY || (block != 0 && block != r->env.blocks))
        return block;
    if (!r->computed[step]) {
        if (block == 0)
            prxi_forecast_apply(s, &r->value[b], step, call->step->sigma, r->env.dtype, x, 1);
        return r->env.blocks;
    }
    if (block == 0)
        prxi_stream_copy(s, r->hold[b], x, (size_t)(r->env.tokens * r->env.dim) * prxi_dtype_size(r->env.dtype));
    else
        prxi_forecast_update(s, &r->value[b], step, call->step->sigma, r->env.dtype, x, r->hold[b]);
    return block;
}
