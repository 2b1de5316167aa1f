/* Checks of activations, conversions and softmax. */
#include "kcheck.h"

static const prxi_dtype types[] = { PRXI_F32, PRXI_BF16 };

typedef enum op { GELU, GELU_MUL, SILU, ADD, SUB, OPS } op;
static const char *const op_name[OPS] = { "gelu", "gelu_mul", "silu", "add", "sub" };

static void call(kc *k, prxi_stream *s, op o, prxi_dtype t, int64_t n, const void *a, const void *b, void *y)
{
    switch (o) {
    case GELU: k->act.gelu_mul[t](s, n, a, NULL, y); break;
    case GELU_MUL: k->act.gelu_mul[t](s, n, a, b, y); break;
    case SILU: k->act.silu[t](s, n, a, y); break;
    case ADD: k->act.add[t](s, n, a, b, y); break;
    default: k->act.sub[t](s, n, a, b, y); break;
    }
}

/* 0.5 x (1 + tanh u) in double, written so that it does not cancel. */
static double gelu(double x)
{
    return x / (1 + exp(-2 * 0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}

static double truth(op o, double a, double b)
{
    switch (o) {
    case GELU: return gelu(a);
    case GELU_MUL: return gelu(a) * b;
    case SILU: return a / (1 + exp(-a));
    case ADD: return a + b;
    default: return a - b;
    }
}

/* exp(v) amplifies the rounding of its argument: relative error eps (2 + |v|) where |v| is the argument, so
 * x / (1 + exp(v)) has that times exp(v) / (1 + exp(v)); two more roundings for sum and quotient. Where exp overflows the
 * quotient is 0 and the truth below |x| / FLT_MAX. For gelu all this is below 4e-7 max(1, |y|). */
static double tolerance(op o, double a, double b, double want)
{
    const double v = o == SILU ? -a : -2 * 0.79788456080286535588 * (a + 0.044715 * a * a * a);
    const double part = v > 700 ? 1 : exp(v) / (1 + exp(v));
    switch (o) {
    case GELU:
    case GELU_MUL:
    case SILU: return KC_EPS * (3 + (2 + 2 * fabs(v)) * part) * fabs(want) +
                      (fabs(a) / 3.4e38 + 1.2e-38) * (o == GELU_MUL ? fabs(b) : 1);
    default: return 0.5 * KC_EPS * fabs(want);
    }
}

/* Infinities, signs, the ends of exp's range, and round-to-even cases among ordinary numbers. */
static void specials(void *p, prxi_dtype t, size_t n)
{
    static const float v[] = { 0.0f, -0.0f, 88.7f, -88.7f, 104.0f, -104.0f, 1e30f, -1e30f, 3.0e38f, -3.0e38f, 1e-45f, -1e-39f,
                               1.00390625f, 1.01171875f, -1.00390625f, 10.0f, -10.0f, -5.0f, -13.0f, 0.5f };
    for (size_t i = 0; i < n && i < sizeof v / sizeof *v; i++)
        prxi_store(p, t, i, v[i]);
}

static void check_op(kc *k, op o, prxi_dtype t, size_t n, kc_input kind)
{
    const size_t bytes = n * prxi_dtype_size(t);
    kc_buf a = kc_alloc(bytes), b = kc_alloc(bytes), y = kc_alloc(bytes), y3 = kc_alloc(bytes);
    kc_fill(k, a.p, t, n, 64, kind);
    kc_fill(k, b.p, t, n, 64, KC_UNIFORM);
    if (kind == KC_WIDE)
        specials(a.p, t, n);
    call(k, &k->one, o, t, (int64_t)n, a.p, b.p, y.p);
    call(k, &k->three, o, t, (int64_t)n, a.p, b.p, y3.p);
    kc_same_bytes(k, y.p, y3.p, bytes, "threads");
    kc_worst w = { 0 };
    for (size_t i = 0; i < n; i++) {
        const double x = prxi_load(a.p, t, i), z = prxi_load(b.p, t, i), want = truth(o, x, z);
        const double tol = tolerance(o, x, z, want) + (t == PRXI_BF16 ? KC_HALF_BF16 * fabs(want) + 1e-40 : 0);
        kc_compare(&w, i, prxi_load(y.p, t, i), fabs(want) > 3.4028e38 ? copysign(INFINITY, want) : want, tol);
    }
    kc_close(k, &w, "y");
    call(k, &k->one, o, t, (int64_t)n, a.p, b.p, a.p);
    kc_same_bytes(k, a.p, y.p, bytes, "in place");
    kc_buf *const all[] = { &a, &b, &y, &y3 };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        kc_guards(k, all[i], "elementwise");
        kc_free(all[i]);
    }
}

static void put_u32(void *p, size_t i, uint32_t v)
{
    memcpy((unsigned char *)p + 4 * i, &v, 4);
}

/* Conversions are exact or have one right answer: every bf16 and f16 pattern, random f32 patterns; NaN stays NaN. */
static void check_convert(kc *k)
{
    enum { N = 65536 + 5 };
    kc_buf h = kc_alloc(2 * N), f = kc_alloc(4 * N), g = kc_alloc(2 * N);
    uint16_t *half = h.p, *narrow = g.p;
    float *wide = f.p;
    int bad = 0;
    for (int i = 0; i < N; i++)
        half[i] = (uint16_t)i;
    k->act.bf16_to_f32(&k->one, N, half, wide);
    for (int i = 0; i < N; i++) {
        const float want = prxi_bf16_to_f32(half[i]);
        bad += memcmp(&want, &wide[i], 4) != 0;
    }
    kc_result(k, bad == 0, "bf16_to_f32: %d wrong", bad);
    k->act.f16_to_f32(&k->one, N, half, wide);
    bad = 0;
    for (int i = 0; i < N; i++) {
        const float want = prxi_f16_to_f32(half[i]);
        bad += isnan(want) ? !isnan(wide[i]) : memcmp(&want, &wide[i], 4) != 0;
    }
    kc_result(k, bad == 0, "f16_to_f32: %d wrong", bad);
    for (size_t i = 0; i < N; i++)
        put_u32(f.p, i, i & 1 ? kc_u32(k) : (kc_u32(k) & 0xffff0000u) | 0x8000u);
    put_u32(f.p, 0, 0x7f800001u);
    put_u32(f.p, 1, 0xffffffffu);
    put_u32(f.p, 2, 0x7f7fffffu);
    put_u32(f.p, 3, 0x00008000u);
    k->act.f32_to_bf16(&k->one, N, wide, narrow);
    bad = 0;
    for (int i = 0; i < N; i++)
        bad += prxi_f32_to_bf16(wide[i]) != narrow[i];
    kc_result(k, bad == 0, "f32_to_bf16: %d wrong", bad);
    kc_buf *const all[] = { &h, &f, &g };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        kc_guards(k, all[i], "conversion");
        kc_free(all[i]);
    }
}

static void check_softmax(kc *k, int64_t rows, int64_t n, int64_t ld, kc_input kind, float gain)
{
    const size_t count = (size_t)(rows * ld), bytes = count * 4;
    kc_buf x0 = kc_alloc(bytes), x = kc_alloc(bytes), x3 = kc_alloc(bytes);
    float *in = x0.p;
    kc_fill(k, in, PRXI_F32, count, (size_t)ld, kind);
    for (size_t i = 0; i < count; i++)
        in[i] *= gain;
    if (n > 3)
        in[2] = -INFINITY;
    memcpy(x.p, in, bytes);
    memcpy(x3.p, in, bytes);
    k->act.softmax(&k->one, rows, n, x.p, ld);
    k->act.softmax(&k->three, rows, n, x3.p, ld);
    kc_same_bytes(k, x.p, x3.p, bytes, "threads");
    kc_worst w = { 0 };
    int stray = 0;
    for (int64_t r = 0; r < rows; r++) {
        const float *row = in + r * ld, *got = (float *)x.p + r * ld;
        double max = row[0], sum = 0;
        for (int64_t i = 1; i < n; i++)
            max = fmax(max, row[i]);
        for (int64_t i = 0; i < n; i++)
            sum += exp(row[i] - max);
        /* The argument's rounding, exp, the sum in 8 or more parts (one, in the reference), two products. */
        for (int64_t i = 0; i < n; i++) {
            const double arg = fabs(row[i] - max), want = exp(row[i] - max) / sum;
            kc_compare(&w, (size_t)(r * n + i), got[i], want,
                       KC_EPS * (6 + (isinf(arg) ? 0 : arg) + sqrt((double)n)) * want + 1e-37);
        }
        for (int64_t i = n; i < ld; i++)
            stray += memcmp(&row[i], &got[i], 4) != 0;
    }
    kc_close(k, &w, "softmax");
    kc_result(k, stray == 0, "softmax: %d values between rows written", stray);
    kc_guards(k, &x, "softmax");
    kc_free(&x0);
    kc_free(&x);
    kc_free(&x3);
}

typedef struct act_bench {
    kc *k;
    op o;
    prxi_dtype t;
    int64_t n;
    void *a, *b, *y;
} act_bench;

static void bench_op(void *cookie)
{
    const act_bench *b = cookie;
    call(b->k, &b->k->one, b->o, b->t, b->n, b->a, b->b, b->y);
}

static void bench_softmax(void *cookie)
{
    const act_bench *b = cookie;
    b->k->act.softmax(&b->k->one, b->n / 512, 512, b->y, 512);
}

static void bench(kc *k)
{
    enum { N = 1280 * 8960 };
    kc_buf a = kc_alloc((size_t)N * 4), b = kc_alloc((size_t)N * 4), y = kc_alloc((size_t)N * 4);
    for (int d = 0; d < 2; d++) {
        kc_fill(k, a.p, types[d], N, 64, KC_UNIFORM);
        kc_fill(k, b.p, types[d], N, 64, KC_UNIFORM);
        for (int o = 0; o < OPS; o++) {
            act_bench t = { k, (op)o, types[d], N, a.p, b.p, y.p };
            const double bytes = (o == GELU || o == SILU ? 2.0 : 3.0) * N * (double)prxi_dtype_size(types[d]);
            if (kc_begin(k, "%s %s %d", op_name[o], prxi_dtype_name(types[d]), N))
                kc_time(k, bench_op, &t, bytes, 0);
        }
    }
    kc_fill(k, y.p, PRXI_F32, N, 64, KC_UNIFORM);
    act_bench t = { k, GELU, PRXI_F32, N, a.p, b.p, y.p };
    if (kc_begin(k, "softmax f32 %dx512", N / 512))
        kc_time(k, bench_softmax, &t, 2.0 * N * 4, 0);
    kc_free(&a);
    kc_free(&b);
    kc_free(&y);
}

static void check(kc *k)
{
    static const size_t sizes[] = { 1, 7, 16, 33, 1000, 100003 };
    if (k->bench) {
        bench(k);
        return;
    }
    for (int o = 0; o < OPS; o++)
        for (int d = 0; d < 2; d++)
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
                for (int kind = 0; kind < KC_INPUTS; kind++)
                    if (kc_begin(k, "%s %s %zu %s", op_name[o], prxi_dtype_name(types[d]), sizes[i], kc_input_name[kind]))
                        check_op(k, (op)o, types[d], sizes[i], (kc_input)kind);
    if (kc_begin(k, "convert"))
        check_convert(k);
    for (int kind = 0; kind < KC_INPUTS; kind++)
        for (int64_t n = 1; n < 2000; n = n * 3 + 2)
            if (kc_begin(k, "softmax %lld %s", (long long)n, kc_input_name[kind])) {
                check_softmax(k, 3, n, n, (kc_input)kind, 1.0f);
                check_softmax(k, 70, n, n + 3, (kc_input)kind, 20.0f);
            }
}

int main(int argc, char **argv)
{
    return kc_main(argc, argv, check);
}
