/* UniPC (Zhao et al. 2023) in the form of diffusers' UniPCMultistepScheduler: flow prediction, x0 form, B2(h), orders 1 to 3,
 * predictor and corrector (models.md section 4.1). */
#include "sched_priv.h"

#include <math.h>

/* State: x0 predictions of the last three steps, and the sample that the last predictor began with. */
enum { M1, M2, LAST, M3 };

/* x' = keep * x - e_alpha * (m0 + d * (m1 - m0) + d2 * (m2 - m0) + rho * (m - m0)) */
typedef struct update {
    float keep, e_alpha, d, d2, rho;
} update;

/* Terms of a step from sigma s0 to st; returns h. */
static double begin_update(float s0, float st, update *u, double *e)
{
    const double h = prxi_sched_lambda(st) - prxi_sched_lambda(s0);
    *e = expm1(-h);
    u->keep = st / s0;
    u->e_alpha = (float)((double)(1.0f - st) * *e);
    u->d = u->d2 = u->rho = 0;
    return h;
}

/* Right-hand sides b[0..2] of the conditions of order: phi functions of -h over B(h) = e. */
static void conditions(double h, double e, double b[3])
{
    double phi = e / -h - 1, factorial = 1;
    for (int k = 0; k < 3; k++) {
        b[k] = phi * factorial / e;
        factorial *= k + 2;
        phi = phi / -h - 1 / factorial;
    }
}

/* Distance of step `at` from the step that begins, `from`, in units of h. */
static double ratio(const float *sigmas, int at, int from, double h)
{
    return (prxi_sched_lambda(sigmas[at]) - prxi_sched_lambda(sigmas[from])) / h;
}

static update predictor(const prxi_sched *st, int i, int order)
{
    update u;
    double e;
    const float *s = st->sigmas;
    const double h = begin_update(s[i], s[i + 1], &u, &e);
    if (order == 2)
        u.d = (float)(0.5 / ratio(s, i - 1, i, h));
    if (order == 3) {
        /* [1 1; ra rb] [pa pb] = [b0 b1] */
        const double ra = ratio(s, i - 1, i, h), rb = ratio(s, i - 2, i, h);
        double b[3];
        conditions(h, e, b);
        const double pb = (b[1] - ra * b[0]) / (rb - ra);
        u.d = (float)((b[0] - pb) / ra);
        u.d2 = (float)(pb / rb);
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
    const double ra = ratio(s, i - 2, i - 1, h);
    double b[3];
    conditions(h, e, b);
    if (order == 2) {
        /* [1 1; ra 1] [pa rho] = [b0 b1] */
        const double pa = (b[1] - b[0]) / (ra - 1);
        u.d = (float)(pa / ra);
        u.rho = (float)(b[0] - pa);
        return u;
    }
    /* [1 1 1; ra rb 1; ra^2 rb^2 1] [pa pb rho] = [b0 b1 b2], the first row taken from the others */
    const double rb = ratio(s, i - 3, i - 1, h);
    const double pb = (b[2] - b[0] - (ra + 1) * (b[1] - b[0])) / ((rb - 1) * (rb - ra));
    const double pa = (b[1] - b[0] - pb * (rb - 1)) / (ra - 1);
    u.d = (float)(pa / ra);
    u.d2 = (float)(pb / rb);
    u.rho = (float)(b[0] - pa - pb);
    return u;
}

static void unipc_step(prxi_sched *st, int i, const float *v, float *x)
{
    const int correct = st->done > 0;
    /* The last step goes to sigma 0, where only order 1 is defined, whatever lower_order_final says. */
    int order = st->cfg.order;
    if (order > st->done + 1)
        order = st->done + 1;
    if (order > st->steps - i)
        order = st->steps - i;
    update c = { 1, 0, 0, 0, 0 };
    if (correct)
        c = corrector(st, i, st->order);
    const update p = predictor(st, i, order);
    const prxi_latent_step a = { PRXI_LATENT_UNIPC, (int64_t)st->n, correct, st->sigmas[i], 0, c.keep, c.e_alpha, c.d, c.d2, c.rho,
                                 p.keep, p.e_alpha, p.d, p.d2, v, x, st->state[M1], st->state[M2], st->state[M3], st->state[LAST] };
    st->ops.step(st->s, &a);
    st->order = order;
}

static int unipc_tables(prxi_ctx *c, const prxi_sched_config *cfg, int steps, float *sigmas, float *timesteps)
{
    return (cfg->old_sigmas ? prxi_sched_tables_flow_old : prxi_sched_tables_flow)(c, cfg, steps, sigmas, timesteps);
}

const prxi_scheduler prxi_sched_unipc = {
    .name = "unipc",
    .help = "UniPC with corrector; what Wan models ship with, of order 2",
    .diffusers_class = "UniPCMultistepScheduler",
    .state_tensors = 4,
    .max_order = 3,
    .tables = unipc_tables,
    .step = unipc_step,
};
