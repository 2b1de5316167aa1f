/* DiT forward (models.md 1.3 and 1.5): patch embedding, modulation, blocks with their cache and attention seams, head. */
#include "dit_int.h"

#include <math.h>

#include "engine/core/device.h"
#include "engine/core/rng.h"

static void *offset(const prxi_dit_run *r, void *p, int64_t elems)
{
    return (unsigned char *)p + (size_t)elems * prxi_dtype_size(r->d->dtype);
}

/* ---- once a step ---- */

/* [cos(t f_i), sin(t f_i)], f_i = 10000^(-i / half): cosine first, t as the scheduler gives it. In f32 like the original:
 * t goes to 1000, so an ulp of f_i is visible in the cosine. */
static void sinusoid(float t, int64_t n, float *out)
{
    const int64_t half = n / 2;
    for (int64_t i = 0; i < half; i++) {
        const float arg = t * expf((float)-log(10000.0) * (float)i / (float)half);
        out[i] = cosf(arg);
        out[half + i] = sinf(arg);
    }
}

/* temb, tproj, and from them every layer's six vectors; the scales get their 1 added here. */
static void modulation(prxi_stream *s, prxi_dit_run *r, float timestep)
{
    const prxi_dit *d = r->d;
    const int64_t dim = d->dim;
    float *emb = r->time, *mid = emb + d->cfg.freq_dim;
    void *act = mid + dim;
    sinusoid(timestep, d->cfg.freq_dim, r->sinusoid);
    prxi_stream_put(s, emb, r->sinusoid, (size_t)d->cfg.freq_dim * sizeof(float));
    prxi_linear_run(s, d->time_1, 1, emb, d->cfg.freq_dim, mid, dim);
    prxi_linear_run(s, d->time_2, 1, mid, dim, r->temb, dim);
    d->k->act.silu[PRXI_F32](s, dim, r->temb, mid);
    if (d->dtype == PRXI_F32)
        prxi_stream_copy(s, act, mid, (size_t)dim * sizeof(float));
    else
        d->k->act.f32_to_bf16(s, dim, mid, act);
    prxi_linear_run(s, d->time_proj, 1, act, dim, r->tproj, 6 * dim);
    for (int l = 0; l < d->cfg.layers; l++) {
        const prxi_modulate_args m = { 6, dim, 6 * dim, d->blocks[l].table, r->tproj, 1u << 1 | 1u << 4,
                                       r->mod + (int64_t)l * 6 * dim };
        d->k->outer.modulate(s, &m);
    }
    const prxi_modulate_args head = { 2, dim, dim, d->table, r->temb, 1u << 1, r->head };
    d->k->outer.modulate(s, &head);
}

/* Latents in, rows of patches out, or the inverse for the head's rows. */
static prxi_patch_args patch_args(const prxi_dit_run *r, int channels, const void *in, void *out)
{
    const int *p = r->d->cfg.patch;
    return (prxi_patch_args) { channels, r->clip.frames, r->clip.height, r->clip.width, { p[0], p[1], p[2] }, in, out };
}

/* ---- blocks ---- */

/* A run of branches that pass a block together: their rows are adjacent in every buffer. */
typedef struct group {
    int first, count;           /* branch slots */
    int64_t row, rows;
} group;

typedef struct forward {
    prxi_stream *s;
    prxi_dit_run *r;
    const prxi_step *step;
    const prxi_dit_hooks *h;
    int base;                   /* branch id of slot 0 */
} forward;

/* Rows that layers multiply: in the model's type (scale NULL), or in 8 bits with a scale each. */
typedef struct input {
    void *x;
    const float *scale;
} input;

/* What an op has made of a group's rows, for the guard. */
static void made(const forward *f, const group *g, int layer, const char *op, const void *p)
{
    prxi_dit_look(f->s, f->r, layer, op, f->r->d->dtype, p, g->rows * f->r->d->dim);
}

static void norm_rope(const forward *f, int64_t rows, void *x, const float *weight, int rope)
{
    const prxi_dit *d = f->r->d;
    const prxi_rms_args a = { .rows = rows, .dim = d->dim, .x = x, .ldx = d->dim, .weight = weight,
                              .eps = (float)d->cfg.eps, .rope = rope ? f->r->rope : NULL, .rope_rows = f->r->tokens,
                              .head_dim = d->cfg.head_dim, .out = x, .ldo = d->dim };
    d->k->norm.rmsnorm[d->dtype](f->s, &a);
}

/* x += o * gate, then out = LN(x) * mul + add. */
static void residual_norm(const forward *f, const group *g, void *o, const float *gate, const float *mul,
                          const float *add, void *out)
{
    const prxi_dit_run *r = f->r;
    const prxi_ln_args a = { .rows = g->rows, .dim = r->d->dim, .x = offset(r, r->x, g->row * r->d->dim), .o = o,
                             .gate = gate, .mul = mul, .add = add, .eps = (float)r->d->cfg.eps, .out = out };
    r->d->k->norm.layernorm[r->d->dtype](f->s, &a);
}

/* The same into n, for the layers of a block: where they multiply 8 bits, those and their scales at once, in the place of the rows. Where
 * somebody looks, the rows themselves: products then make the very same of them. */
static input norm_input(const forward *f, const group *g, int layer, void *o, const float *gate, const float *mul, const float *add,
                        void *n)
{
    const prxi_dit_run *r = f->r;
    const prxi_dit *d = r->d;
    if (r->look || r->wide || prxi_dit_eight_bits(d, layer) == PRXI_EIGHT_NONE) {
        residual_norm(f, g, o, gate, mul, add, n);
        return (input) { n, NULL };
    }
    float *scale = (float *)(void *)((unsigned char *)n + g->rows * d->dim);
    const prxi_ln_args a = { .rows = g->rows, .dim = d->dim, .x = offset(r, r->x, g->row * d->dim), .o = o, .gate = gate, .mul = mul,
                             .add = add, .eps = (float)d->cfg.eps };
    d->k->norm.layernorm_eight(f->s, &a, n, scale);
    return (input) { n, scale };
}

/* A layer of a block on rows in the model's type. */
static void apply(const forward *f, const prxi_linear *l, int64_t rows, const void *x, int64_t ldx, void *y, int64_t ldy)
{
    if (f->r->wide)
        prxi_linear_run_wide(f->s, l, rows, x, ldx, y, ldy);
    else
        prxi_linear_run(f->s, l, rows, x, ldx, y, ldy);
}

/* Rows [row, row + rows) of the input through a layer whose input has d->dim values. */
static void multiply(const forward *f, const prxi_linear *l, const input *in, int64_t row, int64_t rows, void *y, int64_t ldy)
{
    const int64_t dim = f->r->d->dim;
    if (in->scale)
        prxi_linear_run_eight(f->s, l, rows, (unsigned char *)in->x + row * dim, in->scale + row, y, ldy);
    else
        apply(f, l, rows, offset(f->r, in->x, row * dim), dim, y, ldy);
}

/* Past the rows of a branch lie those of the next, whose output is made later. */
static prxi_attn_args attn_args(const prxi_dit_run *r, void *q, const void *k, const void *v, void *o)
{
    const prxi_dit_config *cfg = &r->d->cfg;
    const int64_t ld = r->d->dim;
    return (prxi_attn_args) { .heads = cfg->heads, .head_dim = cfg->head_dim, .q_len = r->tokens, .kv_len = r->tokens,
                              .q = q, .k = k, .v = v, .o = o, .ldq = ld, .ldk = ld, .ldv = ld, .ldo = ld,
                              .scale = 1.0f / sqrtf((float)cfg->head_dim), .room = PRXI_ATTN_ROOM };
}

static void self_attention(const forward *f, const group *g, int layer)
{
    prxi_dit_run *r = f->r;
    const prxi_dit *d = r->d;
    for (int i = 0; i < g->count; i++) {
        const int64_t at = (int64_t)(g->first + i) * r->tokens * d->dim;
        const int branch = f->base + g->first + i;
        const prxi_block_list *list = NULL;
        double density = 1.0;
        const prxi_attn_call call = { f->step->index, layer, branch,
                                      attn_args(r, offset(r, r->q, at), offset(r, r->k, at), offset(r, r->v, at),
                                                offset(r, r->n, at)) };
        f->h->attn->select(f->h->attn_priv, f->s, &call, &list, &density);
        if (prxi_stream_error(f->s))
            return;
        if (list)
            d->k->attn.blocks[d->dtype](f->s, &call.args, list);
        else
            d->k->attn.dense[d->dtype](f->s, &call.args);
        if (f->h->density)
            f->h->density[branch * d->cfg.layers + layer] = density;
        if (f->h->probes && f->h->attn->probe)
            f->h->attn->probe(f->h->attn_priv, &f->h->probes[branch * d->cfg.layers + layer]);
    }
}

static void to_text(const prxi_dit_run *r, int branch, prxi_attn_args *a)
{
    a->kv_len = r->text_rows[branch];
    a->tail_bias = r->text_tail[branch];
    a->room = 0;
}

static void cross_attention(const forward *f, const group *g, int layer)
{
    prxi_dit_run *r = f->r;
    const prxi_dit *d = r->d;
    for (int i = 0; i < g->count; i++) {
        const int64_t at = (int64_t)(g->first + i) * r->tokens * d->dim;
        const int branch = f->base + g->first + i;
        const prxi_dit_text_kv *kv = &r->text[branch][layer];
        prxi_attn_args a = attn_args(r, offset(r, r->q, at), kv->k, kv->v, offset(r, r->n, at));
        to_text(r, branch, &a);
        d->k->attn.dense[d->dtype](f->s, &a);
    }
}

/* FFN over bounded runs of rows; the result lands in q. */
static void feed_forward(const forward *f, const group *g, const prxi_dit_block *b, const input *in)
{
    prxi_dit_run *r = f->r;
    const prxi_dit *d = r->d;
    for (int64_t row = 0; row < g->rows; row += PRXI_DIT_FFN_ROWS) {
        const int64_t left = g->rows - row, m = left < PRXI_DIT_FFN_ROWS ? left : PRXI_DIT_FFN_ROWS;
        multiply(f, b->ffn_in, in, row, m, r->ffn, d->cfg.ffn_dim);
        apply(f, b->ffn_out, m, r->ffn, d->cfg.ffn_dim, offset(r, r->q, (g->row + row) * d->dim), d->dim);
    }
}

static void run_block(const forward *f, const group *g, int layer)
{
    prxi_dit_run *r = f->r;
    const prxi_dit *d = r->d;
    const prxi_dit_block *b = &d->blocks[layer];
    const int64_t dim = d->dim, at = g->row * dim, rows = g->rows;
    const float *m = r->mod + (int64_t)layer * 6 * dim;
    const float *shift = m, *scale = m + dim, *gate = m + 2 * dim;
    void *n = offset(r, r->n, at), *q = offset(r, r->q, at), *k = offset(r, r->k, at), *v = offset(r, r->v, at);

    input in = norm_input(f, g, layer, NULL, NULL, scale, shift, n);
    made(f, g, layer, "norm before self-attention", n);
    multiply(f, b->self.q, &in, 0, rows, q, dim);
    multiply(f, b->self.k, &in, 0, rows, k, dim);
    multiply(f, b->self.v, &in, 0, rows, v, dim);
    norm_rope(f, rows, q, b->self.norm_q, 1);
    norm_rope(f, rows, k, b->self.norm_k, 1);
    made(f, g, layer, "queries of self-attention", q);
    made(f, g, layer, "keys of self-attention", k);
    made(f, g, layer, "values of self-attention", v);
    self_attention(f, g, layer);
    made(f, g, layer, "self-attention", n);
    apply(f, b->self.out, rows, n, dim, v, dim);
    made(f, g, layer, "output of self-attention", v);

    /* Without the cross-attention norm the queries come from x itself. */
    if (d->cfg.cross_attn_norm) {
        in = norm_input(f, g, layer, v, gate, b->norm2_weight, b->norm2_bias, n);
    } else {
        in = (input) { offset(r, r->x, at), NULL };
        residual_norm(f, g, v, gate, NULL, NULL, NULL);
    }
    made(f, g, layer, "sum and norm before cross-attention", in.x);
    multiply(f, b->cross.q, &in, 0, rows, q, dim);
    norm_rope(f, rows, q, b->cross.norm_q, 0);
    made(f, g, layer, "queries of cross-attention", q);
    cross_attention(f, g, layer);
    made(f, g, layer, "cross-attention", n);
    apply(f, b->cross.out, rows, n, dim, v, dim);
    made(f, g, layer, "output of cross-attention", v);

    in = norm_input(f, g, layer, v, NULL, m + 4 * dim, m + 3 * dim, n);
    made(f, g, layer, "sum and norm before the feed-forward network", n);
    feed_forward(f, g, b, &in);
    made(f, g, layer, "feed-forward network", q);
    residual_norm(f, g, q, m + 5 * dim, NULL, NULL, NULL);
    made(f, g, layer, "sum at its end", offset(r, r->x, at));
}

/* Asks the cache policy before block `layer` for the slots that stand there; next[] becomes where each goes on. */
static void ask_cache(const forward *f, int slots, int layer, int *next)
{
    prxi_dit_run *r = f->r;
    if (!f->h->cache || !f->h->cache->at_block)
        return;
    for (int i = 0; i < slots; i++) {
        if (next[i] != layer)
            continue;
        const int branch = f->base + i;
        const prxi_cache_call call = { f->step, branch, r->temb, r->tproj, &f->h->reports[branch] };
        void *x = offset(r, r->x, (int64_t)i * r->tokens * r->d->dim);
        next[i] = f->h->cache->at_block(f->h->cache_priv, f->s, &call, layer, x);
    }
}

/* All blocks for `slots` branches. Branches that stand at the same block go through it in one batch. */
static void run_blocks(const forward *f, int slots)
{
    prxi_dit_run *r = f->r;
    const int layers = r->d->cfg.layers;
    int next[PRXI_BRANCHES] = { 0 };
    for (int l = 0; l <= layers; l++) {
        ask_cache(f, slots, l, next);
        if (l == layers)
            break;
        for (int i = 0; i < slots; i++) {
            if (next[i] != l)
                continue;
            int n = 1;
            while (i + n < slots && next[i + n] == l)
                n++;
            const group g = { i, n, i * r->tokens, n * r->tokens };
            if (prxi_stream_error(f->s) || (f->s->cancel && atomic_load(f->s->cancel)))
                return;
            prxi_dit_stream_enter(f->s, r->d, l);
            run_block(f, &g, l);
            prxi_dit_stream_leave(f->s, r->d, l);
            for (int j = i; j < i + n; j++) {
                next[j] = l + 1;
                f->h->reports[f->base + j].blocks_computed++;
            }
            i += n - 1;
        }
    }
}

static void run_head(const forward *f, int slot, float *v)
{
    prxi_dit_run *r = f->r;
    const prxi_dit *d = r->d;
    const int64_t dim = d->dim;
    const int *p = d->cfg.patch;
    const group g = { slot, 1, slot * r->tokens, r->tokens };
    residual_norm(f, &g, NULL, NULL, r->head + dim, r->head, r->n);
    made(f, &g, -1, "norm of the head", r->n);
    const int64_t values = (int64_t)d->cfg.out_channels * p[0] * p[1] * p[2];
    prxi_linear_run(f->s, d->proj_out, r->tokens, r->n, dim, r->out_rows, values);
    prxi_dit_look(f->s, r, -1, "head", PRXI_F32, r->out_rows, r->tokens * values);
    const prxi_patch_args a = patch_args(r, d->cfg.out_channels, r->out_rows, v);
    d->k->outer.unpatchify(f->s, &a);
}

/* Noise for what is measured and judged. It repeats after a prime number of values: rows do not. */
static void fill(prxi_stream *s, prxi_dtype t, void *p, int64_t n, uint64_t seed)
{
    enum { PERIOD = 65521 };
    const size_t size = prxi_dtype_size(t), all = (size_t)n * size, first = all < PERIOD * size ? all : PERIOD * size;
    float *noise = prxi_alloc(s->ctx->mem, PRXI_MEM_SCRATCH, PERIOD * sizeof *noise);
    prxi_rng rng;
    if (!noise) {
        prxi_stream_fail(s, PRX_ENOMEM, "attention", "no memory for noise");
        return;
    }
    prxi_rng_seed(&rng, seed);
    prxi_rng_normal(&rng, noise, PERIOD);
    for (size_t i = 0; i < PERIOD; i++)
        prxi_store(noise, t, i, 1.5f * noise[i]);       /* in place: bf16 is narrower */
    prxi_stream_put(s, p, noise, first);
    for (size_t at = first; at < all; at *= 2)
        prxi_stream_copy(s, (unsigned char *)p + at, p, all - at < at ? all - at : at);
    prxi_free(s->ctx->mem, noise);
}

void prxi_dit_prepare(prxi_stream *s, prxi_dit_run *r, const prxi_attn_policy *attn, const void *attn_priv)
{
    const prxi_dit *d = r->d;
    if (!d->k->attn.prepare)
        return;
    const prxi_block_list *list = attn->fixed ? attn->fixed(attn_priv) : NULL;
    prxi_attn_args a = attn_args(r, r->q, r->k, r->v, r->n);
    fill(s, d->dtype, r->q, r->tokens * d->dim, 1);
    fill(s, d->dtype, r->k, r->tokens * d->dim, 2);
    fill(s, d->dtype, r->v, r->tokens * d->dim, 3);
    d->k->attn.prepare(s, d->dtype, &a, NULL);
    if (list)
        d->k->attn.prepare(s, d->dtype, &a, list);
    for (int b = 0; b < r->clip.branches; b++) {
        a = attn_args(r, r->q, r->text[b][0].k, r->text[b][0].v, r->n);
        to_text(r, b, &a);
        d->k->attn.prepare(s, d->dtype, &a, NULL);
    }
}

void prxi_dit_forward(prxi_stream *s, prxi_dit_run *r, const prxi_step *step, const float *latents,
                      const prxi_dit_hooks *h, float *const v[PRXI_BRANCHES])
{
    const prxi_dit *d = r->d;
    const int64_t elems = r->tokens * d->dim;
    modulation(s, r, step->timestep);
    prxi_dit_look(s, r, -1, "embedding of the timestep", PRXI_F32, r->mod, d->cfg.layers * 6 * d->dim);
    const prxi_patch_args a = patch_args(r, d->cfg.in_channels, latents, r->patches);
    d->k->outer.patchify[d->dtype](s, &a);
    const int64_t k = (int64_t)d->cfg.in_channels * d->cfg.patch[0] * d->cfg.patch[1] * d->cfg.patch[2];
    prxi_dit_stream_begin(d, d->quant == PRXI_QUANT_NONE || r->wide ? PRXI_DIT_WIDE : PRXI_DIT_EIGHT);
    for (int base = 0; base < r->clip.branches; base += r->batch) {
        const forward f = { s, r, step, h, base };
        prxi_linear_run(s, d->patch, r->tokens, r->patches, k, r->x, d->dim);
        prxi_dit_look(s, r, -1, "embedding of the patches", d->dtype, r->x, elems);
        for (int i = 1; i < r->batch; i++)
            prxi_stream_copy(s, offset(r, r->x, i * elems), r->x, (size_t)elems * prxi_dtype_size(d->dtype));
        run_blocks(&f, r->batch);
        for (int i = 0; i < r->batch && !prxi_stream_error(s); i++)
            run_head(&f, i, v[base + i]);
    }
    prxi_dit_stream_end(d);
    if (h->attn->settle && h->density)
        h->attn->settle(h->attn_priv, s, h->density);
}
