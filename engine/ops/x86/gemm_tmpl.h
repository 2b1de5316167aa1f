/* Stores of finished tiles, packing, and the loads of x and of packed weights, for the vectors of vec_*.h; NR is the tile's width. */

static PRXI_ALWAYS_INLINE vf finish(vf v, prxi_epilogue e)
{
    return e == PRXI_EPI_GELU_TANH ? vf_gelu_tanh(v) : e == PRXI_EPI_SILU ? vf_silu(v) : v;
}

static PRXI_ALWAYS_INLINE void store_vec(const prxi_gemm_store *s, prxi_dtype t, int r, int j, int n)
{
    const vf bias = s->bias ? vf_get(s->bias, PRXI_F32, j, n) : vf_set1(0.0f);
    const vf v = vf_fma(vf_load(s->c + r * NR + j), vf_set1(s->alpha), bias);
    vf_put(s->y, t, r * s->ldy + j, n, finish(v, s->epilogue));
}

static PRXI_ALWAYS_INLINE void store_tile(const prxi_gemm_store *s, prxi_dtype t)
{
    for (int r = 0; r < s->rows; r++) {
        int j = 0;
        for (; j + VL <= s->cols; j += VL)
            store_vec(s, t, r, j, VL);
        if (j < s->cols)
            store_vec(s, t, r, j, s->cols - j);
    }
}

static void store_f32(const prxi_gemm_store *s)
{
    store_tile(s, PRXI_F32);
}

static void store_bf16(const prxi_gemm_store *s)
{
    store_tile(s, PRXI_BF16);
}

static PRXI_ALWAYS_INLINE vf get_weight(const void *w, prxi_dtype t, int64_t i, int n)
{
    if (t == PRXI_F16)
        return n == VL ? vf_load_f16((const uint16_t *)w + i) : vf_load_f16_n((const uint16_t *)w + i, n);
    return vf_get(w, t, i, n);
}

/* Square by square through registers. */
static PRXI_ALWAYS_INLINE void pack_typed(const void *w, prxi_dtype from, int64_t ldw, int rows, int64_t k, void *panel,
                                          prxi_dtype to)
{
    for (int64_t i = 0; i < k; i += VL) {
        const int n = k - i < VL ? (int)(k - i) : VL;
        for (int r0 = 0; r0 < NR; r0 += VL) {
            vf v[VL];
            for (int r = 0; r < VL; r++)
                v[r] = r0 + r < rows ? get_weight(w, from, (r0 + r) * ldw + i, n) : vf_set1(0.0f);
            vf_transpose(v);
            for (int j = 0; j < n; j++)
                vf_put(panel, to, (i + j) * NR + r0, VL, v[j]);
        }
    }
}

static void pack(const void *w, prxi_dtype from, int64_t ldw, int rows, int64_t k, void *panel, prxi_dtype to)
{
    if (from == PRXI_F32 && to == PRXI_F32)
        pack_typed(w, PRXI_F32, ldw, rows, k, panel, PRXI_F32);
    else if (from == PRXI_BF16 && to == PRXI_BF16)
        pack_typed(w, PRXI_BF16, ldw, rows, k, panel, PRXI_BF16);
    else
        pack_typed(w, from, ldw, rows, k, panel, to);
}

static PRXI_ALWAYS_INLINE void load(int64_t n, const void *x, prxi_dtype t, float *y)
{
    int64_t i = 0;
    for (; i + 4 * VL <= n; i += 4 * VL)
#pragma GCC unroll 4
        for (int u = 0; u < 4; u++)
            vf_store(y + i + u * VL, vf_get(x, t, i + u * VL, VL));
    for (; i < n; i += VL) {
        const int part = n - i < VL ? (int)(n - i) : VL;
        vf_store_n(y + i, vf_get(x, t, i, part), part);
    }
}

static void load_f32(int64_t n, const void *x, float *y)
{
    load(n, x, PRXI_F32, y);
}

static void load_bf16(int64_t n, const void *x, float *y)
{
    load(n, x, PRXI_BF16, y);
}

const prxi_gemm_kernel *PRXI_VEC_NAME(prxi_gemm_kernel)(void)
{
    static const prxi_gemm_kernel k = { MR, NR, tile, { store_f32, store_bf16 }, pack, { load_f32, load_bf16 } };
    return &k;
}
