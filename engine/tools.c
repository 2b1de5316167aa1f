/* Tools that need no model: the solver of schedules, the replay of cache decisions on a recorded trace. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "caching/dag.h"
#include "engine.h"
#include "engine/core/option.h"

/* ---- schedules ---- */

static void add_path(cJSON *o, const prxi_dag_path *p)
{
    cJSON *list = cJSON_AddArrayToObject(o, "computed");
    for (int i = 0; i < p->n; i++)
        cJSON_AddItemToArray(list, cJSON_CreateNumber(p->step[i]));
    list = cJSON_AddArrayToObject(o, "weights");
    double sum = 0;
    for (int i = 0; i < p->n_weights; i++) {
        sum += p->weights[i];
        cJSON_AddItemToArray(list, cJSON_CreateNumber(p->weights[i]));
    }
    cJSON_AddNumberToObject(o, "worst_edge", p->n_weights ? p->weights[0] : 0);
    cJSON_AddNumberToObject(o, "sum", sum);
}

/* What a schedule keeps of its graph: sigmas and model travel with it. */
static void copy_keys(cJSON *to, const cJSON *from)
{
    static const char *const keys[] = { "sigmas", "model", "settings" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(from, keys[i]);
        if (v)
            cJSON_AddItemToObject(to, keys[i], cJSON_Duplicate(v, 1));
    }
}

PRX_API int prx_schedule_solve(prx_engine *e, const char *graph, int budget, const char *objective, char **json)
{
    prxi_json j;
    prxi_dag g;
    prxi_dag_path p, other;
    prxi_ctx *c = &e->ctx;
    prxi_clear(c);
    *json = NULL;
    const int sum = strcmp(objective, "sum") == 0;
    if (!sum && strcmp(objective, "minimax") != 0)
        return prxi_fail(c, PRX_EINVAL, "objective: '%s': minimax or sum expected", objective);
    int err = prxi_json_open(c, &j, graph, 0);
    if (err < 0)
        return err;
    if ((err = prxi_dag_read(c, &g, &j)) == PRX_OK) {
        err = prxi_dag_solve(c, &g, budget, sum ? PRXI_DAG_SUM : PRXI_DAG_MINIMAX, &p);
        if (err == PRX_OK)
            err = prxi_dag_solve(c, &g, budget, sum ? PRXI_DAG_MINIMAX : PRXI_DAG_SUM, &other);
        prxi_dag_close(c, &g);
    }
    cJSON *o = err == PRX_OK ? cJSON_CreateObject() : NULL;
    if (o) {
        cJSON_AddNumberToObject(o, "steps", g.steps);
        cJSON_AddStringToObject(o, "objective", objective);
        add_path(o, &p);
        copy_keys(o, j.root);
        add_path(cJSON_AddObjectToObject(o, sum ? "minimax" : "shortest_sum"), &other);
    }
    prxi_json_close(c, &j);
    return err < 0 ? err : prxi_json_text(c, o, json);
}

/* ---- replay ---- */

enum { MAX_BRANCHES = PRXI_BRANCHES };

typedef struct trace {
    prxi_json json;
    int steps, branches, values;
    double *probes;                        /* [branches][steps][values] */
} trace;

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
    if (!steps || t->branches < 1 || t->branches > MAX_BRANCHES || (cJSON_IsArray(names) && cJSON_GetArraySize(names) != t->branches))
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
    return PRX_OK;
}

/* Fn blocks of the policy, as its options say; the replayed model has one block between probe and corrector. */
static int option_number(const prxi_cache_policy *p, const void *priv, const char *name)
{
    char text[64];
    int v = 0;
    return prxi_option_get(p->options, priv, name, text, sizeof text) == PRX_OK && sscanf(text, "%d", &v) == 1 ? v : 0;
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

static int run_trace(prx_engine *e, const prxi_cache_policy *p, void *priv, const trace *t, cJSON **out)
{
    prxi_ctx *c = &e->ctx;
    const int fn = option_number(p, priv, "Fn_compute_blocks"), blocks = fn + 1 + option_number(p, priv, "Bn_compute_blocks");
    const prxi_cache_env env = { .blocks = blocks, .branches = t->branches, .steps = t->steps, .tokens = 1, .dim = t->values,
                                 .latent_elems = 1, .dtype = PRXI_F64, .n_threads = 1, .experts = 1, .act = &e->kernels.act };
    prxi_cache_plan plan = { 0 };
    prxi_stream s;
    int err = p->plan(priv, c, &env, &plan), computed;
    prxi_cache_report *r = prxi_calloc(c->mem, PRXI_MEM_MISC, (size_t)t->steps * (size_t)t->branches, sizeof *r);
    double *x = prxi_alloc(c->mem, PRXI_MEM_SCRATCH, (size_t)t->values * sizeof *x);
    if (err == PRX_OK && (!r || !x))
        err = prxi_fail_nomem(c, "replay", (size_t)t->values * sizeof *x);
    prxi_stream_init(&s, c, 1);
    for (int i = 0; i < t->steps && err == PRX_OK; i++) {
        const prxi_step st = { .index = i, .steps = t->steps, .sigma = 1.0f - (float)i / (float)t->steps };
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
        cJSON_AddNumberToObject(*out, "expected_speedup", computed ? (double)t->steps / computed : 0);
    }
    prxi_free(c->mem, x);
    prxi_free(c->mem, r);
    return err;
}

PRX_API int prx_replay(prx_engine *e, const char *cache, const char *settings, const char *path, char **json)
{
    prxi_ctx *c = &e->ctx;
    trace t = { 0 };
    cJSON *out = NULL;
    prxi_clear(c);
    *json = NULL;
    const prxi_cache_policy *p = prxi_cache_policy_find(cache);
    if (!p || !p->at_block || strcmp(cache, "dbcache") != 0)
        return prxi_fail(c, PRX_EINVAL, "cache: '%s': a trace of probes replays dbcache only", cache);
    int err = prxi_json_open(c, &t.json, path, 0);
    if (err < 0)
        return err;
    void *priv = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, p->priv_size);
    err = priv ? prxi_option_parse(c, p->options, priv, "cache.", settings) : prxi_fail_nomem(c, cache, p->priv_size);
    if (err == PRX_OK)
        err = read_trace(c, &t);
    if (err == PRX_OK)
        err = run_trace(e, p, priv, &t, &out);
    if (priv)
        p->close(priv, c);
    prxi_free(c->mem, priv);
    prxi_free(c->mem, t.probes);
    prxi_json_close(c, &t.json);
    return err < 0 ? err : prxi_json_text(c, out, json);
}
