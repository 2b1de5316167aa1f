/* Schedule files: which steps are computed (DESIGN.md section 6), and how one made for other sigmas is carried over. */
#ifndef PRXI_SCHEDULE_H
#define PRXI_SCHEDULE_H

#include "cache.h"
#include "engine/core/json.h"

enum { PRXI_SCHEDULE_MAX = 1000 };

typedef struct prxi_schedule {
    int steps, n;
    int computed[PRXI_SCHEDULE_MAX];     /* n indices, ascending */
    int boundary;                        /* first step of the second expert, which is computed; 0: nothing is said of experts */
    int has_sigmas;
    double sigmas[PRXI_SCHEDULE_MAX];    /* of all steps */
    int has_attention;                   /* it says which computed steps are sparse; else the attention policy decides */
    uint8_t sparse[PRXI_SCHEDULE_MAX];   /* [n] */
    double worst_edge;                   /* NaN: unknown */
    char model[128], reuse[16];          /* "": unknown */
} prxi_schedule;

/* Every field is checked: ascending indices inside the steps, the first step computed, sigmas falling. */
int prxi_schedule_read(prxi_ctx *c, prxi_schedule *s, const prxi_json *j);
/* What schedule and graph files share: sigmas of all s->steps steps, boundary_step, model, settings.reuse. */
int prxi_schedule_read_origin(prxi_ctx *c, prxi_schedule *s, const prxi_json *j);
/* The steps of a job: its sigmas [steps + 1], last 0, and where its second expert begins; 0 or steps: it has one. */
typedef struct prxi_job_steps {
    int steps, boundary;
    const float *sigmas;
} prxi_job_steps;

/* computed[i], a prxi_step_kind, for the steps of a job. With sigmas in the schedule each computed step goes to the nearest step of the
 * job in sigma that is free and of the same expert; without them the steps must agree. The first step of an expert stays its first,
 * and a computed last step the last. */
int prxi_schedule_map(prxi_ctx *c, const prxi_schedule *s, const prxi_job_steps *job, uint8_t *computed);

#endif
