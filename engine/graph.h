/* LeMiCa's graph, measured on a model (graph_build.c), kept between interruptions and written (graph_file.c), drawn (graph_plot.c). */
#ifndef PRXI_GRAPH_H
#define PRXI_GRAPH_H

#include "caching/dag.h"
#include "caching/replay.h"
#include "job.h"

/* What a measurement is asked for; replay first: its hooks get this as priv. */
typedef struct prxi_graph_options {
    prxi_replay replay;
    int64_t max_gap;
    int quick, sparse;                      /* sparse: every jump also from a step with the job's attention, all else being dense */
} prxi_graph_options;

enum { PRXI_GRAPH_PROMPTS = 1000, PRXI_GRAPH_SEEDS = 1000 };

typedef struct prxi_graph {
    prx_job *job;
    prxi_graph_options set;
    int steps, gap;
    int rows;                               /* of a sample: one for each step, then, with sparse, one for each sparse step */
    int first[PRXI_DAG_MAX_STEPS];          /* where the expert of a step begins */
    int limit[PRXI_DAG_MAX_STEPS];          /* the last step that a jump from here may reach */
    char *text;                             /* copy of the prompts, cut into lines */
    const char *prompt[PRXI_GRAPH_PROMPTS];
    int64_t seed[PRXI_GRAPH_SEEDS];
    int n_prompts, n_seeds, samples;        /* samples: each prompt with each seed, seeds fastest */
    double *weight;                         /* [samples][rows][gap + 1]; NaN: not measured */
    uint8_t *done;                          /* [samples][rows]: those that are complete */
    const char *state_path;                 /* or NULL */
    double saved_at;
} prxi_graph;

/* Whether this sample measures the jump of a row to step j: always, or in a quick graph every other end. A few jumps of the first
 * sample are measured all the same, to learn how well the others are interpolated: *check. */
int prxi_graph_wants(const prxi_graph *g, int sample, int row, int j, int *check);

/* Where the jumps of a row begin, whether that step is sparse, and the shortest and farthest ends: a sparse step has an error without
 * any jump, and the last one too. */
static inline int prxi_graph_from(const prxi_graph *g, int row) { return row % g->steps; }
static inline int prxi_graph_sparse(const prxi_graph *g, int row) { return row >= g->steps; }
static inline int prxi_graph_near(const prxi_graph *g, int row) { return row % g->steps + (row >= g->steps ? 1 : 2); }
int prxi_graph_far(const prxi_graph *g, int row);

static inline double *prxi_graph_row(const prxi_graph *g, int sample, int row)
{
    return g->weight + ((size_t)sample * (size_t)g->rows + (size_t)row) * ((size_t)g->gap + 1);
}

/* The state file: rows that are complete, and the settings that they belong to. load: a file that is not there is no error. */
int prxi_graph_state_save(prxi_graph *g);
int prxi_graph_state_load(prxi_graph *g);
/* The graph file of DESIGN.md section 6: means over the samples, in a quick graph with the rest interpolated. */
int prxi_graph_json(prxi_graph *g, char **json);

#endif
