/* Products in 8 bits: rows to e4m3 to the bit, products against double precision, and what a linear layer loses by it: no more than the
 * roundings of its operands allow. What the cost is on a model, only a render can say. */
#define _POSIX_C_SOURCE 200809L
#include "tests/test.h"

#include "engine/ops/gemm.h"
#include "tests/cuda/under_test.h"
#include "tests/random.h"

static test_random rng;
static prxi_mem mem;
static prxi_ctx ctx;

static void ok(int err)
{
    CHECK(err == PRX_OK && cuda_under_test()->module->sync(cuda_under_test()->dev) == PRX_OK, "%s",
          cuda_under_test()->module->last_error(cuda_under_test()->dev));
}

static void *must(size_t n, size_t size)
{
    void *p = calloc(n + 1, size);
    REQUIRE(p, "memory");
    return p;
}

/* By the definition of the format. */
static double value_of(int code)
{
    const int e = code >> 3 & 15, m = code & 7;
    const double v = e ? ldexp(8 + m, e - 10) : ldexp(m, -9);
    return (code & 127) == 127 ? NAN : code & 128 ? -v : v;
}

/* The nearest of all values, ties to the even code. */
static int nearest_code(float x)
{
    int best = 0;
    for (int i = 1; i < 127; i++) {
        const double far = fabs(value_of(i) - fabs((double)x)), least = fabs(value_of(best) - fabs((double)x));
        if (far < least || (far == least && i % 2 == 0))
            best = i;
    }
    return x != x ? 127 : signbit(x) ? best | 128 : best;
}

/* Every value, the middle between neighbours, and what is beside it, in a row whose scale is 1. */
static void check_rounding(void)
{
    enum { N = 2 * 127 * 4 + 1 };
    float *x = must(N, sizeof *x), *scale = must(1, sizeof *scale);
    uint8_t *q = must(N, 1);
    int n = 0;
    for (int i = 0; i < 127; i++)
        for (int sign = -1; sign <= 1; sign += 2) {
            const float middle = i < 126 ? (float)((value_of(i) + value_of(i + 1)) / 2) : 448.0f;
            const float all[] = { (float)value_of(i), middle, nextafterf(middle, 0), i < 126 ? nextafterf(middle, 1e9f) : 1e-20f };
            for (int k = 0; k < 4; k++)
                x[n++] = (float)sign * all[k];
        }
    x[n++] = NAN;
    const prxi_cu_quantise a = { 1, n, x, n, q, scale };
    ok(cuda_under_test()->module->quantise(cuda_under_test()->dev, PRXI_F32, &a));
    CHECK(*scale == 1, "scale %g", (double)*scale);
    int wrong = 0;
    for (int i = 0; i < n; i++)
        wrong += (q[i] & (x[i] == x[i] ? 255 : 127)) != nearest_code(x[i]);
    CHECK(n == N && wrong == 0, "%d of %d values", wrong, n);
    free(x), free(scale), free(q);
}

static void check_rows(prxi_dtype t)
{
    const int rows = 1 + random_below(&rng, 5), whole = random_below(&rng, 2) ? 8 : 1;
    const int k = whole * (1 + random_below(&rng, 900 / whole)), ld = k + whole * random_below(&rng, 5);
    void *x = must((size_t)(rows * ld), 4);
    float *scale = must((size_t)rows, sizeof *scale);
    uint8_t *q = must((size_t)(rows * k), 1);
    int wrong = 0;
    for (int i = 0; i < rows * ld; i++)                     /* the second row is zeros */
        prxi_store(x, t, (size_t)i, i / ld == 1 ? 0 : (float)random_normal(&rng) * expf((float)(i / ld)));
    const prxi_cu_quantise a = { rows, k, x, ld, q, scale };
    ok(cuda_under_test()->module->quantise(cuda_under_test()->dev, (int)t, &a));
    for (int r = 0; r < rows; r++) {
        float top = 0;
        for (int i = 0; i < k; i++)
            top = fmaxf(top, fabsf(prxi_load(x, t, (size_t)(r * ld + i))));
        const float up = top > 0 ? 448.0f / top : 0;
        wrong += scale[r] != (top > 0 ? top / 448.0f : 1);
        for (int i = 0; i < k; i++)
            wrong += q[r * k + i] != nearest_code(prxi_load(x, t, (size_t)(r * ld + i)) * up);
    }
    CHECK(wrong == 0, "rows of %s: %d values of %d x %d", prxi_dtype_name(t), wrong, rows, k);
    free(x), free(scale), free(q);
}

/* A norm into 8 bits: x, codes and scales of the norm into bf16 with the conversion after it, to the bit. */
static void check_norm(void)
{
    enum { HAS_O = 1, HAS_GATE = 2, HAS_MUL = 4, HAS_ADD = 8 };
    const prxi_cuda *u = cuda_under_test();
    const int rows = 1 + random_below(&rng, 4), dim = 4 * (1 + random_below(&rng, 400)), has = random_below(&rng, 16);
    const size_t n = (size_t)(rows * dim), bytes = n * sizeof(prxi_bf16);
    prxi_bf16 *x = must(n, 2), *x8 = must(n, 2), *o = must(n, 2), *out = must(n, 2);
    float *vec[3] = { must((size_t)dim, 4), must((size_t)dim, 4), must((size_t)dim, 4) };
    float *scale = must((size_t)rows, 4), *want_scale = must((size_t)rows, 4);
    uint8_t *q = must(n, 1), *want = must(n, 1);
    for (size_t i = 0; i < n; i++) {                        /* now and then a row of one value, which the norm makes zeros */
        x[i] = prxi_f32_to_bf16(rows > 2 && i < (size_t)dim ? 3 : (float)random_normal(&rng) * 5);
        o[i] = prxi_f32_to_bf16(rows > 2 && i < (size_t)dim ? 0 : (float)random_normal(&rng));
    }
    for (int i = 0; i < 3 * dim; i++)
        vec[i / dim][i % dim] = (float)random_normal(&rng);
    memcpy(x8, x, bytes);
    prxi_cu_ln a = { rows, dim, x, has & HAS_O ? o : NULL, has & HAS_GATE ? vec[0] : NULL, has & HAS_MUL ? vec[1] : NULL,
                     has & HAS_ADD && rows <= 2 ? vec[2] : NULL, 1e-6f, out, NULL, NULL };
    const prxi_cu_quantise after = { rows, dim, out, dim, want, want_scale };
    ok(u->module->layernorm(u->dev, PRXI_BF16, &a));
    ok(u->module->quantise(u->dev, PRXI_BF16, &after));
    a.x = x8, a.out = NULL, a.q = q, a.scale = scale;
    ok(u->module->layernorm(u->dev, PRXI_BF16, &a));
    CHECK(memcmp(x, x8, bytes) == 0 && memcmp(q, want, n) == 0 && memcmp(scale, want_scale, (size_t)rows * sizeof *scale) == 0,
          "norm of %d x %d into 8 bits, operands %d: not the bytes of one after the other", rows, dim, has);
    a.dim = dim - 1;
    CHECK(u->module->layernorm(u->dev, PRXI_BF16, &a) == PRX_ENOTSUP, "rows that are no fours");
    void *const all[] = { x, x8, o, out, vec[0], vec[1], vec[2], scale, want_scale, q, want };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static double gelu(double v)
{
    return v / (1 + exp(-2 * 0.7978845608 * (v + 0.044715 * v * v * v)));
}

/* Largest error that rounding v to 8 bits can make: half a step. */
static double slip(double v, double scale)
{
    return fmax(fabs(v) / 16, scale / 1024) * (1 + 1e-6);
}

/* The same product from an input that is in 8 bits already: the same bytes, and nothing is converted. */
static void check_again(const prxi_linear *l, prxi_stream *s, int m, int n, int k, const prxi_bf16 *x, const prxi_bf16 *y)
{
    uint8_t *q = must((size_t)(m * k), 1);
    float *scale = must((size_t)m, sizeof *scale);
    prxi_bf16 *again = must((size_t)(m * n), 2);
    const prxi_cu_quantise a = { m, k, x, k, q, scale };
    ok(cuda_under_test()->module->quantise(cuda_under_test()->dev, PRXI_BF16, &a));
    emu_fail_launch(0);
    prxi_linear_run_eight(s, l, m, q, scale, again, n);
    CHECK(prxi_stream_error(s) == PRX_OK && memcmp(y, again, (size_t)(m * n) * 2) == 0, "an input in 8 bits: %s", ctx.error.text);
    CHECK(getenv("PRAXINO_CUDA_MODULE") || emu_launched("quantise") == 0, "it was converted again");
    free(q), free(scale), free(again);
}

/* A layer with weights of 8 bits against double precision with the weights as they were. */
static void check_linear(int e)
{
    const int m = 1 + random_below(&rng, 40), n = 16 * (1 + random_below(&rng, 4)), k = 16 * (1 + random_below(&rng, 8));
    prxi_bf16 *x = must((size_t)(m * k), 2), *w = must((size_t)(n * k), 2), *b = must((size_t)n, 2), *y = must((size_t)(m * n), 2);
    prxi_bf16 *const all[] = { x, w, b };
    const int counts[] = { m * k, n * k, n };
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < counts[i]; j++)
            all[i][j] = prxi_f32_to_bf16((float)random_normal(&rng));
    const prxi_linear_desc d = { .weight = w, .weight_dtype = PRXI_BF16, .bias = b, .bias_dtype = PRXI_BF16, .n = n, .k = k,
                                 .compute = PRXI_BF16, .out = PRXI_BF16, .epilogue = e ? PRXI_EPI_GELU_TANH : PRXI_EPI_NONE,
                                 .device = cuda_device(), .eight_bits = 1 };
    prxi_linear *l = NULL;
    prxi_stream s;
    prxi_stream_init(&s, &ctx, 1);
    s.device = cuda_device();
    emu_fail_launch(0);
    REQUIRE(prxi_linear_open(&ctx, &l, &d) == PRX_OK, "%s", ctx.error.text);
    CHECK(prxi_linear_bytes(l) < (size_t)(n * k) * 2, "%zu bytes for %d x %d weights", prxi_linear_bytes(l), n, k);
    prxi_linear_run(&s, l, m, x, k, y, n);
    CHECK(prxi_stream_error(&s) == PRX_OK && (getenv("PRAXINO_CUDA_MODULE") || emu_launched("quantise") == 2), "%s", ctx.error.text);
    check_again(l, &s, m, n, k, x, y);
    double worst = 0, lost = 0, size = 0;
    for (int i = 0; i < m * n; i++) {
        const prxi_bf16 *row = x + i / n * k, *col = w + i % n * k;
        double tx = 0, tw = 0, sum = (double)prxi_bf16_to_f32(b[i % n]), slack = 1e-4;
        for (int j = 0; j < k; j++) {
            tx = fmax(tx, fabs((double)prxi_bf16_to_f32(row[j])));
            tw = fmax(tw, fabs((double)prxi_bf16_to_f32(col[j])));
        }
        for (int j = 0; j < k; j++) {
            const double u = (double)prxi_bf16_to_f32(row[j]), v = (double)prxi_bf16_to_f32(col[j]);
            const double du = slip(u, tx / 448), dv = slip(v, tw / 448);
            sum += u * v;
            slack += fabs(u) * dv + fabs(v) * du + du * dv;
        }
        const double want = e ? gelu(sum) : sum, off = fabs((double)prxi_bf16_to_f32(y[i]) - want);
        worst = fmax(worst, off / (1.13 * slack + fabs(want) / 256));
        lost += off * off, size += want * want;
    }
    CHECK(worst <= 1 && lost > 0, "linear %d x %d x %d, epilogue %d: %.3g of the bound, %.3g of the size", m, n, k, e, worst,
          sqrt(lost / size));
    prxi_linear_close(&ctx, &l);
    free(x), free(w), free(b), free(y);
    prxi_stream_close(&s);
}

int main(void)
{
    setenv("PRAXINO_EMU_CHIP", "90", 1);
    prxi_mem_init(&mem, NULL);
    ctx.mem = &mem;
    check_rounding();
    for (int seed = 0; seed < 16; seed++) {
        cuda_seed((uint64_t)seed);
        rng.state = (uint64_t)seed;
        check_rows(seed % 2 ? PRXI_BF16 : PRXI_F32);
        check_norm();
        if (cuda_under_test()->info.fp8)
            check_linear(seed % 2);
    }
    CHECK(atomic_load(&mem.total) == 0, "%zu bytes leak", atomic_load(&mem.total));
    return TEST_END();
}
