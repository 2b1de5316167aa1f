/* --save-state and --resume: latents and scheduler of a run between two steps; --latents: given noise. */
#include <stdio.h>
#include <string.h>

#include "engine/core/json.h"
#include "engine/weights/safetensors.h"
#include "job.h"

/* What must be equal for the continued run to give the bytes of an uninterrupted one. */
static const char *const same_keys[] = {
    "model", "prompt", "negative_prompt", "width", "height", "frames", "steps", "guidance", "guidance_2", "shift",
    "scheduler", "old_sigmas", "seed", "max_text", "attention", "attention_options", "cache", "dtype", "isa",
};

int prxi_state_save(prx_job *j)
{
    const size_t n = prxi_sched_state_size(j->sched);
    void *state = prxi_alloc(j->ctx.mem, PRXI_MEM_SCRATCH, n ? n : 1);
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "step", j->step);
    cJSON_AddItemToObject(o, "request", prxi_request_json(j));
    char *text = cJSON_PrintUnformatted(o);
    cJSON_Delete(o);
    int err = state && text ? PRX_OK : prxi_fail_nomem(&j->ctx, "save_state", n);
    if (err == PRX_OK) {
        prxi_sched_save(j->sched, state);
        const prxi_tensor_out list[] = {
            { "latents", PRXI_F32, 5, { 1, j->channels, j->clip.frames, j->clip.height, j->clip.width },
              prxi_run_latents(j) },
            { "scheduler", PRXI_U8, 1, { (int64_t)n }, state },
            { "settings", PRXI_U8, 1, { (int64_t)strlen(text) }, text },
        };
        err = prxi_tensors_write(&j->ctx, j->text[PRXI_TEXT_SAVE_STATE], list, 3, NULL);
    }
    cJSON_free(text);
    prxi_free(j->ctx.mem, state);
    return err;
}

/* Latents [C, T, h, w] or [1, C, T, h, w] in f32. */
static int take_latents(prx_job *j, prxi_tensors *t, const char *path)
{
    const prxi_tensor *x = prxi_tensors_find(t, "latents");
    if (!x)
        return prxi_fail(&j->ctx, PRX_EFORMAT, "%s: latents: missing", path);
    const int64_t want[4] = { j->channels, j->clip.frames, j->clip.height, j->clip.width };
    const int lead = x->ndim == 5 && x->shape[0] == 1;
    if (x->dtype != PRXI_F32 || x->ndim - lead != 4 || memcmp(x->shape + lead, want, sizeof want) != 0)
        return prxi_fail(&j->ctx, PRX_EINVAL, "%s: latents: f32 of shape %d x %d x %d x %d expected for this model and size",
                         path, j->channels, j->clip.frames, j->clip.height, j->clip.width);
    const int err = prxi_tensor_check_finite(&j->ctx, x);
    if (err == PRX_OK)
        prxi_run_set_latents(j, x->data);
    return err;
}

static int check_same(prx_job *j, const cJSON *saved, const char *path)
{
    /* Through text, as the saved one went: a number that was added as text has another type until it is parsed. */
    cJSON *request = prxi_request_json(j);
    char *text = request ? cJSON_PrintUnformatted(request) : NULL;
    cJSON *now = text ? cJSON_Parse(text) : NULL;
    cJSON_free(text);
    cJSON_Delete(request);
    int err = now ? PRX_OK : prxi_fail_nomem(&j->ctx, path, 0);
    for (size_t i = 0; err == PRX_OK && i < sizeof same_keys / sizeof *same_keys; i++)
        if (!cJSON_Compare(cJSON_GetObjectItemCaseSensitive(now, same_keys[i]),
                           cJSON_GetObjectItemCaseSensitive(saved, same_keys[i]), 1))
            err = prxi_fail(&j->ctx, PRX_EINVAL, "%s: %s differs from the run that wrote it", path, same_keys[i]);
    cJSON_Delete(now);
    return err;
}

static int take_settings(prx_job *j, prxi_tensors *t, const char *path)
{
    const prxi_tensor *x = prxi_tensors_find(t, "settings");
    if (!x || x->dtype != PRXI_U8)
        return prxi_fail(&j->ctx, PRX_EFORMAT, "%s: settings: missing; not a state file", path);
    prxi_json json;
    int64_t step = -1;
    int err = prxi_json_parse(&j->ctx, &json, path, x->data, x->bytes);
    if (err < 0)
        return err;
    err = prxi_json_int(&j->ctx, &json, "step", 0, 1000, &step);
    if (err == PRX_OK)
        err = check_same(j, cJSON_GetObjectItemCaseSensitive(json.root, "request"), path);
    if (err == PRX_OK && (step < 0 || step > j->set.steps))
        err = prxi_fail(&j->ctx, PRX_EFORMAT, "%s: step: 0 to %lld expected", path, (long long)j->set.steps);
    if (err == PRX_OK)
        j->step = j->first_step = (int)step;
    prxi_json_close(&j->ctx, &json);
    return err;
}

int prxi_state_load(prx_job *j)
{
    const char *path = j->text[PRXI_TEXT_RESUME];
    prxi_tensors *t;
    int err = prxi_tensors_open_file(&j->ctx, &t, path);
    if (err < 0)
        return err;
    if ((err = take_settings(j, t, path)) == PRX_OK && (err = take_latents(j, t, path)) == PRX_OK) {
        const prxi_tensor *s = prxi_tensors_find(t, "scheduler");
        err = s && s->dtype == PRXI_U8 ? prxi_sched_restore(&j->ctx, j->sched, s->data, s->bytes)
                                       : prxi_fail(&j->ctx, PRX_EFORMAT, "%s: scheduler: missing", path);
    }
    prxi_tensors_close(&j->ctx, &t);
    return err;
}

int prxi_latents_load(prx_job *j)
{
    prxi_tensors *t;
    int err = prxi_tensors_open_file(&j->ctx, &t, j->text[PRXI_TEXT_LATENTS]);
    if (err < 0)
        return err;
    err = take_latents(j, t, j->text[PRXI_TEXT_LATENTS]);
    prxi_tensors_close(&j->ctx, &t);
    return err;
}
