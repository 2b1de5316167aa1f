/* MagCache: the decisions that follow from published ratio tables, calibration, experts, bad options. */
#include "tests/policy.h"
#include "tests/vectors.h"

#include <unistd.h>

static const char *ratios_file(const cJSON *table)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/praxino-magcache-XXXXXX");
    const int fd = mkstemp(path);
    REQUIRE(fd >= 0, "temporary file");
    FILE *f = fdopen(fd, "w");
    for (int b = 0; b < 2; b++) {
        fprintf(f, "%s\"%s\": [", b ? ", " : "{\"policy\": \"magcache\", ", b ? "uncond" : "cond");
        for (int i = b; i < cJSON_GetArraySize(table); i += 2)
            fprintf(f, "%s%.17g", i > 1 ? ", " : "", cJSON_GetArrayItem(table, i)->valuedouble);
        fprintf(f, "]");
    }
    fprintf(f, "}\n");
    fclose(f);
    return path;
}

static prxi_cache_env env_of(int steps)
{
    return (prxi_cache_env) { .blocks = 2, .branches = 2, .steps = steps, .tokens = 2, .dim = 3, .dtype = PRXI_F64, .n_threads = 1,
                              .experts = 1, .model = "toy" };
}

/* Decisions of all steps, "1" computed, by asking as the sampler does. */
static void decisions(policy *t, char out[2][128])
{
    for (int i = 0; i < t->env.steps; i++) {
        const int e = t->env.step_expert ? t->env.step_expert[i] : 0;
        const prxi_step st = { .index = i, .steps = t->env.steps, .expert = e, .expert_index = i };
        prxi_cache_report r[2] = { { .diff = NAN }, { .diff = NAN } };
        t->p->begin_step(t->priv, &policy_stream, &st, NULL, r);
        for (int b = 0; b < 2; b++) {
            out[b][i] = r[b].cached ? '0' : '1';
            CHECK(r[b].reason && (strcmp(r[b].reason, "forced") == 0) == isnan(r[b].diff), "step %d: %s", i, r[b].reason);
        }
    }
    out[0][t->env.steps] = out[1][t->env.steps] = '\0';
}

static void check_case(const cJSON *c, const cJSON *ratios)
{
    char settings[300], got[2][128];
    const prxi_cache_env env = env_of((int)vec_num(c, "steps"));
    const char *path = ratios_file(vec_get(ratios, vec_str(c, "model")));
    snprintf(settings, sizeof settings, "mag_ratios=%s;magcache_thresh=%g;magcache_K=%g;retention_ratio=%g;", path,
             vec_num(c, "threshold"), vec_num(c, "K"), vec_num(c, "retention"));
    policy t = policy_open("magcache", &env, settings);
    REQUIRE(t.err == PRX_OK, "%s", policy_ctx.error.text);
    decisions(&t, got);
    CHECK(vec_is(c, "cond", got[0]), "%s K %g, %d steps: cond %s", vec_str(c, "model"), vec_num(c, "K"), env.steps, got[0]);
    CHECK(vec_is(c, "uncond", got[1]), "%s K %g, %d steps: uncond %s", vec_str(c, "model"), vec_num(c, "K"), env.steps, got[1]);
    CHECK(t.plan.computed_steps == (int)vec_num(c, "computed"), "%d computed", t.plan.computed_steps);
    policy_close(&t);
    unlink(path);
}

/* Each expert begins with computed steps of its own. */
static void check_experts(const cJSON *ratios)
{
    int expert[20];
    char got[2][128], settings[200];
    prxi_cache_env env = env_of(20);
    for (int i = 0; i < 20; i++)
        expert[i] = i >= 10;
    env.step_expert = expert;
    const char *path = ratios_file(vec_get(ratios, "Wan2.1-T2V-1.3B"));
    snprintf(settings, sizeof settings, "mag_ratios=%s;magcache_thresh=9;magcache_K=99;retention_ratio=0;", path);
    policy t = policy_open("magcache", &env, settings);
    decisions(&t, got);
    CHECK(strcmp(got[0], "10000000001000000000") == 0, "%s", got[0]);
    policy_close(&t);
    unlink(path);
}

/* Residuals that shrink by known ratios: the file holds them, and a run takes it. */
static void check_calibration(void)
{
    char path[] = "/tmp/praxino-magcal-XXXXXX", settings[200];
    const int fd = mkstemp(path);
    prxi_cache_env env = env_of(6);
    REQUIRE(fd >= 0, "temporary file");
    close(fd);
    snprintf(settings, sizeof settings, "calibrate=%s", path);
    policy t = policy_open("magcache", &env, settings);
    REQUIRE(t.err == PRX_OK, "%s", policy_ctx.error.text);
    double size[2] = { 1, 1 };
    for (int i = 0; i < 6; i++) {
        const prxi_step st = { .index = i, .steps = 6 };
        prxi_cache_report r[2] = { { .diff = NAN }, { .diff = NAN } };
        t.p->begin_step(t.priv, &policy_stream, &st, NULL, r);
        for (int b = 0; b < 2; b++) {
            double x[6] = { 1, 2, 3, 4, 5, 6 };
            const prxi_cache_call call = { &st, b, NULL, NULL, &r[b] };
            size[b] *= i ? 0.9 - 0.1 * b : 1;
            CHECK(t.p->at_block(t.priv, &policy_stream, &call, 0, x) == 0, "computed");
            for (int k = 0; k < 6; k++)
                x[k] += (k + 1) * size[b];
            t.p->at_block(t.priv, &policy_stream, &call, 2, x);
        }
        t.p->end_step(t.priv, &policy_stream, &st, NULL);
    }
    CHECK(prxi_stream_error(&policy_stream) == PRX_OK, "%s", policy_ctx.error.text);
    policy_close(&t);
    char text[2000] = "";
    FILE *f = fopen(path, "r");
    REQUIRE(f && fread(text, 1, sizeof text - 1, f) > 0, "%s", path);
    fclose(f);
    cJSON *j = cJSON_Parse(text);
    REQUIRE(j, "%s", text);
    for (int i = 0; i < 6; i++)
        for (int b = 0; b < 2; b++) {
            const double v = cJSON_GetArrayItem(vec_get(j, b ? "uncond" : "cond"), i)->valuedouble;
            CHECK(fabs(v - (i ? 0.9 - 0.1 * b : 1)) < 1e-12, "branch %d step %d: %g", b, i, v);
        }
    cJSON_Delete(j);
    snprintf(settings, sizeof settings, "mag_ratios=%s", path);
    t = policy_open("magcache", &env, settings);
    CHECK(t.err == PRX_OK && t.plan.computed_steps > 0, "%s", policy_ctx.error.text);
    policy_close(&t);
    env.model = "another";
    policy_refuses("magcache", &env, settings, PRX_EINVAL, "another");
    unlink(path);
}

/* The tables that ship with the two published models are those of the vectors: the same decisions. */
static void check_published(const cJSON *root)
{
    static const char *const models[][2] = { { "wan2.1-t2v-1.3b", "Wan2.1-T2V-1.3B" }, { "wan2.1-t2v-14b", "Wan2.1-T2V-14B" } };
    const cJSON *c;
    int n = 0;
    for (int i = 0; i < 2; i++) {
        cJSON *file;
        const cJSON *published = policy_published(models[i][0], &file);
        cJSON_ArrayForEach(c, vec_get(root, "cases"))
        {
            char settings[200], got[2][128];
            prxi_cache_env env = env_of((int)vec_num(c, "steps"));
            env.published = published;
            if (!vec_is(c, "model", models[i][1]))
                continue;
            snprintf(settings, sizeof settings, "magcache_thresh=%g;magcache_K=%g;retention_ratio=%g;", vec_num(c, "threshold"),
                     vec_num(c, "K"), vec_num(c, "retention"));
            policy t = policy_open("magcache", &env, settings);
            REQUIRE(t.err == PRX_OK, "%s", policy_ctx.error.text);
            decisions(&t, got);
            CHECK(vec_is(c, "cond", got[0]) && vec_is(c, "uncond", got[1]), "%s, %d steps: %s", models[i][0], env.steps, got[0]);
            policy_close(&t);
            n++;
        }
        cJSON_Delete(file);
    }
    CHECK(n == 12, "%d cases", n);
}

int main(void)
{
    policy_init();
    cJSON *root = vectors_load("caching/cache_magcache.json");
    const cJSON *c, *ratios = vec_get(root, "ratios");
    int n = 0;
    cJSON_ArrayForEach(c, vec_get(root, "cases")) check_case(c, ratios), n++;
    CHECK(n == 24, "%d cases", n);
    check_experts(ratios);
    check_published(root);
    cJSON_Delete(root);
    check_calibration();
    const prxi_cache_env env = env_of(20);
    policy_refuses("magcache", &env, "", PRX_EINVAL, "calibrate");
    policy_refuses("magcache", &env, "retention_ratio=1.5", PRX_EINVAL, "retention_ratio");
    policy_refuses("magcache", &env, "calibrate=a;mag_ratios=b;", PRX_EINVAL, "exclude");
    policy_refuses("magcache", &env, "thresh=1", PRX_EINVAL, "thresh");
    policy_no_leak();
    return TEST_END();
}
