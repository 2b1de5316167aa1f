/* Convolution layers: packing, and the cut of a strip of rows into tiles. */
#include "conv.h"

#include <string.h>

struct prxi_conv {
    prxi_dtype dtype;
    int kt, kh, kw, block;
    int64_t cout, blocks;
    int64_t pitch, shortcut_pitch;          /* elements; shortcut_pitch 0: none */
    size_t tap_bytes, block_bytes;          /* of a row of taps; of all taps of a block */
    size_t bytes;
    float *bias;                            /* [blocks * block] */
    unsigned char *weights;                 /* [blocks][kt * kh rows of taps, then the shortcut] */
};

void prxi_conv_close(prxi_mem *m, prxi_conv **conv)
{
    if (!*conv)
        return;
    prxi_free(m, (*conv)->bias);
    prxi_free(m, (*conv)->weights);
    prxi_free(m, *conv);
    *conv = NULL;
}

size_t prxi_conv_bytes(const prxi_conv *conv)
{
    return conv->bytes;
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
    l->bias[o] = d->bias[o] + (d->shortcut_cin ? d->shortcut_bias[o] : 0.0f);
}

int prxi_conv_open(prxi_ctx *c, prxi_conv **out, const prxi_conv_ops *ops, const prxi_conv_desc *d)
{
    const size_t el = prxi_dtype_size(d->dtype);
    *out = NULL;
    prxi_conv *l = prxi_calloc(c->mem, PRXI_MEM_WEIGHTS, 1, sizeof *l);
    if (!l)
        return prxi_fail_nomem(c, "convolution", sizeof *l);
    l->dtype = d->dtype;
    l->kt = d->kt, l->kh = d->kh, l->kw = d->kw, l->block = ops->block;
    l->cout = d->cout;
    l->blocks = (d->cout + l->block - 1) / l->block;
    l->pitch = prxi_conv_pitch(d->cin);
    l->shortcut_pitch = prxi_conv_pitch(d->shortcut_cin);
    l->tap_bytes = prxi_mul((size_t)(l->pitch * l->kw), (size_t)l->block * el);
    l->block_bytes = prxi_add(prxi_mul(l->tap_bytes, (size_t)l->kt * (size_t)l->kh),
                              (size_t)l->shortcut_pitch * (size_t)l->block * el);
    l->bytes = prxi_mul(l->block_bytes, (size_t)l->blocks);
    l->weights = prxi_calloc(c->mem, PRXI_MEM_WEIGHTS, l->bytes, 1);
    l->bias = prxi_calloc(c->mem, PRXI_MEM_WEIGHTS, (size_t)(l->blocks * l->block), sizeof(float));
    if (!l->weights || !l->bias) {
        const size_t refused = l->bytes;
        prxi_conv_close(c->mem, &l);
        return prxi_fail_nomem(c, "convolution weights", refused);
    }
    for (int64_t o = 0; o < d->cout; o++)
        pack_output(l, d, o);
    *out = l;
    return PRX_OK;
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
    if (!ops->widen || conv->dtype != PRXI_BF16)
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

void prxi_conv_run(prxi_stream *s, const prxi_conv_ops *ops, const prxi_conv_args *a)
{
    const prxi_conv *l = a->conv;
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
