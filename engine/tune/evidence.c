/* What happened as JSON, and the preset. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/core/cpu.h"
#include "engine/core/option.h"
#include "tune.h"

/* Rounded as a reader wants it; null where there is none. */
static void put(cJSON *o, const char *key, double v, int digits)
{
    char text[40];
    if (!isfinite(v)) {
        cJSON_AddNullToObject(o, key);
        return;
    }
    snprintf(text, sizeof text, "%.*g", digits, v);
    cJSON_AddItemToObject(o, key, cJSON_CreateRaw(text));
}

static cJSON *settings_json(const prxi_pairs *p)
{
    cJSON *o = cJSON_CreateObject();
    for (int i = 0; i < p->n; i++)
        cJSON_AddStringToObject(o, p->list[i].key, p->list[i].value);
    return o;
}

/* ---- notes ---- */

void prxi_tune_note_trial(prx_tune *t, int k, int prompt, const char *phase, const prxi_trial *r, const prxi_score *s)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "phase", phase);
    if (k != PRXI_NO_CANDIDATE)
        cJSON_AddNumberToObject(o, "candidate", k);
    cJSON_AddNumberToObject(o, "prompt", prompt);
    put(o, "seconds", r->seconds, 6);
    put(o, "speedup", s->speedup, 5);
    cJSON_AddNumberToObject(o, "steps", r->steps);
    cJSON_AddNumberToObject(o, "computed_steps", r->computed_steps);
    put(o, "attention_density", r->density, 5);
    if (r->quality.measured) {
        put(o, "psnr", r->quality.psnr, 6);
        put(o, "ssim", r->quality.ssim, 6);
        put(o, "ms_ssim", r->quality.ms_ssim, 6);
        put(o, "motion_psnr", r->quality.motion_psnr, 6);
        put(o, "latent_error", r->quality.latent_error, 6);
    }
    cJSON_AddItemToArray(t->trials, o);
}

void prxi_tune_note_drop(prx_tune *t, const char *what, const char *name, const char *reason)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, what, name);
    cJSON_AddNumberToObject(o, "round", t->round);
    cJSON_AddStringToObject(o, "reason", reason);
    cJSON_AddItemToArray(t->dropped, o);
}

static cJSON *proof_json(const prx_tune *t, const prxi_proof *p)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "candidate", p->candidate);
    cJSON_AddStringToObject(o, "settings", t->candidates[p->candidate].text);
    cJSON_AddBoolToObject(o, "holds", p->holds);
    cJSON_AddNumberToObject(o, "prompts", p->n);
    put(o, "bound", p->held.bound, 6);
    put(o, "mean", p->held.mean, 6);
    put(o, "worst", p->held.worst, 6);
    cJSON_AddStringToObject(o, "worst_prompt", t->split.prompts[p->worst_prompt]);
    put(o, "share_that_holds", p->held.share, 4);
    if (t->measure == PRXI_BY_SPEEDUP) {
        put(o, "psnr_mean", p->quality.mean, 6);
        put(o, "psnr_worst", p->quality.worst, 6);
    }
    put(o, "speedup", p->speedup.mean, 5);
    put(o, "speedup_bound", p->speedup.bound, 5);
    put(o, "seconds", p->seconds, 5);
    put(o, "seconds_predicted", p->predicted, 5);
    return o;
}

void prxi_tune_note_proof(prx_tune *t, const prxi_proof *p, const char *verdict)
{
    cJSON *o = proof_json(t, p);
    cJSON_AddStringToObject(o, "verdict", verdict);
    cJSON_AddItemToArray(t->proofs, o);
}

/* ---- the preset ---- */

static void add_value(cJSON *o, const char *key, const char *text)
{
    double v;
    if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
        cJSON_AddBoolToObject(o, key, text[0] == 't');
    else if (prxi_parse_num(text, &v))
        cJSON_AddRawToObject(o, key, text);
    else
        cJSON_AddStringToObject(o, key, text);
}

cJSON *prxi_tune_preset_json(const prx_tune *t)
{
    const prxi_proof *p = &t->best;
    const prxi_pairs *all = &t->candidates[p->candidate].all;
    char text[320];
    cJSON *o = cJSON_CreateObject();
    snprintf(text, sizeof text, "tuned for %s: %.2f times as fast as the base, mean %.4g, lower %.0f %% bound %.4g on %d held-out prompts "
             "at %lldx%lld, %lld frames", t->target_text, p->speedup.mean, p->held.mean, 100 * t->goal.confidence, p->held.bound, p->n,
             (long long)t->size[0], (long long)t->size[1], (long long)t->size[2]);
    cJSON_AddStringToObject(o, "description", text);
    for (int i = 0; i < all->n; i++)
        add_value(o, all->list[i].key, all->list[i].value);
    return o;
}

/* ---- the evidence ---- */

static void add_timing(cJSON *o, const prx_tune *t)
{
    const prxi_timing *x = &t->timing;
    if (x->rounds == 0) {
        cJSON_AddNullToObject(o, "timing");
        return;
    }
    o = cJSON_AddObjectToObject(o, "timing");
    cJSON_AddNumberToObject(o, "rounds", x->rounds);
    put(o, "reference_seconds", x->reference, 5);
    put(o, "seconds", x->seconds, 5);
    put(o, "seconds_predicted", x->predicted, 5);
    put(o, "speedup", x->reference / x->seconds, 5);
}

/* Times of steps that the ladder of dense and sparse ones was solved for. */
static void add_costs(cJSON *o, const prx_tune *t)
{
    if (t->sparse.n == 0)
        return;
    o = cJSON_AddObjectToObject(o, "step_costs");
    put(o, "sparse", t->env.sparse_cost, 4);
    put(o, "cached", t->env.cached_cost, 4);
}

static void add_split(cJSON *o, const prx_tune *t)
{
    cJSON *split = cJSON_AddObjectToObject(o, "split"), *list = NULL;
    for (int i = 0; i < t->split.n; i++) {
        if (i == 0 || i == t->split.calibration)
            list = cJSON_AddArrayToObject(split, i ? "held_out" : "calibration");
        cJSON_AddItemToArray(list, cJSON_CreateString(t->split.prompts[i]));
    }
}

static cJSON *candidate_json(const prx_tune *t, int k)
{
    const prxi_candidate *x = &t->candidates[k];
    const prxi_sample s = prxi_sample_of(x->held, x->n, t->goal.confidence, t->goal.target);
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "candidate", k);
    cJSON_AddStringToObject(o, "settings", x->text);
    cJSON_AddNumberToObject(o, "prompts", x->n);
    if (x->n && x->identical == x->n)
        cJSON_AddStringToObject(o, "reason", "changes nothing: every picture is the reference's");
    put(o, "mean", s.mean, 6);
    put(o, "margin", x->n ? prxi_goal_margin(&t->goal, x->held, x->n) : NAN, 4);
    put(o, "seconds", prxi_median(x->seconds, x->n), 5);
    cJSON_AddStringToObject(o, "verdict", x->broken                                      ? "cannot run"
                                          : x->n < 1                                     ? "not run: the time was over"
                                          : prxi_tune_judge(t, k) == PRXI_HOLDS          ? "holds"
                                          : prxi_tune_judge(t, k) == PRXI_MISSES_CLEARLY ? "misses clearly"
                                                                                         : "misses");
    if (*x->reason)
        cJSON_AddStringToObject(o, "reason", x->reason);
    return o;
}

static void add_copy(cJSON *o, const char *key, const cJSON *list)
{
    cJSON *copy = cJSON_Duplicate(list, 1);
    cJSON_AddItemToObject(o, key, copy ? copy : cJSON_CreateArray());
}

static void add_lines(cJSON *o, const prx_tune *t)
{
    cJSON *list = cJSON_AddArrayToObject(o, "lines");
    for (int i = 0; i < t->n_lines; i++) {
        const prxi_line *l = &t->lines[i];
        cJSON *line = cJSON_CreateObject(), *rungs = cJSON_AddArrayToObject(line, "candidates");
        cJSON_AddStringToObject(line, "name", l->name);
        put(line, "seconds_expected", l->expected, 5);
        for (int r = 0; r < PRXI_TUNE_RUNGS; r++)
            cJSON_AddItemToArray(rungs, l->candidate[r] == PRXI_NO_CANDIDATE ? cJSON_CreateNull() : cJSON_CreateNumber(l->candidate[r]));
        cJSON_AddItemToArray(list, line);
    }
}

cJSON *prxi_tune_evidence_json(const prx_tune *t)
{
    const char *slash = strrchr(t->model, '/');
    cJSON *o = cJSON_CreateObject(), *list;
    cJSON_AddStringToObject(o, "praxino", PRX_VERSION);
    cJSON_AddStringToObject(o, "model", slash && slash[1] ? slash + 1 : t->model);
    cJSON_AddStringToObject(o, "isa", prxi_cpu_name(prxi_cpu_detect()));
    cJSON_AddNumberToObject(o, "cores", prxi_cpu_cores());
    cJSON_AddStringToObject(o, "target", t->target_text);
    put(o, "confidence", t->goal.confidence, 3);
    put(o, "budget_seconds", t->budget, 6);
    put(o, "elapsed_seconds", t->progress.elapsed, 6);
    cJSON_AddItemToObject(o, "base", settings_json(&t->base));
    cJSON_AddNumberToObject(o, "seed", (double)t->seed);
    cJSON_AddBoolToObject(o, "interrupted", t->interrupted);
    if (t->best.holds)
        cJSON_AddItemToObject(o, "result", proof_json(t, &t->best));
    else
        cJSON_AddNullToObject(o, "result");
    cJSON_AddStringToObject(o, "why", t->why);
    cJSON_AddNumberToObject(o, "verifications", t->attempts);
    put(o, "reference_seconds", t->reference_seconds ? prxi_tune_reference_time(t) : NAN, 5);
    add_timing(o, t);
    add_costs(o, t);
    add_split(o, t);
    add_copy(o, "verified", t->proofs);
    add_copy(o, "dropped", t->dropped);
    list = cJSON_AddArrayToObject(o, "candidates");
    for (int k = 0; k < t->n_candidates; k++)
        cJSON_AddItemToArray(list, candidate_json(t, k));
    add_lines(o, t);
    add_copy(o, "trials", t->trials);
    return o;
}
