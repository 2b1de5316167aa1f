/* DBCache's policy driven over the toy block stack of caching.md section 7 in f64 (outputs to 1e-9), its diff against the vectors, and
 * the errors of its options. The toy's second stream E is cached beside the policy, which serves models with one. */
#include "tests/vectors.h"

#include "caching/cache.h"
#include "caching/drift.h"
#include "caching/forecast.h"
#include "engine/core/option.h"

enum { H = 12, E = 8, HT = 3, ET = 2, D = 4 };

static prxi_mem mem;
static prxi_ctx ctx = { .mem = &mem };
static prxi_stream stream;

/* Block i of the toy (its formula is in the vectors). Pattern 2 leaves E alone. */
static void toy_block(int i, double u, int pattern, double *h, double *e)
{
    double mean_e[D] = { 0 }, mean_h[D] = { 0 };
    for (int k = 0; k < D; k++) {
        for (int t = 0; t < ET; t++)
            mean_e[k] += e[t * D + k] / ET;
        for (int t = 0; t < HT; t++)
            mean_h[k] += h[t * D + k] / HT;
    }
    for (int t = 0; t < HT; t++)
        for (int k = 0; k < D; k++) {
            double *x = &h[t * D + k];
            *x = *x + 0.01 * (i + 1) * u * (0.5 * *x + mean_e[k]) + 0.002 * (i + 1) * *x * *x;
        }
    for (int t = 0; pattern == 0 && t < ET; t++)
        for (int k = 0; k < D; k++)
            e[t * D + k] += 0.01 * (i + 1) * u * mean_h[k];
}

static void toy_input(int step, int steps, double *h, double *e)
{
    const double t = (double)step / steps;
    for (int a = 0; a < HT; a++)
        for (int b = 0; b < D; b++)
            h[a * D + b] = 0.1 * (a + 1) - 0.05 * (b + 1) * (1 + 0.5 * t) + 0.2 * t * ((4 * a + b) % 3);
    for (int a = 0; a < ET; a++)
        for (int b = 0; b < D; b++)
            e[a * D + b] = 0.03 * (a + 1) * (b + 1);
}

static void set(const prxi_cache_policy *p, void *priv, const char *key, double v)
{
    char text[32];
    snprintf(text, sizeof text, "%.17g", v);
    REQUIRE(prxi_option_set(&ctx, p->options, priv, "cache.", key, text) == PRX_OK, "%s", ctx.error.text);
}

static void *open_policy(const prxi_cache_policy *p, const cJSON *config, int blocks, int steps)
{
    const prxi_cache_env env = { .blocks = blocks, .branches = 1, .steps = steps, .tokens = HT, .dim = D, .dtype = PRXI_F64,
                                 .n_threads = 1, .experts = 1 };
    prxi_cache_plan plan = { 0 };
    void *priv = prxi_calloc(&mem, PRXI_MEM_MISC, 1, p->priv_size);
    REQUIRE(priv && prxi_option_defaults(&ctx, p->options, priv) == PRX_OK, "defaults");
    set(p, priv, "Fn_compute_blocks", vec_num(config, "Fn"));
    set(p, priv, "Bn_compute_blocks", vec_num(config, "Bn"));
    set(p, priv, "residual_diff_threshold", vec_num(config, "thr"));
    set(p, priv, "max_warmup_steps", vec_num(config, "W"));
    set(p, priv, "max_continuous_cached_steps", vec_num_or(config, "MC", -1));
    REQUIRE(prxi_option_set(&ctx, p->options, priv, "cache.", "compat", "true") == PRX_OK, "compat");
    if (vec_num_or(config, "taylor", 0) > 0) {
        REQUIRE(prxi_option_set(&ctx, p->options, priv, "cache.", "calibrator", "taylor") == PRX_OK, "calibrator");
        set(p, priv, "order", vec_num(config, "taylor"));
    }
    REQUIRE(p->plan(priv, &ctx, &env, &plan) == PRX_OK, "%s", ctx.error.text);
    CHECK(plan.bytes >= 3 * H * sizeof(double), "planned %zu bytes", plan.bytes);
    return priv;
}

/* One forward as the DiT does it: ask before every block, follow the jumps. */
typedef struct toy {
    const prxi_cache_policy *p;
    void *priv;
    int blocks, fn, last, pattern;
    prxi_forecast side;           /* middle residual of E */
    double e_hold[E];
} toy;

static void forward(toy *t, const prxi_step *st, double u, double *h, double *e, prxi_cache_report *r)
{
    const prxi_cache_call call = { st, 0, NULL, NULL, r };
    *r = (prxi_cache_report) { .diff = NAN };
    t->p->begin_step(t->priv, &stream, st, NULL, r);
    for (int l = 0; l <= t->blocks;) {
        const int next = t->p->at_block(t->priv, &stream, &call, l, h);
        if (t->pattern == 0 && next != l)
            prxi_forecast_apply(&stream, &t->side, st->index, 0, PRXI_F64, e, 1);
        if (t->pattern == 0 && l == t->fn && next == l)
            memcpy(t->e_hold, e, sizeof t->e_hold);
        if (t->pattern == 0 && l == t->last && !r->cached)
            prxi_forecast_update(&stream, &t->side, st->index, 0, PRXI_F64, e, t->e_hold);
        if (next != l) {
            l = next;
            continue;
        }
        if (l < t->blocks)
            toy_block(l, u, t->pattern, h, e);
        l++;
    }
    t->p->end_step(t->priv, &stream, st, NULL);
}

static double worst(const double *got, const cJSON *want, int n)
{
    double err = cJSON_GetArraySize(want) == n ? 0 : INFINITY;
    for (int i = 0; i < n && isfinite(err); i++)
        err = fmax(err, fabs(got[i] - cJSON_GetArrayItem(want, i)->valuedouble));
    return err;
}

static void check_case(const cJSON *c)
{
    const char *name = vec_str(c, "name");
    const cJSON *config = vec_get(c, "config");
    const int steps = (int)vec_num(c, "steps"), taylor = (int)vec_num_or(config, "taylor", 0);
    toy t = { .p = prxi_cache_policy_find("dbcache"), .blocks = (int)vec_num(c, "blocks"), .fn = (int)vec_num(config, "Fn"),
              .pattern = (int)vec_num(c, "pattern") };
    t.last = t.blocks - (int)vec_num(config, "Bn");
    t.priv = open_policy(t.p, config, t.blocks, steps);
    REQUIRE(prxi_forecast_open(&ctx, &t.side, taylor ? PRXI_FORECAST_TAYLOR : PRXI_FORECAST_NONE, taylor, PRXI_F64, E) == PRX_OK, "side");
    for (int i = 0; i < steps; i++) {
        double h[H], e[E];
        const double x = (double)i / steps;
        const prxi_step st = { .index = i, .steps = steps };
        prxi_cache_report r;
        toy_input(i, steps, h, e);
        forward(&t, &st, 1 - 0.6 * x * x, h, e, &r);
        const cJSON *d = cJSON_GetArrayItem(vec_get(c, "diffs"), i);
        const char *decision = cJSON_GetArrayItem(vec_get(c, "decisions"), i)->valuestring;
        CHECK(strcmp(decision, r.cached ? "cache" : "compute") == 0, "%s step %d: %s, reason %s", name, i, decision, r.reason);
        CHECK(cJSON_IsNumber(d) ? fabs(d->valuedouble - r.diff) <= 1e-9 : isnan(r.diff), "%s step %d: diff %g", name, i, r.diff);
        CHECK(worst(h, cJSON_GetArrayItem(vec_get(c, "out_h"), i), H) <= 1e-9, "%s step %d: H", name, i);
        CHECK(t.pattern != 0 || worst(e, cJSON_GetArrayItem(vec_get(c, "out_e"), i), E) <= 1e-9, "%s step %d: E", name, i);
    }
    prxi_forecast_close(&ctx, &t.side);
    t.p->close(t.priv, &ctx);
    prxi_free(&mem, t.priv);
}

/* The f64 and f32 columns of the diff, all strides and token selections. */
static void check_diffs(void)
{
    static const struct {
        const char *key;
        double important;
        int stride;
    } kinds[] = { { "cond0.0_down1", 0, 1 }, { "cond0.0_down2", 0, 2 }, { "cond0.0_down4", 0, 4 }, { "cond0.1_down1", 0.1, 1 },
                  { "cond0.3_down1", 0.3, 1 } };
    cJSON *root = vectors_load("caching/cache_residual_diff.json");
    const cJSON *c;
    cJSON_ArrayForEach(c, vec_get(root, "cases"))
    {
        const cJSON *shape = vec_get(c, "shape"), *prev = vec_get(c, "prev"), *cur = vec_get(c, "cur");
        const int dim = cJSON_GetArrayItem(shape, 2)->valueint;
        const int rows = cJSON_GetArrayItem(shape, 0)->valueint * cJSON_GetArrayItem(shape, 1)->valueint, n = rows * dim;
        float *buf = malloc((size_t)n * 3 * sizeof *buf);
        double *scratch = malloc((size_t)rows * 2 * sizeof *scratch);
        REQUIRE(buf && scratch && cJSON_GetArraySize(prev) == n, "vectors");
        for (int i = 0; i < n; i++) {
            buf[i] = (float)cJSON_GetArrayItem(prev, i)->valuedouble;
            buf[n + i] = (float)cJSON_GetArrayItem(cur, i)->valuedouble;
        }
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            char key[64];
            prxi_drift d = { PRXI_F32, rows, dim, buf, NULL, PRXI_F32, buf + 2 * n, kinds[k].stride, kinds[k].important, scratch };
            prxi_drift_store(&stream, &d);
            d.x = buf + n;
            const double got = prxi_drift_measure(&stream, &d);
            snprintf(key, sizeof key, "fp64_%s", kinds[k].key);
            if (!cJSON_GetObjectItemCaseSensitive(c, key))
                continue;
            CHECK(fabs(got - vec_num(c, key)) <= 1e-12 * (1 + got), "%s: %.15g, expected %.15g", key, got, vec_num(c, key));
        }
        free(buf);
        free(scratch);
    }
    cJSON_Delete(root);
}

static void check_bad_options(void)
{
    static const struct {
        const char *key, *value, *word;
    } bad[] = {
        { "Fn_compute_blocks", "0", "Fn_compute_blocks" }, { "Fn_compute_blocks", "6", "Fn_compute_blocks" },
        { "residual_diff_threshold", "-1", "residual_diff_threshold" }, { "residual_diff_threshold", "nan", "residual_diff_threshold" },
        { "cfg_compute_first", "true", "cfg_compute_first" }, { "num_inference_steps", "9", "num_inference_steps" },
        { "steps_computation_policy", "static", "steps_computation_mask" }, { "steps_computation_mask", "101", "steps_computation_mask" },
        { "enable_sperate_cfg", "true", "enable_separate_cfg" },
        /* what would change nothing */
        { "order", "2", "cache.calibrator" }, { "force_refresh_step_policy", "repeat", "force_refresh_step_hint" },
        { "force_refresh_step_hint", "10", "10 steps" }, { "max_warmup_steps_2", "1", "no second expert" },
        { "max_cached_steps_2", "-1", "no second expert" },
    };
    const prxi_cache_policy *p = prxi_cache_policy_find("dbcache");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const prxi_cache_env env = { .blocks = 6, .branches = 1, .steps = 10, .tokens = HT, .dim = D, .dtype = PRXI_F32 };
        prxi_cache_plan plan;
        void *priv = prxi_calloc(&mem, PRXI_MEM_MISC, 1, p->priv_size);
        prxi_clear(&ctx);
        REQUIRE(priv && prxi_option_defaults(&ctx, p->options, priv) == PRX_OK, "defaults");
        int err = prxi_option_set(&ctx, p->options, priv, "cache.", bad[i].key, bad[i].value);
        if (err == PRX_OK)
            err = p->plan(priv, &ctx, &env, &plan);
        CHECK(err == PRX_EINVAL && strstr(ctx.error.text, bad[i].word), "%s=%s: %d %s", bad[i].key, bad[i].value, err, ctx.error.text);
        p->close(priv, &ctx);
        prxi_free(&mem, priv);
    }
}

int main(void)
{
    prxi_mem_init(&mem, NULL);
    prxi_stream_init(&stream, &ctx, 1);
    cJSON *root = vectors_load("caching/cache_dbcache_forward.json");
    const cJSON *c;
    int n = 0;
    cJSON_ArrayForEach(c, vec_get(root, "cases")) check_case(c), n++;
    CHECK(n == 4, "%d cases", n);
    cJSON_Delete(root);
    check_diffs();
    check_bad_options();
    CHECK(atomic_load(&mem.total) == 0, "%zu bytes leaked", atomic_load(&mem.total));
    return TEST_END();
}
