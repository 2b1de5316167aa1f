/* Noise: bits of torch.randn for several seeds, sizes and call patterns; the raw generator. */
#include "tests/test.h"

#include "engine/core/rng.h"
#include "tests/vectors/golden/rng.h"

static uint32_t bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static void check_bits(const char *what, const float *a, const uint32_t *want, size_t n)
{
    size_t differ = 0;
    for (size_t i = 0; i < n; i++)
        differ += bits(a[i]) != want[i];
    CHECK(differ == 0, "%s: %zu of %zu values differ", what, differ, n);
}

static void check_seed(uint64_t seed, const uint32_t *want, size_t n)
{
    prxi_rng r;
    float out[64];
    prxi_rng_seed(&r, seed);
    prxi_rng_normal(&r, out, n);
    char what[64];
    snprintf(what, sizeof what, "seed %llu, %zu values", (unsigned long long)seed, n);
    check_bits(what, out, want, n);
}

static uint64_t fnv(const void *p, size_t n)
{
    uint64_t h = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const unsigned char *)p)[i]) * 0x100000001b3ull;
    return h;
}

static void check_raw(void)
{
    /* models.md 5.3 */
    static const uint32_t seed0[] = { 2357136044u, 2546248239u, 3071714933u, 3626093760u };
    static const uint32_t seed42[] = { 1608637542u, 3421126067u, 4083286876u, 787846414u };
    prxi_rng r;
    prxi_rng_seed(&r, 0);
    for (int i = 0; i < 4; i++)
        CHECK(prxi_rng_u32(&r) == seed0[i], "seed 0, output %d", i);
    prxi_rng_seed(&r, 42 + (UINT64_C(1) << 32));
    for (int i = 0; i < 4; i++)
        CHECK(prxi_rng_u32(&r) == seed42[i], "only the low 32 bits of a seed count, output %d", i);
    prxi_rng_seed(&r, 5489);
    uint32_t y = 0;
    for (int i = 0; i < 10000; i++)
        y = prxi_rng_u32(&r);
    CHECK(y == 4123659995u, "10000th output of the default seed is %u", y);      /* C++ standard, [rand.predef] */
    prxi_rng_seed(&r, 0);
    CHECK(prxi_rng_uniform(&r) == (float)(2357136044u & 0xffffff) / 16777216.0f, "uniform");
}

int main(void)
{
    check_raw();
    check_seed(0, rng_0_32, 32);
    check_seed(42, rng_42_16, 16);
    check_seed(0, rng_0_20, 20);
    check_seed(7, rng_7_15, 15);
    check_seed((UINT64_C(1) << 63) + 5, rng_9223372036854775813_33, 33);

    prxi_rng r;
    float mixed[40];
    static const size_t calls[] = { 3, 16, 2, 17, 1, 1 };
    size_t at = 0;
    prxi_rng_seed(&r, 3);
    for (int i = 0; i < 6; at += calls[i++])
        prxi_rng_normal(&r, mixed + at, calls[i]);
    check_bits("calls of 3, 16, 2, 17, 1, 1", mixed, rng_mixed, at);

    for (size_t i = 0; i < sizeof rng_hashes / sizeof *rng_hashes; i++) {
        const size_t n = rng_hashes[i].n;
        float *out = malloc(n * sizeof *out);
        REQUIRE(out, "memory");
        prxi_rng_seed(&r, rng_hashes[i].seed);
        prxi_rng_normal(&r, out, n);
        CHECK(fnv(out, n * sizeof *out) == rng_hashes[i].hash, "seed %llu, %zu values",
              (unsigned long long)rng_hashes[i].seed, n);
        free(out);
    }
    prxi_rng_normal(&r, NULL, 0);
    return TEST_END();
}
