/* Attention tiles with vdpbf16ps: products of bf16 pairs, sums in f32. Packed elements of q and k are pairs of dimensions,
 * those of v and p pairs of keys. */
#include <immintrin.h>
#include <math.h>

#include "attention/x86/transpose512.h"

#define VEC __m512
#define LANES 16
#define ROWS 8
#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define V_SET(x) _mm512_set1_ps(x)
#define V_LOAD(p) _mm512_load_ps(p)
#define V_STORE(p, x) _mm512_store_ps(p, x)
#define V_MUL(x, y) _mm512_mul_ps(x, y)
#define V_MAX(x, y) _mm512_max_ps(x, y)
#define WORD uint32_t
#define WVEC __m512bh
#define W_LOAD(p) ((__m512bh)_mm512_load_si512(p))
#define W_SET(p) ((__m512bh)_mm512_set1_epi32((int)*(p)))
#define MAC(acc, x, y) acc = _mm512_dpbf16_ps(acc, y, x)
#define WORD_DIMS 2
#define PAIR_STEPS 1

#include "attention/x86/tile_tmpl.h"

/* 2^x for x <= 0: 2^f of the fraction, a polynomial of degree 4 on [0, 1), relative error below 3e-6, times 2^floor(x). */
static inline __m512 exp2_neg(__m512 x)
{
    const __m512 f = _mm512_reduce_ps(x, 0x09);         /* x - floor(x), no exceptions */
    __m512 y = _mm512_fmadd_ps(f, _mm512_set1_ps(0.0135344574f), _mm512_set1_ps(0.0520109423f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.241443038f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.693003774f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.00000262f));
    return _mm512_scalef_ps(y, x);                      /* y 2^floor(x) */
}

/* Elements [at, at + 32) of a row as 16 words, zeros past n and without a row. */
static inline __m512i row_words(const void *row, int at, int n)
{
    const int left = n - at < 32 ? n - at : 32;
    return row ? _mm512_maskz_loadu_epi16((__mmask32)(0xffffffffu >> (32 - left)), (const prxi_bf16 *)row + at) : _mm512_setzero_si512();
}

static void pack_pair(void *k, void *v, const void *const rows[4], int n, int d)
{
    static const int32_t low[16] = { 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23 };
    const __m512i first = _mm512_loadu_si512(low), second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
    for (int i = 0; i < d; i += 32) {       /* words of two dimensions, of the first key and the second by turns */
        const int words = d - i < 32 ? d - i : 32;
        const __mmask32 out = (__mmask32)(0xffffffffu >> (32 - words));
        const __m512i a = row_words(rows[0], i, n), b = row_words(rows[1], i, n);
        uint32_t *to = (uint32_t *)k + i;
        _mm512_mask_storeu_epi32(to, (__mmask16)out, _mm512_permutex2var_epi32(a, first, b));
        _mm512_mask_storeu_epi32(to + 16, (__mmask16)(out >> 16), _mm512_permutex2var_epi32(a, second, b));
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

static void argmax(const prxi_tile *t, int32_t first, float *best, int32_t *arg)
{
    const size_t width = (size_t)t->vecs * LANES;
    for (size_t x = 0; x < width; x += LANES) {
        __m512 top = V_LOAD(best + x);
        __m512i at = _mm512_load_si512(arg + x);
        const float *s = t->s + x;
        for (int32_t i = 0; i < 2 * t->pairs; i++, s += width) {
            const __m512 y = V_LOAD(s);
            const __mmask16 more = _mm512_cmp_ps_mask(y, top, _CMP_GT_OQ);
            top = _mm512_mask_mov_ps(top, more, y);
            at = _mm512_mask_set1_epi32(at, more, first + i);
        }
        V_STORE(best + x, top);
        _mm512_store_si512(arg + x, at);
    }
}

static void add_row(float *sum, const void *row, int n)
{
    for (int i = 0; i < n; i++)
        sum[i] += prxi_bf16_to_f32(((const prxi_bf16 *)row)[i]);
}

static const prxi_tile_ops tiles = {
    .lanes = LANES, .elem = 2, .dtype = PRXI_BF16, .pack_pair = pack_pair, .pack_q = pack_q,
    .scores = scores, .softmax = softmax, .values = values, .finish = finish,
    .argmax = argmax, .add_row = add_row,
};

static void dense(prxi_stream *s, const prxi_attn_args *a)
{
    prxi_attn_tiled_dense(s, a, &tiles);
}

static void blocks(prxi_stream *s, const prxi_attn_args *a, const prxi_block_list *b)
{
    prxi_attn_tiled_blocks(s, a, b, &tiles);
}

static void nearest(prxi_stream *s, const prxi_nearest_args *a)
{
    prxi_tiled_nearest(s, a, &tiles);
}

static void gather(prxi_stream *s, const prxi_nearest_args *a)
{
    prxi_tiled_gather(s, a, &tiles);
}

void prxi_attn_init_avx512bf16(prxi_attn_ops *t)
{
    t->nearest[PRXI_BF16] = nearest;
    t->gather[PRXI_BF16] = gather;
    t->dense[PRXI_BF16] = dense;
    t->blocks[PRXI_BF16] = blocks;
}
