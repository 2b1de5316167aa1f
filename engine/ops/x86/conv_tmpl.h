/* Channel norm with silu and the tiles of bf16 weights on the vectors of vec_*.h. The tiles multiply in f32: where the bf16 dot
 * product is slower than two f32 multiply-adds (Intel cores without AMX) or absent, this is the fast way. */

static PRXI_ALWAYS_INLINE void rms_silu_row(prxi_dtype t, int64_t dim, const void *x, const float *gamma, int silu,
                                            void *out)
{
    vf acc0 = vf_set1(0.0f), acc1 = acc0;
    int64_t i = 0;
    for (; i + 2 * VL <= dim; i += 2 * VL) {
        const vf a = vf_get(x, t, i, VL), b = vf_get(x, t, i + VL, VL);
        acc0 = vf_fma(a, a, acc0);
        acc1 = vf_fma(b, b, acc1);
    }
    for (; i < dim; i += VL) {
        const vf a = vf_get(x, t, i, dim - i < VL ? (int)(dim - i) : VL);
        acc0 = vf_fma(a, a, acc0);
    }
    const vf scale = vf_set1(sqrtf((float)dim) / fmaxf(sqrtf(vf_sum(vf_add(acc0, acc1))), 1e-12f));
    for (i = 0; i < dim; i += VL) {
        const int n = dim - i < VL ? (int)(dim - i) : VL;
        const vf v = vf_mul(vf_mul(vf_get(x, t, i, n), scale), vf_get(gamma, PRXI_F32, i, n));
        vf_put(out, t, i, n, silu ? vf_silu(v) : v);
    }
}

static PRXI_ALWAYS_INLINE void rms_silu(prxi_dtype t, int64_t rows, int64_t dim, const void *x, int64_t ldx,
                                        const float *gamma, int silu, void *out, int64_t ldo)
{
    const size_t el = prxi_dtype_size(t);
    for (int64_t r = 0; r < rows; r++)
        rms_silu_row(t, dim, (const unsigned char *)x + (size_t)(r * ldx) * el, gamma, silu,
                     (unsigned char *)out + (size_t)(r * ldo) * el);
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

/* bf16 weights in pairs, widened as they are read (a shift for the first of a pair, a mask for the second); the source was
 * widened before. */
#define STEP_wide 2
#define BYTES_wide 8
#define BODY2_wide(REP)                                                                                               \
    {                                                                                                                 \
        const vf w0 = vi_low(vi_load(w)), w1 = vi_low(vi_load(w + VL * 4));                                           \
        REP(TILE_FIRST2)                                                                                              \
    }                                                                                                                 \
    {                                                                                                                 \
        const vf w0 = vi_high(vi_load(w)), w1 = vi_high(vi_load(w + VL * 4));                                         \
        REP(TILE_SECOND2)                                                                                             \
    }
#define BODY1_wide(REP)                                                                                               \
    {                                                                                                                 \
        const vf w0 = vi_low(vi_load(w));                                                                             \
        REP(TILE_FIRST1)                                                                                              \
    }                                                                                                                 \
    {                                                                                                                 \
        const vf w0 = vi_high(vi_load(w));                                                                            \
        REP(TILE_SECOND1)                                                                                             \
    }

static PRXI_ALWAYS_INLINE void merge_as(int64_t n, const float *x, int add, prxi_dtype t, void *out)
{
    for (int64_t i = 0; i < n; i += VL) {
        const int count = n - i < VL ? (int)(n - i) : VL;
        vf v = vf_get(x, PRXI_F32, i, count);
        if (add)
            v = vf_add(vf_get(out, t, i, count), v);
        vf_put(out, t, i, count, v);
    }
}

static void merge(int64_t n, const float *x, int add, prxi_dtype t, void *out)
{
    if (t == PRXI_F32)
        merge_as(n, x, add, PRXI_F32, out);
    else
        merge_as(n, x, add, PRXI_BF16, out);
}

static void widen(int64_t n, const prxi_bf16 *x, float *y)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        vf_store(y + i, vf_load_bf16(x + i));
    if (i < n)
        vf_store_n(y + i, vf_load_bf16_n(x + i, (int)(n - i)), (int)(n - i));
}
