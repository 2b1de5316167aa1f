/* UMT5 encoder (models.md 3.1 to 3.3): open the weights, then the forward pass over the valid tokens only, which
 * gives what a masked pass over padded ones gives. The residual stream, the scores and the softmax are f32 in
 * both dtypes; bf16 rounds weights and the inputs of the linear layers. */
#include "text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/core/device.h"
#include "engine/core/json.h"
#include "engine/weights/safetensors.h"

typedef struct text_config {
    int64_t vocab, dim, ff, head_dim, heads, layers, buckets, max_distance;
    double eps;
} text_config;

typedef struct text_layer {
    float *norm1, *norm2;           /* [dim] */
    float *bias;                    /* [buckets, heads] */
    prxi_linear *q, *k, *v, *o;     /* [heads * head_dim, dim] and back */
    prxi_linear *wi0, *wi1, *wo;    /* [ff, dim] and back */
} text_layer;

struct prxi_text {
    text_config cfg;
    prxi_dtype dtype;
    const prxi_kernels *k;
    prxi_tensors *weights;          /* stays mapped for the embedding rows */
    const prxi_tensor *embed;       /* [vocab, dim], in the file */
    float *norm;                    /* [dim] */
    text_layer *layer;
};

/* ---- open ---- */

static int read_config(prxi_ctx *c, text_config *g, const char *dir)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/config.json", dir) >= (int)sizeof path)
        return prxi_fail(c, PRX_EINVAL, "%.200s: the path is too long", dir);
    prxi_json j;
    int err = prxi_json_open(c, &j, path, 0);
    if (err != PRX_OK)
        return err;
    /* The defaults are those of the UMT5Config class. */
    *g = (text_config) { 250112, 512, 1024, 64, 6, 8, 32, 128, 1e-6 };
    const struct {
        const char *key;
        int64_t min, max, *out;
    } ints[] = {
        { "vocab_size", 1, 1 << 24, &g->vocab },
        { "d_model", 1, 1 << 16, &g->dim },
        { "d_ff", 1, 1 << 18, &g->ff },
        { "d_kv", 1, 1 << 12, &g->head_dim },
        { "num_heads", 1, 1 << 12, &g->heads },
        { "num_layers", 1, 1 << 10, &g->layers },
        { "relative_attention_num_buckets", 4, 1 << 12, &g->buckets },
        { "relative_attention_max_distance", 2, 1 << 20, &g->max_distance },
    };
    for (size_t i = 0; err == PRX_OK && i < sizeof ints / sizeof *ints; i++)
        err = prxi_json_int(c, &j, ints[i].key, ints[i].min, ints[i].max, ints[i].out);
    const char *ffn = NULL;
    if (err == PRX_OK)
        err = prxi_json_num(c, &j, "layer_norm_epsilon", &g->eps);
    if (err == PRX_OK)
        err = prxi_json_str(c, &j, "feed_forward_proj", &ffn);
    if (err == PRX_OK && ffn && strcmp(ffn, "gated-gelu") != 0)
        err = prxi_fail(c, PRX_EFORMAT, "%s: \"feed_forward_proj\": \"%.40s\" is not supported, \"gated-gelu\" is", path, ffn);
    if (err == PRX_OK && (!(g->eps > 0 && g->eps < 1) || g->buckets % 4 != 0 || g->max_distance <= g->buckets / 4))
        err = prxi_fail(c, PRX_EFORMAT, "%s: layer_norm_epsilon, relative_attention_num_buckets (a multiple of 4) or "
                        "relative_attention_max_distance (above a quarter of it) is out of range", path);
    prxi_json_close(c, &j);
    return err;
}

static int load_vector(prxi_ctx *c, prxi_text *t, const char *name, int64_t n, int64_t m, float **out)
{
    const prxi_tensor *x;
    const int64_t shape[2] = { n, m };
    int err = prxi_tensors_get(c, t->weights, name, m ? 2 : 1, shape, &x);
    if (err == PRX_OK)
        err = prxi_tensor_f32(c, x, out);
    *out = prxi_device_floats(c, t->k->device, *out, (size_t)(n * (m ? m : 1)), &err);
    return err;
}

static int load_linear(prxi_ctx *c, prxi_text *t, const char *name, int64_t n, int64_t k, prxi_linear **out)
{
    const prxi_tensor *x;
    int err = prxi_tensors_get(c, t->weights, name, 2, (const int64_t[]) { n, k }, &x);
    if (err == PRX_OK)
        err = prxi_tensor_check_finite(c, x);
    if (err != PRX_OK)
        return err;
    const prxi_linear_desc d = { .weight = x->data, .weight_dtype = x->dtype, .n = n, .k = k, .compute = t->dtype,
                                 .out = PRXI_F32, .isa = t->k->isa, .device = t->k->device };
    err = prxi_linear_open(c, out, &d);
    prxi_tensor_drop(x);
    return err;
}

static int load_layer(prxi_ctx *c, prxi_text *t, int64_t i)
{
    const text_config *g = &t->cfg;
    text_layer *l = &t->layer[i];
    const int64_t inner = g->heads * g->head_dim;
    const struct {
        const char *name;
        int64_t n, m;
        float **out;
    } vectors[] = {
        { "0.layer_norm", g->dim, 0, &l->norm1 },
        { "1.layer_norm", g->dim, 0, &l->norm2 },
        { "0.SelfAttention.relative_attention_bias", g->buckets, g->heads, &l->bias },
    };
    const struct {
        const char *name;
        int64_t n, k;
        prxi_linear **out;
    } linears[] = {
        { "0.SelfAttention.q", inner, g->dim, &l->q },      { "0.SelfAttention.k", inner, g->dim, &l->k },
        { "0.SelfAttention.v", inner, g->dim, &l->v },      { "0.SelfAttention.o", g->dim, inner, &l->o },
        { "1.DenseReluDense.wi_0", g->ff, g->dim, &l->wi0 }, { "1.DenseReluDense.wi_1", g->ff, g->dim, &l->wi1 },
        { "1.DenseReluDense.wo", g->dim, g->ff, &l->wo },
    };
    char name[128];
    int err = PRX_OK;
    for (size_t v = 0; err == PRX_OK && v < sizeof vectors / sizeof *vectors; v++) {
        snprintf(name, sizeof name, "encoder.block.%d.layer.%s.weight", (int)i, vectors[v].name);
        err = load_vector(c, t, name, vectors[v].n, vectors[v].m, vectors[v].out);
    }
    for (size_t v = 0; err == PRX_OK && v < sizeof linears / sizeof *linears; v++) {
        snprintf(name, sizeof name, "encoder.block.%d.layer.%s.weight", (int)i, linears[v].name);
        err = load_linear(c, t, name, linears[v].n, linears[v].k, linears[v].out);
    }
    return err;
}

/* Parts of a full checkpoint that an encoder has no use for. */
static int not_encoder(const char *name)
{
    return strncmp(name, "decoder.", 8) == 0 || strncmp(name, "lm_head.", 8) == 0 ||
           strcmp(name, "encoder.embed_tokens.weight") == 0;
}

static int load_weights(prxi_ctx *c, prxi_text *t)
{
    const text_config *g = &t->cfg;
    /* Some writers keep only the alias of the shared embedding. */
    const char *embed = prxi_tensors_find(t->weights, "shared.weight") ? "shared.weight" : "encoder.embed_tokens.weight";
    if (!prxi_tensors_find(t->weights, embed))
        embed = "shared.weight";
    int err = prxi_tensors_get(c, t->weights, embed, 2, (const int64_t[]) { g->vocab, g->dim }, &t->embed);
    if (err == PRX_OK)
        err = load_vector(c, t, "encoder.final_layer_norm.weight", g->dim, 0, &t->norm);
    for (int64_t i = 0; err == PRX_OK && i < g->layers; i++)
        err = load_layer(c, t, i);
    return err == PRX_OK ? prxi_tensors_check_used(c, t->weights, not_encoder) : err;
}

int prxi_text_open(prxi_ctx *c, prxi_text **out, const char *dir, const prxi_kernels *k, prxi_dtype dtype)
{
    *out = NULL;
    prxi_text *t = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, sizeof *t);
    if (!t)
        return prxi_fail_nomem(c, dir, sizeof *t);
    t->k = k;
    t->dtype = dtype;
    int err = read_config(c, &t->cfg, dir);
    if (err == PRX_OK) {
        t->layer = prxi_calloc(c->mem, PRXI_MEM_MISC, (size_t)t->cfg.layers, sizeof *t->layer);
        if (!t->layer)
            err = prxi_fail_nomem(c, dir, (size_t)t->cfg.layers * sizeof *t->layer);
    }
    if (err == PRX_OK)
        err = prxi_tensors_open_dir(c, &t->weights, dir, "model");
    if (err == PRX_OK)
        err = load_weights(c, t);
    if (err == PRX_OK)
        *out = t;
    else
        prxi_text_close(c, &t);
    return err;
}

void prxi_text_close(prxi_ctx *c, prxi_text **t)
{
    prxi_text *p = *t;
    *t = NULL;
    if (!p)
        return;
    for (int64_t i = 0; p->layer && i < p->cfg.layers; i++) {
        text_layer *l = &p->layer[i];
        prxi_linear **all[] = { &l->q, &l->k, &l->v, &l->o, &l->wi0, &l->wi1, &l->wo };
        for (size_t v = 0; v < sizeof all / sizeof *all; v++)
            prxi_linear_close(c, all[v]);
        prxi_device_free(c, p->k->device, l->norm1);
        prxi_device_free(c, p->k->device, l->norm2);
        prxi_device_free(c, p->k->device, l->bias);
    }
    prxi_free(c->mem, p->layer);
    prxi_device_free(c, p->k->device, p->norm);
    prxi_tensors_close(c, &p->weights);
    prxi_free(c->mem, p);
}

int prxi_text_dim(const prxi_text *t)
{
    return (int)t->cfg.dim;
}

/* ---- forward ---- */

/* Buffers of one call, where the kernels run; rows are tokens. */
typedef struct text_run {
    const prxi_text *t;
    prxi_stream *s;
    int64_t n;
    prxi_arena arena;
    float *x;                   /* [n, dim] residual stream */
    float *h;                   /* [n, max(dim, inner, ff)] */
    void *in;                   /* h in the compute dtype; h itself for f32 */
    float *q, *k, *v;           /* [n, inner] */
    float *a, *b;               /* [n, ff]; a also takes what is added to x, [n, dim] */
    float *scores;              /* [threads, n, n]; NULL on a device */
    int32_t *bucket;            /* [2n - 1], of key - query + n - 1 */
} text_run;

/* models.md 3.3: half of the buckets for each sign, exact up to a quarter, then logarithmic. The log sits on a whole
 * number at powers of two, hence the margin. */
static int bucket_of(int64_t rel, int64_t buckets, int64_t max_distance)
{
    const int64_t half = buckets / 2, exact = half / 2, a = rel < 0 ? -rel : rel;
    int64_t b = a;
    if (a >= exact) {
        const double f = log((double)a / (double)exact) / log((double)max_distance / (double)exact);
        b = exact + (int64_t)floor(f * (double)(half - exact) + 1e-6);
        b = b < half - 1 ? b : half - 1;
    }
    return (int)((rel > 0 ? half : 0) + b);
}

static int64_t max3(int64_t a, int64_t b, int64_t d)
{
    const int64_t m = a > b ? a : b;
    return m > d ? m : d;
}

static int run_open(text_run *r)
{
    const text_config *g = &r->t->cfg;
    const size_t n = (size_t)r->n, inner = (size_t)(g->heads * g->head_dim), dim = (size_t)g->dim, ff = (size_t)g->ff;
    const size_t widest = (size_t)max3(g->dim, g->heads * g->head_dim, g->ff), threads = (size_t)r->s->n_threads;
    const struct {
        void **p;
        size_t bytes;
    } parts[] = {
        { (void **)&r->x, prxi_mul(n, dim * sizeof(float)) },
        { (void **)&r->h, prxi_mul(n, widest * sizeof(float)) },
        { &r->in, r->t->dtype == PRXI_F32 ? 0 : prxi_mul(n, widest * sizeof(prxi_bf16)) },
        { (void **)&r->q, prxi_mul(n, inner * sizeof(float)) },
        { (void **)&r->k, prxi_mul(n, inner * sizeof(float)) },
        { (void **)&r->v, prxi_mul(n, inner * sizeof(float)) },
        { (void **)&r->a, prxi_mul(n, (ff > dim ? ff : dim) * sizeof(float)) },
        { (void **)&r->b, prxi_mul(n, ff * sizeof(float)) },
        { (void **)&r->scores, r->t->k->device ? 0 : prxi_mul(threads, prxi_mul(n, n * sizeof(float))) },
        { (void **)&r->bucket, prxi_mul(2 * n, sizeof(int32_t)) },
    };
    size_t total = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        total = prxi_add(total, parts[i].bytes > SIZE_MAX / 2 ? SIZE_MAX : prxi_carve_size(parts[i].bytes));
    r->arena = (prxi_arena) { .base = prxi_device_alloc(r->s->ctx, r->t->k->device, PRXI_MEM_ACTIVATIONS, total), .size = total };
    if (!r->arena.base)
        return prxi_fail_nomem(r->s->ctx, "text encoder", total);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i].bytes)
            *parts[i].p = prxi_carve(&r->arena, parts[i].bytes);
    if (r->t->dtype == PRXI_F32)
        r->in = r->h;
    return PRX_OK;
}

/* Of every distance between two tokens. */
static void fill_buckets(const text_config *g, int64_t n, int32_t *bucket)
{
    for (int64_t i = 0; i < 2 * n - 1; i++)
        bucket[i] = bucket_of(i - (n - 1), g->buckets, g->max_distance);
}

/* x [n, dim] on the host. */
static int embed(const text_run *r, const int32_t *ids, float *x)
{
    const prxi_tensor *e = r->t->embed;
    const size_t dim = (size_t)r->t->cfg.dim, row = dim * prxi_dtype_size(e->dtype);
    prxi_ctx *c = r->s->ctx;
    for (int64_t i = 0; i < r->n; i++) {
        if (ids[i] < 0 || ids[i] >= r->t->cfg.vocab)
            return prxi_fail(c, PRX_EINVAL, "text encoder: token %d is outside the vocabulary of %lld", ids[i],
                             (long long)r->t->cfg.vocab);
        const char *p = (const char *)e->data + (size_t)ids[i] * row;
        for (size_t j = 0; j < dim; j++) {
            float f;
            uint16_t h;
            if (e->dtype == PRXI_F32) {
                memcpy(&f, p + j * 4, 4);
            } else {
                memcpy(&h, p + j * 2, 2);
                f = e->dtype == PRXI_BF16 ? prxi_bf16_to_f32(h) : prxi_f16_to_f32(h);
            }
            if (!isfinite(f))
                return prxi_fail(c, PRX_EFORMAT, "tensor %s: row %d holds NaN or infinity", e->name, ids[i]);
            x[(size_t)i * dim + j] = f;
        }
    }
    return PRX_OK;
}

/* r->in = r->h rounded to the compute dtype. */
static void round_input(text_run *r, int64_t width)
{
    if (r->t->dtype != PRXI_F32)
        r->t->k->act.f32_to_bf16(r->s, r->n * width, r->h, r->in);
}

static void norm(text_run *r, const float *weight, float *out)
{
    const int64_t dim = r->t->cfg.dim;
    const prxi_rms_args a = { .rows = r->n, .dim = dim, .x = r->x, .ldx = dim, .weight = weight,
                              .eps = (float)r->t->cfg.eps, .out = out, .ldo = dim };
    r->t->k->norm.rmsnorm[PRXI_F32](r->s, &a);
}

/* What a call begins with: the embedded tokens, the buckets. */
static int start(text_run *r, const int32_t *ids)
{
    const text_config *g = &r->t->cfg;
    prxi_ctx *c = r->s->ctx;
    const size_t bytes = (size_t)(r->n * g->dim) * sizeof(float), buckets = (size_t)(2 * r->n - 1) * sizeof(int32_t);
    float *x = prxi_alloc(c->mem, PRXI_MEM_SCRATCH, bytes);
    int32_t *bucket = prxi_alloc(c->mem, PRXI_MEM_SCRATCH, buckets);
    int err = x && bucket ? embed(r, ids, x) : prxi_fail_nomem(c, "text encoder", bytes + buckets);
    if (err == PRX_OK) {
        fill_buckets(g, r->n, bucket);
        prxi_stream_put(r->s, r->x, x, bytes);
        prxi_stream_put(r->s, r->bucket, bucket, buckets);
        err = prxi_stream_error(r->s);
    }
    prxi_free(c->mem, x);
    prxi_free(c->mem, bucket);
    return err;
}

static void attention(text_run *r, const text_layer *l)
{
    const text_config *g = &r->t->cfg;
    const int64_t inner = g->heads * g->head_dim;
    const prxi_text_attn a = { r->n, inner, inner, (int)g->heads, (int)g->head_dim, r->q, r->k, r->v, r->h, l->bias, r->bucket, r->scores,
                               &r->t->k->act, r->t->k->isa };
    r->t->k->plain.text(r->s, &a);
}

static void run_layer(text_run *r, const text_layer *l)
{
    const text_config *g = &r->t->cfg;
    const prxi_act_ops *act = &r->t->k->act;
    const int64_t n = r->n, dim = g->dim, inner = g->heads * g->head_dim;
    prxi_stream *s = r->s;
    norm(r, l->norm1, r->h);
    round_input(r, dim);
    prxi_linear_run(s, l->q, n, r->in, dim, r->q, inner);
    prxi_linear_run(s, l->k, n, r->in, dim, r->k, inner);
    prxi_linear_run(s, l->v, n, r->in, dim, r->v, inner);
    attention(r, l);
    round_input(r, inner);
    prxi_linear_run(s, l->o, n, r->in, inner, r->a, dim);
    act->add[PRXI_F32](s, n * dim, r->x, r->a, r->x);

    norm(r, l->norm2, r->h);
    round_input(r, dim);
    prxi_linear_run(s, l->wi0, n, r->in, dim, r->a, g->ff);
    prxi_linear_run(s, l->wi1, n, r->in, dim, r->b, g->ff);
    act->gelu_mul[PRXI_F32](s, n * g->ff, r->a, r->b, r->h);
    round_input(r, g->ff);
    prxi_linear_run(s, l->wo, n, r->in, g->ff, r->a, dim);
    act->add[PRXI_F32](s, n * dim, r->x, r->a, r->x);
}

int prxi_text_encode(prxi_ctx *c, prxi_stream *s, const prxi_text *t, const int32_t *ids, int n, float *out)
{
    if (n < 1)
        return prxi_fail(c, PRX_EINVAL, "text encoder: no tokens");
    text_run r = { .t = t, .s = s, .n = n };
    int err = run_open(&r);
    if (err == PRX_OK)
        err = start(&r, ids);
    for (int64_t i = 0; err == PRX_OK && i < t->cfg.layers; i++) {
        run_layer(&r, &t->layer[i]);
        err = prxi_stream_error(s);
        if (err == PRX_OK && s->cancel && atomic_load(s->cancel))
            err = prxi_fail(c, PRX_ECANCELED, "text encoder: cancelled");
    }
    if (err == PRX_OK) {
        norm(&r, t->norm, r.h);
        prxi_stream_get(s, out, r.h, (size_t)(n * t->cfg.dim) * sizeof *out);
        err = prxi_stream_error(s);
    }
    for (int64_t i = 0; err == PRX_OK && i < n * t->cfg.dim; i++)
        if (!isfinite(out[i]))
            err = prxi_fail(c, PRX_ENUMERIC, "text encoder: the output is not finite at token %lld",
                            (long long)(i / t->cfg.dim));
    if (err != PRX_OK)
        prxi_pass_error(c, s->ctx);
    prxi_device_free(s->ctx, t->k->device, r.arena.base);
    return err;
}
