/* Channel norm with silu on the vectors of vec_*.h; the bf16 tiles of machines without a bf16 dot product: both halves of
 * a pair are widened (a shift, a mask) and multiplied in f32. */

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

#define STEP_wide 2
#define LOADW2_wide(w)                                                                                                \
    const vi u0 = vi_load(w), u1 = vi_load((w) + VL * 4);                                                             \
    const vf w0 = vi_low(u0), w1 = vi_low(u1), z0 = vi_high(u0), z1 = vi_high(u1);
#define LOADW1_wide(w)                                                                                                \
    const vi u0 = vi_load(w);                                                                                         \
    const vf w0 = vi_low(u0), z0 = vi_high(u0);
#define PIXEL_wide(p) vi_set1(*(const int32_t *)(const void *)(a + (p) * step))
#define ACC2_wide(p)                                                                                                  \
    {                                                                                                                 \
        const vi u = PIXEL_wide(p);                                                                                   \
        const vf lo = vi_low(u), hi = vi_high(u);                                                                     \
        c##p = vf_fma(hi, z0, vf_fma(lo, w0, c##p));                                                                  \
        d##p = vf_fma(hi, z1, vf_fma(lo, w1, d##p));                                                                  \
    }
#define ACC1_wide(p)                                                                                                  \
    {                                                                                                                 \
        const vi u = PIXEL_wide(p);                                                                                   \
        c##p = vf_fma(vi_high(u), z0, vf_fma(vi_low(u), w0, c##p));                                                   \
    }
