/* SVG2 on the device: what finding the clusters costs, and what attention over them gains, beside dense attention by turns. */
#include <math.h>
#include <stdio.h>

#include "attention/attention.h"
#include "bench_cuda_int.h"
#include "engine/core/device.h"
#include "engine/core/option.h"
#include "engine/core/rng.h"

enum { KINDS = 30, NOISES = 1 << 16 };

typedef struct svg2_case {
    const prxi_bench_cuda *b;
    const prxi_attn_policy *policy;
    void *priv;
    prxi_attn_call call;
    const prxi_block_list *list;
    void *p[4];                             /* q, k, v, o */
} svg2_case;

/* ---- tokens ---- */

/* A token of one of KINDS kinds, which come in runs as objects do in a video; q and k of a kind point the same way. v is noise. */
static void fill_row(const prxi_bench_cuda *b, const float *table, uint32_t *x, int64_t token, float centre, unsigned char *to)
{
    const int64_t kind = (token / 40 * 7 + token / 1500) % KINDS;
    *x = *x * 1664525u + 1013904223u;       /* Numerical Recipes */
    const uint32_t from = *x >> 8;
    for (int64_t i = 0; i < b->dim; i++) {
        const float c = table[kind * b->set.head_dim + i % b->set.head_dim];
        prxi_store(to, b->t, (size_t)i, centre * c + 0.6f * table[(from + (uint32_t)i) % NOISES]);
    }
}

static int upload(const prxi_bench_cuda *b, const float *table, uint32_t seed, float centre, unsigned char *to)
{
    enum { ROWS = 256 };
    const size_t row = (size_t)b->dim * prxi_dtype_size(b->t);
    unsigned char *host = prxi_alloc(b->c->mem, PRXI_MEM_MISC, ROWS * row);
    int err = host ? PRX_OK : prxi_fail_nomem(b->c, "bench attention", ROWS * row);
    for (int64_t t = 0; t < b->set.tokens && err == PRX_OK; t += ROWS) {
        const int64_t n = b->set.tokens - t < ROWS ? b->set.tokens - t : ROWS;
        for (int64_t i = 0; i < n; i++)
            fill_row(b, table, &seed, t + i, centre, host + (size_t)i * row);
        err = prxi_device_put(b->c, &b->u->device, to + (size_t)t * row, host, (size_t)n * row);
    }
    prxi_free(b->c->mem, host);
    return err;
}

static int make_tokens(svg2_case *x)
{
    const prxi_bench_cuda *b = x->b;
    const size_t bytes = (size_t)(b->set.tokens * b->dim) * prxi_dtype_size(b->t);
    float *table = prxi_alloc(b->c->mem, PRXI_MEM_MISC, NOISES * sizeof *table);
    prxi_rng rng;
    int err = table ? PRX_OK : prxi_fail_nomem(b->c, "bench attention", NOISES * sizeof *table);
    prxi_rng_seed(&rng, 1);
    if (table)
        prxi_rng_normal(&rng, table, NOISES);
    for (int i = 0; i < 4 && err == PRX_OK; i++)
        if (!(x->p[i] = prxi_device_alloc(b->c, &b->u->device, PRXI_MEM_MISC, bytes)))
            err = prxi_fail_nomem(b->c, "bench attention", bytes);
    for (int i = 0; i < 3 && err == PRX_OK; i++)
        err = upload(b, table, 7u + (uint32_t)i, i < 2 ? 0.8f : 0, x->p[i]);
    prxi_free(b->c->mem, table);
    return err;
}

/* ---- what takes turns ---- */

static void run_select(void *cookie)
{
    svg2_case *x = cookie;
    double density;
    x->call.step++;
    x->policy->select(x->priv, x->b->s, &x->call, &x->list, &density);
    prxi_stream_wait(x->b->s);
}

static void run_blocks(void *cookie)
{
    const svg2_case *x = cookie;
    x->b->e->device_kernels.attn.blocks[x->b->t](x->b->s, &x->call.args, x->list);
    prxi_stream_wait(x->b->s);
}

static void run_dense(void *cookie)
{
    const svg2_case *x = cookie;
    x->b->e->device_kernels.attn.dense[x->b->t](x->b->s, &x->call.args);
    prxi_stream_wait(x->b->s);
}

static int race(svg2_case *x)
{
    const prxi_bench_cuda *b = x->b;
    prxi_contender c[3] = { { .fn = run_select, .cookie = x }, { .fn = run_blocks, .cookie = x }, { .fn = run_dense, .cookie = x } };
    const double flop = 4 * (double)b->set.tokens * (double)b->set.tokens * (double)b->dim;
    double density = NAN;
    char shape[96];
    run_select(x);                          /* the long first clustering */
    const int err = prxi_bench_cuda_race(b, c, 3);
    if (err < 0)
        return err;
    x->policy->settle(x->priv, b->s, &density);
    snprintf(shape, sizeof shape, "%lldx%lldx%lld", (long long)b->set.heads, (long long)b->set.tokens, (long long)b->set.head_dim);
    cJSON *row = prxi_bench_cuda_row(b, "attention_svg2", shape, &c[1]);
    cJSON_AddNumberToObject(row, "density", density);
    cJSON_AddNumberToObject(row, "gflops", 1e-9 * density * flop / c[1].best);
    cJSON_AddNumberToObject(row, "share", density * c[2].best / c[1].best);
    cJSON_AddNumberToObject(row, "overhead", c[0].best / c[2].best);
    return prxi_stream_error(b->s);
}

/* ---- the policy ---- */

static int plan(svg2_case *x)
{
    static const char *const set[][2] = { { "first_times_fp", "0" }, { "first_layers_fp", "0" }, { "kmeans_iter_init", "10" } };
    const prxi_bench_cuda *b = x->b;
    const prxi_attn_env env = { .layers = 1, .heads = (int)b->set.heads, .head_dim = (int)b->set.head_dim, .branches = 1,
                                .steps = PRXI_RACE_RUNS + 2, .frames = 1, .grid_h = 1, .grid_w = (int)b->set.tokens,
                                .tokens = b->set.tokens, .dtype = b->t, .isa = b->e->kernels.isa, .n_threads = b->s->n_threads,
                                .ops = &b->e->device_kernels.attn, .device = &b->u->device };
    prxi_attn_plan p;
    int err = prxi_option_defaults(b->c, x->policy->options, x->priv);
    for (size_t i = 0; i < sizeof set / sizeof *set && err == PRX_OK; i++)
        err = prxi_option_set(b->c, x->policy->options, x->priv, "attention.", set[i][0], set[i][1]);
    return err < 0 ? err : x->policy->plan(x->priv, b->c, &env, &p);
}

int prxi_bench_cuda_svg2(const prxi_bench_cuda *b)
{
    svg2_case x = { .b = b, .policy = prxi_attn_policy_find("svg2") };
    x.priv = prxi_calloc(b->c->mem, PRXI_MEM_MISC, 1, x.policy->priv_size);
    int err = x.priv ? make_tokens(&x) : prxi_fail_nomem(b->c, "bench attention", x.policy->priv_size);
    x.call.args = (prxi_attn_args) { (int)b->set.heads, (int)b->set.head_dim, b->set.tokens, b->set.tokens, x.p[0], x.p[1], x.p[2], x.p[3],
                                     b->dim, b->dim, b->dim, b->dim, 1.0f / sqrtf((float)b->set.head_dim), 0, NULL, 0 };
    if (err == PRX_OK)
        err = plan(&x);
    if (err == PRX_OK)
        err = race(&x);
    if (x.priv)
        x.policy->close(x.priv, b->c);
    for (int i = 0; i < 4; i++)
        prxi_device_free(b->c, &b->u->device, x.p[i]);
    prxi_free(b->c->mem, x.priv);
    return err;
}
