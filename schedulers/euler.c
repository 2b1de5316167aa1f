/* The Euler method on the flow, as diffusers' FlowMatchEulerDiscreteScheduler (models.md section 4.2). */
#include "sched_priv.h"

static void euler_step(prxi_sched *st, int i, const float *v, float *x)
{
    const prxi_latent_step a = { .kind = PRXI_LATENT_EULER, .n = (int64_t)st->n, .dt = st->sigmas[i + 1] - st->sigmas[i], .v = v, .x = x };
    st->ops.step(st->s, &a);
    st->order = 1;
}

const prxi_scheduler prxi_sched_euler = {
    .name = "euler",
    .help = "Euler steps on the flow; no memory of earlier steps",
    .diffusers_class = "FlowMatchEulerDiscreteScheduler",
    .state_tensors = 0,
    .tables = prxi_sched_tables_euler,
    .step = euler_step,
};
