/* Medians with their spread, by setting; and the resolved spec for readers of the folder. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/core/cpu.h"
#include "sweep.h"

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

const prxi_sweep_row *prxi_sweep_row_at(const prx_sweep *s, int setting, int i)
{
    return &s->rows[((size_t)(i / s->clips) * (size_t)s->spec.n + (size_t)setting) * (size_t)s->clips + (size_t)(i % s->clips)];
}

/* Of n sorted values, linear between neighbours. */
static double quantile(const double *v, int n, double q)
{
    if (n == 0)
        return NAN;
    const double at = q * (n - 1);
    const int i = (int)at;
    return at > i && v[i] < v[i + 1] ? v[i] + (at - i) * (v[i + 1] - v[i]) : v[i];
}

static void put(cJSON *o, const char *key, double v)
{
    if (isfinite(v))
        cJSON_AddNumberToObject(o, key, v);
    else
        cJSON_AddNullToObject(o, key);
}

typedef double (*getter)(const prxi_sweep_row *r);

static double get_seconds(const prxi_sweep_row *r) { return r->seconds; }
static double get_density(const prxi_sweep_row *r) { return r->density; }
static double get_memory(const prxi_sweep_row *r) { return r->peak_memory; }
static double get_computed(const prxi_sweep_row *r) { return r->computed_steps; }
/* Identical clips have no PSNR: better than any. */
static double get_psnr(const prxi_sweep_row *r) { return r->quality.identical ? INFINITY : r->quality.psnr; }
static double get_motion(const prxi_sweep_row *r) { return r->quality.identical ? INFINITY : r->quality.motion_psnr; }
static double get_ssim(const prxi_sweep_row *r) { return r->quality.identical ? 1 : r->quality.ssim; }
static double get_ms_ssim(const prxi_sweep_row *r) { return r->quality.identical ? 1 : r->quality.ms_ssim; }
static double get_latent(const prxi_sweep_row *r) { return r->quality.latent_error; }

/* Sorted values of a setting's good rows into list; what is NaN is left out. */
static int collect(const prx_sweep *s, int setting, getter get, double *list)
{
    int n = 0;
    for (int i = 0; i < s->spec.repeats * s->clips; i++) {
        const prxi_sweep_row *r = prxi_sweep_row_at(s, setting, i);
        if (r->ok && !isnan(get(r)))
            list[n++] = get(r);
    }
    qsort(list, (size_t)n, sizeof *list, ascending);
    return n;
}

/* {"median", "low", "high", "worst"}: quartiles, and the end of the list that is bad. */
static double add_spread(cJSON *o, const char *key, const double *v, int n, int high_is_bad)
{
    cJSON *k = cJSON_AddObjectToObject(o, key);
    const double median = quantile(v, n, 0.5);
    put(k, "median", median);
    put(k, "low", quantile(v, n, 0.25));
    put(k, "high", quantile(v, n, 0.75));
    put(k, "worst", n ? v[high_is_bad ? n - 1 : 0] : NAN);
    return median;
}

static cJSON *setting_json(const prx_sweep *s, int i, double *list, double *reference)
{
    static const struct {
        const char *key;
        getter get;
        int high_is_bad;
    } columns[] = { { "psnr", get_psnr, 0 }, { "ssim", get_ssim, 0 }, { "ms_ssim", get_ms_ssim, 0 }, { "motion_psnr", get_motion, 0 },
                    { "latent_error", get_latent, 1 }, { "computed_steps", get_computed, 1 }, { "attention_density", get_density, 1 },
                    { "peak_memory_bytes", get_memory, 1 } };
    cJSON *o = cJSON_CreateObject();
    int done = 0, ok = 0, identical = 0;
    for (int k = 0; k < s->spec.repeats * s->clips; k++) {
        const prxi_sweep_row *r = prxi_sweep_row_at(s, i, k);
        done += r->done;
        ok += r->ok;
        identical += r->ok && r->quality.identical;
    }
    cJSON_AddStringToObject(o, "label", s->spec.settings[i].label);
    cJSON_AddNumberToObject(o, "rows", done);
    cJSON_AddNumberToObject(o, "failed", done - ok);
    cJSON_AddNumberToObject(o, "identical", identical);
    const double median = add_spread(o, "seconds", list, collect(s, i, get_seconds, list), 1);
    if (i == 0 && s->spec.has_reference)
        *reference = median;
    put(o, "speedup", *reference / median);
    for (size_t k = 0; k < sizeof columns / sizeof *columns; k++)
        add_spread(o, columns[k].key, list, collect(s, i, columns[k].get, list), columns[k].high_is_bad);
    return o;
}

cJSON *prxi_sweep_summary_json(prxi_ctx *c, const prx_sweep *s)
{
    double *list = prxi_calloc(c->mem, PRXI_MEM_MISC, (size_t)s->n_rows, sizeof *list), reference = NAN;
    if (!list) {
        prxi_fail_nomem(c, "summary", (size_t)s->n_rows * sizeof *list);
        return NULL;
    }
    int done = 0, ok = 0;
    for (int i = 0; i < s->n_rows; i++)
        done += s->rows[i].done, ok += s->rows[i].ok;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "rows", s->n_rows);
    cJSON_AddNumberToObject(o, "done", done);
    cJSON_AddNumberToObject(o, "failed", done - ok);
    cJSON_AddBoolToObject(o, "has_reference", s->spec.has_reference);
    if (s->error[0])
        cJSON_AddStringToObject(o, "first_error", s->error);
    cJSON *settings = cJSON_AddArrayToObject(o, "settings");
    for (int i = 0; i < s->spec.n; i++)
        cJSON_AddItemToArray(settings, setting_json(s, i, list, &reference));
    prxi_free(c->mem, list);
    return o;
}

cJSON *prxi_sweep_describe(const prx_sweep *s)
{
    const prxi_sweep_spec *k = &s->spec;
    cJSON *o = cJSON_CreateObject(), *list, *e, *own;
    const char *slash = strrchr(s->model, '/');
    cJSON_AddStringToObject(o, "praxino", PRX_VERSION);
    cJSON_AddStringToObject(o, "description", k->description ? k->description : "");
    cJSON_AddStringToObject(o, "model", slash && slash[1] ? slash + 1 : s->model);
    cJSON_AddStringToObject(o, "isa", prxi_cpu_name(prxi_cpu_detect()));
    cJSON_AddNumberToObject(o, "cores", prxi_cpu_cores());
    cJSON_AddBoolToObject(o, "has_reference", k->has_reference);
    cJSON_AddNumberToObject(o, "repeats", k->repeats);
    list = cJSON_AddArrayToObject(o, "prompts");
    for (int i = 0; i < k->n_prompts; i++)
        cJSON_AddItemToArray(list, cJSON_CreateString(k->prompts[i]));
    list = cJSON_AddArrayToObject(o, "seeds");
    for (int i = 0; i < k->n_seeds; i++)
        cJSON_AddItemToArray(list, cJSON_CreateNumber((double)k->seeds[i]));
    own = cJSON_AddObjectToObject(o, "base");
    for (int i = 0; i < k->base.n; i++)
        cJSON_AddStringToObject(own, k->base.list[i].key, k->base.list[i].value);
    list = cJSON_AddArrayToObject(o, "settings");
    for (int i = 0; i < k->n; i++) {
        cJSON_AddItemToArray(list, e = cJSON_CreateObject());
        cJSON_AddStringToObject(e, "label", k->settings[i].label);
        own = cJSON_AddObjectToObject(e, "settings");
        for (int p = 0; p < k->settings[i].own.n; p++)
            cJSON_AddStringToObject(own, k->settings[i].own.list[p].key, k->settings[i].own.list[p].value);
    }
    return o;
}
