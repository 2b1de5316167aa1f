/* Attention tiles in f32 with fused multiply-add, compiled once per vector width. The including file defines VEC, LANES,
 * ROWS, EACH_ROW and the V_ operations (tile_tmpl.h). bf16 inputs are widened while packing. */
#include <math.h>

#include "engine/core/attr.h"

#define WORD float
#define WVEC VEC
#define W_LOAD(p) V_LOAD(p)
#define W_SET(p) V_SET(*(p))
#define MAC(acc, x, y) acc = V_FMA(x, y, acc)
#define WORD_DIMS 1
#define PAIR_STEPS 2

#include "attention/x86/tile_tmpl.h"

/* 2^x for x <= 0, clamped at 2^-126; polynomial of degree 5 on [-1/2, 1/2], relative error below 2e-7. */
static PRXI_ALWAYS_INLINE VEC exp2_neg(VEC x)
{
    const VEC magic = V_SET(12582912.0f);        /* 1.5 * 2^23: rounds to an integer in the low bits */
    x = V_MAX(x, V_SET(-126.0f));
    const VEC t = V_ADD(x, magic);
    const VEC f = V_SUB(x, V_SUB(t, magic));
    VEC y = V_FMA(f, V_SET(0.00132764713f), V_SET(0.00967554096f));
    y = V_FMA(y, f, V_SET(0.0555071309f));
    y = V_FMA(y, f, V_SET(0.240221202f));
    y = V_FMA(y, f, V_SET(0.693146944f));
    y = V_FMA(y, f, V_SET(1.00000012f));
    return V_ADD_EXPONENT(y, t);
}

static PRXI_ALWAYS_INLINE float element(const void *row, prxi_dtype type, int i, int n)
{
    return row && i < n ? prxi_load(row, type, (size_t)i) : 0.0f;
}

static PRXI_ALWAYS_INLINE void pack_pair(float *PRXI_RESTRICT k, float *PRXI_RESTRICT v, const void *const rows[4],
                                         prxi_dtype type, int n, int d)
{
    const int have = n < d ? n : d;
    for (int i = 0; i < have && rows[0] && rows[1]; i++) {
        k[2 * i] = prxi_load(rows[0], type, (size_t)i);
        k[2 * i + 1] = prxi_load(rows[1], type, (size_t)i);
        v[i] = prxi_load(rows[2], type, (size_t)i);
        v[d + i] = prxi_load(rows[3], type, (size_t)i);
    }
    for (int i = rows[0] && rows[1] ? have : 0; i < d; i++) {
        k[2 * i] = element(rows[0], type, i, n);
        k[2 * i + 1] = element(rows[1], type, i, n);
        v[i] = element(rows[2], type, i, n);
        v[d + i] = element(rows[3], type, i, n);
    }
}

static void pack_pair_f32(void *k, void *v, const void *const rows[4], int n, int d)
{
    pack_pair(k, v, rows, PRXI_F32, n, d);
}

static void pack_pair_bf16(void *k, void *v, const void *const rows[4], int n, int d)
{
    pack_pair(k, v, rows, PRXI_BF16, n, d);
}

static PRXI_ALWAYS_INLINE void pack_q(float *q, const void *const *rows, prxi_dtype type, int vecs, int n, int d)
{
    const size_t width = (size_t)vecs * LANES;
    int done = 0;
#ifdef V_PACK_Q     /* whole squares of LANES dimensions */
    done = n / LANES * LANES;
    for (size_t i = 0; i < width; i += LANES)
        for (int j = 0; j < done; j += LANES)
            V_PACK_Q(q + (size_t)j * width + i, width, rows + i, type, j);
#endif
    for (size_t i = 0; i < width; i++)
        for (int j = done; j < d; j++)
            q[(size_t)j * width + i] = element(rows[i], type, j, n);
}

static void pack_q_f32(void *q, const void *const *rows, int vecs, int n, int d)
{
    pack_q(q, rows, PRXI_F32, vecs, n, d);
}

static void pack_q_bf16(void *q, const void *const *rows, int vecs, int n, int d)
{
    pack_q(q, rows, PRXI_BF16, vecs, n, d);
}

static void softmax(const prxi_tile *t)
{
    const VEC c = V_SET(t->c);
    const size_t width = (size_t)t->vecs * LANES;
    for (size_t x = 0; x < width; x += LANES) {
        const VEC old = V_LOAD(t->m + x);
        const VEC m = V_MAX(old, V_MUL(V_LOAD(t->top + x), c));
        const VEC alpha = exp2_neg(V_SUB(old, m));
        const float *s = t->s + x;
        float *p = (float *)t->p + x;
        VEC sum0 = V_SET(0.0f), sum1 = V_SET(0.0f);
        for (int i = 0; i < t->pairs; i++, s += 2 * width, p += 2 * width) {
            const VEC p0 = exp2_neg(V_FMSUB(V_LOAD(s), c, m));
            const VEC p1 = exp2_neg(V_FMSUB(V_LOAD(s + width), c, m));
            sum0 = V_ADD(sum0, p0);
            sum1 = V_ADD(sum1, p1);
            V_STORE(p, p0);
            V_STORE(p + width, p1);
        }
        V_STORE(t->l + x, V_FMA(V_LOAD(t->l + x), alpha, V_ADD(sum0, sum1)));
        V_STORE(t->m + x, m);
        V_STORE(t->alpha + x, alpha);
    }
}

static PRXI_ALWAYS_INLINE void finish_as(const prxi_tile *t, void *const *rows, prxi_dtype type, int n)
{
    const size_t width = (size_t)t->vecs * LANES;
    for (size_t x = 0; x < width; x++) {
        const float inv = t->l[x] != 0.0f ? 1.0f / t->l[x] : 0.0f;
        size_t j = 0;
#ifdef V_FINISH
        if (x % LANES == 0)
            for (int i = 0; i + LANES <= n; i += LANES)
                V_FINISH(t->o + (size_t)i * width + x, width, t->l + x, rows + x, type, i);
        j = (size_t)(n / LANES * LANES);
#endif
        for (; rows[x] && j < (size_t)n; j++)
            prxi_store(rows[x], type, j, t->o[j * width + x] * inv);
    }
}

static void finish_f32(const prxi_tile *t, void *const *rows, int n)
{
    finish_as(t, rows, PRXI_F32, n);
}

static void finish_bf16(const prxi_tile *t, void *const *rows, int n)
{
    finish_as(t, rows, PRXI_BF16, n);
}

static void argmax(const prxi_tile *t, int32_t first, float *best, int32_t *arg)
{
    const size_t width = (size_t)t->vecs * LANES;
    for (size_t x = 0; x < width; x += LANES) {
        VEC top = V_LOAD(best + x), at = V_LOAD((const float *)(const void *)(arg + x));
        const float *s = t->s + x;
        for (int32_t i = 0; i < 2 * t->pairs; i++, s += width)
            V_TAKE_GREATER(top, at, V_LOAD(s), first + i);
        V_STORE(best + x, top);
        V_STORE((float *)(void *)(arg + x), at);
    }
}

static void add_row_f32(float *PRXI_RESTRICT sum, const void *row, int n)
{
    for (int i = 0; i < n; i++)
        sum[i] += prxi_load(row, PRXI_F32, (size_t)i);
}

static void add_row_bf16(float *PRXI_RESTRICT sum, const void *row, int n)
{
    for (int i = 0; i < n; i++)
        sum[i] += prxi_load(row, PRXI_BF16, (size_t)i);
}

#define TILES(type_, name)                                                                        \
    { .lanes = LANES, .elem = 4, .dtype = type_, .pack_pair = pack_pair_##name, .pack_q = pack_q_##name, \
      .scores = scores, .softmax = softmax, .values = values, .finish = finish_##name,     \
      .argmax = argmax, .add_row = add_row_##name }

static const prxi_tile_ops tiles[PRXI_COMPUTE_DTYPES] = { [PRXI_F32] = TILES(PRXI_F32, f32),
                                                          [PRXI_BF16] = TILES(PRXI_BF16, bf16) };

static void dense_f32(prxi_stream *s, const prxi_attn_args *a)
{
    prxi_attn_tiled_dense(s, a, &tiles[PRXI_F32]);
}

static void dense_bf16(prxi_stream *s, const prxi_attn_args *a)
{
    prxi_attn_tiled_dense(s, a, &tiles[PRXI_BF16]);
}

static void blocks_f32(prxi_stream *s, const prxi_attn_args *a, const prxi_block_list *b)
{
    prxi_attn_tiled_blocks(s, a, b, &tiles[PRXI_F32]);
}

static void blocks_bf16(prxi_stream *s, const prxi_attn_args *a, const prxi_block_list *b)
{
    prxi_attn_tiled_blocks(s, a, b, &tiles[PRXI_BF16]);
}

static void nearest_f32(prxi_stream *s, const prxi_nearest_args *a)
{
    prxi_tiled_nearest(s, a, &tiles[PRXI_F32]);
}

static void nearest_bf16(prxi_stream *s, const prxi_nearest_args *a)
{
    prxi_tiled_nearest(s, a, &tiles[PRXI_BF16]);
}

static void gather_f32(prxi_stream *s, const prxi_nearest_args *a)
{
    prxi_tiled_gather(s, a, &tiles[PRXI_F32]);
}

static void gather_bf16(prxi_stream *s, const prxi_nearest_args *a)
{
    prxi_tiled_gather(s, a, &tiles[PRXI_BF16]);
}

void INIT(prxi_attn_ops *t)
{
    t->nearest[PRXI_F32] = nearest_f32;
    t->nearest[PRXI_BF16] = nearest_bf16;
    t->gather[PRXI_F32] = gather_f32;
    t->gather[PRXI_BF16] = gather_bf16;
    t->dense[PRXI_F32] = dense_f32;
    t->dense[PRXI_BF16] = dense_bf16;
    t->blocks[PRXI_F32] = blocks_f32;
    t->blocks[PRXI_BF16] = blocks_bf16;
}
