/* Schedulers: sigma tables and the update of the latents. They never call the model. */
#ifndef PRXI_SCHEDULER_H
#define PRXI_SCHEDULER_H

#include "engine/core/ctx.h"
#include "engine/core/json.h"
#include "engine/ops/latent.h"

typedef struct prxi_sched_config {
    double shift;              /* flow_shift / shift */
    int order;                 /* solver_order, 1 to the scheduler's max_order */
    int train_timesteps;       /* 1000 */
    int old_sigmas;            /* 1: diffusers <= 0.36 and original Wan (models.md 4.1) */
    int lower_order_final;
} prxi_sched_config;

typedef struct prxi_sched prxi_sched;    /* state of one job */

typedef struct prxi_scheduler {
    const char *name, *help;              /* "unipc", "euler", "dpmpp" */
    const char *diffusers_class;          /* class that this reproduces */
    size_t state_tensors;                 /* f32 tensors of latent size that it keeps */
    int max_order;                        /* 0: it has one order, and none is chosen */
    /* Fills sigmas[steps + 1] (last 0) and timesteps[steps]. */
    int (*tables)(prxi_ctx *c, const prxi_sched_config *cfg, int steps, float *sigmas, float *timesteps);
    /* x (f32 [n]) becomes the sample of the next step; v is the guided velocity (f32). Called for i = 0, 1, ... Finds the coefficients; the
     * arithmetic is an op. */
    void (*step)(prxi_sched *st, int i, const float *v, float *x);
} prxi_scheduler;

const prxi_scheduler *prxi_scheduler_at(int i);
const prxi_scheduler *prxi_scheduler_find(const char *name);
const prxi_scheduler *prxi_scheduler_for_class(const char *diffusers_class);
/* Config defaults, then scheduler_config.json where given (unknown class or prediction type: PRX_EFORMAT). */
int prxi_sched_config_load(prxi_ctx *c, const prxi_json *j, prxi_sched_config *out, const prxi_scheduler **which);

int  prxi_sched_open(prxi_ctx *c, prxi_sched **out, const prxi_scheduler *which, const prxi_sched_config *cfg,
                     int steps, size_t latent_elems);
/* The same with latents and state where the stream's kernels are; s must outlive it. */
int  prxi_sched_open_on(prxi_ctx *c, prxi_sched **out, const prxi_scheduler *which, const prxi_sched_config *cfg, int steps,
                        size_t latent_elems, prxi_stream *s, const prxi_latent_ops *ops);
void prxi_sched_close(prxi_ctx *c, prxi_sched **st);
const float *prxi_sched_sigmas(const prxi_sched *st);       /* [steps + 1] */
const float *prxi_sched_timesteps(const prxi_sched *st);    /* [steps] */
void prxi_sched_step(prxi_sched *st, int i, const float *v, float *x);
/* For --save-state: the state as bytes (sizes are fixed by open). */
size_t prxi_sched_state_size(const prxi_sched *st);
void prxi_sched_save(const prxi_sched *st, void *out);
int  prxi_sched_restore(prxi_ctx *c, prxi_sched *st, const void *in, size_t n);

#endif
