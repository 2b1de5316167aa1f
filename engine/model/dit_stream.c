/* A transformer that is larger than its device: the weights of later blocks wait on the host, and two places on the device take turns:
 * while a block runs, the next one's weights come. On the host a block is its layers in 8 bits, all biases, the layers in the model's type,
 * and those that make keys and values of the text, so that each use of it needs one stretch of that. */
#include <pthread.h>

#include "dit_int.h"
#include "engine/core/device.h"

enum { SLOTS = 2 };

struct prxi_dit_stream {
    pthread_mutex_t lock;
    int first, count;                       /* blocks that move */
    prxi_dit_use use;
    size_t begin, end;                      /* what of a block it needs */
    unsigned char *slot[SLOTS], **host;     /* host: [count] */
    int holds[SLOTS];                       /* block that is there or on its way; -1: none */
    int in_use;                             /* slot that was entered; -1: none */
};

/* Where the parts of a block begin, and its end. */
typedef struct layout {
    size_t bias, weight, text, end;
} layout;

static layout layout_of(const prxi_dit_config *cfg, prxi_dtype t, prxi_eight_bits eight)
{
    const int64_t dim = (int64_t)cfg->heads * cfg->head_dim;
    const prxi_linear_parts square = prxi_linear_part_bytes(dim, dim, t, t), up = prxi_linear_part_bytes(cfg->ffn_dim, dim, t, t),
                            down = prxi_linear_part_bytes(dim, cfg->ffn_dim, t, t);
    layout o = { 0 };
    if (eight != PRXI_EIGHT_NONE)
        o.bias = prxi_add(prxi_mul(6, square.eight), prxi_add(up.eight, down.eight));
    o.weight = o.text = prxi_add(o.bias, 6 * square.bias + up.bias + down.bias);
    if (eight != PRXI_EIGHT_ONLY)
        o.text = prxi_add(o.weight, prxi_add(prxi_mul(6, square.weight), prxi_add(up.weight, down.weight)));
    o.end = prxi_add(o.text, prxi_mul(2, prxi_add(square.weight, square.bias)));
    return o;
}

static size_t begin_of(const layout *o, prxi_dit_use use)
{
    return use == PRXI_DIT_EIGHT ? 0 : use == PRXI_DIT_WIDE ? o->bias : o->text;
}

static size_t end_of(const layout *o, prxi_dit_use use)
{
    return use == PRXI_DIT_EIGHT ? o->weight : use == PRXI_DIT_WIDE ? o->text : o->end;
}

static prxi_eight_bits eight_of(prxi_quant q)
{
    return q == PRXI_QUANT_FP8 ? PRXI_EIGHT_ONLY : q == PRXI_QUANT_FP8_BESIDE ? PRXI_EIGHT_BESIDE : PRXI_EIGHT_NONE;
}

prxi_eight_bits prxi_dit_eight_bits(const prxi_dit *d, int block)
{
    return block > 0 && block + 1 < d->cfg.layers ? eight_of(d->quant) : PRXI_EIGHT_NONE;
}

/* The library multiplies rows of whole 16 bytes. */
int prxi_dit_quant_fits(const prxi_dit_config *cfg)
{
    return cfg->layers > 2 && (int64_t)cfg->heads * cfg->head_dim % 16 == 0 && cfg->ffn_dim % 16 == 0;
}

/* Blocks that may move: those of one form. */
static int movable(const prxi_dit_config *cfg, prxi_quant quant)
{
    return quant == PRXI_QUANT_NONE ? cfg->layers : cfg->layers - 2;
}

/* All weights. Vectors of blocks and head, the time embedder, and biases where the result is f32, are f32 whatever the type of the rest. */
static size_t all_bytes(const prxi_dit_config *cfg, prxi_dtype dtype)
{
    const size_t dim = (size_t)cfg->heads * (size_t)cfg->head_dim, el = prxi_dtype_size(dtype);
    const size_t vectors = prxi_mul((size_t)cfg->layers, (cfg->cross_attn_norm ? 12 : 10) * dim) + 2 * dim;
    const size_t time = dim * ((size_t)cfg->freq_dim + dim + 2), out = (size_t)cfg->out_channels * (size_t)cfg->patch[0];
    const size_t biases = 6 * dim + out * (size_t)cfg->patch[1] * (size_t)cfg->patch[2];
    return prxi_add(prxi_mul((size_t)cfg->params, el), prxi_mul(vectors + time + biases, sizeof(float) - el));
}

/* The linear layers of a block that stays. */
static size_t block_bytes(const prxi_dit_config *cfg, prxi_dtype dtype)
{
    const size_t dim = (size_t)cfg->heads * (size_t)cfg->head_dim, ffn = (size_t)cfg->ffn_dim;
    return prxi_mul(8 * dim * dim + 2 * dim * ffn + 9 * dim + ffn, prxi_dtype_size(dtype));
}

/* Weights outside of the blocks that may move. */
static size_t fixed_bytes(const prxi_dit_config *cfg, prxi_dtype dtype, prxi_quant quant)
{
    const size_t all = all_bytes(cfg, dtype), blocks = prxi_mul((size_t)movable(cfg, quant), block_bytes(cfg, dtype));
    return all > blocks ? all - blocks : 0;
}

size_t prxi_dit_weight_bytes(const prxi_dit_config *cfg, prxi_dtype dtype, prxi_quant quant)
{
    if (quant == PRXI_QUANT_NONE)
        return all_bytes(cfg, dtype);
    const size_t block = layout_of(cfg, dtype, eight_of(quant)).end;
    return prxi_add(fixed_bytes(cfg, dtype, quant), prxi_mul((size_t)movable(cfg, quant), block));
}

size_t prxi_dit_load_bytes(const prxi_dit_config *cfg, prxi_dtype dtype, prxi_quant quant)
{
    const int64_t dim = (int64_t)cfg->heads * cfg->head_dim;
    const prxi_linear_parts up = prxi_linear_part_bytes(cfg->ffn_dim, dim, dtype, dtype),
                            square = prxi_linear_part_bytes(dim, dim, dtype, dtype), most = up.weight > square.weight ? up : square;
    return quant == PRXI_QUANT_NONE ? 0 : prxi_add(most.weight, most.eight);
}

/* All blocks, or as many as stay beside the outside, vectors and two places. With 8 bits the first and the last always stay. */
prxi_dit_fit prxi_dit_fit_in(const prxi_dit_config *cfg, prxi_dtype dtype, prxi_quant quant, size_t bytes)
{
    const layout o = layout_of(cfg, dtype, eight_of(quant));
    const size_t fixed = fixed_bytes(cfg, dtype, quant);
    const int n = movable(cfg, quant), others = cfg->layers - n;
    prxi_dit_fit f = { cfg->layers, cfg->layers, prxi_add(fixed, prxi_mul((size_t)n, o.end)), o.end, 0 };
    for (int u = quant == PRXI_QUANT_NONE ? PRXI_DIT_WIDE : PRXI_DIT_EIGHT; u < PRXI_DIT_USES; u++)
        if (end_of(&o, (prxi_dit_use)u) - begin_of(&o, (prxi_dit_use)u) > f.slot_bytes)
            f.slot_bytes = end_of(&o, (prxi_dit_use)u) - begin_of(&o, (prxi_dit_use)u);
    if (f.bytes <= bytes)
        return f;
    const size_t least = prxi_add(fixed, prxi_mul(SLOTS, f.slot_bytes)), more = least > bytes ? 0 : (bytes - least) / o.end;
    const int most = n > SLOTS ? n - SLOTS : 0, stay = more < (size_t)most ? (int)more : most;
    f.resident = least > bytes ? -1 : others + stay;
    f.first = others / 2 + stay;
    f.bytes = prxi_add(least, prxi_mul((size_t)stay, o.end));
    return f;
}

int prxi_dit_stream_open(prxi_ctx *c, prxi_dit *d, const prxi_dit_fit *fit)
{
    prxi_device *device = d->k->device;
    const size_t n = (size_t)(d->cfg.layers - fit->resident);
    prxi_dit_stream *s = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, sizeof *s);
    if (!s)
        return prxi_fail_nomem(c, "streamed weights", sizeof *s);
    pthread_mutex_init(&s->lock, NULL);
    d->stream = s;
    s->first = fit->first;
    s->count = (int)n;
    s->use = PRXI_DIT_USES;
    s->in_use = -1;
    s->host = prxi_calloc(c->mem, PRXI_MEM_MISC, n, sizeof *s->host);
    int bad = !s->host;
    for (int i = 0; i < SLOTS && !bad; i++) {
        s->holds[i] = -1;
        bad = !(s->slot[i] = prxi_device_alloc(c, device, PRXI_MEM_WEIGHTS, fit->slot_bytes));
    }
    for (size_t i = 0; i < n && !bad; i++)
        bad = !(s->host[i] = device->alloc_host(device, fit->block_bytes));
    return bad ? prxi_fail(c, PRX_ENOMEM, "memory: %.1f GiB of page-locked memory for %d blocks of the transformer, or two of them on the "
                           "device: %s", (double)fit->block_bytes * (double)n / 0x1p30, (int)n, device->error(device)) : PRX_OK;
}

void prxi_dit_stream_close(prxi_ctx *c, prxi_dit *d)
{
    prxi_dit_stream *s = d->stream;
    d->stream = NULL;
    if (!s)
        return;
    for (int i = 0; s->host && i < s->count; i++)
        if (s->host[i])
            d->k->device->release_host(d->k->device, s->host[i]);
    for (int i = 0; i < SLOTS; i++)
        prxi_device_free(c, d->k->device, s->slot[i]);
    pthread_mutex_destroy(&s->lock);
    prxi_free(c->mem, s->host);
    prxi_free(c->mem, s);
}

static int moves(const prxi_dit_stream *t, int block)
{
    return t && block >= t->first && block < t->first + t->count;
}

unsigned char *prxi_dit_stream_host(const prxi_dit *d, int block)
{
    return moves(d->stream, block) ? d->stream->host[block - d->stream->first] : NULL;
}

prxi_linear_place prxi_dit_stream_place(const prxi_dit *d, int block, int text, int64_t n, int64_t k, prxi_dit_next *next)
{
    const layout o = layout_of(&d->cfg, d->dtype, eight_of(d->quant));
    const prxi_linear_parts bytes = prxi_linear_part_bytes(n, k, d->dtype, d->dtype), at = next->parts;
    prxi_linear_place p = { prxi_dit_stream_host(d, block), { at.eight, o.bias + at.bias, o.weight + at.weight } };
    if (text) {
        p.at = (prxi_linear_parts) { 0, o.text + next->text + bytes.weight, o.text + next->text };
        next->text += bytes.weight + bytes.bias;
    } else {
        next->parts = (prxi_linear_parts) { at.eight + bytes.eight, at.bias + bytes.bias, at.weight + bytes.weight };
    }
    return p;
}

/* Another use than the last one's finds nothing of what it needs. */
void prxi_dit_stream_begin(const prxi_dit *d, prxi_dit_use use)
{
    prxi_dit_stream *t = d->stream;
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    if (t->use == use)
        return;
    const layout o = layout_of(&d->cfg, d->dtype, eight_of(d->quant));
    t->use = use;
    t->begin = begin_of(&o, use);
    t->end = end_of(&o, use);
    for (int i = 0; i < SLOTS; i++)
        t->holds[i] = -1;
}

void prxi_dit_stream_end(const prxi_dit *d)
{
    if (d->stream)
        pthread_mutex_unlock(&d->stream->lock);
}

static void report(prxi_stream *s, prxi_device *device, int err)
{
    if (err < 0)
        prxi_stream_fail(s, err, device->name, device->error(device));
}

/* Which slot a block is in; -1: none. */
static int slot_of(const prxi_dit_stream *t, int block)
{
    for (int i = 0; i < SLOTS; i++)
        if (t->holds[i] == block)
            return i;
    return -1;
}

static void fetch(prxi_stream *s, const prxi_dit *d, int slot, int block)
{
    prxi_dit_stream *t = d->stream;
    const int err = d->k->device->fetch(d->k->device, slot, t->slot[slot], t->host[block - t->first] + t->begin, t->end - t->begin);
    t->holds[slot] = err < 0 ? -1 : block;
    report(s, d->k->device, err);
}

static void move(const prxi_dit_block *b, unsigned char *base, size_t begin, size_t end)
{
    prxi_linear *const all[] = { b->self.q, b->self.k, b->self.v, b->self.out, b->cross.q, b->cross.k, b->cross.v, b->cross.out, b->ffn_in,
                                 b->ffn_out };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        prxi_linear_move(all[i], base, begin, end);
}

/* The block that most likely follows: the next one, and after the last the first that moves. */
static int after(const prxi_dit *d, int block)
{
    return moves(d->stream, block + 1) ? block + 1 : d->stream->first;
}

void prxi_dit_stream_enter(prxi_stream *s, const prxi_dit *d, int block)
{
    prxi_dit_stream *t = d->stream;
    if (!moves(t, block) || prxi_stream_error(s))
        return;
    int slot = slot_of(t, block);
    if (slot < 0)
        fetch(s, d, slot = 0, block);
    report(s, d->k->device, d->k->device->arrive(d->k->device, slot));
    move(&d->blocks[block], t->slot[slot], t->begin, t->end);
    t->in_use = slot;
    if (slot_of(t, after(d, block)) < 0 && !prxi_stream_error(s))
        fetch(s, d, 1 - slot, after(d, block));
}

void prxi_dit_stream_leave(prxi_stream *s, const prxi_dit *d, int block)
{
    prxi_dit_stream *t = d->stream;
    if (!moves(t, block) || t->in_use < 0)
        return;
    report(s, d->k->device, d->k->device->leave(d->k->device, t->in_use));
    t->in_use = -1;
}
