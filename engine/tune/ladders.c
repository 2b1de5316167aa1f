/* The table of ladders, and a rung as settings. A new row is all that a new method takes. */
#include "ladders.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/core/option.h"

/* In the order in which they are applied: shares are of the steps that the first axis leaves. */
const char *const prxi_tune_axes[PRXI_TUNE_AXES] = { "steps", "cache", "attention" };

/* The strong ends lie where no picture is left: the edge of any target must be on the ladder. */
static const prxi_ladder ladders[] = {
    { "steps", "steps", "", "steps", PRXI_RUNG_STEPS, 0.9, 0.04 },
    { "steps", "steps of dpmpp", "scheduler=dpmpp", "steps", PRXI_RUNG_STEPS, 0.9, 0.04 },
    { "steps", "steps of euler", "scheduler=euler", "steps", PRXI_RUNG_STEPS, 0.9, 0.04 },
    { "steps", "steps of unipc, order 3", "scheduler=unipc solver_order=3", "steps", PRXI_RUNG_STEPS, 0.9, 0.12 },
    { "cache", "lemica, residual", "cache=lemica cache.reuse=residual", "cache.budget", PRXI_RUNG_GRAPH, 0.9, 0.08 },
    { "cache", "lemica, velocity", "cache=lemica cache.reuse=velocity", "cache.budget", PRXI_RUNG_GRAPH, 0.9, 0.08 },
    { "cache", "lemica, shortest sum", "cache=lemica cache.objective=sum", "cache.budget", PRXI_RUNG_GRAPH, 0.9, 0.08 },
    { "cache", "lemica, newton", "cache=lemica cache.calibrator=newton", "cache.budget", PRXI_RUNG_GRAPH, 0.9, 0.2 },
    { "cache", "lemica, velocity newton", "cache=lemica cache.reuse=velocity cache.calibrator=newton", "cache.budget",
      PRXI_RUNG_GRAPH, 0.9, 0.2 },
    { "cache", "lemica, dense and sparse", "cache=lemica", "cache.cost", PRXI_RUNG_COST, 0.9, 0.08 },
    { "cache", "teacache", "cache=teacache", "cache.teacache_thresh", PRXI_RUNG_LOG, 0.01, 2 },
    { "cache", "magcache", "cache=magcache cache.magcache_thresh=10", "cache.magcache_K", PRXI_RUNG_COUNT, 1, 17 },
    { "cache", "magcache, threshold", "cache=magcache", "cache.magcache_thresh", PRXI_RUNG_LOG, 0.005, 0.5 },
    { "cache", "easycache", "cache=easycache cache.ret_steps=@0.2", "cache.thresh", PRXI_RUNG_LOG, 0.005, 2 },
    { "cache", "dbcache", "cache=dbcache cache.max_warmup_steps=@0.15 cache.max_continuous_cached_steps=-1",
      "cache.residual_diff_threshold", PRXI_RUNG_LOG, 0.02, 3 },
    { "cache", "dbcache, newton", "cache=dbcache cache.max_warmup_steps=@0.15 cache.calibrator=newton", "cache.residual_diff_threshold",
      PRXI_RUNG_LOG, 0.02, 3 },
    { "cache", "dbprune", "cache=dbprune cache.max_warmup_steps=@0.15", "cache.residual_diff_threshold", PRXI_RUNG_LOG, 0.01, 1 },
    { "attention", "radial", "attention=radial attention.block=64", "attention.decay", PRXI_RUNG_LOG, 4, 0.02 },
    { "attention", "radial, warm-up", "attention=radial attention.block=64 attention.dense_layers=0", "attention.dense_timesteps",
      PRXI_RUNG_SHARE, 0.9, 0 },
    { "attention", "svg2", "attention=svg2", "attention.top_p_kmeans", PRXI_RUNG_LINEAR, 0.98, 0.1 },
    { "attention", "svg2, warm-up", "attention=svg2", "attention.first_times_fp", PRXI_RUNG_LINEAR, 0.9, 0 },
};

const prxi_ladder *prxi_ladder_at(int i)
{
    return i >= 0 && i < (int)(sizeof ladders / sizeof *ladders) ? &ladders[i] : NULL;
}

int prxi_ladder_axis(const prxi_ladder *l)
{
    int a = 0;
    while (a < PRXI_TUNE_AXES - 1 && strcmp(prxi_tune_axes[a], l->axis) != 0)
        a++;
    return a;
}

static int64_t share(double of, double steps, int64_t least)
{
    const int64_t n = (int64_t)floor(of * steps + 0.5);
    return n > least ? n : least;
}

static int apply_fixed(prxi_ctx *c, prxi_pairs *p, const char *fixed, double steps)
{
    char key[128], value[128];
    int err = PRX_OK, used = 0;
    for (const char *at = fixed; err == PRX_OK && sscanf(at, " %127[^= ]=%127s%n", key, value, &used) == 2; at += used) {
        double of = 0;
        if (value[0] == '@' && prxi_parse_num(value + 1, &of))
            snprintf(value, sizeof value, "%lld", (long long)share(of, steps, 1));
        err = prxi_pairs_set(c, p, key, value);
    }
    return err;
}

/* Three digits: what a person would write. */
static void print_rounded(double v, char *buf, size_t n)
{
    const double scale = v > 0 ? pow(10, 2 - floor(log10(v))) : 1;
    prxi_print_num(floor(v * scale + 0.5) / scale, buf, n);
}

/* Attention of the sparse steps, and what steps cost: the graph is solved for these. */
static int apply_cost(prxi_ctx *c, prxi_pairs *p, const prxi_rung_env *env)
{
    char text[64];
    if (!env->sparse || env->sparse->n == 0)
        return prxi_fail(c, PRX_EINVAL, "the model's lemica_graph.json has no sparse jumps (schedule build --sparse)");
    if (!(env->sparse_cost < 1))
        return prxi_fail(c, PRX_EINVAL, "a sparse step takes %.3g times as long as a dense one here", env->sparse_cost);
    int err = prxi_pairs_add(c, p, env->sparse);
    print_rounded(env->sparse_cost, text, sizeof text);
    if (err == PRX_OK)
        err = prxi_pairs_set(c, p, "cache.sparse_cost", text);
    print_rounded(env->cached_cost, text, sizeof text);
    return err < 0 ? err : prxi_pairs_set(c, p, "cache.cached_cost", text);
}

int prxi_ladder_apply(prxi_ctx *c, prxi_pairs *p, const prxi_ladder *l, double at, prxi_rung_env *env)
{
    char value[64];
    const double linear = l->mild + (l->strong - l->mild) * at;
    if ((l->kind == PRXI_RUNG_GRAPH || l->kind == PRXI_RUNG_COST) && env->graph_steps < 1)
        return prxi_fail(c, PRX_EINVAL, "the model has no lemica_graph.json");
    if (l->kind == PRXI_RUNG_STEPS)
        snprintf(value, sizeof value, "%lld", (long long)(env->steps = share(linear, (double)env->steps, 1)));
    else if (l->kind == PRXI_RUNG_GRAPH)
        snprintf(value, sizeof value, "%lld", (long long)share(linear, (double)env->graph_steps, 2));
    else if (l->kind == PRXI_RUNG_SHARE)
        snprintf(value, sizeof value, "%lld", (long long)share(linear, (double)env->steps, 0));
    else if (l->kind == PRXI_RUNG_COUNT)
        snprintf(value, sizeof value, "%lld", (long long)share(linear, 1, 1));
    else if (l->kind == PRXI_RUNG_COST)
        print_rounded(linear * (double)env->graph_steps, value, sizeof value);
    else
        print_rounded(l->kind == PRXI_RUNG_LOG ? l->mild * pow(l->strong / l->mild, at) : linear, value, sizeof value);
    int err = apply_fixed(c, p, l->fixed, (double)env->steps);
    if (err == PRX_OK && l->kind == PRXI_RUNG_COST)
        err = apply_cost(c, p, env);
    return err < 0 ? err : prxi_pairs_set(c, p, l->key, value);
}
