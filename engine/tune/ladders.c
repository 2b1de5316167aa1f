/* The table of ladders, and a rung as settings. A new row is all that a new method takes. */
#include "ladders.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/core/option.h"

/* In the order in which they are applied: shares are of the steps that the first axis leaves. */
const char *const prxi_tune_axes[PRXI_TUNE_AXES] = { "steps", "cache", "attention" };

static const prxi_ladder ladders[] = {
    { "steps", "steps", "", "steps", PRXI_RUNG_STEPS, 0.9, 0.2 },
    { "steps", "steps of dpmpp", "scheduler=dpmpp", "steps", PRXI_RUNG_STEPS, 0.9, 0.2 },
    { "cache", "dbcache", "cache=dbcache cache.max_warmup_steps=@0.15", "cache.residual_diff_threshold", PRXI_RUNG_LOG, 0.02, 0.8 },
    { "cache", "dbcache, newton", "cache=dbcache cache.max_warmup_steps=@0.15 cache.calibrator=newton", "cache.residual_diff_threshold",
      PRXI_RUNG_LOG, 0.02, 0.8 },
    { "cache", "lemica, residual", "cache=lemica cache.reuse=residual", "cache.budget", PRXI_RUNG_GRAPH, 0.9, 0.2 },
    { "cache", "lemica, velocity", "cache=lemica cache.reuse=velocity", "cache.budget", PRXI_RUNG_GRAPH, 0.9, 0.2 },
    { "cache", "easycache", "cache=easycache cache.ret_steps=@0.2", "cache.thresh", PRXI_RUNG_LOG, 0.005, 0.5 },
    { "cache", "teacache", "cache=teacache", "cache.teacache_thresh", PRXI_RUNG_LOG, 0.01, 0.6 },
    { "cache", "magcache", "cache=magcache cache.magcache_K=4", "cache.magcache_thresh", PRXI_RUNG_LOG, 0.01, 0.5 },
    { "attention", "radial", "attention=radial attention.block=64", "attention.decay", PRXI_RUNG_LOG, 4, 0.05 },
    { "attention", "svg2", "attention=svg2", "attention.top_p_kmeans", PRXI_RUNG_LINEAR, 0.98, 0.4 },
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

int prxi_ladder_apply(prxi_ctx *c, prxi_pairs *p, const prxi_ladder *l, double at, prxi_rung_env *env)
{
    char value[64];
    const double linear = l->mild + (l->strong - l->mild) * at;
    if (l->kind == PRXI_RUNG_GRAPH && env->graph_steps < 1)
        return prxi_fail(c, PRX_EINVAL, "the model has no lemica_graph.json");
    if (l->kind == PRXI_RUNG_STEPS)
        snprintf(value, sizeof value, "%lld", (long long)(env->steps = share(linear, (double)env->steps, 1)));
    else if (l->kind == PRXI_RUNG_GRAPH)
        snprintf(value, sizeof value, "%lld", (long long)share(linear, (double)env->graph_steps, 2));
    else
        print_rounded(l->kind == PRXI_RUNG_LOG ? l->mild * pow(l->strong / l->mild, at) : linear, value, sizeof value);
    const int err = apply_fixed(c, p, l->fixed, (double)env->steps);
    return err < 0 ? err : prxi_pairs_set(c, p, l->key, value);
}
