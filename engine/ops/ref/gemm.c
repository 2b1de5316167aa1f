/* Matrix product tile, C reference: multiply and add are rounded separately. */
#include "engine/ops/gemm_kernel.h"

#include <math.h>

enum { MR = 4, NR = 16 };

static void tile(const prxi_gemm_tile *t)
{
    for (int r = 0; r < t->rows; r++) {
        float acc[NR], *c = t->c + (ptrdiff_t)r * NR;
        for (int j = 0; j < NR; j++)
            acc[j] = t->first ? 0.0f : c[j];
        for (int64_t i = 0; i < t->k; i++) {
            const float x = t->a[r * t->lda + i];
            for (int j = 0; j < NR; j++)
                acc[j] += x * t->b[i * NR + j];
        }
        for (int j = 0; j < NR && t->y; j++)
            t->y[r * t->ldy + j] = acc[j] + (t->bias ? t->bias[j] : 0.0f);
        if (!t->y)
            memcpy(c, acc, sizeof acc);
    }
}

static float epilogue(prxi_epilogue e, float x)
{
    if (e == PRXI_EPI_SILU)
        return x / (1.0f + expf(-x));
    if (e == PRXI_EPI_GELU_TANH)
        return x / (1.0f + expf(-2.0f * 0.7978845608f * (x + 0.044715f * x * x * x)));
    return x;
}

static void store(const prxi_gemm_store *s, prxi_dtype t)
{
    for (int r = 0; r < s->rows; r++)
        for (int j = 0; j < s->cols; j++) {
            const float v = s->c[r * NR + j] * s->alpha + (s->bias ? s->bias[j] : 0.0f);
            prxi_store(s->y, t, (size_t)(r * s->ldy + j), epilogue(s->epilogue, v));
        }
}

static void store_f32(const prxi_gemm_store *s)
{
    store(s, PRXI_F32);
}

static void store_bf16(const prxi_gemm_store *s)
{
    store(s, PRXI_BF16);
}

static void pack(const void *w, prxi_dtype from, int64_t ldw, int rows, int64_t k, void *panel, prxi_dtype to)
{
    for (int64_t i = 0; i < k; i++)
        for (int64_t r = 0; r < NR; r++) {
            float v = 0.0f;
            if (r < rows)
                v = from == PRXI_F16 ? prxi_f16_to_f32(((const uint16_t *)w)[r * ldw + i])
                                     : prxi_load(w, from, (size_t)(r * ldw + i));
            prxi_store(panel, to, (size_t)(i * NR + r), v);
        }
}

static void load_f32(int64_t n, const void *x, float *y)
{
    memcpy(y, x, (size_t)n * sizeof *y);
}

static void load_bf16(int64_t n, const void *x, float *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = prxi_load(x, PRXI_BF16, (size_t)i);
}

const prxi_gemm_kernel *prxi_gemm_kernel_ref(void)
{
    static const prxi_gemm_kernel k = { MR, NR, tile, { store_f32, store_bf16 }, pack, { load_f32, load_bf16 } };
    return &k;
}
