/* Tools that need no model: the solver of schedules. */
#include <stdio.h>
#include <string.h>

#include "caching/dag.h"
#include "engine.h"
#include "engine/core/option.h"

/* ---- schedules ---- */

static void add_path(cJSON *o, const prxi_dag *g, const prxi_dag_path *p)
{
    cJSON *list = cJSON_AddArrayToObject(o, "computed");
    int n[2] = { 0, 0 };
    for (int i = 0; i < p->n; i++) {
        cJSON_AddItemToArray(list, cJSON_CreateNumber(p->step[i]));
        n[p->step[i] >= g->boundary]++;
    }
    if (g->boundary)
        cJSON_AddItemToObject(o, "computed_by_expert", cJSON_CreateIntArray(n, 2));
    list = cJSON_AddArrayToObject(o, "weights");
    double sum = 0;
    for (int i = 0; i < p->n_weights; i++) {
        sum += p->weights[i];
        cJSON_AddItemToArray(list, cJSON_CreateNumber(p->weights[i]));
    }
    cJSON_AddNumberToObject(o, "worst_edge", p->n_weights ? p->weights[0] : 0);
    cJSON_AddNumberToObject(o, "sum", sum);
}

/* What a schedule keeps of its graph: sigmas, experts and model travel with it. */
static void copy_keys(cJSON *to, const cJSON *from)
{
    static const char *const keys[] = { "boundary_step", "sigmas", "model", "settings" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(from, keys[i]);
        if (v)
            cJSON_AddItemToObject(to, keys[i], cJSON_Duplicate(v, 1));
    }
}

PRX_API int prx_schedule_solve(prx_engine *e, const char *graph, const char *budget, const char *objective, char **json)
{
    prxi_json j;
    prxi_dag g;
    prxi_dag_path p, other;
    prxi_dag_budget b;
    prxi_ctx *c = &e->ctx;
    prxi_clear(c);
    *json = NULL;
    const int sum = strcmp(objective, "sum") == 0;
    if (!sum && strcmp(objective, "minimax") != 0)
        return prxi_fail(c, PRX_EINVAL, "objective: '%s': minimax or sum expected", objective);
    int err;
    if ((err = prxi_dag_budget_parse(c, budget, &b)) < 0 || (err = prxi_json_open(c, &j, graph, 0)) < 0)
        return err;
    if ((err = prxi_dag_read(c, &g, &j)) == PRX_OK) {
        err = prxi_dag_solve(c, &g, b, sum ? PRXI_DAG_SUM : PRXI_DAG_MINIMAX, &p);
        if (err == PRX_OK)
            err = prxi_dag_solve(c, &g, b, sum ? PRXI_DAG_MINIMAX : PRXI_DAG_SUM, &other);
        prxi_dag_close(c, &g);
    }
    cJSON *o = err == PRX_OK ? cJSON_CreateObject() : NULL;
    if (o) {
        cJSON_AddNumberToObject(o, "steps", g.steps);
        cJSON_AddStringToObject(o, "objective", objective);
        add_path(o, &g, &p);
        add_path(cJSON_AddObjectToObject(o, sum ? "minimax" : "shortest_sum"), &g, &other);
        copy_keys(o, j.root);
    }
    prxi_json_close(c, &j);
    return err < 0 ? err : prxi_json_text(c, o, json);
}
