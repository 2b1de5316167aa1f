/* Trials: references, candidates as settings, and the clock. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tune.h"

/* Identical pictures have no PSNR; above this no 8-bit picture differs to the eye. */
enum { MOST_PSNR = 60 };

double prxi_tune_left(const prx_tune *t)
{
    return t->started + t->budget - prxi_now();
}

int prxi_tune_tell(prx_tune *t, const char *phase, int done, int total)
{
    prx_tune_progress *p = &t->progress;
    const double left = prxi_tune_left(t);
    if (phase)
        p->phase = phase, p->done = done, p->total = total;
    p->elapsed = prxi_now() - t->started;
    p->remaining = left > 0 ? left : 0;
    if (t->on_progress && t->on_progress(t->cookie, p))
        prxi_lab_cancel(&t->lab);
    return t->lab.cancelled ? prxi_fail(&t->ctx, PRX_ECANCELED, "cancelled") : PRX_OK;
}

/* ---- references ---- */

int prxi_tune_reference(prx_tune *t, int prompt)
{
    prxi_trial r;
    if (t->clips[prompt].frames)
        return PRX_OK;
    const int err = prxi_lab_run(&t->ctx, &t->lab, &t->reference, t->split.prompts[prompt], t->seed, NULL, &r);
    if (err < 0)
        return err;
    t->clips[prompt] = r.clip;
    r.clip = (prxi_clip) { 0 };
    t->reference_seconds[prompt] = r.seconds;
    const prxi_score s = { r.seconds, 1, NAN, NAN, 1 };
    prxi_tune_note_trial(t, PRXI_NO_CANDIDATE, prompt, "reference", &r, &s);
    prxi_trial_close(&t->ctx, &r);
    return PRX_OK;
}

void prxi_tune_forget(prx_tune *t, int prompt)
{
    prxi_clip_close(&t->ctx, &t->clips[prompt]);
}

double prxi_tune_reference_time(const prx_tune *t)
{
    double list[PRXI_TUNE_MOST_PROMPTS];
    int n = 0;
    for (int i = 0; i < t->split.n; i++)
        if (t->reference_seconds[i] > 0)
            list[n++] = t->reference_seconds[i];
    return prxi_median(list, n);
}

/* ---- candidates ---- */

static int write_text(prxi_ctx *c, prxi_candidate *k)
{
    char text[1024] = "";
    size_t used = 0;
    for (int i = 0; i < k->own.n && used < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s=%s", i ? " " : "", k->own.list[i].key, k->own.list[i].value);
    k->text = prxi_strdup(c->mem, text);
    return k->text ? PRX_OK : prxi_fail_nomem(c, "settings", used);
}

static int find_text(const prx_tune *t, const char *text)
{
    for (int i = 0; i < t->n_candidates; i++)
        if (strcmp(t->candidates[i].text, text) == 0)
            return i;
    return PRXI_NO_CANDIDATE;
}

static void close_candidate(prxi_ctx *c, prxi_candidate *k)
{
    prxi_pairs_close(c, &k->own);
    prxi_pairs_close(c, &k->all);
    prxi_free(c->mem, k->text);
    prxi_free(c->mem, k->held);
}

static int fill_candidate(prx_tune *t, prxi_candidate *k, const int *ladder, const double *place)
{
    prxi_ctx *c = &t->ctx;
    prxi_rung_env env = t->env;
    const size_t n = (size_t)t->split.calibration;
    int err = PRX_OK;
    for (int a = 0; a < PRXI_TUNE_AXES && err == PRX_OK; a++) {
        k->ladder[a] = ladder[a];
        k->place[a] = place[a];
        if (ladder[a] >= 0)
            err = prxi_ladder_apply(c, &k->own, prxi_ladder_at(ladder[a]), place[a], &env);
    }
    if (err == PRX_OK)
        err = prxi_pairs_add(c, &k->all, &t->base);
    if (err == PRX_OK)
        err = prxi_pairs_add(c, &k->all, &k->own);
    if (err == PRX_OK)
        err = write_text(c, k);
    k->held = prxi_calloc(c->mem, PRXI_MEM_MISC, 3 * n, sizeof *k->held);
    if (!k->held)
        return err < 0 ? err : prxi_fail_nomem(c, "candidates", n);
    k->seconds = k->held + n;
    k->quality = k->seconds + n;
    return err;
}

int prxi_tune_candidate(prx_tune *t, const int *ladder, const double *place, int *out)
{
    prxi_ctx *c = &t->ctx;
    prxi_candidate k = { 0 };
    *out = PRXI_NO_CANDIDATE;
    if (t->n_candidates == PRXI_TUNE_CANDIDATES)
        return PRXI_TIME_OVER;
    int err = fill_candidate(t, &k, ladder, place);
    if (err == PRX_OK)
        *out = find_text(t, k.text);
    if (err < 0 || *out != PRXI_NO_CANDIDATE) {
        close_candidate(c, &k);
        return err;
    }
    if (prxi_lab_check(c, &t->lab, &k.all, t->split.prompts[0], NULL) < 0) {
        snprintf(k.reason, sizeof k.reason, "cannot run: %.180s", c->error.text);
        prxi_clear(c);
        k.broken = 1;
        prxi_tune_note_drop(t, "setting", k.text, k.reason);
    }
    *out = t->n_candidates++;
    t->candidates[*out] = k;
    return PRX_OK;
}

/* ---- a trial ---- */

static double quality_of(const prx_tune *t, const prxi_quality *q)
{
    if (t->measure == PRXI_BY_SSIM)
        return q->identical ? 1 : q->ssim;
    if (t->measure == PRXI_BY_MS_SSIM)
        return q->identical ? 1 : q->ms_ssim;
    return q->identical || q->psnr > MOST_PSNR ? MOST_PSNR : q->psnr;
}

int prxi_tune_trial(prx_tune *t, int k, int prompt, const char *phase, prxi_score *out)
{
    prxi_ctx *c = &t->ctx;
    prxi_trial r;
    int err = prxi_tune_tell(t, NULL, 0, 0);
    if (err == PRX_OK)
        err = prxi_tune_reference(t, prompt);
    if (err == PRX_OK)
        err = prxi_lab_run(c, &t->lab, &t->candidates[k].all, t->split.prompts[prompt], t->seed, &t->clips[prompt], &r);
    if (err == PRX_ECANCELED && !t->lab.cancelled) {        /* our own progress function: the budget ended */
        prxi_clear(c);
        return PRXI_TIME_OVER;
    }
    if (err < 0)
        return err;
    const double quality = quality_of(t, &r.quality), speedup = t->reference_seconds[prompt] / r.seconds;
    *out = (prxi_score) { r.seconds, speedup, quality, t->measure == PRXI_BY_SPEEDUP ? speedup : quality, r.quality.identical };
    prxi_tune_note_trial(t, k, prompt, phase, &r, out);
    prxi_trial_close(c, &r);
    return isfinite(quality) ? PRX_OK : prxi_fail(c, PRX_ENUMERIC, "%s: the picture has no such value", t->target_text);
}

int prxi_tune_blame(prx_tune *t, int k, int prompt, int err)
{
    prxi_candidate *x = &t->candidates[k];
    if (err > 0 || err == PRX_ECANCELED || err == PRX_ENUMERIC || !t->clips[prompt].frames)
        return err;      /* without its reference no candidate can be tried */
    snprintf(x->reason, sizeof x->reason, "failed: %.180s", t->ctx.error.text);
    prxi_clear(&t->ctx);
    x->broken = 1;
    prxi_tune_note_drop(t, "setting", x->text, x->reason);
    return PRX_OK;
}
