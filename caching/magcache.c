/* MagCache (caching.md section 4): the residual's magnitude shrinks from step to step by ratios that belong to the model, not to the
 * prompt. A step is skipped while the product of the ratios strays little from one. Given the ratios everything is known before the
 * run: the decisions are made in plan. */
#include "calibration.h"
#include "elem.h"
#include "engine/core/device.h"
#include "registry.h"
#include "stack.h"

#include <math.h>
#include <stdio.h>

enum { MAX_STEPS = 1000 };

typedef struct verdict {
    const char *reason;
    double err;                  /* NaN: forced */
    int cached;
} verdict;

typedef struct magcache {
    double threshold, retention;
    int64_t k;
    char ratios_path[PRXI_OPT_STRING_MAX], calibrate[PRXI_OPT_STRING_MAX];
    prxi_cache_env env;
    prxi_stack stack;
    verdict *verdicts;                       /* [branches][steps] */
    double ratios[PRXI_BRANCHES][MAX_STEPS]; /* of the job's steps; measured when calibrating */
    double *norm[PRXI_BRANCHES], *scratch;   /* calibration: [tokens] of the last step, of this one */
    void *room;                              /* calibration: a copy of the residual when it lies on a device */
    int expert;
    char note[96];
} magcache;

#define AT(field) offsetof(magcache, field)

static const prxi_option options[] = {
    { "magcache_thresh", PRXI_OPT_DOUBLE, AT(threshold), 0, 1e6, NULL, "0.12", "reuse while the estimated error adds up to less" },
    { "magcache_K", PRXI_OPT_INT, AT(k), 0, MAX_STEPS, NULL, "2", "longest run of cached steps" },
    { "retention_ratio", PRXI_OPT_DOUBLE, AT(retention), 0, 1, NULL, "0.2", "share of the first steps (of each expert) that is computed" },
    { "mag_ratios", PRXI_OPT_STRING, AT(ratios_path), 0, 0, NULL, "", "file of cache.calibrate with the model's ratios" },
    { "calibrate", PRXI_OPT_STRING, AT(calibrate), 0, 0, NULL, "", "compute every step and write the ratios measured to this file" },
    { NULL, PRXI_OPT_INT, 0, 0, 0, NULL, NULL, NULL },
};

/* ---- plan ---- */

/* The ratio of the nearest step when the table is of another number of steps. */
static int take_branch(magcache *m, prxi_ctx *c, const prxi_json *j, const char *key, double *to)
{
    double table[MAX_STEPS];
    int n = 0;
    const int err = prxi_json_nums(c, j, key, table, MAX_STEPS, &n);
    if (err < 0 || n == 0)
        return err < 0 ? err : prxi_fail(c, PRX_EFORMAT, "%s: %s: ratios expected", j->path, key);
    for (int i = 0; i < n; i++)
        if (!(table[i] > 0))
            return prxi_fail(c, PRX_EFORMAT, "%s: %s: ratio %d is not positive", j->path, key, i);
    for (int i = 0; i < m->env.steps; i++) {
        const double at = m->env.steps > 1 ? (double)(i * (n - 1)) / (m->env.steps - 1) : 0;
        to[i] = table[(int)nearbyint(at)];
    }
    m->note[0] = '\0';
    if (n != m->env.steps)
        snprintf(m->note, sizeof m->note, "; ratios of %d steps", n);
    return PRX_OK;
}

static int take_numbers(void *priv, prxi_ctx *c, const prxi_json *j)
{
    magcache *m = priv;
    const int one = !cJSON_GetObjectItemCaseSensitive(j->root, "uncond");       /* measured without guidance */
    const int err = take_branch(m, c, j, "cond", m->ratios[0]);
    return err < 0 ? err : take_branch(m, c, j, one ? "cond" : "uncond", m->ratios[1]);
}

/* The published counter runs over transformer calls, both branches of a step in turn, for each expert anew. */
static void judge_branch(magcache *m, int branch)
{
    const int *expert = m->env.step_expert;
    int first = 0, count = m->env.steps, n = 0;
    double product = 1, err = 0;
    for (int i = 0; i < m->env.steps; i++) {
        verdict *v = &m->verdicts[branch * m->env.steps + i];
        if (i == 0 || (expert && expert[i] != expert[i - 1])) {
            for (first = i, count = 0; i + count < m->env.steps && (!expert || expert[i + count] == expert[i]);)
                count++;
            n = 0, product = 1, err = 0;
        }
        const int call = (i - first) * m->env.branches + branch;
        *v = (verdict) { "forced", NAN, 0 };
        if (i == first || call < (int)(count * m->env.branches * m->retention))
            continue;
        product *= m->ratios[branch][i];
        err += fabs(1 - product);
        v->err = err;
        v->cached = err < m->threshold && ++n <= m->k;
        v->reason = v->cached ? "err_lt" : err < m->threshold ? "max_skip" : "err_ge";
        if (!v->cached)
            n = 0, product = 1, err = 0;
    }
}

static int judge(magcache *m, int *computed)
{
    *computed = 0;
    for (int b = 0; b < m->env.branches; b++)
        judge_branch(m, b);
    for (int i = 0; i < m->env.steps; i++) {
        int any = 0;
        for (int b = 0; b < m->env.branches; b++)
            any |= !m->verdicts[b * m->env.steps + i].cached;
        *computed += any;
    }
    return PRX_OK;
}

static size_t states_bytes(const magcache *m)
{
    return prxi_mul((size_t)(m->env.tokens * m->env.dim), prxi_dtype_size(m->env.dtype));
}

static int open_buffers(magcache *m, prxi_ctx *c, size_t *bytes)
{
    const size_t norms = (size_t)m->env.tokens * sizeof *m->scratch;
    const size_t verdicts = (size_t)(m->env.steps * m->env.branches) * sizeof *m->verdicts;
    int bad = !(m->verdicts = prxi_calloc(c->mem, PRXI_MEM_CACHE, 1, verdicts));
    *bytes = prxi_stack_bytes(&m->env) + verdicts;
    if (*m->calibrate) {
        *bytes += (size_t)(m->env.branches + 1) * norms;
        for (int i = 0; i < m->env.branches; i++)
            bad |= !(m->norm[i] = prxi_calloc(c->mem, PRXI_MEM_CACHE, 1, norms));
        bad |= !(m->scratch = prxi_calloc(c->mem, PRXI_MEM_CACHE, 1, norms));
        bad |= m->env.device && !(m->room = prxi_alloc(c->mem, PRXI_MEM_CACHE, states_bytes(m)));
    }
    return bad ? prxi_fail_nomem(c, "cache buffers", *bytes) : prxi_stack_open(c, &m->stack, &m->env);
}

static int plan(void *priv, prxi_ctx *c, const prxi_cache_env *env, prxi_cache_plan *out)
{
    magcache *m = priv;
    m->env = *env;
    m->expert = -1;
    if (env->steps > MAX_STEPS)
        return prxi_fail(c, PRX_EINVAL, "steps: %d; at most %d with this cache", env->steps, MAX_STEPS);
    if (*m->calibrate && *m->ratios_path)
        return prxi_fail(c, PRX_EINVAL, "cache.calibrate and cache.mag_ratios exclude each other");
    int err = *m->calibrate ? PRX_OK : prxi_calibration_read(c, env, "magcache", m->ratios_path, take_numbers, m);
    if (err < 0 || (err = open_buffers(m, c, &out->bytes)) < 0)
        return err;
    out->computed_steps = env->steps;
    if (*m->calibrate)
        snprintf(out->note, sizeof out->note, "calibration: every step is computed");
    else if ((err = judge(m, &out->computed_steps)) == PRX_OK)
        snprintf(out->note, sizeof out->note, "%d of %d steps are computed%s", out->computed_steps, env->steps, m->note);
    return err;
}

static void close(void *priv, prxi_ctx *c)
{
    magcache *m = priv;
    for (int i = 0; i < PRXI_BRANCHES; i++)
        prxi_free(c->mem, m->norm[i]);
    prxi_free(c->mem, m->scratch);
    prxi_free(c->mem, m->room);
    prxi_free(c->mem, m->verdicts);
    prxi_stack_close(c, &m->stack);
}

/* ---- run ---- */

typedef struct norms {
    const magcache *m;
    const void *residual;
} norms;

static void row_norm(void *cookie, int64_t row, int thread)
{
    (void)thread;
    const norms *z = cookie;
    const int64_t dim = z->m->env.dim;
    double sum = 0, r[PRXI_ELEM_RUN];
    for (int64_t at = 0; at < dim; at += PRXI_ELEM_RUN) {
        const int n = dim - at < PRXI_ELEM_RUN ? (int)(dim - at) : PRXI_ELEM_RUN;
        prxi_elem_load(z->m->env.dtype, z->residual, (size_t)(row * dim + at), n, r);
        for (int i = 0; i < n; i++)
            sum += r[i] * r[i];
    }
    z->m->scratch[row] = sqrt(sum);
}

/* Mean over tokens of the residual's norm over that of the step before; 1 where there is none. */
static void measure(magcache *m, prxi_stream *s, const prxi_cache_call *call)
{
    double *last = m->norm[call->branch], sum = 0;
    int64_t count = 0;
    norms z = { m, prxi_stream_here(s, m->stack.residual[call->branch], states_bytes(m), m->room) };
    if (prxi_stream_error(s))
        return;
    prxi_parallel_for(s, m->env.tokens, row_norm, &z);
    for (int64_t i = 0; i < m->env.tokens; i++) {
        if (last[i] > 0)
            sum += m->scratch[i] / last[i], count++;
        last[i] = m->scratch[i];
    }
    m->ratios[call->branch][call->step->index] = count ? sum / (double)count : 1;
}

static int begin_step(void *priv, prxi_stream *s, const prxi_step *step, float *v, prxi_cache_report *reports)
{
    magcache *m = priv;
    (void)s, (void)v;
    for (int b = 0; b < m->env.branches; b++) {
        const verdict *d = &m->verdicts[b * m->env.steps + step->index];
        reports[b].cached = d->cached;
        reports[b].reason = *m->calibrate ? "calibration" : d->reason;
        reports[b].diff = *m->calibrate ? NAN : d->err;
        if (*m->calibrate && step->expert != m->expert)
            memset(m->norm[b], 0, (size_t)m->env.tokens * sizeof *m->norm[b]);
    }
    m->expert = step->expert;
    return 0;
}

static int at_block(void *priv, prxi_stream *s, const prxi_cache_call *call, int block, void *x)
{
    magcache *m = priv;
    const int next = prxi_stack_pass(s, &m->stack, call, block, x);
    if (*m->calibrate && block == m->env.blocks)
        measure(m, s, call);
    return next;
}

static void end_step(void *priv, prxi_stream *s, const prxi_step *step, const float *v)
{
    magcache *m = priv;
    static const char *const names[PRXI_BRANCHES] = { "cond", "uncond" };
    (void)v;
    if (!*m->calibrate || step->index != step->steps - 1)
        return;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "steps", m->env.steps);
    for (int b = 0; b < m->env.branches; b++)
        cJSON_AddItemToObject(o, names[b], cJSON_CreateDoubleArray(m->ratios[b], m->env.steps));
    const int err = prxi_calibration_write(s->ctx, m->calibrate, "magcache", m->env.model, o);
    if (err < 0)
        prxi_stream_fail(s, err, "cache.calibrate", "not written");
}

static const prxi_cache_advice advice[] = {
    { "forced", "a smaller cache.retention_ratio, or more steps" },
    { "max_skip", "a larger cache.magcache_K" },
    { "err_ge", "a larger cache.magcache_thresh" },
    { NULL, NULL },
};

const prxi_cache_policy prxi_cache_magcache = {
    .name = "magcache",
    .help = "reuse the blocks' residual on steps that the model's magnitude ratios allow, known beforehand",
    .priv_size = sizeof(magcache),
    .options = options,
    .advice = advice,
    .plan = plan,
    .begin_step = begin_step,
    .end_step = end_step,
    .at_block = at_block,
    .close = close,
};
