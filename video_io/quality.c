/* PSNR, SSIM, MS-SSIM and the error of motion. */
#include "quality.h"

#include <math.h>
#include <string.h>

#include "engine/core/cpu.h"
#include "ssim.h"

enum { SCALES = 5, SMALLEST = PRXI_SSIM_TAPS << (SCALES - 1) };

uint64_t prxi_sse_u8(const uint8_t *a, const uint8_t *b, size_t n)
{
    uint64_t sum = 0;
    while (n > 0) {
        /* A block's sum fits 32 bits: 255^2 * 2^15 < 2^32. */
        const size_t k = n < 32768 ? n : 32768;
        uint32_t part = 0;
        for (size_t i = 0; i < k; i++) {
            const int d = a[i] - b[i];
            part += (uint32_t)(d * d);
        }
        sum += part;
        a += k;
        b += k;
        n -= k;
    }
    return sum;
}

uint64_t prxi_sse_motion(const uint8_t *a0, const uint8_t *a1, const uint8_t *b0, const uint8_t *b1, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        const int d = (a1[i] - a0[i]) - (b1[i] - b0[i]);
        sum += (uint64_t)(d * d);
    }
    return sum;
}

double prxi_psnr(double mse)
{
    return mse > 0 ? 10 * log10(255.0 * 255.0 / mse) : INFINITY;
}

double prxi_relative_error(const float *a, const float *reference, size_t n)
{
    double error = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)a[i] - reference[i];
        error += d * d;
        norm += (double)reference[i] * reference[i];
    }
    return error == 0 ? 0 : sqrt(error / norm);
}

/* A pair of planes a, b followed by the two products and the scratch of the kernel, in one block. */
typedef struct planes {
    double *data;
    size_t pixels;
    int width, height;
    double taps[PRXI_SSIM_TAPS / 2 + 1];
    prxi_ssim_fn fn;
} planes;

static int open_planes(prxi_mem *m, planes *p, int width, int height)
{
    double sum = 0;
    for (int i = 0; i <= PRXI_SSIM_TAPS / 2; i++) {
        p->taps[i] = exp(-0.5 * i * i / (1.5 * 1.5));
        sum += i ? 2 * p->taps[i] : p->taps[i];
    }
    for (int i = 0; i <= PRXI_SSIM_TAPS / 2; i++)
        p->taps[i] /= sum;
    p->width = width;
    p->height = height;
    p->pixels = prxi_mul((size_t)width, (size_t)height);
    p->fn = prxi_cpu_detect() & PRXI_ISA_AVX2 ? prxi_ssim_avx2 : prxi_ssim_ref;
    const size_t cells = prxi_add(prxi_mul(PRXI_SSIM_MAPS, p->pixels), (PRXI_SSIM_MAPS + 2) * (size_t)width);
    p->data = prxi_alloc(m, PRXI_MEM_SCRATCH, prxi_mul(cells, sizeof(double)));
    return p->data != NULL;
}

static void fill_luma(const uint8_t *rgb, size_t n, double *out)
{
    for (size_t i = 0; i < n; i++, rgb += 3)
        out[i] = 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2];
}

/* Means over the valid positions. */
static void score(planes *p, double mean[2])
{
    const size_t n = p->pixels;
    double *a = p->data, *b = a + n;
    for (size_t i = 0; i < n; i++) {
        b[n + i] = a[i] * a[i] + b[i] * b[i];
        b[2 * n + i] = a[i] * b[i];
    }
    const prxi_ssim_job j = { { a, b, b + n, b + 2 * n }, p->width, p->height, p->taps, b + 3 * n };
    p->fn(&j, mean);
    const double count = (double)(p->width - 10) * (p->height - 10);
    mean[0] /= count;
    mean[1] /= count;
}

double prxi_ssim_luma(prxi_mem *m, const uint8_t *a, const uint8_t *b, int width, int height, int *ok)
{
    planes p;
    double mean[2];
    *ok = 1;
    if (width < PRXI_SSIM_TAPS || height < PRXI_SSIM_TAPS)
        return NAN;
    if (!(*ok = open_planes(m, &p, width, height)))
        return NAN;
    fill_luma(a, p.pixels, p.data);
    fill_luma(b, p.pixels, p.data + p.pixels);
    score(&p, mean);
    prxi_free(m, p.data);
    return mean[0];
}

double prxi_ssim_rgb(prxi_mem *m, const uint8_t *a, const uint8_t *b, int width, int height, int *ok)
{
    planes p;
    double mean[2], sum = 0;
    *ok = 1;
    if (width < PRXI_SSIM_TAPS || height < PRXI_SSIM_TAPS)
        return NAN;
    if (!(*ok = open_planes(m, &p, width, height)))
        return NAN;
    for (int k = 0; k < 3; k++) {
        for (size_t i = 0; i < p.pixels; i++) {
            p.data[i] = a[3 * i + (size_t)k];
            p.data[p.pixels + i] = b[3 * i + (size_t)k];
        }
        score(&p, mean);
        sum += mean[0];
    }
    prxi_free(m, p.data);
    return sum / 3;
}

/* One window of one channel; pixels are 3 apart. */
static double block(const uint8_t *a, const uint8_t *b, size_t stride)
{
    /* their constants are whole numbers on the scale of the sums, the first 64 times too small for it */
    const double c1 = 416 / 4096.0, c2 = 235963 / (64 * 63.0);
    int sa = 0, sb = 0, saa = 0, sbb = 0, sab = 0;
    for (int y = 0; y < 8; y++)
        for (int x = 0; x < 8; x++) {
            const int p = a[(size_t)y * stride + 3 * (size_t)x], q = b[(size_t)y * stride + 3 * (size_t)x];
            sa += p, sb += q;
            saa += p * p, sbb += q * q, sab += p * q;
        }
    const double ma = sa / 64.0, mb = sb / 64.0;
    const double var = (saa + sbb - 64 * (ma * ma + mb * mb)) / 63, cov = (sab - 64 * ma * mb) / 63;
    return (2 * ma * mb + c1) * (2 * cov + c2) / ((ma * ma + mb * mb + c1) * (var + c2));
}

double prxi_ssim_blocks(const uint8_t *a, const uint8_t *b, int width, int height)
{
    const size_t stride = 3 * (size_t)width;
    double sum = 0;
    int64_t n = 0;
    for (int y = 0; y + 8 <= height; y += 4)
        for (int x = 0; x + 8 <= width; x += 4)
            for (size_t k = 0; k < 3; k++, n++)
                sum += block(a + (size_t)y * stride + 3 * (size_t)x + k, b + (size_t)y * stride + 3 * (size_t)x + k, stride);
    return n ? sum / (double)n : NAN;
}

/* Mean of 2 x 2, in place: an output never lies behind its inputs. */
static void halve(const double *in, int width, int height, double *out)
{
    for (int y = 0; y < height / 2; y++)
        for (int x = 0; x < width / 2; x++) {
            const double *p = in + 2 * (size_t)y * (size_t)width + 2 * (size_t)x;
            *out++ = 0.25 * (p[0] + p[1] + p[width] + p[width + 1]);
        }
}

double prxi_ms_ssim_luma(prxi_mem *m, const uint8_t *a, const uint8_t *b, int width, int height, int *ok)
{
    static const double weight[SCALES] = { 0.0448, 0.2856, 0.3001, 0.2363, 0.1333 };
    planes p;
    double mean[2], product = 1;
    *ok = 1;
    if (width < SMALLEST || height < SMALLEST)
        return NAN;
    if (!(*ok = open_planes(m, &p, width, height)))
        return NAN;
    fill_luma(a, p.pixels, p.data);
    fill_luma(b, p.pixels, p.data + p.pixels);
    for (int i = 0; i < SCALES; i++) {
        score(&p, mean);
        const double term = i + 1 < SCALES ? mean[1] : mean[0];
        product *= pow(term > 0 ? term : 0, weight[i]);
        const size_t quarter = (size_t)(p.width / 2) * (size_t)(p.height / 2);
        halve(p.data, p.width, p.height, p.data);
        halve(p.data + p.pixels, p.width, p.height, p.data + quarter);
        p.width /= 2;
        p.height /= 2;
        p.pixels = quarter;
    }
    prxi_free(m, p.data);
    return product;
}
