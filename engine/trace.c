/* The recorder of probes. */
#include "trace.h"

#include <math.h>
#include <stdio.h>

#include "job.h"

enum { SAMPLES = 4096 };

struct prxi_trace {
    const prxi_cache_policy *inner;
    void *inner_priv;
    prxi_dtype elem;
    int branches, steps, fn, state;          /* state: the gate compares states, not residuals */
    int64_t values, stride, of;
    void *room;                              /* a copy of the states when they are on a device */
    size_t room_bytes;                       /* of the states */
    float *base;                             /* [branches][values]: before block 0 */
    float *probes;                           /* [branches][steps][values] */
    double *diffs;                           /* [branches][steps]; NaN: not measured */
    int *against;                            /* [branches][steps]: the step whose probe it was measured against */
    int last[PRXI_BRANCHES];                 /* the last computed step */
};

const char *const prxi_trace_metric[] = { "downsample_factor", "important_condition_threshold", "cfg_diff_compute_separate", NULL };

/* ---- open ---- */

static int option_text(const prx_job *j, const char *name, char *buf, size_t n)
{
    return j->cache->options ? prxi_option_get(j->cache->options, j->cache_priv, name, buf, n) : PRX_EINVAL;
}

static double option_number(const prx_job *j, const char *name, double def)
{
    char text[64];
    double v = def;
    return option_text(j, name, text, sizeof text) == PRX_OK && prxi_parse_num(text, &v) ? v : def;
}

static int64_t common(int64_t a, int64_t b)
{
    while (b) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* The largest stride that leaves room for all samples and shares no factor with the channels, so that every channel is met. */
static int64_t stride_for(int64_t n, int64_t dim)
{
    int64_t stride = n / SAMPLES;
    while (stride > 1 && common(stride, dim) != 1)
        stride--;
    return stride > 1 ? stride : 1;
}

static int check(prx_job *j)
{
    if ((j->cache->at_block || j->cache->begin_step) && strcmp(j->cache->name, "dbcache") != 0)
        return prxi_fail(&j->ctx, PRX_EINVAL,
                         "record_trace: not with cache %s: none or dbcache expected, which run the probe in every step", j->cache->name);
    if (j->text[PRXI_TEXT_RESUME])
        return prxi_fail(&j->ctx, PRX_EINVAL, "record_trace: not with resume: the first steps are not run");
    return PRX_OK;
}

int prxi_trace_open(prx_job *j)
{
    const prxi_dit_config *d = &j->model->dit_cfg[0];
    const int64_t dim = (int64_t)d->heads * d->head_dim;
    const int64_t tokens = (int64_t)(j->clip.frames / d->patch[0]) * (j->clip.height / d->patch[1]) * (j->clip.width / d->patch[2]);
    int err = check(j);
    if (err < 0)
        return err;
    prxi_trace *t = j->trace = prxi_calloc(j->ctx.mem, PRXI_MEM_CACHE, 1, sizeof *t);
    if (!t)
        return prxi_fail_nomem(&j->ctx, "record_trace", sizeof *t);
    *t = (prxi_trace) { .inner = j->cache, .inner_priv = j->cache_priv, .elem = j->engine->dtype, .branches = j->branches,
                        .steps = (int)j->set.steps, .fn = (int)option_number(j, "Fn_compute_blocks", 1),
                        .state = option_number(j, "l1_hidden_states_diff_threshold", 0) > 0, .of = tokens * dim };
    t->stride = stride_for(t->of, dim);
    t->values = t->of < SAMPLES ? t->of : SAMPLES;
    const size_t rows = (size_t)t->branches * (size_t)t->steps;
    t->base = prxi_calloc(j->ctx.mem, PRXI_MEM_CACHE, (size_t)(t->branches * t->values), sizeof *t->base);
    t->probes = prxi_calloc(j->ctx.mem, PRXI_MEM_CACHE, prxi_mul(rows, (size_t)t->values), sizeof *t->probes);
    t->diffs = prxi_calloc(j->ctx.mem, PRXI_MEM_CACHE, rows, sizeof *t->diffs);
    t->against = prxi_calloc(j->ctx.mem, PRXI_MEM_CACHE, rows, sizeof *t->against);
    t->room_bytes = prxi_mul((size_t)t->of, prxi_dtype_size(t->elem));
    t->room = j->stream.device ? prxi_alloc(j->ctx.mem, PRXI_MEM_CACHE, t->room_bytes) : NULL;
    if (!t->base || !t->probes || !t->diffs || !t->against || (j->stream.device && !t->room))
        return prxi_fail_nomem(&j->ctx, "record_trace", prxi_trace_bytes(t));
    for (size_t i = 0; i < rows; i++)
        t->diffs[i] = NAN;
    return PRX_OK;
}

size_t prxi_trace_bytes(const prxi_trace *t)
{
    const size_t rows = (size_t)t->branches * (size_t)t->steps;
    return (size_t)(t->branches * t->values) * sizeof *t->base + rows * (size_t)t->values * sizeof *t->probes +
           rows * (sizeof *t->diffs + sizeof *t->against);
}

void prxi_trace_close(prx_job *j)
{
    prxi_trace *t = j->trace;
    j->trace = NULL;
    if (!t)
        return;
    prxi_free(j->ctx.mem, t->room);
    prxi_free(j->ctx.mem, t->base);
    prxi_free(j->ctx.mem, t->probes);
    prxi_free(j->ctx.mem, t->diffs);
    prxi_free(j->ctx.mem, t->against);
    prxi_free(j->ctx.mem, t);
}

/* ---- run ---- */

static int at_block(void *priv, prxi_stream *s, const prxi_cache_call *call, int block, void *x)
{
    prxi_trace *t = priv;
    const int b = call->branch, step = call->step->index;
    const size_t row = (size_t)b * (size_t)t->steps + (size_t)step;
    float *base = t->base + b * t->values, *probe = t->probes + row * (size_t)t->values;
    const int first = block == 0, fn = block == t->fn;
    const void *here = first || fn ? prxi_stream_here(s, x, t->room_bytes, t->room) : NULL;
    for (int64_t i = 0; first && i < t->values; i++)
        base[i] = t->state ? 0 : prxi_load(here, t->elem, (size_t)(i * t->stride));
    for (int64_t i = 0; fn && i < t->values; i++)
        probe[i] = prxi_load(here, t->elem, (size_t)(i * t->stride)) - base[i];
    const int next = t->inner->at_block ? t->inner->at_block(t->inner_priv, s, call, block, x) : block;
    if (fn) {
        t->diffs[row] = call->report->diff;
        t->against[row] = t->last[b];
        if (!call->report->cached)
            t->last[b] = step;
    }
    return next;
}

const prxi_cache_policy prxi_trace_policy = { .name = "trace", .at_block = at_block };

/* ---- write ---- */

/* Seven digits: what a float holds, and a shorter file. */
static double seven_digits(double v)
{
    if (v == 0 || !isfinite(v))
        return 0;
    const double scale = pow(10, 6 - floor(log10(fabs(v))));
    return isfinite(scale) ? round(v * scale) / scale : v;
}

static cJSON *measured_json(const prxi_trace *t, int branch)
{
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < t->steps; i++) {
        const size_t row = (size_t)branch * (size_t)t->steps + (size_t)i;
        const double pair[2] = { t->against[row], t->diffs[row] };
        cJSON_AddItemToArray(list, isfinite(pair[1]) ? cJSON_CreateDoubleArray(pair, 2) : cJSON_CreateNull());
    }
    return list;
}

static cJSON *probes_json(const prxi_trace *t, int branch)
{
    cJSON *steps = cJSON_CreateArray();
    for (int i = 0; i < t->steps; i++) {
        const float *probe = t->probes + ((size_t)branch * (size_t)t->steps + (size_t)i) * (size_t)t->values;
        cJSON *values = cJSON_CreateArray();
        for (int64_t k = 0; k < t->values; k++)
            cJSON_AddItemToArray(values, cJSON_CreateNumber(seven_digits(probe[k])));
        cJSON_AddItemToArray(steps, values);
    }
    return steps;
}

static cJSON *trace_json(const prx_job *j)
{
    static const char *const names[PRXI_BRANCHES] = { "cond", "uncond" };
    const prxi_trace *t = j->trace;
    char text[64];
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "steps", t->steps);
    cJSON_AddItemToObject(o, "branches", cJSON_CreateStringArray(names, t->branches));
    cJSON_AddStringToObject(o, "model", j->model->name);
    cJSON_AddNumberToObject(o, "blocks", j->model->dit_cfg[0].layers);
    cJSON_AddNumberToObject(o, "Fn_compute_blocks", t->fn);
    cJSON_AddNumberToObject(o, "sampled_of", (double)t->of);
    cJSON_AddItemToObject(o, "experts", cJSON_CreateIntArray(j->step_expert, t->steps));
    cJSON *metric = cJSON_AddObjectToObject(o, "metric");
    cJSON_AddBoolToObject(metric, "states", t->state);
    for (int i = 0; prxi_trace_metric[i]; i++)
        if (option_text(j, prxi_trace_metric[i], text, sizeof text) == PRX_OK)
            cJSON_AddStringToObject(metric, prxi_trace_metric[i], text);
    cJSON *measured = cJSON_AddArrayToObject(o, "measured"), *probes = cJSON_AddArrayToObject(o, "probes");
    for (int b = 0; b < t->branches; b++) {
        cJSON_AddItemToArray(measured, measured_json(t, b));
        cJSON_AddItemToArray(probes, probes_json(t, b));
    }
    return o;
}

int prxi_trace_write(prx_job *j, const char *path)
{
    cJSON *o = trace_json(j);
    char *text = o ? cJSON_PrintUnformatted(o) : NULL;
    const int err = text ? prxi_write_file(&j->ctx, path, text, strlen(text)) : prxi_fail_nomem(&j->ctx, path, 0);
    cJSON_free(text);
    cJSON_Delete(o);
    return err;
}
