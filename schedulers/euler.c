/* The Euler method on the flow, as diffusers' FlowMatchEulerDiscreteScheduler (models.md section 4.2). */
#include "sched_priv.h"

static void euler_step(prxi_sched *st, int i, const float *v, float *x)
{
    const float dt = st->sigmas[i + 1] - st->sigmas[i];
    for (size_t k = 0; k < st->n; k++)
        x[k] += dt * v[k];
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
