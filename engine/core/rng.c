/* torch's CPU generator (models.md section 5.3): MT19937 (Matsumoto and Nishimura, 1998), uniforms from the low 24
 * bits, Box-Muller on blocks of 16. Logarithm, sine and cosine are the single-precision Cephes polynomials with the
 * fused multiply-adds spelled out, so that the bits depend neither on the compiler nor on the instruction set. */
#include "rng.h"

#include <math.h>
#include <string.h>

#define N 624
#define M 397

void prxi_rng_seed(prxi_rng *r, uint64_t seed)
{
    r->state[0] = (uint32_t)seed;
    for (uint32_t j = 1; j < N; j++)
        r->state[j] = 1812433253u * (r->state[j - 1] ^ (r->state[j - 1] >> 30)) + j;
    r->next = N;
    r->cached_normal = 0;
    r->has_cached = 0;
}

static void twist(uint32_t *s)
{
    for (int i = 0; i < N; i++) {
        const uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % N] & 0x7fffffffu);
        s[i] = s[(i + M) % N] ^ (y >> 1) ^ ((y & 1) ? 0x9908b0dfu : 0);
    }
}

uint32_t prxi_rng_u32(prxi_rng *r)
{
    if (r->next >= N) {
        twist(r->state);
        r->next = 0;
    }
    uint32_t y = r->state[r->next++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

float prxi_rng_uniform(prxi_rng *r)
{
    return (float)(prxi_rng_u32(r) & 0xffffffu) * 0x1p-24f;
}

static double uniform53(prxi_rng *r)
{
    const uint64_t high = prxi_rng_u32(r);
    const uint64_t low = prxi_rng_u32(r);
    return (double)(((high << 32) | low) & ((UINT64_C(1) << 53) - 1)) * 0x1p-53;
}

static float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint32_t to_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* ln x for x in (0, 1], normal numbers only: mantissa to [sqrt(1/2), sqrt 2), polynomial of degree 8, ln 2 in two parts. */
static float log_cephes(float x)
{
    static const float p[9] = { 7.0376836292E-2f, -1.1514610310E-1f, 1.1676998740E-1f, -1.2420140846E-1f,
                                1.4249322787E-1f, -1.6668057665E-1f, 2.0000714765E-1f, -2.4999993993E-1f,
                                3.3333331174E-1f };
    const uint32_t u = to_bits(x);
    float e = (float)((int)(u >> 23) - 126);
    float f = from_bits((u & 0x007fffffu) | 0x3f000000u);    /* [0.5, 1) */
    if (f < 0.707106781186547524f) {
        e -= 1;
        f = (f - 1) + f;
    } else {
        f -= 1;
    }
    const float z = f * f;
    float y = p[0];
    for (int i = 1; i < 9; i++)
        y = fmaf(y, f, p[i]);
    y = fmaf(y * f, z, e * -2.12194440e-4f);
    y = fmaf(-z, 0.5f, y);
    return fmaf(e, 0.693359375f, f + y);
}

/* sin x and cos x for 0 <= x <= 2 pi: octant by 4/pi, pi/4 subtracted in three parts. */
static void sincos_cephes(float x, float *sine, float *cosine)
{
    const uint32_t j = ((uint32_t)(x * 1.27323954473516f) + 1) & ~1u;
    const float n = (float)j;
    x = fmaf(n, -0.78515625f, x);
    x = fmaf(n, -2.4187564849853515625e-4f, x);
    x = fmaf(n, -3.77489497744594108e-8f, x);
    const float z = x * x;
    float c = fmaf(2.443315711809948e-5f, z, -1.388731625493765e-3f);
    c = fmaf(c, z, 4.166664568298827e-2f);
    c = fmaf(c * z, z, z * -0.5f) + 1;
    float s = fmaf(-1.9515295891e-4f, z, 8.3321608736e-3f);
    s = fmaf(s, z, -1.6666654611e-1f);
    s = fmaf(s * z, x, x);
    const int swap = (j & 2) != 0;
    const uint32_t sign_s = (j & 4) << 29, sign_c = (~(j - 2) & 4) << 29;
    *sine = from_bits(to_bits(swap ? c : s) ^ sign_s);
    *cosine = from_bits(to_bits(swap ? s : c) ^ sign_c);
}

static void box_muller_16(float *d)
{
    for (int i = 0; i < 8; i++) {
        const float radius = sqrtf(-2 * log_cephes(1 - d[i]));
        float s, c;
        sincos_cephes(6.28318530717958648f * d[i + 8], &s, &c);
        d[i] = radius * c + 0.0f;        /* torch adds the mean: -0 becomes 0 */
        d[i + 8] = radius * s + 0.0f;
    }
}

static void normal_scalar(prxi_rng *r, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (r->has_cached) {
            r->has_cached = 0;
            out[i] = (float)r->cached_normal;
            continue;
        }
        const double u1 = uniform53(r), u2 = uniform53(r);
        const double radius = sqrt(-2.0 * log1p(-u2)), theta = 2.0 * 3.141592653589793238462643383279502 * u1;
        r->cached_normal = radius * sin(theta);
        r->has_cached = 1;
        out[i] = (float)(radius * cos(theta));
    }
}

void prxi_rng_normal(prxi_rng *r, float *out, size_t n)
{
    if (n < 16) {
        normal_scalar(r, out, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = prxi_rng_uniform(r);
    for (size_t i = 0; i + 16 <= n; i += 16)
        box_muller_16(out + i);
    if (n % 16) {        /* the last 16 are drawn again */
        float *tail = out + n - 16;
        for (int i = 0; i < 16; i++)
            tail[i] = prxi_rng_uniform(r);
        box_muller_16(tail);
    }
}
