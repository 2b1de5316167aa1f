/* DiT: configuration and weights (names and shapes of models.md 1.1 and 1.2). */
#include "dit_int.h"

#include <stdio.h>
#include <string.h>

#include "engine/core/device.h"
#include "engine/core/json.h"
#include "engine/weights/names.h"
#include "engine/weights/safetensors.h"

/* Whatever a hostile config says, sizes below stay far from overflow. */
enum { MAX_DIM = 1 << 16 };

static int read_patch(prxi_ctx *c, const prxi_json *j, int patch[3])
{
    double p[3];
    int n = -1;
    int err = prxi_json_nums(c, j, "patch_size", p, 3, &n);
    if (err < 0 || n < 0)
        return err;
    for (int i = 0; i < 3; i++) {
        if (n != 3 || !(p[i] >= 1 && p[i] <= 16) || p[i] != (int)p[i])
            return prxi_fail(c, PRX_EFORMAT, "%s: patch_size: three whole numbers from 1 to 16 expected", j->path);
        patch[i] = (int)p[i];
    }
    return PRX_OK;
}

static int unsupported(prxi_ctx *c, const prxi_json *j)
{
    const cJSON *qk = cJSON_GetObjectItemCaseSensitive(j->root, "qk_norm");
    if (qk && (!cJSON_IsString(qk) || strcmp(qk->valuestring, "rms_norm_across_heads") != 0))
        return prxi_fail(c, PRX_EFORMAT, "%s: qk_norm: only rms_norm_across_heads is supported", j->path);
    static const char *const absent[] = { "image_dim", "added_kv_proj_dim", "pos_embed_seq_len", "vace_layers" };
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(j->root, absent[i]);
        if (v && !cJSON_IsNull(v))
            return prxi_fail(c, PRX_EFORMAT, "%s: %s: image-conditioned models are not supported, only text-to-video",
                             j->path, absent[i]);
    }
    return PRX_OK;
}

static int parse_config(prxi_ctx *c, const prxi_json *j, prxi_dit_config *o)
{
    int64_t heads = 40, head_dim = 128, layers = 40, in = 16, out = -1, text = 4096, freq = 256, ffn = 13824, rope = 1024;
    const struct {
        const char *key;
        int64_t max, *value;
    } ints[] = {
        { "num_attention_heads", 1024, &heads }, { "attention_head_dim", 1024, &head_dim },
        { "num_layers", 1024, &layers },         { "in_channels", 4096, &in },
        { "out_channels", 4096, &out },          { "text_dim", MAX_DIM, &text },
        { "freq_dim", MAX_DIM, &freq },          { "ffn_dim", 1 << 20, &ffn },
        { "rope_max_seq_len", 1 << 20, &rope },
    };
    int err;
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        if ((err = prxi_json_int(c, j, ints[i].key, 1, ints[i].max, ints[i].value)) < 0)
            return err;
    o->cross_attn_norm = 1;
    o->eps = 1e-6;
    o->patch[0] = 1, o->patch[1] = 2, o->patch[2] = 2;
    if ((err = prxi_json_bool(c, j, "cross_attn_norm", &o->cross_attn_norm)) < 0 ||
        (err = prxi_json_num(c, j, "eps", &o->eps)) < 0 || (err = read_patch(c, j, o->patch)) < 0 ||
        (err = unsupported(c, j)) < 0)
        return err;
    if (!(o->eps >= 0 && o->eps < 1))
        return prxi_fail(c, PRX_EFORMAT, "%s: eps: %g: a number from 0 to 1 expected", j->path, o->eps);
    if (freq % 2)
        return prxi_fail(c, PRX_EFORMAT, "%s: freq_dim: %lld: an even number expected", j->path, (long long)freq);
    if (heads * head_dim > MAX_DIM || head_dim % 2)
        return prxi_fail(c, PRX_EFORMAT, "%s: heads x head_dim = %lld x %lld: an even head_dim and at most %d in all expected",
                         j->path, (long long)heads, (long long)head_dim, MAX_DIM);
    o->heads = (int)heads, o->head_dim = (int)head_dim, o->layers = (int)layers;
    o->in_channels = (int)in, o->out_channels = (int)(out > 0 ? out : in), o->rope_max_seq_len = (int)rope;
    o->text_dim = text, o->freq_dim = freq, o->ffn_dim = ffn;
    return PRX_OK;
}

static int64_t count_params(const prxi_dit_config *o)
{
    const int64_t d = (int64_t)o->heads * o->head_dim, p = (int64_t)o->patch[0] * o->patch[1] * o->patch[2];
    const int64_t attn = 4 * (d * d + d) + 2 * d;
    const int64_t block = 6 * d + 2 * attn + (o->cross_attn_norm ? 2 * d : 0) + 2 * d * o->ffn_dim + o->ffn_dim + d;
    return o->layers * block + 2 * d + (o->in_channels * p + 1) * d + (o->freq_dim + 1) * d + (d + 1) * d +
           (d + 1) * 6 * d + (o->text_dim + 1) * d + (d + 1) * d + (d + 1) * o->out_channels * p;
}

int prxi_dit_config_load(prxi_ctx *c, const char *dir, prxi_dit_config *out)
{
    char path[4096];
    prxi_json j;
    if (snprintf(path, sizeof path, "%s/config.json", dir) >= (int)sizeof path)
        return prxi_fail(c, PRX_EINVAL, "%s: path too long", dir);
    int err = prxi_json_open(c, &j, path, 0);
    if (err < 0)
        return err;
    memset(out, 0, sizeof *out);
    err = parse_config(c, &j, out);
    prxi_json_close(c, &j);
    if (err == PRX_OK)
        out->params = count_params(out);
    return err;
}

/* What loading needs; the first error stays in c and later calls return at once. */
typedef struct loader {
    prxi_ctx *c;
    prxi_dit *d;
    prxi_tensors *t;
    int err;
    int block;                     /* whose layers are loaded; -1: none */
    int text;                      /* they make keys and values of the text, and stay as they are */
    prxi_dit_next next;            /* where they go, of a block that comes to the device as it is needed */
} loader;

static const prxi_tensor *get(loader *l, const char *name, int ndim, const int64_t *shape)
{
    const prxi_tensor *t = NULL;
    if (l->err == PRX_OK)
        l->err = prxi_tensors_get(l->c, l->t, name, ndim, shape, &t);
    return l->err == PRX_OK ? t : NULL;
}

static float *load_f32(loader *l, const char *name, int ndim, const int64_t *shape)
{
    float *p = NULL;
    const prxi_tensor *t = get(l, name, ndim, shape);
    if (t)
        l->err = prxi_tensor_f32(l->c, t, &p);
    if (p)
        prxi_tensor_drop(t);
    size_t n = 1;
    for (int i = 0; i < ndim; i++)
        n *= (size_t)shape[i];
    return prxi_device_floats(l->c, l->d->k->device, p, n, &l->err);
}

typedef struct linear_spec {
    const char *name;              /* prefix of .weight and .bias */
    int64_t n, k;
    prxi_dtype compute, out;
    prxi_epilogue epilogue;
    int ndim;                      /* 2, or 5 for the patch convolution */
    int64_t shape[PRXI_MAX_DIMS];
} linear_spec;

static prxi_linear *load_linear_spec(loader *l, const linear_spec *s)
{
    char name[256];
    prxi_linear *out = NULL;
    snprintf(name, sizeof name, "%s.weight", s->name);
    const prxi_tensor *w = get(l, name, s->ndim, s->shape);
    snprintf(name, sizeof name, "%s.bias", s->name);
    const prxi_tensor *b = get(l, name, 1, (int64_t[]) { s->n });
    if (!w || !b)
        return NULL;
    if ((l->err = prxi_tensor_check_finite(l->c, w)) < 0 || (l->err = prxi_tensor_check_finite(l->c, b)) < 0)
        return NULL;
    const prxi_linear_desc desc = { w->data, w->dtype, b->data, b->dtype, s->n, s->k, s->compute, s->out, s->epilogue,
                                    l->d->k->isa, l->d->k->device, l->text ? PRXI_EIGHT_NONE : prxi_dit_eight_bits(l->d, l->block) };
    if (prxi_dit_stream_host(l->d, l->block)) {
        const prxi_linear_place place = prxi_dit_stream_place(l->d, l->block, l->text, s->n, s->k, &l->next);
        l->err = prxi_linear_open_placed(l->c, &out, &desc, &place);
    } else {
        l->err = prxi_linear_open(l->c, &out, &desc);
    }
    prxi_tensor_drop(w);
    prxi_tensor_drop(b);
    return out;
}

/* Weights and output in the model's dtype. */
static prxi_linear *load_linear(loader *l, const char *name, int64_t n, int64_t k, prxi_epilogue e)
{
    const linear_spec s = { name, n, k, l->d->dtype, l->d->dtype, e, 2, { n, k } };
    return load_linear_spec(l, &s);
}

static void load_attn(loader *l, const char *prefix, int block, prxi_dit_attn *a)
{
    const int64_t dim = l->d->dim;
    char name[128];
    const struct {
        const char *name;
        prxi_linear **to;
    } linears[] = { { "to_q", &a->q }, { "to_k", &a->k }, { "to_v", &a->v }, { "to_out.0", &a->out } };
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s.%s", prefix, linears[i].name);
        l->text = a == &l->d->blocks[block].cross && (i == 1 || i == 2);
        *linears[i].to = load_linear(l, name, dim, dim, PRXI_EPI_NONE);
    }
    l->text = 0;
    snprintf(name, sizeof name, "%s.norm_q.weight", prefix);
    a->norm_q = load_f32(l, name, 1, &dim);
    snprintf(name, sizeof name, "%s.norm_k.weight", prefix);
    a->norm_k = load_f32(l, name, 1, &dim);
}

static void load_block(loader *l, int i)
{
    prxi_dit_block *b = &l->d->blocks[i];
    const prxi_dit_config *cfg = &l->d->cfg;
    const int64_t dim = l->d->dim;
    char name[128];
    l->block = i;
    l->next = (prxi_dit_next) { { 0, 0, 0 }, 0 };
    snprintf(name, sizeof name, "blocks.%d.scale_shift_table", i);
    b->table = load_f32(l, name, 3, (int64_t[]) { 1, 6, dim });
    snprintf(name, sizeof name, "blocks.%d.attn1", i);
    load_attn(l, name, i, &b->self);
    snprintf(name, sizeof name, "blocks.%d.attn2", i);
    load_attn(l, name, i, &b->cross);
    if (cfg->cross_attn_norm) {
        snprintf(name, sizeof name, "blocks.%d.norm2.weight", i);
        b->norm2_weight = load_f32(l, name, 1, &dim);
        snprintf(name, sizeof name, "blocks.%d.norm2.bias", i);
        b->norm2_bias = load_f32(l, name, 1, &dim);
    }
    snprintf(name, sizeof name, "blocks.%d.ffn.net.0.proj", i);
    b->ffn_in = load_linear(l, name, cfg->ffn_dim, dim, PRXI_EPI_GELU_TANH);
    snprintf(name, sizeof name, "blocks.%d.ffn.net.2", i);
    b->ffn_out = load_linear(l, name, dim, cfg->ffn_dim, PRXI_EPI_NONE);
}

/* Time and text embedders, patch embedding, head. The time embedder is an fp32 island (models.md section 0); its projection
 * and the head keep f32 results, which costs nothing and rounds less than the original. */
static void load_outer(loader *l)
{
    prxi_dit *d = l->d;
    const prxi_dit_config *cfg = &d->cfg;
    const int64_t dim = d->dim, p = (int64_t)cfg->patch[0] * cfg->patch[1] * cfg->patch[2];
    const linear_spec patch = { "patch_embedding", dim, cfg->in_channels * p, d->dtype, d->dtype, PRXI_EPI_NONE, 5,
                                { dim, cfg->in_channels, cfg->patch[0], cfg->patch[1], cfg->patch[2] } };
    const linear_spec time_1 = { "condition_embedder.time_embedder.linear_1", dim, cfg->freq_dim, PRXI_F32, PRXI_F32,
                                 PRXI_EPI_SILU, 2, { dim, cfg->freq_dim } };
    const linear_spec time_2 = { "condition_embedder.time_embedder.linear_2", dim, dim, PRXI_F32, PRXI_F32,
                                 PRXI_EPI_NONE, 2, { dim, dim } };
    const linear_spec proj = { "condition_embedder.time_proj", 6 * dim, dim, d->dtype, PRXI_F32, PRXI_EPI_NONE, 2,
                               { 6 * dim, dim } };
    const linear_spec head = { "proj_out", cfg->out_channels * p, dim, d->dtype, PRXI_F32, PRXI_EPI_NONE, 2,
                               { cfg->out_channels * p, dim } };
    d->patch = load_linear_spec(l, &patch);
    d->time_1 = load_linear_spec(l, &time_1);
    d->time_2 = load_linear_spec(l, &time_2);
    d->time_proj = load_linear_spec(l, &proj);
    d->text_1 = load_linear(l, "condition_embedder.text_embedder.linear_1", dim, cfg->text_dim, PRXI_EPI_GELU_TANH);
    d->text_2 = load_linear(l, "condition_embedder.text_embedder.linear_2", dim, dim, PRXI_EPI_NONE);
    d->proj_out = load_linear_spec(l, &head);
    d->table = load_f32(l, "scale_shift_table", 3, (int64_t[]) { 1, 2, dim });
}

/* diffusers drops these too: some checkpoints carry a norm that no layer has. */
static int ignored_tensor(const char *name)
{
    return strstr(name, "norm_added_q") != NULL;
}

static int open_weights(prxi_ctx *c, const char *dir, const char *file, prxi_tensors **out)
{
    int err = file ? prxi_tensors_open_file(c, out, file)
                   : prxi_tensors_open_dir(c, out, dir, "diffusion_pytorch_model");
    if (err == PRX_OK && prxi_wan_is_original(*out))
        err = prxi_tensors_rename(c, *out, prxi_wan_rename);
    if (err < 0)
        prxi_tensors_close(c, out);
    return err;
}

int prxi_dit_open(prxi_ctx *c, prxi_dit **out, const char *dir, const char *weights_file, const prxi_kernels *k,
                  prxi_dtype dtype)
{
    return prxi_dit_open_within(c, out, dir, weights_file, k, dtype, PRXI_QUANT_NONE, SIZE_MAX);
}

/* Room for the blocks that do not stay. */
static int open_stream(loader *l, size_t bytes)
{
    const prxi_dit_fit fit = prxi_dit_fit_in(&l->d->cfg, l->d->dtype, l->d->quant, bytes);
    if (!l->d->k->device || fit.resident == l->d->cfg.layers)
        return PRX_OK;
    if (fit.resident < 0)
        return prxi_fail(l->c, PRX_ENOMEM, "device memory: %.1f GiB for weights; %.1f GiB are needed with two blocks at a time",
                         (double)bytes / 0x1p30, (double)fit.bytes / 0x1p30);
    return prxi_dit_stream_open(l->c, l->d, &fit);
}

int prxi_dit_open_within(prxi_ctx *c, prxi_dit **out, const char *dir, const char *weights_file, const prxi_kernels *k,
                         prxi_dtype dtype, prxi_quant quant, size_t bytes)
{
    prxi_dit_config cfg;
    loader l = { .c = c, .block = -1 };
    *out = NULL;
    int err = prxi_dit_config_load(c, dir, &cfg);
    if (err < 0 || (err = open_weights(c, dir, weights_file, &l.t)) < 0)
        return err;
    l.d = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, sizeof *l.d);
    if (!l.d) {
        prxi_tensors_close(c, &l.t);
        return prxi_fail_nomem(c, "transformer", sizeof *l.d);
    }
    l.d->cfg = cfg;
    l.d->k = k;
    l.d->dtype = dtype;
    l.d->quant = quant;
    l.d->dim = (int64_t)cfg.heads * cfg.head_dim;
    l.d->blocks = prxi_calloc(c->mem, PRXI_MEM_MISC, (size_t)cfg.layers, sizeof *l.d->blocks);
    if (!l.d->blocks)
        l.err = prxi_fail_nomem(c, "transformer", (size_t)cfg.layers * sizeof *l.d->blocks);
    else if ((l.err = open_stream(&l, bytes)) == PRX_OK)
        load_outer(&l);
    for (int i = 0; i < cfg.layers && l.err == PRX_OK; i++)
        load_block(&l, i);
    if (l.err == PRX_OK)
        l.err = prxi_tensors_check_used(c, l.t, ignored_tensor);
    prxi_tensors_close(c, &l.t);
    if (l.err < 0)
        prxi_dit_close(c, &l.d);
    *out = l.d;
    return l.err;
}

static void close_attn(prxi_ctx *c, prxi_device *device, prxi_dit_attn *a)
{
    prxi_linear_close(c, &a->q);
    prxi_linear_close(c, &a->k);
    prxi_linear_close(c, &a->v);
    prxi_linear_close(c, &a->out);
    prxi_device_free(c, device, a->norm_q);
    prxi_device_free(c, device, a->norm_k);
}

void prxi_dit_close(prxi_ctx *c, prxi_dit **dp)
{
    prxi_dit *d = *dp;
    *dp = NULL;
    if (!d)
        return;
    for (int i = 0; d->blocks && i < d->cfg.layers; i++) {
        prxi_dit_block *b = &d->blocks[i];
        prxi_device_free(c, d->k->device, b->table);
        close_attn(c, d->k->device, &b->self);
        close_attn(c, d->k->device, &b->cross);
        prxi_device_free(c, d->k->device, b->norm2_weight);
        prxi_device_free(c, d->k->device, b->norm2_bias);
        prxi_linear_close(c, &b->ffn_in);
        prxi_linear_close(c, &b->ffn_out);
    }
    prxi_linear **const linears[] = { &d->patch,  &d->time_1, &d->time_2,  &d->time_proj,
                                      &d->text_1, &d->text_2, &d->proj_out };
    for (size_t i = 0; i < sizeof linears / sizeof *linears; i++)
        prxi_linear_close(c, linears[i]);
    prxi_device_free(c, d->k->device, d->table);
    prxi_dit_stream_close(c, d);
    prxi_free(c->mem, d->blocks);
    prxi_free(c->mem, d);
}

const prxi_dit_config *prxi_dit_get_config(const prxi_dit *d)
{
    return &d->cfg;
}

prxi_quant prxi_dit_get_quant(const prxi_dit *d)
{
    return d->quant;
}
