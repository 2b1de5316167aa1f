#include "bench_attn.h"

#include <math.h>
#include <string.h>

#include "engine/core/device.h"
#include "engine/core/option.h"
#include "engine/job.h"

/* Steps of the job that is planned: enough that all turns come after the warm-up. */
enum { STEPS = 1000 };

/* ---- settings ---- */

static void append(char *list, const char *pair, size_t n, char separator)
{
    const size_t at = strlen(list);
    memcpy(list + at + (at > 0), pair, n);
    if (at > 0)
        list[at] = separator;
    list[at + (at > 0) + n] = '\0';
}

int prxi_bench_split(prxi_ctx *c, const char *text, char *own, char *policy, size_t n)
{
    static const char prefix[] = "attention.";
    const size_t skip = sizeof prefix - 1;
    const char separator = text && strchr(text, '\n') ? '\n' : ',', stop[2] = { separator, '\0' };
    *own = *policy = '\0';
    if (text && strlen(text) >= n)
        return prxi_fail(c, PRX_EINVAL, "bench: settings of more than %zu characters", n - 1);
    while (text && *text) {
        const size_t length = strcspn(text, stop);
        if (length > skip && memcmp(text, prefix, skip) == 0)
            append(policy, text + skip, length - skip, separator);
        else
            append(own, text, length, separator);
        text += length + (text[length] != '\0');
    }
    return PRX_OK;
}

/* ---- plan ---- */

static int make_plan(prx_engine *e, prxi_stream *s, const prxi_dit_config *cfg, const prxi_bench_clip *clip, prxi_bench_attn *a)
{
    const prxi_kernels *k = prxi_engine_model_kernels(e);
    const int gt = clip->frames, gh = clip->height / 2, gw = clip->width / 2;
    const prxi_attn_env env = { .layers = cfg->layers, .heads = cfg->heads, .head_dim = cfg->head_dim, .branches = PRXI_BRANCHES,
                                .steps = STEPS, .frames = gt, .grid_h = gh, .grid_w = gw, .tokens = (int64_t)gt * gh * gw,
                                .family = "wan", .dtype = e->dtype, .isa = e->kernels.isa, .n_threads = s->n_threads, .ops = &k->attn,
                                .device = s->device };
    const prxi_estimate_env rates = { .kernels = &e->kernels, .dit = cfg, .dtype = e->dtype, .tokens = env.tokens,
                                      .branches = PRXI_BRANCHES, .attn = &a->plan };
    int err = a->policy->plan(a->priv, &e->ctx, &env, &a->plan);
    if (err == PRX_OK && !s->device)
        err = prxi_estimate_run(&e->ctx, s, &rates, &a->expected);
    return err;
}

int prxi_bench_attn_open(prx_engine *e, prxi_stream *s, const prxi_dit_config *cfg, const prxi_bench_clip *clip, const char *name,
                         const char *settings, prxi_bench_attn *a)
{
    prxi_ctx *c = &e->ctx;
    const size_t n = (size_t)PRXI_BRANCHES * (size_t)cfg->layers;
    a->policy = prxi_attn_policy_find(name);
    if (!a->policy)
        return prxi_fail(c, PRX_EINVAL, "bench: attention: '%s': not a policy; render --help lists them", name);
    a->priv = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, a->policy->priv_size ? a->policy->priv_size : 1);
    a->density = prxi_calloc(c->mem, PRXI_MEM_MISC, n, sizeof *a->density);
    if (!a->priv || !a->density)
        return prxi_fail_nomem(c, name, a->policy->priv_size + n * sizeof *a->density);
    const int err = prxi_option_parse(c, a->policy->options, a->priv, "attention.", settings);
    return err < 0 ? err : make_plan(e, s, cfg, clip, a);
}

void prxi_bench_attn_close(prxi_ctx *c, prxi_bench_attn *a)
{
    if (a->priv)
        a->policy->close(a->priv, c);
    prxi_free(c->mem, a->priv);
    prxi_free(c->mem, a->density);
    a->priv = a->density = NULL;
}

/* ---- steps ---- */

double prxi_bench_attn_step(prxi_stream *s, prxi_dit_run *run, prxi_bench_attn *a, int i, const float *x, float *const v[PRXI_BRANCHES])
{
    prxi_cache_report reports[PRXI_BRANCHES];
    const prxi_dit_hooks hooks = { a->policy, a->priv, NULL, NULL, reports, a->density, NULL };
    const prxi_step st = { .index = a->plan.dense_steps + 1 + i, .steps = STEPS, .sigma = 1, .timestep = 999 };
    const double begin = prxi_now();
    memset(reports, 0, sizeof reports);
    prxi_dit_forward(s, run, &st, x, &hooks, v);
    prxi_stream_wait(s);
    return prxi_now() - begin;
}

double prxi_bench_attn_density(const prxi_bench_attn *a, const prxi_dit_config *cfg)
{
    double sum = 0;
    for (int b = 0; b < PRXI_BRANCHES; b++)
        for (int l = a->plan.dense_layers; l < cfg->layers; l++)
            sum += a->density[b * cfg->layers + l];
    return sum / (PRXI_BRANCHES * (cfg->layers - a->plan.dense_layers));
}

double prxi_bench_attn_expected(const prxi_bench_attn *a, const prxi_dit_config *cfg, double density)
{
    return a->expected.sparse_step + (density - a->expected.density) * a->expected.density_slope * (cfg->layers - a->plan.dense_layers);
}
