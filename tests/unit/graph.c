/* The measurement of a graph through the public API: every weight against a separate run of that one schedule from beginning to end, for
 * both kinds of reuse, with a calibrator, for every scheduler and for two experts; the same graph after an interruption and for any
 * thread count; a quick graph; bad requests. */
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <praxino/praxino.h>

enum { STEPS = 7, GAP = 4, SEEDS = 2 };
static const char prompts[] = "a red ball\n\n  a blue cube spins\r\n";
static const char *const prompt[] = { "a red ball", "  a blue cube spins" };

static char folder[64], schedule_path[96], state_path[96];

static void set(prx_job *j, const char *key, const char *value)
{
    REQUIRE(prx_job_set(j, key, value) == PRX_OK, "%s", prx_job_last_error(j));
}

static prx_job *open_job(prx_model *m, int steps)
{
    prx_job *j;
    char text[16];
    REQUIRE(prx_job_open(&j, m) == PRX_OK, "job");
    snprintf(text, sizeof text, "%d", steps);
    set(j, "steps", text);
    set(j, "width", "32");
    set(j, "height", "32");
    set(j, "frames", "5");
    set(j, "guidance", "4");
    return j;
}

static prx_model *open_model(prx_engine *e, const char *name)
{
    char dir[512];
    prx_model *m;
    snprintf(dir, sizeof dir, "%s/golden/%s/model", PRX_VECTORS_DIR, name);
    REQUIRE(prx_model_open(&m, e, dir) == PRX_OK, "%s", prx_engine_last_error(e));
    return m;
}

static prx_engine *open_engine(int threads)
{
    prx_engine *e;
    prx_engine_params p;
    prx_engine_default_params(&p);
    p.dtype = "f32";
    p.threads = threads;
    REQUIRE(prx_engine_open(&e, &p) == PRX_OK, "engine");
    return e;
}

/* ---- the oracle: a whole run under one schedule ---- */

typedef struct reuse {
    const char *settings;               /* of the measurement */
    const char *kind, *calibrator;      /* of the replay */
} reuse;

static size_t final_latents(prx_model *m, const char *text, int seed, int i, int to, const reuse *r, float **out)
{
    char number[16];
    int64_t shape[4];
    const float *data;
    prx_job *j = open_job(m, STEPS);
    set(j, "prompt", text);
    snprintf(number, sizeof number, "%d", seed);
    set(j, "seed", number);
    if (to) {
        FILE *f = fopen(schedule_path, "w");
        REQUIRE(f, "%s", schedule_path);
        fprintf(f, "{\"steps\": %d, \"computed\": [0", STEPS);
        for (int k = 1; k < STEPS; k++)
            if (k <= i || k >= to)
                fprintf(f, ", %d", k);
        fprintf(f, "]}\n");
        REQUIRE(fclose(f) == 0, "write");
        set(j, "cache", "lemica");
        set(j, "schedule", schedule_path);
        set(j, "cache.reuse", r->kind);
        set(j, "cache.calibrator", r->calibrator);
    }
    REQUIRE(prx_job_run(j) == PRX_OK, "%s", prx_job_last_error(j));
    REQUIRE(prx_job_get_latents(j, &data, shape) == PRX_OK, "latents");
    const size_t n = (size_t)(shape[0] * shape[1] * shape[2] * shape[3]);
    *out = malloc(n * sizeof **out);
    REQUIRE(*out, "memory");
    memcpy(*out, data, n * sizeof **out);
    prx_job_close(&j);
    return n;
}

static double true_weight(prx_model *m, int sample, int i, int to, const reuse *r)
{
    float *with, *without;
    double sum = 0;
    final_latents(m, prompt[sample / SEEDS], 3 + sample % SEEDS, i, 0, r, &without);
    const size_t n = final_latents(m, prompt[sample / SEEDS], 3 + sample % SEEDS, i, to, r, &with);
    for (size_t k = 0; k < n; k++)
        sum += fabs((double)with[k] - without[k]);
    free(with);
    free(without);
    return sum / (double)n;
}

/* ---- building ---- */

static char *build(prx_model *m, const char *settings, const char *state)
{
    char *json = NULL;
    prx_job *j = open_job(m, STEPS);
    CHECK(prx_schedule_build(j, prompts, "3-4", settings, state, &json) == PRX_OK, "%s", prx_job_last_error(j));
    CHECK(prx_job_run(j) == PRX_OK, "a job that measured is done");
    prx_job_close(&j);
    REQUIRE(json, "no graph");
    return json;
}

static double number(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    REQUIRE(cJSON_IsNumber(v), "%s", key);
    return v->valuedouble;
}

static const cJSON *edge(const cJSON *graph, int i, int to)
{
    const cJSON *e;
    cJSON_ArrayForEach(e, cJSON_GetObjectItemCaseSensitive(graph, "edges"))
        if (number(e, "from") == i && number(e, "to") == to)
            return e;
    return NULL;
}

/* The first step below this sigma, where the second expert begins. */
static int first_below(const cJSON *graph, double sigma)
{
    const cJSON *v;
    int i = 0;
    cJSON_ArrayForEach(v, cJSON_GetObjectItemCaseSensitive(graph, "sigmas"))
    {
        if (v->valuedouble < sigma)
            break;
        i++;
    }
    return i;
}

/* boundary: sigma where the experts change, 0 with one. `every`: only every so many edges are checked, for time. */
static void check_graph(prx_engine *e, const char *name, const reuse *r, double boundary, int every)
{
    prx_model *m = open_model(e, name);
    char *text = build(m, r->settings, NULL);
    cJSON *g = cJSON_Parse(text);
    int expected = 0, n = 0;
    const int second = first_below(g, boundary);
    const int edges = cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(g, "edges"));
    for (int i = 0; i < STEPS; i++)
        for (int to = i + 2; to < STEPS && to - i <= GAP; to++) {
            const cJSON *x = edge(g, i, to);
            const int crosses = i < second && second < to;
            CHECK((x == NULL) == crosses, "%s: jump %d to %d", name, i, to);
            expected += !crosses;
            if (!x || n++ % every)
                continue;
            double sum = 0, max = 0;
            for (int s = 0; s < 2 * SEEDS; s++) {
                const double w = true_weight(m, s, i, to, r);
                sum += w;
                max = fmax(max, w);
            }
            /* the same bytes in the latents, so only the order of a sum could differ */
            CHECK(fabs(number(x, "weight") - sum / (2 * SEEDS)) <= 1e-12 * sum, "%s %s: jump %d to %d: %g, not %g", name, r->settings, i,
                  to, number(x, "weight"), sum / (2 * SEEDS));
            CHECK(fabs(number(x, "max") - max) <= 1e-12 * max && max > 0, "%s: jump %d to %d: max", name, i, to);
        }
    CHECK(boundary > 0 ? second > 1 && second < STEPS - 1 : second == STEPS, "%s: second expert at %d", name, second);
    const cJSON *recorded = cJSON_GetObjectItemCaseSensitive(g, "boundary_step");
    CHECK(boundary > 0 ? recorded && recorded->valueint == second : !recorded, "%s: boundary_step", name);
    CHECK(edges == expected && n > 0, "%s: %d edges, not %d", name, edges, expected);
    const cJSON *s = cJSON_GetObjectItemCaseSensitive(g, "settings");
    CHECK(strcmp(cJSON_GetObjectItemCaseSensitive(s, "reuse")->valuestring, r->kind) == 0, "reuse is recorded");
    CHECK(number(g, "samples") == 4 && cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(g, "sigmas")) == STEPS, "head");
    cJSON_Delete(g);
    prx_text_free(e, text);
    prx_model_close(&m);
}

/* ---- interruption ---- */

static int stop_at;

static int stop(void *cookie, const prx_progress *p)
{
    (void)cookie;
    return p->phase == PRX_PHASE_MEASURE && p->step >= stop_at;
}

static void check_resume(prx_engine *e)
{
    prx_model *m = open_model(e, "wan21_unipc");
    char *whole = build(m, "max_gap=4", NULL), *json = NULL;
    for (stop_at = 20; stop_at <= 120; stop_at += 50) {       /* each goes on where the last one stopped */
        prx_job *j = open_job(m, STEPS);
        prx_job_on_progress(j, stop, NULL);
        CHECK(prx_schedule_build(j, prompts, "3-4", "max_gap=4", state_path, &json) == PRX_ECANCELED && !json, "interrupted");
        prx_job_close(&j);
        CHECK(access(state_path, R_OK) == 0, "a state");
    }
    prx_job *j = open_job(m, STEPS);
    CHECK(prx_schedule_build(j, prompts, "3-5", "max_gap=4", state_path, &json) == PRX_EINVAL && strstr(prx_job_last_error(j), "seeds"),
          "other seeds: %s", prx_job_last_error(j));
    prx_job_close(&j);
    j = open_job(m, STEPS);
    CHECK(prx_schedule_build(j, prompts, "3-4", "max_gap=3", state_path, &json) == PRX_EINVAL, "another gap");
    prx_job_close(&j);
    j = open_job(m, STEPS + 1);
    CHECK(prx_schedule_build(j, prompts, "3-4", "max_gap=4", state_path, &json) == PRX_EINVAL && strstr(prx_job_last_error(j), "steps"),
          "other steps: %s", prx_job_last_error(j));
    prx_job_close(&j);
    char *resumed = build(m, "max_gap=4", state_path);
    CHECK(strcmp(whole, resumed) == 0, "a resumed measurement gives another graph");
    FILE *f = fopen(state_path, "w");
    REQUIRE(f && fputs("{\"rows\": 5}\n", f) >= 0 && fclose(f) == 0, "write");
    j = open_job(m, STEPS);
    CHECK(prx_schedule_build(j, prompts, "3-4", "max_gap=4", state_path, &json) == PRX_EFORMAT, "a broken state");
    prx_job_close(&j);
    unlink(state_path);
    prx_text_free(e, whole);
    prx_text_free(e, resumed);
    prx_model_close(&m);
}

/* ---- threads ---- */

static void check_threads(prx_engine *e)
{
    prx_engine *one = open_engine(1);
    prx_model *a = open_model(e, "wan21_unipc"), *b = open_model(one, "wan21_unipc");
    char *two_threads = build(a, "max_gap=3", NULL), *one_thread = build(b, "max_gap=3", NULL);
    CHECK(strcmp(two_threads, one_thread) == 0, "the graph depends on the number of threads");
    prx_text_free(e, two_threads);
    prx_text_free(one, one_thread);
    prx_model_close(&a);
    prx_model_close(&b);
    prx_engine_close(&one);
}

/* ---- quick ---- */

static void check_quick(prx_engine *e)
{
    prx_model *m = open_model(e, "wan21_unipc");
    char *all = build(m, "max_gap=4", NULL), *text = build(m, "max_gap=4,quick=true", NULL);
    cJSON *full = cJSON_Parse(all), *quick = cJSON_Parse(text);
    int interpolated = 0, measured = 0;
    const cJSON *x;
    cJSON_ArrayForEach(x, cJSON_GetObjectItemCaseSensitive(quick, "edges"))
    {
        const int i = (int)number(x, "from"), to = (int)number(x, "to");
        const double w = number(x, "weight"), want = number(edge(full, i, to), "weight");
        if (cJSON_GetObjectItemCaseSensitive(x, "interpolated")) {
            interpolated++;
            CHECK(isfinite(w) && w > 0, "jump %d to %d", i, to);
            if (i > 0 && to < STEPS - 1) {
                const double a = number(edge(full, i - 1, to - 1), "weight"), b = number(edge(full, i + 1, to + 1), "weight");
                CHECK(fabs(w - sqrt(a * b)) <= 1e-12 * w, "jump %d to %d is not between its neighbours", i, to);
            }
        } else {
            measured++;
            CHECK(w == want, "jump %d to %d", i, to);
        }
    }
    const cJSON *q = cJSON_GetObjectItemCaseSensitive(quick, "quick");
    CHECK(number(q, "interpolated") == interpolated && interpolated > 3 && measured > interpolated / 2, "%d, %d", interpolated, measured);
    CHECK(number(q, "checked") >= 1 && number(q, "mean_relative_error") >= 0 &&
          number(q, "worst_relative_error") >= number(q, "mean_relative_error"), "the error is reported");
    cJSON_Delete(full);
    cJSON_Delete(quick);
    prx_text_free(e, all);
    prx_text_free(e, text);
    prx_model_close(&m);
}

/* ---- the other schedulers, and bad requests ---- */

static void check_schedulers(prx_engine *e)
{
    static const char *const names[] = { "euler", "dpmpp" };
    for (int i = 0; i < 2; i++) {
        char dir[32];
        snprintf(dir, sizeof dir, "wan21_%s", names[i]);
        const reuse r = { "max_gap=4", "residual", "none" };
        check_graph(e, dir, &r, 0, 5);
    }
}

static void refuse(prx_model *m, const char *key, const char *value, const char *text, const char *seeds, const char *settings,
                   const char *says)
{
    char *json = NULL;
    prx_job *j = open_job(m, STEPS);
    if (key)
        set(j, key, value);
    const int err = prx_schedule_build(j, text, seeds, settings, NULL, &json);
    CHECK(err == PRX_EINVAL && !json && strstr(prx_job_last_error(j), says), "%s: %d %s", says, err, prx_job_last_error(j));
    prx_job_close(&j);
}

static void check_bad(prx_engine *e)
{
    prx_model *m = open_model(e, "wan21_unipc");
    refuse(m, NULL, NULL, "\n \n", "0", NULL, "prompts");
    refuse(m, NULL, NULL, "x", "", NULL, "seeds");
    refuse(m, NULL, NULL, "x", "1,1", NULL, "twice");
    refuse(m, NULL, NULL, "x", "5-3", NULL, "seeds");
    refuse(m, NULL, NULL, "x", "0-99999999", NULL, "more than");
    refuse(m, NULL, NULL, "x", "-1", NULL, "seeds");
    refuse(m, NULL, NULL, "x", NULL, "max_gap=1", "max_gap");
    refuse(m, NULL, NULL, "x", NULL, "reuse=tokens", "reuse");
    refuse(m, NULL, NULL, "x", NULL, "budget=3", "budget");
    refuse(m, "cache", "dbcache", "x", NULL, NULL, "cache");
    refuse(m, "attention", "svg2", "x", NULL, NULL, "svg2");
    refuse(m, "output", "x.mp4", "x", NULL, NULL, "output");
    refuse(m, "steps", "2", "x", NULL, NULL, "steps");
    refuse(m, "steps", "201", "x", NULL, NULL, "steps");
    prx_model_close(&m);
}

int main(void)
{
    static const reuse kinds[] = {
        { "max_gap=4", "residual", "none" },
        { "max_gap=4,reuse=velocity", "velocity", "none" },
        { "max_gap=4,reuse=velocity,calibrator=newton", "velocity", "newton" },
        { "max_gap=4,calibrator=taylor", "residual", "taylor" },
    };
    snprintf(folder, sizeof folder, "/tmp/praxino-graph-XXXXXX");
    REQUIRE(mkdtemp(folder), "%s", folder);
    snprintf(schedule_path, sizeof schedule_path, "%s/schedule.json", folder);
    snprintf(state_path, sizeof state_path, "%s/graph.state", folder);
    prx_engine *e = open_engine(2);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        check_graph(e, "wan21_unipc", &kinds[i], 0, i ? 3 : 1);
    check_graph(e, "wan22_a14b", &kinds[0], 0.875, 2);
    check_schedulers(e);
    check_resume(e);
    check_threads(e);
    check_quick(e);
    check_bad(e);
    prx_engine_close(&e);
    unlink(schedule_path);
    rmdir(folder);
    return TEST_END();
}
