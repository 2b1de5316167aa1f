/* Matrix product tiles of MR rows by NR columns on the vectors of vec_*.h: products, stores, packing, and the loads of x and of packed
 * weights. The including file defines MR, at most 14, and EACH_ROWS(X): X(1) to X(MR). */

enum { NR = 2 * VL, ROW_GROUPS = 5 };

/* One step of k. Rows 3 g to 3 g + 2 are one pointer plus at most twice the stride, as addresses can be. */
static PRXI_ALWAYS_INLINE void step(const int rows, const float *const *a, int64_t lda, int u, const float *b, vf (*acc)[2])
{
    const vf b0 = vf_load(b), b1 = vf_load(b + VL);
#pragma GCC unroll 14
    for (int r = 0; r < rows; r++) {
        const vf x = vf_set1(a[r / 3][r % 3 * lda + u]);
        acc[r][0] = vf_fma(x, b0, acc[r][0]);
        acc[r][1] = vf_fma(x, b1, acc[r][1]);
    }
}

static PRXI_ALWAYS_INLINE void tile_rows(const int rows, const int64_t lda, const prxi_gemm_tile *t)
{
    const unsigned char *p = t->fetch.at[0], *q = t->fetch.at[1];
    const float *a[ROW_GROUPS], *b = t->b;
    const int64_t k = t->k;
    vf acc[MR][2];
#pragma GCC unroll 5
    for (int g = 0; 3 * g < rows; g++)
        a[g] = t->a + 3 * g * lda;
#pragma GCC unroll 14
    for (int r = 0; r < rows; r++) {
        acc[r][0] = t->first ? vf_set1(0.0f) : vf_load(t->c + r * NR);
        acc[r][1] = t->first ? vf_set1(0.0f) : vf_load(t->c + r * NR + VL);
    }
    int64_t i = 0;
    for (; i + PRXI_GEMM_FETCH_STEPS <= k; i += PRXI_GEMM_FETCH_STEPS, b += PRXI_GEMM_FETCH_STEPS * NR) {
        PRXI_PREFETCH(p);
        PRXI_PREFETCH(q);
        p += t->fetch.step[0];
        q += t->fetch.step[1];
#pragma GCC unroll 4
        for (int u = 0; u < PRXI_GEMM_FETCH_STEPS; u++)
            step(rows, a, lda, u, b + u * NR, acc);
#pragma GCC unroll 5
        for (int g = 0; 3 * g < rows; g++)
            a[g] += PRXI_GEMM_FETCH_STEPS;
    }
    for (int u = 0; i < k; i++, u++, b += NR)
        step(rows, a, lda, u, b, acc);
    if (t->y) {
        const vf bias0 = t->bias ? vf_load(t->bias) : vf_set1(0.0f), bias1 = t->bias ? vf_load(t->bias + VL) : bias0;
#pragma GCC unroll 14
        for (int r = 0; r < rows; r++) {
            vf_store(t->y + r * t->ldy, vf_add(acc[r][0], bias0));
            vf_store(t->y + r * t->ldy + VL, vf_add(acc[r][1], bias1));
        }
        return;
    }
#pragma GCC unroll 14
    for (int r = 0; r < rows; r++) {
        vf_store(t->c + r * NR, acc[r][0]);
        vf_store(t->c + r * NR + VL, acc[r][1]);
    }
}

/* The stride of copied rows is a constant, so that one register serves all rows. */
#define TILE_OF(rows)                                                                                                 \
    static void copied_##rows(const prxi_gemm_tile *t) { tile_rows(rows, PRXI_GEMM_LDA, t); }                         \
    static void direct_##rows(const prxi_gemm_tile *t) { tile_rows(rows, t->lda, t); }
#define COPIED(rows) copied_##rows,
#define DIRECT(rows) direct_##rows,
EACH_ROWS(TILE_OF)

static void tile(const prxi_gemm_tile *t)
{
    typedef void (*tile_fn)(const prxi_gemm_tile *);
    static const tile_fn copied[MR] = { EACH_ROWS(COPIED) }, direct[MR] = { EACH_ROWS(DIRECT) };
    if (t->lda == PRXI_GEMM_LDA)
        copied[t->rows - 1](t);
    else
        direct[t->rows - 1](t);
}

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
