/* Descriptions as JSON: the machine and build (doctor), a model (inspect), the plug-ins (help). */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <dirent.h>

#include "engine/core/cpu.h"
#include "job.h"

/* ---- plug-ins ---- */

typedef struct plugin {
    prx_plugin_info info;
    const prxi_option *options;
} plugin;

static int count_options(const prxi_option *o)
{
    int n = 0;
    while (o && o[n].name)
        n++;
    return n;
}

static int plugin_at(int i, plugin *out)
{
    memset(out, 0, sizeof *out);
    const prxi_attn_policy *a;
    const prxi_cache_policy *k;
    const prxi_scheduler *s;
    const prxi_muxer *m;
    int n = 0;
    for (int q = 0; (a = prxi_attn_policy_at(q)); q++, n++)
        if (n == i) {
            *out = (plugin) { { "attention", a->name, a->help, 0 }, a->options };
            return PRX_OK;
        }
    for (int q = 0; (k = prxi_cache_policy_at(q)); q++, n++)
        if (n == i) {
            *out = (plugin) { { "cache", k->name, k->help, 0 }, k->options };
            return PRX_OK;
        }
    for (int q = 0; (s = prxi_scheduler_at(q)); q++, n++)
        if (n == i) {
            *out = (plugin) { { "scheduler", s->name, s->help, 0 }, NULL };
            return PRX_OK;
        }
    for (int q = 0; (m = prxi_muxer_at(q)); q++, n++)
        if (n == i) {
            *out = (plugin) { { "muxer", m->name, m->help, 0 }, NULL };
            return PRX_OK;
        }
    return PRX_EINVAL;
}

PRX_API int prx_plugin_at(int i, prx_plugin_info *out)
{
    plugin p;
    const int err = plugin_at(i, &p);
    *out = p.info;
    out->n_options = count_options(p.options);
    return err;
}

PRX_API int prx_plugin_option(const char *kind, const char *name, int i, prx_option_info *out)
{
    static const char *const types[] = { [PRXI_OPT_INT] = "int", [PRXI_OPT_DOUBLE] = "float", [PRXI_OPT_BOOL] = "bool",
                                         [PRXI_OPT_CHOICE] = "choice", [PRXI_OPT_STRING] = "string" };
    plugin p;
    memset(out, 0, sizeof *out);
    for (int n = 0; plugin_at(n, &p) == PRX_OK; n++) {
        if (strcmp(p.info.kind, kind) != 0 || strcmp(p.info.name, name) != 0)
            continue;
        if (i < 0 || i >= count_options(p.options))
            return PRX_EINVAL;
        const prxi_option *o = &p.options[i];
        *out = (prx_option_info) { o->name, types[o->type], o->def, o->help, o->min, o->max, o->choices };
        return PRX_OK;
    }
    return PRX_EINVAL;
}

/* ---- the machine ---- */

static void add_cpu_name(cJSON *o)
{
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon)
            continue;
        line[strcspn(line, "\n")] = '\0';
        cJSON_AddStringToObject(o, "cpu", colon + 2);
        break;
    }
    if (f)
        fclose(f);
}

static void add_cuda_module(cJSON *o, const prxi_cuda_module *module)
{
    prxi_cu_info info;
    const int err = module->probe(&info);
    cJSON_AddBoolToObject(o, "cuda", err == PRX_OK);
    cJSON *d = cJSON_AddObjectToObject(o, "cuda_device");
    cJSON_AddStringToObject(d, "name", err == PRX_OK ? info.name : "none");
    if (err < 0)
        cJSON_AddStringToObject(d, "missing", info.why);
    if (err == PRX_OK) {
        char chip[32];
        snprintf(chip, sizeof chip, "sm_%d%d, %d multiprocessors", info.major, info.minor, info.multiprocessors);
        cJSON_AddStringToObject(d, "chip", chip);
        cJSON_AddNumberToObject(d, "memory_bytes", (double)info.memory);
        cJSON_AddNumberToObject(d, "memory_free_bytes", (double)info.memory_free);
    }
    const struct {
        const char *name, *text;
        int version;
    } parts[] = { { "driver", NULL, info.driver }, { "runtime", NULL, info.runtime }, { "cublaslt", info.cublaslt, 0 },
                  { "cudnn", info.cudnn, 0 }, { "compiled_for", info.archs, 0 } };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char text[32];
        snprintf(text, sizeof text, parts[i].version ? "CUDA %d.%d" : "none", parts[i].version / 1000, parts[i].version % 1000 / 10);
        cJSON_AddStringToObject(d, parts[i].name, parts[i].text ? parts[i].text : text);
    }
    cJSON *rows = cJSON_AddArrayToObject(o, "cuda_kernels");
    for (const prxi_cu_kernel_row *k = module->kernels; k->name; k++) {
        cJSON *row = cJSON_CreateObject();
        cJSON_AddStringToObject(row, "kernel", k->name);
        cJSON_AddStringToObject(row, "source", k->hash);
        cJSON_AddStringToObject(row, "state", k->state);
        cJSON_AddItemToArray(rows, row);
    }
}

/* What the CUDA device and the module offer, or what of them is missing. */
static void add_cuda(prx_engine *e, cJSON *o)
{
    const prxi_cuda_module *module = NULL;
    void *library = NULL;
    if (e->cuda) {
        add_cuda_module(o, e->cuda->module);
        cJSON_AddStringToObject(cJSON_GetObjectItemCaseSensitive(o, "cuda_device"), "attention", e->cuda->attention);
        char conv[240] = "conv (mma.sync)";
        if (e->cuda->cudnn)
            snprintf(conv, sizeof conv, "conv (mma.sync) or cuDNN %zu, by measurement; our own where cuDNN has no form of it",
                     prxi_cudnn_version(e->cuda->cudnn));
        else if (*e->cuda->no_cudnn)
            snprintf(conv, sizeof conv, "conv (mma.sync); %s", e->cuda->no_cudnn);
        cJSON_AddStringToObject(cJSON_GetObjectItemCaseSensitive(o, "cuda_device"), "convolutions", conv);
        return;
    }
    if (prxi_cuda_load(&e->ctx, &module, &library) == PRX_OK) {
        add_cuda_module(o, module);
    } else {
        cJSON_AddBoolToObject(o, "cuda", 0);
        cJSON_AddStringToObject(o, "cuda_note", e->ctx.error.text);
    }
    prxi_cuda_unload(library);
    prxi_clear(&e->ctx);
}

PRX_API int prx_engine_describe(prx_engine *e, char **json)
{
    prxi_clear(&e->ctx);
    *json = NULL;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "praxino", PRX_VERSION);
    add_cpu_name(o);
    cJSON_AddNumberToObject(o, "cores", prxi_cpu_cores());
    cJSON_AddStringToObject(o, "isa_best", prxi_cpu_name(prxi_cpu_detect()));
    cJSON_AddStringToObject(o, "isa", prxi_cpu_name(e->kernels.isa));
    cJSON_AddStringToObject(o, "dtype", prxi_dtype_name(e->dtype));
    cJSON_AddNumberToObject(o, "threads", e->threads);
    const size_t memory = prxi_memory_available();
    if (memory != SIZE_MAX)
        cJSON_AddNumberToObject(o, "memory_available_bytes", (double)memory);
    add_cuda(e, o);
    cJSON *encoders = cJSON_AddArrayToObject(o, "encoders");
    const char *name;
    for (int i = 0; (name = prxi_encoder_at(i)); i++)
        cJSON_AddItemToArray(encoders, cJSON_CreateString(name));
    cJSON *plugins = cJSON_AddArrayToObject(o, "plugins");
    prx_plugin_info p;
    for (int i = 0; prx_plugin_at(i, &p) == PRX_OK; i++) {
        cJSON *row = cJSON_CreateObject();
        cJSON_AddStringToObject(row, "kind", p.kind);
        cJSON_AddStringToObject(row, "name", p.name);
        cJSON_AddStringToObject(row, "help", p.help);
        cJSON_AddItemToArray(plugins, row);
    }
    return prxi_json_text(&e->ctx, o, json);
}

/* ---- a model ---- */

size_t prxi_model_component_bytes(const prx_model *m, const char *component)
{
    char path[4096];
    size_t sum = 0;
    snprintf(path, sizeof path, "%s/%s", m->dir, component);
    DIR *dir = opendir(path);
    const struct dirent *e;
    while (dir && (e = readdir(dir))) {
        const size_t n = strlen(e->d_name);
        struct stat st;
        char file[4400];
        if (n < 12 || strcmp(e->d_name + n - 12, ".safetensors") != 0)
            continue;
        snprintf(file, sizeof file, "%s/%s", path, e->d_name);
        if (stat(file, &st) == 0)
            sum += (size_t)st.st_size;
    }
    if (dir)
        closedir(dir);
    return sum;
}

static cJSON *dit_json(const prxi_dit_config *d)
{
    cJSON *o = cJSON_CreateObject();
    const struct {
        const char *name;
        double value;
    } rows[] = { { "parameters", (double)d->params }, { "num_layers", d->layers }, { "num_attention_heads", d->heads },
                 { "attention_head_dim", d->head_dim }, { "ffn_dim", (double)d->ffn_dim },
                 { "in_channels", d->in_channels }, { "text_dim", (double)d->text_dim } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cJSON_AddNumberToObject(o, rows[i].name, rows[i].value);
    return o;
}

static cJSON *defaults_json(const prx_model *m)
{
    const prxi_clip_defaults *d = &m->defaults;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "from", m->defaults_name);
    cJSON_AddNumberToObject(o, "width", d->width);
    cJSON_AddNumberToObject(o, "height", d->height);
    cJSON_AddNumberToObject(o, "frames", d->frames);
    cJSON_AddNumberToObject(o, "fps", d->fps);
    cJSON_AddNumberToObject(o, "steps", d->steps);
    cJSON_AddNumberToObject(o, "guidance", d->guidance);
    if (!isnan(d->guidance_2))
        cJSON_AddNumberToObject(o, "guidance_2", d->guidance_2);
    cJSON_AddNumberToObject(o, "shift", isnan(d->shift) ? m->sched_cfg.shift : d->shift);
    cJSON_AddStringToObject(o, "scheduler", m->scheduler->name);
    return o;
}

PRX_API int prx_model_describe(prx_model *m, char **json)
{
    static const char *const parts[] = { "text_encoder", "transformer", "transformer_2", "vae" };
    prxi_clear(&m->engine->ctx);
    *json = NULL;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "name", m->name);
    cJSON_AddStringToObject(o, "pipeline", "WanPipeline");
    cJSON_AddNumberToObject(o, "experts", m->experts);
    if (m->experts == 2)
        cJSON_AddNumberToObject(o, "boundary_timestep", m->boundary);
    cJSON *components = cJSON_AddArrayToObject(o, "components");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const size_t bytes = prxi_model_component_bytes(m, parts[i]);
        const int expert = strncmp(parts[i], "transformer", 11) == 0 ? parts[i][11] == '_' : -1;
        if (bytes == 0 && expert == 1)
            continue;
        cJSON *c = cJSON_CreateObject();
        cJSON_AddStringToObject(c, "name", parts[i]);
        cJSON_AddNumberToObject(c, "file_bytes", (double)bytes);
        if (expert >= 0)
            cJSON_AddItemToObject(c, "config", dit_json(&m->dit_cfg[expert]));
        cJSON_AddItemToArray(components, c);
    }
    cJSON *vae = cJSON_AddObjectToObject(o, "vae");
    cJSON_AddNumberToObject(vae, "z_dim", m->vae_info.z_dim);
    cJSON_AddNumberToObject(vae, "scale_spatial", m->vae_info.scale_spatial);
    cJSON_AddNumberToObject(vae, "scale_temporal", m->vae_info.scale_temporal);
    cJSON_AddItemToObject(o, "defaults", defaults_json(m));
    return prxi_json_text(&m->engine->ctx, o, json);
}
