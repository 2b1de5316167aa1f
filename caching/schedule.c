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
    int64_t boundary = 0;
    int err;
    if ((err = read_sigmas(c, s, j)) < 0 || (err = prxi_json_int(c, j, "boundary_step", 1, s->steps - 1, &boundary)) < 0 ||
        (err = prxi_json_str(c, j, "model", &model)) < 0)
        return err;
    s->boundary = (int)boundary;
    if (reuse && (!cJSON_IsString(reuse) || (strcmp(reuse->valuestring, "residual") && strcmp(reuse->valuestring, "velocity"))))
        return prxi_fail(c, PRX_EFORMAT, "%s: settings.reuse: \"residual\" or \"velocity\" expected", j->path);
    snprintf(s->reuse, sizeof s->reuse, "%s", reuse ? reuse->valuestring : "");
    snprintf(s->model, sizeof s->model, "%s", model ? model : "");
    return PRX_OK;
}

/* The index in `computed` where the second expert begins. */
static int first_of_second(const prxi_schedule *s)
{
    int k = 0;
    while (k < s->n && s->computed[k] < s->boundary)
        k++;
    return k;
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
        (err = prxi_json_num(c, j, "worst_edge", &s->worst_edge)) < 0 || (err = prxi_schedule_read_origin(c, s, j)) < 0)
        return err;
    const int k = first_of_second(s);
    if (s->boundary && (k == s->n || s->computed[k] != s->boundary))
        return prxi_fail(c, PRX_EFORMAT, "%s: boundary_step: %d: not computed, but the second expert begins there with nothing to reuse",
                         j->path, s->boundary);
    return PRX_OK;
}

static uint8_t kind(const prxi_schedule *s, int k)
{
    return s->has_attention && !s->sparse[k] ? PRXI_STEP_DENSE : PRXI_STEP_COMPUTED;
}

/* The free step from `begin` to `end` that is nearest in sigma. */
static int nearest(const float *sigmas, int begin, int end, const uint8_t *computed, double sigma)
{
    int best = -1;
    for (int i = begin; i < end; i++)
        if (!computed[i] && (best < 0 || fabs(sigmas[i] - sigma) < fabs(sigmas[best] - sigma)))
            best = i;
    return best;
}

/* Entries from k to n of the schedule, to steps from `begin` to `end` of the job, which are enough. The first goes to the first. */
static void map_part(const prxi_schedule *s, int k, int n, const float *sigmas, int begin, int end, uint8_t *computed)
{
    const int has_last = n - k > 1 && s->computed[n - 1] == s->steps - 1;
    computed[begin] = kind(s, k++);
    if (has_last)
        computed[end - 1] = kind(s, --n);
    for (; k < n; k++)
        computed[nearest(sigmas, begin, end, computed, s->sigmas[s->computed[k]])] = kind(s, k);
}

static int fail_expert(prxi_ctx *c, const char *noise, int computed, int steps)
{
    return prxi_fail(c, PRX_EINVAL, "schedule: computes %d steps of the %s-noise expert; the job has %s%d of them", computed, noise,
                     steps ? "only " : "", steps);
}

static int map_experts(prxi_ctx *c, const prxi_schedule *s, const prxi_job_steps *job, uint8_t *computed)
{
    const int high = first_of_second(s), low = s->n - high, jobs_low = job->steps - job->boundary;
    if (high > job->boundary)
        return fail_expert(c, "high", high, job->boundary);
    if (low > jobs_low)
        return fail_expert(c, "low", low, jobs_low);
    map_part(s, 0, high, job->sigmas, 0, job->boundary, computed);
    map_part(s, high, s->n, job->sigmas, job->boundary, job->steps, computed);
    return PRX_OK;
}

int prxi_schedule_map(prxi_ctx *c, const prxi_schedule *s, const prxi_job_steps *job, uint8_t *computed)
{
    memset(computed, 0, (size_t)job->steps);
    if (!s->has_sigmas && s->steps != job->steps)
        return prxi_fail(c, PRX_EINVAL, "schedule: for %d steps and without sigmas; the job has %d steps", s->steps, job->steps);
    if (!s->has_sigmas && s->boundary && s->boundary != job->boundary)
        return prxi_fail(c, PRX_EINVAL, "schedule: without sigmas, and its second expert begins at step %d; the job's at %d", s->boundary,
                         job->boundary);
    if (s->has_sigmas && s->n > job->steps)
        return prxi_fail(c, PRX_EINVAL, "schedule: computes %d steps; the job has only %d: a smaller budget or more steps", s->n,
                         job->steps);
    if (s->has_sigmas && s->boundary)
        return map_experts(c, s, job, computed);
    if (s->has_sigmas)
        map_part(s, 0, s->n, job->sigmas, 0, job->steps, computed);
    for (int k = 0; k < s->n && !s->has_sigmas; k++)
        computed[s->computed[k]] = kind(s, k);
    return PRX_OK;
}
