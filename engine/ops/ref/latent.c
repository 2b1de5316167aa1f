/* Updates of the latents: small arrays, one thread. */
#include "engine/ops/latent.h"

#include <math.h>

static void guide(prxi_stream *s, int64_t n, float *cond, const float *uncond, float guidance)
{
    (void)s;
    for (int64_t i = 0; i < n; i++)
        cond[i] = uncond[i] + guidance * (cond[i] - uncond[i]);
}

static void euler(const prxi_latent_step *a)
{
    for (int64_t k = 0; k < a->n; k++)
        a->x[k] += a->dt * a->v[k];
}

static void dpmpp(const prxi_latent_step *a)
{
    float *restrict x = a->x, *restrict before = a->m1;
    for (int64_t k = 0; k < a->n; k++) {
        const float m = x[k] - a->sigma * a->v[k];
        x[k] = a->p_keep * x[k] - a->p_e * m - a->p_e * (a->p_d * (m - before[k]));
        before[k] = m;
    }
}

static void unipc(const prxi_latent_step *a)
{
    float *restrict x = a->x, *restrict m1 = a->m1, *restrict m2 = a->m2, *restrict m3 = a->m3, *restrict last = a->last;
    for (int64_t k = 0; k < a->n; k++) {
        const float m = x[k] - a->sigma * a->v[k];
        float y = x[k];
        if (a->correct)
            y = a->c_keep * last[k] - a->c_e * m1[k] -
                a->c_e * (a->c_d * (m2[k] - m1[k]) + a->c_rho * (m - m1[k]) + a->c_d2 * (m3[k] - m1[k]));
        last[k] = y;
        x[k] = a->p_keep * y - a->p_e * m - a->p_e * (a->p_d * (m1[k] - m) + a->p_d2 * (m2[k] - m));
        m3[k] = m2[k];
        m2[k] = m1[k];
        m1[k] = m;
    }
}

static void step(prxi_stream *s, const prxi_latent_step *a)
{
    (void)s;
    static void (*const kinds[])(const prxi_latent_step *) = { euler, dpmpp, unipc };
    kinds[a->kind](a);
}

static int64_t bad(prxi_stream *s, int64_t n, const float *x)
{
    (void)s;
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return i;
    return -1;
}

void prxi_latent_init_ref(prxi_latent_ops *t)
{
    *t = (prxi_latent_ops) { guide, step, bad, NULL, NULL };
}
