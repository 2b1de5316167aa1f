/* Stats and the resolved request as JSON (DESIGN.md section 6). */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "engine/core/cpu.h"
#include "job.h"

static const char *const branch_name[PRXI_BRANCHES] = { "cond", "uncond" };

static void add_number_or_null(cJSON *o, const char *key, double v)
{
    if (isfinite(v))
        cJSON_AddNumberToObject(o, key, v);
    else
        cJSON_AddNullToObject(o, key);
}

static cJSON *options_json(const prxi_option *options, const void *priv)
{
    cJSON *o = cJSON_CreateObject();
    char buf[PRXI_OPT_STRING_MAX + 64];
    for (; options && options->name && priv; options++)
        if (prxi_option_get(options, priv, options->name, buf, sizeof buf) == PRX_OK)
            cJSON_AddStringToObject(o, options->name, buf);
    return o;
}

static void add_text(cJSON *o, const prx_job *j, prxi_text_key key, const char *name)
{
    if (j->text[key])
        cJSON_AddStringToObject(o, name, j->text[key]);
}

/* A choice by its name. */
static void add_choice(cJSON *o, const prx_job *j, const char *key, const char *name)
{
    char text[32];
    if (prx_job_get(j, key, text, sizeof text) == PRX_OK)
        cJSON_AddStringToObject(o, name, text);
}

cJSON *prxi_request_json(const prx_job *j)
{
    const prxi_settings *s = &j->set;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "model", j->model->name);
    add_text(o, j, PRXI_TEXT_PROMPT, "prompt");
    cJSON_AddStringToObject(o, "negative_prompt", j->text[PRXI_TEXT_NEGATIVE] ? j->text[PRXI_TEXT_NEGATIVE] : "");
    const struct {
        const char *name;
        double value;
    } numbers[] = {
        { "width", (double)s->width },       { "height", (double)s->height }, { "frames", (double)s->frames },
        { "fps", (double)s->fps },           { "steps", (double)s->steps },   { "guidance", s->guidance },
        { "guidance_2", s->guidance_2 >= 0 ? s->guidance_2 : s->guidance },   { "shift", j->sched_cfg.shift },
        { "max_text", (double)s->max_text },
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        cJSON_AddNumberToObject(o, numbers[i].name, numbers[i].value);
    char seed[32];      /* beyond 2^53 a JSON number would lose digits */
    snprintf(seed, sizeof seed, "%lld", (long long)s->seed);
    cJSON_AddRawToObject(o, "seed", seed);
    cJSON_AddStringToObject(o, "scheduler", j->scheduler ? j->scheduler->name : s->scheduler);
    if (s->solver_order)
        cJSON_AddNumberToObject(o, "solver_order", (double)s->solver_order);
    cJSON_AddBoolToObject(o, "old_sigmas", s->old_sigmas);
    cJSON_AddStringToObject(o, "attention", s->attention);
    cJSON_AddItemToObject(o, "attention_options", options_json(j->attn ? j->attn->options : NULL, j->attn_priv));
    cJSON_AddStringToObject(o, "cache", s->cache);
    cJSON_AddItemToObject(o, "cache_options", options_json(j->cache ? j->cache->options : NULL, j->cache_priv));
    cJSON_AddBoolToObject(o, "vae_tiling", s->tiling);
    if (j->engine->cuda)
        add_choice(o, j, "vae.conv", "vae_conv");
    if (s->quant)
        add_choice(o, j, "quant", "quant");
    if (s->quant && s->quant_keep > 0)
        cJSON_AddNumberToObject(o, "quant_keep", s->quant_keep);
    add_text(o, j, PRXI_TEXT_LATENTS, "latents");
    cJSON_AddStringToObject(o, "device", j->engine->cuda ? "cuda" : "cpu");
    cJSON_AddStringToObject(o, "dtype", prxi_dtype_name(j->engine->dtype));
    cJSON_AddStringToObject(o, "isa", prxi_cpu_name(j->engine->kernels.isa));
    return o;
}

/* Mean over the layers where attention ran; NaN when none did. */
static double mean_density(const prx_job *j, int step, int branch, cJSON *layers)
{
    const int n = j->model->dit_cfg[0].layers;
    const double *row = j->density + ((size_t)step * (size_t)j->branches + (size_t)branch) * (size_t)n;
    double sum = 0;
    int count = 0;
    for (int l = 0; l < n; l++) {
        if (isfinite(row[l]))
            sum += row[l], count++;
        if (layers)
            cJSON_AddItemToArray(layers, isfinite(row[l]) ? cJSON_CreateNumber(row[l]) : cJSON_CreateNull());
    }
    return count ? sum / count : NAN;
}

/* Recall and output error of the layers that were probed (--set attention.probe=true). */
static void add_probes(const prx_job *j, int step, int branch, cJSON *o)
{
    const int n = j->model->dit_cfg[0].layers;
    const prxi_attn_probe *row = j->probes + ((size_t)step * (size_t)j->branches + (size_t)branch) * (size_t)n;
    cJSON *recall = NULL, *error = NULL;
    for (int l = 0; l < n; l++)
        if (isfinite(row[l].recall) && !recall) {
            recall = cJSON_AddArrayToObject(o, "attention_recall_layers");
            error = cJSON_AddArrayToObject(o, "attention_error_layers");
        }
    for (int l = 0; recall && l < n; l++) {
        cJSON_AddItemToArray(recall, isfinite(row[l].recall) ? cJSON_CreateNumber(row[l].recall) : cJSON_CreateNull());
        cJSON_AddItemToArray(error, isfinite(row[l].error) ? cJSON_CreateNumber(row[l].error) : cJSON_CreateNull());
    }
}

static cJSON *branch_json(const prx_job *j, int step, int branch)
{
    const prxi_cache_report *r = &j->stats[step].reports[branch];
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "branch", branch_name[branch]);
    cJSON_AddStringToObject(o, "decision", r->cached ? "cached" : "computed");
    cJSON_AddStringToObject(o, "reason", r->reason ? r->reason : "");
    add_number_or_null(o, "diff", r->diff);
    cJSON_AddNumberToObject(o, "blocks_computed", r->blocks_computed);
    cJSON *layers = strcmp(j->attn->name, "dense") != 0 ? cJSON_CreateArray() : NULL;
    add_number_or_null(o, "attention_density", mean_density(j, step, branch, layers));
    if (layers)
        cJSON_AddItemToObject(o, "attention_density_layers", layers);
    add_probes(j, step, branch, o);
    return o;
}

static cJSON *steps_json(const prx_job *j, int *computed, double *density)
{
    cJSON *steps = cJSON_CreateArray();
    double sum = 0;
    int rows = 0;
    *computed = 0;
    for (int i = j->first_step; i < j->step; i++) {
        cJSON *o = cJSON_CreateObject(), *branches = NULL;
        int any = 0;
        cJSON_AddNumberToObject(o, "index", i);
        cJSON_AddNumberToObject(o, "sigma", j->stats[i].sigma);
        cJSON_AddNumberToObject(o, "timestep", j->stats[i].timestep);
        cJSON_AddNumberToObject(o, "seconds", j->stats[i].seconds);
        branches = cJSON_AddArrayToObject(o, "branches");
        for (int b = 0; b < j->branches; b++) {
            const double d = mean_density(j, i, b, NULL);
            if (isfinite(d))
                sum += d, rows++;
            any |= !j->stats[i].reports[b].cached;
            cJSON_AddItemToArray(branches, branch_json(j, i, b));
        }
        *computed += any;
        cJSON_AddItemToArray(steps, o);
    }
    *density = rows ? sum / rows : NAN;
    return steps;
}

/* ---- what the cache did ---- */

static double median(double *v, int n)
{
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0 && v[k] < v[k - 1]; k--) {
            const double swap = v[k];
            v[k] = v[k - 1];
            v[k - 1] = swap;
        }
    return n == 0 ? NAN : n % 2 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
}

/* Branches of a step that were served from the cache. */
static int cached_branches(const prx_job *j, int step)
{
    int n = 0;
    for (int b = 0; b < j->branches; b++)
        n += j->stats[step].reports[b].cached;
    return n;
}

/* Median time of the steps that were computed (cached 0) or cached in every branch; NaN: there is none. */
static double typical_seconds(const prx_job *j, int cached)
{
    double *list = prxi_calloc(j->ctx.mem, PRXI_MEM_SCRATCH, (size_t)j->set.steps, sizeof *list);
    int n = 0;
    for (int i = j->first_step; list && i < j->step; i++)
        if (cached_branches(j, i) == (cached ? j->branches : 0))
            list[n++] = j->stats[i].seconds;
    const double t = median(list, n);
    prxi_free(j->ctx.mem, list);
    return t;
}

/* Against a run of which every step takes `full` seconds: over the steps that were cached, in some branches or all. */
static double saved_seconds(const prx_job *j, double full)
{
    double saved = 0;
    for (int i = j->first_step; i < j->step; i++)
        if (cached_branches(j, i))
            saved += full - j->stats[i].seconds;
    return saved;
}

/* {"computed": {reason: passes, ...}, "cached": {...}}; a pass is one branch of one step. */
static cJSON *passes_json(const prx_job *j)
{
    cJSON *o = cJSON_CreateObject();
    cJSON *const kinds[] = { cJSON_AddObjectToObject(o, "computed"), cJSON_AddObjectToObject(o, "cached") };
    for (int i = j->first_step; i < j->step; i++)
        for (int b = 0; b < j->branches; b++) {
            const prxi_cache_report *r = &j->stats[i].reports[b];
            const char *reason = r->reason ? r->reason : "";
            cJSON *kind = kinds[r->cached != 0], *count = cJSON_GetObjectItemCaseSensitive(kind, reason);
            if (count)
                cJSON_SetNumberValue(count, count->valuedouble + 1);
            else
                cJSON_AddNumberToObject(kind, reason, 1);
        }
    return o;
}

/* Where nothing was cached: what to change, for each reason that the policy had. */
static void add_advice(const prx_job *j, cJSON *o, const cJSON *passes)
{
    const cJSON *cached = cJSON_GetObjectItemCaseSensitive(passes, "cached");
    const cJSON *computed = cJSON_GetObjectItemCaseSensitive(passes, "computed");
    char text[600] = "";
    size_t used = 0;
    for (const prxi_cache_advice *a = j->cache->advice; cached && !cached->child && a && a->reason; a++)
        if (cJSON_GetObjectItemCaseSensitive(computed, a->reason) && used < sizeof text)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used ? "; " : "", a->text);
    if (*text)
        cJSON_AddStringToObject(o, "advice", text);
}

/* Steps in which some branches were computed and others reused; they count as computed. */
static int partly_cached_steps(const prx_job *j)
{
    int n = 0;
    for (int i = j->first_step; i < j->step; i++) {
        const int cached = cached_branches(j, i);
        n += cached > 0 && cached < j->branches;
    }
    return n;
}

static cJSON *cache_json(const prx_job *j, int computed)
{
    cJSON *o = cJSON_CreateObject();
    const double full = typical_seconds(j, 0), reused = typical_seconds(j, 1);
    const int steps = j->step - j->first_step;
    cJSON_AddStringToObject(o, "policy", j->cache->name);
    cJSON_AddNumberToObject(o, "computed_steps", computed);
    cJSON_AddNumberToObject(o, "cached_steps", steps - computed);
    cJSON_AddNumberToObject(o, "partly_cached_steps", partly_cached_steps(j));
    cJSON *passes = passes_json(j);
    cJSON_AddItemToObject(o, "passes", passes);
    add_advice(j, o, passes);
    add_number_or_null(o, "computed_step_seconds", full);
    add_number_or_null(o, "cached_step_seconds", reused);
    add_number_or_null(o, "saved_seconds", saved_seconds(j, full));
    return o;
}

static cJSON *phases_json(const prxi_phases *p)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "load", p->load);
    cJSON_AddNumberToObject(o, "text", p->text);
    cJSON_AddNumberToObject(o, "denoise", p->denoise);
    cJSON_AddNumberToObject(o, "decode", p->decode);
    cJSON_AddNumberToObject(o, "encode", p->encode);
    return o;
}

/* Who computes the shapes that were measured; the rest is our kernel's. */
static cJSON *convolutions_json(const prx_job *j)
{
    const prxi_cuda *u = j->engine->cuda;
    cJSON *all = cJSON_CreateArray();
    for (int i = 0; i < u->n_convs; i++) {
        const prxi_cuda_conv_choice *k = &u->convs[i];
        const int theirs = k->config >= 0 && (j->set.conv == PRXI_CONV_LIBRARY || k->theirs < k->ours);
        char text[96];
        snprintf(text, sizeof text, "%dx%dx%d, %d to %d, %dx%d%s", k->shape.kt, k->shape.kh, k->shape.kw, k->shape.in, k->shape.out,
                 k->shape.width, k->shape.height, k->add ? ", added" : "");
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "shape", text);
        cJSON_AddStringToObject(o, "by", theirs && j->set.conv != PRXI_CONV_OURS ? "cudnn" : "ours");
        if (k->config >= 0)
            cJSON_AddNumberToObject(o, "cudnn_us", k->theirs);
        cJSON_AddNumberToObject(o, "ours_us", k->ours);
        cJSON_AddBoolToObject(o, "remembered", k->recalled);
        cJSON_AddItemToArray(all, o);
    }
    return all;
}

/* Attention that was measured, of all jobs of this engine; the rest is served as `attention` says. */
static cJSON *attention_json(const prxi_cuda *u)
{
    static const char *const names[PRXI_CUDA_SERVERS] = { "attn_us", "attn90_us", "cudnn_us" };
    cJSON *all = cJSON_CreateArray();
    for (int i = 0; i < u->n_attns; i++) {
        const prxi_cuda_attn_choice *k = &u->attns[i];
        char text[96];
        snprintf(text, sizeof text, "%d heads of %d, %lldx%lld%s", k->shape.heads, k->shape.head_dim, (long long)k->shape.q_len,
                 (long long)k->shape.kv_len, k->shape.tail ? ", last key raised" : "");
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "shape", text);
        cJSON_AddNumberToObject(o, "density", k->density);
        cJSON_AddStringToObject(o, "by", prxi_cuda_attn_by(u, k));
        for (int n = 0; n < PRXI_CUDA_SERVERS; n++)
            if (k->us[n] >= 0)
                cJSON_AddNumberToObject(o, names[n], k->us[n]);
        if (k->us[PRXI_BY_CUDNN] >= 0)
            cJSON_AddNumberToObject(o, "cudnn_engine", (double)k->engine);
        if (k->page)
            cJSON_AddNumberToObject(o, "page", k->page);
        cJSON_AddBoolToObject(o, "remembered", k->recalled);
        cJSON_AddItemToArray(all, o);
    }
    return all;
}

cJSON *prxi_stats_json(const prx_job *j)
{
    const prxi_dit_config *d = &j->model->dit_cfg[0];
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "praxino", PRX_VERSION);
    cJSON_AddItemToObject(o, "request", prxi_request_json(j));
    cJSON *model = cJSON_AddObjectToObject(o, "model");
    cJSON_AddStringToObject(model, "name", j->model->name);
    cJSON_AddNumberToObject(model, "parameters", (double)d->params);
    cJSON_AddNumberToObject(model, "layers", d->layers);
    cJSON_AddNumberToObject(model, "experts", j->model->experts);
    cJSON *device = cJSON_AddObjectToObject(o, "device");
    cJSON_AddStringToObject(device, "kind", j->engine->cuda ? "cuda" : "cpu");
    if (j->engine->cuda) {
        cJSON_AddStringToObject(device, "name", j->engine->cuda->info.name);
        cJSON_AddStringToObject(device, "text_encoder", "cuda");
        cJSON_AddStringToObject(device, "transformer", "cuda");
        cJSON_AddStringToObject(device, "attention", j->engine->cuda->attention);
        cJSON_AddItemToObject(device, "attention_shapes", attention_json(j->engine->cuda));
        cJSON_AddStringToObject(device, "decoder", "cuda");
        cJSON_AddItemToObject(device, "convolutions", convolutions_json(j));
    }
    cJSON_AddStringToObject(device, "isa", prxi_cpu_name(j->engine->kernels.isa));
    cJSON_AddStringToObject(device, "dtype", prxi_dtype_name(j->engine->dtype));
    cJSON_AddNumberToObject(device, "threads", j->engine->threads);
    cJSON_AddItemToObject(o, "phases", phases_json(&j->phases));
    int computed = 0;
    double density = NAN;
    cJSON_AddItemToObject(o, "steps", steps_json(j, &computed, &density));
    cJSON_AddNumberToObject(o, "computed_steps", computed);
    cJSON_AddItemToObject(o, "cache", cache_json(j, computed));
    add_number_or_null(o, "attention_density", density);
    cJSON_AddNumberToObject(o, "peak_memory_bytes", (double)usage.ru_maxrss * 1024.0);
    cJSON_AddNumberToObject(o, "peak_allocated_bytes", (double)atomic_load(&j->engine->mem.peak));
    if (j->engine->cuda)
        cJSON_AddNumberToObject(o, "peak_device_bytes", (double)j->engine->cuda->peak);
    return o;
}
