/* The replay of cache decisions on a recorded trace: the policy's own code on samples of its probes. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine.h"
#include "engine/core/option.h"
#include "trace.h"

enum { MAX_BRANCHES = PRXI_BRANCHES };

typedef struct trace {
    prxi_json json;
    int steps, branches, values;
    int64_t fn, blocks;                    /* of the recorded model; 0: the trace does not say */
    int use_measured;                      /* the settings measure what the recorded run measured */
    double *probes;                        /* [branches][steps][values] */
    double *diffs;                         /* [branches][steps]: of the recorded run, NaN where it measured none */
    int *against, *expert;                 /* [branches][steps]: against the probe of this step; [steps] */
} trace;

/* ---- reading ---- */

static int read_step(prxi_ctx *c, trace *t, const cJSON *values, int branch, int step)
{
    const int n = cJSON_IsArray(values) ? cJSON_GetArraySize(values) : 0;
    const char *path = t->json.path;
    if (n < 1 || n > 1 << 20 || (t->values && n != t->values))
        return prxi_fail(c, PRX_EFORMAT, "%s: probes: branch %d step %d: a list of %s values expected", path, branch, step,
                         t->values ? "as many" : "1 to a million");
    if (!t->values) {
        t->values = n;
        t->probes = prxi_calloc(c->mem, PRXI_MEM_MISC, prxi_mul((size_t)t->branches * (size_t)t->steps, (size_t)n), sizeof *t->probes);
        if (!t->probes)
            return prxi_fail_nomem(c, path, (size_t)n);
    }
    double *to = t->probes + ((size_t)branch * (size_t)t->steps + (size_t)step) * (size_t)n;
    const cJSON *v;
    int i = 0;
    cJSON_ArrayForEach(v, values)
    {
        if (!cJSON_IsNumber(v) || !isfinite(v->valuedouble))
            return prxi_fail(c, PRX_EFORMAT, "%s: probes: branch %d step %d value %d: a finite number expected", path, branch, step, i);
        to[i++] = v->valuedouble;
    }
    return PRX_OK;
}

/* "measured": for each branch and step null, or [step of the other probe, diff]. */
static int read_measured(prxi_ctx *c, trace *t)
{
    const cJSON *branch, *pair, *list = cJSON_GetObjectItemCaseSensitive(t->json.root, "measured");
    int b = 0;
    if (list && (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != t->branches))
        return prxi_fail(c, PRX_EFORMAT, "%s: measured: one list per branch expected", t->json.path);
    cJSON_ArrayForEach(branch, list)
    {
        int i = 0;
        if (!cJSON_IsArray(branch) || cJSON_GetArraySize(branch) != t->steps)
            return prxi_fail(c, PRX_EFORMAT, "%s: measured: branch %d: one entry per step, %d, expected", t->json.path, b, t->steps);
        cJSON_ArrayForEach(pair, branch)
        {
            const cJSON *step = cJSON_GetArrayItem(pair, 0), *diff = cJSON_GetArrayItem(pair, 1);
            if (!cJSON_IsNull(pair) && (!cJSON_IsNumber(step) || !cJSON_IsNumber(diff) || !isfinite(diff->valuedouble) ||
                                        cJSON_GetArraySize(pair) != 2))
                return prxi_fail(c, PRX_EFORMAT, "%s: measured: branch %d step %d: null, or a step and a diff expected", t->json.path, b,
                                 i);
            t->diffs[b * t->steps + i] = cJSON_IsNull(pair) ? NAN : diff->valuedouble;
            t->against[b * t->steps + i++] = cJSON_IsNull(pair) ? -1 : step->valueint;
        }
        b++;
    }
    return PRX_OK;
}

/* What the recorder adds to steps, branches and probes; all of it may be absent. */
static int read_origin(prxi_ctx *c, trace *t)
{
    const size_t rows = (size_t)t->steps * (size_t)t->branches;
    const cJSON *experts = cJSON_GetObjectItemCaseSensitive(t->json.root, "experts"), *e;
    int err, i = 0;
    t->diffs = prxi_calloc(c->mem, PRXI_MEM_MISC, rows, sizeof *t->diffs);
    t->against = prxi_calloc(c->mem, PRXI_MEM_MISC, rows, sizeof *t->against);
    t->expert = prxi_calloc(c->mem, PRXI_MEM_MISC, (size_t)t->steps, sizeof *t->expert);
    if (!t->diffs || !t->against || !t->expert)
        return prxi_fail_nomem(c, t->json.path, rows);
    for (size_t k = 0; k < rows; k++)
        t->diffs[k] = NAN;
    if ((err = prxi_json_int(c, &t->json, "Fn_compute_blocks", 1, 1024, &t->fn)) < 0 ||
        (err = prxi_json_int(c, &t->json, "blocks", 1, 4096, &t->blocks)) < 0)
        return err;
    if (experts && (!cJSON_IsArray(experts) || cJSON_GetArraySize(experts) != t->steps))
        return prxi_fail(c, PRX_EFORMAT, "%s: experts: one number per step, %d, expected", t->json.path, t->steps);
    cJSON_ArrayForEach(e, experts)
    {
        if (!cJSON_IsNumber(e) || (e->valuedouble != 0 && e->valuedouble != 1))
            return prxi_fail(c, PRX_EFORMAT, "%s: experts: step %d: 0 or 1 expected", t->json.path, i);
        t->expert[i++] = e->valueint;
    }
    return read_measured(c, t);
}

static int read_trace(prxi_ctx *c, trace *t)
{
    int64_t steps = 0;
    const cJSON *names = cJSON_GetObjectItemCaseSensitive(t->json.root, "branches");
    const cJSON *probes = cJSON_GetObjectItemCaseSensitive(t->json.root, "probes"), *branch, *values;
    int err = prxi_json_int(c, &t->json, "steps", 1, 1000, &steps), b = 0;
    if (err < 0)
        return err;
    t->steps = (int)steps;
    t->branches = cJSON_IsArray(probes) ? cJSON_GetArraySize(probes) : 0;
    if (!steps || t->branches < 1 || t->branches > MAX_BRANCHES ||
        (names && (!cJSON_IsArray(names) || cJSON_GetArraySize(names) != t->branches)))
        return prxi_fail(c, PRX_EFORMAT, "%s: steps, branches and probes of one or two branches expected: not a trace", t->json.path);
    cJSON_ArrayForEach(branch, probes)
    {
        int step = 0;
        if (!cJSON_IsArray(branch) || cJSON_GetArraySize(branch) != t->steps)
            return prxi_fail(c, PRX_EFORMAT, "%s: probes: branch %d: one list per step, %d, expected", t->json.path, b, t->steps);
        cJSON_ArrayForEach(values, branch)
            if ((err = read_step(c, t, values, b, step++)) < 0)
                return err;
        b++;
    }
    return read_origin(c, t);
}

static void close_trace(prxi_ctx *c, trace *t)
{
    prxi_free(c->mem, t->probes);
    prxi_free(c->mem, t->diffs);
    prxi_free(c->mem, t->against);
    prxi_free(c->mem, t->expert);
    prxi_json_close(c, &t->json);
}

/* ---- replaying ---- */

static double known_diff(const void *cookie, int branch, int step, int against)
{
    const trace *t = cookie;
    const int row = branch * t->steps + step;
    return t->against[row] == against ? t->diffs[row] : NAN;
}

/* Fn blocks of the policy, as its options say; the replayed model has one block between probe and corrector. */
static int option_number(const prxi_cache_policy *p, const void *priv, const char *name)
{
    char text[64];
    int v = 0;
    return prxi_option_get(p->options, priv, name, text, sizeof text) == PRX_OK && sscanf(text, "%d", &v) == 1 ? v : 0;
}

/* A trace of other blocks is no trace of this probe. The recorded diffs are of the whole tensor: taken where they are of what these
 * settings measure. */
static int match_settings(prxi_ctx *c, trace *t, const prxi_cache_policy *p, const void *priv)
{
    const cJSON *metric = cJSON_GetObjectItemCaseSensitive(t->json.root, "metric");
    const int fn = option_number(p, priv, "Fn_compute_blocks");
    char text[64];
    double l1 = 0;
    if (t->fn && t->fn != fn)
        return prxi_fail(c, PRX_EINVAL, "%s: recorded with Fn_compute_blocks=%lld; other probes (%d) need a trace of their own",
                         t->json.path, (long long)t->fn, fn);
    const int states = prxi_option_get(p->options, priv, "l1_hidden_states_diff_threshold", text, sizeof text) == PRX_OK &&
                       prxi_parse_num(text, &l1) && l1 > 0;
    if (!metric)
        return PRX_OK;
    if (!cJSON_IsObject(metric))
        return prxi_fail(c, PRX_EFORMAT, "%s: metric: an object expected", t->json.path);
    if (states != cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(metric, "states")))
        return prxi_fail(c, PRX_EINVAL, "%s: recorded with%s cache.l1_hidden_states_diff_threshold; the trace holds %s", t->json.path,
                         states ? "out" : "", states ? "residuals" : "states");
    t->use_measured = 1;
    for (int i = 0; prxi_trace_metric[i]; i++) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(metric, prxi_trace_metric[i]);
        t->use_measured &= prxi_option_get(p->options, priv, prxi_trace_metric[i], text, sizeof text) == PRX_OK && cJSON_IsString(v) &&
                           strcmp(v->valuestring, text) == 0;
    }
    return PRX_OK;
}

/* One branch of one step through the policy's own hooks: the state is 0 before the first block and the probe after Fn of them. */
static void replay_branch(const prxi_cache_policy *p, void *priv, prxi_stream *s, const prxi_cache_call *call, int fn, int blocks,
                          const trace *t, double *x)
{
    const size_t n = (size_t)t->values;
    const double *probe = t->probes + ((size_t)call->branch * (size_t)t->steps + (size_t)call->step->index) * n;
    memset(x, 0, n * sizeof *x);
    for (int l = 0; l <= blocks; l++) {
        if (l == fn)
            memcpy(x, probe, n * sizeof *x);
        const int next = p->at_block(priv, s, call, l, x);
        l = next > l ? next - 1 : l;
    }
}

static cJSON *replay_json(const prxi_cache_report *r, const trace *t, int *computed)
{
    cJSON *o = cJSON_CreateObject();
    cJSON *decisions = cJSON_AddArrayToObject(o, "decisions"), *diffs = cJSON_AddArrayToObject(o, "diffs");
    cJSON *reasons = cJSON_AddArrayToObject(o, "reasons");
    *computed = 0;
    for (int b = 0; b < t->branches; b++) {
        cJSON *d = cJSON_CreateArray(), *f = cJSON_CreateArray(), *w = cJSON_CreateArray();
        for (int i = 0; i < t->steps; i++) {
            const prxi_cache_report *one = &r[b * t->steps + i];
            cJSON_AddItemToArray(d, cJSON_CreateString(one->cached ? "C" : "F"));
            cJSON_AddItemToArray(f, isfinite(one->diff) ? cJSON_CreateNumber(one->diff) : cJSON_CreateNull());
            cJSON_AddItemToArray(w, cJSON_CreateString(one->reason ? one->reason : ""));
        }
        cJSON_AddItemToArray(decisions, d);
        cJSON_AddItemToArray(diffs, f);
        cJSON_AddItemToArray(reasons, w);
    }
    for (int i = 0; i < t->steps; i++) {
        int any = 0;
        for (int b = 0; b < t->branches; b++)
            any |= !r[b * t->steps + i].cached;
        *computed += any;
    }
    cJSON_AddNumberToObject(o, "computed", *computed);
    return o;
}

/* Calls over what they cost: a cached one runs `always` of the model's blocks, where the trace says how many there are. */
static double speedup(const prxi_cache_report *r, const trace *t, int always)
{
    const int calls = t->steps * t->branches;
    const double cached_cost = t->blocks > always ? (double)always / (double)t->blocks : 0;
    double cost = 0;
    for (int i = 0; i < calls; i++)
        cost += r[i].cached ? cached_cost : 1;
    return cost > 0 ? calls / cost : 0;
}

static int run_trace(prx_engine *e, const prxi_cache_policy *p, void *priv, const trace *t, cJSON **out)
{
    prxi_ctx *c = &e->ctx;
    const int fn = option_number(p, priv, "Fn_compute_blocks"), blocks = fn + 1 + option_number(p, priv, "Bn_compute_blocks");
    const prxi_cache_env env = { .blocks = blocks, .branches = t->branches, .steps = t->steps, .tokens = 1, .dim = t->values,
                                 .latent_elems = 1, .dtype = PRXI_F64, .n_threads = 1, .experts = 2, .act = &e->kernels.act,
                                 .known_diff = t->use_measured ? known_diff : NULL, .known_cookie = t };
    prxi_cache_plan plan = { 0 };
    prxi_stream s;
    int err = p->plan(priv, c, &env, &plan), computed;
    prxi_cache_report *r = prxi_calloc(c->mem, PRXI_MEM_MISC, (size_t)t->steps * (size_t)t->branches, sizeof *r);
    double *x = prxi_alloc(c->mem, PRXI_MEM_SCRATCH, (size_t)t->values * sizeof *x);
    if (err == PRX_OK && (!r || !x))
        err = prxi_fail_nomem(c, "replay", (size_t)t->values * sizeof *x);
    prxi_stream_init(&s, c, 1);
    for (int i = 0; i < t->steps && err == PRX_OK; i++) {
        const prxi_step st = { .index = i, .steps = t->steps, .sigma = 1.0f - (float)i / (float)t->steps, .expert = t->expert[i] };
        prxi_cache_report now[MAX_BRANCHES] = { { .diff = NAN }, { .diff = NAN } };
        float v = 0;
        if (p->begin_step && p->begin_step(priv, &s, &st, &v, now))
            continue;
        for (int b = 0; b < t->branches; b++) {
            const prxi_cache_call call = { &st, b, NULL, NULL, &now[b] };
            replay_branch(p, priv, &s, &call, fn, blocks, t, x);
            r[b * t->steps + i] = now[b];
        }
        if (p->end_step)
            p->end_step(priv, &s, &st, &v);
        err = prxi_stream_error(&s);
    }
    prxi_stream_close(&s);
    if (err == PRX_OK) {
        *out = replay_json(r, t, &computed);
        cJSON_AddNumberToObject(*out, "expected_speedup", speedup(r, t, fn + option_number(p, priv, "Bn_compute_blocks")));
    }
    prxi_free(c->mem, x);
    prxi_free(c->mem, r);
    return err;
}

/* Of a policy that replays; NULL after an error. */
static const prxi_cache_policy *find_policy(prxi_ctx *c, const char *cache)
{
    const prxi_cache_policy *p = prxi_cache_policy_find(cache);
    if (p && p->at_block && strcmp(cache, "dbcache") == 0)
        return p;
    prxi_fail(c, PRX_EINVAL, "cache: '%s': a trace of probes replays dbcache only", cache);
    return NULL;
}

static int replay(prx_engine *e, const prxi_cache_policy *p, const char *settings, trace *t, char **json)
{
    prxi_ctx *c = &e->ctx;
    cJSON *out = NULL;
    void *priv = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, p->priv_size);
    int err = priv ? prxi_option_parse(c, p->options, priv, "cache.", settings) : prxi_fail_nomem(c, p->name, p->priv_size);
    if (err == PRX_OK && (err = read_trace(c, t)) == PRX_OK)
        err = match_settings(c, t, p, priv);
    if (err == PRX_OK)
        err = run_trace(e, p, priv, t, &out);
    if (priv)
        p->close(priv, c);
    prxi_free(c->mem, priv);
    return err < 0 ? err : prxi_json_text(c, out, json);
}

int prxi_replay_text(prx_engine *e, const char *cache, const char *settings, const char *name, const char *text, size_t n, char **json)
{
    trace t = { 0 };
    prxi_clear(&e->ctx);
    *json = NULL;
    const prxi_cache_policy *p = find_policy(&e->ctx, cache);
    int err = p ? prxi_json_parse(&e->ctx, &t.json, name, text, n) : PRX_EINVAL;
    if (err == PRX_OK)
        err = replay(e, p, settings, &t, json);
    close_trace(&e->ctx, &t);
    return err;
}

PRX_API int prx_replay(prx_engine *e, const char *cache, const char *settings, const char *path, char **json)
{
    trace t = { 0 };
    prxi_clear(&e->ctx);
    *json = NULL;
    const prxi_cache_policy *p = find_policy(&e->ctx, cache);
    int err = p ? prxi_json_open(&e->ctx, &t.json, path, 0) : PRX_EINVAL;
    if (err == PRX_OK)
        err = replay(e, p, settings, &t, json);
    close_trace(&e->ctx, &t);
    return err;
}
