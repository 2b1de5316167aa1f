/* Settings of a job: one table for the numbers, strings apart, policies' options by prefix. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/core/option.h"
#include "job.h"

#define AT(field) offsetof(prxi_settings, field)

static const prxi_option job_options[] = {
    { "width", PRXI_OPT_INT, AT(width), 1, 1 << 16, NULL, "832", "pixels; a multiple of the model's patch (16 for Wan 2.1)" },
    { "height", PRXI_OPT_INT, AT(height), 1, 1 << 16, NULL, "480", "pixels" },
    { "frames", PRXI_OPT_INT, AT(frames), 1, 1 << 20, NULL, "81", "frames; 4 k + 1 for Wan" },
    { "fps", PRXI_OPT_INT, AT(fps), 1, 1000, NULL, "16", "frames per second of the file" },
    { "steps", PRXI_OPT_INT, AT(steps), 1, 1000, NULL, "50", "sampler steps" },
    { "guidance", PRXI_OPT_DOUBLE, AT(guidance), 0, 100, NULL, "5", "classifier-free guidance; 1 or less runs one branch" },
    { "guidance_2", PRXI_OPT_DOUBLE, AT(guidance_2), -1, 100, NULL, "-1", "of the low-noise expert; -1: as guidance" },
    { "shift", PRXI_OPT_DOUBLE, AT(shift), 0, 100, NULL, "0", "flow shift; 0: as the model's scheduler file says" },
    { "scheduler", PRXI_OPT_STRING, AT(scheduler), 0, 0, NULL, "", "unipc, euler or dpmpp; empty: the model's" },
    { "solver_order", PRXI_OPT_INT, AT(solver_order), 0, 3, NULL, "0", "order of the scheduler, unipc up to 3, dpmpp 2; 0: the model's" },
    { "old_sigmas", PRXI_OPT_BOOL, AT(old_sigmas), 0, 1, NULL, "0", "sigma table of diffusers 0.36 and before, and of the original Wan" },
    { "seed", PRXI_OPT_INT, AT(seed), 0, 9.2e18, NULL, "0", "noise equals torch.randn of a CPU generator with this seed" },
    { "max_text", PRXI_OPT_INT, AT(max_text), 1, 4096, NULL, "512", "text rows, zero rows included (max_sequence_length)" },
    { "attention", PRXI_OPT_STRING, AT(attention), 0, 0, NULL, "dense", "self-attention policy" },
    { "cache", PRXI_OPT_STRING, AT(cache), 0, 0, NULL, "none", "cache policy" },
    { "vae.tiling", PRXI_OPT_BOOL, AT(tiling), 0, 1, NULL, "0", "decode in tiles of 256 pixels: less memory, other bytes" },
    { "vae.conv", PRXI_OPT_CHOICE, AT(conv), 0, 0, "auto|ours|cudnn", "auto",
      "convolutions of the decoder on a device: the faster of own kernel and cuDNN, measured per shape, or one of them" },
    { "vram_budget", PRXI_OPT_DOUBLE, AT(vram_budget), 0, 4096, NULL, "0",
      "GiB of device memory to take at most; weights beyond come from the host as they are needed; 0: what is free" },
    { "quant", PRXI_OPT_CHOICE, AT(quant), 0, 0, "none|fp8", "none",
      "fp8: most of the transformer's weights in 8 bits, a scale by channel, inputs by token; on sm_90" },
    { "quant_keep", PRXI_OPT_DOUBLE, AT(quant_keep), 0, 0.49, NULL, "0",
      "share of the steps at each end that run without quant, with weights of both types on the device" },
    { "keep_weights", PRXI_OPT_BOOL, AT(keep_weights), 0, 1, NULL, "1", "keep weights for the next job; 0 frees each part after use" },
    { "save_every", PRXI_OPT_INT, AT(save_every), 1, 1000, NULL, "5", "steps between two writes of save_state" },
    { "crf", PRXI_OPT_INT, AT(crf), -1, 51, NULL, "-1", "quality of the video encoder, smaller is better; -1: its default here" },
    { "dump_layer", PRXI_OPT_INT, AT(dump_layer), -1, 1000, NULL, "-1", "dump also has q, k, v of this layer's self-attention; -1: none" },
    { "dump_step", PRXI_OPT_INT, AT(dump_step), -1, 1000, NULL, "-1", "of this step, with the prompt; -1: the last" },
    { NULL, PRXI_OPT_INT, 0, 0, 0, NULL, NULL, NULL },
};

static const struct {
    const char *name;
    size_t max;
} text_keys[PRXI_TEXT_KEYS] = {
    [PRXI_TEXT_PROMPT] = { "prompt", 65536 },         [PRXI_TEXT_NEGATIVE] = { "negative_prompt", 65536 },
    [PRXI_TEXT_OUTPUT] = { "output", 4000 },          [PRXI_TEXT_DUMP] = { "dump", 4000 },
    [PRXI_TEXT_LATENTS] = { "latents", 4000 },        [PRXI_TEXT_SAVE_STATE] = { "save_state", 4000 },
    [PRXI_TEXT_RESUME] = { "resume", 4000 },          [PRXI_TEXT_TRACE] = { "record_trace", 4000 },
};

int prxi_settings_open(prx_job *j)
{
    const int err = prxi_option_defaults(&j->ctx, job_options, &j->set);
    const prxi_clip_defaults *d = &j->model->defaults;
    j->set.width = d->width, j->set.height = d->height, j->set.frames = d->frames;
    j->set.fps = d->fps, j->set.steps = d->steps, j->set.guidance = d->guidance;
    if (!isnan(d->guidance_2))
        j->set.guidance_2 = d->guidance_2;
    if (!isnan(d->shift))
        j->set.shift = d->shift;
    return err;
}

void prxi_settings_close(prx_job *j)
{
    for (int i = 0; i < PRXI_TEXT_KEYS; i++)
        prxi_free(j->ctx.mem, j->text[i]);
    for (int i = 0; i < j->n_explicit; i++) {
        prxi_free(j->ctx.mem, j->explicit_set[i].key);
        prxi_free(j->ctx.mem, j->explicit_set[i].value);
    }
    prxi_free(j->ctx.mem, j->explicit_set);
    prxi_free(j->ctx.mem, j->user_latents);
}

const prxi_setting *prxi_settings_given(const prx_job *j, const char *key)
{
    for (int i = 0; i < j->n_explicit; i++)
        if (strcmp(j->explicit_set[i].key, key) == 0)
            return &j->explicit_set[i];
    return NULL;
}

static int remember(prx_job *j, const char *key, const char *value)
{
    prxi_setting *old = (prxi_setting *)(uintptr_t)prxi_settings_given(j, key);
    char *copy = prxi_strdup(j->ctx.mem, value);
    if (!copy)
        return prxi_fail_nomem(&j->ctx, key, strlen(value));
    if (old) {
        prxi_free(j->ctx.mem, old->value);
        old->value = copy;
        return PRX_OK;
    }
    prxi_setting *grown = prxi_realloc(j->ctx.mem, PRXI_MEM_MISC, j->explicit_set,
                                       (size_t)(j->n_explicit + 1) * sizeof *grown);
    char *name = grown ? prxi_strdup(j->ctx.mem, key) : NULL;
    if (grown)
        j->explicit_set = grown;
    if (!name) {
        prxi_free(j->ctx.mem, copy);
        return prxi_fail_nomem(&j->ctx, key, strlen(key));
    }
    j->explicit_set[j->n_explicit++] = (prxi_setting) { name, copy };
    return PRX_OK;
}

/* ---- options of policies ---- */

/* Option tables of all policies of a prefix; NULL after the last. */
static const prxi_option *policy_options(const char *prefix, int i, const char **name)
{
    if (strcmp(prefix, "attention") == 0) {
        const prxi_attn_policy *p = prxi_attn_policy_at(i);
        *name = p ? p->name : NULL;
        return p ? p->options : NULL;
    }
    const prxi_cache_policy *p = prxi_cache_policy_at(i);
    *name = p ? p->name : NULL;
    return p ? p->options : NULL;
}

static int has_option(const prxi_option *o, const char *name)
{
    for (; o && o->name; o++)
        if (strcmp(o->name, name) == 0)
            return 1;
    return 0;
}

/* A key that no policy knows is an error at once; its value is checked when the policy is chosen. */
static int check_policy_key(prx_job *j, const char *prefix, const char *key)
{
    const char *names[128], *policy;
    int n = 0;
    for (int i = 0;; i++) {
        const prxi_option *o = policy_options(prefix, i, &policy);
        if (!policy)
            break;
        if (has_option(o, key))
            return PRX_OK;
        for (; o && o->name && n < 128; o++)
            names[n++] = o->name;
    }
    const char *near = prxi_nearest(key, names, n);
    return prxi_fail(&j->ctx, PRX_EINVAL, "%s.%s: unknown setting%s%s%s%s%s", prefix, key, near ? "; did you mean " : "",
                     near ? prefix : "", near ? "." : "", near ? near : "", near ? "?" : "");
}

int prxi_settings_apply(prx_job *j, const char *prefix, const prxi_option *options, void *priv)
{
    const size_t n = strlen(prefix);
    char dotted[32];
    snprintf(dotted, sizeof dotted, "%s.", prefix);
    for (int i = 0; i < j->n_explicit; i++) {
        const prxi_setting *e = &j->explicit_set[i];
        if (strncmp(e->key, prefix, n) != 0 || e->key[n] != '.')
            continue;
        if (!options || !options->name)
            return prxi_fail(&j->ctx, PRX_EINVAL, "%s: the chosen %s policy has no settings", e->key, prefix);
        const int err = prxi_option_set(&j->ctx, options, priv, dotted, e->key + n + 1, e->value);
        if (err < 0)
            return err;
    }
    return PRX_OK;
}

/* ---- public ---- */

static int text_key(const char *key)
{
    for (int i = 0; i < PRXI_TEXT_KEYS; i++)
        if (strcmp(text_keys[i].name, key) == 0)
            return i;
    return -1;
}

static int set_text(prx_job *j, int which, const char *value)
{
    const size_t n = strlen(value);
    if (n > text_keys[which].max)
        return prxi_fail(&j->ctx, PRX_EINVAL, "%s: %zu bytes; at most %zu expected", text_keys[which].name, n,
                         text_keys[which].max);
    char *copy = prxi_strdup(j->ctx.mem, value);
    if (!copy)
        return prxi_fail_nomem(&j->ctx, text_keys[which].name, n);
    prxi_free(j->ctx.mem, j->text[which]);
    j->text[which] = copy;
    return PRX_OK;
}

/* A wrong plug-in name is told at once, with the names there are. */
static int check_plugin(prx_job *j, const char *key, const char *value)
{
    char names[512] = "";
    const char *name = NULL;
    for (int i = 0;; i++) {
        if (strcmp(key, "attention") == 0)
            name = prxi_attn_policy_at(i) ? prxi_attn_policy_at(i)->name : NULL;
        else if (strcmp(key, "cache") == 0)
            name = prxi_cache_policy_at(i) ? prxi_cache_policy_at(i)->name : NULL;
        else if (strcmp(key, "scheduler") == 0)
            name = prxi_scheduler_at(i) ? prxi_scheduler_at(i)->name : NULL;
        else
            return PRX_OK;
        if (!name)
            break;
        if (strcmp(name, value) == 0)
            return PRX_OK;
        const size_t n = strlen(names);
        snprintf(names + n, sizeof names - n, "%s%s", n ? ", " : "", name);
    }
    return prxi_fail(&j->ctx, PRX_EINVAL, "%s: '%s': one of %s expected", key, value, names);
}

static int set_any(prx_job *j, const char *key, const char *value)
{
    const int which = text_key(key);
    if (which >= 0)
        return set_text(j, which, value);
    if (strncmp(key, "attention.", 10) == 0)
        return check_policy_key(j, "attention", key + 10);
    if (strncmp(key, "cache.", 6) == 0)
        return check_policy_key(j, "cache", key + 6);
    int err = check_plugin(j, key, value);
    if (err == PRX_OK)
        err = prxi_option_set(&j->ctx, job_options, &j->set, "", key, value);
    /* The model's own guidance_2 goes with its own guidance. */
    if (err == PRX_OK && strcmp(key, "guidance") == 0 && !prxi_settings_given(j, "guidance_2"))
        j->set.guidance_2 = -1;
    return err;
}

PRX_API int prx_job_set(prx_job *j, const char *key, const char *value)
{
    prxi_clear(&j->ctx);
    if (j->state > PRXI_JOB_PLANNED)
        return prxi_fail(&j->ctx, PRX_ESTATE, "%s: the job runs already", key);
    if (strcmp(key, "schedule") == 0)
        key = "cache.schedule";
    prxi_unplan(j);
    const int err = set_any(j, key, value);
    return err < 0 ? err : remember(j, key, value);
}

PRX_API int prx_job_get(const prx_job *j, const char *key, char *buf, size_t n)
{
    const int which = text_key(key);
    const char *text = which >= 0 ? j->text[which] ? j->text[which] : "" : NULL;
    if (!text && prxi_option_get(job_options, &j->set, key, buf, n) == PRX_OK)
        return PRX_OK;
    if (!text && prxi_settings_given(j, key))
        text = prxi_settings_given(j, key)->value;
    if (!text || strlen(text) >= n)
        return PRX_EINVAL;
    memcpy(buf, text, strlen(text) + 1);
    return PRX_OK;
}

PRX_API int prx_job_set_latents(prx_job *j, const float *data, size_t n)
{
    prxi_clear(&j->ctx);
    if (j->state > PRXI_JOB_PLANNED)
        return prxi_fail(&j->ctx, PRX_ESTATE, "latents: the job runs already");
    float *copy = prxi_alloc(j->ctx.mem, PRXI_MEM_MISC, prxi_mul(n, sizeof *copy));
    if (!copy)
        return prxi_fail_nomem(&j->ctx, "latents", prxi_mul(n, sizeof *copy));
    memcpy(copy, data, n * sizeof *copy);
    prxi_free(j->ctx.mem, j->user_latents);
    j->user_latents = copy;
    j->n_user_latents = n;
    prxi_unplan(j);
    return PRX_OK;
}
