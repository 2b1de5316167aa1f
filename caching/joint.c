/* Paths through a graph whose steps are dense, sparse or skipped. The state of the dynamic programme is (node, sparse nodes used) for a
 * number of nodes: what a path costs up to there follows from these three, and inserting the same weight into two descending lists
 * keeps their lexicographic order, so prefixes of optimal paths are optimal and the search is exact. */
#include "dag.h"

#include <math.h>
#include <string.h>

/* The best path to a node: n nodes, some of them sparse. A node's own kind is known when the path leaves it. */
typedef struct way {
    int known, n_weights;
    double weights[PRXI_JOINT_MAX_STEPS];
    int16_t step[PRXI_JOINT_MAX_STEPS];
    uint8_t sparse[PRXI_JOINT_MAX_STEPS];
} way;

typedef struct solver {
    const prxi_dag *g;
    const prxi_dag_cost *cost;
    double budget;
    way *before, *after;             /* [steps + 1][steps + 1]: node, sparse nodes before it; the last node is the end */
    prxi_dag_path *best;             /* cost: infinite until one is found */
} solver;

static way *at(const solver *s, way *list, int node, int sparse)
{
    return &list[node * (s->g->steps + 1) + sparse];
}

/* Of a path with n nodes before `node`. */
static double cost_of(const solver *s, int node, int n, int sparse)
{
    return (n - sparse) + sparse * s->cost->sparse + (node - n) * s->cost->cached;
}

/* Missing entries count as 0. */
static int compare(const double *a, int na, const double *b, int nb)
{
    for (int i = 0; i < na || i < nb; i++) {
        const double x = i < na ? a[i] : 0, y = i < nb ? b[i] : 0;
        if (x != y)
            return x < y ? -1 : 1;
    }
    return 0;
}

/* Leaves the last of n nodes, dense or sparse, by a jump of weight w. */
static void extend(const way *from, int n, int sparse, double w, way *out)
{
    int place = 0;
    *out = *from;
    out->sparse[n - 1] = (uint8_t)sparse;
    if (w == 0)
        return;
    while (place < from->n_weights && from->weights[place] >= w)
        place++;
    memmove(out->weights + place + 1, from->weights + place, (size_t)(from->n_weights - place) * sizeof w);
    out->weights[place] = w;
    out->n_weights++;
}

static void offer(const solver *s, const way *from, int n, int sparse, double w, int node, way *to)
{
    way try;
    if (to->known && w > (to->n_weights ? to->weights[0] : 0))
        return;
    extend(from, n, sparse, w, &try);
    if (to->known && compare(try.weights, try.n_weights, to->weights, to->n_weights) >= 0)
        return;
    *to = try;
    if (node < s->g->steps)
        to->step[n] = (int16_t)node;
}

/* Every jump out of node i, the last of n. */
static void leave(const solver *s, int i, int n, int used)
{
    const prxi_dag *g = s->g;
    const way *from = at(s, s->before, i, used);
    const int last = i == g->steps - 1;          /* leads to the end alone */
    for (int sparse = 0; from->known && sparse <= (g->sparse != NULL); sparse++)
        for (int j = i + 1; j <= (last ? g->steps : g->steps - 1) && j - i <= g->max_gap; j++) {
            const double w = sparse ? prxi_dag_sparse(g, i, j) : last ? 0 : prxi_dag_weight(g, i, j);
            if (!isnan(w) && cost_of(s, j, n, used + sparse) <= s->budget)
                offer(s, from, n, sparse, w, j, at(s, s->after, j, used + sparse));
        }
}

/* Paths of n nodes that have reached the end. */
static void take_best(const solver *s, int n)
{
    prxi_dag_path *best = s->best;
    for (int sparse = 0; sparse <= n; sparse++) {
        const way *w = at(s, s->after, s->g->steps, sparse);
        const double cost = cost_of(s, s->g->steps, n, sparse);
        const int c = !w->known ? 1 : compare(w->weights, w->n_weights, best->weights, best->n_weights);
        if (!w->known || (isfinite(best->cost) && (c > 0 || (c == 0 && cost >= best->cost))))
            continue;
        *best = (prxi_dag_path) { .n = n, .n_weights = w->n_weights, .n_sparse = sparse, .cost = cost };
        memcpy(best->weights, w->weights, (size_t)w->n_weights * sizeof *w->weights);
        memcpy(best->sparse, w->sparse, (size_t)n);
        for (int k = 0; k < n; k++)
            best->step[k] = w->step[k];
    }
}

static void forget(const solver *s, way *list)
{
    for (int i = 0; i < (s->g->steps + 1) * (s->g->steps + 1); i++)
        list[i].known = 0;
}

static void solve(solver *s)
{
    const int steps = s->g->steps;
    way *first = at(s, s->before, 0, 0);
    first->known = 1;                            /* one node: step 0 */
    for (int n = 1; n <= steps; n++) {
        forget(s, s->after);
        for (int i = n - 1; i < steps; i++)
            for (int used = 0; used < n; used++)
                leave(s, i, n, used);
        take_best(s, n);
        way *swap = s->before;
        s->before = s->after;
        s->after = swap;
    }
}

int prxi_dag_solve_joint(prxi_ctx *c, const prxi_dag *g, double budget, const prxi_dag_cost *cost, prxi_dag_path *out)
{
    const size_t n = ((size_t)g->steps + 1) * ((size_t)g->steps + 1);
    if (g->steps > PRXI_JOINT_MAX_STEPS)
        return prxi_fail(c, PRX_EINVAL, "steps: %d in the graph; at most %d with a budget of time", g->steps, PRXI_JOINT_MAX_STEPS);
    way *ways = prxi_calloc(c->mem, PRXI_MEM_SCRATCH, 2 * n, sizeof *ways);
    if (!ways)
        return prxi_fail_nomem(c, "schedule", 2 * n * sizeof *ways);
    *out = (prxi_dag_path) { .cost = INFINITY };
    solver s = { g, cost, budget, ways, ways + n, out };
    solve(&s);
    prxi_free(c->mem, ways);
    return isfinite(out->cost) ? PRX_OK
                               : prxi_fail(c, PRX_EINVAL, "cost: %g: no path is as cheap as that; a dense step costs 1, a sparse one %g, a "
                                           "cached one %g, and there are %d", budget, cost->sparse, cost->cached, g->steps);
}
