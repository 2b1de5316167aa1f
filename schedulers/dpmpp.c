/* DPM-Solver++ 2M (Lu et al. 2022), midpoint form, as diffusers' DPMSolverMultistepScheduler with flow prediction and flow
 * sigmas (models.md section 4.3). Its sigma table is the older one in every version of diffusers. */
#include "sched_priv.h"

#include <math.h>

static void dpmpp_step(prxi_sched *st, int i, const float *v, float *x)
{
    const float *s = st->sigmas;
    const float sigma = s[i], keep = s[i + 1] / s[i];
    const double h = prxi_sched_lambda(s[i + 1]) - prxi_sched_lambda(s[i]);
    const float a = (float)((double)(1.0f - s[i + 1]) * expm1(-h));
    float d = 0;
    st->order = st->cfg.order > 1 && st->done > 0 && i < st->steps - 1 ? 2 : 1;
    if (st->order == 2)
        d = (float)(0.5 * h / (prxi_sched_lambda(s[i]) - prxi_sched_lambda(s[i - 1])));
    const prxi_latent_step u = { .kind = PRXI_LATENT_DPMPP, .n = (int64_t)st->n, .sigma = sigma, .p_keep = keep, .p_e = a, .p_d = d, .v = v,
                                 .x = x, .m1 = st->state[0] };
    st->ops.step(st->s, &u);
}

const prxi_scheduler prxi_sched_dpmpp = {
    .name = "dpmpp",
    .help = "DPM-Solver++ 2M, midpoint",
    .diffusers_class = "DPMSolverMultistepScheduler",
    .state_tensors = 1,
    .max_order = 2,
    .tables = prxi_sched_tables_flow_old,
    .step = dpmpp_step,
};
