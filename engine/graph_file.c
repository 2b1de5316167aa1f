/* The files of a measured graph: the state that an interrupted measurement goes on from, and the graph itself. */
#include "graph.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>

/* ---- settings: what a graph holds for, and what a state must agree with ---- */

static cJSON *settings_json(const prxi_graph *g)
{
    static const char *const calibrators[] = { "none", "taylor", "newton" };
    static const char *const drop[] = { "model", "prompt", "seed", "fps", "cache", "cache_options", "vae_tiling", "vae_conv",
                                         "latents", "device" };
    const prxi_replay *r = &g->set.replay;
    cJSON *o = prxi_request_json(g->job);
    for (size_t i = 0; i < sizeof drop / sizeof *drop; i++)
        cJSON_DeleteItemFromObjectCaseSensitive(o, drop[i]);
    cJSON_AddStringToObject(o, "reuse", r->reuse == PRXI_REUSE_VELOCITY ? "velocity" : "residual");
    cJSON_AddStringToObject(o, "calibrator", calibrators[r->calibrator]);
    if (r->calibrator) {
        cJSON_AddNumberToObject(o, "order", (double)r->order);
        cJSON_AddNumberToObject(o, "newton_gap", (double)r->gap_cap);
    }
    cJSON_AddBoolToObject(o, "quick", g->set.quick);
    if (g->set.sparse)
        cJSON_AddBoolToObject(o, "sparse", 1);
    cJSON *list = cJSON_AddArrayToObject(o, "prompts");
    for (int i = 0; i < g->n_prompts; i++)
        cJSON_AddItemToArray(list, cJSON_CreateString(g->prompt[i]));
    list = cJSON_AddArrayToObject(o, "seeds");
    for (int i = 0; i < g->n_seeds; i++)
        cJSON_AddItemToArray(list, cJSON_CreateNumber((double)g->seed[i]));
    return o;
}

/* ---- state ---- */

int prxi_graph_state_save(prxi_graph *g)
{
    prxi_ctx *c = &g->job->ctx;
    char *text = NULL;
    if (!g->state_path)
        return PRX_OK;
    cJSON *o = cJSON_CreateObject(), *rows;
    cJSON_AddStringToObject(o, "model", g->job->model->name);
    cJSON_AddNumberToObject(o, "max_gap", g->gap);
    cJSON_AddItemToObject(o, "settings", settings_json(g));
    rows = cJSON_AddArrayToObject(o, "rows");
    for (int r = 0; r < g->samples * g->rows; r++) {
        if (!g->done[r])
            continue;
        cJSON *row = cJSON_CreateObject();
        const int sparse = prxi_graph_sparse(g, r % g->rows);
        const double *w = prxi_graph_row(g, r / g->rows, r % g->rows);
        cJSON_AddNumberToObject(row, "sample", r / g->rows);
        cJSON_AddNumberToObject(row, "from", prxi_graph_from(g, r % g->rows));
        if (sparse)
            cJSON_AddBoolToObject(row, "sparse", 1);
        cJSON *list = cJSON_AddArrayToObject(row, "weights");       /* of gaps 2, 3, ...; sparse: 1, 2, ... */
        for (int k = 2 - sparse; k <= g->gap; k++)
            cJSON_AddItemToArray(list, isnan(w[k]) ? cJSON_CreateNull() : prxi_json_exact(w[k]));
        cJSON_AddItemToArray(rows, row);
    }
    int err = prxi_json_text(c, o, &text);
    if (err == PRX_OK)
        err = prxi_write_file(c, g->state_path, text, strlen(text));
    prxi_free(c->mem, text);
    g->saved_at = prxi_now();
    return err;
}

static int index_of(const cJSON *row, const char *key, int limit)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(row, key);
    const double d = cJSON_IsNumber(v) ? v->valuedouble : -1;
    return d >= 0 && d < limit && d == floor(d) ? (int)d : -1;
}

/* One row; its gaps must be those that this measurement wants. */
static int read_row(prxi_graph *g, const prxi_json *j, const cJSON *row, int index)
{
    const int sample = index_of(row, "sample", g->samples), from = index_of(row, "from", g->steps);
    const int sparse = g->set.sparse && cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(row, "sparse")), r = from + sparse * g->steps;
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(row, "weights"), *v;
    int k = 2 - sparse, check;
    if (sample < 0 || from < 0 || !cJSON_IsArray(list) || cJSON_GetArraySize(list) != g->gap - 1 + sparse || g->done[sample * g->rows + r])
        return prxi_fail(&g->job->ctx, PRX_EFORMAT, "%s: rows: row %d: sample, from and %d weights expected, each row once", j->path, index,
                         g->gap - 1 + sparse);
    cJSON_ArrayForEach(v, list)
    {
        const int wanted = prxi_graph_wants(g, sample, r, from + k, &check);
        if (wanted ? !cJSON_IsNumber(v) || !isfinite(v->valuedouble) || v->valuedouble < 0 : !cJSON_IsNull(v))
            return prxi_fail(&g->job->ctx, PRX_EFORMAT, "%s: rows: row %d: weight %d: %s expected", j->path, index, k - 2 + sparse,
                             wanted ? "a finite number of at least 0" : "null");
        prxi_graph_row(g, sample, r)[k++] = wanted ? v->valuedouble : NAN;
    }
    g->done[sample * g->rows + r] = 1;
    return PRX_OK;
}

static int check_settings(const prxi_graph *g, const prxi_json *j)
{
    prxi_ctx *c = &g->job->ctx;
    int64_t gap = 0;
    const char *model = NULL;
    int err;
    if ((err = prxi_json_int(c, j, "max_gap", 1, PRXI_DAG_MAX_STEPS, &gap)) < 0 || (err = prxi_json_str(c, j, "model", &model)) < 0)
        return err;
    const cJSON *saved = cJSON_GetObjectItemCaseSensitive(j->root, "settings"), *e;
    /* Through text, as the saved one went. */
    cJSON *mine = settings_json(g);
    char *text = mine ? cJSON_PrintUnformatted(mine) : NULL;
    cJSON *now = text ? cJSON_Parse(text) : NULL;
    const char *differs = gap != g->gap ? "max_gap" : !model || strcmp(model, g->job->model->name) != 0 ? "model" : NULL;
    cJSON_free(text);
    cJSON_Delete(mine);
    if (!now)
        return prxi_fail_nomem(c, j->path, 0);
    cJSON_ArrayForEach(e, now)
        if (!differs && !cJSON_Compare(e, cJSON_GetObjectItemCaseSensitive(saved, e->string), 1))
            differs = e->string;
    if (differs)
        err = prxi_fail(c, PRX_EINVAL, "%s: %s differs from the measurement that wrote it; remove the file to begin anew", j->path,
                        differs);
    cJSON_Delete(now);
    return err;
}

int prxi_graph_state_load(prxi_graph *g)
{
    prxi_ctx *c = &g->job->ctx;
    struct stat st;
    prxi_json j;
    int index = 0;
    if (!g->state_path || stat(g->state_path, &st) != 0)
        return PRX_OK;
    int err = prxi_json_open(c, &j, g->state_path, 0);
    if (err < 0)
        return err;
    const cJSON *rows = cJSON_GetObjectItemCaseSensitive(j.root, "rows"), *row;
    err = cJSON_IsArray(rows) ? check_settings(g, &j)
                              : prxi_fail(c, PRX_EFORMAT, "%s: rows: missing: not the state of a measurement", g->state_path);
    cJSON_ArrayForEach(row, rows)
        if (err == PRX_OK)
            err = read_row(g, &j, row, index++);
    prxi_json_close(c, &j);
    return err;
}

/* ---- the graph ---- */

/* Mean over the samples, or over the first alone; NaN where not all of them measured it. */
static double mean(const prxi_graph *g, int samples, int row, int j)
{
    double sum = 0;
    for (int s = 0; s < samples; s++)
        sum += prxi_graph_row(g, s, row)[j - prxi_graph_from(g, row)];
    return sum / samples;
}

static double largest(const prxi_graph *g, int row, int j)
{
    double max = 0;
    for (int s = 0; s < g->samples; s++)
        max = fmax(max, prxi_graph_row(g, s, row)[j - prxi_graph_from(g, row)]);
    return max;
}

/* A jump that a quick graph did not measure: between the jumps of the same length one step earlier and later. */
static double interpolate(const prxi_graph *g, int samples, int row, int j)
{
    const int i = prxi_graph_from(g, row);
    const double before = i > g->first[i] ? mean(g, samples, row - 1, j - 1) : NAN;
    const double after = j < g->limit[i] ? mean(g, samples, row + 1, j + 1) : NAN;
    if (isnan(before) || isnan(after))
        return isnan(before) ? after : before;
    return sqrt(before * after);
}

static cJSON *edge_json(const prxi_graph *g, int row, int j, int measured)
{
    cJSON *e = cJSON_CreateObject();
    cJSON_AddNumberToObject(e, "from", prxi_graph_from(g, row));
    cJSON_AddNumberToObject(e, "to", j);
    if (prxi_graph_sparse(g, row))
        cJSON_AddStringToObject(e, "attention", "sparse");
    cJSON_AddItemToObject(e, "weight", prxi_json_exact(measured ? mean(g, g->samples, row, j) : interpolate(g, g->samples, row, j)));
    if (measured && g->samples > 1)
        cJSON_AddItemToObject(e, "max", prxi_json_exact(largest(g, row, j)));
    if (!measured)
        cJSON_AddBoolToObject(e, "interpolated", 1);
    return e;
}

/* How far interpolated weights are from measured ones, on the jumps of the first sample that have both. */
static cJSON *transfer_json(const prxi_graph *g, int interpolated)
{
    double sum = 0, worst = 0;
    int n = 0, check;
    for (int r = 0; r < g->rows; r++)
        for (int j = prxi_graph_near(g, r); j <= prxi_graph_far(g, r); j++) {
            if (!prxi_graph_wants(g, 0, r, j, &check) || !check)
                continue;
            const double w = mean(g, 1, r, j), error = w > 0 ? fabs(interpolate(g, 1, r, j) / w - 1) : 0;
            sum += error;
            worst = fmax(worst, error);
            n++;
        }
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "interpolated", interpolated);
    cJSON_AddNumberToObject(o, "checked", n);
    if (n) {
        cJSON_AddNumberToObject(o, "mean_relative_error", sum / n);
        cJSON_AddNumberToObject(o, "worst_relative_error", worst);
    }
    return o;
}

int prxi_graph_json(prxi_graph *g, char **json)
{
    const float *sigmas = prxi_sched_sigmas(g->job->sched);
    int interpolated = 0, check;
    cJSON *o = cJSON_CreateObject(), *list;
    cJSON_AddNumberToObject(o, "steps", g->steps);
    cJSON_AddNumberToObject(o, "max_gap", g->gap);
    cJSON_AddStringToObject(o, "model", g->job->model->name);
    cJSON_AddNumberToObject(o, "samples", g->samples);
    cJSON_AddItemToObject(o, "settings", settings_json(g));
    if (g->first[g->steps - 1] > 0)
        cJSON_AddNumberToObject(o, "boundary_step", g->first[g->steps - 1]);
    list = cJSON_AddArrayToObject(o, "sigmas");
    for (int i = 0; i < g->steps; i++)
        cJSON_AddItemToArray(list, cJSON_CreateNumber(sigmas[i]));
    list = cJSON_AddArrayToObject(o, "edges");
    for (int r = 0; r < g->rows; r++)
        for (int j = prxi_graph_near(g, r); j <= prxi_graph_far(g, r); j++) {
            const int measured = prxi_graph_wants(g, 0, r, j, &check) && !check;
            interpolated += !measured;
            cJSON_AddItemToArray(list, edge_json(g, r, j, measured));
        }
    if (g->set.quick)
        cJSON_AddItemToObject(o, "quick", transfer_json(g, interpolated));
    return prxi_json_text(&g->job->ctx, o, json);
}
