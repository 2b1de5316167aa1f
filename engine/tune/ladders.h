/* What the search may change: axes, and on each axis ladders, from a mild rung to a strong one. */
#ifndef PRXI_TUNE_LADDERS_H
#define PRXI_TUNE_LADDERS_H

#include "engine/sweep/pairs.h"

enum { PRXI_TUNE_AXES = 3 };
extern const char *const prxi_tune_axes[PRXI_TUNE_AXES];

typedef enum prxi_rung_kind {
    PRXI_RUNG_LINEAR, PRXI_RUNG_LOG,       /* the value itself */
    PRXI_RUNG_STEPS,                       /* a share of the steps, rounded, at least 1 */
    PRXI_RUNG_SHARE,                       /* a share of the steps, rounded; 0 is one */
    PRXI_RUNG_COUNT,                       /* a whole number */
    PRXI_RUNG_GRAPH,                       /* a share of the steps of the model's LeMiCa graph, rounded, at least 2 */
    PRXI_RUNG_COST                         /* a share of the time of so many dense steps; brings the graph's sparse attention with it */
} prxi_rung_kind;

typedef struct prxi_ladder {
    const char *axis, *name;
    const char *fixed;                     /* "key=value ..." of every rung; "key=@0.2": that share of the steps, at least 1 */
    const char *key;                       /* what the rungs differ in */
    prxi_rung_kind kind;
    double mild, strong;
} prxi_ladder;

const prxi_ladder *prxi_ladder_at(int i);  /* NULL after the last */
int prxi_ladder_axis(const prxi_ladder *l);

/* What shares are of. */
typedef struct prxi_rung_env {
    int64_t steps, graph_steps;            /* graph_steps 0: the model has no graph */
    const prxi_pairs *sparse;              /* attention that the graph's sparse jumps were measured with; NULL or empty: it has none */
    double sparse_cost, cached_cost;       /* time of such a step here, and of a cached one, a dense one being 1 */
} prxi_rung_env;

/* Adds the settings of the rung at `at` (0 mild, 1 strong) to p. A ladder over steps changes env->steps for those after it. */
int prxi_ladder_apply(prxi_ctx *c, prxi_pairs *p, const prxi_ladder *l, double at, prxi_rung_env *env);

#endif
