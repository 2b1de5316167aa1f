/* Attention tiles with vdpbf16ps: products of bf16 pairs, sums in f32. Packed q is [d / 2][queries] pairs of dimensions,
 * packed k plain rows (a pair of dimensions is one broadcast), packed v [key pair][d] pairs of keys, and p pairs of
 * exponentials. Tiles are 8 rows by up to 3 vectors: 24 accumulators, 11 loads for 24 products. */
#include <immintrin.h>
#include <math.h>

#include "attention/tile.h"
#include "attention/x86/transpose512.h"

enum { LANES = 16 };

static inline __m512bh as_bf(__m512i v)
{
    return (__m512bh)v;
}

static inline __m512bh pair_of(const uint32_t *p)
{
    return as_bf(_mm512_set1_epi32((int)*p));
}

/* 2^x for x <= 0, clamped at 2^-126; polynomial of degree 4 on [-1/2, 1/2], relative error below 3e-6. */
static inline __m512 exp2_neg(__m512 x)
{
    const __m512 magic = _mm512_set1_ps(12582912.0f);        /* 1.5 * 2^23: rounds to an integer in the low bits */
    x = _mm512_max_ps(x, _mm512_set1_ps(-126.0f));
    const __m512 t = _mm512_add_ps(x, magic);
    const __m512 f = _mm512_sub_ps(x, _mm512_sub_ps(t, magic));
    __m512 y = _mm512_fmadd_ps(f, _mm512_set1_ps(0.00957010128f), _mm512_set1_ps(0.0559178591f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.240247443f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.693121791f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.999999285f));
    return _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(y), _mm512_slli_epi32(_mm512_castps_si512(t), 23)));
}

static void pack_pair(void *k, void *v, const void *const rows[4], int n, int d)
{
    for (int i = 0; i < 2; i++) {
        prxi_bf16 *to = (prxi_bf16 *)k + (size_t)i * (size_t)d;
        const int have = rows[i] ? n : 0;
        if (have)
            memcpy(to, rows[i], (size_t)n * 2);
        memset(to + have, 0, (size_t)(d - have) * 2);
    }
    for (int j = 0; j < d; j += LANES) {
        const int left = n - j < LANES ? n - j : LANES;
        const __mmask16 in = left <= 0 ? 0 : (__mmask16)((1u << left) - 1u);
        const __mmask16 out = d - j >= LANES ? 0xffff : 0xff;
        __m512i a = _mm512_setzero_si512(), b = _mm512_setzero_si512();
        if (rows[2])
            a = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(in, (const prxi_bf16 *)rows[2] + j));
        if (rows[3])
            b = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(in, (const prxi_bf16 *)rows[3] + j));
        _mm512_mask_storeu_epi32((uint32_t *)v + j, out, _mm512_or_si512(a, _mm512_slli_epi32(b, 16)));
    }
}

static void pack_q(void *q, const void *const *rows, int vecs, int n, int d)
{
    uint32_t *to = q;
    const int width = vecs * LANES;
    for (int i = 0; i < width; i += LANES)
        for (int j = 0; j < d / 2; j += 16) {
            const int left = n - 2 * j < 32 ? n - 2 * j : 32;
            const __mmask32 in = left <= 0 ? 0 : (__mmask32)(0xffffffffu >> (32 - left));
            __m512i x[16];
            for (int r = 0; r < 16; r++)
                x[r] = rows[i + r] ? _mm512_maskz_loadu_epi16(in, (const prxi_bf16 *)rows[i + r] + 2 * j)
                                   : _mm512_setzero_si512();
            prxi_transpose16(x);
            for (int r = 0; r < 16 && j + r < d / 2; r++)
                _mm512_store_si512(to + (size_t)(j + r) * (size_t)width + i, x[r]);
        }
}

static void finish(const prxi_tile *t, void *const *rows, int n)
{
    const size_t width = (size_t)t->vecs * LANES;
    for (size_t x = 0; x < width; x += LANES) {
        const __m512 l = _mm512_load_ps(t->l + x);
        const __mmask16 some = _mm512_cmp_ps_mask(l, _mm512_setzero_ps(), _CMP_NEQ_UQ);
        const __m512 inv = _mm512_maskz_div_ps(some, _mm512_set1_ps(1.0f), l);
        for (int j = 0; j < n; j += 16) {
            __m512i y[16];
            for (int r = 0; r < 16; r++)
                y[r] = j + r < n ? _mm512_castps_si512(_mm512_mul_ps(
                                       inv, _mm512_load_ps(t->o + (size_t)(j + r) * width + x)))
                                 : _mm512_setzero_si512();
            prxi_transpose16(y);
            const __mmask16 out = n - j >= 16 ? 0xffff : (__mmask16)((1u << (n - j)) - 1u);
            for (int r = 0; r < 16; r++)
                if (rows[x + (size_t)r])
                    _mm256_mask_storeu_epi16((prxi_bf16 *)rows[x + (size_t)r] + j, out,
                                             (__m256i)_mm512_cvtneps_pbh(_mm512_castsi512_ps(y[r])));
        }
    }
}

#define DOT(acc, x, y) acc = _mm512_dpbf16_ps(acc, y, x)

/* Rows r of an 8-row tile; X(r) for every row. */
#define ROWS8(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)

#define DECL1(r) __m512 a##r = _mm512_set1_ps(b[r]);
#define DECL2(r) __m512 a##r = _mm512_set1_ps(b[r]), c##r = a##r;
#define DECL3(r) __m512 a##r = _mm512_set1_ps(b[r]), c##r = a##r, e##r = a##r;
#define ROWPTR(r) const uint32_t *k##r = k + ((size_t)pair[(r) / 2] * 2 + ((r) & 1)) * (size_t)half;
#define SCORE1(r) { const __m512bh x = pair_of(k##r + j); DOT(a##r, x, q0); }
#define SCORE2(r) { const __m512bh x = pair_of(k##r + j); DOT(a##r, x, q0); DOT(c##r, x, q1); }
#define SCORE3(r)                                                                                 \
    { const __m512bh x = pair_of(k##r + j); DOT(a##r, x, q0); DOT(c##r, x, q1); DOT(e##r, x, q2); }
#define KEEP(dst, reg, top)                                                                       \
    _mm512_store_ps(dst, reg);                                                                    \
    top = _mm512_max_ps(top, reg);
#define OUT1(r) KEEP(s + (r) * 16, a##r, t0)
#define OUT2(r) KEEP(s + (r) * 32, a##r, t0) KEEP(s + (r) * 32 + 16, c##r, t1)
#define OUT3(r) KEEP(s + (r) * 48, a##r, t0) KEEP(s + (r) * 48 + 16, c##r, t1) KEEP(s + (r) * 48 + 32, e##r, t2)
#define LOADQ(i) const __m512bh q##i = as_bf(_mm512_load_si512(q + (size_t)j * WIDTH + 16 * (i)));

#define WIDTH 16
static void scores1(const prxi_tile *t)
{
    const uint32_t *q = t->q, *k = t->k;
    const int half = t->d / 2;
    float *s = t->s;
    __m512 t0 = _mm512_set1_ps(-INFINITY);
    for (int i = 0; i < t->pairs; i += 4, s += 8 * WIDTH) {
        const int32_t *pair = t->pair + i;
        const float *b = t->bias + 2 * (size_t)i;
        ROWS8(ROWPTR)
        ROWS8(DECL1)
        for (int j = 0; j < half; j++) {
            LOADQ(0)
            ROWS8(SCORE1)
        }
        ROWS8(OUT1)
    }
    _mm512_store_ps(t->top, t0);
}
#undef WIDTH

#define WIDTH 32
static void scores2(const prxi_tile *t)
{
    const uint32_t *q = t->q, *k = t->k;
    const int half = t->d / 2;
    float *s = t->s;
    __m512 t0 = _mm512_set1_ps(-INFINITY), t1 = t0;
    for (int i = 0; i < t->pairs; i += 4, s += 8 * WIDTH) {
        const int32_t *pair = t->pair + i;
        const float *b = t->bias + 2 * (size_t)i;
        ROWS8(ROWPTR)
        ROWS8(DECL2)
        for (int j = 0; j < half; j++) {
            LOADQ(0)
            LOADQ(1)
            ROWS8(SCORE2)
        }
        ROWS8(OUT2)
    }
    _mm512_store_ps(t->top, t0);
    _mm512_store_ps(t->top + 16, t1);
}
#undef WIDTH

#define WIDTH 48
static void scores3(const prxi_tile *t)
{
    const uint32_t *q = t->q, *k = t->k;
    const int half = t->d / 2;
    float *s = t->s;
    __m512 t0 = _mm512_set1_ps(-INFINITY), t1 = t0, t2 = t0;
    for (int i = 0; i < t->pairs; i += 4, s += 8 * WIDTH) {
        const int32_t *pair = t->pair + i;
        const float *b = t->bias + 2 * (size_t)i;
        ROWS8(ROWPTR)
        ROWS8(DECL3)
        for (int j = 0; j < half; j++) {
            LOADQ(0)
            LOADQ(1)
            LOADQ(2)
            ROWS8(SCORE3)
        }
        ROWS8(OUT3)
    }
    _mm512_store_ps(t->top, t0);
    _mm512_store_ps(t->top + 16, t1);
    _mm512_store_ps(t->top + 32, t2);
}
#undef WIDTH

static void scores(const prxi_tile *t)
{
    if (t->vecs == 3)
        scores3(t);
    else if (t->vecs == 2)
        scores2(t);
    else
        scores1(t);
}

static void softmax(const prxi_tile *t)
{
    static const uint16_t order[32] = { 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23,
                                        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31 };
    const __m512i interleave = _mm512_loadu_si512(order);
    const __m512 c = _mm512_set1_ps(t->c);
    const size_t width = (size_t)t->vecs * LANES;
    for (size_t x = 0; x < width; x += LANES) {
        const __m512 old = _mm512_load_ps(t->m + x);
        const __m512 m = _mm512_max_ps(old, _mm512_mul_ps(_mm512_load_ps(t->top + x), c));
        const __m512 alpha = exp2_neg(_mm512_sub_ps(old, m));
        const float *s = t->s + x;
        uint32_t *p = (uint32_t *)t->p + x;
        __m512 sum0 = _mm512_setzero_ps(), sum1 = _mm512_setzero_ps();
        for (int i = 0; i < t->pairs; i++, s += 2 * width, p += width) {
            const __m512 p0 = exp2_neg(_mm512_fmsub_ps(_mm512_load_ps(s), c, m));
            const __m512 p1 = exp2_neg(_mm512_fmsub_ps(_mm512_load_ps(s + width), c, m));
            sum0 = _mm512_add_ps(sum0, p0);
            sum1 = _mm512_add_ps(sum1, p1);
            _mm512_store_si512(p, _mm512_permutexvar_epi16(interleave, (__m512i)_mm512_cvtne2ps_pbh(p1, p0)));
        }
        const __m512 l = _mm512_load_ps(t->l + x);
        _mm512_store_ps(t->l + x, _mm512_fmadd_ps(l, alpha, _mm512_add_ps(sum0, sum1)));
        _mm512_store_ps(t->m + x, m);
        _mm512_store_ps(t->alpha + x, alpha);
    }
}

#define SCALED(i, r) _mm512_mul_ps(f##i, _mm512_load_ps(o + (size_t)(r) * WIDTH + 16 * (i)))
#define TAKE1(r) __m512 a##r = SCALED(0, r);
#define TAKE2(r) __m512 a##r = SCALED(0, r), c##r = SCALED(1, r);
#define TAKE3(r) __m512 a##r = SCALED(0, r), c##r = SCALED(1, r), e##r = SCALED(2, r);
#define VALUE1(r) { const __m512bh x = pair_of(v + (r)); DOT(a##r, x, q0); }
#define VALUE2(r) { const __m512bh x = pair_of(v + (r)); DOT(a##r, x, q0); DOT(c##r, x, q1); }
#define VALUE3(r)                                                                                 \
    { const __m512bh x = pair_of(v + (r)); DOT(a##r, x, q0); DOT(c##r, x, q1); DOT(e##r, x, q2); }
#define GIVE1(r) _mm512_store_ps(o + (r) * 16, a##r);
#define GIVE2(r) _mm512_store_ps(o + (r) * 32, a##r); _mm512_store_ps(o + (r) * 32 + 16, c##r);
#define GIVE3(r) GIVE3_(o + (r) * 48, a##r, c##r, e##r)
#define GIVE3_(dst, x, y, z)                                                                      \
    _mm512_store_ps(dst, x);                                                                      \
    _mm512_store_ps((dst) + 16, y);                                                               \
    _mm512_store_ps((dst) + 32, z);
#define LOADP(i) const __m512bh q##i = as_bf(_mm512_load_si512(p + (size_t)i_ * WIDTH + 16 * (i)));

#define WIDTH 16
static void values1(const prxi_tile *t)
{
    const uint32_t *p = t->p;
    const __m512 f0 = _mm512_load_ps(t->alpha);
    float *o = t->o;
    for (int j = 0; j < t->d; j += 8, o += 8 * WIDTH) {
        ROWS8(TAKE1)
        for (int i_ = 0; i_ < t->pairs; i_++) {
            const uint32_t *v = (const uint32_t *)t->v + (size_t)t->pair[i_] * (size_t)t->d + j;
            LOADP(0)
            ROWS8(VALUE1)
        }
        ROWS8(GIVE1)
    }
}
#undef WIDTH

#define WIDTH 32
static void values2(const prxi_tile *t)
{
    const uint32_t *p = t->p;
    const __m512 f0 = _mm512_load_ps(t->alpha), f1 = _mm512_load_ps(t->alpha + 16);
    float *o = t->o;
    for (int j = 0; j < t->d; j += 8, o += 8 * WIDTH) {
        ROWS8(TAKE2)
        for (int i_ = 0; i_ < t->pairs; i_++) {
            const uint32_t *v = (const uint32_t *)t->v + (size_t)t->pair[i_] * (size_t)t->d + j;
            LOADP(0)
            LOADP(1)
            ROWS8(VALUE2)
        }
        ROWS8(GIVE2)
    }
}
#undef WIDTH

#define WIDTH 48
static void values3(const prxi_tile *t)
{
    const uint32_t *p = t->p;
    const __m512 f0 = _mm512_load_ps(t->alpha), f1 = _mm512_load_ps(t->alpha + 16);
    const __m512 f2 = _mm512_load_ps(t->alpha + 32);
    float *o = t->o;
    for (int j = 0; j < t->d; j += 8, o += 8 * WIDTH) {
        ROWS8(TAKE3)
        for (int i_ = 0; i_ < t->pairs; i_++) {
            const uint32_t *v = (const uint32_t *)t->v + (size_t)t->pair[i_] * (size_t)t->d + j;
            LOADP(0)
            LOADP(1)
            LOADP(2)
            ROWS8(VALUE3)
        }
        ROWS8(GIVE3)
    }
}
#undef WIDTH

static void values(const prxi_tile *t)
{
    if (t->vecs == 3)
        values3(t);
    else if (t->vecs == 2)
        values2(t);
    else
        values1(t);
}

static const prxi_tile_ops tiles = {
    .lanes = LANES, .elem = 2, .dtype = PRXI_BF16, .pack_pair = pack_pair, .pack_q = pack_q,
    .scores = scores, .softmax = softmax, .values = values, .finish = finish,
};

static void dense(prxi_stream *s, const prxi_attn_args *a)
{
    prxi_attn_tiled_dense(s, a, &tiles);
}

static void blocks(prxi_stream *s, const prxi_attn_args *a, const prxi_block_list *b)
{
    prxi_attn_tiled_blocks(s, a, b, &tiles);
}

void prxi_attn_init_avx512bf16(prxi_attn_ops *t)
{
    t->dense[PRXI_BF16] = dense;
    t->blocks[PRXI_BF16] = blocks;
}
