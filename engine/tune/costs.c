/* What a sparse and a cached step cost here, a dense one being 1: for the graph whose paths may take all three. Measured step by step in
 * two trials of one schedule, dense and sparse, one after the other. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tune.h"

enum { CACHED, DENSE, SPARSE, KINDS, MOST_STEPS = 1024 };

static const cJSON *get(const cJSON *o, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(o, key);
}

/* A step by its first branch; all branches of a static schedule do the same. */
static int kind_of(const cJSON *step)
{
    const cJSON *branch = cJSON_GetArrayItem(get(step, "branches"), 0);
    const cJSON *blocks = get(branch, "blocks_computed"), *density = get(branch, "attention_density");
    if (!cJSON_IsNumber(blocks) || blocks->valuedouble == 0)
        return CACHED;
    return cJSON_IsNumber(density) && density->valuedouble < 1 ? SPARSE : DENSE;
}

static void read_medians(const cJSON *stats, double median[KINDS])
{
    double list[MOST_STEPS];
    const cJSON *step;
    for (int kind = 0; kind < KINDS; kind++) {
        int n = 0;
        cJSON_ArrayForEach(step, get(stats, "steps"))
            if (kind_of(step) == kind && n < MOST_STEPS && cJSON_IsNumber(get(step, "seconds")))
                list[n++] = get(step, "seconds")->valuedouble;
        median[kind] = prxi_median(list, n);
    }
}

/* Half of the steps computed, all of them sparse or none. */
static int run(prx_tune *t, int sparse, double median[KINDS])
{
    prxi_ctx *c = &t->ctx;
    prxi_pairs p = { NULL, 0 };
    prxi_trial r;
    char budget[32];
    const int64_t steps = t->env.steps < t->env.graph_steps ? t->env.steps : t->env.graph_steps;
    snprintf(budget, sizeof budget, "%lld", (long long)(steps / 2 > 2 ? steps / 2 : 2));
    int err = prxi_pairs_add(c, &p, &t->base);
    if (err == PRX_OK && sparse)
        err = prxi_pairs_add(c, &p, &t->sparse);
    if (err == PRX_OK)
        err = prxi_pairs_set(c, &p, "cache", "lemica");
    if (err == PRX_OK)
        err = prxi_pairs_set(c, &p, "cache.budget", budget);
    if (err == PRX_OK)
        err = prxi_lab_run(c, &t->lab, &p, t->split.prompts[0], t->seed, NULL, &r);
    prxi_pairs_close(c, &p);
    if (err < 0)
        return err;
    read_medians(r.stats, median);
    const prxi_score score = { r.seconds, t->reference_seconds[0] / r.seconds, NAN, NAN, 0 };
    prxi_tune_note_trial(t, PRXI_NO_CANDIDATE, 0, "cost", &r, &score);
    prxi_trial_close(c, &r);
    return PRX_OK;
}

/* For good: no later phase takes it up again. */
static void drop(prx_tune *t, prxi_line *l, const char *reason)
{
    prxi_tune_note_drop(t, "ladder", l->name, reason);
    memmove(l, l + 1, (size_t)(t->lines + t->n_lines - (l + 1)) * sizeof *l);
    t->n_lines--;
}

static prxi_line *find_line(prx_tune *t)
{
    for (int i = 0; i < t->n_lines; i++)
        for (int a = 0; a < PRXI_TUNE_AXES; a++)
            if (t->lines[i].ladder[a] >= 0 && prxi_ladder_at(t->lines[i].ladder[a])->kind == PRXI_RUNG_COST)
                return &t->lines[i];
    return NULL;
}

int prxi_tune_costs(prx_tune *t)
{
    prxi_line *line = find_line(t);
    double dense[KINDS], sparse[KINDS];
    char reason[160];
    if (!line)
        return PRX_OK;
    int err = run(t, 0, dense);
    if (err == PRX_OK)
        err = run(t, 1, sparse);
    if (err == PRX_ECANCELED) {
        if (t->lab.cancelled)
            return err;
        prxi_clear(&t->ctx);         /* the budget ended */
        return PRXI_TIME_OVER;
    }
    if (err < 0) {
        snprintf(reason, sizeof reason, "%.150s", t->ctx.error.text);
        prxi_clear(&t->ctx);
        drop(t, line, reason);
        return PRX_OK;
    }
    t->env.sparse_cost = sparse[SPARSE] / dense[DENSE];
    t->env.cached_cost = isnan(dense[CACHED]) ? 0 : dense[CACHED] / dense[DENSE];
    if (t->env.sparse_cost < 1)
        return PRX_OK;
    snprintf(reason, sizeof reason, "a sparse step takes %.3g times as long as a dense one here", t->env.sparse_cost);
    drop(t, line, isnan(t->env.sparse_cost) ? "no sparse step was computed" : reason);
    return PRX_OK;
}
