/* Convolution layers: packing, and the cut of a strip of rows into tiles. */
#include "conv.h"

#include <string.h>

#include "engine/core/device.h"
#include "onednn/gemm.h"

struct prxi_conv {
    prxi_dtype dtype;
    int kt, kh, kw, block;
    int64_t cout, blocks;
    int64_t pitch, shortcut_pitch;          /* elements; shortcut_pitch 0: none */
    size_t tap_bytes, block_bytes;          /* of a row of taps; of all taps of a block */
    size_t bytes;
    float *bias;                            /* [blocks * block] */
    unsigned char *weights;                 /* [blocks][kt * kh rows of taps, then the shortcut] */
    prxi_dnn_linear *dnn;                   /* set: a product of oneDNN; nothing is packed here */
    int64_t k;                              /* of that product, and of a device's */
    prxi_device *device;                    /* set: bias and weights ([cout][k]) lie there */
    size_t turn_bytes;                      /* then, not 0: kt copies of them, this far apart, and the bias in their type behind */
    int64_t tile[PRXI_DNN_TILES];           /* its row counts */
};

void prxi_conv_close(prxi_mem *m, prxi_conv **conv)
{
    if (!*conv)
        return;
    prxi_ctx c = { .mem = m };
    prxi_device_free(&c, (*conv)->device, (*conv)->bias);
    prxi_device_free(&c, (*conv)->device, (*conv)->weights);
    prxi_dnn_close(&c, &(*conv)->dnn);
    prxi_free(m, *conv);
    *conv = NULL;
}

size_t prxi_conv_bytes(const prxi_conv *conv)
{
    return conv->bytes;
}

static float bias_of(const prxi_conv_desc *d, int64_t o)
{
    return d->bias[o] + (d->shortcut_cin ? d->shortcut_bias[o] : 0.0f);
}

/* Element k of output j of a tap of a block. */
static void put_weight(const prxi_conv *l, unsigned char *tap, int64_t k, int64_t j, float v)
{
    if (l->dtype == PRXI_F32)
        prxi_store(tap, PRXI_F32, (size_t)(k * l->block + j), v);
    else
        prxi_store(tap, PRXI_BF16, (size_t)((k / 2 * l->block + j) * 2 + k % 2), v);
}

static void pack_output(prxi_conv *l, const prxi_conv_desc *d, int64_t o)
{
    unsigned char *block = l->weights + (size_t)(o / l->block) * l->block_bytes;
    const int64_t j = o % l->block, rows = (int64_t)d->kt * d->kh;
    const float *w = d->weight + o * d->cin * rows * d->kw;
    for (int64_t i = 0; i < d->cin; i++)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t x = 0; x < d->kw; x++)
                put_weight(l, block + (size_t)r * l->tap_bytes, x * l->pitch + i, j, *w++);
    for (int64_t i = 0; i < d->shortcut_cin; i++)
        put_weight(l, block + (size_t)rows * l->tap_bytes, i, j, d->shortcut[o * d->shortcut_cin + i]);
    l->bias[o] = bias_of(d, o);
}

/* Rows of a product: (tap row, column, channel), then the shortcut: the order in which a tile gathers a pixel. turn: pictures by which
 * the taps in time are turned. */
static void matrix_row(const prxi_conv *l, const prxi_conv_desc *d, prxi_dtype t, int64_t turn, int64_t o, void *row)
{
    const int64_t rows = (int64_t)d->kt * d->kh;
    const float *w = d->weight + o * d->cin * rows * d->kw;
    for (int64_t i = 0; i < d->cin; i++)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t x = 0; x < d->kw; x++)
                prxi_store(row, t, (size_t)(((r + turn * d->kh) % rows * d->kw + x) * l->pitch + i), *w++);
    for (int64_t i = 0; i < d->shortcut_cin; i++)
        prxi_store(row, t, (size_t)(rows * d->kw * l->pitch + i), d->shortcut[o * d->shortcut_cin + i]);
}

/* PRX_OK with l->dnn set, or left NULL where oneDNN has no such product or none with AMX. */
static int open_product(prxi_ctx *c, prxi_conv *l, const prxi_conv_desc *d, int matmul)
{
    enum { TILE_BYTES = 700 << 10 };        /* of gathered pixels: half of a 2 MiB L2 is left to the weights */
    prxi_bf16 *w = prxi_calloc(c->mem, PRXI_MEM_SCRATCH, (size_t)d->cout, (size_t)l->k * sizeof *w);
    if (!w)
        return prxi_fail_nomem(c, "convolution weights", prxi_mul((size_t)d->cout, (size_t)l->k * sizeof *w));
    for (int64_t o = 0; o < d->cout; o++) {
        matrix_row(l, d, PRXI_BF16, 0, o, w + o * l->k);
        l->bias[o] = bias_of(d, o);
    }
    l->tile[0] = 64 * l->k * 2 <= TILE_BYTES ? 64 : 32;
    l->tile[1] = l->tile[0] / 2;
    const prxi_linear_desc linear = { .weight = w, .weight_dtype = PRXI_BF16, .bias = l->bias, .bias_dtype = PRXI_F32,
                                      .n = d->cout, .k = l->k, .compute = PRXI_BF16, .out = PRXI_F32 };
    prxi_dnn_desc desc = { .linear = &linear, .threads = 1 };
    memcpy(desc.tiles, l->tile, sizeof desc.tiles);
    const int err = prxi_dnn_open(c, &l->dnn, &desc);
    prxi_free(c->mem, w);
    if (err == PRX_OK && matmul == 1 && !strstr(prxi_dnn_name(l->dnn), "amx"))
        prxi_dnn_close(c, &l->dnn);
    if (l->dnn)
        l->bytes = prxi_dnn_bytes(l->dnn);
    return err == PRX_ENOTSUP ? PRX_OK : err;
}

static int pack(prxi_ctx *c, prxi_conv *l, const prxi_conv_desc *d)
{
    l->weights = prxi_calloc(c->mem, PRXI_MEM_WEIGHTS, l->bytes, 1);
    if (!l->weights)
        return prxi_fail_nomem(c, "convolution weights", l->bytes);
    for (int64_t o = 0; o < d->cout; o++)
        pack_output(l, d, o);
    return PRX_OK;
}

/* Libraries read whole pixels in 16 bytes at a time, and have no shortcut. */
static int for_library(const prxi_conv *l, const prxi_conv_desc *d)
{
    return d->device->conv_turns && l->dtype == PRXI_BF16 && !l->shortcut_pitch && l->pitch % 8 == 0 && l->cout % 8 == 0;
}

/* Rows of a product in the type of the layer, in every turn that is wanted, and the bias. */
static int open_device(prxi_ctx *c, prxi_conv *l, const prxi_conv_desc *d)
{
    const size_t el = prxi_dtype_size(l->dtype), one = prxi_mul((size_t)d->cout, (size_t)l->k * el), more = (size_t)d->cout * el;
    const int library = for_library(l, d), turns = library ? d->kt : 1;
    const size_t bytes = prxi_add(prxi_mul(one, (size_t)turns), library ? more : 0);
    unsigned char *w = prxi_calloc(c->mem, PRXI_MEM_SCRATCH, bytes, 1);
    float *bias = prxi_alloc(c->mem, PRXI_MEM_SCRATCH, (size_t)d->cout * sizeof *bias);
    int err = w && bias ? PRX_OK : prxi_fail_nomem(c, "convolution weights", bytes);
    l->device = d->device;
    l->bytes = bytes;
    l->turn_bytes = library ? one : 0;
    for (int64_t o = 0; err == PRX_OK && o < d->cout; o++) {
        for (int64_t turn = 0; turn < turns; turn++)
            matrix_row(l, d, l->dtype, turn, o, w + (size_t)turn * one + (size_t)(o * l->k) * el);
        bias[o] = bias_of(d, o);
        if (library)
            prxi_store(w + (size_t)turns * one, l->dtype, (size_t)o, bias[o]);
    }
    if (err == PRX_OK && !(l->weights = prxi_device_alloc(c, d->device, PRXI_MEM_WEIGHTS, bytes)))
        err = prxi_fail_nomem(c, "convolution weights on the device", bytes);
    if (err == PRX_OK)
        err = prxi_device_put(c, d->device, l->weights, w, bytes);
    prxi_free(c->mem, w);
    if (err < 0)
        prxi_free(c->mem, bias);
    else
        l->bias = prxi_device_floats(c, d->device, bias, (size_t)d->cout, &err);
    return err;
}

static int open_host(prxi_ctx *c, prxi_conv *l, const prxi_conv_ops *ops, const prxi_conv_desc *d)
{
    l->bias = prxi_calloc(c->mem, PRXI_MEM_WEIGHTS, (size_t)(l->blocks * l->block), sizeof(float));
    int err = l->bias ? PRX_OK : prxi_fail_nomem(c, "convolution bias", (size_t)(l->blocks * l->block) * sizeof(float));
    if (err == PRX_OK && ops->matmul && d->dtype == PRXI_BF16)
        err = open_product(c, l, d, ops->matmul);
    return err == PRX_OK && !l->dnn ? pack(c, l, d) : err;
}

int prxi_conv_open(prxi_ctx *c, prxi_conv **out, const prxi_conv_ops *ops, const prxi_conv_desc *d)
{
    const size_t el = prxi_dtype_size(d->dtype);
    *out = NULL;
    prxi_conv *l = prxi_calloc(c->mem, PRXI_MEM_WEIGHTS, 1, sizeof *l);
    if (!l)
        return prxi_fail_nomem(c, "convolution", sizeof *l);
    l->dtype = d->dtype;
    l->kt = d->kt, l->kh = d->kh, l->kw = d->kw, l->block = d->device ? 1 : ops->block;
    l->cout = d->cout;
    l->blocks = (d->cout + l->block - 1) / l->block;
    l->pitch = prxi_conv_pitch(d->cin);
    l->shortcut_pitch = prxi_conv_pitch(d->shortcut_cin);
    l->tap_bytes = prxi_mul((size_t)(l->pitch * l->kw), (size_t)l->block * el);
    l->block_bytes = prxi_add(prxi_mul(l->tap_bytes, (size_t)l->kt * (size_t)l->kh),
                              (size_t)l->shortcut_pitch * (size_t)l->block * el);
    l->bytes = prxi_mul(l->block_bytes, (size_t)l->blocks);
    l->k = (int64_t)l->kt * l->kh * l->kw * l->pitch + l->shortcut_pitch;
    const int err = d->device ? open_device(c, l, d) : open_host(c, l, ops, d);
    if (err < 0)
        prxi_conv_close(c->mem, &l);
    *out = l;
    return err;
}

/* ---- run ---- */

/* Pixels of a piece of a row: enough for several register tiles, few enough to keep many threads busy. */
enum { PIECE = 128 };

typedef struct run {
    const prxi_conv_ops *ops;
    const prxi_conv_args *a;
    int wide;                       /* sources were widened into a->scratch */
    int64_t begin, rows, pieces;    /* of this chunk */
} run;

static size_t wide_row(const prxi_conv *l, int64_t width)
{
    return (size_t)((width + l->kw - 1) * l->pitch) * sizeof(float);
}

static size_t wide_shortcut(const prxi_conv *l, int64_t width)
{
    return (size_t)(width * l->shortcut_pitch) * sizeof(float);
}

size_t prxi_conv_scratch(const prxi_conv_ops *ops, const prxi_conv *conv, int64_t width, int64_t rows)
{
    if (conv->device || !ops->widen || conv->dtype != PRXI_BF16 || conv->dnn)
        return 0;
    return (size_t)conv->kt * (size_t)(rows + conv->kh - 1) * wide_row(conv, width) +
           (size_t)rows * wide_shortcut(conv, width);
}

/* Source row `r` (0: the first that the chunk reads) of picture t; then the shortcut's rows. */
static float *wide_at(const run *job, int64_t t, int64_t r)
{
    const prxi_conv *l = job->a->conv;
    const int64_t each = job->rows + l->kh - 1, n = t < l->kt ? t * each + r : l->kt * each;
    const size_t at = (size_t)n * wide_row(l, job->a->width) +
                      (t < l->kt ? 0 : (size_t)r * wide_shortcut(l, job->a->width));
    return (float *)(void *)((unsigned char *)job->a->scratch + at);
}

static void widen_task(void *cookie, int64_t i, int thread)
{
    (void)thread;
    const run *job = cookie;
    const prxi_conv_args *a = job->a;
    const prxi_conv *l = a->conv;
    const int64_t each = job->rows + l->kh - 1, t = i < l->kt * each ? i / each : l->kt, r = i - t * each;
    if (t == l->kt) {
        job->ops->widen(a->width * l->shortcut_pitch,
                        (const prxi_bf16 *)(const void *)prxi_plane_row(&a->shortcut, job->begin + r), wide_at(job, t, r));
        return;
    }
    const int64_t y = job->begin + a->dy + r;
    if (a->src[t].base && y >= 0 && y < a->height)
        job->ops->widen((a->width + l->kw - 1) * l->pitch,
                        (const prxi_bf16 *)(const void *)prxi_plane_row(&a->src[t], y) + a->dx * l->pitch,
                        wide_at(job, t, r));
}

static int list_taps(const run *job, int64_t block, int64_t y, int64_t x, prxi_conv_tap *taps)
{
    const prxi_conv_args *a = job->a;
    const prxi_conv *l = a->conv;
    const int64_t el = (int64_t)prxi_dtype_size(job->wide ? PRXI_F32 : l->dtype);
    const unsigned char *weights = l->weights + (size_t)block * l->block_bytes;
    int n = 0;
    for (int t = 0; t < l->kt; t++)
        for (int r = 0; r < l->kh; r++, weights += l->tap_bytes) {
            const int64_t sy = y + a->dy + r;
            if (!a->src[t].base || sy < 0 || sy >= a->height)
                continue;
            const unsigned char *row = job->wide ? (unsigned char *)wide_at(job, t, y - job->begin + r)
                                                 : prxi_plane_row(&a->src[t], sy) + a->dx * l->pitch * el;
            taps[n++] = (prxi_conv_tap) { row + x * l->pitch * el, l->pitch * el, l->kw * l->pitch, weights };
        }
    if (l->shortcut_pitch) {
        const unsigned char *row = job->wide ? (unsigned char *)wide_at(job, l->kt, y - job->begin)
                                             : prxi_plane_row(&a->shortcut, y);
        taps[n++] = (prxi_conv_tap) { row + x * l->shortcut_pitch * el, l->shortcut_pitch * el, l->shortcut_pitch,
                                      weights };
    }
    return n;
}

/* Blocks outermost: tasks that follow each other share weights. */
static void run_task(void *cookie, int64_t i, int thread)
{
    (void)thread;
    const run *job = cookie;
    const prxi_conv_args *a = job->a;
    const prxi_conv *l = a->conv;
    const int64_t block = i / (job->rows * job->pieces), y = job->begin + i / job->pieces % job->rows;
    const int64_t piece = i % job->pieces;
    const int64_t x = a->width * piece / job->pieces, end = a->width * (piece + 1) / job->pieces;
    const int64_t left = prxi_conv_pitch(l->cout) - block * l->block, out_el = (int64_t)prxi_dtype_size(a->out_dtype);
    prxi_conv_tap taps[PRXI_CONV_MAX_TAPS];
    const prxi_conv_tile t = {
        .taps = taps, .n_taps = list_taps(job, block, y, x, taps), .cols = left < l->block ? (int)left : l->block,
        .width = end - x, .bias = l->bias + block * l->block,
        .out = prxi_plane_row(&a->out, y * a->scale + a->oy) +
               ((x * a->scale + a->ox) * a->out_pitch + block * l->block) * out_el,
        .out_step = a->scale * a->out_pitch * out_el, .out_dtype = a->out_dtype, .add = a->add };
    job->ops->tile[l->dtype](&t);
}

/* As many rows at a time as the widened sources find room for. */
static int64_t chunk_rows(const prxi_conv_ops *ops, const prxi_conv_args *a)
{
    int64_t rows = a->end - a->begin;
    while (rows > 1 && prxi_conv_scratch(ops, a->conv, a->width, rows) > a->scratch_bytes)
        rows--;
    return rows;
}

/* ---- run as a product of oneDNN ---- */

typedef struct product_run {
    const prxi_conv_ops *ops;
    const prxi_conv_args *a;
    prxi_stream *s;
    int64_t pieces;
    unsigned char *scratch;
    size_t each, out_at, own_at;    /* of a thread: gathered pixels, product, oneDNN's scratch */
} product_run;

/* pixels rows of l->k values from (y, x) on; rows past them, up to the tile, are zero. */
static void gather(const product_run *job, int64_t y, int64_t x, int64_t pixels, int64_t tile, prxi_bf16 *out)
{
    const prxi_conv_args *a = job->a;
    const prxi_conv *l = a->conv;
    const int64_t n = l->kw * l->pitch;
    for (int t = 0; t < l->kt; t++)
        for (int r = 0; r < l->kh; r++) {
            const int64_t sy = y + a->dy + r;
            prxi_bf16 *to = out + (t * l->kh + r) * n;
            const int there = a->src[t].base && sy >= 0 && sy < a->height;
            const prxi_bf16 *from = there ? (const prxi_bf16 *)(const void *)prxi_plane_row(&a->src[t], sy) +
                                                (x + a->dx) * l->pitch : NULL;
            for (int64_t p = 0; p < pixels; p++, to += l->k)
                if (there)
                    memcpy(to, from + p * l->pitch, (size_t)n * sizeof *to);
                else
                    memset(to, 0, (size_t)n * sizeof *to);
        }
    for (int64_t p = 0; p < pixels && l->shortcut_pitch; p++)
        memcpy(out + p * l->k + l->kt * l->kh * n,
               prxi_plane_row(&a->shortcut, y) + (size_t)((x + p) * l->shortcut_pitch) * sizeof *out,
               (size_t)l->shortcut_pitch * sizeof *out);
    memset(out + pixels * l->k, 0, (size_t)((tile - pixels) * l->k) * sizeof *out);
}

static void product_task(void *cookie, int64_t i, int thread)
{
    const product_run *job = cookie;
    const prxi_conv_args *a = job->a;
    const prxi_conv *l = a->conv;
    const int64_t y = a->begin + i / job->pieces, x = i % job->pieces * l->tile[0], el = (int64_t)prxi_dtype_size(a->out_dtype);
    const int64_t pixels = a->width - x < l->tile[0] ? a->width - x : l->tile[0];
    const int tile = pixels <= l->tile[1];
    unsigned char *own = job->scratch + (size_t)thread * job->each;
    float *sums = (float *)(void *)(own + job->out_at);
    gather(job, y, x, pixels, l->tile[tile], (prxi_bf16 *)(void *)own);
    const int err = prxi_dnn_run(l->dnn, tile, own, sums, own + job->own_at);
    if (err < 0) {
        prxi_stream_fail(job->s, err, "convolution", "oneDNN failed");
        return;
    }
    unsigned char *out = prxi_plane_row(&a->out, y * a->scale + a->oy) + (x * a->scale + a->ox) * a->out_pitch * el;
    for (int64_t p = 0; p < pixels; p++, out += a->scale * a->out_pitch * el) {
        job->ops->merge(l->cout, sums + p * l->cout, a->add, a->out_dtype, out);
        if (l->cout % 2)
            prxi_store(out, a->out_dtype, (size_t)l->cout, 0.0f);
    }
}

static void run_product(prxi_stream *s, const prxi_conv_ops *ops, const prxi_conv_args *a)
{
    const prxi_conv *l = a->conv;
    product_run job = { .ops = ops, .a = a, .s = s, .pieces = (a->width + l->tile[0] - 1) / l->tile[0] };
    job.out_at = prxi_carve_size((size_t)(l->tile[0] * l->k) * sizeof(prxi_bf16));
    job.own_at = job.out_at + prxi_carve_size((size_t)(l->tile[0] * l->cout) * sizeof(float));
    job.each = job.own_at + prxi_carve_size(prxi_dnn_scratch(l->dnn) + 64);
    job.scratch = prxi_alloc(s->ctx->mem, PRXI_MEM_SCRATCH, prxi_mul(job.each, (size_t)s->n_threads));
    if (job.scratch)
        prxi_parallel_for(s, (a->end - a->begin) * job.pieces, product_task, &job);
    else
        prxi_stream_fail(s, PRX_ENOMEM, "convolution", "no memory for a tile");
    prxi_free(s->ctx->mem, job.scratch);
}

/* ---- run on a device ---- */

static prxi_device_plane plane_of(const prxi_plane *p)
{
    return (prxi_device_plane) { p->base, p->pitch, p->rows, p->first };
}

static void on_device(prxi_stream *s, const prxi_conv_args *a, int (*call)(prxi_device *d, const prxi_device_conv *a))
{
    const prxi_conv *l = a->conv;
    if (prxi_stream_error(s) || a->end <= a->begin)
        return;
    prxi_device_conv d = { l->dtype, a->out_dtype, l->kt, l->kh, l->kw, a->dy, a->dx, a->scale, a->oy, a->ox, a->add, l->cout, l->pitch,
                           l->shortcut_pitch, a->out_pitch, a->height, a->width, a->begin, a->end, l->weights, l->bias,
                           { { NULL, 0, 0, 0 } }, plane_of(&a->shortcut), plane_of(&a->out), a->by, l->turn_bytes, NULL };
    if (l->turn_bytes)
        d.round_bias = l->weights + (size_t)l->kt * l->turn_bytes;
    for (int t = 0; t < l->kt; t++)
        d.src[t] = plane_of(&a->src[t]);
    const int err = call(l->device, &d);
    if (err < 0)
        prxi_stream_fail(s, err, l->device->name, l->device->error(l->device));
}

void prxi_conv_prepare(prxi_stream *s, const prxi_conv_args *a)
{
    if (a->conv->device)
        on_device(s, a, a->conv->device->conv_prepare);
}

void prxi_conv_run(prxi_stream *s, const prxi_conv_ops *ops, const prxi_conv_args *a)
{
    const prxi_conv *l = a->conv;
    if (l->device) {
        on_device(s, a, l->device->conv);
        return;
    }
    if (l->dnn) {
        if (a->end > a->begin)
            run_product(s, ops, a);
        return;
    }
    const int64_t chunk = chunk_rows(ops, a);
    run job = { ops, a, prxi_conv_scratch(ops, l, a->width, 1) > 0, 0, 0, (a->width + PIECE - 1) / PIECE };
    if (prxi_conv_scratch(ops, l, a->width, 1) > a->scratch_bytes) {
        prxi_stream_fail(s, PRX_EINVAL, "convolution", "scratch too small");
        return;
    }
    for (job.begin = a->begin; job.begin < a->end; job.begin += chunk) {
        job.rows = a->end - job.begin < chunk ? a->end - job.begin : chunk;
        if (job.wide)
            prxi_parallel_for(s, l->kt * (job.rows + l->kh - 1) + (l->shortcut_pitch ? job.rows : 0), widen_task, &job);
        prxi_parallel_for(s, l->blocks * job.rows * job.pieces, run_task, &job);
    }
}
