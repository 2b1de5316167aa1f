/* TeaCache (caching.md section 4): the relative change of the timestep embedding from step to step, through a polynomial of the model,
 * adds up to an estimate of how far the output has moved; below the threshold the whole block stack's residual is reused. */
#include "calibration.h"
#include "curve.h"
#include "drift.h"
#include "engine/core/device.h"
#include "registry.h"
#include "stack.h"

#include <math.h>
#include <stdio.h>

enum { MAX_STEPS = 1000, RET_STEPS = 5, KINDS = 2 };       /* kinds: temb, and tproj with use_ret_steps */

typedef struct branch_state {
    float *prev[KINDS];          /* embeddings of the last step, computed or not */
    void *out;                   /* calibration: states after the blocks of the last step */
    double moved[KINDS];         /* of this step; NaN for an expert's first */
    double sum;
    int computed;                /* a residual is there */
} branch_state;

typedef struct teacache {
    double threshold;
    int ret, compat;
    char coefficients[PRXI_OPT_STRING_MAX], calibrate[PRXI_OPT_STRING_MAX];
    float *now[KINDS];           /* copies of the embeddings when they lie on a device */
    prxi_cache_env env;
    prxi_curve curve;
    prxi_stack stack;
    branch_state b[PRXI_BRANCHES];
    int expert;
    double *scratch;             /* calibration: [2 * tokens] */
    double *x[KINDS], *y;        /* the points measured */
    int points;
} teacache;

#define AT(field) offsetof(teacache, field)

static const prxi_option options[] = {
    { "teacache_thresh", PRXI_OPT_DOUBLE, AT(threshold), 0, 1e6, NULL, "0.08", "reuse while the estimated change adds up to less" },
    { "use_ret_steps", PRXI_OPT_BOOL, AT(ret), 0, 1, NULL, "false",
      "measure the embedding's projection, compute the first 5 steps and not the last" },
    { "coefficients", PRXI_OPT_STRING, AT(coefficients), 0, 0, NULL, "", "five numbers, high to low, or a file of cache.calibrate" },
    { "calibrate", PRXI_OPT_STRING, AT(calibrate), 0, 0, NULL, "", "compute every step and write the coefficients measured to this file" },
    { "compat", PRXI_OPT_BOOL, AT(compat), 0, 1, NULL, "false", "as published: the polynomial is not clamped" },
    { NULL, PRXI_OPT_INT, 0, 0, 0, NULL, NULL, NULL },
};

/* ---- plan ---- */

/* Keys of the two kinds: coefficients and fit, ret_coefficients and ret_fit. */
static int take_numbers(void *priv, prxi_ctx *c, const prxi_json *j)
{
    teacache *t = priv;
    double fit[2] = { 0, 0 };
    int n = 0, err = prxi_calibration_list(c, j, t->ret ? "ret_coefficients" : "coefficients", PRXI_CURVE_TERMS, t->curve.k);
    if (err < 0 || (err = prxi_json_nums(c, j, t->ret ? "ret_fit" : "fit", fit, 2, &n)) < 0)
        return err;
    if (n && (n != 2 || !(fit[0] < fit[1])))
        return prxi_fail(c, PRX_EFORMAT, "%s: fit: two rising numbers expected", j->path);
    t->curve.lo = fit[0], t->curve.hi = fit[1];
    return PRX_OK;
}

/* "a,b,c,d,e": 1 when that is what it is. */
static int take_text(teacache *t)
{
    char one[64];
    const char *at = t->coefficients;
    for (int i = 0; i < PRXI_CURVE_TERMS; i++) {
        const size_t n = strcspn(at, ",");
        if (n >= sizeof one || at[n] != (i + 1 < PRXI_CURVE_TERMS ? ',' : '\0'))
            return 0;
        memcpy(one, at, n);
        one[n] = '\0';
        if (!prxi_parse_num(one, &t->curve.k[i]))
            return 0;
        at += n + 1;
    }
    return 1;
}

static int find_curve(teacache *t, prxi_ctx *c)
{
    if (!take_text(t)) {
        const int err = prxi_calibration_read(c, &t->env, "teacache", t->coefficients, take_numbers, t);
        if (err < 0)
            return err;
    }
    t->curve.open = t->compat;
    if (!t->compat && !(t->curve.lo < t->curve.hi) && !prxi_curve_range(&t->curve))
        return prxi_fail(c, PRX_EINVAL, "cache.coefficients: nowhere above 0.01 between 0 and 1: nothing would ever be computed again");
    return PRX_OK;
}

static int64_t width(const teacache *t, int kind)
{
    return (kind ? 6 : 1) * t->env.dim;
}

static size_t embedding_bytes(const teacache *t)
{
    return (size_t)(width(t, 0) + width(t, 1)) * sizeof(float);
}

static int open_buffers(teacache *t, prxi_ctx *c, size_t *bytes)
{
    const int points = t->env.steps * t->env.branches;
    const size_t out = prxi_mul((size_t)(t->env.tokens * t->env.dim), prxi_dtype_size(t->env.dtype));
    *bytes = prxi_stack_bytes(&t->env) + (size_t)t->env.branches * embedding_bytes(t);
    int err = prxi_stack_open(c, &t->stack, &t->env), bad = 0;
    for (int i = 0; i < t->env.branches && err == PRX_OK; i++)
        for (int k = 0; k < KINDS; k++)
            bad |= !(t->b[i].prev[k] = prxi_calloc(c->mem, PRXI_MEM_CACHE, (size_t)width(t, k), sizeof(float)));
    for (int k = 0; k < KINDS && t->env.device && err == PRX_OK; k++)
        bad |= !(t->now[k] = prxi_calloc(c->mem, PRXI_MEM_CACHE, (size_t)width(t, k), sizeof(float)));
    if (*t->calibrate && err == PRX_OK) {
        *bytes += (size_t)t->env.branches * out + (size_t)t->env.tokens * 2 * sizeof(double);
        for (int i = 0; i < t->env.branches; i++)
            bad |= !(t->b[i].out = prxi_device_alloc(c, t->env.device, PRXI_MEM_CACHE, out));
        bad |= !(t->scratch = prxi_device_alloc(c, t->env.device, PRXI_MEM_CACHE,
                                                PRXI_DRIFT_SCRATCH((size_t)t->env.tokens) * sizeof *t->scratch));
        bad |= !(t->x[0] = prxi_calloc(c->mem, PRXI_MEM_CACHE, (size_t)points, 3 * sizeof *t->x[0]));
        if (t->x[0])
            t->x[1] = t->x[0] + points, t->y = t->x[1] + points;
    }
    return err < 0 ? err : bad ? prxi_fail_nomem(c, "cache buffers", *bytes) : PRX_OK;
}

static int plan(void *priv, prxi_ctx *c, const prxi_cache_env *env, prxi_cache_plan *out)
{
    teacache *t = priv;
    t->env = *env;
    t->expert = -1;
    if (*t->calibrate && *t->coefficients)
        return prxi_fail(c, PRX_EINVAL, "cache.calibrate and cache.coefficients exclude each other");
    const int err = *t->calibrate ? PRX_OK : find_curve(t, c);
    if (err < 0)
        return err;
    out->computed_steps = *t->calibrate ? env->steps : -1;
    snprintf(out->note, sizeof out->note, *t->calibrate ? "calibration: every step is computed" : "a cached step runs no block");
    return open_buffers(t, c, &out->bytes);
}

static void close(void *priv, prxi_ctx *c)
{
    teacache *t = priv;
    for (int i = 0; i < PRXI_BRANCHES; i++) {
        for (int k = 0; k < KINDS; k++)
            prxi_free(c->mem, t->b[i].prev[k]);
        prxi_device_free(c, t->env.device, t->b[i].out);
    }
    for (int k = 0; k < KINDS; k++)
        prxi_free(c->mem, t->now[k]);
    prxi_device_free(c, t->env.device, t->scratch);
    prxi_free(c->mem, t->x[0]);
    prxi_stack_close(c, &t->stack);
}

/* ---- run ---- */

static int begin_step(void *priv, prxi_stream *s, const prxi_step *step, float *v, prxi_cache_report *reports)
{
    teacache *t = priv;
    (void)s, (void)v, (void)reports;
    for (int i = 0; i < t->env.branches && step->expert != t->expert; i++)
        t->b[i].computed = 0;
    t->expert = step->expert;
    return 0;
}

/* mean|prev - now| / mean|prev|; prev becomes now. */
static double embedding_moved(float *prev, const float *now, int64_t n)
{
    double moved = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        moved += fabs((double)prev[i] - now[i]);
        size += fabs((double)prev[i]);
        prev[i] = now[i];
    }
    return moved / size;
}

static int forced(const teacache *t, const branch_state *b, const prxi_step *step)
{
    return !b->computed || step->expert_index < (t->ret ? RET_STEPS : 1) || (!t->ret && step->index == step->steps - 1);
}

/* An embedding where it can be read. */
static const float *here(teacache *t, prxi_stream *s, const float *p, int kind)
{
    return prxi_stream_here(s, p, (size_t)width(t, kind) * sizeof(float), t->now[kind]);
}

static void decide(teacache *t, prxi_stream *s, branch_state *b, const prxi_cache_call *call)
{
    prxi_cache_report *r = call->report;
    const float *const now[KINDS] = { here(t, s, call->temb, 0), here(t, s, call->tproj, 1) };
    for (int k = 0; k < KINDS; k++) {
        b->moved[k] = embedding_moved(b->prev[k], now[k], width(t, k));
        if (!b->computed)
            b->moved[k] = NAN;           /* prev is of no step, or of another expert */
    }
    const int must = forced(t, b, call->step);
    b->computed = 1;
    if (*t->calibrate) {
        r->reason = "calibration";
        return;
    }
    b->sum = must ? 0 : b->sum + prxi_curve_at(&t->curve, b->moved[t->ret]);
    if (!must)
        r->diff = b->sum;
    r->cached = !must && b->sum < t->threshold;
    r->reason = must ? "forced" : r->cached ? "acc_lt" : "acc_ge";
    if (!r->cached)
        b->sum = 0;
}

/* One point: how far the embeddings have moved, and how far the states after the blocks. */
static void note_point(teacache *t, prxi_stream *s, branch_state *b, const void *x)
{
    const prxi_drift d = { t->env.dtype, t->env.tokens, t->env.dim, x, NULL, t->env.dtype, b->out, 1, 0, t->scratch };
    if (isfinite(b->moved[0])) {
        for (int k = 0; k < KINDS; k++)
            t->x[k][t->points] = b->moved[k];
        t->y[t->points++] = prxi_drift_measure(s, &d);
    }
    prxi_drift_store(s, &d);
}

static int at_block(void *priv, prxi_stream *s, const prxi_cache_call *call, int block, void *x)
{
    teacache *t = priv;
    branch_state *b = &t->b[call->branch];
    if (block == 0)
        decide(t, s, b, call);
    else if (block == t->env.blocks && *t->calibrate)
        note_point(t, s, b, x);
    return prxi_stack_pass(s, &t->stack, call, block, x);
}

static void add_curve(cJSON *o, const char *name, const char *fit, const prxi_curve *k)
{
    const double range[2] = { k->lo, k->hi };
    cJSON_AddItemToObject(o, name, cJSON_CreateDoubleArray(k->k, PRXI_CURVE_TERMS));
    cJSON_AddItemToObject(o, fit, cJSON_CreateDoubleArray(range, 2));
}

static void end_step(void *priv, prxi_stream *s, const prxi_step *step, const float *v)
{
    teacache *t = priv;
    prxi_curve temb, tproj;
    (void)v;
    if (!*t->calibrate || step->index != step->steps - 1)
        return;
    if (!prxi_curve_fit(&temb, t->x[0], t->y, t->points) || !prxi_curve_fit(&tproj, t->x[1], t->y, t->points)) {
        prxi_stream_fail(s, PRX_EINVAL, "cache.calibrate", "too few different steps for a polynomial of degree 4");
        return;
    }
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "steps", t->env.steps);
    add_curve(o, "coefficients", "fit", &temb);
    add_curve(o, "ret_coefficients", "ret_fit", &tproj);
    const int err = prxi_calibration_write(s->ctx, t->calibrate, "teacache", t->env.model, o);
    if (err < 0)
        prxi_stream_fail(s, err, "cache.calibrate", "not written");
}

static const prxi_cache_advice advice[] = {
    { "forced", "more steps: the first and the last are always computed" },
    { "acc_ge", "a larger cache.teacache_thresh" },
    { NULL, NULL },
};

const prxi_cache_policy prxi_cache_teacache = {
    .name = "teacache",
    .help = "reuse the blocks' residual while the timestep embedding has barely moved",
    .priv_size = sizeof(teacache),
    .options = options,
    .advice = advice,
    .plan = plan,
    .begin_step = begin_step,
    .end_step = end_step,
    .at_block = at_block,
    .close = close,
};
