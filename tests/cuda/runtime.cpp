/* The files that talk to the CUDA runtime and to cuBLASLt, with a stand-in for both: products as the contract has them, whatever is asked
 * of the library; weights that come in turns; any call may fail, then nothing stays, and no error waits for the next launch. */
#include "fake_cuda.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "engine/cuda/dev/device.cuh"
#include "tests/random.h"

static test_random rng;

int prxi_cu_fail(device *d, int code, const char *op, const char *why)
{
    snprintf(d->error, sizeof d->error, "%s: %s", op, why);
    return code;
}

static double value(int type, const void *p, int64_t i)
{
    if (type == 0)
        return static_cast<const float *>(p)[i];
    const uint32_t u = static_cast<uint32_t>(static_cast<const uint16_t *>(p)[i]) << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static void set(int type, void *p, int64_t i, double v)
{
    const float f = static_cast<float>(v);
    uint32_t u;
    memcpy(&u, &f, 4);
    if (type == 0)
        static_cast<float *>(p)[i] = f;
    else
        static_cast<uint16_t *>(p)[i] = static_cast<uint16_t>((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static double activation(int epilogue, double x)
{
    const double u = 0.7978845608028654 * (x + 0.044715 * x * x * x);
    return epilogue == 1 ? x / (1 + exp(-2 * u)) : epilogue == 2 ? x / (1 + exp(-x)) : x;
}

/* The kernel behind the library's products, at once: the stand-in is made to finish first. */
int prxi_cu_binary_run(void *dev, int type, prxi_cu_binary op, int64_t n, const void *a, const void *, void *y)
{
    prxi_cu_sync(dev);
    for (int64_t i = 0; i < n; i++)
        set(type, y, i, activation(op == PRXI_CU_SILU ? 2 : 1, value(type, a, i)));
    return PRX_OK;
}

static void *handle(void)
{
    void *dev = calloc(1, prxi_cu_device_bytes());
    REQUIRE(dev, "memory");
    return dev;
}

static double any(void) { return floor(16 * random_normal(&rng)) / 16; }

/* A matrix of rows x cols with ld between rows, the rest of it poison. */
static unsigned char *matrix(void *dev, int type, int64_t rows, int64_t cols, int64_t ld)
{
    unsigned char *p = static_cast<unsigned char *>(prxi_cu_alloc(dev, (size_t)(rows * ld * 4)));
    REQUIRE(p, "memory");
    for (int64_t i = 0; i < rows * cols; i++)
        if (type == PRXI_CU_E4M3)
            p[i / cols * ld + i % cols] = (unsigned char)(random_below(&rng, 0x70) + 128 * random_below(&rng, 2));
        else
            set(type, p, i / cols * ld + i % cols, any());
    return p;
}

static double eight(const unsigned char *p, int64_t i)
{
    const int e = p[i] >> 3 & 15, frac = p[i] & 7;
    return (p[i] & 128 ? -1 : 1) * (e ? ldexp(8 + frac, e - 10) : ldexp(frac, -9));
}

static void check_product(void *dev, int compute, int out, int epilogue, int bias, int plain)
{
    const int wide = compute == PRXI_CU_E4M3;
    const int64_t unit = wide ? 16 : 1, m = 1 + random_below(&rng, 9);
    const int64_t n = unit * (1 + random_below(&rng, 9)), k = unit * (1 + random_below(&rng, 9));
    const int64_t ldx = k + unit * random_below(&rng, 3), ldw = (plain ? n : k) + unit * random_below(&rng, 3);
    const int64_t ldy = epilogue ? n : n + unit * random_below(&rng, 3);
    unsigned char *x = matrix(dev, compute, m, k, ldx), *w = matrix(dev, compute, plain ? k : n, plain ? n : k, ldw);
    unsigned char *y = matrix(dev, out, m, n, ldy), *b = matrix(dev, out, 1, n, n);
    float *xs = reinterpret_cast<float *>(matrix(dev, 0, 1, m, m)), *ws = reinterpret_cast<float *>(matrix(dev, 0, 1, n, n));
    const float alpha = random_below(&rng, 2) && !wide ? 0.25f : 0;
    const prxi_cu_gemm a = { m, n, k, compute, out, epilogue, x, w, bias ? b : nullptr, ldx, ldy, y, ldw, plain, alpha,
                             wide ? xs : nullptr, wide ? ws : nullptr };
    CHECK(prxi_cu_gemm_lt(dev, &a) == PRX_OK && prxi_cu_sync(dev) == PRX_OK, "%s", as_device(dev)->error);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0, size = 1;
            for (int64_t c = 0; c < k; c++) {
                const int64_t at = plain ? c * ldw + j : j * ldw + c;
                const double v = wide ? eight(x, i * ldx + c) * eight(w, at) * xs[i] * ws[j]
                                      : (alpha != 0 ? alpha : 1) * value(compute, x, i * ldx + c) * value(compute, w, at);
                sum += v;
                size += fabs(v);
            }
            sum += bias ? value(out, b, j) : 0;
            size += bias ? fabs(value(out, b, j)) : 0;
            const double want = activation(epilogue, sum), got = value(out, y, i * ldy + j);
            const double most = size * (out ? 0x1.2p-7 : 1e-5);         /* rounded to 8 bits before the activation, and after it */
            CHECK(fabs(got - want) <= most, "%d -> %d, epilogue %d, bias %d, plain %d: %g, %g expected", compute, out, epilogue, bias,
                  plain, got, want);
        }
    for (void *p : { (void *)x, (void *)w, (void *)y, (void *)b, (void *)xs, (void *)ws })
        prxi_cu_release(dev, p);
}

static void products(void)
{
    void *dev = handle();
    REQUIRE(prxi_cu_open(dev) == PRX_OK, "%s", as_device(dev)->error);
    for (int gelu = 0; gelu < 2; gelu++) {
        fake_fp8_gelu(gelu);
        for (int i = 0; i < 400; i++)
            check_product(dev, i % 2, i / 2 % 2, i / 4 % 3, i / 12 % 2, i / 24 % 2);
        for (int i = 0; i < 60; i++)
            check_product(dev, PRXI_CU_E4M3, 1, i % 3, i / 3 % 2, 0);
    }
    prxi_cu_close(dev);
    free(dev);
    CHECK(fake_held() == 0 && fake_faults() == 0 && fake_last_error() == 0, "%d held, %d faults", fake_held(), fake_faults());
}

/* The memory of algorithms: those that are measured are found again, and the fastest is kept. */
static unsigned char kept[PRXI_CU_GEMM_ALGORITHM];
static int known;
static int find_one(void *, const int64_t *, unsigned char *data) { return memcpy(data, kept, sizeof kept), known; }
static void keep_one(void *, const int64_t *, const unsigned char *data) { memcpy(kept, data, sizeof kept), known = 1; }

static void choices(void)
{
    void *dev = handle();
    const prxi_cu_gemm_memory memory = { nullptr, 1, find_one, keep_one };
    const int64_t n = 500;
    REQUIRE(prxi_cu_open(dev) == PRX_OK, "%s", as_device(dev)->error);
    prxi_cu_gemm_remember(dev, &memory);
    unsigned char *x = matrix(dev, 0, n, n, n), *w = matrix(dev, 0, n, n, n), *y = matrix(dev, 0, n, n, n);
    prxi_cu_gemm a = { n, n, n, 0, 0, 0, x, w, nullptr, n, n, y, 0, 0, 0, nullptr, nullptr };
    a.m = 401;                              /* above 10^8 multiplications: the third of four is the fastest, the first is none */
    CHECK(prxi_cu_gemm_lt(dev, &a) == PRX_OK && known && kept[8] == 2 && kept[0] == 64, "algorithm %d for %d bytes", kept[8], kept[0]);
    const prxi_cu_gemm_memory none = { nullptr, 0, nullptr, nullptr };
    prxi_cu_gemm_remember(dev, &none);
    a.m = 3, a.n = 5, a.k = 7;              /* an algorithm for whole pieces of memory is not for what begins elsewhere */
    for (int i = 0; i < 3; i++, a.x = static_cast<const float *>(a.x) + 1)
        CHECK(prxi_cu_gemm_lt(dev, &a) == PRX_OK, "%s", as_device(dev)->error);
    for (void *p : { x, w, y })
        prxi_cu_release(dev, p);
    prxi_cu_close(dev);
    free(dev);
}

/* Blocks in turn through two slots, as engine/model/dit_stream.c has them: each kernel finds its block's bytes. */
static void slots(void)
{
    enum { BLOCKS = 7, BYTES = 64 };
    void *dev = handle();
    REQUIRE(prxi_cu_open(dev) == PRX_OK, "%s", as_device(dev)->error);
    unsigned char *slot[2], *host[BLOCKS], seen[3 * BLOCKS][BYTES];
    for (unsigned char *&p : slot)
        p = static_cast<unsigned char *>(prxi_cu_alloc(dev, BYTES));
    for (int i = 0; i < BLOCKS; i++)
        memset(host[i] = static_cast<unsigned char *>(prxi_cu_alloc_host(dev, BYTES)), i + 1, BYTES);
    for (int i = 0; i < 3 * BLOCKS; i++) {
        if (i == 0)
            prxi_cu_fetch(dev, 0, slot[0], host[0], BYTES);
        prxi_cu_arrive(dev, i % 2);
        prxi_cu_fetch(dev, 1 - i % 2, slot[1 - i % 2], host[(i + 1) % BLOCKS], BYTES);
        fake_kernel(prxi_cu_stream(dev), seen[i], slot[i % 2], BYTES);
        prxi_cu_leave(dev, i % 2);
    }
    CHECK(prxi_cu_sync(dev) == PRX_OK, "%s", as_device(dev)->error);
    for (int i = 0; i < 3 * BLOCKS; i++)
        CHECK(seen[i][0] == i % BLOCKS + 1 && seen[i][BYTES - 1] == i % BLOCKS + 1, "turn %d: block %d", i, seen[i][0]);
    fake_kernel(prxi_cu_stream(dev), seen[0], slot[0], BYTES);
    prxi_cu_release(dev, slot[0]);          /* whoever still reads it is waited for */
    prxi_cu_release(dev, slot[1]);
    for (unsigned char *p : host)
        prxi_cu_release_host(dev, p);
    prxi_cu_close(dev);
    free(dev);
    CHECK(fake_held() == 0 && fake_faults() == 0, "%d held, %d faults", fake_held(), fake_faults());
}

static int whole(void *dev)
{
    prxi_cu_info info;
    char here[8] = "1234567", back[8];
    int err = prxi_cu_probe(&info);
    if (err < 0 || (err = prxi_cu_open(dev)) < 0)
        return err;
    void *p = prxi_cu_alloc(dev, 8), *q = prxi_cu_alloc_host(dev, 8);
    CHECK(fake_last_error() == 0, "a refused piece of memory is left for the next launch to find");
    err = p && q ? prxi_cu_put(dev, p, here, 8) : PRX_ENOMEM;
    memset(here, 0, 4);                     /* the caller's again as soon as put returns */
    if (err == PRX_OK && (err = prxi_cu_get(dev, back, p, 8)) == PRX_OK)
        err = strcmp(back, "1234567") == 0 ? PRX_OK : PRX_EINTERNAL;
    prxi_cu_release(dev, p);
    if (q)
        prxi_cu_release_host(dev, q);
    prxi_cu_close(dev);
    return err;
}

static void failures(void)
{
    int n = 1;
    for (;; n++) {
        void *dev = handle();
        fake_fail(n);
        const int err = whole(dev);
        const int last = fake_calls() < n;
        CHECK(last ? err == PRX_OK : err < 0 && err != PRX_EINTERNAL, "call %d fails: %d", n, err);
        CHECK(fake_held() == 0 && fake_faults() == 0 && fake_last_error() == 0, "call %d fails: %d held, %d faults, error %d", n,
              fake_held(), fake_faults(), fake_last_error());
        free(dev);
        if (last)
            break;
    }
    fake_fail(0);
    CHECK(n > 15, "%d calls", n);
}

int main(void)
{
    products();
    choices();
    for (int i = 0; i < 50; i++)
        slots();
    failures();
    return TEST_END();
}
