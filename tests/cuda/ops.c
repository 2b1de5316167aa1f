/* CUDA kernels that the tables of the CPU have no check for: the outside of the DiT, linear layers, caches, latents, pixels, clusters;
 * each against the C of the engine, under 16 orders of warps. */
#include "tests/test.h"

#include "caching/drift.h"
#include "caching/forecast.h"
#include "engine/ops/outer.h"
#include "tests/cuda/under_test.h"
#include "tests/cuda/clusters.h"
#include "tests/cuda/seeds.h"
#include "tests/random.h"
#include "video_io/color.h"

static test_random rng;
static prxi_mem mem;
static prxi_ctx ctx;
static prxi_stream host;        /* for the references */

static const prxi_cuda_module *module(void)
{
    return cuda_under_test()->module;
}

static void ok(int err)
{
    CHECK(err == PRX_OK && module()->sync(cuda_under_test()->dev) == PRX_OK, "%s", module()->last_error(cuda_under_test()->dev));
}

#define RUN(op, ...) ok(module()->op(cuda_under_test()->dev, __VA_ARGS__))

static void *values(prxi_dtype t, size_t n)
{
    void *p = calloc(n + 1, prxi_dtype_size(t));
    REQUIRE(p, "memory");
    for (size_t i = 0; i < n; i++)
        prxi_store(p, t, i, (float)random_normal(&rng));
    return p;
}

static void *copy_of(const void *from, size_t bytes)
{
    void *p = calloc(bytes + 1, 1);
    REQUIRE(p, "memory");
    return memcpy(p, from, bytes);
}

static void same(const void *a, const void *b, size_t n, const char *what)
{
    CHECK(memcmp(a, b, n) == 0, "%s: bytes differ", what);
}

static void check_patches(prxi_dtype t)
{
    prxi_outer_ops ref;
    prxi_outer_init_ref(&ref);
    const int pt = 1 + random_below(&rng, 2), ph = 1 + random_below(&rng, 3), pw = 1 + random_below(&rng, 3);
    prxi_patch_args a = { 1 + random_below(&rng, 5), pt * 2, ph * 3, pw * (1 + random_below(&rng, 6)), { pt, ph, pw }, NULL, NULL };
    const size_t n = (size_t)a.channels * (size_t)a.frames * (size_t)a.height * (size_t)a.width, bytes = n * prxi_dtype_size(t);
    float *in = values(PRXI_F32, n), *back = values(PRXI_F32, n), *want_back = values(PRXI_F32, n);
    void *got = values(t, n), *want = values(t, n);
    prxi_cu_patch x = { a.channels, a.frames, a.height, a.width, { pt, ph, pw }, in, got };
    RUN(patchify, t, &x);
    a.in = in, a.out = want;
    ref.patchify[t](&host, &a);
    same(got, want, bytes, "patchify");
    x.out = back;
    RUN(unpatchify, &x);
    a.out = want_back;
    ref.unpatchify(&host, &a);
    same(back, want_back, n * sizeof(float), "unpatchify");
    void *all[] = { in, back, want_back, got, want };
    for (size_t i = 0; i < 5; i++)
        free(all[i]);
}

static void check_modulate(void)
{
    enum { DIM = 70, ROWS = 6 };
    float *table = values(PRXI_F32, ROWS * DIM), *vec = values(PRXI_F32, ROWS * DIM), *got = values(PRXI_F32, ROWS * DIM);
    float *want = values(PRXI_F32, ROWS * DIM);
    prxi_outer_ops ref;
    prxi_outer_init_ref(&ref);
    for (int64_t period = DIM; period <= ROWS * DIM; period *= ROWS) {
        const prxi_cu_modulate x = { ROWS, DIM, period, table, vec, 18, got };
        const prxi_modulate_args a = { ROWS, DIM, period, table, vec, 18, want };
        RUN(modulate, &x);
        ref.modulate(&host, &a);
        same(got, want, ROWS * DIM * sizeof(float), "modulate");
    }
    free(table), free(vec), free(got), free(want);
}

static double epilogue(int e, double v)
{
    const double u = 0.7978845608 * (v + 0.044715 * v * v * v);
    return e == 1 ? v / (1 + exp(-2 * u)) : e == 2 ? v / (1 + exp(-v)) : v;
}

/* Sums of k products in f32, an activation with slope under 1.13, a rounding to the type of the output. */
static void check_gemm(prxi_dtype t, prxi_dtype out, int e)
{
    const int64_t m = 1 + random_below(&rng, 70), n = 8 * (1 + random_below(&rng, 9)), k = 8 * (1 + random_below(&rng, 12));
    void *x = values(t, (size_t)(m * k)), *w = values(t, (size_t)(n * k));
    void *bias = values(out, (size_t)n), *y = values(out, (size_t)(m * n));
    const prxi_cu_gemm a = { m, n, k, t, out, e, x, w, bias, k, n, y, 0, 0, 0, NULL, NULL };
    double worst = 0;
    void *plain = NULL;
    for (int tuned = 0; tuned < 2; tuned++) {
        if (tuned)
            plain = copy_of(y, (size_t)(m * n) * prxi_dtype_size(out));
        if (tuned)
            RUN(gemm, &a);
        else
            RUN(gemm_simple, &a);
        for (int64_t i = 0; i < m * n; i++) {
            double sum = prxi_load(bias, out, (size_t)(i % n)), mass = fabs(sum);
            for (int64_t j = 0; j < k; j++) {
                const double p = (double)prxi_load(x, t, (size_t)(i / n * k + j)) * prxi_load(w, t, (size_t)(i % n * k + j));
                sum += p;
                mass += fabs(p);
            }
            const double want = epilogue(e, sum), slack = 1.13 * mass * ((double)k + 8) * ldexp(1, -24) + 4e-6 * fabs(want) + 1e-30;
            const double share = fabs(prxi_load(y, out, (size_t)i) - want) / (slack + (out ? ldexp(fabs(want), -8) : 0));
            worst = share <= worst ? worst : share;
        }
        CHECK(worst <= 1, "gemm %d %s to %s, epilogue %d, %d x %d x %d: %.3g of the bound", tuned, prxi_dtype_name(t),
              prxi_dtype_name(out), e, (int)m, (int)n, (int)k, worst);
    }
    if (cuda_under_test()->info.emulated)           /* of the stand-in */
        same(y, plain, (size_t)(m * n) * prxi_dtype_size(out), "gemm and gemm_simple");
    free(x), free(w), free(bias), free(y), free(plain);
}

/* |x| from at most 100 squares, a division, a square root, an exponential: 16 roundings' worth. */
static void check_rms_silu(prxi_dtype t, int silu)
{
    const int whole = random_below(&rng, 2);            /* runs of eight */
    const int64_t width = 1 + random_below(&rng, 20), dim = whole ? 8 * (1 + random_below(&rng, 20)) : 1 + random_below(&rng, 100);
    const int64_t pitch = dim + (whole ? 8 * random_below(&rng, 2) : random_below(&rng, 3));
    const size_t moved = whole ? (size_t)random_below(&rng, 2) * prxi_dtype_size(t) : 0;
    const int64_t rows = 2 + random_below(&rng, 2), begin = random_below(&rng, 2), first = random_below(&rng, (int)rows);
    const int64_t line = width * pitch * (int64_t)prxi_dtype_size(t);
    unsigned char *room = values(t, (size_t)(rows * width * pitch) + 1), *x = room + moved;
    void *out = values(t, (size_t)(rows * width * pitch));
    float *gamma = values(PRXI_F32, (size_t)dim);
    const prxi_cu_rms_silu a = { begin, rows, width, dim, pitch, { x, line, rows, 0 }, { out, line, rows, first }, gamma, silu };
    double worst = 0;
    RUN(rms_silu, t, &a);
    for (int64_t p = begin * width; p < rows * width; p++) {
        const int64_t to = ((first + p / width) % rows * width + p % width) * pitch;
        double sum = 0;
        for (int64_t i = 0; i < dim; i++)
            sum += pow(prxi_load(x, t, (size_t)(p * pitch + i)), 2);
        for (int64_t i = 0; i < dim; i++) {
            const double v = prxi_load(x, t, (size_t)(p * pitch + i)) / fmax(sqrt(sum), 1e-12) * sqrt((double)dim) * gamma[i];
            const double want = silu ? v / (1 + exp(-v)) : v;
            const double tol = (16 + 4 * fabs(v)) * ldexp(fabs(want) + 1e-20, -24) + (t ? ldexp(fabs(want), -8) : 0);
            const double share = fabs(prxi_load(out, t, (size_t)(to + i)) - want) / tol;
            worst = share <= worst ? worst : share;
        }
        for (int64_t i = dim; i < pitch; i++)
            worst = prxi_load(out, t, (size_t)(to + i)) == 0 ? worst : INFINITY;
    }
    CHECK(worst <= 1, "rms_silu: %.3g of the bound", worst);
    free(room), free(out), free(gamma);
}

static prxi_plane picture(void *base, int64_t rows, int64_t width, int64_t channels, prxi_dtype t, int64_t first)
{
    return (prxi_plane) { base, width * channels * (int64_t)prxi_dtype_size(t), rows, first };
}

/* The device's tables, the CPU's frames beside them, and a stream of the device. */
static void open_tables(prxi_kernels *dev, prxi_frame_ops *ref, prxi_stream *s)
{
    prxi_cuda_kernels(dev, cuda_under_test());
    prxi_frame_init_ref(ref);
    prxi_stream_init(s, &ctx, 1);
    s->device = dev->device;
}

/* The device's table against the CPU's, to the byte: copies, the doubled shortcut, latents. */
static void check_frames(prxi_dtype t)
{
    const int64_t h = 1 + random_below(&rng, 4), w = 1 + random_below(&rng, 7), first = random_below(&rng, (int)h);
    const int times = 1 + random_below(&rng, 2), up = 2 * (1 + random_below(&rng, 3)), in = 2 * up, z = 2 * (1 + random_below(&rng, 5));
    prxi_kernels dev;
    prxi_frame_ops ref;
    prxi_stream s;
    open_tables(&dev, &ref, &s);
    const size_t small = (size_t)(h * w * in), large = (size_t)(4 * h * w * up), bytes = large * prxi_dtype_size(t);
    void *x = values(t, small), *y = values(t, small), *got = values(t, large), *want = copy_of(got, bytes);
    const prxi_frame_copy c = { picture(x, h, w, in, t, first), picture(y, h, w, in, t, 0), h, (size_t)(w * in) * prxi_dtype_size(t) };
    dev.frame.copy(&s, &c);
    prxi_frame_dup d = { t, c.to, picture(got, 2 * h, 2 * w, up, t, 0), h > 1 ? 2 : 0, 2 * h, 2 * w, in, up, times, times - 1 };
    dev.frame.dup(&s, &d);
    d.x = c.from;
    d.up.base = want;
    ref.dup(&host, &d);
    same(got, want, bytes, "copy and dup");
    float *stats = values(PRXI_F32, 2 * (size_t)z), *weight = values(PRXI_F32, (size_t)(z * z + z));
    float *latents = values(PRXI_F32, 2 * large * 8);
    void *a = values(t, (size_t)(h * w * z)), *b = copy_of(a, (size_t)(h * w * z) * prxi_dtype_size(t));
    prxi_frame_latent l = { t, z, h, w, h * w + 3, w, latents, stats, stats + z, weight, weight + z * z, picture(a, h, w, z, t, first) };
    dev.frame.latent(&s, &l);
    l.out.base = b;
    ref.latent(&host, &l);
    same(a, b, (size_t)(h * w * z) * prxi_dtype_size(t), "latents");
    CHECK(prxi_stream_error(&s) == PRX_OK, "%s", ctx.error.text);
    void *all[] = { x, y, got, want, stats, weight, latents, a, b };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    prxi_stream_close(&s);
}

/* A decoded frame: what convolutions carry from frame to frame, and RGB. */
static void check_decoded(void)
{
    const int64_t h = 1 + random_below(&rng, 4), w = 1 + random_below(&rng, 7), first = random_below(&rng, (int)h);
    const int p = 1 + random_below(&rng, 3), co = 3 * p * p;
    const int64_t pitch = 3 * co + random_below(&rng, 3);
    const size_t n = (size_t)(h * w * co), bytes = n * sizeof(float);
    prxi_kernels dev;
    prxi_frame_ops ref;
    prxi_stream s;
    open_tables(&dev, &ref, &s);
    float *taps = values(PRXI_F32, (size_t)(h * w * pitch)), *bias = values(PRXI_F32, (size_t)co), *buf[2][4];
    for (int i = 0; i < 4; i++) {
        buf[0][i] = values(PRXI_F32, n);
        buf[1][i] = copy_of(buf[0][i], bytes);
    }
    for (int i = 0; i < 2; i++) {
        const prxi_frame_carry c = { h / 2, h, w, pitch, co, picture(taps, h, w, pitch, PRXI_F32, first), buf[i][0], buf[i][1], buf[i][2],
                                     bias };
        const prxi_frame_rgb r = { h, w, p, buf[i][2], buf[i][3] };
        (i ? ref : dev.frame).carry(i ? &host : &s, &c);
        (i ? ref : dev.frame).rgb(i ? &host : &s, &r);
    }
    for (int i = 0; i < 4; i++)
        same(buf[0][i], buf[1][i], bytes, i < 2 ? "carried frames" : i < 3 ? "raw frame" : "RGB");
    CHECK(prxi_stream_error(&s) == PRX_OK, "%s", ctx.error.text);
    for (int i = 0; i < 8; i++)
        free(buf[i / 4][i % 4]);
    free(taps), free(bias);
    prxi_stream_close(&s);
}

/* The two attentions beside the transformer; sums and weights of 1 in f32 on both sides. */
static void check_plain_attention(prxi_dtype t)
{
    const int heads = 1 + random_below(&rng, 3), d = 1 + random_below(&rng, 40), c = 1 + random_below(&rng, 50);
    const int64_t n = 1 + random_below(&rng, 50), ld = heads * d + random_below(&rng, 3), pitch = c + random_below(&rng, 2);
    prxi_kernels dev, cpu;
    prxi_stream s;
    prxi_cuda_kernels(&dev, cuda_under_test());
    prxi_kernels_init(&cpu, 0);
    prxi_stream_init(&s, &ctx, 1);
    s.device = dev.device;
    float *q = values(PRXI_F32, (size_t)(n * ld)), *k = values(PRXI_F32, (size_t)(n * ld)), *v = values(PRXI_F32, (size_t)(n * ld));
    float *out[2] = { values(PRXI_F32, (size_t)(n * ld)), NULL }, *table = values(PRXI_F32, (size_t)(8 * heads));
    float *scores = values(PRXI_F32, (size_t)(PRXI_WIDE_TILE_DEVICE * n)), *sums = values(PRXI_F32, (size_t)(PRXI_WIDE_TILE_DEVICE * c));
    float *qkv = values(PRXI_F32, (size_t)(n * (3 * c + 1)));
    void *rows[2] = { values(t, (size_t)(n * pitch)), values(t, (size_t)(n * pitch)) };
    int32_t *bucket = calloc((size_t)(2 * n), sizeof *bucket);
    out[1] = copy_of(out[0], (size_t)(n * ld) * sizeof(float));
    for (int i = 0; i < 2 * n - 1; i++)
        bucket[i] = random_below(&rng, 8);
    double worst = 0;
    for (int i = 0; i < 2; i++) {
        const prxi_text_attn a = { n, ld, ld, heads, d, q, k, v, out[i], table, bucket, scores, &cpu.act, 0 };
        const prxi_wide_attn w = { n, c, 3 * c + 1, qkv, scores, sums, t, rows[i], pitch, &cpu.act, 0 };
        (i ? cpu : dev).plain.text(i ? &host : &s, &a);
        (i ? cpu : dev).plain.wide(i ? &host : &s, &w);
    }
    for (int64_t i = 0; i < n * ld; i++)
        worst = fmax(worst, fabs(out[0][i] - out[1][i]));
    CHECK(worst <= 2e-4, "text attention: off by %g", worst);       /* logits up to d large, values of a few units */
    worst = 0;
    for (int64_t i = 0; i < n * pitch; i++) {
        const double want = prxi_load(rows[1], t, (size_t)i);
        worst = fmax(worst, fabs(prxi_load(rows[0], t, (size_t)i) - want) - (t ? ldexp(fabs(want), -7) : 0));
    }
    CHECK(worst <= 2e-5, "wide attention: off by %g", worst);
    CHECK(prxi_stream_error(&s) == PRX_OK, "%s", ctx.error.text);
    void *all[] = { q, k, v, out[0], out[1], table, scores, sums, qkv, rows[0], rows[1], bucket };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    prxi_stream_close(&s);
}

/* Sums in f64 in another order: equal to 1e-12. */
static void check_drift(prxi_dtype t, prxi_dtype of_probe, double important)
{
    const int64_t rows = 1 + random_below(&rng, 40), whole = random_below(&rng, 2);
    const int64_t dim = whole ? 8 * (1 + random_below(&rng, 300)) : 1 + random_below(&rng, 600);
    const int stride = 1 + random_below(&rng, whole ? 2 : 3);
    const size_t n = (size_t)(rows * dim), width = (size_t)prxi_drift_width(dim, stride), probe_n = (size_t)rows * width;
    void *x = values(t, n), *base = random_below(&rng, 2) ? values(t, n) : NULL, *probe = values(of_probe, probe_n);
    void *kept = copy_of(probe, probe_n * prxi_dtype_size(of_probe));
    double *moved = calloc(2 * (size_t)rows + 1, sizeof *moved), *total = calloc(2, sizeof *total);
    const prxi_cu_drift a = { t, of_probe, stride, 1, rows, dim, x, base, probe, important, moved, total };
    prxi_drift d = { t, rows, dim, x, base, of_probe, kept, stride, important, calloc(2 * (size_t)rows + 1, sizeof(double)) };
    const double want = prxi_drift_measure(&host, &d);
    RUN(drift, &a);
    CHECK(fabs(total[0] / total[1] - want) <= 1e-12 * want, "drift: %.17g instead of %.17g", total[0] / total[1], want);
    for (int64_t r = 0; r < 2 * rows; r++)
        CHECK(fabs(moved[r] - d.scratch[r]) <= 1e-12 * d.scratch[r], "drift: row %d", (int)r);
    prxi_drift_store(&host, &d);
    same(probe, kept, probe_n * prxi_dtype_size(of_probe), "drift: the new probe");
    free(x), free(base), free(probe), free(kept), free(moved), free(total), free(d.scratch);
}

static prxi_cu_forecast ladder(prxi_forecast_kind kind, const prxi_forecast *f, int64_t n, prxi_dtype t, void *d[], void *old[])
{
    prxi_cu_forecast a = { .n = n, .type = t, .elem = f->elem };
    for (int i = 0; i < PRXI_CU_TERMS; i++) {
        a.d[i] = d[i];
        a.old[i] = kind == PRXI_FORECAST_TAYLOR ? old[i] : d[i];
    }
    return a;
}

/* The same at addresses that are no multiple of 16 bytes: whichever of the arrays is moved by an element, the bytes stay. Sums and
 * differences have those of the CPU. */
static void check_unaligned(prxi_dtype t)
{
    const int64_t n = 1 + random_below(&rng, 700);
    const size_t one = prxi_dtype_size(t), bytes = (size_t)n * one;
    prxi_act_ops ref;
    prxi_act_init_ref(&ref);
    for (int op = PRXI_CU_GELU_MUL; op <= PRXI_CU_SUB; op++) {
        char *a = values(t, (size_t)n), *b = values(t, (size_t)n), *first = calloc(bytes, 1), *want = calloc(bytes, 1);
        (op == PRXI_CU_ADD ? ref.add : ref.sub)[t](&host, n, a, b, want);
        for (int moved = 0; moved < 8; moved++) {
            char *in[2] = { calloc(bytes + one, 1), calloc(bytes + one, 1) }, *y = calloc(bytes + 2 * one, 1);
            char *to = moved & 4 ? y + one : y, *x = moved & 1 ? in[0] + one : in[0], *z = moved & 2 ? in[1] + one : in[1];
            memcpy(x, a, bytes), memcpy(z, b, bytes);
            RUN(binary, t, (prxi_cu_binary)op, n, x, z, to);
            if (moved == 0)
                memcpy(first, to, bytes);
            same(to, first, bytes, "elementwise, unaligned");
            same(to, op < PRXI_CU_ADD ? to : want, bytes, "elementwise");
            CHECK(prxi_load(to, t, (size_t)n) == 0, "elementwise: a value beyond the last");
            RUN(binary, t, (prxi_cu_binary)op, n, x, z, z);
            same(z, first, bytes, "elementwise, in the place of the second");
            free(in[0]), free(in[1]), free(y);
        }
        free(a), free(b), free(first), free(want);
    }
}

static void check_unaligned_types(void)
{
    const int64_t n = 1 + random_below(&rng, 700);
    char *wide = values(PRXI_F32, (size_t)n + 1), *narrow = calloc((size_t)n + 2, 2), *back = calloc((size_t)n + 2, 4);
    prxi_act_ops ref;
    prxi_act_init_ref(&ref);
    for (int moved = 0; moved < 4; moved++) {
        float *x = (float *)wide + (moved & 1), *y = (float *)back + (moved & 1);
        uint16_t *half = (uint16_t *)narrow + (moved >> 1), *want = calloc((size_t)n, 2);
        float *want_back = calloc((size_t)n, 4);
        RUN(convert, PRXI_CU_F32_TO_BF16, n, x, half);
        ref.f32_to_bf16(&host, n, x, want);
        same(half, want, (size_t)n * 2, "to bf16");
        RUN(convert, PRXI_CU_BF16_TO_F32, n, half, y);
        ref.bf16_to_f32(&host, n, half, want_back);
        same(y, want_back, (size_t)n * 4, "from bf16");
        RUN(convert, PRXI_CU_F16_TO_F32, n, half, y);
        ref.f16_to_f32(&host, n, half, want_back);
        same(y, want_back, (size_t)n * 4, "from f16");
        free(want), free(want_back);
    }
    free(wide), free(narrow), free(back);
}

/* Equal but for sums in another order, and their rounding to the type. */
static void alike(const void *a, const void *b, prxi_dtype t, int64_t n, const char *what, int moved)
{
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        const double u = prxi_load(a, t, (size_t)i), v = prxi_load(b, t, (size_t)i);
        const double share = fabs(u - v) / (1e-5 + (t ? ldexp(fabs(v), -7) : 1e-5 * fabs(v)));
        worst = share <= worst ? worst : share;
    }
    CHECK(worst <= 1, "%s, moved %d: %.3g of the bound", what, moved, worst);
}

/* Norms whose rows and vectors, one after the other, are an element off an aligned address. */
static void check_unaligned_norms(prxi_dtype t)
{
    enum { ROWS = 3, HEAD = 24 };
    const int head = random_below(&rng, 2) ? HEAD : HEAD / 2;      /* the half ends within a run */
    const int64_t dim = HEAD * (1 + random_below(&rng, 30)), n = ROWS * dim;
    const size_t one = prxi_dtype_size(t), bytes = (size_t)n * one;
    char *x0 = values(t, (size_t)n + 1), *x = values(t, (size_t)n + 1), *o = values(t, (size_t)n + 1), *out = values(t, (size_t)n + 1);
    float *vec = values(PRXI_F32, (size_t)dim + 1), *turn = values(PRXI_F32, ROWS * HEAD + 1);
    void *want[2] = { calloc(bytes, 1), calloc(bytes, 1) }, *want_x = calloc(bytes, 1);
    for (int moved = 0; moved < 8; moved++) {
        char *xx = x + (moved == 1) * one, *oo = out + (moved == 3) * one;
        const float *gate = vec + (moved == 4), *mul = vec + (moved == 5), *add = vec + (moved == 6);
        for (int i = 0; i <= dim; i++)
            vec[i] = 0.7f;
        memcpy(xx, x0, bytes);
        const prxi_cu_ln ln = { ROWS, dim, xx, o + (moved == 2) * one, gate, mul, add, 1e-6f, oo, NULL, NULL };
        memmove(o + (moved == 2) * one, x0, bytes);
        RUN(layernorm, t, &ln);
        memcpy(moved ? want[1] : want[0], oo, bytes);
        alike(moved ? want[1] : want[0], want[0], t, n, "layernorm", moved);
        memcpy(moved ? want[1] : want_x, xx, bytes);
        same(moved ? want[1] : want_x, want_x, bytes, "layernorm: x");
    }
    for (int moved = 0; moved < 5; moved++) {
        char *xx = x + (moved == 1) * one, *oo = out + (moved == 2) * one;
        for (int i = 0; i < ROWS * HEAD; i++)
            turn[i + (moved == 4)] = (float)(i % 7) / 7;
        memcpy(xx, x0, bytes);
        const prxi_cu_rms rms = { ROWS, dim, xx, dim, vec + (moved == 3), 1e-6f, turn + (moved == 4), ROWS, head, oo, dim };
        RUN(rmsnorm, t, &rms);
        memcpy(moved ? want[1] : want[0], oo, bytes);
        alike(moved ? want[1] : want[0], want[0], t, n, "rmsnorm", moved);
    }
    void *all[] = { x0, x, o, out, vec, turn, want[0], want[1], want_x };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* Four values, then a prediction: the ladders and the result have the bytes of the CPU's. */
static void check_forecast(prxi_forecast_kind kind, prxi_dtype t, prxi_dtype elem)
{
    enum { ORDER = 3 };
    const int64_t n = 1 + random_below(&rng, 900);
    const size_t moved = (size_t)random_below(&rng, 2);     /* elements that the states are off an aligned address */
    prxi_forecast f;
    void *d[PRXI_CU_TERMS] = { NULL }, *old[PRXI_CU_TERMS] = { NULL };
    REQUIRE(prxi_forecast_open(&ctx, &f, kind, ORDER, elem, n) == PRX_OK, "memory");
    for (int i = 0; i <= f.order; i++)
        d[i] = values(elem, (size_t)n), old[i] = values(elem, (size_t)n);
    for (int step = 0; step < 5; step++) {
        char *room = values(t, (size_t)n + 1), *after = room + moved * prxi_dtype_size(t);
        void *before = step % 2 ? values(t, (size_t)n) : NULL;
        const double at = 0.9 - 0.13 * step, last = (double)f.step;
        prxi_forecast_update(&host, &f, step, at, t, after, before);
        if (kind == PRXI_FORECAST_TAYLOR)
            for (int i = 0; i <= f.order; i++) {
                void *swap = d[i];
                d[i] = old[i], old[i] = swap;
            }
        prxi_cu_forecast a = ladder(kind, &f, n, t, d, old);
        a.terms = f.have, a.after = after, a.before = before;
        for (int i = 0; i < PRXI_CU_TERMS - 1; i++)
            a.window[i] = kind == PRXI_FORECAST_TAYLOR ? step - last : at - f.at[i + 1];
        RUN(forecast_update, &a);
        free(room), free(before);
    }
    for (int i = 0; i < f.have; i++)
        same(d[i], f.d[i], (size_t)n * prxi_dtype_size(elem), "forecast: ladder");
    char *room = values(t, (size_t)n + 1), *y = room + moved * prxi_dtype_size(t);
    void *want = copy_of(y, (size_t)n * prxi_dtype_size(t));
    prxi_cu_forecast a = ladder(kind, &f, n, t, d, old);
    a.terms = f.have, a.y = y, a.add = 1, a.weight[0] = 1;
    for (int k = 1; k < a.terms; k++)
        a.weight[k] = a.weight[k - 1] * (kind == PRXI_FORECAST_TAYLOR ? (double)(6 - f.step) / k : 0.2 - f.at[k - 1]);
    RUN(forecast_apply, &a);
    prxi_forecast_apply(&host, &f, 6, 0.2, t, want, 1);
    same(y, want, (size_t)n * prxi_dtype_size(t), "forecast: prediction");
    for (int i = 0; i <= f.order; i++)
        free(d[i]), free(old[i]);
    free(room), free(want);
    prxi_forecast_close(&ctx, &f);
}

/* Formulas of schedulers/ with random coefficients; separate roundings, so equal to the bit. */
static void check_latents(int kind)
{
    enum { N = 777 };
    float *x = values(PRXI_F32, N), *v = values(PRXI_F32, N), *m1 = values(PRXI_F32, N), *m2 = values(PRXI_F32, N);
    float *m3 = values(PRXI_F32, N), *last = values(PRXI_F32, N), *want[5], *const have[5] = { x, m1, m2, last, m3 };
    for (int i = 0; i < 5; i++)
        want[i] = copy_of(have[i], N * sizeof(float));
    float c[11];
    for (int i = 0; i < 11; i++)
        c[i] = (float)random_normal(&rng);
    const prxi_cu_step a = { kind, N, random_below(&rng, 2), c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8],
                             c[9], c[10], v, x, m1, m2, m3, last };
    RUN(sched_step, &a);
    for (int i = 0; i < N; i++) {
        float *w = &want[0][i], *w1 = &want[1][i], *w2 = &want[2][i], *wl = &want[3][i], *w3 = &want[4][i];
        const float m = *w - a.sigma * v[i];
        if (kind == 0) {
            *w += a.dt * v[i];
        } else if (kind == 1) {
            *w = a.p_keep * *w - a.p_e * m - a.p_e * (a.p_d * (m - *w1));
            *w1 = m;
        } else {
            if (a.correct)
                *w = a.c_keep * *wl - a.c_e * *w1 - a.c_e * (a.c_d * (*w2 - *w1) + a.c_rho * (m - *w1) + a.c_d2 * (*w3 - *w1));
            *wl = *w;
            *w = a.p_keep * *wl - a.p_e * m - a.p_e * (a.p_d * (*w1 - m) + a.p_d2 * (*w2 - m));
            *w3 = *w2;
            *w2 = *w1;
            *w1 = m;
        }
    }
    for (int i = 0; i < 5; i++)
        same(have[i], want[i], N * sizeof(float), "scheduler step");
    memcpy(want[0], x, N * sizeof(float));
    RUN(guide, N, x, v, 5.0f);
    for (int i = 0; i < N; i++)
        want[0][i] = v[i] + 5.0f * (want[0][i] - v[i]);
    same(x, want[0], N * sizeof(float), "guidance");
    free(x), free(v), free(m1), free(m2), free(m3), free(last);
    for (int i = 0; i < 5; i++)
        free(want[i]);
}

static void check_pixels(void)
{
    const int w = 1 + random_below(&rng, 40), h = 1 + random_below(&rng, 20), cw = (w + 1) / 2, ch = (h + 1) / 2;
    const size_t n = (size_t)w * (size_t)h * 3, plane = (size_t)(w + 3) * (size_t)h;
    float *rgb = values(PRXI_F32, n);
    uint8_t *bytes = calloc(n, 1), *want = calloc(n, 1), *got_yuv = calloc(3 * plane, 1), *want_yuv = calloc(3 * plane, 1);
    rgb[0] = NAN;
    RUN(rgb_to_u8, (int64_t)n, rgb, bytes);
    for (size_t i = 0; i < n; i++)          /* video_io/color.c: truncation, NaN to 0 */
        want[i] = !(rgb[i] * 255.0f > 0) ? 0 : rgb[i] * 255.0f < 255.0f ? (uint8_t)(rgb[i] * 255.0f) : 255;
    same(bytes, want, n, "rgb_to_u8");
    const prxi_cu_yuv a = { bytes, w, h, { got_yuv, got_yuv + plane, got_yuv + 2 * plane }, { w + 3, cw, cw + 1 } };
    const prxi_planes p = { { want_yuv, want_yuv + plane, want_yuv + 2 * plane }, { w + 3, cw, cw + 1 } };
    RUN(rgb_to_yuv, &a);
    prxi_rgb_to_yuv420(bytes, w, h, &p);
    same(got_yuv, want_yuv, 3 * plane, "rgb_to_yuv");
    CHECK(ch > 0, "size");
    free(rgb), free(bytes), free(want), free(got_yuv), free(want_yuv);
}

/* A label may differ from the reference where two centroids are equally far to rounding. */
static void check_clusters(prxi_dtype t)
{
    const int heads = 1 + random_below(&rng, 2), d = 4 + random_below(&rng, 60), k = 1 + random_below(&rng, 70);
    const int64_t n = 1 + random_below(&rng, 60), ld = (int64_t)heads * d + 3;
    void *x = values(t, (size_t)(n * ld)), *c = values(t, (size_t)(heads * k * d));
    int32_t *labels = calloc((size_t)(heads * n), sizeof *labels), *counts = calloc((size_t)(heads * k), sizeof *counts);
    float *products = calloc((size_t)(heads * n * k), sizeof *products), *sums = calloc((size_t)(heads * k * d), sizeof *sums);
    prxi_cu_nearest a = { heads, d, k, n, ld, x, c, labels, NULL, sums, counts, NULL };
    RUN(nearest, t, &a);
    RUN(gather, t, &a);
    a.products = products;
    RUN(nearest, t, &a);
    int far = 0;
    double wrong = 0, off = 0;
    for (int h = 0; h < heads; h++)
        for (int64_t i = 0; i < n; i++) {
            double best = INFINITY, mine = INFINITY;
            for (int j = 0; j < k; j++) {
                double dist = 0, dot = 0;
                for (int e = 0; e < d; e++) {
                    const double xv = prxi_load(x, t, (size_t)(i * ld + h * d + e)), cv = prxi_load(c, t, (size_t)((h * k + j) * d + e));
                    dist += (xv - cv) * (xv - cv);
                    dot += xv * cv;
                }
                best = fmin(best, dist);
                mine = j == labels[h * n + i] ? dist : mine;
                wrong = fmax(wrong, fabs(products[(h * n + i) * k + j] - dot));
            }
            far += !(mine <= best + 1e-4);
        }
    CHECK(far == 0, "nearest: %d points have another centroid nearer", far);
    CHECK(wrong <= 1e-4, "products: off by %g", wrong);
    for (int h = 0; h < heads; h++)
        for (int j = 0; j < k; j++)
            for (int e = 0; e < d; e++) {
                double sum = 0;
                int count = 0;
                for (int64_t i = 0; i < n; i++)
                    if (labels[h * n + i] == j) {
                        sum += prxi_load(x, t, (size_t)(i * ld + h * d + e));
                        count++;
                    }
                off = fmax(off, fabs(sums[(h * k + j) * d + e] - sum));
                CHECK(counts[h * k + j] == count, "counts");
            }
    CHECK(off <= 1e-4, "sums: off by %g", off);
    free(x), free(c), free(labels), free(counts), free(products), free(sums);
}

/* Small heads over several chunks of tokens, or those that the tuned kernel takes. */
static void check_svg2(prxi_dtype t, int seed)
{
    const int tuned = t == PRXI_BF16 && seed % 4 == 1, d = tuned ? 64 : 1 + random_below(&rng, 12), heads = 1 + random_below(&rng, 2);
    const int n = tuned || seed % 5 ? 30 + random_below(&rng, 150) : 1030 + random_below(&rng, 90);
    const int cq = 1 + random_below(&rng, 9), ck = tuned ? 66 + random_below(&rng, 70) : 1 + random_below(&rng, 40);
    const float p = seed % 7 == 3 ? 1.0f : 0.1f + 0.8f * (float)random_below(&rng, 100) / 100;
    CHECK(clusters_right(module(), cuda_under_test()->dev, &rng, t, heads, d, n, cq < n ? cq : n, ck < n ? ck : n, p,
                         random_below(&rng, 3), 1),
          "svg2: seed %d: %d heads of %d, %d tokens, %d and %d clusters", seed, heads, d, n, cq, ck);
}

/* Start centroids by the distances and by chance; empty clusters. More candidates, and more tokens, than a block has threads. */
static void check_seeds(prxi_dtype t, int seed)
{
    static const int wide[] = { 1, 5, 17, 64, 19, 128, 16, 33 };
    const int d = wide[seed % 8], heads = 1 + seed % 3, n = 40 + random_below(&rng, 300), k = 1 + random_below(&rng, n < 70 ? n : 70);
    CHECK(seeds_right(module(), cuda_under_test()->dev, &rng, t, heads, d, n, k), "seeds: seed %d: %d heads of %d, %d tokens, %d clusters",
          seed, heads, d, n, k);
}

/* More chunks than are placed at a time; more clusters than a block has threads. */
static void check_many(prxi_dtype t)
{
    const prxi_cuda_module *m = module();
    CHECK(clusters_right(m, cuda_under_test()->dev, &rng, t, 1, 2, 9 * PRXI_CU_CHUNK + 40, 2, 3, 0.5f, 1, 1), "svg2: ten chunks");
    CHECK(clusters_right(m, cuda_under_test()->dev, &rng, t, 2, 17, 640, 3, 600, 0.7f, 1, 1), "svg2: 600 clusters");
}

/* Any grouping of heads, entries of less and of more than a round. */
static void check_queues(void)
{
    const int heads = 1 + random_below(&rng, 4), cq = 1 + random_below(&rng, 70), group = 1 + random_below(&rng, heads);
    CHECK(clusters_queue_of(module(), cuda_under_test()->dev, &rng, heads, cq, group), "queue: %d heads by %d, %d clusters", heads, group,
          cq);
}

/* Tiles cover every query of every block once, in order. */
static void check_tiles(void)
{
    const int32_t q_start[6] = { 0, 0, 63, 64, 200, 264 };
    const prxi_block_list b = { .nq = 5, .q_start = q_start };
    prxi_cu_tile tiles[16];
    const int n = prxi_cuda_tiles(&b, 7, tiles);
    int32_t at = 0;
    CHECK(n == prxi_cuda_tiles(&b, 7, NULL), "count");
    for (int i = 0; i < n; i++) {
        const prxi_cu_tile *t = &tiles[i];
        CHECK(t->head == -1 && t->first == at && t->rows > 0 && t->rows <= PRXI_CU_TILE_ROWS, "tile %d", i);
        CHECK(t->first >= q_start[t->block] && t->first + t->rows <= q_start[t->block + 1], "tile %d leaves its block", i);
        at += t->rows;
    }
    CHECK(at == 264, "%d queries", (int)at);
}

int main(void)
{
    prxi_mem_init(&mem, NULL);
    ctx.mem = &mem;
    prxi_stream_init(&host, &ctx, 1);
    check_tiles();
    for (int seed = 0; seed < 16; seed++) {
        const prxi_dtype t = seed % 2 ? PRXI_BF16 : PRXI_F32, other = seed / 2 % 2 ? PRXI_BF16 : PRXI_F32;
        cuda_seed((uint64_t)seed);
        rng.state = (uint64_t)seed;
        check_patches(t);
        check_modulate();
        check_gemm(t, other, seed % 3);
        check_rms_silu(t, other);
        check_frames(t);
        check_decoded();
        check_plain_attention(t);
        check_drift(t, other, seed % 3 ? 0 : 0.9);
        check_unaligned(t);
        check_unaligned_types();
        check_unaligned_norms(t);
        check_forecast(seed % 4 == 3 ? PRXI_FORECAST_TAYLOR : PRXI_FORECAST_NEWTON, t, other);
        check_latents(seed % 3);
        check_pixels();
        check_clusters(t);
        check_svg2(t, seed);
        check_queues();
        check_seeds(t, seed);
    }
    CHECK(seeds_empty > 10000, "only %d channels of empty clusters", seeds_empty);
    check_many(PRXI_F32);
    check_many(PRXI_BF16);
    prxi_stream_close(&host);
    return TEST_END();
}
