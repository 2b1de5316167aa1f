/* Caches in whole jobs, through the public interface: what a cached step runs, every cache with every attention policy, one answer for any
 * number of threads, jobs side by side and one after the other, a recorded trace and its replay. */
#include <praxino/praxino.h>

#include <cjson/cJSON.h>
#include <unistd.h>

#include "tests/test.h"

#define MODELS PRX_SOURCE_DIR "/tests/vectors/golden/"

enum { STEPS = 8, BLOCKS = 3, SETTINGS = 6 };

static char dir[] = "/tmp/praxino-caches-XXXXXX", ratios[64], schedule[64], trace[64];

typedef struct cache_case {
    const char *name;
    const char *set[SETTINGS];        /* "key=value" */
    int cached_blocks;                /* blocks that a cached step runs; -1: varies */
} cache_case;

static const cache_case cases[] = {
    { "none", { NULL }, -1 },
    { "dbcache", { "cache.residual_diff_threshold=1", "cache.max_warmup_steps=2", "cache.Bn_compute_blocks=1" }, 2 },
    { "dbcache", { "cache.residual_diff_threshold=0.3", "cache.max_warmup_steps=2", "cache.calibrator=newton" }, 1 },
    { "lemica", { "schedule" }, 0 },
    { "lemica", { "schedule", "cache.reuse=velocity", "cache.calibrator=newton" }, 0 },
    { "teacache", { "cache.coefficients=0,0,0,0,0.05", "cache.teacache_thresh=0.12" }, 0 },
    { "magcache", { "ratios", "cache.magcache_thresh=0.3" }, 0 },
    { "easycache", { "cache.ret_steps=2", "cache.thresh=10" }, 0 },
    { "dbprune", { "cache.residual_diff_threshold=0.5", "cache.max_warmup_steps=2" }, -1 },
};

enum { CASES = sizeof cases / sizeof *cases };

static const char *const attention[] = { "dense", "radial", "svg2" };
enum { ATTENTIONS = sizeof attention / sizeof *attention };

/* ---- a job ---- */

typedef struct run {
    prx_engine *e;
    prx_model *m;
} run;

static run open_model(const char *name, int threads)
{
    char path[600];
    run r = { NULL, NULL };
    prx_engine_params p;
    prx_engine_default_params(&p);
    p.threads = threads;
    p.dtype = "f32";
    snprintf(path, sizeof path, MODELS "%s/model", name);
    REQUIRE(prx_engine_open(&r.e, &p) == PRX_OK && prx_model_open(&r.m, r.e, path) == PRX_OK, "%s", prx_engine_last_error(r.e));
    return r;
}

static void close_model(run *r)
{
    prx_model_close(&r->m);
    prx_engine_close(&r->e);
}

static void set(prx_job *j, const char *key, const char *value)
{
    REQUIRE(prx_job_set(j, key, value) == PRX_OK, "%s=%s: %s", key, value, prx_job_last_error(j));
}

static void set_pair(prx_job *j, const char *pair)
{
    char key[64];
    const size_t n = strcspn(pair, "=");
    if (strcmp(pair, "schedule") == 0) {
        set(j, "schedule", schedule);
    } else if (strcmp(pair, "ratios") == 0) {
        set(j, "cache.mag_ratios", ratios);
    } else {
        REQUIRE(n < sizeof key, "%s", pair);
        memcpy(key, pair, n);
        key[n] = '\0';
        set(j, key, pair + n + 1);
    }
}

static prx_job *open_job(const run *r, const cache_case *c, const char *attn, const char *prompt, const char *seed)
{
    static const char *const all[][2] = { { "negative_prompt", "blurry" }, { "width", "128" }, { "height", "128" }, { "frames", "33" },
                                          { "guidance", "4" } };
    char steps[16];
    prx_job *j;
    REQUIRE(prx_job_open(&j, r->m) == PRX_OK, "%s", prx_engine_last_error(r->e));
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        set(j, all[i][0], all[i][1]);
    snprintf(steps, sizeof steps, "%d", STEPS);
    set(j, "steps", steps);
    set(j, "prompt", prompt);
    set(j, "seed", seed);
    set(j, "attention", attn);
    if (strcmp(attn, "radial") == 0) {
        set(j, "attention.block", "64");
        set(j, "attention.decay", "0.1");
        set(j, "attention.dense_timesteps", "1");
    } else if (strcmp(attn, "svg2") == 0) {
        set(j, "attention.first_times_fp", "0.1");
    }
    set(j, "cache", c->name);
    for (int i = 0; i < SETTINGS && c->set[i]; i++)
        set_pair(j, c->set[i]);
    return j;
}

static void one_step(prx_job *j, const char *what)
{
    const int err = prx_job_step(j);
    REQUIRE(err >= 0, "%s: %s", what, prx_job_last_error(j));
}

/* What came out: the latents, and for every step and branch decision, reason, diff and blocks as text. */
typedef struct outcome {
    float *latents;
    size_t n;
    char *decisions;
} outcome;

static outcome take(prx_engine *e, prx_job *j)
{
    outcome o = { NULL, 0, NULL };
    const float *x;
    int64_t shape[4];
    char *json = NULL;
    REQUIRE(prx_job_get_latents(j, &x, shape) == PRX_OK && prx_job_stats(j, &json) == PRX_OK, "%s", prx_job_last_error(j));
    o.n = (size_t)(shape[0] * shape[1] * shape[2] * shape[3]);
    o.latents = malloc(o.n * sizeof *x);
    REQUIRE(o.latents, "memory");
    memcpy(o.latents, x, o.n * sizeof *x);
    cJSON *root = cJSON_Parse(json), *step, *list = cJSON_CreateArray();
    REQUIRE(root, "stats");
    cJSON_ArrayForEach(step, cJSON_GetObjectItem(root, "steps"))
        cJSON_AddItemToArray(list, cJSON_DetachItemFromObject(step, "branches"));
    o.decisions = cJSON_PrintUnformatted(list);
    cJSON_Delete(list);
    cJSON_Delete(root);
    prx_text_free(e, json);
    return o;
}

static void drop(outcome *o)
{
    free(o->latents);
    free(o->decisions);
}

static int same(const outcome *a, const outcome *b)
{
    return a->n == b->n && memcmp(a->latents, b->latents, a->n * sizeof *a->latents) == 0 && strcmp(a->decisions, b->decisions) == 0;
}

static outcome run_job(const run *r, const cache_case *c, const char *attn, const char *prompt, const char *seed)
{
    prx_job *j = open_job(r, c, attn, prompt, seed);
    for (int i = 0; i <= STEPS; i++)            /* the text, then the steps */
        one_step(j, c->name);
    outcome o = take(r->e, j);
    prx_job_close(&j);
    return o;
}

/* ---- what is checked ---- */

/* Whether the attention left something out in a computed pass. */
static int is_sparse(const char *decisions)
{
    cJSON *list = cJSON_Parse(decisions), *step, *b;
    int sparse = 0;
    cJSON_ArrayForEach(step, list)
        cJSON_ArrayForEach(b, step)
        {
            const cJSON *d = cJSON_GetObjectItem(b, "attention_density");
            sparse |= cJSON_IsNumber(d) && d->valuedouble < 1;
        }
    cJSON_Delete(list);
    return sparse;
}

/* Passes that are cached; each runs as many blocks as its cache says, each computed one runs all. */
static int count_cached(const cache_case *c, const char *decisions)
{
    cJSON *list = cJSON_Parse(decisions), *step, *b;
    int n = 0, i = 0;
    cJSON_ArrayForEach(step, list)
    {
        cJSON_ArrayForEach(b, step)
        {
            const int cached = strcmp(cJSON_GetObjectItem(b, "decision")->valuestring, "cached") == 0;
            const int blocks = cJSON_GetObjectItem(b, "blocks_computed")->valueint;
            const cJSON *reason = cJSON_GetObjectItem(b, "reason");
            n += cached;
            CHECK(cJSON_IsString(reason) && *reason->valuestring, "%s step %d: no reason", c->name, i);
            if (!cached)
                CHECK(blocks == BLOCKS, "%s step %d: %d blocks of a computed pass", c->name, i, blocks);
            else if (c->cached_blocks >= 0)
                CHECK(blocks == c->cached_blocks, "%s step %d: %d blocks of a cached pass", c->name, i, blocks);
            else
                CHECK(blocks < BLOCKS && blocks >= 1, "%s step %d: %d blocks", c->name, i, blocks);
        }
        i++;
    }
    CHECK(i == STEPS, "%s: %d steps", c->name, i);
    cJSON_Delete(list);
    return n;
}

/* Every cache with every attention policy; each caches something, and changes the video. */
static void check_composition(outcome one[ATTENTIONS][CASES])
{
    for (int a = 0; a < ATTENTIONS; a++)
        for (int i = 1; i < CASES; i++) {
            const outcome *o = &one[a][i], *plain = &one[a][0];
            CHECK(count_cached(&cases[i], o->decisions) > 0, "%s with %s: nothing cached: %s", cases[i].name, attention[a], o->decisions);
            CHECK(is_sparse(o->decisions) == (a > 0), "%s with %s: %s", cases[i].name, attention[a], o->decisions);
            CHECK(memcmp(o->latents, plain->latents, o->n * sizeof *o->latents) != 0, "%s with %s: the uncached video", cases[i].name,
                  attention[a]);
        }
}

/* The same latents, decisions, diffs and densities for any number of threads, with dense and with sparse attention. */
static void check_threads(outcome one[ATTENTIONS][CASES])
{
    for (int threads = 2; threads <= 3; threads++) {
        run r = open_model("wan21_unipc", threads);
        for (int a = 0; a < ATTENTIONS; a++)
            for (int i = 0; i < CASES; i++) {
                outcome o = run_job(&r, &cases[i], attention[a], "a red ball", "1");
                CHECK(same(&o, &one[a][i]), "%s (%d) with %s: %d threads: %s, alone %s", cases[i].name, i, attention[a], threads,
                      o.decisions, one[a][i].decisions);
                drop(&o);
            }
        close_model(&r);
    }
}

/* Two jobs of a cache, step by step in turns, then a third in the same engine: each as if it were alone. */
static void check_jobs(const run *r, const outcome *one)
{
    for (int i = 0; i < CASES; i++) {
        const cache_case *other = &cases[i + 1 < CASES ? i + 1 : 1];
        outcome alone = run_job(r, other, "dense", "a blue star", "2");
        prx_job *a = open_job(r, &cases[i], "dense", "a red ball", "1"), *b = open_job(r, other, "dense", "a blue star", "2");
        for (int k = 0; k <= STEPS; k++) {
            one_step(a, cases[i].name);
            one_step(b, other->name);
        }
        outcome oa = take(r->e, a), ob = take(r->e, b);
        CHECK(same(&oa, &one[i]), "%s (%d) beside %s", cases[i].name, i, other->name);
        CHECK(same(&ob, &alone), "%s beside %s", other->name, cases[i].name);
        prx_job_close(&a);
        prx_job_close(&b);
        outcome again = run_job(r, &cases[i], "dense", "a red ball", "1");
        CHECK(same(&again, &one[i]), "%s (%d): a later job in the engine", cases[i].name, i);
        drop(&alone), drop(&oa), drop(&ob), drop(&again);
    }
}

/* Each expert has a warm-up and a number of cached steps of its own: one and one, then two and two. */
static void check_budgets(const run *r)
{
    static const cache_case c = { "dbcache", { "cache.residual_diff_threshold=1", "cache.max_warmup_steps=1", "cache.max_cached_steps=1",
                                               "cache.max_warmup_steps_2=2", "cache.max_cached_steps_2=2", "shift=2" }, 1 };
    static const char *const of[2][4] = { { "warmup", "threshold_ge_1", "max_cached", "max_cached" },
                                          { "warmup", "warmup", "threshold_ge_1", "threshold_ge_1" } };
    outcome o = run_job(r, &c, "dense", "a red ball", "1");
    cJSON *list = cJSON_Parse(o.decisions), *step, *b;
    int k = 0, expert = 0, at = -1, second = 0;
    cJSON_ArrayForEach(step, list)
    {
        const char *reason = cJSON_GetObjectItem(step->child, "reason")->valuestring;
        if (k > 0 && !expert && strcmp(reason, "warmup") == 0)
            expert = 1, at = -1, second = k;
        at++;
        cJSON_ArrayForEach(b, step)
            CHECK(strcmp(cJSON_GetObjectItem(b, "reason")->valuestring, at < 4 ? of[expert][at] : "max_cached") == 0,
                  "step %d, the %dth of expert %d: %s", k, at + 1, expert + 1, o.decisions);
        k++;
    }
    CHECK(second > 1 && second < STEPS - 2, "the second expert begins at %d: %s", second, o.decisions);
    cJSON_Delete(list);
    drop(&o);
}

/* Both experts: the first step of each is computed whatever the cache would like. */
static void check_experts(void)
{
    run r = open_model("wan22_a14b", 2);
    for (int i = 1; i < CASES; i++) {
        if (strcmp(cases[i].name, "dbcache") == 0 && cases[i].cached_blocks == 2)
            continue;                           /* this model has two blocks */
        outcome o = run_job(&r, &cases[i], "dense", "a red ball", "1");
        cJSON *list = cJSON_Parse(o.decisions), *step;
        int k = 0, computed = 0;
        cJSON_ArrayForEach(step, list)
        {
            const cJSON *d = cJSON_GetObjectItem(step->child, "decision");
            computed += strcmp(d->valuestring, "computed") == 0;
            CHECK(k > 0 || computed == 1, "%s: the first step is cached", cases[i].name);
            k++;
        }
        CHECK(computed >= 2, "%s: %d steps computed of two experts: %s", cases[i].name, computed, o.decisions);
        cJSON_Delete(list);
        drop(&o);
    }
    check_budgets(&r);
    close_model(&r);
}

/* ---- traces ---- */

static char *replay_of(const run *r, const char *settings)
{
    char *json = NULL;
    CHECK(prx_replay(r->e, "dbcache", settings, trace, &json) == PRX_OK, "%s: %s", settings, prx_engine_last_error(r->e));
    return json;
}

/* A render that records, replayed with its own settings: the very decisions, diffs and reasons. */
static void check_trace(const run *r, const char *const set_list[SETTINGS], int cached_is_wanted)
{
    static const char *const fields[][2] = { { "decision", "decisions" }, { "reason", "reasons" }, { "diff", "diffs" } };
    cache_case c = { "dbcache", { NULL }, -1 };
    char settings[400] = "";
    for (int i = 0; i < SETTINGS && set_list[i]; i++) {
        c.set[i] = set_list[i];
        snprintf(settings + strlen(settings), sizeof settings - strlen(settings), "%s\n", set_list[i] + strlen("cache."));
    }
    prx_job *j = open_job(r, &c, "dense", "a red ball", "1");
    set(j, "record_trace", trace);
    REQUIRE(prx_job_run(j) == PRX_OK, "%s", prx_job_last_error(j));
    outcome o = take(r->e, j);
    prx_job_close(&j);
    outcome plain = run_job(r, &c, "dense", "a red ball", "1");
    CHECK(same(&o, &plain), "recording changes the run");
    char *json = replay_of(r, settings);
    cJSON *got = cJSON_Parse(json), *want = cJSON_Parse(o.decisions), *step;
    int i = 0, cached = 0;
    cJSON_ArrayForEach(step, want)
    {
        for (int b = 0; b < 2; b++)
            for (int f = 0; f < 3; f++) {
                const cJSON *w = cJSON_GetObjectItem(cJSON_GetArrayItem(step, b), fields[f][0]);
                const cJSON *g = cJSON_GetArrayItem(cJSON_GetArrayItem(cJSON_GetObjectItem(got, fields[f][1]), b), i);
                const int is_cached = cJSON_IsString(w) && strcmp(w->valuestring, "cached") == 0;
                cached += is_cached;
                if (f == 0)
                    CHECK(cJSON_IsString(g) && (*g->valuestring == 'C') == is_cached, "%s branch %d step %d", settings, b, i);
                else
                    CHECK(cJSON_Compare(w, g, 1), "%s branch %d step %d: %s", settings, b, i, fields[f][0]);
            }
        i++;
    }
    CHECK(i == STEPS && (cached > 0) == cached_is_wanted, "%s: %d cached", settings, cached);
    cJSON_Delete(got);
    cJSON_Delete(want);
    prx_text_free(r->e, json);
    drop(&o), drop(&plain);
}

static void check_traces(const run *r)
{
    static const char *const all[][SETTINGS] = {
        { "cache.residual_diff_threshold=0.25", "cache.max_warmup_steps=2" },
        { "cache.residual_diff_threshold=0.3", "cache.Fn_compute_blocks=2", "cache.max_warmup_steps=1", "cache.compat=true" },
        { "cache.residual_diff_threshold=0.3", "cache.downsample_factor=3", "cache.important_condition_threshold=0.1" },
        { "cache.residual_diff_threshold=0.3", "cache.cfg_diff_compute_separate=false", "cache.steps_computation_mask=2,2,1,2,1" },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        check_trace(r, all[i], 1);
    const char *const none[SETTINGS] = { "cache.residual_diff_threshold=0" };
    check_trace(r, none, 0);

    /* From an uncached run, too; but not of other blocks than were recorded, nor from a cache that skips the probe. */
    char *json = NULL;
    prx_job *j = open_job(r, &cases[0], "dense", "a red ball", "1");
    set(j, "record_trace", trace);
    CHECK(prx_job_run(j) == PRX_OK, "%s", prx_job_last_error(j));
    prx_job_close(&j);
    json = replay_of(r, "residual_diff_threshold=0.3");
    CHECK(json && strstr(json, "diff_lt"), "nothing cached: %s", json ? json : "");
    prx_text_free(r->e, json);
    CHECK(prx_replay(r->e, "dbcache", "Fn_compute_blocks=2", trace, &json) == PRX_EINVAL, "other blocks");
    j = open_job(r, &cases[5], "dense", "a red ball", "1");
    set(j, "record_trace", trace);
    CHECK(prx_job_plan(j, NULL) == PRX_EINVAL && strstr(prx_job_last_error(j), "record_trace"), "%s", prx_job_last_error(j));
    prx_job_close(&j);
}

/* ---- */

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    REQUIRE(f, "%s", path);
    fputs(text, f);
    fclose(f);
}

int main(void)
{
    REQUIRE(mkdtemp(dir), "folder");
    snprintf(ratios, sizeof ratios, "%s/ratios.json", dir);
    snprintf(schedule, sizeof schedule, "%s/schedule.json", dir);
    snprintf(trace, sizeof trace, "%s/trace.json", dir);
    write_text(ratios, "{\"policy\": \"magcache\", \"cond\": [1, 1.05, 0.99, 0.98, 0.97, 0.98, 0.95, 0.9]}");
    write_text(schedule, "{\"steps\": 8, \"computed\": [0, 1, 3, 4, 6, 7]}");
    run r = open_model("wan21_unipc", 1);
    outcome one[ATTENTIONS][CASES];
    for (int k = 0; k < ATTENTIONS * CASES; k++)
        one[k / CASES][k % CASES] = run_job(&r, &cases[k % CASES], attention[k / CASES], "a red ball", "1");
    check_composition(one);
    check_jobs(&r, one[0]);
    check_traces(&r);
    close_model(&r);
    check_threads(one);
    check_experts();
    for (int k = 0; k < ATTENTIONS * CASES; k++)
        drop(&one[k / CASES][k % CASES]);
    unlink(ratios), unlink(schedule), unlink(trace);
    CHECK(rmdir(dir) == 0, "a file is left in %s", dir);
    return TEST_END();
}
