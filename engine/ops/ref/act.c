/* Elementwise ops, C reference. gelu_tanh(x) = x * 0.5 (1 + tanh(u)) = x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3):
 * the second form keeps its relative accuracy for negative x, where 1 + tanh cancels. */
#include "engine/ops/act.h"

#include <math.h>

#include "engine/ops/rows.h"

typedef enum binary_op { OP_GELU_MUL, OP_SILU, OP_ADD, OP_SUB } binary_op;

typedef struct binary_args {
    binary_op op;
    prxi_dtype t;
    const void *a, *b;
    void *y;
} binary_args;

static float gelu_tanh(float x)
{
    const float u = 0.7978845608f * (x + 0.044715f * x * x * x);
    return x / (1.0f + expf(-2.0f * u));
}

static void binary_range(const void *args, int64_t begin, int64_t end)
{
    const binary_args *p = args;
    for (int64_t j = begin; j < end; j++) {
        const size_t i = (size_t)j;
        const float a = prxi_load(p->a, p->t, i);
        float v = 0.0f;
        switch (p->op) {
        case OP_GELU_MUL: v = gelu_tanh(a) * (p->b ? prxi_load(p->b, p->t, i) : 1.0f); break;
        case OP_SILU: v = a / (1.0f + expf(-a)); break;
        case OP_ADD: v = a + prxi_load(p->b, p->t, i); break;
        case OP_SUB: v = a - prxi_load(p->b, p->t, i); break;
        }
        prxi_store(p->y, p->t, i, v);
    }
}

static void run(prxi_stream *s, int64_t n, binary_op op, prxi_dtype t, const void *a, const void *b, void *y)
{
    const binary_args p = { op, t, a, b, y };
    prxi_rows_run(s, n, 1, binary_range, &p);
}

static void gelu_mul_f32(prxi_stream *s, int64_t n, const void *a, const void *b, void *y)
{
    run(s, n, OP_GELU_MUL, PRXI_F32, a, b, y);
}

static void gelu_mul_bf16(prxi_stream *s, int64_t n, const void *a, const void *b, void *y)
{
    run(s, n, OP_GELU_MUL, PRXI_BF16, a, b, y);
}

static void silu_f32(prxi_stream *s, int64_t n, const void *x, void *y)
{
    run(s, n, OP_SILU, PRXI_F32, x, NULL, y);
}

static void silu_bf16(prxi_stream *s, int64_t n, const void *x, void *y)
{
    run(s, n, OP_SILU, PRXI_BF16, x, NULL, y);
}

static void add_f32(prxi_stream *s, int64_t n, const void *a, const void *b, void *y)
{
    run(s, n, OP_ADD, PRXI_F32, a, b, y);
}

static void add_bf16(prxi_stream *s, int64_t n, const void *a, const void *b, void *y)
{
    run(s, n, OP_ADD, PRXI_BF16, a, b, y);
}

static void sub_f32(prxi_stream *s, int64_t n, const void *a, const void *b, void *y)
{
    run(s, n, OP_SUB, PRXI_F32, a, b, y);
}

static void sub_bf16(prxi_stream *s, int64_t n, const void *a, const void *b, void *y)
{
    run(s, n, OP_SUB, PRXI_BF16, a, b, y);
}

typedef struct convert_args {
    const void *x;
    void *y;
} convert_args;

static void narrow_range(const void *args, int64_t begin, int64_t end)
{
    const convert_args *p = args;
    for (int64_t i = begin; i < end; i++)
        ((prxi_bf16 *)p->y)[i] = prxi_f32_to_bf16(((const float *)p->x)[i]);
}

static void widen_range(const void *args, int64_t begin, int64_t end)
{
    const convert_args *p = args;
    for (int64_t i = begin; i < end; i++)
        ((float *)p->y)[i] = prxi_bf16_to_f32(((const prxi_bf16 *)p->x)[i]);
}

static void half_range(const void *args, int64_t begin, int64_t end)
{
    const convert_args *p = args;
    for (int64_t i = begin; i < end; i++)
        ((float *)p->y)[i] = prxi_f16_to_f32(((const uint16_t *)p->x)[i]);
}

static void f32_to_bf16(prxi_stream *s, int64_t n, const float *x, prxi_bf16 *y)
{
    const convert_args p = { x, y };
    prxi_rows_run(s, n, 1, narrow_range, &p);
}

static void bf16_to_f32(prxi_stream *s, int64_t n, const prxi_bf16 *x, float *y)
{
    const convert_args p = { x, y };
    prxi_rows_run(s, n, 1, widen_range, &p);
}

static void f16_to_f32(prxi_stream *s, int64_t n, const uint16_t *x, float *y)
{
    const convert_args p = { x, y };
    prxi_rows_run(s, n, 1, half_range, &p);
}

typedef struct softmax_args {
    int64_t n, ld;
    float *x;
} softmax_args;

static void softmax_rows(const void *args, int64_t begin, int64_t end)
{
    const softmax_args *p = args;
    for (int64_t row = begin; row < end; row++) {
        float *x = p->x + row * p->ld;
        float max = x[0], sum = 0.0f;
        for (int64_t i = 1; i < p->n; i++)
            max = x[i] > max ? x[i] : max;
        for (int64_t i = 0; i < p->n; i++)
            sum += x[i] = expf(x[i] - max);
        for (int64_t i = 0; i < p->n; i++)
            x[i] *= 1.0f / sum;
    }
}

static void softmax(prxi_stream *s, int64_t rows, int64_t n, float *x, int64_t ld)
{
    const softmax_args p = { n, ld, x };
    if (n > 0)
        prxi_rows_run(s, rows, n, softmax_rows, &p);
}

void prxi_act_init_ref(prxi_act_ops *t)
{
    t->gelu_mul[PRXI_F32] = gelu_mul_f32;
    t->gelu_mul[PRXI_BF16] = gelu_mul_bf16;
    t->silu[PRXI_F32] = silu_f32;
    t->silu[PRXI_BF16] = silu_bf16;
    t->add[PRXI_F32] = add_f32;
    t->add[PRXI_BF16] = add_bf16;
    t->sub[PRXI_F32] = sub_f32;
    t->sub[PRXI_BF16] = sub_bf16;
    t->f32_to_bf16 = f32_to_bf16;
    t->bf16_to_f32 = bf16_to_f32;
    t->f16_to_f32 = f16_to_f32;
    t->softmax = softmax;
}
