/* Elementwise ops and softmax on the vectors of vec_*.h. */

typedef enum act_op { ACT_GELU, ACT_GELU_MUL, ACT_SILU, ACT_ADD, ACT_SUB } act_op;

typedef struct act_args {
    const void *a, *b;
    void *y;
} act_args;

static PRXI_ALWAYS_INLINE void act_step(const act_args *p, act_op op, prxi_dtype t, int64_t i, int n)
{
    const vf a = vf_get(p->a, t, i, n);
    const vf b = op == ACT_GELU || op == ACT_SILU ? a : vf_get(p->b, t, i, n);
    vf v = a;
    switch (op) {
    case ACT_GELU: v = vf_gelu_tanh(a); break;
    case ACT_GELU_MUL: v = vf_mul(vf_gelu_tanh(a), b); break;
    case ACT_SILU: v = vf_silu(a); break;
    case ACT_ADD: v = vf_add(a, b); break;
    case ACT_SUB: v = vf_sub(a, b); break;
    }
    vf_put(p->y, t, i, n, v);
}

static PRXI_ALWAYS_INLINE void act_range(const act_args *p, act_op op, prxi_dtype t, int64_t begin, int64_t end)
{
    int64_t i = begin;
    for (; i + VL <= end; i += VL)
        act_step(p, op, t, i, VL);
    if (i < end)
        act_step(p, op, t, i, (int)(end - i));
}

/* One range function per op and type, and its row loop. */
#define ACT_RANGE(name, op, t)                                                                                       \
    static void range_##name(const void *args, int64_t begin, int64_t end)                                           \
    {                                                                                                                \
        act_range(args, op, t, begin, end);                                                                          \
    }
ACT_RANGE(gelu_f32, ACT_GELU, PRXI_F32)
ACT_RANGE(gelu_bf16, ACT_GELU, PRXI_BF16)
ACT_RANGE(gelu_mul_f32, ACT_GELU_MUL, PRXI_F32)
ACT_RANGE(gelu_mul_bf16, ACT_GELU_MUL, PRXI_BF16)
ACT_RANGE(silu_f32, ACT_SILU, PRXI_F32)
ACT_RANGE(silu_bf16, ACT_SILU, PRXI_BF16)
ACT_RANGE(add_f32, ACT_ADD, PRXI_F32)
ACT_RANGE(add_bf16, ACT_ADD, PRXI_BF16)
ACT_RANGE(sub_f32, ACT_SUB, PRXI_F32)
ACT_RANGE(sub_bf16, ACT_SUB, PRXI_BF16)
#undef ACT_RANGE

static void gelu_mul_f32(prxi_stream *s, int64_t n, const void *a, const void *b, void *y)
{
    const act_args p = { a, b, y };
    prxi_rows_run(s, n, 1, b ? range_gelu_mul_f32 : range_gelu_f32, &p);
}

static void gelu_mul_bf16(prxi_stream *s, int64_t n, const void *a, const void *b, void *y)
{
    const act_args p = { a, b, y };
    prxi_rows_run(s, n, 1, b ? range_gelu_mul_bf16 : range_gelu_bf16, &p);
}

static void silu_f32(prxi_stream *s, int64_t n, const void *x, void *y)
{
    const act_args p = { x, NULL, y };
    prxi_rows_run(s, n, 1, range_silu_f32, &p);
}

static void silu_bf16(prxi_stream *s, int64_t n, const void *x, void *y)
{
    const act_args p = { x, NULL, y };
    prxi_rows_run(s, n, 1, range_silu_bf16, &p);
}

static void add_f32(prxi_stream *s, int64_t n, const void *a, const void *b, void *y)
{
    const act_args p = { a, b, y };
    prxi_rows_run(s, n, 1, range_add_f32, &p);
}

static void add_bf16(prxi_stream *s, int64_t n, const void *a, const void *b, void *y)
{
    const act_args p = { a, b, y };
    prxi_rows_run(s, n, 1, range_add_bf16, &p);
}

static void sub_f32(prxi_stream *s, int64_t n, const void *a, const void *b, void *y)
{
    const act_args p = { a, b, y };
    prxi_rows_run(s, n, 1, range_sub_f32, &p);
}

static void sub_bf16(prxi_stream *s, int64_t n, const void *a, const void *b, void *y)
{
    const act_args p = { a, b, y };
    prxi_rows_run(s, n, 1, range_sub_bf16, &p);
}

static void range_narrow(const void *args, int64_t begin, int64_t end)
{
    const act_args *p = args;
    for (int64_t i = begin; i < end; i += VL) {
        const int n = end - i < VL ? (int)(end - i) : VL;
        vf_put(p->y, PRXI_BF16, i, n, vf_get(p->a, PRXI_F32, i, n));
    }
}

static void range_widen(const void *args, int64_t begin, int64_t end)
{
    const act_args *p = args;
    for (int64_t i = begin; i < end; i += VL) {
        const int n = end - i < VL ? (int)(end - i) : VL;
        vf_put(p->y, PRXI_F32, i, n, vf_get(p->a, PRXI_BF16, i, n));
    }
}

static void range_half(const void *args, int64_t begin, int64_t end)
{
    const act_args *p = args;
    const uint16_t *x = p->a;
    for (int64_t i = begin; i < end; i += VL) {
        const int n = end - i < VL ? (int)(end - i) : VL;
        vf_put(p->y, PRXI_F32, i, n, n == VL ? vf_load_f16(x + i) : vf_load_f16_n(x + i, n));
    }
}

static void f32_to_bf16(prxi_stream *s, int64_t n, const float *x, prxi_bf16 *y)
{
    const act_args p = { x, NULL, y };
    prxi_rows_run(s, n, 1, range_narrow, &p);
}

static void bf16_to_f32(prxi_stream *s, int64_t n, const prxi_bf16 *x, float *y)
{
    const act_args p = { x, NULL, y };
    prxi_rows_run(s, n, 1, range_widen, &p);
}

static void f16_to_f32(prxi_stream *s, int64_t n, const uint16_t *x, float *y)
{
    const act_args p = { x, NULL, y };
    prxi_rows_run(s, n, 1, range_half, &p);
}

typedef struct softmax_args {
    int64_t n, ld;
    float *x;
} softmax_args;

static void softmax_row(float *x, int64_t n)
{
    vf top = vf_set1(-INFINITY), sum = vf_set1(0.0f);
    for (int64_t i = 0; i < n; i += VL) {
        const int part = n - i < VL ? (int)(n - i) : VL;
        top = vf_max(top, vf_fill(vf_get(x, PRXI_F32, i, part), part, -INFINITY));
    }
    const vf max = vf_set1(vf_top(top));
    for (int64_t i = 0; i < n; i += VL) {
        const int part = n - i < VL ? (int)(n - i) : VL;
        const vf e = vf_keep(vf_exp(vf_sub(vf_get(x, PRXI_F32, i, part), max)), part);
        vf_put(x, PRXI_F32, i, part, e);
        sum = vf_add(sum, e);
    }
    const vf scale = vf_set1(1.0f / vf_sum(sum));
    for (int64_t i = 0; i < n; i += VL) {
        const int part = n - i < VL ? (int)(n - i) : VL;
        vf_put(x, PRXI_F32, i, part, vf_mul(vf_get(x, PRXI_F32, i, part), scale));
    }
}

static void softmax_rows(const void *args, int64_t begin, int64_t end)
{
    const softmax_args *p = args;
    for (int64_t row = begin; row < end; row++)
        softmax_row(p->x + row * p->ld, p->n);
}

static void softmax(prxi_stream *s, int64_t rows, int64_t n, float *x, int64_t ld)
{
    const softmax_args p = { n, ld, x };
    if (n > 0)
        prxi_rows_run(s, rows, n, softmax_rows, &p);
}

void PRXI_VEC_NAME(prxi_act_init)(prxi_act_ops *t)
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
