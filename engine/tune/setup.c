/* What is known before the first trial: target, base settings, ladders that can run at this size. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/core/option.h"
#include "tune.h"

/* ---- the target ---- */

static const struct {
    const char *name;
    double least, most, spread;      /* spread: of a setting's values between prompts, before any were seen */
} measures[] = {
    [PRXI_BY_PSNR] = { "psnr", 0, 60, 2 },
    [PRXI_BY_SSIM] = { "ssim", 0, 1, 0.03 },
    [PRXI_BY_MS_SSIM] = { "ms-ssim", 0, 1, 0.02 },
    [PRXI_BY_SPEEDUP] = { "speedup", 1, 1000, 0.05 },
};
enum { MEASURES = sizeof measures / sizeof *measures };

int prxi_tune_parse_target(prxi_ctx *c, prx_tune *t, const char *text)
{
    const char *equals = strchr(text, '=');
    for (int i = 0; i < MEASURES; i++) {
        const size_t n = strlen(measures[i].name);
        double v;
        if (!equals || (size_t)(equals - text) != n || strncmp(text, measures[i].name, n) != 0)
            continue;
        if (!prxi_parse_num(equals + 1, &v) || !(v > measures[i].least && v <= measures[i].most))
            return prxi_fail(c, PRX_EINVAL, "target: %.80s: a number above %g, at most %g expected", text, measures[i].least,
                             measures[i].most);
        t->measure = (prxi_measure)i;
        t->goal = (prxi_goal) { .target = v, .confidence = 0.9, .spread = measures[i].spread * (i == PRXI_BY_SPEEDUP ? v : 1) };
        snprintf(t->target_text, sizeof t->target_text, "%.40s", text);
        return PRX_OK;
    }
    return prxi_fail(c, PRX_EINVAL, "target: %.80s: psnr=X, ssim=X, ms-ssim=X or speedup=X expected", text);
}

/* ---- the base ---- */

static const char *refused(const char *key)
{
    static const char *const ours[] = { "attention", "cache", "schedule", "seed", "prompt" };
    static const char *const files[] = { "output", "dump", "latents", "save_state", "save_every", "resume", "record_trace", "dump_layer",
                                         "dump_step", "crf", "keep_weights" };
    static const char *const machine[] = { "device", "isa", "dtype", "threads" };
    if (strncmp(key, "attention.", 10) == 0 || strncmp(key, "cache.", 6) == 0)
        return "attention and cache are what tune chooses";
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (strcmp(key, ours[i]) == 0)
            return i < 3 ? "attention and cache are what tune chooses" : "not a base setting";
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (strcmp(key, files[i]) == 0)
            return "files and their quality are not a base setting";
    for (size_t i = 0; i < sizeof machine / sizeof *machine; i++)
        if (strcmp(key, machine[i]) == 0)
            return "belongs to the engine, not to a preset";
    return NULL;
}

static int check_base(prx_tune *t)
{
    prxi_ctx *c = &t->ctx;
    for (int i = 0; i < t->base.n; i++) {
        const char *why = refused(t->base.list[i].key);
        if (why)
            return prxi_fail(c, PRX_EINVAL, "%s: %s", t->base.list[i].key, why);
    }
    int err = prxi_pairs_add(c, &t->reference, &t->base);
    if (err == PRX_OK)
        err = prxi_pairs_set(c, &t->reference, "attention", "dense");
    if (err == PRX_OK)
        err = prxi_pairs_set(c, &t->reference, "cache", "none");
    if (err == PRX_OK)
        err = prxi_lab_check(c, &t->lab, &t->reference, t->split.prompts[0], t->size);
    if (err == PRX_OK && t->measure == PRXI_BY_MS_SSIM && (t->size[0] < 176 || t->size[1] < 176))
        err = prxi_fail(c, PRX_EINVAL, "target: %s: MS-SSIM needs sides of at least 176 pixels, not %lldx%lld", t->target_text,
                        (long long)t->size[0], (long long)t->size[1]);
    return err;
}

/* "attention" and "attention_options" of the graph's settings, as settings. */
static int read_sparse(prx_tune *t, const cJSON *settings)
{
    prxi_ctx *c = &t->ctx;
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(settings, "attention"), *e;
    if (!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(settings, "sparse")) || !cJSON_IsString(name))
        return PRX_OK;
    int err = prxi_pairs_set(c, &t->sparse, "attention", name->valuestring);
    cJSON_ArrayForEach(e, cJSON_GetObjectItemCaseSensitive(settings, "attention_options")) {
        char key[128], value[PRXI_OPT_STRING_MAX];
        snprintf(key, sizeof key, "attention.%.100s", e->string);
        if (err == PRX_OK && prxi_pairs_text(e, value, sizeof value))
            err = prxi_pairs_set(c, &t->sparse, key, value);
    }
    return err;
}

/* Steps of the base, and of the model's LeMiCa graph; what sparse means in it. */
static int read_steps(prx_tune *t)
{
    char path[4096];
    prxi_json j;
    const char *steps = prxi_pairs_get(&t->base, "steps");
    if (!steps || !prxi_parse_int(steps, &t->env.steps))
        t->env.steps = t->lab.engines[0].model->defaults.steps;
    snprintf(path, sizeof path, "%s/lemica_graph.json", t->model);
    if (access(path, F_OK) != 0)
        return PRX_OK;
    int err = prxi_json_open(&t->ctx, &j, path, 0);
    if (err < 0)
        return err;
    if ((err = prxi_json_int(&t->ctx, &j, "steps", 1, 100000, &t->env.graph_steps)) == PRX_OK)
        err = read_sparse(t, cJSON_GetObjectItemCaseSensitive(j.root, "settings"));
    t->env.sparse = &t->sparse;
    t->env.sparse_cost = 0.5;        /* to plan with, until it is measured */
    prxi_json_close(&t->ctx, &j);
    return err;
}

/* ---- ladders ---- */

/* In the middle of the ladder; 0: dropped, with its reason. */
static int can_run(prx_tune *t, int ladder)
{
    const prxi_ladder *l = prxi_ladder_at(ladder);
    prxi_ctx *c = &t->ctx;
    prxi_pairs p = { NULL, 0 };
    prxi_rung_env env = t->env;
    const char *scheduler = prxi_pairs_get(&t->base, "scheduler");
    int err = prxi_pairs_add(c, &p, &t->base);
    if (err == PRX_OK && scheduler && strcmp(scheduler, "dpmpp") == 0 && strcmp(l->fixed, "scheduler=dpmpp") == 0)
        err = prxi_fail(c, PRX_EINVAL, "the base has this scheduler");
    if (err == PRX_OK)
        err = prxi_ladder_apply(c, &p, l, 0.5, &env);
    if (err == PRX_OK)
        err = prxi_lab_check(c, &t->lab, &p, t->split.prompts[0], NULL);
    prxi_pairs_close(c, &p);
    if (err < 0) {
        prxi_tune_note_drop(t, "ladder", l->name, c->error.text);
        prxi_clear(c);
    }
    return err == PRX_OK;
}

static void add_ladders(prx_tune *t)
{
    for (int i = 0; prxi_ladder_at(i) && t->n_lines < PRXI_TUNE_LINES; i++) {
        const prxi_ladder *l = prxi_ladder_at(i);
        if (!can_run(t, i))
            continue;
        prxi_line *line = &t->lines[t->n_lines++];
        const int a = prxi_ladder_axis(l);
        prxi_line_init(line, l->name);
        line->ladder[a] = i;
        line->to[a] = 1;
    }
}

int prxi_tune_prepare(prx_tune *t)
{
    prxi_ctx *c = &t->ctx;
    const size_t n = (size_t)t->split.n;
    int err = check_base(t);
    if (err == PRX_OK)
        err = read_steps(t);
    if (err < 0)
        return err;
    t->goal.held_out = t->split.n - t->split.calibration;
    t->clips = prxi_calloc(c->mem, PRXI_MEM_MISC, n, sizeof *t->clips);
    t->reference_seconds = prxi_calloc(c->mem, PRXI_MEM_MISC, n, sizeof *t->reference_seconds);
    t->candidates = prxi_calloc(c->mem, PRXI_MEM_MISC, PRXI_TUNE_CANDIDATES, sizeof *t->candidates);
    t->lines = prxi_calloc(c->mem, PRXI_MEM_MISC, PRXI_TUNE_LINES, sizeof *t->lines);
    if (!t->clips || !t->reference_seconds || !t->candidates || !t->lines)
        return prxi_fail_nomem(c, "candidates", PRXI_TUNE_CANDIDATES * sizeof *t->candidates);
    add_ladders(t);
    return t->n_lines ? PRX_OK : prxi_fail(c, PRX_EINVAL, "no setting that could be faster can run here");
}
