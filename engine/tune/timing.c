/* The result beside the reference once more, in turns on the same prompts: what the machine did meanwhile hits both. */
#include <math.h>

#include "tune.h"

enum { ROUNDS = 5 };

/* Share of the reference's time, by calibration: prompt by prompt, so that slow prompts count for both. */
static double predicted_share(const prx_tune *t, int k)
{
    const prxi_candidate *x = &t->candidates[k];
    double list[PRXI_TUNE_MOST_PROMPTS];
    for (int i = 0; i < x->n; i++)
        list[i] = x->seconds[i] / t->reference_seconds[i];
    return prxi_median(list, x->n);
}

static int time_one(prx_tune *t, const prxi_pairs *setting, int prompt, double *seconds)
{
    prxi_trial r;
    const int err = prxi_lab_run(&t->ctx, &t->lab, setting, t->split.prompts[prompt], t->seed, NULL, &r);
    if (err < 0)
        return err;
    *seconds = r.seconds;
    prxi_trial_close(&t->ctx, &r);
    return PRX_OK;
}

int prxi_tune_time(prx_tune *t)
{
    const int k = t->best.candidate;
    double seconds[2][ROUNDS];
    prxi_timing *out = &t->timing;
    while (t->best.holds && out->rounds < ROUNDS && prxi_tune_left(t) > 1.5 * (t->best.seconds + prxi_tune_reference_time(t))) {
        const int n = out->rounds, prompt = t->split.calibration + n % t->goal.held_out;
        int err = prxi_tune_tell(t, "timing", n, ROUNDS);
        for (int i = 0; i < 2 && err == PRX_OK; i++) {       /* each goes first in its turn */
            const int which = (i + n) % 2;
            err = time_one(t, which ? &t->candidates[k].all : &t->reference, prompt, &seconds[which][n]);
        }
        if (err == PRX_ECANCELED && !t->lab.cancelled) {
            prxi_clear(&t->ctx);
            break;
        }
        if (err < 0)
            return err;
        out->rounds++;
    }
    out->reference = prxi_median(seconds[0], out->rounds);
    out->seconds = prxi_median(seconds[1], out->rounds);
    out->predicted = t->best.holds ? out->reference * predicted_share(t, k) : NAN;
    return PRX_OK;
}
