/* prx_schedule_show: a graph with schedules beside it, as JSON and as a picture. */
#include "graph_show.h"

#include <math.h>
#include <string.h>

#include "engine.h"

int prxi_shown_next(const prxi_shown *s, const prxi_shown_schedule *d, int i)
{
    for (int j = i + 1; j < s->g.steps; j++)
        if (d->computed[j])
            return j;
    return -1;
}

static double weight_of(const prxi_shown *s, int i, int j)
{
    return j - i <= s->g.max_gap ? prxi_dag_weight(&s->g, i, j) : NAN;
}

static int read_graph(prxi_ctx *c, prxi_shown *s, const char *path)
{
    prxi_json j;
    int err = prxi_json_open(c, &j, path, 0);
    if (err < 0)
        return err;
    s->path = path;
    if ((err = prxi_dag_read(c, &s->g, &j)) == PRX_OK) {
        s->origin.steps = s->g.steps;
        if ((err = prxi_schedule_read_origin(c, &s->origin, &j)) == PRX_OK)
            err = prxi_json_int(c, &j, "samples", 1, 1 << 20, &s->samples);
    }
    prxi_json_close(c, &j);
    return err;
}

static void measure(const prxi_shown *s, prxi_shown_schedule *d)
{
    d->worst_from = d->worst_to = -1;
    for (int i = 0, j; (j = prxi_shown_next(s, d, i)) > 0; i = j) {
        const double w = weight_of(s, i, j);
        if (isnan(w)) {
            d->unknown++;
        } else if (j - i > 1) {
            d->sum += w;
            if (d->worst_from < 0 || w > d->worst)
                d->worst = w, d->worst_from = i, d->worst_to = j;
        }
    }
    for (int i = 0; i < s->g.steps; i++)
        if (d->computed[i] != PRXI_STEP_CACHED) {
            d->n++;
            d->first += i < s->g.boundary;
        }
}

static int add_schedule(prxi_ctx *c, prxi_shown *s, const char *path)
{
    float sigmas[PRXI_DAG_MAX_STEPS];
    prxi_json j;
    prxi_shown_schedule *d = &s->schedule[s->n++];
    int err = prxi_json_open(c, &j, path, 0);
    if (err < 0)
        return err;
    d->path = path;
    prxi_schedule *z = prxi_calloc(c->mem, PRXI_MEM_SCRATCH, 1, sizeof *z);
    err = z ? prxi_schedule_read(c, z, &j) : prxi_fail_nomem(c, path, sizeof *z);
    prxi_json_close(c, &j);
    if (err == PRX_OK && *z->model && *s->origin.model && strcmp(z->model, s->origin.model) != 0)
        err = prxi_fail(c, PRX_EINVAL, "%s: made for model %s; the graph is of %s", path, z->model, s->origin.model);
    for (int i = 0; i < s->g.steps; i++)
        sigmas[i] = s->origin.has_sigmas ? (float)s->origin.sigmas[i] : 0;
    if (err == PRX_OK) {
        const prxi_job_steps steps = { s->g.steps, s->g.boundary ? s->g.boundary : s->g.steps, sigmas };
        z->has_sigmas &= s->origin.has_sigmas;
        err = prxi_schedule_map(c, z, &steps, d->computed);
    }
    prxi_free(c->mem, z);
    if (err == PRX_OK)
        measure(s, d);
    return err;
}

/* ---- JSON ---- */

static void add_number(cJSON *list, double v)
{
    cJSON_AddItemToArray(list, isnan(v) ? cJSON_CreateNull() : cJSON_CreateNumber(v));
}

static cJSON *graph_json(const prxi_shown *s)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "path", s->path);
    cJSON_AddNumberToObject(o, "steps", s->g.steps);
    cJSON_AddNumberToObject(o, "max_gap", s->g.max_gap);
    if (*s->origin.model)
        cJSON_AddStringToObject(o, "model", s->origin.model);
    if (*s->origin.reuse)
        cJSON_AddStringToObject(o, "reuse", s->origin.reuse);
    if (s->samples)
        cJSON_AddNumberToObject(o, "samples", (double)s->samples);
    if (s->g.boundary)
        cJSON_AddNumberToObject(o, "boundary_step", s->g.boundary);
    cJSON *sigmas = cJSON_AddArrayToObject(o, "sigmas"), *weights = cJSON_AddArrayToObject(o, "weights");
    for (int i = 0; i < s->g.steps; i++) {
        cJSON *row = cJSON_CreateArray();       /* of gaps 2, 3, ... */
        for (int k = 2; k <= s->g.max_gap; k++)
            add_number(row, i + k < s->g.steps ? prxi_dag_weight(&s->g, i, i + k) : NAN);
        cJSON_AddItemToArray(weights, row);
        if (s->origin.has_sigmas)
            add_number(sigmas, s->origin.sigmas[i]);
    }
    return o;
}

static cJSON *schedule_json(const prxi_shown *s, const prxi_shown_schedule *d)
{
    cJSON *o = cJSON_CreateObject(), *list;
    cJSON_AddStringToObject(o, "path", d->path);
    cJSON_AddNumberToObject(o, "budget", d->n);
    if (s->g.boundary)
        cJSON_AddItemToObject(o, "computed_by_expert", cJSON_CreateIntArray((const int[]) { d->first, d->n - d->first }, 2));
    if (d->worst_from >= 0) {
        cJSON_AddNumberToObject(o, "worst_edge", d->worst);
        cJSON_AddNumberToObject(o, "worst_from", d->worst_from);
        cJSON_AddNumberToObject(o, "worst_to", d->worst_to);
    }
    cJSON_AddNumberToObject(o, "sum", d->sum);
    cJSON_AddNumberToObject(o, "unknown_jumps", d->unknown);
    list = cJSON_AddArrayToObject(o, "computed");
    for (int i = 0; i < s->g.steps; i++)
        if (d->computed[i])
            add_number(list, i);
    list = cJSON_AddArrayToObject(o, "jumps");
    for (int i = 0, j; (j = prxi_shown_next(s, d, i)) > 0; i = j) {
        if (j - i == 1)
            continue;
        cJSON *e = cJSON_CreateObject();
        cJSON_AddNumberToObject(e, "from", i);
        cJSON_AddNumberToObject(e, "to", j);
        cJSON_AddItemToObject(e, "weight", isnan(weight_of(s, i, j)) ? cJSON_CreateNull() : cJSON_CreateNumber(weight_of(s, i, j)));
        cJSON_AddItemToArray(list, e);
    }
    return o;
}

static cJSON *shown_json(const prxi_shown *s)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddItemToObject(o, "graph", graph_json(s));
    cJSON *list = cJSON_AddArrayToObject(o, "schedules");
    for (int i = 0; i < s->n; i++)
        cJSON_AddItemToArray(list, schedule_json(s, &s->schedule[i]));
    return o;
}

PRX_API int prx_schedule_show(prx_engine *e, const char *graph, const char *const *schedules, int n, const char *png, char **json)
{
    prxi_ctx *c = &e->ctx;
    prxi_clear(c);
    *json = NULL;
    if (n < 0 || n > PRXI_SHOWN_SCHEDULES)
        return prxi_fail(c, PRX_EINVAL, "schedules: %d; at most %d expected", n, PRXI_SHOWN_SCHEDULES);
    prxi_shown *s = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, sizeof *s);
    if (!s)
        return prxi_fail_nomem(c, "graph", sizeof *s);
    int err = read_graph(c, s, graph);
    for (int i = 0; i < n && err == PRX_OK; i++)
        err = add_schedule(c, s, schedules[i]);
    if (err == PRX_OK && png)
        err = prxi_shown_draw(c, s, png);
    if (err == PRX_OK)
        err = prxi_json_text(c, shown_json(s), json);
    prxi_dag_close(c, &s->g);
    prxi_free(c->mem, s);
    return err;
}
