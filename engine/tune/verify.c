/* Verification end to end on prompts that the search never saw: the fastest candidates first, until one holds. */
#include <math.h>
#include <stdio.h>

#include "tune.h"

enum { ATTEMPTS = 12, EARLIEST_VERDICT = 3 };
static const double better = 0.97;

double prxi_tune_reserve(const prx_tune *t)
{
    const double reference = prxi_tune_reference_time(t);
    double fastest = reference, sum = 0;
    if (isnan(reference))
        return 0;
    for (int k = 0; k < t->n_candidates; k++) {
        const prxi_candidate *x = &t->candidates[k];
        const double seconds = prxi_median(x->seconds, x->n);
        if (!x->tried && prxi_tune_judge(t, k) == PRXI_HOLDS && seconds < fastest)
            fastest = seconds;
    }
    for (int i = t->split.calibration; i < t->split.n; i++)
        sum += fastest + (t->clips[i].frames ? 0 : reference);
    return 1.15 * sum;
}

/* ---- whose turn it is ---- */

static int most_prompts(const prx_tune *t)
{
    int n = 0;
    for (int k = 0; k < t->n_candidates; k++)
        if (t->candidates[k].n > n && prxi_tune_judge(t, k) == PRXI_HOLDS)
            n = t->candidates[k].n;
    return n;
}

static double calibration_mean(const prx_tune *t, int k)
{
    return prxi_sample_of(t->candidates[k].held, t->candidates[k].n, t->goal.confidence, 0).mean;
}

/* The cheapest that holds in calibration by `need` or more, on at least half as many prompts as any has seen. */
static int next_candidate(const prx_tune *t, double need)
{
    const int least = (most_prompts(t) + 1) / 2;
    double limit = t->measure == PRXI_BY_SPEEDUP ? INFINITY : prxi_tune_reference_time(t);
    int best = PRXI_NO_CANDIDATE;
    if (t->best.holds)
        limit = prxi_tune_cost(t, t->best.candidate) * (t->measure == PRXI_BY_SPEEDUP ? 1 : better);
    for (int k = 0; k < t->n_candidates; k++) {
        const prxi_candidate *x = &t->candidates[k];
        if (x->tried || x->n < least || prxi_tune_judge(t, k) != PRXI_HOLDS || !(calibration_mean(t, k) >= need))
            continue;
        const double cost = prxi_tune_cost(t, k);
        if (cost < limit)
            best = k, limit = cost;
    }
    return best;
}

/* ---- one candidate ---- */

/* Whether more prompts could still change a verdict that looks bad. */
static int hopeless(const prx_tune *t, const double *held, int n)
{
    const prxi_sample s = prxi_sample_of(held, n, t->goal.confidence, t->goal.target);
    return n >= EARLIEST_VERDICT && s.mean + (s.mean - s.bound) < t->goal.target;
}

static void conclude(const prx_tune *t, prxi_proof *p, const double *held, const double *speedup, const double *seconds,
                     const double *quality)
{
    const double confidence = t->goal.confidence;
    p->held = prxi_sample_of(held, p->n, confidence, t->goal.target);
    p->speedup = prxi_sample_of(speedup, p->n, confidence, 1);
    p->quality = prxi_sample_of(quality, p->n, confidence, 0);
    p->seconds = prxi_median(seconds, p->n);
    p->worst_prompt = t->split.calibration + p->held.worst_at;
    p->holds = p->n == t->goal.held_out && p->held.bound >= t->goal.target && p->speedup.bound > 1;
}

static int prove(prx_tune *t, int k, prxi_proof *p)
{
    double held[PRXI_TUNE_MOST_PROMPTS], speedup[PRXI_TUNE_MOST_PROMPTS], seconds[PRXI_TUNE_MOST_PROMPTS];
    double quality[PRXI_TUNE_MOST_PROMPTS];
    prxi_candidate *x = &t->candidates[k];
    *p = (prxi_proof) { .candidate = k, .predicted = prxi_median(x->seconds, x->n) };
    while (p->n < t->goal.held_out && !hopeless(t, held, p->n)) {
        const int prompt = t->split.calibration + p->n;
        prxi_score s;
        int err = prxi_tune_tell(t, "verify", p->n, t->goal.held_out);
        if (err < 0)
            return err;
        if (prxi_tune_left(t) < p->predicted + (t->clips[prompt].frames ? 0 : prxi_tune_reference_time(t)))
            return PRXI_TIME_OVER;
        if ((err = prxi_tune_trial(t, k, prompt, "verify", &s)) != PRX_OK)
            return err;
        held[p->n] = s.held, speedup[p->n] = s.speedup, seconds[p->n] = s.seconds, quality[p->n] = s.quality;
        p->n++;
    }
    conclude(t, p, held, speedup, seconds, quality);
    return PRX_OK;
}

static const char *verdict_text(const prx_tune *t, const prxi_proof *p)
{
    if (p->holds)
        return "holds";
    if (p->n < t->goal.held_out)
        return "misses clearly: not all prompts were run";
    return p->held.bound >= t->goal.target ? "not faster than the reference" : "the bound is below the target";
}

static int attempt(prx_tune *t, int k, double *need)
{
    prxi_candidate *x = &t->candidates[k];
    prxi_proof p;
    int err = prove(t, k, &p);
    if (err != PRX_OK && (err = prxi_tune_blame(t, k, t->split.calibration + p.n, err)) != PRX_OK)
        return err;
    x->tried = 1;
    t->attempts++;
    if (x->broken)
        return PRX_OK;
    prxi_tune_note_proof(t, &p, verdict_text(t, &p));
    x->failed = !p.holds;
    if (p.holds)
        t->best = p;
    else {
        const double short_by = t->goal.target - (p.held.mean - prxi_goal_margin(&t->goal, x->held, x->n));
        *need = calibration_mean(t, k) + (short_by > 0 ? 0.5 * short_by : 0);
    }
    return PRX_OK;
}

int prxi_tune_verify(prx_tune *t)
{
    double need = -INFINITY;
    const int had = t->best.holds ? t->best.candidate : PRXI_NO_CANDIDATE;
    for (int i = 0; i < ATTEMPTS; i++) {
        int k = next_candidate(t, need);
        if (k == PRXI_NO_CANDIDATE && need > -INFINITY)
            k = next_candidate(t, need = -INFINITY);
        if (k == PRXI_NO_CANDIDATE)
            return PRX_OK;
        const int err = attempt(t, k, &need);
        if (err != PRX_OK)
            return err;
        if (t->best.holds && t->best.candidate != had)
            return PRX_OK;
    }
    return PRX_OK;
}
