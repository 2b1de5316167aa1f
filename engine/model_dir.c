/* A model directory: configs read at once, weights when first needed and shared by jobs. */
#include "engine.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/core/json.h"
#include "engine/defaults.h"
#include "engine/weights/safetensors.h"

static int join(prxi_ctx *c, const prx_model *m, const char *part, char path[4096])
{
    if (snprintf(path, 4096, "%s/%s", m->dir, part) >= 4096)
        return prxi_fail(c, PRX_EINVAL, "%s: path too long", m->dir);
    return PRX_OK;
}

/* ---- configs ---- */

/* Class names that this engine runs, by component. */
static int check_class(prxi_ctx *c, const prxi_json *j, const char *component, const char *cls)
{
    const cJSON *e = cJSON_GetObjectItemCaseSensitive(j->root, component);
    const cJSON *name = cJSON_IsArray(e) ? cJSON_GetArrayItem(e, 1) : NULL;
    if (!name || cJSON_IsNull(name))
        return prxi_fail(c, PRX_EFORMAT, "%s: %s: missing", j->path, component);
    if (!cJSON_IsString(name) || strcmp(name->valuestring, cls) != 0)
        return prxi_fail(c, PRX_EFORMAT, "%s: %s: '%s' is not supported, only %s", j->path, component,
                         cJSON_IsString(name) ? name->valuestring : "?", cls);
    return PRX_OK;
}

static int read_scheduler(prxi_ctx *c, prx_model *m)
{
    char path[4096];
    prxi_json j;
    int err;
    if ((err = join(c, m, "scheduler/scheduler_config.json", path)) < 0 || (err = prxi_json_open(c, &j, path, 0)) < 0)
        return err;
    err = prxi_sched_config_load(c, &j, &m->sched_cfg, &m->scheduler);
    prxi_json_close(c, &j);
    return err;
}

/* An entry is [library, class], both null where the component is absent: then NULL. */
static const char *component_class(const prxi_json *j, const char *component)
{
    const cJSON *e = cJSON_GetObjectItemCaseSensitive(j->root, component);
    return cJSON_GetStringValue(cJSON_IsArray(e) ? cJSON_GetArrayItem(e, 1) : NULL);
}

/* The class in the index is what diffusers builds; its settings file must be of the same. */
static int check_scheduler_class(prxi_ctx *c, const prxi_json *j, const prxi_scheduler *s)
{
    const char *name = component_class(j, "scheduler");
    if (!name || strcmp(name, s->diffusers_class) == 0)
        return PRX_OK;
    return prxi_fail(c, PRX_EFORMAT, "%s: scheduler: '%s', but scheduler/scheduler_config.json is of a %s", j->path, name,
                     s->diffusers_class);
}

static int read_experts(prxi_ctx *c, prx_model *m, const prxi_json *j)
{
    double ratio = NAN;
    const int err = prxi_json_num(c, j, "boundary_ratio", &ratio);
    if (err < 0)
        return err;
    m->experts = component_class(j, "transformer_2") ? 2 : 1;
    if (m->experts == 2 && !(ratio > 0 && ratio < 1))
        return prxi_fail(c, PRX_EFORMAT, "%s: boundary_ratio: a number between 0 and 1 expected with two transformers",
                         j->path);
    if (m->experts == 1 && !isnan(ratio))
        return prxi_fail(c, PRX_EFORMAT, "%s: boundary_ratio: %g, but there is no transformer_2 for the steps below it", j->path,
                         ratio);
    /* In float32, as torch compares timesteps. */
    m->boundary = m->experts == 2 ? (float)(ratio * m->sched_cfg.train_timesteps) : NAN;
    return PRX_OK;
}

static int read_index(prxi_ctx *c, prx_model *m, const prxi_json *j)
{
    const char *cls = NULL;
    int err = prxi_json_str(c, j, "_class_name", &cls);
    if (err < 0)
        return err;
    if (!cls || strcmp(cls, "WanPipeline") != 0)
        return prxi_fail(c, PRX_EFORMAT, "%s: _class_name: '%s' is not supported, only WanPipeline", j->path,
                         cls ? cls : "");
    if ((err = check_class(c, j, "transformer", "WanTransformer3DModel")) < 0 ||
        (err = check_class(c, j, "vae", "AutoencoderKLWan")) < 0 ||
        (err = check_class(c, j, "text_encoder", "UMT5EncoderModel")) < 0 || (err = read_scheduler(c, m)) < 0 ||
        (err = check_scheduler_class(c, j, m->scheduler)) < 0)
        return err;
    return read_experts(c, m, j);
}

/* Both experts work on the same latents and text, in buffers of one size. */
static int check_experts(prxi_ctx *c, const prx_model *m)
{
    const prxi_dit_config *a = &m->dit_cfg[0], *b = &m->dit_cfg[1];
    const struct {
        const char *name;
        int64_t first, second;
    } same[] = {
        { "num_attention_heads", a->heads, b->heads },      { "attention_head_dim", a->head_dim, b->head_dim },
        { "num_layers", a->layers, b->layers },             { "in_channels", a->in_channels, b->in_channels },
        { "out_channels", a->out_channels, b->out_channels }, { "patch_size", a->patch[0], b->patch[0] },
        { "patch_size", a->patch[1], b->patch[1] },         { "patch_size", a->patch[2], b->patch[2] },
        { "text_dim", a->text_dim, b->text_dim },           { "freq_dim", a->freq_dim, b->freq_dim },
        { "ffn_dim", a->ffn_dim, b->ffn_dim },
    };
    for (size_t i = 0; m->experts == 2 && i < sizeof same / sizeof *same; i++)
        if (same[i].first != same[i].second)
            return prxi_fail(c, PRX_EFORMAT, "%s/transformer_2/config.json: %s: %lld, but %lld in transformer: must be equal", m->dir,
                             same[i].name, (long long)same[i].second, (long long)same[i].first);
    return PRX_OK;
}

static int read_configs(prxi_ctx *c, prx_model *m)
{
    char path[4096];
    prxi_json j;
    int err;
    if ((err = join(c, m, "model_index.json", path)) < 0 || (err = prxi_json_open(c, &j, path, 0)) < 0)
        return err;
    err = read_index(c, m, &j);
    prxi_json_close(c, &j);
    static const char *const parts[PRXI_EXPERTS] = { "transformer", "transformer_2" };
    for (int i = 0; i < m->experts && err == PRX_OK; i++)
        if ((err = join(c, m, parts[i], path)) == PRX_OK)
            err = prxi_dit_config_load(c, path, &m->dit_cfg[i]);
    if (err == PRX_OK)
        err = prxi_vae_config(c, m->dir, &m->vae_info);
    if (err == PRX_OK)
        err = check_experts(c, m);
    if (err == PRX_OK && (m->dit_cfg[0].in_channels != m->vae_info.z_dim ||
                          m->dit_cfg[0].out_channels != m->vae_info.z_dim))
        err = prxi_fail(c, PRX_EFORMAT, "%s: transformer with %d channels in and %d out, VAE with %d: must be equal", m->dir,
                        m->dit_cfg[0].in_channels, m->dit_cfg[0].out_channels, m->vae_info.z_dim);
    return err;
}

/* ---- defaults ---- */

static int take_defaults(prxi_ctx *c, prxi_clip_defaults *o, const prxi_json *file)
{
    const prxi_json j = { cJSON_GetObjectItemCaseSensitive(file->root, "defaults"), file->path };
    int64_t w = o->width, h = o->height, f = o->frames, fps = o->fps, steps = o->steps;
    int err;
    if ((err = prxi_json_int(c, &j, "width", 1, 1 << 16, &w)) < 0 ||
        (err = prxi_json_int(c, &j, "height", 1, 1 << 16, &h)) < 0 ||
        (err = prxi_json_int(c, &j, "frames", 1, 1 << 20, &f)) < 0 ||
        (err = prxi_json_int(c, &j, "fps", 1, 1000, &fps)) < 0 ||
        (err = prxi_json_int(c, &j, "steps", 1, 1000, &steps)) < 0 ||
        (err = prxi_json_num(c, &j, "guidance", &o->guidance)) < 0 ||
        (err = prxi_json_num(c, &j, "guidance_2", &o->guidance_2)) < 0 ||
        (err = prxi_json_num(c, &j, "shift", &o->shift)) < 0)
        return err;
    o->width = (int)w, o->height = (int)h, o->frames = (int)f, o->fps = (int)fps, o->steps = (int)steps;
    return PRX_OK;
}

static int find_defaults(prxi_ctx *c, prx_model *m)
{
    char path[4096];
    prxi_json config;
    /* What diffusers' WanPipeline does when it is told nothing. */
    m->defaults = (prxi_clip_defaults) { 832, 480, 81, 16, 50, 5.0, NAN, NAN };
    snprintf(m->defaults_name, sizeof m->defaults_name, "diffusers");
    int err = join(c, m, "transformer/config.json", path);
    if (err < 0 || (err = prxi_json_open(c, &config, path, 0)) < 0)
        return err;
    err = prxi_model_defaults(c, &config, m->experts, &m->known);
    prxi_json_close(c, &config);
    if (err < 0 || !m->known.root)
        return err;
    snprintf(m->defaults_name, sizeof m->defaults_name, "%s", m->known.path);
    return take_defaults(c, &m->defaults, &m->known);
}

/* ---- open and close ---- */

static void set_name(prx_model *m)
{
    size_t n = strlen(m->dir);
    while (n > 1 && m->dir[n - 1] == '/')
        n--;
    size_t start = n;
    while (start > 0 && m->dir[start - 1] != '/')
        start--;
    snprintf(m->name, sizeof m->name, "%.*s", (int)(n - start), m->dir + start);
}

static int check_dir(prxi_ctx *c, const char *dir)
{
    struct stat st;
    if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode))
        return prxi_fail(c, PRX_EINVAL, "%s: no such model directory (a folder with model_index.json is expected)", dir);
    return PRX_OK;
}

PRX_API int prx_model_open(prx_model **out, prx_engine *e, const char *dir)
{
    *out = NULL;
    prxi_clear(&e->ctx);
    prx_model *m = prxi_calloc(&e->mem, PRXI_MEM_MISC, 1, sizeof *m);
    if (!m)
        return prxi_fail_nomem(&e->ctx, "model", sizeof *m);
    m->engine = e;
    prxi_ctx_init(&m->ctx, e);
    pthread_mutex_init(&m->lock, NULL);
    m->dir = prxi_strdup(&e->mem, dir);
    int err = m->dir ? check_dir(&e->ctx, dir) : prxi_fail_nomem(&e->ctx, "model", strlen(dir));
    if (err == PRX_OK) {
        set_name(m);
        err = read_configs(&e->ctx, m);
    }
    if (err == PRX_OK)
        err = find_defaults(&e->ctx, m);
    if (err < 0)
        prx_model_close(&m);
    *out = m;
    return err;
}

PRX_API int prx_model_set(prx_model *m, const char *key, const char *value)
{
    prxi_clear(&m->engine->ctx);
    if (strcmp(key, "transformer") != 0)
        return prxi_fail(&m->engine->ctx, PRX_EINVAL, "%s: unknown model setting; transformer is accepted", key);
    struct stat st;
    if (stat(value, &st) != 0 || !S_ISREG(st.st_mode))
        return prxi_fail(&m->engine->ctx, PRX_EINVAL, "transformer: %s: no such file", value);
    if (m->experts > 1)
        return prxi_fail(&m->engine->ctx, PRX_EINVAL, "transformer: %s has two transformers; one file cannot replace them",
                         m->dir);
    char *copy = prxi_strdup(&m->engine->mem, value);
    if (!copy)
        return prxi_fail_nomem(&m->engine->ctx, "transformer", strlen(value));
    prxi_free(&m->engine->mem, m->transformer_file);
    m->transformer_file = copy;
    return PRX_OK;
}

static int prompts_kept(const prx_model *m)
{
    return PRXI_PROMPTS_KEPT + m->n_more_prompts;
}

static prxi_prompt *prompt_at(prx_model *m, int i)
{
    return i < PRXI_PROMPTS_KEPT ? &m->prompts[i] : &m->more_prompts[i - PRXI_PROMPTS_KEPT];
}

int prxi_model_keep_prompts(prxi_ctx *c, prx_model *m, int n)
{
    prxi_prompt *list = n > 0 ? prxi_calloc(&m->engine->mem, PRXI_MEM_MISC, (size_t)n, sizeof *list) : NULL;
    if (n > 0 && !list)
        return prxi_fail_nomem(c, "prompts", (size_t)n * sizeof *list);
    pthread_mutex_lock(&m->lock);
    m->more_prompts = list;
    m->n_more_prompts = n;
    pthread_mutex_unlock(&m->lock);
    return PRX_OK;
}

PRX_API void prx_model_close(prx_model **mp)
{
    if (!mp || !*mp)
        return;
    prx_model *m = *mp;
    *mp = NULL;
    for (int i = 0; i < PRXI_EXPERTS; i++)
        prxi_dit_close(&m->ctx, &m->dit[i]);
    prxi_vae_close(&m->ctx, &m->vae);
    for (int i = 0; i < prompts_kept(m); i++) {
        prxi_free(&m->engine->mem, prompt_at(m, i)->text);
        prxi_free(&m->engine->mem, prompt_at(m, i)->rows_data);
    }
    prxi_free(&m->engine->mem, m->more_prompts);
    pthread_mutex_destroy(&m->lock);
    prxi_json_close(&m->ctx, &m->known);
    prxi_free(&m->engine->mem, m->transformer_file);
    prxi_free(&m->engine->mem, m->dir);
    prxi_free(&m->engine->mem, m);
}

/* ---- parts ---- */

int prxi_model_acquire_dit(prxi_ctx *c, prx_model *m, int expert, prxi_quant quant, size_t bytes, const prxi_dit **out)
{
    char path[4096];
    *out = NULL;
    int err = join(c, m, expert ? "transformer_2" : "transformer", path);
    if (err < 0)
        return err;
    pthread_mutex_lock(&m->lock);
    if (m->dit[expert] && prxi_dit_get_quant(m->dit[expert]) != quant) {
        if (m->dit_users[expert] == 0)
            prxi_dit_close(&m->ctx, &m->dit[expert]);
        else
            err = prxi_fail(c, PRX_EINVAL, "quant: another job runs with the transformer's weights kept otherwise");
    }
    if (err == PRX_OK && !m->dit[expert])
        err = prxi_dit_open_within(c, &m->dit[expert], path, m->transformer_file, prxi_engine_model_kernels(m->engine),
                                   m->engine->dtype, quant, bytes);
    if (err == PRX_OK) {
        m->dit_users[expert]++;
        *out = m->dit[expert];
    }
    pthread_mutex_unlock(&m->lock);
    return err;
}

void prxi_model_release_dit(prx_model *m, int expert, int keep)
{
    pthread_mutex_lock(&m->lock);
    if (--m->dit_users[expert] == 0 && !keep)
        prxi_dit_close(&m->ctx, &m->dit[expert]);
    pthread_mutex_unlock(&m->lock);
}

int prxi_model_acquire_vae(prxi_ctx *c, prx_model *m, const prxi_vae **out)
{
    int err = PRX_OK;
    *out = NULL;
    pthread_mutex_lock(&m->lock);
    if (!m->vae)
        err = prxi_vae_open(c, &m->vae, m->dir, prxi_engine_model_kernels(m->engine), m->engine->dtype);
    if (err == PRX_OK) {
        m->vae_users++;
        *out = m->vae;
    }
    pthread_mutex_unlock(&m->lock);
    return err;
}

void prxi_model_release_vae(prx_model *m, int keep)
{
    pthread_mutex_lock(&m->lock);
    if (--m->vae_users == 0 && !keep)
        prxi_vae_close(&m->ctx, &m->vae);
    pthread_mutex_unlock(&m->lock);
}

/* ---- prompts ---- */

static prxi_prompt *find_prompt(prx_model *m, const char *text, int max_text)
{
    for (int i = 0; i < prompts_kept(m); i++) {
        prxi_prompt *p = prompt_at(m, i);
        if (p->text && p->max_text == max_text && strcmp(p->text, text) == 0) {
            p->used = ++m->clock;
            return p;
        }
    }
    return NULL;
}

/* Keeps a copy in place of the one unused for longest; without memory it simply is not kept. */
static void keep_prompt(prx_model *m, const prxi_prompt_request *r, int max_text, size_t bytes)
{
    prxi_prompt *p = prompt_at(m, 0);
    for (int i = 1; i < prompts_kept(m); i++)
        if (prompt_at(m, i)->used < p->used)
            p = prompt_at(m, i);
    prxi_free(&m->engine->mem, p->text);
    prxi_free(&m->engine->mem, p->rows_data);
    p->text = prxi_strdup(&m->engine->mem, r->text);
    p->rows_data = prxi_alloc(&m->engine->mem, PRXI_MEM_MISC, bytes);
    if (!p->text || !p->rows_data) {
        prxi_free(&m->engine->mem, p->text);
        prxi_free(&m->engine->mem, p->rows_data);
        memset(p, 0, sizeof *p);
        return;
    }
    memcpy(p->rows_data, r->out, bytes);
    p->max_text = max_text;
    p->rows = r->rows;
    p->used = ++m->clock;
}

typedef struct text_parts {
    prxi_tokenizer *tokenizer;
    prxi_text *text;
} text_parts;

static int open_text(prxi_ctx *c, prx_model *m, text_parts *t)
{
    char path[4096];
    int err = join(c, m, "tokenizer", path);
    if (err == PRX_OK)
        err = prxi_tokenizer_open(c, &t->tokenizer, path);
    if (err == PRX_OK)
        err = join(c, m, "text_encoder", path);
    if (err == PRX_OK)
        err = prxi_text_open(c, &t->text, path, prxi_engine_model_kernels(m->engine), m->engine->dtype);
    if (err == PRX_OK && prxi_text_dim(t->text) != m->dit_cfg[0].text_dim)
        err = prxi_fail(c, PRX_EFORMAT, "%s: text encoder of width %d, transformer expects text_dim %lld", m->dir,
                        prxi_text_dim(t->text), (long long)m->dit_cfg[0].text_dim);
    return err;
}

static int encode_one(prxi_ctx *c, prxi_stream *s, prx_model *m, const text_parts *t, int max_text,
                      prxi_prompt_request *r)
{
    const size_t dim = (size_t)m->dit_cfg[0].text_dim;
    int32_t *ids = prxi_calloc(c->mem, PRXI_MEM_SCRATCH, (size_t)max_text, sizeof *ids);
    int err = ids ? prxi_tokenizer_encode(c, t->tokenizer, r->text, max_text, ids, &r->rows)
                  : prxi_fail_nomem(c, "tokens", (size_t)max_text * sizeof *ids);
    const size_t bytes = (size_t)r->rows * dim * sizeof(float);
    if (err == PRX_OK && !(r->out = prxi_alloc(c->mem, PRXI_MEM_MISC, bytes)))
        err = prxi_fail_nomem(c, "text embeddings", bytes);
    if (err == PRX_OK)
        err = prxi_text_encode(c, s, t->text, ids, r->rows, r->out);
    prxi_free(c->mem, ids);
    if (err == PRX_OK)
        keep_prompt(m, r, max_text, bytes);
    return err;
}

static int embed_locked(prxi_ctx *c, prxi_stream *s, prx_model *m, int max_text, prxi_prompt_request *r, int n)
{
    text_parts t = { NULL, NULL };
    int err = PRX_OK;
    for (int i = 0; i < n && err == PRX_OK; i++) {
        const prxi_prompt *kept = find_prompt(m, r[i].text, max_text);
        if (kept) {
            const size_t bytes = (size_t)kept->rows * (size_t)m->dit_cfg[0].text_dim * sizeof(float);
            r[i].rows = kept->rows;
            r[i].out = prxi_alloc(c->mem, PRXI_MEM_MISC, bytes);
            if (!r[i].out)
                err = prxi_fail_nomem(c, "text embeddings", bytes);
            else
                memcpy(r[i].out, kept->rows_data, bytes);
            continue;
        }
        if (!t.text)
            err = open_text(c, m, &t);
        if (err == PRX_OK)
            err = encode_one(c, s, m, &t, max_text, &r[i]);
    }
    prxi_text_close(c, &t.text);
    prxi_tokenizer_close(c, &t.tokenizer);
    return err;
}

int prxi_model_embed(prxi_ctx *c, prxi_stream *s, prx_model *m, int max_text, prxi_prompt_request *r, int n)
{
    pthread_mutex_lock(&m->lock);
    const int err = embed_locked(c, s, m, max_text, r, n);
    pthread_mutex_unlock(&m->lock);
    for (int i = 0; i < n && err < 0; i++) {
        prxi_free(c->mem, r[i].out);
        r[i].out = NULL;
    }
    return err;
}
