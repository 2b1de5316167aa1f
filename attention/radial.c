/* Radial Attention (arXiv 2506.19852): one static block mask for all heads and layers, dense first steps and layers. The
 * mask belongs to the job and goes with it. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>

#include "attention/mask.h"
#include "attention/policies.h"

typedef struct radial {
    double decay;
    int block, distance_one, sink, model_type;      /* choice indices */
    int64_t dense_timesteps, dense_layers;          /* -1: as published */
    int probe;
    const prxi_attn_ops *ops;
    prxi_dtype dtype;
    prxi_attn_probe probed;
    int64_t tokens;
    prxi_block_list list;
    void *storage;
    double density;
} radial;

enum { SINK_AUTO, SINK_ON, SINK_OFF };
enum { TYPE_AUTO, TYPE_WAN, TYPE_HUNYUAN };

static const prxi_option options[] = {
    { "decay", PRXI_OPT_DOUBLE, offsetof(radial, decay), 1e-6, 1e6, NULL, "0.2",
      "width of the bands away from the diagonal (published: wan 0.2, wan 2.2 0.8, hunyuan 0.95)" },
    { "block", PRXI_OPT_CHOICE, offsetof(radial, block), 0, 0, "64|128", "128", "tokens of a block" },
    { "distance_one", PRXI_OPT_CHOICE, offsetof(radial, distance_one), 0, 0, "whole|half", "whole",
      "what neighbouring frames see of each other; half is the wan rule before 2025-11-11" },
    { "sink", PRXI_OPT_CHOICE, offsetof(radial, sink), 0, 0, "auto|on|off", "auto",
      "every frame sees the first; auto: on for wan, off for hunyuan" },
    { "model_type", PRXI_OPT_CHOICE, offsetof(radial, model_type), 0, 0, "auto|wan|hunyuan", "auto",
      "whose rule; auto takes the model's" },
    { "dense_timesteps", PRXI_OPT_INT, offsetof(radial, dense_timesteps), -1, 100000, NULL, "-1",
      "dense first steps; -1: 12 of 50, scaled" },
    { "dense_layers", PRXI_OPT_INT, offsetof(radial, dense_layers), -1, 100000, NULL, "-1",
      "dense first layers; -1: 1 for wan, 0 for hunyuan" },
    { "probe", PRXI_OPT_BOOL, offsetof(radial, probe), 0, 0, NULL, "false",
      "measure the kept softmax mass and the output error of every sparse call" },
    { .name = NULL },
};

static prxi_radial rule_of(const radial *r, const prxi_attn_env *env)
{
    const int hunyuan = r->model_type == TYPE_HUNYUAN
                        || (r->model_type == TYPE_AUTO && env->family && !strcmp(env->family, "hunyuan"));
    return (prxi_radial) {
        .frames = env->frames,
        .tokens_per_frame = (int64_t)env->grid_h * env->grid_w,
        .text_tokens = env->text_tokens,
        .block = r->block ? 128 : 64,
        .decay = r->decay,
        .hunyuan = hunyuan,
        .half = r->distance_one,
        .sink = r->sink == SINK_AUTO ? !hunyuan : r->sink == SINK_ON,
    };
}

static int resolve_warmup(radial *r, prxi_ctx *c, const prxi_attn_env *env, int hunyuan)
{
    if (r->dense_timesteps < 0)
        r->dense_timesteps = (int64_t)(0.24 * env->steps + 0.5);
    if (r->dense_layers < 0)
        r->dense_layers = !hunyuan && env->layers > 1;
    if (r->dense_timesteps > env->steps)
        return prxi_fail(c, PRX_EINVAL, "attention.dense_timesteps: %lld is more than the %d steps of this run",
                         (long long)r->dense_timesteps, env->steps);
    if (r->dense_layers > env->layers)
        return prxi_fail(c, PRX_EINVAL, "attention.dense_layers: %lld is more than the %d layers of this model",
                         (long long)r->dense_layers, env->layers);
    if (r->dense_timesteps == env->steps || r->dense_layers == env->layers)
        return prxi_fail(c, PRX_EINVAL,
                         "attention: radial: %lld of %d steps and %lld of %d layers are dense: nothing is left for it; fewer, "
                         "or --attention dense, expected",
                         (long long)r->dense_timesteps, env->steps, (long long)r->dense_layers, env->layers);
    return PRX_OK;
}

/* A mask that keeps everything is dense attention in blocks: slower, and not what was asked for. */
static int check_sparse(prxi_ctx *c, const prxi_block_mask *m, const prxi_radial *rule)
{
    if (m->kept < (int64_t)m->n * m->n)
        return PRX_OK;
    return prxi_fail(c, PRX_EINVAL,
                     "attention: radial: its mask keeps all %d x %d blocks of %d frames of %lld tokens: a longer or larger "
                     "clip, %s or --attention dense expected",
                     m->n, m->n, rule->frames, (long long)rule->tokens_per_frame,
                     rule->block == 128 ? "attention.block=64, a smaller attention.decay," : "a smaller attention.decay");
}

static int make_plan(void *priv, prxi_ctx *c, const prxi_attn_env *env, prxi_attn_plan *plan)
{
    radial *r = priv;
    const prxi_radial rule = rule_of(r, env);
    prxi_block_mask mask;
    int err;
    if ((err = resolve_warmup(r, c, env, rule.hunyuan)) != PRX_OK || (err = prxi_radial_mask(c, &rule, &mask)) != PRX_OK)
        return err;
    prxi_free(c->mem, r->storage);
    r->storage = NULL;
    err = check_sparse(c, &mask, &rule);
    if (err == PRX_OK && (err = prxi_mask_list(c, &mask, &r->list)) == PRX_OK) {
        static atomic_ullong lists;         /* every list that was ever made has its number */
        r->list.id = atomic_fetch_add(&lists, 1) + 1;
        r->storage = (void *)(uintptr_t)r->list.q_start;
        r->tokens = mask.tokens;
        r->ops = env->ops;
        r->dtype = env->dtype;
        r->density = mask.pair_density;
        const double sparse = (1.0 - (double)r->dense_timesteps / (env->steps > 0 ? env->steps : 1))
                              * (1.0 - (double)r->dense_layers / (env->layers > 0 ? env->layers : 1));
        *plan = (prxi_attn_plan) { .density = 1.0 - sparse * (1.0 - mask.pair_density), .sparse_density = mask.pair_density,
                                   .dense_steps = (int)r->dense_timesteps, .dense_layers = (int)r->dense_layers };
        plan->bytes = (2 * (size_t)mask.n + 2 + (size_t)mask.kept) * sizeof(int32_t);
        snprintf(plan->note, sizeof plan->note, "radial: mask of %d x %d blocks, density %.4f; dense: %lld steps, %lld layers",
                 mask.n, mask.n, mask.pair_density, (long long)r->dense_timesteps, (long long)r->dense_layers);
    }
    prxi_mask_close(c, &mask);
    return err;
}

static void pick(void *priv, prxi_stream *s, const prxi_attn_call *call, const prxi_block_list **list,
                 double *density)
{
    radial *r = priv;
    *list = NULL;
    *density = 1.0;
    r->probed = (prxi_attn_probe) { NAN, NAN };
    if (call->step < r->dense_timesteps || call->layer < r->dense_layers)
        return;
    if (call->args.q_len != r->tokens || call->args.kv_len != r->tokens) {
        prxi_stream_fail(s, PRX_EINVAL, "radial", "the mask was planned for another number of tokens");
        return;
    }
    *list = &r->list;
    *density = r->density;
    if (r->probe)
        prxi_attn_probe_list(s, r->ops, r->dtype, &call->args, *list, PRXI_PROBE_SAMPLES, &r->probed);
}

static const prxi_block_list *only_list(const void *priv)
{
    return &((const radial *)priv)->list;
}

static void finish(void *priv, prxi_ctx *c)
{
    radial *r = priv;
    prxi_free(c->mem, r->storage);
    r->storage = NULL;
}

static void last_probe(const void *priv, prxi_attn_probe *out)
{
    *out = ((const radial *)priv)->probed;
}

const prxi_attn_policy prxi_attn_radial = {
    .name = "radial",
    .help = "static mask: bands that narrow with the distance between frames (Radial Attention)",
    .priv_size = sizeof(radial),
    .options = options,
    .plan = make_plan,
    .select = pick,
    .fixed = only_list,
    .close = finish,
    .probe = last_probe,
};
