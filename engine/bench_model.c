/* Random-weight model directories: all tensors of a file share one random buffer, so writing 1.4 G parameters takes seconds. */
#include "bench_model.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/core/json.h"
#include "engine/core/rng.h"
#include "engine/engine.h"
#include "engine/weights/safetensors.h"

enum { MAX_TENSORS = 4096 };

typedef struct list {
    prxi_tensor_out *t;
    int n;
    prxi_dtype dtype;
    size_t largest;              /* elements */
} list;

static void add(list *l, const char *prefix, const char *name, const char *suffix, int ndim, const int64_t *shape)
{
    prxi_tensor_out *t = &l->t[l->n++];
    size_t elems = 1;
    char *end = t->name + sizeof t->name, *p = t->name;
    const char *const parts[] = { prefix, name, suffix };
    for (int i = 0; i < 3; i++)
        for (const char *q = parts[i]; *q && p < end - 1;)
            *p++ = *q++;
    *p = '\0';
    t->dtype = l->dtype;
    t->ndim = ndim;
    for (int i = 0; i < ndim; i++) {
        t->shape[i] = shape[i];
        elems *= (size_t)shape[i];
    }
    if (elems > l->largest)
        l->largest = elems;
}

static void add_linear(list *l, const char *prefix, const char *name, int64_t n, int64_t k)
{
    add(l, prefix, name, ".weight", 2, (int64_t[]) { n, k });
    add(l, prefix, name, ".bias", 1, &n);
}

static void add_conv(list *l, const char *prefix, const char *name, const int64_t *shape, int ndim)
{
    add(l, prefix, name, ".weight", ndim, shape);
    add(l, prefix, name, ".bias", 1, shape);
}

static void add_one(list *l, const char *prefix, const char *name, int ndim, const int64_t *shape)
{
    add(l, prefix, name, "", ndim, shape);
}

/* Small values keep a deep random network finite; norms and tables are not special to a benchmark. */
static int write_list(prxi_ctx *c, list *l, const char *path)
{
    const size_t el = prxi_dtype_size(l->dtype);
    float *noise = prxi_alloc(c->mem, PRXI_MEM_SCRATCH, l->largest * sizeof(float));
    if (!noise)
        return prxi_fail_nomem(c, path, l->largest * el);
    prxi_rng rng;
    prxi_rng_seed(&rng, 1);
    prxi_rng_normal(&rng, noise, l->largest);
    for (size_t i = 0; i < l->largest; i++)
        prxi_store(noise, l->dtype, i, 0.02f * noise[i]);      /* in place: bf16 is narrower */
    for (int i = 0; i < l->n; i++)
        l->t[i].data = noise;
    const int err = prxi_tensors_write(c, path, l->t, l->n, NULL);
    prxi_free(c->mem, noise);
    return err;
}

static int make_dir(prxi_ctx *c, const char *dir, const char *part, char path[4096])
{
    snprintf(path, 4096, "%s/%s", dir, part);
    mkdir(dir, 0777);
    if (mkdir(path, 0777) != 0 && access(path, W_OK) != 0)
        return prxi_fail(c, PRX_EIO, "%s: cannot be made", path);
    return PRX_OK;
}

static int write_config(prxi_ctx *c, const char *path, cJSON *o)
{
    char *text = cJSON_Print(o);
    cJSON_Delete(o);
    const int err = text ? prxi_write_file(c, path, text, strlen(text)) : prxi_fail_nomem(c, path, 0);
    cJSON_free(text);
    return err;
}

static int finish(prxi_ctx *c, const char *dir, const char *part, cJSON *config, list *l)
{
    char path[4096], file[4200];
    int err = make_dir(c, dir, part, path);
    snprintf(file, sizeof file, "%s/config.json", path);
    if (err == PRX_OK)
        err = write_config(c, file, config);
    else
        cJSON_Delete(config);
    snprintf(file, sizeof file, "%s/diffusion_pytorch_model.safetensors", path);
    if (err == PRX_OK)
        err = write_list(c, l, file);
    prxi_free(c->mem, l->t);
    return err;
}

static void add_attn(list *l, const char *prefix, int64_t d)
{
    add_linear(l, prefix, "to_q", d, d);
    add_linear(l, prefix, "to_k", d, d);
    add_linear(l, prefix, "to_v", d, d);
    add_linear(l, prefix, "to_out.0", d, d);
    add_one(l, prefix, "norm_q.weight", 1, &d);
    add_one(l, prefix, "norm_k.weight", 1, &d);
}

static void add_block(list *l, int i, int64_t d, int64_t ffn)
{
    char prefix[64], inner[80];
    snprintf(prefix, sizeof prefix, "blocks.%d.", i);
    add_one(l, prefix, "scale_shift_table", 3, (int64_t[]) { 1, 6, d });
    snprintf(inner, sizeof inner, "%sattn1.", prefix);
    add_attn(l, inner, d);
    snprintf(inner, sizeof inner, "%sattn2.", prefix);
    add_attn(l, inner, d);
    add_one(l, prefix, "norm2.weight", 1, &d);
    add_one(l, prefix, "norm2.bias", 1, &d);
    add_linear(l, prefix, "ffn.net.0.proj", ffn, d);
    add_linear(l, prefix, "ffn.net.2", d, ffn);
}

int prxi_bench_write_dit(prxi_ctx *c, const char *dir, const prxi_dit_config *cfg)
{
    list l = { prxi_calloc(c->mem, PRXI_MEM_MISC, MAX_TENSORS, sizeof(prxi_tensor_out)), 0, PRXI_BF16, 0 };
    if (!l.t || cfg->layers > 128)
        return prxi_fail_nomem(c, dir, 0);
    const int64_t d = (int64_t)cfg->heads * cfg->head_dim, p = 4;
    add_conv(&l, "", "patch_embedding", (int64_t[]) { d, cfg->in_channels, 1, 2, 2 }, 5);
    add_linear(&l, "condition_embedder.", "time_embedder.linear_1", d, 256);
    add_linear(&l, "condition_embedder.", "time_embedder.linear_2", d, d);
    add_linear(&l, "condition_embedder.", "time_proj", 6 * d, d);
    add_linear(&l, "condition_embedder.", "text_embedder.linear_1", d, cfg->text_dim);
    add_linear(&l, "condition_embedder.", "text_embedder.linear_2", d, d);
    for (int i = 0; i < cfg->layers; i++)
        add_block(&l, i, d, cfg->ffn_dim);
    add_linear(&l, "", "proj_out", cfg->out_channels * p, d);
    add_one(&l, "", "scale_shift_table", 3, (int64_t[]) { 1, 2, d });
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "_class_name", "WanTransformer3DModel");
    cJSON_AddNumberToObject(o, "num_attention_heads", cfg->heads);
    cJSON_AddNumberToObject(o, "attention_head_dim", cfg->head_dim);
    cJSON_AddNumberToObject(o, "num_layers", cfg->layers);
    cJSON_AddNumberToObject(o, "ffn_dim", (double)cfg->ffn_dim);
    cJSON_AddNumberToObject(o, "text_dim", (double)cfg->text_dim);
    cJSON_AddNumberToObject(o, "in_channels", cfg->in_channels);
    cJSON_AddNumberToObject(o, "out_channels", cfg->out_channels);
    return finish(c, dir, "transformer", o, &l);
}

static void add_resnet(list *l, const char *prefix, int64_t in, int64_t out)
{
    add_one(l, prefix, "norm1.gamma", 4, (int64_t[]) { in, 1, 1, 1 });
    add_conv(l, prefix, "conv1", (int64_t[]) { out, in, 3, 3, 3 }, 5);
    add_one(l, prefix, "norm2.gamma", 4, (int64_t[]) { out, 1, 1, 1 });
    add_conv(l, prefix, "conv2", (int64_t[]) { out, out, 3, 3, 3 }, 5);
    if (in != out)
        add_conv(l, prefix, "conv_shortcut", (int64_t[]) { out, in, 1, 1, 1 }, 5);
}

/* Names and widths of models.md 2.4, base b: 4b | 4b 4b 2b b. */
int prxi_bench_write_vae(prxi_ctx *c, const char *dir, int base_dim)
{
    list l = { prxi_calloc(c->mem, PRXI_MEM_MISC, MAX_TENSORS, sizeof(prxi_tensor_out)), 0, PRXI_F32, 0 };
    if (!l.t)
        return prxi_fail_nomem(c, dir, 0);
    const int64_t b = base_dim, top = 4 * b, in[4] = { 4 * b, 2 * b, 2 * b, b }, out[4] = { 4 * b, 4 * b, 2 * b, b };
    char prefix[96];
    add_conv(&l, "", "post_quant_conv", (int64_t[]) { 16, 16, 1, 1, 1 }, 5);
    add_conv(&l, "decoder.", "conv_in", (int64_t[]) { top, 16, 3, 3, 3 }, 5);
    add_resnet(&l, "decoder.mid_block.resnets.0.", top, top);
    add_one(&l, "decoder.mid_block.attentions.0.", "norm.gamma", 3, (int64_t[]) { top, 1, 1 });
    add_conv(&l, "decoder.mid_block.attentions.0.", "to_qkv", (int64_t[]) { 3 * top, top, 1, 1 }, 4);
    add_conv(&l, "decoder.mid_block.attentions.0.", "proj", (int64_t[]) { top, top, 1, 1 }, 4);
    add_resnet(&l, "decoder.mid_block.resnets.1.", top, top);
    for (int i = 0; i < 4; i++) {
        for (int r = 0; r < 3; r++) {
            snprintf(prefix, sizeof prefix, "decoder.up_blocks.%d.resnets.%d.", i, r);
            add_resnet(&l, prefix, r ? out[i] : in[i], out[i]);
        }
        snprintf(prefix, sizeof prefix, "decoder.up_blocks.%d.upsamplers.0.", i);
        if (i < 3)
            add_conv(&l, prefix, "resample.1", (int64_t[]) { out[i] / 2, out[i], 3, 3 }, 4);
        if (i < 2)
            add_conv(&l, prefix, "time_conv", (int64_t[]) { 2 * out[i], out[i], 3, 1, 1 }, 5);
    }
    add_one(&l, "decoder.", "norm_out.gamma", 4, (int64_t[]) { b, 1, 1, 1 });
    add_conv(&l, "decoder.", "conv_out", (int64_t[]) { 3, b, 3, 3, 3 }, 5);
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "_class_name", "AutoencoderKLWan");
    cJSON_AddNumberToObject(o, "base_dim", base_dim);
    return finish(c, dir, "vae", o, &l);
}

int prxi_bench_with_dit(struct prx_engine *e, prxi_stream *s, const char *dir, const prxi_dit_config *cfg, const prxi_bench_clip *clip,
                        prxi_bench_fn fn, void *cookie)
{
    prxi_ctx *c = &e->ctx;
    char path[4096];
    prxi_dit *d = NULL;
    prxi_dit_run *run = NULL;
    float *text = prxi_calloc(c->mem, PRXI_MEM_MISC, (size_t)(clip->text_rows * cfg->text_dim), sizeof *text);
    const prxi_dit_clip whole = { clip->frames, clip->height, clip->width, 2, { clip->text_rows, clip->text_rows }, { text, text }, 512 };
    snprintf(path, sizeof path, "%s/transformer", dir);
    int err = text ? prxi_bench_write_dit(c, dir, cfg) : prxi_fail_nomem(c, "text", 0);
    if (err == PRX_OK)
        err = prxi_dit_open(c, &d, path, NULL, prxi_engine_model_kernels(e), e->dtype);
    if (err == PRX_OK)
        err = prxi_dit_run_open(c, s, &run, d, &whole);
    if (err == PRX_OK)
        err = fn(cookie, s, run);
    prxi_dit_run_close(c, &run);
    prxi_dit_close(c, &d);
    prxi_free(c->mem, text);
    return err;
}

void prxi_bench_remove(const char *dir)
{
    static const char *const files[] = { "transformer/config.json", "transformer/diffusion_pytorch_model.safetensors",
                                         "vae/config.json", "vae/diffusion_pytorch_model.safetensors" };
    char path[4200];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/transformer", dir);
    rmdir(path);
    snprintf(path, sizeof path, "%s/vae", dir);
    rmdir(path);
    rmdir(dir);
}
