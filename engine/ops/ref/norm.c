/* Normalisation, C reference: two passes in f32, sums taken in blocks so that the error stays near sqrt(dim) ulp. */
#include "engine/ops/norm.h"

#include <math.h>

#include "engine/ops/rows.h"

enum { SUM_BLOCK = 64 };

/* Sum of (x - center)^power, power 1 or 2. */
static float row_sum(const void *x, prxi_dtype t, size_t base, int64_t n, float center, int power)
{
    float total = 0.0f;
    for (int64_t i = 0; i < n;) {
        const int64_t end = i + SUM_BLOCK < n ? i + SUM_BLOCK : n;
        float block = 0.0f;
        for (; i < end; i++) {
            const float v = prxi_load(x, t, base + (size_t)i) - center;
            block += power == 2 ? v * v : v;
        }
        total += block;
    }
    return total;
}

static void ln_row(const prxi_ln_args *a, prxi_dtype t, int64_t row)
{
    const size_t base = (size_t)(row * a->dim);
    if (a->o)
        for (int64_t i = 0; i < a->dim; i++) {
            const float gate = a->gate ? a->gate[i] : 1.0f;
            const float v = prxi_load(a->x, t, base + (size_t)i) + prxi_load(a->o, t, base + (size_t)i) * gate;
            prxi_store(a->x, t, base + (size_t)i, v);
        }
    if (!a->out)
        return;
    const float mean = row_sum(a->x, t, base, a->dim, 0.0f, 1) / (float)a->dim;
    const float var = row_sum(a->x, t, base, a->dim, mean, 2) / (float)a->dim;
    const float scale = 1.0f / sqrtf(var + a->eps);
    for (int64_t i = 0; i < a->dim; i++) {
        const float v = (prxi_load(a->x, t, base + (size_t)i) - mean) * scale;
        prxi_store(a->out, t, base + (size_t)i, v * (a->mul ? a->mul[i] : 1.0f) + (a->add ? a->add[i] : 0.0f));
    }
}

static void rms_row(const prxi_rms_args *a, prxi_dtype t, int64_t row)
{
    const size_t in = (size_t)(row * a->ldx), out = (size_t)(row * a->ldo);
    const float *rope = a->rope ? a->rope + (row % a->rope_rows) * a->head_dim : NULL;
    const float scale = 1.0f / sqrtf(row_sum(a->x, t, in, a->dim, 0.0f, 2) / (float)a->dim + a->eps);
    if (!rope) {
        for (int64_t i = 0; i < a->dim; i++)
            prxi_store(a->out, t, out + (size_t)i, prxi_load(a->x, t, in + (size_t)i) * scale * a->weight[i]);
        return;
    }
    for (int64_t i = 0; i < a->dim; i += 2) {
        const float *r = rope + i % a->head_dim;
        const float x0 = prxi_load(a->x, t, in + (size_t)i) * scale * a->weight[i];
        const float x1 = prxi_load(a->x, t, in + (size_t)i + 1) * scale * a->weight[i + 1];
        prxi_store(a->out, t, out + (size_t)i, x0 * r[0] - x1 * r[1]);
        prxi_store(a->out, t, out + (size_t)i + 1, x0 * r[1] + x1 * r[0]);
    }
}

static void ln_rows_f32(const void *args, int64_t begin, int64_t end)
{
    for (int64_t row = begin; row < end; row++)
        ln_row(args, PRXI_F32, row);
}

static void ln_rows_bf16(const void *args, int64_t begin, int64_t end)
{
    for (int64_t row = begin; row < end; row++)
        ln_row(args, PRXI_BF16, row);
}

static void rms_rows_f32(const void *args, int64_t begin, int64_t end)
{
    for (int64_t row = begin; row < end; row++)
        rms_row(args, PRXI_F32, row);
}

static void rms_rows_bf16(const void *args, int64_t begin, int64_t end)
{
    for (int64_t row = begin; row < end; row++)
        rms_row(args, PRXI_BF16, row);
}

static void layernorm_f32(prxi_stream *s, const prxi_ln_args *a)
{
    prxi_rows_run(s, a->rows, a->dim, ln_rows_f32, a);
}

static void layernorm_bf16(prxi_stream *s, const prxi_ln_args *a)
{
    prxi_rows_run(s, a->rows, a->dim, ln_rows_bf16, a);
}

static void rmsnorm_f32(prxi_stream *s, const prxi_rms_args *a)
{
    prxi_rows_run(s, a->rows, a->dim, rms_rows_f32, a);
}

static void rmsnorm_bf16(prxi_stream *s, const prxi_rms_args *a)
{
    prxi_rows_run(s, a->rows, a->dim, rms_rows_bf16, a);
}

void prxi_norm_init_ref(prxi_norm_ops *t)
{
    t->layernorm[PRXI_F32] = layernorm_f32;
    t->layernorm[PRXI_BF16] = layernorm_bf16;
    t->rmsnorm[PRXI_F32] = rmsnorm_f32;
    t->rmsnorm[PRXI_BF16] = rmsnorm_bf16;
}
