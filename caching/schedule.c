/* Schedule files and their mapping by sigma. */
#include "schedule.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int read_computed(prxi_ctx *c, prxi_schedule *s, const prxi_json *j)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(j->root, "computed"), *e;
    if (!cJSON_IsArray(list))
        return prxi_fail(c, PRX_EFORMAT, "%s: computed: a list of step indices expected: not a schedule file", j->path);
    s->n = 0;
    cJSON_ArrayForEach(e, list)
    {
        const double v = cJSON_IsNumber(e) ? e->valuedouble : -1;
        if (!(v >= 0 && v < s->steps) || v != floor(v) || (s->n && v <= s->computed[s->n - 1]))
            return prxi_fail(c, PRX_EFORMAT, "%s: computed: entry %d: ascending step indices below %d expected", j->path, s->n, s->steps);
        s->computed[s->n++] = (int)v;
    }
    if (s->n < 2 || s->computed[0] != 0)
        return prxi_fail(c, PRX_EFORMAT, "%s: computed: at least two steps, the first of them 0, expected", j->path);
    return PRX_OK;
}

/* "attention": ["dense" | "sparse" for each computed step]. */
static int read_attention(prxi_ctx *c, prxi_schedule *s, const prxi_json *j)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(j->root, "attention"), *e;
    int k = 0;
    s->has_attention = list && !cJSON_IsNull(list);
    if (!s->has_attention)
        return PRX_OK;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != s->n)
        return prxi_fail(c, PRX_EFORMAT, "%s: attention: \"dense\" or \"sparse\" for each of %d computed steps expected", j->path,
                         s->n);
    cJSON_ArrayForEach(e, list)
    {
        const char *text = cJSON_GetStringValue(e);
        if (!text || (strcmp(text, "dense") != 0 && strcmp(text, "sparse") != 0))
            return prxi_fail(c, PRX_EFORMAT, "%s: attention: entry %d: \"dense\" or \"sparse\" expected", j->path, k);
        s->sparse[k++] = text[0] == 's';
    }
    return PRX_OK;
}

static int read_sigmas(prxi_ctx *c, prxi_schedule *s, const prxi_json *j)
{
    int n = 0;
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(j->root, "sigmas");
    s->has_sigmas = list && !cJSON_IsNull(list);
    if (!s->has_sigmas)
        return PRX_OK;
    const int err = prxi_json_nums(c, j, "sigmas", s->sigmas, PRXI_SCHEDULE_MAX, &n);
    if (err < 0)
        return err;
    if (n != s->steps)
        return prxi_fail(c, PRX_EFORMAT, "%s: sigmas: %d values; one per step, %d, expected", j->path, n, s->steps);
    for (int i = 0; i < n; i++)
        if (!(s->sigmas[i] > 0 && s->sigmas[i] <= 1) || (i && !(s->sigmas[i] < s->sigmas[i - 1])))
            return prxi_fail(c, PRX_EFORMAT, "%s: sigmas: value %d: falling numbers in (0, 1] expected", j->path, i);
    return PRX_OK;
}

int prxi_schedule_read_origin(prxi_ctx *c, prxi_schedule *s, const prxi_json *j)
{
    const char *model = NULL;
    const cJSON *settings = cJSON_GetObjectItemCaseSensitive(j->root, "settings");
    const cJSON *reuse = cJSON_GetObjectItemCaseSensitive(settings, "reuse");
    int err;
    if ((err = read_sigmas(c, s, j)) < 0 || (err = prxi_json_str(c, j, "model", &model)) < 0)
        return err;
    if (reuse && (!cJSON_IsString(reuse) || (strcmp(reuse->valuestring, "residual") && strcmp(reuse->valuestring, "velocity"))))
        return prxi_fail(c, PRX_EFORMAT, "%s: settings.reuse: \"residual\" or \"velocity\" expected", j->path);
    snprintf(s->reuse, sizeof s->reuse, "%s", reuse ? reuse->valuestring : "");
    snprintf(s->model, sizeof s->model, "%s", model ? model : "");
    return PRX_OK;
}

int prxi_schedule_read(prxi_ctx *c, prxi_schedule *s, const prxi_json *j)
{
    int64_t steps = 0;
    int err;
    s->worst_edge = NAN;
    if ((err = prxi_json_int(c, j, "steps", 2, PRXI_SCHEDULE_MAX, &steps)) < 0)
        return err;
    if (!steps)
        return prxi_fail(c, PRX_EFORMAT, "%s: steps: missing: not a schedule file", j->path);
    s->steps = (int)steps;
    if ((err = read_computed(c, s, j)) < 0 || (err = read_attention(c, s, j)) < 0 ||
        (err = prxi_json_num(c, j, "worst_edge", &s->worst_edge)) < 0)
        return err;
    return prxi_schedule_read_origin(c, s, j);
}

/* The free step of the job that is nearest in sigma. */
static int nearest(const float *sigmas, int steps, const uint8_t *computed, double sigma)
{
    int best = -1;
    for (int i = 0; i < steps; i++)
        if (!computed[i] && (best < 0 || fabs(sigmas[i] - sigma) < fabs(sigmas[best] - sigma)))
            best = i;
    return best;
}

static uint8_t kind(const prxi_schedule *s, int k)
{
    return s->has_attention && !s->sparse[k] ? PRXI_STEP_DENSE : PRXI_STEP_COMPUTED;
}

int prxi_schedule_map(prxi_ctx *c, const prxi_schedule *s, const float *sigmas, int steps, uint8_t *computed)
{
    const int has_last = s->computed[s->n - 1] == s->steps - 1, last = s->n - has_last;
    memset(computed, 0, (size_t)steps);
    if (!s->has_sigmas && s->steps != steps)
        return prxi_fail(c, PRX_EINVAL, "schedule: for %d steps and without sigmas; the job has %d steps", s->steps, steps);
    if (s->has_sigmas && s->n > steps)
        return prxi_fail(c, PRX_EINVAL, "schedule: computes %d steps; the job has only %d", s->n, steps);
    for (int k = 0; k < s->n && !s->has_sigmas; k++)
        computed[s->computed[k]] = kind(s, k);
    if (!s->has_sigmas)
        return PRX_OK;
    computed[0] = kind(s, 0);
    if (has_last)
        computed[steps - 1] = kind(s, last);
    for (int k = 1; k < last; k++)
        computed[nearest(sigmas, steps, computed, s->sigmas[s->computed[k]])] = kind(s, k);
    return PRX_OK;
}
