/* Sigma tables, value for value as diffusers forms them: double arithmetic in its order of operations, rounded to
 * float32 at the end; timesteps cut to integers where it does so (models.md sections 4.1 to 4.3). */
#include "sched_priv.h"

#include <math.h>

/* The flow shift of SD3 (Esser et al. 2024). */
static double shifted(double shift, double r)
{
    return shift * r / (1 + (shift - 1) * r);
}

/* ln(alpha / sigma) must fall from step to step and be finite before the last, or the multistep solvers divide by 0. */
static int check_decreasing(prxi_ctx *c, const prxi_sched_config *cfg, int steps, const float *sigmas)
{
    for (int i = 0; i < steps; i++) {
        const float above = i ? sigmas[i - 1] : 1.0f;
        if (!(sigmas[i] < above && sigmas[i] > 0))
            return prxi_fail(c, PRX_EINVAL, "scheduler: shift %g with %d steps puts sigma %d at %.9g, which is not between 0 "
                             "and the one before; use a smaller shift or fewer steps", cfg->shift, steps, i, (double)sigmas[i]);
    }
    return PRX_OK;
}

/* i-th of numpy.linspace(1, 1 / train, steps + 1). */
static double ramp(const prxi_sched_config *cfg, int steps, int i)
{
    const double last = 1.0 / cfg->train_timesteps;
    return i == steps ? last : i * ((last - 1.0) / steps) + 1.0;
}

static void finish_integer(const prxi_sched_config *cfg, double sigma, float *sigma_out, float *timestep_out)
{
    *sigma_out = (float)sigma;
    *timestep_out = (float)trunc(sigma * cfg->train_timesteps);
}

int prxi_sched_tables_flow(prxi_ctx *c, const prxi_sched_config *cfg, int steps, float *sigmas, float *timesteps)
{
    for (int i = 0; i < steps; i++) {
        double s = shifted(cfg->shift, ramp(cfg, steps, i));
        if (i == 0 && fabs(s - 1) < 1e-6)
            s -= 1e-6;        /* ln(1 - sigma) must exist */
        finish_integer(cfg, s, &sigmas[i], &timesteps[i]);
    }
    sigmas[steps] = 0;
    return check_decreasing(c, cfg, steps, sigmas);
}

int prxi_sched_tables_flow_old(prxi_ctx *c, const prxi_sched_config *cfg, int steps, float *sigmas, float *timesteps)
{
    for (int i = 0; i < steps; i++)
        finish_integer(cfg, shifted(cfg->shift, 1.0 - ramp(cfg, steps, steps - i)), &sigmas[i], &timesteps[i]);
    sigmas[steps] = 0;
    return check_decreasing(c, cfg, steps, sigmas);
}

/* FlowMatchEulerDiscreteScheduler: its constructor shifts sigma_min and sigma_max in float32, then set_timesteps shifts
 * everything between them again. */
int prxi_sched_tables_euler(prxi_ctx *c, const prxi_sched_config *cfg, int steps, float *sigmas, float *timesteps)
{
    const float shift = (float)cfg->shift, shift_1 = (float)(cfg->shift - 1), train = (float)cfg->train_timesteps;
    const float low = 1.0f / train;
    const double sigma_max = shift * 1.0f / (1.0f + shift_1 * 1.0f), sigma_min = shift * low / (1.0f + shift_1 * low);
    const double first = sigma_max * cfg->train_timesteps, last = sigma_min * cfg->train_timesteps;
    for (int i = 0; i < steps; i++) {
        double t = first;
        if (i && i == steps - 1)
            t = last;
        else if (i)
            t = i * ((last - first) / (steps - 1)) + first;
        sigmas[i] = (float)shifted(cfg->shift, t / cfg->train_timesteps);
        timesteps[i] = sigmas[i] * train;
    }
    sigmas[steps] = 0;
    (void)c;
    return PRX_OK;
}

double prxi_sched_lambda(float sigma)
{
    const float alpha = 1.0f - sigma;
    return sigma > 0 ? log(alpha) - log(sigma) : INFINITY;
}
