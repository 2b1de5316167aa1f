/* Register tiles of the convolution. A tile is P output pixels by NV vectors of output channels; its sums stay in registers
 * through all taps. The accumulators are named variables, not an array, because an array goes to the stack whenever a
 * compiler declines to unroll. Include after vec_*.h and define, for each element type TAG:
 *   STEP_TAG: elements of k in a step; BYTES_TAG: their bytes in the source; BODY1_TAG, BODY2_TAG(REP): a step of one or two
 *   vectors of outputs, REP(M) repeats M for every pixel. */

#define PRXI_REP_1(M) M(0)
#define PRXI_REP_2(M) PRXI_REP_1(M) M(1)
#define PRXI_REP_3(M) PRXI_REP_2(M) M(2)
#define PRXI_REP_4(M) PRXI_REP_3(M) M(3)
#define PRXI_REP_5(M) PRXI_REP_4(M) M(4)
#define PRXI_REP_6(M) PRXI_REP_5(M) M(5)
#define PRXI_REP_7(M) PRXI_REP_6(M) M(6)
#define PRXI_REP_8(M) PRXI_REP_7(M) M(7)
#define PRXI_REP_9(M) PRXI_REP_8(M) M(8)
#define PRXI_REP_10(M) PRXI_REP_9(M) M(9)
#define PRXI_REP_11(M) PRXI_REP_10(M) M(10)
#define PRXI_REP_12(M) PRXI_REP_11(M) M(11)
#define PRXI_REP_13(M) PRXI_REP_12(M) M(12)
#define PRXI_REP_14(M) PRXI_REP_13(M) M(13)

enum { TILE_BLOCK = 2 * VL, TILE_MAX_P = 14 };

#define TILE_BEGIN2(p) vf c##p = b0, d##p = b1;
#define TILE_END2(p) vf_store(acc + (p) * TILE_BLOCK, c##p), vf_store(acc + (p) * TILE_BLOCK + VL, d##p);
#define TILE_BEGIN1(p) vf c##p = b0;
#define TILE_END1(p) vf_store(acc + (p) * TILE_BLOCK, c##p);

/* acc[P][block] = bias + sums, for pixels x to x + P - 1. */
#define TILE_FUNCTION(TAG, P, NV)                                                                                     \
    static void tile_##TAG##_##P##_##NV(const prxi_conv_tile *t, int64_t x, float *acc)                               \
    {                                                                                                                 \
        const vf b0 = vf_load(t->bias), b1 = vf_load(t->bias + VL);                                                   \
        (void)b1;                                                                                                     \
        PRXI_REP_##P(TILE_BEGIN##NV)                                                                                  \
        for (int i = 0; i < t->n_taps; i++) {                                                                         \
            const int64_t step = t->taps[i].step;                                                                     \
            const unsigned char *a = t->taps[i].src + x * step, *w = t->taps[i].weights;                              \
            for (int64_t k = t->taps[i].k; k > 0; k -= STEP_##TAG) {                                                  \
                BODY##NV##_##TAG(PRXI_REP_##P)                                                                        \
                a += BYTES_##TAG;                                                                                     \
                w += TILE_BLOCK * 4;                                                                                  \
            }                                                                                                         \
        }                                                                                                             \
        PRXI_REP_##P(TILE_END##NV)                                                                                    \
    }

typedef void (*tile_fn)(const prxi_conv_tile *t, int64_t x, float *acc);

static PRXI_ALWAYS_INLINE void tile_put(const prxi_conv_tile *t, int64_t x, int pixels, const float *acc, prxi_dtype out)
{
    for (int p = 0; p < pixels; p++) {
        unsigned char *o = t->out + (x + p) * t->out_step;
        for (int j = 0; j < t->cols; j += VL) {
            const int n = t->cols - j < VL ? t->cols - j : VL;
            vf v = vf_load(acc + p * TILE_BLOCK + j);
            if (t->add)
                v = vf_add(vf_get(o, out, j, n), v);
            vf_put(o, out, j, n, v);
        }
    }
}

/* The row in equal tiles of at most max_p pixels. */
static PRXI_ALWAYS_INLINE void tile_row(const prxi_conv_tile *t, const tile_fn *fn, int max_p)
{
    float acc[TILE_MAX_P * TILE_BLOCK];
    const int64_t n = (t->width + max_p - 1) / max_p;
    for (int64_t i = 0; i < n; i++) {
        const int64_t x = t->width * i / n;
        const int pixels = (int)(t->width * (i + 1) / n - x);
        fn[pixels - 1](t, x, acc);
        if (t->out_dtype == PRXI_F32)
            tile_put(t, x, pixels, acc, PRXI_F32);
        else
            tile_put(t, x, pixels, acc, PRXI_BF16);
    }
}

#define TILE_ADD2(p, at)                                                                                              \
    {                                                                                                                 \
        const vf v = vf_set1(*(const float *)(const void *)(a + (at) + (p) * step));                                  \
        c##p = vf_fma(v, w0, c##p);                                                                                   \
        d##p = vf_fma(v, w1, d##p);                                                                                   \
    }
#define TILE_ADD1(p, at) c##p = vf_fma(vf_set1(*(const float *)(const void *)(a + (at) + (p) * step)), w0, c##p);
#define TILE_FIRST2(p) TILE_ADD2(p, 0)
#define TILE_FIRST1(p) TILE_ADD1(p, 0)
#define TILE_SECOND2(p) TILE_ADD2(p, 4)
#define TILE_SECOND1(p) TILE_ADD1(p, 4)

/* f32: one multiply-add a step. */
#define STEP_f32 1
#define BYTES_f32 4
#define BODY2_f32(REP)                                                                                                \
    const vf w0 = vf_load((const float *)(const void *)w), w1 = vf_load((const float *)(const void *)w + VL);         \
    REP(TILE_FIRST2)
#define BODY1_f32(REP)                                                                                                \
    const vf w0 = vf_load((const float *)(const void *)w);                                                            \
    REP(TILE_FIRST1)
