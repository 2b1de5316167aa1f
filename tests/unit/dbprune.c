/* DBPrune: the vectors' thresholds inside one step, what a pruned block gives, the limits of steps, and bad options. */
#include "tests/policy.h"
#include "tests/vectors.h"

enum { TOKENS = 2, DIM = 3, N = TOKENS * DIM };

static prxi_cache_env env_of(int blocks, int steps)
{
    return (prxi_cache_env) { .blocks = blocks, .branches = 1, .steps = steps, .tokens = TOKENS, .dim = DIM, .dtype = PRXI_F64,
                              .n_threads = 1, .experts = 1 };
}

/* One forward: block l is entered with in[l] (NULL: with what the block before left), and adds l + 1. pruned[l] is filled. */
static void forward(policy *t, int index, const double *in, double *x, int *pruned, prxi_cache_report *r)
{
    const prxi_step st = { .index = index, .steps = t->env.steps };
    *r = (prxi_cache_report) { .diff = NAN };
    t->p->begin_step(t->priv, &policy_stream, &st, NULL, r);
    const prxi_cache_call call = { &st, 0, NULL, NULL, r };
    for (int l = 0; l <= t->env.blocks; l++) {
        /* what block l - 1 left is taken before the next input replaces it */
        for (int i = 0; in && l < t->env.blocks && l == 0 && i < N; i++)
            x[i] = in[0];
        const int next = t->p->at_block(t->priv, &policy_stream, &call, l, x);
        if (l == t->env.blocks)
            break;
        pruned[l] = next == l + 1;
        for (int i = 0; i < N; i++) {
            if (!pruned[l])
                x[i] += l + 1;
            if (in && l + 1 < t->env.blocks)
                x[i] = in[l + 1];
        }
    }
    t->p->end_step(t->priv, &policy_stream, &st, NULL);
}

/* Step 0 enters every block with 1, step 1 with 1 + its diff; all are dyadic, so the diffs are exact. */
static void check_case(const cJSON *c)
{
    const cJSON *diffs = vec_get(c, "block_diffs"), *want = vec_get(c, "pruned");
    const int n = cJSON_GetArraySize(diffs);
    const prxi_cache_env env = env_of(n, 2);
    const double limit = vec_num_or(c, "max_dynamic", 0);
    const int dynamic = (int)vec_num_or(c, "dynamic", 0);
    char settings[300];
    double in[64], x[N];
    int pruned[64];
    prxi_cache_report r;
    REQUIRE(n <= 64, "%d blocks", n);
    snprintf(settings, sizeof settings,
             "Fn_compute_blocks=0;max_warmup_steps=1;residual_diff_threshold=%g;enable_dynamic_prune_threshold=%d;"
             "max_dynamic_prune_threshold=%g;dynamic_prune_threshold_relax_ratio=%g;",
             vec_num(c, "threshold"), dynamic, dynamic ? limit : 0, vec_num(c, "relax"));
    policy t = policy_open("dbprune", &env, settings);
    REQUIRE(t.err == PRX_OK, "%s", policy_ctx.error.text);
    for (int l = 0; l < n; l++)
        in[l] = 1;
    forward(&t, 0, in, x, pruned, &r);
    CHECK(!r.cached && strcmp(r.reason, "warmup") == 0, "first step: %s", r.reason);
    int any = 0;
    for (int l = 0; l < n; l++)
        in[l] = 1 + cJSON_GetArrayItem(diffs, l)->valuedouble;
    forward(&t, 1, in, x, pruned, &r);
    for (int l = 0; l < n; l++) {
        const int w = cJSON_IsTrue(cJSON_GetArrayItem(want, l));
        CHECK(pruned[l] == w, "threshold %g dynamic %d block %d: %d", vec_num(c, "threshold"), dynamic, l, pruned[l]);
        any |= w;
    }
    CHECK(r.cached == any, "cached %d", r.cached);
    policy_close(&t);
}

/* Blocks that never run are left alone, pruned ones add what they added when last computed. */
static void check_values(void)
{
    const prxi_cache_env env = env_of(6, 3);
    policy t = policy_open("dbprune", &env, "Fn_compute_blocks=1;Bn_compute_blocks=1;non_prune_block_ids=3;max_warmup_steps=1;"
                                            "residual_diff_threshold=1");
    REQUIRE(t.err == PRX_OK, "%s", policy_ctx.error.text);
    CHECK(t.plan.bytes == 3 * 2 * N * sizeof(double) + (TOKENS * 2 + 2) * sizeof(double), "%zu bytes", t.plan.bytes);
    double x[N];
    int pruned[6];
    prxi_cache_report r;
    for (int s = 0; s < 3; s++) {
        for (int i = 0; i < N; i++)
            x[i] = 10 * s;
        forward(&t, s, NULL, x, pruned, &r);
        for (int l = 0; l < 6; l++)
            CHECK(pruned[l] == (s > 0 && (l == 1 || l == 2 || l == 4)), "step %d block %d", s, l);
        for (int i = 0; i < N; i++)
            CHECK(x[i] == 10 * s + 21, "step %d: %g", s, x[i]);
    }
    policy_close(&t);
}

/* Steps with any pruned block, "C", under the limits. */
static void check_limits(void)
{
    static const struct {
        const char *settings, *want;
    } all[] = {
        { "max_warmup_steps=2;max_continuous_cached_steps=2;", "FFCCFCCFCC" },
        { "max_warmup_steps=2;max_continuous_cached_steps=-1;max_cached_steps=3;", "FFCCCFFFFF" },
        { "max_warmup_steps=4;warmup_interval=2;max_continuous_cached_steps=-1;", "FCFCCCCCCC" },
        { "max_warmup_steps=1;residual_diff_threshold=0;", "FFFFFFFFFF" },
    };
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        const prxi_cache_env env = env_of(4, 10);
        policy t = policy_open("dbprune", &env, all[k].settings);
        char got[11] = "";
        REQUIRE(t.err == PRX_OK, "%s", policy_ctx.error.text);
        for (int s = 0; s < 10; s++) {
            double x[N] = { 1, 1, 1, 1, 1, 1 };
            int pruned[4];
            prxi_cache_report r;
            forward(&t, s, NULL, x, pruned, &r);
            got[s] = r.cached ? 'C' : 'F';
            CHECK(!r.cached || pruned[1] + pruned[2] + pruned[3] == 3, "%s step %d: a part only", all[k].settings, s);
        }
        CHECK(strcmp(got, all[k].want) == 0, "%s: %s", all[k].settings, got);
        policy_close(&t);
    }
}

int main(void)
{
    policy_init();
    cJSON *root = vectors_load("caching/cache_dbprune.json");
    const cJSON *c;
    int n = 0;
    cJSON_ArrayForEach(c, vec_get(root, "cases")) check_case(c), n++;
    CHECK(n == 27, "%d cases", n);
    cJSON_Delete(root);
    check_values();
    check_limits();
    const prxi_cache_env env = env_of(4, 10);
    policy_refuses("dbprune", &env, "Fn_compute_blocks=3;Bn_compute_blocks=1;", PRX_EINVAL, "at most 3");
    policy_refuses("dbprune", &env, "non_prune_block_ids=1,9", PRX_EINVAL, "non_prune_block_ids");
    policy_refuses("dbprune", &env, "non_prune_block_ids=x", PRX_EINVAL, "non_prune_block_ids");
    policy_refuses("dbprune", &env, "max_dynamic_prune_threshold=0.3", PRX_EINVAL, "enable_dynamic");
    policy_refuses("dbprune", &env, "enable_dynamic_prune_threshold=1;max_dynamic_prune_threshold=0.01;", PRX_EINVAL, "below");
    policy_refuses("dbprune", &env, "fn=1", PRX_EINVAL, "fn");
    policy_no_leak();
    return TEST_END();
}
