/* TeaCache: the published gate on the vectors' series, the clamp, the fit of its polynomial, calibration files, and bad options. */
#include "tests/policy.h"
#include "tests/vectors.h"

#include "caching/curve.h"

#include <unistd.h>

enum { DIM = 4, TOKENS = 3, BLOCKS = 2, STEPS = 50 };

static prxi_cache_env env_of(int steps)
{
    return (prxi_cache_env) { .blocks = BLOCKS, .branches = 1, .steps = steps, .tokens = TOKENS, .dim = DIM, .dtype = PRXI_F64,
                              .n_threads = 1, .experts = 1, .model = "toy" };
}

/* One step whose embedding has moved by rel since the last: x becomes block_add more when the blocks run. */
static void step(policy *t, int i, double rel, float *temb, float *tproj, double *x, double block_add, prxi_cache_report *r)
{
    const prxi_step st = { .index = i, .steps = t->env.steps, .expert_index = i, .expert_steps = t->env.steps };
    for (int k = 0; k < 6 * DIM; k++) {
        tproj[k] *= (float)(1 + rel);
        if (k < DIM)
            temb[k] *= (float)(1 + rel);
    }
    *r = (prxi_cache_report) { .diff = NAN };
    t->p->begin_step(t->priv, &policy_stream, &st, NULL, r);
    const prxi_cache_call call = { &st, 0, temb, tproj, r };
    int at = t->p->at_block(t->priv, &policy_stream, &call, 0, x);
    if (at == 0)
        for (int k = 0; k < TOKENS * DIM; k++)
            x[k] += block_add;
    t->p->at_block(t->priv, &policy_stream, &call, BLOCKS, x);
    t->p->end_step(t->priv, &policy_stream, &st, NULL);
}

static void numbers(const cJSON *list, char *out, size_t n)
{
    const cJSON *e;
    size_t used = 0;
    cJSON_ArrayForEach(e, list) used += (size_t)snprintf(out + used, n - used, "%s%.17g", used ? "," : "", e->valuedouble);
}

static void check_case(const cJSON *c, int compat)
{
    char k[200], settings[400];
    const prxi_cache_env env = env_of(STEPS);
    const int ret = (int)vec_num(c, "first_forced") == 5;
    float temb[DIM], tproj[6 * DIM];
    prxi_cache_report r;
    numbers(vec_get(c, "coefficients_high_to_low"), k, sizeof k);
    snprintf(settings, sizeof settings, "coefficients=%s;teacache_thresh=%g;use_ret_steps=%d;compat=%d;", k, vec_num(c, "threshold"), ret,
             compat);
    policy t = policy_open("teacache", &env, settings);
    REQUIRE(t.err == PRX_OK, "%s", policy_ctx.error.text);
    CHECK(t.plan.bytes >= TOKENS * DIM * sizeof(double) && strlen(t.plan.note) > 0, "plan %zu", t.plan.bytes);
    for (int i = 0; i < DIM * 6; i++)
        tproj[i] = temb[i % DIM] = 1;
    for (int i = 0; i < STEPS; i++) {
        double x[TOKENS * DIM] = { 0 };
        const cJSON *e = cJSON_GetArrayItem(vec_get(c, "expected"), i);
        const double rel = cJSON_GetArrayItem(vec_get(c, "rel_l1"), i)->valuedouble, acc = vec_num(e, "acc_after_add");
        step(&t, i, i ? rel : 0, temb, tproj, x, 1 + i, &r);
        CHECK(r.cached == vec_is(e, "decision", "cache") && vec_is(e, "reason", r.reason), "%s %g step %d: %s", vec_str(c, "name"),
              vec_num(c, "threshold"), i, r.reason);
        /* embeddings are f32: an ulp of 1 + rel under the slope of the polynomial, added up over a run */
        CHECK(isnan(r.diff) ? strcmp(r.reason, "forced") == 0 : fabs(r.diff - acc) < 1e-4, "step %d: %g, not %g", i, r.diff, acc);
        CHECK(r.cached ? x[0] > 0 && x[0] < 1 + i : fabs(x[0] - (1 + i)) < 1e-12, "step %d: state %g", i, x[0]);
    }
    policy_close(&t);
}

static void check_points(const cJSON *root)
{
    static const struct {
        const char *name;
        double k[PRXI_CURVE_TERMS];
    } all[] = {
        { "t2v1.3b", { 2396.76752, -1311.10545, 201.331979, -8.29855975, .137887774 } },
        { "t2v1.3b_ret", { -52186.2437, 9230.41404, -528.275948, 13.6987616, -.0499875664 } },
        { "t2v14b", { -5784.54975374, 5449.50911966, -1811.16591783, 256.27178429, -13.02252404 } },
    };
    for (size_t i = 0; i < 3; i++) {
        prxi_curve open = { .open = 1 }, shut;
        const cJSON *p;
        memcpy(open.k, all[i].k, sizeof open.k);
        shut = open;
        shut.open = 0;
        REQUIRE(prxi_curve_range(&shut) && shut.lo < shut.hi, "range of %s", all[i].name);
        cJSON_ArrayForEach(p, vec_get(vec_get(root, "polynomial_points"), all[i].name))
        {
            const double x = p->child->valuedouble, y = p->child->next->valuedouble;
            CHECK(fabs(prxi_curve_at(&open, x) - y) <= 1e-12 * (1 + fabs(y)), "%s at %g", all[i].name, x);
            CHECK(prxi_curve_at(&shut, x) > 0.009, "%s at %g: clamped %g", all[i].name, x, prxi_curve_at(&shut, x));
            CHECK(x < shut.lo || x > shut.hi || prxi_curve_at(&shut, x) == prxi_curve_at(&open, x), "inside, at %g", x);
        }
    }
}

/* Small steps, as more of them make: as published the accumulator sinks and nothing is ever computed again. */
static void check_out_of_fit(void)
{
    for (int compat = 0; compat < 2; compat++) {
        char settings[200];
        const prxi_cache_env env = env_of(STEPS);
        float temb[DIM], tproj[6 * DIM];
        int computed = 0;
        snprintf(settings, sizeof settings, "coefficients=-5784.54975374,5449.50911966,-1811.16591783,256.27178429,-13.02252404;"
                                            "teacache_thresh=0.14;compat=%d;", compat);
        policy t = policy_open("teacache", &env, settings);
        for (int i = 0; i < DIM * 6; i++)
            tproj[i] = temb[i % DIM] = 1;
        for (int i = 0; i < STEPS; i++) {
            double x[TOKENS * DIM] = { 0 };
            prxi_cache_report r;
            step(&t, i, 0.05, temb, tproj, x, 1, &r);
            computed += !r.cached;
        }
        CHECK(compat ? computed == 2 : computed > 4, "compat %d: %d computed", compat, computed);
        policy_close(&t);
    }
}

/* The models that have a published polynomial run without being given one, both ways. */
static void check_published(void)
{
    static const char *const models[] = { "wan2.1-t2v-1.3b", "wan2.1-t2v-14b" };
    for (int i = 0; i < 4; i++) {
        cJSON *file;
        prxi_cache_env env = env_of(STEPS);
        env.published = policy_published(models[i / 2], &file);
        policy t = policy_open("teacache", &env, i % 2 ? "use_ret_steps=1" : "");
        CHECK(t.err == PRX_OK, "%s: %s", models[i / 2], policy_ctx.error.text);
        policy_close(&t);
        cJSON_Delete(file);
    }
}

static void check_fit(void)
{
    const double k[PRXI_CURVE_TERMS] = { 1642, -1039, 233, -21, .7 };
    double x[40], y[40];
    prxi_curve got, want = { .open = 1 };
    memcpy(want.k, k, sizeof k);
    for (int i = 0; i < 40; i++) {
        x[i] = 0.07 + 0.005 * ((i * 17) % 40);
        y[i] = prxi_curve_at(&want, x[i]);
    }
    REQUIRE(prxi_curve_fit(&got, x, y, 40), "fit");
    CHECK(got.lo == 0.07 && fabs(got.hi - 0.265) < 1e-12, "range %g %g", got.lo, got.hi);
    for (int i = 0; i < PRXI_CURVE_TERMS; i++)
        CHECK(fabs(got.k[i] - k[i]) <= 1e-9 * fabs(k[i]), "coefficient %d: %.17g", i, got.k[i]);
    CHECK(!prxi_curve_fit(&got, x, y, 4), "four points");
    for (int i = 0; i < 40; i++)
        x[i] = 0.1;
    CHECK(!prxi_curve_fit(&got, x, y, 40), "one abscissa");
}

/* A run that measures; the file it leaves serves a run that caches. */
static void check_calibration(void)
{
    char path[] = "/tmp/praxino-teacache-XXXXXX", settings[200];
    const int fd = mkstemp(path);
    const prxi_cache_env env = env_of(20);
    REQUIRE(fd >= 0, "temporary file");
    close(fd);
    snprintf(settings, sizeof settings, "calibrate=%s", path);
    policy t = policy_open("teacache", &env, settings);
    REQUIRE(t.err == PRX_OK && t.plan.computed_steps == 20, "%s", policy_ctx.error.text);
    float temb[DIM], tproj[6 * DIM];
    for (int i = 0; i < DIM * 6; i++)
        tproj[i] = temb[i % DIM] = 1;
    double state = 1;
    for (int i = 0; i < 20; i++) {
        double x[TOKENS * DIM] = { 0 };
        prxi_cache_report r;
        const double rel = 0.02 + 0.004 * i;
        state *= 1 + (i ? 2 * rel : 0);          /* the output moves twice as much as the embedding */
        step(&t, i, i ? rel : 0, temb, tproj, x, state, &r);
        CHECK(!r.cached && strcmp(r.reason, "calibration") == 0, "step %d: %s", i, r.reason);
    }
    CHECK(prxi_stream_error(&policy_stream) == PRX_OK, "%s", policy_ctx.error.text);
    policy_close(&t);
    snprintf(settings, sizeof settings, "coefficients=%s;teacache_thresh=0.3;", path);
    t = policy_open("teacache", &env, settings);
    CHECK(t.err == PRX_OK, "%s", policy_ctx.error.text);
    for (int i = 0; i < DIM * 6; i++)
        tproj[i] = temb[i % DIM] = 1;
    for (int i = 0; i < 3; i++) {
        double x[TOKENS * DIM] = { 0 };
        prxi_cache_report r;
        step(&t, i, i ? 0.05 : 0, temb, tproj, x, 1, &r);
        CHECK(i == 0 || fabs(r.diff - 0.1 * i) < 1e-3, "step %d: estimate %g", i, r.diff);
    }
    policy_close(&t);
    prxi_cache_env other = env;
    other.model = "another";
    policy_refuses("teacache", &other, settings, PRX_EINVAL, "another");
    policy_refuses("magcache", &env, (snprintf(settings, sizeof settings, "mag_ratios=%s", path), settings), PRX_EFORMAT, "policy");
    unlink(path);
    policy_refuses("magcache", &env, settings, PRX_EINVAL, path);
}

int main(void)
{
    policy_init();
    cJSON *root = vectors_load("caching/cache_teacache.json");
    const cJSON *c;
    int n = 0;
    cJSON_ArrayForEach(c, vec_get(root, "cases"))
    {
        check_case(c, 1);
        check_case(c, 0);        /* the series stay in the range: the clamp changes nothing */
        n++;
    }
    CHECK(n == 6, "%d cases", n);
    check_points(root);
    cJSON_Delete(root);
    check_out_of_fit();
    check_published();
    check_fit();
    check_calibration();
    const prxi_cache_env env = env_of(20);
    policy_refuses("teacache", &env, "", PRX_EINVAL, "calibrate");
    policy_refuses("teacache", &env, "calibrate=a.json;coefficients=1,2,3,4,5;", PRX_EINVAL, "exclude");
    policy_refuses("teacache", &env, "coefficients=0,0,0,0,0", PRX_EINVAL, "nowhere");
    policy_refuses("teacache", &env, "threshold=0.1", PRX_EINVAL, "threshold");
    policy_no_leak();
    return TEST_END();
}
