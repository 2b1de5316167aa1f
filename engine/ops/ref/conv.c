/* Reference convolution tiles and channel norm: three loops. */
#include "engine/ops/conv.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 16 };

/* acc[j] += run . weights[][j] */
static void add_run(prxi_dtype t, const prxi_conv_tap *tap, const unsigned char *src, float *acc)
{
    for (int64_t k = 0; k < tap->k; k++) {
        const float v = prxi_load(src, t, (size_t)k);
        if (t == PRXI_F32) {
            const float *w = (const float *)(const void *)tap->weights + k * BLOCK;
            for (int j = 0; j < BLOCK; j++)
                acc[j] += v * w[j];
        } else {
            const prxi_bf16 *w = (const prxi_bf16 *)(const void *)tap->weights + k / 2 * BLOCK * 2 + k % 2;
            for (int j = 0; j < BLOCK; j++)
                acc[j] += v * prxi_bf16_to_f32(w[j * 2]);
        }
    }
}

static void tile(prxi_dtype dtype, const prxi_conv_tile *t)
{
    for (int64_t x = 0; x < t->width; x++) {
        float acc[BLOCK];
        memcpy(acc, t->bias, sizeof acc);
        for (int i = 0; i < t->n_taps; i++)
            add_run(dtype, &t->taps[i], t->taps[i].src + x * t->taps[i].step, acc);
        unsigned char *out = t->out + x * t->out_step;
        for (int j = 0; j < t->cols; j++)
            prxi_store(out, t->out_dtype, (size_t)j,
                       t->add ? prxi_load(out, t->out_dtype, (size_t)j) + acc[j] : acc[j]);
    }
}

static void tile_f32(const prxi_conv_tile *t) { tile(PRXI_F32, t); }
static void tile_bf16(const prxi_conv_tile *t) { tile(PRXI_BF16, t); }

static void rms_silu(prxi_dtype t, int64_t rows, int64_t dim, const void *x, int64_t ldx, const float *gamma, int silu,
                     void *out, int64_t ldo)
{
    for (int64_t r = 0; r < rows; r++) {
        float sum = 0.0f;
        for (int64_t i = 0; i < dim; i++) {
            const float v = prxi_load(x, t, (size_t)(r * ldx + i));
            sum += v * v;
        }
        const float scale = sqrtf((float)dim) / fmaxf(sqrtf(sum), 1e-12f);
        for (int64_t i = 0; i < dim; i++) {
            const float v = prxi_load(x, t, (size_t)(r * ldx + i)) * scale * gamma[i];
            prxi_store(out, t, (size_t)(r * ldo + i), silu ? v / (1.0f + expf(-v)) : v);
        }
    }
}

static void rms_silu_f32(int64_t rows, int64_t dim, const void *x, int64_t ldx, const float *gamma, int silu, void *out,
                         int64_t ldo)
{
    rms_silu(PRXI_F32, rows, dim, x, ldx, gamma, silu, out, ldo);
}

static void rms_silu_bf16(int64_t rows, int64_t dim, const void *x, int64_t ldx, const float *gamma, int silu, void *out,
                          int64_t ldo)
{
    rms_silu(PRXI_BF16, rows, dim, x, ldx, gamma, silu, out, ldo);
}

static void merge(int64_t n, const float *x, int add, prxi_dtype t, void *out)
{
    for (int64_t i = 0; i < n; i++)
        prxi_store(out, t, (size_t)i, add ? prxi_load(out, t, (size_t)i) + x[i] : x[i]);
}

void prxi_conv_init_ref(prxi_conv_ops *t)
{
    t->block = BLOCK;
    t->tile[PRXI_F32] = tile_f32;
    t->tile[PRXI_BF16] = tile_bf16;
    t->widen = NULL;
    t->merge = merge;
    t->matmul = 0;
    t->rms_silu[PRXI_F32] = rms_silu_f32;
    t->rms_silu[PRXI_BF16] = rms_silu_bf16;
}
