/* Attention benchmarks: dense against matrix products, sparse against density times dense, all turn by turn. */
#include "attention/bench.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "attention/mask.h"
#include "engine/core/race.h"
#include "engine/ops/onednn/gemm.h"

enum { GEMM = 2048 };
static const double race_seconds = 0.5;     /* of short contenders: more turns than asked for */
enum { ALL, DENSE, RADIAL, SVG2 };

typedef struct settings {
    int64_t tokens, head_dim, heads, repeats;
    int only, clip;
} settings;

/* Clips of attention.md 2.6, and half of the first; all of them take some minutes. */
typedef struct clip {
    const char *name;
    prxi_radial rule;
} clip;

static const clip clips[] = {
    { "480p", { 21, 1560, 0, 128, 0.2, 0, 0, 1 } },    { "480p-half", { 11, 1560, 0, 128, 0.2, 0, 0, 1 } },
    { "960x720", { 21, 2700, 0, 128, 0.2, 0, 0, 1 } }, { "768p", { 18, 3840, 0, 128, 0.2, 0, 0, 1 } },
    { "720p", { 21, 3600, 0, 128, 0.2, 0, 0, 1 } },    { "768p-blocks-of-64", { 20, 3840, 0, 64, 0.8, 0, 0, 1 } },
    { "hunyuan-768p", { 30, 3840, 0, 128, 0.95, 1, 0, 0 } },
};
enum { CLIPS = sizeof clips / sizeof *clips };

static const prxi_option options[] = {
    { "only", PRXI_OPT_CHOICE, offsetof(settings, only), 0, 0, "all|dense|radial|svg2", "all", "which rows" },
    { "tokens", PRXI_OPT_INT, offsetof(settings, tokens), 0, 1 << 20, NULL, "0", "dense and svg2; 0: 4096 to 32768" },
    { "head_dim", PRXI_OPT_INT, offsetof(settings, head_dim), 0, 256, NULL, "0", "0: 64 and 128" },
    { "heads", PRXI_OPT_INT, offsetof(settings, heads), 0, 64, NULL, "0", "0: 2, 1 above 16384 tokens" },
    { "clip", PRXI_OPT_CHOICE, offsetof(settings, clip), 0, 0,
      "small|480p|480p-half|960x720|768p|720p|768p-blocks-of-64|hunyuan-768p|all", "small", "of the radial rows; small: the 480p ones" },
    { "repeats", PRXI_OPT_INT, offsetof(settings, repeats), 1, PRXI_RACE_RUNS, NULL, "3", "timed runs" },
    { .name = NULL },
};

typedef struct bench {
    prxi_ctx *c;
    prxi_stream *s;
    prxi_attn_ops ops;
    settings set;
    int runs;
    prxi_dtype type;
    prxi_attn_args a;
    void *storage;          /* q, k, v, o */
    prxi_dnn_linear *gemm;  /* yardstick: GEMM^3; NULL where oneDNN has none */
    void *gemm_data;
} bench;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double median(double *x, int n)
{
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && x[j] < x[j - 1]; j--) {
            const double t = x[j];
            x[j] = x[j - 1];
            x[j - 1] = t;
        }
    return x[n / 2];
}

static float noise(uint32_t *x)     /* about normal, from a 32-bit LCG (Numerical Recipes) */
{
    float sum = -6.0f;
    for (int i = 0; i < 12; i++) {
        *x = *x * 1664525u + 1013904223u;
        sum += (float)(*x >> 8) / 16777216.0f;
    }
    return sum;
}

/* Tokens of `groups` kinds, a kind in runs as objects have in a video, so that clustering has something to find; queries
 * and keys of a kind point the same way. */
static void fill(const bench *b, int groups)
{
    const size_t n = (size_t)b->a.q_len, d = (size_t)b->a.head_dim, heads = (size_t)b->a.heads;
    uint32_t x = 1;
    float centre[32][256];
    for (int g = 0; g < groups; g++)
        for (size_t i = 0; i < d; i++)
            centre[g][i] = noise(&x);
    for (size_t t = 0; t < n; t++) {
        const size_t g = (t / 40 * 7 + t / 1500) % (size_t)groups;
        for (size_t i = 0; i < heads * d; i++) {
            const float c = centre[g][i % d];
            prxi_store((void *)(uintptr_t)b->a.q, b->type, t * heads * d + i, 0.8f * c + 0.6f * noise(&x));
            prxi_store((void *)(uintptr_t)b->a.k, b->type, t * heads * d + i, 0.8f * c + 0.6f * noise(&x));
            prxi_store((void *)(uintptr_t)b->a.v, b->type, t * heads * d + i, noise(&x));
        }
    }
}

static int open_case(bench *b, int heads, int64_t n, int d)
{
    const size_t one = prxi_mul((size_t)n, (size_t)(heads * d) * prxi_dtype_size(b->type));
    unsigned char *p = prxi_alloc(b->c->mem, PRXI_MEM_MISC, prxi_mul(4, one));
    if (!p)
        return prxi_fail_nomem(b->c, "bench attention", prxi_mul(4, one));
    const int64_t ld = (int64_t)heads * d;
    b->storage = p;
    b->a = (prxi_attn_args) { heads, d, n, n, p, p + one, p + 2 * one, p + 3 * one, ld, ld, ld, ld, 1.0f / sqrtf((float)d),
                              0.0f, NULL, 0 };
    fill(b, 30);
    return PRX_OK;
}

static void close_case(bench *b)
{
    prxi_free(b->c->mem, b->storage);
    b->storage = NULL;
}

static cJSON *add_row(const bench *b, cJSON *rows, const char *op, const prxi_contender *c, double flops)
{
    char shape[64];
    cJSON *row = cJSON_CreateObject();
    snprintf(shape, sizeof shape, "%dx%lldx%d", b->a.heads, (long long)b->a.q_len, b->a.head_dim);
    if (!row || !cJSON_AddStringToObject(row, "op", op) || !cJSON_AddStringToObject(row, "shape", shape) ||
        !cJSON_AddStringToObject(row, "dtype", prxi_dtype_name(b->type)) ||
        !cJSON_AddNumberToObject(row, "seconds_median", c->median) ||
        !cJSON_AddNumberToObject(row, "seconds_best", c->best) ||
        !cJSON_AddNumberToObject(row, "seconds_worst", c->seconds[c->turns - 1]) ||
        !cJSON_AddNumberToObject(row, "gflops", flops / c->best * 1e-9) || !cJSON_AddItemToArray(rows, row)) {
        cJSON_Delete(row);
        return NULL;
    }
    return row;
}

static double flops_of(const bench *b)
{
    return 4.0 * (double)b->a.q_len * (double)b->a.kv_len * b->a.head_dim * b->a.heads;
}

/* ---- dense ---- */

static int open_gemm(bench *b)
{
    const size_t bytes = (size_t)GEMM * GEMM * prxi_dtype_size(b->type);
    unsigned char *p = prxi_calloc(b->c->mem, PRXI_MEM_MISC, 4, bytes);
    if (!p)
        return prxi_fail_nomem(b->c, "bench attention", 4 * bytes);
    b->gemm_data = p;
    const prxi_linear_desc d = { .weight = p, .weight_dtype = b->type, .n = GEMM, .k = GEMM, .compute = b->type,
                                 .out = b->type };
    const prxi_dnn_desc plain = { &d, { GEMM }, b->s->n_threads };
    const int err = prxi_dnn_open(b->c, &b->gemm, &plain);
    if (err == PRX_ENOTSUP)
        return PRX_OK;
    if (err == PRX_OK && prxi_dnn_scratch(b->gemm) > bytes)
        return prxi_fail_nomem(b->c, "bench attention", prxi_dnn_scratch(b->gemm));
    return err;
}

static void close_gemm(bench *b)
{
    prxi_dnn_close(b->c, &b->gemm);
    prxi_free(b->c->mem, b->gemm_data);
    b->gemm_data = NULL;
}

static void run_gemm(void *cookie)
{
    const bench *b = cookie;
    const size_t bytes = (size_t)GEMM * GEMM * prxi_dtype_size(b->type);
    unsigned char *p = b->gemm_data;
    if (prxi_dnn_run(b->gemm, 0, p + bytes, p + 2 * bytes, p + 3 * bytes) != PRX_OK)
        prxi_stream_fail(b->s, PRX_EINTERNAL, "bench attention", "oneDNN failed");
}

static void run_dense(void *cookie)
{
    bench *b = cookie;
    b->ops.dense[b->type](b->s, &b->a);
}

static int bench_dense(bench *b, cJSON *rows)
{
    prxi_contender race_of[2] = { { .fn = run_dense, .cookie = b }, { .fn = run_gemm, .cookie = b } };
    prxi_race(race_of, b->gemm ? 2 : 1, b->runs, race_seconds);
    const double yard = b->gemm ? 2.0 * GEMM * (double)GEMM * GEMM / race_of[1].best : 0;
    cJSON *row = add_row(b, rows, "attention_dense", &race_of[0], flops_of(b));
    if (!row || (b->gemm && (!cJSON_AddNumberToObject(row, "gemm_gflops", yard * 1e-9) ||
                             !cJSON_AddNumberToObject(row, "share", flops_of(b) / race_of[0].best / yard))))
        return prxi_fail_nomem(b->c, "bench attention", sizeof *b);
    return prxi_stream_error(b->s);
}

/* ---- sparse ---- */

typedef struct sparse_case {
    bench *b;
    const prxi_block_list *list;
} sparse_case;

static void run_blocks(void *cookie)
{
    const sparse_case *t = cookie;
    t->b->ops.blocks[t->b->type](t->b->s, &t->b->a, t->list);
}

/* Sparse and dense by turns; adds the density, the share (of the fastest turns) and the ratio (of the medians) of the time that the
 * density promises. Median seconds of dense in *dense. */
static cJSON *race_blocks(bench *b, cJSON *rows, const char *op, const prxi_block_list *list, double density, double *dense)
{
    sparse_case t = { b, list };
    prxi_contender race_of[2] = { { .fn = run_blocks, .cookie = &t }, { .fn = run_dense, .cookie = b } };
    prxi_race(race_of, 2, b->runs, 0);
    *dense = race_of[1].median;
    cJSON *row = add_row(b, rows, op, &race_of[0], density * flops_of(b));
    if (!row || !cJSON_AddNumberToObject(row, "density", density) ||
        !cJSON_AddNumberToObject(row, "share", density * race_of[1].best / race_of[0].best) ||
        !cJSON_AddNumberToObject(row, "ratio", race_of[0].median / (density * race_of[1].median)))
        return NULL;
    return row;
}

static int bench_radial(bench *b, const clip *k, cJSON *rows)
{
    const prxi_radial *rule = &k->rule;
    char op[64];
    prxi_block_mask mask;
    prxi_block_list list = { 0 };
    int err = prxi_radial_mask(b->c, rule, &mask);
    if (err == PRX_OK && (err = prxi_mask_list(b->c, &mask, &list)) == PRX_OK) {
        double dense;
        snprintf(op, sizeof op, "attention_radial_%s", k->name);
        if (!race_blocks(b, rows, op, &list, mask.pair_density, &dense))
            err = prxi_fail_nomem(b->c, "bench attention", sizeof *b);
        prxi_free(b->c->mem, (void *)(uintptr_t)list.q_start);
    }
    prxi_mask_close(b->c, &mask);
    return err != PRX_OK ? err : prxi_stream_error(b->s);
}

static int svg2_row(bench *b, const prxi_attn_policy *p, void *priv, cJSON *rows)
{
    prxi_attn_call call = { .args = b->a };
    const prxi_block_list *list = NULL;
    double density = 1, dense = 1, select[PRXI_RACE_RUNS];
    p->select(priv, b->s, &call, &list, &density);      /* the long first clustering */
    for (int i = 0; i < b->runs && !prxi_stream_error(b->s); i++) {
        const double t = now();
        call.step = i + 1;
        p->select(priv, b->s, &call, &list, &density);
        select[i] = now() - t;
    }
    if (!list)
        return prxi_stream_error(b->s);
    cJSON *row = race_blocks(b, rows, "attention_svg2", list, density, &dense);
    if (!row || !cJSON_AddNumberToObject(row, "overhead", median(select, b->runs) / dense))
        return prxi_fail_nomem(b->c, "bench attention", sizeof *b);
    return prxi_stream_error(b->s);
}

static int bench_svg2(bench *b, cJSON *rows)
{
    const prxi_attn_policy *p = prxi_attn_policy_find("svg2");
    const prxi_attn_env env = { .layers = 1, .heads = b->a.heads, .head_dim = b->a.head_dim, .branches = 1, .steps = b->runs + 1,
                                .frames = 1, .grid_h = 1, .grid_w = (int)b->a.q_len, .tokens = b->a.q_len, .dtype = b->type,
                                .n_threads = b->s->n_threads, .ops = &b->ops };
    prxi_attn_plan plan;
    void *priv = prxi_calloc(b->c->mem, PRXI_MEM_MISC, 1, p->priv_size);
    if (!priv)
        return prxi_fail_nomem(b->c, "bench attention", p->priv_size);
    int err = prxi_option_defaults(b->c, p->options, priv);
    if (err == PRX_OK)
        err = prxi_option_set(b->c, p->options, priv, "attention.", "first_times_fp", "0");
    if (err == PRX_OK)
        err = prxi_option_set(b->c, p->options, priv, "attention.", "kmeans_iter_init", "4");
    if (err == PRX_OK)
        err = prxi_option_set(b->c, p->options, priv, "attention.", "num_q_centroids", b->a.q_len > 30000 ? "300" : "0");
    if (err == PRX_OK)
        err = prxi_option_set(b->c, p->options, priv, "attention.", "num_k_centroids", b->a.q_len > 30000 ? "1000" : "0");
    if (err == PRX_OK)
        err = p->plan(priv, b->c, &env, &plan);
    if (err == PRX_OK)
        err = svg2_row(b, p, priv, rows);
    p->close(priv, b->c);
    prxi_free(b->c->mem, priv);
    return err;
}

static int cancelled(const bench *b)
{
    return b->s->cancel && atomic_load(b->s->cancel);
}

static int wants(const bench *b, int what)
{
    return b->set.only == ALL || b->set.only == what;
}

static int wants_clip(const bench *b, int i)
{
    const int all = CLIPS + 1;
    return b->set.clip == all || (b->set.clip == 0 && i < 2) || b->set.clip == i + 1;
}

static int bench_size(bench *b, int64_t n, int d, cJSON *rows)
{
    const int svg2 = wants(b, SVG2) && (n > 16384 || b->set.tokens || b->set.only == SVG2);
    const int heads = b->set.heads ? (int)b->set.heads : n > 16384 ? 1 : 2;
    if (!wants(b, DENSE) && !svg2)
        return PRX_OK;
    int err = open_case(b, heads, n, d);
    if (err == PRX_OK && wants(b, DENSE))
        err = bench_dense(b, rows);
    if (err == PRX_OK && svg2 && !cancelled(b))
        err = bench_svg2(b, rows);
    close_case(b);
    return err;
}

static int bench_dim(bench *b, int d, cJSON *rows)
{
    static const int64_t sizes[] = { 4096, 8192, 16384, 32768 };
    int err = PRX_OK;
    if (b->set.tokens)
        err = bench_size(b, b->set.tokens, d, rows);
    for (size_t i = 0; i < 4 && err == PRX_OK && !b->set.tokens && !cancelled(b); i++)
        err = bench_size(b, sizes[i], d, rows);
    for (int i = 0; i < CLIPS && err == PRX_OK && wants(b, RADIAL) && !cancelled(b); i++) {
        const prxi_radial *rule = &clips[i].rule;
        if (!wants_clip(b, i))
            continue;
        if ((err = open_case(b, 1, rule->frames * rule->tokens_per_frame, d)) == PRX_OK)
            err = bench_radial(b, &clips[i], rows);
        close_case(b);
    }
    return err;
}

int prxi_bench_attention(prxi_ctx *c, prxi_stream *s, uint32_t isa, const char *text, cJSON *rows)
{
    bench b = { .c = c, .s = s, .type = PRXI_BF16 };
    int err = prxi_option_parse(c, options, &b.set, "", text);
    if (err != PRX_OK)
        return err;
    b.runs = (int)b.set.repeats;
    if (!isa && !b.set.tokens) {    /* the C reference would take minutes on the large ones */
        b.set.tokens = 1024;
        b.set.only = DENSE;
    }
    prxi_attn_init_ref(&b.ops);
    prxi_attn_init_x86(&b.ops, isa);
    err = open_gemm(&b);
    if (err == PRX_OK && b.set.head_dim)
        err = bench_dim(&b, (int)b.set.head_dim, rows);
    for (int d = 64; d <= 128 && err == PRX_OK && !b.set.head_dim; d *= 2)
        err = bench_dim(&b, d, rows);
    close_gemm(&b);
    return err != PRX_OK ? err : cancelled(&b) ? PRX_ECANCELED : PRX_OK;
}
