/* EasyCache on the vectors' scalar flows, two branches, and its options. */
#include "tests/policy.h"
#include "tests/vectors.h"

static prxi_cache_env env_of(int branches, int steps, int elems)
{
    return (prxi_cache_env) { .blocks = 2, .branches = branches, .steps = steps, .tokens = 2, .dim = 3, .latent_elems = elems,
                              .dtype = PRXI_F32, .n_threads = 1, .experts = 1 };
}

static double field(const cJSON *c, double x, double s)
{
    if (vec_is(c, "field", "decay"))
        return .8 * x + .5 * sin(3 * s) + .3;
    REQUIRE(vec_is(c, "field", "late_kick"), "field %s", vec_str(c, "field"));
    return .6 * x + .4 + 2 * fmax(0, s - .8);
}

/* The policy keeps f32, the vectors are f64: what a quotient of small differences loses is bounded by an ulp of x over them. */
static void check_case(const cJSON *c)
{
    const int steps = (int)vec_num(c, "steps");
    const prxi_cache_env env = env_of(1, steps, 1);
    char settings[100];
    snprintf(settings, sizeof settings, "thresh=%g;ret_steps=%g;", vec_num(c, "threshold"), vec_num(c, "ret_steps"));
    policy t = policy_open("easycache", &env, settings);
    REQUIRE(t.err == PRX_OK && t.plan.bytes == 4 * sizeof(float), "%s", policy_ctx.error.text);
    CHECK((int)vec_num(c, "cutoff") == steps - 1, "the last step is forced");
    double x = 1;
    for (int i = 0; i < steps; i++) {
        const cJSON *row = cJSON_GetArrayItem(vec_get(c, "rows"), i);
        const float xf = (float)x;
        float v = 0;
        const prxi_step st = { .index = i, .steps = steps, .expert_index = i, .expert_steps = steps, .latents = &xf };
        prxi_cache_report r = { .diff = NAN };
        const int skipped = t.p->begin_step(t.priv, &policy_stream, &st, &v, &r);
        if (!skipped) {
            float *const out[PRXI_BRANCHES] = { &v, NULL };
            v = (float)field(c, x, (double)i / steps);
            t.p->at_output(t.priv, &policy_stream, &st, out);
            t.p->end_step(t.priv, &policy_stream, &st, &v);
        }
        CHECK(skipped == vec_is(row, "decision", "cache") && skipped == r.cached && vec_is(row, "reason", r.reason), "%s %g step %d: %s",
              vec_str(c, "field"), vec_num(c, "threshold"), i, r.reason);
        CHECK(fabs(x - vec_num(row, "x")) < 1e-5 && fabs(v - vec_num(row, "out")) < 1e-5, "step %d: x %g out %g", i, x, v);
        CHECK(isnan(r.diff) || fabs(r.diff - vec_num(row, "acc")) < 1e-4 || !skipped, "step %d: acc %g", i, r.diff);
        x -= v / steps;
    }
    policy_close(&t);
}

/* The prompt's branch decides; what is reused is the guided velocity. */
static void check_branches(void)
{
    const prxi_cache_env env = env_of(2, 6, 2);
    policy t = policy_open("easycache", &env, "thresh=1000;ret_steps=2;");
    for (int i = 0; i < 6; i++) {
        const float x[2] = { 1.0f + i, 2.0f };
        float cond[2] = { 3, 3.5f }, uncond[2] = { -1, 9.0f + i }, v[2] = { 0, 0 };
        const prxi_step st = { .index = i, .steps = 6, .expert_index = i, .expert_steps = 6, .latents = x };
        prxi_cache_report r[2] = { { .diff = NAN }, { .diff = NAN } };
        const int skipped = t.p->begin_step(t.priv, &policy_stream, &st, v, r);
        CHECK(skipped == (i >= 2 && i < 5) && r[0].cached == skipped && r[1].cached == skipped, "step %d: %s", i, r[0].reason);
        CHECK(!skipped || (fabsf(v[0] - (x[0] + 5)) < 1e-6f && fabsf(v[1] - (x[1] - 3)) < 1e-6f), "step %d: %g %g", i, v[0], v[1]);
        if (!skipped) {
            float *const out[PRXI_BRANCHES] = { cond, uncond };
            const float guided[2] = { x[0] + 5, x[1] - 3 };
            t.p->at_output(t.priv, &policy_stream, &st, out);
            t.p->end_step(t.priv, &policy_stream, &st, guided);
        }
    }
    policy_close(&t);
}

/* Another expert: two steps computed before its rate is known. */
static void check_experts(void)
{
    const prxi_cache_env env = env_of(1, 10, 1);
    policy t = policy_open("easycache", &env, "thresh=1000;ret_steps=1;");
    char got[11] = "";
    for (int i = 0; i < 10; i++) {
        const float x = 1.0f + i;
        float v = 2.0f * i;
        const prxi_step st = { .index = i, .steps = 10, .expert = i >= 5, .expert_index = i % 5, .expert_steps = 5, .latents = &x };
        prxi_cache_report r = { .diff = NAN };
        float *const out[PRXI_BRANCHES] = { &v, NULL };
        got[i] = t.p->begin_step(t.priv, &policy_stream, &st, &v, &r) ? 'C' : 'F';
        if (got[i] == 'F') {
            t.p->at_output(t.priv, &policy_stream, &st, out);
            t.p->end_step(t.priv, &policy_stream, &st, &v);
        }
    }
    CHECK(strcmp(got, "FFCCCFFCCF") == 0, "%s", got);
    policy_close(&t);
}

int main(void)
{
    policy_init();
    cJSON *root = vectors_load("caching/cache_easycache.json");
    const cJSON *c;
    int n = 0;
    cJSON_ArrayForEach(c, vec_get(root, "cases")) check_case(c), n++;
    CHECK(n == 6, "%d cases", n);
    cJSON_Delete(root);
    check_branches();
    check_experts();
    const prxi_cache_env env = env_of(1, 10, 1);
    policy_refuses("easycache", &env, "ret_steps=0", PRX_EINVAL, "ret_steps");
    policy_refuses("easycache", &env, "threshold=1", PRX_EINVAL, "threshold");
    policy_no_leak();
    return TEST_END();
}
