/* Public functions of the search, and the order of its phases. */
#include "tune.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { POLISHES = 4 };

PRX_API void prx_tune_default_params(prx_tune_params *p)
{
    memset(p, 0, sizeof *p);
    prx_engine_default_params(&p->engine);
    p->minutes = 30;
}

PRX_API const char *prx_tune_last_error(const prx_tune *t)
{
    return t ? t->ctx.error.text : "out of memory";
}

PRX_API void prx_tune_on_progress(prx_tune *t, prx_tune_fn fn, void *cookie)
{
    t->on_progress = fn;
    t->cookie = cookie;
}

PRX_API void prx_tune_cancel(prx_tune *t)
{
    if (t->lab_open)
        prxi_lab_cancel(&t->lab);
}

/* ---- open ---- */

static int keep(prx_tune *t, char **to, const char *text)
{
    if (!text)
        return PRX_OK;
    *to = prxi_strdup(t->ctx.mem, text);
    return *to ? PRX_OK : prxi_fail_nomem(&t->ctx, text, strlen(text));
}

static int keep_params(prx_tune *t, const prx_tune_params *p)
{
    const char *const text[] = { p->engine.device, p->engine.isa, p->engine.dtype };
    int err = keep(t, &t->model, p->model);
    if (err == PRX_OK)
        err = keep(t, &t->transformer, p->transformer);
    t->base_engine = p->engine;
    for (int i = 0; i < 3 && err == PRX_OK; i++)
        err = keep(t, &t->engine_text[i], text[i]);
    t->base_engine.device = t->engine_text[0];
    t->base_engine.isa = t->engine_text[1];
    t->base_engine.dtype = t->engine_text[2];
    return err;
}

/* The clock also runs during a trial: one that would pass the end of the budget is given up. */
static int watch_clock(void *cookie, const prx_progress *p)
{
    prx_tune *t = cookie;
    (void)p;
    return prxi_tune_tell(t, NULL, 0, 0) < 0 || prxi_tune_left(t) < 0;
}

static int prepare(prx_tune *t, const prx_tune_params *p)
{
    prxi_ctx *c = &t->ctx;
    if (!p->model)
        return prxi_fail(c, PRX_EINVAL, "model: missing");
    if (!(p->minutes > 0 && p->minutes <= 60 * 24 * 366))
        return prxi_fail(c, PRX_EINVAL, "budget: %g minutes; a number above 0, at most a year of them, expected", p->minutes);
    if (p->seed < 0)
        return prxi_fail(c, PRX_EINVAL, "seed: %lld; 0 or more expected", (long long)p->seed);
    int err = prxi_tune_parse_target(c, t, p->target ? p->target : "");
    if (err < 0)
        return err;
    if (!p->prompts)
        return prxi_fail(c, PRX_EINVAL, "prompts: missing: a file with one prompt a line expected");
    if ((err = prxi_split_read(c, &t->split, p->prompts)) < 0 || (err = keep_params(t, p)) < 0)
        return err;
    t->budget = 60 * p->minutes;
    t->seed = p->seed;
    t->trials = cJSON_CreateArray();
    t->dropped = cJSON_CreateArray();
    t->proofs = cJSON_CreateArray();
    if (!t->trials || !t->dropped || !t->proofs)
        return prxi_fail_nomem(c, "evidence", 64);
    prxi_lab_open(&t->lab, &t->base_engine, t->model, t->transformer, t->split.n);
    t->lab.on_progress = watch_clock;
    t->lab.progress_cookie = t;
    t->lab_open = 1;
    return PRX_OK;
}

PRX_API int prx_tune_open(prx_tune **out, const prx_tune_params *p)
{
    prxi_mem mem;
    prxi_mem_init(&mem, p->engine.allocator);
    prx_tune *t = prxi_calloc(&mem, PRXI_MEM_MISC, 1, sizeof *t);
    *out = t;
    if (!t)
        return PRX_ENOMEM;
    t->mem.allocator = mem.allocator;
    t->log = (prxi_log) { p->engine.log, p->engine.log_cookie, p->engine.log_level };
    t->ctx.mem = &t->mem;
    t->ctx.log = &t->log;
    prxi_clear(&t->ctx);
    const int err = prepare(t, p);
    t->ready = err == PRX_OK;
    return err;
}

static void close_candidates(prx_tune *t)
{
    for (int k = 0; k < t->n_candidates; k++) {
        prxi_candidate *x = &t->candidates[k];
        prxi_pairs_close(&t->ctx, &x->own);
        prxi_pairs_close(&t->ctx, &x->all);
        prxi_free(t->ctx.mem, x->text);
        prxi_free(t->ctx.mem, x->held);
    }
    prxi_free(t->ctx.mem, t->candidates);
}

PRX_API void prx_tune_close(prx_tune **tp)
{
    if (!tp || !*tp)
        return;
    prx_tune *t = *tp;
    prxi_ctx *c = &t->ctx;
    *tp = NULL;
    if (t->lab_open)
        prxi_lab_close(&t->lab);
    for (int i = 0; t->clips && i < t->split.n; i++)
        prxi_tune_forget(t, i);
    close_candidates(t);
    prxi_split_close(c, &t->split);
    prxi_pairs_close(c, &t->base);
    prxi_pairs_close(c, &t->reference);
    prxi_pairs_close(c, &t->sparse);
    cJSON_Delete(t->trials);
    cJSON_Delete(t->dropped);
    cJSON_Delete(t->proofs);
    void *const blocks[] = { t->model, t->transformer, t->engine_text[0], t->engine_text[1], t->engine_text[2], t->json[0], t->json[1],
                             t->clips, t->reference_seconds, t->lines };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        prxi_free(c->mem, blocks[i]);
    prxi_mem mem;
    prxi_mem_init(&mem, &t->mem.allocator);
    prxi_free(&mem, t);
}

/* ---- base settings ---- */

static int settable(prx_tune *t)
{
    prxi_clear(&t->ctx);
    if (!t->ready || t->ran)
        return prxi_fail(&t->ctx, PRX_ESTATE, "tune: %s", t->ran ? "it ran already" : "it was not opened");
    return PRX_OK;
}

PRX_API int prx_tune_set(prx_tune *t, const char *key, const char *value)
{
    const int err = settable(t);
    return err < 0 ? err : prxi_pairs_set(&t->ctx, &t->base, key, value);
}

PRX_API int prx_tune_load_config(prx_tune *t, const char *path)
{
    const int err = settable(t);
    return err < 0 ? err : prxi_pairs_load(&t->ctx, &t->base, path);
}

/* ---- run ---- */

/* The first reference tells what a verification takes: a budget below that cannot lead anywhere. */
static int begin(prx_tune *t)
{
    prxi_ctx *c = &t->ctx;
    int err = prxi_tune_prepare(t);
    if (err == PRX_OK)
        err = prxi_tune_tell(t, "reference", 0, 1);
    if (err == PRX_OK)
        err = prxi_tune_reference(t, 0);
    if (err == PRX_ECANCELED && !t->lab.cancelled) {
        prxi_clear(c);
        return prxi_fail(c, PRX_EINVAL, "budget: %g minutes do not even suffice for the first reference", t->budget / 60);
    }
    const double reserve = err == PRX_OK ? prxi_tune_reserve(t) : 0, needed = prxi_now() - t->started + reserve;
    if (err == PRX_OK && needed > t->budget)
        err = prxi_fail(c, PRX_EINVAL, "budget: %g minutes; verifying on %d prompts takes about %.2g, and the search comes before it",
                        t->budget / 60, t->goal.held_out, needed / 60);
    return err == PRX_OK ? prxi_tune_costs(t) : err;
}

/* Candidates that a search offers, verified, until it offers none. */
static int repeat(prx_tune *t, int (*offer)(prx_tune *t))
{
    int err = PRX_OK;
    for (int i = 0; i < POLISHES && err == PRX_OK; i++) {
        if ((err = offer(t)) < 1)
            return err;
        err = prxi_tune_verify(t);
    }
    return err;
}

static int phases(prx_tune *t)
{
    int err = prxi_tune_search(t);
    if (err < 0)
        return err;
    snprintf(t->why, sizeof t->why, "the search %s", err == PRXI_TIME_OVER ? "used up its part of the budget" : "came to its end");
    if ((err = prxi_tune_verify(t)) == PRX_OK && t->best.holds)
        err = repeat(t, prxi_tune_polish);
    if (err == PRX_OK)
        err = repeat(t, prxi_tune_challenge);
    const int timed = err < 0 ? err : prxi_tune_time(t);
    return timed < 0 ? timed : err;
}

static void explain(prx_tune *t, int err)
{
    if (err == PRXI_TIME_OVER && !t->best.holds)
        snprintf(t->why, sizeof t->why, "the budget ended during verification");
    else if (!t->best.holds && t->attempts)
        snprintf(t->why, sizeof t->why, "none of %d settings tried on held-out prompts held %s and was faster than the reference",
                 t->attempts, t->target_text);
    else if (!t->best.holds) {
        const size_t used = strlen(t->why);
        snprintf(t->why + used, sizeof t->why - used, ", and no setting tried holds %s and is faster than the reference", t->target_text);
    }
}

PRX_API int prx_tune_run(prx_tune *t)
{
    int err = settable(t);
    if (err < 0)
        return err;
    t->ran = 1;
    t->started = prxi_now();
    if ((err = begin(t)) == PRX_OK)
        err = phases(t);
    if (err == PRX_ECANCELED) {
        t->interrupted = 1;
        snprintf(t->why, sizeof t->why, "interrupted");
        if (t->best.holds) {
            prxi_clear(&t->ctx);
            err = PRX_OK;
        }
    } else if (err >= 0)
        explain(t, err);
    t->progress.elapsed = prxi_now() - t->started;
    return err < 0 ? err : PRX_OK;
}

/* ---- results ---- */

static int give_text(prx_tune *t, cJSON *tree, int slot, const char **json)
{
    prxi_free(t->ctx.mem, t->json[slot]);
    t->json[slot] = NULL;
    const int err = prxi_json_text(&t->ctx, tree, &t->json[slot]);
    *json = t->json[slot];
    return err;
}

PRX_API int prx_tune_preset(prx_tune *t, const char **json)
{
    prxi_clear(&t->ctx);
    *json = NULL;
    return t->best.holds ? give_text(t, prxi_tune_preset_json(t), 0, json) : PRX_OK;
}

PRX_API int prx_tune_evidence(prx_tune *t, const char **json)
{
    prxi_clear(&t->ctx);
    *json = NULL;
    if (!t->ready)
        return prxi_fail(&t->ctx, PRX_ESTATE, "tune: it was not opened");
    return give_text(t, prxi_tune_evidence_json(t), 1, json);
}
