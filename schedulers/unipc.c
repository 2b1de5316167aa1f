/* UniPC (Zhao et al. 2023) in the form of diffusers' UniPCMultistepScheduler: flow prediction, x0 form, B2(h), orders 1 and
 * 2, predictor and corrector (models.md section 4.1). */
#include "sched_priv.h"

#include <math.h>

enum { M1, M2, LAST };        /* state: x0 predictions of the last two steps, sample that the last predictor began with */

/* x' = keep * x - e_alpha * (m0 + d * (m1 - m0) + rho * (m - m0)) */
typedef struct update {
    float keep, e_alpha, d, rho;
} update;

/* Terms of a step from sigma s0 to st; returns h. */
static double begin_update(float s0, float st, update *u, double *e)
{
    const double h = prxi_sched_lambda(st) - prxi_sched_lambda(s0);
    *e = expm1(-h);
    u->keep = st / s0;
    u->e_alpha = (float)((double)(1.0f - st) * *e);
    u->d = u->rho = 0;
    return h;
}

static update predictor(const prxi_sched *st, int i, int order)
{
    update u;
    double e;
    const float *s = st->sigmas;
    const double h = begin_update(s[i], s[i + 1], &u, &e);
    if (order == 2) {
        const double rk = (prxi_sched_lambda(s[i - 1]) - prxi_sched_lambda(s[i])) / h;
        u.d = (float)(0.5 / rk);
    }
    return u;
}

static update corrector(const prxi_sched *st, int i, int order)
{
    update u;
    double e;
    const float *s = st->sigmas;
    const double h = begin_update(s[i - 1], s[i], &u, &e);
    if (order == 1) {
        u.rho = 0.5f;
        return u;
    }
    /* [1 1; rk 1] [r1 rho] = [b0 b1] */
    const double rk = (prxi_sched_lambda(s[i - 2]) - prxi_sched_lambda(s[i - 1])) / h;
    const double phi = e / -h - 1;
    const double b0 = phi / e, b1 = 2 * (phi / -h - 0.5) / e;
    const double r1 = (b1 - b0) / (rk - 1);
    u.d = (float)(r1 / rk);
    u.rho = (float)(b0 - r1);
    return u;
}

static void unipc_step(prxi_sched *st, int i, const float *v, float *x)
{
    float *restrict m1 = st->state[M1], *restrict m2 = st->state[M2], *restrict last = st->state[LAST];
    const float sigma = st->sigmas[i];
    const int correct = st->done > 0;
    /* The last step goes to sigma 0, where only order 1 is defined, whatever lower_order_final says. */
    int order = st->cfg.order;
    if (order > st->done + 1)
        order = st->done + 1;
    if (order > st->steps - i)
        order = st->steps - i;
    update c = { 1, 0, 0, 0 };
    if (correct)
        c = corrector(st, i, st->order);
    const update p = predictor(st, i, order);

    for (size_t k = 0; k < st->n; k++) {
        const float m = x[k] - sigma * v[k];
        float y = x[k];
        if (correct)
            y = c.keep * last[k] - c.e_alpha * m1[k] -
                c.e_alpha * (c.d * (m2[k] - m1[k]) + c.rho * (m - m1[k]));
        last[k] = y;
        x[k] = p.keep * y - p.e_alpha * m - p.e_alpha * (p.d * (m1[k] - m));
        m2[k] = m1[k];
        m1[k] = m;
    }
    st->order = order;
}

static int unipc_tables(prxi_ctx *c, const prxi_sched_config *cfg, int steps, float *sigmas, float *timesteps)
{
    return (cfg->old_sigmas ? prxi_sched_tables_flow_old : prxi_sched_tables_flow)(c, cfg, steps, sigmas, timesteps);
}

const prxi_scheduler prxi_sched_unipc = {
    .name = "unipc",
    .help = "UniPC of order 2 with corrector; what Wan models ship with",
    .diffusers_class = "UniPCMultistepScheduler",
    .state_tensors = 3,
    .tables = unipc_tables,
    .step = unipc_step,
};
