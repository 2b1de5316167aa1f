/* A transformer that is larger than its device: the weights of the last blocks wait on the host, and two places on the device take turns:
 * while a block runs, the next one's weights come. */
#include <pthread.h>

#include "dit_int.h"
#include "engine/core/device.h"

enum { SLOTS = 2 };

struct prxi_dit_stream {
    pthread_mutex_t lock;
    int first;                              /* blocks from here on move */
    size_t bytes;                           /* of a block */
    unsigned char *slot[SLOTS], **host;     /* host: [layers - first] */
    int holds[SLOTS];                       /* block that is there or on its way; -1: none */
    int in_use;                             /* slot that was entered; -1: none */
};

static size_t linear_bytes(const prxi_dit_config *cfg, prxi_dtype t)
{
    const int64_t dim = (int64_t)cfg->heads * cfg->head_dim;
    const size_t square = prxi_linear_place_bytes(dim, dim, t, t);
    const size_t up = prxi_linear_place_bytes(cfg->ffn_dim, dim, t, t), down = prxi_linear_place_bytes(dim, cfg->ffn_dim, t, t);
    return prxi_add(prxi_mul(8, square), prxi_add(up, down));
}

int prxi_dit_eight_bits(const prxi_dit *d, int block)
{
    return d->quant == PRXI_QUANT_FP8 && block > 0 && block + 1 < d->cfg.layers;
}

/* The library multiplies rows of whole 16 bytes. */
int prxi_dit_quant_fits(const prxi_dit_config *cfg)
{
    return cfg->layers > 2 && (int64_t)cfg->heads * cfg->head_dim % 16 == 0 && cfg->ffn_dim % 16 == 0;
}

/* What a block in 8 bits has less: of all its layers but two. */
static size_t saved_bytes(const prxi_dit_config *cfg, prxi_dtype t)
{
    const size_t dim = (size_t)cfg->heads * (size_t)cfg->head_dim, ffn = (size_t)cfg->ffn_dim, outputs = 7 * dim + ffn;
    const size_t values = prxi_add(prxi_mul(6 * dim, dim), prxi_mul(2 * dim, ffn)), less = prxi_mul(values, prxi_dtype_size(t) - 1);
    return less > outputs * sizeof(float) ? less - outputs * sizeof(float) : 0;
}

size_t prxi_dit_weight_bytes(const prxi_dit_config *cfg, prxi_dtype dtype, prxi_quant quant)
{
    const size_t all = prxi_mul((size_t)cfg->params, prxi_dtype_size(dtype));
    return quant == PRXI_QUANT_FP8 ? all - (size_t)(cfg->layers - 2) * saved_bytes(cfg, dtype) : all;
}

/* All blocks, or as many as stay beside the outside, vectors and two places; blocks in 8 bits all stay. */
prxi_dit_fit prxi_dit_fit_in(const prxi_dit_config *cfg, prxi_dtype dtype, prxi_quant quant, size_t bytes)
{
    const size_t block = linear_bytes(cfg, dtype), all = prxi_mul((size_t)cfg->params, prxi_dtype_size(dtype));
    const size_t blocks = prxi_mul((size_t)cfg->layers, block), outside = all > blocks ? all - blocks : 0;
    prxi_dit_fit f = { cfg->layers, prxi_add(outside, blocks), block };
    if (quant == PRXI_QUANT_FP8) {
        f.bytes -= all - prxi_dit_weight_bytes(cfg, dtype, quant);
        f.resident = f.bytes <= bytes ? cfg->layers : -1;
        return f;
    }
    if (f.bytes <= bytes)
        return f;
    const size_t fixed = prxi_add(outside, prxi_mul(SLOTS, block));
    f.resident = fixed > bytes ? -1 : (int)((bytes - fixed) / block);
    if (f.resident > cfg->layers - SLOTS)
        f.resident = cfg->layers > SLOTS ? cfg->layers - SLOTS : 0;
    f.bytes = prxi_add(fixed, prxi_mul((size_t)(f.resident > 0 ? f.resident : 0), block));
    return f;
}

int prxi_dit_stream_open(prxi_ctx *c, prxi_dit *d, int first, size_t block_bytes)
{
    prxi_device *device = d->k->device;
    const size_t n = (size_t)(d->cfg.layers - first);
    prxi_dit_stream *s = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, sizeof *s);
    if (!s)
        return prxi_fail_nomem(c, "streamed weights", sizeof *s);
    pthread_mutex_init(&s->lock, NULL);
    d->stream = s;
    s->first = first;
    s->bytes = block_bytes;
    s->in_use = -1;
    s->host = prxi_calloc(c->mem, PRXI_MEM_MISC, n, sizeof *s->host);
    int bad = !s->host;
    for (int i = 0; i < SLOTS && !bad; i++) {
        s->holds[i] = -1;
        bad = !(s->slot[i] = prxi_device_alloc(c, device, PRXI_MEM_WEIGHTS, block_bytes));
    }
    for (size_t i = 0; i < n && !bad; i++)
        bad = !(s->host[i] = device->alloc_host(device, block_bytes));
    return bad ? prxi_fail(c, PRX_ENOMEM, "memory: %.1f GiB of page-locked memory for %d blocks of the transformer, or two of them on the "
                           "device: %s", (double)block_bytes * (double)n / 0x1p30, (int)n, device->error(device)) : PRX_OK;
}

void prxi_dit_stream_close(prxi_ctx *c, prxi_dit *d)
{
    prxi_dit_stream *s = d->stream;
    d->stream = NULL;
    if (!s)
        return;
    for (int i = 0; s->host && i < d->cfg.layers - s->first; i++)
        if (s->host[i])
            d->k->device->release_host(d->k->device, s->host[i]);
    for (int i = 0; i < SLOTS; i++)
        prxi_device_free(c, d->k->device, s->slot[i]);
    pthread_mutex_destroy(&s->lock);
    prxi_free(c->mem, s->host);
    prxi_free(c->mem, s);
}

unsigned char *prxi_dit_stream_host(const prxi_dit *d, int block)
{
    return d->stream && block >= d->stream->first ? d->stream->host[block - d->stream->first] : NULL;
}

void prxi_dit_stream_begin(const prxi_dit *d)
{
    if (d->stream)
        pthread_mutex_lock(&d->stream->lock);
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
    const int err = d->k->device->fetch(d->k->device, slot, t->slot[slot], t->host[block - t->first], t->bytes);
    t->holds[slot] = err < 0 ? -1 : block;
    report(s, d->k->device, err);
}

static void move(const prxi_dit_block *b, unsigned char *base)
{
    prxi_linear *const all[] = { b->self.q, b->self.k, b->self.v, b->self.out, b->cross.q, b->cross.k, b->cross.v, b->cross.out, b->ffn_in,
                                 b->ffn_out };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        prxi_linear_move(all[i], base);
}

/* The block that most likely follows: the next one, and after the last the first that moves. */
static int after(const prxi_dit *d, int block)
{
    return block + 1 < d->cfg.layers ? block + 1 : d->stream->first;
}

void prxi_dit_stream_enter(prxi_stream *s, const prxi_dit *d, int block)
{
    prxi_dit_stream *t = d->stream;
    if (!t || block < t->first || prxi_stream_error(s))
        return;
    int slot = slot_of(t, block);
    if (slot < 0)
        fetch(s, d, slot = 0, block);
    report(s, d->k->device, d->k->device->arrive(d->k->device, slot));
    move(&d->blocks[block], t->slot[slot]);
    t->in_use = slot;
    if (slot_of(t, after(d, block)) < 0 && !prxi_stream_error(s))
        fetch(s, d, 1 - slot, after(d, block));
}

void prxi_dit_stream_leave(prxi_stream *s, const prxi_dit *d, int block)
{
    prxi_dit_stream *t = d->stream;
    if (!t || block < t->first || t->in_use < 0)
        return;
    report(s, d->k->device, d->k->device->leave(d->k->device, t->in_use));
    t->in_use = -1;
}
