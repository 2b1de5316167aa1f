/* LeMiCa's graph and its exact solver (caching.md 2.1, 2.2; LeMiCa, NeurIPS 2025): nodes are steps, an edge (i, j)
 * says that i and j are computed
 * and everything between reuses i; its weight is the measured error at the outcome.
 *
 * A graph may have a second weight for each edge: what becomes of it when i is computed with sparse attention. Then gap 1 has a
 * weight too, and the last step an edge to the end (steps). Paths through both are found for a budget of time (joint.c). */
#ifndef PRXI_DAG_H
#define PRXI_DAG_H

#include "engine/core/json.h"

enum { PRXI_DAG_MAX_STEPS = 200 };

typedef struct prxi_dag {
    int steps, max_gap;
    int boundary;                /* first step of the second expert, which no edge passes and every path computes; 0: one expert */
    double *weight;              /* [steps][max_gap + 1]: weight[i][j - i]; 0 for gap 1, NaN where there is no edge */
    double *sparse;              /* the same with step i sparse, gap 1 measured; NULL: the graph has no such edges */
} prxi_dag;

typedef enum prxi_dag_objective { PRXI_DAG_MINIMAX, PRXI_DAG_SUM } prxi_dag_objective;

/* Computed steps of a path. Of a graph of two experts, `first` of them in the first one; 0: the best path decides. */
typedef struct prxi_dag_budget {
    int total, first;
} prxi_dag_budget;

typedef struct prxi_dag_path {
    int n;                       /* computed steps = budget */
    int step[PRXI_DAG_MAX_STEPS];
    int n_weights;               /* cached segments */
    double weights[PRXI_DAG_MAX_STEPS];      /* of the cached segments, largest first; joint: of the sparse steps too */
    int n_sparse;
    uint8_t sparse[PRXI_DAG_MAX_STEPS];      /* joint: step[k] is computed with sparse attention */
    double cost;                             /* joint */
} prxi_dag_path;

/* What steps cost, a dense one 1. */
typedef struct prxi_dag_cost {
    double sparse, cached;
} prxi_dag_cost;

int  prxi_dag_open(prxi_ctx *c, prxi_dag *g, int steps, int max_gap);      /* gap 1 weighs 0, no other edges */
void prxi_dag_close(prxi_ctx *c, prxi_dag *g);
int  prxi_dag_add_sparse(prxi_ctx *c, prxi_dag *g);                        /* no edges yet */
/* Graph JSON of DESIGN.md section 6. Backward edges, self loops, steps out of range, weights that are negative or no number, gaps
 * beyond max_gap, an edge that passes the boundary between experts, and one given twice are errors that name it. */
int  prxi_dag_read(prxi_ctx *c, prxi_dag *g, const prxi_json *j);
/* budget.c: "11", or "6+5" for a graph of two experts. fail: PRX_EINVAL that says which budgets there are. */
int  prxi_dag_budget_parse(prxi_ctx *c, const char *text, prxi_dag_budget *out);
int  prxi_dag_budget_fail(prxi_ctx *c, const prxi_dag *g, prxi_dag_budget budget);
/* The path 0 -> steps - 1 with exactly that many nodes that minimises the descending list of segment weights
 * lexicographically (or the sum); ties go to the lexicographically smallest path. */
int  prxi_dag_solve(prxi_ctx *c, const prxi_dag *g, prxi_dag_budget budget, prxi_dag_objective o, prxi_dag_path *out);
/* joint.c: the path 0 -> steps - 1 of any number of nodes, each dense or sparse, that costs at most `budget` and minimises the descending
 * list of weights lexicographically; of equals the cheapest. At most PRXI_JOINT_MAX_STEPS steps. */
enum { PRXI_JOINT_MAX_STEPS = 100 };
int  prxi_dag_solve_joint(prxi_ctx *c, const prxi_dag *g, double budget, const prxi_dag_cost *cost, prxi_dag_path *out);

static inline double prxi_dag_weight(const prxi_dag *g, int i, int j)
{
    return g->weight[i * (g->max_gap + 1) + (j - i)];
}

static inline double prxi_dag_sparse(const prxi_dag *g, int i, int j)
{
    return g->sparse[i * (g->max_gap + 1) + (j - i)];
}

#endif
