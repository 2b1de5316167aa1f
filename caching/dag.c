/* Graph reader and path solver. The solver's state is (node, nodes used) with the best descending tuple: inserting the same weight into two
 * tuples keeps their lexicographic order, so prefixes of optimal paths are optimal and dynamic programming is exact. */
#include "dag.h"

#include <math.h>
#include <string.h>

int prxi_dag_open(prxi_ctx *c, prxi_dag *g, int steps, int max_gap)
{
    const size_t n = (size_t)steps * ((size_t)max_gap + 1);
    *g = (prxi_dag) { steps, max_gap, 0, prxi_alloc(c->mem, PRXI_MEM_MISC, n * sizeof *g->weight), NULL };
    if (!g->weight)
        return prxi_fail_nomem(c, "graph", n * sizeof *g->weight);
    for (size_t i = 0; i < n; i++)
        g->weight[i] = i % ((size_t)max_gap + 1) == 1 ? 0.0 : NAN;
    return PRX_OK;
}

int prxi_dag_add_sparse(prxi_ctx *c, prxi_dag *g)
{
    const size_t n = (size_t)g->steps * ((size_t)g->max_gap + 1);
    if (g->sparse)
        return PRX_OK;
    if (!(g->sparse = prxi_alloc(c->mem, PRXI_MEM_MISC, n * sizeof *g->sparse)))
        return prxi_fail_nomem(c, "graph", n * sizeof *g->sparse);
    for (size_t i = 0; i < n; i++)
        g->sparse[i] = NAN;
    return PRX_OK;
}

void prxi_dag_close(prxi_ctx *c, prxi_dag *g)
{
    prxi_free(c->mem, g->weight);
    prxi_free(c->mem, g->sparse);
    g->weight = g->sparse = NULL;
}

/* ---- reader ---- */

/* "attention": "sparse" or "dense", as if it were not there. */
static int read_kind(prxi_ctx *c, prxi_dag *g, const prxi_json *j, const cJSON *e, int index, int *sparse)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(e, "attention");
    const char *text = cJSON_GetStringValue(v);
    *sparse = text && strcmp(text, "sparse") == 0;
    if (v && !*sparse && (!text || strcmp(text, "dense") != 0))
        return prxi_fail(c, PRX_EFORMAT, "%s: edge %d: attention: \"dense\" or \"sparse\" expected", j->path, index);
    return *sparse ? prxi_dag_add_sparse(c, g) : PRX_OK;
}

static int read_edge(prxi_ctx *c, prxi_dag *g, const prxi_json *j, const cJSON *e, int index)
{
    const cJSON *from = cJSON_GetObjectItemCaseSensitive(e, "from"), *to = cJSON_GetObjectItemCaseSensitive(e, "to");
    const cJSON *w = cJSON_GetObjectItemCaseSensitive(e, "weight");
    int sparse, err = read_kind(c, g, j, e, index, &sparse);
    if (err < 0)
        return err;
    if (!cJSON_IsNumber(from) || !cJSON_IsNumber(to) || !cJSON_IsNumber(w))
        return prxi_fail(c, PRX_EFORMAT, "%s: edge %d: from, to and weight as numbers expected", j->path, index);
    const double a = from->valuedouble, b = to->valuedouble;
    const int end = sparse && a == g->steps - 1;         /* a sparse last step */
    if (!(a >= 0 && b <= g->steps - 1 + end && a < b) || a != floor(a) || b != floor(b))
        return prxi_fail(c, PRX_EFORMAT, "%s: edge %d: %g -> %g: steps 0 to %d, forward only", j->path, index, a, b, g->steps - 1);
    if (b - a > g->max_gap)
        return prxi_fail(c, PRX_EFORMAT, "%s: edge %d: %g -> %g is longer than max_gap %d", j->path, index, a, b, g->max_gap);
    if (a < g->boundary && b > g->boundary)
        return prxi_fail(c, PRX_EFORMAT, "%s: edge %d: %g -> %g passes step %d, where the second expert begins", j->path, index, a, b,
                         g->boundary);
    if (!(w->valuedouble >= 0) || !isfinite(w->valuedouble))
        return prxi_fail(c, PRX_EFORMAT, "%s: edge %d: weight: a finite number of at least 0 expected", j->path, index);
    double *slot = (sparse ? g->sparse : g->weight) + ((int)a * (g->max_gap + 1) + (int)(b - a));
    if ((sparse || b - a > 1) && !isnan(*slot))
        return prxi_fail(c, PRX_EFORMAT, "%s: edge %d: %g -> %g is given twice", j->path, index, a, b);
    *slot = sparse || b - a > 1 ? w->valuedouble : 0.0;
    return PRX_OK;
}

int prxi_dag_read(prxi_ctx *c, prxi_dag *g, const prxi_json *j)
{
    int64_t steps = 0, gap = 0, boundary = 0;
    int err, i = 0;
    const cJSON *edges = cJSON_GetObjectItemCaseSensitive(j->root, "edges"), *e;
    g->weight = g->sparse = NULL;
    if ((err = prxi_json_int(c, j, "steps", 2, PRXI_DAG_MAX_STEPS, &steps)) < 0)
        return err;
    if (!steps || !cJSON_IsArray(edges))
        return prxi_fail(c, PRX_EFORMAT, "%s: steps and edges expected: not a graph file", j->path);
    if ((err = prxi_json_int(c, j, "max_gap", 1, steps - 1, &gap)) < 0 ||
        (err = prxi_json_int(c, j, "boundary_step", 1, steps - 1, &boundary)) < 0)
        return err;
    if ((err = prxi_dag_open(c, g, (int)steps, gap ? (int)gap : (int)steps - 1)) < 0)
        return err;
    g->boundary = (int)boundary;
    cJSON_ArrayForEach(e, edges)
        if ((err = read_edge(c, g, j, e, i++)) < 0) {
            prxi_dag_close(c, g);
            return err;
        }
    return PRX_OK;
}

/* ---- solver ---- */

/* Best way to a node with a given count of nodes. */
typedef struct way {
    int known, n_weights;
    double sum;
    double weights[PRXI_DAG_MAX_STEPS];
    int16_t path[PRXI_DAG_MAX_STEPS];
} way;

static void extend(const way *from, double w, int node, int count, way *out)
{
    int at = 0;
    *out = *from;
    out->sum += w;
    out->path[count - 1] = (int16_t)node;
    if (out->path[count - 1] - out->path[count - 2] == 1)
        return;
    while (at < from->n_weights && from->weights[at] >= w)
        at++;
    memmove(out->weights + at + 1, from->weights + at, (size_t)(from->n_weights - at) * sizeof w);
    out->weights[at] = w;
    out->n_weights++;
}

/* Missing entries count as 0: a path with fewer cached segments has the weight 0 there. */
static int compare(const way *a, const way *b, prxi_dag_objective o, int count)
{
    if (o == PRXI_DAG_SUM && a->sum != b->sum)
        return a->sum < b->sum ? -1 : 1;
    for (int i = 0; o == PRXI_DAG_MINIMAX && (i < a->n_weights || i < b->n_weights); i++) {
        const double x = i < a->n_weights ? a->weights[i] : 0, y = i < b->n_weights ? b->weights[i] : 0;
        if (x != y)
            return x < y ? -1 : 1;
    }
    for (int i = 0; i < count; i++)
        if (a->path[i] != b->path[i])
            return a->path[i] < b->path[i] ? -1 : 1;
    return 0;
}

static void relax(const prxi_dag *g, const way *before, way *after, int j, int count, prxi_dag_objective o)
{
    way try;
    after[j].known = 0;
    for (int i = j - g->max_gap > 0 ? j - g->max_gap : 0; i < j; i++) {
        const double w = prxi_dag_weight(g, i, j);
        if (!before[i].known || isnan(w))
            continue;
        extend(&before[i], w, j, count, &try);
        if (!after[j].known || compare(&try, &after[j], o, count) < 0)
            after[j] = try;
    }
}

int prxi_dag_solve(prxi_ctx *c, const prxi_dag *g, prxi_dag_budget budget, prxi_dag_objective o, prxi_dag_path *out)
{
    if (budget.total < 2 || budget.total > g->steps || (budget.first && !g->boundary))
        return prxi_dag_budget_fail(c, g, budget);
    way *ways = prxi_calloc(c->mem, PRXI_MEM_SCRATCH, 2 * (size_t)g->steps, sizeof *ways);
    if (!ways)
        return prxi_fail_nomem(c, "schedule", 2 * (size_t)g->steps * sizeof *ways);
    way *before = ways, *after = ways + g->steps;
    before[0].known = 1;
    for (int count = 2; count <= budget.total; count++) {
        after[0].known = 0;
        for (int j = 1; j < g->steps; j++)
            if (budget.first && j == g->boundary && count != budget.first + 1)
                after[j].known = 0;      /* every path comes by here: with as many nodes behind it as the first expert may have */
            else
                relax(g, before, after, j, count, o);
        way *swap = before;
        before = after;
        after = swap;
    }
    const way *best = &before[g->steps - 1];
    int err = best->known ? PRX_OK : prxi_dag_budget_fail(c, g, budget);
    if (err == PRX_OK) {
        *out = (prxi_dag_path) { .n = budget.total, .n_weights = best->n_weights };
        memcpy(out->weights, best->weights, (size_t)best->n_weights * sizeof *out->weights);
        for (int i = 0; i < budget.total; i++)
            out->step[i] = best->path[i];
    }
    prxi_free(c->mem, ways);
    return err;
}
