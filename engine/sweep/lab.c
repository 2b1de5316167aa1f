/* The lab: engines and models by need, one job at a time, its result measured. */
#include "lab.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/core/option.h"

static const char *const engine_keys[] = { "device", "isa", "dtype", "threads" };
enum { ENGINE_KEYS = 4 };

static int is_engine_key(const char *key)
{
    for (int i = 0; i < ENGINE_KEYS; i++)
        if (strcmp(key, engine_keys[i]) == 0)
            return 1;
    return 0;
}

void prxi_lab_open(prxi_lab *l, const prx_engine_params *base, const char *model, const char *transformer, int prompts)
{
    *l = (prxi_lab) { .base = *base, .model = model, .transformer = transformer, .prompts = prompts };
    pthread_mutex_init(&l->lock, NULL);
}

void prxi_lab_close(prxi_lab *l)
{
    for (int i = 0; i < l->n_engines; i++) {
        prx_model_close(&l->engines[i].model);
        prx_engine_close(&l->engines[i].engine);
    }
    pthread_mutex_destroy(&l->lock);
}

void prxi_lab_cancel(prxi_lab *l)
{
    pthread_mutex_lock(&l->lock);
    l->cancelled = 1;
    if (l->job)
        prx_job_cancel(l->job);
    pthread_mutex_unlock(&l->lock);
}

static void set_job(prxi_lab *l, prx_job *j)
{
    pthread_mutex_lock(&l->lock);
    l->job = j;
    if (j && l->cancelled)
        prx_job_cancel(j);
    pthread_mutex_unlock(&l->lock);
}

/* ---- engines ---- */

static int open_engine(prxi_ctx *c, const prxi_lab *l, const prxi_pairs *p, prxi_lab_engine *e)
{
    prx_engine_params params = l->base;
    const char *v[ENGINE_KEYS];
    int64_t threads;
    for (int i = 0; i < ENGINE_KEYS; i++)
        v[i] = prxi_pairs_get(p, engine_keys[i]);
    params.device = v[0] ? v[0] : params.device;
    params.isa = v[1] ? v[1] : params.isa;
    params.dtype = v[2] ? v[2] : params.dtype;
    if (v[3] && (!prxi_parse_int(v[3], &threads) || threads < 0 || threads > 1024))
        return prxi_fail(c, PRX_EINVAL, "threads: '%s': 0 (all cores) to 1024 expected", v[3]);
    if (v[3])
        params.threads = (int)threads;
    int err = prx_engine_open(&e->engine, &params);
    if (err == PRX_OK)
        err = prx_model_open(&e->model, e->engine, l->model);
    if (err == PRX_OK && l->transformer)
        err = prx_model_set(e->model, "transformer", l->transformer);
    if (err == PRX_OK)
        err = prxi_model_keep_prompts(&e->engine->ctx, e->model, l->prompts);
    if (err < 0) {
        prxi_fail(c, err, "%s", prx_engine_last_error(e->engine));
        prx_model_close(&e->model);
        prx_engine_close(&e->engine);
    }
    return err;
}

static int find_engine(prxi_ctx *c, prxi_lab *l, const prxi_pairs *p, prxi_lab_engine **out)
{
    prxi_lab_engine fresh = { "", NULL, NULL };
    size_t used = 0;
    for (int i = 0; i < ENGINE_KEYS && used < sizeof fresh.name; i++) {
        const char *v = prxi_pairs_get(p, engine_keys[i]);
        used += (size_t)snprintf(fresh.name + used, sizeof fresh.name - used, "%s ", v ? v : "-");
    }
    for (int i = 0; i < l->n_engines; i++)
        if (strcmp(l->engines[i].name, fresh.name) == 0) {
            *out = &l->engines[i];
            return PRX_OK;
        }
    if (l->n_engines == PRXI_LAB_ENGINES)
        return prxi_fail(c, PRX_EINVAL, "more than %d combinations of device, isa, dtype and threads", PRXI_LAB_ENGINES);
    const int err = open_engine(c, l, p, &fresh);
    if (err < 0)
        return err;
    *out = &l->engines[l->n_engines];
    l->engines[l->n_engines++] = fresh;
    return PRX_OK;
}

/* ---- jobs ---- */

static int apply(prx_job *j, const prxi_pairs *p, const char *prompt, int64_t seed)
{
    char text[32];
    int err = prx_job_set(j, "prompt", prompt);
    snprintf(text, sizeof text, "%lld", (long long)seed);
    if (err == PRX_OK)
        err = prx_job_set(j, "seed", text);
    for (int i = 0; i < p->n && err == PRX_OK; i++)
        if (!is_engine_key(p->list[i].key))
            err = prx_job_set(j, p->list[i].key, p->list[i].value);
    return err;
}

/* On failure there is no job and the error is in c. */
static int open_job(prxi_ctx *c, prxi_lab *l, const prxi_pairs *p, const char *prompt, int64_t seed, prx_job **out)
{
    prxi_lab_engine *e = NULL;
    *out = NULL;
    int err = find_engine(c, l, p, &e);
    if (err < 0)
        return err;
    if ((err = prx_job_open(out, e->model)) < 0)
        return prxi_fail(c, err, "%s", prx_engine_last_error(e->engine));
    if ((err = apply(*out, p, prompt, seed)) == PRX_OK)
        err = prx_job_plan(*out, NULL);
    if (err < 0) {
        prxi_fail(c, err, "%s", prx_job_last_error(*out));
        prx_job_close(out);
    }
    return err;
}

int prxi_lab_check(prxi_ctx *c, prxi_lab *l, const prxi_pairs *setting, const char *prompt, int64_t size[3])
{
    prx_job *j;
    const int err = open_job(c, l, setting, prompt, 0, &j);
    if (err == PRX_OK && size)
        size[0] = j->set.width, size[1] = j->set.height, size[2] = j->set.frames;
    prx_job_close(&j);
    return err;
}

/* ---- a trial ---- */

static int take_frame(void *cookie, int index, const uint8_t *rgb, int width, int height)
{
    prxi_clip *k = cookie;
    const size_t bytes = 3 * (size_t)width * (size_t)height;
    if (index >= k->n || width != k->width || height != k->height)
        return PRX_EINTERNAL;
    memcpy(k->frames + (size_t)index * bytes, rgb, bytes);
    return PRX_OK;
}

static int make_room(prxi_ctx *c, const prx_job *j, prxi_clip *k)
{
    k->n = j->set.frames, k->height = j->set.height, k->width = j->set.width;
    k->latent_elems = j->latent_elems;
    const size_t bytes = prxi_mul(prxi_mul(3, (size_t)k->n), prxi_mul((size_t)k->width, (size_t)k->height));
    k->frames = prxi_alloc(c->mem, PRXI_MEM_FRAMES, bytes);
    k->latents = prxi_alloc(c->mem, PRXI_MEM_FRAMES, k->latent_elems * sizeof(float));
    return k->frames && k->latents ? PRX_OK : prxi_fail_nomem(c, "frames", bytes);
}

static double number(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    return cJSON_IsNumber(v) ? v->valuedouble : NAN;
}

static int read_result(prxi_ctx *c, prx_job *j, prxi_trial *t)
{
    memcpy(t->clip.latents, prxi_run_latents(j), t->clip.latent_elems * sizeof(float));
    t->denoise = j->phases.denoise, t->decode = j->phases.decode, t->load = j->phases.load, t->text = j->phases.text;
    t->seconds = t->denoise + t->decode;
    t->steps = (int)j->set.steps;
    t->peak_memory = j->engine->cuda ? j->engine->cuda->peak : atomic_load(&j->engine->mem.peak);
    if (!(t->stats = prxi_stats_json(j)))
        return prxi_fail_nomem(c, "stats", 1024);
    t->computed_steps = (int)number(t->stats, "computed_steps");
    t->density = number(t->stats, "attention_density");
    return PRX_OK;
}

static int run_job(prxi_ctx *c, prxi_lab *l, prx_job *j, prxi_trial *t)
{
    int err = make_room(c, j, &t->clip);
    if (err < 0)
        return err;
    prx_job_on_frame(j, take_frame, &t->clip);
    prx_job_on_progress(j, l->on_progress, l->progress_cookie);
    atomic_store(&j->engine->mem.peak, atomic_load(&j->engine->mem.total));
    if (j->engine->cuda)
        j->engine->cuda->peak = j->engine->cuda->bytes;
    set_job(l, j);
    err = prx_job_run(j);
    set_job(l, NULL);
    return err < 0 ? prxi_fail(c, err, "%s", prx_job_last_error(j)) : read_result(c, j, t);
}

int prxi_lab_run(prxi_ctx *c, prxi_lab *l, const prxi_pairs *setting, const char *prompt, int64_t seed, const prxi_clip *reference,
                 prxi_trial *out)
{
    prx_job *j;
    *out = (prxi_trial) { .quality = { 0, 0, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN } };
    int err = open_job(c, l, setting, prompt, seed, &j);
    if (err == PRX_OK)
        err = run_job(c, l, j, out);
    prx_job_close(&j);
    if (err == PRX_OK && reference)
        err = prxi_clip_measure(c, &out->clip, reference, &out->quality);
    if (err < 0)
        prxi_trial_close(c, out);
    return err;
}

void prxi_trial_close(prxi_ctx *c, prxi_trial *t)
{
    cJSON_Delete(t->stats);
    t->stats = NULL;
    prxi_clip_close(c, &t->clip);
}
