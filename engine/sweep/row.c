/* A row of a sweep: its key, and its JSON. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/core/option.h"
#include "engine/core/sha256.h"
#include "sweep.h"

static void add_text(prxi_sha256 *h, const char *text)
{
    prxi_sha256_add(h, text, strlen(text) + 1);
}

void prxi_row_key(const prx_sweep *s, const prxi_sweep_row *r, char out[65])
{
    prxi_sha256 h;
    char tail[64];
    prxi_sha256_init(&h);
    add_text(&h, s->model_digest);
    for (int i = 0; i < 3; i++)
        add_text(&h, s->engine_text[i]);
    add_text(&h, s->spec.settings[r->setting].digest);
    add_text(&h, s->spec.has_reference ? s->spec.settings[0].digest : "");
    add_text(&h, s->spec.prompts[r->clip / s->spec.n_seeds]);
    snprintf(tail, sizeof tail, "%d %lld %d", s->base.threads, (long long)s->spec.seeds[r->clip % s->spec.n_seeds], r->repeat);
    add_text(&h, tail);
    prxi_sha256_hex(&h, out);
    out[24] = '\0';
}

/* ---- JSON out ---- */

/* Numbers as a reader wants them: rounded to so many digits, null where there is none. */
static cJSON *number(double v, int digits)
{
    char text[40];
    double rounded = v;
    if (!isfinite(v))
        return cJSON_CreateNull();
    snprintf(text, sizeof text, "%.*g", digits, v);
    prxi_parse_num(text, &rounded);
    return cJSON_CreateNumber(rounded);
}

static void put(cJSON *o, const char *key, double v, int digits)
{
    cJSON_AddItemToObject(o, key, number(v, digits));
}

static cJSON *quality_json(const prxi_quality *q)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddBoolToObject(o, "identical", q->identical);
    put(o, "psnr", q->psnr, 7);
    put(o, "psnr_mean_of_frames", q->psnr_frames, 7);
    put(o, "psnr_worst_frame", q->psnr_worst, 7);
    put(o, "ssim", q->ssim, 7);
    put(o, "ssim_rgb", q->ssim_rgb, 7);
    put(o, "ms_ssim", q->ms_ssim, 7);
    put(o, "motion_psnr", q->motion_psnr, 7);
    put(o, "latent_error", q->latent_error, 7);
    return o;
}

static const cJSON *get(const cJSON *o, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(o, key);
}

static double value(const cJSON *o, const char *key)
{
    const cJSON *v = get(o, key);
    return cJSON_IsNumber(v) ? v->valuedouble : NAN;
}

/* Place of a reason in the list, which grows. */
static int reason_index(cJSON *list, const char *text)
{
    int i = 0;
    const cJSON *e;
    cJSON_ArrayForEach(e, list) {
        if (strcmp(e->valuestring, text) == 0)
            return i;
        i++;
    }
    cJSON_AddItemToArray(list, cJSON_CreateString(text));
    return i;
}

/* What stats have of one branch by step and layer, where they have it. */
static void add_layers(cJSON *o, const char *key, const cJSON *steps, int b, const char *of)
{
    const cJSON *step, *l;
    cJSON *rows = cJSON_CreateArray();
    int any = 0;
    cJSON_ArrayForEach(step, steps) {
        const cJSON *list = get(cJSON_GetArrayItem(get(step, "branches"), b), of);
        cJSON *row = cJSON_CreateArray();
        any |= list != NULL;
        cJSON_ArrayForEach(l, list)
            cJSON_AddItemToArray(row, number(cJSON_IsNumber(l) ? l->valuedouble : NAN, 4));
        cJSON_AddItemToArray(rows, row);
    }
    if (any)
        cJSON_AddItemToObject(o, key, rows);
    else
        cJSON_Delete(rows);
}

/* What happened at each step of one branch: decisions as letters, reasons by their place in `reasons`. */
static cJSON *branch_json(const cJSON *steps, int b, cJSON *reasons)
{
    char letters[1008] = "";
    int n = 0;
    const cJSON *step;
    cJSON *o = cJSON_CreateObject(), *why = cJSON_CreateArray(), *diff = cJSON_CreateArray(), *density = cJSON_CreateArray();
    cJSON_ArrayForEach(step, steps) {
        const cJSON *k = cJSON_GetArrayItem(get(step, "branches"), b);
        const char *decision = cJSON_GetStringValue(get(k, "decision")), *reason = cJSON_GetStringValue(get(k, "reason"));
        if (n < (int)sizeof letters - 1)
            letters[n++] = decision && strcmp(decision, "cached") == 0 ? 'C' : 'F';
        cJSON_AddItemToArray(why, cJSON_CreateNumber(reason_index(reasons, reason ? reason : "")));
        cJSON_AddItemToArray(diff, number(value(k, "diff"), 4));
        cJSON_AddItemToArray(density, number(value(k, "attention_density"), 4));
    }
    letters[n] = '\0';
    const cJSON *first = cJSON_GetArrayItem(get(steps->child, "branches"), b);
    cJSON_AddStringToObject(o, "branch", cJSON_GetStringValue(get(first, "branch")));
    cJSON_AddStringToObject(o, "decisions", letters);
    cJSON_AddItemToObject(o, "why", why);
    cJSON_AddItemToObject(o, "diff", diff);
    cJSON_AddItemToObject(o, "density", density);
    add_layers(o, "density_layers", steps, b, "attention_density_layers");
    add_layers(o, "recall_layers", steps, b, "attention_recall_layers");
    add_layers(o, "error_layers", steps, b, "attention_error_layers");
    return o;
}

static void add_timeline(cJSON *o, const cJSON *stats)
{
    const cJSON *steps = get(stats, "steps"), *step;
    cJSON *reasons = cJSON_CreateArray(), *branches = cJSON_CreateArray(), *seconds = cJSON_CreateArray();
    cJSON_ArrayForEach(step, steps)
        cJSON_AddItemToArray(seconds, number(value(step, "seconds"), 5));
    const int n = steps && steps->child ? cJSON_GetArraySize(get(steps->child, "branches")) : 0;
    for (int b = 0; b < n; b++)
        cJSON_AddItemToArray(branches, branch_json(steps, b, reasons));
    cJSON_AddItemToObject(o, "step_seconds", seconds);
    cJSON_AddItemToObject(o, "reasons", reasons);
    cJSON_AddItemToObject(o, "branches", branches);
}

static void add_trial(cJSON *o, const prxi_trial *t)
{
    put(o, "seconds", t->seconds, 6);
    cJSON *p = cJSON_AddObjectToObject(o, "phases");
    put(p, "load", t->load, 5);
    put(p, "text", t->text, 5);
    put(p, "denoise", t->denoise, 6);
    put(p, "decode", t->decode, 6);
    cJSON_AddNumberToObject(o, "steps", t->steps);
    cJSON_AddNumberToObject(o, "computed_steps", t->computed_steps);
    put(o, "attention_density", t->density, 6);
    cJSON_AddNumberToObject(o, "peak_memory_bytes", (double)t->peak_memory);
    const cJSON *passes = get(get(t->stats, "cache"), "passes");
    if (passes)
        cJSON_AddItemToObject(o, "passes", cJSON_Duplicate(passes, 1));
    if (t->quality.measured)
        cJSON_AddItemToObject(o, "quality", quality_json(&t->quality));
    else
        cJSON_AddNullToObject(o, "quality");
    add_timeline(o, t->stats);
}

cJSON *prxi_row_json(const prx_sweep *s, const prxi_sweep_row *r, const prxi_trial *t, const char *error, const char *clip)
{
    const prxi_sweep_setting *k = &s->spec.settings[r->setting];
    char key[65];
    prxi_row_key(s, r, key);
    cJSON *o = cJSON_CreateObject(), *settings;
    cJSON_AddStringToObject(o, "key", key);
    cJSON_AddStringToObject(o, "label", k->label);
    cJSON_AddStringToObject(o, "prompt", s->spec.prompts[r->clip / s->spec.n_seeds]);
    cJSON_AddNumberToObject(o, "seed", (double)s->spec.seeds[r->clip % s->spec.n_seeds]);
    cJSON_AddNumberToObject(o, "repeat", r->repeat);
    cJSON_AddStringToObject(o, "status", t ? "ok" : "failed");
    if (!t)
        cJSON_AddStringToObject(o, "error", error);
    settings = cJSON_AddObjectToObject(o, "settings");
    for (int i = 0; i < k->all.n; i++)
        cJSON_AddStringToObject(settings, k->all.list[i].key, k->all.list[i].value);
    if (t)
        add_trial(o, t);
    if (clip)
        cJSON_AddStringToObject(o, "clip", clip);
    return o;
}

/* ---- JSON in ---- */

void prxi_row_read(prxi_sweep_row *r, const cJSON *row)
{
    const char *status = cJSON_GetStringValue(get(row, "status"));
    const cJSON *q = get(row, "quality");
    r->done = 1;
    r->ok = status && strcmp(status, "ok") == 0;
    r->seconds = value(row, "seconds");
    r->density = value(row, "attention_density");
    r->peak_memory = value(row, "peak_memory_bytes");
    r->computed_steps = r->ok ? (int)value(row, "computed_steps") : 0;
    r->quality = (prxi_quality) {
        cJSON_IsObject(q), cJSON_IsTrue(get(q, "identical")), value(q, "psnr"), value(q, "psnr_mean_of_frames"),
        value(q, "psnr_worst_frame"), value(q, "ssim"), value(q, "ssim_rgb"), value(q, "ms_ssim"), value(q, "motion_psnr"),
        value(q, "latent_error"),
    };
    if (r->ok && !(r->seconds >= 0))
        r->ok = 0;
}
