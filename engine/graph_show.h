/* A graph and schedules beside it, as prx_schedule_show reports and draws them. */
#ifndef PRXI_GRAPH_SHOW_H
#define PRXI_GRAPH_SHOW_H

#include "caching/dag.h"
#include "caching/schedule.h"

enum { PRXI_SHOWN_SCHEDULES = 32 };

typedef struct prxi_shown_schedule {
    const char *path;
    uint8_t computed[PRXI_DAG_MAX_STEPS];     /* on the steps of the graph */
    int n, first;                             /* of them; of those before the second expert */
    double worst, sum;                        /* over the jumps that the graph has */
    int worst_from, worst_to;                 /* -1: no jump */
    int unknown;                              /* jumps that the graph does not have */
} prxi_shown_schedule;

typedef struct prxi_shown {
    const char *path;
    prxi_dag g;
    prxi_schedule origin;                     /* sigmas, model, reuse of the graph */
    int64_t samples;                          /* 0: unknown */
    int n;
    prxi_shown_schedule schedule[PRXI_SHOWN_SCHEDULES];
} prxi_shown;

/* The step after i that the schedule computes; -1 after the last. */
int prxi_shown_next(const prxi_shown *s, const prxi_shown_schedule *d, int i);
int prxi_shown_draw(prxi_ctx *c, const prxi_shown *s, const char *png);

#endif
