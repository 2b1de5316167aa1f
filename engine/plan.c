/* Plan: every setting checked against model and machine, sizes known, policies prepared, before any weight is read. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/core/cpu.h"
#include "job.h"
#include "tap.h"

/* ---- memory of the machine ---- */

static size_t read_number(const char *path, const char *key)
{
    char line[256];
    unsigned long long v;
    size_t out = SIZE_MAX;
    FILE *f = fopen(path, "r");
    if (!f)
        return out;
    while (out == SIZE_MAX && fgets(line, sizeof line, f)) {
        if (!key && sscanf(line, "%llu", &v) == 1)
            out = (size_t)v;
        else if (key && strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), "%llu", &v) == 1)
            out = (size_t)v * 1024;
    }
    fclose(f);
    return out;
}

size_t prxi_memory_available(void)
{
    const size_t free_now = read_number("/proc/meminfo", "MemAvailable:");
    const size_t max = read_number("/sys/fs/cgroup/memory.max", NULL);
    const size_t used = read_number("/sys/fs/cgroup/memory.current", NULL);
    const size_t group = max != SIZE_MAX && used != SIZE_MAX ? (max > used ? max - used : 0) : SIZE_MAX;
    return free_now < group ? free_now : group;
}

/* ---- clip ---- */

static int check_side(prx_job *j, const char *name, int64_t v, int64_t unit)
{
    if (v % unit == 0)
        return PRX_OK;
    const int64_t low = v / unit * unit;
    return prxi_fail(&j->ctx, PRX_EINVAL, "%s: %lld: a multiple of %lld expected, such as %lld", name, (long long)v,
                     (long long)unit, (long long)(low > 0 ? low : unit));
}

static int plan_clip(prx_job *j)
{
    const prxi_vae_info *vae = &j->model->vae_info;
    const prxi_dit_config *dit = &j->model->dit_cfg[0];
    int err;
    if ((err = check_side(j, "width", j->set.width, (int64_t)vae->scale_spatial * dit->patch[2])) < 0 ||
        (err = check_side(j, "height", j->set.height, (int64_t)vae->scale_spatial * dit->patch[1])) < 0)
        return err;
    const int64_t st = vae->scale_temporal, frames = (j->set.frames - 1) / st * st + 1;
    if (frames != j->set.frames) {
        prxi_logf(&j->ctx, PRX_LOG_WARN, "frames: %lld is not %lld k + 1; %lld made",
                  (long long)j->set.frames, (long long)st, (long long)frames);
        j->set.frames = frames;
    }
    j->channels = dit->in_channels;
    j->clip = (prxi_vae_job) { (int)((frames - 1) / st + 1), (int)(j->set.height / vae->scale_spatial),
                               (int)(j->set.width / vae->scale_spatial), j->set.tiling, j->set.conv };
    j->latent_elems = (size_t)j->channels * (size_t)j->clip.frames * (size_t)j->clip.height * (size_t)j->clip.width;
    if (j->latent_elems / (size_t)j->channels > (size_t)INT32_MAX / 4)
        return prxi_fail(&j->ctx, PRX_EINVAL, "width x height x frames: %lld x %lld x %lld is more than this engine addresses",
                         (long long)j->set.width, (long long)j->set.height, (long long)frames);
    if (j->user_latents && j->n_user_latents != j->latent_elems)
        return prxi_fail(&j->ctx, PRX_EINVAL, "latents: %zu values; %d x %d x %d x %d = %zu expected", j->n_user_latents,
                         j->channels, j->clip.frames, j->clip.height, j->clip.width, j->latent_elems);
    return PRX_OK;
}

static int check_text(prx_job *j)
{
    const char *p = j->text[PRXI_TEXT_PROMPT];
    if (!p || p[strspn(p, " \t\r\n")] == '\0')
        return prxi_fail(&j->ctx, PRX_EINVAL, "prompt: empty; say what the video shows");
    return PRX_OK;
}

/* Convolutions by cuDNN when that is asked for: a device, cuDNN, and its type. */
static int check_conv(prx_job *j)
{
    const prx_engine *e = j->engine;
    if (j->set.conv != PRXI_CONV_LIBRARY)
        return PRX_OK;
    if (!e->cuda)
        return prxi_fail(&j->ctx, PRX_ENOTSUP, "vae.conv: cudnn: the CPU has none; --device cuda expected");
    if (!e->cuda->cudnn)
        return prxi_fail(&j->ctx, PRX_ENOTSUP, "vae.conv: cudnn: %s", *e->cuda->no_cudnn ? e->cuda->no_cudnn : "it is not used here");
    if (e->dtype != PRXI_BF16)
        return prxi_fail(&j->ctx, PRX_ENOTSUP, "vae.conv: cudnn: in bf16 only; --dtype bf16 expected");
    return PRX_OK;
}

/* No file is written twice, and only the video goes to standard output. */
static int check_files(prx_job *j)
{
    static const struct {
        const char *key;
        int text;
    } files[] = { { "output", PRXI_TEXT_OUTPUT }, { "dump", PRXI_TEXT_DUMP }, { "save_state", PRXI_TEXT_SAVE_STATE },
                  { "record_trace", PRXI_TEXT_TRACE } };
    enum { N = sizeof files / sizeof *files };
    for (int i = 1; i < N; i++) {
        const char *path = j->text[files[i].text];
        if (path && strcmp(path, "-") == 0)
            return prxi_fail(&j->ctx, PRX_EINVAL, "%s: -: a file name expected; only output can be standard output", files[i].key);
        for (int k = 0; k < i && path && *path; k++)
            if (j->text[files[k].text] && strcmp(path, j->text[files[k].text]) == 0)
                return prxi_fail(&j->ctx, PRX_EINVAL, "%s: %s: is the file of %s too", files[i].key, path, files[k].key);
    }
    return PRX_OK;
}

/* ---- schedule ---- */

static int plan_experts(prx_job *j)
{
    const int steps = (int)j->set.steps;
    const float *t = prxi_sched_timesteps(j->sched);
    j->step_expert = prxi_calloc(j->ctx.mem, PRXI_MEM_MISC, (size_t)steps, sizeof(int));
    j->expert_index = prxi_calloc(j->ctx.mem, PRXI_MEM_MISC, (size_t)steps, sizeof(int));
    if (!j->step_expert || !j->expert_index)
        return prxi_fail_nomem(&j->ctx, "steps", (size_t)steps * sizeof(int));
    memset(j->expert_steps, 0, sizeof j->expert_steps);
    for (int i = 0; i < steps; i++) {
        j->step_expert[i] = j->model->experts == 2 && t[i] < j->model->boundary;
        j->expert_index[i] = j->expert_steps[j->step_expert[i]]++;
    }
    return PRX_OK;
}

static int plan_schedule(prx_job *j)
{
    j->scheduler = *j->set.scheduler ? prxi_scheduler_find(j->set.scheduler) : j->model->scheduler;
    j->sched_cfg = j->model->sched_cfg;
    if (j->set.shift > 0)
        j->sched_cfg.shift = j->set.shift;
    if (j->set.old_sigmas)
        j->sched_cfg.old_sigmas = 1;
    if (j->set.solver_order && !j->scheduler->max_order)
        return prxi_fail(&j->ctx, PRX_EINVAL, "solver_order: %lld: the scheduler %s has one order", (long long)j->set.solver_order,
                         j->scheduler->name);
    if (j->set.solver_order)
        j->sched_cfg.order = (int)j->set.solver_order;
    const int err = prxi_sched_open_on(&j->ctx, &j->sched, j->scheduler, &j->sched_cfg, (int)j->set.steps, j->latent_elems,
                                       &j->stream, &prxi_job_kernels(j)->latent);
    return err < 0 ? err : plan_experts(j);
}

/* ---- policies ---- */

/* Of a branch. */
static int64_t tokens_of(const prx_job *j)
{
    const int *patch = j->model->dit_cfg[0].patch;
    return (int64_t)(j->clip.frames / patch[0]) * (j->clip.height / patch[1]) * (j->clip.width / patch[2]);
}

static int open_policy(prx_job *j, const char *kind, const prxi_option *options, size_t size, void **priv)
{
    *priv = prxi_calloc(j->ctx.mem, PRXI_MEM_MISC, 1, size ? size : 1);
    if (!*priv)
        return prxi_fail_nomem(&j->ctx, kind, size);
    int err = options ? prxi_option_defaults(&j->ctx, options, *priv) : PRX_OK;
    return err < 0 ? err : prxi_settings_apply(j, kind, options, *priv);
}

/* What the device keeps of a list beside what the policy counts. */
static int plan_list(prx_job *j, const prxi_attn_env *env)
{
    const int64_t ld = (int64_t)env->heads * env->head_dim;
    const prxi_attn_args a = { .heads = env->heads, .head_dim = env->head_dim, .q_len = env->tokens, .kv_len = env->tokens, .ldq = ld,
                               .ldk = ld, .ldv = ld, .ldo = ld, .room = PRXI_ATTN_ROOM };
    size_t bytes = 0;
    const int err = strcmp(j->attn->name, "dense") == 0 ? PRX_OK
                    : prxi_cuda_plan_list(&j->ctx, j->engine->cuda, &a, j->attn->fixed ? j->attn->fixed(j->attn_priv) : NULL, env->dtype,
                                          &bytes);
    j->attn_plan.bytes = prxi_add(j->attn_plan.bytes, bytes);
    return err;
}

static int plan_attention(prx_job *j)
{
    const prxi_dit_config *d = &j->model->dit_cfg[0];
    const int gt = j->clip.frames / d->patch[0], gh = j->clip.height / d->patch[1], gw = j->clip.width / d->patch[2];
    const prxi_attn_env env = {
        .layers = d->layers, .heads = d->heads, .head_dim = d->head_dim, .branches = j->branches,
        .steps = (int)j->set.steps, .frames = gt, .grid_h = gh, .grid_w = gw, .tokens = (int64_t)gt * gh * gw,
        .family = "wan", .dtype = j->engine->dtype, .isa = j->engine->kernels.isa, .n_threads = j->engine->threads,
        .seed = (uint64_t)j->set.seed, .timesteps = prxi_sched_timesteps(j->sched), .ops = &prxi_job_kernels(j)->attn,
        .device = j->stream.device,
    };
    j->attn = prxi_attn_policy_find(j->set.attention);
    int err = open_policy(j, "attention", j->attn->options, j->attn->priv_size, &j->attn_priv);
    j->attn_plan = (prxi_attn_plan) { .density = 1.0, .sparse_density = 1.0 };
    if (err == PRX_OK)
        err = j->attn->plan(j->attn_priv, &j->ctx, &env, &j->attn_plan);
    return err < 0 || !j->engine->cuda ? err : plan_list(j, &env);
}

void prxi_plan_cache_env(const prx_job *j, prxi_cache_env *env)
{
    const prxi_dit_config *d = &j->model->dit_cfg[0];
    *env = (prxi_cache_env) {
        .blocks = d->layers, .branches = j->branches, .steps = (int)j->set.steps,
        .tokens = tokens_of(j),
        .dim = (int64_t)d->heads * d->head_dim, .latent_elems = (int64_t)j->latent_elems, .dtype = j->engine->dtype,
        .n_threads = j->engine->threads, .experts = j->model->experts, .sigmas = prxi_sched_sigmas(j->sched),
        .device = j->stream.device, .step_expert = j->step_expert, .act = &prxi_job_kernels(j)->act,
        .model = j->model->name, .model_dir = j->model->dir,
        .published = j->model->known.root ? cJSON_GetObjectItemCaseSensitive(j->model->known.root, "published") : NULL,
    };
}

const prxi_attn_policy *prxi_plan_attention(const prx_job *j, int i)
{
    return j->step_kinds && j->step_kinds[i] == PRXI_STEP_DENSE ? prxi_attn_policy_find("dense") : j->attn;
}

/* A schedule that says which steps are sparse: there must be such an attention, and the expected density is that of the schedule. */
static int plan_kinds(prx_job *j)
{
    prxi_attn_plan *p = &j->attn_plan;
    int computed = 0, sparse = 0;
    j->step_kinds = j->cache_plan.steps;
    for (int i = 0; j->step_kinds && i < (int)j->set.steps; i++) {
        computed += j->step_kinds[i] != PRXI_STEP_CACHED;
        sparse += j->step_kinds[i] == PRXI_STEP_COMPUTED && i >= p->dense_steps;
    }
    if (!j->step_kinds)
        return PRX_OK;
    if (sparse && strcmp(j->attn->name, "dense") == 0)
        return prxi_fail(&j->ctx, PRX_EINVAL, "attention: dense: the schedule has %d steps with sparse attention: which one, expected",
                         sparse);
    p->density = 1 - (double)sparse / computed * (1 - (double)p->dense_layers / j->model->dit_cfg[0].layers) * (1 - p->sparse_density);
    p->dense_steps = computed - sparse;
    return PRX_OK;
}

static int plan_cache(prx_job *j)
{
    prxi_cache_env env;
    prxi_plan_cache_env(j, &env);
    j->cache = prxi_cache_policy_find(j->set.cache);
    int err = open_policy(j, "cache", j->cache->options, j->cache->priv_size, &j->cache_priv);
    j->cache_plan = (prxi_cache_plan) { .computed_steps = -1 };
    if (err < 0 || (err = j->cache->plan(j->cache_priv, &j->ctx, &env, &j->cache_plan)) < 0 || (err = plan_kinds(j)) < 0 ||
        !j->text[PRXI_TEXT_TRACE])
        return err;
    if ((err = prxi_trace_open(j)) == PRX_OK)
        j->cache_plan.bytes += prxi_trace_bytes(j->trace);
    return err;
}

/* Policies carry state from step to step that a state file does not hold. */
static int check_resume(prx_job *j)
{
    const int stateful = j->cache->at_block || j->cache->begin_step || j->attn->stateful;
    if (!stateful || (!j->text[PRXI_TEXT_RESUME] && !j->text[PRXI_TEXT_SAVE_STATE]))
        return PRX_OK;
    return prxi_fail(&j->ctx, PRX_EINVAL, "%s: not with attention %s and cache %s: what they remember between steps is not saved",
                     j->text[PRXI_TEXT_RESUME] ? "resume" : "save_state", j->attn->name, j->cache->name);
}

/* ---- memory ---- */

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t dit_weight_bytes(const prx_job *j)
{
    return prxi_dit_weight_bytes(&j->model->dit_cfg[0], j->engine->dtype, j->quant);
}

/* Latents, velocities, the scheduler's state: until the end of the job. */
static size_t latent_bytes(const prx_job *j)
{
    return prxi_mul(j->latent_elems * sizeof(float), (size_t)(4 + j->scheduler->state_tensors));
}

static size_t run_bytes(const prx_job *j, prxi_quant quant)
{
    const prxi_dit_clip clip = { j->clip.frames, j->clip.height, j->clip.width, j->branches,
                                 { (int)j->set.max_text, (int)j->set.max_text }, { NULL, NULL }, (int)j->set.max_text };
    return prxi_dit_run_bytes(&j->model->dit_cfg[0], &clip, j->engine->dtype, quant);
}

static size_t denoise_bytes(const prx_job *j)
{
    return prxi_add(prxi_add(run_bytes(j, j->quant), latent_bytes(j)), prxi_add(j->attn_plan.bytes, j->cache_plan.bytes));
}

static double gib(size_t bytes)
{
    return (double)bytes / 0x1p30;
}

/* Tiles of dense attention, sums of reductions, and what cuDNN may take: there all the time. cuBLASLt has its workspace already. */
static size_t table_bytes(const prx_job *j)
{
    const size_t tile = 16, tiles = (1 + (size_t)j->model->dit_cfg[0].heads) * ((size_t)tokens_of(j) / 64 + 1);
    return 8192 + tile * tiles + (j->engine->cuda->cudnn ? PRXI_CUDNN_WORKSPACE : 0);
}

/* Text encoder, transformer and decoder are on the device one after the other; of the transformer what fits beside the activations, the
 * other blocks come from the host in turns. */
static int plan_device_memory(prx_job *j)
{
    const size_t load = prxi_dit_load_bytes(&j->model->dit_cfg[0], j->engine->dtype, j->quant);
    const size_t denoise = max_size(prxi_add(denoise_bytes(j), table_bytes(j)), load);
    const size_t text = prxi_model_component_bytes(j->model, "text_encoder");
    prxi_cu_info info;
    const int err = j->engine->cuda->module->probe(&info);
    if (err < 0)
        return prxi_fail(&j->ctx, err, "device cuda: %s", info.why);
    /* Weights that an earlier job left behind are in the free figure already. */
    const prxi_dit_config *cfg = &j->model->dit_cfg[0];
    const prxi_dit *left = j->model->dit[0];
    const size_t kept = left ? prxi_dit_weight_bytes(cfg, j->engine->dtype, prxi_dit_get_quant(left)) : 0;
    const size_t have = info.memory_free + kept, wanted = (size_t)(j->set.vram_budget * 0x1p30);
    j->budget = wanted > 0 && wanted < have ? wanted : have;
    j->weight_bytes = j->budget > denoise ? j->budget - denoise : 0;
    j->fit = prxi_dit_fit_in(cfg, j->engine->dtype, j->quant, j->weight_bytes);
    const int found = prxi_vae_device_bytes(&j->ctx, j->model->dir, prxi_job_kernels(j), j->engine->dtype, &j->clip, &j->decode_bytes);
    if (found < 0)
        return found;
    const size_t eight = run_bytes(j, j->quant) - run_bytes(j, PRXI_QUANT_NONE);        /* the device's own: they stay */
    j->decode_bytes = prxi_add(prxi_add(j->decode_bytes, eight), prxi_add(latent_bytes(j), table_bytes(j)));
    j->keep_in_decode = prxi_add(j->fit.bytes, j->decode_bytes) <= j->budget;
    j->plan_bytes = max_size(max_size(text, prxi_add(j->fit.bytes, denoise)), j->decode_bytes);
    if (j->fit.resident >= 0 && text <= j->budget && j->decode_bytes <= j->budget)
        return PRX_OK;
    if (j->fit.resident >= 0 && text <= j->budget)
        return prxi_fail(&j->ctx, PRX_ENOMEM, "device memory: %.2f GiB needed for the decoder; %.2f GiB of %.2f on %s may be taken; "
                         "a smaller size, %s--device cpu need less of it",
                         gib(j->decode_bytes), gib(j->budget), gib(info.memory), info.name,
                         j->clip.tiling ? "or " : "--set vae.tiling=true or ");
    return prxi_fail(&j->ctx, PRX_ENOMEM,
                     "device memory: %.2f GiB needed (transformer %.2f with two blocks at a time, activations %.2f, "
                     "text encoder %.2f before it); %.2f GiB of %.2f on %s may be taken; "
                     "a smaller size, fewer frames or --device cpu need less of it",
                     gib(j->plan_bytes), gib(j->fit.bytes), gib(denoise), gib(text), gib(j->budget), gib(info.memory), info.name);
}

/* The steps at each end that run in the model's type, a broken one counting as a whole. */
static int plan_wide_steps(prx_job *j)
{
    const int steps = (int)j->set.steps;
    j->wide_steps = (int)ceil(j->set.quant_keep * steps - 1e-9);
    if (j->wide_steps == 0)
        return PRX_OK;
    if (!j->set.quant)
        return prxi_fail(&j->ctx, PRX_EINVAL, "quant_keep: %g: without quant=fp8 every step is kept", j->set.quant_keep);
    if (2 * j->wide_steps >= steps)
        return prxi_fail(&j->ctx, PRX_EINVAL, "quant_keep: %g: leaves none of %d steps to quant=fp8", j->set.quant_keep, steps);
    j->quant = PRXI_QUANT_FP8_BESIDE;
    return PRX_OK;
}

static int check_quant(prx_job *j)
{
    const prxi_cuda *u = j->engine->cuda;
    j->quant = j->set.quant ? PRXI_QUANT_FP8 : PRXI_QUANT_NONE;
    const int err = plan_wide_steps(j);
    if (err < 0 || j->quant == PRXI_QUANT_NONE)
        return err;
    if (!u || !u->info.fp8)
        return prxi_fail(&j->ctx, PRX_ENOTSUP, "quant: fp8: not on %s: --device cuda with a chip of sm_90 multiplies 8-bit floats by row",
                         u ? u->info.name : "the CPU");
    if (j->engine->dtype != PRXI_BF16)
        return prxi_fail(&j->ctx, PRX_EINVAL, "quant: fp8: beside --dtype bf16 only");
    if (!prxi_dit_quant_fits(&j->model->dit_cfg[0]))
        return prxi_fail(&j->ctx, PRX_ENOTSUP, "quant: fp8: this model is too small: three blocks or more, of sizes in multiples of 16");
    return PRX_OK;
}

static int plan_memory(prx_job *j)
{
    j->budget = j->weight_bytes = SIZE_MAX;
    if (j->set.vram_budget > 0 && !j->engine->cuda)
        return prxi_fail(&j->ctx, PRX_EINVAL, "vram_budget: the CPU has no device memory; --device cuda expected");
    if (j->engine->cuda)
        return plan_device_memory(j);
    const size_t dit = dit_weight_bytes(j), denoise = denoise_bytes(j);
    const size_t text = prxi_model_component_bytes(j->model, "text_encoder");
    const size_t worst = max_size(text, prxi_add(dit, denoise)), have = prxi_memory_available();
    j->plan_bytes = worst;
    /* Weights that an earlier job left behind are in the free figure already. */
    if (worst <= have || j->model->dit[0])
        return PRX_OK;
    return prxi_fail(&j->ctx, PRX_ENOMEM,
                     "memory: %.1f GiB needed (transformer %.1f, activations %.1f, text encoder %.1f before it), %.1f GiB free; "
                     "a smaller size, fewer frames or --dtype bf16 need less",
                     (double)worst / 0x1p30, (double)dit / 0x1p30, (double)denoise / 0x1p30, (double)text / 0x1p30,
                     (double)have / 0x1p30);
}

/* ---- */

/* As in diffusers, guidance alone decides whether the negative prompt is computed, for both experts. */
static int plan_guidance(prx_job *j)
{
    const double g2 = j->set.guidance_2;
    j->branches = j->set.guidance > 1.0 ? 2 : 1;
    if (g2 >= 0 && g2 != j->set.guidance && j->model->experts == 1)
        return prxi_fail(&j->ctx, PRX_EINVAL, "guidance_2: %g: %s has one transformer; guidance is its only one", g2, j->model->name);
    if (g2 > 1.0 && j->branches == 1)
        return prxi_fail(&j->ctx, PRX_EINVAL, "guidance_2: %g: has no effect with guidance %g, which runs the prompt alone in both "
                         "experts; guidance above 1 expected", g2, j->set.guidance);
    return PRX_OK;
}

int prxi_plan(prx_job *j)
{
    if (j->state != PRXI_JOB_SETUP)
        return PRX_OK;
    int err;
    if ((err = plan_guidance(j)) < 0 || (err = check_text(j)) < 0 || (err = check_files(j)) < 0 || (err = check_quant(j)) < 0 ||
        (err = plan_clip(j)) < 0 || (err = check_conv(j)) < 0 || (err = plan_schedule(j)) < 0 ||
        (err = plan_attention(j)) < 0 || (err = plan_cache(j)) < 0 || (err = check_resume(j)) < 0 || (err = prxi_tap_check(j)) < 0 ||
        (err = plan_memory(j)) < 0) {
        prxi_unplan(j);
        return err;
    }
    j->state = PRXI_JOB_PLANNED;
    return PRX_OK;
}

void prxi_plan_close_policies(prx_job *j)
{
    if (j->attn_priv && j->attn->close && !j->policies_closed)
        j->attn->close(j->attn_priv, &j->ctx);
    if (j->cache_priv && j->cache->close && !j->policies_closed)
        j->cache->close(j->cache_priv, &j->ctx);
    j->policies_closed = 1;
}

void prxi_unplan(prx_job *j)
{
    prxi_plan_close_policies(j);
    prxi_trace_close(j);
    prxi_free(j->ctx.mem, j->attn_priv);
    prxi_free(j->ctx.mem, j->cache_priv);
    prxi_free(j->ctx.mem, j->step_expert);
    prxi_free(j->ctx.mem, j->expert_index);
    prxi_sched_close(&j->ctx, &j->sched);
    j->attn_priv = j->cache_priv = NULL;
    j->policies_closed = 0;
    j->step_expert = j->expert_index = NULL;
    j->step_kinds = NULL;
    j->estimated = 0;
    if (j->state == PRXI_JOB_PLANNED)
        j->state = PRXI_JOB_SETUP;
}

static cJSON *memory_json(const prx_job *j)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "text_encoder_bytes", (double)prxi_model_component_bytes(j->model, "text_encoder"));
    cJSON_AddNumberToObject(o, "transformer_bytes", (double)dit_weight_bytes(j));
    cJSON_AddNumberToObject(o, "activation_bytes", (double)denoise_bytes(j));
    cJSON_AddNumberToObject(o, "attention_policy_bytes", (double)j->attn_plan.bytes);
    cJSON_AddNumberToObject(o, "cache_policy_bytes", (double)j->cache_plan.bytes);
    cJSON_AddNumberToObject(o, "vae_bytes", (double)prxi_model_component_bytes(j->model, "vae"));
    cJSON_AddNumberToObject(o, "peak_bytes", (double)j->plan_bytes);
    const size_t have = j->engine->cuda ? j->budget : prxi_memory_available();
    if (have != SIZE_MAX)
        cJSON_AddNumberToObject(o, "available_bytes", (double)have);
    if (j->engine->cuda) {
        cJSON_AddNumberToObject(o, "decoder_on_device_bytes", (double)j->decode_bytes);
        cJSON_AddNumberToObject(o, "transformer_on_device_bytes", (double)j->fit.bytes);
        cJSON_AddNumberToObject(o, "blocks_on_device", j->fit.resident);
        cJSON_AddNumberToObject(o, "blocks_from_host", j->model->dit_cfg[0].layers - j->fit.resident);
    }
    return o;
}

/* Measured once per plan. */
static int estimate(prx_job *j)
{
    const prxi_dit_config *d = &j->model->dit_cfg[0];
    const prxi_estimate_env env = {
        .kernels = &j->engine->kernels, .dit = d, .dtype = j->engine->dtype, .branches = j->branches, .attn = &j->attn_plan,
        .tokens = tokens_of(j),
    };
    const int err = j->estimated ? PRX_OK : prxi_estimate_run(&j->ctx, &j->stream, &env, &j->estimate);
    j->estimated = err == PRX_OK;
    return err;
}

/* A device's rates are not measured: its plan has no times. */
int prxi_plan_estimate(prx_job *j)
{
    return j->state == PRXI_JOB_PLANNED && !j->engine->cuda ? estimate(j) : PRX_OK;
}

const char *prxi_plan_rgb(const prx_job *j)
{
    prxi_ctx quiet = { .mem = j->ctx.mem };
    const char *path = j->text[PRXI_TEXT_OUTPUT], *dump = j->text[PRXI_TEXT_DUMP];
    const prxi_muxer *mux = path && *path ? prxi_muxer_for(&quiet, path) : NULL;
    if (dump && *dump)
        return "the dump has RGB";
    if (j->on_frame)
        return "the program takes RGB";
    if (mux && !mux->write_yuv)
        return "the file takes RGB";
    return !mux ? "there is no file" : j->set.tiling ? "tiles are blended on the CPU" : NULL;
}

/* What a device does behind the transformer, and what of it comes to the host. */
static void add_decoder(const prx_job *j, cJSON *o)
{
    static const char *const by[] = { "own kernel or cuDNN, the faster one of each shape", "own kernel",
                                      "cuDNN where it has a form of them" };
    const char *rgb = prxi_plan_rgb(j);
    char text[80] = "YUV 4:2:0";
    if (rgb)
        snprintf(text, sizeof text, "RGB: %s", rgb);
    cJSON_AddStringToObject(o, "convolutions", by[j->engine->cuda->cudnn ? j->set.conv : PRXI_CONV_OURS]);
    cJSON_AddStringToObject(o, "frames_from_device", text);
}

cJSON *prxi_plan_json(const prx_job *j)
{
    const prxi_dit_config *d = &j->model->dit_cfg[0];
    cJSON *o = cJSON_CreateObject();
    cJSON_AddItemToObject(o, "request", prxi_request_json(j));
    cJSON_AddNumberToObject(o, "tokens", (double)tokens_of(j));
    cJSON_AddNumberToObject(o, "branches", j->branches);
    if (j->model->experts == 2) {
        cJSON_AddNumberToObject(o, "high_noise_steps", j->expert_steps[0]);
        cJSON_AddNumberToObject(o, "low_noise_steps", j->expert_steps[1]);
    }
    if (!isnan(j->attn_plan.density))
        cJSON_AddNumberToObject(o, "attention_density", j->attn_plan.density);
    if (*j->attn_plan.note)
        cJSON_AddStringToObject(o, "attention_note", j->attn_plan.note);
    if (j->cache_plan.computed_steps >= 0)
        cJSON_AddNumberToObject(o, "computed_steps", j->cache_plan.computed_steps);
    if (*j->cache_plan.note)
        cJSON_AddStringToObject(o, "cache_note", j->cache_plan.note);
    if (j->engine->cuda)
        add_decoder(j, o);
    if (j->estimated)
        cJSON_AddItemToObject(o, "expected", prxi_estimate_json(&j->estimate, &j->attn_plan, d->layers, (int)j->set.steps,
                                                                j->cache_plan.computed_steps));
    cJSON_AddItemToObject(o, "memory", memory_json(j));
    return o;
}
