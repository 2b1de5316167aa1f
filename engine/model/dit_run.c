/* DiT: what depends on the clip and the prompt alone, computed once per job: RoPE tables, text keys and values, buffers. */
#include "dit_int.h"

#include <math.h>

#include "engine/core/device.h"

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

typedef struct sizes {
    int64_t tokens, batch, dim, in_values, out_values;
    size_t rope, mod, time, patches, out_rows, hidden, roomy, ffn;   /* roomy: hidden, with PRXI_ATTN_ROOM rows after it */
} sizes;

static sizes count(const prxi_dit_config *cfg, const prxi_dit_clip *clip, prxi_dtype dtype)
{
    const size_t el = prxi_dtype_size(dtype);
    const int64_t p = (int64_t)cfg->patch[0] * cfg->patch[1] * cfg->patch[2];
    sizes z = { .dim = (int64_t)cfg->heads * cfg->head_dim, .in_values = cfg->in_channels * p,
                .out_values = cfg->out_channels * p };
    z.tokens = (int64_t)(clip->frames / cfg->patch[0]) * (clip->height / cfg->patch[1]) * (clip->width / cfg->patch[2]);
    z.batch = z.tokens <= PRXI_DIT_BATCH_TOKENS ? clip->branches : 1;
    const size_t tokens = (size_t)z.tokens, rows = (size_t)(z.tokens * z.batch);
    z.rope = prxi_mul(tokens, (size_t)cfg->head_dim * sizeof(float));
    z.mod = (size_t)cfg->layers * 6 * (size_t)z.dim * sizeof(float);
    z.time = (size_t)(cfg->freq_dim + 2 * z.dim) * sizeof(float);
    z.patches = prxi_mul(tokens, (size_t)z.in_values * el);
    z.out_rows = prxi_mul(tokens, (size_t)z.out_values * sizeof(float));
    z.hidden = prxi_mul(rows, (size_t)z.dim * el);
    z.roomy = prxi_add(z.hidden, PRXI_ATTN_ROOM * (size_t)z.dim * el);
    z.ffn = prxi_mul((size_t)min64(z.tokens * z.batch, PRXI_DIT_FFN_ROWS), (size_t)cfg->ffn_dim * el);
    return z;
}

static size_t arena_bytes(const sizes *z)
{
    const size_t parts[] = { z->rope, z->mod, z->time, z->patches, z->out_rows, z->hidden, z->roomy, z->roomy, z->roomy,
                             z->roomy, z->ffn, (size_t)z->dim * 9 * sizeof(float) };
    size_t sum = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        sum = prxi_add(sum, prxi_add(parts[i], 192));
    return sum;
}

static int text_rows(const prxi_dit_clip *clip, int branch)
{
    return clip->text_len[branch] + (clip->text_len[branch] < clip->max_text);
}

static size_t text_bytes(const prxi_dit_config *cfg, const prxi_dit_clip *clip, prxi_dtype dtype)
{
    size_t sum = 0;
    for (int b = 0; b < clip->branches; b++)
        sum += 2 * (size_t)cfg->layers * (size_t)text_rows(clip, b) * (size_t)cfg->heads * (size_t)cfg->head_dim *
               prxi_dtype_size(dtype);
    return sum;
}

/* The largest input of a layer in 8 bits, with a scale a row: the device's own scratch. */
static size_t eight_bytes(const prxi_dit_config *cfg, const sizes *z)
{
    const int64_t rows = z->tokens * z->batch, ffn = min64(rows, PRXI_DIT_FFN_ROWS) * cfg->ffn_dim;
    return (size_t)(rows * z->dim > ffn ? rows * z->dim : ffn) + (size_t)rows * sizeof(float);
}

size_t prxi_dit_run_bytes(const prxi_dit_config *cfg, const prxi_dit_clip *clip, prxi_dtype dtype, prxi_quant quant)
{
    const sizes z = count(cfg, clip, dtype);
    const size_t sum = prxi_add(arena_bytes(&z), text_bytes(cfg, clip, dtype));
    return quant != PRXI_QUANT_NONE ? prxi_add(sum, eight_bytes(cfg, &z)) : sum;
}

static int check_clip(prxi_ctx *c, const prxi_dit_config *cfg, const prxi_dit_clip *clip)
{
    const int size[3] = { clip->frames, clip->height, clip->width };
    static const char *const name[3] = { "frames", "height", "width" };
    for (int i = 0; i < 3; i++) {
        if (size[i] < 1 || size[i] % cfg->patch[i])
            return prxi_fail(c, PRX_EINVAL, "latent %s %d: a positive multiple of the patch size %d expected", name[i],
                             size[i], cfg->patch[i]);
        if (size[i] / cfg->patch[i] > cfg->rope_max_seq_len)
            return prxi_fail(c, PRX_EINVAL, "latent %s %d: the model's positions end at %d", name[i], size[i],
                             cfg->rope_max_seq_len * cfg->patch[i]);
    }
    for (int b = 0; b < clip->branches; b++)
        if (clip->text_len[b] < 1 || clip->text_len[b] > clip->max_text)
            return prxi_fail(c, PRX_EINVAL, "text of %d rows: 1 to %d expected", clip->text_len[b], clip->max_text);
    return PRX_OK;
}

/* One axis of a token's row: n / 2 pairs, angle = position / theta^(2 j / n), in f64 and rounded once (models.md 1.4). */
static float *rope_axis(float *out, int pos, int n)
{
    for (int j = 0; j < n / 2; j++) {
        const double angle = pos * pow(10000.0, -2.0 * j / n);
        *out++ = (float)cos(angle);
        *out++ = (float)sin(angle);
    }
    return out;
}

static void fill_rope(const prxi_dit_run *r, float *row)
{
    const int d = r->d->cfg.head_dim, hw = 2 * (d / 6), t = d - 2 * hw;
    for (int f = 0; f < r->grid_t; f++)
        for (int y = 0; y < r->grid_h; y++)
            for (int x = 0; x < r->grid_w; x++)
                row = rope_axis(rope_axis(rope_axis(row, f, t), y, hw), x, hw);
}

static int open_rope(prxi_ctx *c, const prxi_dit_run *r, size_t bytes)
{
    prxi_device *device = r->d->k->device;
    if (!device) {
        fill_rope(r, r->rope);
        return PRX_OK;
    }
    float *host = prxi_alloc(c->mem, PRXI_MEM_SCRATCH, bytes);
    if (!host)
        return prxi_fail_nomem(c, "positions", bytes);
    fill_rope(r, host);
    const int err = prxi_device_put(c, device, r->rope, host, bytes);
    prxi_free(c->mem, host);
    return err;
}

static void carve_all(prxi_dit_run *r, const sizes *z)
{
    prxi_arena *a = &r->arena;
    r->rope = prxi_carve(a, z->rope);
    r->mod = prxi_carve(a, z->mod);
    r->time = prxi_carve(a, z->time);
    r->temb = prxi_carve(a, (size_t)z->dim * sizeof(float));
    r->tproj = prxi_carve(a, (size_t)z->dim * 6 * sizeof(float));
    r->head = prxi_carve(a, (size_t)z->dim * 2 * sizeof(float));
    r->patches = prxi_carve(a, z->patches);
    r->out_rows = prxi_carve(a, z->out_rows);
    r->x = prxi_carve(a, z->hidden);
    void **const roomy[] = { &r->n, &r->q, &r->k, &r->v };
    for (int i = 0; i < 4; i++)
        *roomy[i] = prxi_carve(a, z->roomy);
    r->ffn = prxi_carve(a, z->ffn);
}

/* What may be read past the last token is zero for good. */
static int clear_room(prxi_ctx *c, const prxi_dit_run *r, const sizes *z)
{
    unsigned char *const p[3] = { r->q, r->k, r->v };
    int err = PRX_OK;
    for (int i = 0; i < 3 && err == PRX_OK; i++)
        err = prxi_device_zero(c, r->d->k->device, p[i] + z->hidden, z->roomy - z->hidden);
    return err;
}

/* The block of memory that everything of the run is carved from. */
static int open_memory(prxi_ctx *c, prxi_dit_run *r, const sizes *z)
{
    const size_t bytes = arena_bytes(z);
    r->arena = (prxi_arena) { .base = prxi_device_alloc(c, r->d->k->device, PRXI_MEM_ACTIVATIONS, bytes), .size = bytes };
    r->sinusoid = prxi_alloc(c->mem, PRXI_MEM_ACTIVATIONS, (size_t)r->d->cfg.freq_dim * sizeof(float));
    if (!r->arena.base || !r->sinusoid)
        return prxi_fail_nomem(c, "activations", bytes);
    carve_all(r, z);
    const int err = clear_room(c, r, z);
    return err < 0 ? err : open_rope(c, r, z->rope);
}

/* The valid rows and, once, the zero row that all padding shares, in the compute type where the kernels are. */
static int put_text(prxi_ctx *c, prxi_stream *s, const prxi_dit_run *r, int branch, const float *text, void *out)
{
    const prxi_dit *d = r->d;
    const size_t n = (size_t)(r->text_rows[branch] * d->cfg.text_dim), valid = (size_t)(r->clip.text_len[branch] * d->cfg.text_dim);
    float *rows = prxi_calloc(c->mem, PRXI_MEM_SCRATCH, n, sizeof *rows);
    void *wide = d->dtype == PRXI_F32 ? out : prxi_device_alloc(c, d->k->device, PRXI_MEM_SCRATCH, n * sizeof *rows);
    if (rows && wide) {
        memcpy(rows, text, valid * sizeof *rows);
        prxi_stream_put(s, wide, rows, n * sizeof *rows);
        if (wide != out)
            d->k->act.f32_to_bf16(s, (int64_t)n, wide, out);
    }
    const int err = rows && wide ? PRX_OK : prxi_fail_nomem(c, "text embeddings", n * sizeof *rows);
    if (wide != out)
        prxi_device_free(c, d->k->device, wide);
    prxi_free(c->mem, rows);
    return err;
}

/* Context rows of one branch: text_embedder of its rows. */
static void *embed_text(prxi_ctx *c, prxi_stream *s, const prxi_dit_run *r, int branch, const float *text)
{
    const prxi_dit *d = r->d;
    prxi_device *device = d->k->device;
    const int64_t rows = r->text_rows[branch], td = d->cfg.text_dim;
    const size_t el = prxi_dtype_size(d->dtype);
    void *in = prxi_device_alloc(c, device, PRXI_MEM_SCRATCH, (size_t)(rows * td) * el);
    void *mid = prxi_device_alloc(c, device, PRXI_MEM_SCRATCH, (size_t)(rows * d->dim) * el);
    void *out = prxi_device_alloc(c, device, PRXI_MEM_SCRATCH, (size_t)(rows * d->dim) * el);
    const int have = in && mid && out;
    if (!have)
        prxi_fail_nomem(c, "text embeddings", (size_t)(rows * (td + 2 * d->dim)) * el);
    if (have && put_text(c, s, r, branch, text, in) == PRX_OK) {
        prxi_linear_run(s, d->text_1, rows, in, td, mid, d->dim);
        prxi_linear_run(s, d->text_2, rows, mid, d->dim, out, d->dim);
    } else {
        prxi_device_free(c, device, out);
        out = NULL;
    }
    prxi_device_free(c, device, in);
    prxi_device_free(c, device, mid);
    return out;
}

static int text_kv(prxi_ctx *c, prxi_stream *s, prxi_dit_run *r, int branch, const float *text)
{
    const prxi_dit *d = r->d;
    const int64_t rows = r->text_rows[branch], dim = d->dim;
    const size_t bytes = (size_t)(rows * dim) * prxi_dtype_size(d->dtype);
    r->text[branch] = prxi_calloc(c->mem, PRXI_MEM_MISC, (size_t)d->cfg.layers, sizeof *r->text[branch]);
    void *ctx = r->text[branch] ? embed_text(c, s, r, branch, text) : NULL;
    if (!ctx)
        return prxi_fail_nomem(c, "text keys and values", bytes);
    int err = PRX_OK;
    prxi_dit_stream_begin(d, PRXI_DIT_TEXT);
    for (int i = 0; i < d->cfg.layers && err == PRX_OK; i++) {
        const prxi_dit_attn *a = &d->blocks[i].cross;
        prxi_dit_text_kv *kv = &r->text[branch][i];
        kv->k = prxi_device_alloc(c, d->k->device, PRXI_MEM_ACTIVATIONS, bytes);
        kv->v = prxi_device_alloc(c, d->k->device, PRXI_MEM_ACTIVATIONS, bytes);
        if (!kv->k || !kv->v) {
            err = prxi_fail_nomem(c, "text keys and values", bytes);
            break;
        }
        prxi_dit_stream_enter(s, d, i);
        prxi_linear_run(s, a->k, rows, ctx, dim, kv->k, dim);
        prxi_linear_run(s, a->v, rows, ctx, dim, kv->v, dim);
        prxi_dit_stream_leave(s, d, i);
        const prxi_rms_args rms = { .rows = rows, .dim = dim, .x = kv->k, .ldx = dim, .weight = a->norm_k,
                                    .eps = (float)d->cfg.eps, .out = kv->k, .ldo = dim };
        d->k->norm.rmsnorm[d->dtype](s, &rms);
    }
    prxi_dit_stream_end(d);
    prxi_device_free(c, d->k->device, ctx);
    return err == PRX_OK ? prxi_stream_error(s) : err;
}

int prxi_dit_run_open(prxi_ctx *c, prxi_stream *s, prxi_dit_run **out, const prxi_dit *d, const prxi_dit_clip *clip)
{
    *out = NULL;
    int err = check_clip(c, &d->cfg, clip);
    if (err < 0)
        return err;
    const sizes z = count(&d->cfg, clip, d->dtype);
    prxi_dit_run *r = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, sizeof *r);
    if (!r)
        return prxi_fail_nomem(c, "transformer run", sizeof *r);
    r->d = d;
    r->clip = *clip;
    r->grid_t = clip->frames / d->cfg.patch[0];
    r->grid_h = clip->height / d->cfg.patch[1];
    r->grid_w = clip->width / d->cfg.patch[2];
    r->tokens = z.tokens;
    r->batch = (int)z.batch;
    err = open_memory(c, r, &z);
    for (int b = 0; b < clip->branches && err == PRX_OK; b++) {
        const int zeros = clip->max_text - clip->text_len[b];
        r->text_rows[b] = text_rows(clip, b);
        r->text_tail[b] = zeros > 1 ? logf((float)zeros) : 0.0f;
        err = text_kv(c, s, r, b, clip->text[b]);
    }
    if (err < 0)
        prxi_dit_run_close(c, &r);
    *out = r;
    return err;
}

void prxi_dit_run_wide(prxi_dit_run *r, int wide)
{
    r->wide = wide;
}

void prxi_dit_run_close(prxi_ctx *c, prxi_dit_run **rp)
{
    prxi_dit_run *r = *rp;
    *rp = NULL;
    if (!r)
        return;
    for (int b = 0; b < PRXI_BRANCHES; b++) {
        for (int i = 0; r->text[b] && i < r->d->cfg.layers; i++) {
            prxi_device_free(c, r->d->k->device, r->text[b][i].k);
            prxi_device_free(c, r->d->k->device, r->text[b][i].v);
        }
        prxi_free(c->mem, r->text[b]);
    }
    prxi_device_free(c, r->d->k->device, r->arena.base);
    prxi_free(c->mem, r->sinusoid);
    prxi_free(c->mem, r);
}
