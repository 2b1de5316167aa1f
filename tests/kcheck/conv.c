/* Kernel check of the convolutions and the channel norm: layers of awkward sizes against sums in double, on every rung and with
 * the bf16 dot product where the processor has it; rings, missing pictures, shortcuts, doubled output grids. */
#include "kcheck.h"

#include "engine/ops/conv.h"
#include "engine/ops/x86/conv_x86.h"

typedef struct shape {
    int64_t cout, cin, shortcut, h, w;
    int kt, kh, kw, dy, dx, scale, missing;     /* missing: pictures that are all zero, from the oldest on */
} shape;

static const shape shapes[] = {
    { 1, 1, 0, 1, 1, 1, 1, 1, 0, 0, 1, 0 },     { 3, 5, 0, 4, 7, 3, 3, 3, -1, -1, 1, 0 },
    { 33, 8, 0, 3, 29, 3, 3, 3, -1, -1, 1, 1 }, { 16, 6, 9, 2, 15, 3, 3, 3, -1, -1, 1, 2 },
    { 64, 31, 4, 2, 14, 3, 3, 3, -1, -1, 1, 0 }, { 48, 10, 0, 5, 13, 3, 1, 1, 0, 0, 1, 1 },
    { 17, 12, 0, 3, 11, 1, 2, 2, -1, -1, 2, 0 }, { 32, 4, 0, 3, 130, 1, 2, 2, 0, 0, 2, 0 },
    { 9, 40, 0, 2, 300, 1, 3, 3, -1, -1, 1, 0 }, { 40, 16, 8, 6, 30, 3, 3, 3, -1, -1, 1, 0 },
    { 96, 8, 24, 5, 31, 3, 3, 3, -1, -1, 1, 1 }, { 130, 24, 0, 3, 50, 1, 2, 2, 0, -1, 2, 0 },
};

typedef struct layer {
    const shape *p;
    prxi_dtype dtype, out_dtype;
    int add;
    float *w, *bias, *sw, *sbias;               /* as the layer rounds them */
    kc_buf ring[3], extra;
    int64_t rows, first, pitch;                 /* of a ring: more rows than the picture, which begins in the middle */
} layer;

static float *noise(kc *k, size_t n, prxi_dtype t)
{
    float *p = malloc((n + 1) * sizeof *p);
    for (size_t i = 0; i < n; i++) {
        p[i] = kc_uniform(k);
        if (t == PRXI_BF16)
            p[i] = prxi_bf16_to_f32(prxi_f32_to_bf16(p[i]));
    }
    return p;
}

/* Pads are zero, channels between cin and the pitch too. */
static kc_buf picture(kc *k, const layer *l, int64_t channels, int64_t rows)
{
    const int64_t pitch = prxi_conv_pitch(channels);
    kc_buf b = kc_alloc((size_t)((rows * (l->p->w + 1) + 1) * pitch) * prxi_dtype_size(l->dtype));
    memset(b.p, 0, b.bytes);
    for (int64_t y = 0; y < rows; y++)
        for (int64_t x = 0; x < l->p->w; x++)
            for (int64_t c = 0; c < channels; c++)
                prxi_store(b.p, l->dtype, (size_t)((y * (l->p->w + 1) + x + 1) * pitch + c), kc_uniform(k));
    return b;
}

static prxi_plane plane(const layer *l, const kc_buf *b, int64_t channels)
{
    const int64_t px = prxi_conv_pitch(channels) * (int64_t)prxi_dtype_size(l->dtype);
    return (prxi_plane) { (unsigned char *)b->p + px, (l->p->w + 1) * px, l->rows, l->first };
}

static double pixel(const layer *l, const kc_buf *b, int64_t channels, int64_t y, int64_t x, int64_t c)
{
    if (y < 0 || y >= l->p->h || x < 0 || x >= l->p->w)
        return 0;
    const int64_t row = (l->first + y) % l->rows;
    return (double)prxi_load(b->p, l->dtype, (size_t)((row * (l->p->w + 1) + x + 1) * prxi_conv_pitch(channels) + c));
}

/* Value and the sum of magnitudes, which bounds its rounding errors. */
static double oracle(const layer *l, int64_t y, int64_t x, int64_t o, double *magnitude)
{
    const shape *p = l->p;
    double sum = (double)l->bias[o] + (p->shortcut ? (double)l->sbias[o] : 0);
    *magnitude = fabs(sum);
    for (int t = p->missing; t < p->kt; t++)
        for (int64_t i = 0; i < p->cin; i++)
            for (int a = 0; a < p->kh; a++)
                for (int b = 0; b < p->kw; b++) {
                    const size_t at = (size_t)((((o * p->cin + i) * p->kt + t) * p->kh + a) * p->kw + b);
                    const double v = (double)l->w[at] *
                                     pixel(l, &l->ring[t], p->cin, y + p->dy + a, x + p->dx + b, i);
                    sum += v;
                    *magnitude += fabs(v);
                }
    for (int64_t i = 0; i < p->shortcut; i++) {
        const double v = (double)l->sw[o * p->shortcut + i] * pixel(l, &l->extra, p->shortcut, y, x, i);
        sum += v;
        *magnitude += fabs(v);
    }
    return sum;
}

static void check_out(kc *k, const layer *l, const kc_buf *got, const kc_buf *before, int64_t out_pitch)
{
    const shape *p = l->p;
    const double terms = (double)(p->kt * p->kh * p->kw * p->cin + p->shortcut + 2);
    kc_worst w = { 0 };
    int stray = 0;
    for (int64_t y = 0; y < p->h * p->scale; y++)
        for (int64_t x = 0; x < p->w * p->scale; x++)
            for (int64_t o = 0; o < out_pitch; o++) {
                const size_t at = (size_t)((y * p->w * p->scale + x) * out_pitch + o);
                const float v = prxi_load(got->p, l->out_dtype, at), was = prxi_load(before->p, l->out_dtype, at);
                double magnitude = 0, want = (double)was;
                if (y % p->scale == p->scale - 1 && x % p->scale == p->scale - 1 && o < p->cout) {
                    want = oracle(l, y / p->scale, x / p->scale, o, &magnitude) + (l->add ? (double)was : 0);
                    const double store = l->out_dtype == PRXI_BF16 ? KC_HALF_BF16 * fabs(want) : 0;
                    kc_compare(&w, at, (double)v, want, terms * KC_EPS * (magnitude + fabs((double)was)) + store);
                } else if (o < p->cout) {
                    stray += memcmp(&v, &was, sizeof v) != 0;
                }
            }
    kc_close(k, &w, "sum");
    kc_result(k, stray == 0, "%d values of other pixels changed", stray);
    kc_guards(k, got, "out");
}

/* Another order of warps and copies each time. */
static void seed_device(void)
{
#ifdef PRXI_KCHECK_CUDA
    static uint64_t calls;
    cuda_seed(calls++);
#endif
}

static struct prxi_device *device(void)
{
#ifdef PRXI_KCHECK_CUDA
    return cuda_device();
#else
    return NULL;
#endif
}

static void run_layer(kc *k, const prxi_conv_ops *ops, prxi_stream *s, const layer *l, const prxi_conv *conv, kc_buf *out,
                      int64_t out_pitch)
{
    const shape *p = l->p;
    const int64_t px = out_pitch * (int64_t)prxi_dtype_size(l->out_dtype);
    kc_buf scratch = kc_alloc(prxi_conv_scratch(ops, conv, p->w, 2) + 4);
    prxi_conv_args a = { .conv = conv, .shortcut = plane(l, &l->extra, p->shortcut), .height = p->h, .width = p->w,
                         .dy = p->dy, .dx = p->dx, .scale = p->scale, .oy = p->scale - 1, .ox = p->scale - 1,
                         .out = { out->p, p->w * p->scale * px, p->h * p->scale, 0 }, .out_pitch = out_pitch,
                         .out_dtype = l->out_dtype, .add = l->add, .scratch = scratch.p,
                         .scratch_bytes = scratch.bytes - 4 };
    for (int t = p->missing; t < p->kt; t++)
        a.src[t] = plane(l, &l->ring[t], p->cin);
    a.end = p->h / 2;           /* in two calls: the cut must not show */
    seed_device();
    prxi_conv_run(s, ops, &a);
    a.begin = a.end;
    a.end = p->h;
    prxi_conv_run(s, ops, &a);
    kc_guards(k, &scratch, "scratch");
    kc_free(&scratch);
}

static void check_layer(kc *k, const prxi_conv_ops *ops, const shape *p, prxi_dtype dtype, prxi_dtype out_dtype, int add)
{
    layer l = { .p = p, .dtype = dtype, .out_dtype = out_dtype, .add = add, .rows = p->h + 2, .first = 1 };
    const size_t taps = (size_t)(p->kt * p->kh * p->kw * p->cin);
    l.w = noise(k, (size_t)p->cout * taps, dtype);
    l.bias = noise(k, (size_t)p->cout, PRXI_F32);
    l.sw = noise(k, (size_t)(p->cout * p->shortcut), dtype);
    l.sbias = noise(k, (size_t)p->cout, PRXI_F32);
    for (int t = 0; t < p->kt; t++)
        l.ring[t] = picture(k, &l, p->cin, l.rows);
    l.extra = picture(k, &l, p->shortcut, l.rows);
    const prxi_conv_desc d = { .weight = l.w, .bias = l.bias, .cout = p->cout, .cin = p->cin, .kt = p->kt, .kh = p->kh,
                               .kw = p->kw, .shortcut = l.sw, .shortcut_bias = l.sbias, .shortcut_cin = p->shortcut,
                               .dtype = dtype, .device = device() };
    prxi_conv *conv = NULL;
    const int64_t out_pitch = prxi_conv_pitch(p->cout);
    const size_t n = (size_t)(p->h * p->w * p->scale * p->scale * out_pitch);
    kc_buf before = kc_alloc(n * prxi_dtype_size(out_dtype)), out[2];
    kc_fill(k, before.p, out_dtype, n, 1, KC_UNIFORM);
    if (prxi_conv_open(&k->ctx, &conv, ops, &d) == PRX_OK) {
        for (int i = 0; i < 2; i++) {
            out[i] = kc_alloc(before.bytes);
            memcpy(out[i].p, before.p, before.bytes);
            run_layer(k, ops, i ? &k->three : &k->one, &l, conv, &out[i], out_pitch);
        }
        check_out(k, &l, &out[0], &before, out_pitch);
        kc_same_bytes(k, out[0].p, out[1].p, before.bytes, "three threads");
        kc_free(&out[0]);
        kc_free(&out[1]);
    } else {
        kc_result(k, 0, "%s", k->ctx.error.text);
    }
    prxi_conv_close(&k->mem, &conv);
    for (int t = 0; t < p->kt; t++)
        kc_free(&l.ring[t]);
    kc_free(&l.extra);
    kc_free(&before);
    free(l.w), free(l.bias), free(l.sw), free(l.sbias);
}

/* Sum of squares in any order, a root, an exponential: dim / 2 + 16 roundings. */
static void check_norm(kc *k, const prxi_conv_ops *ops, int64_t dim, prxi_dtype t, int silu, kc_input kind)
{
    const int64_t rows = 5, ld = dim + 3;
    kc_buf x = kc_alloc((size_t)(rows * ld) * prxi_dtype_size(t)), out = kc_alloc(x.bytes);
    float *gamma = noise(k, (size_t)dim, PRXI_F32);
    kc_fill(k, x.p, t, (size_t)(rows * ld), (size_t)ld, kind);
    memset(out.p, 0, out.bytes);
    ops->rms_silu[t](rows, dim, x.p, ld, gamma, silu, out.p, ld);
    kc_worst w = { 0 };
    int stray = 0;
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0;
        for (int64_t i = 0; i < dim; i++)
            sum += pow((double)prxi_load(x.p, t, (size_t)(r * ld + i)), 2);
        for (int64_t i = 0; i < ld; i++) {
            const size_t at = (size_t)(r * ld + i);
            const double got = (double)prxi_load(out.p, t, at);
            if (i >= dim) {
                stray += got != 0;
                continue;
            }
            double v = (double)prxi_load(x.p, t, at) / fmax(sqrt(sum), 1e-12) * sqrt((double)dim) * (double)gamma[i];
            v = silu ? v / (1 + exp(-v)) : v;
            kc_compare(&w, at, got, v, ((double)dim / 2 + 16) * KC_EPS * (fabs(v) + (silu ? 1e-6 : 0)) + 1e-37 +
                                           (t == PRXI_BF16 ? KC_HALF_BF16 * fabs(v) : 0));
        }
    }
    kc_close(k, &w, "norm");
    kc_result(k, stray == 0, "%d values beyond the row written", stray);
    kc_guards(k, &out, "out");
    free(gamma);
    kc_free(&x);
    kc_free(&out);
}

static void check_table(kc *k, const prxi_conv_ops *ops, const char *what)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int t = PRXI_F32; t < PRXI_COMPUTE_DTYPES; t++)
            for (int form = 0; form < 3; form++)
                if (kc_begin(k, "conv %s %zu %s form %d", what, i, prxi_dtype_name((prxi_dtype)t), form))
                    check_layer(k, ops, &shapes[i], (prxi_dtype)t, form == 2 ? PRXI_F32 : (prxi_dtype)t, form == 1);
    if (device())               /* tests/cuda/ops.c has its norm */
        return;
    static const int dims[] = { 1, 3, 8, 15, 16, 33, 96, 384 };
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        for (int t = PRXI_F32; t < PRXI_COMPUTE_DTYPES; t++)
            for (int kind = KC_UNIFORM; kind < KC_TINY; kind++)
                if (kc_begin(k, "rms_silu %s %d %s %s", what, dims[i], prxi_dtype_name((prxi_dtype)t),
                             kc_input_name[kind]))
                    check_norm(k, ops, dims[i], (prxi_dtype)t, kind % 2 == 0, (kc_input)kind);
}

static void check_all(kc *k)
{
    prxi_conv_ops ops;
    prxi_conv_init_ref(&ops);
    prxi_conv_init_x86(&ops, k->isa);
    ops.matmul = 0;
    check_table(k, &ops, device() ? "cuda" : "tiles");
#if defined(__x86_64__)
    if (!device() && k->isa & PRXI_ISA_AVX512_BF16) {        /* whatever this processor prefers */
        prxi_conv_init_avx512bf16(&ops);
        check_table(k, &ops, "dot");
        prxi_conv_init_x86(&ops, k->isa);
        ops.matmul = 2;                         /* oneDNN, with AMX or without */
        check_table(k, &ops, "matmul");
    }
#endif
}

int main(int argc, char **argv)
{
    return kc_main(argc, argv, check_all);
}
