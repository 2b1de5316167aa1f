/* LeMiCa's graph and its exact solver (caching.md 2.1, 2.2; LeMiCa, NeurIPS 2025): nodes are steps, an edge (i, j)
 * says that i and j are computed
 * and everything between reuses i; its weight is the measured error at the outcome. */
#ifndef PRXI_DAG_H
#define PRXI_DAG_H

#include "engine/core/json.h"

enum { PRXI_DAG_MAX_STEPS = 200 };

typedef struct prxi_dag {
    int steps, max_gap;
    double *weight;              /* [steps][max_gap + 1]: weight[i][j - i]; 0 for gap 1, NaN where there is no edge */
} prxi_dag;

typedef enum prxi_dag_objective { PRXI_DAG_MINIMAX, PRXI_DAG_SUM } prxi_dag_objective;

typedef struct prxi_dag_path {
    int n;                       /* computed steps = budget */
    int step[PRXI_DAG_MAX_STEPS];
    int n_weights;               /* cached segments */
    double weights[PRXI_DAG_MAX_STEPS];      /* of the cached segments, largest first */
} prxi_dag_path;

int  prxi_dag_open(prxi_ctx *c, prxi_dag *g, int steps, int max_gap);      /* gap 1 weighs 0, no other edges */
void prxi_dag_close(prxi_ctx *c, prxi_dag *g);
/* Graph JSON of DESIGN.md section 6. Backward edges, self loops, steps out of range, weights that are negative or no number, gaps
 * beyond max_gap, and an edge given twice are errors that name it. */
int  prxi_dag_read(prxi_ctx *c, prxi_dag *g, const prxi_json *j);
/* The path 0 -> steps - 1 with exactly `budget` nodes that minimises the descending list of segment weights
 * lexicographically (or the sum);
 * ties go to the lexicographically smallest path. No such path: PRX_EINVAL that says which budgets there are. */
int  prxi_dag_solve(prxi_ctx *c, const prxi_dag *g, int budget, prxi_dag_objective o, prxi_dag_path *out);

static inline double prxi_dag_weight(const prxi_dag *g, int i, int j)
{
    return g->weight[i * (g->max_gap + 1) + (j - i)];
}

#endif
