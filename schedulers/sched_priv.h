/* What the scheduler files share: the state of one job and the sigma tables. */
#ifndef PRXI_SCHED_PRIV_H
#define PRXI_SCHED_PRIV_H

#include "scheduler.h"

#include "engine/core/device.h"
#include "engine/ops/latent.h"

#define PRXI_SCHED_MAX_STATE 4

struct prxi_sched {
    const prxi_scheduler *which;
    prxi_sched_config cfg;
    int steps;
    size_t n;                                /* floats in the latents */
    float *sigmas, *timesteps;
    prxi_stream *s;                          /* of the updates; its device has latents and state */
    prxi_latent_ops ops;
    prxi_stream host;                        /* where no stream was given */
    float *state[PRXI_SCHED_MAX_STATE];      /* state_tensors of them */
    int done;                                /* steps made in this run: a run may begin at i > 0 */
    int order;                               /* of the last predictor; 0 before the first */
};

extern const prxi_scheduler prxi_sched_unipc, prxi_sched_euler, prxi_sched_dpmpp;

/* ln(alpha) - ln(sigma), alpha = 1 - sigma formed in float32 as diffusers does. sigma 0 gives +inf. */
double prxi_sched_lambda(float sigma);

int prxi_sched_tables_flow(prxi_ctx *c, const prxi_sched_config *cfg, int steps, float *sigmas, float *timesteps);
int prxi_sched_tables_flow_old(prxi_ctx *c, const prxi_sched_config *cfg, int steps, float *sigmas, float *timesteps);
int prxi_sched_tables_euler(prxi_ctx *c, const prxi_sched_config *cfg, int steps, float *sigmas, float *timesteps);

#endif
