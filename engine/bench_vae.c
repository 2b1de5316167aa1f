/* Convolutions of the VAE decoder against a matrix product. */
#include "bench_vae.h"

#include <stdio.h>

#include "engine/core/race.h"
#include "engine/ops/conv.h"
#include "engine/ops/gemm.h"
#include "engine/ops/onednn/gemm.h"

enum { MIN_TURNS = 5 };
static const double race_seconds = 0.7;

static void fill(void *p, prxi_dtype t, size_t n)
{
    uint32_t x = 1;     /* LCG of Numerical Recipes */
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        prxi_store(p, t, i, 0.05f * ((float)(x >> 8) / 8388608.0f - 1.0f));
    }
}

/* ---- the yardstick: one product of oneDNN, or of ours where oneDNN has none ---- */

enum { YM = 1024, YN = 1536, YK = 1536 };

typedef struct yardstick {
    prxi_stream *s;
    prxi_dnn_linear *dnn;
    prxi_linear *ours;
    void *x, *w, *y, *scratch;
} yardstick;

static void close_yardstick(prxi_ctx *c, yardstick *t)
{
    prxi_dnn_close(c, &t->dnn);
    prxi_linear_close(c, &t->ours);
    prxi_free(c->mem, t->x);
    prxi_free(c->mem, t->w);
    prxi_free(c->mem, t->y);
    prxi_free(c->mem, t->scratch);
}

static int open_yardstick(prxi_ctx *c, yardstick *t, prxi_stream *s, prxi_dtype type, uint32_t isa)
{
    const size_t size = prxi_dtype_size(type);
    *t = (yardstick) { .s = s };
    t->x = prxi_calloc(c->mem, PRXI_MEM_MISC, YM * YK, size);
    t->w = prxi_calloc(c->mem, PRXI_MEM_MISC, YN * YK, size);
    t->y = prxi_calloc(c->mem, PRXI_MEM_MISC, YM * YN, size);
    if (!t->x || !t->w || !t->y)
        return prxi_fail_nomem(c, "benchmark", YN * YK * size);
    fill(t->x, type, YM * YK);
    fill(t->w, type, YN * YK);
    const prxi_linear_desc d = { .weight = t->w, .weight_dtype = type, .n = YN, .k = YK, .compute = type, .out = type,
                                 .isa = isa };
    const prxi_dnn_desc plain = { &d, { YM }, s->n_threads };
    const int err = isa ? prxi_dnn_open(c, &t->dnn, &plain) : PRX_ENOTSUP;
    if (err == PRX_ENOTSUP)
        return prxi_linear_open(c, &t->ours, &d);
    if (err < 0)
        return err;
    t->scratch = prxi_alloc(c->mem, PRXI_MEM_MISC, prxi_dnn_scratch(t->dnn) + 64);
    return t->scratch ? PRX_OK : prxi_fail_nomem(c, "benchmark", prxi_dnn_scratch(t->dnn));
}

static void run_yardstick(void *cookie)
{
    yardstick *t = cookie;
    if (t->dnn)
        prxi_dnn_run(t->dnn, 0, t->x, t->y, t->scratch);
    else
        prxi_linear_run(t->s, t->ours, YM, t->x, YK, t->y, YN);
}

static int add_row(prxi_ctx *c, cJSON *rows, const char *op, const char *shape, prxi_dtype t, double seconds,
                   double gflops, double share)
{
    cJSON *row = cJSON_CreateObject();
    if (!row || !cJSON_AddStringToObject(row, "op", op) || !cJSON_AddStringToObject(row, "shape", shape) ||
        !cJSON_AddStringToObject(row, "dtype", prxi_dtype_name(t)) ||
        !cJSON_AddNumberToObject(row, "seconds_median", seconds) || !cJSON_AddNumberToObject(row, "gflops", gflops) ||
        !cJSON_AddNumberToObject(row, "share", share) ||
        !cJSON_AddItemToArray(rows, row)) {
        cJSON_Delete(row);
        return prxi_fail_nomem(c, "benchmark", 0);
    }
    return PRX_OK;
}

/* ---- one convolution ---- */

typedef struct conv_case {
    prxi_stream *s;
    prxi_conv_ops ops;
    prxi_conv *conv;
    unsigned char *in, *out, *scratch;
    prxi_conv_args args;
} conv_case;

static void close_conv(prxi_ctx *c, conv_case *t)
{
    prxi_conv_close(c->mem, &t->conv);
    prxi_free(c->mem, t->in);
    prxi_free(c->mem, t->out);
    prxi_free(c->mem, t->scratch);
}

/* channels at size x size, three frames in a row of padded rows; a frame's strip of rows as the decoder runs it. */
static int open_conv(prxi_ctx *c, conv_case *t, int channels, int size, prxi_dtype type)
{
    const size_t el = prxi_dtype_size(type), pixel = (size_t)channels * el, pitch = (size_t)(size + 1) * pixel;
    const size_t n = (size_t)channels * (size_t)channels * 27, in = 3 * (size_t)size * pitch + pixel;
    float *w = prxi_calloc(c->mem, PRXI_MEM_SCRATCH, n, sizeof *w);
    t->in = prxi_calloc(c->mem, PRXI_MEM_SCRATCH, in, 1);
    t->out = prxi_calloc(c->mem, PRXI_MEM_SCRATCH, (size_t)size * pitch, 1);
    int err = w && t->in && t->out ? PRX_OK : prxi_fail_nomem(c, "benchmark", in);
    if (err == PRX_OK) {
        fill(w, PRXI_F32, n);
        fill(t->in, type, in / el);
        err = prxi_conv_open(c, &t->conv, &t->ops, &(prxi_conv_desc) {
            .weight = w, .bias = w, .cout = channels, .cin = channels, .kt = 3, .kh = 3, .kw = 3, .dtype = type });
    }
    prxi_free(c->mem, w);
    const int strip = size >= 64 ? 2 : 128 / size;
    const size_t scratch = err == PRX_OK ? prxi_conv_scratch(&t->ops, t->conv, size, strip) : 0;
    t->scratch = scratch ? prxi_alloc(c->mem, PRXI_MEM_SCRATCH, scratch) : NULL;
    if (scratch && !t->scratch)
        err = prxi_fail_nomem(c, "benchmark", scratch);
    t->args = (prxi_conv_args) { .conv = t->conv, .height = size, .width = size, .end = strip, .dy = -1, .dx = -1,
                                 .out = { t->out, (int64_t)pitch, size, 0 }, .scale = 1, .out_pitch = channels,
                                 .out_dtype = type, .scratch = t->scratch,
                                 .scratch_bytes = scratch };
    for (int f = 0; f < 3; f++)
        t->args.src[f] = (prxi_plane) { t->in + pixel + (size_t)f * (size_t)size * pitch, (int64_t)pitch, size, 0 };
    return err;
}

/* A frame, strip by strip. */
static void run_conv(void *cookie)
{
    const conv_case *t = cookie;
    const int64_t strip = t->args.end;
    for (int64_t y = 0; y < t->args.height; y += strip) {
        prxi_conv_args a = t->args;
        a.begin = y;
        a.end = y + strip;
        prxi_conv_run(t->s, &t->ops, &a);
    }
}

static int bench_one(prxi_ctx *c, prxi_stream *s, uint32_t isa, int channels, int size, prxi_dtype type, cJSON *rows)
{
    conv_case t = { .s = s };
    yardstick y;
    prxi_conv_init_ref(&t.ops);
    prxi_conv_init_x86(&t.ops, isa);
    int err = open_yardstick(c, &y, s, type, isa);
    if (err == PRX_OK)
        err = open_conv(c, &t, channels, size, type);
    if (err == PRX_OK) {
        prxi_contender race_of[2] = { { .fn = run_conv, .cookie = &t }, { .fn = run_yardstick, .cookie = &y } };
        prxi_race(race_of, 2, MIN_TURNS, race_seconds);
        const double flops = 54.0 * channels * channels * size * size, rate = flops / race_of[0].best;
        const double gemm = 2.0 * YM * YN * YK / race_of[1].best;
        char shape[64];
        snprintf(shape, sizeof shape, "3x3x3 %d at %dx%d", channels, size, size);
        err = add_row(c, rows, "conv", shape, type, race_of[0].median, rate * 1e-9, rate / gemm);
    }
    close_conv(c, &t);
    close_yardstick(c, &y);
    return err;
}

int prxi_bench_conv(prxi_ctx *c, prxi_stream *s, uint32_t isa, cJSON *rows)
{
    static const int shapes[][2] = { { 96, 256 }, { 192, 128 }, { 384, 64 }, { 384, 32 }, { 32, 64 } };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int t = PRXI_F32; t < PRXI_COMPUTE_DTYPES; t++) {
            if (s->cancel && atomic_load(s->cancel))
                return PRX_ECANCELED;
            if (isa == 0 && i != 4)     /* the C reference would take minutes on the large ones */
                continue;
            const int err = bench_one(c, s, isa, shapes[i][0], shapes[i][1], (prxi_dtype)t, rows);
            if (err < 0)
                return err;
        }
    return prxi_stream_error(s);
}
