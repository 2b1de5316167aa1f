/* Normalisation on the vectors of vec_*.h. A sum over a row runs in four vectors of partial sums, so its error is that of
 * dim / (4 VL) additions. */

/* One step of a sum over a row: lanes [i, i + n) of the row at base. */
typedef enum ln_pass { LN_UPDATE, LN_SUM, LN_SQUARES } ln_pass;

static PRXI_ALWAYS_INLINE vf ln_step(const prxi_ln_args *a, prxi_dtype t, int64_t base, int64_t i, int n, ln_pass pass,
                                     vf mean, vf acc)
{
    vf v = vf_get(a->x, t, base + i, n);
    if (pass == LN_SQUARES) {
        v = vf_keep(vf_sub(v, mean), n);
        return vf_fma(v, v, acc);
    }
    if (pass == LN_UPDATE) {
        const vf gate = a->gate ? vf_get(a->gate, PRXI_F32, i, n) : vf_set1(1.0f);
        v = vf_rounded(vf_fma(vf_get(a->o, t, base + i, n), gate, v), t);
        vf_put(a->x, t, base + i, n, v);
    }
    return vf_add(acc, v);
}

static PRXI_ALWAYS_INLINE float ln_sum(const prxi_ln_args *a, prxi_dtype t, int64_t base, ln_pass pass, float mean)
{
    const vf m = vf_set1(mean);
    vf acc[4] = { vf_set1(0.0f), vf_set1(0.0f), vf_set1(0.0f), vf_set1(0.0f) };
    int64_t i = 0;
    for (; i + 4 * VL <= a->dim; i += 4 * VL)
#pragma GCC unroll 4
        for (int u = 0; u < 4; u++)
            acc[u] = ln_step(a, t, base, i + u * VL, VL, pass, m, acc[u]);
    for (; i + VL <= a->dim; i += VL)
        acc[0] = ln_step(a, t, base, i, VL, pass, m, acc[0]);
    if (i < a->dim)
        acc[1] = ln_step(a, t, base, i, (int)(a->dim - i), pass, m, acc[1]);
    return vf_sum(vf_add(vf_add(acc[0], acc[1]), vf_add(acc[2], acc[3])));
}

static PRXI_ALWAYS_INLINE void ln_out(const prxi_ln_args *a, prxi_dtype t, int64_t base, int64_t i, int n, vf mean,
                                      vf scale)
{
    const vf v = vf_mul(vf_sub(vf_get(a->x, t, base + i, n), mean), scale);
    const vf mul = a->mul ? vf_get(a->mul, PRXI_F32, i, n) : vf_set1(1.0f);
    const vf add = a->add ? vf_get(a->add, PRXI_F32, i, n) : vf_set1(0.0f);
    vf_put(a->out, t, base + i, n, vf_fma(v, mul, add));
}

static PRXI_ALWAYS_INLINE void ln_rows(const prxi_ln_args *a, prxi_dtype t, int64_t begin, int64_t end)
{
    for (int64_t row = begin; row < end; row++) {
        const int64_t base = row * a->dim;
        const float sum = a->o ? ln_sum(a, t, base, LN_UPDATE, 0.0f) : ln_sum(a, t, base, LN_SUM, 0.0f);
        if (!a->out)
            continue;
        const float mean = sum / (float)a->dim;
        const float var = ln_sum(a, t, base, LN_SQUARES, mean) / (float)a->dim;
        const vf m = vf_set1(mean), scale = vf_set1(1.0f / sqrtf(var + a->eps));
        int64_t i = 0;
        for (; i + VL <= a->dim; i += VL)
            ln_out(a, t, base, i, VL, m, scale);
        if (i < a->dim)
            ln_out(a, t, base, i, (int)(a->dim - i), m, scale);
    }
}

static PRXI_ALWAYS_INLINE float rms_sum(const prxi_rms_args *a, prxi_dtype t, int64_t base)
{
    vf acc[4] = { vf_set1(0.0f), vf_set1(0.0f), vf_set1(0.0f), vf_set1(0.0f) };
    int64_t i = 0;
    for (; i + 4 * VL <= a->dim; i += 4 * VL)
#pragma GCC unroll 4
        for (int u = 0; u < 4; u++) {
            const vf v = vf_get(a->x, t, base + i + u * VL, VL);
            acc[u] = vf_fma(v, v, acc[u]);
        }
    for (; i < a->dim; i += VL) {
        const int n = a->dim - i < VL ? (int)(a->dim - i) : VL;
        const vf v = vf_get(a->x, t, base + i, n);
        acc[0] = vf_fma(v, v, acc[0]);
    }
    return vf_sum(vf_add(vf_add(acc[0], acc[1]), vf_add(acc[2], acc[3])));
}

/* n is even where there is a rope: heads are cut, not pairs. */
static PRXI_ALWAYS_INLINE void rms_out(const prxi_rms_args *a, prxi_dtype t, int64_t row, int64_t i, int n, vf scale,
                                       const float *rope)
{
    vf v = vf_mul(vf_mul(vf_get(a->x, t, row * a->ldx + i, n), scale), vf_get(a->weight, PRXI_F32, i, n));
    if (rope) {
        const vf r = vf_get(rope, PRXI_F32, 0, n);
        v = vf_fmaddsub(v, vf_even(r), vf_mul(vf_swap(v), vf_odd(r)));
    }
    vf_put(a->out, t, row * a->ldo + i, n, v);
}

static PRXI_ALWAYS_INLINE void rms_rows(const prxi_rms_args *a, prxi_dtype t, int64_t begin, int64_t end)
{
    const int64_t head = a->rope ? a->head_dim : a->dim;
    for (int64_t row = begin; row < end; row++) {
        const vf scale = vf_set1(1.0f / sqrtf(rms_sum(a, t, row * a->ldx) / (float)a->dim + a->eps));
        const float *rope = a->rope ? a->rope + row % a->rope_rows * head : NULL;
        for (int64_t h = 0; h < a->dim; h += head) {
            int64_t i = 0;
            for (; i + VL <= head; i += VL)
                rms_out(a, t, row, h + i, VL, scale, rope ? rope + i : NULL);
            if (i < head)
                rms_out(a, t, row, h + i, (int)(head - i), scale, rope ? rope + i : NULL);
        }
    }
}

static void ln_rows_f32(const void *args, int64_t begin, int64_t end)
{
    ln_rows(args, PRXI_F32, begin, end);
}

static void ln_rows_bf16(const void *args, int64_t begin, int64_t end)
{
    ln_rows(args, PRXI_BF16, begin, end);
}

static void rms_rows_f32(const void *args, int64_t begin, int64_t end)
{
    rms_rows(args, PRXI_F32, begin, end);
}

static void rms_rows_bf16(const void *args, int64_t begin, int64_t end)
{
    rms_rows(args, PRXI_BF16, begin, end);
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

void PRXI_VEC_NAME(prxi_norm_init)(prxi_norm_ops *t)
{
    t->layernorm[PRXI_F32] = layernorm_f32;
    t->layernorm[PRXI_BF16] = layernorm_bf16;
    t->rmsnorm[PRXI_F32] = rmsnorm_f32;
    t->rmsnorm[PRXI_BF16] = rmsnorm_bf16;
}
