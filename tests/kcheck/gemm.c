/* Checks of linear layers and of the single-threaded product against sums in double; what must be bit-equal is. */
#include "kcheck.h"

static const prxi_dtype types[] = { PRXI_F32, PRXI_BF16 };

typedef struct shape {
    int64_t m, n, k, pad_x, pad_y;
} shape;

static void store_weight(void *p, prxi_dtype t, size_t i, float v)
{
    /* f16: multiples of 1/512 in [-1, 1] are exact in every type but bf16, and easy to build. */
    static const uint16_t powers[] = { 0x1800, 0x1c00, 0x2000, 0x2400, 0x2800, 0x2c00, 0x3000, 0x3400, 0x3800, 0x3c00 };
    if (t != PRXI_F16)
        prxi_store(p, t, i, v);
    else
        ((uint16_t *)p)[i] = (uint16_t)(powers[(unsigned)(fabsf(v) * 1e6f) % 10] | (v < 0 ? 0x8000 : 0));
}

static float load_weight(const void *p, prxi_dtype t, size_t i)
{
    return t == PRXI_F16 ? prxi_f16_to_f32(((const uint16_t *)p)[i]) : prxi_load(p, t, i);
}

/* The value as the layer computes with it. */
static double as_compute(float v, prxi_dtype compute)
{
    return compute == PRXI_BF16 ? prxi_bf16_to_f32(prxi_f32_to_bf16(v)) : v;
}

static double epilogue(prxi_epilogue e, double v)
{
    if (e == PRXI_EPI_SILU)
        return v / (1 + exp(-v));
    if (e == PRXI_EPI_GELU_TANH)
        return v / (1 + exp(-2 * 0.79788456080286535588 * (v + 0.044715 * v * v * v)));
    return v;
}

/* A chain of k additions, each rounding at most eps/2 of the sum of magnitudes, in random directions: eps (2 + sqrt k) mag. The
 * activations have slope 1.13 at most and an error of 4 eps of max(|v|, |y|). bf16 adds half an ulp. The processor's bf16
 * products, which oneDNN uses, take denormals as 0: up to k 1.2e-38. */
static double tolerance(const prxi_linear_desc *d, double mag, double v, double want)
{
    double tol = KC_EPS * (2 + sqrt((double)d->k)) * mag + (d->compute == PRXI_BF16 ? 1.2e-38 * (double)d->k : 1e-44);
    if (d->epilogue != PRXI_EPI_NONE)
        tol = 1.13 * tol + 4 * KC_EPS * fabs(v);
    return tol + (d->out == PRXI_BF16 ? KC_HALF_BF16 * fabs(want) + 1e-40 : 0);
}

static void compare(kc_worst *w, const prxi_linear_desc *d, const shape *s, const void *x, const void *y)
{
    const int64_t ldx = s->k + s->pad_x, ldy = s->n + s->pad_y;
    const int64_t row_step = s->m * s->n * s->k > 2000000 ? 7 : 1;
    double *wide = malloc((size_t)(s->n * s->k) * sizeof *wide);
    for (int64_t i = 0; wide && i < s->n * s->k; i++)
        wide[i] = as_compute(load_weight(d->weight, d->weight_dtype, (size_t)i), d->compute);
    for (int64_t r = 0; wide && r < s->m; r += row_step)
        for (int64_t c = 0; c < s->n; c++) {
            double v = d->bias ? load_weight(d->bias, d->bias_dtype, (size_t)c) : 0, mag = fabs(v);
            for (int64_t i = 0; i < s->k; i++) {
                const double p = prxi_load(x, d->compute, (size_t)(r * ldx + i)) * wide[c * s->k + i];
                v += p;
                mag += fabs(p);
            }
            const double want = epilogue(d->epilogue, v);
            kc_compare(w, (size_t)(r * s->n + c), prxi_load(y, d->out, (size_t)(r * ldy + c)), want,
                       tolerance(d, mag, v, want));
        }
    free(wide);
}

static prxi_linear *open_linear(kc *k, const prxi_linear_desc *d, prxi_gemm_with with)
{
    prxi_linear *l = NULL;
    const int ret = prxi_linear_open_with(&k->ctx, &l, d, with);
    kc_result(k, ret == PRX_OK && l, "open: %s", k->ctx.error.text);
    return l;
}

/* Values between the rows keep their fill. */
static void check_gaps(kc *k, const unsigned char *y, size_t elem, int64_t m, int64_t n, int64_t ld)
{
    int bad = 0;
    for (int64_t r = 0; r < m; r++)
        for (size_t i = (size_t)(r * ld + n) * elem; i < (size_t)((r + 1) * ld) * elem; i++)
            bad += y[i] != 0xaa;
    kc_result(k, bad == 0, "%d bytes written between rows", bad);
}

/* A row alone gives the bytes that it gives among others. */
static void check_row(kc *k, const prxi_linear *l, const prxi_linear_desc *d, const shape *s, const void *x, const void *y)
{
    const int64_t row = kc_u32(k) % s->m;
    kc_buf one = kc_alloc((size_t)s->n * prxi_dtype_size(d->out));
    prxi_linear_run(&k->one, l, 1,
                    (const unsigned char *)x + (size_t)(row * (s->k + s->pad_x)) * prxi_dtype_size(d->compute), s->k,
                    one.p, s->n);
    kc_same_bytes(k, one.p, (const unsigned char *)y + (size_t)(row * (s->n + s->pad_y)) * prxi_dtype_size(d->out),
                  one.bytes, "a row alone");
    kc_guards(k, &one, "row");
    kc_free(&one);
}

static void check_linear(kc *k, const prxi_linear_desc *proto, prxi_gemm_with with, const shape *s, kc_input kind)
{
    prxi_linear_desc d = *proto;
    const int64_t ldx = s->k + s->pad_x, ldy = s->n + s->pad_y;
    kc_buf w = kc_alloc((size_t)(s->n * s->k) * prxi_dtype_size(d.weight_dtype));
    kc_buf b = kc_alloc((size_t)s->n * prxi_dtype_size(d.bias_dtype));
    kc_buf x = kc_alloc((size_t)(s->m * ldx) * prxi_dtype_size(d.compute));
    kc_buf y = kc_alloc((size_t)(s->m * ldy) * prxi_dtype_size(d.out)), y3 = kc_alloc(y.bytes);
    for (int64_t i = 0; i < s->n * s->k; i++)
        store_weight(w.p, d.weight_dtype, (size_t)i, kc_uniform(k));
    for (int64_t i = 0; i < s->n; i++)
        store_weight(b.p, d.bias_dtype, (size_t)i, kc_uniform(k));
    kc_fill(k, x.p, d.compute, (size_t)(s->m * ldx), (size_t)ldx, kind);
    d.weight = w.p;
    d.bias = kc_u32(k) % 4 ? b.p : NULL;
    d.n = s->n;
    d.k = s->k;
    d.isa = k->isa;
    prxi_linear *l = open_linear(k, &d, with);
    if (l) {
        prxi_linear_run(&k->one, l, s->m, x.p, ldx, y.p, ldy);
        prxi_linear_run(&k->three, l, s->m, x.p, ldx, y3.p, ldy);
        kc_same_bytes(k, y.p, y3.p, y.bytes, "threads");
        kc_worst worst = { 0 };
        compare(&worst, &d, s, x.p, y.p);
        kc_close(k, &worst, "y");
        check_gaps(k, y.p, prxi_dtype_size(d.out), s->m, s->n, ldy);
        check_row(k, l, &d, s, x.p, y.p);
        prxi_linear_close(&k->ctx, &l);
    }
    kc_buf *const all[] = { &w, &b, &x, &y, &y3 };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        kc_guards(k, all[i], "linear");
        kc_free(all[i]);
    }
}

static void check_linears(kc *k, prxi_gemm_with with)
{
    static const shape shapes[] = { { 1, 1, 1, 0, 0 }, { 1, 256, 256, 0, 0 }, { 37, 45, 801, 3, 2 }, { 15, 33, 64, 0, 7 },
                                    { 200, 70, 40, 1, 1 }, { 29, 300, 385, 0, 0 }, { 513, 32, 769, 0, 0 },
                                    { 31, 40, 64, 700, 0 }, { 180, 1100, 20, 0, 0 } };
    static const prxi_dtype stored[] = { PRXI_F32, PRXI_BF16, PRXI_F16 };
    int turn = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int mix = 0; mix < 12; mix++, turn++) {
            const prxi_linear_desc d = { .compute = types[mix & 1], .out = types[mix >> 1 & 1],
                                         .weight_dtype = stored[mix % 3], .bias_dtype = stored[(mix + i) % 3],
                                         .epilogue = (prxi_epilogue)(turn % 3) };
            const kc_input kind = (kc_input)(turn / 3 % KC_INPUTS);
            if (with == PRXI_GEMM_ONEDNN && d.compute == PRXI_F32 && d.out == PRXI_BF16)
                continue;          /* oneDNN 2.6 has none */
            if (kc_begin(k, "%s %lldx%lldx%lld %s %s %s epilogue %d %s",
                         with == PRXI_GEMM_ONEDNN ? "onednn" : "linear", (long long)shapes[i].m, (long long)shapes[i].n,
                         (long long)shapes[i].k, prxi_dtype_name(d.weight_dtype), prxi_dtype_name(d.compute),
                         prxi_dtype_name(d.out), (int)d.epilogue, kc_input_name[kind]))
                check_linear(k, &d, with, &shapes[i], kind);
        }
}

/* AVX2 and AVX-512 tiles add in the same order and fuse: same bytes. */
static void check_rungs_agree(kc *k)
{
    enum { M = 45, N = 70, K = 500 };
    if ((k->isa & (PRXI_ISA_AVX2 | PRXI_ISA_AVX512)) != (PRXI_ISA_AVX2 | PRXI_ISA_AVX512))
        return;
    static float w[N * K], x[M * K], y[2][M * N];
    kc_fill(k, w, PRXI_F32, N * K, K, KC_UNIFORM);
    kc_fill(k, x, PRXI_F32, M * K, K, KC_UNIFORM);
    for (int i = 0; i < 2; i++) {
        const prxi_linear_desc d = { .weight = w, .n = N, .k = K, .epilogue = PRXI_EPI_GELU_TANH,
                                     .isa = i ? PRXI_ISA_AVX2 | PRXI_ISA_AVX512 : PRXI_ISA_AVX2 };
        prxi_linear *l = open_linear(k, &d, PRXI_GEMM_TILES);
        if (l)
            prxi_linear_run(&k->one, l, M, x, K, y[i], N);
        prxi_linear_close(&k->ctx, &l);
    }
    kc_same_bytes(k, y[0], y[1], sizeof y[0], "AVX2 and AVX-512");
}

static void check_sgemm(kc *k, int trans, const shape *s)
{
    const int64_t lda = s->k + s->pad_x, ldb = (trans ? s->k : s->n) + s->pad_x, ldc = s->n + s->pad_y;
    kc_buf a = kc_alloc((size_t)(s->m * lda) * 4), b = kc_alloc((size_t)((trans ? s->n : s->k) * ldb) * 4),
           c = kc_alloc((size_t)(s->m * ldc) * 4);
    const float *pa = a.p, *pb = b.p, alpha = 0.125f + kc_uniform(k);
    kc_fill(k, a.p, PRXI_F32, a.bytes / 4, 64, KC_UNIFORM);
    kc_fill(k, b.p, PRXI_F32, b.bytes / 4, 64, KC_WIDE);
    prxi_sgemm(trans, s->m, s->n, s->k, alpha, pa, lda, pb, ldb, c.p, ldc, k->isa);
    kc_worst w = { 0 };
    for (int64_t r = 0; r < s->m; r++)
        for (int64_t j = 0; j < s->n; j++) {
            double v = 0, mag = 0;
            for (int64_t i = 0; i < s->k; i++) {
                const double p = alpha * (double)pa[r * lda + i] * (double)pb[trans ? j * ldb + i : i * ldb + j];
                v += p;
                mag += fabs(p);
            }
            kc_compare(&w, (size_t)(r * s->n + j), ((float *)c.p)[r * ldc + j], v,
                       KC_EPS * (2 + sqrt((double)s->k)) * mag + 1e-44);
        }
    kc_close(k, &w, "c");
    check_gaps(k, c.p, 4, s->m, s->n, ldc);
    kc_buf *const all[] = { &a, &b, &c };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        kc_guards(k, all[i], "sgemm");
        kc_free(all[i]);
    }
}

static int allowed;

static void *sparing_alloc(void *cookie, size_t n)
{
    (void)cookie;
    return allowed-- > 0 ? malloc(n) : NULL;
}

static void sparing_free(void *cookie, void *p)
{
    (void)cookie;
    free(p);
}

/* The n-th allocation refused: an error, nothing leaks, and nothing is written. */
static void check_faults(kc *k)
{
    static const float w[64] = { 0 };
    float y[8] = { 7 };
    const prx_allocator sparing = { sparing_alloc, sparing_free, NULL };
    const prxi_linear_desc d = { .weight = w, .bias = w, .n = 8, .k = 8, .isa = k->isa };
    prxi_mem mem;
    prxi_mem_init(&mem, &sparing);
    for (int n = 0; n < 32; n++) {
        prxi_ctx c = { .mem = &mem };
        prxi_linear *l = NULL;
        allowed = n;
        const int ret = prxi_linear_open(&c, &l, &d);
        kc_result(k, ret == (l ? PRX_OK : PRX_ENOMEM) && (l || c.error.text[0]), "open with %d allocations: %d", n, ret);
        if (!l) {
            kc_result(k, atomic_load(&mem.total) == 0, "open with %d allocations leaks", n);
            continue;
        }
        prxi_stream s;
        prxi_stream_init(&s, &c, 1);
        allowed = 0;
        prxi_linear_run(&s, l, 1, w, 8, y, 8);
        kc_result(k, prxi_stream_error(&s) == PRX_ENOMEM && y[0] == 7, "run without memory");
        prxi_linear_close(&c, &l);
        prxi_stream_close(&s);
        kc_result(k, atomic_load(&mem.total) == 0, "close leaks");
        return;
    }
    kc_result(k, 0, "open never succeeds");
}

static void check_refusals(kc *k)
{
    static const float w[4];
    const prxi_linear_desc good = { .weight = w, .n = 2, .k = 2 };
    for (int i = 0; i < 7; i++) {
        prxi_linear_desc d = good;
        switch (i) {
        case 0: d.weight = NULL; break;
        case 1: d.n = 0; break;
        case 2: d.k = -1; break;
        case 3: d.n = d.k = (int64_t)1 << 40; break;
        case 4: d.compute = PRXI_F16; break;
        case 5: d.weight_dtype = PRXI_U8; break;
        default: d.out = PRXI_U8; break;
        }
        prxi_ctx c = { .mem = &k->mem };
        prxi_linear *l = (prxi_linear *)(uintptr_t)8;
        kc_result(k, prxi_linear_open(&c, &l, &d) == PRX_EINVAL && !l && c.error.text[0], "description %d passes", i);
    }
}

typedef struct gemm_bench {
    kc *k;
    const prxi_linear *l;
    int64_t m, n, depth;
    void *x, *y;
} gemm_bench;

static void bench_linear(void *cookie)
{
    const gemm_bench *b = cookie;
    prxi_linear_run(&b->k->one, b->l, b->m, b->x, b->depth, b->y, b->n);
}

typedef struct sgemm_bench {
    kc *k;
    int trans;
    int64_t m, n, depth;
    float *a, *b, *c;
} sgemm_bench;

static void run_sgemm(void *cookie)
{
    const sgemm_bench *b = cookie;
    prxi_sgemm(b->trans, b->m, b->n, b->depth, 1.0f, b->a, b->depth, b->b, b->trans ? b->depth : b->n, b->c, b->n,
               b->k->isa);
}

/* The two products of one head of the text encoder, and those of the decoder's attention. */
static void bench_sgemm(kc *k)
{
    static const sgemm_bench cases[] = { { .trans = 1, .m = 512, .n = 512, .depth = 64 }, { .m = 512, .n = 64, .depth = 512 },
                                         { .trans = 1, .m = 1024, .n = 1024, .depth = 384 } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sgemm_bench b = cases[i];
        if (!kc_begin(k, "sgemm %lldx%lldx%lld trans %d", (long long)b.m, (long long)b.n, (long long)b.depth, b.trans))
            continue;
        kc_buf x = kc_alloc((size_t)(b.m * b.depth) * 4), w = kc_alloc((size_t)(b.n * b.depth) * 4),
               y = kc_alloc((size_t)(b.m * b.n) * 4);
        kc_fill(k, x.p, PRXI_F32, x.bytes / 4, 64, KC_UNIFORM);
        kc_fill(k, w.p, PRXI_F32, w.bytes / 4, 64, KC_UNIFORM);
        b.k = k;
        b.a = x.p;
        b.b = w.p;
        b.c = y.p;
        kc_time(k, run_sgemm, &b, 0, 2.0 * (double)b.m * (double)b.n * (double)b.depth);
        kc_free(&x);
        kc_free(&w);
        kc_free(&y);
    }
}

static void bench(kc *k)
{
    static const shape shapes[] = { { 2560, 1536, 1536, 0, 0 }, { 2560, 8960, 1536, 0, 0 }, { 2560, 1536, 8960, 0, 0 },
                                    { 512, 1536, 4096, 0, 0 }, { 1152, 256, 256, 0, 0 }, { 1, 1536, 1536, 0, 0 } };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int t = 0; t < 2; t++) {
            const shape *s = &shapes[i];
            if (!kc_begin(k, "linear %s %lldx%lldx%lld", prxi_dtype_name(types[t]), (long long)s->m, (long long)s->n,
                          (long long)s->k) || (k->isa == 0 && s->m > 1200))
                continue;
            const size_t e = prxi_dtype_size(types[t]);
            kc_buf w = kc_alloc((size_t)(s->n * s->k) * e), x = kc_alloc((size_t)(s->m * s->k) * e),
                   y = kc_alloc((size_t)(s->m * s->n) * e);
            kc_fill(k, w.p, types[t], (size_t)(s->n * s->k), 64, KC_UNIFORM);
            kc_fill(k, x.p, types[t], (size_t)(s->m * s->k), 64, KC_UNIFORM);
            const prxi_linear_desc d = { .weight = w.p, .weight_dtype = types[t], .n = s->n, .k = s->k,
                                         .compute = types[t], .out = types[t], .isa = k->isa };
            prxi_linear *l = open_linear(k, &d, PRXI_GEMM_AUTO);
            gemm_bench b = { k, l, s->m, s->n, s->k, x.p, y.p };
            if (l)
                kc_time(k, bench_linear, &b, 0, 2.0 * (double)s->m * (double)s->n * (double)s->k);
            prxi_linear_close(&k->ctx, &l);
            kc_free(&w);
            kc_free(&x);
            kc_free(&y);
        }
}

static void check(kc *k)
{
    static const shape products[] = { { 1, 1, 1, 0, 0 }, { 5, 3, 7, 2, 1 }, { 57, 65, 400, 0, 0 }, { 64, 64, 64, 64, 64 },
                                      { 130, 17, 33, 1, 0 }, { 459, 40, 450, 0, 3 } };
    if (k->bench) {
        bench(k);
        bench_sgemm(k);
        return;
    }
    check_linears(k, PRXI_GEMM_TILES);
    if (k->isa & PRXI_ISA_AVX512)
        check_linears(k, PRXI_GEMM_ONEDNN);
    if (kc_begin(k, "rungs agree"))
        check_rungs_agree(k);
    for (size_t i = 0; i < sizeof products / sizeof *products; i++)
        for (int trans = 0; trans < 2; trans++)
            if (kc_begin(k, "sgemm case %zu trans %d", i, trans))
                check_sgemm(k, trans, &products[i]);
    if (kc_begin(k, "faults"))
        check_faults(k);
    if (kc_begin(k, "refusals"))
        check_refusals(k);
}

int main(int argc, char **argv)
{
    return kc_main(argc, argv, check);
}
