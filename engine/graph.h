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
    int quick;
} prxi_graph_options;

enum { PRXI_GRAPH_PROMPTS = 1000, PRXI_GRAPH_SEEDS = 1000 };

typedef struct prxi_graph {
    prx_job *job;
    prxi_graph_options set;
    int steps, gap;
    int first[PRXI_DAG_MAX_STEPS];          /* where the expert of a step begins */
    int limit[PRXI_DAG_MAX_STEPS];          /* the last step that a jump from here may reach */
    char *text;                             /* copy of the prompts, cut into lines */
    const char *prompt[PRXI_GRAPH_PROMPTS];
    int64_t seed[PRXI_GRAPH_SEEDS];
    int n_prompts, n_seeds, samples;        /* samples: each prompt with each seed, seeds fastest */
    double *weight;                         /* [samples][steps][gap + 1]; NaN: not measured */
    uint8_t *done;                          /* [samples][steps]: rows that are complete */
    const char *state_path;                 /* or NULL */
    double saved_at;
} prxi_graph;

/* Whether this sample measures the jump i -> j: always, or in a quick graph every other end. A few jumps of the first sample are
 * measured all the same, to learn how well the others are interpolated: *check. */
int prxi_graph_wants(const prxi_graph *g, int sample, int i, int j, int *check);

static inline double *prxi_graph_row(const prxi_graph *g, int sample, int i)
{
    return g->weight + ((size_t)sample * (size_t)g->steps + (size_t)i) * ((size_t)g->gap + 1);
}

/* The state file: rows that are complete, and the settings that they belong to. load: a file that is not there is no error. */
int prxi_graph_state_save(prxi_graph *g);
int prxi_graph_state_load(prxi_graph *g);
/* The graph file of DESIGN.md section 6: means over the samples, in a quick graph with the rest interpolated. */
int prxi_graph_json(prxi_graph *g, char **json);

#endif
